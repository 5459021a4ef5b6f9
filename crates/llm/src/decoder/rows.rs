//! Operations on rows of numbers, each on its own.

use std::sync::{Mutex, PoisonError};

use kernels::Pool;

/// Numbers that are worth a task of their own.
const TASK_NUMBERS: usize = 8192;

/// The first `len` numbers of a buffer that grows as needed and keeps its size.
pub(super) fn room(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// Calls `work` with each row and its number, on all threads.
pub(super) fn each_row(pool: &Pool, data: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let rows_a_task = TASK_NUMBERS.div_ceil(width.max(1));
    if data.len() <= rows_a_task * width {
        data.chunks_exact_mut(width).enumerate().for_each(|(row, data)| work(row, data));
        return;
    }
    // Each lock is taken once, by the task that it belongs to.
    let tasks: Vec<_> = data.chunks_mut(rows_a_task * width).map(Mutex::new).collect();
    pool.run(tasks.len(), |task| {
        let mut rows = tasks[task].lock().unwrap_or_else(PoisonError::into_inner);
        for (row, data) in rows.chunks_exact_mut(width).enumerate() {
            work(task * rows_a_task + row, data);
        }
    });
}

/// `x += added`.
pub(super) fn add(x: &mut [f32], added: &[f32]) {
    for (x, added) in x.iter_mut().zip(added) {
        *x += added;
    }
}

/// `out = x / rms(x) * weight`.
pub(super) fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let scale = inverse_rms(x, epsilon);
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * weight;
    }
}

/// `x += added / rms(added) * weight`.
pub(super) fn add_normed(x: &mut [f32], added: &[f32], weight: &[f32], epsilon: f32) {
    let scale = inverse_rms(added, epsilon);
    for ((x, added), weight) in x.iter_mut().zip(added).zip(weight) {
        *x += added * scale * weight;
    }
}

/// Norms a row in place.
pub(super) fn norm_in_place(x: &mut [f32], weight: &[f32], epsilon: f32) {
    let scale = inverse_rms(x, epsilon);
    for (x, weight) in x.iter_mut().zip(weight) {
        *x = *x * scale * weight;
    }
}

fn inverse_rms(x: &[f32], epsilon: f32) -> f32 {
    // Eight sums side by side: the compiler makes one vector of them. The order is the same for every row.
    let mut sums = [0.0f32; 8];
    let (chunks, rest) = x.as_chunks::<8>();
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += x * x;
        }
    }
    let sum: f32 = sums.iter().sum::<f32>() + rest.iter().map(|x| x * x).sum::<f32>();
    1.0 / (sum / x.len() as f32 + epsilon).sqrt()
}

//! Rows of numbers, each worked on by itself.

use std::sync::{Mutex, PoisonError};

use kernels::Pool;

/// Numbers that are worth a task of their own.
const TASK_NUMBERS: usize = 8192;

/// The first `len` numbers of a buffer that grows as needed and keeps its size.
pub(crate) fn room(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// Calls `work` with each row and its number, on all threads.
pub(crate) fn each_row(pool: &Pool, data: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
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

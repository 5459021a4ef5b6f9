//! [`Pool`]: a fixed number of threads for work that may take long, so that the async runtime never stalls.
//!
//! Each thread is a [`Lane`], on which ONNX models run without being handed over to yet another thread.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tensor::Lane;

/// A unit of work.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// Threads that take jobs in the order given. The queue has no bound of its own: those who submit are
/// admitted before. Dropped, it finishes what was submitted; its threads end on their own.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: usize,
}

struct Shared {
    queue: Mutex<Queue>,
    ready: Condvar,
}

struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Pool {
    /// Starts `threads` threads (at least one) called `name`.
    pub(crate) fn start(name: &str, threads: usize) -> Self {
        let queue = Mutex::new(Queue { jobs: VecDeque::new(), closed: false });
        let mut pool = Pool { shared: Arc::new(Shared { queue, ready: Condvar::new() }), threads: 0 };
        for _ in 0..threads.max(1) {
            let shared = pool.shared.clone();
            let thread = thread::Builder::new().name(name.to_owned());
            match thread.spawn(move || Lane::new().enter(|| shared.work())) {
                Ok(_) => pool.threads += 1,
                Err(e) => tracing::error!("a model thread cannot be started: {e}"),
            }
        }
        pool
    }

    /// Queues `job`. On a machine that gave not one thread, it is done here and now.
    pub(crate) fn submit(&self, job: Job) {
        if self.threads == 0 {
            return run(job);
        }
        self.shared.lock().jobs.push_back(job);
        self.shared.ready.notify_one();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.ready.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A job never runs under the lock, so that the queue is whole even after a panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            run(job);
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn run(job: Job) {
    if catch_unwind(AssertUnwindSafe(job)).is_err() {
        tracing::error!("a job of the model threads panicked; the thread goes on");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::sync::mpsc;

    use super::*;

    #[test]
    fn goes_on_after_a_panic_and_finishes_after_drop() {
        let pool = Pool::start("test", 1);
        let (tx, rx) = mpsc::channel();
        pool.submit(Box::new(|| panic!("poison")));
        for i in 0..10 {
            let tx = tx.clone();
            pool.submit(Box::new(move || tx.send(i).unwrap()));
        }
        drop((pool, tx));
        assert_eq!(rx.iter().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    }
}

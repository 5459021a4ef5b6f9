//! [`Pool`]: a fixed number of threads for work that may take long, so that the async runtime never stalls.
//!
//! Each thread is a [`Lane`], on which ONNX models run without being handed over to yet another thread.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
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
    /// Work that is done on other threads in place of these.
    guests: AtomicUsize,
}

/// Leave to do work elsewhere that the pool would have done, until dropped.
pub(crate) struct Leave<'a> {
    guests: &'a AtomicUsize,
    /// Whether nobody else had leave when this was given.
    pub(crate) first: bool,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.guests.fetch_sub(1, Relaxed);
    }
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
        let shared = Arc::new(Shared { queue, ready: Condvar::new() });
        let mut pool = Pool { shared, threads: 0, guests: AtomicUsize::new(0) };
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

    /// Leave to do some work on the caller's thread: while nothing waits for the pool, to as many as it has threads.
    pub(crate) fn leave(&self) -> Option<Leave<'_>> {
        if !self.shared.lock().jobs.is_empty() {
            return None;
        }
        let one_more = |guests| (guests < self.threads).then_some(guests + 1);
        let before = self.guests.fetch_update(Relaxed, Relaxed, one_more).ok()?;
        Some(Leave { guests: &self.guests, first: before == 0 })
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

    #[test]
    fn leave_is_given_to_few_and_not_before_those_who_wait() {
        let pool = Pool::start("test", 2);
        let (first, second) = (pool.leave().unwrap(), pool.leave().unwrap());
        assert!(first.first && !second.first && pool.leave().is_none());
        drop(first);
        assert!(!pool.leave().unwrap().first);
        drop(second);
        assert!(pool.leave().unwrap().first);
        let (go, gone) = mpsc::channel::<()>();
        let gone = Arc::new(Mutex::new(gone));
        for _ in 0..2 {
            let gone = Arc::clone(&gone);
            pool.submit(Box::new(move || gone.lock().unwrap().recv().unwrap()));
        }
        pool.submit(Box::new(|| ()));
        assert!(pool.leave().is_none());
        (0..2).for_each(|_| go.send(()).unwrap());
    }
}

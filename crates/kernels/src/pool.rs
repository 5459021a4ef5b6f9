//! Threads that wait for work by spinning before they sleep.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long an idle worker spins before it sleeps: longer than the pauses within a model's step, short enough that an
/// idle service costs nothing.
const SPIN: Duration = Duration::from_micros(150);
/// Spins between two looks at the clock.
const SPINS_PER_LOOK: u32 = 64;

/// Workers that run the tasks of one job at a time.
///
/// The steps of a model are jobs of a few microseconds to a few milliseconds, many a second: starting one costs a
/// write, and no worker is waited for that has not begun. Which thread runs which task is not fixed; results must not
/// depend on it.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    handles: Vec<Thread>,
    /// Held by the caller of [`Pool::run`]: one job at a time.
    running: Mutex<()>,
}

struct Shared {
    /// Which job this is (upper half) and how many of its tasks nobody has taken (lower half).
    ticket: AtomicU64,
    /// The current job; valid while one of its tasks is not done.
    job: AtomicPtr<Job<'static>>,
    sleepers: AtomicUsize,
    stop: AtomicBool,
}

struct Job<'a> {
    task: &'a (dyn Fn(usize) + Sync),
    done: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Pool {
    /// A pool that computes on `threads` threads, the caller's included; at least one.
    ///
    /// When the system gives no more threads, the pool has fewer: see [`Pool::threads`].
    #[must_use]
    pub fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared {
            ticket: AtomicU64::new(0),
            job: AtomicPtr::new(std::ptr::null_mut()),
            sleepers: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let workers: Vec<_> = (1..threads)
            .map_while(|number| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new().name(format!("kernel-{number}")).spawn(move || shared.work()).ok()
            })
            .collect();
        let handles = workers.iter().map(|worker| worker.thread().clone()).collect();
        Pool { shared, workers, handles, running: Mutex::new(()) }
    }

    /// Threads that compute, the caller's included.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task` once with each of `0..tasks`, on all threads, and returns when all calls have.
    ///
    /// Called from within a task, or while another thread's job runs, it computes on the calling thread alone.
    ///
    /// # Panics
    /// When a task panics, after all others have ended.
    pub fn run(&self, tasks: usize, task: impl Fn(usize) + Sync) {
        match (self.reserve(tasks), u32::try_from(tasks)) {
            (Some(_reserved), Ok(count)) => self.share(count, &task),
            _ => (0..tasks).for_each(task),
        }
    }

    /// The workers for one job, if it is worth sharing and they are free.
    fn reserve(&self, tasks: usize) -> Option<MutexGuard<'_, ()>> {
        if self.workers.is_empty() || tasks < 2 {
            return None;
        }
        match self.running.try_lock() {
            Ok(guard) => Some(guard),
            // A task panicked in an earlier job, which ended nonetheless.
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn share(&self, tasks: u32, task: &(dyn Fn(usize) + Sync)) {
        let job = Job { task, done: AtomicUsize::new(0), panic: Mutex::new(None) };
        self.shared.job.store((&raw const job).cast_mut().cast(), Ordering::Relaxed);
        let epoch = (self.shared.ticket.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        let ticket = (epoch << 32) | u64::from(tasks);
        // Sequentially consistent, as is the sleepers' count: either a worker about to sleep sees the job, or we see it.
        self.shared.ticket.store(ticket, Ordering::SeqCst);
        if self.shared.sleepers.load(Ordering::SeqCst) > 0 {
            self.handles.iter().for_each(Thread::unpark);
        }
        while self.shared.take() {}
        let mut spins = 0_u32;
        while job.done.load(Ordering::Acquire) < tasks as usize {
            spins = spins.wrapping_add(1);
            if spins.is_multiple_of(1024) { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        if let Some(payload) = lock(&job.panic).take() {
            resume_unwind(payload);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.handles.iter().for_each(Thread::unpark);
        for worker in self.workers.drain(..) {
            // A worker catches its tasks' panics: nothing to report here.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// A worker's life.
    fn work(&self) {
        let mut idle_since = Instant::now();
        let mut spins = 0_u32;
        while !self.stop.load(Ordering::Relaxed) {
            if self.take() {
                while self.take() {}
                idle_since = Instant::now();
                spins = 0;
                continue;
            }
            spins = spins.wrapping_add(1);
            if spins.is_multiple_of(SPINS_PER_LOOK) && idle_since.elapsed() > SPIN {
                self.sleep();
                idle_since = Instant::now();
            } else {
                std::hint::spin_loop();
            }
        }
    }

    fn sleep(&self) {
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        if self.ticket.load(Ordering::SeqCst) as u32 == 0 && !self.stop.load(Ordering::SeqCst) {
            std::thread::park();
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Takes a task and runs it; whether there was one.
    fn take(&self) -> bool {
        let mut ticket = self.ticket.load(Ordering::Acquire);
        loop {
            if ticket as u32 == 0 {
                return false;
            }
            match self.ticket.compare_exchange_weak(ticket, ticket - 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(current) => ticket = current,
            }
        }
        let index = ticket as u32 as usize - 1;
        // SAFETY: the exchange succeeded, so this thread owns one task of the job that `ticket` belongs to: that job's
        // pointer was written before the ticket and is not replaced, nor its memory freed, before the task is counted
        // as done. (A ticket cannot be mistaken for an older one unless a thread sleeps through exactly 2^32 jobs.)
        let job = unsafe { &*self.job.load(Ordering::Acquire) };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| (job.task)(index))) {
            *lock(&job.panic) = Some(payload);
        }
        job.done.fetch_add(1, Ordering::Release);
        true
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;

    #[test]
    fn every_task_runs_once() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads);
            for tasks in [0, 1, 2, 7, 100] {
                for _ in 0..200 {
                    let counts: Vec<_> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                    pool.run(tasks, |index| {
                        counts[index].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
                }
            }
        }
    }

    #[test]
    fn sleeping_workers_wake() {
        let pool = Pool::new(3);
        for _ in 0..20 {
            std::thread::sleep(SPIN * 4);
            let count = AtomicUsize::new(0);
            pool.run(10, |_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(count.into_inner(), 10);
        }
    }

    #[test]
    fn a_job_within_a_job_runs_on_its_own_thread() {
        let pool = Pool::new(2);
        let count = AtomicUsize::new(0);
        pool.run(4, |_| {
            pool.run(5, |_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(count.into_inner(), 20);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_leaves_the_pool_whole() {
        let pool = Pool::new(2);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            pool.run(8, |index| assert!(index != 5, "task five"));
        }));
        assert!(caught.is_err());
        let count = AtomicUsize::new(0);
        pool.run(8, |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 8);
    }
}

//! [`Lane`]: a thread that models run on.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use rten::ThreadPool;

/// A thread that models run on, one run at a time, each run on this one thread.
///
/// A run from elsewhere is handed over to some lane and back, which costs about 15 µs: five times the
/// arithmetic of a small network. A thread that makes many runs should make them all within
/// [`Lane::enter`], where nothing is handed over.
#[derive(Debug, Clone)]
pub struct Lane(Arc<ThreadPool>);

thread_local! {
    /// The lane that this thread is.
    static CURRENT: RefCell<Option<Lane>> = const { RefCell::new(None) };
}

impl Lane {
    /// A lane of its own.
    pub fn new() -> Self {
        Lane(Arc::new(ThreadPool::with_num_threads(1)))
    }

    /// Runs `work` on the lane, while the calling thread waits. Every model that `work` runs, runs there.
    pub fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.0.run(|| {
            let _restore = Restore(CURRENT.replace(Some(self.clone())));
            work()
        })
    }

    /// The pool of the lane that this thread is, if it is one.
    pub(super) fn current() -> Option<Arc<ThreadPool>> {
        CURRENT.with_borrow(|lane| lane.as_ref().map(|lane| lane.0.clone()))
    }
}

impl Default for Lane {
    fn default() -> Self {
        Self::new()
    }
}

/// Puts the lane before back, also when the work panics.
struct Restore(Option<Lane>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// A lane out of those that serve whoever has none, held until dropped.
pub(super) struct Borrowed {
    shared: &'static Shared,
}

struct Shared {
    lane: Lane,
    busy: AtomicBool,
}

impl Shared {
    fn new() -> Self {
        Shared { lane: Lane::new(), busy: AtomicBool::new(false) }
    }
}

impl Borrowed {
    /// A free lane, or one in turn if none is free.
    pub(super) fn any() -> Borrowed {
        static LANES: OnceLock<(Shared, Vec<Shared>)> = OnceLock::new();
        static TURN: AtomicUsize = AtomicUsize::new(0);
        let (first, others) = LANES.get_or_init(|| {
            let count = thread::available_parallelism().map_or(1, usize::from);
            (Shared::new(), (1..count).map(|_| Shared::new()).collect())
        });
        let mut lanes = std::iter::once(first).chain(others);
        let free = lanes.find(|lane| !lane.busy.swap(true, Ordering::Acquire));
        let turn = || others.get(TURN.fetch_add(1, Ordering::Relaxed) % (others.len() + 1));
        Borrowed { shared: free.or_else(turn).unwrap_or(first) }
    }

    pub(super) fn pool(&self) -> Arc<ThreadPool> {
        self.shared.lane.0.clone()
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        self.shared.busy.store(false, Ordering::Release);
    }
}

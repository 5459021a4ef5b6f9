//! [`ordered`]: one source, several workers, one sink that gets the results in the source's order.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use crate::{Error, ErrorCode, Result};

/// Items per worker that may be in the pipeline at once; bounds its memory.
const IN_FLIGHT_PER_WORKER: usize = 2;

/// An item on its way to a worker, with the place where its result is awaited.
type Task<I, O> = (I, SyncSender<Result<O>>);

/// Takes items from `source` until it gives none, has `work` done on `workers` threads, and hands the
/// results to `sink`, on the caller's thread, in the order of the items. The first error, in that order,
/// ends everything.
///
/// # Errors
/// What `source`, `work` or `sink` fail with; `Internal` if `work` panics.
pub(super) fn ordered<I: Send, O: Send>(
    workers: usize,
    mut source: impl FnMut() -> Result<Option<I>> + Send,
    work: impl Fn(I) -> Result<O> + Sync,
    mut sink: impl FnMut(O) -> Result<()>,
) -> Result<()> {
    let in_flight = workers.max(1) * IN_FLIGHT_PER_WORKER;
    let (to_workers, tasks) = sync_channel::<Task<I, O>>(in_flight);
    let (to_sink, results) = sync_channel::<Receiver<Result<O>>>(in_flight);
    let tasks = Mutex::new(tasks);
    std::thread::scope(|scope| {
        for _ in 0..workers.max(1) {
            scope.spawn(|| {
                lower_priority();
                while let Some((item, reply)) = next_task(&tasks) {
                    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(item)));
                    // Nobody waits for it any more after an error.
                    let _ = reply.send(outcome.unwrap_or_else(|_| Err(panicked())));
                }
            });
        }
        scope.spawn(move || {
            lower_priority();
            feed(&mut source, &to_workers, &to_sink);
        });
        // Owned here, so that an early return closes it and the source stops.
        let results = results;
        let outcome = results.iter().try_for_each(|result| match result.recv() {
            Ok(result) => sink(result?),
            Err(_) => Err(panicked()),
        });
        drop(results);
        outcome
    })
}

fn next_task<I, O>(tasks: &Mutex<Receiver<Task<I, O>>>) -> Option<Task<I, O>> {
    tasks.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

fn feed<I, O>(
    source: &mut impl FnMut() -> Result<Option<I>>,
    to_workers: &SyncSender<Task<I, O>>,
    to_sink: &SyncSender<Receiver<Result<O>>>,
) {
    loop {
        let (reply, result) = sync_channel(1);
        let next = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut *source));
        match next.unwrap_or_else(|_| Err(panicked())) {
            Ok(None) => return,
            Err(error) => {
                let _ = reply.send(Err(error));
                let _ = to_sink.send(result);
                return;
            }
            Ok(Some(item)) => {
                if to_sink.send(result).is_err() || to_workers.send((item, reply)).is_err() {
                    return;
                }
            }
        }
    }
}

/// Jobs yield to predictions: their threads run when nothing else wants the processor.
pub(super) fn lower_priority() {
    if let Err(error) = rustix::process::nice(10) {
        tracing::debug!(%error, "a job's thread keeps the usual priority");
    }
}

fn panicked() -> Error {
    Error::new(ErrorCode::Internal, "a defect stopped the job; the server's log has the cause")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn count_to(n: u32) -> impl FnMut() -> Result<Option<u32>> + Send {
        let mut next = 0;
        move || {
            next += 1;
            Ok((next <= n).then_some(next))
        }
    }

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let mut seen = Vec::new();
        let work = |n: u32| {
            std::thread::sleep(std::time::Duration::from_micros(u64::from(n % 7) * 100));
            Ok(n * 2)
        };
        ordered(3, count_to(200), work, |n| {
            seen.push(n);
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, (1..=200).map(|n| n * 2).collect::<Vec<_>>());
    }

    #[test]
    fn the_first_error_ends_everything() {
        let mut seen = 0;
        let work = |n: u32| if n == 50 { Err(Error::invalid("fifty")) } else { Ok(n) };
        let outcome = ordered(4, count_to(u32::MAX - 1), work, |n| {
            seen = n;
            Ok(())
        });
        assert_eq!((outcome.unwrap_err().message.as_str(), seen), ("fifty", 49));
        let outcome =
            ordered(
                2,
                count_to(u32::MAX - 1),
                Ok,
                |n| if n == 9 { Err(Error::invalid("sink")) } else { Ok(()) },
            );
        assert_eq!(outcome.unwrap_err().message, "sink");
        let source = || -> Result<Option<u32>> { Err(Error::invalid("source")) };
        assert_eq!(ordered(2, source, Ok, |_| Ok(())).unwrap_err().message, "source");
    }

    #[test]
    fn a_panic_is_an_error() {
        let work = |n: u32| if n == 3 { panic!("defect") } else { Ok(n) };
        assert_eq!(ordered(2, count_to(10), work, |_| Ok(())).unwrap_err().code, ErrorCode::Internal);
    }

    #[test]
    fn no_items_no_results() {
        ordered(2, count_to(0), Ok, |_| panic!("nothing to give")).unwrap();
    }
}

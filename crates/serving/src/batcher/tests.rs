#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Condvar, mpsc};

use proptest::prelude::*;
use tensor::{Data, Tensor};

use super::*;

/// Doubles numbers. -1 among them panics, -2 is an error. While the gate is shut, runs wait at it.
#[derive(Default)]
struct Doubler {
    shut: Mutex<bool>,
    opened: Condvar,
    runs: AtomicUsize,
    rows_max: AtomicUsize,
}

impl Doubler {
    fn set_shut(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.opened.notify_all();
    }
}

impl Run for Doubler {
    fn run(&self, inputs: &Tensors) -> Result<Tensors, RuntimeError> {
        self.runs.fetch_add(1, SeqCst);
        self.rows_max.fetch_max(row_count(inputs), SeqCst);
        drop(self.opened.wait_while(self.shut.lock().unwrap(), |shut| *shut).unwrap());
        let (name, tensor) = &inputs[0];
        let numbers = tensor.as_f32().unwrap();
        assert!(!numbers.contains(&-1.0), "poison");
        if numbers.contains(&-2.0) {
            return Err(RuntimeError::new("minus two"));
        }
        let doubled = numbers.iter().map(|v| v * 2.0).collect();
        Ok(vec![(name.clone(), Tensor::new(tensor.shape().to_vec(), Data::F32(doubled)).unwrap())])
    }
}

fn batcher(doubler: &Arc<Doubler>, limits: Limits) -> Arc<Batcher> {
    let pool = Arc::new(Pool::start("test", limits.lanes));
    Batcher::new(doubler.clone(), pool, limits, Arc::default())
}

fn one_lane() -> Limits {
    Limits { lanes: 1, ..Limits::default() }
}

fn rows(width: usize, numbers: &[f32]) -> Tensors {
    let shape = vec![numbers.len() / width, width];
    vec![("x".into(), Tensor::new(shape, Data::F32(numbers.to_vec())).unwrap())]
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn numbers(rows: &Rows) -> Vec<f32> {
    let tensor = &rows.outputs[0].1;
    let elements = rows.range.start * tensor.row_len()..rows.range.end * tensor.row_len();
    tensor.as_f32().unwrap()[elements].to_vec()
}

/// Waits until `condition` holds; the test's harness bounds the wait.
async fn until(condition: impl Fn() -> bool) {
    for _ in 0..20_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("waited in vain");
}

fn is_idle(batcher: &Batcher) -> bool {
    let state = batcher.lock();
    state.queue.is_empty()
        && (state.rows, state.bytes, state.running) == (0, 0, 0)
        && state.gathering == Gathering::Nobody
}

#[tokio::test]
async fn a_lone_request_is_answered() {
    let batcher = batcher(&Arc::default(), Limits::default());
    for i in 0..100 {
        let answer = batcher.predict(rows(2, &[i as f32, 1.0]), soon()).await.unwrap();
        assert_eq!(numbers(&answer), [2.0 * i as f32, 2.0]);
    }
    until(|| is_idle(&batcher)).await;
    assert_eq!(batcher.counters.snapshot().batch_rows.buckets[0], 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_caller_gets_its_own_answer_whatever_others_do() {
    for lanes in [1, 3] {
        let doubler = Arc::new(Doubler::default());
        let batcher = batcher(&doubler, Limits { lanes, batch_rows_max: 16, ..Limits::default() });
        let tasks: Vec<_> = (0..3000u32)
            .map(|i| {
                let batcher = batcher.clone();
                let task = tokio::spawn(async move {
                    let first = match i % 50 {
                        7 => -1.0,
                        8 => -2.0,
                        _ => i as f32,
                    };
                    // Widths differ, so that not all can share a batch; row counts differ too.
                    let width = 1 + (i % 3) as usize;
                    let sent: Vec<f32> =
                        (0..width * (1 + (i % 4) as usize)).map(|k| first + k as f32 * 0.0).collect();
                    let answer = batcher.predict(rows(width, &sent), soon()).await;
                    match (i % 50, answer) {
                        (7 | 8, Err(ServeError::Failed { .. })) => {}
                        (7 | 8, other) => panic!("{other:?}"),
                        (_, answer) => {
                            let doubled: Vec<f32> = sent.iter().map(|v| v * 2.0).collect();
                            assert_eq!(numbers(&answer.unwrap()), doubled);
                        }
                    }
                });
                if i % 11 == 0 {
                    task.abort();
                }
                (i, task)
            })
            .collect();
        for (i, task) in tasks {
            match task.await {
                Ok(()) => {}
                Err(e) => assert!(e.is_cancelled() && i % 11 == 0, "{i}: {e}"),
            }
        }
        until(|| is_idle(&batcher)).await;
        assert!(doubler.rows_max.load(SeqCst) <= 16);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_that_leave_at_any_moment_disturb_nobody() {
    let doubler = Arc::new(Doubler::default());
    let batcher = batcher(&doubler, Limits { lanes: 2, batch_rows_max: 8, ..Limits::default() });
    let tasks: Vec<_> = (0..4000u64)
        .map(|i| {
            let batcher = batcher.clone();
            tokio::spawn(async move {
                let request = batcher.predict(rows(1, &[i as f32]), soon());
                if i % 3 == 0 {
                    return numbers(&request.await.unwrap()) == [2.0 * i as f32];
                }
                tokio::select! {
                    answer = request => numbers(&answer.unwrap()) == [2.0 * i as f32],
                    () = tokio::time::sleep(Duration::from_micros(i * 7919 % 300)) => true,
                }
            })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap());
    }
    until(|| is_idle(&batcher)).await;
    let counts = batcher.counters.snapshot();
    assert_eq!((counts.failed, counts.overloaded, counts.expired), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn never_more_wait_than_may_and_each_is_answered_or_refused() {
    const MAX: usize = 5;
    let doubler = Arc::new(Doubler::default());
    let batcher = batcher(&doubler, Limits { queue_requests_max: MAX, batch_rows_max: 2, ..one_lane() });
    let done = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..2000)
        .map(|i| {
            let (batcher, done) = (batcher.clone(), done.clone());
            tokio::spawn(async move {
                let answer = batcher.predict(rows(1, &[i as f32]), soon()).await;
                done.fetch_add(1, SeqCst);
                match answer {
                    Ok(answer) => assert_eq!(numbers(&answer), [2.0 * i as f32]),
                    Err(e) => assert!(matches!(e, ServeError::Overloaded { .. }), "{e}"),
                }
            })
        })
        .collect();
    while done.load(SeqCst) < 2000 {
        assert!(batcher.queued() <= MAX);
        tokio::task::yield_now().await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    until(|| is_idle(&batcher)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_shares_a_batch() {
    let doubler = Arc::new(Doubler::default());
    let batcher = batcher(&doubler, one_lane());
    doubler.set_shut(true);
    let tasks: Vec<_> = (0..33)
        .map(|i| {
            let batcher = batcher.clone();
            tokio::spawn(
                async move { batcher.predict(rows(1, &[i as f32]), soon()).await.map(|r| numbers(&r)) },
            )
        })
        .collect();
    // One runs, perhaps with a few; the others wait for it.
    until(|| doubler.rows_max.load(SeqCst) + batcher.queued() == 33).await;
    doubler.set_shut(false);
    for (i, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.unwrap().unwrap(), [2.0 * i as f32]);
    }
    assert!(doubler.runs.load(SeqCst) <= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_is_bounded_and_a_caller_that_leaves_frees_its_slot() {
    let doubler = Arc::new(Doubler::default());
    let batcher = batcher(&doubler, Limits { queue_requests_max: 3, ..one_lane() });
    doubler.set_shut(true);
    let start = |i: f32| {
        let batcher = batcher.clone();
        tokio::spawn(async move { batcher.predict(rows(1, &[i]), soon()).await.map(|r| numbers(&r)) })
    };
    let running = start(0.0);
    until(|| doubler.runs.load(SeqCst) == 1).await;
    let mut waiting: Vec<_> = (1..=3).map(|i| start(i as f32)).collect();
    until(|| batcher.queued() == 3).await;
    let refused = batcher.predict(rows(1, &[9.0]), soon()).await;
    let Err(ServeError::Overloaded { retry_after }) = refused else { panic!("{refused:?}") };
    assert!(retry_after > Duration::ZERO);

    let leaving = waiting.remove(1);
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    assert_eq!(batcher.queued(), 2);
    let late = start(4.0);
    until(|| batcher.queued() == 3).await;
    doubler.set_shut(false);
    for (task, sent) in [running].into_iter().chain(waiting).chain([late]).zip([0.0, 1.0, 3.0, 4.0]) {
        assert_eq!(task.await.unwrap().unwrap(), [2.0 * sent]);
    }
    let counts = batcher.counters.snapshot();
    assert_eq!((counts.overloaded, counts.cancelled), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_wait_are_bounded_but_a_large_request_alone_is_let_in() {
    let doubler = Arc::new(Doubler::default());
    let batcher = batcher(&doubler, Limits { queue_bytes_max: 100, ..one_lane() });
    let large = batcher.predict(rows(1, &[1.0; 1000]), soon()).await.unwrap();
    assert_eq!(large.range, 0..1000);
    doubler.set_shut(true);
    let start = |n: usize| {
        let batcher = batcher.clone();
        tokio::spawn(async move { batcher.predict(rows(1, &vec![1.0; n]), soon()).await })
    };
    let first = start(1);
    until(|| doubler.runs.load(SeqCst) == 2).await;
    let second = start(20);
    until(|| batcher.queued() == 1).await;
    assert!(matches!(start(20).await.unwrap(), Err(ServeError::Overloaded { .. })));
    doubler.set_shut(false);
    assert!(first.await.unwrap().is_ok() && second.await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_is_honoured_in_the_queue() {
    let doubler = Arc::new(Doubler::default());
    let batcher = batcher(&doubler, one_lane());
    doubler.set_shut(true);
    let first = {
        let batcher = batcher.clone();
        tokio::spawn(async move { batcher.predict(rows(1, &[1.0]), soon()).await })
    };
    until(|| doubler.runs.load(SeqCst) == 1).await;
    let deadline = Instant::now() + Duration::from_millis(20);
    let late = batcher.predict(rows(1, &[2.0]), deadline).await;
    assert_eq!(late.unwrap_err(), ServeError::DeadlineExceeded);
    assert_eq!(batcher.queued(), 0);
    doubler.set_shut(false);
    assert!(first.await.unwrap().is_ok());
    assert_eq!(batcher.counters.snapshot().expired, 1);
    // A deadline that has passed already is no reason to run the model.
    let runs = doubler.runs.load(SeqCst);
    assert_eq!(
        batcher.predict(rows(1, &[2.0]), Instant::now()).await.unwrap_err(),
        ServeError::DeadlineExceeded
    );
    assert_eq!(doubler.runs.load(SeqCst), runs);
}

/// Polls a prediction until it gives others a turn as a leader; its model counts as cheap, but not too cheap.
async fn leader(batcher: &Arc<Batcher>) -> Pin<Box<impl Future<Output = Result<Rows, ServeError>> + use<>>> {
    batcher.cost.record(1, SHARING_MIN);
    let batcher = batcher.clone();
    let mut lead = Box::pin(async move { batcher.predict(rows(1, &[1.0]), soon()).await });
    let polled = std::future::poll_fn(|cx| Poll::Ready(lead.as_mut().poll(cx).is_pending())).await;
    assert!(polled, "a leader gives others a turn first");
    lead
}

#[tokio::test]
async fn a_leader_that_leaves_hands_the_batch_over() {
    let batcher = batcher(&Arc::default(), one_lane());
    let lead = leader(&batcher).await;
    let follow = {
        let batcher = batcher.clone();
        tokio::spawn(async move { batcher.predict(rows(1, &[2.0]), soon()).await.map(|r| numbers(&r)) })
    };
    until(|| batcher.queued() == 2).await;
    drop(lead);
    assert_eq!(follow.await.unwrap().unwrap(), [4.0]);
    until(|| is_idle(&batcher)).await;
}

#[tokio::test]
async fn a_leader_that_is_not_polled_holds_nobody_up() {
    let batcher = batcher(&Arc::default(), one_lane());
    let lead = leader(&batcher).await;
    assert_eq!(numbers(&batcher.predict(rows(1, &[2.0]), soon()).await.unwrap()), [4.0]);
    assert_eq!(numbers(&lead.await.unwrap()), [2.0]);
    until(|| is_idle(&batcher)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expensive_model_leaves_the_async_threads_alone() {
    struct Where(mpsc::Sender<bool>);
    impl Run for Where {
        fn run(&self, inputs: &Tensors) -> Result<Tensors, RuntimeError> {
            self.0.send(tokio::runtime::Handle::try_current().is_ok()).unwrap();
            Ok(inputs.clone())
        }
    }
    let (tx, rx) = mpsc::channel();
    let pool = Arc::new(Pool::start("model-thread", 1));
    let batcher = Batcher::new(Arc::new(Where(tx)), pool, one_lane(), Arc::default());
    batcher.cost.record(1, 10 * IN_PLACE_MAX);
    batcher.predict(rows(1, &[1.0]), soon()).await.unwrap();
    assert!(!rx.recv().unwrap(), "ran on an async thread");
}

/// Says where it runs, and waits until another task has run.
struct Waits(mpsc::Sender<bool>, Mutex<mpsc::Receiver<()>>);

impl Run for Waits {
    fn run(&self, inputs: &Tensors) -> Result<Tensors, RuntimeError> {
        self.0.send(Handle::try_current().is_ok()).unwrap();
        let other = self.1.lock().unwrap().recv_timeout(Duration::from_secs(10));
        other.map_err(|_| RuntimeError::new("no other task ran")).map(|()| inputs.clone())
    }
}

#[test]
fn a_brief_model_runs_where_it_is_asked_and_holds_up_nobody() {
    // With one thread, its place is handed over; with two, the other looks after what comes.
    for threads in [1, 2] {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(threads).enable_all().build().unwrap();
        let (begun, begins) = mpsc::channel();
        let (ran, runs) = mpsc::channel();
        let pool = Arc::new(Pool::start("model-thread", 1));
        let batcher =
            Batcher::new(Arc::new(Waits(begun, Mutex::new(runs))), pool, one_lane(), Arc::default());
        batcher.cost.record(1, IN_PLACE_MAX / 2);
        // The thread that waits for the clock is that which computes; the clock must go on for the other task.
        let other = runtime.spawn(async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            ran.send(()).unwrap();
        });
        let asking = runtime.spawn({
            let batcher = batcher.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                batcher.predict(rows(1, &[1.0]), soon()).await.map(|rows| numbers(&rows))
            }
        });
        assert_eq!(runtime.block_on(asking).unwrap().unwrap(), [1.0], "{threads} threads");
        assert!(begins.recv().unwrap(), "ran on a model thread");
        runtime.block_on(other).unwrap();
        runtime.block_on(until(|| is_idle(&batcher)));
    }
}

#[tokio::test]
async fn two_who_gather_run_no_more_than_there_are_lanes() {
    let doubler = Arc::new(Doubler::default());
    doubler.set_shut(true);
    let pool = Arc::new(Pool::start("test", 2));
    let batcher = Batcher::new(doubler.clone(), pool, one_lane(), Arc::default());
    let ask = |width: usize| {
        let batcher = batcher.clone();
        let inputs = rows(width, &vec![1.0; width]);
        tokio::spawn(async move { batcher.predict(inputs, soon()).await.map(|rows| numbers(&rows)) })
    };
    let first = ask(1);
    until(|| doubler.runs.load(SeqCst) == 1).await;
    let second = ask(2);
    until(|| batcher.queued() == 1).await;
    batcher.submit();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!((batcher.running(), batcher.queued()), (1, 1));
    doubler.set_shut(false);
    assert_eq!(first.await.unwrap().unwrap(), [2.0]);
    assert_eq!(second.await.unwrap().unwrap(), [2.0, 2.0]);
    until(|| is_idle(&batcher)).await;
}

#[tokio::test]
async fn a_model_that_loses_rows_is_reported() {
    struct Loser;
    impl Run for Loser {
        fn run(&self, _: &Tensors) -> Result<Tensors, RuntimeError> {
            Ok(rows(1, &[1.0]))
        }
    }
    let pool = Arc::new(Pool::start("test", 1));
    let batcher = Batcher::new(Arc::new(Loser), pool, one_lane(), Arc::default());
    let answer = batcher.predict(rows(1, &[1.0, 2.0]), soon()).await.unwrap_err();
    assert!(answer.to_string().contains("1 rows for 2 instances"), "{answer}");
}

proptest! {
    #[test]
    fn a_batch_takes_the_oldest_and_loses_nobody(
        queue in prop::collection::vec((1usize..6, 1usize..3, prop::bool::weighted(0.1)), 0..40),
        rows_max in 1usize..20,
    ) {
        let now = Instant::now();
        let mut state = State::default();
        let mut receivers = Vec::new();
        for (ticket, &(n, width, expired)) in queue.iter().enumerate() {
            let (reply, receiver) = oneshot::channel();
            receivers.push(receiver);
            let deadline = if expired { now } else { now + Duration::from_secs(1) };
            state.rows += n;
            state.bytes += 1;
            state.queue.push_back(Waiting {
                ticket: ticket as u64, inputs: rows(width, &vec![0.0; n * width]), rows: n, bytes: 1,
                since: now, deadline, reply,
            });
        }
        let (mut taken, mut expired) = (Vec::new(), Vec::new());
        loop {
            let oldest = state.queue.iter().find(|w| w.deadline > now).map(|w| w.ticket);
            let batch = state.take_batch(now, rows_max, &mut expired);
            prop_assert_eq!(batch.first().map(|w| w.ticket), oldest);
            if batch.is_empty() {
                break;
            }
            prop_assert!(batch.len() == 1 || batch.iter().map(|w| w.rows).sum::<usize>() <= rows_max);
            prop_assert!(batch.windows(2).all(|w| w[0].ticket < w[1].ticket));
            prop_assert!(batch.iter().all(|w| joinable(&w.inputs, &batch[0].inputs)));
            taken.extend(batch);
        }
        prop_assert_eq!((state.queue.len(), state.rows, state.bytes), (0, 0, 0));
        prop_assert!(expired.iter().all(|w| w.deadline <= now));
        let mut all: Vec<u64> = taken.iter().chain(&expired).map(|w| w.ticket).collect();
        all.sort_unstable();
        prop_assert_eq!(all, (0..queue.len() as u64).collect::<Vec<_>>());
    }
}

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Barrier;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::fixture::{Function, table};

fn sum() -> Arc<Model> {
    Arc::new(Function::new(2, 1, |x| vec![x[0] + x[1]]).model())
}

fn soon() -> Call<'static> {
    Call { deadline: Instant::now() + Duration::from_secs(60), deployed: None }
}

fn numbers(a: f64, b: f64) -> Value {
    Value::Numbers(vec![a, b])
}

#[tokio::test]
async fn an_answer_names_who_made_it() {
    let router = Router::new();
    router.publish(table(vec![("1", 100, sum())]));
    let answer = router.predict("e", vec![numbers(1.0, 2.0), numbers(3.0, 4.0)], &soon()).await.unwrap();
    assert_eq!(answer.deployed.id, "1");
    assert_eq!(
        serde_json::to_string(&answer.predictions.iter().collect::<Vec<_>>()).unwrap(),
        "[[3.0],[7.0]]"
    );
    let explained = router.explain("e", vec![numbers(1.0, 2.0)], None, &soon()).await.unwrap();
    assert_eq!(explained.explanations[0].attributions[0].values, [1.0, 2.0]);
    assert_eq!(explained.predictions.value(0), Some(3.0));
}

#[tokio::test]
async fn each_refusal_has_its_error() {
    let router = Router::new();
    router.publish(table(vec![("1", 0, sum())]));
    let predict = async |endpoint: &str, instances: Vec<Value>, deployed| {
        router.predict(endpoint, instances, &Call { deployed, ..soon() }).await.unwrap_err()
    };
    let one = || vec![numbers(1.0, 2.0)];
    assert!(matches!(predict("f", one(), None).await, ServeError::UnknownEndpoint { .. }));
    assert!(matches!(predict("e", one(), None).await, ServeError::NothingDeployed { .. }));
    assert!(matches!(predict("e", one(), Some("2")).await, ServeError::UnknownDeployed { .. }));
    assert!(matches!(predict("e", vec![], Some("1")).await, ServeError::BadRequest { .. }));
    let bad = vec![numbers(1.0, 2.0), Value::Null];
    assert!(matches!(predict("e", bad, Some("1")).await, ServeError::BadInstance { index: 1, .. }));
    // Named, a model answers without traffic.
    let call = Call { deployed: Some("1"), ..soon() };
    assert!(router.predict("e", one(), &call).await.is_ok());
    let counters = router.metrics().remove(0).counters;
    assert_eq!((counters.requests, counters.bad_requests), (3, 2));
}

#[tokio::test]
async fn traffic_follows_the_split_through_publications() {
    let router = Router::new();
    let (a, b) = (sum(), sum());
    for _ in 0..50 {
        router.publish(table(vec![("a", 90, a.clone()), ("b", 10, b.clone())]));
        for _ in 0..20 {
            router.predict("e", vec![numbers(0.0, 0.0)], &soon()).await.unwrap();
        }
    }
    let requests: HashMap<String, u64> =
        router.metrics().into_iter().map(|m| (m.deployed.id.clone(), m.counters.requests)).collect();
    assert!((890..=910).contains(&requests["a"]), "{requests:?}");
    assert_eq!(requests["a"] + requests["b"], 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_taken_away_finishes_what_it_has_begun() {
    let router = Router::new();
    let barrier = Arc::new(Barrier::new(2));
    let inside = barrier.clone();
    let slow = Function::new(2, 1, move |x| {
        inside.wait();
        inside.wait();
        vec![x[0]]
    });
    router.publish(table(vec![("slow", 100, Arc::new(slow.model()))]));
    let running = {
        let router = router.clone();
        tokio::spawn(async move { router.predict("e", vec![numbers(5.0, 0.0)], &soon()).await })
    };
    let begun = barrier.clone();
    tokio::task::spawn_blocking(move || begun.wait()).await.unwrap();
    router.publish(RoutingTable::default());
    let gone = router.predict("e", vec![numbers(1.0, 0.0)], &soon()).await;
    assert!(matches!(gone, Err(ServeError::UnknownEndpoint { .. })));
    tokio::task::spawn_blocking(move || barrier.wait()).await.unwrap();
    let answer = running.await.unwrap().unwrap();
    assert_eq!((answer.predictions.value(0), answer.deployed.id.as_str()), (Some(5.0), "slow"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_batch_changes_no_bits() {
    use tensor::export::{Activation, Layer, sequential};
    let noise =
        |seed: u32, n: u32| (0..n).map(|i| ((seed + i) as f32 * 12.9898).sin() * 0.3).collect::<Vec<_>>();
    let dense = |seed, inputs: u32, units: u32, activation| Layer::Dense {
        units: units as usize,
        kernel: noise(seed, inputs * units),
        bias: Some(noise(seed + 1, units)),
        activation,
    };
    let layers = [dense(1, 20, 32, Activation::Relu), dense(2, 32, 5, Activation::Softmax)];
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("any.onnx"), sequential(&[20], &layers).unwrap()).unwrap();
    let model = Arc::new(Model::load(dir.path()).unwrap());
    let router = Router::new();
    router.publish(table(vec![("1", 1, model.clone())]));
    let instance = |i: u32| Value::Numbers(noise(i * 31, 20).into_iter().map(f64::from).collect());
    let tasks: Vec<_> = (0..400u32)
        .map(|i| {
            let (router, instances) = (router.clone(), (0..1 + i % 3).map(|k| instance(i + k)).collect());
            tokio::spawn(async move { router.predict("e", instances, &soon()).await.unwrap().predictions })
        })
        .collect();
    for (i, task) in (0..).zip(tasks) {
        let together = task.await.unwrap();
        for k in 0..1 + i % 3 {
            let alone = model.predict(&[instance(i + k)]).unwrap();
            let bits = |v: Option<&[f32]>| v.unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(together.scores(k as usize)), bits(alone.scores(0)));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_model_is_an_answer() {
    let router = Router::new();
    let fragile = Function::new(2, 1, |x| {
        assert!(x[0] >= 0.0, "poison");
        vec![x[0]]
    });
    router.publish(table(vec![("1", 1, Arc::new(fragile.model()))]));
    for _ in 0..3 {
        let poison = router.predict("e", vec![numbers(-1.0, 0.0)], &soon()).await;
        assert!(matches!(poison, Err(ServeError::Failed { .. })), "{poison:?}");
        let explained = router.explain("e", vec![numbers(-1.0, 0.0)], None, &soon()).await;
        assert!(matches!(explained, Err(ServeError::Failed { .. })), "{explained:?}");
        let good = router.predict("e", vec![numbers(1.0, 0.0)], &soon()).await.unwrap();
        assert_eq!(good.predictions.value(0), Some(1.0));
    }
    assert_eq!(router.metrics()[0].counters.failed, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_requests_are_bound_elsewhere_and_answered_alike() {
    let router = Router::new();
    router.publish(table(vec![("1", 1, sum())]));
    let instances: Vec<Value> = (0..20_000).map(|i| numbers(f64::from(i), 1.0)).collect();
    let answer = router.predict("e", instances.clone(), &soon()).await.unwrap();
    assert_eq!(answer.predictions.len(), 20_000);
    assert!((0..20_000).all(|i| answer.predictions.value(i) == Some(i as f32 + 1.0)));
    let mut bad = instances;
    bad[12_345] = Value::Bool(true);
    let refused = router.predict("e", bad, &soon()).await.unwrap_err();
    assert!(matches!(refused, ServeError::BadInstance { index: 12_345, .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explanations_are_admitted_and_stop_at_their_deadline() {
    let router = Router::with_limits(Limits { lanes: 1, ..Limits::default() });
    let shut = Arc::new(AtomicBool::new(true));
    let gate = shut.clone();
    let held = Function::new(2, 1, move |x| {
        while gate.load(Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        vec![x[0]]
    });
    router.publish(table(vec![("1", 1, Arc::new(held.model()))]));
    let call = |limit_ms| Call { deadline: Instant::now() + Duration::from_millis(limit_ms), deployed: None };
    let late = router.explain("e", vec![numbers(1.0, 2.0)], None, &call(10)).await;
    assert_eq!(late.unwrap_err(), ServeError::DeadlineExceeded);
    let waiting: Vec<_> = (0..EXPLAINING_MAX + 8)
        .map(|_| {
            let router = router.clone();
            tokio::spawn(async move { router.explain("e", vec![numbers(1.0, 2.0)], None, &soon()).await })
        })
        .collect();
    let refused = router.metrics()[0].counters.overloaded;
    let mut answers = 0;
    let mut overloaded = refused;
    shut.store(false, Relaxed);
    for task in waiting {
        match task.await.unwrap() {
            Ok(_) => answers += 1,
            Err(ServeError::Overloaded { retry_after }) => {
                assert!(retry_after > Duration::ZERO);
                overloaded += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(answers + overloaded - refused, EXPLAINING_MAX as u64 + 8);
    assert!(router.explain("e", vec![numbers(1.0, 2.0)], None, &soon()).await.is_ok());
}

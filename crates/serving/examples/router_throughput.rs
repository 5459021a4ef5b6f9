//! Requests a second through `Router::predict`: one instance each, from concurrent tasks, on the network of the
//! reference program (100 inputs, 64, 64, 10).
//!
//! `cargo run --release -p serving --example router_throughput -- [tasks] [seconds] [threads]`

#![allow(clippy::print_stdout)]

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use formats::Value;
use serving::{Call, Deployed, Limits, Model, Route, Router, RoutingTable};
use tensor::export::{Activation, Layer, sequential};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<usize>());
    let tasks = arguments.next().unwrap_or(Ok(64))?;
    let seconds = arguments.next().unwrap_or(Ok(3))?;
    let threads = arguments.next().unwrap_or(Ok(2))?;
    let model = Arc::new(mlp()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    println!("{tasks} tasks on {threads} threads, {seconds} s each");
    for inline_us in [0, 100, 1_000_000] {
        let limits = Limits { inline_max: Duration::from_micros(inline_us), ..Limits::default() };
        let router = Router::with_limits(limits);
        router.publish(table(model.clone()));
        let cpu_before = cpu_seconds();
        let rate = runtime.block_on(measure(router.clone(), tasks, Duration::from_secs(seconds as u64)));
        let counters = router.metrics().remove(0).counters;
        let cpu = (cpu_seconds() - cpu_before) * 1e6 / counters.requests.max(1) as f64;
        let batches = counters.batch_rows.count().max(1);
        println!(
            "inline up to {inline_us:>7} µs: {rate:>9.0} requests/s, {cpu:.1} µs CPU a request, {:.1} rows and {:.1} µs a \
             batch, {:.1} µs queued",
            counters.batch_rows.sum as f64 / batches as f64,
            counters.run_time_us.sum as f64 / batches as f64,
            counters.queue_time_us.sum as f64 / counters.requests.max(1) as f64,
        );
    }
    Ok(())
}

/// What this process has computed so far, on all threads; 0 where the system does not say. Unlike the clock, it
/// means something on a busy machine.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    // User and system time, in hundredths of a second.
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

async fn measure(router: Router, tasks: usize, time: Duration) -> f64 {
    let done = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let end = began + time;
    let running: Vec<_> = (0..tasks)
        .map(|task| {
            let (router, done) = (router.clone(), done.clone());
            tokio::spawn(async move {
                let instance =
                    Value::Numbers((0..100).map(|i| ((task * 31 + i) % 17) as f64 / 17.0).collect());
                while Instant::now() < end {
                    let call = Call { deadline: Instant::now() + Duration::from_secs(10), deployed: None };
                    let answer = router.predict("e", vec![instance.clone()], &call).await;
                    if answer.is_ok_and(|a| a.predictions.len() == 1) {
                        done.fetch_add(1, Relaxed);
                    }
                    // A connection would read its next request here: let the others have their turn.
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for task in running {
        let _ = task.await;
    }
    done.load(Relaxed) as f64 / began.elapsed().as_secs_f64()
}

fn table(model: Arc<Model>) -> RoutingTable {
    let deployed = Deployed {
        nearest: None,
        concurrency: None,
        id: "1".into(),
        model,
        model_name: "mlp".into(),
        version: 1,
        aliases: Vec::new(),
        display_name: "mlp".into(),
        weight: 100,
        explain: None,
    };
    RoutingTable { routes: HashMap::from([("e".into(), Route { deployed: vec![deployed] })]) }
}

fn mlp() -> Result<Model, Box<dyn Error>> {
    let noise = |seed: usize, n: usize| {
        (0..n).map(|i| ((seed + i) as f32 * 12.9898).sin() * 0.2).collect::<Vec<f32>>()
    };
    let dense = |seed, inputs: usize, units, activation| Layer::Dense {
        units,
        kernel: noise(seed, inputs * units),
        bias: Some(noise(seed + 1, units)),
        activation,
    };
    let layers = [
        dense(1, 100, 64, Activation::Relu),
        dense(2, 64, 64, Activation::Relu),
        dense(3, 64, 10, Activation::Softmax),
    ];
    let dir = std::env::temp_dir().join(format!("meuse-router-throughput-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("model.onnx"), sequential(&[100], &layers)?)?;
    let model = Model::load(&dir);
    std::fs::remove_dir_all(&dir)?;
    Ok(model?)
}

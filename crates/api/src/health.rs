//! Health and metrics: what monitors ask.

use std::fmt::Write;
use std::sync::Arc;

use http::{Method, StatusCode};
use serving::{
    CounterSnapshot, Deployed, DeployedMetrics, Embedder, EndReason, GENERATION_US_BOUNDS, HistogramSnapshot,
    NamedEmbedder, NamedLanguage,
};

use crate::http::{Access, Call, Permission, Response, Route, bytes_reply, handler};
use crate::{Fault, vertex};

/// The routes of this folder: the only public ones of the server.
pub(crate) fn routes() -> Vec<Route> {
    let route = |method, path, access, handler| vertex::PROTOCOL.route(method, path, access, handler);
    [
        route(Method::GET, "/health/live", Access::Public, handler(well)),
        // Requests are taken only once everything has been opened.
        route(Method::GET, "/health/ready", Access::Public, handler(well)),
        // People who try the address, and Ollama's programs before they send their key.
        route(Method::GET, "/", Access::Public, handler(here)),
        route(Method::HEAD, "/", Access::Public, handler(here)),
        route(Method::GET, "/metrics", Access::Needs(Permission::Observe), handler(metrics)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

async fn well(_: Call) -> Result<Response, Fault> {
    Ok(bytes_reply(StatusCode::OK, "application/json", "{\"status\":\"ok\"}"))
}

async fn here(call: Call) -> Result<Response, Fault> {
    let body = if call.head.method == Method::HEAD { "" } else { "Meuse is running\n" };
    Ok(bytes_reply(StatusCode::OK, "text/plain; charset=utf-8", body))
}

async fn metrics(call: Call) -> Result<Response, Fault> {
    let mut text = call.app.metrics.render();
    let models = call.app.router.metrics();
    deployed(&mut text, &models);
    inference(&mut text, &models);
    languages(&mut text, call.app.router.languages(None));
    encoders(&mut text, call.app.router.embedders(None));
    Ok(bytes_reply(StatusCode::OK, "text/plain; version=0.0.4", text))
}

/// What every deployed model has been doing, one line a figure.
fn deployed(text: &mut String, models: &[DeployedMetrics]) {
    type Figure = (&'static str, &'static str, fn(&DeployedMetrics) -> u64);
    const FIGURES: [Figure; 10] = [
        ("loaded", "gauge", |m| u64::from(m.deployed.model.is_loaded())),
        ("queued", "gauge", |m| m.queued as u64),
        ("running", "gauge", |m| m.running as u64),
        ("requests_total", "counter", |m| m.counters.requests),
        ("bad_requests_total", "counter", |m| m.counters.bad_requests),
        ("overloaded_total", "counter", |m| m.counters.overloaded),
        ("expired_total", "counter", |m| m.counters.expired),
        ("cancelled_total", "counter", |m| m.counters.cancelled),
        ("failed_total", "counter", |m| m.counters.failed),
        ("explanations_total", "counter", |m| m.counters.explanations),
    ];
    for (name, kind, figure) in FIGURES {
        // Writing to a string does not fail.
        let _ = writeln!(text, "# TYPE meuse_deployed_{name} {kind}");
        for model in models {
            let (endpoint, id) = (&model.endpoint, &model.deployed.id);
            let figure = figure(model);
            let _ = writeln!(
                text,
                "meuse_deployed_{name}{{endpoint=\"{endpoint}\",deployed_model=\"{id}\"}} {figure}"
            );
        }
    }
}

/// The same under the names that Triton has for it, so that its dashboards work.
fn inference(text: &mut String, models: &[DeployedMetrics]) {
    type Figure = (&'static str, &'static str, fn(&DeployedMetrics) -> u64);
    const FIGURES: [Figure; 7] = [
        ("request_success", "counter", |m| m.counters.requests.saturating_sub(failures(&m.counters))),
        ("request_failure", "counter", |m| failures(&m.counters)),
        ("count", "counter", |m| m.counters.batch_rows.sum),
        ("exec_count", "counter", |m| m.counters.batch_rows.count()),
        ("queue_duration_us", "counter", |m| m.counters.queue_time_us.sum),
        ("compute_infer_duration_us", "counter", |m| m.counters.run_time_us.sum),
        ("pending_request_count", "gauge", |m| m.queued as u64),
    ];
    for (name, kind, figure) in FIGURES {
        let _ = writeln!(text, "# TYPE nv_inference_{name} {kind}");
        for model in models.iter().filter(|model| model.deployed.model.not_predictor().is_none()) {
            let deployed = &model.deployed;
            let (name_of, version, figure) =
                (escaped(&deployed.display_name), deployed.version, figure(model));
            let id = &deployed.id;
            let _ = writeln!(
                text,
                "nv_inference_{name}{{model=\"{name_of}\",version=\"{version}\",deployed_model=\"{id}\"}} {figure}"
            );
        }
    }
}

/// Requests that got no prediction.
fn failures(counters: &CounterSnapshot) -> u64 {
    counters.bad_requests + counters.overloaded + counters.expired + counters.cancelled + counters.failed
}

/// What every language model's engine does and has done, under the names that vLLM has for it. A model deployed
/// twice is one engine, and told once.
fn languages(text: &mut String, mut models: Vec<NamedLanguage>) {
    let mut seen = Vec::new();
    models.retain(|model| {
        let engine = Arc::as_ptr(&model.language);
        let first = !seen.contains(&engine);
        seen.push(engine);
        first
    });
    type Figure = (&'static str, &'static str, fn(&llm::Counters) -> f64);
    const FIGURES: [Figure; 10] = [
        ("num_requests_running", "gauge", |c| c.running as f64),
        ("num_requests_waiting", "gauge", |c| c.waiting as f64),
        ("kv_cache_usage_perc", "gauge", |c| c.blocks_used as f64 / c.blocks_total.max(1) as f64),
        ("prefix_cache_queries_total", "counter", |c| c.prompt_tokens as f64),
        ("prefix_cache_hits_total", "counter", |c| c.cached_tokens as f64),
        ("prompt_tokens_total", "counter", |c| c.prompt_tokens as f64),
        ("generation_tokens_total", "counter", |c| c.completion_tokens as f64),
        ("num_preemptions_total", "counter", |c| c.preemptions as f64),
        ("spec_decode_num_draft_tokens_total", "counter", |c| c.drafted_tokens as f64),
        ("spec_decode_num_accepted_tokens_total", "counter", |c| c.accepted_tokens as f64),
    ];
    let models: Vec<(String, &NamedLanguage)> =
        models.iter().map(|model| (labels(&model.name, &model.deployed), model)).collect();
    for (name, kind, figure) in FIGURES {
        // Writing to a string does not fail.
        let _ = writeln!(text, "# TYPE vllm:{name} {kind}");
        for (labels, model) in &models {
            let _ = writeln!(text, "vllm:{name}{{{labels}}} {}", figure(&model.language.counters()));
        }
    }
    let _ = writeln!(text, "# TYPE meuse:steps_given_up_total counter");
    for (labels, model) in &models {
        let given_up = model.language.counters().given_up;
        let _ = writeln!(text, "meuse:steps_given_up_total{{{labels}}} {given_up}");
    }
    let _ = writeln!(text, "# TYPE meuse:model_loaded gauge");
    for (labels, model) in &models {
        let _ = writeln!(text, "meuse:model_loaded{{{labels}}} {}", u8::from(model.language.is_loaded()));
    }
    let _ = writeln!(text, "# TYPE meuse:model_load_seconds gauge");
    for (labels, model) in &models {
        let took = model.language.load_time().as_secs_f64();
        let _ = writeln!(text, "meuse:model_load_seconds{{{labels}}} {took}");
    }
    let _ = writeln!(text, "# TYPE vllm:request_success_total counter");
    for (labels, model) in &models {
        for reason in EndReason::ALL {
            let (word, count) = (word(reason), model.language.metrics().ended(reason));
            let _ =
                writeln!(text, "vllm:request_success_total{{{labels},finished_reason=\"{word}\"}} {count}");
        }
    }
    type Times = (&'static str, fn(&serving::LanguageMetrics) -> HistogramSnapshot);
    const TIMES: [Times; 3] = [
        ("time_to_first_token_seconds", |m| m.first_token_us()),
        ("inter_token_latency_seconds", |m| m.between_tokens_us()),
        ("e2e_request_latency_seconds", |m| m.whole_us()),
    ];
    for (name, times) in TIMES {
        let _ = writeln!(text, "# TYPE vllm:{name} histogram");
        for (labels, model) in &models {
            histogram(text, name, labels, &times(model.language.metrics()));
        }
    }
}

/// What every encoder has done. A model deployed twice is one, and told once.
fn encoders(text: &mut String, mut models: Vec<NamedEmbedder>) {
    let mut seen = Vec::new();
    models.retain(|model| {
        let encoder = Arc::as_ptr(&model.embedder);
        let first = !seen.contains(&encoder);
        seen.push(encoder);
        first
    });
    type Figure = (&'static str, &'static str, fn(&Embedder) -> u64);
    const FIGURES: [Figure; 4] = [
        ("loaded", "gauge", |e| u64::from(e.is_loaded())),
        ("requests_waiting", "gauge", |e| e.waiting() as u64),
        ("texts_total", "counter", |e| e.computed().0),
        ("tokens_total", "counter", |e| e.computed().1),
    ];
    for (name, kind, figure) in FIGURES {
        // Writing to a string does not fail.
        let _ = writeln!(text, "# TYPE meuse_encoder_{name} {kind}");
        for model in &models {
            let (labels, figure) = (labels(&model.name, &model.deployed), figure(&model.embedder));
            let _ = writeln!(text, "meuse_encoder_{name}{{{labels}}} {figure}");
        }
    }
}

/// The labels of a model's figures. Names are free text: what would end a label is escaped.
fn labels(name: &str, deployed: &Deployed) -> String {
    format!("model_name=\"{}\",engine=\"{}\"", escaped(name), deployed.id)
}

/// A label's value, between its quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn word(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Stop => "stop",
        EndReason::Length => "length",
        EndReason::Abort => "abort",
        EndReason::Error => "error",
    }
}

fn histogram(text: &mut String, name: &str, labels: &str, times: &HistogramSnapshot) {
    let mut total = 0;
    for (i, count) in times.buckets.iter().enumerate() {
        total += count;
        let end =
            GENERATION_US_BOUNDS.get(i).map_or_else(|| "+Inf".to_owned(), |us| seconds(*us).to_string());
        let _ = writeln!(text, "vllm:{name}_bucket{{{labels},le=\"{end}\"}} {total}");
    }
    let _ = writeln!(text, "vllm:{name}_sum{{{labels}}} {}", seconds(times.sum));
    let _ = writeln!(text, "vllm:{name}_count{{{labels}}} {total}");
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

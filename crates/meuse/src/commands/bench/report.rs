//! What `meuse bench` found, as tables and as JSON.

use serde_json::{Map, Value, json};

use crate::load::{Figures, Plan, Spread};
use crate::show::{Output, Table, percent, thousands};

/// Tables for a person: throughput, then latency, then what went wrong.
pub(super) fn tables(figures: &[Figures], output: &Output) {
    output.table(&throughput(figures));
    output.line("");
    output.table(&latency(figures));
    let errors = errors(figures);
    if !errors.is_empty() {
        output.line("");
        output.table(&errors);
    }
}

fn throughput(figures: &[Figures]) -> Table {
    let has_goal = figures.iter().any(|f| f.goodput.is_some());
    let unit = heading(figures);
    let mut headings = vec![
        unit.as_str(),
        ">ANSWERED",
        ">FAILED",
        ">SECONDS",
        ">ANSWERS/S",
        ">PROMPT TOK/S",
        ">OUTPUT TOK/S",
    ];
    headings.extend([">PROMPT", ">CACHED", ">OUTPUT"]);
    if has_goal {
        headings.push(">GOOD ANSWERS/S");
    }
    let mut table = Table::new(&headings);
    for f in figures {
        let tokens = |spread: Option<Spread>| spread.map_or("-".to_owned(), |s| format!("{:.0}", s.mean));
        let mut row = vec![
            f.level.to_string(),
            thousands(f.answered),
            thousands(f.troubles.count()),
            format!("{:.1}", f.seconds),
            format!("{:.2}", f.requests_per_second),
            format!("{:.1}", f.prompt_tokens_per_second),
            format!("{:.1}", f.output_tokens_per_second),
            tokens(f.prompt_tokens),
            percent(f.cached_share),
            tokens(f.output_tokens),
        ];
        row.extend(f.goodput.map(|goodput| format!("{goodput:.2}")));
        table.row(row);
    }
    table
}

fn latency(figures: &[Figures]) -> Table {
    let unit = heading(figures);
    let mut headings = vec![unit.as_str()];
    headings.extend([">FIRST TOKEN, MS: MEAN", ">P50", ">P90", ">P99"]);
    headings.extend([">BETWEEN TOKENS, MS: MEAN", ">P50", ">P90", ">P99"]);
    headings.extend([">WHOLE, S: MEAN", ">P50", ">P90", ">P99"]);
    let mut table = Table::new(&headings);
    for f in figures {
        let mut row = vec![f.level.to_string()];
        let mut cells = |spread: Option<Spread>, scale: f64, places: usize| match spread {
            Some(Spread { mean, p50, p90, p99 }) => {
                row.extend([mean, p50, p90, p99].map(|value| format!("{:.places$}", value * scale)));
            }
            None => row.extend(["-"; 4].map(str::to_owned)),
        };
        cells(f.first_token_ms, 1.0, 0);
        cells(f.between_tokens_ms, 1.0, 1);
        cells(f.whole_ms, 1e-3, 2);
        table.row(row);
    }
    table
}

fn errors(figures: &[Figures]) -> Table {
    let unit = heading(figures);
    let mut table = Table::new(&[unit.as_str(), "ERROR", ">COUNT", "THE FIRST"]);
    for f in figures {
        for (trouble, count, message) in f.troubles.iter() {
            let message = crate::show::fit(message, 90);
            table.row([f.level.to_string(), trouble.to_string(), thousands(count), message]);
        }
    }
    table
}

fn heading(figures: &[Figures]) -> String {
    format!(">{}", figures.first().map_or("", |f| f.level.unit()).to_uppercase())
}

/// Everything, for a program.
pub(super) fn json(plan: &Plan, figures: &[Figures], stopped: bool) -> Value {
    let ms = |time: Option<std::time::Duration>| time.map(|time| time.as_secs_f64() * 1e3);
    json!({
        "url": plan.asking.client.url(),
        "model": plan.asking.model,
        "seed": plan.seed,
        "promptTokens": plan.prompt_tokens.to_string(),
        "outputTokens": plan.output_tokens.to_string(),
        "ttftMaxMs": ms(plan.goal.first_token),
        "itlMaxMs": ms(plan.goal.between_tokens),
        "stopped": stopped,
        "levels": figures.iter().map(level).collect::<Vec<_>>(),
    })
}

fn level(f: &Figures) -> Value {
    let mut level = Map::new();
    level.insert(f.level.unit().to_owned(), f.level.number().into());
    let rest = json!({
        "seconds": f.seconds,
        "answered": f.answered,
        "failed": f.troubles.count(),
        "unfinished": f.unfinished,
        "errors": f.troubles.iter().map(error).collect::<Vec<_>>(),
        "requestsPerSecond": f.requests_per_second,
        "promptTokensPerSecond": f.prompt_tokens_per_second,
        "outputTokensPerSecond": f.output_tokens_per_second,
        "goodRequestsPerSecond": f.goodput,
        "cachedShare": f.cached_share,
        "promptTokens": f.prompt_tokens.map(spread),
        "outputTokens": f.output_tokens.map(spread),
        "firstTokenMs": f.first_token_ms.map(spread),
        "betweenTokensMs": f.between_tokens_ms.map(spread),
        "longestPauseMs": f.pause_ms.map(spread),
        "wholeMs": f.whole_ms.map(spread),
    });
    if let Value::Object(rest) = rest {
        level.extend(rest);
    }
    Value::Object(level)
}

fn error((trouble, count, message): (crate::load::Trouble, u64, &str)) -> Value {
    json!({"kind": trouble.to_string(), "count": count, "message": message})
}

fn spread(s: Spread) -> Value {
    json!({"mean": s.mean, "p50": s.p50, "p90": s.p90, "p99": s.p99})
}

//! `meuse bench`: a language model under load.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value};

use super::report;
use crate::client::{Client, ClientError};
use crate::connection::Connection;
use crate::failure::{Failure, Result, on_file};
use crate::load::{Asking, Figures, Goal, Lengths, Level, Limits, Plan, Prompts, plot, run};
use crate::show::{LoadBar, Output};

/// Requests that a level sends at most, whatever its time.
const REQUESTS_MAX: u64 = 1_000_000;
/// Requests under way at once at most.
const CONCURRENCY_MAX: i64 = 4096;
/// Requests at a rate, unless said: enough for a median.
const REQUESTS_AT_RATE: u64 = 64;

/// A language model under load.
#[derive(Debug, Args)]
pub struct Answers {
    /// Model [default: the only one there]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Requests under way at once, one level after the other
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2,4,8",
          value_parser = clap::value_parser!(u32).range(1..=CONCURRENCY_MAX))]
    pub concurrency: Vec<u32>,
    /// Requests sent a second, at random times, instead of so many at once
    #[arg(long, value_name = "R,…", value_delimiter = ',', value_parser = rate, conflicts_with = "concurrency")]
    pub rate: Vec<f64>,
    /// Requests of each level [default: 4 for each that is under way, 8 at least; 64 at a rate]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=REQUESTS_MAX))]
    pub requests: Option<u64>,
    /// Time after which a level sends no more, such as 30s
    #[arg(long, value_name = "TIME", value_parser = crate::time::span)]
    pub duration: Option<jiff::SignedDuration>,
    /// Tokens of a prompt: a number, or a range such as 64-256
    #[arg(long, value_name = "TOKENS", default_value = "128")]
    pub prompt_tokens: Lengths,
    /// Tokens of an answer at most: a number, or a range
    #[arg(long, value_name = "TOKENS", default_value = "64")]
    pub output_tokens: Lengths,
    /// Tokens with which all prompts begin alike
    #[arg(long, value_name = "TOKENS", default_value_t = 0)]
    pub shared_prefix_tokens: u32,
    /// Count the answers a second whose first token comes within this, such as 500ms
    #[arg(long, value_name = "TIME", value_parser = crate::time::moment)]
    pub ttft_max: Option<Duration>,
    /// Count the answers a second whose further tokens come within this in the mean, such as 50ms
    #[arg(long, value_name = "TIME", value_parser = crate::time::moment)]
    pub itl_max: Option<Duration>,
    /// Draws prompts, lengths and times of arrival [default: another each time, so that no prompt is known already]
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Time that an answer may take
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = crate::time::span)]
    pub timeout: jiff::SignedDuration,
    /// Fields that every request has besides, a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}", hide_default_value = true, value_parser = object)]
    pub extra_body: Fields,
    /// Draw throughput and latency into this file (SVG)
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

/// Fields of a request.
type Fields = Map<String, Value>;

impl Answers {
    /// Measures and says what was found.
    ///
    /// # Errors
    /// If the server cannot be asked, or answers nothing.
    pub async fn run(&self, output: &Output) -> Result<()> {
        let client = self.client()?;
        let model = self.model(&client).await?;
        let seed = self
            .seed
            .unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos() as u64);
        let patience = self.timeout.unsigned_abs();
        let asking = Asking { client, model, extra: self.extra_body.clone(), patience };
        let plan = self.plan(asking, seed).await?;
        output.note(format!(
            "Asking {} at {}: prompts of {} tokens, answers of {} at most, seed {seed}.",
            plan.asking.model,
            plan.asking.client.url(),
            self.prompt_tokens,
            self.output_tokens
        ));
        let (figures, stopped) = self.measure(&plan, output).await;
        self.tell(&plan, &figures, stopped, output)?;
        match figures.iter().find(|f| f.answered > 0) {
            Some(_) => Ok(()),
            None if stopped => Err(Failure::new("stopped before anything was answered")),
            None => Err(unanswered(&figures)),
        }
    }

    /// The server: with or without `/v1` behind its address, and with the key of this machine's server only where it is
    /// that server.
    fn client(&self) -> Result<Client> {
        let url = self.connection.url();
        let base = url.trim_end_matches('/');
        let base = base.strip_suffix("/v1").unwrap_or(base);
        let directory = self.connection.data_dir();
        let ours = self.connection.url.is_none() || directory.address().as_deref() == Some(base);
        let key = self.connection.key.clone().or_else(|| directory.admin_key().filter(|_| ours));
        Client::new(base, key.as_deref(), &self.connection.project, &self.connection.location)
    }

    /// The model that is named, or the only one.
    async fn model(&self, client: &Client) -> Result<String> {
        if let Some(name) = &self.model {
            return Ok(name.clone());
        }
        let mut models = client.language_models().await.map_err(|error| match error {
            ClientError::Refused { status: 404, .. } => {
                Failure::new(format!("{} does not list its models at /v1/models", client.url()))
                    .next("check --url, or name the model with --model")
            }
            error => error.into(),
        })?;
        match (models.len(), models.pop()) {
            (1, Some(only)) => Ok(only),
            (_, None) => Err(Failure::new(format!("no language model answers at {}", client.url()))
                .next("deploy one: `meuse deploy NAME`")),
            (count, Some(last)) => {
                models.push(last);
                Err(Failure::usage(format!("{count} language models answer at {}", client.url()))
                    .next(format!("name one with --model: {}", models.join(", "))))
            }
        }
    }

    async fn plan(&self, asking: Asking, seed: u64) -> Result<Plan> {
        let asking = Arc::new(asking);
        let counted = Prompts::counted_by(&asking, seed, self.prompt_tokens.most()).await;
        let prompts = match counted {
            Ok(prompts) => prompts,
            Err(failure) => return Err(self.with_models(failure, &asking.client).await),
        };
        Ok(Plan {
            asking,
            prompts: prompts.sharing(self.shared_prefix_tokens, self.prompt_tokens.least())?,
            prompt_tokens: self.prompt_tokens,
            output_tokens: self.output_tokens,
            seed,
            goal: Goal { first_token: self.ttft_max, between_tokens: self.itl_max },
        })
    }

    /// Names the models that there are, where the named one is not among them.
    async fn with_models(&self, failure: Failure, client: &Client) -> Failure {
        let Some(named) = &self.model else { return failure };
        match client.language_models().await {
            Ok(models) if !models.contains(named) && !models.is_empty() => {
                failure.next(format!("models that answer there: {}", models.join(", ")))
            }
            _ => failure,
        }
    }

    fn levels(&self) -> Vec<Level> {
        if self.rate.is_empty() {
            self.concurrency.iter().copied().map(Level::Concurrency).collect()
        } else {
            self.rate.iter().copied().map(Level::Rate).collect()
        }
    }

    fn limits(&self, level: Level) -> Limits {
        let duration = self.duration.map(jiff::SignedDuration::unsigned_abs);
        let usual = match level {
            _ if duration.is_some() => REQUESTS_MAX,
            Level::Concurrency(count) => u64::from(count).saturating_mul(4).max(8),
            Level::Rate(_) => REQUESTS_AT_RATE,
        };
        Limits { requests: self.requests.unwrap_or(usual), duration }
    }

    /// Each level's figures, and whether Ctrl-C ended it.
    async fn measure(&self, plan: &Plan, output: &Output) -> (Vec<Figures>, bool) {
        let mut stop = pin!(tokio::signal::ctrl_c());
        let mut all = Vec::new();
        for (nth, level) in (0u64..).zip(self.levels()) {
            let bar = LoadBar::new(output, format!("{} {level}", level.unit()));
            let watch = |ended, share| bar.update(ended, share);
            // Each level's prompts are its own, however many the levels before sent.
            let (figures, stopped) =
                run(plan, level, self.limits(level), nth * REQUESTS_MAX, stop.as_mut(), watch).await;
            bar.finish(figures.answered + figures.troubles.count());
            all.push(figures);
            if stopped {
                return (all, true);
            }
        }
        (all, false)
    }

    fn tell(&self, plan: &Plan, figures: &[Figures], stopped: bool, output: &Output) -> Result<()> {
        if output.json {
            output.value(&report::json(plan, figures, stopped));
        } else {
            report::tables(figures, output);
            if stopped {
                output.note("Stopped: this is what was measured until then.");
            }
        }
        if let Some(path) = &self.plot {
            let subtitle = format!(
                "{}, prompts of {} tokens, answers of {} at most",
                plan.asking.client.url(),
                plan.prompt_tokens,
                plan.output_tokens
            );
            let picture = plot(&plan.asking.model, &subtitle, figures);
            std::fs::write(path, picture).map_err(on_file(path, "writing"))?;
            output.note(format!("Drawn in {}.", path.display()));
        }
        Ok(())
    }
}

/// That no request was answered, and why the most were not.
fn unanswered(figures: &[Figures]) -> Failure {
    let most = figures.iter().flat_map(|f| f.troubles.iter()).max_by_key(|(_, count, _)| *count);
    match most {
        Some((_, _, message)) => Failure::new(format!("no request was answered: {message}")),
        None => Failure::new("no request was sent: none arrived in time").next("give it longer: --duration"),
    }
}

fn rate(text: &str) -> std::result::Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|rate| (0.001..=10_000.0).contains(rate));
    number.ok_or_else(|| format!("`{text}` is no number from 0.001 to 10000"))
}

fn object(text: &str) -> std::result::Result<Fields, String> {
    serde_json::from_str(text).map_err(|error| format!("it is no JSON object: {error}"))
}

//! `meuse quota`

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::show::{Output, Table};

/// Limit what projects and keys may use, and say what models cost.
#[derive(Debug, Args)]
pub struct Quota {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with quotas and prices.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// List quotas and what was spent in this month
    List(List),
    /// Show the quota of a project or of a key
    Get(Get),
    /// Set limits of a project or of a key; what is not named stays as it is
    Set(Set),
    /// Set what a model costs; what is not named is free
    Price(SetPrice),
    /// List prices
    Prices(Prices),
}

/// List quotas.
#[derive(Debug, Args)]
pub struct List {
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

/// List prices.
#[derive(Debug, Args)]
pub struct Prices {
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

/// Show the quota of a project or of a key.
#[derive(Debug, Args)]
pub struct Get {
    /// projects/PROJECT or keys/ID
    pub whose: String,
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

/// Set limits of a project or of a key.
#[derive(Debug, Args)]
pub struct Set {
    /// projects/PROJECT or keys/ID
    pub whose: String,
    /// Requests a minute; `none` for no limit, as in all others
    #[arg(long, value_name = "N", value_parser = count)]
    pub requests_per_minute: Option<Value>,
    /// Tokens a minute, read and written
    #[arg(long, value_name = "N", value_parser = count)]
    pub tokens_per_minute: Option<Value>,
    /// Requests that are answered at once
    #[arg(long, value_name = "N", value_parser = count)]
    pub concurrent_requests: Option<Value>,
    /// What may be spent in a calendar month, in what prices are in
    #[arg(long, value_name = "MONEY", value_parser = money)]
    pub monthly_budget: Option<Value>,
    /// Bytes of models, files and objects that a project keeps here, such as 20GiB
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub stored_bytes: Option<Value>,
    /// Minutes that a project trains in a calendar month
    #[arg(long, value_name = "N", value_parser = count)]
    pub training_minutes: Option<Value>,
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

/// Set what a model costs.
#[derive(Debug, Args)]
pub struct SetPrice {
    /// The model's name, or `*` for all that have no price of their own
    pub model: String,
    /// A million tokens of prompts
    #[arg(long, value_name = "MONEY", value_parser = money)]
    pub prompt: Option<Value>,
    /// A million tokens of prompts that were computed before [default: as other tokens of prompts]
    #[arg(long, value_name = "MONEY", value_parser = money)]
    pub cached: Option<Value>,
    /// A million tokens of answers
    #[arg(long, value_name = "MONEY", value_parser = money)]
    pub output: Option<Value>,
    /// A thousand predictions
    #[arg(long, value_name = "MONEY", value_parser = money)]
    pub predictions: Option<Value>,
    /// A minute of training it
    #[arg(long, value_name = "MONEY", value_parser = money)]
    pub training: Option<Value>,
    /// Take the model's own price away
    #[arg(long, conflicts_with_all = ["prompt", "cached", "output", "predictions", "training"])]
    pub remove: bool,
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

const QUOTAS: &str = "/admin/v1/quotas";
const PRICES: &str = "/admin/v1/prices";

/// The limits by their names, with their headings.
const LIMITS: [(&str, &str); 9] = [
    ("requestsPerMinute", ">REQUESTS/MIN"),
    ("tokensPerMinute", ">TOKENS/MIN"),
    ("concurrentRequests", ">AT ONCE"),
    ("monthlyBudget", ">BUDGET"),
    ("spentThisMonth", ">SPENT"),
    ("storedBytes", ">BYTES"),
    ("keptBytes", ">KEPT"),
    ("trainingMinutes", ">TRAINING MIN"),
    ("trainedSecondsThisMonth", ">TRAINED S"),
];

impl Quota {
    /// Does it.
    ///
    /// # Errors
    /// If the server refuses: only an admin's key may.
    pub async fn run(&self, output: &Output) -> Result<()> {
        match &self.action {
            Action::List(list) => {
                let client = list.connection.client()?;
                let quotas: Value = client.get(QUOTAS).await.map_err(Failure::from)?;
                show_quotas(&quotas, output);
                Ok(())
            }
            Action::Get(get) => {
                let quota: Value =
                    get.connection.client()?.get(&path(&get.whose)?).await.map_err(Failure::from)?;
                show_quota(quota, output);
                Ok(())
            }
            Action::Set(set) => set.run(output).await,
            Action::Price(price) => price.run(output).await,
            Action::Prices(prices) => {
                let client = prices.connection.client()?;
                show_prices(&client.get(PRICES).await.map_err(Failure::from)?, output);
                Ok(())
            }
        }
    }
}

impl Set {
    async fn run(&self, output: &Output) -> Result<()> {
        let client = self.connection.client()?;
        let given = [
            ("requestsPerMinute", &self.requests_per_minute),
            ("tokensPerMinute", &self.tokens_per_minute),
            ("concurrentRequests", &self.concurrent_requests),
            ("monthlyBudget", &self.monthly_budget),
            ("storedBytes", &self.stored_bytes),
            ("trainingMinutes", &self.training_minutes),
        ];
        if given.iter().all(|(_, value)| value.is_none()) {
            return Err(
                Failure::usage("no limit is named").next("name one, such as --requests-per-minute 60")
            );
        }
        let path = path(&self.whose)?;
        let now: Value = client.get(&path).await.map_err(Failure::from)?;
        let limit = |(name, value): (&str, &Option<Value>)| {
            let kept = || now.get(name).cloned().unwrap_or_default();
            (name.to_owned(), value.clone().unwrap_or_else(kept))
        };
        let body: Map<String, Value> = given.into_iter().map(limit).collect();
        let quota = client.put(&path, &Value::Object(body)).await.map_err(Failure::from)?;
        show_quota(quota, output);
        Ok(())
    }
}

impl SetPrice {
    async fn run(&self, output: &Output) -> Result<()> {
        let client = self.connection.client()?;
        // Names of models hold anything.
        let path = format!("{PRICES}/{}", encoded(&self.model));
        if self.remove {
            let answer = client.delete(&path).await.map_err(Failure::from)?;
            if output.json {
                output.value(&answer);
            } else {
                output.line(format!("{} has no price of its own any more.", self.model));
            }
            return Ok(());
        }
        let body = json!({
            "promptMillion": self.prompt,
            "cachedMillion": self.cached,
            "outputMillion": self.output,
            "rowsThousand": self.predictions,
            "trainingMinute": self.training,
        });
        let price: Value = client.put(&path, &body).await.map_err(Failure::from)?;
        if output.json {
            output.value(&price);
        } else {
            show_prices(&json!({"prices": [price]}), output);
        }
        Ok(())
    }
}

/// The address of a quota.
fn path(whose: &str) -> Result<String> {
    match whose.split_once('/') {
        Some(("projects" | "keys", id)) if !id.is_empty() && !id.contains('/') => {
            Ok(format!("{QUOTAS}/{whose}"))
        }
        _ => Err(Failure::usage(format!("`{whose}` has no quota"))
            .next("write projects/PROJECT, or keys/ID as `meuse keys list` shows it")),
    }
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'*');
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}

fn show_quota(quota: Value, output: &Output) {
    if output.json {
        output.value(&quota);
    } else {
        show_quotas(&json!({"quotas": [quota]}), output);
    }
}

fn show_quotas(quotas: &Value, output: &Output) {
    if output.json {
        output.value(quotas);
        return;
    }
    let headings = [("name", "OF")];
    let headings: Vec<&str> = headings.iter().chain(&LIMITS).map(|(_, heading)| *heading).collect();
    let mut table = Table::new(&headings);
    for quota in quotas.get("quotas").and_then(Value::as_array).into_iter().flatten() {
        let limits = LIMITS.iter().map(|(name, _)| cell(quota, name));
        table.row(std::iter::once(cell(quota, "name")).chain(limits));
    }
    output.table(&table);
    if table.is_empty() {
        output.note("Nothing is limited. Set a limit with `meuse quota set projects/PROJECT`.");
    }
}

fn show_prices(prices: &Value, output: &Output) {
    if output.json {
        output.value(prices);
        return;
    }
    let headings = [
        "MODEL",
        ">PROMPT/MILLION",
        ">CACHED/MILLION",
        ">OUTPUT/MILLION",
        ">PREDICTIONS/THOUSAND",
        ">TRAINING/MINUTE",
    ];
    let mut table = Table::new(&headings);
    for price in prices.get("prices").and_then(Value::as_array).into_iter().flatten() {
        let names =
            ["model", "promptMillion", "cachedMillion", "outputMillion", "rowsThousand", "trainingMinute"];
        table.row(names.map(|name| cell(price, name)));
    }
    output.table(&table);
    if table.is_empty() {
        output.note("Nothing costs anything. Set a price with `meuse quota price MODEL`.");
    }
}

fn cell(of: &Value, name: &str) -> String {
    match of.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => "-".to_owned(),
    }
}

/// Reads a limit: a whole number, or `none`.
fn count(text: &str) -> std::result::Result<Value, String> {
    match text {
        "none" => Ok(Value::Null),
        _ => match text.parse::<u64>() {
            Ok(number) if number > 0 => Ok(number.into()),
            _ => Err(format!("`{text}` is no limit; write a whole number from 1 on, or none")),
        },
    }
}

/// Reads a number of bytes, or `none`.
fn bytes(text: &str) -> std::result::Result<Value, String> {
    match text {
        "none" => Ok(Value::Null),
        _ => {
            let (number, unit) =
                text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
            let shift = match unit.trim_start() {
                "" => Some(0),
                "KiB" => Some(10),
                "MiB" => Some(20),
                "GiB" => Some(30),
                "TiB" => Some(40),
                _ => None,
            };
            let bytes = shift.and_then(|shift| number.parse::<u64>().ok()?.checked_mul(1 << shift));
            let wrong =
                || format!("`{text}` is no number of bytes; write it as 1000000, 500MiB, 20GiB, or none");
            bytes.map(Value::from).ok_or_else(wrong)
        }
    }
}

/// Reads an amount of money, or `none`.
fn money(text: &str) -> std::result::Result<Value, String> {
    match text {
        "none" => Ok(Value::Null),
        _ => text.parse::<control::Money>().map(|money| money.to_string().into()).map_err(|e| e.message),
    }
}

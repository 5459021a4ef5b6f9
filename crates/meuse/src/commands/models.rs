//! `meuse models`

use clap::Args;
use serde_json::{Value, json};

use crate::client::wire::{Endpoint, Model, last_segment};
use crate::client::{Client, ModelRef};
use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::show::{Output, Style, Table, ago};

/// List models, or the versions of one.
#[derive(Debug, Args)]
pub struct Models {
    /// Show this model's versions
    pub name: Option<ModelRef>,
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

impl Models {
    /// Prints the list.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn run(&self, output: &Output) -> Result<()> {
        let client = self.connection.client()?;
        let path = match &self.name {
            None => format!("/v1/{}/models", client.parent()),
            Some(name) => format!("/v1/{}:listVersions", client.model(name).await?.resource()),
        };
        let found =
            client.list(&path, "models", &[("orderBy", "create_time desc")]).await.map_err(Failure::from)?;
        if output.json {
            output.value(&json!({ "models": found }));
            return Ok(());
        }
        let models = found.into_iter().filter_map(|m| serde_json::from_value(m).ok()).collect::<Vec<Model>>();
        if models.is_empty() {
            output.note("No models yet. `meuse train` makes one, `meuse import` brings one, `meuse quickstart` shows how.");
            return Ok(());
        }
        let traffic = Deployments::read(&client).await?;
        output.table(&table(&models, &traffic));
        if self.name.is_none() {
            output.note(
                output.style(Style::Faint, "The default version of each; `meuse models NAME` lists all."),
            );
        }
        Ok(())
    }
}

fn table(models: &[Model], deployments: &Deployments) -> Table {
    let mut table = Table::new(&["MODEL", ">VERSION", "ALIASES", "SERVES AT", "CREATED", "DESCRIPTION"]);
    for model in models {
        let id = last_segment(model.resource());
        let name = if model.display_name == id || model.display_name.is_empty() {
            id.to_owned()
        } else {
            format!("{} ({id})", model.display_name)
        };
        table.row([
            name,
            model.version_id.clone(),
            model.version_aliases.join(", "),
            deployments.of(model),
            ago(model.created()),
            model.version_description.clone(),
        ]);
    }
    table
}

/// What is deployed where, read once.
struct Deployments(Vec<Endpoint>);

impl Deployments {
    async fn read(client: &Client) -> Result<Self> {
        let path = format!("/v1/{}/endpoints", client.parent());
        let found: Vec<Value> = client.list(&path, "endpoints", &[]).await.map_err(Failure::from)?;
        Ok(Deployments(found.into_iter().filter_map(|e| serde_json::from_value(e).ok()).collect()))
    }

    /// `endpoint 90 %` for each place where the version is deployed.
    fn of(&self, model: &Model) -> String {
        let places = self.0.iter().flat_map(|endpoint| {
            endpoint.deployed_models.iter().filter(|d| d.is(model)).map(|deployed| {
                let name = if endpoint.display_name.is_empty() {
                    last_segment(&endpoint.name)
                } else {
                    &endpoint.display_name
                };
                format!("{name} {} %", endpoint.traffic(&deployed.id))
            })
        });
        places.collect::<Vec<_>>().join(", ")
    }
}

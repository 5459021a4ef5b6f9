//! `meuse endpoints`

use clap::Args;
use serde_json::{Value, json};

use crate::client::wire::{Endpoint, last_segment, without_version};
use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::show::{Output, Table, ago};

/// List endpoints and who gets how much of the traffic.
#[derive(Debug, Args)]
pub struct Endpoints {
    /// Show only this endpoint
    pub name: Option<String>,
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

impl Endpoints {
    /// Prints the list.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn run(&self, output: &Output) -> Result<()> {
        let client = self.connection.client()?;
        let found: Vec<Value> = match &self.name {
            None => {
                let path = format!("/v1/{}/endpoints", client.parent());
                client.list(&path, "endpoints", &[]).await.map_err(Failure::from)?
            }
            Some(name) => {
                let endpoint = client.endpoint(name).await?;
                vec![client.get(&format!("/v1/{}", endpoint.name)).await.map_err(Failure::from)?]
            }
        };
        if output.json {
            output.value(&json!({ "endpoints": found }));
            return Ok(());
        }
        let endpoints = found.into_iter().filter_map(|e| serde_json::from_value(e).ok()).collect::<Vec<_>>();
        if endpoints.is_empty() {
            output.note("No endpoints yet. `meuse deploy NAME` makes one for a model.");
            return Ok(());
        }
        output.table(&table(&endpoints));
        Ok(())
    }
}

/// One line for each deployed model.
pub(crate) fn table(endpoints: &[Endpoint]) -> Table {
    let mut table = Table::new(&["ENDPOINT", "MODEL", ">VERSION", ">TRAFFIC", ">AT ONCE", "DEPLOYED", "ID"]);
    for endpoint in endpoints {
        let id = last_segment(&endpoint.name);
        let name = if endpoint.display_name == id || endpoint.display_name.is_empty() {
            id.to_owned()
        } else {
            format!("{} ({id})", endpoint.display_name)
        };
        if endpoint.deployed_models.is_empty() {
            table.row([name.as_str(), "nothing deployed"]);
        }
        for (i, deployed) in endpoint.deployed_models.iter().enumerate() {
            table.row([
                if i == 0 { name.clone() } else { String::new() },
                last_segment(without_version(&deployed.model)).to_owned(),
                deployed.version().to_owned(),
                format!("{} %", endpoint.traffic(&deployed.id)),
                deployed.concurrency().to_owned(),
                ago(&deployed.create_time),
                deployed.id.clone(),
            ]);
        }
    }
    table
}

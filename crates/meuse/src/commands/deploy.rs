//! `meuse deploy`

use std::collections::BTreeMap;

use clap::Args;
use control::CONCURRENCY_MAX;
use serde_json::{Value, json};

use crate::client::wire::{CONCURRENCY, DeployedModel, Endpoint, Model, last_segment};
use crate::client::{Client, ModelRef, id_from};
use crate::commands::endpoints;
use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::show::Output;

/// Put a version behind an endpoint, and wait until it serves.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --traffic the version takes all of it; what served before stays deployed with none,\n\
so that going back is one command. With --traffic 10 it takes 10 % and the others share the rest as before."
)]
pub struct Deploy {
    /// The model; the default version unless one is named (NAME@3, NAME@alias)
    pub model: ModelRef,
    /// Endpoint, made if it is not there [default: one with the model's name]
    #[arg(long, value_name = "NAME")]
    pub endpoint: Option<String>,
    /// Percent of the endpoint's traffic
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub traffic: Option<u32>,
    /// A small language model with the same tokens, registered too: it guesses what this one will say, which changes no
    /// answer and makes them come sooner where it is often right
    #[arg(long, value_name = "NAME")]
    pub draft: Option<ModelRef>,
    /// Answers of a language model, or batches of another, that are computed at once at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=CONCURRENCY_MAX as i64))]
    pub concurrency: Option<u32>,
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

impl Deploy {
    /// Deploys, or only shifts traffic if the version is there already.
    ///
    /// # Errors
    /// If there is no such version, it cannot be loaded, or the server refuses.
    pub async fn run(&self, output: &Output) -> Result<()> {
        let client = self.connection.client()?;
        let model = client.model(&self.model).await?;
        let name = self.endpoint.as_deref().unwrap_or(&self.model.name);
        let draft = match &self.draft {
            Some(draft) => Some(client.model(draft).await?),
            None => None,
        };
        let how = How { draft: draft.as_ref(), concurrency: self.concurrency, traffic: self.traffic };
        let endpoint = deploy(&client, &model, name, how).await?;
        if output.json {
            output.value(&client.get(&format!("/v1/{}", endpoint.name)).await.map_err(Failure::from)?);
            return Ok(());
        }
        output.table(&endpoints::table(std::slice::from_ref(&endpoint)));
        output.note(format!("Try it: {}", how_to_ask(&client, name).await));
        Ok(())
    }
}

/// The command that asks what answers to `name`.
async fn how_to_ask(client: &Client, name: &str) -> String {
    let model = client.language_model(name).await.unwrap_or_default();
    let call = |path: &str, body: Value| {
        let url = client.url();
        format!(
            "curl {url}/v1/{path} -H \"Authorization: Bearer $MEUSE_API_KEY\" -H 'Content-Type: application/json' \\\n  \
             -d '{body}'"
        )
    };
    match model.pointer("/capabilities/0").and_then(Value::as_str) {
        Some("embedding") => call("embeddings", json!({"model": name, "input": "some text"})),
        Some("rerank") => call(
            "rerank",
            json!({"model": name, "query": "a question", "documents": ["some text", "another"]}),
        ),
        Some(_) => format!("meuse chat {name} 'some text'"),
        None => format!("meuse predict {name} 'some text'"),
    }
}

/// How a version is deployed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct How<'a> {
    /// What guesses what it will say.
    pub draft: Option<&'a Model>,
    /// How much of it is computed at once at most.
    pub concurrency: Option<u32>,
    /// Percent of the endpoint's traffic, 100 unless said.
    pub traffic: Option<u32>,
}

impl How<'_> {
    /// What `there`, which is deployed already, is not and would have to be.
    fn missing(&self, there: &DeployedModel) -> Option<&'static str> {
        let concurrency = self.concurrency.map(|most| most.to_string());
        if self.draft.is_some_and(|draft| there.draft() != draft.versioned()) {
            Some("without this draft model")
        } else if concurrency.is_some_and(|most| there.concurrency() != most) {
            Some("with another --concurrency")
        } else {
            None
        }
    }

    /// The deployed model as the server takes it.
    fn describe(&self, model: &Model) -> Value {
        let mut deployed = json!({"model": model.versioned(), "dedicatedResources": {"minReplicaCount": 1}});
        if let Some(draft) = self.draft {
            let draft = json!({"draftModel": draft.versioned()});
            deployed["speculativeDecodingSpec"] = json!({"draftModelSpeculation": draft});
        }
        if let Some(most) = self.concurrency {
            deployed["systemLabels"] = json!({CONCURRENCY: most.to_string()});
        }
        deployed
    }
}

/// Puts `model` behind the endpoint called `name`.
///
/// # Errors
/// If the server refuses.
pub(crate) async fn deploy(client: &Client, model: &Model, name: &str, how: How<'_>) -> Result<Endpoint> {
    let endpoint = match client.find_endpoint(name).await? {
        Some(endpoint) => endpoint,
        None => create(client, name).await?,
    };
    let path = format!("/v1/{}", endpoint.name);
    let percent = how.traffic.unwrap_or(100);
    match endpoint.deployed_models.iter().find(|d| d.is(model)) {
        Some(there) => {
            if let Some(missing) = how.missing(there) {
                let failure = Failure::new(format!("{name} serves this version already, {missing}"));
                return Err(failure.next(format!(
                    "take it off first: `meuse undeploy {}@{} --endpoint {name}`",
                    last_segment(model.resource()),
                    model.version_id
                )));
            }
            let split = shift(&endpoint, &there.id, percent)?;
            let body = json!({"name": endpoint.name, "trafficSplit": split});
            client.patch::<Value>(&path, "trafficSplit", &body).await?;
        }
        None => {
            let split =
                shift(&endpoint, "0", if endpoint.deployed_models.is_empty() { 100 } else { percent })?;
            let body = json!({"deployedModel": how.describe(model), "trafficSplit": split});
            client.operate(&format!("{path}:deployModel"), &body).await?;
        }
    }
    Ok(client.get(&path).await?)
}

async fn create(client: &Client, name: &str) -> Result<Endpoint> {
    let body = json!({"displayName": name});
    let query = id_from(name).map(|id| format!("?endpointId={id}")).unwrap_or_default();
    let path = format!("/v1/{}/endpoints{query}", client.parent());
    let made = client.operate(&path, &body).await?;
    serde_json::from_value(made)
        .map_err(|e| Failure::new(format!("the server described the new endpoint in an unknown way: {e}")))
}

/// The split in which `id` has `percent` and the others share the rest as they did.
fn shift(endpoint: &Endpoint, id: &str, percent: u32) -> Result<BTreeMap<String, u32>> {
    let others: Vec<(&str, u32)> = endpoint
        .deployed_models
        .iter()
        .filter(|d| d.id != id)
        .map(|d| (d.id.as_str(), endpoint.traffic(&d.id)))
        .collect();
    let mut split = BTreeMap::from([(id.to_owned(), percent)]);
    let rest = 100 - percent.min(100);
    let sum: u32 = others.iter().map(|(_, share)| share).sum();
    if rest > 0 && others.is_empty() {
        return Err(Failure::usage(format!("nothing else is deployed that could take the other {rest} %"))
            .next("leave --traffic out: a version that is alone takes everything"));
    }
    // Where the others have nothing, the one deployed last takes the rest.
    let mut left = rest;
    for (other, share) in &others {
        let part = (rest * share).checked_div(sum).unwrap_or(0);
        split.insert((*other).to_owned(), part);
        left -= part;
    }
    let largest = others.iter().max_by_key(|(_, share)| *share).map(|(other, _)| *other);
    if let Some(part) = largest.and_then(|other| split.get_mut(other)) {
        *part += left;
    }
    Ok(split)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn endpoint(shares: &[(&str, u32)]) -> Endpoint {
        Endpoint {
            deployed_models: shares
                .iter()
                .map(|(id, _)| DeployedModel { id: (*id).to_owned(), ..DeployedModel::default() })
                .collect(),
            traffic_split: shares.iter().map(|(id, share)| ((*id).to_owned(), *share)).collect(),
            ..Endpoint::default()
        }
    }

    #[test]
    fn the_split_always_sums_to_100() {
        let cases: [(&[(&str, u32)], u32); 6] = [
            (&[], 100),
            (&[("1", 100)], 10),
            (&[("1", 33), ("2", 33), ("3", 34)], 10),
            (&[("1", 0), ("2", 0)], 50),
            (&[("1", 100)], 0),
            (&[("1", 1), ("2", 99)], 100),
        ];
        for (shares, percent) in cases {
            let split = shift(&endpoint(shares), "0", percent).unwrap();
            assert_eq!(split.values().sum::<u32>(), 100, "{shares:?} {percent}");
            assert_eq!(split["0"], percent);
        }
    }

    #[test]
    fn a_lone_version_cannot_take_a_part() {
        assert!(shift(&endpoint(&[]), "0", 10).is_err());
    }
}

//! Quotas and prices: `/admin/v1/quotas`, `/admin/v1/prices`.

use control::{ALL_PROJECTS, Money, Price, Quota, QuotaLimits, QuotaScope};
use http::StatusCode;
use serde_json::{Value, json};

use super::own_project;
use crate::fields::{Fields, asked, invalid};
use crate::http::{Call, Response, Route, json_reply};
use crate::{Code, Fault};

/// All quotas that the key's holder may see.
pub(super) async fn list(call: Call) -> Result<Response, Fault> {
    let quotas = call.app.control.quotas().list().await?;
    let seen = quotas.iter().filter(|quota| may_see(&call, &quota.scope));
    let quotas: Vec<Value> = seen.map(in_json).collect();
    json_reply(StatusCode::OK, &json!({"quotas": quotas}))
}

/// One quota; without limits where none is set.
pub(super) async fn get(call: Call) -> Result<Response, Fault> {
    let scope = scope(&call)?;
    json_reply(StatusCode::OK, &in_json(&call.app.control.quotas().get(scope).await?))
}

/// Sets a quota, all of it: what is left out has no limit.
pub(super) async fn set(mut call: Call) -> Result<Response, Fault> {
    let scope = scope(&call)?;
    // A project's own quota is not its own admin's to raise.
    if matches!(scope, QuotaScope::Project(_)) && own_project(&call) != ALL_PROJECTS {
        let message = "a project's quota is set with an admin key for all projects";
        return Err(Fault::new(Code::PermissionDenied, message));
    }
    let limits = read_limits(&call.take_body().read().await?)?;
    json_reply(StatusCode::OK, &in_json(&call.app.control.quotas().set(scope, limits).await?))
}

fn read_limits(bytes: &[u8]) -> Result<QuotaLimits, Fault> {
    let mut fields = Fields::of_body(bytes)?;
    let limits = QuotaLimits {
        requests_per_minute: count(&mut fields, "requestsPerMinute")?,
        tokens_per_minute: count(&mut fields, "tokensPerMinute")?,
        concurrent_requests: count(&mut fields, "concurrentRequests")?,
        monthly_budget: money(&mut fields, "monthlyBudget")?,
        stored_bytes: count(&mut fields, "storedBytes")?,
        training_minutes: count(&mut fields, "trainingMinutes")?,
    };
    fields.finish()?;
    Ok(limits)
}

/// `route`, known for the limits that it sets.
pub(super) fn described(route: Route) -> Route {
    let example = json!({"requestsPerMinute": 60, "monthlyBudget": "12.5"});
    route.takes_body(asked(|bytes| read_limits(bytes).map(drop), &[json!({}), example]))
}

/// `route`, known for the price that it sets.
pub(super) fn described_price(route: Route) -> Route {
    let example = json!({"promptMillion": "0.05", "rowsThousand": 1, "trainingMinute": "0.01"});
    route.takes_body(asked(|bytes| read_price(bytes).map(drop), &[json!({}), example]))
}

/// All prices.
pub(super) async fn prices(call: Call) -> Result<Response, Fault> {
    let prices = call.app.control.quotas().prices().await?;
    let prices: Vec<Value> = prices.iter().map(|(model, price)| price_in_json(model, price)).collect();
    json_reply(StatusCode::OK, &json!({"prices": prices}))
}

/// Sets a model's price, all of it: what is left out is free.
pub(super) async fn set_price(mut call: Call) -> Result<Response, Fault> {
    let model = priced(&call)?;
    let price = read_price(&call.take_body().read().await?)?;
    call.app.control.quotas().set_price(&model, Some(price)).await?;
    json_reply(StatusCode::OK, &price_in_json(&model, &price))
}

fn read_price(bytes: &[u8]) -> Result<Price, Fault> {
    let mut fields = Fields::of_body(bytes)?;
    let price = Price {
        prompt_million: money(&mut fields, "promptMillion")?.unwrap_or_default(),
        cached_million: money(&mut fields, "cachedMillion")?,
        output_million: money(&mut fields, "outputMillion")?.unwrap_or_default(),
        rows_thousand: money(&mut fields, "rowsThousand")?.unwrap_or_default(),
        training_minute: money(&mut fields, "trainingMinute")?.unwrap_or_default(),
    };
    fields.finish()?;
    Ok(price)
}

/// Takes a model's own price away.
pub(super) async fn delete_price(call: Call) -> Result<Response, Fault> {
    let model = priced(&call)?;
    call.app.control.quotas().set_price(&model, None).await?;
    json_reply(StatusCode::OK, &json!({}))
}

/// The model whose price the path means.
fn priced(call: &Call) -> Result<String, Fault> {
    Ok(call.segments()?.into_iter().nth(3).unwrap_or_default())
}

/// Whose quota the path means, if the caller may know of them; another project's key does not exist.
fn scope(call: &Call) -> Result<QuotaScope, Fault> {
    let segments = call.segments()?;
    let scope = segments.get(3..).unwrap_or_default().join("/").parse::<QuotaScope>()?;
    call.allow_name(&scope.to_string())?;
    if !may_see(call, &scope) {
        return Err(Fault::not_found(format!("{scope} does not exist")));
    }
    Ok(scope)
}

/// Whether the caller may know of what `scope` binds.
fn may_see(call: &Call, scope: &QuotaScope) -> bool {
    let own = own_project(call);
    match scope {
        _ if own == ALL_PROJECTS => true,
        QuotaScope::Project(project) => project == own,
        QuotaScope::Key(key) => call.app.control.keys().list(Some(own)).iter().any(|info| info.id == *key),
    }
}

fn count(fields: &mut Fields, name: &str) -> Result<Option<u64>, Fault> {
    let wrong = || invalid(name, "must be a whole number, or null for no limit");
    match fields.take(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().ok_or_else(wrong).map(Some),
    }
}

/// Money, as a text or a number.
fn money(fields: &mut Fields, name: &str) -> Result<Option<Money>, Fault> {
    let read = |text: &str| text.parse::<Money>().map_err(|error| invalid(name, error.message));
    match fields.take(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => read(&text).map(Some),
        Some(Value::Number(number)) => read(&number.to_string()).map(Some),
        Some(_) => Err(invalid(name, "must be an amount of money, such as \"0.15\"")),
    }
}

fn in_json(quota: &Quota) -> Value {
    let QuotaLimits {
        requests_per_minute,
        tokens_per_minute,
        concurrent_requests,
        monthly_budget,
        stored_bytes,
        training_minutes,
    } = quota.limits;
    json!({
        "name": quota.scope.to_string(),
        "requestsPerMinute": requests_per_minute,
        "tokensPerMinute": tokens_per_minute,
        "concurrentRequests": concurrent_requests,
        "monthlyBudget": monthly_budget.map(|budget| budget.to_string()),
        "storedBytes": stored_bytes,
        "trainingMinutes": training_minutes,
        "spentThisMonth": quota.spent.to_string(),
        "trainedSecondsThisMonth": quota.trained_seconds,
        "keptBytes": quota.kept_bytes,
    })
}

fn price_in_json(model: &str, price: &Price) -> Value {
    json!({
        "model": model,
        "promptMillion": price.prompt_million.to_string(),
        "cachedMillion": price.cached_million.map(|price| price.to_string()),
        "outputMillion": price.output_million.to_string(),
        "rowsThousand": price.rows_thousand.to_string(),
        "trainingMinute": price.training_minute.to_string(),
    })
}

//! The only crate that knows HTTP and wire JSON: one folder a protocol, none importing another.
//!
//! [`http`] is the server: connections, limits, routes, keys. [`vertex`], [`openai`], [`anthropic`], [`ollama`], [`kserve`], [`tfserving`], [`mlflow`],
//! [`storage`], [`cloud`] and [`admin`] are protocols: they turn wire requests into calls of `control` and `serving` and turn the answers back.
//! What protocols share lies beside them: [`language`] between requests and language models, [`embedding`] between these
//! and encoders, [`models`] to list both, [`openapi`] to describe every route, [`rows`] for predictions in rows and columns, [`metering`] for what they take, [`fields`] to read JSON, [`shape`] to say what is read, [`stream`] to write it piece by piece.

pub mod admin;
pub mod anthropic;
pub mod cloud;
mod embedding;
mod fault;
mod fields;
mod health;
pub mod http;
mod ids;
pub mod kserve;
mod language;
mod metering;
pub mod mlflow;
mod models;
pub mod ollama;
pub mod openai;
mod openapi;
mod rows;
mod shape;
pub mod storage;
mod stream;
mod tenant;
pub mod tfserving;
pub mod vertex;

pub use crate::http::{App, Limits, Tls, TlsError, serve};
pub use fault::{Code, Fault};

/// Every route of the server.
///
/// # Errors
/// If the embedded API description cannot be read: a defect.
pub(crate) fn routes() -> Result<http::Routes, vertex::SchemaError> {
    let mut routes = http::Routes::default();
    for route in
        health::routes().into_iter().chain(admin::routes()).chain(cloud::routes()).chain(storage::routes())
    {
        routes.add(route);
    }
    let predicting = kserve::routes().into_iter().chain(tfserving::routes()).chain(mlflow::routes());
    predicting.for_each(|route| routes.add(route));
    let speaking = openai::routes().into_iter().chain(anthropic::routes()).chain(ollama::routes());
    for route in speaking.chain(models::routes()) {
        routes.add(route);
    }
    let dialects = language::Dialects { chat: openai::chat_passed, messages: anthropic::message_passed };
    for route in vertex::routes(dialects)? {
        routes.add(route);
    }
    openapi::describe(&mut routes);
    Ok(routes)
}

/// Has batches of requests answered, from now on.
pub(crate) fn answer_batches(control: &control::Control, within: &http::Within) {
    control.answer_with(openai::PROTOCOL.name, openai::answerer(within.clone()));
    control.answer_with(vertex::PROTOCOL.name, vertex::answerer(within.clone()));
}

#[cfg(test)]
mod tests;

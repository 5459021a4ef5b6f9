//! Language models: the part of the OpenAI protocol that commands need.

use reqwest::{Method, Response};
use serde_json::Value;

use super::{Client, ClientError};
use crate::failure::{Failure, Result};

/// An answer on its way. Dropping it stops it on the server as well.
#[derive(Debug)]
pub struct Speech {
    client: Client,
    response: Response,
    /// What came and is no whole line yet.
    held: Vec<u8>,
    finish_reason: Option<String>,
    usage: Value,
}

/// What comes of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spoken {
    /// More text.
    Text(String),
    /// Nothing more.
    End,
}

impl Client {
    /// The language model that answers to `name`, as the server describes it.
    ///
    /// # Errors
    /// If there is none.
    pub async fn language_model(&self, name: &str) -> std::result::Result<Value, ClientError> {
        let path = format!("/v1/models/{}", name.replace('%', "%25").replace('/', "%2F"));
        self.json(self.spoken(Method::GET, &path)).await
    }

    /// Asks for an answer, streamed: `body` is a chat completion.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn speak(&self, body: &Value) -> Result<Speech> {
        let request = self.spoken(Method::POST, "/v1/chat/completions").json(body);
        let response = self.accepted(request).await?;
        let (held, usage) = (Vec::new(), Value::Null);
        Ok(Speech { client: self.clone(), response, held, finish_reason: None, usage })
    }

    fn spoken(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.request(method, path, &[]).header("openai-project", self.project())
    }
}

impl Speech {
    /// Waits for what comes next.
    ///
    /// # Errors
    /// If the connection breaks, or the model fails.
    pub async fn next(&mut self) -> Result<Spoken> {
        loop {
            while let Some(end) = self.held.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.held.drain(..=end).collect();
                match self.line(&line)? {
                    Some(Spoken::Text(text)) if text.is_empty() => {}
                    Some(spoken) => return Ok(spoken),
                    None => {}
                }
            }
            let chunk = self.response.chunk().await;
            match chunk.map_err(|error| ClientError::unreachable(self.client.url(), &error))? {
                Some(bytes) => self.held.extend_from_slice(&bytes),
                None => {
                    return Err(Failure::new("the answer was cut off").next("the server's log may tell why"));
                }
            }
        }
    }

    /// One line of the stream.
    fn line(&mut self, line: &[u8]) -> Result<Option<Spoken>> {
        let Some(data) = line.strip_prefix(b"data: ") else { return Ok(None) };
        let data = data.trim_ascii();
        if data == b"[DONE]" {
            return Ok(Some(Spoken::End));
        }
        let chunk: Value = serde_json::from_slice(data)
            .map_err(|error| ClientError::not_understood(self.client.url(), &error))?;
        if let Some(message) = chunk.pointer("/error/message").and_then(Value::as_str) {
            return Err(Failure::new(message));
        }
        if let Some(usage) = chunk.get("usage").filter(|usage| !usage.is_null()) {
            self.usage = usage.clone();
        }
        let reason = chunk.pointer("/choices/0/finish_reason").and_then(Value::as_str);
        if let Some(reason) = reason {
            self.finish_reason = Some(reason.to_owned());
        }
        let text = chunk.pointer("/choices/0/delta/content").and_then(Value::as_str);
        Ok(text.map(|text| Spoken::Text(text.to_owned())))
    }

    /// Why the answer ended, once it has.
    pub fn finish_reason(&self) -> Option<&str> {
        self.finish_reason.as_deref()
    }

    /// The tokens that it took, once it has ended; null before.
    pub fn usage(&self) -> &Value {
        &self.usage
    }
}

//! Language models: the part of the OpenAI protocol that commands need.

use reqwest::{Method, Response};
use serde_json::Value;

use super::{Client, ClientError};

/// A longer line is no event of an answer.
const LINE_BYTES_MAX: usize = 4 << 20;

/// The project of a key for all projects that names none.
const USUAL_PROJECT: &str = "default";

type Result<T> = std::result::Result<T, ClientError>;

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
    /// More of what the model thinks before it answers.
    Thought(String),
    /// Nothing more.
    End,
}

impl Client {
    /// The language model that answers to `name`, as the server describes it.
    ///
    /// # Errors
    /// If there is none, or what answers to the name predicts.
    pub async fn language_model(&self, name: &str) -> Result<Value> {
        let path = format!("/v1/models/{}", name.replace('%', "%25").replace('/', "%2F"));
        let model: Value = self.json(self.spoken(Method::GET, &path)).await?;
        // Other protocols describe models that predict at the same address.
        if model.get("model_version_status").is_some() {
            let message = format!("`{name}` is not a language model: ask it with `meuse predict`");
            return Err(ClientError::Failed { message });
        }
        Ok(model)
    }

    /// The names of the language models there.
    ///
    /// # Errors
    /// If the server does not say.
    pub async fn language_models(&self) -> Result<Vec<String>> {
        let mut list: Value = self.json(self.spoken(Method::GET, "/v1/models")).await?;
        let models = match list.get_mut("data").map(Value::take) {
            Some(Value::Array(models)) => models,
            _ => return Err(self.unclear("the list of models has no `data`")),
        };
        Ok(models.iter().filter_map(|m| m.get("id").and_then(Value::as_str)).map(str::to_owned).collect())
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
        let request = self.request(method, path, &[]);
        // Elsewhere than here, a project by this name is hardly known.
        if self.project() == USUAL_PROJECT {
            request
        } else {
            request.header("openai-project", self.project())
        }
    }

    fn unclear(&self, cause: &str) -> ClientError {
        ClientError::NotUnderstood { url: self.url().to_owned(), cause: cause.to_owned() }
    }
}

impl Speech {
    /// Waits for what comes next. Empty texts are passed over.
    ///
    /// # Errors
    /// If the connection breaks, or the model fails.
    pub async fn next(&mut self) -> Result<Spoken> {
        loop {
            while let Some(end) = self.held.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.held.drain(..=end).collect();
                if let Some(spoken) = self.line(&line)? {
                    return Ok(spoken);
                }
            }
            if self.held.len() > LINE_BYTES_MAX {
                return Err(self.client.unclear("a line of the answer does not end"));
            }
            match self.response.chunk().await {
                Ok(Some(bytes)) => self.held.extend_from_slice(&bytes),
                // Some servers leave the last line out.
                Ok(None) if self.finish_reason.is_some() => return Ok(Spoken::End),
                Ok(None) | Err(_) => return Err(ClientError::CutOff { url: self.client.url().to_owned() }),
            }
        }
    }

    /// One line of the stream.
    fn line(&mut self, line: &[u8]) -> Result<Option<Spoken>> {
        let Some(data) = line.strip_prefix(b"data:") else { return Ok(None) };
        let data = data.trim_ascii();
        if data == b"[DONE]" {
            return Ok(Some(Spoken::End));
        }
        let chunk: Value = serde_json::from_slice(data)
            .map_err(|error| ClientError::not_understood(self.client.url(), &error))?;
        if let Some(message) = chunk.pointer("/error/message").and_then(Value::as_str) {
            return Err(ClientError::Failed { message: message.to_owned() });
        }
        if let Some(usage) = chunk.get("usage").filter(|usage| !usage.is_null()) {
            self.usage = usage.clone();
        }
        let reason = chunk.pointer("/choices/0/finish_reason").and_then(Value::as_str);
        if let Some(reason) = reason {
            self.finish_reason = Some(reason.to_owned());
        }
        let Some(delta) = chunk.pointer("/choices/0/delta") else { return Ok(None) };
        let told = |name| delta.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let text = told("content").map(|text| Spoken::Text(text.to_owned()));
        let thought = || told("reasoning_content").or_else(|| told("reasoning"));
        Ok(text.or_else(|| thought().map(|text| Spoken::Thought(text.to_owned()))))
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

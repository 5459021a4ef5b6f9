//! Explanations of language models' answers on the wire, for every protocol that carries them.

use std::sync::Arc;
use std::time::Instant;

use control::Amount;
use llm::template::Message;
use serde::Deserialize;
use serde_json::{Value, json};
use serving::{LanguageExplain, LanguageExplanation, LanguageMethod, LanguageRoute, Said, SpanKind};

use crate::http::App;
use crate::{Fault, metering};

/// Tokens of the model's own answer where nothing else is asked for.
const ANSWER_TOKENS: usize = 32;

/// How an answer is to be explained.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct How {
    spans: Spans,
    method: Option<MethodWire>,
    paths: Option<u32>,
    #[serde(alias = "maxTokens")]
    max_tokens: Option<usize>,
    #[serde(alias = "deletionTest")]
    deletion_test: Option<bool>,
    seed: u64,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Spans {
    Token,
    #[default]
    Word,
    Sentence,
    Message,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum MethodWire {
    LeaveOneOut,
    Shapley,
    Hidden,
}

impl How {
    /// Reads the object that stands in field `of`.
    pub(crate) fn read(object: Value, of: &str) -> Result<How, Fault> {
        let how: How = serde_path_to_error::deserialize(object).map_err(|error| {
            let at = match error.path().to_string().as_str() {
                "." => of.to_owned(),
                inner => format!("{of}.{inner}"),
            };
            Fault::invalid(format!("field `{at}`: {}", error.inner())).about(of)
        })?;
        if how.paths.is_some() && how.method != Some(MethodWire::Shapley) {
            return Err(Fault::invalid(format!("field `{of}.paths` needs the method \"shapley\"")).about(of));
        }
        Ok(how)
    }

    /// The same with sampled Shapley values over `paths` orders, where no method was named.
    pub(crate) fn or_shapley(mut self, paths: u32) -> How {
        if self.method.is_none() {
            self.method = Some(MethodWire::Shapley);
            self.paths = Some(paths);
        }
        self
    }

    /// What is to be explained: `answer` after what was `said`, or the model's own.
    pub(crate) fn of(&self, said: Said, answer: Option<String>) -> LanguageExplain {
        let method = self.method.unwrap_or(MethodWire::LeaveOneOut);
        LanguageExplain {
            said,
            answer,
            max_tokens: self.max_tokens.unwrap_or(ANSWER_TOKENS),
            spans: match self.spans {
                Spans::Token => SpanKind::Token,
                Spans::Word => SpanKind::Word,
                Spans::Sentence => SpanKind::Sentence,
                Spans::Message => SpanKind::Message,
            },
            method: match method {
                MethodWire::LeaveOneOut => LanguageMethod::LeaveOneOut,
                MethodWire::Shapley => LanguageMethod::Shapley { paths: self.paths.unwrap_or(10) },
                MethodWire::Hidden => LanguageMethod::Hidden,
            },
            // The fast method never computes the prompt again, unless that is asked for.
            deletion: self.deletion_test.unwrap_or(method != MethodWire::Hidden),
            seed: self.seed,
        }
    }
}

/// An explanation to be made once the answer is there.
pub(crate) struct Explaining {
    app: Arc<App>,
    project: String,
    said: Vec<Message>,
    how: How,
}

impl Explaining {
    /// Of an answer to what was `said`, for a caller of `project`.
    pub(crate) fn new(app: &Arc<App>, project: &str, said: &[Message], how: How) -> Explaining {
        Explaining { app: Arc::clone(app), project: project.to_owned(), said: said.to_vec(), how }
    }

    /// Why `answer` was given: [`summary`] with the parts. Null where nothing was said that had reasons.
    ///
    /// # Errors
    /// If there is no room or no time for it, or the conversation is beyond the limits of an explanation.
    pub(crate) async fn of(&self, route: &LanguageRoute, answer: &str) -> Result<Value, Fault> {
        if answer.is_empty() {
            return Ok(Value::Null);
        }
        let explain = self.how.of(Said::Chat(self.said.clone()), Some(answer.to_owned()));
        let deadline = Instant::now() + self.app.limits.explain_timeout;
        let found = self.app.router.explain_answer(route, &self.project, explain.clone(), deadline).await?;
        metering::explained(&self.app, &route.deployed, used(&found));
        let mut value = summary(&explain, &found);
        value["spans"] = found
            .spans
            .iter()
            .map(|span| {
                json!({
                    "message": span.message,
                    "text": span_text(&explain.said, span.message, span.bytes.clone()),
                    "value": span.value,
                    "standard_error": span.standard_error,
                })
            })
            .collect();
        Ok(value)
    }
}

/// What an explanation took: the prompts that were read for it.
pub(crate) fn used(found: &LanguageExplanation) -> Amount {
    Amount {
        prompt_tokens: found.prompt_tokens as u64,
        cached_tokens: found.cached_tokens as u64,
        rows: 1,
        ..Amount::default()
    }
}

/// What an explanation says beside its parts.
pub(crate) fn summary(explain: &LanguageExplain, found: &LanguageExplanation) -> Value {
    let method = match explain.method {
        LanguageMethod::LeaveOneOut => "leave_one_out",
        LanguageMethod::Shapley { .. } => "shapley",
        LanguageMethod::Hidden => "hidden",
    };
    let deletion = found.deletion.map(
        |test| json!({"spans_removed": test.removed, "loss": test.loss, "random_loss": test.random_loss}),
    );
    json!({
        "answer": found.answer,
        "method": method,
        "log_probability": found.logprob,
        "baseline_log_probability": found.baseline_logprob,
        "approximation_error": found.approximation_error,
        "deletion_test": deletion,
        "usage": {"prompt_tokens": found.prompt_tokens, "cached_tokens": found.cached_tokens},
    })
}

/// The text of a part of what was said.
pub(crate) fn span_text(said: &Said, message: usize, bytes: std::ops::Range<usize>) -> &str {
    let content = match said {
        Said::Text(text) => Some(text.as_str()),
        Said::Chat(messages) => messages.get(message).and_then(|message| message.content.as_deref()),
    };
    content.and_then(|content| content.get(bytes)).unwrap_or_default()
}

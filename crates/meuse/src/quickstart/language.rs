//! The language model of the quickstart: pulled, deployed, asked, and its answer explained.

use std::io::Write;
use std::time::Instant;

use serde_json::{Value, json};

use super::tour::Tour;
use crate::client::Spoken;
use crate::client::wire::Model;
use crate::commands::explain::{self, Method};
use crate::commands::{deploy, pull};
use crate::failure::Result;

/// The model, by its name in the catalogue.
pub(super) const NAME: &str = "smollm2-135m";
/// What it is asked.
const QUESTION: &str = "Anna has a red bicycle and Tom has a blue one. What colour is Anna's bicycle?";
/// Tokens of its answer at most.
const ANSWER_TOKENS: u32 = 48;
/// Where a step's further lines begin.
const INDENT: &str = "\n            ";

impl Tour<'_> {
    /// Pulls the model, has it answer, and explains the answer. Where nobody gives the model, says so: all else
    /// works without a network.
    pub(super) async fn language(&mut self) -> Result<Value> {
        self.say("pull", &format!("{NAME}, a small language model"));
        let begun = Instant::now();
        let order = pull::Order { what: NAME, name: None, sha256: None };
        let model = match order.pull(self.client, self.output).await {
            Ok(model) => model,
            Err(failure) => {
                self.add("It could not be had, so the language model is left out:");
                self.add(failure.what());
                self.add(&format!("Later: meuse pull {NAME} --deploy"));
                return Ok(json!({"leftOut": failure.what()}));
            }
        };
        let from = model.artifact_uri.split('/').next().unwrap_or_default();
        self.add(&format!(
            "registered version {} from {from} after {:.1} s",
            model.version_id,
            begun.elapsed().as_secs_f64()
        ));
        self.ask(&model).await
    }

    async fn ask(&mut self, model: &Model) -> Result<Value> {
        let endpoint = deploy::deploy(self.client, model, NAME, deploy::How::default()).await?;
        self.say("chat", &format!("“{QUESTION}”"));
        let answer = self.answer().await?;
        self.say("explain", "which words of the question that rests on (each left out in turn)");
        let instance = json!({"messages": [{"role": "user", "content": QUESTION}], "answer": answer});
        let method = Method::LeaveOneOut;
        let explained = explain::explain(self.client, &endpoint, &instance, method, None).await?;
        let lines = explained.lines(self.output, &instance);
        lines.iter().flat_map(|line| line.split('\n')).for_each(|line| self.add(line));
        Ok(json!({
            "model": model.versioned(),
            "question": QUESTION,
            "answer": answer,
            "explanation": explained.reply.get("explanations"),
        }))
    }

    /// Shows the answer as it comes; all of it.
    async fn answer(&self) -> Result<String> {
        let body = json!({
            "model": NAME,
            "messages": [{"role": "user", "content": QUESTION}],
            "max_completion_tokens": ANSWER_TOKENS,
            "temperature": 0,
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        let mut speech = self.client.speak(&body).await?;
        let mut answer = String::new();
        self.write(&INDENT[1..]);
        while let Spoken::Text(text) = speech.next().await? {
            self.write(&text.replace('\n', INDENT));
            answer.push_str(&text);
        }
        self.write("\n");
        Ok(answer)
    }

    /// Writes a part of a line, at once.
    fn write(&self, text: &str) {
        if !self.output.json {
            let mut stdout = std::io::stdout().lock();
            // Whoever closed the pipe does not want the rest.
            let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        }
    }
}

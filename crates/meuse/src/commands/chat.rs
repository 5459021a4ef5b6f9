//! `meuse chat`

use std::io::{BufRead, IsTerminal, Write};

use clap::Args;
use serde_json::{Map, Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::client::{Client, Spoken};
use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::show::{Output, Style};

/// Talk to a language model.
#[derive(Debug, Args)]
#[command(
    after_help = "Without text it talks on until the input ends (Ctrl-D), and remembers what was said. Ctrl-C stops\n\
an answer. With text it answers that and ends. Standard input that is no terminal is read one turn a line."
)]
pub struct Chat {
    /// Model or endpoint
    pub name: String,
    /// What to say; words are joined with spaces
    pub text: Vec<String>,
    /// What the model is told before anything else
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// How freely it chooses its words, 0 to 2; 0 gives the same answer each time
    #[arg(long, value_name = "NUMBER")]
    pub temperature: Option<f64>,
    /// Tokens of an answer at most
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: Option<u32>,
    /// Makes an answer repeatable
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<i64>,
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

/// How an answer came to its end.
enum Ended {
    /// By itself.
    Whole,
    /// By Ctrl-C.
    Stopped,
}

impl Chat {
    /// Talks.
    ///
    /// # Errors
    /// If there is no such model, or the server refuses the first turn.
    pub async fn run(&self, output: &Output) -> Result<()> {
        let client = self.connection.client()?;
        let mut messages = Vec::new();
        if let Some(system) = &self.system {
            messages.push(json!({"role": "system", "content": system}));
        }
        if !self.text.is_empty() {
            messages.push(json!({"role": "user", "content": self.text.join(" ")}));
            self.turn(&client, &mut messages, &mut interrupts()?, output).await?;
            return Ok(());
        }
        // Asked now rather than after the first turn has been typed.
        client.language_model(&self.name).await?;
        self.converse(&client, messages, output).await
    }

    async fn converse(&self, client: &Client, mut messages: Vec<Value>, output: &Output) -> Result<()> {
        let by_hand = std::io::stdin().is_terminal();
        if by_hand {
            output.note(format!("Talking to {}. Ctrl-C stops an answer, Ctrl-D ends.", self.name));
        }
        let mut lines = lines();
        let mut interrupt = interrupts()?;
        loop {
            if by_hand && !output.json {
                say("> ");
            }
            let line = tokio::select! {
                line = lines.recv() => line,
                _ = interrupt.recv() => {
                    output.note("\nCtrl-D ends.");
                    continue;
                }
            };
            let Some(line) = line else { return Ok(()) };
            if line.trim().is_empty() {
                continue;
            }
            messages.push(json!({"role": "user", "content": line}));
            match self.turn(client, &mut messages, &mut interrupt, output).await {
                Ok(Ended::Whole) => {}
                Ok(Ended::Stopped) => output.note(output.style(Style::Faint, "(stopped)")),
                Err(failure) if by_hand => {
                    // Said and not answered: it is not part of the conversation.
                    messages.pop();
                    output.failure(&failure);
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Has the last message answered and adds the answer to `messages`.
    async fn turn(
        &self,
        client: &Client,
        messages: &mut Vec<Value>,
        interrupt: &mut Signal,
        output: &Output,
    ) -> Result<Ended> {
        let body = self.body(messages);
        let mut answer = tokio::select! {
            answer = client.speak(&body) => answer?,
            _ = interrupt.recv() => {
                messages.push(json!({"role": "assistant", "content": ""}));
                return Ok(Ended::Stopped);
            }
        };
        let (mut text, mut ended) = (String::new(), Ended::Whole);
        loop {
            let spoken = tokio::select! {
                spoken = answer.next() => spoken?,
                // Letting go of the answer stops it on the server as well.
                _ = interrupt.recv() => {
                    ended = Ended::Stopped;
                    break;
                }
            };
            match spoken {
                Spoken::Text(more) => {
                    if !output.json {
                        say(&more);
                    }
                    text.push_str(&more);
                }
                Spoken::Thought(_) => {}
                Spoken::End => break,
            }
        }
        if output.json {
            let finish = answer.finish_reason().unwrap_or("stopped");
            let line = json!({"content": text, "finish_reason": finish, "usage": answer.usage(), "model": self.name});
            output.line(line.to_string());
        } else {
            say("\n");
            if answer.finish_reason() == Some("length") {
                output.note("(the answer has as many tokens as it may; --max-tokens gives it more)");
            }
        }
        messages.push(json!({"role": "assistant", "content": text}));
        Ok(ended)
    }

    fn body(&self, messages: &[Value]) -> Value {
        let mut body = Map::new();
        body.insert("model".to_owned(), self.name.clone().into());
        body.insert("messages".to_owned(), messages.to_vec().into());
        body.insert("stream".to_owned(), true.into());
        body.insert("stream_options".to_owned(), json!({"include_usage": true}));
        let options = [
            ("temperature", self.temperature.map(Value::from)),
            ("max_completion_tokens", self.max_tokens.map(Value::from)),
            ("seed", self.seed.map(Value::from)),
        ];
        for (name, value) in options {
            if let Some(value) = value {
                body.insert(name.to_owned(), value);
            }
        }
        Value::Object(body)
    }
}

/// Every Ctrl-C from now on, those that come while nobody waits for one included.
fn interrupts() -> Result<Signal> {
    signal(SignalKind::interrupt()).map_err(|e| Failure::new(format!("signals cannot be received: {e}")))
}

/// Writes text as it comes.
fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // Whoever closed the pipe does not want the rest.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// The lines of standard input, read on a thread of their own: a person's pauses hold nothing up.
fn lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(1);
    let read = move || {
        let mut stdin = std::io::stdin().lock();
        loop {
            let mut line = String::new();
            match stdin.read_line(&mut line) {
                Ok(count) if count > 0 => {}
                _ => return,
            }
            if sender.blocking_send(line.trim_end_matches(['\r', '\n']).to_owned()).is_err() {
                return;
            }
        }
    };
    // Without a thread there is nothing to read with: the conversation ends at once.
    let _ = std::thread::Builder::new().name("meuse-input".into()).spawn(read);
    lines
}

//! [`Output`]: results to standard output, everything else to standard error.

use std::io::{self, IsTerminal, Write};

use serde_json::{Value, json};

use super::Table;
use crate::failure::Failure;

/// Where answers go, and in which form.
#[derive(Debug, Clone)]
pub struct Output {
    /// JSON instead of text.
    pub json: bool,
    color: bool,
    color_errors: bool,
}

/// How a piece of text stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A heading or the answer itself.
    Strong,
    /// Less important.
    Faint,
    /// Good news.
    Good,
    /// Bad news.
    Bad,
    /// Look at this.
    Warn,
}

impl Output {
    /// Colours if a person is looking and has not set `NO_COLOR`.
    pub fn detect(json: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Output {
            json,
            color: wanted && !json && io::stdout().is_terminal(),
            color_errors: wanted && io::stderr().is_terminal(),
        }
    }

    /// Whether to use colours on standard output.
    pub fn color(&self) -> bool {
        self.color
    }

    /// Whether progress is to be shown on standard error.
    pub fn progress(&self) -> bool {
        !self.json
    }

    /// `text` styled for standard output.
    pub fn style(&self, style: Style, text: &str) -> String {
        paint(self.color, style, text)
    }

    /// A line of the answer.
    pub fn line(&self, text: impl AsRef<str>) {
        // Whoever closed the pipe does not want the rest.
        let _ = writeln!(io::stdout().lock(), "{}", text.as_ref());
    }

    /// A table of the answer.
    pub fn table(&self, table: &Table) {
        for (i, line) in table.lines().into_iter().enumerate() {
            self.line(if i == 0 { self.style(Style::Faint, &line) } else { line });
        }
    }

    /// The answer for a program.
    pub fn value(&self, value: &Value) {
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        self.line(text);
    }

    /// A remark beside the answer, for a person.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.json {
            let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
        }
    }

    /// Why the command failed.
    pub fn failure(&self, failure: &Failure) {
        let mut stderr = io::stderr().lock();
        let _ = if self.json {
            let error = json!({"error": {"message": failure.what(), "next": failure.advice()}});
            writeln!(stderr, "{error}")
        } else {
            let head = paint(self.color_errors, Style::Bad, "error:");
            match failure.advice() {
                Some(next) => writeln!(stderr, "{head} {}\n  {next}", failure.what()),
                None => writeln!(stderr, "{head} {}", failure.what()),
            }
        };
    }
}

fn paint(color: bool, style: Style, text: &str) -> String {
    if !color {
        return text.to_owned();
    }
    let code = match style {
        Style::Strong => "1",
        Style::Faint => "2",
        Style::Good => "32",
        Style::Bad => "1;31",
        Style::Warn => "33",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

//! [`Check`]: looks at all lines of a batch before the first is answered.

use std::collections::HashSet;
use std::ops::ControlFlow;

use control::{Asked, LineChecker, LineFault};

use crate::Fault;
use crate::fields::{Fields, invalid};
use crate::http::Within;
use crate::models::{listed, named};
use crate::tenant::Tenant;

/// Requests in one batch at most: the protocol's own number.
const LINES_MAX: u64 = 50_000;

/// Faults that are told of at most.
const FAULTS_MAX: usize = 100;

/// Bytes of a line's id at most.
const ID_BYTES_MAX: usize = 512;

/// What has been seen of a batch's lines.
pub(super) struct Check {
    within: Within,
    project: Tenant,
    endpoint: String,
    ids: HashSet<Box<str>>,
    /// The model that the first line asks, and that line.
    model: Option<(String, u64)>,
    faults: Vec<LineFault>,
}

/// What is wrong with a line: a word for programs, and the rest.
type Wrong = (&'static str, Fault);

impl Check {
    pub(super) fn new(within: Within, asked: &Asked) -> Check {
        Check {
            within,
            project: Tenant::whole(&asked.project),
            endpoint: asked.endpoint.clone(),
            ids: HashSet::new(),
            model: None,
            faults: Vec::new(),
        }
    }

    fn read(&mut self, number: u64, line: &[u8]) -> Result<(), Wrong> {
        let mut fields = Fields::of_body(line)
            .map_err(|_| ("invalid_json_line", Fault::invalid("the line is not a JSON object in UTF-8")))?;
        let schema = |fault: Fault| ("invalid_request", fault);
        let id = fields.needed_text("custom_id").map_err(schema)?;
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return Err(schema(invalid(
                "custom_id",
                format!("must have between 1 and {ID_BYTES_MAX} bytes"),
            )));
        }
        if !self.ids.insert(id.clone().into_boxed_str()) {
            let fault = invalid("custom_id", format!("`{id}` is the id of an earlier line, too"));
            return Err(("duplicate_custom_id", fault));
        }
        if fields.needed_text("method").map_err(schema)? != "POST" {
            return Err(schema(invalid("method", "must be `POST`")));
        }
        let url = fields.needed_text("url").map_err(schema)?;
        if url != self.endpoint {
            return Err((
                "url_mismatch",
                invalid("url", format!("must be the batch's endpoint, `{}`", self.endpoint)),
            ));
        }
        let body = fields.object("body").map_err(schema)?;
        let mut body = body.ok_or_else(|| schema(fields.missing("body")))?;
        fields.finish().map_err(schema)?;
        let streams = |value: &serde_json::Value| *value == serde_json::Value::Bool(false);
        body.only("stream", streams, "has no meaning in a batch: leave it out").map_err(schema)?;
        let model = body.needed_text("model").map_err(schema)?;
        match &self.model {
            None => self.model = Some((model, number)),
            Some((first, at)) if *first != model => {
                let message = format!("is `{model}`; line {at} asks `{first}`, and a batch asks one model");
                return Err(("model_mismatch", invalid("body.model", message)));
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn fault(&mut self, code: &str, message: String, field: Option<String>, line: Option<u64>) {
        self.faults.push(LineFault { code: code.to_owned(), message, field, line });
    }
}

impl LineChecker for Check {
    fn line(&mut self, number: u64, line: Result<&[u8], &str>) -> ControlFlow<()> {
        if number > LINES_MAX {
            self.faults.clear();
            let message =
                format!("the file has more than the {LINES_MAX} requests that a batch takes; send several");
            self.fault("too_many_tasks", message, None, None);
            return ControlFlow::Break(());
        }
        let read = match line {
            Ok(line) => self.read(number, line),
            Err(reason) => Err(("invalid_request", Fault::invalid(reason))),
        };
        if let Err((code, fault)) = read {
            self.fault(code, fault.message, fault.field, Some(number));
        }
        if self.faults.len() >= FAULTS_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn end(mut self: Box<Self>) -> Result<String, Vec<LineFault>> {
        if self.ids.is_empty() && self.faults.is_empty() {
            self.fault("empty_batch", "the file holds no requests".to_owned(), None, None);
        }
        if let (Some((model, line)), Some(app)) = (self.model.take(), self.within.app()) {
            if named(&listed(&app.router, &self.project), &model).is_some() {
                return if self.faults.is_empty() { Ok(model) } else { Err(self.faults) };
            }
            let message =
                format!("the model `{model}` does not exist in project {}; deploy it first", self.project);
            self.fault("model_not_found", message, Some("body.model".to_owned()), Some(line));
        }
        Err(self.faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(lines: &[&[u8]]) -> Vec<(String, Option<u64>)> {
        let expires = control::Timestamp::now();
        let asked = Asked { project: "p".into(), endpoint: "/v1/completions".into(), expires };
        let mut check = Box::new(Check::new(Within::nowhere(), &asked));
        for (number, line) in (1..).zip(lines) {
            if check.line(number, Ok(line)).is_break() {
                break;
            }
        }
        let faults = check.end().err().unwrap_or_default();
        faults.into_iter().map(|fault| (fault.code, fault.line)).collect()
    }

    fn line(id: &str, url: &str, body: &str) -> Vec<u8> {
        format!(r#"{{"custom_id": "{id}", "method": "POST", "url": "{url}", "body": {body}}}"#).into_bytes()
    }

    #[test]
    fn what_is_wrong_is_told_by_line() {
        let url = "/v1/completions";
        let good = line("a", url, r#"{"model": "m", "prompt": "x"}"#);
        let lines = [
            good.clone(),
            good,
            line("b", "/v1/chat/completions", r#"{"model": "m"}"#),
            line("c", url, r#"{"model": "other"}"#),
            line("d", url, r#"{"model": "m", "stream": true}"#),
            line("e", url, "[]"),
            line("", url, r#"{"model": "m"}"#),
            b"{\"custom_id\": \"\xff\"}".to_vec(),
            b"no json".to_vec(),
            br#"{"custom_id": "f", "method": "GET", "url": "/v1/completions", "body": {"model": "m"}}"#
                .to_vec(),
        ];
        let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        let expected = [
            ("duplicate_custom_id", 2),
            ("url_mismatch", 3),
            ("model_mismatch", 4),
            ("invalid_request", 5),
            ("invalid_request", 6),
            ("invalid_request", 7),
            ("invalid_json_line", 8),
            ("invalid_json_line", 9),
            ("invalid_request", 10),
        ];
        assert_eq!(faults(&lines), expected.map(|(code, line)| (code.to_owned(), Some(line))));
    }

    #[test]
    fn nothing_and_too_much_are_told_once() {
        assert_eq!(faults(&[]), [("empty_batch".to_owned(), None)]);
        let lines: Vec<&[u8]> = vec![b"{}"; FAULTS_MAX + 5];
        assert_eq!(faults(&lines).len(), FAULTS_MAX);
    }
}

//! Texts before which an answer ends.

use llm::{STOP_BYTES_MAX, STOPS_MAX};
use serde_json::Value;

use crate::Fault;
use crate::fields::{Fields, invalid};

/// Reads the field `name`: a text or a list of texts.
pub(crate) fn stops(fields: &mut Fields, name: &str) -> Result<Vec<String>, Fault> {
    let path = fields.path(name);
    let stops = match fields.take(name) {
        None => return Ok(Vec::new()),
        Some(Value::String(stop)) => vec![stop],
        Some(Value::Array(items)) => {
            if items.len() > STOPS_MAX {
                let message = format!("has {} entries; at most {STOPS_MAX} are allowed", items.len());
                return Err(invalid(path, message));
            }
            let text = |item: Value| item.as_str().map(str::to_owned);
            let texts: Option<Vec<String>> = items.into_iter().map(text).collect();
            texts.ok_or_else(|| invalid(path.clone(), "must be a string or a list of strings"))?
        }
        Some(_) => return Err(invalid(path, "must be a string or a list of strings")),
    };
    if stops.iter().any(|stop| stop.is_empty() || stop.len() > STOP_BYTES_MAX) {
        let message = format!("has an entry that is empty or longer than {STOP_BYTES_MAX} bytes");
        return Err(invalid(path, message));
    }
    Ok(stops)
}

//! How Python writes values: `str`, `repr` and `json.dumps`, whose output models were trained on.

use minijinja::Value;
use minijinja::value::ValueKind;

/// Values nested deeper are not written; none that deep can be made.
const DEPTH_MAX: usize = 128;

/// `str(value)`; nothing for what is not defined.
pub(super) fn text(value: &Value) -> String {
    match value.kind() {
        ValueKind::Undefined => String::new(),
        ValueKind::String => value.as_str().unwrap_or_default().to_owned(),
        _ => {
            let mut out = String::new();
            put_repr(value, DEPTH_MAX, &mut out);
            out
        }
    }
}

/// `repr(value)`
fn put_repr(value: &Value, depth: usize, out: &mut String) {
    match value.kind() {
        _ if depth == 0 => out.push('…'),
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::String => put_quoted(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            for (at, item) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                put_repr(&item, depth - 1, out);
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (at, key) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                put_repr(&key, depth - 1, out);
                out.push_str(": ");
                put_repr(&value.get_item(&key).unwrap_or_default(), depth - 1, out);
            }
            out.push('}');
        }
        _ => out.push_str(&value.to_string()),
    }
}

fn put_quoted(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c if (c as u32) < 0x20 || (0x7f..=0xa0).contains(&(c as u32)) => {
                out.push_str(&format!("\\x{:02x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// Whole numbers as they are, others as `repr` has them.
fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    let number = f64::try_from(value.clone()).unwrap_or(f64::NAN);
    if !number.is_finite() {
        return if number.is_nan() {
            "nan"
        } else if number > 0.0 {
            "inf"
        } else {
            "-inf"
        }
        .to_owned();
    }
    let magnitude = number.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let scientific = format!("{number:e}");
        let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let sign = if exponent.starts_with('-') { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:0>2}", exponent.trim_start_matches('-'));
    }
    format!("{number:?}")
}

/// How `json.dumps` lays out its output.
pub(super) struct JsonStyle {
    /// Between items.
    pub(super) item: String,
    /// Between key and value.
    pub(super) key: String,
    /// Spaces a level, on lines of their own.
    pub(super) indent: Option<usize>,
    /// Whether keys are in order.
    pub(super) sort: bool,
    /// Whether only ASCII is written.
    pub(super) ascii: bool,
}

/// `json.dumps(value)`; `None` when it holds what JSON cannot.
pub(super) fn json(value: &Value, style: &JsonStyle) -> Option<String> {
    let mut out = String::new();
    put_json(value, style, 0, &mut out)?;
    Some(out)
}

fn put_json(value: &Value, style: &JsonStyle, depth: usize, out: &mut String) -> Option<()> {
    match value.kind() {
        _ if depth > DEPTH_MAX => return None,
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(match number(value).as_str() {
            "nan" => "NaN",
            "inf" => "Infinity",
            "-inf" => "-Infinity",
            number => number,
        }),
        ValueKind::String => put_json_text(value.as_str()?, style.ascii, out),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter().ok()?.collect();
            put_items(['[', ']'], &items, style, depth, out, |item, out| {
                put_json(item, style, depth + 1, out)
            })?;
        }
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter().ok()?.collect();
            if style.sort {
                keys.sort();
            }
            put_items(['{', '}'], &keys, style, depth, out, |key, out| {
                put_json_text(&key_text(key)?, style.ascii, out);
                out.push_str(&style.key);
                put_json(&value.get_item(key).ok()?, style, depth + 1, out)
            })?;
        }
        _ => return None,
    }
    Some(())
}

/// Keys that are not strings are written as JSON would write their values.
fn key_text(key: &Value) -> Option<String> {
    match key.kind() {
        ValueKind::String => key.as_str().map(str::to_owned),
        ValueKind::Number => Some(number(key)),
        ValueKind::Bool => Some(key.is_true().to_string()),
        ValueKind::None => Some("null".to_owned()),
        _ => None,
    }
}

fn put_items(
    [open, close]: [char; 2],
    items: &[Value],
    style: &JsonStyle,
    depth: usize,
    out: &mut String,
    put: impl Fn(&Value, &mut String) -> Option<()>,
) -> Option<()> {
    let line = |depth: usize, out: &mut String| {
        if let Some(indent) = style.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    };
    out.push(open);
    for (at, item) in items.iter().enumerate() {
        out.push_str(if at > 0 { &style.item } else { "" });
        line(depth + 1, out);
        put(item, out)?;
    }
    if !items.is_empty() {
        line(depth, out);
    }
    out.push(close);
    Some(())
}

fn put_json_text(text: &str, ascii: bool, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || (ascii && !c.is_ascii()) => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

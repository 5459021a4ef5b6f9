//! What a template may call, and what watches over it.

use std::sync::Arc;
use std::time::SystemTime;

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::clock;
use super::instructions::{CONCATENATE, KEEP, MULTIPLY};
use super::limits::Limits;
use super::python::{self, JsonStyle};

/// Values nested deeper are refused, so that whoever walks them needs no more stack than that.
const DEPTH_MAX: usize = 64;
/// What a value counts for beside its text.
const VALUE_BYTES: usize = 48;
/// The widest indentation.
const INDENT_MAX: usize = 64;

/// Why a rendering ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// The template says so.
    #[error("{0}")]
    Template(String),
    /// It needs too much.
    #[error("beyond the limit of {0}")]
    Limit(&'static str),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::new(ErrorKind::InvalidOperation, "refused").with_source(refusal)
    }
}

/// Gives the environment what templates may use, and takes from it what they may not.
pub(super) fn install(environment: &mut Environment<'_>, limits: &Arc<Limits>, now: Option<SystemTime>) {
    // These make as much as they are told to, whatever they are given.
    for unbounded in ["batch", "slice", "format", "pprint"] {
        environment.remove_filter(unbounded);
    }
    environment.remove_global("debug");
    // Nothing is an iterable thing there, and none here.
    environment.add_test("iterable", |value: Value| {
        let kind = value.kind();
        matches!(kind, ValueKind::Undefined | ValueKind::String)
            || value.try_iter().is_ok() && kind != ValueKind::None
    });
    install_watch(environment, limits);
    install_filters(environment, limits);
    environment.add_function("raise_exception", |message: Value| -> Result<Value, Error> {
        Err(Refusal::Template(python::text(&message)).into())
    });
    if let Some(now) = now {
        environment.add_function("strftime_now", move |format: &str| clock::strftime(now, format));
    }
}

fn install_watch(environment: &mut Environment<'_>, limits: &Arc<Limits>) {
    let own = limits.clone();
    environment.add_function(KEEP, move |value: Value| keep(&own, value));
    let own = limits.clone();
    environment.add_function(MULTIPLY, move |a: Value, b: Value| multiply(&own, &a, &b));
    let own = limits.clone();
    environment.add_function(CONCATENATE, move |a: Value, b: Value| {
        let text = [python::text(&a), python::text(&b)].concat();
        own.spend(text.len())?;
        Ok(Value::from(text))
    });
    let own = limits.clone();
    environment.set_formatter(move |out, _, value| {
        let text = python::text(value);
        own.spend(text.len())?;
        out.write_str(&text).map_err(Error::from)
    });
    let own = limits.clone();
    environment.set_unknown_method_callback(move |state, value, name, arguments| {
        method(&own, state, value, name, arguments)
    });
}

fn install_filters(environment: &mut Environment<'_>, limits: &Arc<Limits>) {
    environment.add_filter("string", |value: Value| python::text(&value));
    environment.add_filter("tojson", tojson);
    let own = limits.clone();
    environment.add_filter("replace", move |text: Value, old: &str, new: &str| {
        replace(&own, &python::text(&text), old, new, None)
    });
    let own = limits.clone();
    environment.add_filter("join", move |items: Value, separator: Option<&str>, attribute: Option<&str>| {
        join(&own, &items, separator.unwrap_or_default(), attribute)
    });
    let own = limits.clone();
    environment.add_filter(
        "indent",
        move |text: &str, width: Option<usize>, options: Rest<Value>, named: Kwargs| {
            indent(&own, text, width, &options, &named)
        },
    );
}

/// Takes a value's size from the means and refuses what is nested too deep. What would be worked out later is worked
/// out now, so that no chain of such things can grow.
fn keep(limits: &Limits, value: Value) -> Result<Value, Error> {
    let value = if value.kind() == ValueKind::Iterable {
        limits.spend(value.len().unwrap_or_default().saturating_mul(VALUE_BYTES))?;
        let mut items = Vec::new();
        for item in value.try_iter()? {
            limits.spend(VALUE_BYTES)?;
            items.push(item);
        }
        Value::from(items)
    } else {
        value
    };
    let bytes = match value.kind() {
        ValueKind::String => value.as_str().map_or(0, str::len),
        ValueKind::Seq | ValueKind::Map => value.len().unwrap_or_default().saturating_mul(VALUE_BYTES),
        _ => 0,
    };
    limits.spend(bytes.saturating_add(VALUE_BYTES))?;
    check_nesting(limits, &value, 0)?;
    Ok(value)
}

/// Refuses values that are too deep, and namespaces in other values, which could then hold themselves.
fn check_nesting(limits: &Limits, value: &Value, depth: usize) -> Result<(), Error> {
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Map) {
        return Ok(());
    }
    if depth > DEPTH_MAX {
        return Err(Refusal::Limit("depth").into());
    }
    let is_namespace = value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"));
    if is_namespace && depth > 0 {
        return Err(Error::new(ErrorKind::InvalidOperation, "a namespace cannot be put into another value"));
    }
    let map = value.kind() == ValueKind::Map;
    for item in value.try_iter()? {
        limits.spend(0)?;
        let item = if map { value.get_item(&item)? } else { item };
        check_nesting(limits, &item, depth + 1)?;
    }
    Ok(())
}

/// `*` of numbers, and of a string and a number.
fn multiply(limits: &Limits, a: &Value, b: &Value) -> Result<Value, Error> {
    let failed = || Error::new(ErrorKind::InvalidOperation, "these values cannot be multiplied");
    let (text, times) = match (a.as_str(), b.as_str()) {
        (Some(text), None) => (text, b),
        (None, Some(text)) => (text, a),
        _ if a.is_integer() && b.is_integer() => {
            let product = i64::try_from(a.clone()).ok().zip(i64::try_from(b.clone()).ok());
            return product.and_then(|(a, b)| a.checked_mul(b)).map(Value::from).ok_or_else(failed);
        }
        _ => {
            let product = f64::try_from(a.clone()).ok().zip(f64::try_from(b.clone()).ok());
            return product.map(|(a, b)| Value::from(a * b)).ok_or_else(failed);
        }
    };
    let times = i64::try_from(times.clone()).map_err(|_| failed())?;
    let times = usize::try_from(times.max(0)).map_err(|_| failed())?;
    limits.spend(text.len().saturating_mul(times))?;
    Ok(Value::from(text.repeat(times)))
}

/// Methods of Python's strings, lists and dictionaries.
fn method(
    limits: &Limits,
    state: &State<'_, '_>,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    match (value.as_str(), name, arguments) {
        (Some(text), "replace", [old, new, rest @ ..]) => {
            let (Some(old), Some(new)) = (old.as_str(), new.as_str()) else {
                return Err(Error::new(ErrorKind::InvalidOperation, "replace needs two strings"));
            };
            let most = rest.first().and_then(|most| i64::try_from(most.clone()).ok());
            replace(limits, text, old, new, most.and_then(|most| usize::try_from(most).ok()))
        }
        (Some(separator), "join", [items]) => join(limits, items, separator, None),
        // Not there at all, rather than without end.
        (Some(_), "format", _) => Err(Error::from(ErrorKind::UnknownMethod)),
        (Some(text), "count", [what]) if what.as_str() == Some("") => {
            Ok(Value::from(text.chars().count() + 1))
        }
        _ => unknown_method_callback(state, value, name, arguments),
    }
}

fn replace(limits: &Limits, text: &str, old: &str, new: &str, most: Option<usize>) -> Result<Value, Error> {
    let count = text.matches(old).count().min(most.unwrap_or(usize::MAX));
    limits.spend(text.len().saturating_add(count.saturating_mul(new.len())))?;
    Ok(Value::from(text.replacen(old, new, count)))
}

fn join(limits: &Limits, items: &Value, separator: &str, attribute: Option<&str>) -> Result<Value, Error> {
    let mut joined = String::new();
    for (at, item) in items.try_iter()?.enumerate() {
        let item = match attribute {
            Some(attribute) => item.get_attr(attribute)?,
            None => item,
        };
        let text = python::text(&item);
        limits.spend(text.len() + separator.len())?;
        joined.push_str(if at > 0 { separator } else { "" });
        joined.push_str(&text);
    }
    Ok(Value::from(joined))
}

/// Puts spaces before lines: not the first, and no empty ones, unless asked.
fn indent(
    limits: &Limits,
    text: &str,
    width: Option<usize>,
    options: &[Value],
    named: &Kwargs,
) -> Result<Value, Error> {
    let option = |at: usize, name: &str| -> Result<bool, Error> {
        let given = named.get::<Option<Value>>(name)?.or_else(|| options.get(at).cloned());
        Ok(given.is_some_and(|value| value.is_true()))
    };
    let width = named.get::<Option<usize>>("width")?.or(width).unwrap_or(4);
    let (first, blank) = (option(0, "first")?, option(1, "blank")?);
    named.assert_all_used()?;
    if width > INDENT_MAX {
        return Err(Refusal::Limit("indentation").into());
    }
    limits.spend(text.len() + text.lines().count() * width)?;
    let spaces = " ".repeat(width);
    let lines = text.split('\n').enumerate().map(|(at, line)| {
        let indented = if at == 0 { first } else { blank || !line.is_empty() };
        if indented { [spaces.as_str(), line].concat() } else { line.to_owned() }
    });
    Ok(Value::from(lines.collect::<Vec<_>>().join("\n")))
}

/// `json.dumps`, with the defaults that templates are rendered with in training.
fn tojson(value: &Value, indent: Option<usize>, options: Kwargs) -> Result<Value, Error> {
    let indent = options.get::<Option<usize>>("indent")?.or(indent);
    if indent.is_some_and(|indent| indent > INDENT_MAX) {
        return Err(Refusal::Limit("indentation").into());
    }
    let separators = options.get::<Option<Vec<String>>>("separators")?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        _ => ((if indent.is_some() { "," } else { ", " }).to_owned(), ": ".to_owned()),
    };
    let sort = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    options.assert_all_used()?;
    let style = JsonStyle { item, key, indent, sort, ascii };
    let text = python::json(value, &style);
    text.map(Value::from).ok_or_else(|| {
        Error::new(ErrorKind::InvalidOperation, format!("{} cannot be written as JSON", value.kind()))
    })
}

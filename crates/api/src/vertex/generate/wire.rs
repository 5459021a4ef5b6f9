//! ProtoJSON read field by field. Objects whose content is the user's own (arguments, results, schemas) keep the order in
//! which they were written, which a message of the API's description would lose.

use serde_json::Value;

use crate::Fault;
use crate::fields::{Fields, invalid};

/// `fields` by the names that ProtoJSON writes: clients may send those of the description, with underscores.
pub(super) fn camel(fields: Fields) -> Fields {
    fields.renamed(|name| {
        let mut camel = String::with_capacity(name.len());
        for (i, word) in name.split('_').enumerate() {
            let mut letters = word.chars();
            match letters.next() {
                Some(first) if i > 0 => camel.push(first.to_ascii_uppercase()),
                Some(first) => camel.push(first),
                None => {}
            }
            camel.push_str(letters.as_str());
        }
        camel
    })
}

/// The object in the field `name`.
pub(super) fn object(fields: &mut Fields, name: &str) -> Result<Option<Fields>, Fault> {
    Ok(fields.object(name)?.map(camel))
}

/// The objects in the list `name`.
pub(super) fn objects(fields: &mut Fields, name: &str) -> Result<Vec<Fields>, Fault> {
    let path = fields.path(name);
    let items = fields.list(name)?.unwrap_or_default();
    let object = |(i, item)| Fields::of(item, &format!("{path}[{i}]")).map(camel);
    items.into_iter().enumerate().map(object).collect()
}

/// The word of an enumeration in the field `name`: as it is, or by its number among `words`.
pub(super) fn word(fields: &mut Fields, name: &str, words: &[&str]) -> Result<Option<String>, Fault> {
    let path = fields.path(name);
    match fields.take(name) {
        None => Ok(None),
        Some(Value::String(word)) => Ok(Some(word)),
        Some(number) => {
            let place = number.as_u64().and_then(|place| usize::try_from(place).ok());
            let word = place.and_then(|place| words.get(place));
            word.map(|word| Some((*word).to_owned()))
                .ok_or_else(|| invalid(path, "must be a word of its enumeration"))
        }
    }
}

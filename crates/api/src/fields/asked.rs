//! [`asked`]: what a reader asks of a JSON object, in the words of JSON Schema.
//!
//! A reader is let read examples, and what it asks for is written down: so nothing is said twice, and nothing that is
//! described is not read. What lies within a field is seen as far as an example has it.

use std::cell::RefCell;

use serde_json::{Map, Value, json};

use crate::Fault;

/// A field's place and what it must be, as far as that was said.
type Question = (String, Value);

thread_local! {
    /// Questions, where they are written down.
    static QUESTIONS: RefCell<Option<Vec<Question>>> = const { RefCell::new(None) };
}

/// Writes down that a field was asked for, where somebody wants to know.
pub(super) fn note(question: impl FnOnce() -> Question) {
    QUESTIONS.with_borrow_mut(|questions| {
        if let Some(questions) = questions {
            questions.push(question());
        }
    });
}

/// What `read` takes, as it shows when it reads `examples`. Of these, the first has nothing but what is needed.
pub(crate) fn asked(read: impl Fn(&[u8]) -> Result<(), Fault>, examples: &[Value]) -> Value {
    let mut root = Node::default();
    let mut fine = Vec::new();
    for example in examples {
        QUESTIONS.set(Some(Vec::new()));
        if read(example.to_string().as_bytes()).is_ok() {
            fine.push(example);
        }
        for (path, kind) in QUESTIONS.take().unwrap_or_default() {
            root.see(&path, kind);
        }
    }
    let first = examples.first().and_then(Value::as_object).cloned().unwrap_or_default();
    let needed = first.keys().filter(|name| {
        let mut without = first.clone();
        without.shift_remove(*name);
        read(Value::Object(without).to_string().as_bytes()).is_err()
    });
    let needed: Vec<&String> = needed.collect();
    let mut schema = root.written();
    schema["type"] = "object".into();
    schema["additionalProperties"] = false.into();
    (schema["required"], schema["examples"]) = (json!(needed), json!(fine));
    schema
}

/// A field, and those within it.
#[derive(Default)]
struct Node {
    kind: Map<String, Value>,
    fields: Vec<(String, Node)>,
}

/// The name of what a list holds.
const ITEM: &str = "[]";

impl Node {
    /// Takes note of a field: `stream_options.include_usage`, `messages[0].role`.
    fn see(&mut self, path: &str, kind: Value) {
        let mut node = self;
        for part in path.split('.') {
            let (name, places) = part.split_at(part.find('[').unwrap_or(part.len()));
            node = node.field(name);
            for _ in places.matches('[') {
                node = node.field(ITEM);
            }
        }
        if let Value::Object(kind) = kind {
            node.kind.extend(kind);
        }
    }

    fn field(&mut self, name: &str) -> &mut Node {
        let place = self.fields.iter().position(|(other, _)| other == name).unwrap_or_else(|| {
            self.fields.push((name.to_owned(), Node::default()));
            self.fields.len() - 1
        });
        &mut self.fields[place].1
    }

    /// Where nobody said what it must be, what is within it holds if it is an object or a list.
    fn written(&self) -> Value {
        let mut schema = self.kind.clone();
        let mut properties = Map::new();
        for (name, field) in &self.fields {
            if name == ITEM {
                schema.insert("items".to_owned(), field.written());
            } else {
                properties.insert(name.clone(), field.written());
            }
        }
        if !properties.is_empty() {
            schema.insert("properties".to_owned(), properties.into());
        }
        Value::Object(schema)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fields::Fields;

    fn read(bytes: &[u8]) -> Result<(), Fault> {
        let mut fields = Fields::of_body(bytes)?;
        fields.needed_text("model")?;
        fields.number("warmth", 0.0..=2.0)?;
        if let Some(mut options) = fields.object("options")? {
            options.flag("loud")?;
            options.finish()?;
        }
        for (i, item) in fields.list("items")?.unwrap_or_default().into_iter().enumerate() {
            let mut item = Fields::of(item, &format!("items[{i}]"))?;
            item.whole("n", 1..=9)?;
            item.finish()?;
        }
        fields.labels(&["user"]);
        fields.finish()
    }

    #[test]
    fn a_reader_says_what_it_asks_for() {
        let examples = [json!({"model": "m"}), json!({"model": "m", "options": {}, "items": [{}, {"n": 2}]})];
        let schema = asked(read, &examples);
        let properties = json!({
            "model": {"type": "string"},
            "warmth": {"type": "number", "minimum": 0.0, "maximum": 2.0},
            "options": {"type": "object", "properties": {"loud": {"type": "boolean"}}},
            "items": {
                "type": "array",
                "items": {"properties": {"n": {"type": "integer", "minimum": 1, "maximum": 9}}},
            },
            "user": {},
        });
        assert_eq!(schema["properties"], properties);
        assert_eq!(
            (&schema["required"], &schema["additionalProperties"]),
            (&json!(["model"]), &json!(false))
        );
        // What is read later is not written down.
        read(br#"{"model": "m"}"#).unwrap();
        assert!(QUESTIONS.take().is_none());
    }
}

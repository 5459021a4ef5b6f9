//! [`of`]: the JSON that a type is read from, in the words of JSON Schema.
//!
//! A type's own `Deserialize` is asked: it says which fields it knows and what it expects in each, and it complains of
//! those that it needs. So nothing is said twice, and nothing that is described is not read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};

/// How deep it is looked into a type.
const DEPTH_MAX: usize = 8;

/// A place in a type: the names of fields, [`ITEM`] for what a list or a map holds.
type Place = Vec<&'static str>;

const ITEM: &str = "[]";

/// The JSON that `T` is read from.
pub(crate) fn of<T: DeserializeOwned>() -> Value {
    let mut trace = Trace::default();
    // What cannot be made of the plainest value is left out, so that what comes after it is seen.
    while let Err(Ended { at, missing: None }) = trace.run::<T>() {
        if at.is_empty() || !trace.omitted.insert(at) {
            break;
        }
    }
    let places: Vec<Place> = trace.nodes.keys().filter(|place| !place.is_empty()).cloned().collect();
    for place in places {
        let added = trace.omitted.insert(place.clone());
        if let Err(Ended { at, missing: Some(name) }) = trace.run::<T>()
            && place.split_last().is_some_and(|(last, parent)| *last == name && *parent == *at)
        {
            trace.needed.insert(place.clone());
        }
        if added {
            trace.omitted.remove(&place);
        }
    }
    trace.written(&mut Vec::new())
}

/// What was seen of a type.
#[derive(Default)]
struct Trace {
    nodes: BTreeMap<Place, Node>,
    /// Fields that are not given.
    omitted: BTreeSet<Place>,
    needed: BTreeSet<Place>,
}

/// What is at a place.
enum Node {
    /// An object of these fields.
    Fields(&'static [&'static str]),
    /// A list.
    List,
    /// An object of any fields.
    Map,
    /// Anything else, as JSON Schema has it.
    Other(Value),
}

impl Trace {
    fn run<T: DeserializeOwned>(&mut self) -> Result<T, Ended> {
        T::deserialize(Tracer { trace: self, place: Vec::new() })
    }

    fn within(&self, place: &mut Place, name: &'static str) -> Value {
        place.push(name);
        let inner = self.written(place);
        place.pop();
        inner
    }

    fn written(&self, place: &mut Place) -> Value {
        match self.nodes.get(&*place) {
            None => json!({}),
            Some(Node::Other(schema)) => schema.clone(),
            Some(Node::List) => json!({"type": "array", "items": self.within(place, ITEM)}),
            Some(Node::Map) => {
                json!({"type": "object", "additionalProperties": self.within(place, ITEM)})
            }
            Some(Node::Fields(names)) => {
                let properties: Map<String, Value> =
                    names.iter().map(|name| ((*name).to_owned(), self.within(place, name))).collect();
                let needed = |name: &&&'static str| {
                    self.needed.contains(&place.iter().copied().chain([**name]).collect::<Place>())
                };
                let required: Vec<&&str> = names.iter().filter(needed).collect();
                json!({
                    "type": "object", "properties": properties, "required": required,
                    "additionalProperties": false,
                })
            }
        }
    }
}

/// Why a type could not be read.
#[derive(Debug)]
struct Ended {
    at: Place,
    /// The field that it lacks, if it is that.
    missing: Option<&'static str>,
}

impl Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at {}", self.at.join("."))
    }
}

impl std::error::Error for Ended {}

impl de::Error for Ended {
    fn custom<T: Display>(_: T) -> Self {
        Ended { at: Vec::new(), missing: None }
    }

    fn missing_field(field: &'static str) -> Self {
        Ended { at: Vec::new(), missing: Some(field) }
    }
}

/// Gives the plainest value of whatever is asked for.
struct Tracer<'t> {
    trace: &'t mut Trace,
    place: Place,
}

impl Tracer<'_> {
    fn see(&mut self, node: Node) {
        self.trace.nodes.insert(self.place.clone(), node);
    }

    fn is(&mut self, kind: &str) {
        self.see(Node::Other(json!({"type": kind})));
    }

    fn within(&mut self, name: &'static str) -> Tracer<'_> {
        let place = self.place.iter().copied().chain([name]).collect();
        Tracer { trace: self.trace, place }
    }

    /// Reads what is at `name` within. A type may refuse what it was given after that was read.
    fn read<'de, T: DeserializeSeed<'de>>(&mut self, name: &'static str, seed: T) -> Result<T::Value, Ended> {
        let tracer = self.within(name);
        let place = tracer.place.clone();
        Tracer::located(place, seed.deserialize(tracer))
    }

    /// Says where it ended, unless it was further within.
    fn located<T>(place: Place, result: Result<T, Ended>) -> Result<T, Ended> {
        result.map_err(|ended| if ended.at.is_empty() { Ended { at: place, ..ended } } else { ended })
    }
}

macro_rules! plain {
    ($($method:ident $kind:literal $visit:ident $value:expr),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Ended> {
            self.is($kind);
            Tracer::located(self.place, visitor.$visit($value))
        }
    )*};
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = Ended;

    plain! {
        deserialize_bool "boolean" visit_bool false,
        deserialize_i8 "integer" visit_i8 0,
        deserialize_i16 "integer" visit_i16 0,
        deserialize_i32 "integer" visit_i32 0,
        deserialize_i64 "integer" visit_i64 0,
        deserialize_u8 "integer" visit_u8 1,
        deserialize_u16 "integer" visit_u16 1,
        deserialize_u32 "integer" visit_u32 1,
        deserialize_u64 "integer" visit_u64 1,
        deserialize_f32 "number" visit_f32 0.0,
        deserialize_f64 "number" visit_f64 0.0,
        deserialize_char "string" visit_char 'x',
        deserialize_str "string" visit_str "",
        deserialize_string "string" visit_str "",
        deserialize_bytes "string" visit_bytes b"",
        deserialize_byte_buf "string" visit_bytes b"",
        deserialize_identifier "string" visit_str "",
    }

    /// Anything may be here.
    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Ended> {
        self.see(Node::Other(json!({})));
        Tracer::located(self.place, visitor.visit_unit())
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Ended> {
        self.deserialize_any(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Ended> {
        self.deserialize_any(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Ended> {
        self.deserialize_any(visitor)
    }

    /// Where a type that holds itself has been looked into enough, there is none.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Ended> {
        if self.place.len() >= DEPTH_MAX { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Ended> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Ended> {
        self.see(Node::List);
        let (place, left) = (self.place.clone(), usize::from(self.place.len() < DEPTH_MAX));
        Tracer::located(place, visitor.visit_seq(Items { tracer: self, left }))
    }

    fn deserialize_tuple<V: Visitor<'de>>(mut self, len: usize, visitor: V) -> Result<V::Value, Ended> {
        self.see(Node::List);
        Tracer::located(self.place.clone(), visitor.visit_seq(Items { tracer: self, left: len }))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Ended> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Ended> {
        self.see(Node::Map);
        let fields: &[&str] = if self.place.len() < DEPTH_MAX { &[ITEM] } else { &[] };
        Tracer::located(self.place.clone(), visitor.visit_map(Entries { tracer: self, fields }))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Ended> {
        self.see(Node::Fields(fields));
        let fields = if self.place.len() < DEPTH_MAX { fields } else { &[] };
        Tracer::located(self.place.clone(), visitor.visit_map(Entries { tracer: self, fields }))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Ended> {
        self.see(Node::Other(json!({"type": "string", "enum": variants})));
        let first = StrDeserializer::new(variants.first().copied().unwrap_or_default());
        Tracer::located(self.place, visitor.visit_enum(first))
    }
}

/// So many items, each the plainest.
struct Items<'t> {
    tracer: Tracer<'t>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Ended;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Ended> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.tracer.read(ITEM, seed).map(Some)
    }
}

/// These fields, but for those that are omitted.
struct Entries<'t> {
    tracer: Tracer<'t>,
    fields: &'static [&'static str],
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Ended;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Ended> {
        while let Some((name, rest)) = self.fields.split_first() {
            let tracer = self.tracer.within(name);
            if !tracer.trace.omitted.contains(&tracer.place) {
                return seed.deserialize(StrDeserializer::new(name)).map(Some);
            }
            self.fields = rest;
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Ended> {
        let Some((name, rest)) = self.fields.split_first() else {
            return Err(de::Error::custom("nothing is left"));
        };
        self.fields = rest;
        self.tracer.read(name, seed)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    #[allow(dead_code, reason = "what is read is looked at, not the values")]
    struct Outer {
        needed_one: String,
        #[serde(default)]
        count: u32,
        #[serde(default)]
        day: Option<Day>,
        inner: Option<Inner>,
        many: Vec<Inner>,
        #[serde(default)]
        labels: BTreeMap<String, String>,
        kind: Kind,
        anything: Option<Value>,
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "as above")]
    struct Inner {
        rate: f64,
        again: Option<Box<Inner>>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        One,
        Other,
    }

    /// What no plain value is.
    #[derive(Deserialize)]
    #[serde(try_from = "String")]
    struct Day;

    impl TryFrom<String> for Day {
        type Error = String;

        fn try_from(text: String) -> Result<Self, String> {
            Err(text)
        }
    }

    #[test]
    fn a_type_says_what_it_is_read_from() {
        let schema = of::<Outer>();
        let properties = &schema["properties"];
        assert_eq!(schema["required"], json!(["neededOne", "many", "kind"]));
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(properties["neededOne"], json!({"type": "string"}));
        assert_eq!(properties["count"], json!({"type": "integer"}));
        assert_eq!(properties["day"], json!({"type": "string"}));
        assert_eq!(properties["inner"]["properties"]["rate"], json!({"type": "number"}));
        assert_eq!(properties["many"]["items"]["required"], json!(["rate"]));
        assert_eq!(
            properties["labels"],
            json!({"type": "object", "additionalProperties": {"type": "string"}})
        );
        assert_eq!(properties["kind"], json!({"type": "string", "enum": ["one", "other"]}));
        assert_eq!(properties["anything"], json!({}));
    }
}

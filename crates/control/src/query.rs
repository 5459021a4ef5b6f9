//! Listing: which items ([`filter`]), in what order ([`order`]), a page at a time.

mod filter;
mod order;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::filter::Filter;
use self::order::{Order, SortKey};
use crate::{Error, Result};

/// Items in a page when the client does not say.
const PAGE_SIZE: u32 = 100;
/// Items in a page at most, whatever the client says.
const PAGE_SIZE_MAX: u32 = 1000;
/// Bytes of a page token at most; ours are far shorter unless someone sorts by long texts.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// What a list call asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListQuery {
    /// Which items; all when absent:
    /// `display_name="x" AND labels.team=search AND NOT (state=failed OR create_time<"2026-01-01T00:00:00Z")`.
    pub filter: Option<String>,
    /// Fields to sort by, each optionally followed by `desc`: `create_time desc, display_name`.
    /// The newest come first when absent.
    pub order_by: Option<String>,
    /// Items in a page: 100 when absent or 0, 1,000 at most.
    pub page_size: Option<u32>,
    /// [`Page::next_page_token`] of the page before, with the same filter and order.
    pub page_token: Option<String>,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, in the order asked for.
    pub items: Vec<T>,
    /// Where the next page begins; `None` on the last.
    pub next_page_token: Option<String>,
}

impl<T> Page<T> {
    /// The same page with each item changed by `f`.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(f).collect(), next_page_token: self.next_page_token }
    }
}

/// Where a page ended. The next one begins after it, even if that item is gone by then.
#[derive(Serialize, Deserialize)]
struct Cursor {
    /// Of the list, filter and order that it belongs to.
    #[serde(rename = "q")]
    binding: String,
    /// The last item's place in the order.
    #[serde(rename = "k")]
    keys: Vec<SortKey>,
    /// The last item's name, which decides between equals.
    #[serde(rename = "n")]
    name: String,
}

/// A filter by itself; an empty one lets everything through.
pub(crate) struct Matcher(Option<Filter>);

impl Matcher {
    /// # Errors
    /// If the filter is malformed.
    pub(crate) fn parse(filter: &str) -> Result<Matcher> {
        Filter::parse(filter).map(Matcher)
    }

    /// Whether an item with these fields is meant.
    ///
    /// # Errors
    /// If the filter names an unknown field.
    pub(crate) fn matches(&self, fields: &serde_json::Value) -> Result<bool> {
        self.0.as_ref().map_or(Ok(true), |filter| filter.matches(fields))
    }
}

impl ListQuery {
    /// The page of `items` that is asked for. `scope` says which list this is, so that a token of another
    /// one is refused; `view` gives an item's name and its fields as filters and orders see them.
    ///
    /// # Errors
    /// If the filter or the order is malformed or names an unknown field, or the token is not of this
    /// list.
    pub(crate) fn page<T>(
        &self,
        scope: &str,
        items: Vec<T>,
        view: impl Fn(&T) -> (String, serde_json::Value),
    ) -> Result<Page<T>> {
        let filter = self.filter.as_deref().map(Filter::parse).transpose()?.flatten();
        let order = Order::parse(self.order_by.as_deref().unwrap_or(""))?;
        let after = self.cursor(scope)?;
        let mut kept = Vec::new();
        for item in items {
            let (name, fields) = view(&item);
            if let Some(filter) = &filter
                && !filter.matches(&fields)?
            {
                continue;
            }
            kept.push((order.keys(&fields)?, name, item));
        }
        kept.sort_by(|a, b| order.compare((&a.0, &a.1), (&b.0, &b.1)));
        if let Some(after) = &after {
            let done =
                kept.partition_point(|k| order.compare((&k.0, &k.1), (&after.keys, &after.name)).is_le());
            kept.drain(..done);
        }
        self.cut(scope, kept)
    }

    fn cut<T>(&self, scope: &str, mut kept: Vec<(Vec<SortKey>, String, T)>) -> Result<Page<T>> {
        let size = match self.page_size {
            None | Some(0) => PAGE_SIZE,
            Some(size) => size.min(PAGE_SIZE_MAX),
        } as usize;
        let more = kept.len() > size;
        kept.truncate(size);
        let last = kept.last().filter(|_| more);
        let cursor = last.map(|(keys, name, _)| Cursor {
            binding: self.binding(scope),
            keys: keys.clone(),
            name: name.clone(),
        });
        let next_page_token = cursor.map(|cursor| {
            let json = serde_json::to_vec(&cursor).map_err(|e| Error::internal("writing a page token", e))?;
            Ok::<_, Error>(URL_SAFE_NO_PAD.encode(json))
        });
        let items = kept.into_iter().map(|(_, _, item)| item).collect();
        Ok(Page { items, next_page_token: next_page_token.transpose()? })
    }

    fn cursor(&self, scope: &str) -> Result<Option<Cursor>> {
        let Some(token) = self.page_token.as_deref().filter(|t| !t.is_empty()) else { return Ok(None) };
        let bytes = (token.len() <= TOKEN_BYTES_MAX).then(|| URL_SAFE_NO_PAD.decode(token).ok()).flatten();
        let cursor = bytes.and_then(|bytes| serde_json::from_slice::<Cursor>(&bytes).ok());
        match cursor {
            None => {
                Err(Error::invalid("page_token is not one that this server gave; start from the first page"))
            }
            Some(cursor) if cursor.binding != self.binding(scope) => Err(Error::invalid(
                "page_token belongs to another list, filter or order; repeat those of the first page, or start \
                 from it",
            )),
            cursor => Ok(cursor),
        }
    }

    /// Distinguishes lists, filters and orders.
    fn binding(&self, scope: &str) -> String {
        let mut hash = Sha256::new();
        for part in [scope, self.filter.as_deref().unwrap_or(""), self.order_by.as_deref().unwrap_or("")] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        URL_SAFE_NO_PAD.encode(&hash.finalize()[..12])
    }
}

/// `createTime` as `create_time`: clients write either.
fn snake_case(field: &str) -> String {
    let mut snake = String::with_capacity(field.len() + 4);
    for c in field.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

/// The value at `path`. A list's items cannot be reached.
///
/// # Errors
/// If there is no field `path[0]` at all: a misspelt filter must not look like one that finds nothing.
fn lookup<'a>(fields: &'a serde_json::Value, path: &[String]) -> Result<Option<&'a serde_json::Value>> {
    let Some((first, rest)) = path.split_first() else { return Ok(None) };
    let Some(mut value) = fields.get(first) else {
        let mut known: Vec<&str> =
            fields.as_object().map(|o| o.keys().map(String::as_str).collect()).unwrap_or_default();
        known.sort_unstable();
        return Err(Error::invalid(format!(
            "there is no field {first:?} to filter or sort by; the fields are {}",
            known.join(", ")
        )));
    };
    for key in rest {
        match value.get(key) {
            Some(inner) => value = inner,
            None => return Ok(None),
        }
    }
    Ok(Some(value).filter(|v| !v.is_null()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn items() -> Vec<Value> {
        vec![
            json!({"name": "a", "display_name": "x", "state": "running", "labels": {"team": "search", "n": "1"},
                   "create_time": "2026-01-01T00:00:00Z", "size": 3, "aliases": ["default", "gold"],
                   "model": "projects/p/locations/l/models/7", "note": null}),
            json!({"name": "b", "display_name": "y z", "state": "failed", "labels": {},
                   "create_time": "2026-01-01T00:00:00.5Z", "size": 20, "aliases": [],
                   "model": "projects/p/locations/l/models/8", "note": "hm"}),
            json!({"name": "c", "display_name": "x", "state": "succeeded", "labels": {"team": "ads"},
                   "create_time": "2026-02-01T00:00:00Z", "size": 100, "aliases": ["new"],
                   "model": "projects/p/locations/l/models/8", "note": null}),
        ]
    }

    fn run(query: &ListQuery) -> Result<Page<String>> {
        let view = |v: &Value| (v["name"].as_str().unwrap().to_owned(), v.clone());
        Ok(query.page("items", items(), view)?.map(|v| v["name"].as_str().unwrap().to_owned()))
    }

    fn filtered(filter: &str) -> Result<String> {
        let query = ListQuery {
            filter: Some(filter.to_owned()),
            order_by: Some("name".to_owned()),
            ..ListQuery::default()
        };
        Ok(run(&query)?.items.concat())
    }

    #[test]
    fn filters_find_what_they_say() {
        let cases = [
            ("", "abc"),
            ("display_name=x", "ac"),
            ("displayName = \"x\"", "ac"),
            ("display_name=\"y z\"", "b"),
            ("display_name='y z'", "b"),
            ("display_name!=x", "b"),
            ("display_name:\"x*\"", "ac"),
            ("display_name:\"*z*\"", "b"),
            ("display_name:\"*\"", "abc"),
            ("labels.team=search", "a"),
            ("labels.\"team\"=search", "a"),
            ("labels.team:*", "ac"),
            ("labels:team", "ac"),
            ("labels.team!=search", "bc"),
            ("labels.n=1", "a"),
            ("state=\"JOB_STATE_RUNNING\"", "a"),
            ("state!=PIPELINE_STATE_FAILED", "ac"),
            ("state=RUNNING OR state=failed", "ab"),
            ("NOT state=running", "bc"),
            ("display_name=x AND NOT (labels.team=search OR size>50)", ""),
            ("display_name=x AND (labels.team=search OR size>50)", "ac"),
            ("create_time>\"2026-01-01T00:00:00Z\"", "bc"),
            ("create_time>=\"2026-01-01T01:00:00+01:00\" AND create_time<\"2026-01-02T00:00:00Z\"", "ab"),
            ("create_time<=2026-01-01T00:00:00Z", "a"),
            ("size<20", "a"),
            ("size=20.0", "b"),
            ("aliases:gold", "a"),
            ("aliases=new", "c"),
            ("model=8", "bc"),
            ("model=\"projects/p/locations/l/models/8\"", "bc"),
            ("note:*", "b"),
            ("NOT note:*", "ac"),
        ];
        for (filter, expected) in cases {
            assert_eq!(filtered(filter).expect(filter), expected, "{filter}");
        }
    }

    #[test]
    fn malformed_filters_say_what_is_wrong() {
        let cases = [
            ("display_name", "after"),
            ("display_name=", "value"),
            ("=x", "field"),
            ("display_name=x AND", "field"),
            ("(display_name=x", "closing"),
            ("display_name=x)", "unexpected"),
            ("display_name=x display_name=y", "AND or OR"),
            ("display_name=x AND size>1 OR size<5", "parentheses"),
            ("display_name=\"x", "quote"),
            ("dysplay_name=x", "no field"),
            ("size>big", "number"),
            ("create_time>yesterday", "time"),
        ];
        for (filter, word) in cases {
            let error = filtered(filter).expect_err(filter);
            assert!(error.message.contains(word), "{filter}: {}", error.message);
        }
        assert!(filtered(&"(".repeat(4000)).is_err());
        assert!(filtered(&"NOT ".repeat(1000)).is_err());
        assert!(filtered(&"x".repeat(100_000)).is_err());
    }

    #[test]
    fn orders_and_pages() {
        let query = |order: &str, size, token: Option<String>| ListQuery {
            order_by: (!order.is_empty()).then(|| order.to_owned()),
            page_size: Some(size),
            page_token: token,
            ..ListQuery::default()
        };
        assert_eq!(run(&query("", 0, None)).unwrap().items.concat(), "cba");
        assert_eq!(run(&query("create_time", 0, None)).unwrap().items.concat(), "abc");
        assert_eq!(run(&query("display_name desc, createTime desc", 0, None)).unwrap().items.concat(), "bca");
        assert_eq!(run(&query("size desc", 0, None)).unwrap().items.concat(), "cba");
        assert!(run(&query("sise", 0, None)).is_err());
        assert!(run(&query("size downwards", 0, None)).is_err());

        let mut seen = String::new();
        let mut token = None;
        loop {
            let page = run(&query("display_name, size desc", 1, token)).unwrap();
            seen += &page.items.concat();
            token = page.next_page_token;
            if token.is_none() {
                break;
            }
        }
        assert_eq!(seen, "cab");

        let token = run(&query("size", 1, None)).unwrap().next_page_token;
        assert!(run(&query("size desc", 1, token.clone())).is_err());
        let other = ListQuery { filter: Some("size>1".into()), ..query("size", 1, token) };
        assert!(run(&other).unwrap_err().message.contains("another list"));
        assert!(run(&query("size", 1, Some("gibberish".into()))).is_err());
    }

    proptest! {
        #[test]
        fn parsing_never_panics(filter in ".{0,200}", order in ".{0,50}", token in "[A-Za-z0-9_-]{0,80}") {
            let query = ListQuery {
                filter: Some(filter),
                order_by: Some(order),
                page_size: None,
                page_token: Some(token),
            };
            let _ = run(&query);
        }

        #[test]
        fn filters_of_the_language_never_panic(parts in prop::collection::vec(
            prop::sample::select(vec!["(", ")", "AND", "OR", "NOT", "=", "!=", "<", ":", "*", "size", "labels.n",
                                      "\"x\"", "'", "state", "5", ".", "create_time"]), 0..40)) {
            let _ = filtered(&parts.join(" "));
            let _ = filtered(&parts.concat());
        }
    }
}

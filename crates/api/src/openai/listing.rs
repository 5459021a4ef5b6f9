//! Lists, a page at a time.

use http::StatusCode;
use serde_json::{Value, json};

use crate::Fault;
use crate::fields::{invalid, unsupported};
use crate::http::{Call, Response, Route, json_reply};

/// Which part of a list is wanted.
pub(super) struct Page {
    limit: usize,
    after: Option<String>,
    oldest_first: bool,
    /// Fields that only this list has.
    pub(super) others: Vec<(String, String)>,
}

/// `route`, known for the parameters of a [`Page`], and `others` that only its list has.
pub(super) fn described(route: Route, others: &[&str]) -> Route {
    route.takes_query(&["limit", "after", "order"]).takes_query(others)
}

impl Page {
    /// Reads the query: at most `most` items at a time, `usual` where it does not say.
    pub(super) fn read(call: &Call, usual: usize, most: usize) -> Result<Page, Fault> {
        let mut page = Page { limit: usual, after: None, oldest_first: false, others: Vec::new() };
        for (name, value) in call.query()? {
            match name.as_str() {
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=most).contains(limit));
                    let wrong = || invalid("limit", format!("must be a number from 1 to {most}"));
                    page.limit = limit.ok_or_else(wrong)?;
                }
                "after" => page.after = Some(value),
                "order" => {
                    page.oldest_first = match value.as_str() {
                        "asc" => true,
                        "desc" => false,
                        _ => return Err(invalid("order", "must be `asc` or `desc`")),
                    };
                }
                _ => page.others.push((name, value)),
            }
        }
        Ok(page)
    }

    /// Takes the field `name` of those that only this list has.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let place = self.others.iter().position(|(other, _)| other == name)?;
        Some(self.others.swap_remove(place).1)
    }

    /// The reply with that part of `items`, each described with its id, the newest first.
    pub(super) fn of(self, items: Vec<Value>) -> Result<Response, Fault> {
        if let Some((name, _)) = self.others.first() {
            return Err(unsupported(name.as_str(), "has no effect on this server: leave it out"));
        }
        let mut items = items;
        if self.oldest_first {
            items.reverse();
        }
        let start = match &self.after {
            None => 0,
            Some(after) => {
                let place = items.iter().position(|item| item["id"] == after.as_str());
                place.ok_or_else(|| invalid("after", "names nothing that is in this list"))? + 1
            }
        };
        let has_more = items.len() - start > self.limit;
        let data: Vec<Value> = items.into_iter().skip(start).take(self.limit).collect();
        let id = |item: Option<&Value>| item.map_or(Value::Null, |item| item["id"].clone());
        let (first, last) = (id(data.first()), id(data.last()));
        let page =
            json!({"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more});
        json_reply(StatusCode::OK, &page)
    }
}

//! [`Entry`]: one line of the audit log.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::artifact::Digest;
use crate::{Error, Result, Role, Timestamp};

/// What an entry tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The server began.
    Start,
    /// Somebody is about to do something. It is written before it is done.
    Act,
    /// How the act `of` ended.
    Outcome,
    /// Requests that were refused for who made them.
    Denied,
}

/// One line of the audit log. It holds nothing of what anybody sent or got, but for the names of resources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// Its number, from 1 without gaps.
    pub n: u64,
    /// When.
    pub time: Timestamp,
    /// What it tells of.
    pub event: Event,
    /// The key's public part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What the key's holder may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The project that was acted in, or the key's where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Where the request came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    /// The request's id, as its answer's `x-request-id` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Which route: `DELETE /admin/v1/keys/{key}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// To which resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Of an outcome, the number of its act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// The HTTP status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How many requests were refused so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The digest of the line before; of nothing, for the first.
    pub previous: Digest,
}

/// Between an entry and its digest, which covers every byte before.
const SEAL: &[u8] = b",\"digest\":\"";
/// Bytes of a digest as it is written.
const DIGEST_BYTES: usize = 71;
/// What ends a line.
const END: &[u8] = b"\"}";

impl Entry {
    /// An entry about `event`, which the log numbers and chains.
    pub(super) fn new(event: Event) -> Self {
        Entry {
            n: 0,
            time: Timestamp::now(),
            event,
            key: None,
            role: None,
            project: None,
            from: None,
            request: None,
            what: None,
            resource: None,
            of: None,
            status: None,
            count: None,
            previous: Digest::of(b""),
        }
    }

    /// The line, without its end, and its digest.
    pub(super) fn line(&self) -> Result<(Vec<u8>, Digest)> {
        let mut line = serde_json::to_vec(self).map_err(|e| Error::internal("writing an audit entry", e))?;
        line.pop();
        let digest = Digest::of(&line);
        line.extend_from_slice(SEAL);
        line.extend_from_slice(digest.to_string().as_bytes());
        line.extend_from_slice(END);
        Ok((line, digest))
    }

    /// Reads a line, without its end: the entry, and its digest if that is right.
    pub fn read(line: &[u8]) -> Option<(Entry, Digest)> {
        let rest = line.strip_suffix(END)?;
        let (rest, digest) = rest.split_at_checked(rest.len().checked_sub(DIGEST_BYTES)?)?;
        let body = rest.strip_suffix(SEAL)?;
        let digest: Digest = std::str::from_utf8(digest).ok()?.parse().ok()?;
        let entry = serde_json::from_slice(&[body, b"}"].concat()).ok()?;
        (Digest::of(body) == digest).then_some((entry, digest))
    }
}

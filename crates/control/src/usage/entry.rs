//! [`Entry`]: one line of the ledger.

use serde::{Deserialize, Serialize};

use super::{Account, Amount, Money};

/// What was used, by whom, when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// By whom, of what.
    pub(crate) account: Account,
    /// How much.
    pub(crate) amount: Amount,
}

/// An entry as it is written: one JSON list.
#[derive(Serialize, Deserialize)]
struct Line<'a>(
    u64,
    #[serde(borrow)] std::borrow::Cow<'a, str>,
    #[serde(borrow)] std::borrow::Cow<'a, str>,
    #[serde(borrow)] std::borrow::Cow<'a, str>,
    [u64; 6],
);

/// Digits of a line's checksum.
const SUM_DIGITS: usize = 8;

/// Whose use an entry is, by the names in an [`Account`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct User<'a> {
    pub(crate) project: &'a str,
    pub(crate) key: &'a str,
    pub(crate) model: &'a str,
}

impl<'a> From<&'a Account> for User<'a> {
    fn from(account: &'a Account) -> Self {
        User { project: &account.project, key: &account.key, model: &account.model }
    }
}

impl Entry {
    /// Appends to `bytes` that `user` used `amount` then: a checksum, a blank, a JSON list and the end of the line.
    pub(crate) fn write(at_ms: u64, user: User<'_>, amount: &Amount, bytes: &mut Vec<u8>) {
        let User { project, key, model } = user;
        // Only jobs train, and what they take is no entry: see `JobUsage`.
        let Amount { requests, prompt_tokens, cached_tokens, output_tokens, rows, cost, training_seconds: _ } =
            *amount;
        let figures = [requests, prompt_tokens, cached_tokens, output_tokens, rows, cost.0];
        let line = Line(at_ms, project.into(), key.into(), model.into(), figures);
        let start = bytes.len();
        bytes.extend_from_slice(b"00000000 ");
        let content = bytes.len();
        // Writing to memory does not fail.
        let _ = serde_json::to_writer(&mut *bytes, &line);
        let mut sum = sum_of(&bytes[content..]);
        for digit in bytes[start..start + SUM_DIGITS].iter_mut().rev() {
            *digit = b"0123456789abcdef"[(sum & 15) as usize];
            sum >>= 4;
        }
        bytes.push(b'\n');
    }

    /// Reads a line without its end; `None` if it is not as it was written.
    pub(crate) fn read(line: &[u8]) -> Option<Entry> {
        let (sum, content) = line.split_at_checked(SUM_DIGITS)?;
        let content = content.strip_prefix(b" ")?;
        let sum = u32::from_str_radix(std::str::from_utf8(sum).ok()?, 16).ok()?;
        if sum != sum_of(content) {
            return None;
        }
        let Line(at_ms, project, key, model, figures) = serde_json::from_slice(content).ok()?;
        let [requests, prompt_tokens, cached_tokens, output_tokens, rows, cost] = figures;
        let cost = Money(cost);
        let amount =
            Amount { requests, prompt_tokens, cached_tokens, output_tokens, rows, cost, ..Amount::default() };
        let (project, key, model) = (project.into_owned(), key.into_owned(), model.into_owned());
        Some(Entry { at_ms, account: Account { project, key, model }, amount })
    }
}

fn sum_of(content: &[u8]) -> u32 {
    u32::try_from(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, content)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let account = Account { project: "p".into(), key: "0a".into(), model: "tab\t\"ä\"\n".into() };
        let amount = Amount { requests: 1, output_tokens: 7, cost: Money(u64::MAX), ..Amount::default() };
        let entry = Entry { at_ms: 1_764_200_000_123, account, amount };
        let mut bytes = Vec::new();
        Entry::write(entry.at_ms, User::from(&entry.account), &entry.amount, &mut bytes);
        let line = bytes.strip_suffix(b"\n").unwrap();
        assert_eq!(Entry::read(line), Some(entry));
        for cut in 0..line.len() {
            assert_eq!(Entry::read(&line[..cut]), None);
            let mut other = line.to_vec();
            other[cut] ^= 1;
            assert_eq!(Entry::read(&other), None, "{}", String::from_utf8_lossy(&other));
        }
        assert_eq!(Entry::read(&[0; 64]), None);
    }
}

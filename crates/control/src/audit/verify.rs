//! [`verify`]: whether an audit log is as it was written.

use std::io::{self, BufRead};

use super::LINE_BYTES_MAX;
use super::entry::Entry;
use crate::artifact::Digest;

/// The last entry of a log, as it is known elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its number; 0 for an empty log.
    pub n: u64,
    /// Its digest.
    pub digest: Digest,
}

impl Head {
    /// Of a log without entries.
    pub fn empty() -> Self {
        Head { n: 0, digest: Digest::of(b"") }
    }
}

/// What was found in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The last entry up to which everything is as it was written.
    pub head: Head,
    /// What is wrong after it.
    pub fault: Option<String>,
}

/// Reads a log from its first entry. `known` must be in it.
///
/// # Errors
/// If it cannot be read. What is wrong with it is in the verdict.
pub fn verify(mut log: impl BufRead, known: Option<Head>) -> io::Result<Verdict> {
    let mut head = Head::empty();
    let mut has_known = known.is_none_or(|known| known.n == 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = io::Read::take(&mut log, LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        let place = head.n + 1;
        let wrong = |what: String| Ok(Verdict { head, fault: Some(what) });
        match line.split_last() {
            None => break,
            Some((b'\n', body)) => match Entry::read(body) {
                None => return wrong(format!("entry {place} was altered")),
                Some((entry, _)) if entry.n > place => {
                    return wrong(format!("entry {place} is missing: entry {} stands in its place", entry.n));
                }
                Some((entry, _)) if entry.n < place => {
                    return wrong(format!("entry {} stands where entry {place} belongs", entry.n));
                }
                Some((entry, _)) if entry.previous != head.digest => {
                    return wrong(format!(
                        "entry {place} does not follow entry {}: one of them was exchanged",
                        head.n
                    ));
                }
                Some((entry, digest)) => head = Head { n: entry.n, digest },
            },
            Some(_) => {
                let length = read as u64;
                let what = if length == LINE_BYTES_MAX { "is longer than any" } else { "is cut off" };
                return wrong(format!("entry {place} {what}"));
            }
        }
        if let Some(known) = known.filter(|known| known.n == head.n) {
            if known.digest != head.digest {
                return Ok(Verdict {
                    head,
                    fault: Some(format!("entry {} is another than was written", head.n)),
                });
            }
            has_known = true;
        }
    }
    let fault = known.filter(|_| !has_known).map(|known| {
        format!("the log ends with entry {}, and {} were written: the end was cut off", head.n, known.n)
    });
    Ok(Verdict { head, fault })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::entry::Event;
    use super::*;

    /// A log of so many entries, in lines, and its head.
    fn log(entries: u64) -> (Vec<Vec<u8>>, Head) {
        let (mut lines, mut head) = (Vec::new(), Head::empty());
        for n in 1..=entries {
            let entry = Entry {
                n,
                previous: head.digest,
                what: Some(format!("POST /{n}")),
                ..Entry::new(Event::Act)
            };
            let (mut line, digest) = entry.line().unwrap();
            line.push(b'\n');
            lines.push(line);
            head = Head { n, digest };
        }
        (lines, head)
    }

    fn fault(lines: &[Vec<u8>], head: Head) -> Option<String> {
        verify(lines.concat().as_slice(), Some(head)).unwrap().fault
    }

    #[test]
    fn a_log_as_it_was_written_is_sound() {
        let (lines, head) = log(20);
        assert_eq!(verify(lines.concat().as_slice(), Some(head)).unwrap(), Verdict { head, fault: None });
        assert_eq!(verify(&b""[..], Some(Head::empty())).unwrap().fault, None);
        // Entries after the head are those that were written since.
        let earlier = Head { n: 19, digest: Entry::read(lines[18].strip_suffix(b"\n").unwrap()).unwrap().1 };
        assert_eq!(fault(&lines, earlier), None);
    }

    #[test]
    fn what_is_removed_is_found() {
        let (lines, head) = log(20);
        for gone in 0..20 {
            let mut less = lines.clone();
            less.remove(gone);
            assert!(fault(&less, head).is_some(), "without {gone}");
        }
        for kept in 0..20 {
            assert!(fault(&lines[..kept], head).is_some(), "the first {kept}");
        }
    }

    #[test]
    fn what_is_reordered_or_repeated_is_found() {
        let (lines, head) = log(8);
        for a in 0..8 {
            for b in 0..a {
                let mut other = lines.clone();
                other.swap(a, b);
                assert!(fault(&other, head).is_some(), "{a} and {b} exchanged");
            }
            let mut other = lines.clone();
            other.insert(a, lines[a].clone());
            assert!(fault(&other, head).is_some(), "{a} twice");
        }
    }

    #[test]
    fn what_is_altered_is_found_to_the_last_bit() {
        let (lines, head) = log(3);
        let whole = lines.concat();
        for place in 0..whole.len() {
            for bit in [0, 3, 7] {
                let mut other = whole.clone();
                other[place] ^= 1 << bit;
                assert!(
                    verify(other.as_slice(), Some(head)).unwrap().fault.is_some(),
                    "byte {place}, bit {bit}"
                );
            }
        }
        for end in 0..whole.len() {
            assert!(verify(&whole[..end], Some(head)).unwrap().fault.is_some(), "cut at {end}");
        }
    }

    /// Who writes the rest of the chain anew is found by the head that is kept elsewhere.
    #[test]
    fn another_log_is_not_this_one() {
        let (_, head) = log(20);
        let (mut lines, other) = log(19);
        let forged = Entry { n: 20, previous: other.digest, ..Entry::new(Event::Start) };
        let mut line = forged.line().unwrap().0;
        line.push(b'\n');
        lines.push(line);
        assert!(fault(&lines, head).is_some());
    }
}

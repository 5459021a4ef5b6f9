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

/// Reads a log from its first entry, which follows `base`: the last of those that were archived before, or none. Some of
/// these may still be there, `base` among them. `known` must be in it.
///
/// # Errors
/// If it cannot be read. What is wrong with it is in the verdict.
pub fn verify(mut log: impl BufRead, base: Head, known: Option<Head>) -> io::Result<Verdict> {
    let mut head = begin(&mut log, base)?;
    let known = known.filter(|known| known.n > base.n || *known != base);
    let mut has_known = known.is_none_or(|known| known.n == 0);
    let mut has_base = head.n == base.n;
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
        if !has_base && head.n == base.n {
            if head.digest != base.digest {
                let fault = format!("entry {} is another than was archived", head.n);
                return Ok(Verdict { head, fault: Some(fault) });
            }
            has_base = true;
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
    if !has_base {
        let fault = format!("the log ends with entry {}, before entry {} that was archived", head.n, base.n);
        return Ok(Verdict { head, fault: Some(fault) });
    }
    let fault = known.filter(|_| !has_known).map(|known| {
        format!("the log ends with entry {}, and {} were written: the end was cut off", head.n, known.n)
    });
    Ok(Verdict { head, fault })
}

/// What the first entry of a log follows, as far as it says so credibly: `base`, or an entry before that.
fn begin(log: &mut impl BufRead, base: Head) -> io::Result<Head> {
    if base.n == 0 {
        return Ok(base);
    }
    // As much of the log as is at hand holds the first line, mostly; where it does not, there is more to ask for.
    let first = log.fill_buf()?;
    let line = first.iter().position(|byte| *byte == b'\n').and_then(|end| Entry::read(&first[..end]));
    Ok(match line {
        Some((entry, _)) if entry.n <= base.n => {
            Head { n: entry.n.saturating_sub(1), digest: entry.previous }
        }
        _ => base,
    })
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
        verify(lines.concat().as_slice(), Head::empty(), Some(head)).unwrap().fault
    }

    #[test]
    fn a_log_goes_on_where_its_archive_ends() {
        let (lines, head) = log(20);
        let base = Head { n: 8, digest: Entry::read(lines[7].strip_suffix(b"\n").unwrap()).unwrap().1 };
        let of = |lines: &[Vec<u8>], known| verify(lines.concat().as_slice(), base, known).unwrap();
        assert_eq!(of(&lines[8..], Some(head)), Verdict { head, fault: None });
        // What is archived and still there does no harm.
        assert_eq!(of(&lines[5..], Some(head)), Verdict { head, fault: None });
        assert_eq!(of(&lines, Some(head)), Verdict { head, fault: None });
        // All of it is archived.
        assert_eq!(of(&[], Some(base)), Verdict { head: base, fault: None });
        let forged = Head { digest: Digest::of(b"other"), ..base };
        for (kept, base, known) in [
            (&lines[9..], base, Some(head)),
            (&lines[8..12], base, Some(head)),
            (&lines[4..7], base, None),
            (&lines[8..], forged, Some(head)),
            (&lines[..], forged, Some(head)),
            (&[], base, Some(head)),
        ] {
            assert!(verify(kept.concat().as_slice(), base, known).unwrap().fault.is_some(), "{}", kept.len());
        }
    }

    #[test]
    fn a_log_as_it_was_written_is_sound() {
        let (lines, head) = log(20);
        assert_eq!(
            verify(lines.concat().as_slice(), Head::empty(), Some(head)).unwrap(),
            Verdict { head, fault: None }
        );
        assert_eq!(verify(&b""[..], Head::empty(), Some(Head::empty())).unwrap().fault, None);
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
                    verify(other.as_slice(), Head::empty(), Some(head)).unwrap().fault.is_some(),
                    "byte {place}, bit {bit}"
                );
            }
        }
        for end in 0..whole.len() {
            assert!(
                verify(&whole[..end], Head::empty(), Some(head)).unwrap().fault.is_some(),
                "cut at {end}"
            );
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

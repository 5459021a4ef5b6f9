//! [`ScoreCounts`]: how many positives and negatives got each score, exactly, in little memory.
//!
//! Areas under a curve need the order of all scores. Scores are `f32`, so counting how often each distinct score
//! occurs loses nothing. The counts are kept sorted and compressed: gaps between neighbours as variable-length
//! integers, two to four bytes for a score that occurs once. When even that exceeds the bound, the lowest bit of
//! every score is dropped, as often as needed, and whoever reads the counts can compute how far off that may be.
//!
//! How many bits are dropped depends on what was counted alone, not on its order or on how it was split, because
//! the compressed length never shrinks when something is added.

/// Scores of one class that compared equal, or that are no longer told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bin {
    /// Order of the score: ascending with it.
    pub(crate) key: u32,
    /// The class scored.
    pub(crate) class: u32,
    /// Rows of another class.
    pub(crate) negatives: u64,
    /// Rows of this class.
    pub(crate) positives: u64,
}

/// A [`Bin`] under one number, key · classes + class: what is sorted, merged and compressed.
#[derive(Debug, Clone, Copy)]
struct Entry {
    id: u64,
    negatives: u64,
    positives: u64,
}

/// Counts per distinct (score, class).
#[derive(Debug, Clone)]
pub(crate) struct ScoreCounts {
    classes: u32,
    /// Low bits of the score's order that are dropped; 0: every score is kept apart.
    dropped_bits: u32,
    /// Sorted bins, compressed; at most `bytes_max` long but for a moment.
    encoded: Vec<u8>,
    /// Observations not yet in `encoded`: (key · classes + class) · 2 + positive.
    pending: Vec<u64>,
    bytes_max: usize,
}

impl ScoreCounts {
    /// `classes` at least 1; `bytes_max` bounds the compressed counts. In all, four times as much may be in use for
    /// a moment, and some kilobytes are always allowed.
    pub(crate) fn new(classes: u32, bytes_max: usize) -> Self {
        ScoreCounts {
            classes,
            dropped_bits: 0,
            encoded: Vec::new(),
            pending: Vec::new(),
            bytes_max: bytes_max.max(4096),
        }
    }

    /// Counts one score, which is not NaN.
    pub(crate) fn observe(&mut self, class: u32, score: f32, positive: bool) {
        let key = u64::from(order(score) >> self.dropped_bits);
        let id = key * u64::from(self.classes) + u64::from(class);
        self.pending.push(id << 1 | u64::from(positive));
        if self.pending.len() >= self.pending_max() {
            self.settle();
        }
    }

    /// Adds all that another has counted, over the same classes.
    pub(crate) fn merge(&mut self, mut other: ScoreCounts) {
        self.settle();
        other.settle();
        while self.dropped_bits < other.dropped_bits {
            self.coarsen();
        }
        while other.dropped_bits < self.dropped_bits {
            other.coarsen();
        }
        self.encoded = encode(Merged::new(self.decode(), other.decode()));
        self.fit();
    }

    /// Brings everything into order, for [`ScoreCounts::bins`].
    pub(crate) fn settle(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.sort_unstable();
        self.encoded = encode(Merged::new(self.decode(), Runs { rest: &pending }));
        pending.clear();
        self.pending = pending;
        self.fit();
    }

    /// The bins in ascending order of score, then of class; complete after [`ScoreCounts::settle`].
    pub(crate) fn bins(&self) -> impl Iterator<Item = Bin> + '_ {
        let classes = u64::from(self.classes);
        self.decode().map(move |Entry { id, negatives, positives }| Bin {
            key: (id / classes) as u32,
            class: (id % classes) as u32,
            negatives,
            positives,
        })
    }

    /// Low bits of the scores that are not told apart; 0 when the counts are exact.
    pub(crate) fn dropped_bits(&self) -> u32 {
        self.dropped_bits
    }

    /// Large enough that merging stays cheap beside sorting, small enough for the bound.
    fn pending_max(&self) -> usize {
        (self.encoded.len() / 4).max(1 << 16).min(self.bytes_max / 8)
    }

    fn fit(&mut self) {
        while self.encoded.len() > self.bytes_max && self.dropped_bits < 31 {
            self.coarsen();
        }
    }

    fn coarsen(&mut self) {
        self.encoded = encode(Coarser::new(u64::from(self.classes), self.decode()));
        self.dropped_bits += 1;
    }

    fn decode(&self) -> Decoder<'_> {
        Decoder { rest: &self.encoded, id: 0 }
    }
}

/// Maps a score to an integer of the same order. The two zeros are one score.
fn order(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// What follows the gap in the compressed form.
const ONE_NEGATIVE: u64 = 0;
const ONE_POSITIVE: u64 = 1;
const COUNTS_FOLLOW: u64 = 2;

fn encode(entries: impl Iterator<Item = Entry>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut last = 0;
    for Entry { id, negatives, positives } in entries {
        let gap = id - last;
        last = id;
        match (negatives, positives) {
            (1, 0) => push_varint(&mut out, gap << 2 | ONE_NEGATIVE),
            (0, 1) => push_varint(&mut out, gap << 2 | ONE_POSITIVE),
            _ => {
                push_varint(&mut out, gap << 2 | COUNTS_FOLLOW);
                push_varint(&mut out, negatives);
                push_varint(&mut out, positives);
            }
        }
    }
    out
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 & 0x7f | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads what [`encode`] wrote.
struct Decoder<'a> {
    rest: &'a [u8],
    id: u64,
}

impl Decoder<'_> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        let mut shift = 0;
        loop {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
            shift += 7;
        }
    }
}

impl Iterator for Decoder<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let tagged = self.varint()?;
        self.id += tagged >> 2;
        let (negatives, positives) = match tagged & 3 {
            ONE_NEGATIVE => (1, 0),
            ONE_POSITIVE => (0, 1),
            _ => (self.varint()?, self.varint()?),
        };
        Some(Entry { id: self.id, negatives, positives })
    }
}

/// Sorted pending observations as entries.
struct Runs<'a> {
    rest: &'a [u64],
}

impl Iterator for Runs<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let id = *self.rest.first()? >> 1;
        let same = self.rest.iter().take_while(|o| **o >> 1 == id).count();
        let (run, rest) = self.rest.split_at(same);
        self.rest = rest;
        let positives = run.iter().filter(|o| *o & 1 == 1).count() as u64;
        Some(Entry { id, negatives: same as u64 - positives, positives })
    }
}

/// Two sorted sequences of entries as one; equal ones are added.
struct Merged<A: Iterator<Item = Entry>, B: Iterator<Item = Entry>> {
    a: std::iter::Peekable<A>,
    b: std::iter::Peekable<B>,
}

impl<A: Iterator<Item = Entry>, B: Iterator<Item = Entry>> Merged<A, B> {
    fn new(a: A, b: B) -> Self {
        Merged { a: a.peekable(), b: b.peekable() }
    }
}

impl<A: Iterator<Item = Entry>, B: Iterator<Item = Entry>> Iterator for Merged<A, B> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let (Some(a), Some(b)) = (self.a.peek(), self.b.peek()) else {
            return self.a.next().or_else(|| self.b.next());
        };
        match a.id.cmp(&b.id) {
            std::cmp::Ordering::Less => self.a.next(),
            std::cmp::Ordering::Greater => self.b.next(),
            std::cmp::Ordering::Equal => {
                let (a, b) = (self.a.next()?, self.b.next()?);
                Some(Entry {
                    negatives: a.negatives + b.negatives,
                    positives: a.positives + b.positives,
                    ..a
                })
            }
        }
    }
}

/// The same entries with one bit less of the score: pairs of neighbouring keys become one.
struct Coarser<I: Iterator<Item = Entry>> {
    classes: u64,
    finer: std::iter::Peekable<I>,
    /// The classes of one coarse key, descending, given out from the end.
    group: Vec<Entry>,
}

impl<I: Iterator<Item = Entry>> Coarser<I> {
    fn new(classes: u64, finer: I) -> Self {
        Coarser { classes, finer: finer.peekable(), group: Vec::new() }
    }

    fn next_group(&mut self) -> Option<()> {
        let classes = self.classes;
        let coarse = |id: u64| (id / classes) >> 1;
        let key = coarse(self.finer.peek()?.id);
        while let Some(entry) = self.finer.next_if(|e| coarse(e.id) == key) {
            self.group.push(Entry { id: key * classes + entry.id % classes, ..entry });
        }
        self.group.sort_unstable_by_key(|e| e.id);
        self.group.dedup_by(|later, kept| {
            let same = later.id == kept.id;
            if same {
                kept.negatives += later.negatives;
                kept.positives += later.positives;
            }
            same
        });
        self.group.reverse();
        Some(())
    }
}

impl<I: Iterator<Item = Entry>> Iterator for Coarser<I> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        if self.group.is_empty() {
            self.next_group()?;
        }
        self.group.pop()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::random::Random;
    use std::collections::BTreeMap;

    fn observations(seed: u64, n: usize, classes: u32) -> Vec<(u32, f32, bool)> {
        let mut random = Random::new(seed);
        (0..n)
            .map(|_| {
                let score = match random.below(4) {
                    0 => random.below(10) as f32 / 10.0,
                    1 => -random.unit() as f32 * 1e6,
                    _ => random.unit() as f32,
                };
                (random.below(u64::from(classes)) as u32, score, random.below(2) == 1)
            })
            .collect()
    }

    fn count(observations: &[(u32, f32, bool)], classes: u32, bytes_max: usize) -> ScoreCounts {
        let mut counts = ScoreCounts::new(classes, bytes_max);
        for (class, score, positive) in observations {
            counts.observe(*class, *score, *positive);
        }
        counts
    }

    fn bins(counts: &mut ScoreCounts) -> Vec<Bin> {
        counts.settle();
        counts.bins().collect()
    }

    #[test]
    fn order_is_that_of_the_scores() {
        let scores = [f32::NEG_INFINITY, -2.0, -1e-40, 0.0, 1e-40, 0.5, 1.0, f32::INFINITY];
        assert!(scores.windows(2).all(|w| order(w[0]) < order(w[1])));
        assert_eq!(order(-0.0), order(0.0));
    }

    #[test]
    fn counts_are_exact_within_the_bound() {
        let seen = observations(1, 5000, 3);
        let mut counts = count(&seen, 3, 1 << 20);
        let mut expected = BTreeMap::new();
        for (class, score, positive) in &seen {
            let entry: &mut (u64, u64) = expected.entry((order(*score), *class)).or_default();
            if *positive { entry.1 += 1 } else { entry.0 += 1 }
        }
        let found: BTreeMap<_, _> =
            bins(&mut counts).iter().map(|b| ((b.key, b.class), (b.negatives, b.positives))).collect();
        assert_eq!(found, expected);
        assert_eq!(counts.dropped_bits(), 0);
    }

    #[test]
    fn beyond_the_bound_bits_are_dropped_and_no_row_is() {
        let seen = observations(2, 40_000, 3);
        let mut counts = count(&seen, 3, 4096);
        let bins = bins(&mut counts);
        assert!(counts.dropped_bits() > 0 && counts.encoded.len() <= 4096);
        assert_eq!(bins.iter().map(|b| b.negatives + b.positives).sum::<u64>(), 40_000);
        assert!(bins.windows(2).all(|w| (w[0].key, w[0].class) < (w[1].key, w[1].class)));
    }

    #[test]
    fn any_split_in_any_order_gives_the_same_counts() {
        for (seed, bytes_max) in [(3, 1 << 20), (4, 5000), (5, 20_000)] {
            let seen = observations(seed, 30_000, 4);
            let mut whole = count(&seen, 4, bytes_max);
            let expected = bins(&mut whole);
            for parts in [2, 5] {
                let mut split: Vec<ScoreCounts> =
                    seen.chunks(seen.len() / parts + 1).map(|part| count(part, 4, bytes_max)).collect();
                let mut merged = split.pop().unwrap();
                while let Some(part) = split.pop() {
                    merged.merge(part);
                }
                assert_eq!(merged.dropped_bits(), whole.dropped_bits());
                assert_eq!(bins(&mut merged), expected);
            }
        }
    }
}

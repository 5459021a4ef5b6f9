//! Tokens that may still be drawn, and the filters that leave fewer of them.

use std::cmp::Ordering;

/// A token and its weight: its probability up to a factor common to all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The token.
    pub token: u32,
    /// In `0 ..= 1`; 1 for the most probable.
    pub weight: f32,
}

/// How many of the most probable are looked at first. Most of the probability is nearly always there.
const FIRST: usize = 256;

/// By weight, greatest first; of equals the lower token: an order that leaves nothing to chance.
fn by_weight(a: &Candidate, b: &Candidate) -> Ordering {
    b.weight.total_cmp(&a.weight).then(a.token.cmp(&b.token))
}

/// Tokens that may be drawn.
#[derive(Clone, Debug)]
pub(super) struct Candidates {
    all: Vec<Candidate>,
    /// How many at the beginning are the greatest, in order.
    sorted: usize,
}

/// Leaves fewer candidates, never none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Filter {
    TopK(usize),
    Typical(f32),
    TopP(f32),
    MinP(f32),
}

impl Filter {
    pub(super) fn apply(self, candidates: Candidates) -> Candidates {
        match self {
            Filter::TopK(count) => candidates.top_k(count),
            Filter::Typical(share) => candidates.typical(share),
            Filter::TopP(share) => candidates.top_p(share),
            Filter::MinP(share) => candidates.min_p(share),
        }
    }
}

impl Candidates {
    /// Every token whose weight is above zero. `greatest` is the greatest of `logits`.
    pub(super) fn new(logits: &[f32], greatest: f32, temperature: f32) -> Candidates {
        let weigh = |(token, &logit): (usize, &f32)| Candidate {
            token: token as u32,
            weight: ((logit - greatest) / temperature).exp(),
        };
        let all = logits.iter().enumerate().map(weigh).filter(|candidate| candidate.weight > 0.0).collect();
        Candidates { all, sorted: 0 }
    }

    fn total(&self) -> f64 {
        self.all.iter().map(|candidate| f64::from(candidate.weight)).sum()
    }

    /// Brings at least the `count` greatest to the beginning, in order.
    fn sort_first(&mut self, count: usize) {
        let count = count.min(self.all.len());
        if count <= self.sorted {
            return;
        }
        if count < self.all.len() {
            self.all.select_nth_unstable_by(count, by_weight);
        }
        self.all[..count].sort_unstable_by(by_weight);
        self.sorted = count;
    }

    fn truncate(&mut self, len: usize) {
        self.all.truncate(len.max(1));
        self.sorted = self.sorted.min(self.all.len());
    }

    fn top_k(mut self, count: usize) -> Candidates {
        self.sort_first(count);
        self.truncate(count);
        self
    }

    fn top_p(mut self, share: f32) -> Candidates {
        let wanted = self.total() * f64::from(share);
        let mut looked = FIRST;
        loop {
            self.sort_first(looked);
            let mut sum = 0.0;
            let enough = self.all[..self.sorted].iter().position(|candidate| {
                sum += f64::from(candidate.weight);
                sum >= wanted
            });
            if let Some(last) = enough {
                self.truncate(last + 1);
                return self;
            }
            if self.sorted == self.all.len() {
                return self;
            }
            looked *= 8;
        }
    }

    fn min_p(mut self, share: f32) -> Candidates {
        let greatest = self.all.iter().fold(0.0, |greatest: f32, candidate| greatest.max(candidate.weight));
        self.all.retain(|candidate| candidate.weight >= share * greatest);
        self.sorted = 0;
        self
    }

    /// Nearest to the entropy first, until the share is reached.
    fn typical(mut self, share: f32) -> Candidates {
        let total = self.total();
        let information = |candidate: &Candidate| -(f64::from(candidate.weight) / total).ln();
        let entropy: f64 = self
            .all
            .iter()
            .map(|candidate| f64::from(candidate.weight) / total * information(candidate))
            .sum();
        let distance = |candidate: &Candidate| (information(candidate) - entropy).abs();
        self.all.sort_unstable_by(|a, b| distance(a).total_cmp(&distance(b)).then(a.token.cmp(&b.token)));
        let wanted = total * f64::from(share);
        let mut sum = 0.0;
        let last = self.all.iter().position(|candidate| {
            sum += f64::from(candidate.weight);
            sum >= wanted
        });
        self.sorted = 0;
        if let Some(last) = last {
            self.truncate(last + 1);
        }
        self
    }

    /// The token under `point` (in `0 .. 1`) when the candidates are laid side by side.
    pub(super) fn draw(&self, point: f64) -> Option<u32> {
        let target = self.total() * point;
        let mut sum = 0.0;
        let drawn = self.all.iter().find(|candidate| {
            sum += f64::from(candidate.weight);
            sum > target
        });
        drawn.or(self.all.last()).map(|candidate| candidate.token)
    }
}

/// The `count` greatest of `values` with their places, greatest first; of equals the first.
pub(super) fn greatest_of(values: &[f32], count: usize) -> Vec<(u32, f32)> {
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let mut kept: Vec<(u32, f32)> = Vec::with_capacity(count + 1);
    for (place, &value) in values.iter().enumerate() {
        let full = kept.len() == count;
        if count == 0 || value.is_nan() || (full && kept.last().is_some_and(|last| value <= last.1)) {
            continue;
        }
        let entry = (place as u32, value);
        let at = kept.partition_point(|other| order(other, &entry).is_lt());
        kept.insert(at, entry);
        kept.truncate(count);
    }
    kept
}

//! Fits the `evidence` text step: the smoothed log-frequency of each term in each class, weighted by
//! rarity (naive Bayes as features; Wang and Manning 2012 show that it is hard to beat on short texts).
//!
//! A training row must not see evidence from its own label, or the network learns to trust it too much.
//! So the training rows' columns are computed with the row itself left out of the counts, which costs one
//! logarithm a term, and exactly equals counting again without it.

use std::collections::HashMap;

use formats::manifest::Evidence;
use tensor::features::for_each_part;
use tensor::features::tokens::{Scratch, Tokenizer};

use super::vocabulary::Tally;
use crate::target::Target;

/// Added to every count.
const SMOOTHING: f64 = 0.3;
/// A term of fewer texts than this says nothing about a text that is not in the training rows.
const TEXTS_MIN: u32 = 2;
/// The most terms of a block, and the most numbers in its table.
const TERMS_MAX: usize = 50_000;
const TABLE_MAX: usize = 1_500_000;
/// Ranges of the label that stand for classes in a regression.
const RANGES: usize = 10;

/// Words, parts of words, pairs of words.
const BLOCKS: usize = 3;

/// The class of each training text, if it has a column, and how many there are.
#[derive(Debug)]
pub(super) struct Classes {
    of: Vec<Option<u32>>,
    count: usize,
}

/// The classes of the training rows; ranges of equal numbers of rows for a regression. With more classes
/// than columns, the most frequent ones.
pub(super) fn classes(target: &Target, training: &[usize], width: usize) -> Classes {
    match target {
        Target::Classes { labels, of } => {
            let own = |i: &usize| of.get(*i).copied().unwrap_or(0);
            let mut counts = vec![0u64; labels.len()];
            training.iter().for_each(|i| counts[own(i) as usize] += 1);
            let mut order: Vec<usize> = (0..labels.len()).collect();
            order.sort_by_key(|&class| std::cmp::Reverse(counts[class]));
            order.truncate(width);
            order.sort_unstable();
            let mut column = vec![None; labels.len()];
            for (place, class) in (0u32..).zip(&order) {
                column[*class] = Some(place);
            }
            let of = training.iter().map(|i| column[own(i) as usize]).collect();
            Classes { of, count: order.len() }
        }
        Target::Numbers(numbers) => {
            let own = |i: &usize| numbers.get(*i).copied().unwrap_or(0.0);
            let mut sorted: Vec<f32> = training.iter().map(own).collect();
            sorted.sort_by(f32::total_cmp);
            let count = RANGES.min(width).max(1);
            let mut bounds: Vec<f32> =
                (1..count).filter_map(|i| sorted.get(i * sorted.len() / count).copied()).collect();
            bounds.dedup();
            let range = |i: &usize| Some(bounds.partition_point(|bound| *bound <= own(i)) as u32);
            Classes { of: training.iter().map(range).collect(), count: bounds.len() + 1 }
        }
    }
}

/// One kind of term with its counts.
struct Block {
    ids: HashMap<Box<str>, u32>,
    terms: Vec<String>,
    /// `[terms, classes]`
    counts: Vec<f32>,
    /// Terms of each class.
    totals: Vec<f64>,
    /// Of each term; their mean is 1.
    rarity: Vec<f64>,
    /// `ln((count + a) / (total + a * terms))`: `[terms, classes]`
    logs: Vec<f64>,
}

/// Fits a step of at most `width` columns; also gives the evidence columns of the training rows.
pub(super) fn fit(texts: &[&str], classes: &Classes, width: usize) -> (Evidence, Vec<f32>) {
    let count = classes.count.max(1);
    let used = (width / count).clamp(1, BLOCKS);
    let mut blocks = vocabularies(texts, count, used);
    count_classes(texts, classes, &mut blocks);
    blocks.iter_mut().for_each(|block| block.finish(count));
    let mut rows = left_out(texts, classes, &blocks);
    let columns = used * count;
    let (mut mean, mut deviation) = standardize(&mut rows, columns);
    let chosen = choose(&blocks[0], count, width.saturating_sub(columns));
    let chosen_weight = chosen.iter().map(|id| blocks[0].rarity[*id as usize] as f32).collect();
    mean.resize(columns + chosen.len(), 0.0);
    deviation.resize(columns + chosen.len(), 1.0);
    let mut evidence = blocks.iter().map(|block| block.evidence(count));
    let mut next = || evidence.next().unwrap_or_default();
    let (word_evidence, part_evidence, pair_evidence) = (next(), next(), next());
    let pairs = blocks.get(2).map(|block| pair_ids(block, &blocks[0])).unwrap_or_default();
    let mut terms = blocks.into_iter().map(|block| block.terms);
    let words = terms.next().unwrap_or_default();
    let parts = terms.next().unwrap_or_default();
    let table = Evidence {
        classes: count,
        words,
        word_evidence,
        pairs,
        pair_evidence,
        parts,
        part_evidence,
        blocks: used,
        chosen,
        chosen_weight,
        mean,
        deviation,
    };
    (table, rows)
}

/// Calls `f` with the block and the form of every term of a text.
fn for_each_term(text: &str, used: usize, scratch: &mut Scratch, mut f: impl FnMut(usize, &str)) {
    Tokenizer::Words.join(text, scratch);
    let Scratch { joined, ends, padded, bounds, .. } = scratch;
    for (i, span) in ends.iter().enumerate() {
        let word = joined.get(span.clone()).unwrap_or_default();
        f(0, word);
        if used > 1 {
            for_each_part(word, padded, bounds, |part| f(1, part));
        }
        if used > 2
            && let Some(next) = ends.get(i + 1)
        {
            f(2, joined.get(span.start..next.end).unwrap_or_default());
        }
    }
}

/// The terms of each block, with their numbers of texts as rarity for now.
fn vocabularies(texts: &[&str], count: usize, used: usize) -> Vec<Block> {
    let mut tallies: Vec<Tally> = (0..used).map(|_| Tally::default()).collect();
    let mut scratch = Scratch::default();
    for (i, text) in (0u32..).zip(texts) {
        for_each_term(text, used, &mut scratch, |block, term| tallies[block].add(term, i));
        tallies.iter_mut().for_each(Tally::thin);
    }
    let max = TERMS_MAX.min(TABLE_MAX / count);
    let mut blocks: Vec<Block> =
        tallies.into_iter().map(|tally| Block::new(tally.top(TEXTS_MIN, max), texts.len(), count)).collect();
    // A pair is looked up by its words.
    if let [words, _, pairs] = blocks.as_mut_slice() {
        pairs.retain(count, |pair| pair.split(' ').all(|word| words.ids.contains_key(word)));
    }
    blocks
}

fn count_classes(texts: &[&str], classes: &Classes, blocks: &mut [Block]) {
    let count = classes.count.max(1);
    let mut scratch = Scratch::default();
    for (text, class) in texts.iter().zip(&classes.of) {
        let Some(class) = class else { continue };
        let class = *class as usize;
        for_each_term(text, blocks.len(), &mut scratch, |block, term| {
            let block = &mut blocks[block];
            if let Some(id) = block.ids.get(term) {
                block.counts[*id as usize * count + class] += 1.0;
                block.totals[class] += 1.0;
            }
        });
    }
}

/// The evidence columns of the training rows, each with its own row left out of the counts: not yet
/// standardised.
fn left_out(texts: &[&str], classes: &Classes, blocks: &[Block]) -> Vec<f32> {
    let count = classes.count.max(1);
    let mut rows = vec![0.0f32; texts.len() * blocks.len() * count];
    let mut scratch = Scratch::default();
    let mut ids: Vec<Vec<u32>> = vec![Vec::new(); blocks.len()];
    for ((text, class), row) in texts.iter().zip(&classes.of).zip(rows.chunks_mut(blocks.len() * count)) {
        ids.iter_mut().for_each(Vec::clear);
        for_each_term(text, blocks.len(), &mut scratch, |block, term| {
            if let Some(id) = blocks[block].ids.get(term) {
                ids[block].push(*id);
            }
        });
        for ((block, ids), out) in blocks.iter().zip(&mut ids).zip(row.chunks_mut(count)) {
            block.leave_out(ids, class.map(|class| class as usize), out);
        }
    }
    rows
}

impl Block {
    fn new(terms: Vec<(String, u32)>, texts: usize, count: usize) -> Self {
        let ids = (0u32..).zip(&terms).map(|(id, (term, _))| (term.as_str().into(), id)).collect();
        let rarity = |n: &u32| ((1.0 + texts as f64) / (1.0 + f64::from(*n))).ln() + 1.0;
        Block {
            ids,
            counts: vec![0.0; terms.len() * count],
            totals: vec![0.0; count],
            rarity: terms.iter().map(|(_, n)| rarity(n)).collect(),
            logs: Vec::new(),
            terms: terms.into_iter().map(|(term, _)| term).collect(),
        }
    }

    /// Keeps the terms that `keep` says, before anything is counted.
    fn retain(&mut self, count: usize, keep: impl Fn(&str) -> bool) {
        let terms = std::mem::take(&mut self.terms).into_iter().zip(std::mem::take(&mut self.rarity));
        (self.terms, self.rarity) = terms.filter(|(term, _)| keep(term)).unzip();
        self.ids = (0u32..).zip(&self.terms).map(|(id, term)| (term.as_str().into(), id)).collect();
        self.counts = vec![0.0; self.terms.len() * count];
    }

    /// What the counts mean, once they are complete.
    fn finish(&mut self, count: usize) {
        let mean = self.rarity.iter().sum::<f64>() / self.rarity.len().max(1) as f64;
        self.rarity.iter_mut().for_each(|r| *r /= mean);
        let terms = self.terms.len() as f64;
        let log = |(i, n): (usize, &f32)| {
            ((f64::from(*n) + SMOOTHING) / (self.totals[i % count] + SMOOTHING * terms)).ln()
        };
        self.logs = self.counts.iter().enumerate().map(log).collect();
    }

    /// Each term's evidence: its log-frequencies around their mean over classes, times its rarity.
    fn evidence(&self, count: usize) -> Vec<f32> {
        let mut table = Vec::with_capacity(self.logs.len());
        for (logs, rarity) in self.logs.chunks(count).zip(&self.rarity) {
            let mean = logs.iter().sum::<f64>() / count as f64;
            table.extend(logs.iter().map(|log| ((log - mean) * rarity) as f32));
        }
        table
    }

    /// Sums the evidence of a row's terms as if the row, of `class`, had not been counted.
    fn leave_out(&self, ids: &mut [u32], class: Option<usize>, out: &mut [f32]) {
        let count = out.len();
        let total = ids.len() as f64;
        ids.sort_unstable();
        let mut sums = vec![0.0f64; count];
        for same in ids.chunk_by(|a, b| a == b) {
            let Some(&id) = same.first() else { continue };
            let id = id as usize;
            let times = same.len() as f64;
            let logs = &self.logs[id * count..(id + 1) * count];
            let own = class.map(|class| {
                let n = f64::from(self.counts[id * count + class]) - times + SMOOTHING;
                let total = self.totals[class] - total + SMOOTHING * self.terms.len() as f64;
                (class, (n / total).ln())
            });
            let change = own.map_or(0.0, |(class, log)| log - logs[class]);
            let mean = (logs.iter().sum::<f64>() + change) / count as f64;
            for (i, (sum, log)) in sums.iter_mut().zip(logs).enumerate() {
                let log = own.filter(|(class, _)| *class == i).map_or(*log, |(_, log)| log);
                *sum += (log - mean) * self.rarity[id] * times;
            }
        }
        let root = total.max(1.0).sqrt();
        out.iter_mut().zip(sums).for_each(|(to, sum)| *to = (sum / root) as f32);
    }
}

/// Shifts and scales each column to mean 0 and deviation 1, and says by how much.
fn standardize(rows: &mut [f32], columns: usize) -> (Vec<f32>, Vec<f32>) {
    let count = (rows.len() / columns.max(1)).max(1) as f64;
    let mut mean = vec![0.0f64; columns];
    for row in rows.chunks(columns) {
        mean.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v));
    }
    mean.iter_mut().for_each(|sum| *sum /= count);
    let mut squares = vec![0.0f64; columns];
    for row in rows.chunks(columns) {
        squares.iter_mut().zip(row).zip(&mean).for_each(|((sum, v), m)| *sum += (f64::from(*v) - m).powi(2));
    }
    let mean: Vec<f32> = mean.into_iter().map(|m| m as f32).collect();
    let deviation = |sum: f64| {
        let deviation = (sum / count).sqrt() as f32;
        if deviation > 1e-6 { deviation } else { 1.0 }
    };
    let deviation: Vec<f32> = squares.into_iter().map(deviation).collect();
    for row in rows.chunks_mut(columns) {
        row.iter_mut().zip(&mean).zip(&deviation).for_each(|((v, m), d)| *v = (*v - m) / d);
    }
    (mean, deviation)
}

/// The `max` words whose occurrences depend most on the class, by the chi-squared statistic.
fn choose(words: &Block, count: usize, max: usize) -> Vec<u32> {
    let all: f64 = words.totals.iter().sum();
    let statistic = |counts: &[f32]| {
        let total: f64 = counts.iter().map(|n| f64::from(*n)).sum();
        let distance = |(n, class): (&f32, &f64)| {
            let expected = class / all * total;
            if expected > 0.0 { (f64::from(*n) - expected).powi(2) / expected } else { 0.0 }
        };
        counts.iter().zip(&words.totals).map(distance).sum::<f64>()
    };
    let mut ranked: Vec<(f64, u32)> = words.counts.chunks(count).map(statistic).zip(0..).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    ranked.into_iter().take(max).map(|(_, id)| id).collect()
}

/// The words of each pair, by number.
fn pair_ids(pairs: &Block, words: &Block) -> Vec<u32> {
    let ids = pairs.terms.iter().flat_map(|pair| pair.split(' '));
    ids.map(|word| words.ids.get(word).copied().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The row left out by formula equals counting again without it.
    #[test]
    fn leaving_out_equals_counting_again() {
        let texts =
            ["a small bird", "small grey bird bird", "a tall tree", "a small tree", "grey moss on a tree"];
        let classes = Classes { of: vec![Some(0), Some(0), Some(1), Some(1), Some(1)], count: 2 };
        let mut blocks = vocabularies(&texts, 2, 3);
        count_classes(&texts, &classes, &mut blocks);
        blocks.iter_mut().for_each(|block| block.finish(2));
        let by_formula = left_out(&texts, &classes, &blocks);
        for i in 0..texts.len() {
            let mut without = vocabularies(&texts, 2, 3);
            let mut others = Classes { of: classes.of.clone(), count: 2 };
            others.of[i] = None;
            count_classes(&texts, &others, &mut without);
            without.iter_mut().for_each(|block| block.finish(2));
            let counted = left_out(&texts, &others, &without);
            for (a, b) in by_formula.iter().zip(&counted).skip(i * 6).take(6) {
                assert!((a - b).abs() < 1e-5, "row {i}: {a} {b}");
            }
        }
    }
}

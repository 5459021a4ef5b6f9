//! The `evidence` text step; [`formats::manifest::Evidence`] says what it computes.

use formats::manifest::Evidence;

use super::hash::{FastMap, index};
use super::tokens::{Scratch, Tokenizer, for_each_gram};

/// Fewest and most characters of a part of a word, the blanks at its ends included.
const PART_CHARS: [usize; 2] = [3, 5];

/// Calls `f` with every part of a word in its normal form.
pub fn for_each_part(word: &str, padded: &mut String, bounds: &mut Vec<usize>, f: impl FnMut(&str)) {
    for_each_gram(word, PART_CHARS, padded, bounds, f);
}

/// Lookup tables of one fitted step.
#[derive(Debug)]
pub(crate) struct EvidenceStep {
    classes: usize,
    blocks: usize,
    words: FastMap<Box<str>, u32>,
    /// `[words, classes]`
    word_evidence: Vec<f32>,
    /// The evidence of each known word's parts, summed: `[words, classes]`; saves their lookup.
    word_parts: Vec<f32>,
    /// How many known parts each known word has.
    word_part_count: Vec<u32>,
    /// Two word numbers to a row of `pair_evidence`.
    pairs: FastMap<u64, u32>,
    pair_evidence: Vec<f32>,
    parts: FastMap<Box<str>, u32>,
    part_evidence: Vec<f32>,
    /// Per word: its own column, if it was chosen, and weight.
    chosen: Vec<Option<(u32, f32)>>,
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

/// Terms seen in a text, by block.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    words: u32,
    parts: u32,
    pairs: u32,
}

/// Gets the sums of a row before and after a token.
type Watch<'a> = &'a mut dyn FnMut(&[f32], &[f32]);

impl EvidenceStep {
    pub(crate) fn new(table: &Evidence) -> Self {
        let classes = table.classes;
        let pairs = (0u32..).zip(table.pairs.as_chunks::<2>().0).map(|(i, pair)| (key(pair[0], pair[1]), i));
        let mut chosen = vec![None; table.words.len()];
        let first = (table.blocks * classes) as u32;
        for (i, (&word, &weight)) in (first..).zip(table.chosen.iter().zip(&table.chosen_weight)) {
            if let Some(slot) = chosen.get_mut(word as usize) {
                *slot = Some((i, weight));
            }
        }
        let mut step = EvidenceStep {
            classes,
            blocks: table.blocks,
            words: index(&table.words),
            word_evidence: table.word_evidence.clone(),
            word_parts: vec![0.0; table.words.len() * classes],
            word_part_count: vec![0; table.words.len()],
            pairs: pairs.collect(),
            pair_evidence: table.pair_evidence.clone(),
            parts: index(&table.parts),
            part_evidence: table.part_evidence.clone(),
            chosen,
            mean: table.mean.clone(),
            deviation: table.deviation.clone(),
        };
        let mut scratch = Scratch::default();
        for (i, word) in table.words.iter().enumerate() {
            let mut sums = vec![0.0; classes];
            let count = step.add_parts(word, &mut sums, &mut scratch);
            if let Some(row) = step.word_parts.chunks_mut(classes).nth(i) {
                row.copy_from_slice(&sums);
            }
            step.word_part_count[i] = count;
        }
        step
    }

    pub(crate) fn width(&self) -> usize {
        self.mean.len()
    }

    /// Writes the row of `text`.
    pub(crate) fn write(&self, text: &str, out: &mut [f32], scratch: &mut Scratch) {
        let counts = self.walk(text, out, scratch, None);
        self.finish(counts, out);
    }

    /// The row of a text without known terms.
    pub(crate) fn baseline(&self, out: &mut [f32]) {
        out.fill(0.0);
        self.finish(Counts::default(), out);
    }

    /// Shares of each token in `attributions`, one per column. Summed over tokens they give the sum over
    /// columns.
    pub(crate) fn share(&self, text: &str, attributions: &[f64], scratch: &mut Scratch) -> Vec<f64> {
        let mut sums = vec![0.0; self.width()];
        // Per token: what it added to each column.
        let mut added: Vec<Vec<f32>> = Vec::new();
        let mut see = |before: &[f32], after: &[f32]| {
            added.push(after.iter().zip(before).map(|(y, x)| y - x).collect());
        };
        self.walk(text, &mut sums, scratch, Some(&mut see));
        super::share::by_contribution(&added, attributions)
    }

    /// Adds every token's evidence to `sums`, which it clears first. `see` gets the sums before and after
    /// each token.
    fn walk(
        &self,
        text: &str,
        sums: &mut [f32],
        scratch: &mut Scratch,
        mut see: Option<Watch<'_>>,
    ) -> Counts {
        sums.fill(0.0);
        let mut counts = Counts::default();
        let mut previous: Option<u32> = None;
        let mut word = std::mem::take(&mut scratch.joined);
        for span in Tokenizer::Words.spans(text) {
            let before = if see.is_some() { sums.to_vec() } else { Vec::new() };
            word.clear();
            Tokenizer::Words.normalize(text.get(span).unwrap_or_default(), &mut word);
            let known = self.words.get(word.as_str()).copied();
            match known {
                Some(id) => self.add_known(id, sums, &mut counts),
                None if self.blocks > 1 => {
                    let block = sums.get_mut(self.classes..2 * self.classes).unwrap_or_default();
                    counts.parts += self.add_parts(&word, block, scratch);
                }
                None => {}
            }
            if self.blocks > 2
                && let (Some(a), Some(b)) = (previous, known)
                && let Some(pair) = self.pairs.get(&key(a, b))
            {
                add(sums, 2 * self.classes, &self.pair_evidence, *pair, self.classes);
                counts.pairs += 1;
            }
            previous = known;
            if let Some(see) = &mut see {
                see(&before, sums);
            }
        }
        scratch.joined = word;
        counts
    }

    fn add_known(&self, id: u32, sums: &mut [f32], counts: &mut Counts) {
        add(sums, 0, &self.word_evidence, id, self.classes);
        counts.words += 1;
        if self.blocks > 1 {
            add(sums, self.classes, &self.word_parts, id, self.classes);
            counts.parts += self.word_part_count.get(id as usize).copied().unwrap_or(0);
        }
        if let Some(Some((column, weight))) = self.chosen.get(id as usize)
            && let Some(sum) = sums.get_mut(*column as usize)
        {
            *sum += weight;
        }
    }

    /// Adds the evidence of a word's known parts and gives their number.
    fn add_parts(&self, word: &str, sums: &mut [f32], scratch: &mut Scratch) -> u32 {
        let mut count = 0;
        for_each_part(word, &mut scratch.padded, &mut scratch.bounds, |part| {
            if let Some(id) = self.parts.get(part) {
                add(sums, 0, &self.part_evidence, *id, self.classes);
                count += 1;
            }
        });
        count
    }

    /// Sums to standardised columns.
    fn finish(&self, counts: Counts, out: &mut [f32]) {
        let root = |n: u32| (n.max(1) as f32).sqrt();
        let roots = [root(counts.words), root(counts.parts), root(counts.pairs)];
        let blocks = self.blocks * self.classes;
        for (i, ((value, mean), deviation)) in out.iter_mut().zip(&self.mean).zip(&self.deviation).enumerate()
        {
            let root =
                if i < blocks { roots.get(i / self.classes).copied().unwrap_or(1.0) } else { roots[0] };
            *value = (*value / root - mean) / deviation;
        }
    }
}

/// Adds row `id` of a table of `width` columns to `sums`, from column `at`.
#[inline]
fn add(sums: &mut [f32], at: usize, table: &[f32], id: u32, width: usize) {
    let begin = id as usize * width;
    if let (Some(to), Some(from)) = (sums.get_mut(at..at + width), table.get(begin..begin + width)) {
        for (sum, value) in to.iter_mut().zip(from) {
            *sum += value;
        }
    }
}

/// Two word numbers as one key.
fn key(first: u32, second: u32) -> u64 {
    (u64::from(first) << 32) | u64::from(second)
}

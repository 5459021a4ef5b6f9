//! A model without numbers, for tests: what follows is a hash of everything before it.
//!
//! It keeps its own key-value cache and reads it through the blocks it is given, so that a wrong block, a missing
//! copy or a lost token gives a different answer.

use std::ops::ControlFlow;
use std::time::Duration;

use crate::forward::{Batch, Forward, ForwardError, Watch};
use crate::vocabulary::Vocabulary;

/// Parts of a step between which it can be given up.
const PARTS: u32 = 10;

/// A [`Forward`] whose logits are a hash of the tokens so far.
#[derive(Clone, Debug)]
pub struct MockModel {
    vocab: usize,
    block_len: usize,
    /// `[blocks * block_len]`: a hash of the token and its position.
    cache: Vec<u64>,
    logits: Vec<f32>,
    /// Steps until one fails; for tests of what happens then.
    fail_in: Option<usize>,
    /// How many of the last positions are seen.
    window: usize,
    /// At one place of so many it says something else; 0 is never.
    astray: u64,
    /// How long a step takes, and each of its rows beside that.
    pause: Duration,
    row_pause: Duration,
}

impl MockModel {
    /// A model of `vocab` tokens with a cache of `blocks` blocks of `block_len` tokens.
    #[must_use]
    pub fn new(vocab: usize, blocks: u32, block_len: usize) -> MockModel {
        MockModel {
            vocab,
            block_len,
            cache: vec![0; blocks as usize * block_len],
            logits: Vec::new(),
            fail_in: None,
            window: usize::MAX,
            astray: 0,
            pause: Duration::ZERO,
            row_pause: Duration::ZERO,
        }
    }

    /// The same, but at one place of `one_in` it says something else; 1 is everywhere.
    #[must_use]
    pub fn astray(self, one_in: u64) -> MockModel {
        MockModel { astray: one_in, ..self }
    }

    /// The same, but a step takes so long.
    #[must_use]
    pub fn pausing(self, pause: Duration) -> MockModel {
        MockModel { pause, ..self }
    }

    /// The same, but each row of a step takes so long.
    #[must_use]
    pub fn pausing_by_row(self, row_pause: Duration) -> MockModel {
        MockModel { row_pause, ..self }
    }

    /// The same, but it sees the last `window` tokens alone, and not where they stand: it comes to repeat itself.
    #[must_use]
    pub fn forgetful(self, window: usize) -> MockModel {
        MockModel { window, ..self }
    }

    /// The same, but its step number `steps` (from 0) fails.
    #[must_use]
    pub fn failing_in(self, steps: usize) -> MockModel {
        MockModel { fail_in: Some(steps), ..self }
    }

    fn slot(&self, blocks: &[u32], position: usize) -> usize {
        blocks[position / self.block_len] as usize * self.block_len + position % self.block_len
    }
}

impl Forward for MockModel {
    fn vocab(&self) -> usize {
        self.vocab
    }

    fn forward_watched(
        &mut self,
        batch: &Batch,
        watch: &mut Watch<'_>,
    ) -> Result<ControlFlow<()>, ForwardError> {
        if self.fail_in == Some(0) {
            self.fail_in = None;
            return Err(ForwardError("the test asked for it".into()));
        }
        self.fail_in = self.fail_in.map(|steps| steps - 1);
        for copy in &batch.copies {
            let (from, to) = (copy.from as usize * self.block_len, copy.to as usize * self.block_len);
            self.cache.copy_within(from..from + self.block_len, to);
        }
        let pause = self.pause + self.row_pause * batch.tokens.len() as u32;
        for part in 1..=PARTS {
            std::thread::sleep(pause / PARTS);
            if watch(f64::from(part) / f64::from(PARTS)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        self.logits.clear();
        for span in &batch.spans {
            for row in span.rows.clone() {
                let position = batch.positions[row] as usize;
                let slot = self.slot(&span.blocks, position);
                let place = if self.window == usize::MAX { position as u64 } else { 0 };
                self.cache[slot] = hash(u64::from(batch.tokens[row]), place);
                if batch.wanted.contains(&row) {
                    let first = (position + 1).saturating_sub(self.window);
                    let seen = (first..=position).filter(|at| !span.hidden.contains(at));
                    let seen = seen.map(|at| self.cache[self.slot(&span.blocks, at)]).fold(0, hash);
                    let strays = self.astray > 0 && hash(seen, 1).is_multiple_of(self.astray);
                    let seen = if strays { !seen } else { seen };
                    self.logits
                        .extend((0..self.vocab as u64).map(|token| hash(seen, token) as u8 as f32 / 32.0));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn logits(&self) -> &[f32] {
        &self.logits
    }
}

/// Mixes two numbers (the finaliser of SplitMix64).
fn hash(a: u64, b: u64) -> u64 {
    let mixed = (a ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// 256 bytes, then an end.
#[derive(Clone, Debug)]
pub struct ByteVocabulary {
    bytes: Vec<u8>,
    end: [u32; 1],
}

impl Default for ByteVocabulary {
    fn default() -> ByteVocabulary {
        ByteVocabulary { bytes: (0..=255).collect(), end: [256] }
    }
}

impl Vocabulary for ByteVocabulary {
    fn len(&self) -> usize {
        257
    }

    fn bytes(&self, token: u32) -> &[u8] {
        self.bytes.get(token as usize..token as usize + 1).unwrap_or_default()
    }

    fn is_control(&self, token: u32) -> bool {
        token == 256
    }

    fn ends(&self) -> &[u32] {
        &self.end
    }
}

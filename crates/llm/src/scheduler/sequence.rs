//! One sequence of tokens and how far its numbers are computed.

use super::BACKGROUND;
use super::blocks::{BlockId, ContentId, NOTHING};

/// Names a sequence within one scheduler. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub u64);

/// What is asked of the scheduler: a prompt to be continued.
#[derive(Clone, Debug)]
pub struct NewSequence {
    /// The prompt; at least one token.
    pub tokens: Vec<u32>,
    /// The tenant's: prefixes are shared within one salt, service is fair between salts.
    pub salt: u64,
    /// Greater goes first.
    pub priority: i8,
    /// Into how many sequences it will be forked when its prompt is computed; it keeps that many seats.
    pub seats: usize,
    /// Of how many of the last tokens logits are wanted: 1 to continue it. Those are always computed, not found.
    pub wanted: usize,
    /// Whether nobody else may find the blocks of the tokens that are wanted: they are not computed as usual.
    pub private: bool,
}

/// Tokens and their blocks; no numbers.
#[derive(Clone, Debug)]
pub struct Sequence {
    pub(super) tokens: Vec<u32>,
    pub(super) salt: u64,
    pub(super) priority: i8,
    pub(super) seats: usize,
    pub(super) wanted: usize,
    pub(super) private: bool,
    /// What may follow the last token: computed with it where there is room.
    pub(super) draft: Vec<u32>,
    /// When it came, counted in sequences.
    pub(super) arrival: u64,
    /// When it was last admitted, counted in admissions.
    pub(super) admitted: u64,
    /// How many that came later were admitted before it.
    pub(super) passed: u32,
    /// How many of the tokens are computed, or will be when the step that is planned ends.
    pub(super) computed: usize,
    /// How many of the tokens were found computed at the first admission.
    pub(super) cached: Option<usize>,
    pub(super) blocks: Vec<BlockId>,
    /// How many of the blocks are full and known, and the content up to there.
    pub(super) published: usize,
    pub(super) content: ContentId,
}

impl Sequence {
    pub(super) fn new(new: NewSequence, arrival: u64) -> Sequence {
        Sequence {
            tokens: new.tokens,
            salt: new.salt,
            priority: new.priority,
            seats: new.seats,
            wanted: new.wanted,
            private: new.private,
            draft: Vec::new(),
            arrival,
            admitted: 0,
            passed: 0,
            computed: 0,
            cached: None,
            blocks: Vec::new(),
            published: 0,
            content: NOTHING,
        }
    }

    /// The prompt and what was appended to it.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The guesses at what follows.
    pub fn draft(&self) -> &[u32] {
        &self.draft
    }

    /// The blocks that hold its keys and values, in order of positions.
    pub fn blocks(&self) -> &[BlockId] {
        &self.blocks
    }

    /// How many of the tokens' keys and values are in the blocks.
    pub fn computed(&self) -> usize {
        self.computed
    }

    /// How many of the prompt's tokens another sequence had left computed when this one was first admitted.
    pub fn cached(&self) -> usize {
        self.cached.unwrap_or(0)
    }

    /// The tokens before those whose logits are wanted: others that begin with them may share them.
    pub(super) fn prompt(&self) -> &[u32] {
        &self.tokens[..self.tokens.len() - self.wanted]
    }

    /// Tokens that are computed and whose blocks others may find.
    pub(super) fn shareable(&self) -> usize {
        if self.private { self.prompt().len().min(self.computed) } else { self.computed }
    }

    /// Whether nobody waits for it.
    pub fn is_background(&self) -> bool {
        self.priority <= BACKGROUND
    }

    /// Tokens still to be computed.
    pub fn remaining(&self) -> usize {
        self.tokens.len() - self.computed
    }
}

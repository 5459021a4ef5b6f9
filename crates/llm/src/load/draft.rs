//! The small model beside a large one: whether it speaks of the same tokens, and what it takes.

use std::sync::Arc;

use formats::gguf::Gguf;
use formats::tokenizer::TokenizerSpec;
use kernels::{Isa, Pool};

use super::{LoadError, LoadOptions, Need, kv_bytes};
use crate::decoder::{BLOCK_LEN, Decoder};
use crate::engine::Draft;
use crate::family::Architecture;

/// Tokens that one of the vocabularies may have beyond the other's: some files are filled up to a round number.
const FILLED_MAX: usize = 1024;

/// Checks that a token is the same for both.
pub(super) fn check(gguf: &Gguf, draft: &Gguf) -> Result<(), LoadError> {
    let read = |gguf| TokenizerSpec::from_gguf(gguf).map_err(|error| LoadError::Tokenizer(error.into()));
    let (large, small) = (read(gguf)?.tokens, read(draft)?.tokens);
    let both = || (0u32..).zip(large.iter().zip(&small)).filter(|(_, (a, b))| a.text != b.text);
    let (tokens, found) = (large.len(), small.len());
    let (differing, first) = (both().count(), both().next().map(|(token, _)| token));
    if differing > 0 || tokens.abs_diff(found) > FILLED_MAX {
        return Err(LoadError::Vocabulary { found, tokens, differing, first });
    }
    Ok(())
}

/// A small model that fits.
pub(super) struct Plan<'a> {
    gguf: &'a Gguf,
    shape: Architecture,
    need: Need,
}

impl Plan<'_> {
    /// What the small model takes of what is `available` beside the large one, which takes `beside`: its cache holds as
    /// many tokens.
    pub(super) fn of<'a>(gguf: &'a Gguf, beside: &Need, available: u64) -> Result<Plan<'a>, LoadError> {
        let shape = Architecture::read(gguf, beside.context)?;
        let block = kv_bytes(&shape) * BLOCK_LEN as u64;
        let options = LoadOptions {
            context_max: beside.context,
            kv_bytes_max: block * u64::from(beside.blocks),
            ..LoadOptions::default()
        };
        let left = available.saturating_sub(beside.total());
        let need = Need::of(gguf, &shape, &options).admit(left)?;
        Ok(Plan { gguf, shape, need })
    }

    /// Reads it.
    pub(super) fn read(self, isa: Isa, pool: &Arc<Pool>) -> Result<Draft, LoadError> {
        let Plan { gguf, shape, need } = self;
        Ok(Draft {
            forward: Box::new(Decoder::read(gguf, shape, isa, pool, &need)?),
            blocks: need.blocks,
            block_len: BLOCK_LEN,
            context_max: need.context,
        })
    }
}

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use formats::gguf::Writer;

    use super::*;

    /// A file with these tokens.
    fn file(tokens: &[String]) -> Gguf {
        let writer = Writer::new("llama")
            .str("tokenizer.ggml.model", "llama")
            .strings("tokenizer.ggml.tokens", tokens)
            .f32s("tokenizer.ggml.scores", &vec![0.0; tokens.len()])
            .u32("tokenizer.ggml.bos_token_id", 0)
            .u32("tokenizer.ggml.eos_token_id", 1);
        Gguf::from_bytes(writer.finish()).unwrap()
    }

    #[test]
    fn other_tokens_are_refused_with_figures_and_a_filled_up_vocabulary_is_not() {
        let tokens: Vec<String> = (0..500).map(|token| format!("t{token}")).collect();
        let filled: Vec<String> =
            tokens.iter().cloned().chain((0..128).map(|pad| format!("pad{pad}"))).collect();
        check(&file(&tokens), &file(&tokens)).unwrap();
        check(&file(&filled), &file(&tokens)).unwrap();
        check(&file(&tokens), &file(&filled)).unwrap();
        let mut other = tokens.clone();
        (other[7], other[450]) = ("x".into(), "y".into());
        let refused = |found: &[String]| check(&file(&tokens), &file(found)).unwrap_err().to_string();
        assert!(refused(&other).contains(
            "500 of them, where the model has 500; 2 of those that both have differ, the first is 7"
        ));
        let many: Vec<String> = (0..2000).map(|token| format!("t{token}")).collect();
        assert!(refused(&many).contains("2000 of them, where the model has 500; 0 of"));
    }
}

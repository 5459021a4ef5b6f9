//! [`LoadedEncoder`]: from files to an encoder that can run.

use std::path::Path;
use std::sync::Arc;

use formats::gguf::Gguf;
use formats::safetensors::ModelDirectory;
use formats::tokenizer::TokenizerSpec;
use kernels::{Arena, Isa, KvPages, PAGE_TOKENS, Pool};

use super::bert::{Bert, Scratch};
use super::shape::{Names, Shape};
use super::states::States;
use super::weights::Reader;
use super::{Encoder, Kind, STEP_TOKENS};
use crate::load::{LoadError, LoadOptions, Need, tokenizer};
use crate::machine::Machine;
use crate::tokenizer::Tokenizer;
use crate::weights::{File, Source};

/// An encoder in memory, with what is needed to ask it.
#[derive(Debug)]
pub struct LoadedEncoder {
    /// What computes.
    pub encoder: Encoder,
    /// Text to its tokens.
    pub tokenizer: Tokenizer,
    /// What it takes of memory.
    pub need: Need,
}

impl LoadedEncoder {
    /// Whether a GGUF file holds a model for embeddings or scores, as far as it can be read: an encoder, or a decoder
    /// that says how its hidden states become one vector.
    #[must_use]
    pub fn is_in(file: &Path) -> bool {
        Gguf::open(file)
            .is_ok_and(|gguf| gguf.architecture() == "bert" || !matches!(States::pooling(&gguf), Ok(None)))
    }

    /// Loads a GGUF file, or a directory of safetensors with `config.json` and `tokenizer.json`. Of the options, those
    /// of contexts and caches matter to decoders alone.
    ///
    /// # Errors
    /// [`LoadError`] when a file cannot be used, or the machine has not the memory.
    pub fn open(path: &Path, options: &LoadOptions) -> Result<LoadedEncoder, LoadError> {
        if path.is_dir() {
            LoadedEncoder::read_directory(&ModelDirectory::open(path)?, options)
        } else {
            LoadedEncoder::read_gguf(&Gguf::open(path)?, options)
        }
    }

    pub(super) fn read_gguf(gguf: &Gguf, options: &LoadOptions) -> Result<LoadedEncoder, LoadError> {
        if gguf.architecture() != "bert" {
            return read_decoder(gguf, options);
        }
        let shape = Shape::of_gguf(gguf)?;
        let spec = TokenizerSpec::from_gguf(gguf).map_err(|error| LoadError::Tokenizer(error.into()))?;
        load(File::Gguf(gguf), Names::GGUF, shape, &spec, options)
    }

    pub(super) fn read_directory(
        directory: &ModelDirectory,
        options: &LoadOptions,
    ) -> Result<LoadedEncoder, LoadError> {
        let shape = Shape::of_directory(directory)?;
        let file = File::Safetensors(&directory.tensors);
        let prefix = if file.tensor(Names::SAFETENSORS.words).is_some() { "" } else { "bert." };
        load(file, Names { prefix, ..Names::SAFETENSORS }, shape, &directory.tokenizer, options)
    }
}

fn read_decoder(gguf: &Gguf, options: &LoadOptions) -> Result<LoadedEncoder, LoadError> {
    let isa = Isa::forced()?.unwrap_or_else(Isa::best);
    let pooling = States::pooling(gguf)?.ok_or_else(|| LoadError::Metadata {
        key: format!("{}.pooling_type", gguf.architecture()),
        wanted: "given where a decoder's hidden states are wanted".into(),
    })?;
    let (states, need) = States::read(gguf, pooling, options, isa)?;
    let (tokenizer, _) = tokenizer(gguf)?;
    enough_rows(&tokenizer, states.vocab())?;
    Ok(LoadedEncoder { encoder: Encoder(Kind::Decoder(Box::new(states))), tokenizer, need })
}

/// Fails where there is a token that the embedding does not have.
fn enough_rows(tokenizer: &Tokenizer, rows: usize) -> Result<(), LoadError> {
    let tokens = tokenizer.vocab_len();
    if tokens > rows {
        return Err(LoadError::Shape(format!("its tokenizer has {tokens} tokens, its embedding {rows}")));
    }
    Ok(())
}

fn load(
    file: File<'_>,
    names: Names,
    shape: Shape,
    spec: &TokenizerSpec,
    options: &LoadOptions,
) -> Result<LoadedEncoder, LoadError> {
    let isa = Isa::forced()?.unwrap_or_else(Isa::best);
    let need = need(file, &shape).admit(options.memory())?;
    let tokenizer = Tokenizer::new(spec).map_err(|error| LoadError::Tokenizer(error.into()))?;
    let arena =
        Arena::new(usize::try_from(need.weights).unwrap_or(usize::MAX)).map_err(LoadError::Weights)?;
    let reader = Reader { source: Source::new(file, isa, arena), names, shape };
    let (weights, head) = reader.read(for_other_tasks)?;
    enough_rows(&tokenizer, weights.words.rows())?;
    let kv = KvPages::new(need.blocks as usize, shape.heads, shape.head_dim()).map_err(LoadError::Cache)?;
    let machine = Machine { isa, pool: Arc::new(Pool::new(options.threads())) };
    let bert = Bert { machine, shape, weights, head, kv, scratch: Scratch::default() };
    Ok(LoadedEncoder { encoder: Encoder(Kind::Bert(Box::new(bert))), tokenizer, need })
}

/// What checkpoints carry of their training: a layer to guess hidden words and following sentences by.
fn for_other_tasks(name: &str) -> bool {
    let name = name.strip_prefix("bert.").unwrap_or(name);
    name.starts_with("cls.predictions")
        || name.starts_with("cls.seq_relationship")
        || name.starts_with("pooler.")
}

/// What it takes, for its largest step.
fn need(file: File<'_>, shape: &Shape) -> Need {
    let pages = shape.tokens_max.max(STEP_TOKENS).div_ceil(PAGE_TOKENS);
    let (width, hidden) = (shape.width as u64, shape.hidden as u64);
    // Seven and a half bytes a number where it is kept as it is and in 8 bits.
    let row = 4 * (5 * width + hidden) + (3 * width + hidden) * 15 / 2;
    Need {
        weights: Need::packed(file.tensor_bytes()),
        cache: (pages * KvPages::page_bytes(shape.heads, shape.head_dim())) as u64,
        blocks: pages as u32,
        scratch: (pages * PAGE_TOKENS) as u64 * row,
        context: shape.tokens_max,
    }
}

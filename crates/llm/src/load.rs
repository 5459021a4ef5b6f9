//! From a file to a model that can run: what it needs is computed first, then read.

mod about;
mod draft;
mod memory;

pub use about::About;
pub use memory::available as memory_available;

use std::path::Path;
use std::sync::Arc;

use formats::gguf::{self, Gguf};
use formats::safetensors;
use formats::tokenizer::TokenizerSpec;
use kernels::{Isa, Pool};

use crate::decoder::{BLOCK_LEN, Decoder};
use crate::engine::{Draft, LOGITS_ROWS, Model};
use crate::family::{ARCHITECTURES, Architecture};
use crate::forward::Forward;
use crate::tokenizer::Tokenizer;

/// Of a file's weights, what packing adds at most, in thousandths: panels are filled up to whole rows.
const PACKING_PERMILLE: u64 = 30;

/// What a model gets for its key-value cache where nothing is said, if the machine has it.
const CACHE_BYTES: u64 = 1 << 30;

/// How a model is loaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadOptions {
    /// Threads that compute; 0 takes one for each core that this process may use.
    pub threads: usize,
    /// Tokens, prompt and answer, that a sequence may have; 0 takes what the model was trained for, or what fits.
    pub context_max: usize,
    /// Bytes for the key-value cache; 0 takes a gibibyte, or what one context needs if that is less.
    pub kv_bytes_max: u64,
    /// Bytes that the whole model may take; 0 takes what the machine has available.
    pub memory_max: u64,
}

impl LoadOptions {
    /// Threads that compute.
    pub(crate) fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }

    /// Bytes that there are for the model.
    pub(crate) fn memory(&self) -> u64 {
        if self.memory_max == 0 { memory::available() } else { self.memory_max }
    }
}

/// Why a model was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is not a usable one.
    #[error(transparent)]
    File(#[from] gguf::Error),
    /// The directory is not a usable one.
    #[error(transparent)]
    Directory(#[from] safetensors::Error),
    /// A directory of safetensors holds another kind of model than those that are run from one.
    #[error(
        "models of the type {name:?} cannot be run from safetensors; encoders of the type \"bert\" can, and language \
         models from GGUF files: convert it with llama.cpp's convert_hf_to_gguf.py"
    )]
    ModelType {
        /// As `config.json` has it.
        name: String,
    },
    /// Its family is not known here.
    #[error("models of the architecture {name:?} cannot be run; those of {} can", ARCHITECTURES.join(", "))]
    Architecture {
        /// As the file has it.
        name: String,
    },
    /// A hyper-parameter is missing or impossible.
    #[error("metadata `{key}` must be {wanted}")]
    Metadata {
        /// The key.
        key: String,
        /// What it must be.
        wanted: String,
    },
    /// The hyper-parameters do not fit each other.
    #[error("the model's shape is impossible: {0}")]
    Shape(String),
    /// A tensor is missing.
    #[error("tensor `{name}` is missing")]
    Missing {
        /// Its name.
        name: String,
    },
    /// A tensor has another shape than the hyper-parameters say.
    #[error("tensor `{name}` has the shape {found:?}, where {expected:?} is needed")]
    Tensor {
        /// Its name.
        name: String,
        /// The shape that follows from the hyper-parameters, slowest dimension first.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// There is a tensor that this family has no use for: running without it would give wrong answers.
    #[error("tensor `{name}` is not known in models of this architecture")]
    Unknown {
        /// Its name.
        name: String,
    },
    /// A matrix cannot be packed.
    #[error("tensor `{name}` cannot be packed")]
    Pack {
        /// The tensor's name.
        name: String,
        /// Why not.
        #[source]
        source: kernels::PackError,
    },
    /// There is no memory for the weights.
    #[error("there is no memory for the model's weights")]
    Weights(#[source] kernels::OutOfMemory),
    /// There is not enough memory.
    #[error(
        "the model needs {} MiB: {} for its weights, {} for a key-value cache of {tokens} tokens and {} to compute; \
         {} MiB are available; free memory, or load it with a smaller context",
        mib(*needed), mib(*weights), mib(*cache), mib(*scratch), mib(*available)
    )]
    Memory {
        /// Bytes in all.
        needed: u64,
        /// Bytes of weights, packed.
        weights: u64,
        /// Bytes of the key-value cache.
        cache: u64,
        /// Tokens that the cache holds.
        tokens: u64,
        /// Bytes for what is between the layers.
        scratch: u64,
        /// Bytes that there are.
        available: u64,
    },
    /// The system does not give the memory that it said there is.
    #[error("there is no memory for the key-value cache")]
    Cache(#[source] kernels::OutOfMemory),
    /// The file's tokenizer cannot be used.
    #[error("the model's tokenizer cannot be used")]
    Tokenizer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The instruction set that was asked for is not there.
    #[error(transparent)]
    Isa(#[from] kernels::UnknownIsa),
    /// The small model beside it cannot be used.
    #[error("its draft model cannot be used")]
    Draft(#[source] Box<LoadError>),
    /// The small model beside it has other tokens.
    #[error(
        "it has other tokens: {found} of them, where the model has {tokens}; {differing} of those that both have differ\
         {}", first.map_or(String::new(), |token| format!(", the first is {token}"))
    )]
    Vocabulary {
        /// The small model's tokens.
        found: usize,
        /// The large one's.
        tokens: usize,
        /// Of those that both have, how many are not the same.
        differing: usize,
        /// The first of these.
        first: Option<u32>,
    },
}

impl LoadError {
    /// Whether the model is a good one, for which there is not the memory.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            LoadError::Memory { .. } => true,
            LoadError::Draft(error) => error.is_out_of_memory(),
            _ => false,
        }
    }
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// What a model takes, in bytes, computed from its file before anything is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Weights, packed.
    pub weights: u64,
    /// The key-value cache.
    pub cache: u64,
    /// Blocks in the cache.
    pub blocks: u32,
    /// What is between the layers, for the largest step.
    pub scratch: u64,
    /// Tokens that a sequence may have.
    pub context: usize,
}

impl Need {
    /// Bytes in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.weights + self.cache + self.scratch
    }

    fn of(gguf: &Gguf, shape: &Architecture, options: &LoadOptions) -> Need {
        let token = kv_bytes(shape);
        let block = token * BLOCK_LEN as u64;
        let context = match options.context_max {
            0 => shape.context,
            asked => asked.min(shape.context),
        };
        let whole = (context as u64).div_ceil(BLOCK_LEN as u64);
        let blocks = match options.kv_bytes_max {
            // One context of a model that needs more than the usual cache, if it was asked for.
            0 if options.context_max > 0 => (CACHE_BYTES / block).max(whole),
            0 => CACHE_BYTES / block,
            asked => asked / block,
        };
        let blocks = blocks.clamp(1, u64::from(u32::MAX));
        Need {
            weights: Need::packed(gguf.tensor_bytes()),
            cache: blocks * block,
            blocks: blocks as u32,
            scratch: scratch_bytes(gguf, shape),
            context: context.min((blocks as usize).saturating_mul(BLOCK_LEN)),
        }
    }

    /// Bytes that weights take once they are packed.
    pub(crate) fn packed(tensors: u64) -> u64 {
        tensors + tensors * PACKING_PERMILLE / 1000
    }

    pub(crate) fn admit(self, available: u64) -> Result<Need, LoadError> {
        if self.total() <= available {
            return Ok(self);
        }
        Err(LoadError::Memory {
            needed: self.total(),
            weights: self.weights,
            cache: self.cache,
            tokens: u64::from(self.blocks) * BLOCK_LEN as u64,
            scratch: self.scratch,
            available,
        })
    }
}

/// Bytes that a token takes in the cache: keys and values in 16 bits, in every layer.
fn kv_bytes(shape: &Architecture) -> u64 {
    (shape.layers * 2 * shape.kv_width() * 2) as u64
}

/// Numbers between layers, for steps of 512 tokens, and a step's logits.
fn scratch_bytes(gguf: &Gguf, shape: &Architecture) -> u64 {
    let rows = |name: &str| gguf.tensor(name).map_or(0, |view| view.rows());
    let hidden = rows("blk.0.ffn_up.weight").max(rows("blk.0.ffn_gate.weight"));
    // What is quantised is kept beside the numbers: about half as many bytes again.
    let row = 5 * shape.width + 3 * shape.query_width() + 2 * shape.kv_width() + 4 * hidden;
    4 * (512 * row + LOGITS_ROWS * rows("token_embd.weight")) as u64
}

/// A model in memory, with what is needed to speak to it.
#[derive(Debug)]
pub struct LoadedModel {
    /// What the engine takes.
    pub model: Model,
    /// Text to its tokens and back.
    pub tokenizer: Tokenizer,
    /// The template that makes a conversation a prompt, if the file has one.
    pub chat_template: Option<String>,
    /// What it takes of memory.
    pub need: Need,
    /// The file's name for the family.
    pub architecture: String,
    /// What else the file says of it.
    pub about: About,
}

impl LoadedModel {
    /// Loads a GGUF file. What it needs is computed first, and refused with the figures where it is not there.
    pub fn open(path: impl AsRef<Path>, options: &LoadOptions) -> Result<LoadedModel, LoadError> {
        LoadedModel::read(&Gguf::open(path)?, None, options)
    }

    /// Loads a GGUF file, and that of a small model which guesses what it will say. Both have to fit, and their tokens to
    /// be the same.
    pub fn open_with_draft(
        path: impl AsRef<Path>,
        draft: impl AsRef<Path>,
        options: &LoadOptions,
    ) -> Result<LoadedModel, LoadError> {
        let draft = Gguf::open(draft).map_err(|error| LoadError::Draft(Box::new(error.into())))?;
        LoadedModel::read(&Gguf::open(path)?, Some(&draft), options)
    }

    /// Loads files that are already open.
    pub fn read(gguf: &Gguf, draft: Option<&Gguf>, options: &LoadOptions) -> Result<LoadedModel, LoadError> {
        let isa = Isa::forced()?.unwrap_or_else(Isa::best);
        if let Some(draft) = draft {
            draft::check(gguf, draft).map_err(|error| LoadError::Draft(Box::new(error)))?;
        }
        // The tokenizer is built while the weights are packed: a second thread's worth of work.
        let (decoded, tokenized) = std::thread::scope(|scope| {
            let tokenizer = scope.spawn(|| tokenizer(gguf));
            (decoders(gguf, draft, options, isa), tokenizer.join())
        });
        let (need, decoder, draft) = decoded?;
        let (tokenizer, chat_template) =
            tokenized.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let (rows, tokens) = (decoder.vocab(), tokenizer.vocab_len());
        if tokens > rows {
            return Err(LoadError::Shape(format!("its tokenizer has {tokens} tokens, its embedding {rows}")));
        }
        let model = Model {
            forward: Box::new(decoder),
            vocabulary: Arc::new(tokenizer.clone()),
            blocks: need.blocks,
            block_len: BLOCK_LEN,
            context_max: need.context,
            draft,
        };
        let architecture = gguf.architecture().to_string();
        let about = About::of(gguf);
        Ok(LoadedModel { model, tokenizer, chat_template, need, architecture, about })
    }
}

/// The tokenizer, and the template of conversations.
pub(crate) fn tokenizer(gguf: &Gguf) -> Result<(Tokenizer, Option<String>), LoadError> {
    let spec = TokenizerSpec::from_gguf(gguf).map_err(|error| LoadError::Tokenizer(error.into()))?;
    let tokenizer = Tokenizer::new(&spec).map_err(|error| LoadError::Tokenizer(error.into()))?;
    Ok((tokenizer, spec.chat_template))
}

/// The memory that a model takes, its decoder, and the small model beside it, which shares its threads. Nothing is read
/// before both are known to fit.
pub(crate) fn decoders(
    gguf: &Gguf,
    draft: Option<&Gguf>,
    options: &LoadOptions,
    isa: Isa,
) -> Result<(Need, Decoder, Option<Draft>), LoadError> {
    let context_max = if options.context_max == 0 { usize::MAX } else { options.context_max };
    let shape = Architecture::read(gguf, context_max)?;
    let available = options.memory();
    let need = Need::of(gguf, &shape, options).admit(available)?;
    let pool = Arc::new(Pool::new(options.threads()));
    let beside = |error| LoadError::Draft(Box::new(error));
    let planned = draft.map(|draft| draft::Plan::of(draft, &need, available)).transpose().map_err(beside)?;
    let decoder = Decoder::read(gguf, shape, isa, &pool, &need)?;
    let draft = planned.map(|plan| plan.read(isa, &pool)).transpose().map_err(beside)?;
    Ok((need, decoder, draft))
}

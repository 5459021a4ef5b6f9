//! [`Embedder`]: an encoder in memory, and the thread that runs it for everyone who asks.

mod graph;
mod queue;
mod routing;
mod turns;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Instant, UNIX_EPOCH};

use llm::LoadOptions;
use llm::encoder::{Encoder, Input, LoadedEncoder, Makes};
use llm::tokenizer::Tokenizer;
use tensor::OnnxModel;

use crate::artifact::LoadError;
use crate::error::ServeError;
use crate::file_state::FileState;
use crate::language::LanguageOptions;
use graph::Graph;
use queue::{Queue, Resting};

pub(crate) use graph::Encodes;
pub use routing::{EmbedderRoute, NamedEmbedder};

/// An encoder: texts become vectors, or pairs of texts scores. Shared by all requests.
pub struct Embedder {
    tokenizer: Tokenizer,
    makes: Makes,
    tokens_max: usize,
    queue: Queue,
    figures: Figures,
    created_s: u64,
}

/// What computes.
#[derive(Debug)]
enum Engine {
    Own(Encoder),
    Graph(Graph),
}

impl Engine {
    fn run(&mut self, texts: &[Input]) -> Result<Vec<Vec<f32>>, String> {
        match self {
            Engine::Own(encoder) => encoder.run(texts).map_err(|error| error.to_string()),
            Engine::Graph(graph) => graph.run(texts),
        }
    }
}

/// What became of texts since the model was loaded.
#[derive(Debug, Default)]
struct Figures {
    texts: AtomicU64,
    tokens: AtomicU64,
}

/// What is done with a text that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooLong {
    /// The request is refused, with the figures.
    Refuse,
    /// Its end is cut off: only where the request asks for it.
    Cut,
}

/// Why a text is not taken. The texts are safe to send to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// It has more tokens than the model takes.
    #[error("has {tokens} tokens; this model takes {max} at most: shorten it, or ask for it to be cut")]
    TooLong {
        /// Tokens, those at its ends included.
        tokens: usize,
        /// Tokens possible.
        max: usize,
    },
    /// What stands before the part that may be cut is too long already.
    #[error("has a query of so many tokens that nothing else fits into this model's {max}: shorten it")]
    Query {
        /// Tokens possible.
        max: usize,
    },
    /// There is no such token.
    #[error("has token {token}; this model has {vocab}, from 0")]
    Token {
        /// The token.
        token: u32,
        /// How many there are.
        vocab: usize,
    },
}

impl Embedder {
    /// Loads the GGUF file or the directory at `path`, of the artifact in `dir`, and starts its thread.
    pub(crate) fn load(dir: &Path, path: &Path, options: &LanguageOptions) -> Result<Embedder, LoadError> {
        let wanted = LoadOptions { memory_max: options.memory_max, ..LoadOptions::default() };
        let name = || match path.strip_prefix(dir) {
            Ok(file) if !file.as_os_str().is_empty() => file.display().to_string(),
            _ => "config.json".to_owned(),
        };
        let loaded = LoadedEncoder::open(path, &wanted)
            .map_err(|source| LoadError::Language { file: name(), source: Box::new(source) })?;
        let LoadedEncoder { encoder, tokenizer, .. } = loaded;
        let (makes, tokens_max) = (encoder.makes(), encoder.tokens_max());
        // Of a directory, the files in it.
        let file = if path.is_dir() { path.join("config.json") } else { path.to_owned() };
        let own = path.to_owned();
        let resting = resting(&file, options, move || {
            let loaded = LoadedEncoder::open(&own, &wanted).map_err(|error| error.to_string())?;
            Ok(Engine::Own(loaded.encoder))
        })?;
        Embedder::start(Engine::Own(encoder), resting, tokenizer, makes, tokens_max, path)
    }

    /// Starts the thread of the graph in `file`, which `load` loads once more.
    pub(crate) fn of_graph(
        network: OnnxModel,
        encodes: Encodes,
        file: &Path,
        options: &LanguageOptions,
        load: impl Fn() -> Result<OnnxModel, LoadError> + Send + 'static,
    ) -> Result<Embedder, LoadError> {
        let (makes, tokens_max) = (encodes.makes(), encodes.tokens_max);
        let (tokenizer, graph) = encodes.with(network);
        let about = graph.about();
        let resting = resting(file, options, move || {
            let network = load().map_err(|error| error.to_string())?;
            Ok(Engine::Graph(Graph::new(network, Arc::clone(&about))))
        })?;
        Embedder::start(Engine::Graph(graph), resting, tokenizer, makes, tokens_max, file)
    }

    fn start(
        engine: Engine,
        resting: Option<Resting>,
        tokenizer: Tokenizer,
        makes: Makes,
        tokens_max: usize,
        path: &Path,
    ) -> Result<Embedder, LoadError> {
        let changed = std::fs::metadata(path).and_then(|about| about.modified()).ok();
        let created = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok(Embedder {
            tokenizer,
            makes,
            tokens_max,
            queue: Queue::start(engine, resting).map_err(LoadError::Engine)?,
            figures: Figures::default(),
            created_s: created.map_or(0, |time| time.as_secs()),
        })
    }

    /// Whether it is in memory, and not to be loaded by who asks next.
    pub fn is_loaded(&self) -> bool {
        self.queue.is_loaded()
    }

    /// What it makes of texts.
    pub fn makes(&self) -> Makes {
        self.makes
    }

    /// Tokens that a text can have, those at its ends included.
    pub fn context(&self) -> usize {
        self.tokens_max
    }

    /// When it was stored, in seconds since 1970.
    pub fn created_s(&self) -> u64 {
        self.created_s
    }

    /// Texts and their tokens that were computed.
    pub fn computed(&self) -> (u64, u64) {
        (self.figures.texts.load(Relaxed), self.figures.tokens.load(Relaxed))
    }

    /// Requests that wait or are being computed.
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// A text's tokens, and whether it was cut. Takes a while for long ones: not for async threads.
    ///
    /// # Errors
    /// If it is too long, and not to be cut.
    pub fn text(&self, text: &str, too_long: TooLong) -> Result<(Input, bool), InputError> {
        self.fitted(Input::text(&self.tokenizer, text), too_long)
    }

    /// As [`Embedder::text`], of tokens that the client made.
    ///
    /// # Errors
    /// As [`Embedder::text`], and if there is no such token.
    pub fn tokens(&self, tokens: Vec<u32>, too_long: TooLong) -> Result<(Input, bool), InputError> {
        let vocab = self.tokenizer.vocab_len();
        match tokens.iter().find(|&&token| token as usize >= vocab) {
            Some(&token) => Err(InputError::Token { token, vocab }),
            None => self.fitted(Input::tokens(&self.tokenizer, tokens), too_long),
        }
    }

    /// As [`Embedder::text`], of two texts of which the second is judged by the first, and cut if one is.
    ///
    /// # Errors
    /// As [`Embedder::text`].
    pub fn pair(&self, first: &str, second: &str, too_long: TooLong) -> Result<(Input, bool), InputError> {
        self.fitted(Input::pair(&self.tokenizer, first, second), too_long)
    }

    fn fitted(&self, mut input: Input, too_long: TooLong) -> Result<(Input, bool), InputError> {
        let (tokens, max) = (input.tokens.len(), self.tokens_max);
        if tokens <= max {
            return Ok((input, false));
        }
        match too_long {
            TooLong::Refuse => Err(InputError::TooLong { tokens, max }),
            TooLong::Cut if input.truncate(&self.tokenizer, max) => Ok((input, true)),
            TooLong::Cut => Err(InputError::Query { max }),
        }
    }

    /// What the model makes of each text of `project`, in their order: a vector, or a vector of a score alone. They are computed
    /// together with what others ask, which changes no bit. Dropping the future withdraws the request.
    ///
    /// # Errors
    /// If too much waits, time is up, or the model fails.
    pub(crate) async fn run(
        &self,
        project: &str,
        inputs: Vec<Input>,
        deadline: Instant,
    ) -> Result<Vec<Vec<f32>>, ServeError> {
        let texts = inputs.len() as u64;
        let tokens: usize = inputs.iter().map(|input| input.tokens.len()).sum();
        let vectors = self.queue.run(project, inputs, tokens, deadline).await?;
        self.figures.texts.fetch_add(texts, Relaxed);
        self.figures.tokens.fetch_add(tokens as u64, Relaxed);
        Ok(vectors)
    }
}

/// How the encoder in `file` rests, if it is to: `again` loads it, as long as its files are those that were verified.
fn resting(
    file: &Path,
    options: &LanguageOptions,
    again: impl Fn() -> Result<Engine, String> + Send + 'static,
) -> Result<Option<Resting>, LoadError> {
    if options.idle_max.is_zero() {
        return Ok(None);
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let verified = FileState::beside(file).map_err(|source| LoadError::Unreadable { file: name, source })?;
    let file = file.to_owned();
    let again = move || match FileState::beside(&file) {
        Ok(now) if now == verified => again(),
        Ok(_) => Err("its files were changed since they were verified; deploy it again".to_owned()),
        // The path is the server's own affair.
        Err(error) => Err(error.kind().to_string()),
    };
    Ok(Some(Resting { idle_max: options.idle_max, again: Box::new(again) }))
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedder").field("makes", &self.makes).finish_non_exhaustive()
    }
}

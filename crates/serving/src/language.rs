//! [`Language`]: a language model in memory, and the engine that answers for it.

mod explain;
mod metrics;
mod prompt;
mod routing;
mod standby;

use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use llm::template::ChatTemplate;
use llm::tokenizer::Tokenizer;
use llm::{
    About, Counters, EngineOptions, GenerateRequest, Isa, LoadOptions, LoadedModel, Sink, SubmitError, Ticket,
};

use crate::artifact::LoadError;
use standby::Standby;

pub use explain::{
    EXPLAINED_TOKENS_MAX, LanguageExplain, LanguageExplanation, LanguageMethod, Said, SpanKind, SpanShare,
};
pub use metrics::{EndReason, GENERATION_US_BOUNDS, LanguageMetrics};
pub use prompt::PromptError;
pub use routing::{LanguageRoute, LanguageRouteError, NamedLanguage, Outcome};
pub(crate) use routing::{not_serving, project_of};

/// How models are loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LanguageOptions {
    /// Tokens, prompt and answer, that a conversation may have; 0 takes what the model was made for.
    pub context_max: usize,
    /// Bytes that one model may take; 0 takes what the machine has available.
    pub memory_max: u64,
    /// A model that nobody asks for so long gives its memory back, until somebody does; zero keeps it.
    pub idle_max: Duration,
    /// Answers that a model computes at once; 0 takes what is usual.
    pub running_max: usize,
}

/// The files of a language model.
#[derive(Debug)]
pub(crate) struct Files {
    /// Its own.
    pub(crate) model: PathBuf,
    /// That of a small one which guesses what it will say.
    pub(crate) draft: Option<PathBuf>,
}

impl Files {
    fn open(&self, options: &LoadOptions) -> Result<LoadedModel, llm::LoadError> {
        match &self.draft {
            None => LoadedModel::open(&self.model, options),
            Some(draft) => LoadedModel::open_with_draft(&self.model, draft, options),
        }
    }
}

/// How long a model stays in memory when nobody asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// As [`LanguageOptions::idle_max`] says.
    Usual,
    /// For so long; at zero until nothing is left to do.
    For(Duration),
    /// For ever.
    Always,
}

/// A language model: text goes in and out through [`Language::submit`]. Shared by all requests.
pub struct Language {
    tokenizer: Tokenizer,
    /// Or why there is none.
    template: Result<ChatTemplate, String>,
    /// What the template's source says, for what it has no place for.
    template_source: String,
    /// What its file says of it.
    about: About,
    /// Tokens, prompt and answer together, that a conversation can have.
    context: usize,
    /// As [`LanguageOptions::running_max`] had it.
    running_max: usize,
    /// `None` only while it is being dropped.
    standby: Option<Standby>,
    metrics: Arc<LanguageMetrics>,
    /// Makes of a project's name what prefixes are shared by. Not to be guessed from outside.
    salts: RandomState,
    fingerprint: String,
    created_s: u64,
}

impl Language {
    /// Loads the GGUF file of the artifact in `dir`, with what is beside it, and starts its engine. `identity` stands for
    /// the artifact's content.
    pub(crate) fn load(
        dir: &Path,
        files: Files,
        identity: &str,
        options: &LanguageOptions,
    ) -> Result<Language, LoadError> {
        let file = files.model.clone();
        let name = || file.strip_prefix(dir).unwrap_or(&file).display().to_string();
        let wanted = LoadOptions {
            context_max: options.context_max,
            memory_max: options.memory_max,
            ..LoadOptions::default()
        };
        let begun = Instant::now();
        let loaded = files
            .open(&wanted)
            .map_err(|source| LoadError::Language { file: name(), source: Box::new(source) })?;
        let LoadedModel { model, tokenizer, chat_template, about, .. } = loaded;
        let context = model.sequence_tokens_max();
        let usual = EngineOptions::default();
        let running_max = if options.running_max == 0 { usual.running_max } else { options.running_max };
        let engine = EngineOptions { idle_max: options.idle_max, running_max, ..usual };
        let standby = Standby::start(files, wanted, engine, model, begun)?;
        let template_source = chat_template.unwrap_or_default();
        let changed = std::fs::metadata(&file).and_then(|about| about.modified()).ok();
        let created = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok(Language {
            template: prompt::template(&template_source, &tokenizer),
            template_source,
            tokenizer,
            about,
            context,
            running_max: options.running_max,
            standby: Some(standby),
            metrics: Arc::default(),
            salts: RandomState::new(),
            fingerprint: fingerprint(identity),
            created_s: created.map_or(0, |time| time.as_secs()),
        })
    }

    /// Its tokens.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// What its file says of it, for people.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The source of the template that makes a conversation a prompt; empty without one.
    pub fn template_source(&self) -> &str {
        &self.template_source
    }

    /// Whether the conversation's template speaks of `word`, such as `tools`.
    pub fn template_mentions(&self, word: &str) -> bool {
        self.template_source.contains(word)
    }

    /// Tokens, prompt and answer together, that a conversation can have.
    pub fn context(&self) -> usize {
        self.context
    }

    /// What it was loaded with: [`LanguageOptions::running_max`].
    pub fn running_max(&self) -> usize {
        self.running_max
    }

    /// Names all that an answer's bits depend on besides the request: the file's content, the instruction set and
    /// the program's version. Two answers to one request with one seed under one fingerprint are the same.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// When the file was stored, in seconds since 1970.
    pub fn created_s(&self) -> u64 {
        self.created_s
    }

    /// What the engine does now and has done.
    pub fn counters(&self) -> Counters {
        self.standby.as_ref().map(Standby::counters).unwrap_or_default()
    }

    /// Whether it is in memory. Where it is not, it is loaded for the next request.
    pub fn is_loaded(&self) -> bool {
        self.standby.as_ref().is_some_and(Standby::is_loaded)
    }

    /// Loads it where it has given its memory back. That takes a while: not for async threads.
    ///
    /// # Errors
    /// [`SubmitError::Stopped`] if it cannot be loaded now; the log says why.
    pub fn wake(&self) -> Result<(), SubmitError> {
        let standby = self.standby.as_ref().ok_or(SubmitError::Stopped)?;
        standby.engine().map(drop)
    }

    /// Sets how long it stays in memory when nobody asks for it, until it is loaded the next time.
    pub fn keep(&self, keep: Keep) {
        if let Some(standby) = &self.standby {
            standby.keep(keep);
        }
    }

    /// How long it stays in memory if nobody asks for it; for ever without a bound.
    pub fn time_left(&self) -> Option<Duration> {
        self.standby.as_ref().and_then(Standby::time_left)
    }

    /// How long it took to be loaded, the last time: reading, packing, starting the engine.
    pub fn load_time(&self) -> Duration {
        self.standby.as_ref().map(Standby::load_time).unwrap_or_default()
    }

    /// How answers went.
    pub fn metrics(&self) -> &LanguageMetrics {
        &self.metrics
    }

    /// Hands a request of `project` to the engine. Prefixes are shared within a project and never beyond it,
    /// whatever salt the request has. A model that gave its memory back is loaded first, and compiling a constraint
    /// takes up to a tenth of a second: not for async threads.
    ///
    /// # Errors
    /// As [`llm::Engine::submit`].
    pub fn submit(&self, project: &str, request: GenerateRequest, sink: Sink) -> Result<Ticket, SubmitError> {
        let salt = self.salts.hash_one(project);
        let engine = self.standby.as_ref().ok_or(SubmitError::Stopped)?.engine()?;
        // What is only judged is no answer, and says nothing of how long answers take.
        let sink = if request.given.is_some() { sink } else { LanguageMetrics::watch(&self.metrics, sink) };
        engine.submit(GenerateRequest { salt, ..request }, sink)
    }
}

impl Drop for Language {
    fn drop(&mut self) {
        // The engine's end waits for the step under way: not on the thread, perhaps an async one, that happens to
        // be the last to let go.
        let standby = self.standby.take();
        let ending = std::thread::Builder::new().name("meuse-unload".into());
        // Without a thread the closure is dropped here, and the engine with it.
        let _ = ending.spawn(move || drop(standby));
    }
}

impl std::fmt::Debug for Language {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Language").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// `fp_{content}_{instruction set}_{version}`.
fn fingerprint(identity: &str) -> String {
    let content: String = identity.chars().take(12).collect();
    format!("fp_{content}_{}_{}", Isa::best().name(), env!("CARGO_PKG_VERSION"))
}

/// An error with its causes, on one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        // Writing to a string does not fail.
        let _ = write!(text, ": {cause}");
        next = cause.source();
    }
    text
}

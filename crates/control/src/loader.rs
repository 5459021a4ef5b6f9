//! [`Loader`]: stored artifacts as models in memory, each once, however many use it.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serving::LanguageOptions;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use crate::artifact::{Artifacts, Digest};
use crate::{Error, ErrorCode, Result};

/// Where the models of one digest are, once loaded: several only of language models that are deployed with different
/// bounds. The async mutex makes two who want the same load it once.
type Slot = Arc<AsyncMutex<Vec<Weak<serving::Model>>>>;

/// What a model is made of: its artifact, and that of the small model that guesses what it will say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Parts {
    pub(crate) model: Digest,
    pub(crate) draft: Option<Digest>,
}

/// A model that is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) parts: Parts,
    /// The answers that it computes at once, should it be a language model: 0 for as many as usual, `None` where that
    /// is all the same.
    pub(crate) running_max: Option<usize>,
}

impl From<Digest> for Wanted {
    fn from(model: Digest) -> Wanted {
        Wanted { parts: Parts { model, draft: None }, running_max: None }
    }
}

impl Wanted {
    /// What is deployed with these parts.
    pub(crate) fn deployed(parts: Parts, concurrency: Option<NonZeroUsize>) -> Wanted {
        Wanted { parts, running_max: Some(concurrency.map_or(0, NonZeroUsize::get)) }
    }

    /// Whether `model`, which has these parts, will do.
    fn is(&self, model: &serving::Model) -> bool {
        match (model.language(), self.running_max) {
            (Some(language), Some(wanted)) => language.running_max() == wanted,
            _ => true,
        }
    }
}

/// The models in memory, by what they are made of. A model stays as long as someone uses it.
pub(crate) struct Loader {
    slots: Mutex<HashMap<Parts, Slot>>,
    /// Bounds the loads that go on at once.
    turns: Semaphore,
    language: LanguageOptions,
}

impl Loader {
    /// Loads up to `concurrent` models at once, language models within `language`.
    pub(crate) fn new(concurrent: usize, language: LanguageOptions) -> Self {
        Loader { slots: Mutex::default(), turns: Semaphore::new(concurrent.max(1)), language }
    }

    /// The model that is wanted: loaded already, or loaded now after every byte was verified.
    ///
    /// # Errors
    /// `DataLoss` if an artifact is damaged or gone; `InvalidArgument` if it is no model that can be served;
    /// `ResourceExhausted`, with the figures, if there is not the memory for it.
    pub(crate) async fn load(&self, artifacts: &Artifacts, wanted: Wanted) -> Result<Arc<serving::Model>> {
        let parts = wanted.parts;
        let slot = self.slot(parts);
        let mut slot = slot.lock().await;
        if let Some(model) = slot.iter().filter_map(Weak::upgrade).find(|model| wanted.is(model)) {
            return Ok(model);
        }
        let _turn = self.turns.acquire().await.map_err(|e| Error::internal("loading a model", e))?;
        let open =
            async |digest: Digest| artifacts.verify_and_open(&digest).await.map_err(|e| lost(&digest, e));
        let directory = open(parts.model).await?;
        let draft = match parts.draft {
            Some(draft) => Some(open(draft).await?),
            None => None,
        };
        let running_max = wanted.running_max.unwrap_or_default();
        let (identity, language) = (parts.model.hex(), LanguageOptions { running_max, ..self.language });
        let load = move || serving::Model::load_with(&directory, draft.as_deref(), &identity, &language);
        let loaded = tokio::task::spawn_blocking(load).await;
        let loaded = loaded.map_err(|e| Error::internal("loading a model", e))?;
        let model = Arc::new(loaded.map_err(refusal)?);
        slot.retain(|model| model.strong_count() > 0);
        slot.push(Arc::downgrade(&model));
        Ok(model)
    }

    fn slot(&self, parts: Parts) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        // Slots that nobody holds and whose models are gone. A locked one is being filled.
        let in_use = |models: &[Weak<serving::Model>]| models.iter().any(|model| model.strong_count() > 0);
        slots.retain(|_, slot| {
            Arc::strong_count(slot) > 1 || slot.try_lock().is_ok_and(|models| in_use(&models))
        });
        Arc::clone(slots.entry(parts).or_default())
    }
}

fn refusal(error: serving::LoadError) -> Error {
    if error.is_out_of_memory() {
        return Error::new(ErrorCode::ResourceExhausted, format!("this model is not loaded: {error}"));
    }
    Error::invalid(format!("this is no model that can be served: {error}"))
}

/// `error`, or, where a registered artifact is gone, that it is lost: whoever found it damaged first has
/// put it aside, and the next to want it learns no less.
fn lost(digest: &Digest, error: Error) -> Error {
    match error.code {
        ErrorCode::NotFound => Error::new(
            ErrorCode::DataLoss,
            format!("the artifact {digest} is missing, or was damaged and put aside; upload or train the version again"),
        )
        .caused_by(error),
        _ => error,
    }
}

//! [`Standby`]: a model's engine, loaded again when it is asked for after it has ended.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use llm::{Counters, End, Engine, EngineOptions, LoadOptions, SubmitError};

use super::{Files, Keep};
use crate::artifact::LoadError;
use crate::file_state::FileState;

/// From the beginning of a load whose model failed to the next: one that breaks at once must not take the whole
/// machine.
const RELOAD_PAUSE: Duration = Duration::from_secs(3);

/// How long a request waits for a load that another has begun.
const LOAD_PATIENCE: Duration = Duration::from_secs(120);

/// An engine that runs, or that can be loaded again: one ends when nobody asks for long, and when its model breaks.
pub(super) struct Standby {
    files: Files,
    load: LoadOptions,
    engine: EngineOptions,
    /// The files as they were when their content was verified.
    verified: Vec<FileState>,
    slot: Mutex<Slot>,
    changed: Condvar,
    /// How long the last load took, in microseconds.
    load_us: AtomicU64,
}

struct Slot {
    state: State,
    /// When the last load began.
    begun: Instant,
}

enum State {
    /// It answers, or has ended since.
    Loaded(Arc<Engine>),
    Loading,
    /// The last load failed.
    Failed,
}

impl Standby {
    /// Starts the engine of a model that was loaded from `files` with `load`, since `begun`.
    pub(super) fn start(
        files: Files,
        load: LoadOptions,
        engine: EngineOptions,
        model: llm::Model,
        begun: Instant,
    ) -> Result<Standby, LoadError> {
        let verified = states(&files).map_err(LoadError::Engine)?;
        let running = Engine::start(model, engine).map_err(LoadError::Engine)?;
        let slot = Slot { state: State::Loaded(Arc::new(running)), begun };
        Ok(Standby {
            files,
            load,
            engine,
            verified,
            slot: Mutex::new(slot),
            changed: Condvar::new(),
            load_us: AtomicU64::new(micros(begun)),
        })
    }

    /// An engine that answers, after loading it where it has ended. That takes a while: not for async threads.
    ///
    /// # Errors
    /// [`SubmitError::Stopped`] if it cannot be loaded now; the log says why.
    pub(super) fn engine(&self) -> Result<Arc<Engine>, SubmitError> {
        let until = Instant::now() + LOAD_PATIENCE;
        let mut slot = self.slot();
        while matches!(slot.state, State::Loading) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(SubmitError::Stopped);
            }
            slot = self.changed.wait_timeout(slot, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let end = match &slot.state {
            State::Loaded(engine) => match engine.ended() {
                None => return Ok(Arc::clone(engine)),
                Some(end) => end,
            },
            State::Loading | State::Failed => End::Stopped,
        };
        if end == End::Stopped && slot.begun.elapsed() < RELOAD_PAUSE {
            return Err(SubmitError::Stopped);
        }
        let ended = std::mem::replace(&mut slot.state, State::Loading);
        slot.begun = Instant::now();
        drop(slot);
        // Its thread's end gives its memory back, which the next one may need.
        drop(ended);
        let loaded = self.load();
        let mut slot = self.slot();
        slot.state = loaded.as_ref().map_or(State::Failed, |engine| State::Loaded(Arc::clone(engine)));
        self.changed.notify_all();
        drop(slot);
        loaded.map_err(|error| {
            tracing::error!(file = %self.files.model.display(), "a language model cannot be loaded again: {error}");
            SubmitError::Stopped
        })
    }

    fn load(&self) -> Result<Arc<Engine>, String> {
        let begun = Instant::now();
        if states(&self.files).map_err(|error| error.to_string())? != self.verified {
            return Err("its files were changed since they were verified; deploy it again".to_owned());
        }
        let loaded = self.files.open(&self.load).map_err(|error| super::with_causes(&error))?;
        let engine = Engine::start(loaded.model, self.engine).map_err(|error| error.to_string())?;
        self.load_us.store(micros(begun), Ordering::Relaxed);
        tracing::info!(seconds = begun.elapsed().as_secs_f64(), "a language model was loaded again");
        Ok(Arc::new(engine))
    }

    /// See [`super::Language::keep`].
    pub(super) fn keep(&self, keep: Keep) {
        let idle_max = match keep {
            Keep::Usual => Some(self.engine.idle_max).filter(|most| !most.is_zero()),
            Keep::For(time) => Some(time),
            Keep::Always => None,
        };
        if let State::Loaded(engine) = &self.slot().state {
            engine.keep(idle_max);
        }
    }

    /// See [`super::Language::time_left`].
    pub(super) fn time_left(&self) -> Option<Duration> {
        match &self.slot().state {
            State::Loaded(engine) => engine.time_left(),
            State::Loading | State::Failed => None,
        }
    }

    /// What the present engine does and has done; nothing while there is none.
    pub(super) fn counters(&self) -> Counters {
        match &self.slot().state {
            State::Loaded(engine) => engine.counters(),
            State::Loading | State::Failed => Counters::default(),
        }
    }

    /// How long the last load took.
    pub(super) fn load_time(&self) -> Duration {
        Duration::from_micros(self.load_us.load(Ordering::Relaxed))
    }

    /// Whether requests are answered without a load before.
    pub(super) fn is_loaded(&self) -> bool {
        matches!(&self.slot().state, State::Loaded(engine) if engine.ended().is_none())
    }

    /// The lock guards plain values that are whole between any two statements.
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// The states of the files and of those beside them: a model may lie in several.
fn states(files: &Files) -> io::Result<Vec<FileState>> {
    let mut states = Vec::new();
    for file in [Some(&files.model), files.draft.as_ref()].into_iter().flatten() {
        states.extend(FileState::beside(file)?);
    }
    Ok(states)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_file_that_was_written_to_is_another_one() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("model.gguf");
        std::fs::write(&file, "aaaa").unwrap();
        let beside = tempfile::tempdir().unwrap();
        let draft = beside.path().join("draft.gguf");
        std::fs::write(&draft, "aaaa").unwrap();
        let files = Files { model: file.clone(), draft: Some(draft.clone()) };
        let before = states(&files).unwrap();
        assert_eq!(states(&files).unwrap(), before);
        std::thread::sleep(Duration::from_millis(20));
        let modified = std::fs::metadata(&file).unwrap().modified().unwrap();
        std::fs::write(&file, "bbbb").unwrap();
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
        let after = states(&files).unwrap();
        assert_ne!(after, before);
        std::fs::write(&draft, "longer").unwrap();
        assert_ne!(states(&files).unwrap(), after);
    }
}

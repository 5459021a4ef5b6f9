//! [`Dormant`]: a network that gives its memory back while nobody asks, and is loaded again by who asks next.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use tensor::{OnnxModel, Signature, Tensors};

use crate::admission::admit;
use crate::file_state::FileState;
use crate::language::LanguageOptions;
use crate::runtime::{self, Runtime, RuntimeError};
use crate::source::Source;

/// A network that was loaded from a file, and can be again.
pub(crate) struct Dormant {
    source: Source,
    /// The files as they were when their content was verified.
    verified: Vec<FileState>,
    signature: Signature,
    is_foreign: bool,
    runs_apart: bool,
    idle_max: Duration,
    memory_max: u64,
    slot: Mutex<Slot>,
}

struct Slot {
    network: Option<Arc<OnnxModel>>,
    /// When it was last asked.
    asked: Instant,
}

impl Dormant {
    /// `network`, which was loaded from `source`, until nobody has asked for as long as `options` say.
    pub(crate) fn new(network: OnnxModel, source: Source, options: &LanguageOptions) -> io::Result<Dormant> {
        Ok(Dormant {
            verified: FileState::beside(source.file())?,
            source,
            signature: network.signature().clone(),
            is_foreign: network.is_foreign(),
            runs_apart: network.runs_apart(),
            idle_max: options.idle_max,
            memory_max: options.memory_max,
            slot: Mutex::new(Slot { network: Some(Arc::new(network)), asked: Instant::now() }),
        })
    }

    /// The network, loaded if need be; others wait for that meanwhile.
    fn awake(&self) -> Result<Arc<OnnxModel>, RuntimeError> {
        let mut slot = self.slot();
        slot.asked = Instant::now();
        if let Some(network) = &slot.network {
            return Ok(Arc::clone(network));
        }
        let file = self.source.file().display();
        // What others have taken meanwhile is not there for this one.
        admit(self.source.file(), self.memory_max).map_err(|shortage| {
            tracing::warn!(%file, "a model is not loaded again: it {shortage}");
            RuntimeError::no_memory(format!("this model is not loaded again: it {shortage}"))
        })?;
        let network = Arc::new(self.load().map_err(|reason| {
            tracing::error!(%file, "a model cannot be loaded again: {reason}");
            RuntimeError::new(format!("the model cannot be loaded again: {reason}"))
        })?);
        slot.network = Some(Arc::clone(&network));
        slot.asked = Instant::now();
        Ok(network)
    }

    fn load(&self) -> Result<OnnxModel, String> {
        if FileState::beside(self.source.file()).map_err(|e| e.kind().to_string())? != self.verified {
            return Err("its files were changed since they were verified; deploy it again".to_owned());
        }
        match &self.source {
            Source::Keras(archive) => crate::keras::load(archive).map_err(|e| e.to_string()),
            Source::Onnx(path) => OnnxModel::load(path).map_err(|e| match e {
                // The path is the server's own affair.
                tensor::LoadError::Io { source, .. } => source.kind().to_string(),
                other => other.to_string(),
            }),
        }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        // The slot is whole between any two statements.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runtime for Dormant {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn predict(&self, inputs: &Tensors) -> Result<Tensors, RuntimeError> {
        self.awake()?.run(inputs).map_err(runtime::of_run)
    }

    fn is_foreign(&self) -> bool {
        self.is_foreign
    }

    fn runs_apart(&self) -> bool {
        self.runs_apart
    }

    fn is_loaded(&self) -> bool {
        // Who holds the lock may be loading, for which no async thread should wait.
        match self.slot.try_lock() {
            Ok(slot) => slot.network.is_some(),
            Err(TryLockError::Poisoned(slot)) => slot.into_inner().network.is_some(),
            Err(TryLockError::WouldBlock) => false,
        }
    }

    fn rest(&self) {
        let mut slot = self.slot();
        if slot.asked.elapsed() >= self.idle_max {
            let resting = slot.network.take();
            drop(slot);
            drop(resting);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tensor::export::{Activation, Layer, sequential};
    use tensor::{Data, Tensor};

    use super::*;
    use crate::runtime::RuntimeErrorKind;

    #[test]
    fn it_rests_and_is_loaded_again_unless_its_file_changed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.onnx");
        let layer =
            Layer::Dense { units: 1, kernel: vec![1.0, 2.0], bias: None, activation: Activation::Linear };
        std::fs::write(&path, sequential(&[2], &[layer]).unwrap()).unwrap();
        let network = OnnxModel::load(&path).unwrap();
        let input = network.signature().inputs[0].name.clone();
        let inputs = vec![(input, Tensor::new(vec![1, 2], Data::F32(vec![3.0, 4.0])).unwrap())];
        let options = LanguageOptions::default();
        let dormant = Dormant::new(network, Source::Onnx(path.clone()), &options).unwrap();
        let before = dormant.predict(&inputs).unwrap();
        dormant.rest();
        assert!(!dormant.is_loaded());
        assert_eq!(dormant.predict(&inputs).unwrap(), before);
        assert!(dormant.is_loaded());
        dormant.rest();
        std::thread::sleep(Duration::from_millis(20));
        std::fs::write(&path, "another").unwrap();
        let error = dormant.predict(&inputs).unwrap_err();
        assert!(error.message.contains("were changed"), "{error}");
    }

    #[test]
    fn it_rests_on_while_there_is_not_the_memory_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.onnx");
        let kernel = vec![0.5; 1024 * 512];
        let layer = Layer::Dense { units: 512, kernel, bias: None, activation: Activation::Linear };
        std::fs::write(&path, sequential(&[1024], &[layer]).unwrap()).unwrap();
        let network = OnnxModel::load(&path).unwrap();
        let input = network.signature().inputs[0].name.clone();
        let inputs = vec![(input, Tensor::new(vec![1, 1024], Data::F32(vec![1.0; 1024])).unwrap())];
        let scarce = LanguageOptions { memory_max: 3 << 20, ..LanguageOptions::default() };
        let mut dormant = Dormant::new(network, Source::Onnx(path), &scarce).unwrap();
        let before = dormant.predict(&inputs).unwrap();
        dormant.rest();
        let refused = dormant.predict(&inputs).unwrap_err();
        assert_eq!(refused.kind, RuntimeErrorKind::NoMemory);
        assert!(
            refused.message.contains("takes up to 4 MiB") && refused.message.contains("3 MiB are available")
        );
        assert!(!dormant.is_loaded());
        dormant.memory_max = 8 << 20;
        assert_eq!(dormant.predict(&inputs).unwrap(), before);
    }
}

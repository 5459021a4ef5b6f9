//! [`fit`]: rows to a trained artifact.

mod finish;
mod plan;
mod trainer;

use formats::manifest::Manifest;
use formats::rows::RowFault;
use formats::spec::TrainSpec;

use crate::dataset::Dataset;
use crate::target::Target;
use crate::{Epoch, Flow, RowSource, TrainError, columns, export, features};
use plan::Plan;
use trainer::Trainer;

/// A trained model.
#[derive(Debug)]
pub struct Trained {
    /// The artifact: manifest, ONNX model and weights, by file name. The same rows, specification and
    /// instruction set give the same bytes.
    pub files: Vec<(String, Vec<u8>)>,
    /// Figures of every epoch.
    pub epochs: Vec<Epoch>,
    /// Rows used, validation rows included.
    pub rows: u64,
    /// Rows left out, and why, in the order of the file.
    pub faults: Vec<RowFault>,
}

/// Trains what `spec` says on all rows of `rows`, which are held in memory: at most 4 GiB as text and
/// 8 GiB as network input.
///
/// A row with an empty label or a cell that is no number where one is needed is left out and listed.
///
/// # Errors
/// If the rows cannot be read, do not fit the specification, or none can be used; if the loss is no
/// number any more; if `on_epoch` says stop.
pub fn fit(
    spec: &TrainSpec,
    rows: &mut dyn RowSource,
    on_epoch: &mut dyn FnMut(&Epoch) -> Flow,
) -> Result<Trained, TrainError> {
    fit_until(spec, rows, on_epoch, &mut || Flow::Continue)
}

/// [`fit`] that also asks `check`, about ten times a second, whether to go on.
///
/// # Errors
/// As [`fit`]; [`TrainError::Stopped`] if `check` says stop.
pub fn fit_until(
    spec: &TrainSpec,
    rows: &mut dyn RowSource,
    on_epoch: &mut dyn FnMut(&Epoch) -> Flow,
    check: &mut dyn FnMut() -> Flow,
) -> Result<Trained, TrainError> {
    let dataset = Dataset::read(rows)?;
    if dataset.rows() == 0 {
        return Err(TrainError::NoRows { rows: 0, first: String::new() });
    }
    let asked = columns::features(spec, &dataset)?;
    let mut usable: Vec<_> = dataset.refs().collect();
    let mut faults = Vec::new();
    features::keep_readable(&asked, &dataset, &mut usable, &mut faults)?;
    let target = Target::read(spec, &dataset, &mut usable, &mut faults);
    faults.sort_by_key(|fault| fault.row);
    if usable.is_empty() {
        let first = faults.first().map(|f| format!("row {}: {}", f.row, f.reason)).unwrap_or_default();
        return Err(TrainError::NoRows { rows: dataset.rows(), first });
    }
    let target = target?;
    stop(check())?;
    let (training, validation) = plan::split(spec, usable.len());
    let input = features::fit(spec, &asked, &dataset, &usable, &training, &target)?;
    // The text is not needed any more.
    drop(dataset);
    stop(check())?;
    let plan = Plan::new(spec, &input, &target, &training)?;
    let mut trainer = Trainer::new(spec, &plan, &input)?;
    let epochs = trainer.run(&training, &validation, on_epoch, check)?;
    let net = finish::finish(trainer.into_net(), &plan);
    let rows = usable.len() as u64;
    let manifest =
        Manifest::new(target.task(), input.features, input.shape, net.layers.clone(), rows, spec.clone());
    Ok(Trained { files: export::files(&manifest, &net)?, epochs, rows, faults })
}

fn stop(flow: Flow) -> Result<(), TrainError> {
    match flow {
        Flow::Continue => Ok(()),
        Flow::Stop => Err(TrainError::Stopped),
    }
}

#[cfg(test)]
mod tests;

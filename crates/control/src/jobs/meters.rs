//! [`Meters`]: what a job takes of models, written down in the commits of its checkpoints and of its end.

use std::sync::Arc;

use super::job_id;
use crate::name::project_in;
use crate::quota::JobMeter;
use crate::store::{self, Write};
use crate::usage::JobUsage;
use crate::{Amount, Control, Error, ErrorCode, Job, JobKind, Result};

/// What a job takes of its model, and of the one that it is compared with.
#[derive(Clone)]
pub(super) struct Meters {
    pub(super) own: Arc<JobMeter>,
    /// The same as `own` where both are called the same.
    pub(super) against: Option<Arc<JobMeter>>,
}

/// What a commit writes down.
#[derive(Default)]
pub(super) struct Dues {
    pub(super) writes: Vec<Write>,
    amounts: Vec<(Arc<JobMeter>, Amount)>,
}

impl Meters {
    /// Those of `job`. Nothing is put down to those of a pull; what batches ask of models is counted request by request.
    pub(super) async fn of(control: &Control, job: &Job) -> Result<Meters> {
        let (own, against) = match &job.kind {
            JobKind::Training(training) => (training.target.display_name.clone(), None),
            JobKind::Batch(batch) => (called(control, &batch.model).await?, None),
            JobKind::Evaluation(evaluation) => {
                let against = match &evaluation.against {
                    Some(against) => Some(called(control, &against.model).await?),
                    None => None,
                };
                (called(control, &evaluation.model).await?, against)
            }
            JobKind::Pull(_) | JobKind::Requests(_) => (String::new(), None),
        };
        let project = project_in(&job.name);
        let meter = Arc::new(control.books().meter(project, &own));
        let against = against.map(|name| match name == own {
            true => Arc::clone(&meter),
            false => Arc::new(control.books().meter(project, &name)),
        });
        Ok(Meters { own: meter, against })
    }

    /// Reserves that `rows` are predicted by each.
    ///
    /// # Errors
    /// If they cannot be paid.
    pub(super) fn reserve_rows(&self, rows: u64) -> Result<()> {
        self.own.reserve_rows(rows)?;
        match &self.against {
            Some(against) => Ok(against.reserve_rows(rows)?),
            None => Ok(()),
        }
    }

    /// What is done and not written down, as what is to be written. It is written where the commit succeeds, which
    /// [`Dues::written`] is then told.
    pub(super) async fn due(&self, control: &Control) -> Result<Dues> {
        let other = self.against.as_ref().filter(|against| !Arc::ptr_eq(against, &self.own));
        let mut dues = Dues::default();
        for meter in std::iter::once(&self.own).chain(other) {
            if let Some(due) = meter.due() {
                dues.writes.push(JobUsage::added(control.store(), due.account, due.amount).await?);
                dues.amounts.push((Arc::clone(meter), due.amount));
            }
        }
        Ok(dues)
    }
}

impl Dues {
    /// They are written down.
    pub(super) fn written(&self) {
        self.amounts.iter().for_each(|(meter, amount)| meter.written(amount));
    }
}

/// What people call the model `name`; its id where it was deleted meanwhile.
async fn called(control: &Control, name: &str) -> Result<String> {
    match control.models().get(name).await {
        Ok((model, _)) => Ok(model.display_name),
        Err(error) if error.code == ErrorCode::NotFound => Ok(job_id(name).to_owned()),
        Err(error) => Err(error),
    }
}

/// Reads the job `name`, has `change` change it, and writes it with the dues of `meters`, if any are given; from the
/// reading again when someone else wrote in between.
pub(super) async fn commit(
    control: &Control,
    name: &str,
    meters: Option<&Meters>,
    mut change: impl FnMut(&mut Job),
) -> Result<Job> {
    for _ in 0..ATTEMPTS_MAX {
        let mut job: Job = store::get(control.store(), name).await?;
        let dues = match meters {
            Some(meters) => meters.due(control).await?,
            None => Dues::default(),
        };
        change(&mut job);
        let mut writes = dues.writes.clone();
        writes.push(store::update(&mut job)?);
        match control.store().commit(writes).await {
            Ok(()) => {
                dues.written();
                return Ok(job);
            }
            Err(error) if overtaken(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(contended(name))
}

/// How often a commit is tried that others are faster than.
pub(super) const ATTEMPTS_MAX: usize = 32;

/// Whether someone else has written what a commit was to write: another job of the same model, mostly.
pub(super) fn overtaken(error: &store::StoreError) -> bool {
    matches!(
        error,
        store::StoreError::Stale { .. } | store::StoreError::Exists { kind: store::Kind::JobUsage, .. }
    )
}

/// The error where others are always faster.
pub(super) fn contended(name: &str) -> Error {
    Error::new(ErrorCode::Aborted, format!("{name} is being changed by too many at once"))
}

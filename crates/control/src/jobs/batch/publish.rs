//! From finished files to objects: [`publish`], and [`withdraw`] for a job that fails after all.

use serde_json::json;

use super::Progress;
use crate::jobs::context::Context;
use crate::jobs::output::{FAULTS_FILE, part_file};
use crate::storage::{ObjectUri, PutOptions, Storage, failed};
use crate::{BatchJob, Error, ErrorCode, Result, fault};

/// The object whose appearance says that all others are there, whole.
const MANIFEST: &str = "prediction.manifest.json";

/// The one object of failed rows.
const ERRORS: &str = "prediction.errors_stats-00000-of-00001";

fn results(number: usize, of: usize) -> String {
    format!("prediction.results-{number:05}-of-{of:05}")
}

/// Where the job's objects go: `{prefix}/prediction-{model}-{time of the job's creation}`.
pub(super) fn directory(context: &Context, job: &BatchJob) -> Result<String> {
    let (model, _) = context.runtime.block_on(context.control.models().get(&job.model))?;
    let tame = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    let model: String = model.display_name.chars().take(100).map(tame).collect();
    let time = context.job.create_time.strftime("%Y_%m_%dT%H_%M_%S_%6fZ");
    let prefix = ObjectUri::parse_prefix(&job.output_uri_prefix)?;
    Ok(prefix.join(&format!("prediction-{model}-{time}"))?.to_string())
}

/// Makes the job's files objects, the manifest last. Doing it again leaves the same.
pub(super) fn publish(context: &Context, job: &BatchJob, progress: &Progress) -> Result<()> {
    let storage = context.storage();
    let target = ObjectUri::parse_prefix(job.output_directory.as_deref().unwrap_or_default())?;
    let parts = progress.output.parts.len();
    for number in 0..parts {
        context.check()?;
        put(context, &storage, &target.join(&results(number, parts))?, &part_file(number))?;
    }
    put(context, &storage, &target.join(ERRORS)?, FAULTS_FILE)?;
    context.check()?;
    let manifest = manifest(context, job, progress)?;
    fault::step().map_err(|e| failed("publishing the job's output", e))?;
    let target = target.join(MANIFEST)?;
    let put = storage.put(&target, manifest.into(), PutOptions::default());
    context.runtime.block_on(put).map(|_| ())
}

fn put(context: &Context, storage: &Storage, target: &ObjectUri, file: &str) -> Result<()> {
    fault::step().map_err(|e| failed("publishing the job's output", e))?;
    context.runtime.block_on(storage.put_file(target, &context.staging().join(file))).map(|_| ())
}

fn manifest(context: &Context, job: &BatchJob, progress: &Progress) -> Result<Vec<u8>> {
    let parts = &progress.output.parts;
    let objects: Vec<_> = (0..parts.len())
        .zip(parts)
        .map(|(number, bytes)| json!({ "name": results(number, parts.len()), "bytes": bytes }))
        .collect();
    let manifest = json!({
        "job": context.job.name,
        "model": format!("{}@{}", job.model, job.version),
        "results": objects,
        "errors": { "name": ERRORS, "bytes": progress.output.fault_bytes },
        "successfulRows": progress.successful,
        "failedRows": progress.failed,
    });
    serde_json::to_vec_pretty(&manifest).map_err(|e| Error::internal("writing the manifest", e))
}

/// Removes what an unsuccessful job has published, if anything, manifest first.
pub(crate) async fn withdraw(storage: &Storage, batch: &BatchJob) -> Result<()> {
    let (Some(directory), Some(progress)) = (&batch.output_directory, Progress::of(batch)?) else {
        return Ok(());
    };
    if !progress.complete {
        return Ok(());
    }
    let target = ObjectUri::parse_prefix(directory)?;
    let parts = progress.output.parts.len();
    let names = [MANIFEST.to_owned(), ERRORS.to_owned()];
    for name in names.into_iter().chain((0..parts).map(|number| results(number, parts))) {
        match storage.delete(&target.join(&name)?).await {
            Err(error) if error.code != ErrorCode::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

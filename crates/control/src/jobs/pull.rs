//! Pulls: a model's file from elsewhere, verified, to a registered version.
//!
//! The bytes are kept in the job's own directory until they are all there and are what they must be; a
//! process that dies goes on where they end. Only then they become an artifact, and the artifact a
//! version. Where a source cannot be reached, or gives something else, the next one is asked.

mod fetch;
mod index;
mod locate;
mod unpack;
mod watched;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use self::fetch::{Fetch, stoppable};
use self::locate::{Located, locate};
use self::unpack::unpack;
use self::watched::Watched;
use super::context::Context;
use super::runner::Done;
use super::{JobCollection, Jobs, blank, job_id};
use crate::artifact::Digest;
use crate::models::{ArtifactSource, UploadModel};
use crate::storage::failed;
use crate::store::Record;
use crate::web::Web;
use crate::{
    Catalogue, Error, ErrorCode, Job, JobKind, JobState, NewPull, Operation, OperationKind, OperationResult,
    Parent, PullJob, Result, Source, Timestamp, Transfer, check, fault,
};

impl Jobs {
    /// Creates a pull and the operation that ends with it.
    ///
    /// # Errors
    /// `NotFound` if the catalogue has no such model; `InvalidArgument` if what is to be pulled is no
    /// source, or one whose content nobody says; `FailedPrecondition` if the operator's catalogue is wrong.
    pub async fn create_pull(&self, parent: &Parent, new: NewPull) -> Result<(Job, Operation)> {
        let pull = pull_of(&self.control.catalogue().await?, new)?;
        check::display_name(&pull.model)?;
        let name = pull.model.clone();
        let mut job = blank(parent, JobCollection::Pull, name, Default::default(), JobKind::Pull(pull))?;
        let now = Timestamp::now();
        let mut operation = Operation {
            name: operation_name(&job)?,
            target: parent.to_string(),
            kind: OperationKind::PullModel,
            done: false,
            outcome: None,
            progress_percent: 0,
            job: Some(job.name.clone()),
            transfer: None,
            create_time: now,
            update_time: now,
            etag: String::new(),
        };
        let write = operation.insert()?;
        self.submit(&mut job, vec![write]).await?;
        Ok((job, operation))
    }
}

/// What is asked for, with what the catalogue or the source says of it.
fn pull_of(catalogue: &Catalogue, new: NewPull) -> Result<PullJob> {
    if let Some(entry) = catalogue.find(&new.what) {
        if new.digest.is_some_and(|digest| digest != entry.digest) {
            return Err(Error::invalid(format!(
                "the catalogue's {} is {}, not what is asked for",
                entry.name, entry.digest
            )));
        }
        return Ok(PullJob {
            model: new.name.unwrap_or_else(|| entry.name.clone()),
            file: entry.file.clone(),
            sources: entry.sources.clone(),
            digest: Some(entry.digest),
            bytes: Some(entry.bytes),
            transfer: Default::default(),
            result: None,
        });
    }
    if !new.what.contains(':') {
        return Err(Error::not_found(format!("a model called {} in the catalogue", new.what)));
    }
    let source: Source = new.what.parse()?;
    let says = matches!(source, Source::HuggingFace { .. } | Source::Ollama { .. });
    if new.digest.is_none() && !says {
        return Err(Error::invalid(format!(
            "nobody says what {source} must be: give the file's SHA-256 with it"
        )));
    }
    Ok(PullJob {
        model: new.name.unwrap_or_else(|| source.model_name()),
        file: source.file_name(),
        sources: vec![source],
        digest: new.digest,
        bytes: None,
        transfer: Default::default(),
        result: None,
    })
}

/// The operation that ends with a pull has the job's id.
pub(super) fn operation_name(job: &Job) -> Result<String> {
    let (parent, _) = Parent::split(&job.name)?;
    Ok(parent.child("operations", job_id(&job.name)))
}

/// Does the job, from where it was interrupted.
pub(super) fn run(context: &Context, job: &PullJob) -> Result<Done> {
    let mut job = job.clone();
    let (artifact, from) = obtain(context, &mut job)?;
    context.check()?;
    fault::step().map_err(|e| failed("registering what was pulled", e))?;
    let (model, version) = context.runtime.block_on(register(context, &job, artifact, &from))?;
    job.transfer = Transfer { source: Some(from), done: job.bytes.unwrap_or_default(), total: job.bytes };
    job.result = Some((model.clone(), version));
    let result = Some(OperationResult::Version { model, version });
    Ok(Done { result, ..Done::new(JobState::Succeeded, JobKind::Pull(job)) })
}

/// The artifact, from the first source that gives it, and that source.
fn obtain(context: &Context, job: &mut PullJob) -> Result<(Digest, Source)> {
    let artifacts = context.control.artifacts();
    if let (Some(digest), Some(bytes), Some(source)) = (job.digest, job.bytes, job.sources.first())
        && let Some(artifact) = artifacts.find_file(&job.file, digest, bytes)
    {
        return Ok((artifact, source.clone()));
    }
    let project = Parent::split(&context.job.name)?.0.project;
    // Refused before any source is asked; each that is asked sees to its own room.
    context.runtime.block_on(context.storage().room(&project).ensure(job.bytes.unwrap_or_default()))?;
    let web = Web::new(&context.control.options().sources)?;
    let mut reasons: Vec<(Source, Error)> = Vec::new();
    for (place, source) in job.sources.clone().into_iter().enumerate() {
        let directory = context.staging().join(place.to_string());
        match from_source(context, &web, job, &source, &directory) {
            Ok(artifact) => return Ok((artifact, source)),
            Err(error) => {
                context.check()?;
                tracing::info!(%source, %error, cause = ?error.source, "a source did not give the model");
                reasons.push((source, error));
            }
        }
    }
    Err(none_gave(reasons))
}

/// Why no source gave the file, in the words of each.
fn none_gave(reasons: Vec<(Source, Error)>) -> Error {
    // A source that is only out of reach says least of what is wrong.
    let told = reasons.iter().map(|(_, error)| error.code).find(|code| *code != ErrorCode::Unavailable);
    let all: Vec<String> = reasons.iter().map(|(source, error)| format!("{source}: {error}")).collect();
    let message = format!("nothing was pulled and nothing is left behind. {}", all.join("; "));
    Error::new(told.unwrap_or(ErrorCode::Unavailable), message)
}

fn from_source(
    context: &Context,
    web: &Web,
    job: &mut PullJob,
    source: &Source,
    directory: &Path,
) -> Result<Digest> {
    context.update(false, |kind| {
        if let JobKind::Pull(pull) = kind
            && pull.transfer.source.as_ref() != Some(source)
        {
            pull.transfer = Transfer { source: Some(source.clone()), ..Default::default() };
        }
    })?;
    let hosts = &context.control.options().sources;
    let asking = locate(web, hosts, source, job.digest.is_some());
    let located = context.runtime.block_on(stoppable(context, asking))??;
    let wanted = wanted(job, &located)?;
    let transfer = Fetch { context, web, directory: directory.to_owned(), bytes: job.bytes };
    for again in [false, true] {
        let resumed = context.runtime.block_on(transfer.fetch(&located))?;
        match verified(context, &transfer, &located, wanted) {
            Ok((file, bytes)) => {
                let artifact = store(context, job, &file, wanted, bytes)?;
                fs::remove_dir_all(directory).map_err(|e| failed("removing what was pulled", e))?;
                return Ok(artifact);
            }
            // What was here before may have been the beginning of something else.
            Err(error) if error.code == ErrorCode::FailedPrecondition => {
                fs::remove_dir_all(directory).map_err(|e| failed("removing what was pulled", e))?;
                if again || !resumed {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::precondition("the source gives something else each time"))
}

/// What the file must be.
fn wanted(job: &PullJob, located: &Located) -> Result<Digest> {
    let told = located.digest.filter(|_| located.member.is_none());
    match (job.digest, told) {
        (Some(wanted), Some(told)) if wanted != told => {
            Err(Error::precondition(format!("the source has a file that is {told}, not {wanted}")))
        }
        (Some(digest), _) | (None, Some(digest)) => Ok(digest),
        (None, None) => {
            Err(Error::precondition("the source does not say what the file must be: give its SHA-256"))
        }
    }
}

/// The file among what was fetched, and its length, after it was found to be what is wanted.
fn verified(
    context: &Context,
    transfer: &Fetch,
    located: &Located,
    wanted: Digest,
) -> Result<(PathBuf, u64)> {
    let part = transfer.part();
    let Some(member) = &located.member else {
        let bytes = check_digest(context, &part, wanted)?;
        return Ok((part, bytes));
    };
    if let Some(archive) = located.digest {
        check_digest(context, &part, archive)?;
    }
    let file = part.with_extension("member");
    unpack(context, &part, member, &file)?;
    let bytes = check_digest(context, &file, wanted)?;
    Ok((file, bytes))
}

/// Refuses a file that is not `wanted`; its length.
fn check_digest(context: &Context, path: &Path, wanted: Digest) -> Result<u64> {
    let file = File::open(path).map_err(|e| failed("verifying what was pulled", e))?;
    let found = Digest::of_reader(Watched::new(context, file));
    context.check()?;
    let (found, bytes) = found.map_err(|e| failed("verifying what was pulled", e))?;
    if found != wanted {
        return Err(Error::precondition(format!("the source gave a file that is {found}, not {wanted}")));
    }
    Ok(bytes)
}

/// Makes the file an artifact. The job knows it first, so that the artifact is kept, and found, by the next
/// process.
fn store(context: &Context, job: &mut PullJob, file: &Path, digest: Digest, bytes: u64) -> Result<Digest> {
    (job.digest, job.bytes) = (Some(digest), Some(bytes));
    context.update(true, |kind| {
        if let JobKind::Pull(pull) = kind {
            (pull.digest, pull.bytes) = (Some(digest), Some(bytes));
        }
    })?;
    let mut staged = context.control.artifacts().begin()?;
    staged.link(&job.file, file, digest, bytes)?;
    staged.commit()
}

/// Registers the version, or finds the one that was registered before: by a crashed attempt, or long ago.
async fn register(
    context: &Context,
    job: &PullJob,
    artifact: Digest,
    from: &Source,
) -> Result<(String, u32)> {
    let (parent, _) = Parent::split(&context.job.name)?;
    let models = context.control.models();
    // Somebody else may register a first version of this name at the same time.
    for again in [false, true] {
        let known = models.find(&parent, &job.model).await?.map(|(model, _)| model);
        if let Some(model) = &known
            && let Some(version) = model.versions.iter().find(|version| version.artifact == artifact)
        {
            return Ok((model.name.clone(), version.number));
        }
        let upload = UploadModel {
            model_id: if known.is_none() { id_of(&job.model) } else { None },
            parent_model: known.map(|model| model.name),
            version_description: format!("pulled from {from}"),
            ..UploadModel::new(job.model.clone(), ArtifactSource::Pulled { artifact, from: from.to_string() })
        };
        match models.register(&parent, upload).await {
            Err(error) if error.code == ErrorCode::AlreadyExists && !again => {}
            registered => return registered,
        }
    }
    Err(Error::new(ErrorCode::Aborted, format!("{} is being registered by others at once", job.model)))
}

/// An id for a model called `name`: lower case, a hyphen for everything else. `None` if nothing is left.
fn id_of(name: &str) -> Option<String> {
    let sound = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c.to_ascii_lowercase() } else { '-' };
    let id: String = name.chars().map(sound).take(63).collect();
    Some(id.trim_matches('-').to_owned()).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_source_by_source() {
        let source = |text: &str| text.parse::<Source>().ok();
        let (Some(a), Some(b)) = (source("ollama:a:b"), source("https://example.com/m.gguf")) else { return };
        let unreachable = || Error::new(ErrorCode::Unavailable, "cannot be reached");
        let error =
            none_gave(vec![(a.clone(), unreachable()), (b.clone(), Error::precondition("is another"))]);
        assert_eq!(error.code, ErrorCode::FailedPrecondition);
        assert!(
            error.message.contains("ollama:a:b: cannot be reached; https://example.com/m.gguf: is another")
        );
        assert_eq!(none_gave(vec![(a, unreachable()), (b, unreachable())]).code, ErrorCode::Unavailable);
    }

    #[test]
    fn ids_are_made_of_names() {
        assert_eq!(id_of("llama3.2:1b").as_deref(), Some("llama3-2-1b"));
        assert_eq!(id_of("日本"), None);
    }
}

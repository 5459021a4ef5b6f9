//! How notes hang together: which belong to which context, and what an execution used and made.

use std::collections::{BTreeMap, BTreeSet};

use crate::notes::check_name;
use crate::query::Matcher;
use crate::store::{Record, StoreError, get, list_all, update};
use crate::{Error, ErrorCode, Note, NoteEvent, NoteKind, Notes, Parent, Result};

/// Contexts that a note belongs to, at most.
const CONTEXTS_MAX: usize = 100;
/// Events of an execution, at most.
const EVENTS_MAX: usize = 1000;
/// Notes that one call puts into a context or takes out of it, at most.
const CALL_MAX: usize = 1000;
/// How far a lineage is followed, at most.
const HOPS_MAX: usize = 100;
/// How often a change is tried again when someone else writes in between.
const ATTEMPTS_MAX: usize = 32;

/// Notes and how they hang together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lineage {
    /// What was used or made.
    pub artifacts: Vec<Note>,
    /// What was done.
    pub executions: Vec<Note>,
    /// Which execution used or made which artifact.
    pub events: Vec<(String, NoteEvent)>,
}

/// A change of how notes hang together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Join,
    Leave,
}

impl Notes {
    /// Makes contexts children of `context`; those that are stay so.
    ///
    /// # Errors
    /// If one is not there, or they would form a circle.
    pub async fn add_children(&self, context: &str, children: &[String]) -> Result<()> {
        let parent = check_name(NoteKind::Context, context)?;
        let all = self.all(&parent, NoteKind::Context).await?;
        let parents: BTreeMap<&str, &[String]> =
            all.iter().map(|note| (note.name.as_str(), note.contexts.as_slice())).collect();
        let (mut above, mut open) = (BTreeSet::new(), vec![context]);
        while let Some(next) = open.pop() {
            if above.insert(next) {
                open.extend(parents.get(next).copied().unwrap_or_default().iter().map(String::as_str));
            }
        }
        if let Some(child) = children.iter().find(|child| above.contains(child.as_str())) {
            return Err(Error::invalid(format!(
                "{child} cannot be a child of {context}: that lies within it"
            )));
        }
        self.change(context, &[(NoteKind::Context, children)], Change::Join).await
    }

    /// Makes contexts children of `context` no more.
    ///
    /// # Errors
    /// If one is not there.
    pub async fn remove_children(&self, context: &str, children: &[String]) -> Result<()> {
        self.change(context, &[(NoteKind::Context, children)], Change::Leave).await
    }

    /// Puts artifacts and executions into `context`; those that are stay so.
    ///
    /// # Errors
    /// If one is not there.
    pub async fn add_members(
        &self,
        context: &str,
        artifacts: &[String],
        executions: &[String],
    ) -> Result<()> {
        let members = [(NoteKind::Artifact, artifacts), (NoteKind::Execution, executions)];
        self.change(context, &members, Change::Join).await
    }

    /// Notes what `execution` used and made.
    ///
    /// # Errors
    /// If one of the artifacts is not there, or was noted the other way round.
    pub async fn add_events(&self, execution: &str, events: &[NoteEvent]) -> Result<()> {
        let parent = check_name(NoteKind::Execution, execution)?;
        limit("events", events.len(), EVENTS_MAX)?;
        for _ in 0..ATTEMPTS_MAX {
            let mut note: Note = get(self.store(), execution).await?;
            let mut writes = Vec::new();
            for event in events {
                let artifact = self.member(&parent, NoteKind::Artifact, &event.artifact).await?;
                writes.push(artifact.require());
                match note.events.iter().find(|noted| noted.artifact == event.artifact) {
                    Some(noted) if noted.output == event.output => {}
                    Some(_) => {
                        let message = format!("{} is noted as used and as made", event.artifact);
                        return Err(Error::invalid(message));
                    }
                    None => note.events.push(event.clone()),
                }
            }
            limit("events of an execution", note.events.len(), EVENTS_MAX)?;
            writes.push(update(&mut note)?);
            match self.store().commit(writes).await {
                Err(StoreError::Stale { .. }) => {}
                done => return Ok(done?),
            }
        }
        Err(contended(execution))
    }

    /// Forgets the note `name`, and that others hang together with it.
    ///
    /// # Errors
    /// If there is none, or `etag` is given and is not the present one.
    pub async fn delete(&self, kind: NoteKind, name: &str, etag: Option<&str>) -> Result<()> {
        let parent = check_name(kind, name)?;
        let near: &[NoteKind] = match kind {
            NoteKind::Context => &[NoteKind::Context, NoteKind::Artifact, NoteKind::Execution],
            NoteKind::Artifact => &[NoteKind::Execution],
            NoteKind::Execution => &[],
        };
        for _ in 0..ATTEMPTS_MAX {
            let note: Note = get(self.store(), name).await?;
            note.check_etag(etag)?;
            let mut writes = vec![note.delete()];
            for kind in near {
                for mut other in self.all(&parent, *kind).await? {
                    let before = other.contexts.len() + other.events.len();
                    other.contexts.retain(|context| context != name);
                    other.events.retain(|event| event.artifact != name);
                    if other.name != name && other.contexts.len() + other.events.len() != before {
                        writes.push(update(&mut other)?);
                    }
                }
            }
            match self.store().commit(writes).await {
                Err(StoreError::Stale { .. }) => {}
                done => return Ok(done?),
            }
        }
        Err(contended(name))
    }

    /// The artifacts and executions in `context`, and the events between them.
    ///
    /// # Errors
    /// If there is no such context.
    pub async fn context_lineage(&self, context: &str) -> Result<Lineage> {
        let parent = check_name(NoteKind::Context, context)?;
        get::<Note>(self.store(), context).await?;
        let within = |note: &Note| note.contexts.iter().any(|name| name == context);
        let mut lineage = Lineage {
            artifacts: self.all(&parent, NoteKind::Artifact).await?,
            executions: self.all(&parent, NoteKind::Execution).await?,
            events: Vec::new(),
        };
        lineage.artifacts.retain(within);
        lineage.executions.retain(within);
        lineage.join();
        Ok(lineage)
    }

    /// `execution`, what it used and made.
    ///
    /// # Errors
    /// If there is no such execution.
    pub async fn execution_lineage(&self, execution: &str) -> Result<Lineage> {
        check_name(NoteKind::Execution, execution)?;
        let note: Note = get(self.store(), execution).await?;
        let mut artifacts = Vec::with_capacity(note.events.len());
        for event in &note.events {
            match get(self.store(), &event.artifact).await {
                Err(error) if error.code == ErrorCode::NotFound => {}
                artifact => artifacts.push(artifact?),
            }
        }
        let mut lineage = Lineage { artifacts, executions: vec![note], events: Vec::new() };
        lineage.join();
        Ok(lineage)
    }

    /// What `artifact` was made of and what was made of it, at most `hops` events away where that is said. Only artifacts
    /// that `filter` lets through are gone through.
    ///
    /// # Errors
    /// If there is no such artifact, or the filter is malformed.
    pub async fn artifact_lineage(
        &self,
        artifact: &str,
        hops: Option<usize>,
        filter: &str,
    ) -> Result<Lineage> {
        let parent = check_name(NoteKind::Artifact, artifact)?;
        let hops = hops.unwrap_or(usize::MAX);
        if hops != usize::MAX {
            limit("hops", hops, HOPS_MAX)?;
        }
        get::<Note>(self.store(), artifact).await?;
        let filter = Matcher::parse(filter)?;
        let mut artifacts = Vec::new();
        for note in self.all(&parent, NoteKind::Artifact).await? {
            if note.name == artifact || filter.matches(&note.view())? {
                artifacts.push(note);
            }
        }
        let mut lineage = Lineage {
            artifacts,
            executions: self.all(&parent, NoteKind::Execution).await?,
            events: Vec::new(),
        };
        lineage.join();
        let reached = lineage.reached(artifact, hops);
        lineage.artifacts.retain(|note| reached.contains(&note.name));
        lineage.executions.retain(|note| reached.contains(&note.name));
        lineage.join();
        Ok(lineage)
    }

    async fn all(&self, parent: &Parent, kind: NoteKind) -> Result<Vec<Note>> {
        list_all(self.store(), Some(&kind.scope(parent))).await
    }

    /// The note `name` of this kind, which must lie in `parent`.
    async fn member(&self, parent: &Parent, kind: NoteKind, name: &str) -> Result<Note> {
        if check_name(kind, name)? != *parent {
            return Err(Error::invalid(format!("{name} does not lie in the metadata store of {parent}")));
        }
        get(self.store(), name).await
    }

    /// Has notes join `context`, or leave it, all at once.
    async fn change(&self, context: &str, members: &[(NoteKind, &[String])], change: Change) -> Result<()> {
        let parent = check_name(NoteKind::Context, context)?;
        limit("notes in one call", members.iter().map(|(_, names)| names.len()).sum(), CALL_MAX)?;
        for _ in 0..ATTEMPTS_MAX {
            let mut writes = vec![get::<Note>(self.store(), context).await?.require()];
            for (kind, names) in members {
                for name in names.iter().collect::<BTreeSet<_>>() {
                    let mut note = self.member(&parent, *kind, name).await?;
                    let within = note.contexts.iter().any(|name| name == context);
                    if within == (change == Change::Join) {
                        continue;
                    }
                    match change {
                        Change::Join => note.contexts.push(context.to_owned()),
                        Change::Leave => note.contexts.retain(|name| name != context),
                    }
                    limit("contexts of a note", note.contexts.len(), CONTEXTS_MAX)?;
                    writes.push(update(&mut note)?);
                }
            }
            match self.store().commit(writes).await {
                Err(StoreError::Stale { .. }) => {}
                done => return Ok(done?),
            }
        }
        Err(contended(context))
    }
}

impl Lineage {
    /// Finds the events between its artifacts and its executions.
    fn join(&mut self) {
        let artifacts: BTreeSet<&str> = self.artifacts.iter().map(|note| note.name.as_str()).collect();
        let of = |execution: &Note| {
            let known = execution.events.iter().filter(|event| artifacts.contains(event.artifact.as_str()));
            known.map(|event| (execution.name.clone(), event.clone())).collect::<Vec<_>>()
        };
        self.events = self.executions.iter().flat_map(of).collect();
    }

    /// What is at most `hops` events away from `start`, and that itself.
    fn reached(&self, start: &str, hops: usize) -> BTreeSet<String> {
        let mut near: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (execution, event) in &self.events {
            near.entry(execution).or_default().push(&event.artifact);
            near.entry(&event.artifact).or_default().push(execution);
        }
        let mut reached = BTreeSet::from([start.to_owned()]);
        let mut last = vec![start];
        for _ in 0..hops {
            let next = last.iter().flat_map(|name| near.get(name).into_iter().flatten());
            let next: Vec<&str> = next.copied().filter(|name| reached.insert((*name).to_owned())).collect();
            if next.is_empty() {
                break;
            }
            last = next;
        }
        reached
    }
}

fn limit(what: &str, found: usize, max: usize) -> Result<()> {
    match found <= max {
        true => Ok(()),
        false => Err(Error::invalid(format!("{found} {what}; at most {max} are possible"))),
    }
}

fn contended(name: &str) -> Error {
    Error::new(ErrorCode::Aborted, format!("{name} is being changed by too many at once; try again"))
}

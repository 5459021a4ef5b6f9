//! `meuse audit`

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use control::audit::{Head, Verdict, verify};
use serde_json::{Value, json};

use crate::connection::Connection;
use crate::failure::{Failure, Result, on_file};
use crate::show::Output;

/// Read and verify the log of who did what.
#[derive(Debug, Args)]
pub struct Audit {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with the audit log.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Write the log, a line of JSON an entry: acts before they are done, how they ended, who was refused
    Export(Export),
    /// Find out whether an entry was removed, altered or moved; exit code 1 if so
    Verify(Verify),
    /// Write the log to a file, verify that, and only then remove from the server what is in it
    Prune(Prune),
}

/// Write the log.
#[derive(Debug, Args)]
pub struct Export {
    /// Only entries after this one
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    pub after: u64,
    /// The file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

/// Verify the log.
#[derive(Debug, Args)]
#[command(
    after_help = "`meuse audit verify` prints the number and the digest of the last entry. Kept elsewhere, they \
prove later by --head that nothing up to there has changed, even to who holds the whole server."
)]
pub struct Verify {
    /// A log exported or archived earlier, in place of the server's own
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// An entry that must be in that file, as NUMBER:DIGEST
    #[arg(long, value_name = "HEAD", value_parser = head, requires = "file")]
    pub head: Option<Head>,
    /// The last entry of the file before it, as NUMBER:DIGEST, where that file is not the first
    #[arg(long, value_name = "HEAD", value_parser = head, requires = "file")]
    pub after: Option<Head>,
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

/// Archive the log and remove what was archived.
#[derive(Debug, Args)]
#[command(
    after_help = "The server keeps the number and the digest of the last entry that was removed, and verifies the rest \
from there. Keep the files: `meuse audit verify --file FILE --after HEAD` verifies each from the head of the one before."
)]
pub struct Prune {
    /// The file to write, which must not exist yet
    #[arg(long, value_name = "FILE")]
    pub archive: PathBuf,
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

const PATH: &str = "/admin/v1/audit";

impl Audit {
    /// Does it.
    ///
    /// # Errors
    /// If the server refuses: only an auditor's or an admin's key may. If the log is not as it was written.
    pub async fn run(&self, output: &Output) -> Result<()> {
        match &self.action {
            Action::Export(export) => export.run().await,
            Action::Verify(verify) => verify.run(output).await,
            Action::Prune(prune) => prune.run(output).await,
        }
    }
}

impl Export {
    async fn run(&self) -> Result<()> {
        let client = self.connection.client()?;
        let (mut out, name): (Box<dyn Write>, &Path) = match &self.output {
            Some(path) => (Box::new(File::create(path).map_err(on_file(path, "writing"))?), path),
            None => (Box::new(std::io::stdout().lock()), Path::new("standard output")),
        };
        let path = format!("{PATH}?after={}", self.after);
        let mut reply = client.stream(&path).await.map_err(Failure::from)?;
        while let Some(bytes) = reply.chunk().await.map_err(|e| client.broken(&e))? {
            out.write_all(&bytes).map_err(on_file(name, "writing"))?;
        }
        out.flush().map_err(on_file(name, "writing"))
    }
}

impl Verify {
    async fn run(&self, output: &Output) -> Result<()> {
        let (entries, digest, fault) = match &self.file {
            Some(path) => {
                let file = File::open(path).map_err(on_file(path, "reading"))?;
                let base = self.after.unwrap_or_else(Head::empty);
                let verdict =
                    verify(BufReader::new(file), base, self.head).map_err(on_file(path, "reading"))?;
                let Verdict { head, fault } = verdict;
                (head.n, head.digest.to_string(), fault)
            }
            None => {
                let client = self.connection.client()?;
                let found: Value = client.get(&format!("{PATH}:verify")).await.map_err(Failure::from)?;
                let text = |field: &str| found.get(field).and_then(Value::as_str).map(str::to_owned);
                let entries = found.get("entries").and_then(Value::as_u64);
                let unclear = || Failure::new("the server answered without a verdict");
                (entries.ok_or_else(unclear)?, text("digest").ok_or_else(unclear)?, text("fault"))
            }
        };
        if output.json {
            output.value(&json!({"entries": entries, "digest": digest, "fault": fault}));
        } else if fault.is_none() {
            output.line(format!("{entries} entries, all as they were written."));
            output.line(format!("head {entries}:{digest}"));
        }
        match fault {
            None => Ok(()),
            Some(fault) => Err(Failure::new(format!("the audit log is not as it was written: {fault}"))
                .next(format!(
                    "{entries} entries before that are sound; compare the rest with an export of your own"
                ))),
        }
    }
}

impl Prune {
    async fn run(&self, output: &Output) -> Result<()> {
        let client = self.connection.client()?;
        let path = self.archive.as_path();
        let writing = || on_file(path, "writing");
        let verdict: Value = client.get(&format!("{PATH}:verify")).await.map_err(Failure::from)?;
        if let Some(fault) = verdict.get("fault").and_then(Value::as_str) {
            return Err(Failure::new(format!("the audit log is not as it was written: {fault}"))
                .next("nothing was removed; find out what happened first"));
        }
        let base = match verdict.get("archived") {
            Some(archived @ Value::Object(_)) => head_in(archived)?,
            _ => Head::empty(),
        };
        // Never over an archive that may be the only one.
        let mut file = File::create_new(path).map_err(writing())?;
        let mut reply = client.stream(PATH).await.map_err(Failure::from)?;
        while let Some(bytes) = reply.chunk().await.map_err(|e| client.broken(&e))? {
            file.write_all(&bytes).map_err(writing())?;
        }
        file.sync_all().map_err(writing())?;
        let written = File::open(path).map_err(on_file(path, "reading"))?;
        let known = Some(head_in(&verdict)?);
        let verdict = verify(BufReader::new(written), base, known).map_err(on_file(path, "reading"))?;
        if let Some(fault) = verdict.fault {
            return Err(Failure::new(format!("{} is not the whole log: {fault}", path.display()))
                .next("nothing was removed; try again with a key for all projects"));
        }
        let Head { n, digest } = verdict.head;
        let through = json!({"through": {"entries": n, "digest": digest.to_string()}});
        let answer: Value = client.post(&format!("{PATH}:prune"), &through).await.map_err(Failure::from)?;
        if output.json {
            output.value(&answer);
        } else {
            output.line(format!(
                "{} entries are in {}, and on the server no more.",
                n - base.n,
                path.display()
            ));
            output.line(format!("head {n}:{digest}"));
        }
        Ok(())
    }
}

/// The entry that the server names.
fn head_in(value: &Value) -> Result<Head> {
    let read = || {
        let n = value.get("entries")?.as_u64()?;
        Some(Head { n, digest: value.get("digest")?.as_str()?.parse().ok()? })
    };
    read().ok_or_else(|| Failure::new("the server answered without the last entry of its log"))
}

/// Reads `NUMBER:DIGEST`.
fn head(text: &str) -> std::result::Result<Head, String> {
    let wrong = || format!("`{text}` is not of the form NUMBER:DIGEST, as `meuse audit verify` prints it");
    let (n, digest) = text.split_once(':').ok_or_else(wrong)?;
    Ok(Head { n: n.parse().map_err(|_| wrong())?, digest: digest.parse().map_err(|_| wrong())? })
}

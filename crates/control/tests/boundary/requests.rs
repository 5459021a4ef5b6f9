//! Batches of requests, answered by someone who repeats them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use control::{
    Answered, Answerer, Asked, BatchEnding, Closed, Control, ErrorCode, Job, JobKind, JobState, LineChecker,
    LineFault, NewRequestBatch, RequestBatch,
};

use crate::common::*;

pub(crate) const PROTOCOL: &str = "echo";

/// Repeats what it is asked. A line that begins with `bad` is answered with an error, one that begins with `slow` after
/// a while, and one that begins with `never` not at all.
#[derive(Default)]
pub(crate) struct Echo {
    now: AtomicUsize,
    most: AtomicUsize,
}

struct Check(Vec<LineFault>);

impl LineChecker for Check {
    fn line(&mut self, number: u64, line: Result<&[u8], &str>) -> ControlFlow<()> {
        let reason = match line {
            Ok(line) if line.starts_with(b"faulty") => "it says so",
            Ok(_) => return ControlFlow::Continue(()),
            Err(reason) => reason,
        };
        let (code, message) = ("faulty".to_owned(), reason.to_owned());
        self.0.push(LineFault { code, message, field: None, line: Some(number) });
        ControlFlow::Continue(())
    }

    fn end(self: Box<Self>) -> Result<String, Vec<LineFault>> {
        if self.0.is_empty() { Ok("the parrot".to_owned()) } else { Err(self.0) }
    }
}

#[async_trait]
impl Answerer for Echo {
    fn checker(&self, _: &Asked) -> Box<dyn LineChecker> {
        Box::new(Check(Vec::new()))
    }

    async fn answer(&self, _: &Asked, line: &[u8]) -> Result<Answered, Closed> {
        self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        if line.starts_with(b"never") {
            std::future::pending::<()>().await;
        }
        let pause = if line.starts_with(b"slow") { 30_000 } else { 20 };
        tokio::time::sleep(Duration::from_micros(pause)).await;
        self.now.fetch_sub(1, Ordering::SeqCst);
        let error = line.starts_with(b"bad").then(|| "it says so".to_owned());
        Ok(Answered { line: [line, b"\n"].concat(), error })
    }

    fn unanswered(&self, line: &[u8], why: BatchEnding) -> Vec<u8> {
        format!("{} {why:?}\n", String::from_utf8_lossy(line)).into_bytes()
    }
}

pub(crate) async fn store(control: &Control, content: &str) -> String {
    let mut writer = control.files().writer(&parent()).await.unwrap();
    writer.write(content.to_owned().into()).await.unwrap();
    writer.finish("requests".to_owned(), "batch".to_owned()).await.unwrap().name
}

pub(crate) async fn begin(control: &Control, input: &str, lasts: Duration) -> Job {
    let new = NewRequestBatch {
        labels: BTreeMap::new(),
        protocol: PROTOCOL.to_owned(),
        endpoint: "anything".to_owned(),
        input: input.to_owned(),
        window: "24h".to_owned(),
        lasts,
    };
    control.jobs().create_requests(&parent(), new).await.unwrap()
}

pub(crate) fn requests(job: &Job) -> &RequestBatch {
    match &job.kind {
        JobKind::Requests(batch) => batch,
        other => panic!("{other:?}"),
    }
}

/// The lines of the file `name`; none where there is no file.
pub(crate) async fn lines(control: &Control, name: Option<&String>) -> Vec<String> {
    let Some(name) = name else { return Vec::new() };
    let mut reader = control.files().read(name).await.unwrap();
    let mut content = Vec::new();
    while let Some(block) = reader.next().await.unwrap() {
        content.extend_from_slice(&block);
    }
    String::from_utf8(content).unwrap().lines().map(str::to_owned).collect()
}

/// Lines by number, each seventh to be answered with an error.
pub(crate) fn asked(count: usize) -> Vec<String> {
    (0..count).map(|n| if n % 7 == 3 { format!("bad {n}") } else { format!("good {n}") }).collect()
}

async fn opened(directory: &Path) -> (Control, Arc<Echo>) {
    let control = open(directory, 1).await;
    let echo = Arc::new(Echo::default());
    control.answer_with(PROTOCOL, Arc::clone(&echo) as _);
    (control, echo)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_is_answered_in_order_and_few_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let (control, echo) = opened(directory.path()).await;
    let mut asked = asked(2000);
    asked[0] = "slow 0".to_owned();
    let input = store(&control, &asked.join("\r\n")).await;
    let job = begin(&control, &input, PATIENCE).await;
    let done = ended(&control, &job.name, JobState::Succeeded).await;
    let batch = requests(&done);
    let (good, bad): (Vec<String>, Vec<String>) =
        asked.into_iter().partition(|line| !line.starts_with("bad"));
    assert_eq!((batch.total, batch.answered, batch.failed), (2000, good.len() as u64, bad.len() as u64));
    assert_eq!(batch.model.as_deref(), Some("the parrot"));
    assert_eq!(lines(&control, batch.output.as_ref()).await, good);
    assert_eq!(lines(&control, batch.errors.as_ref()).await, bad);
    assert!(echo.most.load(Ordering::SeqCst) <= control.options().jobs.requests);
    assert_eq!(leftovers(directory.path()), [] as [&Path; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_a_faulty_line_answers_none() {
    let directory = tempfile::tempdir().unwrap();
    let (control, echo) = opened(directory.path()).await;
    let long = "x".repeat(5 << 20);
    let input = store(&control, &format!("good\nfaulty\n\n{long}\ngood")).await;
    let job = begin(&control, &input, PATIENCE).await;
    let done = ended(&control, &job.name, JobState::Failed).await;
    let told: Vec<_> = requests(&done).faults.iter().map(|fault| fault.line).collect();
    assert_eq!(told, [Some(2), Some(3)]);
    assert_eq!((requests(&done).output.as_ref(), echo.most.load(Ordering::SeqCst)), (None, 0));
    control.files().delete(&input).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_early_keeps_its_answers_and_gives_up_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let (control, _) = opened(directory.path()).await;
    let asked = ["good 0", "bad 1", "never 2", "good 3", "never 4"].map(str::to_owned);
    for (lasts, state, why) in [
        (PATIENCE, JobState::Cancelled, BatchEnding::Cancelled),
        (Duration::from_secs(1), JobState::Succeeded, BatchEnding::Expired),
    ] {
        let input = store(&control, &asked.join("\n")).await;
        let job = begin(&control, &input, lasts).await;
        let held = control.files().delete(&input).await.unwrap_err();
        assert_eq!(held.code, ErrorCode::FailedPrecondition);
        if why == BatchEnding::Cancelled {
            tokio::time::sleep(Duration::from_millis(300)).await;
            control.jobs().cancel(&job.name).await.unwrap();
        }
        let done = ended(&control, &job.name, state).await;
        let batch = requests(&done);
        assert_eq!(batch.ending, Some(why));
        let errors = ["bad 1".to_owned(), format!("never 2 {why:?}"), format!("never 4 {why:?}")];
        assert_eq!(lines(&control, batch.output.as_ref()).await, ["good 0", "good 3"]);
        assert_eq!(lines(&control, batch.errors.as_ref()).await, errors);
        control.files().delete(&input).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_without_a_row_are_removed_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let control = open(directory.path(), 0).await;
    let kept = store(&control, "kept").await;
    drop(control);
    let files = directory.path().join("files");
    std::fs::write(files.join("123"), "a crash came before its row").unwrap();
    std::fs::write(files.join(".staging").join("456"), "a crash cut it off").unwrap();
    let control = open(directory.path(), 0).await;
    let names = |path: &Path| std::fs::read_dir(path).unwrap().count();
    assert_eq!((names(&files), names(&files.join(".staging"))), (2, 0));
    assert_eq!(lines(&control, Some(&kept)).await, ["kept"]);
}

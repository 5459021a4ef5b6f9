//! Processes that die at a chosen durable step, and what the next one makes of it.
//!
//! The test starts itself as another process, which opens a prepared data directory, takes up its job and
//! dies where `MEUSE_FAULT` says.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use crate::common::*;
use crate::requests;
use control::{JobState, ServingStatus};

/// Steps at which a job is killed, spread over all that it takes.
const KILLS: u64 = 20;

const ROWS: u64 = 30_000;

/// Not a test: what the other process does.
#[test]
#[ignore = "started by the tests of this file"]
fn child() {
    let Ok(directory) = std::env::var("MEUSE_CHILD_DIR") else { return };
    let name = std::env::var("MEUSE_CHILD_JOB").unwrap();
    runtime().block_on(async {
        // How many steps a batch of requests takes must not depend on the time that it takes.
        let control = match name.contains("requestBatches") {
            true => open_noting(Path::new(&directory), 1, Duration::ZERO).await,
            false => open(Path::new(&directory), 1).await,
        };
        control.answer_with(requests::PROTOCOL, Arc::new(requests::Echo::default()));
        let job = control.jobs().wait(&name, PATIENCE).await.unwrap();
        println!("state={:?} steps={} error={:?}", job.state, control::fault::steps_passed(), job.error);
        control.jobs().stop().await;
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn run_child(directory: &Path, job: &str, fault: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["jobs_crash::child", "--exact", "--ignored", "--nocapture"])
        .env("MEUSE_CHILD_DIR", directory)
        .env("MEUSE_CHILD_JOB", job)
        .env("MEUSE_FAULT", fault)
        .output()
        .unwrap()
}

fn said(output: &Output, key: &str) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = text.split(key).nth(1).and_then(|rest| rest.split_whitespace().next());
    found
        .unwrap_or_else(|| panic!("no {key} in {text}\n{}", String::from_utf8_lossy(&output.stderr)))
        .to_owned()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Kills the job of the prepared directory `template` at steps spread over all of its phases, lets the
/// next process finish it, and has `check` look at what is there.
fn kill_everywhere(template: &Path, job: &str, check: impl Fn(&Path)) {
    let place = tempfile::tempdir().unwrap();
    let whole = place.path().join("whole");
    copy(template, &whole);
    let undisturbed = run_child(&whole, job, "count");
    let text = String::from_utf8_lossy(&undisturbed.stdout);
    assert_eq!(said(&undisturbed, "state="), "Succeeded", "{text}");
    check(&whole);
    let steps: u64 = said(&undisturbed, "steps=").parse().unwrap();
    assert!(steps >= 5, "only {steps} steps to die at");
    let kills = KILLS.min(steps);
    for kill in 0..kills {
        let step = 1 + kill * (steps - 1) / (kills - 1);
        let directory = place.path().join(format!("killed-{step}"));
        copy(template, &directory);
        let killed = run_child(&directory, job, &format!("abort@{step}"));
        assert!(!killed.status.success(), "step {step} of {steps} did not kill");
        let finished = run_child(&directory, job, "count");
        assert_eq!(said(&finished, "state="), "Succeeded", "after a kill at step {step} of {steps}");
        check(&directory);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}

#[test]
fn a_batch_of_requests_killed_anywhere_has_every_line_once() {
    let template = tempfile::tempdir().unwrap();
    let asked = requests::asked(100);
    let job = runtime().block_on(async {
        let control = open(template.path(), 0).await;
        let input = requests::store(&control, &asked.join("\n")).await;
        requests::begin(&control, &input, PATIENCE * 100).await.name
    });
    let (good, bad): (Vec<_>, Vec<_>) = asked.into_iter().partition(|line| !line.starts_with("bad"));
    kill_everywhere(template.path(), &job, |directory| {
        runtime().block_on(async {
            let control = open(directory, 0).await;
            let done = ended(&control, &job, JobState::Succeeded).await;
            let batch = requests::requests(&done);
            assert_eq!(requests::lines(&control, batch.output.as_ref()).await, good);
            assert_eq!(requests::lines(&control, batch.errors.as_ref()).await, bad);
            assert_eq!(control.files().list(&parent()).await.unwrap().len(), 3);
            assert_eq!(leftovers(directory), [] as [&Path; 0]);
        });
    });
}

#[test]
fn a_batch_killed_anywhere_has_every_row_once() {
    let template = tempfile::tempdir().unwrap();
    let job = runtime().block_on(async {
        let control = open(template.path(), 0).await;
        let model = upload(&control).await;
        let mut inputs = Vec::new();
        for part in 0..3 {
            let mut text = csv(part * ROWS / 3, ROWS / 3);
            text.push_str("ragged,row\n\"unclosed");
            inputs.push(put(&control, &format!("in/{part}.csv"), text).await);
        }
        control.jobs().create_batch(&parent(), new_batch(&model, &inputs)).await.unwrap().name
    });
    kill_everywhere(template.path(), &job, |directory| {
        runtime().block_on(async {
            let control = open(directory, 0).await;
            let done = ended(&control, &job, JobState::Succeeded).await;
            let batch = batch(&done);
            assert_eq!((batch.successful, batch.failed), (ROWS, 6));
            let output = batch.output_directory.clone().unwrap();
            let rows = result_rows(&control, &output, "n,b,c,d,prediction_0,prediction_1").await;
            assert_eq!(rows.len() as u64, ROWS);
            for (n, row) in rows.iter().enumerate() {
                assert!(row.starts_with(&format!("{n},")), "row {n} is {row}");
            }
            assert_eq!(names(&control, "gs://data/out").await.len(), names(&control, &output).await.len());
            let faults = read(&control, &format!("{output}/prediction.errors_stats-00000-of-00001")).await;
            assert_eq!(faults.lines().count(), 6);
            assert_eq!(leftovers(directory), Vec::<std::path::PathBuf>::new());
        });
    });
}

#[test]
fn a_training_killed_anywhere_registers_one_version() {
    let template = tempfile::tempdir().unwrap();
    let job = runtime().block_on(async {
        let control = open(template.path(), 0).await;
        let input = put(&control, "in/train.csv", labelled(400)).await;
        control.jobs().create_training(&parent(), new_training(&[input], 12)).await.unwrap().name
    });
    let digest = std::cell::Cell::new(None);
    kill_everywhere(template.path(), &job, |directory| {
        runtime().block_on(async {
            let control = open(directory, 0).await;
            let done = ended(&control, &job, JobState::Succeeded).await;
            let (model, version) = training(&done).result.clone().unwrap();
            let (model, _) = control.models().get(&model).await.unwrap();
            assert_eq!((model.versions.len(), version), (1, 1));
            let version = &model.versions[0];
            assert_eq!(version.training_job.as_deref(), Some(job.as_str()));
            assert_eq!(version.serving, ServingStatus::Enabled);
            assert!(version.dataset_digest.is_some());
            // The same rows and the same seed: the same bits, whether it was killed or not.
            assert_eq!(digest.replace(Some(version.artifact)).unwrap_or(version.artifact), version.artifact);
            let models = control.models().list(&parent(), &control::ListQuery::default()).await.unwrap();
            assert_eq!(models.items.len(), 1);
            assert_eq!(training(&done).progress.len(), 12);
            assert_eq!(leftovers(directory), Vec::<std::path::PathBuf>::new());
        });
    });
}

#[test]
fn a_full_disk_fails_the_job_and_leaves_nothing() {
    let template = tempfile::tempdir().unwrap();
    let job = runtime().block_on(async {
        let control = open(template.path(), 0).await;
        let model = upload(&control).await;
        let input = put(&control, "in.csv", csv(0, 6000)).await;
        control.jobs().create_batch(&parent(), new_batch(&model, &[input])).await.unwrap().name
    });
    let place = tempfile::tempdir().unwrap();
    // From the fourth step on: claimed and begun, then full while it writes.
    for step in [3, 6, 9] {
        let directory = place.path().join(step.to_string());
        copy(template.path(), &directory);
        let full = Command::new(std::env::current_exe().unwrap())
            .args(["jobs_crash::child_of_a_full_disk", "--exact", "--ignored", "--nocapture"])
            .env("MEUSE_CHILD_DIR", &directory)
            .env("MEUSE_CHILD_JOB", &job)
            .env("MEUSE_FAULT", format!("disk_full@{step}"))
            .output()
            .unwrap();
        assert_eq!(said(&full, "objects="), "1", "step {step}");
        // With room again the job is taken up, or has failed for good with a clear reason.
        let after = run_child(&directory, &job, "count");
        assert!(["Succeeded", "Failed"].contains(&said(&after, "state=").as_str()), "step {step}");
        runtime().block_on(async {
            let control = open(&directory, 0).await;
            let ended = control.jobs().get(&job).await.unwrap();
            if let Some(error) = &ended.error {
                assert_eq!(error.code, control::ErrorCode::ResourceExhausted);
                assert!(error.message.contains("disk is full"), "{}", error.message);
            }
            assert_eq!(leftovers(&directory), Vec::<std::path::PathBuf>::new());
        });
    }
}

/// Not a test: what the other process does on a full disk, where the end of a job cannot be noted either.
#[test]
#[ignore = "started by the tests of this file"]
fn child_of_a_full_disk() {
    let Ok(directory) = std::env::var("MEUSE_CHILD_DIR") else { return };
    let name = std::env::var("MEUSE_CHILD_JOB").unwrap();
    runtime().block_on(async {
        let control = open(Path::new(&directory), 1).await;
        let _ = control.jobs().wait(&name, std::time::Duration::from_secs(3)).await.unwrap();
        println!("objects={} ", names(&control, "gs://data").await.len());
        control.jobs().stop().await;
    });
}

#[test]
fn a_job_that_keeps_killing_the_process_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let job = runtime().block_on(async {
        let control = open(directory.path(), 0).await;
        let model = upload(&control).await;
        let input = put(&control, "in.csv", csv(0, 6000)).await;
        control.jobs().create_batch(&parent(), new_batch(&model, &[input])).await.unwrap().name
    });
    for _ in 0..control::CRASHES_MAX {
        assert!(!run_child(directory.path(), &job, "abort@3").status.success());
    }
    let last = run_child(directory.path(), &job, "count");
    assert_eq!(said(&last, "state="), "Failed", "{}", String::from_utf8_lossy(&last.stderr));
    runtime().block_on(async {
        let control = open(directory.path(), 0).await;
        let job = ended(&control, &job, JobState::Failed).await;
        let message = job.error.unwrap().message;
        assert!(message.contains(&format!("died {} times", control::CRASHES_MAX)), "{message}");
        assert_eq!(names(&control, "gs://data").await, ["in.csv"]);
        assert_eq!(leftovers(directory.path()), Vec::<std::path::PathBuf>::new());
    });
}

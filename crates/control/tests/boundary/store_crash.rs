//! The metadata store under `kill -9`: what was acknowledged is there, and every commit is whole.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use control::Timestamp;
use control::store::{Document, Kind, MetadataStore, SqliteStore, Write};

/// Set for the process that is killed: where it writes.
const CHILD: &str = "MEUSE_TEST_STORE_CRASH";

fn document(name: String) -> Document {
    let now = Timestamp::now();
    Document {
        kind: Kind::Operation,
        name,
        parent: "p".to_owned(),
        etag: "e".to_owned(),
        created: now,
        updated: now,
        body: "x".repeat(2000),
    }
}

/// Commits pairs until it is killed, and says which are acknowledged. Does nothing unless told to.
#[tokio::test]
async fn write_until_killed() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let store = SqliteStore::open(Path::new(&path)).unwrap();
    let first = store.list(Kind::Operation, None, None, usize::MAX).await.unwrap().len() / 2;
    for number in first..first + 100_000 {
        let pair = ["a", "b"].map(|half| Write::Insert(document(format!("{number:08}{half}"))));
        store.commit(pair.into()).await.unwrap();
        // Straight to the descriptor: the test harness would keep what is printed.
        writeln!(std::io::stderr(), "acknowledged {number}").unwrap();
    }
}

#[tokio::test]
async fn acknowledged_commits_survive_and_none_is_half() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("meuse.db");
    for round in 0..10u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store_crash::write_until_killed", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let acknowledged = lines
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("acknowledged ").and_then(|n| n.parse::<usize>().ok()))
            .take(3 + (round as usize * 7) % 20)
            .last()
            .expect("something was written");
        child.kill().unwrap();
        child.wait().unwrap();
        let store = SqliteStore::open(&path).unwrap();
        let names: Vec<String> = store
            .list(Kind::Operation, None, None, usize::MAX)
            .await
            .unwrap()
            .into_iter()
            .map(|d| d.name)
            .collect();
        assert!(names.len() > 2 * acknowledged, "{} rows, {acknowledged} acknowledged", names.len());
        let whole = (0..names.len() / 2).flat_map(|n| [format!("{n:08}a"), format!("{n:08}b")]);
        assert!(names.iter().cloned().eq(whole), "a commit is half there");
    }
}

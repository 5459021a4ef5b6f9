//! Storage and artifacts through their public doors, on a directory of their own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use control::artifact::Digest;
use control::storage::{BLOCK_BYTES, CloudAccess, ObjectUri, Precondition, PutOptions};
use control::{Artifacts, ErrorCode, Storage, StorageOptions};

struct Place {
    directory: tempfile::TempDir,
    storage: Storage,
    artifacts: Artifacts,
}

fn options(file_roots: Vec<std::path::PathBuf>) -> StorageOptions {
    StorageOptions { file_roots, cloud: CloudAccess::Off }
}

async fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let storage = Storage::open(directory.path(), &options(Vec::new())).unwrap();
    storage.create_bucket("bucket", "p", "us-central1").await.unwrap();
    let artifacts = Artifacts::open(directory.path()).unwrap();
    Place { directory, storage, artifacts }
}

fn uri(text: &str) -> ObjectUri {
    ObjectUri::parse_prefix(text).unwrap()
}

impl Place {
    async fn put(&self, address: &str, content: &[u8]) {
        let content = content.to_vec().into();
        self.storage.put(&uri(address), content, PutOptions::default()).await.unwrap();
    }

    async fn read(&self, address: &str) -> Vec<u8> {
        self.storage.read(&uri(address), 0, None).await.unwrap().collect(u64::MAX).await.unwrap()
    }

    async fn names(&self, prefix: &str) -> Vec<String> {
        self.storage.list(&uri(prefix)).await.unwrap().into_iter().map(|object| object.name).collect()
    }

    /// Everything in the buckets' directory that is no object and no note about one.
    fn leftovers(&self) -> Vec<String> {
        files_below(&self.directory.path().join("buckets/.staging"))
    }
}

fn files_below(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test]
async fn what_is_put_is_read() {
    let place = place().await;
    place.put("gs://bucket/a/b.csv", b"x,y\n1,2\n").await;
    assert_eq!(place.read("gs://bucket/a/b.csv").await, b"x,y\n1,2\n");
    let info = place.storage.head(&uri("gs://bucket/a/b.csv")).await.unwrap();
    assert_eq!((info.size, info.content_type.as_str(), info.name.as_str()), (8, "text/csv", "a/b.csv"));
    let info = place
        .storage
        .put(&uri("gs://bucket/check"), "123456789".into(), PutOptions::default())
        .await
        .unwrap();
    assert_eq!(info.crc32c, Some(0xE306_9283));
    let md5 =
        [0x25, 0xf9, 0xe7, 0x94, 0x32, 0x3b, 0x45, 0x38, 0x85, 0xf5, 0x18, 0x1f, 0x1b, 0x62, 0x4d, 0x0b];
    assert_eq!(info.md5, Some(md5));
    assert_eq!(place.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn ranges_and_blocks() {
    let place = place().await;
    let content: Vec<u8> = (0..BLOCK_BYTES * 2 + 5).map(|i| (i % 251) as u8).collect();
    place.put("gs://bucket/big", &content).await;
    assert_eq!(place.read("gs://bucket/big").await, content);
    let (from, to) = (BLOCK_BYTES - 3, BLOCK_BYTES + 3);
    let part = place.storage.read(&uri("gs://bucket/big"), from, Some(to)).await.unwrap();
    assert_eq!(part.remaining(), 6);
    assert_eq!(part.collect(100).await.unwrap(), &content[from as usize..to as usize]);
    let beyond = place.storage.read(&uri("gs://bucket/big"), u64::MAX, None).await.unwrap();
    assert_eq!(beyond.collect(0).await.unwrap(), b"");
    let too_much = place.storage.read(&uri("gs://bucket/big"), 0, None).await.unwrap().collect(10).await;
    assert_eq!(too_much.unwrap_err().code, ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn a_reader_keeps_the_object_it_opened() {
    let place = place().await;
    place.put("gs://bucket/x", b"old").await;
    let blocks = place.storage.read(&uri("gs://bucket/x"), 0, None).await.unwrap();
    place.put("gs://bucket/x", b"new and longer").await;
    assert_eq!(blocks.collect(100).await.unwrap(), b"old");
    assert_eq!(place.read("gs://bucket/x").await, b"new and longer");
}

#[tokio::test]
async fn lists_in_the_order_of_names() {
    let place = place().await;
    for name in ["b", "a/c", "a-b", "a/b/c", "a.csv", "ab"] {
        place.put(&format!("gs://bucket/{name}"), b"").await;
    }
    assert_eq!(place.names("gs://bucket").await, ["a-b", "a.csv", "a/b/c", "a/c", "ab", "b"]);
    assert_eq!(place.names("gs://bucket/a/").await, ["a/b/c", "a/c"]);
    assert_eq!(place.names("gs://bucket/a").await, ["a-b", "a.csv", "a/b/c", "a/c", "ab"]);
    assert_eq!(place.names("gs://bucket/a/b").await, ["a/b/c"]);
    let mut pages: Vec<String> = Vec::new();
    loop {
        let after = pages.last().cloned().unwrap_or_default();
        let page = place.storage.list_page(&uri("gs://bucket"), &after, 2).await.unwrap();
        if page.is_empty() {
            break;
        }
        pages.extend(page.into_iter().map(|object| object.name));
    }
    assert_eq!(pages, ["a-b", "a.csv", "a/b/c", "a/c", "ab", "b"]);
}

#[tokio::test]
async fn a_missing_bucket_is_named_with_what_to_do() {
    let place = place().await;
    for attempt in [
        place.storage.head(&uri("gs://no-such-bucket/x")).await.unwrap_err(),
        place.storage.list(&uri("gs://no-such-bucket/x")).await.unwrap_err(),
        place
            .storage
            .put(&uri("gs://no-such-bucket/x"), "x".into(), PutOptions::default())
            .await
            .unwrap_err(),
        place.storage.delete(&uri("gs://no-such-bucket/x")).await.unwrap_err(),
        place.storage.get_bucket("no-such-bucket").await.unwrap_err(),
        place.storage.delete_bucket("no-such-bucket").await.unwrap_err(),
        place.storage.check_reachable(&uri("gs://no-such-bucket/x")).unwrap_err(),
    ] {
        assert_eq!(attempt.code, ErrorCode::NotFound);
        assert!(
            attempt.message.contains("no-such-bucket") && attempt.message.contains("create_bucket"),
            "{attempt}"
        );
    }
    let missing = place.storage.head(&uri("gs://bucket/x.csv")).await.unwrap_err();
    assert_eq!((missing.code, missing.message.contains("gs://bucket/x.csv")), (ErrorCode::NotFound, true));
}

#[tokio::test]
async fn buckets_come_and_go() {
    let place = place().await;
    let again = place.storage.create_bucket("bucket", "q", "").await.unwrap_err();
    assert_eq!(again.code, ErrorCode::AlreadyExists);
    place.storage.create_bucket("other", "q", "").await.unwrap();
    fs::create_dir(place.directory.path().join("buckets/by-hand")).unwrap();
    let names =
        |buckets: Vec<control::storage::BucketInfo>| buckets.into_iter().map(|b| b.name).collect::<Vec<_>>();
    assert_eq!(names(place.storage.list_buckets("p").await.unwrap()), ["bucket", "by-hand"]);
    assert_eq!(names(place.storage.list_buckets("q").await.unwrap()), ["by-hand", "other"]);
    place.put("gs://other/a/b", b"x").await;
    assert_eq!(place.storage.delete_bucket("other").await.unwrap_err().code, ErrorCode::FailedPrecondition);
    place.storage.delete(&uri("gs://other/a/b")).await.unwrap();
    place.storage.delete_bucket("other").await.unwrap();
    assert_eq!(place.storage.get_bucket("other").await.unwrap_err().code, ErrorCode::NotFound);
}

#[tokio::test]
async fn preconditions_hold_or_refuse() {
    let place = place().await;
    let put = |text: &'static str, precondition| {
        let options = PutOptions { precondition, ..PutOptions::default() };
        let storage = place.storage.clone();
        async move { storage.put(&uri("gs://bucket/x"), text.into(), options).await }
    };
    let first = put("one", Precondition::Absent).await.unwrap();
    assert_eq!(put("two", Precondition::Absent).await.unwrap_err().code, ErrorCode::FailedPrecondition);
    let stale = Precondition::Generation(first.generation - 1);
    assert_eq!(put("two", stale).await.unwrap_err().code, ErrorCode::FailedPrecondition);
    put("two", Precondition::Generation(first.generation)).await.unwrap();
    assert_eq!(place.read("gs://bucket/x").await, b"two");
    assert_eq!(place.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn an_object_and_a_directory_cannot_share_a_name() {
    let place = place().await;
    place.put("gs://bucket/a", b"x").await;
    for (there, new) in [("gs://bucket/a", "gs://bucket/a/b"), ("gs://bucket/c/d", "gs://bucket/c")] {
        place.put(there, b"x").await;
        let refused = place.storage.put(&uri(new), "x".into(), PutOptions::default()).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::FailedPrecondition, "{new}");
        assert_eq!(place.storage.head(&uri(new)).await.unwrap_err().code, ErrorCode::NotFound, "{new}");
    }
    assert_eq!(place.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn an_unfinished_object_is_never_seen_and_is_collected() {
    let place = place().await;
    let mut writer = place.storage.writer(&uri("gs://bucket/x"), PutOptions::default()).await.unwrap();
    writer.write(vec![0; 3 << 20].into()).await.unwrap();
    assert_eq!(place.names("gs://bucket").await, Vec::<String>::new());
    assert_eq!(place.leftovers().len(), 1);
    drop(writer);
    assert_eq!(place.leftovers(), Vec::<String>::new());
    // As a crash leaves it.
    fs::write(place.directory.path().join("buckets/.staging/orphan"), "x").unwrap();
    fs::create_dir_all(place.directory.path().join("artifacts/.staging/orphan/files")).unwrap();
    Storage::open(place.directory.path(), &options(Vec::new())).unwrap();
    Artifacts::open(place.directory.path()).unwrap();
    assert_eq!(place.leftovers(), Vec::<String>::new());
    assert!(!place.directory.path().join("artifacts/.staging/orphan").exists());
}

#[tokio::test]
async fn files_put_by_hand_are_objects_and_are_hashed_when_asked() {
    let place = place().await;
    fs::create_dir_all(place.directory.path().join("buckets/bucket/dir")).unwrap();
    let path = place.directory.path().join("buckets/bucket/dir/x.csv");
    fs::write(&path, "123456789").unwrap();
    assert_eq!(place.names("gs://bucket/dir").await, ["dir/x.csv"]);
    assert_eq!(place.storage.head(&uri("gs://bucket/dir/x.csv")).await.unwrap().crc32c, None);
    let hashed = place.storage.head_with_hashes(&uri("gs://bucket/dir/x.csv")).await.unwrap();
    assert_eq!(hashed.crc32c, Some(0xE306_9283));
    assert_eq!(place.storage.head(&uri("gs://bucket/dir/x.csv")).await.unwrap().crc32c, Some(0xE306_9283));
    fs::write(&path, "edited by hand").unwrap();
    assert_eq!(place.storage.head(&uri("gs://bucket/dir/x.csv")).await.unwrap().crc32c, None);
}

#[tokio::test]
async fn put_file_leaves_the_source_and_can_be_repeated() {
    let place = place().await;
    let source = place.directory.path().join("part");
    fs::write(&source, "content").unwrap();
    for _ in 0..2 {
        place.storage.put_file(&uri("gs://bucket/out/part"), &source).await.unwrap();
        assert_eq!(place.read("gs://bucket/out/part").await, b"content");
        assert_eq!(place.leftovers(), Vec::<String>::new());
    }
    fs::remove_file(&source).unwrap();
    assert_eq!(place.read("gs://bucket/out/part").await, b"content");
}

/// CVE-2024-1560 and its kin: whatever is tried, on read, write and delete, nothing outside is reached.
#[tokio::test]
async fn cve_2023_1177_links_out_of_a_bucket_are_not_followed() {
    let place = place().await;
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let bucket = place.directory.path().join("buckets/bucket");
    symlink(outside.path().join("secret"), bucket.join("link")).unwrap();
    symlink(outside.path(), bucket.join("dir")).unwrap();
    for name in ["link", "dir/secret"] {
        let refused = place.storage.head(&uri(&format!("gs://bucket/{name}"))).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::PermissionDenied, "{name}");
        let refused = place.storage.delete(&uri(&format!("gs://bucket/{name}"))).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::PermissionDenied, "{name}");
    }
    let write = place.storage.put(&uri("gs://bucket/dir/new"), "x".into(), PutOptions::default()).await;
    assert_eq!(write.unwrap_err().code, ErrorCode::PermissionDenied);
    assert_eq!(place.names("gs://bucket").await, Vec::<String>::new());
    assert_eq!(files_below(outside.path()).len(), 1);
}

#[tokio::test]
async fn file_addresses_are_off_unless_opened() {
    let place = place().await;
    let refused = place.storage.head(&uri("file:///etc/passwd")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::PermissionDenied);
    assert!(refused.message.contains("operator"), "{refused}");
}

#[tokio::test]
async fn file_addresses_stay_in_the_open_directories() {
    let directory = tempfile::tempdir().unwrap();
    let open = directory.path().join("open");
    fs::create_dir_all(&open).unwrap();
    fs::write(directory.path().join("secret"), "secret").unwrap();
    symlink(directory.path().join("secret"), open.join("link")).unwrap();
    symlink(directory.path(), open.join("up")).unwrap();
    let storage = Storage::open(&directory.path().join("data"), &options(vec![open.clone()])).unwrap();
    let at = |name: &str| uri(&format!("file://{}/{name}", open.display()));
    storage.put(&at("a/b.csv"), "x".into(), PutOptions::default()).await.unwrap();
    assert_eq!(storage.read(&at("a/b.csv"), 0, None).await.unwrap().collect(10).await.unwrap(), b"x");
    assert_eq!(storage.list(&at("a")).await.unwrap().len(), 1);
    let secret = uri(&format!("file://{}/secret", directory.path().display()));
    for outside in [secret, at("link"), at("up/secret"), at("up/new/x")] {
        for refused in [
            storage.head(&outside).await.err(),
            storage.put(&outside, "x".into(), PutOptions::default()).await.err(),
            storage.delete(&outside).await.err(),
        ] {
            assert_eq!(refused.map(|e| e.code), Some(ErrorCode::PermissionDenied), "{outside}");
        }
    }
    assert_eq!(fs::read(directory.path().join("secret")).unwrap(), b"secret");
    storage.delete(&at("a/b.csv")).await.unwrap();
    assert_eq!(storage.head(&at("a/b.csv")).await.unwrap_err().code, ErrorCode::NotFound);
    assert!(!open.join(".meuse-staging").exists());
}

#[tokio::test]
async fn elsewhere_without_credentials_says_what_to_set() {
    let place = place().await;
    for (address, variable) in
        [("s3://some-bucket/x", "AWS_ACCESS_KEY_ID"), ("az://container/x", "AZURE_STORAGE")]
    {
        let refused = place.storage.head(&uri(address)).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::FailedPrecondition);
        assert!(refused.message.contains(variable), "{refused}");
    }
}

fn files(pairs: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    pairs.iter().map(|(path, content)| ((*path).to_owned(), content.as_bytes().to_vec())).collect()
}

#[tokio::test]
async fn the_same_files_are_the_same_artifact() {
    let place = place().await;
    let one = place.artifacts.put(files(&[("b", "2"), ("a/x", "1")])).await.unwrap();
    let two = place.artifacts.put(files(&[("a/x", "1"), ("b", "2")])).await.unwrap();
    let other = place.artifacts.put(files(&[("a/x", "1"), ("b", "3")])).await.unwrap();
    assert_eq!(one, two);
    assert_ne!(one, other);
    let directory = place.artifacts.verify_and_open(&one).await.unwrap();
    assert_eq!(fs::read(directory.join("a/x")).unwrap(), b"1");
    assert!(files_below(&place.directory.path().join("artifacts/.staging")).is_empty());
}

#[tokio::test]
async fn one_changed_bit_is_found_and_the_artifact_put_aside() {
    let place = place().await;
    let content = files(&[("model.onnx", "weights and more weights"), ("meuse.json", "{}")]);
    let damages: [fn(&Path); 5] = [
        |artifact| {
            let mut bytes = fs::read(artifact.join("files/model.onnx")).unwrap();
            bytes[7] ^= 1;
            fs::write(artifact.join("files/model.onnx"), bytes).unwrap();
        },
        |artifact| fs::write(artifact.join("files/meuse.json"), "").unwrap(),
        |artifact| fs::remove_file(artifact.join("files/meuse.json")).unwrap(),
        |artifact| fs::write(artifact.join("files/more"), "x").unwrap(),
        |artifact| fs::write(artifact.join("manifest"), "meuse artifact 1\n").unwrap(),
    ];
    for (number, damage) in damages.iter().enumerate() {
        let digest = place.artifacts.put(content.clone()).await.unwrap();
        damage(&place.directory.path().join("artifacts").join(digest.hex()));
        let found = place.artifacts.verify_and_open(&digest).await.unwrap_err();
        assert_eq!(found.code, ErrorCode::DataLoss, "damage {number}");
        assert!(found.message.contains(&digest.to_string()), "{found}");
        assert_eq!(place.artifacts.verify_and_open(&digest).await.unwrap_err().code, ErrorCode::NotFound);
    }
    let digest = place.artifacts.put(content).await.unwrap();
    place.artifacts.verify_and_open(&digest).await.unwrap();
    assert_eq!(fs::read_dir(place.directory.path().join("artifacts/.quarantine")).unwrap().count(), 5);
}

/// CVE-2026-27905, CVE-2024-45436: files of an artifact written outside of it.
#[tokio::test]
async fn cve_2024_45436_paths_out_of_an_artifact_are_refused() {
    let place = place().await;
    for path in ["../x", "/x", "a/../../x", "a\\..\\x", "a\0", "", ".", "a//b", "%2e%2e/x"] {
        let refused = place.artifacts.put(files(&[(path, "x")])).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidArgument, "{path:?}");
    }
    for twice in [[("a", "1"), ("a", "2")], [("a", "1"), ("a/b", "2")]] {
        let refused = place.artifacts.put(files(&twice)).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidArgument, "{twice:?}");
    }
    assert_eq!(
        place.artifacts.verify_and_open(&Digest::of(b"x")).await.unwrap_err().code,
        ErrorCode::NotFound
    );
}

#[tokio::test]
async fn imports_a_directory_or_one_object() {
    let place = place().await;
    place.put("gs://bucket/model/model.onnx", b"onnx").await;
    place.put("gs://bucket/model/more/labels.txt", b"a").await;
    place.put("gs://bucket/model2/other", b"b").await;
    let stored =
        place.artifacts.put(files(&[("model.onnx", "onnx"), ("more/labels.txt", "a")])).await.unwrap();
    for address in ["gs://bucket/model", "gs://bucket/model/"] {
        assert_eq!(place.artifacts.import(&place.storage, address).await.unwrap(), stored);
    }
    let single = place.artifacts.import(&place.storage, "gs://bucket/model/model.onnx").await.unwrap();
    assert_eq!(single, place.artifacts.put(files(&[("model.onnx", "onnx")])).await.unwrap());
    let missing = place.artifacts.import(&place.storage, "gs://bucket/nothing").await.unwrap_err();
    assert_eq!(missing.code, ErrorCode::NotFound);
}

#[tokio::test]
async fn collects_what_nobody_needs() {
    let place = place().await;
    let kept = place.artifacts.put(files(&[("a", "1")])).await.unwrap();
    let dropped = place.artifacts.put(files(&[("a", "2")])).await.unwrap();
    place.artifacts.collect(&[kept].into()).unwrap();
    place.artifacts.verify_and_open(&kept).await.unwrap();
    assert_eq!(place.artifacts.verify_and_open(&dropped).await.unwrap_err().code, ErrorCode::NotFound);
}

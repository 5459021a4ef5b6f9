//! What the tests of jobs share: a data directory with a bucket and a model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use control::storage::{CloudAccess, ObjectUri, PutOptions};
use control::{
    ArtifactSource, Control, InputFormat, Job, JobKind, JobOptions, JobState, NewBatch, NewTraining, Options,
    Parent, RowFormat, TrainingTarget, UploadModel,
};
use formats::spec::TrainSpec;
use tensor::export::{Activation, Layer, sequential};

pub(crate) const COLUMNS: usize = 4;

/// Long enough for the slowest machine, short enough for a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn parent() -> Parent {
    Parent::parse("projects/default/locations/us-central1").unwrap()
}

/// A data directory whose jobs write often. With `slots` 0 no job is taken up.
pub(crate) async fn open(directory: &Path, slots: usize) -> Control {
    open_noting(directory, slots, JobOptions::default().checkpoint_interval).await
}

/// The same, with a checkpoint every `interval`.
pub(crate) async fn open_noting(directory: &Path, slots: usize, interval: Duration) -> Control {
    let mut options = Options::new(directory);
    options.jobs.checkpoint_interval = interval;
    options.storage.cloud = CloudAccess::Off;
    options.jobs.slots = slots;
    options.jobs.checkpoint_bytes = 96 << 10;
    options.jobs.part_bytes = 200 << 10;
    Control::open(options).await.unwrap()
}

/// Puts an object in the bucket `data`, which is made where absent.
pub(crate) async fn put(control: &Control, name: &str, content: impl Into<Vec<u8>>) -> String {
    let _ = control.storage("default").create_bucket("data", "default", "us-central1").await;
    let uri = format!("gs://data/{name}");
    let content: Vec<u8> = content.into();
    control
        .storage("default")
        .put(&ObjectUri::parse(&uri).unwrap(), content.into(), PutOptions::default())
        .await
        .unwrap();
    uri
}

/// The object at `uri` as text.
pub(crate) async fn read(control: &Control, uri: &str) -> String {
    let blocks = control.storage("default").read(&ObjectUri::parse(uri).unwrap(), 0, None).await.unwrap();
    String::from_utf8(blocks.collect(u64::MAX).await.unwrap()).unwrap()
}

/// Names of the objects below `uri`.
pub(crate) async fn names(control: &Control, uri: &str) -> Vec<String> {
    let found = control.storage("default").list(&ObjectUri::parse_prefix(uri).unwrap()).await.unwrap();
    found.into_iter().map(|object| object.name).collect()
}

/// A network from elsewhere over four numbers: the first output is twice the first input, the second the
/// sum of all.
pub(crate) fn onnx() -> Vec<u8> {
    let kernel = vec![2.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0];
    let dense = Layer::Dense { units: 2, kernel, bias: None, activation: Activation::Linear };
    sequential(&[COLUMNS], &[dense]).unwrap()
}

/// Registers [`onnx`] and gives its resource name.
pub(crate) async fn upload(control: &Control) -> String {
    let digest = control.artifacts().put(vec![("model.onnx".to_owned(), onnx())]).await.unwrap();
    let upload = UploadModel {
        model_id: Some("doubler".to_owned()),
        ..UploadModel::new("The doubler", ArtifactSource::Stored(digest))
    };
    let operation = control.models().upload(&parent(), upload).await.unwrap();
    control.operations().wait(&operation.name, PATIENCE).await.unwrap();
    parent().child("models", "doubler")
}

/// Rows `first..first + rows` of four columns, the first of which is the row's number.
pub(crate) fn csv(first: u64, rows: u64) -> String {
    let mut text = String::from("n,b,c,d\n");
    for n in first..first + rows {
        text.push_str(&format!("{n},{},{},{}\n", n % 7, n % 11, n % 13));
    }
    text
}

pub(crate) fn new_batch(model: &str, input_uris: &[String]) -> NewBatch {
    NewBatch {
        display_name: "a batch".to_owned(),
        labels: BTreeMap::new(),
        model: model.to_owned(),
        instances_format: InputFormat::Csv,
        input_uris: input_uris.to_vec(),
        predictions_format: RowFormat::Csv,
        output_uri_prefix: "gs://data/out".to_owned(),
        fields: control::InstanceFields::default(),
        explain: false,
        protocol: String::new(),
        as_written: serde_json::Value::Null,
    }
}

/// A training of a small classifier over the columns `x` and `y`.
pub(crate) fn new_training(uris: &[String], epochs: usize) -> NewTraining {
    let spec = format!(
        "label: class\nlayers:\n  - dense: {{units: 8, activation: relu}}\n  - dense: {{units: 3, activation: softmax}}\n\
         optimizer: adam\nloss: sparse_categorical_crossentropy\nmetrics: [accuracy]\nepochs: {epochs}\nseed: 7\n"
    );
    NewTraining {
        display_name: "a training".to_owned(),
        labels: BTreeMap::new(),
        dataset: None,
        uris: uris.to_vec(),
        spec: TrainSpec::from_yaml(&spec).unwrap(),
        as_written: serde_json::Value::Null,
        target: TrainingTarget {
            display_name: "The trained".to_owned(),
            description: String::new(),
            labels: BTreeMap::new(),
            model_id: None,
            parent_model: None,
            aliases: Vec::new(),
        },
    }
}

/// Labelled rows that a small network learns: the class is that of the larger coordinate.
pub(crate) fn labelled(rows: u64) -> String {
    let mut text = String::from("x,y,class,colour\n");
    for n in 0..rows {
        let (x, y) = ((n * 37 % 100) as f64 / 10.0, (n * 61 % 100) as f64 / 10.0);
        let class = if (x - y).abs() < 1.0 {
            "same"
        } else if x > y {
            "right"
        } else {
            "up"
        };
        text.push_str(&format!("{x},{y},{class},{}\n", if n % 2 == 0 { "red" } else { "blue" }));
    }
    text
}

/// The job once it has ended, having checked how.
pub(crate) async fn ended(control: &Control, name: &str, state: JobState) -> Job {
    let job = control.jobs().wait(name, PATIENCE).await.unwrap();
    assert_eq!(job.state, state, "{:?}", job.error);
    job
}

pub(crate) fn batch(job: &Job) -> &control::BatchJob {
    match &job.kind {
        JobKind::Batch(batch) => batch,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn training(job: &Job) -> &control::TrainingJob {
    match &job.kind {
        JobKind::Training(training) => training,
        other => panic!("{other:?}"),
    }
}

/// Files that jobs, storage and artifacts have left behind in `directory`.
pub(crate) fn leftovers(directory: &Path) -> Vec<PathBuf> {
    ["jobs", "buckets/.staging", "files/.staging", "artifacts/.staging"]
        .iter()
        .filter_map(|part| std::fs::read_dir(directory.join(part)).ok())
        .flat_map(|entries| entries.map(|entry| entry.unwrap().path()))
        .collect()
}

/// The result rows of a batch in order, headers checked and left out.
pub(crate) async fn result_rows(control: &Control, directory: &str, header: &str) -> Vec<String> {
    let mut rows = Vec::new();
    for name in names(control, directory).await {
        if name.contains("prediction.results-") {
            let text = read(control, &format!("gs://data/{name}")).await;
            let mut lines = text.lines().map(str::to_owned);
            assert_eq!(lines.next().as_deref(), Some(header), "{name}");
            rows.extend(lines);
        }
    }
    rows
}

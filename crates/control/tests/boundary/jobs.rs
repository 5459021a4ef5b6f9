//! Jobs through their public door: what they make of good and of bad rows.

use std::path::Path;

use crate::common::*;
use control::{
    Control, ErrorCode, InputFormat, Job, JobCollection, JobKind, JobState, ListQuery, NewBatch,
    NewEvaluation, OperationResult, RowFormat,
};
use serde_json::{Value, json};

struct Place {
    directory: tempfile::TempDir,
    control: Control,
    model: String,
}

async fn place(slots: usize) -> Place {
    let directory = tempfile::tempdir().unwrap();
    let control = open(directory.path(), slots).await;
    put(&control, "placeholder", "").await;
    let model = upload(&control).await;
    Place { directory, control, model }
}

impl Place {
    async fn batch(&self, change: impl FnOnce(&mut NewBatch)) -> Job {
        let mut new = new_batch(&self.model, &[]);
        change(&mut new);
        let job = self.control.jobs().create_batch(&parent(), new).await.unwrap();
        self.control.jobs().wait(&job.name, PATIENCE).await.unwrap()
    }

    /// A batch over one object with this content, in its format, that must succeed.
    async fn predicted(
        &self,
        content: impl Into<Vec<u8>>,
        instances: InputFormat,
        predictions: RowFormat,
    ) -> Job {
        let uri = put(&self.control, "in", content).await;
        let job = self
            .batch(|new| {
                new.input_uris = vec![uri];
                (new.instances_format, new.predictions_format) = (instances, predictions);
            })
            .await;
        assert_eq!(job.state, JobState::Succeeded, "{:?}", job.error);
        job
    }

    async fn output(&self, job: &Job, name: &str) -> String {
        read(&self.control, &format!("{}/{name}", batch(job).output_directory.clone().unwrap())).await
    }

    async fn results(&self, job: &Job) -> String {
        self.output(job, "prediction.results-00000-of-00001").await
    }

    async fn faults(&self, job: &Job) -> Vec<Value> {
        let text = self.output(job, "prediction.errors_stats-00000-of-00001").await;
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A batch that must fail, with its error; it leaves no output.
    async fn failed(&self, content: impl Into<Vec<u8>>, format: InputFormat) -> (ErrorCode, String) {
        let uri = put(&self.control, "in", content).await;
        let job = self
            .batch(|new| {
                new.input_uris = vec![uri];
                new.instances_format = format;
            })
            .await;
        self.no_output(&job).await;
        let error = job.error.unwrap();
        (error.code, error.message)
    }

    async fn no_output(&self, job: &Job) {
        assert_eq!(batch(job).output_directory, None);
        assert_eq!(names(&self.control, "gs://data/out").await, Vec::<String>::new());
        assert_eq!(leftovers(self.directory.path()), Vec::<std::path::PathBuf>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_to_csv() {
    let place = place(1).await;
    let job = place.predicted("n,b,c,d\n1,2,3,4\n\"5\",6,7,8\n", InputFormat::Csv, RowFormat::Csv).await;
    assert_eq!(
        place.results(&job).await,
        "n,b,c,d,prediction_0,prediction_1\n1,2,3,4,2.0,10.0\n5,6,7,8,10.0,26.0\n"
    );
    assert_eq!(place.faults(&job).await, Vec::<Value>::new());
    assert_eq!((batch(&job).successful, batch(&job).failed), (2, 0));
    let manifest: Value =
        serde_json::from_str(&place.output(&job, "prediction.manifest.json").await).unwrap();
    assert_eq!((&manifest["successfulRows"], &manifest["job"]), (&json!(2), &json!(job.name)));
    let directory = batch(&job).output_directory.clone().unwrap();
    assert!(directory.starts_with("gs://data/out/prediction-The_doubler-2"), "{directory}");
    place.control.jobs().stop().await;
    assert_eq!(leftovers(place.directory.path()), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_to_jsonl() {
    let place = place(1).await;
    let job = place.predicted("n,b,c,d\n1,2,3,4\n", InputFormat::Csv, RowFormat::Jsonl).await;
    let line: Value = serde_json::from_str(&place.results(&job).await).unwrap();
    assert_eq!(line, json!({ "instance": { "n": 1, "b": 2, "c": 3, "d": 4 }, "prediction": [2.0, 10.0] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn jsonl_to_jsonl_and_csv() {
    let place = place(1).await;
    let lines = "[1,2,3,4]\n\"text\"\n{\"input\": [5, 6, 7, 8]}\n[1]\nnot json\n[9,9,9,9]\n";
    let job = place.predicted(lines, InputFormat::Jsonl, RowFormat::Jsonl).await;
    let found: Vec<Value> =
        place.results(&job).await.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        found,
        [
            json!({ "instance": [1, 2, 3, 4], "prediction": [2.0, 10.0] }),
            json!({ "instance": { "input": [5, 6, 7, 8] }, "prediction": [10.0, 26.0] }),
            json!({ "instance": [9, 9, 9, 9], "prediction": [18.0, 36.0] }),
        ]
    );
    let faults = place.faults(&job).await;
    assert_eq!(
        faults.iter().map(|fault| fault["row"].clone()).collect::<Vec<_>>(),
        [json!(1), json!(3), json!(4)]
    );
    assert!(
        faults
            .iter()
            .all(|fault| fault["uri"] == "gs://data/in" && !fault["reason"].as_str().unwrap().is_empty())
    );
    let job = place.predicted(lines, InputFormat::Jsonl, RowFormat::Csv).await;
    assert!(
        place.results(&job).await.starts_with("instance,prediction_0,prediction_1\n\"[1,2,3,4]\",2.0,10.0\n"),
        "{}",
        place.results(&job).await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_rows_are_listed_and_the_good_ones_predicted() {
    let place = place(1).await;
    let mut rows = b"n,b,c,d\n1,2,3,4\nragged\n1,2,3,NaN\n1,2,3,".to_vec();
    rows.extend(b"\xff\n1,2,,4\n1,2,3,inf\n1,2,3,4,5\n6,7,8,9\n");
    let job = place.predicted(rows, InputFormat::Csv, RowFormat::Csv).await;
    let results = place.results(&job).await;
    assert_eq!(results.lines().skip(1).map(|row| &row[..1]).collect::<Vec<_>>(), ["1", "6"]);
    let faults = place.faults(&job).await;
    let rows: Vec<u64> = faults.iter().map(|fault| fault["row"].as_u64().unwrap()).collect();
    assert_eq!(rows, [1, 2, 3, 4, 5, 6]);
    let reason = |place: usize| faults[place]["reason"].as_str().unwrap();
    assert!(
        reason(0).contains("4 columns") && reason(2).contains("UTF-8") && reason(1).contains("`d`"),
        "{faults:?}"
    );
    assert_eq!((batch(&job).successful, batch(&job).failed), (2, 6));
    assert_eq!(batch(&job).partial_failures.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_that_cannot_be_used_fail_the_job_with_a_reason() {
    let place = place(1).await;
    for (content, format, code, says) in [
        ("", InputFormat::Csv, ErrorCode::InvalidArgument, "gs://data/in: the file is empty"),
        ("n,b,c,d\n", InputFormat::Csv, ErrorCode::InvalidArgument, "no rows"),
        ("", InputFormat::Jsonl, ErrorCode::InvalidArgument, "no rows"),
        ("n,b,c\n1,2,3\n", InputFormat::Csv, ErrorCode::InvalidArgument, "takes 4 columns"),
        ("n,n,c,d\n1,2,3,4\n", InputFormat::Csv, ErrorCode::InvalidArgument, "both named `n`"),
        ("n,b,c,d\n1,2,3,x\n", InputFormat::Csv, ErrorCode::InvalidArgument, "none of the 1 rows"),
        ("n,b,c,d\n", InputFormat::Jsonl, ErrorCode::InvalidArgument, "none of the 1 rows"),
    ] {
        let (found, message) = place.failed(content, format).await;
        assert_eq!(found, code, "{content:?}: {message}");
        assert!(message.contains(says), "{content:?}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_named() {
    let place = place(1).await;
    let uri = put(&place.control, "in.csv", csv(0, 1)).await;
    let create = |model: &str, input: &str, output: &str| {
        let mut new = new_batch(model, &[input.to_owned()]);
        new.output_uri_prefix = output.to_owned();
        let jobs = place.control.jobs();
        async move { jobs.create_batch(&parent(), new).await.unwrap_err() }
    };
    for error in [
        create(&place.model, "gs://missing-bucket/x", "gs://data/out").await,
        create(&place.model, &uri, "gs://missing-bucket/out").await,
    ] {
        assert_eq!(error.code, ErrorCode::NotFound);
        assert!(error.message.contains("missing-bucket"), "{error}");
    }
    let error = create(&format!("{}@9", place.model), &uri, "gs://data/out").await;
    assert_eq!(error.code, ErrorCode::NotFound);
    for (input, output) in [("gs://data/../x", "gs://data/out"), (uri.as_str(), "http://169.254.169.254/x")] {
        assert_eq!(create(&place.model, input, output).await.code, ErrorCode::InvalidArgument);
    }
    for uri in ["gs://data/nothing.csv", "gs://data/nothing/*.csv"] {
        let job = place.batch(|new| new.input_uris = vec![uri.to_owned()]).await;
        assert_eq!(job.state, JobState::Failed);
        let error = job.error.clone().unwrap();
        assert_eq!(error.code, ErrorCode::NotFound);
        assert!(error.message.contains(uri), "{}", error.message);
        place.no_output(&job).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_inputs_by_pattern_in_order() {
    let place = place(1).await;
    for part in 0..3 {
        put(&place.control, &format!("in/part-{part}.csv"), csv(part * 5000, 5000)).await;
    }
    put(&place.control, "in/deeper/part-9.csv", "not,these\n").await;
    let job = place.batch(|new| new.input_uris = vec!["gs://data/in/*.csv".to_owned()]).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.error);
    let directory = batch(&job).output_directory.clone().unwrap();
    let rows = result_rows(&place.control, &directory, "n,b,c,d,prediction_0,prediction_1").await;
    let numbers: Vec<u64> = rows.iter().map(|row| row.split(',').next().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers, (0..15_000).collect::<Vec<_>>());
    let parts = names(&place.control, &directory).await;
    assert!(parts.len() > 3, "several parts: {parts:?}");
    assert!(parts.contains(&format!(
        "{}/prediction.results-00001-of-{:05}",
        &directory[10..],
        parts.len() - 2
    )));
}

#[tokio::test(flavor = "multi_thread")]
async fn explanations_beside_predictions() {
    let place = place(1).await;
    let uri = put(&place.control, "in.csv", "n,b,c,d\n1,2,3,4\n").await;
    let mut new = new_batch(&place.model, std::slice::from_ref(&uri));
    new.explain = true;
    let refused = place.control.jobs().create_batch(&parent(), new.clone()).await.unwrap_err();
    assert!(refused.message.contains("jsonl"), "{refused}");
    new.predictions_format = RowFormat::Jsonl;
    let job = place.control.jobs().create_batch(&parent(), new).await.unwrap();
    let job = ended(&place.control, &job.name, JobState::Succeeded).await;
    let line: Value = serde_json::from_str(&place.results(&job).await).unwrap();
    let attribution = &line["explanation"]["attributions"][0];
    assert_eq!(
        (&attribution["instanceOutputValue"], &attribution["outputIndex"]),
        (&json!(10.0), &json!([1]))
    );
    assert!(attribution["approximationError"].as_f64().unwrap().abs() < 1e-6, "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_artifact_is_never_used() {
    let directory = tempfile::tempdir().unwrap();
    let control = open(directory.path(), 0).await;
    let model = upload(&control).await;
    let uri = put(&control, "in.csv", csv(0, 10)).await;
    let job = control.jobs().create_batch(&parent(), new_batch(&model, &[uri])).await.unwrap();
    let (model, _) = control.models().get(&model).await.unwrap();
    let artifact = directory.path().join("artifacts").join(model.versions[0].artifact.hex());
    control.jobs().stop().await;
    drop(control);
    flip_a_bit(&artifact.join("files/model.onnx"));
    let control = open(directory.path(), 1).await;
    let job = ended(&control, &job.name, JobState::Failed).await;
    assert_eq!(job.error.unwrap().code, ErrorCode::DataLoss);
    assert!(!artifact.exists());
}

fn flip_a_bit(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_jobs_leave_nothing_and_can_be_deleted() {
    let place = place(1).await;
    let uri = put(&place.control, "in.csv", csv(0, 400_000)).await;
    let jobs = place.control.jobs();
    let running =
        jobs.create_batch(&parent(), new_batch(&place.model, std::slice::from_ref(&uri))).await.unwrap();
    let waiting =
        jobs.create_batch(&parent(), new_batch(&place.model, std::slice::from_ref(&uri))).await.unwrap();
    assert_eq!(jobs.delete(&waiting.name).await.unwrap_err().code, ErrorCode::FailedPrecondition);
    for job in [&waiting, &running] {
        jobs.cancel(&job.name).await.unwrap();
    }
    for job in [&waiting, &running] {
        let job = ended(&place.control, &job.name, JobState::Cancelled).await;
        assert_eq!(job.error.as_ref().unwrap().code, ErrorCode::Cancelled);
        jobs.cancel(&job.name).await.unwrap();
    }
    jobs.stop().await;
    place.no_output(&jobs.get(&running.name).await.unwrap()).await;
    let state = |state: &str| ListQuery { filter: Some(format!("state={state}")), ..ListQuery::default() };
    let listed = jobs.list(&parent(), JobCollection::Batch, &state("cancelled")).await.unwrap();
    assert_eq!(listed.items.len(), 2);
    jobs.delete(&waiting.name).await.unwrap();
    assert_eq!(jobs.get(&waiting.name).await.unwrap_err().code, ErrorCode::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let control = open(directory.path(), 1).await;
    let model = upload(&control).await;
    let uri = put(&control, "in.csv", csv(0, 300_000)).await;
    let job = control.jobs().create_batch(&parent(), new_batch(&model, &[uri])).await.unwrap();
    control.jobs().stop().await;
    drop(control);
    let control = open(directory.path(), 1).await;
    let job = ended(&control, &job.name, JobState::Succeeded).await;
    assert_eq!(batch(&job).successful, 300_000);
    let directory = batch(&job).output_directory.clone().unwrap();
    let rows = result_rows(&control, &directory, "n,b,c,d,prediction_0,prediction_1").await;
    assert!(
        rows.iter().enumerate().all(|(n, row)| row.starts_with(&format!("{n},"))) && rows.len() == 300_000
    );
}

async fn trained(place: &Place, rows: u64) -> String {
    let uri = put(&place.control, "train.csv", labelled(rows)).await;
    let job = place.control.jobs().create_training(&parent(), new_training(&[uri], 30)).await.unwrap();
    let job = ended(&place.control, &job.name, JobState::Succeeded).await;
    assert_eq!(training(&job).rows + training(&job).skipped, rows);
    training(&job).result.clone().unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trained_classifier_is_predicted_evaluated_and_sliced() {
    let place = place(1).await;
    let model = trained(&place, 600).await;
    let uri = put(&place.control, "eval.csv", labelled(500) + "1,2,unheard of,red\nx,2,up,red\n").await;
    let job = place
        .batch(|new| {
            new.model = model.clone();
            new.input_uris = vec![uri.clone()];
        })
        .await;
    assert_eq!((job.state, batch(&job).successful), (JobState::Succeeded, 501), "{:?}", job.error);
    let header = place.results(&job).await.lines().next().unwrap().to_owned();
    assert!(header.starts_with("x,y,class,colour,predicted_class,class_"), "{header}");

    let new = NewEvaluation {
        display_name: "an evaluation".to_owned(),
        model: model.clone(),
        uris: vec![uri],
        format: InputFormat::Csv,
        target: None,
        slice_by: vec!["colour".to_owned()],
        ..NewEvaluation::default()
    };
    let (job, operation) = place.control.jobs().create_evaluation(&parent(), new).await.unwrap();
    let operation = place.control.operations().wait(&operation.name, PATIENCE).await.unwrap();
    let Some(Ok(OperationResult::Evaluation(evaluation))) = operation.outcome else {
        panic!("{operation:?}")
    };
    let job = ended(&place.control, &job.name, JobState::Succeeded).await;
    let JobKind::Evaluation(done) = &job.kind else { panic!("{job:?}") };
    assert_eq!((done.rows, done.result.as_deref()), (500, Some(evaluation.name.as_str())));
    assert_eq!(place.control.evaluations().get(&evaluation.name).await.unwrap(), evaluation);
    let metrics = &evaluation.metrics;
    assert!(metrics["auRoc"].as_f64().unwrap() > 0.9, "{metrics}");
    assert!(metrics["accuracy"].as_f64().unwrap() > 0.7, "{metrics}");
    assert_eq!(metrics["confusionMatrix"]["annotationSpecs"].as_array().unwrap().len(), 3);
    let counted: u64 = metrics["confusionMatrix"]["rows"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()))
        .sum();
    assert_eq!(counted, 500);
    assert_eq!(metrics["confidenceMetrics"].as_array().unwrap().len(), 24);
    let colours: Vec<_> = evaluation.slices.iter().filter(|slice| slice.column == "colour").collect();
    assert_eq!(colours.iter().map(|slice| slice.metrics["rowCount"].as_u64().unwrap()).sum::<u64>(), 500);
    assert_eq!(evaluation.metadata["skippedRows"], 2);
    assert!(evaluation.metadata["skippedReasons"].to_string().contains("unheard of"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_from_elsewhere_is_evaluated_by_a_named_column() {
    let place = place(1).await;
    let rows = "n,b,c,d,truth\n1,0,0,0,0\n0,5,5,5,1\n3,0,0,0,0\n0,1,0,0,0\n";
    let uri = put(&place.control, "eval.csv", rows).await;
    let new = |target: Option<&str>| NewEvaluation {
        display_name: String::new(),
        model: place.model.clone(),
        uris: vec![uri.clone()],
        format: InputFormat::Csv,
        target: target.map(str::to_owned),
        slice_by: Vec::new(),
        ..NewEvaluation::default()
    };
    let (job, operation) =
        place.control.jobs().create_evaluation(&parent(), new(Some("truth"))).await.unwrap();
    ended(&place.control, &job.name, JobState::Succeeded).await;
    let operation = place.control.operations().get(&operation.name).await.unwrap();
    let Some(Ok(OperationResult::Evaluation(evaluation))) = operation.outcome else {
        panic!("{operation:?}")
    };
    assert_eq!(evaluation.metrics["accuracy"], 0.75);
    for (target, says) in [(None, "must name the column"), (Some("missing"), "has no column `missing`")] {
        let (job, operation) = place.control.jobs().create_evaluation(&parent(), new(target)).await.unwrap();
        let job = ended(&place.control, &job.name, JobState::Failed).await;
        assert!(job.error.clone().unwrap().message.contains(says), "{:?}", job.error);
        let operation = place.control.operations().get(&operation.name).await.unwrap();
        assert_eq!(operation.outcome, Some(Err(job.error.unwrap())));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trainings_that_cannot_work_say_why() {
    let place = place(1).await;
    for (content, says) in [
        ("a,b\n1,2\n", "class"),
        ("", "empty"),
        ("x,y,class\n", "row"),
        ("x,y,class\n1,2,only\n3,4,only\n", "class"),
    ] {
        let uri = put(&place.control, "bad.csv", content).await;
        let job = place.control.jobs().create_training(&parent(), new_training(&[uri], 2)).await.unwrap();
        let job = ended(&place.control, &job.name, JobState::Failed).await;
        let error = job.error.unwrap();
        assert_eq!(error.code, ErrorCode::InvalidArgument, "{content:?}: {}", error.message);
        assert!(error.message.contains(says), "{content:?}: {}", error.message);
    }
    let models = place.control.models().list(&parent(), &ListQuery::default()).await.unwrap();
    assert_eq!(models.items.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_reads_jsonl_and_adds_versions_to_a_model() {
    let place = place(1).await;
    let first = trained(&place, 300).await;
    let lines: String = labelled(300)
        .lines()
        .skip(1)
        .map(|row| {
            let cells: Vec<&str> = row.split(',').collect();
            let (x, y): (f64, f64) = (cells[0].parse().unwrap(), cells[1].parse().unwrap());
            format!("{}\n", json!({ "x": x, "y": y, "class": cells[2] }))
        })
        .collect();
    let uri = put(&place.control, "train.jsonl", lines + "[1,2]\n{\"x\": [1]}\n").await;
    let mut new = new_training(&[uri], 5);
    new.target.parent_model = Some(first.clone());
    new.target.aliases = vec!["from-jsonl".to_owned()];
    let job = place.control.jobs().create_training(&parent(), new).await.unwrap();
    let job = ended(&place.control, &job.name, JobState::Succeeded).await;
    assert_eq!(training(&job).result, Some((first.clone(), 2)));
    assert_eq!((training(&job).skipped, training(&job).progress.len()), (2, 5));
    let (model, version) = place.control.models().get(&format!("{first}@from-jsonl")).await.unwrap();
    assert_eq!((model.versions.len(), version), (2, 2));
}

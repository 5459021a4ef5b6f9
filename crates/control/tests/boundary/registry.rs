//! The registry, endpoints, datasets, evaluations, operations and keys of one data directory, from outside.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use control::storage::{ObjectUri, PutOptions};
use control::{
    AliasChange, ArtifactSource, Control, DatasetKind, DatasetPatch, DeployedPatch, EndpointPatch, ErrorCode,
    ListQuery, ModelPatch, NewDataset, NewDeployedModel, NewEndpoint, NewEvaluationImport, NewKey, Operation,
    OperationResult, Options, Parent, Role, ServingStatus, Timestamp, UploadModel,
};
use formats::Value;
use serde_json::json;
use serving::{Call, ServeError};
use tensor::export::{Activation, Layer, sequential};

/// One open data directory.
struct Server {
    control: Control,
    parent: Parent,
}

impl Server {
    async fn open(data_dir: &Path) -> Server {
        let control = Control::open(Options::new(data_dir)).await.unwrap();
        Server { control, parent: Parent::parse("projects/p/locations/us-central1").unwrap() }
    }

    /// Puts a model that multiplies its one input by `factor` under `gs://models/{factor}/`.
    async fn artifact(&self, factor: f32) -> ArtifactSource {
        let layer =
            Layer::Dense { units: 1, kernel: vec![factor], bias: None, activation: Activation::Linear };
        let onnx = sequential(&[1], &[layer]).unwrap();
        // It may exist already.
        let _ = self.control.storage("p").create_bucket("models", "p", "us-central1").await;
        let uri = format!("gs://models/{factor}");
        let object = ObjectUri::parse(&format!("{uri}/model.onnx")).unwrap();
        self.control.storage("p").put(&object, Bytes::from(onnx), PutOptions::default()).await.unwrap();
        ArtifactSource::Uri(uri)
    }

    /// A new model named `name` with as many versions as `factors`; its resource name.
    async fn model(&self, name: &str, factors: &[f32]) -> String {
        let mut model = String::new();
        for factor in factors {
            let upload = UploadModel {
                parent_model: (!model.is_empty()).then(|| model.clone()),
                ..UploadModel::new(name, self.artifact(*factor).await)
            };
            (model, _) = version(&self.control.models().upload(&self.parent, upload).await.unwrap());
        }
        model
    }

    async fn endpoint(&self, name: &str) -> String {
        let new = NewEndpoint { display_name: name.to_owned(), ..NewEndpoint::default() };
        match self.control.endpoints().create(&self.parent, new).await.unwrap().outcome {
            Some(Ok(OperationResult::Endpoint(endpoint))) => endpoint.name,
            other => panic!("{other:?}"),
        }
    }

    /// Deploys `model`; its id in the endpoint.
    async fn deploy(&self, endpoint: &str, model: &str, split: Option<&[(&str, u32)]>) -> String {
        let new = NewDeployedModel { model: model.to_owned(), ..NewDeployedModel::default() };
        match self.control.endpoints().deploy(endpoint, new, split.map(shares)).await.unwrap().outcome {
            Some(Ok(OperationResult::Deployed(deployed))) => deployed.id,
            other => panic!("{other:?}"),
        }
    }

    /// What `endpoint` makes of 2.
    async fn predict(&self, endpoint: &str) -> Result<f32, ServeError> {
        let call = Call { deadline: Instant::now() + Duration::from_secs(10), deployed: None };
        let answer = self.control.router().predict(endpoint, vec![Value::Numbers(vec![2.0])], &call).await?;
        Ok(serde_json::to_value(answer.predictions.row(0)).unwrap()[0].as_f64().unwrap() as f32)
    }
}

fn shares(shares: &[(&str, u32)]) -> BTreeMap<String, u32> {
    shares.iter().map(|(id, percent)| ((*id).to_owned(), *percent)).collect()
}

fn version(operation: &Operation) -> (String, u32) {
    assert!(operation.done);
    match &operation.outcome {
        Some(Ok(OperationResult::Version { model, version })) => (model.clone(), *version),
        other => panic!("{other:?}"),
    }
}

fn add(alias: &str) -> AliasChange {
    AliasChange::parse(alias)
}

#[tokio::test]
async fn versions_and_aliases() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::open(directory.path()).await;
    let models = server.control.models();
    let name = server.model("m", &[1.0, 2.0]).await;
    let (model, number) = models.get(&name).await.unwrap();
    assert_eq!((number, model.versions.len()), (1, 2));
    assert_eq!(model.versions[0].aliases, ["default"]);

    let third = UploadModel {
        parent_model: Some(name.clone()),
        version_aliases: vec!["gold".into(), "default".into()],
        ..UploadModel::new("called otherwise", server.artifact(3.0).await)
    };
    assert_eq!(version(&models.upload(&server.parent, third).await.unwrap()), (name.clone(), 3));
    assert_eq!(models.get(&name).await.unwrap().1, 3);
    assert_eq!(models.get(&format!("{name}@gold")).await.unwrap().1, 3);
    assert_eq!(models.get(&format!("{name}@1")).await.unwrap().1, 1);
    assert_eq!(models.get(&format!("{name}@4")).await.unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(models.get(&format!("{name}@silver")).await.unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(models.get(&name).await.unwrap().0.display_name, "m");

    let at = |version: u32| format!("{name}@{version}");
    let (model, _) = models.merge_aliases(&at(1), &[add("prod"), add("gold")]).await.unwrap();
    assert_eq!(model.versions[0].aliases, ["prod", "gold"]);
    assert_eq!(model.versions[2].aliases, ["default"]);
    models.merge_aliases(&at(1), &[add("default"), add("-gold")]).await.unwrap();
    assert_eq!(models.get(&name).await.unwrap().1, 1);

    for (changes, word) in [
        (vec![add("-default")], "default version"),
        (vec![add("-nobody")], "no alias"),
        (vec![add("1abc")], "no alias"),
        (vec![add("new"), add("Bad_")], "no alias"),
    ] {
        let error = models.merge_aliases(&at(1), &changes).await.unwrap_err();
        assert!(error.message.contains(word), "{changes:?}: {}", error.message);
    }
    assert_eq!(models.get(&at(1)).await.unwrap().0.versions[0].aliases, ["prod", "default"]);

    let error = models.delete_version(&at(1)).await.unwrap_err();
    assert!(error.message.contains("default version"), "{}", error.message);
    models.delete_version(&at(2)).await.unwrap();
    models.delete_version(&at(3)).await.unwrap();
    let error = models.delete_version(&at(1)).await.unwrap_err();
    assert!(error.message.contains("only version"), "{}", error.message);

    // A number is never given twice.
    let fourth =
        UploadModel { parent_model: Some(name.clone()), ..UploadModel::new("", server.artifact(4.0).await) };
    assert_eq!(version(&models.upload(&server.parent, fourth).await.unwrap()).1, 4);
    let (_, page) = models.list_versions(&name, &ListQuery::default()).await.unwrap();
    assert_eq!(page.items.iter().map(|v| v.number).collect::<Vec<_>>(), [1, 4]);
    models.delete(&name).await.unwrap();
    assert_eq!(models.get(&name).await.unwrap_err().code, ErrorCode::NotFound);
}

#[tokio::test]
async fn uploads_that_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::open(directory.path()).await;
    let models = server.control.models();
    let good = server.artifact(1.0).await;
    let upload = |change: &dyn Fn(&mut UploadModel)| {
        let mut upload = UploadModel::new("m", good.clone());
        change(&mut upload);
        upload
    };
    let junk = ObjectUri::parse("gs://models/junk/model.pkl").unwrap();
    let pickle = Bytes::from_static(b"\x80\x04\x95\x00\x00\x00");
    server.control.storage("p").put(&junk, pickle, PutOptions::default()).await.unwrap();
    let broken = ObjectUri::parse("gs://models/broken/model.onnx").unwrap();
    let bytes = Bytes::from_static(b"not a graph");
    server.control.storage("p").put(&broken, bytes, PutOptions::default()).await.unwrap();
    let from =
        |uri: &'static str| move |u: &mut UploadModel| u.artifact = ArtifactSource::Uri(uri.to_owned());
    let image = |image_uri: &'static str| {
        move |u: &mut UploadModel| {
            u.container = Some(control::ContainerSpec { image_uri: image_uri.to_owned(), rest: json!({}) });
        }
    };
    let cases: [(UploadModel, ErrorCode); 12] = [
        (upload(&|u| u.display_name.clear()), ErrorCode::InvalidArgument),
        (upload(&|u| u.display_name = "x".repeat(129)), ErrorCode::InvalidArgument),
        (upload(&|u| u.model_id = Some("a/b".into())), ErrorCode::InvalidArgument),
        (upload(&|u| u.version_aliases = vec!["Gold".into()]), ErrorCode::InvalidArgument),
        (upload(&|u| u.parent_model = Some("absent".into())), ErrorCode::NotFound),
        (
            upload(&|u| u.parent_model = Some("projects/q/locations/us-central1/models/m".into())),
            ErrorCode::InvalidArgument,
        ),
        (upload(&from("gs://no-such-bucket/x")), ErrorCode::NotFound),
        (upload(&from("gs://models/nothing-here")), ErrorCode::NotFound),
        (upload(&from("gs://models/junk")), ErrorCode::InvalidArgument),
        (upload(&from("gs://models/broken")), ErrorCode::InvalidArgument),
        (upload(&from("not a uri")), ErrorCode::InvalidArgument),
        (upload(&image("docker.io/somebody/server:latest")), ErrorCode::InvalidArgument),
    ];
    for (upload, code) in cases {
        let error = models.upload(&server.parent, upload.clone()).await.expect_err("it is wrong");
        assert_eq!(error.code, code, "{upload:?}: {}", error.message);
    }
    assert!(models.list(&server.parent, &ListQuery::default()).await.unwrap().items.is_empty());

    let google = image("us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-5:latest");
    let mut named = upload(&google);
    named.model_id = Some("mine".into());
    models.upload(&server.parent, named.clone()).await.unwrap();
    let error = models.upload(&server.parent, named).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::AlreadyExists);
    assert!(error.message.contains("parent_model"), "{}", error.message);
    let next = UploadModel { parent_model: Some("mine".into()), ..upload(&google) };
    assert_eq!(version(&models.upload(&server.parent, next).await.unwrap()).1, 2);
}

#[tokio::test]
async fn updates_keep_to_etags() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::open(directory.path()).await;
    let models = server.control.models();
    let name = server.model("m", &[1.0, 2.0]).await;
    let before = models.get(&name).await.unwrap().0.etag;
    let patch = ModelPatch { display_name: Some("n".into()), ..ModelPatch::default() };
    models.update(&name, patch.clone(), Some(&before)).await.unwrap();
    let error = models.update(&name, patch, Some(&before)).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Aborted);

    let patch = ModelPatch {
        version: Some(2),
        version_description: Some("second".into()),
        serving: Some(ServingStatus::Disabled),
        ..ModelPatch::default()
    };
    let (model, number) = models.update(&name, patch, None).await.unwrap();
    assert_eq!((number, model.display_name.as_str()), (2, "n"));
    assert_eq!(model.versions[1].description, "second");
    assert_eq!(model.versions[0].description, "");

    let endpoint = server.endpoint("e").await;
    let new = NewDeployedModel { model: format!("{name}@2"), ..NewDeployedModel::default() };
    let error = server.control.endpoints().deploy(&endpoint, new, None).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::FailedPrecondition);
    assert!(error.message.contains("disabled"), "{}", error.message);
}

#[tokio::test]
async fn models_answer_to_what_people_call_them() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::open(directory.path()).await;
    let models = server.control.models();
    let name = server.model("news", &[1.0, 2.0]).await;
    let id = name.rsplit('/').next().unwrap().to_owned();
    for (text, number) in [("news", 1), ("news@2", 2), ("news@default", 1), (id.as_str(), 1)] {
        let found = models.find(&server.parent, text).await.unwrap().expect(text);
        assert_eq!((found.0.name.as_str(), found.1), (name.as_str(), number), "{text}");
    }
    assert!(models.find(&server.parent, "news@9").await.unwrap().is_none());
    assert!(models.find(&server.parent, "olds").await.unwrap().is_none());
    let elsewhere = Parent::parse("projects/q/locations/us-central1").unwrap();
    assert!(models.find(&elsewhere, "news").await.unwrap().is_none());

    let query = |filter: &str| ListQuery { filter: Some(filter.into()), ..ListQuery::default() };
    for filter in ["display_name=\"news\"", &format!("model={id}"), "display_name:n*"] {
        assert_eq!(models.list(&server.parent, &query(filter)).await.unwrap().items.len(), 1, "{filter}");
    }
    assert!(models.list(&server.parent, &query("display_name=x")).await.unwrap().items.is_empty());
    assert!(models.list(&server.parent, &query("nonsense=x")).await.is_err());
}

#[tokio::test]
async fn traffic_follows_the_split() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::open(directory.path()).await;
    let endpoints = server.control.endpoints();
    let model = server.model("m", &[10.0, 100.0]).await;
    let endpoint = server.endpoint("e").await;
    assert!(server.predict(&endpoint).await.is_err());

    let first = server.deploy(&endpoint, &model, None).await;
    assert_eq!(server.predict(&endpoint).await.unwrap(), 20.0);
    let second = server.deploy(&endpoint, &format!("{model}@2"), None).await;
    assert_eq!(server.predict(&endpoint).await.unwrap(), 20.0);
    let split = |shares_: &[(&str, u32)]| EndpointPatch {
        traffic_split: Some(shares(shares_)),
        ..EndpointPatch::default()
    };
    endpoints.update(&endpoint, split(&[(&second, 100)]), None).await.unwrap();
    assert_eq!(server.predict(&endpoint).await.unwrap(), 200.0);

    let error = endpoints.update(&endpoint, split(&[(&second, 90)]), None).await.unwrap_err();
    assert!(error.message.contains("must sum to 100, not 90"), "{}", error.message);
    let error = endpoints.update(&endpoint, split(&[("77", 100)]), None).await.unwrap_err();
    assert!(error.message.contains("not deployed here"), "{}", error.message);
    let new = NewDeployedModel { model: model.clone(), ..NewDeployedModel::default() };
    let error = endpoints.deploy(&endpoint, new, Some(shares(&[("0", 30)]))).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArgument);

    endpoints.update(&endpoint, split(&[(&first, 50), (&second, 50)]), None).await.unwrap();
    let mut seen = [0, 0];
    for _ in 0..40 {
        seen[usize::from(server.predict(&endpoint).await.unwrap() > 100.0)] += 1;
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");

    // As Google's client library empties an endpoint.
    endpoints.undeploy(&endpoint, &first, Some(shares(&[(&second, 100)]))).await.unwrap();
    assert_eq!(server.predict(&endpoint).await.unwrap(), 200.0);
    assert_eq!(endpoints.delete(&endpoint).await.unwrap_err().code, ErrorCode::FailedPrecondition);
    endpoints.undeploy(&endpoint, &second, None).await.unwrap();
    assert!(server.predict(&endpoint).await.is_err());
    assert_eq!(endpoints.undeploy(&endpoint, &second, None).await.unwrap_err().code, ErrorCode::NotFound);
    endpoints.delete(&endpoint).await.unwrap();
    assert_eq!(endpoints.get(&endpoint).await.unwrap_err().code, ErrorCode::NotFound);
}

#[tokio::test]
async fn what_is_deployed_stays() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::open(directory.path()).await;
    let models = server.control.models();
    let model = server.model("m", &[10.0, 100.0]).await;
    let endpoint = server.endpoint("e").await;
    let id = server.deploy(&endpoint, &format!("{model}@2"), None).await;

    let disable =
        ModelPatch { version: Some(2), serving: Some(ServingStatus::Disabled), ..ModelPatch::default() };
    for error in [
        models.delete(&model).await.map(drop).unwrap_err(),
        models.delete_version(&format!("{model}@2")).await.map(drop).unwrap_err(),
        models.update(&model, disable, None).await.map(drop).unwrap_err(),
    ] {
        assert_eq!(error.code, ErrorCode::FailedPrecondition);
        assert!(error.message.contains(&endpoint) && error.message.contains(&id), "{}", error.message);
    }
    // A network has no draft model.
    let endpoints = server.control.endpoints();
    let drafted = |draft: String| NewDeployedModel {
        model: model.clone(),
        draft: Some(draft),
        ..NewDeployedModel::default()
    };
    let error = endpoints.deploy(&endpoint, drafted(model.clone()), None).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArgument);
    assert!(error.message.contains("no language model"), "{}", error.message);
    let elsewhere = model.replace("projects/p/", "projects/q/");
    for (draft, code) in [
        (format!("{model}@9"), ErrorCode::NotFound),
        (elsewhere, ErrorCode::InvalidArgument),
        ("nonsense".to_owned(), ErrorCode::InvalidArgument),
    ] {
        let error = endpoints.deploy(&endpoint, drafted(draft), None).await.unwrap_err();
        assert_eq!(error.code, code, "{}", error.message);
    }
    let at = models.deployments(&model).await.unwrap();
    assert_eq!((at.len(), at[0].endpoint.as_str(), at[0].version), (1, endpoint.as_str(), 2));
    assert!(models.deployments(&format!("{model}@1")).await.unwrap().is_empty());

    let patch = DeployedPatch {
        id: id.clone(),
        display_name: Some("renamed".into()),
        resources: Some(json!({"dedicatedResources": {"minReplicaCount": 2}})),
        explanation: None,
    };
    server.control.endpoints().mutate(&endpoint, patch).await.unwrap();
    let read = server.control.endpoints().get(&endpoint).await.unwrap();
    assert_eq!(read.deployed(&id).unwrap().display_name, "renamed");

    server.control.endpoints().undeploy(&endpoint, &id, None).await.unwrap();
    models.delete(&model).await.unwrap();
}

#[tokio::test]
async fn a_restart_serves_what_was_deployed_and_sets_aside_what_is_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let (sound, damaged, both, digest) = {
        let server = Server::open(directory.path()).await;
        let good = server.model("good", &[10.0]).await;
        let bad = server.model("bad", &[100.0]).await;
        let endpoints = [server.endpoint("a").await, server.endpoint("b").await, server.endpoint("c").await];
        server.deploy(&endpoints[0], &good, None).await;
        server.deploy(&endpoints[1], &bad, None).await;
        server.deploy(&endpoints[2], &good, None).await;
        server.deploy(&endpoints[2], &bad, None).await;
        let digest = server.control.models().get(&bad).await.unwrap().0.versions[0].artifact;
        let [a, b, c] = endpoints;
        (a, b, c, digest)
    };
    let file = directory.path().join("artifacts").join(digest.hex()).join("files/model.onnx");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();

    let server = Server::open(directory.path()).await;
    assert_eq!(server.predict(&sound).await.unwrap(), 20.0);
    assert_eq!(server.predict(&both).await.unwrap(), 20.0);
    assert!(matches!(server.predict(&damaged).await, Err(ServeError::NothingDeployed { .. })));
    let endpoints = server.control.endpoints();
    let fault = endpoints.fault(&damaged, None).unwrap();
    assert_eq!(fault.code, ErrorCode::DataLoss);
    assert!(fault.message.contains("damaged"), "{}", fault.message);
    assert!(endpoints.fault(&sound, None).is_none() && endpoints.fault(&both, None).is_some());
    let id = endpoints.get(&damaged).await.unwrap().deployed_models[0].id.clone();
    endpoints.undeploy(&damaged, &id, None).await.unwrap();
    assert!(endpoints.fault(&damaged, None).is_none());
}

#[tokio::test]
async fn artifacts_go_with_the_last_version_that_has_them() {
    let directory = tempfile::tempdir().unwrap();
    let stored = |of: control::artifact::Digest| directory.path().join("artifacts").join(of.hex()).is_dir();
    let server = Server::open(directory.path()).await;
    let models = server.control.models();
    let model = server.model("m", &[1.0, 2.0]).await;
    let other = server.model("n", &[1.0]).await;
    let digests = models.get(&model).await.unwrap().0.versions.iter().map(|v| v.artifact).collect::<Vec<_>>();
    models.delete(&model).await.unwrap();
    drop((server, models));
    let server = Server::open(directory.path()).await;
    assert!(stored(digests[0]) && !stored(digests[1]));
    let endpoint = server.endpoint("e").await;
    server.deploy(&endpoint, &other, None).await;
    assert_eq!(server.predict(&endpoint).await.unwrap(), 2.0);
}

#[tokio::test]
async fn one_process_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::open(directory.path()).await;
    let again = Control::open(Options::new(directory.path())).await;
    let error = again.err().expect("it is in use");
    assert!(error.message.contains("in use by another Meuse"), "{}", error.message);
    drop(server);
    Server::open(directory.path()).await;
}

#[tokio::test]
async fn a_first_key_and_those_made_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::open(directory.path()).await;
    let path = directory.path().join("admin.key");
    let key = std::fs::read_to_string(&path).unwrap().trim().to_owned();
    #[cfg(unix)]
    for file in ["admin.key", "pepper", "meuse.db"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = directory.path().join(file).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let keys = server.control.keys();
    let here: std::net::IpAddr = "127.0.0.1".parse().unwrap();
    let admin = keys.authenticate(&key, here).unwrap();
    assert!(admin.role == Role::Admin && admin.acts_in("default") && admin.acts_in("whatever"));

    let (info, secret) = keys.create(NewKey::new("p", Role::Invoker)).await.unwrap();
    let invoker = keys.authenticate(secret.expose(), here).unwrap();
    assert!(invoker.role == Role::Invoker && invoker.acts_in("p") && !invoker.acts_in("q"));
    assert!(!format!("{secret:?}").contains(secret.expose()));
    let soon = Timestamp::now() + Duration::from_millis(300);
    let (_, expiring) =
        keys.create(NewKey { expires: Some(soon), ..NewKey::new("p", Role::Viewer) }).await.unwrap();
    assert!(keys.authenticate(expiring.expose(), here).is_some());
    assert!(
        keys.create(NewKey { expires: Some(Timestamp::UNIX_EPOCH), ..NewKey::new("p", Role::Viewer) })
            .await
            .is_err()
    );
    assert!(keys.create(NewKey::new("p/q", Role::Viewer)).await.is_err());

    for wrong in injections(secret.expose()) {
        assert!(keys.authenticate(&wrong, here).is_none(), "{wrong:?}");
    }
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(keys.authenticate(expiring.expose(), here).is_none());
    assert_eq!(keys.delete(&admin.key_id).await.unwrap_err().code, ErrorCode::FailedPrecondition);

    drop((server, keys));
    let server = Server::open(directory.path()).await;
    let keys = server.control.keys();
    assert!(keys.authenticate(&key, here).is_some() && keys.authenticate(secret.expose(), here).is_some());
    assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), key);
    assert_eq!(keys.list(Some("p")).len(), 2);
    keys.delete(&info.id).await.unwrap();
    assert!(keys.authenticate(secret.expose(), here).is_none());
    // The secret is nowhere on disk.
    let secret = secret.expose().rsplit_once('_').unwrap().1.as_bytes().to_vec();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        if let Ok(bytes) = std::fs::read(entry.unwrap().path()) {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret));
        }
    }
}

/// Things that are not `key`: near misses and the corpus of CVE-2026-42208 (SQL in the API key).
fn injections(key: &str) -> Vec<String> {
    let mut wrong: Vec<String> = [
        "",
        "mk_",
        "mk__",
        "mk_x_y",
        "' OR '1'='1",
        "mk_' OR 1=1 --_x",
        "mk_%_%",
        "mk_\0_\0",
        "Bearer ",
        "null",
        "mk_0000000000000000_AAAA",
        "mk_0000000000000000_",
    ]
    .map(str::to_owned)
    .into();
    wrong.extend([key[..key.len() - 1].to_owned(), format!("{key}A"), format!(" {key}"), key.to_uppercase()]);
    wrong.push(format!("{key}' --"));
    wrong.push("mk_".to_owned() + &"a".repeat(1 << 20));
    wrong
}

#[tokio::test]
async fn datasets_keep_addresses() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::open(directory.path()).await;
    let datasets = server.control.datasets();
    let new = NewDataset {
        display_name: "rows".into(),
        labels: BTreeMap::from([("team".into(), "search".into())]),
        kind: DatasetKind::Tabular,
        schema_uri: "gs://google-cloud-aiplatform/schema/dataset/metadata/tabular_1.0.0.yaml".into(),
        uris: vec!["gs://rows/a.csv".into()],
        metadata: json!({"inputConfig": {}}),
    };
    let made = datasets.create(&server.parent, new.clone()).await.unwrap();
    let Some(Ok(OperationResult::Dataset(dataset))) = made.outcome else { panic!("{made:?}") };
    datasets.import(&dataset.name, vec!["gs://rows/b.csv".into(), "gs://rows/a.csv".into()]).await.unwrap();
    assert_eq!(datasets.get(&dataset.name).await.unwrap().uris, ["gs://rows/a.csv", "gs://rows/b.csv"]);
    let wrong = NewDataset { uris: vec!["no uri".into()], ..new };
    assert!(datasets.create(&server.parent, wrong).await.is_err());
    let patch = DatasetPatch { display_name: Some("lines".into()), ..DatasetPatch::default() };
    let error = datasets.update(&dataset.name, patch.clone(), Some(&dataset.etag)).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Aborted, "an import came between");
    datasets.update(&dataset.name, patch, None).await.unwrap();
    let query = ListQuery {
        filter: Some("display_name=lines AND labels.team=search".into()),
        ..ListQuery::default()
    };
    assert_eq!(datasets.list(&server.parent, &query).await.unwrap().items.len(), 1);
    datasets.delete(&dataset.name).await.unwrap();
    assert_eq!(datasets.get(&dataset.name).await.unwrap_err().code, ErrorCode::NotFound);
}

#[tokio::test]
async fn evaluations_belong_to_versions() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::open(directory.path()).await;
    let model = server.model("m", &[1.0, 2.0]).await;
    let evaluations = server.control.evaluations();
    let new = |name: &str| NewEvaluationImport {
        display_name: name.into(),
        metrics: json!({"auPrc": 0.9}),
        ..NewEvaluationImport::default()
    };
    let first = evaluations.import(&format!("{model}@1"), new("first")).await.unwrap();
    let second = evaluations.import(&format!("{model}@2"), new("second")).await.unwrap();
    assert_eq!(evaluations.get(&first.name).await.unwrap(), first);
    let versioned = second.name.replace("/evaluations/", "@2/evaluations/");
    assert_eq!(evaluations.get(&versioned).await.unwrap(), second);
    let other = second.name.replace("/evaluations/", "@1/evaluations/");
    assert_eq!(evaluations.get(&other).await.unwrap_err().code, ErrorCode::NotFound);
    let list = async |of: &str| {
        let page = evaluations.list(of, &ListQuery::default()).await.unwrap();
        page.items.into_iter().map(|e| e.display_name).collect::<Vec<_>>()
    };
    assert_eq!(list(&model).await, ["second", "first"]);
    assert_eq!(list(&format!("{model}@1")).await, ["first"]);
    server.control.models().delete_version(&format!("{model}@2")).await.unwrap();
    assert_eq!(evaluations.get(&second.name).await.unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(list(&model).await, ["first"]);
}

#[tokio::test]
async fn operations_are_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::open(directory.path()).await;
    let operations = server.control.operations();
    let new = NewEndpoint { display_name: "e".into(), ..NewEndpoint::default() };
    let made = server.control.endpoints().create(&server.parent, new).await.unwrap();
    assert!(made.done && made.name.starts_with(&made.target));
    assert_eq!(operations.get(&made.name).await.unwrap(), made);
    assert_eq!(operations.wait(&made.name, Duration::from_secs(5)).await.unwrap(), made);
    operations.cancel(&made.name).await.unwrap();
    drop((server, operations));
    let server = Server::open(directory.path()).await;
    let operations = server.control.operations();
    let listed = operations.list(&server.parent, &ListQuery::default()).await.unwrap().items;
    assert_eq!(listed, std::slice::from_ref(&made));
    operations.delete(&made.name).await.unwrap();
    assert_eq!(operations.get(&made.name).await.unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(operations.get("operations/1").await.unwrap_err().code, ErrorCode::InvalidArgument);
}

/// Many at once on one endpoint and one model: nothing is lost, and what is served is what is stored.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_changes_all_happen() {
    let directory = tempfile::tempdir().unwrap();
    let server = Arc::new(Server::open(directory.path()).await);
    let model = server.model("m", &[1.0]).await;
    let endpoint = server.endpoint("e").await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..8 {
        let (server, model, endpoint) = (server.clone(), model.clone(), endpoint.clone());
        tasks.spawn(async move {
            server.deploy(&endpoint, &model, None).await;
            let alias = AliasChange::Add(format!("alias{number}"));
            server.control.models().merge_aliases(&model, &[alias]).await.unwrap();
        });
    }
    tasks.join_all().await;
    let stored = server.control.endpoints().get(&endpoint).await.unwrap();
    assert_eq!(stored.deployed_models.len(), 8);
    assert_eq!(stored.traffic_split.values().sum::<u32>(), 100);
    assert_eq!(server.control.models().get(&model).await.unwrap().0.versions[0].aliases.len(), 9);
    assert_eq!(server.control.models().deployments(&model).await.unwrap().len(), 8);
    assert_eq!(server.predict(&endpoint).await.unwrap(), 2.0);
}

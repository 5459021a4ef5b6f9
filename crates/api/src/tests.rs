//! The whole server on a loopback port, asked in plain HTTP/1.1.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use control::{Control, Options, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::http::{Access, Permission, Route};
use crate::{App, routes, serve};

struct Running {
    address: String,
    control: Control,
    stop: oneshot::Sender<()>,
    done: JoinHandle<std::io::Result<()>>,
    _data: tempfile::TempDir,
}

impl Running {
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let router = serving::Router::new();
        let mut options = Options::new(data.path());
        options.router = router.clone();
        let control = Control::open(options).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = oneshot::channel();
        let app = App::new(control.clone(), router);
        let done = tokio::spawn(serve(listener, None, app, async move {
            let _ = stopped.await;
        }));
        Running { address, control, stop, done, _data: data }
    }

    async fn key(&self, project: &str, role: Role) -> String {
        let (_, secret) = self.control.keys().create(project, role, None).await.unwrap();
        secret.expose().to_owned()
    }

    /// Status and body of one request on a connection of its own.
    async fn ask(&self, method: &str, path: &str, key: Option<&str>, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let key = key.map_or(String::new(), |key| format!("authorization: Bearer {key}\r\n"));
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{key}content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        let status = reply.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
        // gRPC says in a header how it went.
        match head.split("grpc-status: ").nth(1).and_then(|rest| rest.split("\r\n").next()) {
            Some("16") => (401, "\"error".to_owned()),
            Some("7") => (403, body.to_owned()),
            _ => (status, body.to_owned()),
        }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.done.await.unwrap().unwrap();
    }
}

/// A path that `route` answers to, in project `p`.
fn example(route: &Route) -> String {
    let mut path = route.pattern.replace("projects/*", "projects/p").replace("**", "x/y").replace('*', "x");
    while let Some((before, rest)) = path.split_once('{') {
        let (variable, after) = rest.split_once('}').unwrap();
        let value = variable.split_once('=').map_or("x", |(_, value)| value);
        path = format!("{before}{value}{after}");
    }
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_wants_a_key_but_health() {
    let server = Running::start().await;
    let routes = routes().unwrap();
    let mut public = Vec::new();
    for route in routes.iter() {
        let path = example(route);
        let (without, body) = server.ask(route.method.as_str(), &path, None, "").await;
        let (wrong, _) = server.ask(route.method.as_str(), &path, Some("mk_0_0"), "").await;
        match route.access {
            Access::Public => public.push(route.pattern.clone()),
            Access::Needs(_) => {
                assert_eq!((without, wrong), (401, 401), "{} {path}", route.method);
                assert!(body.contains("\"error"), "{} {path}: {body}", route.method);
            }
        }
    }
    let expected = [
        "/health/live",
        "/health/ready",
        "/",
        "/",
        "/v2/health/live",
        "/v2/health/ready",
        "/inference.GRPCInferenceService/ServerLive",
        "/inference.GRPCInferenceService/ServerReady",
        "/ping",
    ];
    assert_eq!(public, expected);
    assert!(routes.iter().count() > 150);
    assert_eq!(server.ask("GET", "/no/such/path", None, "").await.0, 401);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_reaches_its_project_and_what_its_role_grants() {
    let server = Running::start().await;
    let viewer = server.key("p", Role::Viewer).await;
    let stranger = server.key("other", Role::Admin).await;
    for route in routes().unwrap().iter() {
        let (path, method) = (example(route), route.method.as_str());
        if let Access::Needs(permission) = route.access {
            let (status, body) = server.ask(method, &path, Some(&viewer), "").await;
            assert_eq!(
                status == 403,
                permission != Permission::Read,
                "viewer: {method} {path}: {status} {body}"
            );
            if path.contains("projects/p/") {
                let (status, _) = server.ask(method, &path, Some(&stranger), "").await;
                assert_eq!(status, 403, "stranger: {method} {path}");
            }
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_the_description_and_not_served_says_so() {
    let server = Running::start().await;
    let admin = server.key("*", Role::Admin).await;
    for (method, path, named) in [
        ("POST", "/v1/projects/p/locations/l/customJobs", "JobService.CreateCustomJob"),
        ("POST", "/v1/projects/p/locations/l/endpoints/1:directPredict", "PredictionService.DirectPredict"),
        ("POST", "/v1/projects/p/locations/l/publishers/g/models/m:predict", "PredictionService.Predict"),
        ("GET", "/v1/projects/p/locations/l/models/1:listCheckpoints", "ListModelVersionCheckpoints"),
    ] {
        let (status, body) = server.ask(method, path, Some(&admin), "{}").await;
        assert!(
            status == 501 && body.contains(named) && body.contains("UNIMPLEMENTED"),
            "{path}: {status} {body}"
        );
    }
    let (status, _) = server.ask("PATCH", "/v1/projects/p/locations/l/endpoints", Some(&admin), "{}").await;
    assert_eq!(status, 405);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resources_are_made_read_and_listed() {
    let server = Running::start().await;
    let key = server.key("p", Role::Deployer).await;
    let parent = "/v1/projects/p/locations/l";
    let create = format!("{parent}/endpoints?endpointId=7");
    let (status, made) =
        server.ask("POST", &create, Some(&key), r#"{"display_name":"e","labels":{"a":"b"}}"#).await;
    assert_eq!(status, 200, "{made}");
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    assert_eq!(made["response"]["displayName"], "e");
    let (status, read) =
        server.ask("GET", &format!("/{parent}//endpoints/%37?$alt=json"), Some(&key), "").await;
    assert_eq!(status, 200, "{read}");
    let read: serde_json::Value = serde_json::from_str(&read).unwrap();
    assert_eq!(read["labels"]["a"], "b");
    let (_, listed) = server.ask("GET", &format!("{parent}/endpoints?pageSize=1"), Some(&key), "").await;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["endpoints"][0]["name"], read["name"]);
    let body = r#"{"displayName":"e","kmsKey":"x"}"#;
    let (status, refused) = server.ask("POST", &create, Some(&key), body).await;
    assert!(status == 400 && refused.contains("kmsKey"), "{refused}");
    let predict = format!("{parent}/endpoints/7:predict");
    let (status, refused) = server.ask("POST", &predict, Some(&key), r#"{"instances":[1]}"#).await;
    assert!((400..500).contains(&status), "{refused}");
    server.stop().await;
}

//! The whole server on a loopback port, asked in plain HTTP/1.1.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use control::{Control, NewKey, Options, Role, Timestamp};
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
        let (_, secret) = self.control.keys().create(NewKey::new(project, role)).await.unwrap();
        secret.expose().to_owned()
    }

    /// Status and body of one request on a connection of its own.
    async fn ask(&self, method: &str, path: &str, key: Option<&str>, body: &str) -> (u16, String) {
        let key = key.map_or(String::new(), |key| format!("authorization: Bearer {key}\r\n"));
        let (status, reply) = self.ask_with(method, path, &key, body).await;
        let (_, body) = reply.split_once("\r\n\r\n").unwrap_or(("", &reply));
        (status, body.to_owned())
    }

    /// Status and the whole reply of one request with these header lines.
    async fn ask_with(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let host = if headers.contains("host: ") { "" } else { "host: x\r\n" };
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\n{host}connection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        let status = reply.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        let head = reply.split("\r\n\r\n").next().unwrap_or_default();
        // gRPC says in a header how it went.
        match head.split("grpc-status: ").nth(1).and_then(|rest| rest.split("\r\n").next()) {
            Some("16") => (401, reply),
            Some("7") => (403, reply),
            _ => (status, reply),
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

/// Who asks, in the matrix of routes and callers.
struct Caller {
    says: &'static str,
    headers: String,
    /// Whether routes in project `p` that need this are open to it.
    may: fn(Permission) -> bool,
    /// Whether it acts in project `p`.
    is_of_p: bool,
}

impl Caller {
    fn of(says: &'static str, key: &str, may: fn(Permission) -> bool) -> Self {
        Caller { says, headers: format!("authorization: Bearer {key}\r\n"), may, is_of_p: true }
    }
}

/// The only addresses that answer without a key.
const PUBLIC: [&str; 10] = [
    "GET /health/live",
    "GET /health/ready",
    "GET /",
    "HEAD /",
    // What opens it is in the body.
    "POST /token",
    "GET /v2/health/live",
    "GET /v2/health/ready",
    "POST /inference.GRPCInferenceService/ServerLive",
    "POST /inference.GRPCInferenceService/ServerReady",
    "GET /ping",
];

/// Every route, from the router itself, asked by everyone: open to whom it is declared to be open, and to nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_is_open_to_whom_it_says_and_to_nobody_else() {
    let server = Running::start().await;
    let keys = server.control.keys();
    let soon = Timestamp::now() + std::time::Duration::from_millis(50);
    let (_, expired) =
        keys.create(NewKey { expires: Some(soon), ..NewKey::new("p", Role::Admin) }).await.unwrap();
    let (revoked_info, revoked) = keys.create(NewKey::new("p", Role::Admin)).await.unwrap();
    keys.delete(&revoked_info.id).await.unwrap();
    let networks = vec!["203.0.113.0/24".parse().unwrap()];
    let (_, afar) = keys.create(NewKey { networks, ..NewKey::new("p", Role::Admin) }).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    let nobody = |_| false;
    let foreign = "origin: https://evil.example\r\nhost: evil.example\r\n";
    let viewer = server.key("p", Role::Viewer).await;
    let callers = [
        Caller { says: "no key", headers: String::new(), may: nobody, is_of_p: true },
        Caller { says: "no key, a foreign page", headers: foreign.to_owned(), may: nobody, is_of_p: true },
        Caller::of("a wrong key", "mk_0_0", nobody),
        Caller::of("an expired key", expired.expose(), nobody),
        Caller::of("a revoked key", revoked.expose(), nobody),
        Caller::of("a key for another network", afar.expose(), nobody),
        Caller {
            is_of_p: false,
            ..Caller::of("another project's deployer", &server.key("other", Role::Deployer).await, |p| {
                p.granted_to(Role::Deployer)
            })
        },
        Caller {
            headers: format!("authorization: Bearer {viewer}\r\n{foreign}"),
            ..Caller::of("a viewer, a foreign page", &viewer, |p| p.granted_to(Role::Viewer))
        },
        Caller::of("an invoker", &server.key("p", Role::Invoker).await, |p| p.granted_to(Role::Invoker)),
        Caller::of("a deployer", &server.key("p", Role::Deployer).await, |p| p.granted_to(Role::Deployer)),
        Caller::of("an auditor", &server.key("p", Role::Auditor).await, |p| p.granted_to(Role::Auditor)),
        Caller::of("an admin", &server.key("p", Role::Admin).await, |p| {
            p.granted_to(Role::Admin) && !p.is_of_the_server()
        }),
        Caller::of("an admin of all projects", &server.key("*", Role::Admin).await, |p| {
            p.granted_to(Role::Admin)
        }),
    ];
    let routes = routes().unwrap();
    let mut public = Vec::new();
    for route in routes.iter() {
        let (path, method) = (example(route), route.method.as_str());
        let Access::Needs(permission) = route.access else {
            public.push(format!("{method} {}", route.pattern));
            continue;
        };
        for caller in &callers {
            let known = (caller.may)(Permission::Read) || (caller.may)(Permission::Audit);
            let elsewhere = !caller.is_of_p && path.contains("projects/p/");
            let expected = match known {
                false => Some(401),
                true if elsewhere || !(caller.may)(permission) => Some(403),
                true => None,
            };
            let (status, reply) = server.ask_with(method, &path, &caller.headers, "").await;
            let says = format!("{}: {method} {path}: {status} {reply}", caller.says);
            match expected {
                Some(refused) => assert_eq!(status, refused, "{says}"),
                None => assert!(!matches!(status, 0 | 401 | 403), "{says}"),
            }
            // No page of another origin may read what is answered here.
            assert!(!reply.to_lowercase().contains("access-control-allow"), "{says}");
        }
        // A method that the path does not have is nobody's business without a key.
        assert_eq!(server.ask("OPTIONS", &path, None, "").await.0, 401, "{path}");
    }
    assert_eq!(public, PUBLIC);
    assert!(routes.iter().count() > 150);
    assert_eq!(server.ask("GET", "/no/such/path", None, "").await.0, 401);
    server.stop().await;
}

/// What is another project's is as if it were not there, word for word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_projects_names_are_as_good_as_none() {
    let server = Running::start().await;
    let owner = server.key("owned", Role::Admin).await;
    let stranger = server.key("q", Role::Admin).await;
    let (key, _) = server.control.keys().create(NewKey::new("owned", Role::Viewer)).await.unwrap();
    let (status, made) =
        server.ask("POST", "/storage/v1/b?project=owned", Some(&owner), r#"{"name":"bucket-there"}"#).await;
    assert_eq!(status, 200, "{made}");
    let put = "/upload/storage/v1/b/bucket-there/o?uploadType=media&name=object-there";
    assert_eq!(server.ask("POST", put, Some(&owner), "text,label\na,b\n").await.0, 200);
    let endpoints = "/v1/projects/owned/locations/l/endpoints";
    let (status, made) = server
        .ask("POST", &format!("{endpoints}?endpointId=there"), Some(&owner), r#"{"displayName":"there"}"#)
        .await;
    assert_eq!(status, 200, "{made}");
    let missing_key = "0123456789abcdef";
    for (method, path, there, missing) in [
        ("GET", "/storage/v1/b/NAME", "bucket-there", "bucket-gone"),
        ("DELETE", "/storage/v1/b/NAME", "bucket-there", "bucket-gone"),
        ("GET", "/storage/v1/b/NAME/o", "bucket-there", "bucket-gone"),
        ("GET", "/storage/v1/b/NAME/o/object-there", "bucket-there", "bucket-gone"),
        ("DELETE", "/storage/v1/b/NAME/o/object-there", "bucket-there", "bucket-gone"),
        ("GET", "/download/storage/v1/b/NAME/o/object-there?alt=media", "bucket-there", "bucket-gone"),
        ("POST", "/upload/storage/v1/b/NAME/o?uploadType=media&name=x", "bucket-there", "bucket-gone"),
        ("POST", "/upload/storage/v1/b/NAME/o?uploadType=resumable&name=x", "bucket-there", "bucket-gone"),
        ("POST", "/storage/v1/b/NAME/o/object-there/copyTo/b/NAME/o/x", "bucket-there", "bucket-gone"),
        ("POST", "/storage/v1/b/NAME/o/x/compose", "bucket-there", "bucket-gone"),
        ("DELETE", "/admin/v1/keys/NAME", &key.id, missing_key),
        ("POST", "/admin/v1/keys/NAME:rotate", &key.id, missing_key),
        ("GET", "/v1/projects/owned/locations/l/endpoints/NAME", "there", "gone"),
        ("GET", "/v1/projects/NAME/locations/l/endpoints", "owned", "nobody"),
        ("POST", "/v1/projects/owned/locations/l/endpoints/NAME:predict", "there", "gone"),
        ("GET", "/v1/models/NAME", "there", "gone"),
        ("GET", "/v2/models/NAME", "there", "gone"),
        ("POST", "/v2/models/NAME/infer", "there", "gone"),
    ] {
        let (a, of_there) = server.ask(method, &path.replace("NAME", there), Some(&stranger), "{}").await;
        let (b, of_missing) = server.ask(method, &path.replace("NAME", missing), Some(&stranger), "{}").await;
        assert!(
            (a, of_there.replace(there, missing)) == (b, of_missing.clone()),
            "{method} {path}: {a} {of_there} / {b} {of_missing}"
        );
        assert!(a == 403 || a == 404 || a == 400, "{method} {path}: {a}");
    }
    // Nor does a job reach there.
    let upload = |bucket: &str| {
        format!(
            r#"{{"model":{{"displayName":"m","artifactUri":"gs://{bucket}/object-there","containerSpec":{{"imageUri":"us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-3:latest"}}}}}}"#
        )
    };
    let at = "/v1/projects/q/locations/l/models:upload";
    let (a, of_there) = server.ask("POST", at, Some(&stranger), &upload("bucket-there")).await;
    let (b, of_missing) = server.ask("POST", at, Some(&stranger), &upload("bucket-gone")).await;
    assert!(
        (a, of_there.replace("bucket-there", "bucket-gone")) == (b, of_missing) && a == 404,
        "{a} {of_there}"
    );
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

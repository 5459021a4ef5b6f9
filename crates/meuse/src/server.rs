//! [`Server`]: everything wired together on one address.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::data_dir::DataDir;
use crate::failure::{Failure, Result};

/// A server that answers, in this process.
#[derive(Debug)]
pub struct Server {
    address: String,
    data: DataDir,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Server {
    /// Opens the data directory, takes up its unfinished work, and answers on `listener` from then on, with TLS too where
    /// there is a certificate.
    ///
    /// # Errors
    /// If the directory cannot be used, or another server has it open.
    pub async fn start(
        options: control::Options,
        listener: TcpListener,
        tls: Option<api::Tls>,
    ) -> Result<Self> {
        let data = DataDir::new(&options.data_dir);
        let bound = listener
            .local_addr()
            .map_err(|e| Failure::new(format!("the address listened on is unknown: {e}")))?;
        let router = options.router.clone();
        let control = control::Control::open(options).await.map_err(|e| cannot_open(&data, &e))?;
        let address = format!("http://{bound}");
        data.write_address(&address)
            .map_err(|e| Failure::new(format!("writing into {} failed: {e}", data.path().display())))?;
        let (stop, stopped) = oneshot::channel();
        let app = api::App::new(control, router);
        let serving = tokio::spawn(api::serve(listener, tls, app, async move {
            // A sender that is gone means the same.
            let _ = stopped.await;
        }));
        Ok(Server { address, data, stop: Some(stop), serving })
    }

    /// `http://host:port` as bound.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Takes no more requests, lets what runs finish, and returns. Jobs that run go on at the next start.
    ///
    /// # Errors
    /// If serving had failed.
    pub async fn stop(mut self) -> Result<()> {
        self.stop.take();
        self.finished().await
    }

    /// Serves until `signal` is ready, then stops.
    ///
    /// # Errors
    /// If serving fails.
    pub async fn until(mut self, signal: impl Future<Output = ()>) -> Result<()> {
        let ended = tokio::select! {
            ended = &mut self.serving => Some(ended),
            () = signal => None,
        };
        match ended {
            None => self.stop().await,
            Some(ended) => {
                self.data.remove_address(&self.address);
                outcome(ended)
            }
        }
    }

    async fn finished(self) -> Result<()> {
        let ended = self.serving.await;
        self.data.remove_address(&self.address);
        outcome(ended)
    }
}

/// Listens on `address`.
///
/// # Errors
/// If it is taken or not this machine's.
pub async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| cannot_listen(address, &e))
}

fn outcome(ended: std::result::Result<std::io::Result<()>, tokio::task::JoinError>) -> Result<()> {
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failure::new(format!("serving failed: {error}"))),
        Err(error) => Err(Failure::new(format!("serving ended by a defect: {error}"))),
    }
}

fn cannot_listen(listen: SocketAddr, error: &std::io::Error) -> Failure {
    let failure = Failure::new(format!("cannot listen on {listen}: {error}"));
    match error.kind() {
        std::io::ErrorKind::AddrInUse => failure.next(
            "another program, perhaps another Meuse, listens there: stop it, or choose a port with --listen (port 0 takes a free one)",
        ),
        std::io::ErrorKind::PermissionDenied => failure.next("ports below 1024 need privileges; choose another"),
        _ => failure.next("give --listen an address of this machine, such as 127.0.0.1:8080"),
    }
}

fn cannot_open(data: &DataDir, error: &control::Error) -> Failure {
    let failure =
        Failure::new(format!("the data directory {} cannot be used: {error}", data.path().display()));
    match data.address() {
        Some(address) => failure
            .next(format!("a server at {address} may have it open; stop it, or choose another with --data")),
        None => failure.next("check that it is yours to write, or choose another with --data"),
    }
}

/// Whether only this machine can reach `address`.
pub fn is_local(address: IpAddr) -> bool {
    address.is_loopback()
}

/// Ready when the process is asked to stop: Ctrl-C or SIGTERM. The second time it ends at once.
///
/// # Errors
/// If signals cannot be listened to.
pub fn asked_to_stop() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|e| Failure::new(format!("signals cannot be received: {e}")));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            tracing::warn!("asked to stop again: ending without waiting for what runs");
            std::process::exit(1);
        });
    })
}

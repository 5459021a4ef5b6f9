//! `meuse quickstart`: everything at work, over the network, on shipped data.

mod data;
mod language;
mod paste;
mod tour;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use tracing_subscriber::EnvFilter;

use crate::client::Client;
use crate::commands::serve;
use crate::connection::DEFAULT_LOCATION;
use crate::data_dir::{self, DataDir};
use crate::failure::{Failure, Result};
use crate::server::{self, Server};
use crate::show::{Output, Style};
use crate::sources::Sources;

/// The port tried first.
const PORT: u16 = 8080;

/// See everything at work: train, deploy, evaluate, batch, predict, explain; pull a language model and ask it.
#[derive(Debug, Args)]
#[command(
    after_help = "It starts a server of its own, acts on it over the network as any client would, and keeps\n\
serving until Ctrl-C. Running it again on the same directory adds versions. Only the language model comes from\n\
outside; where that cannot be reached, the rest is shown without."
)]
pub struct Quickstart {
    /// Stop when everything has been shown, instead of serving on
    #[arg(long)]
    pub exit: bool,
    /// Where everything is kept; made if it is not there
    #[arg(long, env = "MEUSE_DATA", default_value = data_dir::DEFAULT, value_name = "DIR")]
    pub data: PathBuf,
    /// Address to listen on [default: 127.0.0.1:8080, or a free port if that is taken]
    #[arg(long, value_name = "HOST:PORT", value_parser = serve::address)]
    pub listen: Option<SocketAddr>,
    /// Leave the language model out, which is pulled from outside (94 MiB)
    #[arg(long)]
    pub no_pull: bool,
    /// Where models may be pulled from.
    #[command(flatten)]
    pub sources: Sources,
}

impl Quickstart {
    /// Starts a server, shows everything on it, and serves on or stops.
    ///
    /// # Errors
    /// If any step fails.
    pub async fn run(&self, output: &Output) -> Result<()> {
        let started = Instant::now();
        log();
        let stop = server::asked_to_stop()?;
        tokio::pin!(stop);
        let options =
            control::Options { sources: self.sources.options(), ..control::Options::new(&self.data) };
        let server = Server::start(options, self.listener().await?, None).await?;
        let key = DataDir::new(&self.data)
            .admin_key()
            .ok_or_else(|| Failure::new(format!("there is no admin.key in {}", self.data.display())))?;
        let client = Client::new(server.address(), Some(&key), "default", DEFAULT_LOCATION)?;
        let shown = tokio::select! {
            shown = tour::tour(&client, output, &self.data, !self.no_pull) => shown,
            () = &mut stop => {
                server.stop().await?;
                return Err(Failure::new("stopped before everything was shown"));
            }
        };
        let result = match shown {
            Ok(result) => result,
            Err(failure) => {
                server.stop().await?;
                return Err(failure);
            }
        };
        if output.json {
            output.value(&result);
        } else {
            output.line("");
            let done = format!("Everything worked, in {:.1} s.", started.elapsed().as_secs_f64());
            output.line(output.style(Style::Good, &done));
            let speaks = result.pointer("/language/answer").is_some();
            output.line(paste::lines(output, &client, &self.data, speaks));
        }
        if self.exit {
            return server.stop().await;
        }
        output.note(format!("Serving at {}. Ctrl-C stops it.", server.address()));
        server.until(stop).await
    }

    async fn listener(&self) -> Result<tokio::net::TcpListener> {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        match self.listen {
            Some(address) if !server::is_local(address.ip()) => Err(Failure::usage(format!(
                "{address} can be reached from other machines; the quickstart is for this one"
            ))
            .next("`meuse serve` can be told to listen there")),
            Some(address) => server::listen(address).await,
            None => match server::listen(local(PORT)).await {
                Ok(listener) => Ok(listener),
                Err(_) => server::listen(local(0)).await,
            },
        }
    }
}

/// Warnings to standard error: the steps themselves say how it goes.
fn log() {
    let filter = EnvFilter::try_from_env("MEUSE_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    // Set already only in tests that run several commands in one process.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}

//! `meuse serve`

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use control::storage::CloudAccess;
use serde_json::json;
use tracing_subscriber::EnvFilter;

use crate::data_dir::{self, DataDir};
use crate::failure::{Failure, Result};
use crate::server::{Server, asked_to_stop, is_local, listen};
use crate::show::Output;
use crate::sources::Sources;

/// Run the server.
#[derive(Debug, Args)]
#[command(after_help = "On its first start on an empty directory it writes an admin key to DIR/admin.key.\n\
MEUSE_LOG sets what is logged to standard error: error, warn, info (default), debug.")]
pub struct Serve {
    /// Where everything is kept; made if it is not there
    #[arg(long, env = "MEUSE_DATA", default_value = data_dir::DEFAULT, value_name = "DIR")]
    pub data: PathBuf,
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "HOST:PORT", value_parser = address)]
    pub listen: SocketAddr,
    /// Listen where other machines can reach it, without TLS: keys and data travel readable
    #[arg(long, conflicts_with = "tls_cert")]
    pub insecure_listen: bool,
    /// Certificate chain (PEM) to speak TLS with, on the same port; read again when it changes. Only this machine may
    /// then come without TLS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Authority (PEM) whose certificate every client must bring that comes with TLS, beside its key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
    /// Private key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Which identity providers' tokens are taken in place of keys (TOML): issuer, audience, algorithm, keys, grants
    #[arg(long, value_name = "FILE")]
    pub oidc: Option<PathBuf>,
    /// Let requests name files below this directory as file://… (may be given several times)
    #[arg(long, value_name = "DIR")]
    pub files: Vec<PathBuf>,
    /// Tokens, prompt and answer, that a language model's conversations may have [default: as the model was made for]
    #[arg(long, value_name = "TOKENS", default_value_t = 0, hide_default_value = true)]
    pub context: usize,
    /// MiB that one model may take [default: what the machine has available]
    #[arg(long, value_name = "MIB", default_value_t = 0, hide_default_value = true)]
    pub model_memory: u64,
    /// A model that nobody asks for so long, such as 15m, gives its memory back until somebody does
    /// [default: never]
    #[arg(long, value_name = "TIME", value_parser = crate::time::span)]
    pub unload_idle: Option<jiff::SignedDuration>,
    /// ONNX Runtime's library (libonnxruntime.so, as Python's onnxruntime brings it), for models that it computes faster
    /// than what is built in, and those that only it can
    #[arg(long, env = "MEUSE_ONNXRUNTIME", value_name = "FILE")]
    pub onnxruntime: Option<PathBuf>,
    /// Whose credentials open buckets elsewhere (gs://, s3://, az://)
    #[arg(long, value_enum, default_value_t = Cloud::Environment)]
    pub cloud: Cloud,
    /// Where models may be pulled from.
    #[command(flatten)]
    pub sources: Sources,
}

/// Whose credentials open buckets elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Cloud {
    /// None: gs:// means local buckets only
    Off,
    /// Those that the environment names, such as GOOGLE_APPLICATION_CREDENTIALS
    Environment,
    /// Those, or else the machine's own
    Machine,
}

impl Serve {
    /// Serves until asked to stop.
    ///
    /// # Errors
    /// If the address is taken, the directory cannot be used, or serving fails.
    pub async fn run(&self, output: &Output) -> Result<()> {
        let tls = self.tls()?;
        if !is_local(self.listen.ip()) && tls.is_none() && !self.insecure_listen {
            return Err(refusal(self.listen));
        }
        log(self.listen, self.insecure_listen);
        if let Some(library) = &self.onnxruntime {
            control::open_onnxruntime(library).map_err(|error| {
                Failure::usage(error.to_string()).next(
                    "give the library itself, such as site-packages/onnxruntime/capi/libonnxruntime.so.1.32.0 of \
                     `pip install onnxruntime`, version 1.18 or later",
                )
            })?;
        }
        let is_first = DataDir::new(&self.data).admin_key().is_none();
        let stop = asked_to_stop()?;
        let server = Server::start(self.options(), listen(self.listen).await?, tls).await?;
        let key_path = DataDir::new(&self.data).admin_key_path();
        if output.json {
            output.line(json!({"address": server.address(), "adminKeyFile": key_path}).to_string());
        } else {
            output.line(format!("listening on {}", server.address()));
        }
        if is_first {
            output.note(format!("The first admin key is in {}.", key_path.display()));
        }
        server.until(stop).await
    }
}

impl Serve {
    fn tls(&self) -> Result<Option<api::Tls>> {
        let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) else { return Ok(None) };
        let opened = api::Tls::open(certificate, key).and_then(|tls| match &self.tls_client_ca {
            Some(authorities) => tls.for_clients_of(authorities),
            None => Ok(tls),
        });
        opened.map(Some).map_err(|error| {
            Failure::usage(error.to_string())
                .next("give --tls-cert the chain, the server's own certificate first, --tls-key its key and --tls-client-ca an authority, all PEM")
        })
    }

    fn options(&self) -> control::Options {
        let mut options = control::Options::new(&self.data);
        options.storage.file_roots.clone_from(&self.files);
        options.oidc.clone_from(&self.oidc);
        options.sources = self.sources.options();
        options.language.context_max = self.context;
        options.language.memory_max = self.model_memory.saturating_mul(1 << 20);
        options.language.idle_max =
            self.unload_idle.map_or(Duration::ZERO, jiff::SignedDuration::unsigned_abs);
        options.storage.cloud = match self.cloud {
            Cloud::Off => CloudAccess::Off,
            Cloud::Environment => CloudAccess::Environment,
            Cloud::Machine => CloudAccess::Machine,
        };
        options
    }
}

fn refusal(listen: SocketAddr) -> Failure {
    Failure::usage(format!(
        "{listen} can be reached from other machines, and no TLS certificate is given: keys and data would travel readable"
    ))
    .next(
        "give --tls-cert and --tls-key; or listen on 127.0.0.1 behind a proxy that ends TLS; or, on a network that you \
         trust, add --insecure-listen",
    )
}

/// Logs to standard error, as `MEUSE_LOG` says.
fn log(listen: SocketAddr, insecure: bool) {
    let filter = EnvFilter::try_from_env("MEUSE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colors = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colors);
    // Set already only in tests that run several commands in one process.
    let _ = subscriber.try_init();
    std::panic::set_hook(Box::new(|defect| {
        let place = defect.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, said = said(defect.payload()), "a defect was hit");
    }));
    if insecure && !is_local(listen.ip()) {
        tracing::warn!(%listen, "listening without TLS where other machines can reach it");
    }
}

/// What the code says of a defect. Words that were put together when it was hit may hold what a client sent.
fn said(payload: &(dyn std::any::Any + Send)) -> &'static str {
    payload.downcast_ref::<&'static str>().copied().unwrap_or("(not shown: it may hold what a client sent)")
}

/// Reads `HOST:PORT`; `localhost` is 127.0.0.1.
pub(crate) fn address(text: &str) -> std::result::Result<SocketAddr, String> {
    let text =
        text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    text.parse().map_err(|_| format!("`{text}` is not of the form HOST:PORT, such as 127.0.0.1:8080"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, clippy::unwrap_used)]
    use super::*;

    /// A slice in the middle of a letter says the whole text in its panic.
    #[test]
    fn a_panic_says_nothing_of_what_was_sent() {
        let sent = String::from("kestrel\u{e9}");
        let hit = std::panic::catch_unwind(|| sent[..8].len()).unwrap_err();
        assert!(hit.downcast_ref::<String>().is_some_and(|text| text.contains("kestrel")));
        assert!(!said(&*hit).contains("kestrel"));
        let literal = std::panic::catch_unwind(|| panic!("a rule of the code")).unwrap_err();
        assert_eq!(said(&*literal), "a rule of the code");
    }
}

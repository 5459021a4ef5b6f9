//! `meuse doctor`

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use clap::Args;
use serde_json::{Value, json};

use crate::client::ClientError;
use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::show::{Output, Style};

/// Free space below which a person should act, in bytes.
const SPACE_MIN: u64 = 1 << 30;

/// Check this machine, the data directory and the server, and say what to do.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

/// One thing looked at.
struct Check {
    name: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do about it.
    next: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Note,
    Bad,
}

impl Doctor {
    /// Looks at everything and says what it found.
    ///
    /// # Errors
    /// If anything must be done before Meuse works here.
    pub async fn run(&self, output: &Output) -> Result<()> {
        let data = self.connection.data_dir();
        let (server, reachable) = self.server().await;
        let mut checks = vec![program(), processor(), directory(data.path()), space(data.path()), server];
        if reachable {
            checks.push(self.key().await);
        } else {
            checks.push(port(&self.connection.url()));
        }
        let bad = checks.iter().filter(|c| c.verdict == Verdict::Bad).count();
        if output.json {
            output.value(&json!({"healthy": bad == 0, "checks": checks.iter().map(Check::to_json).collect::<Vec<_>>()}));
        } else {
            checks.iter().for_each(|check| check.print(output));
        }
        match bad {
            0 => Ok(()),
            1 => Err(Failure::new("one thing needs to be done, see above")),
            n => Err(Failure::new(format!("{n} things need to be done, see above"))),
        }
    }

    async fn server(&self) -> (Check, bool) {
        let name = "server";
        let ready = match self.connection.client() {
            Ok(client) => client.is_ready().await,
            Err(failure) => return (Check::bad(name, failure.what(), "correct --url or MEUSE_URL"), false),
        };
        let url = self.connection.url();
        match ready {
            Ok(true) => (Check::good(name, format!("ready at {url}")), true),
            Ok(false) => {
                (Check::bad(name, format!("{url} answers, but is not ready"), "look at its log"), false)
            }
            Err(ClientError::Unreachable { cause, .. }) if self.connection.url.is_some() => (
                Check::bad(
                    name,
                    format!("nobody at {url}: {cause}"),
                    "start it, or correct --url or MEUSE_URL",
                ),
                false,
            ),
            Err(_) => (Check::note(name, "not running", "start one with `meuse serve`"), false),
        }
    }

    async fn key(&self) -> Check {
        let name = "key";
        let Some(_) = self.connection.key() else {
            let path = self.connection.data_dir().admin_key_path();
            return Check::bad(
                name,
                format!("none given, and none in {}", path.display()),
                "give --key or MEUSE_API_KEY",
            );
        };
        let Ok(client) = self.connection.client() else {
            return Check::bad(name, "cannot be sent", "correct it");
        };
        match client.get::<Value>(&format!("/v1/{}/models?pageSize=1", client.parent())).await {
            Ok(_) => Check::good(name, format!("accepted for project {}", client.project())),
            Err(error) => {
                let failure = Failure::from(error);
                Check::bad(name, failure.what(), failure.advice().unwrap_or("look at the server's log"))
            }
        }
    }
}

impl Check {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Check { name, verdict: Verdict::Good, found: found.into(), next: None }
    }

    fn note(name: &'static str, found: impl Into<String>, next: &str) -> Self {
        Check { name, verdict: Verdict::Note, found: found.into(), next: Some(next.to_owned()) }
    }

    fn bad(name: &'static str, found: impl Into<String>, next: &str) -> Self {
        Check { name, verdict: Verdict::Bad, found: found.into(), next: Some(next.to_owned()) }
    }

    fn print(&self, output: &Output) {
        let mark = match self.verdict {
            Verdict::Good => output.style(Style::Good, "✓"),
            Verdict::Note => output.style(Style::Warn, "·"),
            Verdict::Bad => output.style(Style::Bad, "✗"),
        };
        output.line(format!("{mark} {:<10} {}", self.name, self.found));
        if let Some(next) = &self.next {
            output.line(format!("             → {next}"));
        }
    }

    fn to_json(&self) -> Value {
        let verdict = match self.verdict {
            Verdict::Good => "good",
            Verdict::Note => "note",
            Verdict::Bad => "bad",
        };
        json!({"check": self.name, "verdict": verdict, "found": self.found, "next": self.next})
    }
}

fn program() -> Check {
    let built = format!(
        "meuse {} for {} {}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    );
    Check::good("program", built)
}

fn processor() -> Check {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = if count == 1 { "1 core".to_owned() } else { format!("{count} cores") };
    match features() {
        [] => Check::note("processor", cores, "no vector instructions that Meuse knows: it works, slower"),
        found => Check::good("processor", format!("{cores}, {}", found.join(", "))),
    }
}

/// Vector instructions that speed up models here.
fn features() -> &'static [&'static str] {
    #[cfg(target_arch = "x86_64")]
    {
        match (
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            is_x86_feature_detected!("avx512f"),
        ) {
            (true, true) => &["AVX2", "FMA", "AVX-512"],
            (true, false) => &["AVX2", "FMA"],
            _ => &[],
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        &["NEON"]
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        &[]
    }
}

fn directory(path: &Path) -> Check {
    let name = "data";
    let shown = path.display();
    let Ok(kind) = std::fs::metadata(path) else {
        return Check::note(name, format!("{shown} is not there yet"), "`meuse serve` makes it");
    };
    if !kind.is_dir() {
        return Check::bad(
            name,
            format!("{shown} is not a directory"),
            "choose another with --data-dir or MEUSE_DATA",
        );
    }
    let probe = path.join(".doctor");
    let written = std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe));
    match written {
        Ok(()) => Check::good(name, format!("{shown} can be written")),
        Err(error) => Check::bad(
            name,
            format!("{shown} cannot be written: {error}"),
            "make it yours, or choose another",
        ),
    }
}

/// Free space where the data directory is or will be, as `df` tells it.
fn space(path: &Path) -> Check {
    let name = "disk";
    let place = path.ancestors().find(|p| p.is_dir()).unwrap_or(Path::new("."));
    let answer = Command::new("df").arg("-Pk").arg(place).output().ok();
    let text = answer.map(|a| String::from_utf8_lossy(&a.stdout).into_owned()).unwrap_or_default();
    let free = text.lines().nth(1).and_then(|l| l.split_whitespace().nth(3)?.parse::<u64>().ok());
    match free.map(|kib| kib << 10) {
        None => Check::note(name, "free space is unknown", "`df` did not tell"),
        Some(free) if free < SPACE_MIN => Check::bad(
            name,
            format!("{} MiB free", free >> 20),
            "free at least 1 GiB: a full disk stops jobs",
        ),
        Some(free) => Check::good(name, format!("{} GiB free", free >> 30)),
    }
}

/// Whether a server could listen at `url`.
fn port(url: &str) -> Check {
    let name = "port";
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    match TcpListener::bind(address) {
        Ok(_) => Check::good(name, format!("{address} is free")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Check::bad(
            name,
            format!("another program listens on {address}"),
            "stop it, or `meuse serve --listen 127.0.0.1:0`",
        ),
        Err(_) => Check::note(
            name,
            format!("{address} is not an address of this machine"),
            "nothing, if the server is elsewhere",
        ),
    }
}

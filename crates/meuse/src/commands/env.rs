//! `meuse env`

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use rsa::pkcs1::EncodeRsaPublicKey;
use rsa::pkcs8::{EncodePrivateKey, LineEnding};
use rsa::{Generate, PrivateKey};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::client::Client;
use crate::connection::Connection;
use crate::failure::{Failure, Result, on_file};
use crate::show::Output;

/// Print the environment in which programs written for a cloud come to this server.
#[derive(Debug, Args)]
pub struct Env {
    /// Which cloud.
    #[command(subcommand)]
    pub cloud: Cloud,
}

/// Which cloud.
#[derive(Debug, Subcommand)]
pub enum Cloud {
    /// Google's: programs that use Vertex AI and Cloud Storage run unchanged
    Vertex(Vertex),
}

/// Google's: programs that use Vertex AI and Cloud Storage run unchanged.
#[derive(Debug, Args)]
#[command(after_help = "eval \"$(meuse env vertex --project my-project)\"; python script.py\n\
Programs of that shell take this server for Google's APIs (googleapis.com, pkg.dev) and reach no other host through it: \
name those that they may reach with --direct.")]
pub struct Vertex {
    /// What the program may do: each role may also do what those before it may
    #[arg(long, default_value = "deployer", value_parser = ["viewer", "invoker", "deployer", "admin"])]
    pub role: String,
    /// A host, or a domain with all in it, that the program may reach itself (may be given several times)
    #[arg(long, value_name = "HOST")]
    pub direct: Vec<String>,
    /// Where the files that the variables name are kept [default: cloud in the data directory]
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Which server, which must be on this machine, and the project that the program names.
    #[command(flatten)]
    pub connection: Connection,
}

/// A service account's file, as Google's libraries read it.
#[derive(Deserialize, Serialize)]
struct AccountFile {
    r#type: String,
    project_id: String,
    private_key_id: String,
    private_key: String,
    client_email: String,
    client_id: String,
    token_uri: String,
    universe_domain: String,
}

/// What the server says of a new account.
#[derive(Deserialize)]
struct Made {
    id: String,
    email: String,
}

const KEYS: &str = "/admin/v1/keys";
const ACCOUNTS: &str = "/admin/v1/serviceAccounts";
const AUTHORITY: &str = "/admin/v1/certificateAuthority";
/// Where systems keep the authorities that everybody trusts.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

impl Env {
    /// Does it.
    ///
    /// # Errors
    /// If the server is elsewhere or refuses, or a file cannot be written.
    pub async fn run(&self, output: &Output) -> Result<()> {
        match &self.cloud {
            Cloud::Vertex(vertex) => vertex.run(output).await,
        }
    }
}

impl Vertex {
    async fn run(&self, output: &Output) -> Result<()> {
        let client = self.connection.client()?;
        check_is_here(client.url())?;
        for host in &self.direct {
            check_host(host)?;
        }
        let directory = self.directory.clone().unwrap_or_else(|| self.connection.data_dir.join("cloud"));
        let directory = std::path::absolute(&directory).map_err(on_file(&directory, "finding"))?;
        let about: Value = client.post(AUTHORITY, &json!({})).await.map_err(Failure::from)?;
        let certificate = about.get("certificate").and_then(Value::as_str);
        let certificate =
            certificate.ok_or_else(|| Failure::new("the server answered without a certificate"))?;
        std::fs::create_dir_all(&directory).map_err(on_file(&directory, "making"))?;
        let trusted = self.trusted(&directory, certificate)?;
        let account = self.account(&client, &directory).await?;
        let variables = self.variables(client.url(), &trusted, &account);
        if output.json {
            let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value.into()));
            output.value(&Value::Object(variables.collect::<Map<_, _>>()));
        } else {
            for (name, value) in &variables {
                output.line(format!("export {name}={}", quoted(value)));
            }
        }
        Ok(())
    }

    fn variables(&self, url: &str, trusted: &Path, account: &Path) -> Vec<(&'static str, String)> {
        let (trusted, account) = (trusted.display().to_string(), account.display().to_string());
        let here = ["localhost", "127.0.0.1", "::1"].into_iter();
        let direct: Vec<&str> = here.chain(self.direct.iter().map(String::as_str)).collect();
        let direct = direct.join(",");
        let mut variables = vec![
            // Some programs read the one spelling, some the other.
            ("HTTPS_PROXY", url.to_owned()),
            ("https_proxy", url.to_owned()),
            ("NO_PROXY", direct.clone()),
            ("no_proxy", direct),
            ("REQUESTS_CA_BUNDLE", trusted.clone()),
            ("SSL_CERT_FILE", trusted.clone()),
            ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", trusted),
            ("GOOGLE_APPLICATION_CREDENTIALS", account),
            // Nobody is asked whether this machine is one of Google's.
            ("NO_GCE_CHECK", "true".to_owned()),
        ];
        if self.connection.project != control::ALL_PROJECTS {
            variables.push(("GOOGLE_CLOUD_PROJECT", self.connection.project.clone()));
        }
        variables
    }

    /// The file of whom the program trusts: the local authority, and with hosts that it may reach itself, whom everybody
    /// does.
    fn trusted(&self, directory: &Path, certificate: &str) -> Result<PathBuf> {
        let path = directory.join("ca.pem");
        keep(&path, certificate)?;
        if self.direct.is_empty() {
            return Ok(path);
        }
        let system = SYSTEM_AUTHORITIES.iter().find_map(|path| std::fs::read_to_string(path).ok());
        let system = system.ok_or_else(|| {
            Failure::new(format!(
                "this machine's certificate authorities are in none of {}",
                SYSTEM_AUTHORITIES.join(", ")
            ))
            .next("leave --direct out, or install them (package ca-certificates)")
        })?;
        let path = directory.join("ca-and-system.pem");
        keep(&path, &format!("{certificate}\n{system}"))?;
        Ok(path)
    }

    /// The service account's file: the one that is there, if the server still knows the account and it may do the same.
    async fn account(&self, client: &Client, directory: &Path) -> Result<PathBuf> {
        let name = if client.project() == control::ALL_PROJECTS { "all projects" } else { client.project() };
        let path = directory.join(format!("{name}.json"));
        let token_uri = format!("{}/token", client.url());
        let found =
            std::fs::read(&path).ok().and_then(|text| serde_json::from_slice::<AccountFile>(&text).ok());
        if let Some(mut file) = found {
            let keys = client.list(KEYS, "keys", &[]).await.map_err(Failure::from)?;
            let text = |key: &Value, field: &str| key.get(field).and_then(Value::as_str).map(str::to_owned);
            let known = keys.iter().find(|key| text(key, "id").as_deref() == Some(&file.private_key_id));
            let may = known.is_some_and(|key| {
                text(key, "role").as_ref() == Some(&self.role)
                    && text(key, "project").as_deref() == Some(client.project())
            });
            if may {
                // The server may have come back at another address.
                if file.token_uri != token_uri {
                    file.token_uri = token_uri;
                    keep(&path, &written(&file)?)?;
                }
                return Ok(path);
            }
            if known.is_some() {
                // Its file is about to be replaced: nobody could use it any more.
                let old = format!("{KEYS}/{}", file.private_key_id);
                client.delete(&old).await.map_err(Failure::from)?;
            }
        }
        let file = self.new_account(client, token_uri).await?;
        keep(&path, &written(&file)?)?;
        Ok(path)
    }

    /// A new account. The private half of its key never leaves this process but for its file.
    async fn new_account(&self, client: &Client, token_uri: String) -> Result<AccountFile> {
        let failed = |e: &dyn std::error::Error| Failure::new(format!("a key could not be made: {e}"));
        let made = tokio::task::spawn_blocking(PrivateKey::try_generate).await;
        let key = made.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
        let public = key.to_public_key().to_pkcs1_der().map_err(|e| failed(&e))?;
        let body = json!({
            "project": client.project(), "role": self.role, "publicKey": STANDARD.encode(public.as_bytes()),
        });
        let account: Made = client.post(ACCOUNTS, &body).await.map_err(Failure::from)?;
        Ok(AccountFile {
            r#type: "service_account".to_owned(),
            project_id: client.project().to_owned(),
            private_key: key.to_pkcs8_pem(LineEnding::LF).map_err(|e| failed(&e))?.to_string(),
            client_email: account.email,
            client_id: account.id.clone(),
            private_key_id: account.id,
            token_uri,
            universe_domain: "googleapis.com".to_owned(),
        })
    }
}

/// The server is its own proxy for programs on its machine, and for no others.
fn check_is_here(url: &str) -> Result<()> {
    let authority = url.strip_prefix("http://").map(|rest| rest.split('/').next().unwrap_or(rest));
    let host = authority.map(|authority| authority.rsplit_once(':').map_or(authority, |(host, _)| host));
    match host {
        Some("127.0.0.1" | "localhost" | "[::1]") => Ok(()),
        _ => {
            Err(Failure::usage(format!("{url} is not this machine: only programs beside the server run so"))
                .next(
                    "run this where the server runs, or give the program `api_endpoint`, as the README says",
                ))
        }
    }
}

/// Refuses what would be more than one host in a list of such.
fn check_host(host: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if !host.is_empty() && host.chars().all(plain) {
        return Ok(());
    }
    Err(Failure::usage(format!("`{host}` is no host, such as example.com")))
}

fn written(file: &AccountFile) -> Result<String> {
    serde_json::to_string_pretty(file)
        .map_err(|e| Failure::new(format!("the service account's file could not be written: {e}")))
}

/// Leaves `content` at `path`, for its owner's eyes, unless it is there already.
fn keep(path: &Path, content: &str) -> Result<()> {
    if std::fs::read(path).is_ok_and(|found| found == content.as_bytes()) {
        return Ok(());
    }
    control::write_private(path, content.as_bytes()).map_err(|e| Failure::new(e.message))
}

/// A value as every shell reads it.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_the_shell() {
        assert_eq!(quoted("/a b/c"), "'/a b/c'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn only_this_machine_is_its_own_proxy() {
        for here in ["http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:8080", "http://127.0.0.1"] {
            assert!(check_is_here(here).is_ok(), "{here}");
        }
        for there in ["http://10.0.0.1:8080", "https://127.0.0.1:8080", "http://127.0.0.1.evil.org:80", "x"] {
            assert!(check_is_here(there).is_err(), "{there}");
        }
    }

    #[test]
    fn hosts_stand_one_by_one() {
        assert!(check_host("pypi.org").is_ok());
        for wrong in ["", "a,b", "a b", "*"] {
            assert!(check_host(wrong).is_err(), "{wrong}");
        }
    }
}

//! [`Connection`]: which server a command acts on, and as whom.

use clap::Args;

use crate::client::Client;
use crate::data_dir::{self, DataDir};
use crate::failure::Result;

/// Where a server listens unless told otherwise.
pub const DEFAULT_URL: &str = "http://127.0.0.1:8080";
/// The location in resource names; Google's client libraries accept Google's regions only.
pub const DEFAULT_LOCATION: &str = "us-central1";

/// Which server, and as whom.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub struct Connection {
    /// Address of the server [default: the one running on the data directory, else http://127.0.0.1:8080]
    #[arg(long, env = "MEUSE_URL", hide_env_values = true)]
    pub url: Option<String>,
    /// Key [default: admin.key in the data directory]
    #[arg(long, env = "MEUSE_API_KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// Data directory of a server on this machine
    #[arg(long, env = "MEUSE_DATA", default_value = data_dir::DEFAULT, value_name = "DIR")]
    pub data_dir: std::path::PathBuf,
    /// Project
    #[arg(long, env = "MEUSE_PROJECT", default_value = "default")]
    pub project: String,
    /// Location
    #[arg(long, default_value = DEFAULT_LOCATION)]
    pub location: String,
}

impl Connection {
    /// The client for this server.
    ///
    /// # Errors
    /// If the URL is not one, or the key cannot be sent as a header.
    pub fn client(&self) -> Result<Client> {
        Client::new(&self.url(), self.key().as_deref(), &self.project, &self.location)
    }

    /// The server's address: as given, as left in the data directory, or the default.
    pub fn url(&self) -> String {
        let local = || self.data_dir().address();
        self.url.clone().or_else(local).unwrap_or_else(|| DEFAULT_URL.to_owned())
    }

    /// The key: as given, or the data directory's first.
    pub fn key(&self) -> Option<String> {
        self.key.clone().or_else(|| self.data_dir().admin_key())
    }

    /// The data directory.
    pub fn data_dir(&self) -> DataDir {
        DataDir::new(&self.data_dir)
    }
}

//! [`DataDir`]: the two small files through which commands on the same machine find a server.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A server's data directory, as seen from outside the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir {
    path: PathBuf,
}

/// Where a server keeps its data unless told otherwise.
pub const DEFAULT: &str = "meuse-data";

impl DataDir {
    /// The data directory at `path`; nothing is created.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        DataDir { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The first key, which the server wrote when it first started; `None` if it cannot be read.
    pub fn admin_key(&self) -> Option<String> {
        read_line(&self.admin_key_path())
    }

    /// Where the first key lies.
    pub fn admin_key_path(&self) -> PathBuf {
        self.path.join("admin.key")
    }

    /// The address, `http://host:port`, of the server that has this directory open.
    pub fn address(&self) -> Option<String> {
        read_line(&self.address_path())
    }

    fn address_path(&self) -> PathBuf {
        self.path.join("address")
    }

    /// Leaves `address` for other commands to find. They see the old content or the new, nothing between.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_address(&self, address: &str) -> io::Result<()> {
        let temporary = self.path.join("address.new");
        fs::write(&temporary, format!("{address}\n"))?;
        fs::rename(temporary, self.address_path())
    }

    /// Takes the address away, if it is still `address`.
    pub fn remove_address(&self, address: &str) {
        if self.address().as_deref() == Some(address) {
            // If it stays, the next command finds nobody there and says so.
            let _ = fs::remove_file(self.address_path());
        }
    }
}

fn read_line(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

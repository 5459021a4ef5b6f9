//! [`FileState`]: whether a file is still the one whose content was verified.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What tells whether a file was changed, by whatever means: writing sets the time of its last change, and nothing
/// sets that back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileState {
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
    /// The inode, and its last change in seconds and nanoseconds.
    inode: (u64, i64, i64),
}

impl FileState {
    /// Those of `file` and of the files beside it: a model may lie in several.
    pub(crate) fn beside(file: &Path) -> io::Result<Vec<FileState>> {
        let directory = file.parent().unwrap_or(file);
        let mut states = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let about = entry.metadata()?;
            if about.is_file() {
                let inode = inode(&about);
                states.push(FileState {
                    path: entry.path(),
                    bytes: about.len(),
                    modified: about.modified()?,
                    inode,
                });
            }
        }
        states.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(states)
    }
}

#[cfg(unix)]
fn inode(about: &std::fs::Metadata) -> (u64, i64, i64) {
    use std::os::unix::fs::MetadataExt;
    (about.ino(), about.ctime(), about.ctime_nsec())
}

#[cfg(not(unix))]
fn inode(_: &std::fs::Metadata) -> (u64, i64, i64) {
    (0, 0, 0)
}

//! [`Hasher`]: the two checksums that Cloud Storage clients check, in one pass.

use std::fs::File;
use std::io::{self, Read};

use md5::Digest as _;

/// The checksums of an object, where computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Hashes {
    pub(crate) md5: Option<[u8; 16]>,
    pub(crate) crc32c: Option<u32>,
}

/// Takes bytes in, gives [`Hashes`] out.
pub(crate) struct Hasher {
    md5: Option<md5::Md5>,
    crc32c: crc_fast::Digest,
}

impl Hasher {
    /// CRC-32C always; MD5 on request, being twenty times slower.
    pub(crate) fn new(md5: bool) -> Self {
        let crc32c = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        Hasher { md5: md5.then(md5::Md5::new), crc32c }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.crc32c.update(bytes);
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
    }

    pub(crate) fn hashes(&self) -> Hashes {
        Hashes {
            md5: self.md5.clone().map(|md5| md5.finalize().into()),
            crc32c: u32::try_from(self.crc32c.finalize()).ok(),
        }
    }

    /// Both checksums of what is left in `file`.
    pub(crate) fn of_file(mut file: File) -> io::Result<Hashes> {
        let mut hasher = Hasher::new(true);
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hasher.hashes()),
                n => hasher.update(&buffer[..n]),
            }
        }
    }
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hasher").field("md5", &self.md5.is_some()).finish_non_exhaustive()
    }
}

/// SHA-256 in hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    crate::artifact::Digest::of(bytes).hex()
}

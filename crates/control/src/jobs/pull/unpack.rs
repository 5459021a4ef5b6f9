//! A member of an archive, to a file of its own.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use flate2::bufread::DeflateDecoder;
use formats::zip::{Archive, Packing};

use super::watched::Watched;
use crate::jobs::context::Context;
use crate::storage::failed;
use crate::{Error, Result};

/// Writes `member` of the archive at `archive` to `target`, which is replaced.
///
/// # Errors
/// `FailedPrecondition` if the archive has it not, or is damaged.
pub(super) fn unpack(context: &Context, archive: &Path, member: &str, target: &Path) -> Result<()> {
    let damaged = |why: String| Error::precondition(format!("the archive cannot be unpacked: {why}"));
    let archive = Archive::open(archive).map_err(|e| damaged(e.to_string()))?;
    let found = archive.member(member).map_err(|e| damaged(e.to_string()))?;
    let mut out = File::create(target).map_err(|e| failed("unpacking what was pulled", e))?;
    let packed = Watched::new(context, found.packed);
    // One byte beyond what it claims shows that it claims wrongly, and no more is written.
    let limit = found.size + 1;
    let copied = match found.packing {
        Packing::Stored => io::copy(&mut packed.take(limit), &mut out),
        Packing::Deflated => {
            let content = DeflateDecoder::new(io::BufReader::with_capacity(1 << 20, packed));
            io::copy(&mut content.take(limit), &mut out)
        }
    };
    context.check()?;
    match copied {
        Ok(length) if length == found.size => {
            out.sync_all().map_err(|e| failed("unpacking what was pulled", e))
        }
        Ok(_) => Err(damaged(format!("`{member}` is not as long as it claims"))),
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof) => {
            Err(damaged(format!("`{member}`: {e}")))
        }
        Err(e) => Err(failed("unpacking what was pulled", e)),
    }
}

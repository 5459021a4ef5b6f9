//! The parts of an archive: `config.json` and `model.weights.h5`.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::DeflateDecoder;

use super::{KerasError, Model, graph};
use crate::Value;
use crate::hdf5::File;
use crate::zip::{Archive, Packing, ZipError};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.weights.h5";

/// The longest configuration read, in bytes.
const CONFIG_BYTES_MAX: u64 = 16 << 20;
/// The most bytes of weights read.
const WEIGHTS_BYTES_MAX: u64 = 4 << 30;
/// Keras packs nothing, and weights hardly shrink. What grows beyond both of these is a trap.
const GROWTH_MAX: u64 = 16;
const GROWN_BYTES_FREE: u64 = 64 << 20;

/// Reads the network in `archive`.
pub(super) fn read(archive: &Archive) -> Result<Model, KerasError> {
    let config = content(archive, CONFIG, CONFIG_BYTES_MAX)?;
    let config: Value = serde_json::from_slice(&config)?;
    let weights = content(archive, WEIGHTS, WEIGHTS_BYTES_MAX)?;
    let words = |path: &str| words(archive, path);
    graph::read(&config, &File::new(&weights)?, &words)
}

/// The words that lie beside the layer at `path`.
fn words(archive: &Archive, path: &str) -> Result<Option<String>, KerasError> {
    for name in [format!("assets/{path}vocabulary.txt"), format!("assets/{path}_lookup_layer/vocabulary.txt")]
    {
        match unpacked(archive, &name, "vocabulary.txt", graph::WORDS_BYTES_MAX as u64) {
            Ok(bytes) => {
                let text = String::from_utf8(bytes.into_owned());
                return text.map(Some).map_err(|_| KerasError::Unpack("vocabulary.txt"));
            }
            Err(KerasError::Archive(ZipError::Missing(_))) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The content of a member, if it has at most `limit` bytes.
fn content<'a>(archive: &'a Archive, name: &'static str, limit: u64) -> Result<Cow<'a, [u8]>, KerasError> {
    unpacked(archive, name, name, limit)
}

/// The content of the member called `path`, `name` in messages, if it has at most `limit` bytes.
fn unpacked<'a>(
    archive: &'a Archive,
    path: &str,
    name: &'static str,
    limit: u64,
) -> Result<Cow<'a, [u8]>, KerasError> {
    let member = archive.member(path)?;
    let packed = member.packed.len() as u64;
    let limit = match member.packing {
        Packing::Stored => limit,
        Packing::Deflated => limit.min(packed.saturating_mul(GROWTH_MAX).max(GROWN_BYTES_FREE)),
    };
    if member.size > limit || packed > limit {
        return Err(KerasError::TooLarge { member: name, limit });
    }
    match member.packing {
        Packing::Stored => Ok(Cow::Borrowed(member.packed)),
        Packing::Deflated => {
            let mut bytes = Vec::new();
            let mut unpacked = DeflateDecoder::new(member.packed).take(limit + 1);
            unpacked.read_to_end(&mut bytes).map_err(|_| KerasError::Unpack(name))?;
            match bytes.len() as u64 {
                n if n > limit => Err(KerasError::TooLarge { member: name, limit }),
                n if n != member.size => Err(KerasError::Unpack(name)),
                _ => Ok(Cow::Owned(bytes)),
            }
        }
    }
}

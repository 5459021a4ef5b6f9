//! ZIP archives: where a member's bytes lie and how they are packed. Nothing is unpacked here.

use std::io;
use std::path::Path;

use crate::map::Map;

/// A ZIP archive, mapped into memory or in it already.
#[derive(Debug)]
pub struct Archive {
    bytes: Map,
}

/// A file inside an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its bytes as they lie there.
    pub packed: &'a [u8],
    /// How to get its content from them.
    pub packing: Packing,
    /// Bytes of its content, as the archive claims.
    pub size: u64,
}

/// How a member is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Stored,
    /// By DEFLATE.
    Deflated,
}

/// Why a member cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ZipError {
    /// The file cannot be read.
    #[error("the archive cannot be read")]
    Read(#[from] io::Error),
    /// It is no ZIP archive, or a damaged one.
    #[error("it is not a whole ZIP archive: {0}")]
    Damaged(&'static str),
    /// It has no such member.
    #[error("the archive has no member `{0}`")]
    Missing(String),
    /// It uses a part of the format that is not read here.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
}

const END: &[u8] = b"PK\x05\x06";
const END_BYTES: usize = 22;
const COMMENT_BYTES_MAX: usize = 0xffff;
const ENTRY: &[u8] = b"PK\x01\x02";
const ENTRY_BYTES: usize = 46;
const LOCAL: &[u8] = b"PK\x03\x04";
const LOCAL_BYTES: usize = 30;
const ENCRYPTED: u16 = 1;

impl Archive {
    /// Opens the archive at `path`, which nobody may change meanwhile.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn open(path: &Path) -> Result<Archive, ZipError> {
        Ok(Archive { bytes: Map::open(path)? })
    }

    /// The archive that `bytes` are.
    pub fn from_bytes(bytes: Vec<u8>) -> Archive {
        Archive { bytes: Map::Memory(bytes) }
    }

    /// The member called `name`.
    ///
    /// # Errors
    /// If there is none, or the archive is damaged or packed in a way that is not read here.
    pub fn member(&self, name: &str) -> Result<Member<'_>, ZipError> {
        member(&self.bytes, name)
    }
}

fn member<'a>(bytes: &'a [u8], name: &str) -> Result<Member<'a>, ZipError> {
    let mut rest = directory(bytes)?;
    while !rest.is_empty() {
        let head = fixed(rest, ENTRY, ENTRY_BYTES).ok_or(ZipError::Damaged("its directory is cut off"))?;
        let (name_bytes, extra) = (usize::from(u16_at(head, 28)), usize::from(u16_at(head, 30)));
        let end = ENTRY_BYTES + name_bytes + extra + usize::from(u16_at(head, 32));
        let called = rest.get(ENTRY_BYTES..ENTRY_BYTES + name_bytes);
        if called == Some(name.as_bytes()) {
            return open(bytes, head);
        }
        rest = rest.get(end..).ok_or(ZipError::Damaged("its directory is cut off"))?;
    }
    Err(ZipError::Missing(name.to_owned()))
}

/// The central directory: the archive's list of members.
fn directory(bytes: &[u8]) -> Result<&[u8], ZipError> {
    let none = ZipError::Damaged("it has no directory at its end");
    let Some(last) = bytes.len().checked_sub(END_BYTES) else { return Err(none) };
    let first = last.saturating_sub(COMMENT_BYTES_MAX);
    // The last place where the end's mark stands and its comment reaches exactly to the end of the file.
    let is_end = |at: &usize| {
        fixed(&bytes[*at..], END, END_BYTES)
            .is_some_and(|end| *at + END_BYTES + usize::from(u16_at(end, 20)) == bytes.len())
    };
    let Some(at) = (first..=last).rev().find(is_end) else { return Err(none) };
    let end = &bytes[at..];
    let (size, start) = (u32_at(end, 12), u32_at(end, 16));
    if size == u32::MAX || start == u32::MAX || u16_at(end, 10) == u16::MAX {
        return Err(ZipError::Unsupported("a ZIP64 archive"));
    }
    part(bytes, start as usize, size as usize).ok_or(ZipError::Damaged("its directory lies beyond its end"))
}

/// The member that the directory's entry `head` describes.
fn open<'a>(bytes: &'a [u8], head: &[u8]) -> Result<Member<'a>, ZipError> {
    if u16_at(head, 8) & ENCRYPTED != 0 {
        return Err(ZipError::Unsupported("an encrypted member"));
    }
    let packing = match u16_at(head, 10) {
        0 => Packing::Stored,
        8 => Packing::Deflated,
        _ => return Err(ZipError::Unsupported("a member packed by anything but DEFLATE")),
    };
    let (packed, size, start) = (u32_at(head, 20), u32_at(head, 24), u32_at(head, 42));
    if [packed, size, start].contains(&u32::MAX) {
        return Err(ZipError::Unsupported("a ZIP64 member"));
    }
    let beyond = || ZipError::Damaged("a member lies beyond its end");
    let local = bytes.get(start as usize..).and_then(|rest| fixed(rest, LOCAL, LOCAL_BYTES));
    let local = local.ok_or_else(beyond)?;
    let lead = LOCAL_BYTES + usize::from(u16_at(local, 26)) + usize::from(u16_at(local, 28));
    let packed = part(bytes, start as usize + lead, packed as usize).ok_or_else(beyond)?;
    Ok(Member { packed, packing, size: size.into() })
}

fn part(bytes: &[u8], start: usize, length: usize) -> Option<&[u8]> {
    bytes.get(start..start.checked_add(length)?)
}

/// The first `length` bytes, if there are so many and they begin with `mark`.
fn fixed<'a>(bytes: &'a [u8], mark: &[u8], length: usize) -> Option<&'a [u8]> {
    bytes.get(..length).filter(|head| head.starts_with(mark))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let byte = |i: usize| bytes.get(i).copied().unwrap_or(0);
    u16::from_le_bytes([byte(at), byte(at + 1)])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    /// An archive of one stored member, as `zip -0` writes it, with a comment.
    fn archive(name: &str, content: &[u8], method: u16, comment: &str) -> Vec<u8> {
        let (n, size) = (name.len() as u16, content.len() as u32);
        let mut bytes = LOCAL.to_vec();
        bytes.extend([20, 0, 0, 0]);
        bytes.extend(method.to_le_bytes());
        bytes.extend([0; 8]);
        bytes.extend([size.to_le_bytes(), size.to_le_bytes()].concat());
        bytes.extend([n.to_le_bytes(), 0u16.to_le_bytes()].concat());
        bytes.extend(name.as_bytes());
        bytes.extend(content);
        let start = bytes.len() as u32;
        bytes.extend(ENTRY);
        bytes.extend([20, 0, 20, 0, 0, 0]);
        bytes.extend(method.to_le_bytes());
        bytes.extend([0; 8]);
        bytes.extend([size.to_le_bytes(), size.to_le_bytes()].concat());
        bytes.extend(n.to_le_bytes());
        bytes.extend([0; 12]);
        bytes.extend(0u32.to_le_bytes());
        bytes.extend(name.as_bytes());
        let length = bytes.len() as u32 - start;
        bytes.extend(END);
        bytes.extend([0, 0, 0, 0, 1, 0, 1, 0]);
        bytes.extend([length.to_le_bytes(), start.to_le_bytes()].concat());
        bytes.extend((comment.len() as u16).to_le_bytes());
        bytes.extend(comment.as_bytes());
        bytes
    }

    #[test]
    fn a_member_is_found_by_its_name() {
        let bytes = archive("a/b.gguf", b"content", 0, "a comment");
        let found = member(&bytes, "a/b.gguf").unwrap();
        assert_eq!(found, Member { packed: b"content", packing: Packing::Stored, size: 7 });
        assert!(matches!(member(&bytes, "b.gguf"), Err(ZipError::Missing(_))));
        let other = archive("a", b"", 12, "");
        assert!(matches!(member(&other, "a"), Err(ZipError::Unsupported(_))));
    }

    #[test]
    fn whatever_is_cut_off_or_changed_is_refused_or_read_and_never_more() {
        let bytes = archive("name", b"some content", 8, "");
        for length in 0..bytes.len() {
            assert!(member(&bytes[..length], "name").is_err(), "{length}");
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                if let Ok(found) = member(&changed, "name") {
                    assert!(found.packed.len() <= changed.len());
                }
            }
        }
    }
}

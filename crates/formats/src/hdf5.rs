//! HDF5 files, as far as `h5py` writes them for Keras: groups in groups, and whole arrays of numbers in them.
//!
//! Both generations of groups are read: symbol tables, and links that lie in the object's header or, where they are
//! many, in a heap. Arrays that are cut into chunks or packed are refused; Keras writes none.

mod bytes;
mod dense;
mod header;
mod symbols;

use bytes::Bytes;
use header::{Header, Layout, Space};

pub use header::Element;

/// An HDF5 file in memory.
#[derive(Debug, Clone, Copy)]
pub struct File<'a> {
    bytes: Bytes<'a>,
    root: u64,
}

/// A group: names, and where what they stand for lies.
#[derive(Debug)]
pub struct Group<'a> {
    bytes: Bytes<'a>,
    members: Vec<(String, u64)>,
}

/// An array of numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset<'a> {
    shape: Vec<usize>,
    element: Element,
    data: &'a [u8],
}

/// Why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Hdf5Error {
    /// It is no HDF5 file, or a damaged one.
    #[error("it is not a whole HDF5 file: {0}")]
    Damaged(&'static str),
    /// It uses a part of the format that is not read here.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
}

/// The most members of one group.
const MEMBERS_MAX: usize = 16_384;
/// The longest name of a member, in bytes.
const NAME_BYTES_MAX: usize = 1024;
/// The most dimensions of an array.
const DIMENSIONS_MAX: usize = 32;

const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";

impl<'a> File<'a> {
    /// The file that `bytes` are.
    ///
    /// # Errors
    /// If they begin as no HDF5 file does.
    pub fn new(bytes: &'a [u8]) -> Result<File<'a>, Hdf5Error> {
        let bytes = Bytes(bytes);
        if bytes.part(0, SIGNATURE.len()) != Ok(SIGNATURE) {
            return Err(Hdf5Error::Damaged("it does not begin as one"));
        }
        // Of the two sizes behind the version, that of an address and that of a length.
        let (sizes, root) = match bytes.u8(8)? {
            0 => (13, 64),
            1 => (13, 68),
            2 | 3 => (9, 36),
            _ => return Err(Hdf5Error::Unsupported("this version of HDF5 files")),
        };
        if bytes.part(sizes, 2)? != [8, 8] {
            return Err(Hdf5Error::Unsupported("an address of other than 8 bytes"));
        }
        Ok(File { bytes, root: bytes.u64(root)? })
    }

    /// Its length.
    pub fn byte_count(&self) -> usize {
        self.bytes.0.len()
    }

    /// The group that all others are in.
    ///
    /// # Errors
    /// If it is damaged or written in a way that is not read here.
    pub fn root(&self) -> Result<Group<'a>, Hdf5Error> {
        Group::at(self.bytes, self.root)
    }
}

impl<'a> Group<'a> {
    fn at(bytes: Bytes<'a>, address: u64) -> Result<Group<'a>, Hdf5Error> {
        let header = Header::at(bytes, address)?;
        let mut members = header.links;
        if let Some(table) = header.symbols {
            symbols::read(bytes, table, &mut members)?;
        }
        if let Some(links) = header.dense {
            dense::read(bytes, links, &mut members)?;
        }
        Ok(Group { bytes, members })
    }

    /// The names of its members, in no particular order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|(name, _)| name.as_str())
    }

    /// The group called `name` in this one, if there is one.
    ///
    /// # Errors
    /// If it is damaged or written in a way that is not read here.
    pub fn group(&self, name: &str) -> Result<Option<Group<'a>>, Hdf5Error> {
        self.find(name).map(|address| Group::at(self.bytes, address)).transpose()
    }

    /// The array called `name` in this group, if there is one.
    ///
    /// # Errors
    /// If it is no array, or a damaged one, or written in a way that is not read here.
    pub fn dataset(&self, name: &str) -> Result<Option<Dataset<'a>>, Hdf5Error> {
        self.find(name).map(|address| Dataset::at(self.bytes, address)).transpose()
    }

    fn find(&self, name: &str) -> Option<u64> {
        self.members.iter().find(|(n, _)| n == name).map(|(_, address)| *address)
    }
}

impl<'a> Dataset<'a> {
    fn at(bytes: Bytes<'a>, address: u64) -> Result<Dataset<'a>, Hdf5Error> {
        let header = Header::at(bytes, address)?;
        let (Some(Space(shape)), Some(element), Some(layout)) = (header.space, header.element, header.layout)
        else {
            return Err(Hdf5Error::Damaged("something is no array where one should be"));
        };
        let size = shape.iter().try_fold(element.bytes(), |n, d| n.checked_mul(*d));
        let size = size.ok_or(Hdf5Error::Damaged("an array is larger than any memory"))?;
        let data = match layout {
            Layout::Inside(data) => data.get(..size),
            Layout::At { .. } if size == 0 => Some(&[][..]),
            Layout::At { address, bytes: there } if there >= size as u64 => bytes.part(address, size).ok(),
            Layout::At { .. } => None,
        };
        let data = data.ok_or(Hdf5Error::Damaged("an array lies beyond its end"))?;
        Ok(Dataset { shape, element, data })
    }

    /// Its dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Bytes that it takes in the file.
    pub fn byte_count(&self) -> usize {
        self.data.len()
    }

    /// Its elements as float32, the last dimension running first; `None` if they are integers.
    pub fn floats(&self) -> Option<Vec<f32>> {
        self.element.floats(self.data)
    }
}

#[cfg(test)]
mod tests;

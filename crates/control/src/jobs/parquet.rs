//! [`Object`]: an object that a Parquet reader reads in any place.

use std::ops::Range;

use formats::rows::parquet::{ParquetFailure, Source};
use tokio::runtime::Handle;

use crate::storage::{Blocks, ObjectUri};
use crate::{Error, Result};

/// One version of an object. Reading blocks the thread.
#[derive(Debug)]
pub(super) struct Object {
    blocks: Blocks,
    runtime: Handle,
}

impl Object {
    /// The object that `blocks` are of, whatever has been read of them.
    pub(super) fn new(blocks: &Blocks, runtime: Handle) -> Self {
        Object { blocks: blocks.part(0..blocks.info().size), runtime }
    }

    /// Its address.
    pub(super) fn uri(&self) -> &ObjectUri {
        self.blocks.uri()
    }
}

impl Source for Object {
    type Error = Error;

    fn size(&self) -> u64 {
        self.blocks.info().size
    }

    fn read(&mut self, range: Range<u64>) -> Result<Vec<u8>> {
        let length = range.end.saturating_sub(range.start);
        self.runtime.block_on(self.blocks.part(range).collect(length))
    }
}

/// What is told of the object `uri` that cannot be read as rows.
pub(super) fn error(uri: &str, failure: ParquetFailure<Error>) -> Error {
    match failure {
        ParquetFailure::Source(error) => error,
        ParquetFailure::File(error) => Error::invalid(format!("{uri}: {error}")),
    }
}

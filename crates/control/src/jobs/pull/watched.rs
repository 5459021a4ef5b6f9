//! [`Watched`]: bytes that are read until the job is to stop.

use std::io::{self, Read};

use crate::jobs::context::Context;

/// Bytes that are read until the job is to stop.
pub(super) struct Watched<'a, R> {
    context: &'a Context,
    inner: R,
}

impl<'a, R> Watched<'a, R> {
    /// `inner` as long as the job of `context` goes on.
    pub(super) fn new(context: &'a Context, inner: R) -> Self {
        Watched { context, inner }
    }
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.context.check().is_err() {
            return Err(io::Error::other("the job is to stop"));
        }
        self.inner.read(buffer)
    }
}

//! [`RowSource`]: where training rows come from.

use formats::rows::RowBlock;

/// Why rows could not be read.
pub type RowSourceError = Box<dyn std::error::Error + Send + Sync>;

/// Gives the rows of a training, once, in order. All blocks have the columns of the first.
pub trait RowSource {
    /// The next rows; `None` after the last.
    ///
    /// # Errors
    /// If reading fails; the training then ends with this error.
    fn next(&mut self) -> Result<Option<RowBlock>, RowSourceError>;
}

/// Rows that are already in memory.
#[derive(Debug)]
pub struct Blocks(std::vec::IntoIter<RowBlock>);

impl Blocks {
    /// A source of these blocks.
    pub fn new(blocks: Vec<RowBlock>) -> Self {
        Blocks(blocks.into_iter())
    }
}

impl RowSource for Blocks {
    fn next(&mut self) -> Result<Option<RowBlock>, RowSourceError> {
        Ok(self.0.next())
    }
}

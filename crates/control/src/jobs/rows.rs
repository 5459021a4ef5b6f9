//! [`RowReader`]: the rows of several objects, one after the other, on a thread that may block.

use std::sync::Arc;

use bytes::Bytes;
use formats::Value;
use formats::rows::parquet::ParquetReader;
use formats::rows::{CsvDecoder, JsonlDecoder, Limits, Position, RowBlock, RowFault};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::folder::Folder;
use super::parquet::{self, Object};
use crate::artifact::Digest;
use crate::storage::{Blocks, ObjectUri, Storage};
use crate::{Error, ErrorCode, InputFormat, Result};

/// Rows decoded at a time.
const CHUNK_ROWS: usize = 2048;

/// Blocks read ahead of the decoder.
const READ_AHEAD: usize = 2;

/// Objects that one job reads at most.
const INPUTS_MAX: usize = 10_000;

/// An object to read, or a folder of images, and the version of it that was found when the job began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct InputObject {
    pub(crate) uri: String,
    etag: String,
    size: u64,
}

/// Some rows of one input.
pub(crate) struct Chunk {
    /// Which input.
    pub(crate) input: usize,
    pub(crate) rows: Rows,
    /// Rows between these that could not be decoded.
    pub(crate) faults: Vec<RowFault>,
    /// Where the input goes on after this chunk.
    pub(crate) after: Position,
}

/// One row as it is written.
pub(crate) struct Line {
    /// Which input.
    pub(crate) input: usize,
    /// Its number there.
    pub(crate) row: u64,
    /// Its bytes, or why it cannot be read.
    pub(crate) text: std::result::Result<Bytes, String>,
    /// Where the input goes on after it.
    pub(crate) after: Position,
}

/// Decoded rows.
pub(crate) enum Rows {
    /// Of CSV or Parquet.
    Table(RowBlock),
    /// Of JSON Lines, or of a folder: the row's number and its value.
    Values(Vec<(u64, Value)>),
}

impl Rows {
    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        match self {
            Rows::Table(block) => block.rows() as u64,
            Rows::Values(values) => values.len() as u64,
        }
    }
}

/// Where to begin: an input, a place in it and, for CSV, its header.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) input: usize,
    pub(crate) position: Position,
    pub(crate) names: Option<Vec<String>>,
}

/// Reads the rows of `inputs` in order. Memory: a few blocks of the object and one chunk.
pub(crate) struct RowReader {
    storage: Storage,
    runtime: Handle,
    inputs: Arc<[InputObject]>,
    format: InputFormat,
    next: Place,
    open: Option<OpenInput>,
    hasher: Option<Sha256>,
    chunk_rows: usize,
}

struct OpenInput {
    decoder: Decoder,
    blocks: mpsc::Receiver<Result<Bytes>>,
    /// Bytes that have not come yet.
    missing: u64,
    ended: bool,
}

enum Decoder {
    Csv(CsvDecoder),
    Jsonl(JsonlDecoder),
    Folder(Folder),
    Parquet(Box<ParquetReader<Object>>),
}

/// The objects that `uris` name. `gs://bucket/dir/*.csv` names all that match, by name; `gs://bucket/dir/` the images below.
pub(crate) async fn resolve(storage: &Storage, uris: &[String]) -> Result<Vec<InputObject>> {
    let mut inputs = Vec::new();
    for uri in uris {
        match uri.split_once('*') {
            None if Folder::is(uri) => {
                let Folder { etag, .. } = Folder::list(storage, uri).await?;
                inputs.push(InputObject { uri: uri.clone(), etag, size: 0 });
            }
            None => {
                let info = storage.head(&ObjectUri::parse(uri)?).await?;
                inputs.push(InputObject { uri: uri.clone(), etag: info.etag, size: info.size });
            }
            Some((before, after)) => inputs.extend(matching(storage, uri, before, after).await?),
        }
        if inputs.len() > INPUTS_MAX {
            return Err(Error::invalid(format!("a job reads at most {INPUTS_MAX} objects")));
        }
    }
    Ok(inputs)
}

async fn matching(storage: &Storage, uri: &str, before: &str, after: &str) -> Result<Vec<InputObject>> {
    if after.contains('*') {
        return Err(Error::invalid(format!("`{uri}`: one `*` is understood, not several")));
    }
    let prefix = ObjectUri::parse_prefix(before)?;
    let mut found = Vec::new();
    for object in storage.list(&prefix).await? {
        let middle = object.name.strip_prefix(prefix.name()).and_then(|rest| rest.strip_suffix(after));
        if middle.is_some_and(|middle| !middle.contains('/')) {
            let uri = prefix.sibling(&object.name)?.to_string();
            found.push(InputObject { uri, etag: object.etag, size: object.size });
        }
    }
    if found.is_empty() {
        return Err(Error::not_found(format!("an object that matches `{uri}`")));
    }
    Ok(found)
}

impl RowReader {
    /// A reader that begins at `place`. `runtime` does the reading proper.
    pub(crate) fn new(
        storage: Storage,
        runtime: Handle,
        inputs: Arc<[InputObject]>,
        format: InputFormat,
        place: Place,
    ) -> Self {
        RowReader {
            storage,
            runtime,
            inputs,
            format,
            next: place,
            open: None,
            hasher: None,
            chunk_rows: CHUNK_ROWS,
        }
    }

    /// The same reader, which takes the SHA-256 of all bytes read on the way.
    pub(crate) fn hashing(mut self) -> Self {
        self.hasher = Some(Sha256::new());
        self
    }

    /// The same reader, which takes at most `rows` rows at a time.
    pub(crate) fn by(mut self, rows: usize) -> Self {
        self.chunk_rows = rows.min(CHUNK_ROWS);
        self
    }

    /// The digest of all bytes read, for a hashing reader that has come to the end.
    pub(crate) fn digest(&self) -> Option<Digest> {
        self.hasher.clone().map(|hasher| Digest::from_bytes(hasher.finalize().into()))
    }

    /// The next rows; `None` after the last input.
    ///
    /// # Errors
    /// `InvalidArgument` for an input that has no usable header, naming it; `Aborted` for one that has
    /// changed since the job began; and what [`Storage::read`] fails with.
    pub(crate) fn next(&mut self) -> Result<Option<Chunk>> {
        let rows = self.chunk_rows;
        self.advance(|decoder, input, uri| decoder.take(rows, input, uri))
    }

    /// The next row of JSON Lines as it is written; `None` after the last input.
    ///
    /// # Errors
    /// As [`RowReader::next`].
    pub(crate) fn next_line(&mut self) -> Result<Option<Line>> {
        self.advance(|decoder, input, _| decoder.take_line(input))
    }

    /// What `take` takes next, reading on as far as it needs.
    fn advance<T>(
        &mut self,
        mut take: impl FnMut(&mut Decoder, usize, &str) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        loop {
            let mut open = match self.open.take() {
                Some(open) => open,
                None if self.next.input >= self.inputs.len() => return Ok(None),
                None => self.open_input()?,
            };
            let input = self.next.input;
            let uri = self.inputs.get(input).map_or("", |input| input.uri.as_str());
            if let Some(taken) = take(&mut open.decoder, input, uri)? {
                self.open = Some(open);
                return Ok(Some(taken));
            }
            if open.ended {
                self.next = Place { input: input + 1, ..Place::default() };
                continue;
            }
            match open.blocks.blocking_recv() {
                Some(block) => open.push(&block?, &mut self.hasher),
                None if open.missing == 0 => open.finish(),
                None => {
                    return Err(Error::new(
                        ErrorCode::Internal,
                        format!("{uri} could not be read to its end"),
                    ));
                }
            }
            self.open = Some(open);
        }
    }

    fn open_input(&mut self) -> Result<OpenInput> {
        let Some(input) = self.inputs.get(self.next.input) else {
            return Err(Error::new(ErrorCode::Internal, "the job has lost its place"));
        };
        if Folder::is(&input.uri) {
            return self.open_folder(input);
        }
        let uri = ObjectUri::parse(&input.uri)?;
        let mut blocks = self.runtime.block_on(self.storage.read(&uri, self.next.position.offset, None))?;
        if blocks.info().etag != input.etag || blocks.info().size != input.size {
            return Err(changed(&input.uri));
        }
        let (limits, position) = (Limits::default(), self.next.position);
        let decoder = match (self.format, &self.next.names) {
            (InputFormat::Parquet, _) => return self.open_parquet(blocks),
            (InputFormat::Jsonl, _) => Decoder::Jsonl(JsonlDecoder::resume_at(limits, position)),
            (InputFormat::Csv, Some(names)) => {
                Decoder::Csv(CsvDecoder::resume_at(limits, names.clone(), position))
            }
            (InputFormat::Csv, None) => Decoder::Csv(CsvDecoder::new(limits)),
        };
        let missing = blocks.remaining();
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        self.runtime.spawn(async move {
            while let Some(block) = blocks.next().await.transpose() {
                let failed = block.is_err();
                if sender.send(block).await.is_err() || failed {
                    return;
                }
            }
        });
        Ok(OpenInput { decoder, blocks: receiver, missing, ended: false })
    }

    /// Reads the footer of a Parquet file, which is then read in no order; what a hash is taken of has one.
    fn open_parquet(&mut self, mut blocks: Blocks) -> Result<OpenInput> {
        let object = Object::new(&blocks, self.runtime.clone());
        if let Some(hasher) = &mut self.hasher {
            while let Some(block) = self.runtime.block_on(blocks.next())? {
                hasher.update(&block);
            }
        }
        let uri = object.uri().to_string();
        let reader = ParquetReader::resume_at(object, Limits::default(), self.next.position)
            .map_err(|failure| parquet::error(&uri, failure))?;
        Ok(OpenInput::without_blocks(Decoder::Parquet(Box::new(reader))))
    }

    /// Lists a folder, whose listing is all that is read of it here.
    fn open_folder(&self, input: &InputObject) -> Result<OpenInput> {
        let folder = self.runtime.block_on(Folder::list(&self.storage, &input.uri))?;
        if folder.etag != input.etag {
            return Err(changed(&input.uri));
        }
        Ok(OpenInput::without_blocks(Decoder::Folder(folder.resume_at(self.next.position))))
    }
}

fn changed(uri: &str) -> Error {
    let message = format!("{uri} has changed since the job began; leave inputs alone until it has ended");
    Error::new(ErrorCode::Aborted, message)
}

impl OpenInput {
    /// An input whose decoder needs none of its bytes pushed.
    fn without_blocks(decoder: Decoder) -> Self {
        let (_, blocks) = mpsc::channel(1);
        OpenInput { decoder, blocks, missing: 0, ended: true }
    }

    fn push(&mut self, block: &Bytes, hasher: &mut Option<Sha256>) {
        self.missing = self.missing.saturating_sub(block.len() as u64);
        if let Some(hasher) = hasher {
            hasher.update(block);
        }
        match &mut self.decoder {
            Decoder::Csv(decoder) => decoder.push(block),
            Decoder::Jsonl(decoder) => decoder.push(block),
            Decoder::Folder(_) | Decoder::Parquet(_) => {}
        }
    }

    fn finish(&mut self) {
        self.ended = true;
        match &mut self.decoder {
            Decoder::Csv(decoder) => decoder.finish(),
            Decoder::Jsonl(decoder) => decoder.finish(),
            Decoder::Folder(_) | Decoder::Parquet(_) => {}
        }
    }
}

impl Decoder {
    fn take_line(&mut self, input: usize) -> Result<Option<Line>> {
        let Decoder::Jsonl(decoder) = self else {
            return Err(Error::invalid("requests to a language model are read from JSONL only"));
        };
        let Some((row, text)) = decoder.take_line() else { return Ok(None) };
        let text = text.map(Bytes::copy_from_slice);
        Ok(Some(Line { input, row, text, after: decoder.position() }))
    }

    fn take(&mut self, rows: usize, input: usize, uri: &str) -> Result<Option<Chunk>> {
        let (taken, faults, after) = match self {
            Decoder::Csv(decoder) => {
                let block = decoder.take(rows).map_err(|e| Error::invalid(format!("{uri}: {e}")))?;
                (block.map(Rows::Table), decoder.take_faults(), decoder.position())
            }
            Decoder::Jsonl(decoder) => {
                let values = decoder.take(rows);
                (values.map(Rows::Values), decoder.take_faults(), decoder.position())
            }
            Decoder::Parquet(reader) => {
                let block = reader.take(rows).map_err(|failure| parquet::error(uri, failure))?;
                (block.map(Rows::Table), reader.take_faults(), reader.position())
            }
            Decoder::Folder(folder) => {
                let values = folder.take(rows);
                (values.map(Rows::Values), Vec::new(), folder.position())
            }
        };
        Ok(taken.map(|rows| Chunk { input, rows, faults, after }))
    }
}

//! A model in several files: `NAME-00001-of-00003.gguf` and those beside it.

use std::path::{Path, PathBuf};

use super::error::{Error, Fault};
use super::header::Header;
use crate::map::Map;

const COUNT_KEY: &str = "split.count";
const NUMBER_KEY: &str = "split.no";
const TENSORS_KEY: &str = "split.tensors.count";
const SHARDS_MAX: u64 = 1024;

/// How many files the model has, and which this is, from 0.
struct Part {
    number: u64,
    count: u64,
}

impl Part {
    /// The sharding as the file's metadata has it; a file without is the only one. The keys are read by
    /// [`Header::parse`] beforehand.
    fn of(header: &Header, bytes: &[u8]) -> Result<Part, Fault> {
        let metadata = header.metadata.view(bytes);
        let get = |key: &'static str| metadata.u64(key).map_err(|_| Fault::Split(key));
        let count = get(COUNT_KEY)?.unwrap_or(1).max(1);
        let number = get(NUMBER_KEY)?.unwrap_or(0);
        if count > SHARDS_MAX || number >= count {
            return Err(Fault::Split(COUNT_KEY));
        }
        Ok(Part { number, count })
    }
}

/// How many files the model in these bytes has.
pub(super) fn count(header: &Header, bytes: &[u8]) -> Result<u64, Fault> {
    Part::of(header, bytes).map(|part| part.count)
}

/// Maps and validates the file and all that belong to it, in order.
pub(super) fn open(path: &Path) -> Result<(Vec<Map>, Vec<Header>), Error> {
    let (map, header) = open_one(path)?;
    let invalid = |fault| Error::invalid(&Error::file_name(path), fault);
    let Part { number, count } = Part::of(&header, &map).map_err(invalid)?;
    if number != 0 {
        return Err(invalid(Fault::NotFirst { part: number + 1, count }));
    }
    let claimed =
        header.metadata.view(&map).u64(TENSORS_KEY).map_err(|_| invalid(Fault::Split(TENSORS_KEY)))?;
    let mut maps = vec![map];
    let mut headers = vec![header];
    for number in 1..count {
        let sibling = sibling(path, number, count).ok_or_else(|| invalid(Fault::ShardName { count }))?;
        let (map, header) = open_one(&sibling)?;
        let invalid = |fault| Error::invalid(&Error::file_name(&sibling), fault);
        let part = Part::of(&header, &map).map_err(invalid)?;
        if (part.number, part.count) != (number, count) {
            return Err(invalid(Fault::WrongShard { part: number + 1, count }));
        }
        maps.push(map);
        headers.push(header);
    }
    let found = headers.iter().map(|header| header.tensors.len() as u64).sum();
    match claimed {
        Some(claimed) if count > 1 && claimed != found => {
            Err(invalid(Fault::ShardTensors { found, claimed }))
        }
        _ => Ok((maps, headers)),
    }
}

fn open_one(path: &Path) -> Result<(Map, Header), Error> {
    let file = Error::file_name(path);
    let map = Map::open(path).map_err(|source| Error::Read { file: file.clone(), source })?;
    let header = Header::parse(&map).map_err(|fault| Error::invalid(&file, fault))?;
    Ok((map, header))
}

/// The path of another part, told from the first's.
fn sibling(first: &Path, number: u64, count: u64) -> Option<PathBuf> {
    let name = first.file_name()?.to_str()?;
    let stem = name.strip_suffix(&format!("-00001-of-{count:05}.gguf"))?;
    Some(first.with_file_name(format!("{stem}-{:05}-of-{count:05}.gguf", number + 1)))
}

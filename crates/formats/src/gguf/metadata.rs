//! What a file says about its model: keys with values.

use std::collections::HashMap;
use std::ops::Range;

use super::cursor::Cursor;
use super::error::{Error, Fault};

const KEYS_MAX: u64 = 1 << 16;
const KEY_BYTES_MAX: u64 = 65_535;
/// A key of one byte, a type, a value of one byte.
const PAIR_BYTES_MIN: u64 = 8 + 1 + 4 + 1;
/// Far more than the largest vocabulary.
const ARRAY_MAX: u64 = 1 << 24;
/// Chat templates are the longest strings that there are.
const STRING_BYTES_MAX: u64 = 64 << 20;

/// An index of the metadata of one file; [`Index::view`] joins it with the bytes.
#[derive(Debug, Default)]
pub(super) struct Index {
    values: HashMap<Box<str>, Entry>,
}

/// A validated value: its kind and where it lies in the file.
#[derive(Debug, Clone)]
struct Entry {
    kind: Kind,
    /// Elements of an array.
    elements: Option<usize>,
    /// The value's bytes: of a string without its length, of an array without type and count.
    range: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    U64,
    I64,
    F64,
}

impl Kind {
    fn from_number(number: u32) -> Option<Kind> {
        Some(match number {
            0 => Kind::U8,
            1 => Kind::I8,
            2 => Kind::U16,
            3 => Kind::I16,
            4 => Kind::U32,
            5 => Kind::I32,
            6 => Kind::F32,
            7 => Kind::Bool,
            8 => Kind::String,
            10 => Kind::U64,
            11 => Kind::I64,
            12 => Kind::F64,
            _ => return None,
        })
    }

    /// Bytes of a value, of a string those of its length.
    fn bytes(self) -> usize {
        match self {
            Kind::U8 | Kind::I8 | Kind::Bool => 1,
            Kind::U16 | Kind::I16 => 2,
            Kind::U32 | Kind::I32 | Kind::F32 => 4,
            Kind::String | Kind::U64 | Kind::I64 | Kind::F64 => 8,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::F32 | Kind::F64 => "a number with a fraction",
            Kind::Bool => "true or false",
            Kind::String => "a string",
            _ => "a whole number",
        }
    }
}

const ARRAY_NUMBER: u32 = 9;

impl Index {
    /// Reads and validates `count` keys with their values.
    pub(super) fn read(cursor: &mut Cursor<'_>, count: u64) -> Result<Index, Fault> {
        let count = cursor.check_count(count, PAIR_BYTES_MIN, KEYS_MAX, || "metadata values".to_owned())?;
        let mut values = HashMap::with_capacity(count);
        for _ in 0..count {
            let key = cursor.name("a metadata key", KEY_BYTES_MAX)?;
            let entry = read_entry(cursor, key)?;
            if values.insert(key.into(), entry).is_some() {
                return Err(Fault::Duplicate { what: "metadata key", name: key.to_owned() });
            }
        }
        Ok(Index { values })
    }

    pub(super) fn view<'a>(&'a self, bytes: &'a [u8]) -> Metadata<'a> {
        Metadata { index: self, bytes }
    }
}

fn read_entry(cursor: &mut Cursor<'_>, key: &str) -> Result<Entry, Fault> {
    let what = || format!("metadata {key:?}");
    let number = cursor.u32(what)?;
    if number != ARRAY_NUMBER {
        let kind =
            Kind::from_number(number).ok_or_else(|| Fault::ValueType { key: key.to_owned(), number })?;
        let range = read_value(cursor, kind, key)?;
        return Ok(Entry { kind, elements: None, range });
    }
    let number = cursor.u32(what)?;
    if number == ARRAY_NUMBER {
        return Err(Fault::Nested { key: key.to_owned() });
    }
    let kind = Kind::from_number(number).ok_or_else(|| Fault::ValueType { key: key.to_owned(), number })?;
    let count = cursor.u64(what)?;
    let count = cursor
        .check_count(count, kind.bytes() as u64, ARRAY_MAX, || format!("elements of metadata {key:?}"))?;
    let start = cursor.position();
    if matches!(kind, Kind::String | Kind::Bool) {
        for _ in 0..count {
            read_value(cursor, kind, key)?;
        }
    } else {
        cursor.take(count as u64 * kind.bytes() as u64, what)?;
    }
    Ok(Entry { kind, elements: Some(count), range: start..cursor.position() })
}

/// Reads one value and says where its bytes lie.
fn read_value(cursor: &mut Cursor<'_>, kind: Kind, key: &str) -> Result<Range<usize>, Fault> {
    let what = || format!("metadata {key:?}");
    let taken = match kind {
        Kind::String => {
            let text = cursor.string(what)?;
            if text.len() as u64 > STRING_BYTES_MAX {
                let what = format!("bytes of metadata {key:?}");
                return Err(Fault::Count { what, count: text.len() as u64, max: STRING_BYTES_MAX });
            }
            text
        }
        kind => cursor.take(kind.bytes() as u64, what)?,
    };
    match (kind, taken.first()) {
        (Kind::Bool, Some(&found)) if found > 1 => Err(Fault::Bool { key: key.to_owned(), found }),
        _ => Ok(cursor.position() - taken.len()..cursor.position()),
    }
}

/// A value, if the key is there.
type Found<T> = Result<Option<T>, Error>;

/// What a file says about its model. A getter answers `None` when the key is absent, and an [`Error::Metadata`] when
/// the value is there but cannot be what was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Metadata<'a> {
    index: &'a Index,
    bytes: &'a [u8],
}

impl<'a> Metadata<'a> {
    /// Every key, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.index.values.keys().map(AsRef::as_ref)
    }

    /// A whole number from 0 to 2^32 - 1, in whatever width it is written.
    ///
    /// # Errors
    /// [`Error::Metadata`] when it is something else.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, Error> {
        self.integer(key, "a whole number from 0 to 2^32 - 1")
    }

    /// A whole number from 0 to 2^64 - 1, in whatever width it is written.
    ///
    /// # Errors
    /// [`Error::Metadata`] when it is something else.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, Error> {
        self.integer(key, "a whole number from 0 to 2^64 - 1")
    }

    /// A finite number, in whatever width it is written.
    ///
    /// # Errors
    /// [`Error::Metadata`] when it is something else.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, Error> {
        let wanted = "a finite number";
        let Some((entry, bytes)) = self.scalar(key, wanted)? else { return Ok(None) };
        match float(entry.kind, bytes) {
            Some(value) if value.is_finite() => Ok(Some(value)),
            _ => Err(self.wrong(key, entry, wanted)),
        }
    }

    /// True or false.
    ///
    /// # Errors
    /// [`Error::Metadata`] when it is something else.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, Error> {
        let wanted = "true or false";
        let Some((entry, bytes)) = self.scalar(key, wanted)? else { return Ok(None) };
        match entry.kind {
            Kind::Bool => Ok(Some(bytes.first() == Some(&1))),
            _ => Err(self.wrong(key, entry, wanted)),
        }
    }

    /// A string.
    ///
    /// # Errors
    /// [`Error::Metadata`] when it is something else, or not UTF-8.
    pub fn str(&self, key: &str) -> Result<Option<&'a str>, Error> {
        let wanted = "a UTF-8 string";
        let Some((entry, bytes)) = self.scalar(key, wanted)? else { return Ok(None) };
        match (entry.kind, std::str::from_utf8(bytes)) {
            (Kind::String, Ok(text)) => Ok(Some(text)),
            _ => Err(self.wrong(key, entry, wanted)),
        }
    }

    /// An array of strings.
    ///
    /// # Errors
    /// [`Error::Metadata`] when it is something else, or one is not UTF-8.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<&'a str>>, Error> {
        let wanted = "an array of UTF-8 strings";
        let Some((entry, count, bytes)) = self.array(key, wanted)? else { return Ok(None) };
        let wrong = || self.wrong(key, entry, wanted);
        if entry.kind != Kind::String {
            return Err(wrong());
        }
        let mut cursor = Cursor::new(bytes);
        let mut next = || std::str::from_utf8(cursor.string(String::new).ok()?).ok();
        (0..count).map(|_| next().ok_or_else(wrong)).collect::<Result<_, _>>().map(Some)
    }

    /// An array of numbers. They may be infinite, or not a number: whoever uses them says what can be.
    ///
    /// # Errors
    /// [`Error::Metadata`] when it is something else.
    pub fn f32s(&self, key: &str) -> Result<Option<Vec<f32>>, Error> {
        self.numbers(key, "an array of numbers", float)
    }

    /// An array of whole numbers from -2^31 to 2^31 - 1, in whatever width they are written.
    ///
    /// # Errors
    /// [`Error::Metadata`] when it is something else.
    pub fn i32s(&self, key: &str) -> Result<Option<Vec<i32>>, Error> {
        let read = |kind, bytes: &[u8]| integer(kind, bytes).and_then(|value| i32::try_from(value).ok());
        self.numbers(key, "an array of whole numbers from -2^31 to 2^31 - 1", read)
    }

    /// An array of whole numbers from 0 to 2^32 - 1, in whatever width they are written.
    ///
    /// # Errors
    /// [`Error::Metadata`] when it is something else.
    pub fn u32s(&self, key: &str) -> Result<Option<Vec<u32>>, Error> {
        let read = |kind, bytes: &[u8]| integer(kind, bytes).and_then(|value| u32::try_from(value).ok());
        self.numbers(key, "an array of whole numbers from 0 to 2^32 - 1", read)
    }

    /// An array of truth values.
    ///
    /// # Errors
    /// [`Error::Metadata`] when it is something else.
    pub fn bools(&self, key: &str) -> Result<Option<Vec<bool>>, Error> {
        let read = |kind, bytes: &[u8]| (kind == Kind::Bool).then(|| bytes.first() == Some(&1));
        self.numbers(key, "an array of truth values", read)
    }

    /// Whether the key holds an array: some values are one number for all layers, or one a layer.
    #[must_use]
    pub fn is_array(&self, key: &str) -> bool {
        self.index.values.get(key).is_some_and(|entry| entry.elements.is_some())
    }

    fn integer<T: TryFrom<i128>>(&self, key: &str, wanted: &'static str) -> Result<Option<T>, Error> {
        let Some((entry, bytes)) = self.scalar(key, wanted)? else { return Ok(None) };
        let value = integer(entry.kind, bytes).and_then(|value| T::try_from(value).ok());
        value.map(Some).ok_or_else(|| self.wrong(key, entry, wanted))
    }

    fn numbers<T>(
        &self,
        key: &str,
        wanted: &'static str,
        read: impl Fn(Kind, &[u8]) -> Option<T>,
    ) -> Result<Option<Vec<T>>, Error> {
        let Some((entry, _, bytes)) = self.array(key, wanted)? else { return Ok(None) };
        let wrong = || self.wrong(key, entry, wanted);
        if entry.kind == Kind::String {
            return Err(wrong());
        }
        let values = bytes.chunks_exact(entry.kind.bytes());
        values.map(|value| read(entry.kind, value).ok_or_else(wrong)).collect::<Result<_, _>>().map(Some)
    }

    /// A value that is not an array.
    fn scalar(&self, key: &str, wanted: &'static str) -> Found<(&'a Entry, &'a [u8])> {
        match self.index.values.get(key) {
            None => Ok(None),
            Some(entry) if entry.elements.is_some() => Err(self.wrong(key, entry, wanted)),
            Some(entry) => Ok(Some((entry, self.value(entry)))),
        }
    }

    /// An array, with the number of its elements.
    fn array(&self, key: &str, wanted: &'static str) -> Found<(&'a Entry, usize, &'a [u8])> {
        match self.index.values.get(key).map(|entry| (entry, entry.elements)) {
            None => Ok(None),
            Some((entry, None)) => Err(self.wrong(key, entry, wanted)),
            Some((entry, Some(count))) => Ok(Some((entry, count, self.value(entry)))),
        }
    }

    fn value(&self, entry: &Entry) -> &'a [u8] {
        self.bytes.get(entry.range.clone()).unwrap_or_default()
    }

    fn wrong(&self, key: &str, entry: &Entry, wanted: &'static str) -> Error {
        let bytes = self.value(entry);
        let found = match (entry.elements, integer(entry.kind, bytes), float(entry.kind, bytes)) {
            (Some(count), ..) => format!("an array of {count} ({})", entry.kind.name()),
            (None, Some(number), _) => number.to_string(),
            (None, None, Some(number)) => number.to_string(),
            (None, None, None) => entry.kind.name().to_owned(),
        };
        Error::Metadata { key: key.to_owned(), found, wanted }
    }
}

/// A whole number of any width.
fn integer(kind: Kind, bytes: &[u8]) -> Option<i128> {
    Some(match kind {
        Kind::U8 => u8::from_le_bytes(bytes.try_into().ok()?).into(),
        Kind::I8 => i8::from_le_bytes(bytes.try_into().ok()?).into(),
        Kind::U16 => u16::from_le_bytes(bytes.try_into().ok()?).into(),
        Kind::I16 => i16::from_le_bytes(bytes.try_into().ok()?).into(),
        Kind::U32 => u32::from_le_bytes(bytes.try_into().ok()?).into(),
        Kind::I32 => i32::from_le_bytes(bytes.try_into().ok()?).into(),
        Kind::U64 => u64::from_le_bytes(bytes.try_into().ok()?).into(),
        Kind::I64 => i64::from_le_bytes(bytes.try_into().ok()?).into(),
        Kind::F32 | Kind::F64 | Kind::Bool | Kind::String => return None,
    })
}

/// A number of any width, to the nearest that an `f32` can be.
fn float(kind: Kind, bytes: &[u8]) -> Option<f32> {
    match kind {
        Kind::F32 => Some(f32::from_le_bytes(bytes.try_into().ok()?)),
        Kind::F64 => Some(f64::from_le_bytes(bytes.try_into().ok()?) as f32),
        kind => integer(kind, bytes).map(|value| value as f32),
    }
}

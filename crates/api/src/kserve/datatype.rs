//! [`Datatype`]: the protocol's element types, and elements on their way to and from tensors.
//!
//! Models here compute with float32, int32 and texts. Numbers of other widths are taken where the model's own holds
//! them: integers exactly, float64 rounded to the nearest.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tensor::{Data, DataType};

/// An element type of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Datatype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    Bytes,
}

/// A type, its name, the bytes of an element, and the range of whole numbers where it holds these.
type Facts = (Datatype, &'static str, usize, Option<(f64, f64)>);

/// All of them, in the order of the type.
const ALL: [Facts; 14] = [
    (Datatype::Bool, "BOOL", 1, Some((0.0, 1.0))),
    (Datatype::Uint8, "UINT8", 1, Some((0.0, u8::MAX as f64))),
    (Datatype::Uint16, "UINT16", 2, Some((0.0, u16::MAX as f64))),
    (Datatype::Uint32, "UINT32", 4, Some((0.0, u32::MAX as f64))),
    (Datatype::Uint64, "UINT64", 8, Some((0.0, u64::MAX as f64))),
    (Datatype::Int8, "INT8", 1, Some((i8::MIN as f64, i8::MAX as f64))),
    (Datatype::Int16, "INT16", 2, Some((i16::MIN as f64, i16::MAX as f64))),
    (Datatype::Int32, "INT32", 4, Some((i32::MIN as f64, i32::MAX as f64))),
    (Datatype::Int64, "INT64", 8, Some((i64::MIN as f64, i64::MAX as f64))),
    (Datatype::Fp16, "FP16", 2, None),
    (Datatype::Bf16, "BF16", 2, None),
    (Datatype::Fp32, "FP32", 4, None),
    (Datatype::Fp64, "FP64", 8, None),
    (Datatype::Bytes, "BYTES", 0, None),
];

/// The greatest number up to which every whole number is a float64.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// What a model wants of an input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// Its elements.
    pub(super) data_type: DataType,
    /// Whether its texts are image files in base64, which may come as they are.
    pub(super) image: bool,
}

/// Elements as JSON or typed contents hold them.
#[derive(Debug, PartialEq)]
pub(super) enum Elements {
    Bools(Vec<bool>),
    Numbers(Vec<f64>),
    Texts(Vec<Bytes>),
}

impl Datatype {
    /// The type called `name`.
    pub(super) fn parse(name: &str) -> Option<Datatype> {
        ALL.iter().find(|(_, known, ..)| *known == name).map(|(datatype, ..)| *datatype)
    }

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        self.facts().1
    }

    /// The type in which tensors of `data_type` are told.
    pub(super) fn of(data_type: DataType) -> Datatype {
        match data_type {
            DataType::F32 => Datatype::Fp32,
            DataType::I32 => Datatype::Int32,
            DataType::Text => Datatype::Bytes,
        }
    }

    fn facts(self) -> &'static Facts {
        // They stand in the order of the type.
        &ALL[self as usize]
    }

    fn is_float(self) -> bool {
        matches!(self, Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64)
    }
}

/// The elements that little-endian `bytes` hold, `count` of them.
pub(super) fn from_bytes(
    datatype: Datatype,
    bytes: &[u8],
    count: usize,
    wanted: Wanted,
) -> Result<Data, String> {
    if datatype == Datatype::Bytes {
        return from_elements(datatype, Elements::Texts(texts(bytes, count)?), count, wanted);
    }
    let width = datatype.facts().2;
    if count.checked_mul(width) != Some(bytes.len()) {
        let (name, length) = (datatype.name(), bytes.len());
        return Err(format!("{length} bytes are not the {count} elements of {name} that its shape holds"));
    }
    match (datatype, wanted.data_type) {
        (Datatype::Fp32, DataType::F32) => Ok(Data::F32(each(bytes, f32::from_le_bytes).collect())),
        (Datatype::Int32, DataType::I32) => Ok(Data::I32(each(bytes, i32::from_le_bytes).collect())),
        _ => {
            let numbers = numbers(datatype, bytes)?;
            from_elements(datatype, Elements::Numbers(numbers), count, wanted)
        }
    }
}

/// `elements`, of which there are `count`, as the model wants them.
pub(super) fn from_elements(
    datatype: Datatype,
    elements: Elements,
    count: usize,
    wanted: Wanted,
) -> Result<Data, String> {
    let found = elements.len();
    if found != count {
        return Err(format!("{found} elements are given, and its shape holds {count}"));
    }
    let other = |what: &str| Err(format!("its elements are no {}: they are {what}", datatype.name()));
    match (elements, datatype) {
        (Elements::Texts(texts), Datatype::Bytes) => match wanted.data_type {
            DataType::Text => {
                texts.into_iter().map(|bytes| text(bytes, wanted)).collect::<Result<_, _>>().map(Data::Text)
            }
            _ => Err(not_wanted(datatype, wanted)),
        },
        (Elements::Texts(_), _) => other("texts"),
        (Elements::Bools(flags), Datatype::Bool) => {
            narrowed(datatype, flags.into_iter().map(f64::from), wanted)
        }
        (Elements::Bools(_), _) => other("true or false"),
        (Elements::Numbers(_), Datatype::Bytes) => other("numbers"),
        (Elements::Numbers(numbers), _) => narrowed(datatype, numbers.into_iter(), wanted),
    }
}

impl Elements {
    pub(super) fn len(&self) -> usize {
        match self {
            Elements::Bools(v) => v.len(),
            Elements::Numbers(v) => v.len(),
            Elements::Texts(v) => v.len(),
        }
    }
}

/// Whole numbers as float64, if all of them are such.
pub(super) fn exact(numbers: impl ExactSizeIterator<Item = i128>) -> Result<Vec<f64>, String> {
    numbers.map(whole).collect()
}

fn whole(number: i128) -> Result<f64, String> {
    let as_float = number as f64;
    if as_float.abs() > EXACT {
        return Err(format!("{number} is beyond what the model's own numbers hold"));
    }
    Ok(as_float)
}

fn narrowed(
    datatype: Datatype,
    numbers: impl ExactSizeIterator<Item = f64>,
    wanted: Wanted,
) -> Result<Data, String> {
    let fits = |number: f64| match datatype.facts().3 {
        Some((least, most)) => number.fract() == 0.0 && number >= least && number <= most,
        None => true,
    };
    let numbers = numbers.map(|number| match fits(number) {
        true => Ok(number),
        false => Err(format!("{number} is no {}", datatype.name())),
    });
    match wanted.data_type {
        DataType::F32 => {
            numbers.map(|number| float(datatype, number?)).collect::<Result<_, _>>().map(Data::F32)
        }
        DataType::I32 if !datatype.is_float() => {
            numbers.map(|number| integer(number?)).collect::<Result<_, _>>().map(Data::I32)
        }
        _ => Err(not_wanted(datatype, wanted)),
    }
}

fn float(datatype: Datatype, number: f64) -> Result<f32, String> {
    let narrow = number as f32;
    let kept = match datatype.is_float() {
        true => narrow.is_finite() || !number.is_finite(),
        false => f64::from(narrow) == number,
    };
    if kept { Ok(narrow) } else { Err(format!("{number} does not fit into the FP32 that the model takes")) }
}

fn integer(number: f64) -> Result<i32, String> {
    if number >= f64::from(i32::MIN) && number <= f64::from(i32::MAX) {
        Ok(number as i32)
    } else {
        Err(format!("{number} does not fit into the INT32 that the model takes"))
    }
}

fn not_wanted(datatype: Datatype, wanted: Wanted) -> String {
    format!("is {}; the model takes {}", datatype.name(), Datatype::of(wanted.data_type).name())
}

fn each<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> impl ExactSizeIterator<Item = T> {
    bytes.as_chunks::<N>().0.iter().map(move |chunk| read(*chunk))
}

/// The numbers in `bytes`, which are no [`Datatype::Bytes`].
fn numbers(datatype: Datatype, bytes: &[u8]) -> Result<Vec<f64>, String> {
    Ok(match datatype {
        Datatype::Bool | Datatype::Uint8 => bytes.iter().copied().map(f64::from).collect(),
        Datatype::Int8 => each(bytes, i8::from_le_bytes).map(f64::from).collect(),
        Datatype::Uint16 => each(bytes, u16::from_le_bytes).map(f64::from).collect(),
        Datatype::Int16 => each(bytes, i16::from_le_bytes).map(f64::from).collect(),
        Datatype::Uint32 => each(bytes, u32::from_le_bytes).map(f64::from).collect(),
        Datatype::Int32 => each(bytes, i32::from_le_bytes).map(f64::from).collect(),
        Datatype::Uint64 => exact(each(bytes, u64::from_le_bytes).map(i128::from))?,
        Datatype::Int64 => exact(each(bytes, i64::from_le_bytes).map(i128::from))?,
        Datatype::Fp16 => each(bytes, u16::from_le_bytes).map(half).collect(),
        Datatype::Bf16 => {
            each(bytes, u16::from_le_bytes).map(|b| f64::from(f32::from_bits(u32::from(b) << 16))).collect()
        }
        Datatype::Fp32 => each(bytes, f32::from_le_bytes).map(f64::from).collect(),
        Datatype::Fp64 => each(bytes, f64::from_le_bytes).collect(),
        Datatype::Bytes => Vec::new(),
    })
}

/// A float16 by its bits.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let size = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -size } else { size }
}

/// Texts as the binary form has them: four bytes of length before each.
fn texts(bytes: &[u8], count: usize) -> Result<Vec<Bytes>, String> {
    let mut all = Vec::with_capacity(count.min(bytes.len() / 4));
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let cut =
            || format!("element {} says that it has {length} bytes, and {} are left", all.len(), after.len());
        let (text, after) = after.split_at_checked(length).ok_or_else(cut)?;
        all.push(Bytes::copy_from_slice(text));
        rest = after;
    }
    match rest.len() {
        0 => Ok(all),
        left => Err(format!("{left} bytes are left after its last element")),
    }
}

fn text(bytes: Bytes, wanted: Wanted) -> Result<String, String> {
    match String::from_utf8(bytes.into()) {
        Ok(text) => Ok(text),
        Err(error) if wanted.image => Ok(STANDARD.encode(error.as_bytes())),
        Err(_) => Err("holds an element that is not UTF-8".to_owned()),
    }
}

/// Appends the elements in the binary form.
pub(super) fn put(data: &Data, into: &mut Vec<u8>) {
    match data {
        Data::F32(v) => v.iter().for_each(|n| into.extend_from_slice(&n.to_le_bytes())),
        Data::I32(v) => v.iter().for_each(|n| into.extend_from_slice(&n.to_le_bytes())),
        Data::Text(v) => v.iter().for_each(|text| {
            // No text of a model is as long.
            let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
            into.extend_from_slice(&length.to_le_bytes());
            into.extend_from_slice(text.as_bytes());
        }),
    }
}

/// How many bytes [`put`] appends.
pub(super) fn size(data: &Data) -> usize {
    match data {
        Data::F32(v) => size_of_val(v.as_slice()),
        Data::I32(v) => size_of_val(v.as_slice()),
        Data::Text(v) => v.iter().map(|text| 4 + text.len()).sum(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const F32: Wanted = Wanted { data_type: DataType::F32, image: false };
    const I32: Wanted = Wanted { data_type: DataType::I32, image: false };
    const TEXT: Wanted = Wanted { data_type: DataType::Text, image: false };

    #[test]
    fn types_stand_in_their_order() {
        for (datatype, name, ..) in ALL {
            assert_eq!((datatype.name(), Datatype::parse(name)), (name, Some(datatype)));
        }
    }

    #[test]
    fn numbers_of_every_width_arrive() {
        let read = |datatype, bytes: &[u8], count| from_bytes(datatype, bytes, count, F32).unwrap();
        assert_eq!(read(Datatype::Fp32, &1.5f32.to_le_bytes(), 1), Data::F32(vec![1.5]));
        assert_eq!(read(Datatype::Fp64, &0.1f64.to_le_bytes(), 1), Data::F32(vec![0.1]));
        let halves: Vec<u8> =
            [0x3c00u16, 0xc000, 0x0001, 0x7c00].iter().flat_map(|h| h.to_le_bytes()).collect();
        let expected = vec![1.0, -2.0, 2f32.powi(-24), f32::INFINITY];
        assert_eq!(read(Datatype::Fp16, &halves, 4), Data::F32(expected));
        assert_eq!(read(Datatype::Bf16, &0x3fc0u16.to_le_bytes(), 1), Data::F32(vec![1.5]));
        assert_eq!(read(Datatype::Uint8, &[7, 255], 2), Data::F32(vec![7.0, 255.0]));
        let long = [-5i64, i64::from(i32::MAX)].map(i64::to_le_bytes).concat();
        assert_eq!(from_bytes(Datatype::Int64, &long, 2, I32).unwrap(), Data::I32(vec![-5, i32::MAX]));
        for (datatype, bytes, wanted) in [
            (Datatype::Int64, (1i64 << 31).to_le_bytes().to_vec(), I32),
            (Datatype::Int64, (1i64 << 60).to_le_bytes().to_vec(), I32),
            (Datatype::Int32, 16_777_217i32.to_le_bytes().to_vec(), F32),
            (Datatype::Fp64, 1e300f64.to_le_bytes().to_vec(), F32),
            (Datatype::Fp32, 1f32.to_le_bytes().to_vec(), I32),
            (Datatype::Fp32, 1f32.to_le_bytes().to_vec(), TEXT),
            (Datatype::Bool, vec![2], I32),
            (Datatype::Fp32, vec![0; 3], F32),
        ] {
            assert!(from_bytes(datatype, &bytes, 1, wanted).is_err(), "{datatype:?} {bytes:?}");
        }
        assert!(from_bytes(Datatype::Fp32, &[0; 8], usize::MAX, F32).is_err());
    }

    #[test]
    fn texts_say_how_long_they_are() {
        let mut bytes = Vec::new();
        let both = Data::Text(vec!["a".into(), "né".into()]);
        put(&both, &mut bytes);
        assert_eq!(bytes.len(), size(&both));
        assert_eq!(from_bytes(Datatype::Bytes, &bytes, 2, TEXT).unwrap(), both);
        assert!(from_bytes(Datatype::Bytes, &bytes, 3, TEXT).is_err());
        assert!(from_bytes(Datatype::Bytes, &bytes[..bytes.len() - 1], 2, TEXT).is_err());
        assert!(from_bytes(Datatype::Bytes, &[255, 255, 255, 255], 1, TEXT).is_err());
        let picture = [1, 0, 0, 0, 0xff];
        assert!(from_bytes(Datatype::Bytes, &picture, 1, TEXT).is_err());
        let image = Wanted { image: true, ..TEXT };
        assert_eq!(from_bytes(Datatype::Bytes, &picture, 1, image).unwrap(), Data::Text(vec!["/w==".into()]));
    }

    #[test]
    fn json_says_what_it_is() {
        let numbers = |n: f64| Elements::Numbers(vec![n]);
        assert_eq!(from_elements(Datatype::Int64, numbers(3.0), 1, I32).unwrap(), Data::I32(vec![3]));
        assert_eq!(from_elements(Datatype::Fp32, numbers(0.5), 1, F32).unwrap(), Data::F32(vec![0.5]));
        assert!(from_elements(Datatype::Int64, numbers(0.5), 1, I32).is_err());
        assert!(from_elements(Datatype::Uint8, numbers(256.0), 1, I32).is_err());
        assert!(from_elements(Datatype::Bytes, numbers(0.5), 1, TEXT).is_err());
        assert!(from_elements(Datatype::Fp32, Elements::Bools(vec![true]), 1, F32).is_err());
        assert_eq!(
            from_elements(Datatype::Bool, Elements::Bools(vec![true]), 1, I32).unwrap(),
            Data::I32(vec![1])
        );
    }
}

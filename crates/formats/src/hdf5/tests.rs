#![allow(clippy::unwrap_used)]

use super::*;

const NOWHERE: u64 = u64::MAX;

/// A file of the first generation: a group `g` in the root, the array `a` of two numbers in it.
fn first() -> Vec<u8> {
    let mut file = superblock(0, 96);
    let table = |at: usize| [message(0x11, &words(&[at as u64, at as u64 + 64]))].concat();
    // Root's header, tree, heap and leaf; those of `g`; then the array.
    let root = group(&mut file, &table, "g", 96 + 512);
    assert_eq!(root, 96);
    group(&mut file, &table, "a", 96 + 1024);
    array(&mut file, &[2], &[1.5, -2.0]);
    file
}

/// Appends a group of one member, whose header lies at `member`; returns where its own lies. It takes 512 bytes.
fn group(file: &mut Vec<u8>, table: &dyn Fn(usize) -> Vec<u8>, name: &str, member: u64) -> usize {
    let at = file.len();
    let messages = table(at + 128);
    file.extend([1, 0, 1, 0, 1, 0, 0, 0]);
    file.extend((messages.len() as u32).to_le_bytes());
    file.extend([0; 4]);
    file.extend(messages);
    file.resize(at + 128, 0);
    file.extend(b"TREE\0\0\x01\0");
    file.extend(words(&[NOWHERE, NOWHERE, 0, at as u64 + 320]));
    file.resize(at + 128 + 64, 0);
    file.extend(b"HEAP\0\0\0\0");
    file.extend(words(&[16, NOWHERE, at as u64 + 256]));
    file.resize(at + 256, 0);
    file.extend([0; 8]);
    file.extend(name.as_bytes());
    file.resize(at + 320, 0);
    file.extend(b"SNOD\x01\0\x01\0");
    file.extend(words(&[8, member, 0, 0, 0]));
    file.resize(at + 512, 0);
    at
}

fn superblock(version: u8, root: u64) -> Vec<u8> {
    let mut file = SIGNATURE.to_vec();
    match version {
        0 => {
            file.extend([0, 0, 0, 0, 0, 8, 8, 0, 4, 0, 16, 0, 0, 0, 0, 0]);
            file.extend(words(&[0, NOWHERE, 4096, NOWHERE, 0, root, 0, 0, 0]));
        }
        _ => {
            file.extend([version, 8, 8, 0]);
            file.extend(words(&[0, NOWHERE, 4096, root]));
            file.extend([0; 4]);
        }
    }
    file
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

/// A message of a header of the first generation.
fn message(kind: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend((content.len() as u16).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(content);
    bytes
}

/// What a header says of an array of float32 whose elements lie at `data`.
fn described(shape: &[u64], data: u64) -> [(u8, Vec<u8>); 3] {
    let space = [vec![1, shape.len() as u8, 0, 0, 0, 0, 0, 0], words(shape)].concat();
    let float =
        [&[0x11, 0x20, 31, 0, 4, 0, 0, 0, 0, 0, 32, 0, 23, 8, 0, 23][..], &[127, 0, 0, 0, 0, 0, 0, 0]]
            .concat();
    let bytes = shape.iter().fold(4, |n: u64, d| n.saturating_mul(*d));
    let layout = [vec![3, 1], words(&[data, bytes]), vec![0; 6]].concat();
    [(1, space), (3, float), (8, layout)]
}

fn array(file: &mut Vec<u8>, shape: &[u64], values: &[f32]) {
    let at = file.len();
    let messages: Vec<u8> = described(shape, at as u64 + 256)
        .iter()
        .flat_map(|(kind, content)| message((*kind).into(), content))
        .collect();
    file.extend([1, 0, 3, 0, 1, 0, 0, 0]);
    file.extend((messages.len() as u32).to_le_bytes());
    file.extend([0; 4]);
    file.extend(messages);
    file.resize(at + 256, 0);
    file.extend(values.iter().flat_map(|v| v.to_le_bytes()));
}

/// A file of the second generation: the array `a` in the root, whose header holds the link.
fn second() -> Vec<u8> {
    let mut file = superblock(3, 48);
    let header = |messages: &[(u8, Vec<u8>)]| {
        let body: Vec<u8> = messages
            .iter()
            .flat_map(|(kind, content)| {
                let length = (content.len() as u16).to_le_bytes();
                [vec![*kind, length[0], length[1], 0], content.clone()].concat()
            })
            .collect();
        [b"OHDR\x02\x00".to_vec(), vec![body.len() as u8], body, vec![0; 4]].concat()
    };
    let link = [vec![1, 0, 1], b"a".to_vec(), words(&[128])].concat();
    file.extend(header(&[(6, link)]));
    file.resize(128, 0);
    let array = described(&[2], 384);
    file.extend(header(&array));
    file.resize(384, 0);
    file.extend([1.5f32, -2.0].iter().flat_map(|v| v.to_le_bytes()));
    file
}

/// Everything in a file, and what stands in the way.
fn all(bytes: &[u8]) -> Result<Vec<f32>, Hdf5Error> {
    fn walk(group: &Group<'_>, depth: usize, found: &mut Vec<f32>) -> Result<(), Hdf5Error> {
        for name in group.names() {
            match group.dataset(name) {
                Ok(Some(array)) => found.extend(array.floats().unwrap_or_default()),
                _ if depth < 4 => {
                    let inner = group.group(name)?.ok_or(Hdf5Error::Damaged("gone"))?;
                    walk(&inner, depth + 1, found)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    walk(&File::new(bytes)?.root()?, 0, &mut found)?;
    Ok(found)
}

#[test]
fn groups_and_arrays_of_both_generations_are_found() {
    let bytes = first();
    let file = File::new(&bytes).unwrap();
    let group = file.root().unwrap().group("g").unwrap().unwrap();
    assert_eq!(group.names().collect::<Vec<_>>(), ["a"]);
    let array = group.dataset("a").unwrap().unwrap();
    assert_eq!((array.shape(), array.floats()), (&[2][..], Some(vec![1.5, -2.0])));
    assert!(group.dataset("b").unwrap().is_none());
    assert!(matches!(file.root().unwrap().dataset("g"), Err(Hdf5Error::Damaged(_))));
    assert_eq!(all(&second()).unwrap(), [1.5, -2.0]);
}

#[test]
fn an_array_larger_than_the_file_is_refused_before_anything_is_allocated() {
    let mut bytes = superblock(0, 96);
    array(&mut bytes, &[1 << 40, 1 << 40], &[]);
    let array = Dataset::at(Bytes(&bytes), 96);
    assert_eq!(array, Err(Hdf5Error::Damaged("an array is larger than any memory")));
}

#[test]
fn whatever_is_cut_off_or_changed_is_refused_or_read_and_never_more() {
    for bytes in [first(), second()] {
        for length in 0..bytes.len() {
            let _ = all(&bytes[..length]);
        }
        assert!(
            all(&bytes[..bytes.len() - 1]).is_err() || all(&bytes[..bytes.len() - 1]).unwrap().is_empty()
        );
        for at in 0..bytes.len() {
            for value in [0, 1, 0x10, 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                if let Ok(found) = all(&changed) {
                    assert!(found.len() <= changed.len());
                }
            }
        }
    }
}

#[test]
fn halves_are_read_as_floats() {
    let bits = [0x3c00u16, 0xc000, 0x0001, 0x7c00, 0x3555];
    let data: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
    let read = Element::F16.floats(&data).unwrap();
    assert_eq!(read[..4], [1.0, -2.0, 2f32.powi(-24), f32::INFINITY]);
    assert!((read[4] - 0.333_251_95).abs() < 1e-7);
    assert_eq!(Element::BF16.floats(&[0xc0, 0x3f]), Some(vec![1.5]));
    assert_eq!(Element::F64.floats(&2.5f64.to_le_bytes()), Some(vec![2.5]));
    assert_eq!(Element::Integer(4).floats(&[0; 4]), None);
}

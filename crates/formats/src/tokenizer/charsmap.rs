//! [`Charsmap`]: SentencePiece's table of what texts become before they are cut.

use std::fmt;

/// The largest table read, in bytes. Those in use have a quarter of a mebibyte.
const BYTES_MAX: usize = 16 << 20;

/// A table of replacements: a trie over what is replaced, in the form of darts-clone, and the texts to put there.
///
/// It is walked with checks at every step, so that a table that was made to do harm finds nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Charsmap {
    units: Vec<u32>,
    /// Replacements, each ended by a NUL.
    texts: String,
}

impl Charsmap {
    /// Reads the table: the trie's length in bytes, the trie, the texts.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Charsmap, &'static str> {
        if bytes.len() > BYTES_MAX {
            return Err("it is larger than 16 MiB");
        }
        let (length, rest) = bytes.split_first_chunk().ok_or("it is shorter than its own length")?;
        let length = u32::from_le_bytes(*length) as usize;
        if !length.is_multiple_of(4) {
            return Err("its trie is cut off");
        }
        let (trie, texts) = rest.split_at_checked(length).ok_or("its trie is cut off")?;
        let texts = String::from_utf8(texts.to_vec()).map_err(|_| "its texts are not UTF-8")?;
        let (units, _) = trie.as_chunks();
        Ok(Charsmap { units: units.iter().map(|unit| u32::from_le_bytes(*unit)).collect(), texts })
    }

    /// The shortest beginning of `text` that is replaced: how many bytes it has, and what comes in its place.
    #[must_use]
    pub fn shortest<'a>(&'a self, text: &'a str) -> Option<(usize, &'a str)> {
        self.beginnings(text).next()
    }

    /// The longest.
    #[must_use]
    pub fn longest<'a>(&'a self, text: &'a str) -> Option<(usize, &'a str)> {
        self.beginnings(text).last()
    }

    /// What is replaced of the beginnings of `text`, the shortest first.
    fn beginnings<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
        let mut bytes = text.bytes().enumerate();
        let mut node = self.units.first().map_or(0, |unit| offset(*unit));
        let mut steps = std::iter::from_fn(move || {
            let (at, byte) = bytes.next().filter(|(_, byte)| *byte != 0)?;
            node ^= usize::from(byte);
            let unit = *self.units.get(node)?;
            if unit & LABEL != u32::from(byte) {
                return None;
            }
            node ^= offset(unit);
            Some((at + 1, (unit & HAS_LEAF != 0).then_some(node)))
        })
        .fuse();
        std::iter::from_fn(move || {
            steps.find_map(|(len, leaf)| {
                let value = self.units.get(leaf?)? & !LEAF;
                let rest = self.texts.get(value as usize..)?;
                (text.is_char_boundary(len)).then(|| (len, rest.split('\0').next().unwrap_or_default()))
            })
        })
    }
}

/// A unit that holds a value.
const LEAF: u32 = 1 << 31;
/// A node that ends something replaced.
const HAS_LEAF: u32 = 1 << 8;
/// The byte that leads to a node; none leads to a value.
const LABEL: u32 = LEAF | 0xff;

/// Where a node's children are, from it.
fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize
}

impl fmt::Debug for Charsmap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Charsmap").field("units", &self.units.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// `a` becomes `bc`: the root's children are at 0, and `a`'s value beside the node.
    fn table() -> Vec<u8> {
        let mut units = vec![0_u32; 256];
        let node = usize::from(b'a');
        units[node] = u32::from(b'a') | HAS_LEAF | (1 << 10);
        units[node ^ 1] = LEAF | 3;
        let trie: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        [&(trie.len() as u32).to_le_bytes()[..], &trie, b"no\0bc\0"].concat()
    }

    #[test]
    fn replacements_are_found() {
        let map = Charsmap::parse(&table()).unwrap();
        assert_eq!(map.shortest("ab"), Some((1, "bc")));
        assert_eq!(map.longest("aa"), Some((1, "bc")));
        assert_eq!(map.shortest("b"), None);
        assert_eq!(map.shortest("\0"), None);
        assert_eq!(map.shortest(""), None);
    }

    #[test]
    fn what_leads_astray_finds_nothing() {
        let table = table();
        assert!(Charsmap::parse(&table[..3]).is_err());
        assert!(Charsmap::parse(&table[..100]).is_err());
        assert!(Charsmap::parse(&[4, 0, 0, 0, 255, 255, 255, 255, 255]).is_err());
        let all_ones = [&1024_u32.to_le_bytes()[..], &[255; 1024]].concat();
        assert_eq!(Charsmap::parse(&all_ones).unwrap().longest("aaaa"), None);
        let none = Charsmap::parse(&[0; 4]).unwrap();
        assert_eq!(none.longest("a"), None);
    }
}

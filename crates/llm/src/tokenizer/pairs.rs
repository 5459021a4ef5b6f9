//! Merging neighbours, the best pair first: what both kinds of byte-pair encoding have in common.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// No neighbour.
const NONE: u32 = u32::MAX;

/// A piece of text that may still grow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Symbol {
    /// What its owner calls it.
    pub(super) id: u32,
    /// Bytes; 0 once it is part of its left neighbour.
    pub(super) len: u32,
    left: u32,
    right: u32,
}

/// Two neighbours that could become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Candidate<R> {
    rank: R,
    at: u32,
    /// Both lengths, to see whether either has changed since.
    lens: (u32, u32),
    id: u32,
}

impl<R: Ord> Ord for Candidate<R> {
    /// The smallest rank is the greatest candidate, and then that furthest left.
    fn cmp(&self, other: &Self) -> Ordering {
        other.rank.cmp(&self.rank).then(other.at.cmp(&self.at))
    }
}

impl<R: Ord> PartialOrd for Candidate<R> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Symbols of one piece of text, and the room to merge them in, used again for the next.
#[derive(Debug)]
pub(super) struct Pairs<R> {
    symbols: Vec<Symbol>,
    /// Where in the text each symbol begins.
    starts: Vec<u32>,
    heap: BinaryHeap<Candidate<R>>,
}

impl<R: Ord + Copy> Pairs<R> {
    pub(super) fn new() -> Self {
        Pairs { symbols: Vec::new(), starts: Vec::new(), heap: BinaryHeap::new() }
    }

    /// Forgets the text before.
    pub(super) fn clear(&mut self) {
        self.symbols.clear();
        self.starts.clear();
        self.heap.clear();
    }

    /// Adds a symbol of `len` bytes at the end.
    pub(super) fn push(&mut self, id: u32, len: usize) {
        let at = self.symbols.len() as u32;
        let start = match (self.starts.last(), self.symbols.last_mut()) {
            (Some(&start), Some(last)) => {
                last.right = at;
                start + last.len
            }
            _ => 0,
        };
        self.starts.push(start);
        self.symbols.push(Symbol {
            id,
            len: len as u32,
            left: at.checked_sub(1).unwrap_or(NONE),
            right: NONE,
        });
    }

    /// Merges until `join` knows no more. `join` is given two neighbours and where their joint text begins, and answers
    /// the rank of their union, lowest first, and what to call it.
    pub(super) fn merge(&mut self, mut join: impl FnMut(Symbol, Symbol, usize) -> Option<(R, u32)>) {
        for at in 1..self.symbols.len() as u32 {
            self.consider(at - 1, &mut join);
        }
        while let Some(Candidate { at, lens, id, .. }) = self.heap.pop() {
            let left = self.symbols[at as usize];
            if left.right == NONE || left.len == 0 {
                continue;
            }
            let right = self.symbols[left.right as usize];
            if (left.len, right.len) != lens {
                continue;
            }
            self.symbols[left.right as usize].len = 0;
            self.symbols[at as usize] =
                Symbol { id, len: left.len + right.len, left: left.left, right: right.right };
            if right.right != NONE {
                self.symbols[right.right as usize].left = at;
                self.consider(at, &mut join);
            }
            if left.left != NONE {
                self.consider(left.left, &mut join);
            }
        }
    }

    /// What is left, with where each symbol begins.
    pub(super) fn symbols(&self) -> impl Iterator<Item = (Symbol, usize)> {
        let placed = self.symbols.iter().copied().zip(self.starts.iter().map(|&start| start as usize));
        placed.filter(|(symbol, _)| symbol.len > 0)
    }

    fn consider(&mut self, at: u32, join: &mut impl FnMut(Symbol, Symbol, usize) -> Option<(R, u32)>) {
        let left = self.symbols[at as usize];
        let Some(&right) = self.symbols.get(left.right as usize) else { return };
        if let Some((rank, id)) = join(left, right, self.starts[at as usize] as usize) {
            self.heap.push(Candidate { rank, at, lens: (left.len, right.len), id });
        }
    }
}

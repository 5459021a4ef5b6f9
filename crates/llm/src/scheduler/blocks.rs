//! Which block of the key-value cache holds what, and who uses it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Index of a block in the key-value cache.
pub type BlockId = u32;

/// Names the tokens from a sequence's first to the last of some full block: two equal contents are the same
/// tokens of the same tenant at the same positions. Never used twice.
pub type ContentId = u64;

/// The content before a sequence's first block.
pub(super) const NOTHING: ContentId = 0;

/// What a full block holds, exactly: a lookup compares tokens, so no collision of hashes can hand one prompt's
/// numbers to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// The tenant's; equal prompts of two tenants are different contents.
    salt: u64,
    before: ContentId,
    tokens: Box<[u32]>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    block: BlockId,
    content: ContentId,
}

#[derive(Debug, Default)]
struct Block {
    references: u32,
    /// Present where the block is in the prefix cache.
    key: Option<Arc<Key>>,
    /// When the last user left; its place in `idle`.
    idle_since: u64,
}

/// Hands out blocks, counts their users, and remembers what the full ones hold so that a later prompt that begins
/// alike can use them. A block without users keeps its content until someone needs the space.
#[derive(Debug)]
pub struct BlockManager {
    block_len: usize,
    blocks: Vec<Block>,
    free: Vec<BlockId>,
    known: HashMap<Arc<Key>, Known>,
    /// Blocks without users whose content is known, by when they were left: the first is given up first.
    idle: BTreeMap<u64, BlockId>,
    clock: u64,
    contents: ContentId,
}

impl BlockManager {
    /// Manages `blocks` blocks of `block_len` tokens each, all free.
    pub fn new(blocks: u32, block_len: usize) -> BlockManager {
        BlockManager {
            block_len,
            blocks: (0..blocks).map(|_| Block::default()).collect(),
            free: (0..blocks).rev().collect(),
            known: HashMap::new(),
            idle: BTreeMap::new(),
            clock: 0,
            contents: NOTHING,
        }
    }

    /// Tokens a block holds.
    pub fn block_len(&self) -> usize {
        self.block_len
    }

    /// Blocks in all.
    pub fn total(&self) -> usize {
        self.blocks.len()
    }

    /// Blocks that can be allocated now: free ones and those whose content nobody uses.
    pub fn available(&self) -> usize {
        self.free.len() + self.idle.len()
    }

    /// Blocks that some sequence uses.
    pub fn used(&self) -> usize {
        self.total() - self.available()
    }

    /// A block with one user and no known content, or nothing when all are in use. Gives up the content that has
    /// been without users for longest.
    pub fn allocate(&mut self) -> Option<BlockId> {
        let block = match self.free.pop() {
            Some(block) => block,
            None => {
                let (_, block) = self.idle.pop_first()?;
                self.forget(block);
                block
            }
        };
        self.blocks[block as usize].references = 1;
        Some(block)
    }

    /// Adds a user to a block.
    pub fn share(&mut self, block: BlockId) {
        let state = &mut self.blocks[block as usize];
        if state.references == 0 {
            self.idle.remove(&state.idle_since);
        }
        state.references += 1;
    }

    /// Takes a user from a block. The last one leaves the content behind where it is known.
    pub fn release(&mut self, block: BlockId) {
        let state = &mut self.blocks[block as usize];
        debug_assert!(state.references > 0, "block {block} is released more often than it was taken");
        state.references -= 1;
        if state.references > 0 {
            return;
        }
        if state.key.is_some() {
            self.clock += 1;
            state.idle_since = self.clock;
            self.idle.insert(self.clock, block);
        } else {
            self.free.push(block);
        }
    }

    /// Users of a block.
    pub fn references(&self, block: BlockId) -> u32 {
        self.blocks[block as usize].references
    }

    /// The block that holds `tokens` (one block's worth) after `before`, if there is one.
    pub fn find(&self, salt: u64, before: ContentId, tokens: &[u32]) -> Option<(BlockId, ContentId)> {
        let key = Key { salt, before, tokens: tokens.into() };
        self.known.get(&key).map(|known| (known.block, known.content))
    }

    /// Says that `block`, now full and never written again, holds `tokens` after `before`. Where another block
    /// already holds the same, that one stays the known one and its content is returned.
    pub fn publish(&mut self, block: BlockId, salt: u64, before: ContentId, tokens: &[u32]) -> ContentId {
        let key = Arc::new(Key { salt, before, tokens: tokens.into() });
        if let Some(known) = self.known.get(&key) {
            return known.content;
        }
        self.contents += 1;
        self.known.insert(Arc::clone(&key), Known { block, content: self.contents });
        self.blocks[block as usize].key = Some(key);
        self.contents
    }

    fn forget(&mut self, block: BlockId) {
        if let Some(key) = self.blocks[block as usize].key.take() {
            self.known.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_nobody_uses_is_found_until_its_space_is_needed() {
        let mut blocks = BlockManager::new(2, 2);
        let first = blocks.allocate().unwrap_or_default();
        let content = blocks.publish(first, 7, NOTHING, &[1, 2]);
        blocks.release(first);
        assert_eq!(blocks.find(7, NOTHING, &[1, 2]), Some((first, content)));
        assert_eq!(blocks.available(), 2);
        assert!(blocks.allocate().is_some());
        assert_eq!(blocks.find(7, NOTHING, &[1, 2]), Some((first, content)), "the free one goes first");
        assert_eq!(blocks.allocate(), Some(first));
        assert_eq!(blocks.find(7, NOTHING, &[1, 2]), None);
        assert_eq!(blocks.allocate(), None);
    }

    #[test]
    fn one_tenants_prompt_is_nothing_to_another() {
        let mut blocks = BlockManager::new(2, 2);
        let first = blocks.allocate().unwrap_or_default();
        blocks.publish(first, 7, NOTHING, &[1, 2]);
        assert_eq!(blocks.find(8, NOTHING, &[1, 2]), None);
    }

    #[test]
    fn equal_contents_are_known_once() {
        let mut blocks = BlockManager::new(3, 2);
        let (first, second) = (blocks.allocate().unwrap_or_default(), blocks.allocate().unwrap_or_default());
        let content = blocks.publish(first, 0, NOTHING, &[1, 2]);
        assert_eq!(blocks.publish(second, 0, NOTHING, &[1, 2]), content);
        blocks.release(second);
        assert_eq!(blocks.available(), 2);
        assert_eq!(blocks.find(0, NOTHING, &[1, 2]), Some((first, content)));
    }
}

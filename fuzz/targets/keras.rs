//! Keras archives, and HDF5 files by themselves: read into arrays that lie within the file, or refused.
#![no_main]

use formats::hdf5::{File, Group};
use formats::keras::Model;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(model) = Model::from_bytes(bytes.to_vec()) {
        let before = |node: usize, place: &usize| *place < model.inputs.len() + node;
        let ordered = model.nodes.iter().enumerate().all(|(i, node)| node.inputs.iter().all(|p| before(i, p)));
        assert!(ordered, "a layer before what it takes");
    }
    if let Ok(root) = File::new(bytes).and_then(|file| file.root()) {
        walk(&root, bytes.len(), 3);
    }
});

/// Reads the first members of a group and of those within it.
fn walk(group: &Group<'_>, size: usize, depth: usize) {
    for name in group.names().take(8) {
        if let Ok(Some(array)) = group.dataset(name) {
            assert!(array.byte_count() <= size, "an array beyond the file");
            let _ = array.floats();
        } else if let (Ok(Some(inner)), 1..) = (group.group(name), depth) {
            walk(&inner, size, depth - 1);
        }
    }
}

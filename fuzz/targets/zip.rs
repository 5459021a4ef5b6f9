//! ZIP archives: a member lies within the file, whatever the file says.
#![no_main]

use formats::zip::Archive;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let archive = Archive::from_bytes(bytes.to_vec());
    for name in ["a", "dir/model.gguf", ""] {
        if let Ok(member) = archive.member(name) {
            assert!(member.packed.len() <= bytes.len(), "a member beyond the file");
        }
    }
});

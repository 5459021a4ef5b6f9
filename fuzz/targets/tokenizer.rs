//! `tokenizer.json` files.
#![no_main]

use formats::tokenizer::TokenizerSpec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(spec) = TokenizerSpec::from_json(bytes, None, None) {
        fuzz::tokenize(&spec);
    }
});

//! What the targets share.

use formats::tokenizer::{TokenKind, TokenSpec, TokenizerKind, TokenizerSpec};
use llm::tokenizer::{Special, Tokenizer};

/// A text with more than one script, a name of a control token, and what no tokenizer likes.
const TEXT: &str = "The Meuse, 950 km; la Meuse. ムーズ川\n\t<|im_end|> <0x0A> e\u{301} \u{200d}👩‍🚀";

/// Makes the tokenizer that a file describes, and lets it encode and decode.
pub fn tokenize(spec: &TokenizerSpec) {
    let Ok(tokenizer) = Tokenizer::new(spec) else { return };
    for special in [Special::AsText, Special::Parse] {
        let ids = tokenizer.encode_prompt(TEXT, special);
        assert!(
            ids.iter().all(|&id| (id as usize) < tokenizer.vocab_len()),
            "a token outside the vocabulary"
        );
        let _ = tokenizer.decode(&ids);
    }
    (0..=tokenizer.vocab_len() as u32)
        .for_each(|id| assert!(tokenizer.token_bytes(id).len() <= tokenizer.token_bytes_max()));
}

/// Every byte as a token, and the control tokens of a conversation.
pub fn bytes_tokenizer() -> Option<Tokenizer> {
    let token = |text: String, kind| TokenSpec { text, kind, score: 0.0, strip_right: false };
    let bytes = (0..=255).map(|byte| token(format!("<0x{byte:02X}>"), TokenKind::Byte(byte)));
    let control =
        ["<s>", "<|im_start|>", "<|im_end|>"].map(|name| token(name.to_owned(), TokenKind::Control));
    Tokenizer::new(&TokenizerSpec {
        kind: TokenizerKind::Spm,
        tokens: bytes.chain(control).collect(),
        bos: Some(256),
        eos: Some(258),
        eot: None,
        eom: None,
        unknown: None,
        pad: None,
        add_bos: false,
        add_eos: false,
        pair_ends: 1,
        add_space_prefix: false,
        chat_template: None,
    })
    .ok()
}

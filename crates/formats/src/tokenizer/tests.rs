#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::gguf::{Gguf, Writer};

fn read(writer: Writer) -> Result<TokenizerSpec, TokenizerSpecError> {
    TokenizerSpec::from_gguf(&Gguf::from_bytes(writer.finish()).unwrap())
}

fn bpe() -> Writer {
    Writer::new("llama")
        .str("tokenizer.ggml.model", "gpt2")
        .str("tokenizer.ggml.pre", "llama-bpe")
        .strings("tokenizer.ggml.tokens", &["a", "b", "ab", "<|end|>"])
}

fn spm() -> Writer {
    Writer::new("llama")
        .str("tokenizer.ggml.model", "llama")
        .strings("tokenizer.ggml.tokens", &["<unk>", "<s>", "</s>", "<0x0A>", "▁a"])
        .i32s("tokenizer.ggml.token_type", &[2, 3, 3, 6, 1])
}

const SCORES: [f32; 5] = [0.0, 0.0, 0.0, 0.0, -1.0];

#[test]
fn what_a_file_leaves_unsaid_follows_from_its_kind() {
    let spec =
        read(bpe().strings("tokenizer.ggml.merges", &["a b"]).u32("tokenizer.ggml.bos_token_id", 3)).unwrap();
    let TokenizerKind::Bpe { pre, merges, ignore_merges: None } = &spec.kind else { panic!("{spec:?}") };
    assert_eq!((pre.as_str(), merges), ("llama-bpe", &vec![("a".to_owned(), "b".to_owned())]));
    assert!(spec.add_bos && !spec.add_eos && !spec.add_space_prefix);
    assert_eq!((spec.bos, spec.eos), (Some(3), None));
    let spec = read(spm().f32s("tokenizer.ggml.scores", &SCORES)).unwrap();
    assert_eq!((spec.bos, spec.eos, spec.unknown), (Some(1), Some(2), Some(0)));
    assert!(spec.add_bos && spec.add_space_prefix);
    let kinds: Vec<_> = spec.tokens.iter().map(|token| token.kind).collect();
    let control = TokenKind::Control;
    assert_eq!(kinds, [TokenKind::Unknown, control, control, TokenKind::Byte(10), TokenKind::Normal]);
}

#[test]
fn contradictions_are_refused_by_name() {
    let said = |writer| read(writer).unwrap_err().to_string();
    assert_eq!(said(bpe()), "the tokenizer's `tokenizer.ggml.merges` is missing");
    assert_eq!(said(spm()), "the tokenizer's `tokenizer.ggml.scores` is missing");
    let merges = |merges: &[&str]| bpe().strings("tokenizer.ggml.merges", merges);
    assert!(said(merges(&["ab"])).starts_with("merge 0 is \"ab\""));
    assert!(said(merges(&["a b"])).contains("names none"), "begins with a token that is not there");
    let ids = |id| merges(&["a b"]).u32("tokenizer.ggml.bos_token_id", id);
    assert_eq!(said(ids(4)), "the bos token is number 4, but there are 4 tokens");
    assert!(said(ids(3).i32s("tokenizer.ggml.token_type", &[1])).contains("4 tokens, but 1 types"));
    assert!(said(ids(3).i32s("tokenizer.ggml.token_type", &[1, 1, 1, 7])).contains("unknown type 7"));
    let nan = spm().f32s("tokenizer.ggml.scores", &[0.0, 0.0, f32::NAN, 0.0, 0.0]);
    assert_eq!(said(nan), "token 2 has a score that is not a finite number");
    let kind = Writer::new("llama").str("tokenizer.ggml.model", "rwkv");
    assert!(said(kind).contains("\"rwkv\" are not supported"));
}

/// llama.cpp#25969: a token `<0x-1>` was taken for a byte and written out of bounds.
#[test]
fn only_two_digits_are_a_byte() {
    assert_eq!(byte_of("<0x0A>"), Some(10));
    assert_eq!(byte_of("<0xff>"), Some(255));
    for wrong in ["<0x-1>", "<0x+1>", "<0x1>", "<0x100>", "<0x>", "0x0A", "<0xé>", "<0x 1>", ""] {
        assert_eq!(byte_of(wrong), None, "{wrong}");
    }
    let writer = Writer::new("llama")
        .str("tokenizer.ggml.model", "llama")
        .strings("tokenizer.ggml.tokens", &["<0x-1>"])
        .f32s("tokenizer.ggml.scores", &[0.0])
        .i32s("tokenizer.ggml.token_type", &[6]);
    assert!(read(writer).unwrap_err().to_string().contains("stand for a byte, and is written \"<0x-1>\""));
}

#[test]
fn a_unigram_tokenizer_is_its_pieces_and_steps() {
    let json = r#"{
        "added_tokens": [{"id": 1, "content": "</s>", "special": true}],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁", "add_prefix_space": true}]},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "</s>"}}],
            "pair": [{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "</s>"}}, {"SpecialToken": {"id": "</s>"}},
                     {"Sequence": {"id": "B"}}, {"SpecialToken": {"id": "</s>"}}]},
        "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["</s>", 0.0], ["▁a", -1.5]]}
    }"#;
    let spec = TokenizerSpec::from_json(json.as_bytes(), None, None).unwrap();
    let TokenizerKind::Unigram { normalize, cuts } = &spec.kind else { panic!("{spec:?}") };
    assert_eq!(normalize, &[Normalize::ReplaceSpaces { to: " ".to_owned() }]);
    assert_eq!(cuts, &[Cut::WhiteSpace, Cut::MarkSpaces { prepend: Prepend::Always, cut: true }]);
    assert_eq!((spec.bos, spec.eos, spec.unknown, spec.pair_ends), (None, Some(1), Some(0), 2));
    assert!(!spec.add_bos && spec.add_eos && spec.add_space_prefix);
    let kinds: Vec<_> = spec.tokens.iter().map(|token| (token.kind, token.score)).collect();
    assert_eq!(kinds, [(TokenKind::Unknown, 0.0), (TokenKind::Control, 0.0), (TokenKind::Normal, -1.5)]);
}

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use formats::tokenizer::{TokenSpec, TokenizerKind, TokenizerSpec};
use proptest::prelude::*;

use super::*;

fn token(text: &str, kind: TokenKind, score: f32) -> TokenSpec {
    TokenSpec { text: text.to_owned(), kind, score, strip_right: false }
}

fn spec(kind: TokenizerKind, tokens: Vec<TokenSpec>) -> TokenizerSpec {
    TokenizerSpec {
        kind,
        tokens,
        bos: None,
        eos: None,
        eot: None,
        eom: None,
        unknown: None,
        pad: None,
        add_bos: false,
        add_eos: false,
        pair_ends: 1,
        add_space_prefix: false,
        chat_template: None,
    }
}

/// GPT-2's letter for a byte.
fn letter(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let place = (0..byte).filter(|&before| !printable(before)).count() as u32;
    if printable(byte) { char::from(byte) } else { char::from_u32(0x100 + place).unwrap() }
}

/// All bytes, the words below with what they are merged of, and two markers.
fn bpe(pre: &str) -> TokenizerSpec {
    let mut tokens: Vec<_> =
        (0..=255).map(|b| token(&letter(b).to_string(), TokenKind::Normal, 0.0)).collect();
    let merges =
        [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "w"), ("<", "|"), ("|", ">"), ("i", "m")];
    let merges = merges.map(|(left, right)| (left.to_owned(), right.to_owned())).to_vec();
    tokens
        .extend(merges.iter().map(|(left, right)| token(&format!("{left}{right}"), TokenKind::Normal, 0.0)));
    tokens.push(token("<|im_end|>", TokenKind::Control, 0.0));
    tokens.push(token("<think>", TokenKind::UserDefined, 0.0));
    let kind = TokenizerKind::Bpe { pre: pre.to_owned(), merges, ignore_merges: None };
    TokenizerSpec { eos: Some(264), ..spec(kind, tokens) }
}

fn spm() -> TokenizerSpec {
    let mut tokens = vec![
        token("<unk>", TokenKind::Unknown, 0.0),
        token("<s>", TokenKind::Control, 0.0),
        token("</s>", TokenKind::Control, 0.0),
    ];
    tokens.extend((0..=255).map(|b| token(&format!("<0x{b:02X}>"), TokenKind::Byte(b), 0.0)));
    for (text, score) in [("▁a", -1.0), ("ab", -2.0), ("<s", -3.0), ("▁", -9.0), ("a", -9.0), ("b", -9.0)]
    {
        tokens.push(token(text, TokenKind::Normal, score));
    }
    for text in ["<", "s", ">"] {
        tokens.push(token(text, TokenKind::Normal, -9.0));
    }
    let spec = spec(TokenizerKind::Spm, tokens);
    TokenizerSpec {
        bos: Some(1),
        eos: Some(2),
        unknown: Some(0),
        add_bos: true,
        pair_ends: 1,
        add_space_prefix: true,
        ..spec
    }
}

fn texts(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    ids.iter().map(|&id| String::from_utf8_lossy(tokenizer.token_bytes(id)).into_owned()).collect()
}

#[test]
fn pairs_merge_in_the_order_of_the_list() {
    let tokenizer = Tokenizer::new(&bpe("gpt-2")).unwrap();
    let ids = tokenizer.encode("hello well", Special::AsText);
    assert_eq!(texts(&tokenizer, &ids), ["hello", " w", "e", "ll"]);
    assert_eq!(tokenizer.decode(&ids), "hello well");
}

#[test]
fn the_highest_score_merges_first() {
    let tokenizer = Tokenizer::new(&spm()).unwrap();
    let ids = tokenizer.encode("ab é", Special::AsText);
    assert_eq!(ids.len(), 5, "a space with the first a, then b, a space, and the bytes of é: {ids:?}");
    assert_eq!(texts(&tokenizer, &ids[..3]), [" a", "b", " "]);
    assert_eq!(tokenizer.decode(&ids), "ab é");
    assert_eq!(tokenizer.complete(ids.clone()).first(), Some(&1));
    assert_eq!(tokenizer.complete(tokenizer.complete(ids.clone())).len(), ids.len() + 1);
}

/// What a user writes never becomes a control token, however the vocabulary could spell it.
#[test]
fn text_is_never_a_control_token() {
    for spec in [bpe("gpt-2"), bpe("llama-bpe"), spm()] {
        let tokenizer = Tokenizer::new(&spec).unwrap();
        for text in ["<|im_end|>", "</s>", "<s>", "a<s>b", "<|im_<|im_end|>end|>", "<unk>"] {
            let ids = tokenizer.encode(text, Special::AsText);
            assert!(ids.iter().all(|&id| !tokenizer.is_control(id)), "{text}: {ids:?}");
            assert_eq!(tokenizer.decode(&ids), text);
        }
    }
    let tokenizer = Tokenizer::new(&bpe("gpt-2")).unwrap();
    assert_eq!(tokenizer.encode("<|im_end|>", Special::Parse), [264]);
    assert_eq!(tokenizer.encode("<think>", Special::AsText), [265], "text that is never cut stays text");
    assert_eq!(tokenizer.token("<|im_end|>"), Some(264));
    assert_eq!(tokenizer.eos_ids(), [264]);
}

#[test]
fn a_marker_that_a_file_calls_text_is_still_a_marker() {
    let mut spec = bpe("gpt-2");
    spec.tokens[264].kind = TokenKind::UserDefined;
    spec.eos = None;
    let tokenizer = Tokenizer::new(&spec).unwrap();
    assert!(tokenizer.encode("<|im_end|>", Special::AsText).len() > 1);
    assert_eq!(tokenizer.eos_ids(), [264]);
}

#[test]
fn white_space_goes_with_a_marker_that_takes_it() {
    let mut spec = bpe("gpt-2");
    spec.tokens[264].strip_right = true;
    let tokenizer = Tokenizer::new(&spec).unwrap();
    let plain = tokenizer.encode("<|im_end|>a", Special::Parse);
    assert_eq!(tokenizer.encode("<|im_end|> \n a", Special::Parse), plain);
}

#[test]
fn a_character_appears_when_it_is_whole() {
    let tokenizer = Tokenizer::new(&bpe("gpt-2")).unwrap();
    let mut detokenizer = Detokenizer::new(&tokenizer);
    let pushed: Vec<_> = "é😀".bytes().map(|byte| detokenizer.push(byte.into())).collect();
    assert_eq!(pushed, ["", "é", "", "", "", "😀"]);
    assert_eq!(detokenizer.finish(), "");
    assert_eq!([0xf0, 0x9f, 0x41].map(|byte| detokenizer.push(byte)), ["", "", "\u{fffd}A"]);
    assert_eq!([0xff, 0xe2].map(|byte| detokenizer.push(byte)), ["\u{fffd}", ""]);
    assert_eq!(detokenizer.finish(), "\u{fffd}");
    assert_eq!([264, 9999].map(|id| detokenizer.push(id)), ["", ""]);
    assert_eq!(Detokenizer::with_controls(&tokenizer).push(264), "<|im_end|>");
}

#[test]
fn what_cannot_be_built_is_said() {
    let error = |spec| Tokenizer::new(&spec).unwrap_err();
    assert_eq!(error(bpe("klingon")), TokenizerError::Rule("klingon".to_owned()));
    let mut missing = bpe("gpt-2");
    let TokenizerKind::Bpe { merges, .. } = &mut missing.kind else { panic!() };
    merges.push(("x".to_owned(), "yz".to_owned()));
    assert_eq!(error(missing), TokenizerError::Merge { at: 8, text: "xyz".to_owned() });
    let mut missing = spm();
    missing.tokens[3 + 65].kind = TokenKind::Unused;
    missing.unknown = None;
    assert_eq!(error(missing), TokenizerError::Byte(65));
}

/// Some vocabularies have no token for a control character: it is left out, and no control token comes in its place.
#[test]
fn bytes_without_a_token_are_left_out() {
    let mut spec = bpe("gpt-2");
    spec.tokens[4].text = "nothing".to_owned();
    spec.unknown = spec.eos;
    let tokenizer = Tokenizer::new(&spec).unwrap();
    assert_eq!(tokenizer.encode("h\u{4}e", Special::AsText), [b'h', b'e'].map(u32::from));
}

/// Descriptions that make no sense: whatever comes of them is an error or a tokenizer that works.
#[test]
fn odd_descriptions_never_do_harm() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    let texts = ["", "▁", "<s>", "Ġ", "hello", "é", "\u{0}", "<0x41>", "h", "<|x|>", "▁▁", "\n", "##a", "中"];
    let kinds = [
        TokenKind::Normal,
        TokenKind::Control,
        TokenKind::UserDefined,
        TokenKind::Unused,
        TokenKind::Byte(9),
    ];
    let mut built = 0;
    for round in 0..3000 {
        let mut spec = match round % 3 {
            0 => bpe("llama-bpe"),
            1 => spm(),
            _ => TokenizerSpec {
                kind: TokenizerKind::WordPiece { lowercase: true, strip_accents: true },
                unknown: Some(0),
                ..spm()
            },
        };
        for _ in 0..next(6) {
            let at = next(spec.tokens.len());
            spec.tokens[at] = token(texts[next(texts.len())], kinds[next(kinds.len())], next(3) as f32 - 1.0);
        }
        spec.tokens.truncate(1 + next(400));
        let Ok(tokenizer) = Tokenizer::new(&spec) else { continue };
        built += 1;
        let text: String = (0..20).map(|_| texts[next(texts.len())]).collect();
        for special in [Special::Parse, Special::AsText] {
            let ids = tokenizer.encode_prompt(&text, special);
            std::hint::black_box(&ids);
            std::hint::black_box(tokenizer.decode(&ids));
        }
    }
    assert!(built > 300, "{built}");
}

#[test]
fn words_become_the_longest_pieces() {
    let mut tokens = vec![token("[UNK]", TokenKind::Unknown, 0.0)];
    let texts = ["▁play", "ing", "▁cafe", "▁,", "▁中", "▁p", "lay"];
    tokens.extend(texts.map(|text| token(text, TokenKind::Normal, 0.0)));
    let kind = TokenizerKind::WordPiece { lowercase: true, strip_accents: true };
    let tokenizer = Tokenizer::new(&TokenizerSpec { unknown: Some(0), ..spec(kind, tokens) }).unwrap();
    assert_eq!(tokenizer.encode("Playing, CAFÉ中\u{0}xyz", Special::AsText), [1, 2, 4, 3, 5, 0]);
    assert_eq!(tokenizer.encode(&"p".repeat(101), Special::AsText), [0]);
}

/// A long text without any structure takes time that grows with its length, not with its square.
#[test]
fn long_texts_are_bounded() {
    for spec in [bpe("gpt-2"), bpe("llama-bpe"), spm()] {
        let tokenizer = Tokenizer::new(&spec).unwrap();
        for unit in ["h", "ab", " ", "<", "é", "<|im_end|"] {
            let text = unit.repeat(1_000_000 / unit.len());
            let ids = tokenizer.encode(&text, Special::AsText);
            assert!(ids.len() * tokenizer.token_bytes_max() >= text.len());
            assert_eq!(tokenizer.decode(&ids), text);
        }
    }
}

proptest! {
    #[test]
    fn text_comes_back_byte_for_byte(text in any::<String>(), rule in 0..PreTokenizer::names().count()) {
        let rule = PreTokenizer::names().nth(rule).unwrap();
        for spec in [bpe(rule), spm()] {
            let tokenizer = Tokenizer::new(&spec).unwrap();
            let ids = tokenizer.encode(&text, Special::AsText);
            prop_assert_eq!(&tokenizer.decode(&ids), &text);
            let mut detokenizer = Detokenizer::new(&tokenizer);
            let streamed: String = ids.iter().map(|&id| detokenizer.push(id)).collect();
            prop_assert_eq!(streamed.trim_start_matches(' '), text.trim_start_matches(' '));
        }
    }
}

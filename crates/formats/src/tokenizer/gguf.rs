//! A tokenizer as the metadata of a GGUF file describes it.

use super::{
    Charsmap, Cut, Normalize, Prepend, TokenKind, TokenSpec, TokenizerKind, TokenizerSpec,
    TokenizerSpecError, byte_of,
};
use crate::gguf::{Gguf, Metadata};

/// Splitting rules whose files leave unsaid that texts begin with `bos`.
const BEGIN_BY_DEFAULT: [&str; 10] = [
    "llama3",
    "llama-v3",
    "llama-bpe",
    "falcon3",
    "falcon-h1",
    "pixtral",
    "midm-2.0",
    "lfm2",
    "tekken",
    "chameleon",
];

impl TokenizerSpec {
    /// Reads a model file's tokenizer.
    ///
    /// # Errors
    /// [`TokenizerSpecError`] when something is missing, contradictory or not supported.
    pub fn from_gguf(gguf: &Gguf) -> Result<TokenizerSpec, TokenizerSpecError> {
        let metadata = gguf.metadata();
        let kind = kind(&metadata)?;
        let tokens = tokens(&metadata, &kind, gguf.architecture())?;
        let id = |name: &str| metadata.u32(&format!("tokenizer.ggml.{name}_token_id"));
        let flag = |name: &str| metadata.bool(&format!("tokenizer.ggml.{name}"));
        // Those numbers that SentencePiece's own tool gives out when nothing else is said.
        let spm = matches!(kind, TokenizerKind::Spm);
        let unigram = matches!(kind, TokenizerKind::Unigram { .. });
        let encoder = matches!(kind, TokenizerKind::WordPiece { .. });
        let (bos, eos) = if encoder { (id("cls")?, id("seperator")?) } else { (None, None) };
        // Encoders' special tokens have had these names since BERT.
        let by_name = |name: &str| named(&tokens, name).filter(|_| encoder);
        let spec = TokenizerSpec {
            bos: bos.or(id("bos")?).or(spm.then_some(1)).or_else(|| by_name("[CLS]")),
            eos: eos
                .or(id("eos")?)
                .or(spm.then_some(2))
                .or(unigram.then_some(1))
                .or_else(|| by_name("[SEP]")),
            eot: id("eot")?,
            eom: id("eom")?,
            unknown: id("unknown")?
                .or(spm.then_some(0))
                .or(unigram.then_some(2))
                .or_else(|| by_name("[UNK]")),
            pad: id("padding")?,
            add_bos: flag("add_bos_token")?.unwrap_or_else(|| begins(&kind)),
            add_eos: flag("add_eos_token")?.unwrap_or(encoder || unigram) || encoder,
            pair_ends: if unigram { 2 } else { 1 },
            add_space_prefix: flag("add_space_prefix")?.unwrap_or(spm || unigram) && (spm || unigram),
            chat_template: metadata.str("tokenizer.chat_template")?.map(str::to_owned),
            kind,
            tokens,
        };
        spec.validated()
    }
}

fn named(tokens: &[TokenSpec], name: &str) -> Option<u32> {
    tokens.iter().position(|token| token.text == name).and_then(|id| u32::try_from(id).ok())
}

/// Whether texts begin with `bos` when the file does not say.
fn begins(kind: &TokenizerKind) -> bool {
    match kind {
        TokenizerKind::Bpe { pre, .. } => BEGIN_BY_DEFAULT.contains(&pre.as_str()),
        TokenizerKind::Spm | TokenizerKind::WordPiece { .. } => true,
        // T5's do not; those of XLM-RoBERTa's kin say that they do.
        TokenizerKind::Unigram { .. } => false,
    }
}

fn kind(metadata: &Metadata<'_>) -> Result<TokenizerKind, TokenizerSpecError> {
    let model = metadata.str("tokenizer.ggml.model")?;
    match model.ok_or(TokenizerSpecError::Missing("tokenizer.ggml.model"))? {
        "gpt2" => Ok(TokenizerKind::Bpe {
            pre: metadata.str("tokenizer.ggml.pre")?.unwrap_or("default").to_owned(),
            merges: merges(metadata)?,
            ignore_merges: None,
        }),
        "llama" => Ok(TokenizerKind::Spm),
        "bert" => {
            let lowercase = metadata.bool("tokenizer.ggml.normalizer.lowercase")?.unwrap_or(true);
            let strip_accents =
                metadata.bool("tokenizer.ggml.normalizer.strip_accents")?.unwrap_or(lowercase);
            Ok(TokenizerKind::WordPiece { lowercase, strip_accents })
        }
        "t5" => unigram(metadata),
        kind => Err(TokenizerSpecError::Kind { kind: kind.to_owned(), known: "gpt2, llama, bert and t5" }),
    }
}

/// SentencePiece's steps, as its own tool does them.
fn unigram(metadata: &Metadata<'_>) -> Result<TokenizerKind, TokenizerSpecError> {
    let flag = |name: &str| metadata.bool(&format!("tokenizer.ggml.{name}"));
    let mut normalize = Vec::new();
    if let Some(table) = bytes(metadata, "tokenizer.ggml.precompiled_charsmap")? {
        normalize.push(Normalize::Charsmap(Charsmap::parse(&table).map_err(TokenizerSpecError::Charsmap)?));
    }
    if flag("remove_extra_whitespaces")?.unwrap_or(false) {
        normalize.push(Normalize::SqueezeSpaces);
    }
    if flag("add_space_prefix")?.unwrap_or(true) {
        normalize.push(Normalize::Prepend(" ".to_owned()));
    }
    let cuts = vec![Cut::MarkSpaces { prepend: Prepend::Never, cut: false }];
    Ok(TokenizerKind::Unigram { normalize, cuts })
}

/// An array of bytes that is not empty, if it is there.
fn bytes(metadata: &Metadata<'_>, key: &str) -> Result<Option<Vec<u8>>, TokenizerSpecError> {
    let Some(numbers) = metadata.u32s(key)?.filter(|numbers| !numbers.is_empty()) else { return Ok(None) };
    let bytes: Option<Vec<u8>> = numbers.into_iter().map(|number| u8::try_from(number).ok()).collect();
    bytes.map(Some).ok_or(TokenizerSpecError::Charsmap("it has numbers that are no bytes"))
}

/// Two tokens' texts with a space between; the texts themselves have none in GPT-2's alphabet.
fn merges(metadata: &Metadata<'_>) -> Result<Vec<(String, String)>, TokenizerSpecError> {
    let key = "tokenizer.ggml.merges";
    let merges = metadata.strings(key)?.ok_or(TokenizerSpecError::Missing(key))?;
    let pairs = merges.iter().enumerate().map(|(at, text)| {
        let pair = text.split_once(' ').filter(|(left, right)| !left.is_empty() && !right.is_empty());
        let (left, right) = pair.ok_or_else(|| TokenizerSpecError::Merge { at, text: (*text).to_owned() })?;
        Ok((left.to_owned(), right.to_owned()))
    });
    pairs.collect()
}

fn tokens(
    metadata: &Metadata<'_>,
    kind: &TokenizerKind,
    architecture: &str,
) -> Result<Vec<TokenSpec>, TokenizerSpecError> {
    let key = "tokenizer.ggml.tokens";
    let texts = metadata.strings(key)?.ok_or(TokenizerSpecError::Missing(key))?;
    let types = metadata.i32s("tokenizer.ggml.token_type")?;
    // Only SentencePiece means something by them; other vocabularies may carry anything.
    let spm = matches!(kind, TokenizerKind::Spm | TokenizerKind::Unigram { .. });
    let scores = if spm { metadata.f32s("tokenizer.ggml.scores")? } else { None };
    if spm && scores.is_none() {
        return Err(TokenizerSpecError::Missing("tokenizer.ggml.scores"));
    }
    same_length("types", types.as_deref(), texts.len())?;
    same_length("scores", scores.as_deref(), texts.len())?;
    let strips = spm && architecture == "phi3";
    let token = |(id, text): (usize, &&str)| {
        let number = types.as_ref().and_then(|types| types.get(id)).copied();
        let kind = token_kind(id, text, number.unwrap_or(1))?;
        let score = scores.as_ref().and_then(|scores| scores.get(id)).copied().unwrap_or(0.0);
        let strip_right = strips && is_phi3_marker(text, kind);
        Ok(TokenSpec { text: (*text).to_owned(), kind, score, strip_right })
    };
    texts.iter().enumerate().map(token).collect()
}

fn same_length<T>(what: &'static str, list: Option<&[T]>, tokens: usize) -> Result<(), TokenizerSpecError> {
    match list.map(<[T]>::len) {
        Some(found) if found != tokens => Err(TokenizerSpecError::Lengths { what, found, tokens }),
        _ => Ok(()),
    }
}

fn token_kind(id: usize, text: &str, number: i32) -> Result<TokenKind, TokenizerSpecError> {
    match number {
        // 0 is what some converters write for ordinary tokens.
        0 | 1 => Ok(TokenKind::Normal),
        2 => Ok(TokenKind::Unknown),
        3 => Ok(TokenKind::Control),
        4 => Ok(TokenKind::UserDefined),
        5 => Ok(TokenKind::Unused),
        6 => byte_of(text)
            .map(TokenKind::Byte)
            .ok_or_else(|| TokenizerSpecError::Byte { id, text: text.to_owned() }),
        number => Err(TokenizerSpecError::TokenType { id, number }),
    }
}

/// Phi-3's markers of turns take white space after them along; GGUF files do not say so.
fn is_phi3_marker(text: &str, kind: TokenKind) -> bool {
    let marker = matches!(kind, TokenKind::Control | TokenKind::UserDefined);
    marker && !matches!(text, "<unk>" | "<s>" | "<|endoftext|>")
}

//! A tokenizer as `tokenizer.json` and `tokenizer_config.json` describe it.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Charsmap, Cut, Normalize, Prepend, TokenKind, TokenSpec, TokenizerKind, TokenizerSpec,
    TokenizerSpecError, byte_of,
};

type Result<T> = std::result::Result<T, TokenizerSpecError>;

/// Splitting rules by the regular expressions that tokenizer.json writes out, one after another.
#[rustfmt::skip]
const RULES: &[(&str, &[&str])] = &[
    ("llama-bpe", &[r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"]),
    ("qwen2", &[r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"]),
    ("qwen35", &[r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"]),
    ("gpt-4o", &[r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"]),
    ("tekken", &[r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"]),
    ("deepseek-v3", &[r"\p{N}{1,3}", "[一-龥\u{3040}-ゟ゠-ヿ]+", "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"]),
    ("gpt-2", &[GPT2]),
    ("smollm", &[DIGITS, GPT2]),
];
/// What the byte-level step does by itself.
const GPT2: &str = "byte level";
/// Each number apart.
const DIGITS: &str = "digits";

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: usize,
    content: String,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    rstrip: bool,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    vocab: Value,
    #[serde(default)]
    merges: Vec<Merge>,
    unk_token: Option<String>,
    unk_id: Option<u32>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Joined(String),
    Pair(String, String),
}

/// The part of `tokenizer_config.json` that matters here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    bos_token: Value,
    eos_token: Value,
    pad_token: Value,
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
    chat_template: Value,
}

impl TokenizerSpec {
    /// Reads `tokenizer.json`, with `tokenizer_config.json` and the chat template beside it where there are such files.
    ///
    /// # Errors
    /// [`TokenizerSpecError`] when something is missing, contradictory or not supported.
    pub fn from_json(json: &[u8], settings: Option<&[u8]>, template: Option<&str>) -> Result<TokenizerSpec> {
        let unreadable = |error: serde_json::Error| TokenizerSpecError::Json(error.to_string());
        let file: File = serde_json::from_slice(json).map_err(unreadable)?;
        let settings: Settings =
            settings.map(serde_json::from_slice).transpose().map_err(unreadable)?.unwrap_or_default();
        let mut tokens = vocabulary(&file)?;
        let kind = kind(&file, &mut tokens)?;
        let id = |text: Option<&str>| {
            tokens.iter().position(|t| Some(t.text.as_str()) == text).and_then(|id| u32::try_from(id).ok())
        };
        let (first, last) = ends(&file.post_processor);
        let (bos, eos) = (content(&settings.bos_token), content(&settings.eos_token));
        let spec = TokenizerSpec {
            bos: id(bos.or(first)),
            eos: id(eos.or(last)),
            eot: None,
            eom: None,
            unknown: file.model.unk_id.or(id(file.model.unk_token.as_deref())),
            pad: id(content(&settings.pad_token)),
            add_bos: settings.add_bos_token.unwrap_or(first.is_some()),
            add_eos: settings.add_eos_token.unwrap_or(last.is_some()),
            pair_ends: pair_ends(&file.post_processor),
            add_space_prefix: matches!(kind, TokenizerKind::Spm | TokenizerKind::Unigram { .. })
                && adds_space(&file),
            chat_template: template.or(default_template(&settings.chat_template)).map(str::to_owned),
            kind,
            tokens,
        };
        spec.validated()
    }
}

/// All tokens, by identity.
fn vocabulary(file: &File) -> Result<Vec<TokenSpec>> {
    let mut by_id: HashMap<usize, TokenSpec> = HashMap::new();
    let mut put = |text: &str, id: usize, score: f32| {
        let kind =
            byte_of(text).filter(|_| file.model.byte_fallback).map_or(TokenKind::Normal, TokenKind::Byte);
        let token = TokenSpec { text: text.to_owned(), kind, score, strip_right: false };
        by_id.insert(id, token).map_or(Ok(()), |_| Err(TokenizerSpecError::Identity(id)))
    };
    match (&file.model.vocab, file.model.kind.as_deref()) {
        (Value::Object(vocab), _) => {
            for (text, id) in vocab {
                let id = id.as_u64().and_then(|id| usize::try_from(id).ok());
                let id =
                    id.ok_or_else(|| TokenizerSpecError::Json(format!("token {text:?} has no number")))?;
                put(text, id, 0.0)?;
            }
        }
        (Value::Array(vocab), Some("Unigram")) => {
            for (id, entry) in vocab.iter().enumerate() {
                let text = entry.get(0).and_then(Value::as_str);
                let score = entry.get(1).and_then(Value::as_f64);
                let (Some(text), Some(score)) = (text, score) else {
                    return Err(TokenizerSpecError::Json(format!("token {id} is no text with its score")));
                };
                put(text, id, score as f32)?;
            }
            if let Some(token) = file.model.unk_id.and_then(|id| by_id.get_mut(&(id as usize))) {
                token.kind = TokenKind::Unknown;
            }
        }
        (_, kind) => {
            let found = kind.unwrap_or_default().to_owned();
            return Err(TokenizerSpecError::Unsupported { what: "a model of the type", found });
        }
    }
    for added in &file.added_tokens {
        let unknown = file.model.unk_token.as_deref() == Some(&added.content);
        let kind = match (unknown, added.special) {
            (true, _) => TokenKind::Unknown,
            (_, true) => TokenKind::Control,
            (_, false) => TokenKind::UserDefined,
        };
        let unknown = by_id.get(&added.id).is_some_and(|token| token.kind == TokenKind::Unknown);
        let kind = if unknown { TokenKind::Unknown } else { kind };
        let score = by_id.get(&added.id).map_or(0.0, |token| token.score);
        let token = TokenSpec { text: added.content.clone(), kind, score, strip_right: added.rstrip };
        if by_id.insert(added.id, token).is_some_and(|before| before.text != added.content) {
            return Err(TokenizerSpecError::Identity(added.id));
        }
    }
    (0..by_id.len()).map(|id| by_id.remove(&id).ok_or(TokenizerSpecError::Identity(id))).collect()
}

fn kind(file: &File, tokens: &mut [TokenSpec]) -> Result<TokenizerKind> {
    match file.model.kind.as_deref() {
        Some("WordPiece") => {
            tokens.iter_mut().filter(|token| token.kind == TokenKind::Normal).for_each(mark_beginning);
            let option = |name: &str| file.normalizer.get(name).and_then(Value::as_bool);
            let lowercase = option("lowercase").unwrap_or(true);
            let strip_accents = option("strip_accents").unwrap_or(lowercase);
            Ok(TokenizerKind::WordPiece { lowercase, strip_accents })
        }
        Some("Unigram") => Ok(TokenizerKind::Unigram {
            normalize: normalize(&file.normalizer)?,
            cuts: cuts(&file.pre_tokenizer)?,
        }),
        Some("BPE") | None if file.model.byte_fallback => {
            score(&file.model.merges, tokens)?;
            Ok(TokenizerKind::Spm)
        }
        Some("BPE") | None => Ok(TokenizerKind::Bpe {
            pre: rule(&file.pre_tokenizer)?.to_owned(),
            merges: file
                .model
                .merges
                .iter()
                .enumerate()
                .map(|(at, merge)| pair(at, merge))
                .collect::<Result<_>>()?,
            ignore_merges: Some(file.model.ignore_merges),
        }),
        Some(kind) => {
            Err(TokenizerSpecError::Kind { kind: kind.to_owned(), known: "BPE, Unigram and WordPiece" })
        }
    }
}

/// From `##` before what goes on to `▁` before what begins.
fn mark_beginning(token: &mut TokenSpec) {
    token.text = match token.text.strip_prefix("##") {
        Some(rest) => rest.to_owned(),
        None => format!("▁{}", token.text),
    };
}

fn pair(at: usize, merge: &Merge) -> Result<(String, String)> {
    let (left, right) = match merge {
        Merge::Pair(left, right) => (left.as_str(), right.as_str()),
        Merge::Joined(text) => {
            let wrong = || TokenizerSpecError::Merge { at, text: text.clone() };
            text.split_once(' ').ok_or_else(wrong)?
        }
    };
    Ok((left.to_owned(), right.to_owned()))
}

/// SentencePiece ranks merges by the score of what they make; here merges are listed in that order.
fn score(merges: &[Merge], tokens: &mut [TokenSpec]) -> Result<()> {
    let mut ranks: HashMap<String, usize> = HashMap::with_capacity(merges.len());
    for (at, merge) in merges.iter().enumerate() {
        let (left, right) = pair(at, merge)?;
        ranks.entry(left + &right).or_insert(at);
    }
    for token in tokens.iter_mut().filter(|token| token.kind == TokenKind::Normal) {
        match ranks.get(&token.text) {
            Some(&rank) => token.score = -(rank as f32),
            // No merge makes it, so nothing may.
            None if token.text.chars().count() > 1 => token.kind = TokenKind::Unused,
            None => {}
        }
    }
    Ok(())
}

/// The steps of a part that may be a sequence.
fn steps<'v>(part: &'v Value, list: &str) -> Vec<&'v Value> {
    match part.get(list).and_then(Value::as_array) {
        Some(steps) => steps.iter().collect(),
        None if part.is_object() => vec![part],
        None => Vec::new(),
    }
}

fn type_of(step: &Value) -> &str {
    step.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// The name of the rule that the steps amount to.
fn rule(pre_tokenizer: &Value) -> Result<&'static str> {
    let mut expressions = Vec::new();
    for step in steps(pre_tokenizer, "pretokenizers") {
        let set = |name: &str| step.get(name).and_then(Value::as_bool).unwrap_or(false);
        let expression = step.pointer("/pattern/Regex").and_then(Value::as_str);
        match (type_of(step), expression) {
            ("Split", Some(expression)) => expressions.push(expression),
            ("Digits", _) if set("individual_digits") => expressions.push(DIGITS),
            ("ByteLevel", _) if set("add_prefix_space") => {
                return Err(unsupported("pre_tokenizer with `add_prefix_space`", step));
            }
            ("ByteLevel", _) => {
                if step.get("use_regex").and_then(Value::as_bool).unwrap_or(true) {
                    expressions.push(GPT2);
                }
            }
            _ => return Err(unsupported("pre_tokenizer", step)),
        }
    }
    let expressions: Vec<String> = expressions.into_iter().map(spelt_out).collect();
    let known = RULES.iter().find(|(_, rule)| {
        rule.len() == expressions.len()
            && rule.iter().zip(&expressions).all(|(ours, theirs)| spelt_out(ours) == *theirs)
    });
    known.map(|(name, _)| *name).ok_or_else(|| unsupported("pre_tokenizer", pre_tokenizer))
}

/// An expression with line ends written out and quotes bare: files write them in several ways.
fn spelt_out(expression: &str) -> String {
    expression.replace('\r', "\\r").replace('\n', "\\n").replace("\\\"", "\"")
}

fn unsupported(what: &'static str, found: &Value) -> TokenizerSpecError {
    let found: String = found.to_string().chars().take(200).collect();
    TokenizerSpecError::Unsupported { what, found }
}

/// What a unigram tokenizer does with a text first.
fn normalize(normalizer: &Value) -> Result<Vec<Normalize>> {
    let step = |step: &Value| {
        let text = |name: &str| step.get(name).and_then(Value::as_str);
        let set = |name: &str| step.get(name).and_then(Value::as_bool).unwrap_or(false);
        let expression = step.pointer("/pattern/Regex").and_then(Value::as_str);
        let plain = step.pointer("/pattern/String").and_then(Value::as_str);
        Ok(match (type_of(step), plain, expression) {
            ("Precompiled", ..) => {
                let table = text("precompiled_charsmap").unwrap_or_default();
                let table =
                    STANDARD.decode(table).map_err(|_| TokenizerSpecError::Charsmap("it is not base64"))?;
                Normalize::CharsmapOfGraphemes(Charsmap::parse(&table).map_err(TokenizerSpecError::Charsmap)?)
            }
            ("Replace", Some(from), None) if !from.is_empty() => Normalize::Replace {
                from: from.to_owned(),
                to: text("content").unwrap_or_default().to_owned(),
            },
            ("Replace", None, Some(" {2,}")) => {
                Normalize::ReplaceSpaces { to: text("content").unwrap_or_default().to_owned() }
            }
            ("Prepend", ..) => Normalize::Prepend(text("prepend").unwrap_or_default().to_owned()),
            ("Strip", ..) => Normalize::Strip { left: set("strip_left"), right: set("strip_right") },
            ("StripAccents", ..) => Normalize::StripAccents,
            ("Lowercase", ..) => Normalize::Lowercase,
            ("NFC", ..) => Normalize::Nfc,
            ("NFD", ..) => Normalize::Nfd,
            ("NFKC", ..) => Normalize::Nfkc,
            ("NFKD", ..) => Normalize::Nfkd,
            _ => return Err(unsupported("normalizer", step)),
        })
    };
    steps(normalizer, "normalizers").into_iter().map(step).collect()
}

/// How a unigram tokenizer cuts a text into pieces.
fn cuts(pre_tokenizer: &Value) -> Result<Vec<Cut>> {
    let step = |step: &Value| match (type_of(step), step.get("replacement").and_then(Value::as_str)) {
        ("WhitespaceSplit", _) => Ok(Cut::WhiteSpace),
        ("Metaspace", None | Some("▁")) => {
            let flag = |name: &str| step.get(name).and_then(Value::as_bool).unwrap_or(true);
            let prepend = match step.get("prepend_scheme").and_then(Value::as_str) {
                None if flag("add_prefix_space") => Prepend::Always,
                None => Prepend::Never,
                Some("always") => Prepend::Always,
                Some("first") => Prepend::First,
                Some("never") => Prepend::Never,
                Some(_) => return Err(unsupported("pre_tokenizer", step)),
            };
            Ok(Cut::MarkSpaces { prepend, cut: flag("split") })
        }
        _ => Err(unsupported("pre_tokenizer", step)),
    };
    steps(pre_tokenizer, "pretokenizers").into_iter().map(step).collect()
}

/// How many special tokens stand between two texts.
fn pair_ends(post_processor: &Value) -> usize {
    for step in steps(post_processor, "processors") {
        match type_of(step) {
            "RobertaProcessing" => return 2,
            "TemplateProcessing" => {
                let pair = step.get("pair").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
                let is_text = |item: &&Value| item.get("Sequence").is_some();
                let after_first = pair.iter().skip_while(|item| !is_text(item)).skip(1);
                return after_first.take_while(|item| !is_text(item)).count();
            }
            _ => {}
        }
    }
    1
}

/// Whether a space is put before a text: by the normaliser, or by the step that marks spaces.
fn adds_space(file: &File) -> bool {
    let prepends = steps(&file.normalizer, "normalizers").into_iter().any(|step| type_of(step) == "Prepend");
    let marks = steps(&file.pre_tokenizer, "pretokenizers").into_iter().any(|step| {
        let scheme = step.get("prepend_scheme").and_then(Value::as_str);
        let legacy = step.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(true);
        type_of(step) == "Metaspace" && scheme.map_or(legacy, |scheme| scheme != "never")
    });
    prepends || marks
}

/// The tokens that are put before and after a text.
fn ends<'v>(post_processor: &'v Value) -> (Option<&'v str>, Option<&'v str>) {
    for step in steps(post_processor, "processors") {
        let named = |name: &str| step.get(name).and_then(|pair| pair.get(0)).and_then(Value::as_str);
        match type_of(step) {
            "BertProcessing" | "RobertaProcessing" => return (named("cls"), named("sep")),
            "TemplateProcessing" => {
                let single =
                    step.get("single").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
                let special =
                    |item: Option<&'v Value>| item?.pointer("/SpecialToken/id").and_then(Value::as_str);
                return (special(single.first()), special(single.last()));
            }
            _ => {}
        }
    }
    (None, None)
}

/// A special token, which is written as a string or as an object.
fn content(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content").and_then(Value::as_str))
}

/// The template, or of several the one called `default`.
fn default_template(template: &Value) -> Option<&str> {
    let named = |entry: &&Value| entry.get("name").and_then(Value::as_str) == Some("default");
    let default = || template.as_array()?.iter().find(named)?.get("template")?.as_str();
    template.as_str().or_else(default)
}

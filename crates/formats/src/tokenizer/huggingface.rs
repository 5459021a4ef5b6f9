//! A tokenizer as `tokenizer.json` and `tokenizer_config.json` describe it.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::{TokenKind, TokenSpec, TokenizerKind, TokenizerSpec, TokenizerSpecError, byte_of};

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
            unknown: id(file.model.unk_token.as_deref()),
            pad: id(content(&settings.pad_token)),
            add_bos: settings.add_bos_token.unwrap_or(first.is_some()),
            add_eos: settings.add_eos_token.unwrap_or(last.is_some()),
            add_space_prefix: matches!(kind, TokenizerKind::Spm) && adds_space(&file),
            chat_template: template.or(default_template(&settings.chat_template)).map(str::to_owned),
            kind,
            tokens,
        };
        spec.validated()
    }
}

/// All tokens, by identity.
fn vocabulary(file: &File) -> Result<Vec<TokenSpec>> {
    let Value::Object(vocab) = &file.model.vocab else {
        let found = file.model.kind.clone().unwrap_or_default();
        return Err(TokenizerSpecError::Unsupported { what: "a model of the type", found });
    };
    let mut by_id: HashMap<usize, TokenSpec> = HashMap::with_capacity(vocab.len());
    for (text, id) in vocab {
        let id = id.as_u64().and_then(|id| usize::try_from(id).ok());
        let id = id.ok_or_else(|| TokenizerSpecError::Json(format!("token {text:?} has no number")))?;
        let kind =
            byte_of(text).filter(|_| file.model.byte_fallback).map_or(TokenKind::Normal, TokenKind::Byte);
        let token = TokenSpec { text: text.clone(), kind, score: 0.0, strip_right: false };
        if by_id.insert(id, token).is_some() {
            return Err(TokenizerSpecError::Identity(id));
        }
    }
    for added in &file.added_tokens {
        let unknown = file.model.unk_token.as_deref() == Some(&added.content);
        let kind = match (unknown, added.special) {
            (true, _) => TokenKind::Unknown,
            (_, true) => TokenKind::Control,
            (_, false) => TokenKind::UserDefined,
        };
        let token = TokenSpec { text: added.content.clone(), kind, score: 0.0, strip_right: added.rstrip };
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
        Some(kind) => Err(TokenizerSpecError::Kind { kind: kind.to_owned(), known: "BPE and WordPiece" }),
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

/// Whether a space is put before a text: by the normaliser, or by the step that marks spaces.
fn adds_space(file: &File) -> bool {
    let prepends = steps(&file.normalizer, "normalizers").into_iter().any(|step| type_of(step) == "Prepend");
    let marks = steps(&file.pre_tokenizer, "pretokenizers").into_iter().any(|step| {
        let scheme = step.get("prepend_scheme").and_then(Value::as_str);
        type_of(step) == "Metaspace" && scheme.is_some_and(|scheme| scheme != "never")
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

//! [`Sentence`]: how a directory of `sentence-transformers` makes one vector of a text's.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::{Error, is_plain, optional, required};

const MODULES_FILE: &str = "modules.json";
const TRANSFORMER_FILE: &str = "sentence_bert_config.json";
const TOKENIZER_FILE: &str = "tokenizer_config.json";
const PROMPTS_FILE: &str = "config_sentence_transformers.json";

/// How the vectors of a text's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// Their sum over the root of their number.
    MeanSqrt,
    /// The first: that of the classification token.
    First,
    /// The last.
    Last,
    /// The largest of each place.
    Max,
}

/// What follows the layers of a model, and how long its texts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sentence {
    /// How the tokens' vectors become one.
    pub pooling: Pooling,
    /// Whether that one is divided by its length.
    pub normalize: bool,
    /// Tokens that a text may have, those at its ends included; none where the files do not say.
    pub tokens_max: Option<u32>,
    /// Whether texts are made lower-case before they are cut into tokens.
    pub lowercase: bool,
}

/// An entry of `modules.json`.
#[derive(Deserialize)]
struct Module {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: String,
}

/// `sentence_bert_config.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Transformer {
    max_seq_length: Option<u32>,
    do_lower_case: bool,
}

/// `config.json` of the pooling: the way by its name, or, as older versions wrote it, a flag for each.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Pool {
    pooling_mode: Option<String>,
    pooling_mode_cls_token: bool,
    pooling_mode_mean_tokens: bool,
    pooling_mode_max_tokens: bool,
    pooling_mode_mean_sqrt_len_tokens: bool,
    pooling_mode_weightedmean_tokens: bool,
    pooling_mode_lasttoken: bool,
}

impl Sentence {
    /// Reads what the directory says. One without `modules.json` is treated as `sentence-transformers` does: the mean,
    /// as long as it comes.
    pub(super) fn read(directory: &Path) -> Result<Sentence, Error> {
        let transformer: Transformer = parsed(directory, TRANSFORMER_FILE)?.unwrap_or_default();
        let mut sentence = Sentence {
            pooling: Pooling::Mean,
            normalize: false,
            tokens_max: transformer.max_seq_length.or(tokenizer_max(directory)?),
            lowercase: transformer.do_lower_case,
        };
        no_default_prompt(directory)?;
        let Some(modules) = parsed::<Vec<Module>>(directory, MODULES_FILE)? else { return Ok(sentence) };
        let mut names = Vec::new();
        for module in &modules {
            let name = module.kind.rsplit('.').next().unwrap_or_default();
            match name {
                "Transformer" if module.path.is_empty() => {}
                "Transformer" => return Err(wrong("its model must lie beside it, at the path \"\"")),
                "Pooling" => sentence.pooling = pooling(directory, &module.path)?,
                "Normalize" => sentence.normalize = true,
                _ => {}
            }
            names.push(name);
        }
        match names[..] {
            ["Transformer", "Pooling"] | ["Transformer", "Pooling", "Normalize"] => Ok(sentence),
            _ => {
                let found: String = names.join(", ").chars().take(200).collect();
                Err(wrong(&format!(
                    "it lists {found}; Transformer, Pooling and perhaps Normalize are possible"
                )))
            }
        }
    }
}

fn wrong(message: &str) -> Error {
    Error::Json { file: MODULES_FILE, message: message.to_owned() }
}

/// A JSON file, if it is there.
fn parsed<T: serde::de::DeserializeOwned>(directory: &Path, file: &'static str) -> Result<Option<T>, Error> {
    let Some(bytes) = optional(directory, file)? else { return Ok(None) };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|error| Error::Json { file, message: error.to_string() })
}

/// What `tokenizer_config.json` says of lengths. Tokenizers without a limit write a number beyond all sense.
fn tokenizer_max(directory: &Path) -> Result<Option<u32>, Error> {
    let settings: Option<Value> = parsed(directory, TOKENIZER_FILE)?;
    let max = settings.as_ref().and_then(|settings| settings.get("model_max_length")).and_then(Value::as_u64);
    Ok(max.and_then(|max| u32::try_from(max).ok()))
}

/// Refuses models that put words before every text of their own accord.
fn no_default_prompt(directory: &Path) -> Result<(), Error> {
    let settings: Option<Value> = parsed(directory, PROMPTS_FILE)?;
    let named = settings.as_ref().and_then(|settings| settings.get("default_prompt_name"));
    match named {
        None | Some(Value::Null) => Ok(()),
        Some(_) => {
            let message = "`default_prompt_name` is not supported: set it to null, and write the prompt before each text";
            Err(Error::Json { file: PROMPTS_FILE, message: message.to_owned() })
        }
    }
}

fn pooling(directory: &Path, path: &str) -> Result<Pooling, Error> {
    const FILE: &str = "config.json";
    if !is_plain(path) {
        return Err(wrong(&format!("{path:?} is not the name of a directory beside it")));
    }
    let directory = directory.join(path);
    let pool: Pool = serde_json::from_slice(&required(&directory, FILE)?)
        .map_err(|error| Error::Json { file: FILE, message: error.to_string() })?;
    let ways: Vec<&str> = match &pool.pooling_mode {
        Some(way) => vec![way],
        None => [
            (pool.pooling_mode_cls_token, "cls"),
            (pool.pooling_mode_mean_tokens, "mean"),
            (pool.pooling_mode_max_tokens, "max"),
            (pool.pooling_mode_mean_sqrt_len_tokens, "mean_sqrt_len_tokens"),
            (pool.pooling_mode_weightedmean_tokens, "weightedmean"),
            (pool.pooling_mode_lasttoken, "lasttoken"),
        ]
        .into_iter()
        .filter_map(|(set, way)| set.then_some(way))
        .collect(),
    };
    match ways[..] {
        ["mean"] => Ok(Pooling::Mean),
        ["mean_sqrt_len_tokens"] => Ok(Pooling::MeanSqrt),
        ["cls"] => Ok(Pooling::First),
        ["lasttoken"] => Ok(Pooling::Last),
        ["max"] => Ok(Pooling::Max),
        _ => {
            let found: String = ways.join(", ").chars().take(200).collect();
            let message = format!(
                "pooling by {found:?} is not supported: one of mean, mean_sqrt_len_tokens, cls, lasttoken and max is"
            );
            Err(Error::Json { file: FILE, message })
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MODULES: &str = r#"[{"path": "", "type": "sentence_transformers.models.Transformer"},
        {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]"#;

    fn read(files: &[(&str, &str)]) -> Result<Sentence, String> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("1_Pooling")).unwrap();
        for (name, content) in files {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        Sentence::read(directory.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn old_and_new_directories_are_read() {
        let plain = Sentence { pooling: Pooling::Mean, normalize: false, tokens_max: None, lowercase: false };
        assert_eq!(read(&[]).unwrap(), plain);
        assert_eq!(read(&[(TOKENIZER_FILE, r#"{"model_max_length": 1e30}"#)]).unwrap(), plain);
        let old = [
            (MODULES_FILE, MODULES),
            (TRANSFORMER_FILE, r#"{"max_seq_length": 256, "do_lower_case": true}"#),
            (TOKENIZER_FILE, r#"{"model_max_length": 512}"#),
            (
                "1_Pooling/config.json",
                r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#,
            ),
        ];
        let expected =
            Sentence { pooling: Pooling::First, normalize: true, tokens_max: Some(256), lowercase: true };
        assert_eq!(read(&old).unwrap(), expected);
        let new = [
            (MODULES_FILE, MODULES),
            (TRANSFORMER_FILE, r#"{"transformer_task": "feature-extraction"}"#),
            (TOKENIZER_FILE, r#"{"model_max_length": 512}"#),
            (PROMPTS_FILE, r#"{"default_prompt_name": null}"#),
            ("1_Pooling/config.json", r#"{"embedding_dimension": 384, "pooling_mode": "max"}"#),
        ];
        let expected =
            Sentence { pooling: Pooling::Max, normalize: true, tokens_max: Some(512), lowercase: false };
        assert_eq!(read(&new).unwrap(), expected);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let pooled =
            |pool: &str| read(&[(MODULES_FILE, MODULES), ("1_Pooling/config.json", pool)]).unwrap_err();
        assert!(pooled(r#"{"pooling_mode": "weightedmean"}"#).contains("weightedmean"));
        let two = pooled(r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}"#);
        assert!(two.contains("cls, mean"), "{two}");
        assert!(pooled("{}").contains("pooling by \"\""));
        let modules = |text: &str| read(&[(MODULES_FILE, text)]).unwrap_err();
        assert!(modules(&MODULES.replace(".Normalize", ".Dense")).contains("Dense"));
        assert!(modules(&MODULES.replace("1_Pooling\"", "../1_Pooling\"")).contains("beside it"));
        assert!(modules(&MODULES.replace("\"\"", "\"0_Transformer\"")).contains("at the path"));
        assert!(
            read(&[(PROMPTS_FILE, r#"{"default_prompt_name": "query"}"#)]).unwrap_err().contains("prompt")
        );
    }
}

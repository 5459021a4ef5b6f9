//! [`TextInput`]: texts to the tokens that a network takes.

use std::fs;
use std::path::{Component, Path};

use formats::processing::Text;
use formats::tokenizer::TokenizerSpec;
use llm::encoder::Input;
use llm::tokenizer::Tokenizer;
use tensor::{Data, Signature};

use super::{Cell, Filling, takes};

/// The largest tokenizer file, in bytes.
const FILE_BYTES_MAX: u64 = 128 << 20;
/// What is read beside it, if it is there.
const SETTINGS_FILE: &str = "tokenizer_config.json";

/// How texts become rows of one to three inputs.
pub(super) struct TextInput {
    tokenizer: Tokenizer,
    pad: i32,
    max_length: usize,
    truncate: bool,
    /// The network's inputs, and what each holds.
    inputs: Vec<(String, Part)>,
}

/// What an input says of each token.
#[derive(Clone, Copy)]
enum Part {
    /// Which one it is.
    Id,
    /// 1 for the text's own.
    Mask,
    /// Of the first text: 0.
    Type,
}

impl TextInput {
    pub(super) fn new(text: Text, directory: &Path, signature: &Signature) -> Result<Self, String> {
        let mut inputs = Vec::new();
        for spec in &signature.inputs {
            let parts = [(&text.ids, Part::Id), (&text.mask, Part::Mask), (&text.types, Part::Type)];
            let part = parts.into_iter().find(|(name, _)| **name == spec.name);
            let (_, part) = part.ok_or_else(|| {
                format!(
                    "the network's input `{spec}` is none of `{}`, `{}`, `{}`",
                    text.ids, text.mask, text.types
                )
            })?;
            takes(spec, &[text.max_length])?;
            inputs.push((spec.name.clone(), part));
        }
        if !inputs.iter().any(|(_, part)| matches!(part, Part::Id)) {
            return Err(format!("the network has no input `{}` for tokens", text.ids));
        }
        let bytes = read(directory, &text.tokenizer)?
            .ok_or_else(|| format!("there is no file `{}` beside the model", text.tokenizer))?;
        let settings = read(directory, SETTINGS_FILE)?;
        let spec = TokenizerSpec::from_json(&bytes, settings.as_deref(), None).map_err(|e| e.to_string())?;
        let pad = spec.pad.and_then(|pad| i32::try_from(pad).ok()).unwrap_or(0);
        let tokenizer = Tokenizer::new(&spec).map_err(|e| e.to_string())?;
        Ok(TextInput { tokenizer, pad, max_length: text.max_length, truncate: text.truncate, inputs })
    }

    pub(super) fn filling(&self) -> Vec<Filling> {
        let input = |(name, _): &(String, Part)| Filling {
            name: name.clone(),
            row: vec![self.max_length],
            data: Data::I32(Vec::new()),
        };
        self.inputs.iter().map(input).collect()
    }

    pub(super) fn append(&self, cell: Cell<'_>, filling: &mut [Filling]) -> Result<(), String> {
        let text = match cell {
            Cell::Text(text) => text,
            Cell::Missing => "",
            other => return Err(format!("expected a string, found {}", other.kind())),
        };
        let mut input = Input::text(&self.tokenizer, text);
        let (tokens, max) = (input.tokens.len(), self.max_length);
        if tokens > max && !(self.truncate && input.truncate(&self.tokenizer, max)) {
            return Err(format!("the text has {tokens} tokens; this model takes {max} at most: shorten it"));
        }
        let own = input.tokens.len();
        for ((_, part), filling) in self.inputs.iter().zip(filling) {
            let Data::I32(all) = &mut filling.data else { continue };
            let end = all.len() + max;
            match part {
                Part::Id => all.extend(input.tokens.iter().map(|id| i32::try_from(*id).unwrap_or(0))),
                Part::Mask => all.extend(std::iter::repeat_n(1, own)),
                Part::Type => {}
            }
            all.resize(end, if matches!(part, Part::Id) { self.pad } else { 0 });
        }
        Ok(())
    }
}

/// A file of the artifact by its plain name, if it is there.
fn read(directory: &Path, file: &str) -> Result<Option<Vec<u8>>, String> {
    let mut components = Path::new(file).components();
    if !matches!((components.next(), components.next()), (Some(Component::Normal(name)), None) if name == file)
    {
        return Err(format!("`{file}` is not the name of a file beside the model"));
    }
    let (path, unreadable) = (directory.join(file), |e| format!("`{file}` cannot be read: {e}"));
    match fs::metadata(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(unreadable(e)),
        Ok(about) if about.len() > FILE_BYTES_MAX => {
            Err(format!("`{file}` has more than {FILE_BYTES_MAX} bytes"))
        }
        Ok(_) => fs::read(&path).map(Some).map_err(unreadable),
    }
}

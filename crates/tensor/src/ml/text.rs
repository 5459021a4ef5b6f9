//! Nodes that make numbers of texts: normalising, cutting into tokens, counting runs of tokens.

use std::collections::{HashMap, HashSet};

use regex::Regex;

use super::attributes::Attributes;
use super::value::{Array, Value, elements};
use super::{Fault, Inputs, Run};

pub(super) fn normalizer(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let case: fn(&str) -> String = match attributes.text("case_change_action")?.unwrap_or("NONE") {
        "NONE" => str::to_owned,
        "LOWER" => str::to_lowercase,
        "UPPER" => str::to_uppercase,
        other => return Err(Fault::new(format!("attribute `case_change_action` has no `{other}`"))),
    };
    let exact = attributes.flag("is_case_sensitive", false)?;
    // Only its name is read: cases are changed as Unicode has it.
    attributes.text("locale")?;
    let fold = move |text: &str| if exact { text.to_owned() } else { text.to_lowercase() };
    let stop: HashSet<String> = attributes.texts("stopwords").iter().map(|word| fold(word)).collect();
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let value = inputs.get(0)?;
        let kept = value.texts()?.iter().filter(|text| stop.is_empty() || !stop.contains(&fold(text)));
        let mut texts: Vec<String> = kept.map(|text| case(text)).collect();
        let mut shape = value.shape.clone();
        if !stop.is_empty() {
            if !matches!(shape.as_slice(), [_] | [1, _]) {
                return Err(Fault::new("it leaves out words of one row only"));
            }
            if texts.is_empty() {
                texts.push(String::new());
            }
            if let Some(last) = shape.last_mut() {
                *last = texts.len();
            }
        }
        Ok(vec![Value::new(shape, Array::Text(texts))?])
    }))
}

/// Most bytes that a compiled expression may take.
const EXPRESSION_BYTES_MAX: usize = 1 << 20;

/// Cuts texts into tokens, and fills rows up to the longest.
pub(super) fn tokenizer(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    if attributes.flag("mark", false)? {
        return Err(Fault::new("attribute `mark` is not supported"));
    }
    let padding = attributes.text("pad_value")?.unwrap_or_default().to_owned();
    let least = attributes.int("mincharnum")?.unwrap_or(1).max(1);
    let compile = |pattern: &str, name: &str| {
        let built = regex::RegexBuilder::new(pattern).size_limit(EXPRESSION_BYTES_MAX).build();
        built.map_err(|_| {
            Fault::new(format!("attribute `{name}` is no regular expression of a kind that is supported"))
        })
    };
    let tokens = attributes.text("tokenexp")?.map(|pattern| compile(pattern, "tokenexp")).transpose()?;
    let cut = match (tokens, attributes.texts("separators")) {
        (Some(tokens), []) => Cut::Tokens(tokens),
        (None, [only]) if only.is_empty() => Cut::Letters,
        (None, separators @ [_, ..]) => {
            let each: Vec<String> = separators.iter().map(|pattern| format!("(?:{pattern})")).collect();
            Cut::Between(compile(&each.join("|"), "separators")?)
        }
        _ => return Err(Fault::new("one of the attributes `tokenexp` and `separators` is needed")),
    };
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let value = inputs.get(0)?;
        let long = |token: &&str| token.chars().count() as i64 >= least;
        let rows: Vec<Vec<&str>> =
            value.texts()?.iter().map(|text| cut.tokens(text).filter(long).collect()).collect();
        let width = rows.iter().map(Vec::len).max().unwrap_or(0);
        let mut shape = value.shape.clone();
        shape.push(width);
        let mut all = Vec::with_capacity(elements(&shape)?);
        for row in rows {
            let missing = width - row.len();
            all.extend(row.into_iter().map(str::to_owned));
            all.extend(std::iter::repeat_n(&padding, missing).cloned());
        }
        Ok(vec![Value::new(shape, Array::Text(all))?])
    }))
}

/// How a text is cut.
enum Cut {
    Tokens(Regex),
    Between(Regex),
    Letters,
}

impl Cut {
    fn tokens<'t>(&'t self, text: &'t str) -> Box<dyn Iterator<Item = &'t str> + 't> {
        match self {
            Cut::Tokens(tokens) => Box::new(tokens.find_iter(text).map(|found| found.as_str())),
            Cut::Between(separator) => Box::new(separator.split(text).filter(|token| !token.is_empty())),
            Cut::Letters => {
                Box::new(text.char_indices().filter_map(|(at, letter)| text.get(at..at + letter.len_utf8())))
            }
        }
    }
}

/// Longest run of tokens, and most tokens left out between two of a run.
const GRAM_MAX: i64 = 64;
const SKIP_MAX: i64 = 16;

/// How a count becomes a number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counted {
    Frequency,
    Presence,
    Weighted,
}

/// Counts runs of tokens that are in its pool.
pub(super) fn counts(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let counted = match attributes.text("mode")? {
        Some("TF") => Counted::Frequency,
        Some("IDF") => Counted::Presence,
        Some("TFIDF") => Counted::Weighted,
        other => return Err(Fault::new(format!("attribute `mode` has no `{}`", other.unwrap_or_default()))),
    };
    let limited = |name, default, max| match attributes.int(name)?.unwrap_or(default) {
        found if (0..=max).contains(&found) => Ok(found as usize),
        found => Err(Fault::new(format!("attribute `{name}` is {found}, not 0 to {max}"))),
    };
    let shortest = limited("min_gram_length", 1, GRAM_MAX)?.max(1);
    let longest = limited("max_gram_length", 1, GRAM_MAX)?;
    let skips = limited("max_skip_count", 0, SKIP_MAX)?;
    let starts = attributes.ints("ngram_counts");
    let places = attributes.ints("ngram_indexes");
    let weights = attributes.floats("weights").to_vec();
    let pool = match (attributes.texts("pool_strings"), attributes.ints("pool_int64s")) {
        (texts, []) => texts.to_vec(),
        ([], ints) => ints.iter().map(i64::to_string).collect(),
        _ => return Err(Fault::new("attributes `pool_strings` and `pool_int64s` are both given")),
    };
    if !weights.is_empty() && weights.len() != places.len() {
        let (weights, places) = (weights.len(), places.len());
        return Err(Fault::new(format!("attribute `weights` has {weights} entries for {places} runs")));
    }
    let mut vocabulary = Vocabulary::default();
    let mut grams = 0;
    for (i, &start) in starts.iter().enumerate() {
        let end = starts.get(i + 1).map_or(Some(pool.len()), |&end| usize::try_from(end).ok());
        let part = usize::try_from(start).ok().zip(end).and_then(|(start, end)| pool.get(start..end));
        let part =
            part.ok_or_else(|| Fault::new(format!("attribute `ngram_counts` has a {start} out of order")))?;
        if part.len() % (i + 1) != 0 {
            let text = format!("attribute `ngram_counts`: {} tokens are no runs of {}", part.len(), i + 1);
            return Err(Fault::new(text));
        }
        for gram in part.chunks_exact(i + 1) {
            let column = places.get(grams).and_then(|&place| u32::try_from(place).ok());
            let no_column = || Fault::new(format!("attribute `ngram_indexes` has no column for run {grams}"));
            vocabulary.add(gram, (column.ok_or_else(no_column)?, grams));
            grams += 1;
        }
    }
    if grams != places.len() {
        let places = places.len();
        return Err(Fault::new(format!("attribute `ngram_indexes` has {places} entries for {grams} runs")));
    }
    let width = places.iter().max().map_or(0, |&last| last as usize + 1);
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let value = inputs.get(0)?;
        let (rows, length) = value.table();
        let numbers;
        let tokens: &[String] = match &value.array {
            Array::Text(texts) => texts,
            _ => {
                numbers = value.ints()?.iter().map(i64::to_string).collect::<Vec<_>>();
                &numbers
            }
        };
        let shape = if value.shape.len() < 2 { vec![width] } else { vec![rows, width] };
        let mut all = vec![0f32; elements(&shape)?];
        let cells = all.chunks_exact_mut(width.max(1)).zip(tokens.chunks(length.max(1)));
        for (cells, tokens) in cells {
            let ids: Vec<Option<u32>> =
                tokens.iter().map(|token| vocabulary.ids.get(token).copied()).collect();
            for gram in shortest..=longest {
                // A token alone has nothing between.
                for skip in 0..=if gram == 1 { 0 } else { skips } {
                    vocabulary.each(&ids, gram, skip + 1, |(column, place)| {
                        let Some(cell) = cells.get_mut(column as usize) else { return };
                        let weight = weights.get(place).copied().unwrap_or(1.0);
                        match counted {
                            Counted::Frequency => *cell += 1.0,
                            Counted::Presence => *cell = weight,
                            Counted::Weighted => *cell += weight,
                        }
                    });
                }
            }
        }
        Ok(vec![Value::new(shape, Array::F32(all))?])
    }))
}

/// Runs of tokens, with the column and the place of each.
#[derive(Default)]
struct Vocabulary {
    ids: HashMap<String, u32>,
    runs: HashMap<Vec<u32>, (u32, usize)>,
}

impl Vocabulary {
    fn add(&mut self, tokens: &[String], at: (u32, usize)) {
        let mut run = Vec::with_capacity(tokens.len());
        for token in tokens {
            let next = self.ids.len() as u32;
            run.push(*self.ids.entry(token.clone()).or_insert(next));
        }
        self.runs.entry(run).or_insert(at);
    }

    /// Calls `each` for every known run of `length` tokens that lie `step` apart.
    fn each(&self, ids: &[Option<u32>], length: usize, step: usize, mut each: impl FnMut((u32, usize))) {
        let mut run = Vec::with_capacity(length);
        for start in 0..ids.len().saturating_sub((length - 1) * step) {
            run.clear();
            let tokens = ids.iter().skip(start).step_by(step).take(length);
            run.extend(tokens.map_while(|id| *id));
            if run.len() == length
                && let Some(&at) = self.runs.get(&run)
            {
                each(at);
            }
        }
    }
}

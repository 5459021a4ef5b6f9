//! [`PreTokenizer`]: cuts text into the pieces within which byte pairs are merged.
//!
//! A model was trained with one regular expression, or several applied one after another; a file names them by
//! `tokenizer.ggml.pre`. Here they are written out by hand: the same pieces as the expression's, which stands above
//! each function, in time that grows with the text alone. Whole text is always covered: what an expression does not
//! match is a piece as well. The tests under `tests/llm` compare with the expressions themselves.

use std::ops::Range;

use super::classes::{
    CASELESS, Classes, LETTER, LOWER, MARK, NUMBER, PUNCTUATION, SPACE, SYMBOL, UPPER, classes,
};

/// One splitting rule.
#[derive(Debug, Clone, Copy)]
pub struct PreTokenizer {
    /// Each cuts the pieces that the one before it made.
    stages: &'static [Stage],
    ignore_merges: bool,
}

/// One expression: what it matches becomes a piece, and so does what lies between its matches.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Gpt2,
    Llama3(Llama3),
    Gpt4o(Gpt4o),
    DeepSeek3,
    /// `[\r\n]`
    Newline,
    /// `\p{N}{1,n}`
    Numbers(usize),
    /// `[0-9][0-9][0-9]`
    ThreeDigits,
    /// Runs of characters, after at most one white space if so said.
    Runs {
        of: fn(char) -> bool,
        after_space: bool,
    },
    /// `\s+$`
    LastSpace,
}

/// What differs between the many descendants of this expression.
#[derive(Debug, Clone, Copy)]
struct Llama3 {
    /// How many numbers make a piece.
    numbers: usize,
    /// Whether marks count among the letters.
    marks: bool,
}

#[derive(Debug, Clone, Copy)]
struct Gpt4o {
    numbers: usize,
    /// Whether `'s` and its like stay with their word.
    contractions: bool,
}

const SINGLE: Stage = Stage::Llama3(Llama3 { numbers: 1, marks: false });
const THREES: Stage = Stage::Llama3(Llama3 { numbers: 3, marks: false });

/// Names of rules, the rules, and whether a piece that is a token is taken whole.
const RULES: &[(&[&str], &[Stage], bool)] = &[
    (&["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "lfm2"], &[THREES], true),
    (&["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"], &[THREES], false),
    (
        &[
            "qwen2",
            "deepseek-r1-qwen",
            "stablelm2",
            "megrez",
            "hunyuan",
            "solar-open",
            "grok-2",
            "kormo",
            "f2llmv2",
        ],
        &[SINGLE],
        false,
    ),
    (&["qwen35"], &[Stage::Llama3(Llama3 { numbers: 1, marks: true })], false),
    (&["gpt-4o", "llama4", "kanana2"], &[Stage::Gpt4o(Gpt4o { numbers: 3, contractions: true })], false),
    (&["tekken"], &[Stage::Gpt4o(Gpt4o { numbers: 1, contractions: false })], true),
    (
        &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
            "modern-bert",
            "roberta-bpe",
            "jina-v1-en",
            "jina-v2-code",
            "jina-v2-de",
            "jina-v2-es",
            "mellum",
            "a.x-4.0",
            "gigachat",
        ],
        &[Stage::Gpt2],
        false,
    ),
    (
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        &[Stage::Numbers(1), Stage::Gpt2],
        false,
    ),
    (
        &["deepseek-llm"],
        &[
            Stage::Newline,
            Stage::Runs { of: is_cased_letter, after_space: true },
            Stage::Runs { of: is_western_or_wide_punctuation, after_space: true },
            Stage::LastSpace,
            Stage::Runs { of: is_east_asian, after_space: false },
            Stage::Runs { of: is_number, after_space: false },
        ],
        false,
    ),
    (
        &["deepseek-coder"],
        &[
            Stage::Newline,
            Stage::Runs { of: is_letter, after_space: true },
            Stage::Runs { of: is_punctuation, after_space: true },
            Stage::Runs { of: is_east_asian, after_space: false },
            Stage::Numbers(1),
        ],
        false,
    ),
    (
        &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        &[Stage::Numbers(3), Stage::Runs { of: is_han_or_kana, after_space: false }, Stage::DeepSeek3],
        false,
    ),
    (
        &["default"],
        &[
            Stage::Runs { of: is_punctuation_or_sign, after_space: false },
            Stage::Gpt2,
            Stage::Runs { of: is_number, after_space: false },
            Stage::ThreeDigits,
        ],
        false,
    ),
];

impl PreTokenizer {
    /// The rule that files call by this name.
    #[must_use]
    pub fn named(name: &str) -> Option<PreTokenizer> {
        let (_, stages, ignore_merges) = RULES.iter().find(|(names, ..)| names.contains(&name))?;
        Some(PreTokenizer { stages, ignore_merges: *ignore_merges })
    }

    /// Every name that [`PreTokenizer::named`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        RULES.iter().flat_map(|(names, ..)| names.iter().copied())
    }

    /// Whether models of this rule take a piece that is a token whole, rather than by merging.
    #[must_use]
    pub fn ignore_merges(&self) -> bool {
        self.ignore_merges
    }

    /// The pieces of `text`, in order; together they are all of it.
    #[must_use]
    pub fn split(&self, text: &str) -> Vec<Range<usize>> {
        let mut pieces = Vec::new();
        if !text.is_empty() {
            pieces.push(0..text.len());
        }
        for stage in self.stages {
            let mut cut = Vec::with_capacity(pieces.len());
            for piece in pieces {
                let start = piece.start;
                stage.cut(&text[piece], |part| cut.push(start + part.start..start + part.end));
            }
            pieces = cut;
        }
        pieces
    }
}

impl Stage {
    /// Calls `piece` with the matches in `text` and what lies between them, in order.
    fn cut(self, text: &str, mut piece: impl FnMut(Range<usize>)) {
        let mut done = 0;
        while let Some(found) = self.find(text, done) {
            if done < found.start {
                piece(done..found.start);
            }
            done = found.end;
            piece(found);
        }
        if done < text.len() {
            piece(done..text.len());
        }
    }

    /// The first match that begins at `from` or later; never empty.
    fn find(self, text: &str, from: usize) -> Option<Range<usize>> {
        if let Stage::LastSpace = self {
            let start = from + text[from..].trim_end().len();
            return (start < text.len()).then_some(start..text.len());
        }
        let mut at = from;
        while let Some(next) = Next::at(text, at) {
            if let Some(end) = self.end(text, at) {
                return Some(at..end);
            }
            at = next.end;
        }
        None
    }

    /// Where the match that begins at `at` ends.
    fn end(self, text: &str, at: usize) -> Option<usize> {
        match self {
            Stage::Gpt2 => gpt2(text, at),
            Stage::Llama3(rule) => llama3(rule, text, at),
            Stage::Gpt4o(rule) => gpt4o(rule, text, at),
            Stage::DeepSeek3 => deepseek3(text, at),
            Stage::Newline => Next::at(text, at).filter(Next::is_newline).map(|next| next.end),
            Stage::Numbers(most) => numbers(text, at, most),
            Stage::ThreeDigits => {
                let digits = text.as_bytes().get(at..at + 3)?;
                digits.iter().all(u8::is_ascii_digit).then_some(at + 3)
            }
            Stage::Runs { of, after_space } => runs(of, after_space, text, at),
            Stage::LastSpace => None,
        }
    }
}

/// A character, its categories, and where it ends.
#[derive(Clone, Copy)]
struct Next {
    c: char,
    classes: Classes,
    end: usize,
}

impl Next {
    fn at(text: &str, at: usize) -> Option<Next> {
        let c = text[at..].chars().next()?;
        Some(Next { c, classes: classes(c), end: at + c.len_utf8() })
    }

    fn is(&self, any: Classes) -> bool {
        self.classes & any != 0
    }

    fn is_newline(&self) -> bool {
        matches!(self.c, '\r' | '\n')
    }
}

/// The end of the run of characters from `at` on for which `holds`.
fn run(text: &str, at: usize, holds: impl Fn(Next) -> bool) -> usize {
    let mut end = at;
    while let Some(next) = Next::at(text, end).filter(|&next| holds(next)) {
        end = next.end;
    }
    end
}

/// The same, but not when the run is empty.
fn some_run(text: &str, at: usize, holds: impl Fn(Next) -> bool) -> Option<usize> {
    Some(run(text, at, holds)).filter(|&end| end > at)
}

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
fn gpt2(text: &str, at: usize) -> Option<usize> {
    if let Some(end) = contraction(text, at, |c| c) {
        return Some(end);
    }
    let start = after_space(text, at);
    match Next::at(text, start) {
        Some(next) if next.is(LETTER) => some_run(text, start, |next| next.is(LETTER)),
        Some(next) if next.is(NUMBER) => some_run(text, start, |next| next.is(NUMBER)),
        Some(next) if !next.is(SPACE) => some_run(text, start, |next| !next.is(SPACE | LETTER | NUMBER)),
        _ => spaces(text, at),
    }
}

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
fn llama3(rule: Llama3, text: &str, at: usize) -> Option<usize> {
    let letters = if rule.marks { LETTER | MARK } else { LETTER };
    contraction(text, at, fold)
        .or_else(|| word(text, at, LETTER | NUMBER, letters))
        .or_else(|| numbers(text, at, rule.numbers))
        .or_else(|| signs(text, at, |next| !next.is(SPACE | NUMBER | letters), "\r\n"))
        .or_else(|| lines(text, at))
        .or_else(|| spaces(text, at))
}

/// `[!-/:-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`, the first
/// class being ASCII's punctuation.
fn deepseek3(text: &str, at: usize) -> Option<usize> {
    tag(text, at)
        .or_else(|| word(text, at, LETTER | PUNCTUATION | SYMBOL, LETTER | MARK))
        .or_else(|| signs(text, at, |next| next.is(PUNCTUATION | SYMBOL), "\r\n"))
        .or_else(|| lines(text, at))
        .or_else(|| spaces(text, at))
}

/// ```text
/// [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|
/// [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|
/// \p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
/// ```
fn gpt4o(rule: Gpt4o, text: &str, at: usize) -> Option<usize> {
    let word = cased_word(text, at).map(|end| match contraction(text, end, fold) {
        Some(longer) if rule.contractions => longer,
        _ => end,
    });
    word.or_else(|| numbers(text, at, rule.numbers))
        .or_else(|| signs(text, at, |next| !next.is(SPACE | LETTER | NUMBER), "\r\n/"))
        .or_else(|| lines(text, at))
        .or_else(|| spaces(text, at))
}

/// Letters that may stand before the change from upper to lower case, and after it.
const HEAD: Classes = UPPER | CASELESS | MARK;
const TAIL: Classes = LOWER | CASELESS | MARK;

/// The first two lines of [`gpt4o`]'s expression without the contraction: each is tried with the character before the
/// word, then without.
fn cased_word(text: &str, at: usize) -> Option<usize> {
    let first = Next::at(text, at)?;
    let may_precede = !first.is(LETTER | NUMBER) && !first.is_newline();
    let with = may_precede.then_some(first.end);
    let upper = |start: usize| {
        let end = some_run(text, start, |next| next.is(HEAD))?;
        Some(run(text, end, |next| next.is(TAIL)))
    };
    with.and_then(|start| head_and_tail(text, start))
        .or_else(|| head_and_tail(text, at))
        .or_else(|| with.and_then(upper))
        .or_else(|| upper(at))
}

/// As many of [`HEAD`] as leave at least one of [`TAIL`] after them, and all of those.
fn head_and_tail(text: &str, start: usize) -> Option<usize> {
    let mut end = start;
    // Where the last character of the head ends that could be the tail, should nothing else follow.
    let mut tail = None;
    while let Some(next) = Next::at(text, end).filter(|next| next.is(HEAD)) {
        end = next.end;
        if next.is(TAIL) {
            tail = Some(end);
        }
    }
    some_run(text, end, |next| next.is(TAIL)).or(tail)
}

/// An apostrophe and one of `s t re ve m ll d`, letters compared after `fold`.
fn contraction(text: &str, at: usize, fold: impl Fn(char) -> char) -> Option<usize> {
    let rest = text[at..].strip_prefix('\'')?;
    let mut letters = rest.chars();
    let first = letters.next()?;
    let end = at + 1 + first.len_utf8();
    match fold(first) {
        's' | 't' | 'm' | 'd' => Some(end),
        lead @ ('r' | 'v' | 'l') => {
            let second = letters.next()?;
            let wanted = if lead == 'l' { 'l' } else { 'e' };
            (fold(second) == wanted).then_some(end + second.len_utf8())
        }
        _ => None,
    }
}

/// What `(?i:…)` takes for the same letter: `ſ` is an `s`.
fn fold(c: char) -> char {
    if c == 'ſ' { 's' } else { c.to_ascii_lowercase() }
}

/// After one space, if there is one.
fn after_space(text: &str, at: usize) -> usize {
    at + usize::from(text.as_bytes().get(at) == Some(&b' '))
}

/// `[^\r\n…]?[…]+`: letters, after at most one character that is neither a newline nor one of `not_before`.
fn word(text: &str, at: usize, not_before: Classes, letters: Classes) -> Option<usize> {
    let first = Next::at(text, at)?;
    let in_word = |next: Next| next.is(letters);
    if !first.is(not_before)
        && !first.is_newline()
        && let Some(end) = some_run(text, first.end, in_word)
    {
        return Some(end);
    }
    some_run(text, at, in_word)
}

/// `\p{N}{1,most}`
fn numbers(text: &str, at: usize, most: usize) -> Option<usize> {
    let mut end = at;
    for _ in 0..most {
        match Next::at(text, end).filter(|next| next.is(NUMBER)) {
            Some(next) => end = next.end,
            None => break,
        }
    }
    (end > at).then_some(end)
}

/// ` ?[…]+[…]*`: signs after at most one space, with whatever of `trailing` follows.
fn signs(text: &str, at: usize, sign: impl Fn(Next) -> bool, trailing: &str) -> Option<usize> {
    let end = some_run(text, after_space(text, at), sign)?;
    Some(run(text, end, |next| trailing.contains(next.c)))
}

/// `\s*[\r\n]+`: white space up to its last newline.
fn lines(text: &str, at: usize) -> Option<usize> {
    let end = some_run(text, at, |next| next.is(SPACE))?;
    text[at..end].rfind(['\r', '\n']).map(|last| at + last + 1)
}

/// `\s+(?!\S)|\s+`: white space, but what is before a word leaves it the last one.
fn spaces(text: &str, at: usize) -> Option<usize> {
    let end = some_run(text, at, |next| next.is(SPACE))?;
    let last = text[at..end].chars().next_back().map_or(0, char::len_utf8);
    let leave_one = end < text.len() && end - last > at;
    Some(if leave_one { end - last } else { end })
}

/// One sign of ASCII's punctuation, and the ASCII letters after it.
fn tag(text: &str, at: usize) -> Option<usize> {
    let first = Next::at(text, at).filter(|next| next.c.is_ascii_punctuation())?;
    some_run(text, first.end, |next| next.c.is_ascii_alphabetic())
}

fn runs(of: fn(char) -> bool, after_space: bool, text: &str, at: usize) -> Option<usize> {
    let holds = |next: Next| of(next.c);
    let space = Next::at(text, at).filter(|next| after_space && next.is(SPACE));
    space.and_then(|space| some_run(text, space.end, holds)).or_else(|| some_run(text, at, holds))
}

fn is_letter(c: char) -> bool {
    classes(c) & LETTER != 0
}

fn is_number(c: char) -> bool {
    classes(c) & NUMBER != 0
}

fn is_punctuation(c: char) -> bool {
    classes(c) & PUNCTUATION != 0
}

/// `[\p{P}\$\+<=>\^~\|]`
fn is_punctuation_or_sign(c: char) -> bool {
    is_punctuation(c) || "$+<=>^~|".contains(c)
}

/// `[!-/:-~！-／：-～‘-‟　-。]`
fn is_western_or_wide_punctuation(c: char) -> bool {
    matches!(c, '!'..='/' | ':'..='~' | '！'..='／' | '：'..='～' | '‘'..='‟' | '\u{3000}'..='。')
}

/// `[一-龥ࠀ-一가-퟿]`
fn is_east_asian(c: char) -> bool {
    matches!(c, '\u{800}'..='\u{9fa5}' | '\u{ac00}'..='\u{d7ff}')
}

/// `[一-龥぀-ゟ゠-ヿ]`
fn is_han_or_kana(c: char) -> bool {
    matches!(c, '\u{4e00}'..='\u{9fa5}' | '\u{3040}'..='\u{30ff}')
}

/// Letters of scripts with case, as DeepSeek's first models enumerate them.
fn is_cased_letter(c: char) -> bool {
    let after = CASED_LETTERS.partition_point(|&(first, _)| first <= c);
    after > 0 && CASED_LETTERS.get(after - 1).is_some_and(|&(_, last)| c <= last)
}

/// First and last characters of the runs, in order.
#[rustfmt::skip]
const CASED_LETTERS: [(char, char); 84] = [
    ('\u{41}', '\u{5a}'), ('\u{61}', '\u{7a}'), ('\u{b5}', '\u{b5}'), ('\u{c0}', '\u{d6}'),
    ('\u{d8}', '\u{f6}'), ('\u{f8}', '\u{1ba}'), ('\u{1bc}', '\u{1bf}'), ('\u{1c4}', '\u{293}'),
    ('\u{295}', '\u{2af}'), ('\u{370}', '\u{373}'), ('\u{376}', '\u{377}'), ('\u{37b}', '\u{37d}'),
    ('\u{37f}', '\u{37f}'), ('\u{386}', '\u{386}'), ('\u{388}', '\u{38a}'), ('\u{38c}', '\u{38c}'),
    ('\u{38e}', '\u{3a1}'), ('\u{3a3}', '\u{3f5}'), ('\u{3f7}', '\u{481}'), ('\u{48a}', '\u{52f}'),
    ('\u{531}', '\u{556}'), ('\u{10a0}', '\u{10c5}'), ('\u{13a0}', '\u{13f5}'), ('\u{13f8}', '\u{13fd}'),
    ('\u{1c90}', '\u{1cba}'), ('\u{1cbd}', '\u{1cbf}'), ('\u{1d00}', '\u{1d2b}'), ('\u{1d6b}', '\u{1d77}'),
    ('\u{1d79}', '\u{1d9a}'), ('\u{1e00}', '\u{1f15}'), ('\u{1f18}', '\u{1f1d}'), ('\u{1f20}', '\u{1f45}'),
    ('\u{1f48}', '\u{1f4d}'), ('\u{1f50}', '\u{1f57}'), ('\u{1f59}', '\u{1f59}'), ('\u{1f5b}', '\u{1f5b}'),
    ('\u{1f5d}', '\u{1f5d}'), ('\u{1f5f}', '\u{1f7d}'), ('\u{1f80}', '\u{1fb4}'), ('\u{1fb6}', '\u{1fbc}'),
    ('\u{1fbe}', '\u{1fbe}'), ('\u{1fc2}', '\u{1fc4}'), ('\u{1fc6}', '\u{1fcc}'), ('\u{1fd0}', '\u{1fd3}'),
    ('\u{1fd6}', '\u{1fdb}'), ('\u{1fe0}', '\u{1fec}'), ('\u{1ff2}', '\u{1ff4}'), ('\u{1ff6}', '\u{1ffc}'),
    ('\u{2102}', '\u{2102}'), ('\u{2107}', '\u{2107}'), ('\u{210a}', '\u{2113}'), ('\u{2115}', '\u{2115}'),
    ('\u{2119}', '\u{211d}'), ('\u{2124}', '\u{2124}'), ('\u{2126}', '\u{2126}'), ('\u{2128}', '\u{2128}'),
    ('\u{212a}', '\u{212d}'), ('\u{212f}', '\u{2134}'), ('\u{2139}', '\u{2139}'), ('\u{213c}', '\u{213f}'),
    ('\u{2145}', '\u{2149}'), ('\u{214e}', '\u{214e}'), ('\u{2183}', '\u{2184}'), ('\u{2c00}', '\u{2c7b}'),
    ('\u{2c7e}', '\u{2ce4}'), ('\u{2ceb}', '\u{2cee}'), ('\u{2cf2}', '\u{2cf3}'), ('\u{a640}', '\u{a66d}'),
    ('\u{a680}', '\u{a69b}'), ('\u{a722}', '\u{a76f}'), ('\u{a771}', '\u{a787}'), ('\u{a78b}', '\u{a78e}'),
    ('\u{ab70}', '\u{abbf}'), ('\u{fb00}', '\u{fb06}'), ('\u{fb13}', '\u{fb17}'), ('\u{ff21}', '\u{ff3a}'),
    ('\u{ff41}', '\u{ff5a}'), ('\u{10400}', '\u{1044f}'), ('\u{104b0}', '\u{104d3}'),
    ('\u{104d8}', '\u{104fb}'), ('\u{10c80}', '\u{10cb2}'), ('\u{10cc0}', '\u{10cf2}'),
    ('\u{118a0}', '\u{118df}'), ('\u{1e900}', '\u{1e943}'),
];

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use super::*;

    fn split<'t>(rule: &str, text: &'t str) -> Vec<&'t str> {
        let rule = PreTokenizer::named(rule).unwrap_or_else(|| panic!("no rule {rule}"));
        rule.split(text).into_iter().map(|piece| &text[piece]).collect()
    }

    #[test]
    fn rules_cut_as_their_expressions() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("gpt-2", "I'll  go 12!\n\n x ", &["I", "'ll", " ", " go", " 12", "!", "\n\n", " x", " "]),
            ("gpt-2", "I'LL", &["I", "'", "LL"]),
            ("llama-bpe", "I'LL  go1234!\n\n x ", &["I", "'LL", " ", " go", "123", "4", "!\n\n", " x", " "]),
            ("llama-bpe", " \n \n  a", &[" \n \n", " ", " a"]),
            ("llama-bpe", "\ta\r\n", &["\ta", "\r\n"]),
            ("qwen2", "a12 b", &["a", "1", "2", " b"]),
            ("smollm", "a  12 b", &["a", "  ", "1", "2", " b"]),
            ("gpt-4o", "HELLOWorld's CamelCase", &["HELLOWorld's", " Camel", "Case"]),
            ("gpt-4o", "ABC中DEF//\n", &["ABC中", "DEF", "//\n"]),
            ("tekken", "it's 12", &["it", "'s", " ", "1", "2"]),
            ("deepseek-v3", "a 1234 中文x.com", &["a", " ", "123", "4", " ", "中文", "x", ".com"]),
            ("deepseek-coder", "a b\n12", &["a", " b", "\n", "1", "2"]),
            ("default", "a, 1234b", &["a", ",", " ", "123", "4", "b"]),
        ];
        for (rule, text, expected) in cases {
            assert_eq!(&split(rule, text), expected, "{rule} of {text:?}");
        }
    }

    #[test]
    fn pieces_are_the_whole_text_in_time_that_grows_with_it() {
        let runs = [" ", "\n", "a", "A", "中", "1", "'", "\u{301}", "Aa", " \n", "\0", "<", "中A", "'s"];
        for (names, ..) in RULES {
            for run in runs {
                let text = format!("{}x", run.repeat(50_000));
                assert_eq!(split(names[0], &text).concat(), text, "{} of {run:?}", names[0]);
            }
        }
    }
}

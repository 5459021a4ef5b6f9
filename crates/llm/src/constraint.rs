//! Answers held to a form: JSON that fits a schema, text that matches a regular expression or a grammar.
//!
//! The work is `llguidance`'s; here are its bounds. Compiling and every step have fuel, sources have a size and a
//! depth, so that no source can hold the engine up: it is refused, or its answer fails, by name.

use std::sync::{Arc, OnceLock};

use llguidance::api::{GrammarInit, ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, SimpleVob, TokEnv, TokRxInfo, TokTrie};
use llguidance::{JsonCompileOptions, Logger, Matcher, ParserFactory};

use crate::sampler::TokenMask;
use crate::vocabulary::Vocabulary;

/// Bytes a source may have.
const SOURCE_BYTES_MAX: usize = 256 * 1024;

/// How deep brackets may be nested in a source. The compiler descends by calling itself.
const DEPTH_MAX: usize = 64;

/// The longest token, in bytes, that a constrained answer may use.
const TOKEN_BYTES_MAX: usize = 512;

/// What an answer must look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Constraint {
    /// Any JSON object.
    JsonObject,
    /// JSON that fits this schema, itself JSON. Properties come in the schema's order.
    JsonSchema(String),
    /// Text that matches this regular expression as a whole, in the syntax of Rust's `regex`.
    Regex(String),
    /// Text that this grammar derives, in `llguidance`'s variant of Lark.
    Lark(String),
}

/// Why a constraint was not compiled, or stopped an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// It is larger than allowed.
    #[error("the constraint has {bytes} bytes; at most {SOURCE_BYTES_MAX} are allowed; simplify it")]
    TooLong {
        /// Its size.
        bytes: usize,
    },
    /// Its brackets are nested deeper than allowed.
    #[error("the constraint is nested more than {DEPTH_MAX} deep; simplify it")]
    TooDeep,
    /// It says nothing the compiler understands, or too much.
    #[error("the constraint cannot be compiled: {0}")]
    Invalid(String),
    /// The vocabulary is not one that constraints can be applied to.
    #[error("constraints cannot be used with this model: {0}")]
    Vocabulary(String),
    /// Following it became too costly, or nothing is left that may follow.
    #[error("the constraint cannot be followed any further: {0}")]
    Stuck(String),
}

/// Compiles constraints for one vocabulary. What is derived from the vocabulary is made at the first use.
pub struct Compiler {
    vocabulary: Arc<dyn Vocabulary>,
    factory: OnceLock<Result<ParserFactory, ConstraintError>>,
}

impl std::fmt::Debug for Compiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiler").field("used", &self.factory.get().is_some()).finish_non_exhaustive()
    }
}

impl Compiler {
    /// A compiler that has done nothing yet.
    #[must_use]
    pub fn new(vocabulary: Arc<dyn Vocabulary>) -> Compiler {
        Compiler { vocabulary, factory: OnceLock::new() }
    }

    /// Compiles a constraint within the limits of size, depth and fuel.
    pub fn compile(&self, constraint: &Constraint) -> Result<Follower, ConstraintError> {
        let grammar = grammar(constraint)?;
        let factory =
            self.factory.get_or_init(|| factory(&*self.vocabulary)).as_ref().map_err(Clone::clone)?;
        let parser = factory.create_parser_from_init_ext(
            GrammarInit::Serialized(grammar),
            Logger::new(0, 0),
            InferenceCapabilities::default(),
            limits(),
        );
        let parser = parser.map_err(|error| ConstraintError::Invalid(first_line(&error.to_string())))?;
        let matcher = Matcher::new(Ok(parser));
        match matcher.get_error() {
            Some(error) => Err(ConstraintError::Invalid(first_line(&error))),
            None => {
                let mut follower = Follower { matcher, mask: SimpleVob::default(), fresh: false };
                // One that leads nowhere from its beginning on is wrong itself, whatever the model would say.
                match follower.mask() {
                    Err(ConstraintError::Stuck(what)) => Err(ConstraintError::Invalid(what)),
                    Err(error) => Err(error),
                    Ok(_) => Ok(follower),
                }
            }
        }
    }
}

/// How far one answer has followed its constraint.
pub struct Follower {
    matcher: Matcher,
    mask: SimpleVob,
    /// Whether `mask` is for the state the matcher is in.
    fresh: bool,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("complete", &self.is_complete()).finish_non_exhaustive()
    }
}

impl Follower {
    /// The same state, to go on from by itself: nothing is shared, so that one answer's cost is not another's.
    #[must_use]
    pub fn fork(&self) -> Follower {
        Follower { matcher: self.matcher.deep_clone(), mask: self.mask.clone(), fresh: self.fresh }
    }

    /// The tokens that may follow.
    pub fn mask(&mut self) -> Result<TokenMask<'_>, ConstraintError> {
        if !self.fresh {
            let mask = self.matcher.compute_mask_or_eos();
            self.mask = mask.map_err(|error| ConstraintError::Stuck(first_line(&error.to_string())))?;
            self.fresh = true;
        }
        Ok(TokenMask(self.mask.as_slice()))
    }

    /// Goes on by a token that the mask allows.
    pub fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        self.fresh = false;
        let accepted = self.matcher.consume_token(token);
        accepted.map_err(|error| ConstraintError::Stuck(first_line(&error.to_string())))
    }

    /// Whether nothing may follow any more.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.matcher.is_stopped()
    }
}

fn grammar(constraint: &Constraint) -> Result<TopLevelGrammar, ConstraintError> {
    let (tag, source) = match constraint {
        Constraint::JsonObject => ("json_object", ""),
        Constraint::JsonSchema(source) => ("json_schema", source.as_str()),
        Constraint::Regex(source) => ("regex", source.as_str()),
        Constraint::Lark(source) => ("lark", source.as_str()),
    };
    if source.len() > SOURCE_BYTES_MAX {
        return Err(ConstraintError::TooLong { bytes: source.len() });
    }
    if depth(source) > DEPTH_MAX {
        return Err(ConstraintError::TooDeep);
    }
    let grammar = TopLevelGrammar::from_tagged_str(tag, source);
    let mut grammar = grammar.map_err(|error| ConstraintError::Invalid(first_line(&error.to_string())))?;
    for schema in grammar.grammars.iter_mut().filter_map(|grammar| grammar.json_schema.as_mut()) {
        if !schema.is_object() {
            return Err(ConstraintError::Invalid("the schema must be a JSON object".into()));
        }
        // Overwrites options that the schema itself might carry.
        json_options().apply_to(schema);
    }
    Ok(grammar)
}

/// Space between JSON's parts is bounded: small models can otherwise write nothing else to the end.
fn json_options() -> JsonCompileOptions {
    JsonCompileOptions {
        whitespace_pattern: Some(r"[\x20\x0A\x0D\x09]{1,40}".into()),
        ..JsonCompileOptions::default()
    }
}

/// The deepest nesting of brackets, whatever they mean; one after a backslash is none.
fn depth(source: &str) -> usize {
    let (mut depth, mut deepest, mut escaped) = (0usize, 0, false);
    for byte in source.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'(' | b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// About 20 ms to compile and 15 ms a step at the most, on one core of 2024.
fn limits() -> ParserLimits {
    ParserLimits {
        initial_lexer_fuel: 1_000_000,
        step_lexer_fuel: 200_000,
        step_max_items: 50_000,
        max_items_in_row: 2_000,
        max_lexer_states: 20_000,
        max_grammar_size: 200_000,
        precompute_large_lexemes: false,
        verbose_errors: false,
    }
}

fn factory(vocabulary: &dyn Vocabulary) -> Result<ParserFactory, ConstraintError> {
    let refuse = |why: &str| ConstraintError::Vocabulary(why.to_string());
    let size = u32::try_from(vocabulary.len()).ok().filter(|&size| size < 1 << 22);
    let size = size.ok_or_else(|| refuse("its vocabulary has four million tokens or more"))?;
    let ends: Vec<u32> = vocabulary.ends().iter().copied().filter(|&end| end < size).collect();
    let Some(&end) = ends.first() else { return Err(refuse("its file names no token that ends an answer")) };
    let words: Vec<Vec<u8>> = (0..size).map(|token| word(vocabulary, token)).collect();
    let trie = TokTrie::from(&TokRxInfo::new(size, end), &words).with_eos_tokens(&ends);
    let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
    let mut factory =
        ParserFactory::new_simple(&environment).map_err(|error| refuse(&first_line(&error.to_string())))?;
    factory.quiet();
    Ok(factory)
}

/// A token's bytes as the library wants them: control tokens behind a byte that occurs in no text.
fn word(vocabulary: &dyn Vocabulary, token: u32) -> Vec<u8> {
    if vocabulary.is_control(token) || vocabulary.ends().contains(&token) {
        let mut word = vec![TokTrie::SPECIAL_TOKEN_MARKER];
        word.extend_from_slice(format!("[{token}]").as_bytes());
        return word;
    }
    let bytes = vocabulary.bytes(token);
    if bytes.len() > TOKEN_BYTES_MAX { Vec::new() } else { bytes.to_vec() }
}

/// What the library says may quote the whole source.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::mock::ByteVocabulary;

    fn compiler() -> Compiler {
        Compiler::new(Arc::new(ByteVocabulary::default()))
    }

    fn follows(constraint: Constraint, text: &str) -> bool {
        let mut follower = compiler().compile(&constraint).unwrap();
        for token in text.bytes().map(u32::from).chain([256]) {
            if token == 256 && follower.is_complete() {
                return true;
            }
            if !follower.mask().unwrap().allows(token as usize) {
                return false;
            }
            follower.accept(token).unwrap();
        }
        true
    }

    #[test]
    fn an_answer_follows_its_schema() {
        let schema = r#"{"type":"object","properties":{"b":{"type":"integer"},"a":{"enum":["x","y"]}},
            "required":["b","a"],"additionalProperties":false}"#;
        let schema = || Constraint::JsonSchema(schema.to_string());
        assert!(follows(schema(), r#"{"b": 12, "a": "x"}"#));
        assert!(!follows(schema(), r#"{"b": 12, "a": "z"}"#));
        assert!(!follows(schema(), r#"{"b": 12}"#));
    }

    #[test]
    fn an_answer_follows_its_expression_and_its_grammar() {
        assert!(follows(Constraint::Regex("[a-c]{2,3}x?".into()), "abcx"));
        assert!(!follows(Constraint::Regex("[a-c]{2,3}x?".into()), "abd"));
        assert!(follows(Constraint::Lark("start: \"a\" start \"b\" | \"c\"".into()), "aacbb"));
        assert!(follows(Constraint::JsonObject, r#"{"k": [1, true]}"#));
        assert!(!follows(Constraint::JsonObject, "[1]"));
    }

    #[test]
    fn forks_go_their_own_ways() {
        let mut one = compiler().compile(&Constraint::Regex("ab|cd".into())).unwrap();
        let mut two = one.fork();
        one.accept(u32::from(b'a')).unwrap();
        two.accept(u32::from(b'c')).unwrap();
        assert!(one.mask().unwrap().allows(usize::from(b'b')));
        assert!(!two.mask().unwrap().allows(usize::from(b'b')));
    }

    /// Incidents 6 in the list of what must be survived: sources that explode.
    #[test]
    fn what_would_explode_is_refused_or_stays_within_its_fuel() {
        let compiler = compiler();
        let deep = format!("{}a{}", "(".repeat(100_000), ")".repeat(100_000));
        let hostile = [
            Constraint::Regex("(".into()),
            Constraint::Regex(deep.clone()),
            Constraint::Regex("foo**".into()),
            Constraint::Regex("((a{1,1000}){1,1000}){1,1000}".into()),
            Constraint::Regex("x".repeat(SOURCE_BYTES_MAX + 1)),
            Constraint::JsonSchema("{".into()),
            Constraint::JsonSchema("true".into()),
            Constraint::JsonSchema(
                r#"{"x-guidance":{"whitespace_pattern":"((a{1,999}){1,999}){1,999}"}}"#.into(),
            ),
            Constraint::JsonSchema("{\"a\":".repeat(10_000)),
            Constraint::JsonSchema(r##"{"$ref":"#"}"##.into()),
            Constraint::JsonSchema(r#"{"$ref":"http://169.254.169.254/"}"#.into()),
            Constraint::JsonSchema(r#"{"type":"string","pattern":"((a{1,999}){1,999}){1,999}"}"#.into()),
            Constraint::Lark("start: start".into()),
            Constraint::Lark(format!("start: {deep}")),
        ];
        for constraint in hostile {
            if let Ok(mut follower) = compiler.compile(&constraint) {
                // It was small after all, or fails when it is used: both are fine, as long as it ends.
                let _ = follower.mask().map(|mask| mask.allows(0));
            }
        }
        assert_eq!(compiler.compile(&Constraint::Regex(deep)).unwrap_err(), ConstraintError::TooDeep);
        assert!(compiler.compile(&Constraint::Regex("ab".into())).is_ok(), "the next one works");
    }
}

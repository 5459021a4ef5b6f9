//! What the protocols that speak to language models share: from what a client asks to what the engine does, and back.
//!
//! A protocol reads its request field by field ([`crate::fields`]), inside [`prepared`], and says who is asked
//! ([`project_of`], [`find`]). From there two ways lead to the engine:
//!
//! - A [`Conversation`] holds what every protocol can ask of a chat: turns, [`Tools`], a [`Format`], sampling, stops.
//!   [`Conversation::start`] renders, tokenizes, checks what fits and submits; the [`Answers`] that it gives tell
//!   text from calls of tools and say why each answer ended.
//! - A [`Generation`] takes tokens as they are, for protocols that continue plain texts.
//!
//! What is told is written in the protocol's own words, whole or through a [`crate::stream::Teller`]. Dropping an
//! [`Answers`] or a [`Generation`] ends the work within a step. Faults name fields by the protocol's [`Names`].
//! No protocol knows another: a request that comes by one's address in another's words is [`Passed`] through [`Dialects`].

mod answers;
mod conversation;
mod explanation;
mod format;
mod generation;
mod logprobs;
mod passed;
mod prepare;
mod prompt;
mod stops;
mod target;
mod tools;

pub(crate) use answers::{Answers, Told};
pub(crate) use conversation::{Conversation, Names};
pub(crate) use explanation::{Explaining, How, span_text, summary, used};
pub(crate) use format::Format;
pub(crate) use generation::{End, Generation, Said};
pub(crate) use logprobs::{finite, token_text};
pub(crate) use passed::{Dialects, Passed, Reply};
pub(crate) use prepare::{deadline, prepared, room};
pub(crate) use prompt::{call_of, call_of_text, refused_text};
pub(crate) use stops::stops;
pub(crate) use target::{find, find_behind, find_encoder, find_predictor, project_of};
pub(crate) use tools::{Choice, Piece, Tool, Tools, arguments, takes_tools};

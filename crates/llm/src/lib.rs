//! Large language models: from text to tokens, through a model's layers, and back to text, for many people at once.
//!
//! Synchronous throughout: the engine owns its thread, `serving` bridges. Nothing here knows a protocol, and nothing
//! here reads JSON: what a model file says of itself is read in [`formats`].

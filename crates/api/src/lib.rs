//! The only crate that knows HTTP and wire JSON: one folder a protocol.

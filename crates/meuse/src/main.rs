//! Model as a Service that you own.

fn main() {}

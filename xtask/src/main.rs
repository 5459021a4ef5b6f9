//! Everything that proves the project, from a fresh machine.

fn main() {}

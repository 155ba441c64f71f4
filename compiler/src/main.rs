//! The `aot` command.
fn main() {}

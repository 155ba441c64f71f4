//! One more column for a benchmark table.
fn main() {}

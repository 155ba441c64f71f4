//! Everything here is in the test binary `main.rs`; cargo asks for a library target beside it.

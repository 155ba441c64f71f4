//! Compiled programs to libraries: metadata, weights, the exported functions, the linker, and the files for C and C++.

pub mod library;
mod localise;
pub mod metadata;
pub mod object;

//! The run-time library that compiled models link against.

pub mod abi;

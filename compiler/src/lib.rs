//! `aot`: an ahead-of-time native compiler for TorchScript.

pub mod archive;
pub mod build;
pub mod check;
pub mod cli;
pub mod diag;
pub mod driver;
pub mod emit;
pub mod eval;
pub mod exec;
pub mod export;
pub mod index;
pub mod ir;
pub mod jit;
pub mod library;
pub mod link;
pub mod loops;
pub mod lower;
pub mod measure;
pub mod module;
pub mod npy;
pub mod ops;
pub mod passes;
pub mod schedule;
pub mod script;
pub mod signatures;
pub mod source;
pub mod syntax;
pub mod types;
pub mod weights;

pub use aot_runtime::log::Level;
pub use diag::Exception;
pub use driver::Backend;
pub use library::Library;
pub use module::{Exact, Method, Module, ModuleBuilder, ToValue, to_array};

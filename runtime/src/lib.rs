//! The run-time library that compiled models link against.
//!
//! A model is a [`desc::ModelDesc`] (what it accepts), a block of weights and one [`model::Code`] per function. The library
//! that the compiler writes, the in-process compiler and the evaluator all make a [`Model`] and call it through the same
//! entry code, so that arguments are checked and results rebuilt in one place.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the contract with compiled code moves sizes and bits between i64, usize and u64; sizes are checked on entry"
)]

pub mod abi;
pub mod arena;
pub mod capi;
mod copies;
pub mod desc;
pub mod dict;
pub mod direct;
pub mod entry;
pub mod error;
pub mod host;
pub mod instance;
pub mod list;
pub mod log;
pub mod math;
pub mod model;
#[cfg(test)]
mod model_tests;
pub mod object;
pub mod overlaps;
pub mod pool;
pub mod random;
pub mod routines;
pub mod strings;
pub mod task;
#[cfg(test)]
mod task_tests;
pub mod tensor;
pub mod text;
pub mod trace;
pub mod value;

pub use abi::{Frame, Leaf, Status, Tag};
pub use desc::ModelDesc;
pub use error::Error;
pub use model::{Code, Instance, Model, Weights};
pub use tensor::{Dtype, Tensor};
pub use value::Value;

/// Names and addresses of everything compiled code calls, for linking in process: `aot_rt_slot`, `aot_rt_list_push`.
pub fn symbols() -> Vec<(String, usize)> {
    let host = host::symbols()
        .into_iter()
        .chain(direct::symbols())
        .chain(math::symbols())
        .map(|(name, address)| (name.to_owned(), address));
    let routines = routines::ROUTINES.iter().map(|(name, routine)| (format!("aot_rt_{name}"), *routine as usize));
    host.chain(routines).collect()
}

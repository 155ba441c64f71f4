//! Scheduled loop programs to machine code: one emitter over two backends.
//!
//! [`program`] fills a module through a [`builder::Builder`]; the LLVM backend makes files and code in this process from it,
//! the Cranelift backend code in this process. Nothing here knows an operator, and nothing here chooses loops or vectors.

pub mod builder;
#[cfg(feature = "cranelift")]
pub mod cranelift;
mod entries;
mod host;
mod kernel;
mod last_uses;
pub mod listing;
mod lists;
#[cfg(feature = "llvm")]
pub mod llvm;
mod math;
mod registers;
mod scalar;
pub mod target;
#[cfg(test)]
mod tests;
mod texts;

use crate::diag::Result;
use crate::index::Id as _;
use crate::loops::{FunctionId, Program, prepared_offsets, weight_offsets};
use builder::Builder;

/// The symbol of a function of the program.
pub fn symbol(prefix: &str, function: FunctionId) -> String {
    format!("{prefix}_f{}", function.index())
}

/// Emits all nests and functions. Functions are hidden symbols named by [`symbol`]; everything else is internal.
///
/// # Errors
/// Internal ones, about programs that are not fully scheduled and planned.
pub fn program(b: &dyn Builder, program: &Program, prefix: &str) -> Result<()> {
    let (weight_offsets, _) = weight_offsets(program);
    let (prepared_offsets, _) = prepared_offsets(program);
    let nests = program.nests.iter().enumerate();
    let nests: Vec<_> = nests
        .map(|(index, nest)| kernel::emit(b, nest, &nest_symbol(prefix, index, &nest.name)))
        .collect::<Result<_>>()?;
    let shared =
        host::Shared { program, nests: &nests, weight_offsets: &weight_offsets, prepared_offsets: &prepared_offsets };
    for (id, function) in program.functions.iter_ids() {
        host::emit(b, &shared, function, &symbol(prefix, id))?;
    }
    Ok(())
}

/// Names of kernels hold operators' characters; symbols keep letters, digits and underscores, and stay short.
fn nest_symbol(prefix: &str, index: usize, name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = name.chars().map(plain).take(60).collect();
    format!("{prefix}_n{index}_{name}")
}

//! Lowering: the graph of a method, run on what is known of its arguments, becomes a loop program.
//!
//! Calls are followed, conditions that are known choose their branch, short loops with known bounds unroll, and lists,
//! tuples and objects whose shape is known vanish. What depends on the running program stays as host control flow. Where
//! it merges values that no one place can hold, the code that follows is copied for each (see [`flow`]).
//!
//! ```text
//! graph + signature + state tag -> walk (nodes) -> ops (operators) -> Builder -> loops::Function
//!                                  flow (if, loop), facts and places (merging), state (what outlives a call)
//! ```

mod aliases;
mod arguments;
mod attributes;
mod capture;
mod facts;
mod flow;
mod kinds;
mod lookup;
mod members;
mod nodes;
mod places;
mod repeat;
mod reshaping;
mod signature;
mod sorting;
mod spec;
mod state;
mod tasks;
mod trace;
mod unpickle;
mod walk;

#[cfg(test)]
mod tests;

pub use signature::{ArgSpec, DimSpec};
pub(crate) use state::object_paths;
pub(crate) use trace::{archived_object_name, places};

use crate::diag::{self, Result};
use crate::ir::Module;
use crate::loops::Program;

/// A method to lower, for one signature of its arguments (without `self`).
#[derive(Clone, Debug)]
pub struct Request {
    /// `forward`
    pub method: String,
    /// One for each parameter; missing trailing ones take their defaults.
    pub args: Vec<ArgSpec>,
    /// Values that integer arguments, by position, are likely to have. Where extents depend on an argument, these get code of
    /// their own.
    pub likely: Vec<(usize, i64)>,
    /// For the tensors among the arguments, in the order in which these nest: strides of those that share memory with others. They
    /// count where the method writes to one of them. Empty where no tensors share memory.
    pub overlaps: Vec<Option<Vec<i64>>>,
    /// Whether the program tells what each statement does.
    pub is_traced: bool,
}

impl Request {
    /// A method for a signature, with no likely values.
    pub fn new(method: &str, args: Vec<ArgSpec>) -> Self {
        Self { method: method.to_owned(), args, likely: Vec::new(), overlaps: Vec::new(), is_traced: false }
    }

    /// A method for the signature of these arguments.
    ///
    /// # Errors
    /// Unsupported for values that no method takes.
    pub fn of_values(method: &str, args: &[aot_runtime::Value]) -> Result<Self> {
        let specs = args.iter().map(ArgSpec::of).collect::<std::result::Result<_, _>>();
        Ok(Self::new(method, specs.map_err(diag::Diagnostic::unsupported)?).overlapping(args))
    }

    /// The request with what these arguments show of shared memory.
    #[must_use]
    pub fn overlapping(mut self, args: &[aot_runtime::Value]) -> Self {
        self.overlaps = aot_runtime::overlaps::overlapping(args);
        if self.overlaps.iter().all(Option::is_none) {
            self.overlaps.clear();
        }
        self
    }

    /// Whether code for one serves the other.
    pub fn is_like(&self, other: &Self) -> bool {
        (&self.method, &self.args, &self.overlaps) == (&other.method, &other.args, &other.overlaps)
    }
}

/// Stack of the thread that lowers: calls, branches and copied continuations are walked by recursion.
const STACK_BYTES: usize = 2 << 30;

/// Lowers methods of a module's root object to one program.
///
/// # Errors
/// User errors where the graph is wrong for these arguments, unsupported where an operator or a construct is not lowered yet.
pub fn lower(module: &Module, requests: &[Request]) -> Result<Program> {
    diag::on_stack("lowering", STACK_BYTES, || state::lower_program(module, requests))
}

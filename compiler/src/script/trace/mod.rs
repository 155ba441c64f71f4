//! Tracing: Python functions and modules run on example inputs, and the operators they run are recorded.
//!
//! ```text
//! entry (torch.jit.trace, trace_module) ─► the interpreter runs Python ─► tensors, index ─► operators (matching: overloads)
//!                                                                                               │            │
//!                    functions and methods of the program ◄── record (graphs of modules) ◄──────┘      eager (values)
//! ```
//!
//! Control flow is decided while Python runs, sizes of tensors are tensors so that what is computed from them follows the
//! inputs, calls of compiled functions stay calls, and each module that is called gets a method of its own.

mod calls;
mod eager;
mod entry;
mod functions;
mod index;
mod jit;
mod matching;
mod operators;
mod record;
mod tensors;

pub(crate) use operators::{code_of, field_of};

use super::construct::{Named, Ref, Value};
use crate::ir::ValueId;
use aot_runtime::random::Generator;
use eager::Eager;
use record::{Path, Recorder, Traced};
use std::collections::HashMap;
use std::sync::Arc;

/// An argument of a call, given by its place or by its name.
fn argument(args: &[Value], named: &Named, at: usize, key: &str) -> Option<Value> {
    let by_name = || named.iter().find(|(name, _)| &**name == key).map(|(_, value)| value);
    args.get(at).or_else(by_name).cloned()
}

/// A trace under way.
#[derive(Debug)]
pub(crate) struct Tracer {
    recorder: Recorder,
    eager: Eager,
    /// What tensors of Python are in the trace.
    values: HashMap<Ref, Traced>,
    /// What they are in what is evaluated.
    eager_values: HashMap<Ref, ValueId>,
    /// Parameters and buffers of the traced module.
    attributes: HashMap<Ref, Path>,
    /// The modules below the traced one, which have methods of their own, and those that are compiled already.
    modules: HashMap<Ref, Submodule>,
    /// Tensors that are sizes, and their values.
    sizes: HashMap<Ref, i64>,
    n_operators: usize,
}

/// A module below the traced one.
#[derive(Clone, Debug)]
struct Submodule {
    path: Path,
    class: Arc<str>,
    /// Whether its methods are compiled and not traced.
    is_compiled: bool,
}

impl Tracer {
    fn new(recorder: Recorder, generator: Generator) -> Self {
        Self {
            recorder,
            eager: Eager::new(generator),
            values: HashMap::new(),
            eager_values: HashMap::new(),
            attributes: HashMap::new(),
            modules: HashMap::new(),
            sizes: HashMap::new(),
            n_operators: 0,
        }
    }

    /// Whether operators are only computed, as those of compiled functions are, whose call is the node.
    pub(crate) fn is_paused(&self) -> bool {
        self.recorder.is_paused
    }
}

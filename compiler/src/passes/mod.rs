//! Passes over graphs: one file a pass, one function `run` that says whether it changed anything.
//!
//! Lowering needs none of them, as it runs graphs as they are; they make the inlined and the frozen graph that people look
//! at. [`pipeline`] lists them in order. What an operator may do to others ([`effects`](crate::ops::effects)) is read from its schema, and
//! constants are folded by evaluating the operator's own definition ([`evaluate`]).

pub mod canonicalize_outputs;
pub mod constant_pooling;
pub mod constant_propagation;
pub mod edit;
pub mod eliminate_common_subexpressions;
pub mod eliminate_dead_code;
pub mod evaluate;
pub mod fold_convolutions;
pub mod freeze_attributes;
pub mod freeze_module;
pub mod infer;
pub mod inline;
pub mod lower_simple_tuples;
pub mod normalize_ops;
pub mod peephole;
pub mod pipeline;
pub mod remove_dropout;
#[cfg(test)]
mod tests;

/// Whether a pass changed the graph.
pub type Changed = bool;

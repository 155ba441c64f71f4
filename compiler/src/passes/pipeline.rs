//! Which passes run in which order, and why there.
//!
//! After each pass the verifier runs in builds with debug assertions.

use super::constant_propagation::Options;
use super::{
    Changed, canonicalize_outputs, constant_pooling, constant_propagation, eliminate_common_subexpressions,
    eliminate_dead_code, fold_convolutions, freeze_attributes, inline, lower_simple_tuples, normalize_ops, peephole,
    remove_dropout,
};
use crate::diag::{self, Diagnostic, Result};
use crate::ir::{Function, Graph, Module, verify};
use crate::types::IValue;
use std::sync::Arc;

/// Most rounds of rewriting until nothing changes; a graph that still changes then is left as it is.
const MAX_ROUNDS: usize = 16;

/// Stack of the thread that runs passes.
const STACK_BYTES: usize = 1 << 30;

/// The graph of a method of the root without calls, as PyTorch's `inlined_graph` has it: what is called is simplified
/// before it takes the place of the call, the method itself is not.
///
/// # Errors
/// A user error if there is no such method.
pub fn inlined(module: &Module, method: &str) -> Result<Graph> {
    inlined_function(module, method_function(module, method)?)
}

/// The graph of a function without calls, see [`inlined`].
///
/// # Errors
/// Only internal ones.
pub fn inlined_function(module: &Module, function: &Function) -> Result<Graph> {
    on_large_stack(|| {
        let mut graph = function.graph.clone();
        checked("inline", &mut graph, |g| inline::run_prepared(g, module, &prepared));
        Ok(graph)
    })
}

/// What PyTorch does to a function before it runs or inlines it.
fn prepared(graph: &mut Graph) {
    // Before folding, as questions about None decide conditions.
    let simplified = checked("peephole", graph, peephole::run_as_inlined);
    let folded = checked("constant_propagation", graph, |g| constant_propagation::run(g, Options::default()));
    if simplified || folded {
        checked("eliminate_dead_code", graph, eliminate_dead_code::run_as_scripted);
    }
    checked("constant_pooling", graph, constant_pooling::run);
}

fn without_calls(module: &Module, mut graph: Graph) -> Graph {
    checked("inline", &mut graph, |g| inline::run(g, module));
    // The callees brought their own constants.
    checked("constant_pooling", &mut graph, constant_pooling::run);
    checked("eliminate_dead_code", &mut graph, eliminate_dead_code::run);
    graph
}

/// The graph of a method of the root with unchanging attributes as constants and everything that follows from them.
///
/// # Errors
/// User errors if there is no such method, or the module is in training mode.
pub fn frozen(module: &Module, method: &str) -> Result<Graph> {
    let mut graphs = frozen_methods(module, &[method.into()])?;
    graphs.pop().ok_or_else(|| Diagnostic::internal("a frozen method is lost"))
}

/// The graphs of methods that all stay callable, see [`frozen`].
///
/// # Errors
/// As for [`frozen`].
pub fn frozen_methods(module: &Module, methods: &[Arc<str>]) -> Result<Vec<Graph>> {
    on_large_stack(|| freeze_methods(module, methods))
}

fn freeze_methods(module: &Module, methods: &[Arc<str>]) -> Result<Vec<Graph>> {
    if matches!(module.root.attrs.get("training"), Some(IValue::Bool(true))) {
        return Err(Diagnostic::user(
            "Freezing is currently only implemented for modules in eval mode. Please call .eval() on your module before \
             freezing.",
        ));
    }
    let graph = |method: &Arc<str>| Ok(without_calls(module, method_function(module, method)?.graph.clone()));
    let graphs = methods.iter().map(graph).collect::<Result<Vec<_>>>()?;
    let mut written = freeze_attributes::Written::default();
    for graph in &graphs {
        written.add(graph, &module.root);
    }
    Ok(graphs.into_iter().map(|graph| freeze_graph(module, graph, &written)).collect())
}

fn freeze_graph(module: &Module, mut graph: Graph, written: &freeze_attributes::Written) -> Graph {
    checked("freeze_attributes", &mut graph, |g| freeze_attributes::run(g, &module.root, written));
    simplify(&mut graph);
    // Needs the constant `train` flags; before the folds, as it may stand between a convolution and what follows.
    checked("remove_dropout", &mut graph, remove_dropout::run);
    for _ in 0..MAX_ROUNDS {
        // Needs constant weights and lists; a fold may make room for the next.
        if !checked("fold_convolutions", &mut graph, fold_convolutions::run) {
            break;
        }
        checked("eliminate_dead_code", &mut graph, eliminate_dead_code::run);
    }
    // Last, as everything before leaves constants where it made them.
    checked("constant_pooling", &mut graph, constant_pooling::run);
    checked("eliminate_dead_code", &mut graph, eliminate_dead_code::run);
    graph
}

/// The functions of a module that was compiled from text, as PyTorch's compiler leaves them: what constants decide is
/// decided, what nobody uses is gone, and constants stand first, each once. Traced functions stay as they were recorded.
pub fn scripted(module: &mut Module) -> Result<()> {
    on_large_stack(|| {
        for function in module.functions.values_mut() {
            let graph = &mut function.graph;
            // First, so that no other pass has to know aliases.
            checked("normalize_ops", graph, normalize_ops::run);
            if function.is_traced {
                // What ran is not computed when compiling; sizes that nobody uses are gone.
                checked("eliminate_dead_code", graph, eliminate_dead_code::run_as_scripted);
                continue;
            }
            // Before folding, as tuples hide what is constant.
            checked("lower_simple_tuples", graph, lower_simple_tuples::run);
            // Before folding, so that dead branches' leftovers cost no evaluation.
            checked("eliminate_dead_code", graph, eliminate_dead_code::run_as_scripted);
            for _ in 0..MAX_ROUNDS {
                let changed =
                    checked("constant_propagation", graph, |g| constant_propagation::run(g, Options::default()));
                checked("eliminate_dead_code", graph, eliminate_dead_code::run_as_scripted);
                if !changed {
                    break;
                }
            }
            checked("constant_pooling", graph, constant_pooling::run);
            // Last, when all uses are known.
            checked("canonicalize_outputs", graph, canonicalize_outputs::run);
        }
        Ok(())
    })
}

/// Passes walk nested blocks by recursion, and archives may nest them deeply.
fn on_large_stack<T: Send>(run: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    diag::on_stack("a pass", STACK_BYTES, run)
}

/// Rewrites that make each other possible, until nothing changes.
fn simplify(graph: &mut Graph) {
    for _ in 0..MAX_ROUNDS {
        // First, so that branches that are never taken hide nothing from the others.
        let mut changed =
            checked("constant_propagation", graph, |g| constant_propagation::run(g, Options { lists: true }));
        changed |= checked("peephole", graph, peephole::run);
        // Before common subexpressions, which would else compare dead nodes.
        changed |= checked("eliminate_dead_code", graph, eliminate_dead_code::run);
        // Equal constants make equal operands.
        checked("constant_pooling", graph, constant_pooling::run);
        changed |= checked("eliminate_common_subexpressions", graph, eliminate_common_subexpressions::run);
        if !changed {
            return;
        }
    }
}

fn method_function<'m>(module: &'m Module, method: &str) -> Result<&'m Function> {
    let function = module.method(&module.root.class, method);
    function.ok_or_else(|| Diagnostic::user(format!("the model has no method '{method}'")))
}

fn checked(pass: &str, graph: &mut Graph, run: impl FnOnce(&mut Graph) -> Changed) -> Changed {
    let changed = run(graph);
    if cfg!(debug_assertions)
        && let Err(rule) = verify(graph)
    {
        panic!("pass {pass} broke the graph: {rule}\n{graph}");
    }
    changed
}

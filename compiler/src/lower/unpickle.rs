//! Objects that restore themselves: the archive stores the argument of their `__setstate__`, which runs before every method.
//!
//! What it computes is known when compiling for all but unusual classes, so it leaves nothing in the program.

use super::facts::Outcome;
use super::state::objects_in;
use super::walk::Lowerer;
use crate::diag::Diagnostic;
use crate::types::Object;
use std::collections::HashSet;
use std::sync::Arc;

/// The attribute that holds the argument of `__setstate__` of an object that has this method.
const STATE: &str = "__state__";

/// The objects that the archive stores as arguments of `__setstate__`, those inside others first.
pub(super) fn states(root: &Arc<Object>) -> Vec<Arc<Object>> {
    let mut queue = vec![(Arc::clone(root), String::new())];
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    while let Some((object, _)) = queue.pop() {
        if !seen.insert(Arc::as_ptr(&object) as usize) {
            continue;
        }
        if object.attrs.contains_key(STATE) && !object.class.starts_with("__torch__.torch.classes.") {
            found.push(Arc::clone(&object));
        }
        object.attrs.values().for_each(|value| objects_in(value, "", &mut queue));
    }
    found.reverse();
    found
}

/// Gives these objects their attributes by `__setstate__`, then goes on.
pub(super) fn set_states<'m, 'p>(
    lw: &mut Lowerer<'m, 'p>,
    objects: &[Arc<Object>],
    then: &mut dyn FnMut(&mut Lowerer<'m, 'p>) -> Outcome<()>,
) -> Outcome<()> {
    let Some((object, rest)) = objects.split_first() else { return then(lw) };
    let missing = || Diagnostic::user(format!("'{}' object has no method '__setstate__'", object.class));
    let method = lw.module.method(&object.class, "__setstate__").ok_or_else(missing)?;
    let graph = Arc::new(method.graph.clone());
    let path = lw.paths.get(&(Arc::as_ptr(object) as usize)).cloned().unwrap_or_default();
    let state = lw.constant_value(&object.attrs[STATE], &path)?;
    let args = [lw.object(object), state];
    lw.run_graph(&graph, &args, &mut |lw, _| set_states(lw, rest, then))
}

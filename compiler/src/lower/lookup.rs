//! `dict.get(key)` where only the running program knows the key: the value or `None`, so what follows is lowered for each.

use super::facts::Outcome;
use super::walk::{Lowerer, Next};
use crate::ir::{Node, NodeId};
use crate::ops::prim::dict;
use crate::ops::value::Value;
use std::sync::Arc;

impl<'m, 'p> Lowerer<'m, 'p> {
    /// Whether the running program must look for the key.
    pub(super) fn is_looked_up(&self, act: usize, node: &Node) -> Outcome<bool> {
        let [of, key] = node.inputs[..] else { return Ok(false) };
        Ok(dict::is_looked_up(&self.b, &self.get(act, of)?, &self.get(act, key)?))
    }

    /// Looks for the key.
    pub(super) fn looked_up(&mut self, act: usize, node: NodeId, next: &mut Next<'_, 'm, 'p>) -> Outcome<()> {
        let graph = self.graph(act);
        let node = &graph.nodes[node];
        self.b.node = Some((Arc::clone(&graph), node.inputs.clone()));
        let args = [self.get(act, node.inputs[0])?, self.get(act, node.inputs[1])?];
        let is_there = dict::has_key(&mut self.b, &args[0], &args[1])?;
        let mut found = |lw: &mut Self, next: &mut Next<'_, 'm, 'p>| {
            let value = crate::ops::lower(&mut lw.b, &node.op, &args)?;
            next(lw, vec![value])
        };
        let mut missing = |lw: &mut Self, next: &mut Next<'_, 'm, 'p>| next(lw, vec![Value::None]);
        self.branch(&is_there, None, &mut found, &mut missing, next)
    }
}

//! Exits become structure: graphs with `return`, `break` and `continue` inside blocks become graphs without.
//!
//! While a body is emitted, `prim::ReturnStmt(value)` and `prim::LoopContinuation(again, carried...)` stand where the program leaves.
//! Here each becomes values: whether a block has been left, and with what. What follows an `if` that may have left
//! moves into an `if` on that, a loop that may have left carries it, and at the target it chooses the results. First for
//! loops, then for returns. Afterwards an `if` on a flag that the `if` before it decided joins that one, and a loop that has
//! both a count and a condition of its own becomes a `while`.

use super::function::Emitter;
use super::typing::unify;
use crate::ir::{BlockId, NodeId, OpName, ValueDef, ValueId};
use crate::source::Span;
use crate::syntax::ast::TextRange;
use crate::types::{IValue, Type};
use std::collections::{HashMap, HashSet};

/// Leaves the function with a value.
pub(super) const RETURN: &str = "prim::ReturnStmt";
/// Ends a round of the innermost loop.
pub(super) const CONTINUE: &str = "prim::LoopContinuation";

/// Whether a block has been left at some place.
#[derive(Clone)]
enum Exit {
    /// It has not.
    Wont,
    /// The program raises before.
    Throws,
    /// It has, with these values.
    Will(Vec<ValueId>),
    /// If this flag says so, with these values.
    Might(ValueId, Vec<ValueId>),
}

impl Emitter<'_, '_> {
    /// Replaces every exit of the graph, which has no results yet, and gives it its result.
    pub(super) fn structure(&mut self, result: &Type, range: TextRange) {
        let top = self.graph.top;
        let has_loop_exits = self.graph.nodes.iter().any(|node| node.is(CONTINUE));
        if has_loop_exits {
            self.leave_block(top, CONTINUE, false, range);
        }
        self.leave_block(top, RETURN, true, range);
        if self.graph.blocks[top].returns.is_empty() {
            let value = self.never(result, range).id;
            self.graph.blocks[top].returns.push(value);
        }
        self.join_ifs(top);
        self.count_in_conditions(top, range);
    }

    fn flag(&mut self, value: bool, range: TextRange) -> ValueId {
        self.top_constant(IValue::Bool(value), Type::Bool, range).id
    }

    fn ty(&self, value: ValueId) -> Type {
        self.graph.values[value].ty.clone()
    }

    fn never_like(&mut self, values: &[ValueId], range: TextRange) -> Vec<ValueId> {
        let types: Vec<Type> = values.iter().map(|&value| self.ty(value)).collect();
        types.iter().map(|ty| self.never(ty, range).id).collect()
    }

    /// An `if` that is in no block yet.
    fn new_if(&mut self, cond: ValueId, span: Option<Span>) -> (NodeId, [BlockId; 2]) {
        let node = self.graph.create_node(OpName::new("prim::If"), vec![cond], span);
        let blocks = [self.graph.add_block(), self.graph.add_block()];
        self.graph.nodes[node].blocks = blocks.to_vec();
        (node, blocks)
    }

    /// Gives an `if` an output that is one value or the other.
    fn add_choice(&mut self, node: NodeId, a: ValueId, b: ValueId) -> ValueId {
        let ty = unify(&self.ty(a), &self.ty(b), self.program).unwrap_or_else(|| self.ty(a));
        let blocks = self.graph.nodes[node].blocks.clone();
        self.graph.blocks[blocks[0]].returns.push(a);
        self.graph.blocks[blocks[1]].returns.push(b);
        self.graph.add_output(node, ty)
    }

    /// Takes the exits of this kind out of a block; those of its own end in it if it `is_target`.
    fn leave_block(&mut self, block: BlockId, kind: &'static str, is_target: bool, range: TextRange) -> Exit {
        let mut rest: Vec<NodeId> = std::mem::take(&mut self.graph.blocks[block].nodes);
        rest.reverse();
        let (mut kept, mut exit) = (Vec::with_capacity(rest.len()), Exit::Wont);
        while let Some(id) = rest.pop() {
            if self.graph.nodes[id].is(kind) {
                exit = Exit::Will(self.graph.nodes[id].inputs.clone());
            } else {
                kept.push(id);
                exit = match &*self.graph.nodes[id].op.name {
                    "prim::RaiseException" => Exit::Throws,
                    "prim::If" => {
                        let blocks = self.graph.nodes[id].blocks.clone();
                        let a = self.leave_block(blocks[0], kind, false, range);
                        let b = self.leave_block(blocks[1], kind, false, range);
                        self.join_exits(id, a, b, range)
                    }
                    "prim::Loop" => self.leave_loop(id, kind, range),
                    "prim::Enter" => self.leave_with(block, id, &mut kept, &mut rest, kind, range),
                    _ => Exit::Wont,
                };
            }
            match &exit {
                Exit::Wont => {}
                Exit::Will(_) | Exit::Throws => {
                    self.drop_after(block, &rest, range);
                    break;
                }
                Exit::Might(..) if rest.is_empty() => break,
                Exit::Might(left, values) => {
                    let (left, values) = (*left, values.clone());
                    rest.reverse();
                    let (guard, joined) = self.guard(block, left, values, rest, kind, range);
                    kept.push(guard);
                    exit = joined;
                    break;
                }
            }
        }
        if is_target {
            match exit {
                Exit::Will(values) => self.graph.blocks[block].returns = values,
                Exit::Might(left, values) => {
                    let (node, _) = self.new_if(left, None);
                    let returns = self.graph.blocks[block].returns.clone();
                    let chosen = values.iter().zip(returns).map(|(&a, b)| self.add_choice(node, a, b)).collect();
                    self.graph.blocks[block].returns = chosen;
                    kept.push(node);
                }
                Exit::Wont | Exit::Throws => {}
            }
            exit = Exit::Wont;
        }
        self.graph.blocks[block].nodes = kept;
        exit
    }

    /// Nodes that are never reached go; what the block still gives of theirs is never read.
    fn drop_after(&mut self, block: BlockId, nodes: &[NodeId], range: TextRange) {
        for at in 0..self.graph.blocks[block].returns.len() {
            let value = self.graph.blocks[block].returns[at];
            if matches!(self.graph.values[value].def, ValueDef::Output(node, _) if nodes.contains(&node)) {
                let ty = self.ty(value);
                self.graph.blocks[block].returns[at] = self.never(&ty, range).id;
            }
        }
    }

    /// Moves what follows a possible exit into an `if`.
    fn guard(
        &mut self,
        block: BlockId,
        left: ValueId,
        values: Vec<ValueId>,
        rest: Vec<NodeId>,
        kind: &'static str,
        range: TextRange,
    ) -> (NodeId, Exit) {
        let span = rest.first().and_then(|&id| self.graph.nodes[id].span.clone());
        let (node, [_, orelse]) = self.new_if(left, span);
        self.graph.blocks[orelse].nodes = rest;
        let returns = self.graph.blocks[block].returns.clone();
        let never = self.never_like(&returns, range);
        let returns = never.into_iter().zip(returns).map(|(a, b)| {
            let output = self.add_choice(node, a, b);
            self.graph.values[output].ty = self.ty(b);
            output
        });
        self.graph.blocks[block].returns = returns.collect();
        let guarded = self.leave_block(orelse, kind, false, range);
        (node, self.join_exits(node, Exit::Will(values), guarded, range))
    }

    /// How an `if` leaves whose branches leave so.
    fn join_exits(&mut self, node: NodeId, a: Exit, b: Exit, range: TextRange) -> Exit {
        let is_sure = match (&a, &b) {
            (Exit::Wont, Exit::Wont | Exit::Throws) | (Exit::Throws, Exit::Wont) => return Exit::Wont,
            (Exit::Throws, Exit::Throws) => return Exit::Throws,
            (Exit::Will(_), Exit::Will(_) | Exit::Throws) | (Exit::Throws, Exit::Will(_)) => true,
            _ => false,
        };
        let model = match (&a, &b) {
            (Exit::Will(values) | Exit::Might(_, values), _) | (_, Exit::Will(values) | Exit::Might(_, values)) => {
                values.clone()
            }
            _ => Vec::new(),
        };
        let mut side = |exit: Exit| match exit {
            Exit::Wont => (self.flag(false, range), self.never_like(&model, range)),
            Exit::Throws => (self.never(&Type::Bool, range).id, self.never_like(&model, range)),
            Exit::Will(values) => (self.flag(true, range), values),
            Exit::Might(left, values) => (left, values),
        };
        let ((a_left, a), (b_left, b)) = (side(a), side(b));
        let left = if is_sure { None } else { Some(self.add_choice(node, a_left, b_left)) };
        let values = a.into_iter().zip(b).map(|(a, b)| self.add_choice(node, a, b)).collect();
        match left {
            None => Exit::Will(values),
            Some(left) => Exit::Might(left, values),
        }
    }

    /// A loop that may leave for more than its next round carries whether it did, and with what.
    fn leave_loop(&mut self, id: NodeId, kind: &'static str, range: TextRange) -> Exit {
        let body = self.graph.nodes[id].blocks[0];
        let (left, values) = match self.leave_block(body, kind, kind == CONTINUE, range) {
            Exit::Wont | Exit::Throws => return Exit::Wont,
            Exit::Will(values) => (self.flag(true, range), values),
            Exit::Might(left, values) => (left, values),
        };
        let no = self.flag(false, range);
        let (node, _) = self.new_if(left, self.graph.nodes[id].span.clone());
        let next = self.graph.blocks[body].returns[0];
        let again = self.add_choice(node, no, next);
        self.graph.blocks[body].nodes.push(node);
        self.graph.blocks[body].returns[0] = again;
        let left = self.carry(id, no, left);
        let before = self.never_like(&values, range);
        let values = before.into_iter().zip(values).map(|(before, after)| self.carry(id, before, after)).collect();
        Exit::Might(left, values)
    }

    /// Lets a loop carry one value more; gives it as it is after the loop.
    fn carry(&mut self, id: NodeId, before: ValueId, after: ValueId) -> ValueId {
        let (ty, body) = (self.ty(after), self.graph.nodes[id].blocks[0]);
        self.graph.nodes[id].inputs.push(before);
        self.graph.add_param(body, ty.clone(), None);
        self.graph.blocks[body].returns.push(after);
        self.graph.add_output(id, ty)
    }

    /// The body of a `with`, after which its `prim::Exit` runs however the body ends.
    fn leave_with(
        &mut self,
        block: BlockId,
        enter: NodeId,
        kept: &mut Vec<NodeId>,
        rest: &mut Vec<NodeId>,
        kind: &'static str,
        range: TextRange,
    ) -> Exit {
        let object = self.graph.nodes[enter].inputs.clone();
        let is_end = |id: &NodeId| self.graph.nodes[*id].is("prim::Exit") && self.graph.nodes[*id].inputs == object;
        let Some(end) = rest.iter().rposition(is_end) else { return Exit::Wont };
        let mut inside = rest.split_off(end + 1);
        inside.reverse();
        let made: HashSet<NodeId> = inside.iter().copied().collect();
        // What the body made and others read becomes what the body gives.
        let mut read = self.graph.blocks[block].returns.clone();
        self.reads(rest, &mut read);
        read.retain(|&value| matches!(self.graph.values[value].def, ValueDef::Output(node, _) if made.contains(&node)));
        let mut seen = HashSet::new();
        read.retain(|&value| seen.insert(value));
        let body = self.graph.add_block();
        self.graph.blocks[body].nodes = inside;
        self.graph.blocks[body].returns.clone_from(&read);
        let exit = self.leave_block(body, kind, false, range);
        kept.append(&mut self.graph.blocks[body].nodes);
        let given = self.graph.blocks[body].returns.clone();
        let new: HashMap<ValueId, ValueId> = read.into_iter().zip(given).filter(|(old, new)| old != new).collect();
        if !new.is_empty() {
            let outside = rest.clone();
            self.substitute(&outside, &new);
            for value in &mut self.graph.blocks[block].returns {
                *value = new.get(value).copied().unwrap_or(*value);
            }
        }
        kept.extend(rest.pop());
        exit
    }

    /// Adds everything that nodes and the blocks in them read.
    fn reads(&self, nodes: &[NodeId], out: &mut Vec<ValueId>) {
        for id in self.subtree(nodes) {
            out.extend(&self.graph.nodes[id].inputs);
            out.extend(self.graph.nodes[id].blocks.iter().flat_map(|&block| &self.graph.blocks[block].returns));
        }
    }

    /// Nodes and all nodes in their blocks.
    fn subtree(&self, nodes: &[NodeId]) -> Vec<NodeId> {
        let mut found = nodes.to_vec();
        let mut at = 0;
        while let Some(&id) = found.get(at) {
            at += 1;
            found.extend(self.graph.nodes[id].blocks.iter().flat_map(|&block| &self.graph.blocks[block].nodes));
        }
        found
    }

    fn substitute(&mut self, nodes: &[NodeId], new: &HashMap<ValueId, ValueId>) {
        let swap = |values: &mut Vec<ValueId>| {
            for value in values {
                *value = new.get(value).copied().unwrap_or(*value);
            }
        };
        for id in self.subtree(nodes) {
            swap(&mut self.graph.nodes[id].inputs);
            for block in self.graph.nodes[id].blocks.clone() {
                swap(&mut self.graph.blocks[block].returns);
            }
        }
    }

    /// Joins an `if` to the one right before it where that one's branches decide its condition, one each way.
    fn join_ifs(&mut self, block: BlockId) {
        let mut at = 0;
        while let Some(&id) = self.graph.blocks[block].nodes.get(at) {
            for inner in self.graph.nodes[id].blocks.clone() {
                self.join_ifs(inner);
            }
            while let Some(&next) = self.graph.blocks[block].nodes.get(at + 1)
                && self.join_if(id, next)
            {
                self.graph.blocks[block].nodes.remove(at + 1);
                let outputs = self.graph.nodes[next].outputs.clone();
                let mut new = HashMap::new();
                for old in outputs {
                    let value = self.graph.values[old].clone();
                    let output = self.graph.add_output(id, value.ty);
                    self.graph.values[output].name = value.name;
                    new.insert(old, output);
                }
                let later = self.graph.blocks[block].nodes.split_off(at + 1);
                self.substitute(&later, &new);
                self.graph.blocks[block].nodes.extend(later);
                for value in &mut self.graph.blocks[block].returns {
                    *value = new.get(value).copied().unwrap_or(*value);
                }
                for inner in self.graph.nodes[id].blocks.clone() {
                    self.join_ifs(inner);
                }
            }
            at += 1;
        }
    }

    /// Moves the branches of the second `if` into those of the first, which decide it.
    fn join_if(&mut self, first: NodeId, second: NodeId) -> bool {
        let (a, b) = (&self.graph.nodes[first], &self.graph.nodes[second]);
        if !a.is("prim::If") || !b.is("prim::If") {
            return false;
        }
        let ValueDef::Output(node, offset) = self.graph.values[b.inputs[0]].def else { return false };
        let decided = |block: BlockId| match self.graph.constant(self.graph.blocks[block].returns[offset]) {
            Some(IValue::Bool(truth)) => Some(truth),
            _ => None,
        };
        let (firsts, seconds) = (a.blocks.clone(), b.blocks.clone());
        if node != first {
            return false;
        }
        let truths = match (decided(firsts[0]), decided(firsts[1])) {
            (Some(x), Some(y)) if x != y => [x, y],
            _ => return false,
        };
        let outputs = a.outputs.clone();
        for (block, truth) in firsts.into_iter().zip(truths) {
            let moved = seconds[usize::from(!truth)];
            let here = self.graph.blocks[block].returns.clone();
            let new: HashMap<ValueId, ValueId> = outputs.iter().copied().zip(here).collect();
            let nodes = std::mem::take(&mut self.graph.blocks[moved].nodes);
            self.substitute(&nodes, &new);
            let returns = std::mem::take(&mut self.graph.blocks[moved].returns);
            let returns = returns.into_iter().map(|value| new.get(&value).copied().unwrap_or(value));
            let block = &mut self.graph.blocks[block];
            block.nodes.extend(nodes);
            block.returns.extend(returns);
        }
        true
    }

    /// Makes a `while` of each loop that has a count and a condition, as source text has no loop with both.
    fn count_in_conditions(&mut self, block: BlockId, range: TextRange) {
        let mut at = 0;
        while let Some(&id) = self.graph.blocks[block].nodes.get(at) {
            for inner in self.graph.nodes[id].blocks.clone() {
                self.count_in_conditions(inner, range);
            }
            if self.graph.nodes[id].is("prim::Loop") && self.has_count_and_condition(id) {
                at += self.count_in_condition(block, at, id, range);
            }
            at += 1;
        }
    }

    fn has_count_and_condition(&self, id: NodeId) -> bool {
        let node = &self.graph.nodes[id];
        let body = &self.graph.blocks[node.blocks[0]];
        let is_true = |value: ValueId| matches!(self.graph.constant(value), Some(IValue::Bool(true)));
        if is_true(node.inputs[1]) && is_true(body.returns[0]) {
            return false;
        }
        let is_open = matches!(self.graph.constant(node.inputs[0]), Some(IValue::Int(i64::MAX)));
        let mut read = body.returns.clone();
        self.reads(&body.nodes, &mut read);
        !is_open || read.contains(&body.params[0])
    }

    /// Gives the number of nodes put before the loop.
    fn count_in_condition(&mut self, block: BlockId, at: usize, id: NodeId, range: TextRange) -> usize {
        let (body, count) = (self.graph.nodes[id].blocks[0], self.graph.nodes[id].inputs[0]);
        let n_before = self.graph.blocks[block].nodes.len();
        let outside = std::mem::replace(&mut self.block, block);
        let [zero, one] = [0, 1].map(|n| self.folded(IValue::Int(n), Type::Int, range));
        let mut start = self.op("aten::gt", "int", count, zero.id, Type::Bool, range);
        let most = self.folded(IValue::Int(i64::MAX), Type::Int, range);
        let first = self.graph.nodes[id].inputs[1];
        if !matches!(self.graph.constant(first), Some(IValue::Bool(true))) {
            start = self.op("aten::__and__", "bool", start, first, Type::Bool, range);
        }
        let made = self.graph.blocks[block].nodes.split_off(n_before);
        let n_made = made.len();
        self.graph.blocks[block].nodes.splice(at..at, made);
        self.graph.nodes[id].inputs[0] = most.id;
        self.graph.nodes[id].inputs[1] = start;
        self.graph.nodes[id].inputs.push(zero.id);
        self.graph.add_output(id, Type::Int);
        let old = self.graph.blocks[body].params[0];
        let new = self.graph.add_param(body, Type::Int, None);
        self.graph.values[old].name = None;
        let nodes = self.graph.blocks[body].nodes.clone();
        let swap = HashMap::from([(old, new)]);
        self.substitute(&nodes, &swap);
        for value in &mut self.graph.blocks[body].returns {
            *value = swap.get(value).copied().unwrap_or(*value);
        }
        self.block = body;
        let next = self.op("aten::add", "int", new, one.id, Type::Int, range);
        let is_less = self.op("aten::lt", "int", next, count, Type::Bool, range);
        let again = self.graph.blocks[body].returns[0];
        let again = self.op("aten::__and__", "bool", is_less, again, Type::Bool, range);
        self.graph.blocks[body].returns[0] = again;
        self.graph.blocks[body].returns.push(next);
        self.block = outside;
        n_made
    }

    fn op(&mut self, name: &str, overload: &str, a: ValueId, b: ValueId, ty: Type, range: TextRange) -> ValueId {
        let node = self.node(OpName::with_overload(name, overload), vec![a, b], std::slice::from_ref(&ty), range);
        self.graph.nodes[node].outputs[0]
    }
}

//! The walk over a graph's nodes, in order of execution.
//!
//! A block is walked with a continuation, `next`, which receives the block's results. Mostly it is called once and at the
//! same place in the program under construction; then [`Lowerer::straight`] turns it into a plain return value. Where
//! control flow parts for good, it is called once for each way.

use super::attributes::Changes;
use super::facts::{Fact, Outcome, Stop};
use crate::diag::{Blame, Diagnostic};
use crate::index::IndexVec;
use crate::ir::{BlockId, Graph, Module, NodeId, ValueId};
use crate::loops::{BinaryOp, BufferId, Const, Dim, Operand, Stmt, VarId};
use crate::ops::builder::{Builder, Heap};
use crate::ops::instances::Classes;
use crate::ops::value::{CellId, ResultId, Tensor, Value, known};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// What follows a block: receives its results. Not called if the block never ends normally.
pub(super) type Next<'a, 'm, 'p> = dyn FnMut(&mut Lowerer<'m, 'p>, Vec<Value>) -> Outcome<()> + 'a;

/// A part of the program to walk, given what follows it.
pub(super) type Part<'a, 'm, 'p> = dyn FnMut(&mut Lowerer<'m, 'p>, &mut Next<'_, 'm, 'p>) -> Outcome<()> + 'a;

/// The most nodes walked for one function, unrolled and copied ones included.
const MAX_NODES: usize = 3_000_000;
/// The deepest nesting of calls.
const MAX_CALLS: usize = 400;
/// How often the code that follows a branch may be copied in one function.
const MAX_COPIES: usize = 256;

/// Lowers one function.
pub(super) struct Lowerer<'m, 'p> {
    pub(super) module: &'m Module,
    /// The function under construction.
    pub(super) b: Builder<'p>,
    /// Graphs of the functions called so far, by name: a call costs no copy of the callee.
    pub(super) graphs: HashMap<Arc<str>, Arc<Graph>>,
    /// Graphs being walked, with the values of their SSA names.
    activations: Vec<Activation>,
    /// Objects of the archive by address.
    pub(super) objects: HashMap<usize, CellId>,
    /// Attribute paths of the archive's objects, for names of weights.
    pub(super) paths: HashMap<usize, String>,
    /// Storages that attributes share, by their number among the state.
    pub(super) storages: HashMap<usize, Tensor>,
    /// The same with their numbers of elements, by the memory they were read from.
    pub(super) shared: HashMap<usize, (Tensor, i64)>,
    pub(super) n_nodes: usize,
    pub(super) n_copies: usize,
    /// Nested parts that did not have one end: graph, node, the number of assumptions and whether lists grew.
    forks: HashSet<(usize, NodeId, usize, bool, bool)>,
    /// Whether lists become run-time lists where paths of different lengths meet. Else such paths stay apart.
    pub(super) grows_lists: bool,
    /// Whether loops may leave values of several kinds, which is the last resort.
    pub(super) may_box: bool,
    /// Integer arguments by their variable.
    pub(super) int_args: HashMap<VarId, usize>,
    /// Values that integer arguments are compared with: worth code of their own.
    pub(super) compared: BTreeSet<(usize, i64)>,
    /// For tasks, what is known of their results: one fact for each way to end.
    pub(super) results: IndexVec<ResultId, Vec<Fact>>,
    /// Forked graphs that are plain calls.
    pub(super) plain_forks: HashSet<usize>,
    /// Buffers that tasks write to.
    pub(super) written: HashSet<BufferId>,
    /// Strides of the tensors among the arguments that share memory with others, as far as they have not been taken yet.
    pub(super) overlaps: std::vec::IntoIter<Option<Vec<i64>>>,
    /// Whether the program tells what each statement does.
    pub(super) is_traced: bool,
    /// Calls around the task that this is.
    pub(super) outer_calls: usize,
    /// What functions write to, once that was asked.
    pub(super) changes: Option<Arc<Changes>>,
    /// The first operator that cannot work on its arguments, for methods that never end otherwise.
    pub(super) first_error: Option<Box<Diagnostic>>,
}

struct Activation {
    graph: Arc<Graph>,
    values: Vec<Option<Value>>,
}

/// Everything that an attempt changes, to be put back if it fails.
pub(super) struct Snapshot {
    heap: Heap,
    depth: usize,
    n_stmts: usize,
    n_activations: usize,
    first_error: Option<Box<Diagnostic>>,
}

impl Snapshot {
    /// Cells and storages as they were.
    pub(super) fn heap(&self) -> Heap {
        self.heap.clone()
    }
}

impl<'m, 'p> Lowerer<'m, 'p> {
    pub(super) fn new(module: &'m Module, mut b: Builder<'p>) -> Self {
        b.classes = Arc::new(Classes::of(module));
        let (objects, paths) = (HashMap::new(), HashMap::new());
        let (int_args, compared) = (HashMap::new(), BTreeSet::new());
        let activations = Vec::new();
        Self {
            module,
            b,
            graphs: HashMap::new(),
            activations,
            objects,
            paths,
            storages: HashMap::new(),
            shared: HashMap::new(),
            n_nodes: 0,
            n_copies: 0,
            forks: HashSet::new(),
            grows_lists: false,
            may_box: false,
            int_args,
            compared,
            results: IndexVec::new(),
            plain_forks: HashSet::new(),
            written: HashSet::new(),
            overlaps: Vec::new().into_iter(),
            is_traced: false,
            outer_calls: 0,
            changes: None,
            first_error: None,
        }
    }

    pub(super) fn n_activations(&self) -> usize {
        self.activations.len()
    }

    pub(super) fn drop_activations(&mut self, down_to: usize) {
        self.activations.truncate(down_to);
    }

    /// How deeply calls are nested here.
    pub(super) fn n_calls(&self) -> usize {
        self.outer_calls + self.activations.len()
    }

    // ---- values of SSA names

    /// What an SSA name stands for, if it does yet.
    pub(super) fn known(&self, act: usize, value: ValueId) -> Option<&Value> {
        self.activations[act].values.get(value.0 as usize).and_then(Option::as_ref)
    }

    pub(super) fn get(&self, act: usize, value: ValueId) -> Outcome<Value> {
        let known = self.known(act, value).cloned();
        known.ok_or_else(|| Diagnostic::internal(format!("{value} is used before it is lowered")).into())
    }

    pub(super) fn set(&mut self, act: usize, value: ValueId, to: Value) {
        self.activations[act].values[value.0 as usize] = Some(to);
    }

    fn bind(&mut self, act: usize, node: NodeId, values: Vec<Value>) {
        let outputs = self.activations[act].graph.nodes[node].outputs.clone();
        for (output, value) in outputs.into_iter().zip(values) {
            self.set(act, output, value);
        }
    }

    // ---- attempts

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            heap: self.b.heap.clone(),
            depth: self.b.depth(),
            n_stmts: self.b.n_stmts(),
            n_activations: self.activations.len(),
            first_error: self.first_error.clone(),
        }
    }

    pub(super) fn restore(&mut self, snapshot: &Snapshot) {
        self.b.heap = snapshot.heap.clone();
        self.b.abandon_to(snapshot.depth, snapshot.n_stmts);
        self.activations.truncate(snapshot.n_activations);
        self.first_error.clone_from(&snapshot.first_error);
    }

    /// Walks a part whose end must be reached at most once and at this place in the program; gives its results, or `None`
    /// if its end is never reached.
    pub(super) fn straight(&mut self, part: &mut Part<'_, 'm, 'p>) -> Outcome<Option<Vec<Value>>> {
        let depth = self.b.depth();
        let mut result = None;
        part(self, &mut |lowerer, values| {
            if result.is_some() || lowerer.b.depth() != depth {
                return Err(Stop::Incompatible("paths that do not meet again".to_owned()));
            }
            result = Some(values);
            Ok(())
        })?;
        Ok(result)
    }

    /// The graph of an activation.
    pub(super) fn graph(&self, act: usize) -> Arc<Graph> {
        Arc::clone(&self.activations[act].graph)
    }

    // ---- walking

    /// Walks a graph's top block in a new activation.
    pub(super) fn run_graph(&mut self, graph: &Arc<Graph>, args: &[Value], next: &mut Next<'_, 'm, 'p>) -> Outcome<()> {
        if self.n_calls() > MAX_CALLS {
            return Err(self.b.unsupported("calls are nested too deeply").into());
        }
        let act = self.activations.len();
        let values = vec![None; graph.values.len()];
        self.activations.push(Activation { graph: Arc::clone(graph), values });
        let params = graph.blocks[graph.top].params.clone();
        for (param, arg) in params.into_iter().zip(args) {
            self.set(act, param, arg.clone());
        }
        self.run_block(act, graph.top, 0, next)
    }

    /// Walks a block of an activation from a node on.
    pub(super) fn run_block(
        &mut self,
        act: usize,
        block: BlockId,
        from: usize,
        next: &mut Next<'_, 'm, 'p>,
    ) -> Outcome<()> {
        let graph = Arc::clone(&self.activations[act].graph);
        let body = &graph.blocks[block];
        for (at, &id) in body.nodes.iter().enumerate().skip(from) {
            self.n_nodes += 1;
            if self.n_nodes > MAX_NODES {
                return Err(self.b.unsupported("the method unrolls to too much code").into());
            }
            let node = &graph.nodes[id];
            self.b.span.clone_from(&node.span);
            self.trace_statement(&graph, block, at);
            if let Some(input) = self.of_open_kind(act, node) {
                let mut part = |lw: &mut Self, next: &mut Next<'_, 'm, 'p>| lw.of_each_kind(act, id, input, next);
                if self.nested(act, block, at, id, &mut part, next)? {
                    return Ok(());
                }
                self.trace(act, id)?;
                continue;
            }
            match &*node.op.name {
                "prim::RaiseException" => return self.raise(act, node),
                "prim::If" => {
                    let cond = self.get(act, node.inputs[0])?;
                    let cond = self.truth(&cond)?;
                    if let Some(constant) = known(&cond) {
                        let chosen = node.blocks[usize::from(constant.bits == 0)];
                        let mut part = |lw: &mut Self, next: &mut Next<'_, 'm, 'p>| lw.run_block(act, chosen, 0, next);
                        if self.nested(act, block, at, id, &mut part, next)? {
                            return Ok(());
                        }
                        continue;
                    }
                    let (yes, no) = (node.blocks[0], node.blocks[1]);
                    let mut part = |lw: &mut Self, next: &mut Next<'_, 'm, 'p>| {
                        let mut on_true = |lw: &mut Self, next: &mut Next<'_, 'm, 'p>| lw.run_block(act, yes, 0, next);
                        let mut on_false = |lw: &mut Self, next: &mut Next<'_, 'm, 'p>| lw.run_block(act, no, 0, next);
                        lw.branch(&cond, Some((act, id)), &mut on_true, &mut on_false, next)
                    };
                    if self.nested(act, block, at, id, &mut part, next)? {
                        return Ok(());
                    }
                }
                "prim::Loop" => {
                    let mut part = |lw: &mut Self, next: &mut Next<'_, 'm, 'p>| lw.run_loop(act, id, next);
                    if self.nested(act, block, at, id, &mut part, next)? {
                        return Ok(());
                    }
                }
                "prim::CallMethod" | "prim::CallFunction" | "prim::Enter" | "prim::Exit" | "prim::fork" => {
                    if node.is("prim::fork") {
                        let (callee, args) = self.callee(act, node)?;
                        if let Some(future) = self.fork(&callee, &args)? {
                            self.bind(act, id, vec![future]);
                            continue;
                        }
                    }
                    let mut part = |lw: &mut Self, next: &mut Next<'_, 'm, 'p>| lw.call(act, id, next);
                    if self.nested(act, block, at, id, &mut part, next)? {
                        return Ok(());
                    }
                    self.trace(act, id)?;
                }
                "prim::ModuleContainerIndex" => {
                    let mut part = |lw: &mut Self, next: &mut Next<'_, 'm, 'p>| lw.chosen_member(act, id, next);
                    if self.nested(act, block, at, id, &mut part, next)? {
                        return Ok(());
                    }
                }
                "aten::sort" | "aten::sorted" if self.sorts_instances(act, node.inputs[0]) => {
                    let mut part = |lw: &mut Self, next: &mut Next<'_, 'm, 'p>| lw.sort_instances(act, id, next);
                    if self.nested(act, block, at, id, &mut part, next)? {
                        return Ok(());
                    }
                }
                "aten::get" if node.inputs.len() == 2 && self.is_looked_up(act, node)? => {
                    let mut part = |lw: &mut Self, next: &mut Next<'_, 'm, 'p>| lw.looked_up(act, id, next);
                    if self.nested(act, block, at, id, &mut part, next)? {
                        return Ok(());
                    }
                }
                "aten::wait" if let Some(future) = self.future(&self.get(act, node.inputs[0])?) => {
                    let mut part = |lw: &mut Self, next: &mut Next<'_, 'm, 'p>| lw.wait(future, next);
                    if self.nested(act, block, at, id, &mut part, next)? {
                        return Ok(());
                    }
                }
                _ => match self.simple(act, node) {
                    Ok(values) => {
                        self.bind(act, id, values);
                        self.trace(act, id)?;
                    }
                    Err(Stop::Error(error)) => match self.b.undecided.take() {
                        Some(question) => {
                            let mut part =
                                |lw: &mut Self, next: &mut Next<'_, 'm, 'p>| lw.decided(act, id, question, next);
                            if self.nested(act, block, at, id, &mut part, next)? {
                                return Ok(());
                            }
                        }
                        None if error.blame == Blame::User => return self.fails(error),
                        None => return Err(Stop::Error(error)),
                    },
                    Err(stop) => return Err(stop),
                },
            }
        }
        let returns = body.returns.clone();
        let values = returns.into_iter().map(|v| self.get(act, v)).collect::<Outcome<Vec<_>>>()?;
        next(self, values)
    }

    /// A node by itself.
    pub(super) fn lower_node(&mut self, act: usize, node: NodeId, next: &mut Next<'_, 'm, 'p>) -> Outcome<()> {
        let graph = self.graph(act);
        if let Some(input) = self.of_open_kind(act, &graph.nodes[node]) {
            return self.of_each_kind(act, node, input, next);
        }
        self.b.span.clone_from(&graph.nodes[node].span);
        if graph.nodes[node].is("prim::CallMethod") {
            return self.call(act, node, next);
        }
        match self.simple(act, &graph.nodes[node]) {
            Ok(values) => next(self, values),
            Err(Stop::Error(error)) => match self.b.undecided.take() {
                Some(another) => self.decided(act, node, another, next),
                None if error.blame == Blame::User => self.fails(error),
                None => Err(Stop::Error(error)),
            },
            Err(stop) => Err(stop),
        }
    }

    /// A call of a function or method.
    fn call(&mut self, act: usize, node: NodeId, next: &mut Next<'_, 'm, 'p>) -> Outcome<()> {
        let graph = self.graph(act);
        let node = &graph.nodes[node];
        let (callee, args) = self.callee(act, node)?;
        let name = if self.is_traced { self.callee_name(act, node)? } else { String::new() };
        self.trace_enter(&name, &callee, &args);
        self.run_graph(&callee, &args, &mut |lw, values| {
            lw.trace_leave();
            next(lw, values)
        })
    }

    /// A node whose result depends on an extent, once for each answer.
    fn decided(&mut self, act: usize, node: NodeId, question: (Dim, i64), next: &mut Next<'_, 'm, 'p>) -> Outcome<()> {
        let (dim, value) = question;
        let arm = |answer: bool| {
            move |lw: &mut Self, next: &mut Next<'_, 'm, 'p>| {
                lw.b.decided.push((dim, value, answer));
                let result = lw.lower_node(act, node, next);
                lw.b.decided.pop();
                result
            }
        };
        let cond = self.b.binary(BinaryOp::Eq, dim.into(), Operand::Const(Const::int(value)));
        let (mut on_true, mut on_false) = (arm(true), arm(false));
        self.branch(&cond, Some((act, node)), &mut on_true, &mut on_false, next)
    }

    /// An operator that cannot work on these arguments raises when the program gets there; the path ends.
    fn fails(&mut self, error: Box<Diagnostic>) -> Outcome<()> {
        let (message, place) = (Operand::Str(error.message.as_str().into()), self.b.place());
        self.b.push(Stmt::Raise { class: "RuntimeError".into(), message, place });
        self.first_error.get_or_insert(error);
        Ok(())
    }

    /// Walks a nested part of a node and binds its results. Where the part has one end, walking goes on after it and this
    /// gives `false`; where it has none or several, everything that follows was dealt with and this gives `true`.
    fn nested(
        &mut self,
        act: usize,
        block: BlockId,
        at: usize,
        node: NodeId,
        part: &mut Part<'_, 'm, 'p>,
        next: &mut Next<'_, 'm, 'p>,
    ) -> Outcome<bool> {
        // What was seen not to have one end is not tried again under the same assumptions: a try walks all of it.
        let key = (Arc::as_ptr(&self.graph(act)) as usize, node, self.b.decided.len(), self.grows_lists, self.b.boxes);
        if self.forks.contains(&key) {
            return self.forked(act, block, at, node, part, next);
        }
        let snapshot = self.snapshot();
        match self.straight(part) {
            Ok(Some(values)) => {
                self.activations.truncate(snapshot.n_activations);
                self.bind(act, node, values);
                Ok(false)
            }
            Ok(None) => Ok(true),
            Err(Stop::Incompatible(why)) => {
                self.restore(&snapshot);
                self.n_copies += 1;
                if self.n_copies > MAX_COPIES {
                    let message = "the method's paths hold values of too many different kinds";
                    return Err(self.b.unsupported(message).note(format!("for one: {why}")).into());
                }
                self.forks.insert(key);
                self.forked(act, block, at, node, part, next)
            }
            Err(error) => Err(error),
        }
    }

    /// Walks a nested part and, after each of its ends, everything that follows.
    fn forked(
        &mut self,
        act: usize,
        block: BlockId,
        at: usize,
        node: NodeId,
        part: &mut Part<'_, 'm, 'p>,
        next: &mut Next<'_, 'm, 'p>,
    ) -> Outcome<bool> {
        part(self, &mut |lw: &mut Self, values| {
            lw.bind(act, node, values);
            lw.run_block(act, block, at + 1, next)
        })?;
        Ok(true)
    }

    /// A condition as a boolean operand: tensors of one element and numbers test against zero.
    pub(super) fn truth(&mut self, value: &Value) -> Outcome<Operand> {
        Ok(match value {
            Value::Bool(o) | Value::Int(o) | Value::Float(o) => self.b.cast(crate::types::DType::Bool, o.clone()),
            Value::Tensor(t) => crate::ops::prim::scalar::truth_of(&mut self.b, t)?,
            other => return Err(self.b.user(format!("expected a bool, found {}", other.kind())).into()),
        })
    }
}

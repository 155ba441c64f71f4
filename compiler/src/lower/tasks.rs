//! Tasks: `prim::fork` and `aten::wait`.
//!
//! The forked graph becomes a function of the program, lowered by a lowerer of its own on what is known of the values it
//! captures. Numbers, objects and storages that it uses are its inputs; constants and weights it has itself. What is known
//! of its results (`Fact`s) is kept by number; a wait makes values of them, whose elements are in objects of the task's.
//! A task that ends in several ways gives the number of its result tree, and what follows the wait branches on that.
//!
//! How a task runs follows from what it does:
//!
//! | the task | runs |
//! | --- | --- |
//! | changes nothing that its starter sees | beside it, on copies of its arguments |
//! | writes captured tensors, prints, draws random numbers | at the fork, on the tensors themselves, so that results and output are always the same |
//! | changes captured lists, dicts or attributes, or gives what shares memory with what it captured, or what a place cannot hold | as a plain call at the fork |
//!
//! All are orders that PyTorch allows. What a task raises is raised by the wait, except in plain calls.

use super::capture::{Capture, Passed};
use super::facts::{Before, DimFact, Fact, Outcome, TensorFact};
use super::walk::{Lowerer, Next};
use crate::diag::Diagnostic;
use crate::ir::Graph;
use crate::loops::{
    self, Arg, BinaryOp, BufferClass, Const, Dim, Function, Input, InputKind, Operand, OutputTree, Stmt, VarId, VarType,
};
use crate::ops::builder::Builder;
use crate::ops::value::{
    Cell, CellId, FutureCell, ItemFacts, OneOf, ResultId, RunTimeDict, RunTimeList, StorageId, TensorFacts, Value,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Routines whose effects must happen in the order of the text.
const ORDERED: [&str; 17] = [
    "print",
    "trace_enter",
    "trace_leave",
    "trace_statement",
    "trace_argument",
    "trace_update",
    "trace_value",
    "warn",
    "random_seed",
    "fill_uniform",
    "fill_normal",
    "fill_normal_each",
    "fill_bernoulli",
    "fill_randint",
    "randperm",
    "task_run",
    "copy_bytes",
];

/// Routines that change a run-time list, dict or instance.
const CHANGING: [&str; 18] = [
    "object_set",
    "list_push",
    "list_set",
    "list_pop",
    "list_insert",
    "list_extend",
    "list_clear",
    "list_reverse",
    "list_sort",
    "list_remove",
    "list_delete",
    "dict_set",
    "dict_pop",
    "dict_delete",
    "dict_setdefault",
    "dict_popitem",
    "dict_update",
    "dict_clear",
];

/// A task that is ready to be started.
struct Ready {
    function: Function,
    passed: Vec<Passed>,
    /// For each way to end, what is known of the result, in the starter's variables.
    exact: Vec<Fact>,
    /// The same for longer than those hold.
    lasting: Vec<Fact>,
    has_lists: bool,
}

/// What came of lowering a task.
enum Tried {
    Ready(Box<Ready>),
    /// It writes these storages of the starter, which must be passed as memory.
    Writes(BTreeSet<StorageId>),
    /// It cannot be a function of its own.
    Inline,
}

impl<'m, 'p> Lowerer<'m, 'p> {
    /// Starts the task of a `prim::fork`; `None` if it is to be a plain call.
    pub(super) fn fork(&mut self, graph: &Arc<Graph>, args: &[Value]) -> Outcome<Option<Value>> {
        let key = Arc::as_ptr(graph) as usize;
        // Memory that attributes share is known to this function alone.
        if self.plain_forks.contains(&key) || !self.shared.is_empty() {
            return Ok(None);
        }
        let mut as_memory = BTreeSet::new();
        loop {
            match self.task(graph, args, &as_memory)? {
                Tried::Ready(ready) => return self.start(*ready).map(Some),
                Tried::Writes(storages) if !storages.is_subset(&as_memory) => as_memory.extend(storages),
                Tried::Writes(_) | Tried::Inline => {
                    self.plain_forks.insert(key);
                    return Ok(None);
                }
            }
        }
    }

    /// Lowers a task on what is known of its captured values.
    fn task(&mut self, graph: &Arc<Graph>, args: &[Value], as_memory: &BTreeSet<StorageId>) -> Outcome<Tried> {
        let span = self.b.span.clone();
        let objects: BTreeMap<CellId, usize> = self.objects.iter().map(|(key, cell)| (*cell, *key)).collect();
        let depth = self.n_calls();
        let (shares_memory, nested) = (self.b.shares_memory, self.b.nested.clone());
        let Builder { program, heap, function, .. } = &mut self.b;
        let mut builder = Builder::new(program, &format!("{}.task", function.name));
        builder.span = span;
        builder.shares_memory = shares_memory;
        builder.nested = nested;
        let mut inner = Lowerer::new(self.module, builder);
        inner.outer_calls = depth;
        inner.is_traced = self.is_traced;
        inner.may_box = self.may_box;
        inner.paths.clone_from(&self.paths);
        inner.graphs = std::mem::take(&mut self.graphs);
        inner.results = std::mem::take(&mut self.results);
        inner.plain_forks = std::mem::take(&mut self.plain_forks);
        inner.n_nodes = self.n_nodes;
        let mut capture = Capture::new(heap, function, as_memory);
        let captured = capture.all(&mut inner, args, &objects);
        let n_captured = Before { n_vars: Before::now(&inner.b).n_vars, n_cells: 0 };
        let start = inner.b.heap.clone();
        let (mut ends, mut written, mut is_plain) = (Vec::new(), BTreeSet::new(), captured.is_none());
        let outcome = captured.map_or(Ok(()), |args| {
            inner.run_graph(graph, &args, &mut |lw, values| {
                let changed = |own: &CellId| lw.b.heap.cells[*own] != start.cells[*own];
                is_plain |= capture.cells.values().any(changed);
                let arguments = lw.b.arguments_in_objects();
                let is_back = |own: StorageId| arguments.iter().any(|(id, _)| *id == own);
                let moved =
                    |own: StorageId| lw.b.heap.storages[own].contents != start.storages[own].contents && !is_back(own);
                written.extend(capture.storages.iter().filter(|(_, own)| moved(**own)).map(|(from, _)| *from));
                lw.write_arguments_back();
                let value = values.first().cloned().unwrap_or(Value::None);
                let plain = || Diagnostic::internal("a fork that is a plain call").into();
                is_plain |= holds_object(&lw.b, &value) || lw.b.shares_memory && capture.shares(&lw.b, &value);
                if is_plain {
                    return Err(plain());
                }
                let fact = Fact::of(&lw.b, &value, n_captured);
                let mut leaves = Vec::new();
                if !flatten(&mut lw.b, &fact, &value, &mut leaves) {
                    is_plain = true;
                    return Err(plain());
                }
                let end = ends.iter().position(|known| *known == fact).unwrap_or_else(|| {
                    ends.push(fact);
                    lw.b.function.results.push(OutputTree::Tuple(trees(&lw.b, &leaves)));
                    ends.len() - 1
                });
                lw.b.push(Stmt::Return(end, leaves));
                Ok(())
            })
        });
        self.n_nodes = inner.n_nodes;
        self.graphs = std::mem::take(&mut inner.graphs);
        self.results = std::mem::take(&mut inner.results);
        self.plain_forks = std::mem::take(&mut inner.plain_forks);
        let (error, by_tasks) = (inner.first_error.take(), std::mem::take(&mut inner.written));
        let wider_nested = inner.b.wider_nested.take();
        let Capture { vars, passed, has_lists, .. } = capture;
        let mut function = inner.b.finish();
        if wider_nested.is_some() {
            self.b.wider_nested = wider_nested;
        }
        if is_plain {
            return Ok(Tried::Inline);
        }
        outcome?;
        if !written.is_empty() {
            return Ok(Tried::Writes(written));
        }
        if let (true, Some(error)) = (ends.is_empty(), error) {
            self.first_error.get_or_insert(error);
        }
        super::arguments::mark_mutated(&mut function, &by_tasks);
        let kept = loops::keep_used_inputs(&mut function);
        let passed = kept.into_iter().map(|number| passed[number].clone()).collect();
        let back: HashMap<VarId, Operand> = vars.into_iter().map(|(from, own)| (own, Operand::Var(from))).collect();
        let lasting = ends.iter().map(|end| end.clone().lasting(false)).collect();
        let exact = ends.into_iter().map(|end| in_vars_of_starter(end, &back)).collect();
        Ok(Tried::Ready(Box::new(Ready { function, passed, exact, lasting, has_lists })))
    }

    /// Emits the start of a task; gives its future.
    fn start(&mut self, ready: Ready) -> Outcome<Value> {
        let Ready { function, passed, exact, lasting, has_lists } = ready;
        let mut is_ordered = false;
        loops::walk(&function.body, &mut |stmt| {
            is_ordered |= match stmt {
                Stmt::Call { routine, .. } => ORDERED.contains(routine) || has_lists && CHANGING.contains(routine),
                Stmt::Kernel(kernel) => {
                    let class = |store: &loops::Store| function.buffers[function.memory(store.buffer)].class;
                    let is_item = |store: &loops::Store| matches!(class(store), BufferClass::Object(_));
                    has_lists && kernel.stores.iter().any(is_item)
                }
                _ => false,
            };
        });
        let is_mutated = |input: &Input| matches!(input.kind, InputKind::Tensor { is_mutated: true, .. });
        let mutated: Vec<bool> = function.inputs.iter().map(is_mutated).collect();
        is_ordered |= mutated.contains(&true);
        let text = function.to_string();
        let is_same = |known: &Function| known.name == function.name && known.to_string() == text;
        let known = self.b.program.functions.iter_ids().find(|(_, known)| is_same(known)).map(|(id, _)| id);
        let id = known.unwrap_or_else(|| self.b.program.functions.push(function));
        let mut args = vec![loops::task_arg(id)];
        for (passed, is_mutated) in passed.iter().zip(mutated) {
            args.push(match passed {
                Passed::Operand(operand) => Arg::Scalar(operand.clone()),
                Passed::Storage(storage) => {
                    if is_mutated {
                        self.b.own(*storage);
                    }
                    if is_mutated && self.b.strides_behind(*storage).is_some() {
                        return Err(self.b.unsupported("a task that writes to a view with strides of its own").into());
                    }
                    let buffer = self.b.row_major_storage(*storage);
                    if is_mutated {
                        self.written.insert(buffer);
                    }
                    Arg::Buffer(buffer)
                }
            });
        }
        let routine = if is_ordered { "task_run" } else { "task_start" };
        let var = self.b.call(routine, args, &[VarType::Object])[0];
        let (exact, result) = (self.result(exact), self.result(lasting));
        let future = FutureCell { exact, ..FutureCell::new(var, result) };
        Ok(Value::Cell(self.b.heap.cells.push(Cell::Future(Box::new(future)))))
    }

    /// The number of what is known of a task's results.
    fn result(&mut self, ends: Vec<Fact>) -> ResultId {
        let known = self.results.iter_ids().find(|(_, known)| **known == ends).map(|(id, _)| id);
        known.unwrap_or_else(|| self.results.push(ends))
    }

    /// The future that a value is.
    pub(super) fn future(&self, value: &Value) -> Option<CellId> {
        match value {
            Value::Cell(cell) if matches!(self.b.heap.cells[*cell], Cell::Future(_)) => Some(*cell),
            _ => None,
        }
    }

    /// Waits for a task; what follows gets its result.
    pub(super) fn wait(&mut self, cell: CellId, next: &mut Next<'_, 'm, 'p>) -> Outcome<()> {
        let Cell::Future(future) = self.b.heap.cells[cell].clone() else {
            return Err(Diagnostic::internal("a wait for what is no future").into());
        };
        if let Some(value) = future.value {
            return next(self, vec![value]);
        }
        let end = self.b.call("task_wait", vec![Arg::Scalar(Operand::Var(future.var))], &[VarType::Int])[0];
        let ends = self.results[future.exact].clone();
        if ends.is_empty() {
            // The task always raises, so nothing follows.
            let (message, place) = (Operand::Str("a task that always raises has ended".into()), self.b.place());
            self.b.push(Stmt::Raise { class: "RuntimeError".into(), message, place });
            return Ok(());
        }
        self.ended(cell, future.var, &ends, (end, 0), next)
    }

    /// What follows a wait, for ends of the task from this number on.
    fn ended(
        &mut self,
        cell: CellId,
        future: VarId,
        ends: &[Fact],
        (end, number): (VarId, i64),
        next: &mut Next<'_, 'm, 'p>,
    ) -> Outcome<()> {
        let Some((first, rest)) = ends.split_first() else { return Ok(()) };
        let mut this = |lw: &mut Self, next: &mut Next<'_, 'm, 'p>| {
            let mut types = Vec::new();
            leaf_types(first, &mut types);
            let vars = if types.is_empty() {
                Vec::new()
            } else {
                lw.b.call("task_get", vec![Arg::Scalar(Operand::Var(future))], &types)
            };
            let value = value_of(&mut lw.b, first, &mut vars.into_iter());
            if let Cell::Future(future) = &mut lw.b.heap.cells[cell] {
                future.value = Some(value.clone());
            }
            next(lw, vec![value])
        };
        if rest.is_empty() {
            return this(self, next);
        }
        let mut others =
            |lw: &mut Self, next: &mut Next<'_, 'm, 'p>| lw.ended(cell, future, rest, (end, number + 1), next);
        let is_this = self.b.binary(BinaryOp::Eq, Operand::Var(end), Operand::Const(Const::int(number)));
        self.branch(&is_this, None, &mut this, &mut others, next)
    }

    /// A result of a method with what its futures give in their place: the host gets no tasks.
    pub(super) fn waited(&mut self, value: &Value) -> Outcome<Value> {
        let all = |lw: &mut Self, items: &[Value]| items.iter().map(|v| lw.waited(v)).collect::<Outcome<Vec<_>>>();
        Ok(match value {
            Value::Tuple(items, ty) => Value::Tuple(all(self, items)?, ty.clone()),
            Value::Cell(cell) => match self.b.heap.cells[*cell].clone() {
                Cell::List(items) if items.iter().any(|item| self.future(item).is_some()) => {
                    let items = all(self, &items)?;
                    self.b.new_list(items)
                }
                Cell::Future(_) => {
                    let result = self.straight(&mut |lw, next| lw.wait(*cell, next))?;
                    let result = result.and_then(|values| values.first().cloned()).unwrap_or(Value::None);
                    self.waited(&result)?
                }
                Cell::List(_)
                | Cell::Dict(_)
                | Cell::Object(_)
                | Cell::RunTimeList(_)
                | Cell::RunTimeDict(_)
                | Cell::RunTimeObject(_) => value.clone(),
            },
            _ => value.clone(),
        })
    }
}

/// Whether a result is or holds an instance of a class, whose identity no leaf has.
fn holds_object(b: &Builder<'_>, value: &Value) -> bool {
    let any = |items: &[Value]| items.iter().any(|item| holds_object(b, item));
    let is_object = |facts: &ItemFacts| facts.leaves().iter().any(|leaf| matches!(leaf, ItemFacts::Object(_)));
    match value {
        Value::Tuple(items, _) => any(items),
        Value::Cell(cell) => match &b.heap.cells[*cell] {
            Cell::List(items) => any(items),
            Cell::Dict(entries) => entries.iter().any(|(_, item)| holds_object(b, item)),
            Cell::Object(_) | Cell::RunTimeObject(_) => true,
            Cell::RunTimeList(list) => is_object(&list.item),
            Cell::RunTimeDict(dict) => is_object(&dict.entry.value),
            Cell::Future(_) => false,
        },
        _ => false,
    }
}

/// The trees of a result's leaves.
fn trees(b: &Builder<'_>, leaves: &[Arg]) -> Vec<OutputTree> {
    let tree = |leaf: &Arg| match leaf {
        Arg::Buffer(_) => OutputTree::Tensor,
        Arg::Scalar(operand) => match b.operand_type(operand) {
            VarType::Int => OutputTree::Int,
            VarType::Float => OutputTree::Float,
            VarType::Bool => OutputTree::Bool,
            VarType::Object => OutputTree::Object,
        },
    };
    leaves.iter().map(tree).collect()
}

/// The leaves of a result: what its facts do not say. Gives `false` for what no leaf can be.
fn flatten(b: &mut Builder<'_>, fact: &Fact, value: &Value, leaves: &mut Vec<Arg>) -> bool {
    match (fact, value) {
        (Fact::Fixed(Value::Tensor(_) | Value::Cell(_)), _) => false,
        (Fact::Fixed(_), _) => true,
        (Fact::Scalar(_), Value::Int(o) | Value::Float(o) | Value::Bool(o) | Value::Str(o)) => {
            leaves.push(Arg::Scalar(o.clone()));
            true
        }
        (Fact::Complex, Value::Complex(re, im)) => {
            leaves.extend([Arg::Scalar(re.clone()), Arg::Scalar(im.clone())]);
            true
        }
        (Fact::OneOf(_), Value::OneOf(one)) => {
            leaves.extend([Arg::Scalar(Operand::Var(one.item)), Arg::Scalar(Operand::Var(one.kind))]);
            true
        }
        (Fact::Tensor(_), Value::Tensor(t)) => {
            leaves.push(Arg::Buffer(b.row_major(t)));
            true
        }
        (Fact::Enum(_, fact), Value::Enum(_, value)) => flatten(b, fact, value, leaves),
        (Fact::Tuple(facts, _), Value::Tuple(items, _)) => {
            facts.iter().zip(items).all(|(fact, item)| flatten(b, fact, item, leaves))
        }
        (_, Value::Cell(cell)) => match (fact, b.heap.cells[*cell].clone()) {
            (Fact::List(facts), Cell::List(items)) => {
                facts.iter().zip(&items).all(|(fact, item)| flatten(b, fact, item, leaves))
            }
            (Fact::Dict(facts), Cell::Dict(entries)) => {
                facts.iter().zip(&entries).all(|((_, fact), (_, item))| flatten(b, fact, item, leaves))
            }
            (
                Fact::RunTime(..),
                Cell::RunTimeList(RunTimeList { var, .. }) | Cell::RunTimeDict(RunTimeDict { var, .. }),
            ) => {
                leaves.push(Arg::Scalar(Operand::Var(var)));
                true
            }
            (Fact::Future(_), Cell::Future(future)) => {
                leaves.push(Arg::Scalar(Operand::Var(future.var)));
                true
            }
            _ => false,
        },
        _ => false,
    }
}

/// The types of the variables that take a result's leaves.
fn leaf_types(fact: &Fact, types: &mut Vec<VarType>) {
    match fact {
        Fact::Fixed(_) => {}
        Fact::Scalar(kind) => types.push(kind.var_type()),
        Fact::Complex => types.extend([VarType::Float, VarType::Float]),
        Fact::OneOf(_) => types.extend([VarType::Object, VarType::Int]),
        Fact::Tensor(_) | Fact::RunTime(..) | Fact::Future(_) => types.push(VarType::Object),
        Fact::Tuple(items, _) | Fact::List(items) => items.iter().for_each(|f| leaf_types(f, types)),
        Fact::Dict(entries) => entries.iter().for_each(|(_, f)| leaf_types(f, types)),
        Fact::Object(_, attrs) => attrs.iter().for_each(|(_, f)| leaf_types(f, types)),
        Fact::Enum(_, value) => leaf_types(value, types),
    }
}

/// The value of a result whose leaves are in these variables.
fn value_of(b: &mut Builder<'_>, fact: &Fact, vars: &mut dyn Iterator<Item = VarId>) -> Value {
    let mut var = || vars.next().expect("a variable for each leaf");
    match fact {
        Fact::Fixed(value) => value.clone(),
        Fact::Scalar(kind) => kind.value(var()),
        Fact::Complex => Value::Complex(Operand::Var(var()), Operand::Var(var())),
        Fact::OneOf(options) => Value::OneOf(OneOf { item: var(), kind: var(), options: Arc::clone(options) }),
        Fact::Tensor(fact) => {
            // What a task gives is a copy, which lies row-major.
            if fact.dims.contains(&DimFact::Unknown) {
                let facts = TensorFacts::row_major(fact.dtype, fact.known_dims());
                return Value::Tensor(b.tensor_in(var(), &facts));
            }
            let extent = |dim: &DimFact| match dim {
                DimFact::Known(n) => Some(Dim::Const(*n)),
                DimFact::Same(var) => Some(Dim::Var(*var)),
                DimFact::Unknown => None,
            };
            let dims = fact.dims.iter().filter_map(extent).collect();
            Value::Tensor(b.tensor_object(var(), fact.dtype, dims, None))
        }
        Fact::Tuple(items, ty) => Value::Tuple(items.iter().map(|f| value_of(b, f, vars)).collect(), ty.clone()),
        Fact::List(items) => {
            let items = items.iter().map(|f| value_of(b, f, vars)).collect();
            b.new_list(items)
        }
        Fact::Dict(entries) => {
            let entries = entries.iter().map(|(k, f)| (k.clone(), value_of(b, f, vars))).collect();
            Value::Cell(b.heap.cells.push(Cell::Dict(entries)))
        }
        Fact::RunTime(facts, is_nested) => {
            Value::Cell(b.heap.cells.push(super::places::run_time_cell(var(), facts, *is_nested)))
        }
        Fact::Enum(class, value) => Value::Enum(Arc::clone(class), Box::new(value_of(b, value, vars))),
        Fact::Future(result) => {
            let future = FutureCell::new(var(), *result);
            Value::Cell(b.heap.cells.push(Cell::Future(Box::new(future))))
        }
        Fact::Object(..) => unreachable!("objects are no leaves of a result"),
    }
}

/// A fact in whose variables those of the starter stand for the task's own.
fn in_vars_of_starter(fact: Fact, back: &HashMap<VarId, Operand>) -> Fact {
    let operand = |o: Operand| match o {
        Operand::Var(var) => back.get(&var).cloned().unwrap_or(Operand::Var(var)),
        other => other,
    };
    match fact {
        Fact::Fixed(Value::Int(o)) => Fact::Fixed(Value::Int(operand(o))),
        Fact::Fixed(Value::Float(o)) => Fact::Fixed(Value::Float(operand(o))),
        Fact::Fixed(Value::Bool(o)) => Fact::Fixed(Value::Bool(operand(o))),
        Fact::Fixed(Value::Str(o)) => Fact::Fixed(Value::Str(operand(o))),
        Fact::Tensor(fact) => {
            let dim = |dim| match dim {
                DimFact::Same(var) => match back.get(&var) {
                    Some(Operand::Var(var)) => DimFact::Same(*var),
                    _ => DimFact::Unknown,
                },
                DimFact::Known(_) | DimFact::Unknown => dim,
            };
            let dims = fact.dims.iter().copied().map(dim).collect();
            Fact::Tensor(TensorFact { dims, ..fact })
        }
        Fact::Tuple(items, ty) => Fact::Tuple(items.into_iter().map(|f| in_vars_of_starter(f, back)).collect(), ty),
        Fact::List(items) => Fact::List(items.into_iter().map(|f| in_vars_of_starter(f, back)).collect()),
        Fact::Dict(entries) => Fact::Dict(entries.into_iter().map(|(k, f)| (k, in_vars_of_starter(f, back))).collect()),
        Fact::Enum(class, value) => Fact::Enum(class, Box::new(in_vars_of_starter(*value, back))),
        Fact::Fixed(_)
        | Fact::Scalar(_)
        | Fact::Complex
        | Fact::Object(..)
        | Fact::RunTime(..)
        | Fact::Future(_)
        | Fact::OneOf(_) => fact,
    }
}

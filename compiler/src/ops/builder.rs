//! The function under construction: host scalars, statements, cells and storages.

use super::instances::Classes;
use super::reshaping::Names;
use super::value::{Cell, CellId, Contents, FutureCell, ItemFacts, Storage, StorageId, Value, known};
use crate::diag::{Diagnostic, Result};
use crate::index::IndexVec;
use crate::ir::{Graph, ValueId};

use crate::loops::{
    Arg, BinaryOp, Block, Buffer, BufferClass, BufferId, Const, Dim, Function, HostExpr, Kernel, Layout, Operand,
    Program, Stmt, UnaryOp, Var, VarId, VarType, Weight, WeightId, fold_i64, walk_stmts,
};
use crate::source::Span;
use crate::types::{DType, TensorData, Type};
use std::collections::HashMap;
use std::sync::Arc;

/// Lists, dicts, objects and storages: everything that control flow has to put back or merge.
#[derive(Clone, Debug, Default)]
pub struct Heap {
    /// Lists, dicts and objects.
    pub cells: IndexVec<CellId, Cell>,
    /// Memory behind tensors.
    pub storages: IndexVec<StorageId, Storage>,
}

/// A view of constant memory: its address, element type, offset, sizes and strides.
type WeightView = (usize, DType, i64, Vec<i64>, Vec<i64>);

/// Builds one function of a program. Operators' lowerings call it; it knows no operator.
#[derive(Debug)]
pub struct Builder<'p> {
    /// The program the function belongs to: its weights and slots grow.
    pub program: &'p mut Program,
    /// The function so far; its `body` is filled at the end.
    pub function: Function,
    /// What can change.
    pub heap: Heap,
    /// Whether the program writes to tensors, so that it matters which of them share memory.
    pub shares_memory: bool,
    /// Whether places may hold values of several kinds.
    pub boxes: bool,
    /// The script classes whose instances may be objects of the running program.
    pub classes: Arc<Classes>,
    /// What is known of tensors in lists, dicts and objects that others hold: the same of all.
    pub nested: ItemFacts,
    /// What has to be known of them instead, for lowering to begin again.
    pub wider_nested: Option<ItemFacts>,
    /// Statements of the regions that are open, innermost last.
    regions: Vec<Region>,
    /// Weights by the memory they are views of, so that shared ones are stored once.
    weights: HashMap<WeightView, WeightId>,
    /// Buffers that show weights.
    weight_buffers: HashMap<WeightId, BufferId>,
    /// Reshaped views of buffers made so far.
    aliases: HashMap<(BufferId, Dim, Vec<Dim>), BufferId>,
    /// Where the operator being lowered is written.
    pub span: Option<Span>,
    /// The operator being lowered, for kernel names.
    pub op_name: String,
    /// The graph of the operator being lowered, and the names of its arguments there.
    pub node: Option<(Arc<Graph>, Vec<ValueId>)>,
    /// If the operator being lowered gives a tensor another shape, what the names of that are.
    pub names: Names,
    /// Extents that have a value, or do not, in the code being lowered.
    pub decided: Vec<(Dim, i64, bool)>,
    /// A shape with a negative extent that the operator being lowered asked for.
    pub negative: Option<Vec<Dim>>,
    /// What the operator being lowered must have decided, see [`Self::decide_extent`].
    pub undecided: Option<(Dim, i64)>,
}

/// An open branch or loop body.
#[derive(Debug, Default)]
struct Region {
    stmts: Vec<Stmt>,
    /// Scalars computed in this region, so that equal expressions are one variable and symbolic dims compare equal.
    /// Each with the number of the statement that computes it.
    scalars: HashMap<HostExpr, (VarId, usize)>,
    /// Conditions that were checked, with the number of the statement, so that none is twice.
    checked: HashMap<VarId, usize>,
}

impl<'p> Builder<'p> {
    /// A builder for a new function.
    pub fn new(program: &'p mut Program, name: &str) -> Self {
        Self {
            program,
            function: Function { name: name.to_owned(), ..Function::default() },
            heap: Heap::default(),
            shares_memory: false,
            boxes: false,
            classes: Arc::default(),
            nested: ItemFacts::Empty,
            wider_nested: None,
            regions: vec![Region::default()],
            weights: HashMap::new(),
            weight_buffers: HashMap::new(),
            aliases: HashMap::new(),
            span: None,
            op_name: String::new(),
            node: None,
            names: Names::Unknown,
            decided: Vec::new(),
            negative: None,
            undecided: None,
        }
    }

    /// The finished function.
    pub fn finish(mut self) -> Function {
        let region = self.regions.pop().expect("the outermost region is open until now");
        self.function.body = Block(region.stmts);
        self.function
    }

    /// Where the current operator is written, for run-time messages.
    pub fn place(&self) -> Arc<str> {
        self.span.as_ref().map_or_else(|| "".into(), |span| span.place().into())
    }

    /// The static type of an argument of the current operator, where that comes from a graph.
    pub fn argument_type(&self, at: usize) -> Option<&Type> {
        let (graph, inputs) = self.node.as_ref()?;
        inputs.get(at).map(|input| &graph.values[*input].ty)
    }

    /// An error at the current operator that is the user's.
    pub fn user(&self, message: impl Into<String>) -> Box<Diagnostic> {
        Diagnostic::user(message).at(self.span.as_ref())
    }

    /// An error at the current operator that is ours to lift.
    pub fn unsupported(&self, message: impl Into<String>) -> Box<Diagnostic> {
        Diagnostic::unsupported(message).at(self.span.as_ref())
    }

    // ---- statements and regions

    /// Appends a statement.
    pub fn push(&mut self, stmt: Stmt) {
        self.regions.last_mut().expect("a region is open").stmts.push(stmt);
    }

    /// Opens a branch or loop body.
    pub fn open_region(&mut self) {
        self.regions.push(Region::default());
    }

    /// Opens a region that goes on after these statements.
    pub fn reopen_region(&mut self, stmts: Block) {
        self.regions.push(Region { stmts: stmts.0, ..Region::default() });
    }

    /// Closes the innermost region and hands out its statements.
    pub fn close_region(&mut self) -> Block {
        Block(self.regions.pop().expect("a region is open").stmts)
    }

    /// How many regions are open; storages made at a lower depth belong to an outer one.
    pub fn depth(&self) -> usize {
        self.regions.len()
    }

    /// Closes regions down to this depth and forgets what they hold; for attempts that failed.
    pub fn abandon_to(&mut self, depth: usize, n_stmts: usize) {
        self.regions.truncate(depth);
        let region = self.regions.last_mut().expect("the outermost region stays");
        region.stmts.truncate(n_stmts);
        region.scalars.retain(|_, (_, stmt)| *stmt < n_stmts);
        region.checked.retain(|_, stmt| *stmt < n_stmts);
    }

    /// Number of statements in the innermost region.
    pub fn n_stmts(&self) -> usize {
        self.regions.last().expect("a region is open").stmts.len()
    }

    /// Whether a kernel of the innermost region stores into this buffer's memory.
    pub fn stores_into(&self, buffer: BufferId) -> bool {
        let root = |mut buffer: BufferId| {
            while let BufferClass::Alias { of, .. } = self.function.buffers[buffer].class {
                buffer = of;
            }
            buffer
        };
        let mut found = false;
        let mut visit = |stmt: &Stmt| {
            if let Stmt::Kernel(kernel) = stmt {
                found |= kernel.stores.iter().any(|store| root(store.buffer) == root(buffer));
            }
        };
        let region = self.regions.last().expect("a region is open");
        walk_stmts(&region.stmts, &mut visit);
        found
    }

    // ---- host scalars

    /// A new variable.
    pub fn new_var(&mut self, ty: VarType, name: &str) -> VarId {
        self.function.vars.push(Var { ty, name: name.to_owned() })
    }

    /// The type of an operand: text counts as an object.
    pub fn operand_type(&self, operand: &Operand) -> VarType {
        match operand {
            Operand::Const(c) => match c.dtype {
                DType::Bool => VarType::Bool,
                d if d.is_floating_point() => VarType::Float,
                _ => VarType::Int,
            },
            Operand::Str(_) => VarType::Object,
            Operand::Var(var) => self.function.vars[*var].ty,
        }
    }

    /// Sets a variable.
    pub fn assign(&mut self, var: VarId, value: Operand) {
        if value != Operand::Var(var) {
            self.regions.iter_mut().for_each(|region| _ = region.checked.remove(&var));
            self.push(Stmt::Assign(var, HostExpr::Copy(value)));
        }
    }

    /// The value of an expression in a fresh variable, or the variable that already has it.
    fn scalar(&mut self, ty: VarType, expr: HostExpr) -> Operand {
        if let Some((var, _)) = self.regions.iter().rev().find_map(|r| r.scalars.get(&expr)) {
            return Operand::Var(*var);
        }
        let var = self.new_var(ty, "");
        self.push(Stmt::Assign(var, expr.clone()));
        let region = self.regions.last_mut().expect("a region is open");
        region.scalars.insert(expr, (var, region.stmts.len() - 1));
        Operand::Var(var)
    }

    /// Forgets computed scalars whose operands include this variable: it is about to change in a loop.
    pub fn forget_scalars_of(&mut self, var: VarId) {
        let uses = |e: &HostExpr| {
            let is = |o: &Operand| *o == Operand::Var(var);
            match e {
                HostExpr::Copy(a) | HostExpr::Unary(_, a) | HostExpr::Cast(_, a) => is(a),
                HostExpr::Binary(_, a, b) => is(a) || is(b),
                HostExpr::Select(c, a, b) => is(c) || is(a) || is(b),
            }
        };
        for region in &mut self.regions {
            region.scalars.retain(|expr, _| !uses(expr));
            region.checked.remove(&var);
        }
    }

    /// `a op b` of two numbers of one type; folded where both are known. Integer division by a known zero is left to the
    /// caller, who checks the divisor.
    pub fn binary(&mut self, op: BinaryOp, a: Operand, b: Operand) -> Operand {
        if let (Some(x), Some(y)) = (known(&a), known(&b))
            && let Some(folded) = fold_scalar(op, x, y)
        {
            return Operand::Const(folded);
        }
        let ty = if op.is_comparison() { VarType::Bool } else { self.operand_type(&a) };
        if (ty == VarType::Int || op.is_comparison() && self.operand_type(&a) == VarType::Int)
            && let Some(simple) = self.simplify_int(op, &a, &b)
        {
            return simple;
        }
        if ty == VarType::Bool && !op.is_comparison() {
            let is = |o: &Operand, v: u64| known(o).is_some_and(|c| c.bits == v);
            match op {
                BinaryOp::And if is(&a, 1) => return b,
                BinaryOp::And if is(&b, 1) => return a,
                BinaryOp::And if is(&a, 0) || is(&b, 0) => return Operand::Const(Const::bool(false)),
                BinaryOp::Or if is(&a, 0) => return b,
                BinaryOp::Or if is(&b, 0) => return a,
                BinaryOp::Or if is(&a, 1) || is(&b, 1) => return Operand::Const(Const::bool(true)),
                _ => {}
            }
        }
        self.scalar(ty, HostExpr::Binary(op, a, b))
    }

    fn simplify_int(&self, op: BinaryOp, a: &Operand, b: &Operand) -> Option<Operand> {
        let (ca, cb) = (known(a).map(Const::as_i64), known(b).map(Const::as_i64));
        match (op, ca, cb) {
            (BinaryOp::Add, Some(0), _) | (BinaryOp::Mul, Some(1), _) => Some(b.clone()),
            (BinaryOp::Add | BinaryOp::Sub, _, Some(0)) => Some(a.clone()),
            (BinaryOp::Mul | BinaryOp::FloorDiv | BinaryOp::Div, _, Some(1)) => Some(a.clone()),
            (BinaryOp::Mul, Some(0), _) | (BinaryOp::Mul, _, Some(0)) => Some(Operand::Const(Const::int(0))),
            (BinaryOp::Sub, _, _) if a == b => Some(Operand::Const(Const::int(0))),
            (BinaryOp::Eq | BinaryOp::Le | BinaryOp::Ge, _, _) if a == b => Some(Operand::Const(Const::bool(true))),
            (BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Gt, _, _) if a == b => Some(Operand::Const(Const::bool(false))),
            (BinaryOp::Min | BinaryOp::Max, _, _) if a == b => Some(a.clone()),
            _ => None,
        }
    }

    /// `op a` of a number; folded where it is known.
    pub fn unary(&mut self, op: UnaryOp, a: Operand) -> Operand {
        if let Some(folded) = known(&a).and_then(|c| fold_unary(op, c)) {
            return Operand::Const(folded);
        }
        let ty = if op == UnaryOp::IsNan { VarType::Bool } else { self.operand_type(&a) };
        self.scalar(ty, HostExpr::Unary(op, a))
    }

    /// `cond ? a : b`.
    pub fn select(&mut self, cond: Operand, a: Operand, b: Operand) -> Operand {
        if let Some(c) = known(&cond) {
            return if c.bits != 0 { a } else { b };
        }
        if a == b {
            return a;
        }
        let ty = self.operand_type(&a);
        self.scalar(ty, HostExpr::Select(cond, a, b))
    }

    /// A number as `I64`, `F64` or `Bool`; floats truncate, booleans test against zero.
    pub fn cast(&mut self, dtype: DType, a: Operand) -> Operand {
        let ty = match dtype {
            DType::Bool => VarType::Bool,
            d if d.is_floating_point() => VarType::Float,
            _ => VarType::Int,
        };
        if self.operand_type(&a) == ty {
            return a;
        }
        if let Some(c) = known(&a) {
            let is_float = c.dtype.is_floating_point();
            let target = ty.dtype().expect("numbers have an element type");
            let folded = match ty {
                VarType::Bool => Const::bool(if is_float { c.as_f64() != 0.0 } else { c.as_i64() != 0 }),
                VarType::Int | VarType::Float | VarType::Object if is_float => Const::from_f64(target, c.as_f64()),
                VarType::Int | VarType::Float | VarType::Object => Const::from_i64(target, c.as_i64()),
            };
            return Operand::Const(folded);
        }
        self.scalar(ty, HostExpr::Cast(ty.dtype().expect("numbers have an element type"), a))
    }

    /// An integer operand as an extent.
    pub fn dim(&mut self, operand: Operand) -> Dim {
        match operand {
            Operand::Const(c) => Dim::Const(c.as_i64()),
            Operand::Var(var) => Dim::Var(var),
            Operand::Str(_) => unreachable!("text is no extent"),
        }
    }

    /// Whether a number is known to be an extent: not negative.
    pub fn is_extent(&self, operand: &Operand) -> bool {
        let var = match operand {
            Operand::Const(c) => return c.as_i64() >= 0,
            Operand::Var(var) => *var,
            Operand::Str(_) => return false,
        };
        let shows = |dims: &[Dim]| dims.contains(&Dim::Var(var));
        if self.function.buffers.iter().any(|buffer| shows(&buffer.dims))
            || self.heap.storages.iter().any(|storage| shows(&storage.dims))
        {
            return true;
        }
        let mut computed = self.regions.iter().flat_map(|region| &region.scalars);
        match computed.find(|(_, (known, _))| *known == var) {
            Some((
                HostExpr::Binary(
                    BinaryOp::Add | BinaryOp::Mul | BinaryOp::FloorDiv | BinaryOp::Min | BinaryOp::Max,
                    x,
                    y,
                ),
                _,
            )) => self.is_extent(x) && self.is_extent(y),
            _ => false,
        }
    }

    /// Notes that the program ends here unless the condition holds; whether that is new.
    pub fn note_checked(&mut self, cond: &Operand) -> bool {
        let Operand::Var(var) = cond else { return true };
        if self.regions.iter().any(|region| region.checked.contains_key(var)) {
            return false;
        }
        let region = self.regions.last_mut().expect("a region is open");
        region.checked.insert(*var, region.stmts.len());
        true
    }

    /// The product of extents.
    pub fn product(&mut self, dims: &[Dim]) -> Operand {
        let mut known_part = 1i64;
        let mut rest = Operand::Const(Const::int(1));
        for &dim in dims {
            match dim {
                Dim::Const(n) => known_part = known_part.saturating_mul(n),
                Dim::Var(var) => rest = self.binary(BinaryOp::Mul, rest, Operand::Var(var)),
            }
        }
        self.binary(BinaryOp::Mul, rest, Operand::Const(Const::int(known_part)))
    }

    /// Whether an extent has this value, where the kind of the result depends on it (`squeeze`). If that is known only when
    /// running, this fails, and the operator is lowered once for each answer.
    pub fn decide_extent(&mut self, dim: Dim, value: i64) -> Result<bool> {
        if let Some(extent) = dim.known() {
            return Ok(extent == value);
        }
        if let Some((.., answer)) = self.decided.iter().find(|(d, v, _)| (*d, *v) == (dim, value)) {
            return Ok(*answer);
        }
        self.undecided = Some((dim, value));
        Err(self.unsupported(format!("{} of an extent known only when running", self.op_name)))
    }

    /// Whether a condition holds, where the kind of the result depends on it. If only the running program knows, this fails,
    /// and the operator is lowered once for each answer; so the condition must be one that lowering it again finds again.
    pub fn decide(&mut self, cond: &Operand) -> Result<bool> {
        if let Some(known) = known(cond) {
            return Ok(known.bits != 0);
        }
        if let Some(assumed) = self.assumed(cond) {
            return Ok(assumed);
        }
        let number = self.cast(DType::I64, cond.clone());
        let number = self.dim(number);
        self.decide_extent(number, 1)
    }

    /// Notes the value that a condition has in the code that follows.
    pub fn assume(&mut self, cond: &Operand, value: bool) {
        let Operand::Var(var) = cond else { return };
        self.decided.push((Dim::Var(*var), 1, value));
        let computed = self.regions.iter().flat_map(|region| &region.scalars).find(|(_, (known, _))| known == var);
        let implied = match computed.map(|(expr, _)| expr.clone()) {
            Some(HostExpr::Unary(UnaryOp::Not, inner)) => vec![(inner, !value)],
            Some(HostExpr::Binary(BinaryOp::And, x, y)) if value => vec![(x, true), (y, true)],
            Some(HostExpr::Binary(BinaryOp::Or, x, y)) if !value => vec![(x, false), (y, false)],
            _ => Vec::new(),
        };
        for (cond, value) in implied {
            self.assume(&cond, value);
        }
    }

    /// The value that a condition has in this code.
    pub fn assumed(&self, cond: &Operand) -> Option<bool> {
        let Operand::Var(var) = cond else { return None };
        self.decided.iter().find(|(dim, value, _)| (*dim, *value) == (Dim::Var(*var), 1)).map(|found| found.2)
    }

    /// Calls a run-time routine that gives values of these types.
    pub fn call(&mut self, routine: &'static str, args: Vec<Arg>, results: &[VarType]) -> Vec<VarId> {
        let results: Vec<_> = results.iter().map(|ty| self.new_var(*ty, "")).collect();
        let place = self.place();
        self.push(Stmt::Call { routine, args, results: results.clone(), place });
        results
    }

    // ---- buffers

    /// A new scratch buffer: planned where the dims are known, else a growable slot that is allocated here.
    pub fn new_buffer(&mut self, dtype: DType, dims: &[Dim]) -> BufferId {
        let is_static = dims.iter().all(|d| d.known().is_some());
        let class = if is_static {
            BufferClass::Temp { offset: None }
        } else {
            self.program.n_slots += 1;
            BufferClass::Slot(self.program.n_slots - 1)
        };
        let buffer = self.add_buffer(dtype, dims, class);
        if !is_static {
            self.push(Stmt::Alloc(buffer));
        }
        buffer
    }

    /// A new buffer of a given class.
    pub fn add_buffer(&mut self, dtype: DType, dims: &[Dim], class: BufferClass) -> BufferId {
        self.note_negative(dims);
        let (dims, layout) = (dims.to_vec(), Layout::RowMajor);
        self.function.buffers.push(Buffer { name: String::new(), dtype, dims, class, layout })
    }

    fn note_negative(&mut self, dims: &[Dim]) {
        if dims.iter().any(|dim| dim.known().is_some_and(|n| n < 0)) {
            self.negative = Some(dims.to_vec());
        }
    }

    /// The buffer that shows a constant tensor.
    pub fn weight(&mut self, data: &Arc<TensorData>, name: &str) -> BufferId {
        let key = (data.storage().key(), data.dtype(), data.offset(), data.sizes().to_vec(), data.strides().to_vec());
        let weight = if let Some(&weight) = self.weights.get(&key) {
            weight
        } else {
            let known = self.program.weights.iter_ids().find(|(_, w)| {
                let d = &w.data;
                (d.storage().key(), d.dtype(), d.offset()) == (key.0, key.1, key.2)
                    && d.sizes() == key.3
                    && d.strides() == key.4
            });
            let found = known.map(|(id, _)| id);
            let id = found
                .unwrap_or_else(|| self.program.weights.push(Weight { name: name.to_owned(), data: Arc::clone(data) }));
            self.weights.insert(key, id);
            id
        };
        if let Some(&buffer) = self.weight_buffers.get(&weight) {
            return buffer;
        }
        let dims: Vec<_> = data.sizes().iter().map(|&n| Dim::Const(n)).collect();
        let buffer = self.add_buffer(data.dtype(), &dims, BufferClass::Weight(weight));
        name.clone_into(&mut self.function.buffers[buffer].name);
        self.weight_buffers.insert(weight, buffer);
        buffer
    }

    /// The row-major memory of a buffer under other dims from an element offset on.
    pub fn alias(&mut self, of: BufferId, offset: Dim, dims: &[Dim]) -> BufferId {
        let original = &self.function.buffers[of];
        if offset == Dim::Const(0) && original.dims == dims {
            return of;
        }
        let dtype = original.dtype;
        if let Some(&known) = self.aliases.get(&(of, offset, dims.to_vec())) {
            return known;
        }
        let buffer = self.add_buffer(dtype, dims, BufferClass::Alias { of, offset });
        self.aliases.insert((of, offset, dims.to_vec()), buffer);
        buffer
    }

    /// Appends a kernel.
    pub fn kernel(&mut self, kernel: Kernel) {
        self.push(Stmt::Kernel(Box::new(kernel)));
    }

    // ---- cells

    /// A new list with these items.
    pub fn new_list(&mut self, items: Vec<Value>) -> Value {
        Value::Cell(self.heap.cells.push(Cell::List(items)))
    }

    /// A new storage.
    pub fn new_storage(&mut self, contents: Contents, dtype: DType, dims: &[Dim]) -> StorageId {
        self.note_negative(dims);
        let (dims, region) = (dims.to_vec(), self.depth());
        self.heap.storages.push(Storage { contents, dims, dtype, region, argument: None, quantizer: None })
    }

    /// The future that a value is.
    pub fn future(&self, value: &Value) -> Option<&FutureCell> {
        match value {
            Value::Cell(cell) => match &self.heap.cells[*cell] {
                Cell::Future(future) => Some(future),
                _ => None,
            },
            _ => None,
        }
    }

    /// The items of a list whose items are known.
    pub fn items(&self, value: &Value) -> Result<Vec<Value>> {
        match value {
            Value::Tuple(items, _) => Ok(items.clone()),
            Value::Cell(cell) => match &self.heap.cells[*cell] {
                Cell::List(items) => Ok(items.clone()),
                Cell::Dict(_) | Cell::RunTimeDict(_) | Cell::Object(_) | Cell::RunTimeObject(_) | Cell::Future(_) => {
                    Err(Diagnostic::internal("expected a list").at(self.span.as_ref()))
                }
                Cell::RunTimeList(_) => {
                    Err(self.unsupported(format!("{} needs a list whose length is known when compiling", self.op_name)))
                }
            },
            Value::Uninitialized => Err(self.user("a list is read that was never set")),
            other => {
                Err(Diagnostic::internal(format!("expected a list, found {}", other.kind())).at(self.span.as_ref()))
            }
        }
    }
}

/// `x op y` on host numbers, where the result is exact and cannot fail.
fn fold_scalar(op: BinaryOp, x: Const, y: Const) -> Option<Const> {
    if x.dtype.is_floating_point() {
        let (a, b) = (x.as_f64(), y.as_f64());
        #[allow(clippy::float_cmp, reason = "the program compares exactly")]
        let result = match op {
            BinaryOp::Add => a + b,
            BinaryOp::Sub => a - b,
            BinaryOp::Mul => a * b,
            BinaryOp::Div => a / b,
            BinaryOp::Rem => a % b,
            BinaryOp::Pow => a.powf(b),
            BinaryOp::Atan2 => a.atan2(b),
            BinaryOp::Copysign => a.copysign(b),
            BinaryOp::Min => {
                if a.is_nan() || a < b {
                    a
                } else {
                    b
                }
            }
            BinaryOp::Max => {
                if a.is_nan() || a > b {
                    a
                } else {
                    b
                }
            }
            BinaryOp::Eq => return Some(Const::bool(a == b)),
            BinaryOp::Ne => return Some(Const::bool(a != b)),
            BinaryOp::Lt => return Some(Const::bool(a < b)),
            BinaryOp::Le => return Some(Const::bool(a <= b)),
            BinaryOp::Gt => return Some(Const::bool(a > b)),
            BinaryOp::Ge => return Some(Const::bool(a >= b)),
            BinaryOp::FloorDiv
            | BinaryOp::FloorMod
            | BinaryOp::And
            | BinaryOp::Or
            | BinaryOp::Xor
            | BinaryOp::Shl
            | BinaryOp::Shr => return None,
        };
        return Some(Const::float(DType::F64, result));
    }
    let (a, b) = (x.as_i64(), y.as_i64());
    // Integer arithmetic wraps at 64 bits, as the running program does.
    let folded = match op {
        BinaryOp::Add => a.wrapping_add(b),
        BinaryOp::Sub => a.wrapping_sub(b),
        BinaryOp::Mul => a.wrapping_mul(b),
        BinaryOp::Shl if (0..64).contains(&b) => a.wrapping_shl(u32::try_from(b).ok()?),
        BinaryOp::Shr if (0..64).contains(&b) => a >> b,
        _ => fold_i64(op, a, b)?,
    };
    let is_bool = op.is_comparison() || x.dtype == DType::Bool;
    Some(if is_bool { Const::bool(folded != 0) } else { Const::int(folded) })
}

/// `op x` on a host number.
fn fold_unary(op: UnaryOp, x: Const) -> Option<Const> {
    if x.dtype == DType::Bool {
        return (op == UnaryOp::Not).then(|| Const::bool(x.bits == 0));
    }
    if !x.dtype.is_floating_point() {
        let a = x.as_i64();
        return match op {
            UnaryOp::Neg => Some(Const::int(a.wrapping_neg())),
            UnaryOp::Abs => Some(Const::int(a.wrapping_abs())),
            UnaryOp::Not => Some(Const::int(!a)),
            _ => None,
        };
    }
    let a = x.as_f64();
    let result = match op {
        UnaryOp::IsNan => return Some(Const::bool(a.is_nan())),
        UnaryOp::Neg => -a,
        UnaryOp::Abs => a.abs(),
        UnaryOp::Sqrt => a.sqrt(),
        UnaryOp::Rsqrt => 1.0 / a.sqrt(),
        UnaryOp::Exp => a.exp(),
        UnaryOp::Exp2 => a.exp2(),
        UnaryOp::Expm1 => a.exp_m1(),
        UnaryOp::Log => a.ln(),
        UnaryOp::Log2 => a.log2(),
        UnaryOp::Log10 => a.log10(),
        UnaryOp::Log1p => a.ln_1p(),
        UnaryOp::Sin => a.sin(),
        UnaryOp::Cos => a.cos(),
        UnaryOp::Tan => a.tan(),
        UnaryOp::Asin => a.asin(),
        UnaryOp::Acos => a.acos(),
        UnaryOp::Atan => a.atan(),
        UnaryOp::Sinh => a.sinh(),
        UnaryOp::Cosh => a.cosh(),
        UnaryOp::Tanh => a.tanh(),
        UnaryOp::Asinh => a.asinh(),
        UnaryOp::Acosh => a.acosh(),
        UnaryOp::Atanh => a.atanh(),
        UnaryOp::Floor => a.floor(),
        UnaryOp::Ceil => a.ceil(),
        UnaryOp::Round => a.round_ties_even(),
        UnaryOp::Trunc => a.trunc(),
        UnaryOp::Not | UnaryOp::Erf | UnaryOp::Erfc | UnaryOp::Erfinv | UnaryOp::Lgamma | UnaryOp::Digamma => {
            return None;
        }
    };
    Some(Const::float(DType::F64, result))
}

//! Writes a nest: evaluates expressions at a point into registers and puts each operation into the outermost loop in which its
//! operands are known.
//!
//! A tile is evaluated by evaluating the same expressions at several points (`pos` is added to the loop counters); what does
//! not depend on the axes that differ is computed once. Along the vector axis an expression has several lanes where it
//! depends on the axis and is a scalar elsewhere.
//!
//! Loads and integer divisions are not moved out of loops whose extent is unknown, since such a loop may have no rounds.

use super::flat::{Flat, FlatStore, VOLATILE, combine};
use super::linear::{Atom, Extent, Linear};
use super::plan::Prefetch;
use crate::index::Id as _;
use crate::loops::nest::{Local, Memory, Nest, NestBuffer, NestStmt, Op, Reg, RegType, Val};
use crate::loops::{BinaryOp, BufferId, Const, Expr, ExprId, Function, ReduceOp, StoreMode, VarId};
use crate::types::DType;
use std::collections::HashMap;

/// A loop, or a stretch of statements, being written.
struct Frame {
    stmts: Vec<NestStmt>,
    /// Operations already there.
    known: HashMap<(RegType, Op), Reg>,
    /// Expressions already evaluated for points of this frame.
    values: HashMap<(ExprId, Vec<i64>), Val>,
    head: Head,
    /// Whether it may run no round.
    may_be_empty: bool,
}

enum Head {
    /// No loop of its own.
    Scope,
    Loop {
        counter: Reg,
        begin: Val,
        end: Val,
        step: i64,
        parallel: bool,
    },
}

/// Where the index along an axis is.
#[derive(Clone, Copy)]
struct AxisState {
    counter: Val,
    /// Frame that it belongs to.
    level: usize,
}

/// A loop to open.
pub(crate) struct LoopSpec {
    /// First value.
    pub(crate) begin: Val,
    /// Bound.
    pub(crate) end: Val,
    /// Positive.
    pub(crate) step: i64,
    /// Whether rounds may run at once.
    pub(crate) parallel: bool,
    /// Whether there may be no round.
    pub(crate) may_be_empty: bool,
}

/// Writes one nest for one kernel.
pub(crate) struct NestBuilder<'a> {
    function: &'a Function,
    /// The kernel.
    pub(crate) flat: &'a Flat,
    nest: Nest,
    buffers: Vec<BufferId>,
    /// Buffers that are local arrays of the nest.
    locals: Vec<BufferId>,
    scalars: Vec<VarId>,
    frames: Vec<Frame>,
    reg_levels: Vec<usize>,
    axes: Vec<AxisState>,
    /// Added to the loop counters: the point of the tile.
    pub(crate) pos: Vec<i64>,
    /// The axis whose points lie in lanes now, and how many.
    pub(crate) vector: Option<(usize, u16)>,
    /// Which lanes are points, if not all.
    pub(crate) mask: Option<Val>,
    /// Results of reductions by number and tile point.
    pub(crate) accs: HashMap<(usize, Vec<i64>), Val>,
}

/// An integer constant.
pub(crate) fn int(value: i64) -> Val {
    Val::Const(Const::int(value))
}

impl<'a> NestBuilder<'a> {
    /// An empty nest.
    pub(crate) fn new(function: &'a Function, flat: &'a Flat, name: &str) -> Self {
        let n_axes = flat.kinds.len();
        let mut builder = Self {
            function,
            flat,
            nest: Nest { name: name.to_owned(), ..Nest::default() },
            buffers: Vec::new(),
            locals: Vec::new(),
            scalars: Vec::new(),
            frames: Vec::new(),
            reg_levels: Vec::new(),
            axes: vec![AxisState { counter: int(0), level: 0 }; n_axes],
            pos: vec![0; n_axes],
            vector: None,
            mask: None,
            accs: HashMap::new(),
        };
        builder.open_scope();
        builder
    }

    /// Says that these buffers are local arrays of so many elements.
    pub(crate) fn set_locals(&mut self, locals: &[(BufferId, usize)]) {
        for &(buffer, len) in locals {
            self.locals.push(buffer);
            self.nest.locals.push(Local { dtype: carrier(self.function.buffers[buffer].dtype), len });
        }
    }

    /// Goes on with another kernel, whose axes are to be set.
    pub(crate) fn switch(&mut self, flat: &'a Flat) {
        let n_axes = flat.kinds.len();
        self.flat = flat;
        self.axes = vec![AxisState { counter: int(0), level: 0 }; n_axes];
        self.pos = vec![0; n_axes];
        self.accs.clear();
        self.frames.iter_mut().for_each(|frame| frame.values.clear());
    }

    /// The nest with its buffers and scalars, once every frame but the first is closed.
    pub(crate) fn finish(mut self, cost: u64) -> (Nest, Vec<BufferId>, Vec<VarId>) {
        let frame = self.frames.pop().expect("the nest's own frame is open");
        self.nest.body = frame.stmts;
        self.nest.cost = cost;
        (self.nest, self.buffers, self.scalars)
    }

    /// Starts a stretch of statements with its own memory of values.
    pub(crate) fn open_scope(&mut self) {
        self.push_frame(Head::Scope, false);
    }

    /// Starts a loop and gives its counter.
    pub(crate) fn open_loop(&mut self, spec: &LoopSpec) -> Val {
        let counter = self.new_reg_at(RegType::INDEX, self.frames.len());
        let LoopSpec { begin, end, step, parallel, may_be_empty } = *spec;
        self.push_frame(Head::Loop { counter, begin, end, step, parallel }, may_be_empty);
        Val::Reg(counter)
    }

    fn push_frame(&mut self, head: Head, may_be_empty: bool) {
        let (stmts, known, values) = (Vec::new(), HashMap::new(), HashMap::new());
        self.frames.push(Frame { stmts, known, values, head, may_be_empty });
    }

    /// Ends the innermost stretch or loop.
    pub(crate) fn close(&mut self) {
        let frame = self.frames.pop().expect("a frame is open");
        let outer = self.frames.last_mut().expect("the nest's own frame is open");
        match frame.head {
            Head::Scope => outer.stmts.extend(frame.stmts),
            Head::Loop { counter, begin, end, step, parallel } => {
                outer.stmts.push(NestStmt::For { counter, begin, end, step, parallel, body: frame.stmts });
            }
        }
    }

    /// Says that the index along `axis` is `counter` (plus `pos`) in the innermost frame.
    pub(crate) fn set_axis(&mut self, axis: usize, counter: Val) {
        self.axes[axis] = AxisState { counter, level: self.frames.len() - 1 };
    }

    /// A fresh register for use in the innermost frame.
    pub(crate) fn new_reg(&mut self, ty: RegType) -> Reg {
        self.new_reg_at(ty, self.frames.len() - 1)
    }

    fn new_reg_at(&mut self, ty: RegType, level: usize) -> Reg {
        self.reg_levels.push(level);
        self.nest.regs.push(ty)
    }

    /// Appends to the innermost frame.
    pub(crate) fn push(&mut self, stmt: NestStmt) {
        self.frames.last_mut().expect("a frame is open").stmts.push(stmt);
    }

    /// The type of an operand.
    pub(crate) fn ty(&self, val: Val) -> RegType {
        match val {
            Val::Reg(reg) => self.nest.regs[reg],
            Val::Const(c) => RegType::scalar(c.dtype),
        }
    }

    fn level(&self, val: Val) -> usize {
        match val {
            Val::Reg(reg) => self.reg_levels[reg.index()],
            Val::Const(_) => 0,
        }
    }

    /// The result of an operation without side effects, computed as far out as its operands and `floor` allow.
    pub(crate) fn emit(&mut self, ty: RegType, op: Op, floor: usize) -> Val {
        let mut level = floor;
        for val in operands(&op) {
            level = level.max(self.level(val));
        }
        let traps = match &op {
            Op::Load { .. } | Op::Gather { .. } => true,
            Op::Binary(BinaryOp::Div | BinaryOp::Rem | BinaryOp::FloorDiv | BinaryOp::FloorMod, _, by) => {
                let is_known = matches!(by, Val::Const(c) if c.bits != 0);
                !ty.dtype.is_floating_point() && !is_known
            }
            _ => false,
        };
        if traps {
            let barrier = self.frames.iter().rposition(|frame| frame.may_be_empty);
            level = level.max(barrier.unwrap_or(0));
        }
        if let Some(&reg) = self.frames[level].known.get(&(ty, op.clone())) {
            return Val::Reg(reg);
        }
        let reg = self.new_reg_at(ty, level);
        let frame = &mut self.frames[level];
        frame.known.insert((ty, op.clone()), reg);
        frame.stmts.push(NestStmt::Set(reg, op));
        Val::Reg(reg)
    }

    /// `a op b` on indices, folded where both are known.
    pub(crate) fn index_op(&mut self, op: BinaryOp, a: Val, b: Val) -> Val {
        if let (Val::Const(x), Val::Const(y)) = (a, b)
            && let Some(folded) = crate::loops::fold_i64(op, x.as_i64(), y.as_i64())
            && !op.is_comparison()
        {
            return int(folded);
        }
        match (op, a, b) {
            (BinaryOp::Add, Val::Const(c), x) | (BinaryOp::Add, x, Val::Const(c)) if c.bits == 0 => return x,
            (BinaryOp::Mul, Val::Const(c), x) | (BinaryOp::Mul, x, Val::Const(c)) if c.bits == 1 => return x,
            _ => {}
        }
        self.emit(RegType::INDEX, Op::Binary(op, a, b), 0)
    }

    /// The value of an extent or stride.
    pub(crate) fn extent(&mut self, extent: &Extent) -> Val {
        extent.vars.iter().fold(int(extent.factor), |product, &var| {
            let var = self.var(var, DType::I64);
            self.index_op(BinaryOp::Mul, product, var)
        })
    }

    fn var(&mut self, var: VarId, dtype: DType) -> Val {
        let number = self.scalars.iter().position(|&v| v == var).unwrap_or_else(|| {
            self.scalars.push(var);
            self.nest.scalars.push(dtype);
            self.scalars.len() - 1
        });
        self.emit(RegType::scalar(dtype), Op::Param(number), 0)
    }

    fn memory(&mut self, buffer: BufferId, is_written: bool) -> Memory {
        if let Some(number) = self.locals.iter().position(|&b| b == buffer) {
            return Memory::Local(number);
        }
        let number = self.buffers.iter().position(|&b| b == buffer).unwrap_or_else(|| {
            let dtype = carrier(self.function.buffers[buffer].dtype);
            self.buffers.push(buffer);
            self.nest.buffers.push(NestBuffer { dtype, is_written: false, align: dtype.size_bytes() });
            self.buffers.len() - 1
        });
        self.nest.buffers[number].is_written |= is_written;
        Memory::Buffer(number)
    }

    /// The index along an axis at this point; of the first lane along the vector axis.
    fn axis(&mut self, axis: usize) -> Val {
        if self.flat.is_unit(axis) {
            return int(0);
        }
        let (counter, pos) = (self.axes[axis].counter, int(self.pos[axis]));
        self.index_op(BinaryOp::Add, counter, pos)
    }

    fn lanes_of(&self, deps: u64) -> u16 {
        match self.vector {
            Some((axis, lanes)) if deps >> axis & 1 == 1 => lanes,
            _ => 1,
        }
    }

    /// The innermost frame among those of these axes.
    fn deps_level(&self, deps: u64) -> usize {
        let axes = (0..self.axes.len()).filter(|&a| deps >> a & 1 == 1);
        axes.map(|a| self.axes[a].level).max().unwrap_or(0)
    }

    /// The part of `pos` that matters for something with these dependencies.
    fn key(&self, deps: u64) -> Vec<i64> {
        self.pos.iter().enumerate().map(|(a, &p)| if deps >> a & 1 == 1 { p } else { 0 }).collect()
    }

    /// The value of an expression at this point: a vector if it depends on the vector axis.
    pub(crate) fn eval(&mut self, id: ExprId) -> Val {
        let deps = self.flat.deps[id.index()];
        let level = self.deps_level(deps);
        let key = (id, self.key(deps));
        if deps & VOLATILE == 0
            && let Some(&val) = self.frames[level..].iter().find_map(|frame| frame.values.get(&key))
        {
            return val;
        }
        let flat = self.flat;
        let val = match flat.exprs.get(id) {
            Expr::Const(c) => Val::Const(Const { dtype: carrier(c.dtype), bits: c.bits }),
            Expr::Axis(axis) => {
                let start = self.axis(*axis);
                match self.lanes_of(deps) {
                    1 => start,
                    lanes => self.emit(RegType { dtype: DType::I64, lanes }, Op::Iota(start), 0),
                }
            }
            Expr::Var(var, dtype) => self.var(*var, *dtype),
            Expr::Load { .. } => self.load(id),
            Expr::Unary(op, a) => {
                let a = self.eval(*a);
                let ty = RegType { dtype: flat.exprs.dtype(id), lanes: self.ty(a).lanes };
                self.emit(ty, Op::Unary(*op, a), 0)
            }
            Expr::Binary(op, a, b) => {
                let (a, b) = (self.eval(*a), self.eval(*b));
                self.binary(*op, a, b)
            }
            Expr::Select(c, a, b) => {
                let (c, a, b) = (self.eval(*c), self.eval(*a), self.eval(*b));
                self.select(c, a, b)
            }
            Expr::Cast(dtype, a) => {
                let a = self.eval(*a);
                let ty = RegType { dtype: *dtype, lanes: self.ty(a).lanes };
                self.emit(ty, Op::Cast(a), 0)
            }
            Expr::Acc(number, _) => return self.accs[&(*number, self.key(deps))],
        };
        if deps & VOLATILE == 0 {
            // Where loads may not leave a loop, the value is known in that loop only.
            let level = level.max(self.level(val));
            self.frames[level].values.insert(key, val);
        }
        val
    }

    /// `a op b`, lane by lane.
    pub(crate) fn binary(&mut self, op: BinaryOp, a: Val, b: Val) -> Val {
        let (ta, tb) = (self.ty(a), self.ty(b));
        let dtype = if op.is_comparison() { DType::Bool } else { ta.dtype };
        self.emit(RegType { dtype, lanes: ta.lanes.max(tb.lanes) }, Op::Binary(op, a, b), 0)
    }

    /// `cond ? a : b`, lane by lane.
    pub(crate) fn select(&mut self, cond: Val, a: Val, b: Val) -> Val {
        let lanes = [cond, a, b].map(|v| self.ty(v).lanes).into_iter().max().unwrap_or(1);
        let dtype = self.ty(a).dtype;
        self.emit(RegType { dtype, lanes }, Op::Select(cond, a, b), 0)
    }

    /// Both conditions.
    fn both(&mut self, a: Option<Val>, b: Option<Val>) -> Option<Val> {
        match (a, b) {
            (Some(a), Some(b)) => Some(self.binary(BinaryOp::And, a, b)),
            (a, b) => a.or(b),
        }
    }

    /// The first element of an address, as a scalar.
    fn address(&mut self, form: &Linear) -> Val {
        let mut constant = form.constant;
        let mut terms = Vec::new();
        for (monomial, &coefficient) in &form.terms {
            let mut factor = self.extent(&Extent { factor: coefficient, vars: monomial.vars.clone() });
            match monomial.atom {
                None => {}
                Some(Atom::Axis(axis)) => {
                    let counter = self.axes[axis].counter;
                    if monomial.vars.is_empty() {
                        constant += coefficient * self.pos[axis];
                    } else if self.pos[axis] != 0 {
                        let pos = int(self.pos[axis]);
                        terms.push(self.index_op(BinaryOp::Mul, factor, pos));
                    }
                    factor = self.index_op(BinaryOp::Mul, counter, factor);
                }
                Some(Atom::Expr(id)) => {
                    let value = self.eval(id);
                    factor = self.index_op(BinaryOp::Mul, value, factor);
                }
            }
            if let Val::Const(c) = factor { constant += c.as_i64() } else { terms.push(factor) }
        }
        // From the outside in, so that each loop adds one term.
        terms.sort_by_key(|&term| self.level(term));
        let mut sum = int(0);
        for term in terms {
            sum = self.index_op(BinaryOp::Add, sum, term);
        }
        self.index_op(BinaryOp::Add, sum, int(constant))
    }

    /// Asks for the cache lines from an address on.
    pub(crate) fn prefetch(&mut self, prefetch: &Prefetch) {
        let memory = self.memory(prefetch.buffer, false);
        for number in 0..prefetch.lines {
            let form = prefetch.address.clone().plus(&Linear::constant(number * prefetch.line), 1);
            let offset = self.address(&form);
            self.push(NestStmt::Prefetch { memory, offset });
        }
    }

    /// The addresses of all lanes, as a vector.
    fn addresses(&mut self, form: &Linear, axis: usize, lanes: u16) -> Val {
        let ty = RegType { dtype: DType::I64, lanes };
        let mut scalars = form.clone();
        let mut sum = None;
        for (monomial, &coefficient) in &form.terms {
            let part = match monomial.atom {
                Some(Atom::Axis(a)) if a == axis => {
                    let start = self.axis(a);
                    self.emit(ty, Op::Iota(start), 0)
                }
                Some(Atom::Expr(id)) if self.flat.deps[id.index()] >> axis & 1 == 1 => self.eval(id),
                _ => continue,
            };
            scalars.terms.remove(monomial);
            let factor = self.extent(&Extent { factor: coefficient, vars: monomial.vars.clone() });
            let part = if factor == int(1) { part } else { self.emit(ty, Op::Binary(BinaryOp::Mul, part, factor), 0) };
            sum = Some(match sum {
                None => part,
                Some(sum) => self.emit(ty, Op::Binary(BinaryOp::Add, sum, part), 0),
            });
        }
        let base = self.address(&scalars);
        let sum = sum.unwrap_or(base);
        self.emit(ty, Op::Binary(BinaryOp::Add, sum, base), 0)
    }

    fn load(&mut self, id: ExprId) -> Val {
        let flat = self.flat;
        let Expr::Load { buffer, dtype, guard, .. } = flat.exprs.get(id) else { unreachable!("only called for loads") };
        let form = &flat.addresses[&id];
        let deps = flat.deps[id.index()];
        let is_volatile = deps & VOLATILE != 0;
        let floor = if is_volatile { self.frames.len() - 1 } else { self.deps_level(deps) };
        let memory = self.memory(*buffer, false);
        let cond = guard.map(|g| self.eval(g.cond));
        let address_lanes = self.lanes_of(flat.address_deps(form));
        let cond_lanes = cond.map_or(1, |c| self.ty(c).lanes);
        let lanes = address_lanes.max(cond_lanes);
        let mask = if lanes > 1 { self.both(cond, self.mask) } else { cond };
        let ty = RegType { dtype: carrier(*dtype), lanes };
        let stride = self.vector.map_or(Some(0), |(axis, _)| flat.stride(form, axis));
        let op = match (stride, self.vector) {
            (None, Some((axis, _))) if lanes > 1 => {
                Op::Gather { memory, offsets: self.addresses(form, axis, lanes), mask }
            }
            _ => {
                let stride = if lanes > 1 { stride.unwrap_or(0) } else { 1 };
                Op::Load { memory, offset: self.address(form), stride, mask }
            }
        };
        let loaded = if is_volatile {
            let reg = self.new_reg(ty);
            self.push(NestStmt::Set(reg, op));
            Val::Reg(reg)
        } else {
            self.emit(ty, op, floor)
        };
        let (Some(cond), Some(guard)) = (cond, guard) else { return loaded };
        let other = self.eval(guard.other);
        // A lane that is masked off reads as 0.
        if matches!(other, Val::Const(c) if c.bits == 0) { loaded } else { self.select(cond, loaded, other) }
    }

    /// Writes the store's value at this point.
    pub(crate) fn store(&mut self, store: &FlatStore) {
        let flat = self.flat;
        let lanes = self.lanes_of(flat.address_deps(&store.address));
        let stride = self.vector.map_or(Some(1), |(axis, _)| flat.stride(&store.address, axis)).unwrap_or(1);
        let stride = if lanes > 1 { stride } else { 1 };
        let ty = RegType { dtype: carrier(store.dtype), lanes };
        let mut value = self.eval(store.value);
        let guard = store.guard.map(|g| self.eval(g));
        let mask = if lanes > 1 { self.both(guard, self.mask) } else { guard };
        let offset = self.address(&store.address);
        let memory = self.memory(store.buffer, true);
        if let StoreMode::Combine(op) = store.mode {
            let old = self.new_reg(ty);
            self.push(NestStmt::Set(old, Op::Load { memory, offset, stride, mask }));
            let new = self.new_reg(ty);
            self.push(NestStmt::Set(new, Op::Binary(combine(op), Val::Reg(old), value)));
            value = Val::Reg(new);
        }
        if self.ty(value).lanes < lanes {
            value = self.emit(ty, Op::Copy(value), 0);
        }
        self.push(NestStmt::Store { memory, offset, stride, value, mask });
    }

    /// `Some((a, b))` if the expression is a product of floats, so that adding it can be one operation.
    pub(crate) fn as_product(&self, id: ExprId) -> Option<(ExprId, ExprId)> {
        match *self.flat.exprs.get(id) {
            Expr::Binary(BinaryOp::Mul, a, b) if self.flat.exprs.dtype(id).is_floating_point() => Some((a, b)),
            _ => None,
        }
    }
}

/// The type in whose registers elements are that nests only move: an integer of the same size.
pub(crate) fn carrier(dtype: DType) -> DType {
    match dtype {
        DType::C32 | DType::QI32 => DType::I32,
        DType::C64 => DType::I64,
        DType::QI8 => DType::I8,
        DType::QU8 | DType::F8E5M2 | DType::F8E4M3 => DType::U8,
        DType::U8
        | DType::I8
        | DType::I16
        | DType::I32
        | DType::I64
        | DType::F16
        | DType::F32
        | DType::F64
        | DType::C128
        | DType::Bool
        | DType::BF16
        | DType::U16
        | DType::U32
        | DType::U64 => dtype,
    }
}

/// The value a reduction starts from.
pub(crate) fn neutral(op: ReduceOp, dtype: DType) -> Const {
    let bits = dtype.size_bytes() * 8;
    let float = |value: f64| Const::float(dtype, value);
    let (least, greatest) = if dtype.is_floating_point() {
        (float(f64::NEG_INFINITY), float(f64::INFINITY))
    } else if dtype == DType::Bool {
        (Const::bool(false), Const::bool(true))
    } else if dtype.is_signed() {
        let least = i64::MIN >> (64 - bits);
        (Const::from_i64(dtype, least), Const::from_i64(dtype, !least))
    } else {
        let greatest = (u64::MAX >> (64 - bits)).cast_signed();
        (Const::from_i64(dtype, 0), Const { dtype, bits: greatest.cast_unsigned() })
    };
    match op {
        ReduceOp::Sum => Const::from_i64(dtype, 0),
        ReduceOp::Prod => Const::from_i64(dtype, 1),
        ReduceOp::Max | ReduceOp::ArgMax => least,
        ReduceOp::Min | ReduceOp::ArgMin => greatest,
        ReduceOp::And if dtype == DType::Bool => greatest,
        ReduceOp::And => Const::from_i64(dtype, -1),
        ReduceOp::Or => Const::from_i64(dtype, 0),
    }
}

/// The operands of an operation.
pub(crate) fn operands(op: &Op) -> Vec<Val> {
    match *op {
        Op::Copy(a) | Op::Unary(_, a) | Op::Cast(a) | Op::Iota(a) => vec![a],
        Op::Param(_) => Vec::new(),
        Op::Binary(_, a, b) => vec![a, b],
        Op::Fma(a, b, c) | Op::Select(a, b, c) => vec![a, b, c],
        Op::Load { offset, mask, .. } => std::iter::once(offset).chain(mask).collect(),
        Op::Gather { offsets, mask, .. } => std::iter::once(offsets).chain(mask).collect(),
        Op::Horizontal(_, reg) | Op::Extract(reg, _) => vec![Val::Reg(reg)],
    }
}

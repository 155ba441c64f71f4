//! Runs nests and kernels plainly, one lane after another: the check on schedules.

use crate::index::{Id as _, IndexVec};
use crate::loops::nest::{Memory, Nest, NestStmt, Op, Reg, Val};
use crate::loops::{
    AxisKind, BinaryOp, Const, Dim, Expr, ExprId, Function, Kernel, ReduceOp, StoreMode, UnaryOp, fold_i64,
};
use crate::types::DType;

/// Elements of a buffer: floats as `f64::to_bits`, others as integers, as in [`Const`].
pub(crate) type Array = Vec<u64>;

fn float(dtype: DType, value: f64) -> u64 {
    let value = if dtype == DType::F32 { f64::from(value as f32) } else { value };
    value.to_bits()
}

fn wrap(dtype: DType, value: i64) -> u64 {
    let shift = 64 - dtype.size_bytes() * 8;
    match dtype {
        DType::Bool => u64::from(value != 0),
        _ if dtype.is_signed() => ((value << shift) >> shift).cast_unsigned(),
        _ => (value.cast_unsigned() << shift) >> shift,
    }
}

pub(crate) fn unary(op: UnaryOp, dtype: DType, a: u64) -> u64 {
    if !dtype.is_floating_point() {
        let a = a.cast_signed();
        return match op {
            UnaryOp::Neg => wrap(dtype, -a),
            UnaryOp::Abs => wrap(dtype, a.abs()),
            UnaryOp::Not if dtype == DType::Bool => u64::from(a == 0),
            UnaryOp::Not => wrap(dtype, !a),
            _ => 0,
        };
    }
    let a = f64::from_bits(a);
    let value = match op {
        UnaryOp::IsNan => return u64::from(a.is_nan()),
        UnaryOp::Neg => -a,
        UnaryOp::Abs => a.abs(),
        UnaryOp::Sqrt => a.sqrt(),
        UnaryOp::Exp => a.exp(),
        UnaryOp::Log => a.ln(),
        UnaryOp::Tanh => a.tanh(),
        _ => panic!("{op:?} is not used in these tests"),
    };
    float(dtype, value)
}

pub(crate) fn binary(op: BinaryOp, dtype: DType, a: u64, b: u64) -> u64 {
    if !dtype.is_floating_point() {
        return fold_i64(op, a.cast_signed(), b.cast_signed())
            .map_or(0, |v| if op.is_comparison() { v.cast_unsigned() } else { wrap(dtype, v) });
    }
    let (a, b) = (f64::from_bits(a), f64::from_bits(b));
    let nan = a.is_nan() || b.is_nan();
    let value = match op {
        BinaryOp::Eq => return u64::from(a == b),
        BinaryOp::Ne => return u64::from(a != b),
        BinaryOp::Lt => return u64::from(a < b),
        BinaryOp::Le => return u64::from(a <= b),
        BinaryOp::Gt => return u64::from(a > b),
        BinaryOp::Ge => return u64::from(a >= b),
        BinaryOp::Min | BinaryOp::Max if nan => f64::NAN,
        BinaryOp::Min => a.min(b),
        BinaryOp::Max => a.max(b),
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        _ => panic!("{op:?} is not used in these tests"),
    };
    float(dtype, value)
}

fn cast(to: DType, from: DType, a: u64) -> u64 {
    let c = Const { dtype: from, bits: a };
    if to.is_floating_point() {
        float(to, c.as_f64())
    } else if to == DType::Bool {
        u64::from(c.as_f64() != 0.0)
    } else {
        wrap(to, c.as_i64())
    }
}

fn reduce(op: ReduceOp, dtype: DType, a: u64, b: u64) -> u64 {
    binary(super::flat::combine(op), dtype, a, b)
}

// Kernels.

struct Eval<'a> {
    function: &'a Function,
    kernel: &'a Kernel,
    vars: &'a [u64],
    point: Vec<i64>,
    accs: Vec<u64>,
}

fn dim(dim: Dim, vars: &[u64]) -> i64 {
    match dim {
        Dim::Const(n) => n,
        Dim::Var(v) => vars[v.index()].cast_signed(),
    }
}

impl Eval<'_> {
    fn offset(&self, buffer: crate::loops::BufferId, index: &[ExprId], memory: &[Array]) -> usize {
        let mut offset = 0;
        for (&i, &d) in index.iter().zip(&self.function.buffers[buffer].dims) {
            let (i, d) = (self.eval(i, memory).cast_signed(), dim(d, self.vars));
            assert!((0..d).contains(&i), "index {i} of {d} in {buffer}");
            offset = offset * d + i;
        }
        usize::try_from(offset).unwrap()
    }

    fn eval(&self, id: ExprId, memory: &[Array]) -> u64 {
        let exprs = &self.kernel.exprs;
        match exprs.get(id) {
            Expr::Const(c) if c.dtype.is_floating_point() => float(c.dtype, c.as_f64()),
            Expr::Const(c) => c.bits,
            Expr::Axis(a) => self.point[*a].cast_unsigned(),
            Expr::Var(v, _) => self.vars[v.index()],
            Expr::Load { buffer, index, guard, .. } => {
                if let Some(g) = guard
                    && self.eval(g.cond, memory) == 0
                {
                    return self.eval(g.other, memory);
                }
                memory[buffer.index()][self.offset(*buffer, index, memory)]
            }
            Expr::Unary(op, a) => unary(*op, exprs.dtype(*a), self.eval(*a, memory)),
            Expr::Binary(op, a, b) => binary(*op, exprs.dtype(*a), self.eval(*a, memory), self.eval(*b, memory)),
            Expr::Select(c, a, b) => self.eval(if self.eval(*c, memory) != 0 { *a } else { *b }, memory),
            Expr::Cast(to, a) => cast(*to, exprs.dtype(*a), self.eval(*a, memory)),
            Expr::Acc(n, _) => self.accs[*n],
        }
    }
}

/// Runs a kernel as its definition says.
pub(crate) fn run_kernel(function: &Function, kernel: &Kernel, vars: &[u64], memory: &mut [Array]) {
    let mut eval = Eval { function, kernel, vars, point: vec![0; kernel.axes.len()], accs: Vec::new() };
    let extents: Vec<i64> = kernel.axes.iter().map(|a| dim(a.extent, vars)).collect();
    let is = |kind: AxisKind| (0..kernel.axes.len()).filter(|&a| kernel.axes[a].kind == kind).collect::<Vec<_>>();
    let (outer, scan, reduced) = (is(AxisKind::Parallel), is(AxisKind::Scan), is(AxisKind::Reduce));
    for_each(&outer, &extents, &mut vec![0; extents.len()], &mut |point| {
        let dtypes: Vec<DType> = kernel.reductions.iter().map(|r| kernel.exprs.dtype(r.value)).collect();
        let start = kernel.reductions.iter().zip(&dtypes).map(|(r, &d)| super::nest_builder::neutral(r.op, d).bits);
        let mut values: Vec<u64> = start.collect();
        let mut args = vec![(0u64, false); values.len()];
        let mut point = point.to_vec();
        for_each(&scan, &extents, &mut point, &mut |point| {
            for_each(&reduced, &extents, &mut point.to_vec(), &mut |point| {
                eval.point = point.to_vec();
                for (r, reduction) in kernel.reductions.iter().enumerate() {
                    let value = eval.eval(reduction.value, memory);
                    if let Some(payload) = reduction.payload {
                        let order = if reduction.op == ReduceOp::ArgMax { BinaryOp::Gt } else { BinaryOp::Lt };
                        let is_nan = |bits| dtypes[r].is_floating_point() && f64::from_bits(bits).is_nan();
                        let wins = binary(order, dtypes[r], value, values[r]) != 0
                            || is_nan(value) && !is_nan(values[r])
                            || !args[r].1;
                        if wins {
                            values[r] = value;
                            args[r] = (eval.eval(payload, memory), true);
                        }
                    } else {
                        values[r] = reduce(reduction.op, dtypes[r], values[r], value);
                    }
                }
            });
            eval.point = point.to_vec();
            let results = values.iter().zip(&args).zip(&kernel.reductions);
            eval.accs = results.map(|((&v, a), r)| if r.payload.is_some() { a.0 } else { v }).collect();
            for store in &kernel.stores {
                if store.guard.is_some_and(|g| eval.eval(g, memory) == 0) {
                    continue;
                }
                let (mut value, at) = (eval.eval(store.value, memory), eval.offset(store.buffer, &store.index, memory));
                let dtype = function.buffers[store.buffer].dtype;
                if let StoreMode::Combine(op) = store.mode {
                    value = reduce(op, dtype, memory[store.buffer.index()][at], value);
                }
                memory[store.buffer.index()][at] = value;
            }
        });
    });
}

fn for_each(axes: &[usize], extents: &[i64], point: &mut Vec<i64>, visit: &mut dyn FnMut(&[i64])) {
    let Some((&axis, rest)) = axes.split_first() else {
        visit(point);
        return;
    };
    for i in 0..extents[axis] {
        point[axis] = i;
        for_each(rest, extents, point, visit);
    }
    point[axis] = 0;
}

// Nests.

struct Machine<'a> {
    nest: &'a Nest,
    params: &'a [u64],
    regs: IndexVec<Reg, Vec<u64>>,
    buffers: Vec<Array>,
    locals: Vec<Array>,
}

/// Runs a nest on copies of the buffers; gives them back.
pub(crate) fn run_nest(nest: &Nest, params: &[u64], buffers: Vec<Array>) -> Vec<Array> {
    let regs = nest.regs.iter().map(|ty| vec![0xdead; usize::from(ty.lanes)]).collect();
    let locals = nest.locals.iter().map(|l| vec![0xdead; l.len]).collect();
    let mut machine = Machine { nest, params, regs, buffers, locals };
    machine.block(&nest.body);
    machine.buffers
}

impl Machine<'_> {
    fn dtype(&self, val: Val) -> DType {
        match val {
            Val::Reg(r) => self.nest.regs[r].dtype,
            Val::Const(c) => c.dtype,
        }
    }

    fn lane(&self, val: Val, lane: usize) -> u64 {
        match val {
            Val::Reg(r) if self.regs[r].len() == 1 => self.regs[r][0],
            Val::Reg(r) => self.regs[r][lane],
            Val::Const(c) if c.dtype.is_floating_point() => float(c.dtype, c.as_f64()),
            Val::Const(c) => c.bits,
        }
    }

    fn memory(&mut self, memory: Memory) -> &mut Array {
        match memory {
            Memory::Buffer(n) => &mut self.buffers[n],
            Memory::Local(n) => &mut self.locals[n],
        }
    }

    fn op(&mut self, reg: Reg, op: &Op, lane: usize) -> u64 {
        let ty = self.nest.regs[reg].dtype;
        let at = |offset: u64| usize::try_from(offset.cast_signed()).expect("offsets are not negative");
        for val in super::nest_builder::operands(op) {
            if let (Val::Reg(r), false) = (val, matches!(op, Op::Horizontal(..) | Op::Extract(..))) {
                let lanes = self.nest.regs[r].lanes;
                assert!(lanes == 1 || lanes == self.nest.regs[reg].lanes, "lanes of {op:?}");
            }
        }
        match *op {
            Op::Copy(a) => {
                assert_eq!(self.dtype(a), ty);
                self.lane(a, lane)
            }
            Op::Param(n) => self.params[n],
            Op::Unary(op, a) => unary(op, self.dtype(a), self.lane(a, lane)),
            Op::Binary(op, a, b) => {
                assert_eq!(self.dtype(a), self.dtype(b));
                binary(op, self.dtype(a), self.lane(a, lane), self.lane(b, lane))
            }
            Op::Fma(a, b, c) => {
                let [a, b, c] = [a, b, c].map(|v| f64::from_bits(self.lane(v, lane)));
                float(ty, a.mul_add(b, c))
            }
            Op::Select(c, a, b) => self.lane(if self.lane(c, lane) != 0 { a } else { b }, lane),
            Op::Cast(a) => cast(ty, self.dtype(a), self.lane(a, lane)),
            Op::Load { memory, offset, stride, mask } => {
                if mask.is_some_and(|m| self.lane(m, lane) == 0) {
                    return 0;
                }
                let first = self.lane(offset, 0).cast_signed();
                let i = first + stride * i64::try_from(lane).unwrap();
                self.memory(memory)[at(i.cast_unsigned())]
            }
            Op::Gather { memory, offsets, mask } => {
                if mask.is_some_and(|m| self.lane(m, lane) == 0) {
                    return 0;
                }
                let i = self.lane(offsets, lane);
                self.memory(memory)[at(i)]
            }
            Op::Iota(start) => (self.lane(start, 0).cast_signed() + i64::try_from(lane).unwrap()).cast_unsigned(),
            Op::Horizontal(op, r) => {
                let values = self.regs[r].clone();
                values.into_iter().reduce(|a, b| reduce(op, ty, a, b)).unwrap()
            }
            Op::Extract(r, n) => self.regs[r][usize::from(n)],
        }
    }

    fn block(&mut self, stmts: &[NestStmt]) {
        for stmt in stmts {
            match stmt {
                NestStmt::Set(reg, op) => {
                    let n = self.regs[*reg].len();
                    let value: Vec<u64> = (0..n).map(|lane| self.op(*reg, op, lane)).collect();
                    self.regs[*reg] = value;
                }
                NestStmt::For { counter, begin, end, step, body, .. } => {
                    let (begin, end) = (self.lane(*begin, 0).cast_signed(), self.lane(*end, 0).cast_signed());
                    let mut i = begin;
                    while i < end {
                        self.regs[*counter] = vec![i.cast_unsigned()];
                        self.block(body);
                        i += step;
                    }
                }
                NestStmt::If { cond, then_body, else_body } => {
                    let body = if self.lane(*cond, 0) != 0 { then_body } else { else_body };
                    self.block(body);
                }
                NestStmt::Store { memory, offset, stride, value, mask } => {
                    let n = if let Val::Reg(r) = value { self.regs[*r].len() } else { 1 };
                    for lane in 0..n {
                        if mask.is_none_or(|m| self.lane(m, lane) != 0) {
                            let i = self.lane(*offset, 0).cast_signed() + stride * i64::try_from(lane).unwrap();
                            let value = self.lane(*value, lane);
                            self.memory(*memory)[usize::try_from(i).unwrap()] = value;
                        }
                    }
                }
                NestStmt::Prefetch { .. } => {}
            }
        }
    }
}

//! Random kernels run three ways: by columns, as contractions where they are, and point by point with the simplest code.

use super::column::Column;
use super::kernel::{self, Place, World};
use super::math;
use crate::index::Id as _;
use crate::loops::{
    Axis, AxisKind, BinaryOp, BufferId, Const, Dim, Expr, ExprId, Exprs, Guard, Kernel, ReduceOp, Reduction, Store,
    StoreMode, UnaryOp,
};
use crate::types::DType;
use std::borrow::Cow;
use std::collections::HashMap;

/// A value of one of the types that the random kernels use.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Scalar {
    Bool(bool),
    Int(i64),
    F32(f32),
    F64(f64),
}
use Scalar::{Bool, F32, F64, Int};

impl Scalar {
    fn int(self) -> i64 {
        if let Int(x) = self { x } else { panic!("{self:?} is not an int") }
    }

    fn bool(self) -> bool {
        if let Bool(x) = self { x } else { panic!("{self:?} is not a bool") }
    }

    fn f64(self) -> f64 {
        match self {
            Bool(x) => f64::from(u8::from(x)),
            Int(x) => x as f64,
            F32(x) => f64::from(x),
            F64(x) => x,
        }
    }

    fn from_f64(dtype: DType, x: f64) -> Self {
        match dtype {
            DType::Bool => Bool(x != 0.0),
            DType::I64 => Int(x as i64),
            DType::F32 => F32(x as f32),
            _ => F64(x),
        }
    }
}

/// A buffer's elements.
#[derive(Clone, Debug)]
struct Contents {
    dtype: DType,
    dims: Vec<i64>,
    elements: Vec<Scalar>,
}

impl Contents {
    fn at(&self, index: &[i64]) -> usize {
        let mut offset = 0;
        for (&i, &extent) in index.iter().zip(&self.dims) {
            assert!((0..extent).contains(&i), "index {index:?} is outside {:?}", self.dims);
            offset = offset * extent + i;
        }
        usize::try_from(offset).expect("not negative")
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for element in &self.elements {
            match element {
                Bool(x) => out.push(u8::from(*x)),
                Int(x) => out.extend(x.to_ne_bytes()),
                F32(x) => out.extend(x.to_ne_bytes()),
                F64(x) => out.extend(x.to_ne_bytes()),
            }
        }
        out
    }

    fn values(&self, bytes: &[u8]) -> Vec<f64> {
        let offsets: Vec<usize> = (0..self.elements.len()).collect();
        match Column::gather(self.dtype, bytes, &offsets).expect("a known type") {
            Column::Bool(v) => v.into_iter().map(|x| f64::from(u8::from(x))).collect(),
            Column::I64(v) => v.into_iter().map(|x| x as f64).collect(),
            Column::F32(v) => v.into_iter().map(f64::from).collect(),
            Column::F64(v) => v,
            other => panic!("{other:?}"),
        }
    }
}

/// One point of a kernel.
struct Point<'a> {
    kernel: &'a Kernel,
    axes: &'a [i64],
    accs: &'a [Scalar],
    buffers: &'a [Contents],
}

impl Point<'_> {
    fn value(&self, id: ExprId) -> Scalar {
        let exprs = &self.kernel.exprs;
        match exprs.get(id) {
            Expr::Const(c) => match c.dtype {
                DType::Bool => Bool(c.bits != 0),
                DType::I64 => Int(c.as_i64()),
                dtype => Scalar::from_f64(dtype, c.as_f64()),
            },
            Expr::Axis(axis) => Int(self.axes[*axis]),
            Expr::Var(..) => panic!("no variables here"),
            Expr::Load { buffer, index, guard, .. } => {
                if let Some(guard) = guard.filter(|g| !self.value(g.cond).bool()) {
                    return self.value(guard.other);
                }
                let buffer = &self.buffers[buffer.index()];
                buffer.elements[buffer.at(&index.iter().map(|&i| self.value(i).int()).collect::<Vec<_>>())]
            }
            Expr::Unary(op, a) => match (op, self.value(*a)) {
                (UnaryOp::Neg, Int(x)) => Int(x.wrapping_neg()),
                (UnaryOp::Not, Bool(x)) => Bool(!x),
                (op, F32(x)) => F32(math::unary_f32(*op).expect("of floats")(x)),
                (op, F64(x)) => F64(math::unary_f64(*op).expect("of floats")(x)),
                other => panic!("{other:?}"),
            },
            Expr::Binary(op, a, b) => binary(*op, self.value(*a), self.value(*b)),
            Expr::Select(c, a, b) => self.value(if self.value(*c).bool() { *a } else { *b }),
            Expr::Cast(dtype, a) => match (self.value(*a), dtype) {
                (Int(x), DType::I64) => Int(x),
                (x, dtype) => Scalar::from_f64(*dtype, x.f64()),
            },
            Expr::Acc(number, _) => self.accs[*number],
        }
    }
}

fn binary(op: BinaryOp, a: Scalar, b: Scalar) -> Scalar {
    match (a, b) {
        (Int(x), Int(y)) => match op {
            BinaryOp::Add => Int(x.wrapping_add(y)),
            BinaryOp::Sub => Int(x.wrapping_sub(y)),
            BinaryOp::Mul => Int(x.wrapping_mul(y)),
            BinaryOp::FloorDiv => Int(x.div_euclid(y)),
            BinaryOp::FloorMod => Int(x.rem_euclid(y)),
            BinaryOp::Min => Int(x.min(y)),
            BinaryOp::Max => Int(x.max(y)),
            BinaryOp::Eq => Bool(x == y),
            BinaryOp::Lt => Bool(x < y),
            BinaryOp::Le => Bool(x <= y),
            BinaryOp::Gt => Bool(x > y),
            BinaryOp::Ge => Bool(x >= y),
            other => panic!("{other:?}"),
        },
        (Bool(x), Bool(y)) if op == BinaryOp::And => Bool(x && y),
        (Bool(x), Bool(y)) if op == BinaryOp::Or => Bool(x || y),
        _ => {
            let (x, y) = (a.f64(), b.f64());
            let dtype = if matches!(a, F32(_)) { DType::F32 } else { DType::F64 };
            Scalar::from_f64(
                dtype,
                match op {
                    BinaryOp::Add => x + y,
                    BinaryOp::Sub => x - y,
                    BinaryOp::Mul => x * y,
                    BinaryOp::Div => x / y,
                    BinaryOp::Min => x.min(y),
                    BinaryOp::Max => x.max(y),
                    BinaryOp::Lt => return Bool(x < y),
                    BinaryOp::Ge => return Bool(x >= y),
                    other => panic!("{other:?}"),
                },
            )
        }
    }
}

/// All points of the extents in row-major order.
fn points(extents: &[i64]) -> Vec<Vec<i64>> {
    let mut out = vec![Vec::new()];
    for &extent in extents {
        let longer = |p: &Vec<i64>| (0..extent).map(|i| p.iter().copied().chain([i]).collect()).collect::<Vec<_>>();
        out = out.iter().flat_map(longer).collect();
    }
    out
}

/// Runs a kernel without a scan axis.
fn run_naively(kernel: &Kernel, extents: &[i64], buffers: &mut [Contents]) {
    let n_outer = kernel.axes.iter().filter(|axis| axis.kind != AxisKind::Reduce).count();
    let before = buffers.to_vec();
    for outer in points(&extents[..n_outer]) {
        let mut accs = Vec::new();
        for reduction in &kernel.reductions {
            let dtype = kernel.exprs.dtype(reduction.value);
            let (mut sum, mut best, mut payload) = (0.0f64, None::<Scalar>, 0);
            for inner in points(&extents[n_outer..]) {
                let axes: Vec<i64> = outer.iter().chain(&inner).copied().collect();
                let point = Point { kernel, axes: &axes, accs: &[], buffers: &before };
                let value = point.value(reduction.value);
                let is_better = |best: Scalar| match reduction.op {
                    ReduceOp::Max | ReduceOp::ArgMax => value.f64() > best.f64(),
                    _ => value.f64() < best.f64(),
                };
                sum += value.f64();
                if best.is_none_or(is_better) {
                    best = Some(value);
                    payload = reduction.payload.map_or(0, |p| point.value(p).int());
                }
            }
            accs.push(match reduction.op {
                ReduceOp::Sum => Scalar::from_f64(dtype, sum),
                ReduceOp::ArgMax | ReduceOp::ArgMin => Int(payload),
                _ => best.expect("the reduced axes are not empty"),
            });
        }
        for store in &kernel.stores {
            let point = Point { kernel, axes: &outer, accs: &accs, buffers: &before };
            if store.guard.is_none_or(|guard| point.value(guard).bool()) {
                let index: Vec<i64> = store.index.iter().map(|&i| point.value(i).int()).collect();
                let value = point.value(store.value);
                let buffer = &mut buffers[store.buffer.index()];
                let at = buffer.at(&index);
                buffer.elements[at] = value;
            }
        }
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as i64 % n
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as i64) as usize]
    }

    fn float(&mut self) -> f64 {
        self.below(2001) as f64 / 500.0 - 2.0
    }
}

/// Makes kernels whose loads are inside their buffers or guarded.
struct Maker<'r> {
    random: &'r mut Random,
    exprs: Exprs,
    extents: Vec<i64>,
    buffers: Vec<Contents>,
}

impl Maker<'_> {
    /// An index expression over the axes, sometimes not linear.
    fn index(&mut self, n_axes: usize) -> ExprId {
        let mut sum = {
            let base = self.random.below(7) - 3;
            self.exprs.int(base)
        };
        for axis in 0..n_axes {
            if self.random.below(2) == 0 {
                let axis = self.exprs.add(Expr::Axis(axis));
                let by = self.random.pick(&[1, 1, 1, 2, 3, -1]);
                let by = self.exprs.int(by);
                let term = self.exprs.binary(BinaryOp::Mul, axis, by);
                sum = self.exprs.binary(BinaryOp::Add, sum, term);
            }
        }
        if self.random.below(4) == 0 {
            let op = self.random.pick(&[BinaryOp::FloorDiv, BinaryOp::FloorMod, BinaryOp::Min]);
            let by = self.exprs.int(2);
            sum = self.exprs.binary(op, sum, by);
        }
        sum
    }

    /// A load that is always legal: its dims hold every index, or a guard keeps it inside.
    fn load(&mut self, dtype: DType, n_axes: usize) -> ExprId {
        let rank = self.random.below(3) + 1;
        let mut index: Vec<ExprId> = (0..rank).map(|_| self.index(n_axes)).collect();
        let points = points(&self.extents);
        let is_guarded = self.random.below(2) == 0;
        let (mut dims, mut cond) = (Vec::new(), None);
        for id in &mut index {
            let kernel = self.kernel_of_exprs();
            let at = |axes: &Vec<i64>| Point { kernel: &kernel, axes, accs: &[], buffers: &[] }.value(*id).int();
            let (least, most) = (points.iter().map(at).min().unwrap_or(0), points.iter().map(at).max().unwrap_or(0));
            if is_guarded {
                let extent = (most.max(0) + 1 - self.random.below(3)).max(1);
                dims.push(extent);
                let (zero, extent) = (self.exprs.int(0), self.exprs.int(extent));
                let low = self.exprs.binary(BinaryOp::Ge, *id, zero);
                let high = if self.random.below(2) == 0 {
                    self.exprs.binary(BinaryOp::Lt, *id, extent)
                } else {
                    self.exprs.binary(BinaryOp::Gt, extent, *id)
                };
                for part in [low, high] {
                    cond = Some(cond.map_or(part, |c| self.exprs.binary(BinaryOp::And, c, part)));
                }
            } else {
                let shift = self.exprs.int(-least);
                *id = self.exprs.binary(BinaryOp::Add, *id, shift);
                dims.push(most - least + 1 + self.random.below(2));
            }
        }
        let buffer = self.buffer(dtype, dims);
        let other = if self.random.below(3) == 0 { 1.5 } else { 0.0 };
        let other = self.exprs.add(Expr::Const(Const::from_f64(dtype, other)));
        let guard = cond.map(|cond| Guard { cond, other });
        self.exprs.add(Expr::Load { buffer, dtype, index: index.into(), guard })
    }

    fn kernel_of_exprs(&self) -> Kernel {
        Kernel {
            name: String::new(),
            place: "".into(),
            axes: Vec::new(),
            exprs: self.exprs.clone(),
            reductions: Vec::new(),
            stores: Vec::new(),
            is_ordered: false,
        }
    }

    fn buffer(&mut self, dtype: DType, dims: Vec<i64>) -> BufferId {
        let n: i64 = dims.iter().product();
        let random = &mut *self.random;
        let elements = (0..n).map(|_| Scalar::from_f64(dtype, random.float())).collect();
        self.buffers.push(Contents { dtype, dims, elements });
        BufferId::new(self.buffers.len() - 1)
    }

    /// A float computation over loads.
    fn value(&mut self, dtype: DType, n_axes: usize, depth: u32) -> ExprId {
        if depth == 0 || self.random.below(4) == 0 {
            return match self.random.below(5) {
                0 => {
                    let axis = self.exprs.add(Expr::Axis(n_axes - 1));
                    self.exprs.cast(dtype, axis)
                }
                1 => {
                    let x = self.random.float();
                    self.exprs.add(Expr::Const(Const::float(dtype, x)))
                }
                2 => {
                    let from = self.random.pick(&[DType::I64, DType::Bool, DType::F32, DType::F64]);
                    let load = self.load(from, n_axes);
                    self.exprs.cast(dtype, load)
                }
                _ => self.load(dtype, n_axes),
            };
        }
        let a = self.value(dtype, n_axes, depth - 1);
        match self.random.below(5) {
            0 => {
                let op = self.random.pick(&[UnaryOp::Neg, UnaryOp::Tanh, UnaryOp::Abs, UnaryOp::Floor]);
                self.exprs.unary(op, a)
            }
            1 => {
                let b = self.value(dtype, n_axes, depth - 1);
                let cond = self.exprs.binary(BinaryOp::Lt, a, b);
                self.exprs.add(Expr::Select(cond, a, b))
            }
            _ => {
                let b = self.value(dtype, n_axes, depth - 1);
                let op = self.random.pick(&[BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Min, BinaryOp::Max]);
                self.exprs.binary(op, a, b)
            }
        }
    }

    /// The factors of a contraction.
    fn product(&mut self, dtype: DType, n_axes: usize) -> ExprId {
        let (a, b) = (self.load(dtype, n_axes), self.load(dtype, n_axes));
        match self.random.below(4) {
            0 => a,
            1 => {
                let from = self.load(DType::I64, n_axes);
                let from = self.exprs.cast(dtype, from);
                self.exprs.binary(BinaryOp::Mul, a, from)
            }
            _ => self.exprs.binary(BinaryOp::Mul, a, b),
        }
    }
}

/// A random kernel with its extents and buffers; the last one is what it stores to.
fn random_kernel(random: &mut Random, is_contraction: bool) -> (Kernel, Vec<i64>, Vec<Contents>) {
    let n_outer = random.below(3) + 1;
    let n_reduced = if is_contraction { random.below(3) + 1 } else { random.below(3) };
    let extents: Vec<i64> = (0..n_outer + n_reduced).map(|_| random.below(5) + 1).collect();
    let (n_outer, n_axes) = (n_outer as usize, extents.len());
    let dtype = random.pick(&[DType::F32, DType::F32, DType::F64]);
    let mut maker = Maker { random, exprs: Exprs::new(), extents: extents.clone(), buffers: Vec::new() };
    let mut reductions = Vec::new();
    let stored = if n_reduced > 0 {
        let value = if is_contraction { maker.product(dtype, n_axes) } else { maker.value(dtype, n_axes, 3) };
        let op = if is_contraction {
            ReduceOp::Sum
        } else {
            maker.random.pick(&[ReduceOp::Sum, ReduceOp::Max, ReduceOp::Min, ReduceOp::ArgMax])
        };
        let payload = (op == ReduceOp::ArgMax).then(|| maker.exprs.add(Expr::Axis(n_axes - 1)));
        reductions.push(Reduction { op, value, payload });
        let acc = maker.exprs.add(Expr::Acc(0, if payload.is_some() { DType::I64 } else { dtype }));
        let acc = maker.exprs.cast(dtype, acc);
        let bias = maker.value(dtype, n_outer, 1);
        maker.exprs.binary(BinaryOp::Add, acc, bias)
    } else {
        maker.value(dtype, n_outer, 3)
    };
    let index = (0..n_outer).map(|axis| maker.exprs.add(Expr::Axis(axis))).collect();
    let guard = (maker.random.below(4) == 0).then(|| {
        let (axis, one) = (maker.exprs.add(Expr::Axis(0)), maker.exprs.int(1));
        maker.exprs.binary(BinaryOp::Ge, axis, one)
    });
    let buffer = maker.buffer(dtype, extents[..n_outer].to_vec());
    let axis = |(at, &extent): (usize, &i64)| {
        let kind = if at < n_outer { AxisKind::Parallel } else { AxisKind::Reduce };
        Axis { extent: Dim::Const(extent), kind }
    };
    let kernel = Kernel {
        name: "random".into(),
        axes: extents.iter().enumerate().map(axis).collect(),
        exprs: maker.exprs.clone(),
        reductions,
        stores: vec![Store { buffer, index, value: stored, guard, mode: StoreMode::Set }],
        ..maker.kernel_of_exprs()
    };
    (kernel, extents, maker.buffers)
}

type Runner<'a> = dyn FnMut(&Kernel, &[i64], &mut World<'_, '_>) -> Result<bool, String> + 'a;

/// The stored buffer after a run; `None` where the runner does not take the kernel.
fn result(kernel: &Kernel, extents: &[i64], buffers: &[Contents], run: &mut Runner<'_>) -> Option<Vec<f64>> {
    let place = |(storage, c): (usize, &Contents)| {
        (BufferId::new(storage), Place { storage, offset: 0, dtype: c.dtype, dims: c.dims.clone() })
    };
    let places = buffers.iter().enumerate().map(place).collect();
    let mut memory: Vec<Cow<'_, [u8]>> = buffers.iter().map(|c| Cow::Owned(c.bytes())).collect();
    let mut world = World { places, vars: HashMap::new(), memory: &mut memory };
    let is_done = run(kernel, extents, &mut world).expect("it runs");
    is_done.then(|| buffers[buffers.len() - 1].values(&memory[buffers.len() - 1]))
}

#[test]
fn random_kernels_agree_with_single_points() {
    let mut random = Random(1);
    let mut n_contractions = 0;
    for round in 0..600 {
        let (kernel, extents, buffers) = random_kernel(&mut random, round % 2 == 0);
        let mut naive = buffers.clone();
        run_naively(&kernel, &extents, &mut naive);
        let want: Vec<f64> = naive[naive.len() - 1].elements.iter().map(|x| x.f64()).collect();
        let near = |got: &[f64]| {
            let is_near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-5 * (1.0 + b.abs()) || a.is_nan() && b.is_nan();
            got.iter().zip(&want).all(is_near)
        };
        let general = result(&kernel, &extents, &buffers, &mut |k, e, w| kernel::run_general(k, e, w).map(|()| true));
        let general = general.expect("every kernel runs");
        assert!(near(&general), "round {round}: {general:?} is not {want:?}\n{kernel:?}\n{extents:?}");
        if let Some(fast) = result(&kernel, &extents, &buffers, &mut super::contraction::run) {
            n_contractions += 1;
            assert!(near(&fast), "round {round}: {fast:?} is not {want:?}\n{kernel:?}\n{extents:?}");
        }
    }
    assert!(n_contractions > 100, "only {n_contractions} kernels were contractions");
}

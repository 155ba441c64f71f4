//! Convolutions in every form, through machine code and through the evaluator.

use crate::exec::Executable;
use crate::index::Id as _;
use crate::loops::{
    Arg, Axis, AxisKind, BinaryOp, Buffer, BufferClass, BufferId, Const, Dim, Expr, ExprId, Exprs, Function,
    FunctionId, Guard, Input, InputKind, Kernel, Layout, Method, OutputTree, Program, ReduceOp, Reduction, Stmt, Store,
    StoreMode, Variant, Weight,
};
use crate::types::{DType, TensorData, Type};
use aot_runtime::{Tensor, Value};
use std::sync::Arc;

/// A convolution of square planes with ReLU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conv {
    batch: i64,
    pub(super) ic: i64,
    pub(super) oc: i64,
    h: i64,
    kernel: i64,
    stride: i64,
    pad: i64,
    dilation: i64,
    groups: i64,
}

pub(super) const PLAIN: Conv =
    Conv { batch: 1, ic: 16, oc: 16, h: 9, kernel: 3, stride: 1, pad: 1, dilation: 1, groups: 1 };

impl Conv {
    fn out(self) -> i64 {
        (self.h + 2 * self.pad - self.dilation * (self.kernel - 1) - 1) / self.stride + 1
    }
}

pub(super) fn values(sizes: &[i64], seed: i64) -> Vec<f32> {
    let n: i64 = sizes.iter().product();
    (0..n).map(|i| ((i * 7919 + seed * 104_729) % 1009 - 504) as f32 / 504.0).collect()
}

pub(super) fn buffer(function: &mut Function, class: BufferClass, sizes: &[i64]) -> BufferId {
    let dims = sizes.iter().map(|&n| Dim::Const(n)).collect();
    function.buffers.push(Buffer { name: String::new(), dtype: DType::F32, dims, class, layout: Layout::RowMajor })
}

pub(super) fn load(e: &mut Exprs, buffer: BufferId, index: &[ExprId]) -> ExprId {
    e.add(Expr::Load { buffer, dtype: DType::F32, index: index.into(), guard: None })
}

/// Appends a convolution of `x`, plus `residual` where given.
fn push(program: &mut Program, f: &mut Function, x: BufferId, c: Conv, residual: Option<BufferId>) -> BufferId {
    let per_group = [c.oc / c.groups, c.ic / c.groups];
    let weight_sizes = [c.oc, per_group[1], c.kernel, c.kernel];
    let data = values(&weight_sizes, 5 + i64::try_from(program.weights.len()).unwrap());
    let bytes = data.iter().flat_map(|x| x.to_ne_bytes()).collect();
    let data = Arc::new(TensorData::from_bytes(DType::F32, &weight_sizes, bytes).unwrap());
    let weight = program.weights.push(Weight { name: "w".into(), data });
    let weight = buffer(f, BufferClass::Weight(weight), &weight_sizes);
    let extents = [c.batch, c.oc, c.out(), c.out(), per_group[1], c.kernel, c.kernel];
    let out = buffer(f, BufferClass::Temp { offset: None }, &extents[..4]);
    let mut e = Exprs::new();
    let a: Vec<ExprId> = (0..7).map(|n| e.add(Expr::Axis(n))).collect();
    let [stride, pad, dilation, zero, bound] = [c.stride, -c.pad, c.dilation, 0, c.h].map(|n| e.int(n));
    let mut at = |o, k| {
        let (o, k) = (e.binary(BinaryOp::Mul, o, stride), e.binary(BinaryOp::Mul, k, dilation));
        let sum = e.binary(BinaryOp::Add, o, k);
        e.binary(BinaryOp::Add, sum, pad)
    };
    let (row, column) = (at(a[2], a[5]), at(a[3], a[6]));
    let mut cond = e.add(Expr::Const(Const::bool(true)));
    for i in [row, column] {
        for (op, b) in [(BinaryOp::Ge, zero), (BinaryOp::Lt, bound)] {
            let inside = e.binary(op, i, b);
            cond = e.binary(BinaryOp::And, cond, inside);
        }
    }
    let other = e.add(Expr::Const(Const::float(DType::F32, 0.0)));
    let [per_oc, per_ic] = per_group.map(|n| e.int(n));
    let channel = if c.groups == 1 {
        a[4]
    } else {
        let group = e.binary(BinaryOp::FloorDiv, a[1], per_oc);
        let first = e.binary(BinaryOp::Mul, group, per_ic);
        e.binary(BinaryOp::Add, first, a[4])
    };
    let index = [a[0], channel, row, column].into();
    let guard = (c.pad > 0).then_some(Guard { cond, other });
    let data = e.add(Expr::Load { buffer: x, dtype: DType::F32, index, guard });
    let w = load(&mut e, weight, &[a[1], a[4], a[5], a[6]]);
    let value = e.binary(BinaryOp::Mul, data, w);
    let mut result = e.add(Expr::Acc(0, DType::F32));
    if let Some(residual) = residual {
        let residual = load(&mut e, residual, &a[..4]);
        result = e.binary(BinaryOp::Add, result, residual);
    }
    let result = e.binary(BinaryOp::Max, result, other);
    let axes = extents.iter().enumerate().map(|(n, &extent)| Axis {
        extent: Dim::Const(extent),
        kind: if n < 4 { AxisKind::Parallel } else { AxisKind::Reduce },
    });
    let kernel = Kernel {
        name: "conv".into(),
        place: "".into(),
        axes: axes.collect(),
        reductions: vec![Reduction { op: ReduceOp::Sum, value, payload: None }],
        stores: vec![Store { buffer: out, index: a[..4].into(), value: result, guard: None, mode: StoreMode::Set }],
        exprs: e,
        is_ordered: false,
    };
    f.body.0.push(Stmt::Kernel(Box::new(kernel)));
    out
}

/// A convolution, then one of its result with that result added, then a third: blocks inside, plain planes at the ends.
pub(super) fn program(c: Conv, n: usize) -> (Program, Vec<Value>) {
    let mut program = Program::default();
    let mut f = Function { name: "forward".into(), params: vec![OutputTree::Tensor], ..Function::default() };
    f.results = vec![OutputTree::Tensor];
    let sizes = [c.batch, c.ic, c.h, c.h];
    let x = buffer(&mut f, BufferClass::Input(0), &sizes);
    f.inputs.push(Input { name: "x".into(), kind: InputKind::Tensor { buffer: x, is_mutated: false } });
    let mut out = push(&mut program, &mut f, x, c, None);
    let next = Conv { ic: c.oc, h: c.out(), ..c };
    let is_same = next.out() == next.h;
    for _ in 1..n {
        out = push(&mut program, &mut f, out, next, is_same.then_some(out));
    }
    f.body.0.push(Stmt::Return(0, vec![Arg::Buffer(out)]));
    program.functions.push(f);
    let variants = vec![Variant { state_tag: None, function: FunctionId::new(0) }];
    program.methods.push(Method { name: "forward".into(), params: vec![("x".into(), Type::tensor())], variants });
    (program, vec![Value::Tensor(Tensor::from_f32(&sizes, &values(&sizes, 1)).unwrap())])
}

/// The elements of all results, one after another.
fn run(model: &Executable, args: &[Value]) -> Vec<f32> {
    let results = match model.call("forward", args).unwrap() {
        Value::Tuple(items) => items,
        single => vec![single],
    };
    let bytes: Vec<u8> = results.iter().flat_map(|value| value.as_tensor().unwrap().to_bytes()).collect();
    bytes.chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Machine code of both kinds gives what the evaluator gives.
pub(super) fn check_program(program: &Program, args: &[Value], what: &str) {
    use crate::driver::{Backend, Timings, load};
    crate::loops::verify(program).unwrap();
    let expected = run(&load(program.clone(), Backend::Reference, &mut Timings::default()).unwrap(), args);
    let largest = expected.iter().fold(1f32, |m, x| m.max(x.abs()));
    for backend in [Backend::Llvm, Backend::Cranelift] {
        let got = run(&load(program.clone(), backend, &mut Timings::default()).unwrap(), args);
        assert_eq!(got.len(), expected.len());
        for (i, (g, w)) in got.iter().zip(&expected).enumerate() {
            assert!((g - w).abs() <= 2e-5 * largest, "{what} by {backend:?}: element {i} is {g}, not {w}");
        }
    }
}

fn check(c: Conv, n: usize) {
    let (program, args) = program(c, n);
    check_program(&program, &args, &format!("{c:?} x{n}"));
}

#[test]
fn winograd_with_whole_and_cut_tiles() {
    check(PLAIN, 3);
    check(Conv { batch: 2, ic: 32, oc: 16, h: 13, ..PLAIN }, 1);
    check(Conv { h: 16, pad: 0, ..PLAIN }, 2);
    check(Conv { ic: 16, oc: 48, h: 11, pad: 2, ..PLAIN }, 1);
}

#[test]
fn winograd_in_strips() {
    check(Conv { ic: 16, oc: 16, h: 101, ..PLAIN }, 2);
}

#[test]
fn strides_dilation_groups_and_odd_channels() {
    check(Conv { stride: 2, h: 14, ..PLAIN }, 2);
    check(Conv { dilation: 2, pad: 2, ..PLAIN }, 2);
    check(Conv { ic: 3, oc: 20, h: 15, kernel: 7, stride: 2, pad: 3, ..PLAIN }, 1);
    check(Conv { ic: 5, oc: 7, ..PLAIN }, 2);
    check(Conv { ic: 32, oc: 32, groups: 4, ..PLAIN }, 2);
    check(Conv { ic: 24, oc: 24, groups: 24, kernel: 5, pad: 2, ..PLAIN }, 2);
    check(Conv { ic: 16, oc: 16, groups: 16, stride: 2, h: 21, ..PLAIN }, 2);
    check(Conv { ic: 33, oc: 17, kernel: 1, pad: 0, ..PLAIN }, 1);
}

#[test]
fn depthwise_convolutions_lie_with_channels_last() {
    let wide = Conv { ic: 24, oc: 24, groups: 24, h: 17, ..PLAIN };
    for c in [
        wide,
        Conv { batch: 2, ic: 20, oc: 20, groups: 20, kernel: 5, pad: 2, stride: 2, h: 31, ..PLAIN },
        Conv { ic: 40, oc: 40, groups: 40, kernel: 7, pad: 3, h: 14, ..PLAIN },
        Conv { kernel: 3, dilation: 2, pad: 2, ..wide },
    ] {
        check(c, if c.stride == 1 { 3 } else { 2 });
    }
    let target = crate::driver::schedule_target(&crate::emit::target::Target::named("x86-64-v3").unwrap());
    let (mut program, _) = program(wide, 3);
    super::schedule(&mut program, &target, &super::Options::default()).unwrap();
    let function = &program.functions[FunctionId::new(0)];
    let last = Layout::Blocked { dim: 1, block: 24 };
    let n_last = function.buffers.iter().filter(|b| b.layout == last).count();
    // The two results in between and the padded copies of them.
    assert!(n_last >= 4, "{n_last} buffers have channels last");
}

/// A transposed convolution of square planes: `[oc]` sums over input points and taps that meet at an output point.
fn transposed(ic: i64, oc: i64, h: i64, kernel: i64, stride: [i64; 2], pad: i64) -> (Program, Vec<Value>) {
    let mut program = Program::default();
    let mut f = Function { name: "forward".into(), params: vec![OutputTree::Tensor], ..Function::default() };
    f.results = vec![OutputTree::Tensor];
    let sizes = [1, ic, h, h];
    let x = buffer(&mut f, BufferClass::Input(0), &sizes);
    f.inputs.push(Input { name: "x".into(), kind: InputKind::Tensor { buffer: x, is_mutated: false } });
    let weight_sizes = [ic, oc, kernel, kernel];
    let bytes = values(&weight_sizes, 5).iter().flat_map(|x| x.to_ne_bytes()).collect();
    let data = Arc::new(TensorData::from_bytes(DType::F32, &weight_sizes, bytes).unwrap());
    let weight = program.weights.push(Weight { name: "w".into(), data });
    let weight = buffer(&mut f, BufferClass::Weight(weight), &weight_sizes);
    let out_h = stride.map(|s| (h - 1) * s - 2 * pad + kernel);
    let extents = [1, oc, out_h[0], out_h[1], ic, kernel, kernel];
    let out = buffer(&mut f, BufferClass::Temp { offset: None }, &extents[..4]);
    let mut e = Exprs::new();
    let a: Vec<ExprId> = (0..7).map(|n| e.add(Expr::Axis(n))).collect();
    let (pad, zero, bound) = (e.int(pad), e.int(0), e.int(h));
    let mut cond = e.add(Expr::Const(Const::bool(true)));
    let mut index = vec![a[0], a[4]];
    for d in 0..2 {
        let by = e.int(stride[d]);
        let shifted = e.binary(BinaryOp::Add, a[2 + d], pad);
        let point = e.binary(BinaryOp::Sub, shifted, a[5 + d]);
        let source = e.binary(BinaryOp::FloorDiv, point, by);
        for (op, b) in [(BinaryOp::Ge, zero), (BinaryOp::Lt, bound)] {
            let inside = e.binary(op, source, b);
            cond = e.binary(BinaryOp::And, cond, inside);
        }
        if stride[d] > 1 {
            let left = e.binary(BinaryOp::FloorMod, point, by);
            let divides = e.binary(BinaryOp::Eq, left, zero);
            cond = e.binary(BinaryOp::And, cond, divides);
        }
        index.push(source);
    }
    let other = e.add(Expr::Const(Const::float(DType::F32, 0.0)));
    let guard = Some(Guard { cond, other });
    let data = e.add(Expr::Load { buffer: x, dtype: DType::F32, index: index.into(), guard });
    let w = load(&mut e, weight, &[a[4], a[1], a[5], a[6]]);
    let value = e.binary(BinaryOp::Mul, data, w);
    let acc = e.add(Expr::Acc(0, DType::F32));
    let axes = extents.iter().enumerate().map(|(n, &extent)| Axis {
        extent: Dim::Const(extent),
        kind: if n < 4 { AxisKind::Parallel } else { AxisKind::Reduce },
    });
    let index = a[..4].into();
    f.body.0.push(Stmt::Kernel(Box::new(Kernel {
        name: "transposed".into(),
        place: "".into(),
        axes: axes.collect(),
        reductions: vec![Reduction { op: ReduceOp::Sum, value, payload: None }],
        stores: vec![Store { buffer: out, index, value: acc, guard: None, mode: StoreMode::Set }],
        exprs: e,
        is_ordered: false,
    })));
    f.body.0.push(Stmt::Return(0, vec![Arg::Buffer(out)]));
    program.functions.push(f);
    let variants = vec![Variant { state_tag: None, function: FunctionId::new(0) }];
    program.methods.push(Method { name: "forward".into(), params: vec![("x".into(), Type::tensor())], variants });
    (program, vec![Value::Tensor(Tensor::from_f32(&sizes, &values(&sizes, 1)).unwrap())])
}

#[test]
fn transposed_convolutions() {
    use crate::driver::{Backend, Timings, load};
    for (kernel, stride, pad) in
        [(2, [2, 2], 0), (3, [2, 2], 1), (4, [2, 2], 1), (3, [1, 2], 1), (5, [3, 2], 2), (1, [2, 2], 0)]
    {
        let (program, args) = transposed(16, 20, 5, kernel, stride, pad);
        let expected = run(&load(program.clone(), Backend::Reference, &mut Timings::default()).unwrap(), &args);
        let got = run(&load(program, Backend::Llvm, &mut Timings::default()).unwrap(), &args);
        assert_eq!(got.len(), expected.len());
        for (i, (g, w)) in got.iter().zip(&expected).enumerate() {
            assert!((g - w).abs() <= 2e-5 * w.abs().max(1.0), "{kernel} {stride:?} {pad}: element {i} is {g}, not {w}");
        }
    }
}

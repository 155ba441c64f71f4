//! Kernels with results worked out by hand, and blocks compared with points taken one at a time.

use super::{Arg, run, run_pure};
use crate::loops::{
    Arg as Leaf, Axis, AxisKind, BinaryOp, Block, Buffer, BufferClass, BufferId, Const, Dim, Expr, ExprId, Exprs,
    Function, FunctionId, Guard, Input, InputKind, Kernel, Layout, OutputTree, Program, ReduceOp, Reduction, Stmt,
    Store, StoreMode, UnaryOp, verify,
};
use crate::types::{DType, TensorData};

/// A function under construction whose inputs are tensors of constant size.
#[derive(Default)]
struct Maker {
    function: Function,
    args: Vec<Arg>,
}

impl Maker {
    fn buffer(&mut self, dtype: DType, dims: &[i64], class: BufferClass) -> BufferId {
        let dims = dims.iter().map(|&d| Dim::Const(d)).collect();
        self.function.buffers.push(Buffer { name: String::new(), dtype, dims, class, layout: Layout::RowMajor })
    }

    fn input(&mut self, dtype: DType, dims: &[i64], bytes: Vec<u8>) -> BufferId {
        let number = self.function.inputs.len();
        let buffer = self.buffer(dtype, dims, BufferClass::Input(number));
        let kind = InputKind::Tensor { buffer, is_mutated: false };
        self.function.inputs.push(Input { name: format!("x{number}"), kind });
        self.args.push(Arg::Tensor(TensorData::from_bytes(dtype, dims, bytes).expect("sizes fit")));
        buffer
    }

    fn f32s(&mut self, dims: &[i64], values: &[f32]) -> BufferId {
        self.input(DType::F32, dims, values.iter().flat_map(|x| x.to_ne_bytes()).collect())
    }

    fn i64s(&mut self, dims: &[i64], values: &[i64]) -> BufferId {
        self.input(DType::I64, dims, values.iter().flat_map(|x| x.to_ne_bytes()).collect())
    }

    fn temp(&mut self, dtype: DType, dims: &[i64]) -> BufferId {
        self.buffer(dtype, dims, BufferClass::Temp { offset: None })
    }

    fn kernel(&mut self, kernel: Kernel) {
        self.function.body.0.push(Stmt::Kernel(Box::new(kernel)));
    }

    fn result(mut self, buffer: BufferId) -> Result<TensorData, String> {
        self.function.results.push(OutputTree::Tensor);
        self.function.body.0.push(Stmt::Return(0, vec![Leaf::Buffer(buffer)]));
        let mut program = Program::default();
        program.functions.push(self.function);
        verify(&program).expect("the program keeps the rules");
        let (_, leaves) = run(&program, FunctionId(0), &self.args).map_err(|e| e.message)?;
        match &leaves[0] {
            Arg::Tensor(tensor) => Ok(tensor.clone()),
            other => Err(format!("{other:?}")),
        }
    }

    fn f32_result(self, buffer: BufferId) -> Vec<f32> {
        let tensor = self.result(buffer).expect("it runs");
        tensor.contiguous_bytes().chunks_exact(4).map(|b| f32::from_ne_bytes(b.try_into().expect("4"))).collect()
    }

    fn i64_result(self, buffer: BufferId) -> Vec<i64> {
        let tensor = self.result(buffer).expect("it runs");
        tensor.contiguous_bytes().chunks_exact(8).map(|b| i64::from_ne_bytes(b.try_into().expect("8"))).collect()
    }
}

fn kernel(axes: &[(i64, AxisKind)]) -> Kernel {
    let axis = |&(extent, kind)| Axis { extent: Dim::Const(extent), kind };
    Kernel {
        name: "test".into(),
        place: "".into(),
        axes: axes.iter().map(axis).collect(),
        exprs: Exprs::new(),
        reductions: Vec::new(),
        stores: Vec::new(),
        is_ordered: false,
    }
}

use AxisKind::{Parallel, Reduce, Scan};

impl Kernel {
    fn axis(&mut self, axis: usize) -> ExprId {
        self.exprs.add(Expr::Axis(axis))
    }

    fn load(&mut self, buffer: BufferId, dtype: DType, index: &[ExprId]) -> ExprId {
        self.exprs.add(Expr::Load { buffer, dtype, index: index.into(), guard: None })
    }

    fn reduce(&mut self, op: ReduceOp, value: ExprId, payload: Option<ExprId>) -> ExprId {
        let dtype = if payload.is_some() { DType::I64 } else { self.exprs.dtype(value) };
        self.reductions.push(Reduction { op, value, payload });
        self.exprs.add(Expr::Acc(self.reductions.len() - 1, dtype))
    }

    fn store(&mut self, buffer: BufferId, index: &[ExprId], value: ExprId, mode: StoreMode) {
        self.stores.push(Store { buffer, index: index.into(), value, guard: None, mode });
    }
}

#[test]
fn matmul() {
    let mut m = Maker::default();
    let a = m.f32s(&[2, 3], &[1., 2., 3., 4., 5., 6.]);
    let b = m.f32s(&[3, 2], &[1., 0., 0., 1., 2., 2.]);
    let out = m.temp(DType::F32, &[2, 2]);
    let mut k = kernel(&[(2, Parallel), (2, Parallel), (3, Reduce)]);
    let (i, j, l) = (k.axis(0), k.axis(1), k.axis(2));
    let (x, y) = (k.load(a, DType::F32, &[i, l]), k.load(b, DType::F32, &[l, j]));
    let product = k.exprs.binary(BinaryOp::Mul, x, y);
    let sum = k.reduce(ReduceOp::Sum, product, None);
    k.store(out, &[i, j], sum, StoreMode::Set);
    m.kernel(k);
    assert_eq!(m.f32_result(out), [7., 8., 16., 17.]);
}

#[test]
fn padded_convolution_does_not_touch_what_is_outside() {
    let mut m = Maker::default();
    let x = m.f32s(&[4], &[1., 2., 3., 4.]);
    let out = m.temp(DType::F32, &[4]);
    let mut k = kernel(&[(4, Parallel), (3, Reduce)]);
    let (i, r, one) = (k.axis(0), k.axis(1), k.exprs.int(1));
    let (low, high) = (k.exprs.int(0), k.exprs.int(4));
    let sum = k.exprs.binary(BinaryOp::Add, i, r);
    let at = k.exprs.binary(BinaryOp::Sub, sum, one);
    let (above, below) = (k.exprs.binary(BinaryOp::Ge, at, low), k.exprs.binary(BinaryOp::Lt, at, high));
    let cond = k.exprs.binary(BinaryOp::And, above, below);
    let other = k.exprs.add(Expr::Const(Const::float(DType::F32, 0.0)));
    let guard = Some(Guard { cond, other });
    let load = k.exprs.add(Expr::Load { buffer: x, dtype: DType::F32, index: [at].into(), guard });
    let acc = k.reduce(ReduceOp::Sum, load, None);
    k.store(out, &[i], acc, StoreMode::Set);
    m.kernel(k);
    assert_eq!(m.f32_result(out), [3., 6., 9., 7.]);
}

#[test]
fn an_index_outside_is_an_internal_error() {
    let mut m = Maker::default();
    let x = m.f32s(&[4], &[1., 2., 3., 4.]);
    let out = m.temp(DType::F32, &[5]);
    let mut k = kernel(&[(5, Parallel)]);
    let i = k.axis(0);
    let load = k.load(x, DType::F32, &[i]);
    k.store(out, &[i], load, StoreMode::Set);
    m.kernel(k);
    let error = m.result(out).expect_err("the load leaves the buffer");
    assert_eq!(error, "kernel test: load of b0: index 4 is outside dimension 0 of size 4 at point 4 of the block");
}

#[test]
fn long_sums_cross_blocks() {
    for n in [0, 1, 4095, 4096, 4097, 20_000] {
        let mut m = Maker::default();
        let out = m.temp(DType::I64, &[3]);
        let mut k = kernel(&[(3, Parallel), (n, Reduce)]);
        let (i, r) = (k.axis(0), k.axis(1));
        let value = k.exprs.binary(BinaryOp::Add, i, r);
        let acc = k.reduce(ReduceOp::Sum, value, None);
        k.store(out, &[i], acc, StoreMode::Set);
        m.kernel(k);
        let base = n * (n - 1) / 2;
        assert_eq!(m.i64_result(out), [base, base + n, base + 2 * n]);
    }
}

#[test]
fn scans_carry_along_their_axis() {
    let mut m = Maker::default();
    let x = m.f32s(&[2, 3], &[1., 2., 3., 4., 5., 6.]);
    let out = m.temp(DType::F32, &[2, 3]);
    let mut k = kernel(&[(2, Parallel), (3, Scan)]);
    let (i, s) = (k.axis(0), k.axis(1));
    let load = k.load(x, DType::F32, &[i, s]);
    let acc = k.reduce(ReduceOp::Sum, load, None);
    k.store(out, &[i, s], acc, StoreMode::Set);
    m.kernel(k);
    assert_eq!(m.f32_result(out), [1., 3., 6., 4., 9., 15.]);
}

#[test]
fn scans_see_what_they_stored() {
    // Fibonacci: out[s] = s < 2 ? 1 : out[s - 1] + out[s - 2].
    let mut m = Maker::default();
    let out = m.temp(DType::I64, &[8]);
    let mut k = kernel(&[(8, Scan)]);
    let s = k.axis(0);
    let (one, two) = (k.exprs.int(1), k.exprs.int(2));
    let cond = k.exprs.binary(BinaryOp::Ge, s, two);
    let mut back = |by| {
        let at = k.exprs.binary(BinaryOp::Sub, s, by);
        let guard = Some(Guard { cond, other: one });
        k.exprs.add(Expr::Load { buffer: out, dtype: DType::I64, index: [at].into(), guard })
    };
    let (p, q) = (back(one), back(two));
    let sum = k.exprs.binary(BinaryOp::Add, p, q);
    let value = k.exprs.add(Expr::Select(cond, sum, one));
    k.store(out, &[s], value, StoreMode::Set);
    m.kernel(k);
    assert_eq!(m.i64_result(out), [1, 1, 2, 3, 5, 8, 13, 21]);
}

#[test]
fn ordered_scatters_combine() {
    let mut m = Maker::default();
    let index = m.i64s(&[5], &[0, 2, 0, 1, 0]);
    let out = m.temp(DType::I64, &[3]);
    let mut clear = kernel(&[(3, Parallel)]);
    let (i, zero) = (clear.axis(0), clear.exprs.int(0));
    clear.store(out, &[i], zero, StoreMode::Set);
    m.kernel(clear);
    let mut k = kernel(&[(5, Parallel)]);
    k.is_ordered = true;
    let i = k.axis(0);
    let at = k.load(index, DType::I64, &[i]);
    let one = k.exprs.int(1);
    let value = k.exprs.binary(BinaryOp::Add, i, one);
    k.store(out, &[at], value, StoreMode::Combine(ReduceOp::Sum));
    m.kernel(k);
    assert_eq!(m.i64_result(out), [9, 4, 2]);
}

#[test]
fn arg_reductions_take_the_first_and_nan_wins() {
    let mut m = Maker::default();
    let nan = f32::NAN;
    let x = m.f32s(&[3, 3], &[1., 5., 5., 2., nan, nan, -1., -1., -2.]);
    let out = m.temp(DType::I64, &[3]);
    let mut k = kernel(&[(3, Parallel), (3, Reduce)]);
    let (i, r) = (k.axis(0), k.axis(1));
    let load = k.load(x, DType::F32, &[i, r]);
    let acc = k.reduce(ReduceOp::ArgMax, load, Some(r));
    k.store(out, &[i], acc, StoreMode::Set);
    m.kernel(k);
    assert_eq!(m.i64_result(out), [1, 1, 0]);
}

#[test]
fn conversions_follow_x86() {
    let mut m = Maker::default();
    let x = m.f32s(&[4], &[300.7, -1.5, 3e9, f32::NAN]);
    let out = m.temp(DType::I64, &[4, 2]);
    let mut k = kernel(&[(4, Parallel)]);
    let i = k.axis(0);
    let load = k.load(x, DType::F32, &[i]);
    for (column, dtype) in [(0, DType::U8), (1, DType::I32)] {
        let narrow = k.exprs.cast(dtype, load);
        let value = k.exprs.cast(DType::I64, narrow);
        let at = k.exprs.int(column);
        k.store(out, &[i, at], value, StoreMode::Set);
    }
    m.kernel(k);
    let least = i64::from(i32::MIN);
    assert_eq!(m.i64_result(out), [44, 300, 255, -1, 0, least, 0, least]);
}

#[test]
fn halves_round_to_even() {
    use super::math::{f16_to_f32, f32_to_bf16, f32_to_f16};
    assert_eq!([1.0, 65504.0, 65520.0, 6e-8, 0.0, -2.5].map(f32_to_f16), [0x3c00, 0x7bff, 0x7c00, 1, 0, 0xc100]);
    assert_eq!(f32_to_f16(2049.0), f32_to_f16(2048.0));
    assert_eq!(f32_to_f16(2051.0), f32_to_f16(2052.0));
    assert_eq!([1.0, 1.003_906_25, 1.011_718_75].map(f32_to_bf16), [0x3f80, 0x3f80, 0x3f82]);
    for bits in 0..=u16::MAX {
        let value = f16_to_f32(bits);
        assert!(value.is_nan() || f32_to_f16(value) == bits, "{bits:#x}");
    }
}

#[test]
fn special_functions() {
    let near = |op, x: f64, want: f64| {
        let f = super::math::unary_f64(op).expect("a float function");
        let (got, scale) = (f(x), want.abs().max(1e-300));
        assert!((got - want).abs() <= 1e-13 * scale, "{op:?} {x}: {got} is not {want}");
    };
    near(UnaryOp::Erf, 0.5, 0.520_499_877_813_046_5);
    near(UnaryOp::Erf, -2.5, -0.999_593_047_982_555);
    near(UnaryOp::Erfc, 3.0, 2.209_049_699_858_544e-5);
    near(UnaryOp::Erfinv, 0.5, 0.476_936_276_204_469_9);
    near(UnaryOp::Lgamma, 10.0, 12.801_827_480_081_47);
    near(UnaryOp::Lgamma, -0.5, 1.265_512_123_484_645_4);
    near(UnaryOp::Digamma, 1.0, -0.577_215_664_901_532_9);
    near(UnaryOp::Digamma, -0.5, 0.036_489_973_978_576_52);
}

/// Numbers for the random programs.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A random integer expression, evaluated once over a block and once with every point its own kernel.
#[test]
fn blocks_agree_with_single_points() {
    let mut random = Random(7);
    let (rows, columns) = (3, 7);
    for _ in 0..60 {
        let steps: Vec<(u64, u64, u64)> =
            (0..8).map(|_| (random.below(9), random.below(100), random.below(100))).collect();
        let build = |k: &mut Kernel, mut pool: Vec<ExprId>| {
            for &(op, a, b) in &steps {
                let pick = |n: u64| pool[usize::try_from(n).expect("small") % pool.len()];
                let op = [
                    BinaryOp::Add,
                    BinaryOp::Sub,
                    BinaryOp::Mul,
                    BinaryOp::Min,
                    BinaryOp::Max,
                    BinaryOp::Xor,
                    BinaryOp::And,
                    BinaryOp::Or,
                    BinaryOp::Shr,
                ][usize::try_from(op).expect("small")];
                let id = k.exprs.binary(op, pick(a), pick(b));
                pool.push(id);
            }
            pool[pool.len() - 1]
        };
        let mut whole = Maker::default();
        let out = whole.temp(DType::I64, &[rows, columns]);
        let mut k = kernel(&[(rows, Parallel), (columns, Parallel)]);
        let (i, j, c) = (k.axis(0), k.axis(1), k.exprs.int(5));
        let value = build(&mut k, vec![i, j, c]);
        k.store(out, &[i, j], value, StoreMode::Set);
        whole.kernel(k);
        let mut single = Maker::default();
        let out2 = single.temp(DType::I64, &[rows, columns]);
        for row in 0..rows {
            for column in 0..columns {
                let mut k = kernel(&[]);
                let (i, j, c) = (k.exprs.int(row), k.exprs.int(column), k.exprs.int(5));
                let value = build(&mut k, vec![i, j, c]);
                k.store(out2, &[i, j], value, StoreMode::Set);
                single.kernel(k);
            }
        }
        assert_eq!(whole.i64_result(out), single.i64_result(out2), "{steps:?}");
    }
}

#[test]
fn folding_takes_no_inputs() {
    let mut m = Maker::default();
    let out = m.temp(DType::I64, &[3]);
    let mut k = kernel(&[(3, Parallel)]);
    let i = k.axis(0);
    k.store(out, &[i], i, StoreMode::Set);
    m.kernel(k);
    m.function.results.push(OutputTree::Tensor);
    m.function.body = Block(m.function.body.0.into_iter().chain([Stmt::Return(0, vec![Leaf::Buffer(out)])]).collect());
    let mut program = Program::default();
    program.functions.push(m.function);
    let folded = run_pure(&program, FunctionId(0)).expect("it runs");
    assert_eq!((folded.len(), folded[0].sizes()), (1, &[3i64][..]));
}

/// What the verifier says of a map over three points built by `make`.
fn refusal(make: impl FnOnce(&mut Kernel, BufferId)) -> String {
    let mut m = Maker::default();
    let out = m.temp(DType::I64, &[3]);
    let mut k = kernel(&[(3, Parallel)]);
    make(&mut k, out);
    m.kernel(k);
    let mut program = Program::default();
    program.functions.push(m.function);
    verify(&program).expect_err("it breaks a rule")
}

#[test]
fn the_verifier_refuses() {
    let wrong_type = refusal(|k, out| {
        let (i, value) = (k.axis(0), k.exprs.add(Expr::Const(Const::bool(true))));
        k.store(out, &[i], value, StoreMode::Set);
    });
    assert_eq!(wrong_type, "function : kernel test: a Bool is stored to b0, of Long");
    let wrong_rank = refusal(|k, out| {
        let i = k.axis(0);
        k.store(out, &[i, i], i, StoreMode::Set);
    });
    assert_eq!(wrong_rank, "function : kernel test: 2 indices for b0 of rank 1");
    let overlapping = refusal(|k, out| {
        let (i, zero) = (k.axis(0), k.exprs.int(0));
        let value = k.load(out, DType::I64, &[zero]);
        k.store(out, &[i], value, StoreMode::Set);
    });
    assert!(overlapping.ends_with("loads b0 at another index than the store to b0"), "{overlapping}");
}

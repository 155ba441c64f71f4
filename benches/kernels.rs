//! Times single kernels (matrix products, convolutions) as compiled code runs them, against a plain computation of some of
//! their results. Usage: `kernels [filter]`; `KERNELS_THREADS` sets the number of threads (1 unless given).
#![allow(clippy::print_stdout, reason = "a report is what this program is for")]

use aot::driver::{self, Backend, Timings};
use aot::index::Id as _;
use aot::loops::{
    Arg, Axis, AxisKind, BinaryOp, Buffer, BufferClass, BufferId, Const, Dim, Expr, ExprId, Exprs, Function,
    FunctionId, Guard, Input, InputKind, Kernel, Layout, Method, OutputTree, Program, ReduceOp, Reduction, Stmt, Store,
    StoreMode, Variant, Weight,
};
use aot::types::{DType, TensorData, Type};
use aot_runtime::{Tensor, Value};
use std::sync::Arc;
use std::time::Instant;

/// A program under construction: one function, its arguments, plain copies of all data.
struct Bench {
    program: Program,
    function: Function,
    args: Vec<Value>,
    params: Vec<(String, Type)>,
    flops: f64,
}

fn values(n: i64, seed: i64) -> Vec<f32> {
    let value = |i: i64| (((i * 7919 + seed * 104_729) % 1009 + 1009) % 1009 - 504) as f32 / 504.0;
    (0..n).map(value).collect()
}

fn dims(sizes: &[i64]) -> Vec<Dim> {
    sizes.iter().map(|&n| Dim::Const(n)).collect()
}

impl Bench {
    fn new() -> Self {
        let function = Function { name: "forward".into(), results: vec![OutputTree::Tensor], ..Function::default() };
        Self { program: Program::default(), function, args: Vec::new(), params: Vec::new(), flops: 0.0 }
    }
    fn buffer(&mut self, class: BufferClass, sizes: &[i64]) -> BufferId {
        let (name, dims, layout) = (String::new(), dims(sizes), Layout::RowMajor);
        self.function.buffers.push(Buffer { name, dtype: DType::F32, dims, class, layout })
    }
    fn temp(&mut self, sizes: &[i64]) -> BufferId {
        self.buffer(BufferClass::Temp { offset: None }, sizes)
    }
    fn input(&mut self, sizes: &[i64]) -> (BufferId, Vec<f32>) {
        let number = self.args.len();
        let buffer = self.buffer(BufferClass::Input(number), sizes);
        let data = values(sizes.iter().product(), 3 + number as i64);
        self.args.push(Value::Tensor(Tensor::from_f32(sizes, &data).expect("sizes fit")));
        self.params.push((format!("x{number}"), Type::tensor()));
        self.function.params.push(OutputTree::Tensor);
        let kind = InputKind::Tensor { buffer, is_mutated: false };
        self.function.inputs.push(Input { name: format!("x{number}"), kind });
        (buffer, data)
    }
    fn weight(&mut self, sizes: &[i64]) -> (BufferId, Vec<f32>) {
        let data = values(sizes.iter().product(), 11 + self.program.weights.len() as i64);
        let bytes = data.iter().flat_map(|x| x.to_ne_bytes()).collect();
        let tensor = TensorData::from_bytes(DType::F32, sizes, bytes).expect("sizes fit");
        let weight = self.program.weights.push(Weight { name: "w".into(), data: Arc::new(tensor) });
        (self.buffer(BufferClass::Weight(weight), sizes), data)
    }
    fn push(&mut self, kernel: Kernel) {
        self.function.body.0.push(Stmt::Kernel(Box::new(kernel)));
    }

    /// A contraction from axes, loads and the store's index; `epilogue` makes the stored value.
    #[allow(clippy::type_complexity, reason = "what is passed is written where it is made")]
    fn contraction(
        &mut self,
        parallel: &[i64],
        reduced: &[i64],
        out: BufferId,
        out_index: &[usize],
        make: &mut dyn FnMut(&mut Exprs, &[ExprId]) -> (ExprId, ExprId),
        epilogue: &mut dyn FnMut(&mut Exprs, &[ExprId], ExprId) -> ExprId,
    ) {
        let mut exprs = Exprs::new();
        let n = parallel.len() + reduced.len();
        let axes: Vec<ExprId> = (0..n).map(|a| exprs.add(Expr::Axis(a))).collect();
        let (a, b) = make(&mut exprs, &axes);
        let value = exprs.binary(BinaryOp::Mul, a, b);
        let acc = exprs.add(Expr::Acc(0, DType::F32));
        let stored = epilogue(&mut exprs, &axes, acc);
        let axis = |kind| move |&n: &i64| Axis { extent: Dim::Const(n), kind };
        let kernel = Kernel {
            name: "k".into(),
            place: "".into(),
            axes: parallel
                .iter()
                .map(axis(AxisKind::Parallel))
                .chain(reduced.iter().map(axis(AxisKind::Reduce)))
                .collect(),
            stores: vec![Store {
                buffer: out,
                index: out_index.iter().map(|&a| axes[a]).collect(),
                value: stored,
                guard: None,
                mode: StoreMode::Set,
            }],
            exprs,
            reductions: vec![Reduction { op: ReduceOp::Sum, value, payload: None }],
            is_ordered: false,
        };
        let points: i64 = parallel.iter().chain(reduced).product();
        self.flops += 2.0 * points as f64;
        self.push(kernel);
    }

    /// Times the function, its result being `out`; `expected` gives single elements.
    fn run(mut self, what: &str, out: BufferId, expected: Option<&dyn Fn(usize) -> f64>) {
        self.function.body.0.push(Stmt::Return(0, vec![Arg::Buffer(out)]));
        self.program.functions.push(self.function);
        let variants = vec![Variant { state_tag: None, function: FunctionId::new(0) }];
        self.program.methods.push(Method { name: "forward".into(), params: self.params, variants });
        let backend = if std::env::var("KERNELS_CRANELIFT").is_ok() { Backend::Cranelift } else { Backend::Llvm };
        let model = driver::load(self.program, backend, &mut Timings::default());
        let model = model.unwrap_or_else(|e| panic!("{what}: {e:?}"));
        let threads = std::env::var("KERNELS_THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
        model.set_threads(threads);
        let mut instance = model.instance().expect("memory");
        let mut times = Vec::new();
        let begin = Instant::now();
        let mut result = None;
        while times.len() < 5 || begin.elapsed().as_millis() < 300 {
            let start = Instant::now();
            let value = instance.call("forward", &self.args).expect("runs");
            times.push(start.elapsed().as_secs_f64());
            result = Some(value);
        }
        times.sort_by(f64::total_cmp);
        let (best, median) = (times[0], times[times.len() / 2]);
        let gflops = |t: f64| self.flops / t / 1e9;
        let mut worst = 0.0f64;
        if let (Some(expected), Some(Value::Tensor(result))) = (expected, result) {
            let bytes = result.to_bytes();
            let got: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect();
            for i in 0..got.len().min(400) {
                let at = (i * 7877 + i * i) % got.len();
                let want = expected(at);
                worst = worst.max((f64::from(got[at]) - want).abs() / want.abs().max(1.0));
            }
        }
        let mark = if worst > 2e-4 { "  WRONG" } else { "" };
        println!(
            "{what:44} {:9.4} ms  {:7.1} GFLOP/s ({:7.1})  err {worst:.1e}{mark}",
            best * 1e3,
            gflops(best),
            gflops(median)
        );
    }
}

fn keep(_: &mut Exprs, _: &[ExprId], acc: ExprId) -> ExprId {
    acc
}

fn load(exprs: &mut Exprs, buffer: BufferId, index: &[ExprId]) -> ExprId {
    exprs.add(Expr::Load { buffer, dtype: DType::F32, index: index.into(), guard: None })
}

/// `x [m, k]` by a weight `[n, k]`, with bias.
fn linear(m: i64, n: i64, k: i64) {
    let mut bench = Bench::new();
    let ((x, xs), (w, ws), (b, bs)) = (bench.input(&[m, k]), bench.weight(&[n, k]), bench.weight(&[n]));
    let out = bench.temp(&[m, n]);
    bench.contraction(
        &[m, n],
        &[k],
        out,
        &[0, 1],
        &mut |e, a| (load(e, x, &[a[0], a[2]]), load(e, w, &[a[1], a[2]])),
        &mut |e, a, acc| {
            let bias = load(e, b, &[a[1]]);
            e.binary(BinaryOp::Add, acc, bias)
        },
    );
    let expected = |at: usize| {
        let (i, j, k) = (at / n as usize, at % n as usize, k as usize);
        (0..k).map(|l| f64::from(xs[i * k + l]) * f64::from(ws[j * k + l])).sum::<f64>() + f64::from(bs[j])
    };
    bench.run(&format!("linear {m}x{n}x{k}"), out, Some(&expected));
}

/// Batches of `a [m, k]` by `b`, `[k, n]` or `[n, k]`, both known at run time only.
fn bmm(batch: i64, m: i64, n: i64, k: i64, transposed: bool) {
    let mut bench = Bench::new();
    let b_dims = if transposed { [batch, n, k] } else { [batch, k, n] };
    let ((x, xs), (y, ys)) = (bench.input(&[batch, m, k]), bench.input(&b_dims));
    let out = bench.temp(&[batch, m, n]);
    bench.contraction(
        &[batch, m, n],
        &[k],
        out,
        &[0, 1, 2],
        &mut |e, a| {
            let second = if transposed { [a[0], a[2], a[3]] } else { [a[0], a[3], a[2]] };
            (load(e, x, &[a[0], a[1], a[3]]), load(e, y, &second))
        },
        &mut keep,
    );
    let expected = |at: usize| {
        let (m, n, k) = (m as usize, n as usize, k as usize);
        let (q, i, j) = (at / (m * n), at / n % m, at % n);
        let second = |l: usize| if transposed { ys[(q * n + j) * k + l] } else { ys[(q * k + l) * n + j] };
        (0..k).map(|l| f64::from(xs[(q * m + i) * k + l]) * f64::from(second(l))).sum::<f64>()
    };
    bench.run(&format!("bmm{} {batch}x{m}x{n}x{k}", if transposed { " nt" } else { "" }), out, Some(&expected));
}

#[derive(Clone, Copy)]
struct Conv {
    ic: i64,
    oc: i64,
    h: i64,
    kernel: i64,
    stride: i64,
    pad: i64,
    groups: i64,
}

/// Appends a convolution with ReLU; gives its output.
fn push_conv(bench: &mut Bench, x: BufferId, c: Conv) -> (BufferId, Vec<f32>, i64) {
    let Conv { ic, oc, h, kernel, stride, pad, groups } = c;
    let (icg, ocg) = (ic / groups, oc / groups);
    let (w, ws) = bench.weight(&[oc, icg, kernel, kernel]);
    let oh = (h + 2 * pad - kernel) / stride + 1;
    let out = bench.temp(&[1, oc, oh, oh]);
    bench.contraction(
        &[1, oc, oh, oh],
        &[icg, kernel, kernel],
        out,
        &[0, 1, 2, 3],
        &mut |e, a| {
            let (step, shift) = (e.int(stride), e.int(-pad));
            let mut at = |o: ExprId, k: ExprId| {
                let o = e.binary(BinaryOp::Mul, o, step);
                let o = e.binary(BinaryOp::Add, o, k);
                e.binary(BinaryOp::Add, o, shift)
            };
            let (y, x_at) = (at(a[2], a[5]), at(a[3], a[6]));
            let mut cond = e.add(Expr::Const(Const::bool(true)));
            for i in [y, x_at] {
                let (zero, bound) = (e.int(0), e.int(h));
                for (op, b) in [(BinaryOp::Ge, zero), (BinaryOp::Lt, bound)] {
                    let inside = e.binary(op, i, b);
                    cond = e.binary(BinaryOp::And, cond, inside);
                }
            }
            let other = e.add(Expr::Const(Const::float(DType::F32, 0.0)));
            let channel = if groups == 1 {
                a[4]
            } else {
                let (per, n) = (e.int(ocg), e.int(icg));
                let group = e.binary(BinaryOp::FloorDiv, a[1], per);
                let first = e.binary(BinaryOp::Mul, group, n);
                e.binary(BinaryOp::Add, first, a[4])
            };
            let guard = (pad > 0).then_some(Guard { cond, other });
            let data =
                e.add(Expr::Load { buffer: x, dtype: DType::F32, index: [a[0], channel, y, x_at].into(), guard });
            (data, load(e, w, &[a[1], a[4], a[5], a[6]]))
        },
        &mut |e, _, acc| {
            let zero = e.add(Expr::Const(Const::float(DType::F32, 0.0)));
            e.binary(BinaryOp::Max, acc, zero)
        },
    );
    (out, ws, oh)
}

/// Appends the largest value of each plane, so that the result is small and the last convolution's output stays inside.
fn push_pool(bench: &mut Bench, x: BufferId, c: i64, h: i64) -> BufferId {
    let out = bench.temp(&[1, c]);
    let mut exprs = Exprs::new();
    let axes: Vec<ExprId> = (0..4).map(|a| exprs.add(Expr::Axis(a))).collect();
    let value = load(&mut exprs, x, &axes);
    let acc = exprs.add(Expr::Acc(0, DType::F32));
    let axis = |n, kind| Axis { extent: Dim::Const(n), kind };
    let (parallel, reduce) = (AxisKind::Parallel, AxisKind::Reduce);
    let index = axes[..2].into();
    bench.push(Kernel {
        name: "pool".into(),
        place: "".into(),
        axes: vec![axis(1, parallel), axis(c, parallel), axis(h, reduce), axis(h, reduce)],
        exprs,
        reductions: vec![Reduction { op: ReduceOp::Max, value, payload: None }],
        stores: vec![Store { buffer: out, index, value: acc, guard: None, mode: StoreMode::Set }],
        is_ordered: false,
    });
    out
}

/// Convolutions one after another, as in networks.
fn chain(convs: &[Conv]) {
    let mut bench = Bench::new();
    let mut what = "chain".to_owned();
    let (mut out, _) = bench.input(&[1, convs[0].ic, convs[0].h, convs[0].h]);
    let mut last = (0, 0);
    for &c in convs {
        let oh;
        (out, _, oh) = push_conv(&mut bench, out, c);
        last = (c.oc, oh);
        what += &format!(" {}>{}@{}k{}s{}{}", c.ic, c.oc, c.h, c.kernel, c.stride, if c.groups > 1 { "g" } else { "" });
    }
    out = push_pool(&mut bench, out, last.0, last.1);
    bench.run(&what, out, None);
}

fn conv(c: Conv, times: usize) {
    let mut bench = Bench::new();
    let (x, xs) = bench.input(&[1, c.ic, c.h, c.h]);
    let (mut out, ws, oh) = push_conv(&mut bench, x, c);
    for _ in 1..times {
        out = push_conv(&mut bench, out, c).0;
    }
    if times > 1 {
        out = push_pool(&mut bench, out, c.oc, oh);
    }
    let Conv { ic, oc, h, kernel, stride, pad, groups } = c;
    let expected = |at: usize| {
        let at = at as i64;
        let (o, y, x) = (at / (oh * oh), at / oh % oh, at % oh);
        let (icg, ocg) = (ic / groups, oc / groups);
        let mut sum = 0.0;
        for i in 0..icg {
            for ky in 0..kernel {
                for kx in 0..kernel {
                    let (py, px) = (y * stride + ky - pad, x * stride + kx - pad);
                    if (0..h).contains(&py) && (0..h).contains(&px) {
                        let channel = o / ocg * icg + i;
                        let w = ws[(((o * icg + i) * kernel + ky) * kernel + kx) as usize];
                        sum += f64::from(xs[((channel * h + py) * h + px) as usize]) * f64::from(w);
                    }
                }
            }
        }
        sum.max(0.0)
    };
    let groups = if groups > 1 { format!(" g{groups}") } else { String::new() };
    let what = format!("conv {ic}->{oc} {h}x{h} k{kernel} s{stride}{groups} x{times}");
    bench.run(&what, out, if times == 1 { Some(&expected) } else { None });
}

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let is_wanted = |name: &str| name.contains(&filter);
    if is_wanted("linear") {
        for (m, n, k) in [
            (128, 3072, 768),
            (128, 768, 3072),
            (128, 768, 768),
            (64, 512, 512),
            (197, 768, 768),
            (100, 1000, 100),
            (13, 50, 33),
            (4, 512, 512),
            (1, 512, 512),
            (1, 1000, 512),
            (1, 768, 3072),
        ] {
            linear(m, n, k);
        }
    }
    if is_wanted("bmm") {
        for (b, m, n, k, t) in [
            (12, 128, 128, 64, true),
            (12, 128, 64, 128, false),
            (12, 197, 197, 64, true),
            (12, 197, 64, 197, false),
            (1, 256, 256, 256, false),
        ] {
            bmm(b, m, n, k, t);
        }
    }
    let plain = |ic, oc, h, kernel, stride, pad| Conv { ic, oc, h, kernel, stride, pad, groups: 1 };
    if is_wanted("conv3") {
        for c in [
            plain(64, 64, 56, 3, 1, 1),
            plain(128, 128, 28, 3, 1, 1),
            plain(256, 256, 14, 3, 1, 1),
            plain(512, 512, 7, 3, 1, 1),
        ] {
            conv(c, 1);
            conv(c, 4);
        }
        conv(plain(64, 64, 256, 3, 1, 1), 1);
        conv(plain(16, 16, 256, 3, 1, 1), 4);
        conv(plain(64, 128, 56, 3, 2, 1), 1);
        conv(plain(3, 64, 224, 7, 2, 3), 1);
        conv(plain(3, 16, 224, 3, 2, 1), 1);
    }
    if is_wanted("conv1") {
        for c in [plain(64, 256, 56, 1, 1, 0), plain(256, 64, 56, 1, 1, 0), plain(512, 512, 14, 1, 1, 0)] {
            conv(c, 1);
        }
        conv(plain(128, 128, 28, 1, 1, 0), 4);
        conv(plain(512, 512, 7, 1, 1, 0), 4);
    }
    if is_wanted("chain") {
        chain(&[plain(3, 64, 224, 7, 2, 3)]);
        chain(&[plain(3, 16, 224, 3, 2, 1)]);
        chain(&[plain(64, 64, 256, 3, 1, 1), plain(64, 64, 256, 3, 1, 1)]);
        chain(&[plain(64, 64, 56, 3, 1, 1), plain(64, 64, 56, 3, 1, 1), plain(64, 128, 56, 3, 2, 1)]);
        chain(&[plain(64, 64, 56, 3, 1, 1), plain(64, 256, 56, 1, 1, 0), plain(256, 64, 56, 1, 1, 0)]);
        chain(&[plain(512, 512, 7, 3, 1, 1), plain(512, 512, 7, 3, 1, 1)]);
        let g = Conv { ic: 64, oc: 64, h: 112, kernel: 3, stride: 2, pad: 1, groups: 64 };
        chain(&[plain(16, 64, 112, 1, 1, 0), g, plain(64, 24, 56, 1, 1, 0)]);
    }
    if is_wanted("convd") {
        let depthwise = |c, h, kernel, stride| Conv { ic: c, oc: c, h, kernel, stride, pad: kernel / 2, groups: c };
        for c in [depthwise(16, 112, 3, 1), depthwise(64, 112, 3, 2), depthwise(240, 28, 3, 1), depthwise(960, 7, 5, 1)]
        {
            conv(c, 1);
            if c.stride == 1 {
                conv(c, 4);
            }
        }
    }
}

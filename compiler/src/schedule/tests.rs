//! Each schedule computes what its kernel says: small kernels of every kind, run both ways.

use super::interpret::{Array, run_kernel, run_nest};
use super::*;
use crate::index::Id as _;
use crate::loops::{
    Axis, AxisKind, BinaryOp, Buffer, BufferClass, BufferId, Const, Dim, Expr, ExprId, Exprs, Guard, Layout, ReduceOp,
    Reduction, Store, StoreMode, UnaryOp, Var, VarId, VarType,
};
use crate::types::DType;

struct Case {
    function: Function,
    kernel: Kernel,
    vars: Vec<u64>,
}

impl Case {
    fn new() -> Self {
        let kernel = Kernel {
            name: "k".into(),
            place: "".into(),
            axes: Vec::new(),
            exprs: Exprs::new(),
            reductions: Vec::new(),
            stores: Vec::new(),
            is_ordered: false,
        };
        Self { function: Function::default(), kernel, vars: Vec::new() }
    }
    fn var(&mut self, value: i64) -> Dim {
        self.vars.push(value.cast_unsigned());
        Dim::Var(self.function.vars.push(Var { ty: VarType::Int, name: String::new() }))
    }
    fn buffer(&mut self, dtype: DType, dims: &[Dim]) -> BufferId {
        let class = BufferClass::Temp { offset: None };
        let (name, dims, layout) = (String::new(), dims.to_vec(), Layout::RowMajor);
        self.function.buffers.push(Buffer { name, dtype, dims, class, layout })
    }
    fn axes(&mut self, kind: AxisKind, extents: &[Dim]) {
        self.kernel.axes.extend(extents.iter().map(|&extent| Axis { extent, kind }));
    }
    fn axis(&mut self, n: usize) -> ExprId {
        self.kernel.exprs.add(Expr::Axis(n))
    }
    fn load(&mut self, buffer: BufferId, index: &[ExprId]) -> ExprId {
        let dtype = self.function.buffers[buffer].dtype;
        self.kernel.exprs.add(Expr::Load { buffer, dtype, index: index.into(), guard: None })
    }
    fn store(&mut self, buffer: BufferId, index: &[ExprId], value: ExprId) {
        let (index, mode) = (index.into(), StoreMode::Set);
        self.kernel.stores.push(Store { buffer, index, value, guard: None, mode });
    }
    fn reduce(&mut self, op: ReduceOp, value: ExprId) -> ExprId {
        self.kernel.reductions.push(Reduction { op, value, payload: None });
        let dtype = self.kernel.exprs.dtype(value);
        self.kernel.exprs.add(Expr::Acc(self.kernel.reductions.len() - 1, dtype))
    }
    fn extent(&self, dim: Dim) -> i64 {
        match dim {
            Dim::Const(n) => n,
            Dim::Var(v) => self.vars[v.index()].cast_signed(),
        }
    }

    /// Runs the kernel both ways on every kind of target.
    fn check(&self) {
        for (vector_bytes, has_masks) in [(64, true), (32, true), (32, false), (16, false), (0, false)] {
            for n_registers in [16, 32] {
                let target =
                    ScheduleTarget { vector_bytes, n_registers, l1_bytes: 32 << 10, l2_bytes: 512 << 10, has_masks };
                self.check_on(&target);
            }
        }
    }

    fn check_on(&self, target: &ScheduleTarget) {
        let mut state = 7u64;
        let mut memory: Vec<Array> = Vec::new();
        for buffer in self.function.buffers.iter() {
            let n: i64 = buffer.dims.iter().map(|&d| self.extent(d)).product();
            let element = |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let small = i64::try_from(state >> 33).unwrap() % 9;
                match buffer.dtype {
                    d if d.is_floating_point() => (small as f64 - 4.0).to_bits(),
                    DType::Bool => (small & 1).cast_unsigned(),
                    _ => (small % 3).cast_unsigned(),
                }
            };
            memory.push((0..n).map(element).collect());
        }
        let mut expected = memory.clone();
        run_kernel(&self.function, &self.kernel, &self.vars, &mut expected);
        let mut nests = Nests { list: Vec::new(), known: HashMap::new() };
        let launch = lower_kernel(&self.kernel, &self.function, target, &Options::default(), &mut nests).unwrap();
        if let Some(launch) = launch {
            let nest = &nests.list[launch.nest];
            let params: Vec<u64> = launch
                .scalars
                .iter()
                .map(|operand| match operand {
                    Operand::Var(v) => self.vars[v.index()],
                    other => panic!("{other:?} is not a variable"),
                })
                .collect();
            let buffers = launch.buffers.iter().map(|b| memory[b.index()].clone()).collect();
            let after = run_nest(nest, &params, buffers);
            for (id, contents) in launch.buffers.iter().zip(after) {
                memory[id.index()] = contents;
            }
        }
        for (number, (got, want)) in memory.iter().zip(&expected).enumerate() {
            let floats = |array: &Array| array.iter().map(|&b| f64::from_bits(b)).collect::<Vec<_>>();
            let is_float = self.function.buffers[BufferId::new(number)].dtype.is_floating_point();
            if is_float {
                for (i, (g, w)) in floats(got).iter().zip(&floats(want)).enumerate() {
                    let close = (g - w).abs() <= 1e-4 * w.abs().max(1.0) || g == w || g.is_nan() && w.is_nan();
                    assert!(close, "b{number}[{i}]: {g} for {w} on {target:?}");
                }
            } else {
                assert_eq!(got, want, "b{number} on {target:?}");
            }
        }
    }
}

fn consts(extents: &[i64]) -> Vec<Dim> {
    extents.iter().map(|&n| Dim::Const(n)).collect()
}

fn bits(case: &mut Case, value: f64) -> ExprId {
    case.kernel.exprs.add(Expr::Const(Const::float(DType::F32, value)))
}

#[test]
fn pointwise_with_broadcast_and_transpose() {
    for dynamic in [false, true] {
        for (n, m) in [(3, 5), (4, 16), (7, 37), (1, 9), (6, 1)] {
            let mut case = Case::new();
            let dims = if dynamic { vec![case.var(n), case.var(m)] } else { consts(&[n, m]) };
            let swapped = [dims[1], dims[0]];
            let (x, row) = (case.buffer(DType::F32, &dims), case.buffer(DType::F32, &dims[1..]));
            let (t, out) = (case.buffer(DType::F32, &swapped), case.buffer(DType::F32, &dims));
            case.axes(AxisKind::Parallel, &dims);
            let (i, j) = (case.axis(0), case.axis(1));
            let (a, b, c) = (case.load(x, &[i, j]), case.load(row, &[j]), case.load(t, &[j, i]));
            let sum = case.kernel.exprs.binary(BinaryOp::Add, a, b);
            let value = case.kernel.exprs.binary(BinaryOp::Mul, sum, c);
            case.store(out, &[i, j], value);
            case.check();
        }
    }
}

#[test]
fn joined_axes_and_casts() {
    let mut case = Case::new();
    let dims = consts(&[2, 3, 5, 7]);
    let (x, mask) = (case.buffer(DType::I32, &dims), case.buffer(DType::Bool, &dims));
    let (out, flags) = (case.buffer(DType::F32, &dims), case.buffer(DType::Bool, &dims));
    case.axes(AxisKind::Parallel, &dims);
    let index: Vec<ExprId> = (0..4).map(|a| case.axis(a)).collect();
    let (a, m) = (case.load(x, &index), case.load(mask, &index));
    let a = case.kernel.exprs.cast(DType::F32, a);
    let two = bits(&mut case, 2.0);
    let value = case.kernel.exprs.add(Expr::Select(m, a, two));
    let flag = case.kernel.exprs.binary(BinaryOp::Lt, a, two);
    case.store(out, &index, value);
    case.store(flags, &index, flag);
    case.check();
}

#[test]
fn matmul_both_orders() {
    for dynamic in [false, true] {
        for w_transposed in [false, true] {
            for (m, n, k) in [(3, 5, 7), (13, 50, 33), (1, 70, 18), (8, 1, 64)] {
                let mut case = Case::new();
                let dims = if dynamic { vec![case.var(m), case.var(n), case.var(k)] } else { consts(&[m, n, k]) };
                let x = case.buffer(DType::F32, &[dims[0], dims[2]]);
                let w_dims = if w_transposed { [dims[1], dims[2]] } else { [dims[2], dims[1]] };
                let w = case.buffer(DType::F32, &w_dims);
                let bias = case.buffer(DType::F32, &[dims[1]]);
                let out = case.buffer(DType::F32, &[dims[0], dims[1]]);
                case.axes(AxisKind::Parallel, &dims[..2]);
                case.axes(AxisKind::Reduce, &dims[2..]);
                let (i, j, l) = (case.axis(0), case.axis(1), case.axis(2));
                let a = case.load(x, &[i, l]);
                let b = if w_transposed { case.load(w, &[j, l]) } else { case.load(w, &[l, j]) };
                let product = case.kernel.exprs.binary(BinaryOp::Mul, a, b);
                let acc = case.reduce(ReduceOp::Sum, product);
                let bias = case.load(bias, &[j]);
                let value = case.kernel.exprs.binary(BinaryOp::Add, acc, bias);
                case.store(out, &[i, j], value);
                case.check();
            }
        }
    }
}

#[test]
fn padded_convolution() {
    for (groups, stride, pad) in [(1, 1, 1), (1, 2, 0), (2, 1, 1), (4, 2, 1)] {
        let (n, ic, oc, h, w, kernel) = (2, 4, 8, 7, 9, 3);
        let (oh, ow) = ((h + 2 * pad - kernel) / stride + 1, (w + 2 * pad - kernel) / stride + 1);
        let (icg, ocg) = (ic / groups, oc / groups);
        let mut case = Case::new();
        let x = case.buffer(DType::F32, &consts(&[n, ic, h, w]));
        let weight = case.buffer(DType::F32, &consts(&[oc, icg, kernel, kernel]));
        let out = case.buffer(DType::F32, &consts(&[n, oc, oh, ow]));
        case.axes(AxisKind::Parallel, &consts(&[n, oc, oh, ow]));
        case.axes(AxisKind::Reduce, &consts(&[icg, kernel, kernel]));
        let a: Vec<ExprId> = (0..7).map(|n| case.axis(n)).collect();
        let e = &mut case.kernel.exprs;
        let (ocg, icg, stride, pad) = (e.int(ocg), e.int(icg), e.int(stride), e.int(-pad));
        let group = e.binary(BinaryOp::FloorDiv, a[1], ocg);
        let group = e.binary(BinaryOp::Mul, group, icg);
        let channel = e.binary(BinaryOp::Add, group, a[4]);
        let mut at = |o, k| {
            let o = e.binary(BinaryOp::Mul, o, stride);
            let o = e.binary(BinaryOp::Add, o, k);
            e.binary(BinaryOp::Add, o, pad)
        };
        let (y, xx) = (at(a[2], a[5]), at(a[3], a[6]));
        let mut cond = e.add(Expr::Const(Const::bool(true)));
        for (i, bound) in [(y, h), (xx, w)] {
            let (zero, bound) = (e.int(0), e.int(bound));
            for (op, b) in [(BinaryOp::Ge, zero), (BinaryOp::Lt, bound)] {
                let inside = e.binary(op, i, b);
                cond = e.binary(BinaryOp::And, cond, inside);
            }
        }
        let other = e.add(Expr::Const(Const::float(DType::F32, 0.0)));
        let index = vec![a[0], channel, y, xx].into_boxed_slice();
        let load = e.add(Expr::Load { buffer: x, dtype: DType::F32, index, guard: Some(Guard { cond, other }) });
        let w = case.load(weight, &[a[1], a[4], a[5], a[6]]);
        let product = case.kernel.exprs.binary(BinaryOp::Mul, load, w);
        let acc = case.reduce(ReduceOp::Sum, product);
        case.store(out, &a[..4], acc);
        case.check();
    }
}

#[test]
fn several_reductions_along_each_axis() {
    for dynamic in [false, true] {
        for reduced in [0, 1] {
            for extents in [[5, 3], [9, 70], [70, 9], [4, 0], [33, 33]] {
                let mut case = Case::new();
                let dims = if dynamic { vec![case.var(extents[0]), case.var(extents[1])] } else { consts(&extents) };
                let x = case.buffer(DType::F32, &dims);
                let outs: Vec<BufferId> = (0..3).map(|_| case.buffer(DType::F32, &[dims[1 - reduced]])).collect();
                let arg = case.buffer(DType::I64, &[dims[1 - reduced]]);
                case.axes(AxisKind::Parallel, &[dims[1 - reduced]]);
                case.axes(AxisKind::Reduce, &[dims[reduced]]);
                let (i, l) = (case.axis(0), case.axis(1));
                let value = if reduced == 1 { case.load(x, &[i, l]) } else { case.load(x, &[l, i]) };
                let square = case.kernel.exprs.binary(BinaryOp::Mul, value, value);
                let results = [
                    case.reduce(ReduceOp::Max, value),
                    case.reduce(ReduceOp::Sum, square),
                    case.reduce(ReduceOp::Sum, value),
                ];
                for (out, result) in outs.into_iter().zip(results) {
                    case.store(out, &[i], result);
                }
                case.check();
                let payload = Some(l);
                case.kernel.reductions.push(Reduction { op: ReduceOp::ArgMax, value, payload });
                let best = case.kernel.exprs.add(Expr::Acc(3, DType::I64));
                case.store(arg, &[i], best);
                case.check();
            }
        }
    }
}

#[test]
fn scan_along_each_axis() {
    for scanned in [0, 1] {
        let mut case = Case::new();
        let dims = consts(&[6, 21]);
        let (x, out) = (case.buffer(DType::F32, &dims), case.buffer(DType::F32, &dims));
        case.axes(AxisKind::Parallel, &[dims[1 - scanned]]);
        case.axes(AxisKind::Scan, &[dims[scanned]]);
        let (i, s) = (case.axis(0), case.axis(1));
        let index = if scanned == 1 { [i, s] } else { [s, i] };
        let value = case.load(x, &index);
        let acc = case.reduce(ReduceOp::Sum, value);
        case.store(out, &index, acc);
        case.check();
    }
}

#[test]
fn recurrence_reads_its_own_stores() {
    // h[t + 1] = tanh(sum over j of h[t, j] * w[j, i] + x[t, i]) cannot be a kernel; this is the elementwise form.
    let mut case = Case::new();
    let (steps, width) = (Dim::Const(5), Dim::Const(19));
    let (x, h) = (case.buffer(DType::F32, &[steps, width]), case.buffer(DType::F32, &[Dim::Const(6), width]));
    case.axes(AxisKind::Parallel, &[width]);
    case.axes(AxisKind::Scan, &[steps]);
    let (i, t) = (case.axis(0), case.axis(1));
    let one = case.kernel.exprs.int(1);
    let next = case.kernel.exprs.binary(BinaryOp::Add, t, one);
    let (old, input) = (case.load(h, &[t, i]), case.load(x, &[t, i]));
    let sum = case.kernel.exprs.binary(BinaryOp::Add, old, input);
    let value = case.kernel.exprs.unary(UnaryOp::Tanh, sum);
    case.store(h, &[next, i], value);
    case.check();
}

#[test]
fn gather_and_ordered_scatter() {
    let mut case = Case::new();
    let (rows, n, width) = (Dim::Const(3), Dim::Const(10), Dim::Const(21));
    let table = case.buffer(DType::F32, &[rows, width]);
    let (ids, columns) = (case.buffer(DType::I64, &[n]), case.buffer(DType::I64, &[width]));
    let (out, sums) = (case.buffer(DType::F32, &[n, width]), case.buffer(DType::F32, &[rows, width]));
    case.axes(AxisKind::Parallel, &[n, width]);
    let (i, j) = (case.axis(0), case.axis(1));
    let (id, column) = (case.load(ids, &[i]), case.load(columns, &[j]));
    let (a, b) = (case.load(table, &[id, j]), case.load(table, &[id, column]));
    let value = case.kernel.exprs.binary(BinaryOp::Sub, a, b);
    case.store(out, &[i, j], value);
    case.check();
    case.kernel.is_ordered = true;
    case.store(sums, &[id, j], a);
    case.kernel.stores[1].mode = StoreMode::Combine(ReduceOp::Sum);
    case.check();
}

#[test]
fn large_maps_are_cut_into_chunks() {
    for n in [40_000, 40_001] {
        for dynamic in [false, true] {
            let mut case = Case::new();
            let dim = if dynamic { case.var(n) } else { Dim::Const(n) };
            let (x, out) = (case.buffer(DType::F32, &[dim]), case.buffer(DType::F32, &[dim]));
            case.axes(AxisKind::Parallel, &[dim]);
            let i = case.axis(0);
            let value = case.load(x, &[i]);
            let value = (0..6).fold(value, |v, _| case.kernel.exprs.unary(UnaryOp::Tanh, v));
            case.store(out, &[i], value);
            let target = ScheduleTarget {
                vector_bytes: 32,
                n_registers: 16,
                l1_bytes: 32 << 10,
                l2_bytes: 512 << 10,
                has_masks: true,
            };
            case.check_on(&target);
        }
    }
}

#[test]
fn scratch_shares_memory_only_when_dead() {
    let mut case = Case::new();
    let dims = consts(&[100]);
    let buffers: Vec<BufferId> = (0..4).map(|_| case.buffer(DType::F32, &dims)).collect();
    let mut body = Vec::new();
    for pair in buffers.windows(2) {
        let mut step = Case::new();
        step.function.buffers.clone_from(&case.function.buffers);
        step.axes(AxisKind::Parallel, &dims);
        let i = step.axis(0);
        let value = step.load(pair[0], &[i]);
        step.store(pair[1], &[i], value);
        body.push(Stmt::Kernel(Box::new(step.kernel)));
    }
    body.push(Stmt::Return(0, vec![crate::loops::Arg::Buffer(buffers[3])]));
    case.function.body = Block(body);
    memory::place_results(&mut case.function);
    memory::plan_arena(&mut case.function).unwrap();
    let class = |n: usize| case.function.buffers[buffers[n]].class;
    assert_eq!(class(3), BufferClass::Output(0));
    assert_eq!(class(0), class(2));
    assert_ne!(class(0), class(1));
    assert_eq!(case.function.arena_bytes, 2 * 448);
    assert_eq!(VarId::new(0).index(), 0);
}

/// A function of several kernels over `f32` buffers; runs it as it stands and scheduled, and compares what it returns.
fn check_function(case: &mut Case, kernels: Vec<Kernel>, returned: &[BufferId]) -> usize {
    let mut body: Vec<Stmt> = kernels.into_iter().map(|k| Stmt::Kernel(Box::new(k))).collect();
    body.push(Stmt::Return(0, returned.iter().map(|&b| crate::loops::Arg::Buffer(b)).collect()));
    case.function.body = Block(body);
    let fill = |(n, buffer): (usize, &Buffer)| -> Array {
        let len: i64 = buffer.dims.iter().map(|&d| case.extent(d)).product();
        (0..len).map(|i| ((i * 7 + i64::try_from(n).unwrap() * 3) % 11 - 5) as f64).map(f64::to_bits).collect()
    };
    let start: Vec<Array> = case.function.buffers.iter().enumerate().map(fill).collect();
    let mut expected = start.clone();
    for stmt in &case.function.body.0 {
        if let Stmt::Kernel(kernel) = stmt {
            run_kernel(&case.function, kernel, &case.vars, &mut expected);
        }
    }
    let mut program = Program::default();
    program.functions.push(case.function.clone());
    for (id, buffer) in case.function.buffers.iter_ids() {
        if let BufferClass::Weight(_) = buffer.class {
            let floats = start[id.index()].iter().map(|&bits| f64::from_bits(bits) as f32);
            let bytes = floats.flat_map(f32::to_ne_bytes).collect();
            let dims: Vec<i64> = buffer.dims.iter().map(|&d| case.extent(d)).collect();
            let data = crate::types::TensorData::from_bytes(DType::F32, &dims, bytes).unwrap();
            program.weights.push(crate::loops::Weight { name: "w".into(), data: std::sync::Arc::new(data) });
        }
    }
    let target =
        ScheduleTarget { vector_bytes: 32, n_registers: 16, l1_bytes: 32 << 10, l2_bytes: 512 << 10, has_masks: true };
    schedule(&mut program, &target, &Options::default()).unwrap();
    let mut prepared = vec![Array::new(); program.prepared.len()];
    if let Some(prepare) = program.prepare {
        let function = &program.functions[prepare];
        let mut memory = vec![Array::new(); function.buffers.len()];
        run_function(&program, function, case, &mut prepared, &mut memory);
    }
    let function = program.functions.iter().next().unwrap();
    let mut memory = start;
    memory.resize(function.buffers.len(), Array::new());
    let n_launches = run_function(&program, function, case, &mut prepared, &mut memory);
    for &id in returned {
        let (got, want) = (&memory[id.index()], &expected[id.index()]);
        assert_eq!(got.len(), want.len());
        for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
            let (g, w) = (f64::from_bits(g), f64::from_bits(w));
            assert!((g - w).abs() <= 1e-4 * w.abs().max(1.0), "{id}[{i}]: {g} for {w}");
        }
    }
    n_launches
}

/// Runs a scheduled function whose body is launches; gives their number.
fn run_function(
    program: &Program,
    function: &Function,
    case: &Case,
    prepared: &mut [Array],
    memory: &mut [Array],
) -> usize {
    for (id, buffer) in function.buffers.iter_ids() {
        let memory = &mut memory[id.index()];
        match buffer.class {
            BufferClass::Weight(weight) => {
                let bytes = program.weights[weight].data.contiguous_bytes();
                let floats = bytes.chunks(4).map(|c| f64::from(f32::from_ne_bytes(c.try_into().unwrap())).to_bits());
                *memory = floats.collect();
            }
            BufferClass::Prepared(id) if prepared[id.index()].is_empty() => {
                *memory = vec![f64::NAN.to_bits(); program.prepared[id].n_elements];
            }
            BufferClass::Prepared(id) => memory.clone_from(&prepared[id.index()]),
            _ if memory.is_empty() => {
                let dims: Vec<i64> = buffer.dims.iter().map(|&d| case.extent(d)).collect();
                *memory = vec![0; usize::try_from(flat::physical_len(&dims, &buffer.layout)).unwrap()];
            }
            _ => {}
        }
    }
    let mut n_launches = 0;
    for stmt in &function.body.0 {
        let Stmt::Launch(launch) = stmt else { continue };
        n_launches += 1;
        let params: Vec<u64> = launch
            .scalars
            .iter()
            .map(|operand| if let Operand::Var(v) = operand { case.vars[v.index()] } else { 0 })
            .collect();
        let buffers = launch.buffers.iter().map(|b| memory[b.index()].clone()).collect();
        let after = run_nest(&program.nests[launch.nest], &params, buffers);
        for (id, contents) in launch.buffers.iter().zip(after) {
            memory[id.index()] = contents;
        }
    }
    for (id, buffer) in function.buffers.iter_ids() {
        if let BufferClass::Prepared(to) = buffer.class {
            prepared[to.index()].clone_from(&memory[id.index()]);
        }
    }
    n_launches
}

/// Starts the next kernel of a function.
fn next(case: &mut Case, kernels: &mut Vec<Kernel>) {
    kernels.push(std::mem::replace(&mut case.kernel, Case::new().kernel));
}

#[test]
fn maps_join_the_contraction_before_them() {
    for dynamic in [false, true] {
        let mut case = Case::new();
        let (m, n, k) = if dynamic {
            (case.var(6), case.var(19), case.var(7))
        } else {
            (Dim::Const(6), Dim::Const(19), Dim::Const(7))
        };
        let (x, w) = (case.buffer(DType::F32, &[m, k]), case.buffer(DType::F32, &[n, k]));
        case.function.buffers[x].class = BufferClass::Input(0);
        case.function.buffers[w].class = BufferClass::Input(1);
        let (t1, t2) = (case.buffer(DType::F32, &[m, n]), case.buffer(DType::F32, &[m, n]));
        let (t3, out) = (case.buffer(DType::F32, &[m, n]), case.buffer(DType::F32, &[n, m]));
        if dynamic {
            for (slot, buffer) in [t1, t2, t3, out].into_iter().enumerate() {
                case.function.buffers[buffer].class = BufferClass::Slot(slot);
            }
        }
        let mut kernels = Vec::new();
        case.axes(AxisKind::Parallel, &[m, n]);
        case.axes(AxisKind::Reduce, &[k]);
        let (i, j, l) = (case.axis(0), case.axis(1), case.axis(2));
        let (a, b) = (case.load(x, &[i, l]), case.load(w, &[j, l]));
        let product = case.kernel.exprs.binary(BinaryOp::Mul, a, b);
        let acc = case.reduce(ReduceOp::Sum, product);
        case.store(t1, &[i, j], acc);
        next(&mut case, &mut kernels);
        for (from, to) in [(t1, t2), (t2, t3)] {
            case.axes(AxisKind::Parallel, &[m, n]);
            let (i, j) = (case.axis(0), case.axis(1));
            let (value, two) = (case.load(from, &[i, j]), bits(&mut case, 2.0));
            let value = case.kernel.exprs.binary(BinaryOp::Max, value, two);
            case.store(to, &[i, j], value);
            next(&mut case, &mut kernels);
        }
        // The transposed sum of both.
        case.axes(AxisKind::Parallel, &[n, m]);
        let (i, j) = (case.axis(0), case.axis(1));
        let (a, b) = (case.load(t3, &[j, i]), case.load(t2, &[j, i]));
        let value = case.kernel.exprs.binary(BinaryOp::Add, a, b);
        case.store(out, &[i, j], value);
        next(&mut case, &mut kernels);
        assert_eq!(check_function(&mut case, kernels, &[out]), 1);
    }
}

#[test]
fn softmax_reads_what_was_a_map() {
    let mut case = Case::new();
    let (rows, cols) = (Dim::Const(5), Dim::Const(37));
    let x = case.buffer(DType::F32, &[rows, cols]);
    case.function.buffers[x].class = BufferClass::Input(0);
    let (max, sum) = (case.buffer(DType::F32, &[rows]), case.buffer(DType::F32, &[rows]));
    let (e, out) = (case.buffer(DType::F32, &[rows, cols]), case.buffer(DType::F32, &[rows, cols]));
    let mut kernels = Vec::new();
    case.axes(AxisKind::Parallel, &[rows]);
    case.axes(AxisKind::Reduce, &[cols]);
    let (i, j) = (case.axis(0), case.axis(1));
    let value = case.load(x, &[i, j]);
    let acc = case.reduce(ReduceOp::Max, value);
    case.store(max, &[i], acc);
    next(&mut case, &mut kernels);
    case.axes(AxisKind::Parallel, &[rows, cols]);
    let (i, j) = (case.axis(0), case.axis(1));
    let (value, m) = (case.load(x, &[i, j]), case.load(max, &[i]));
    let value = case.kernel.exprs.binary(BinaryOp::Sub, value, m);
    let value = case.kernel.exprs.unary(UnaryOp::Exp, value);
    case.store(e, &[i, j], value);
    next(&mut case, &mut kernels);
    case.axes(AxisKind::Parallel, &[rows]);
    case.axes(AxisKind::Reduce, &[cols]);
    let (i, j) = (case.axis(0), case.axis(1));
    let value = case.load(e, &[i, j]);
    let acc = case.reduce(ReduceOp::Sum, value);
    case.store(sum, &[i], acc);
    next(&mut case, &mut kernels);
    case.axes(AxisKind::Parallel, &[rows, cols]);
    let (i, j) = (case.axis(0), case.axis(1));
    let (value, s) = (case.load(e, &[i, j]), case.load(sum, &[i]));
    let value = case.kernel.exprs.binary(BinaryOp::Div, value, s);
    case.store(out, &[i, j], value);
    next(&mut case, &mut kernels);
    assert_eq!(check_function(&mut case, kernels, &[out]), 1);
}

/// A kernel that puts the sum of each row of `x` (less `mean`, squared, where that is given) into `out`.
fn row_sums(case: &mut Case, x: BufferId, mean: Option<BufferId>, [rows, cols]: [Dim; 2], out: BufferId) {
    case.axes(AxisKind::Parallel, &[rows]);
    case.axes(AxisKind::Reduce, &[cols]);
    let (i, j) = (case.axis(0), case.axis(1));
    let mut value = case.load(x, &[i, j]);
    if let Some(mean) = mean {
        let mean = case.load(mean, &[i]);
        let less = case.kernel.exprs.binary(BinaryOp::Sub, value, mean);
        value = case.kernel.exprs.binary(BinaryOp::Mul, less, less);
    }
    let acc = case.reduce(ReduceOp::Sum, value);
    case.store(out, &[i], acc);
}

#[test]
fn a_row_goes_through_all_kernels_of_a_normalisation() {
    let mut case = Case::new();
    let (rows, cols) = (Dim::Const(6), Dim::Const(45));
    let x = case.buffer(DType::F32, &[rows, cols]);
    case.function.buffers[x].class = BufferClass::Input(0);
    let (mean, squares) = (case.buffer(DType::F32, &[rows]), case.buffer(DType::F32, &[rows]));
    let out = case.buffer(DType::F32, &[rows, cols]);
    let mut kernels = Vec::new();
    row_sums(&mut case, x, None, [rows, cols], mean);
    next(&mut case, &mut kernels);
    row_sums(&mut case, x, Some(mean), [rows, cols], squares);
    next(&mut case, &mut kernels);
    case.axes(AxisKind::Parallel, &[rows, cols]);
    let (i, j) = (case.axis(0), case.axis(1));
    let (value, m, s) = (case.load(x, &[i, j]), case.load(mean, &[i]), case.load(squares, &[i]));
    let value = case.kernel.exprs.binary(BinaryOp::Sub, value, m);
    let value = case.kernel.exprs.binary(BinaryOp::Div, value, s);
    case.store(out, &[i, j], value);
    next(&mut case, &mut kernels);
    // Somebody else wants the means too.
    assert_eq!(check_function(&mut case, kernels, &[out, mean]), 1);
}

#[test]
fn kernels_that_read_other_rows_stay_apart() {
    let mut case = Case::new();
    let (rows, cols) = (Dim::Const(6), Dim::Const(45));
    let x = case.buffer(DType::F32, &[rows, cols]);
    case.function.buffers[x].class = BufferClass::Input(0);
    let (sum, out) = (case.buffer(DType::F32, &[rows]), case.buffer(DType::F32, &[rows, cols]));
    let mut kernels = Vec::new();
    row_sums(&mut case, x, None, [rows, cols], sum);
    next(&mut case, &mut kernels);
    case.axes(AxisKind::Parallel, &[rows, cols]);
    let (i, j) = (case.axis(0), case.axis(1));
    let last = case.kernel.exprs.int(5);
    let other = case.kernel.exprs.binary(BinaryOp::Sub, last, i);
    let (value, s) = (case.load(x, &[i, j]), case.load(sum, &[other]));
    let value = case.kernel.exprs.binary(BinaryOp::Sub, value, s);
    case.store(out, &[i, j], value);
    next(&mut case, &mut kernels);
    assert_eq!(check_function(&mut case, kernels, &[out]), 2);
}

#[test]
fn a_flattened_result_joins_through_its_reshape() {
    let mut case = Case::new();
    let (b, t, n) = (Dim::Const(3), Dim::Const(4), Dim::Const(10));
    let (x, y) = (case.buffer(DType::F32, &[Dim::Const(12), n]), case.buffer(DType::F32, &[t, n]));
    case.function.buffers[x].class = BufferClass::Input(0);
    case.function.buffers[y].class = BufferClass::Input(1);
    let (flat, out) = (case.buffer(DType::F32, &[Dim::Const(12), n]), case.buffer(DType::F32, &[b, t, n]));
    let mut kernels = Vec::new();
    case.axes(AxisKind::Parallel, &[Dim::Const(12), n]);
    let (i, j) = (case.axis(0), case.axis(1));
    let value = case.load(x, &[i, j]);
    let value = case.kernel.exprs.unary(UnaryOp::Tanh, value);
    case.store(flat, &[i, j], value);
    next(&mut case, &mut kernels);
    case.axes(AxisKind::Parallel, &[b, t, n]);
    let (i, s, j) = (case.axis(0), case.axis(1), case.axis(2));
    let four = case.kernel.exprs.int(4);
    let row = case.kernel.exprs.binary(BinaryOp::Mul, i, four);
    let row = case.kernel.exprs.binary(BinaryOp::Add, row, s);
    let (a, p) = (case.load(flat, &[row, j]), case.load(y, &[s, j]));
    let value = case.kernel.exprs.binary(BinaryOp::Add, a, p);
    case.store(out, &[i, s, j], value);
    next(&mut case, &mut kernels);
    // The flat result is wanted too, so that the maps join in place of one being inlined.
    assert_eq!(check_function(&mut case, kernels, &[out, flat]), 1);
}

#[test]
fn weights_are_packed_into_panels() {
    for (m, n, k) in [(5, 24, 7), (1, 64, 9), (9, 50, 12), (3, 19, 5), (1, 8, 30)] {
        for is_transposed in [false, true] {
            let mut case = Case::new();
            let (m, n, k) = (Dim::Const(m), Dim::Const(n), Dim::Const(k));
            let x = case.buffer(DType::F32, &[m, k]);
            let w = case.buffer(DType::F32, &if is_transposed { [k, n] } else { [n, k] });
            let (bias, out) = (case.buffer(DType::F32, &[n]), case.buffer(DType::F32, &[m, n]));
            case.function.buffers[x].class = BufferClass::Input(0);
            case.function.buffers[w].class = BufferClass::Weight(crate::loops::WeightId::new(0));
            case.function.buffers[bias].class = BufferClass::Weight(crate::loops::WeightId::new(1));
            case.axes(AxisKind::Parallel, &[m, n]);
            case.axes(AxisKind::Reduce, &[k]);
            let (i, j, l) = (case.axis(0), case.axis(1), case.axis(2));
            let a = case.load(x, &[i, l]);
            let b = case.load(w, &if is_transposed { [l, j] } else { [j, l] });
            let product = case.kernel.exprs.binary(BinaryOp::Mul, a, b);
            let acc = case.reduce(ReduceOp::Sum, product);
            let bias = case.load(bias, &[j]);
            let value = case.kernel.exprs.binary(BinaryOp::Add, acc, bias);
            case.store(out, &[i, j], value);
            let mut kernels = Vec::new();
            next(&mut case, &mut kernels);
            check_function(&mut case, kernels, &[out]);
        }
    }
}

#[test]
fn run_time_right_hand_sides_are_turned() {
    // Scores of attention: a turned copy, except where too few rows share it. Kernels of several heads are one nest.
    for (heads, rows, n_launches) in [(1, 19, 2), (1, 3, 1), (3, 19, 1), (3, 3, 1)] {
        let mut case = Case::new();
        let (columns, terms) = (21, 10);
        let x = case.buffer(DType::F32, &consts(&[rows, heads, terms]));
        let y = case.buffer(DType::F32, &consts(&[columns, heads, terms]));
        let out = case.buffer(DType::F32, &consts(&[heads, rows, columns]));
        case.function.buffers[x].class = BufferClass::Input(0);
        case.function.buffers[y].class = BufferClass::Input(1);
        case.axes(AxisKind::Parallel, &consts(&[heads, rows, columns]));
        case.axes(AxisKind::Reduce, &consts(&[terms]));
        let [h, m, n, k] = [0, 1, 2, 3].map(|axis| case.axis(axis));
        let (a, b) = (case.load(x, &[m, h, k]), case.load(y, &[n, h, k]));
        let product = case.kernel.exprs.binary(BinaryOp::Mul, a, b);
        let acc = case.reduce(ReduceOp::Sum, product);
        case.store(out, &[h, m, n], acc);
        let mut kernels = Vec::new();
        next(&mut case, &mut kernels);
        assert_eq!(check_function(&mut case, kernels, &[out]), n_launches);
    }
}

#[test]
fn padded_convolutions_are_packed() {
    for (ic, oc, stride) in [(32, 16, 1), (30, 20, 2), (3, 8, 1)] {
        let (n, h, w, kernel, pad) = (2, 5, 6, 3, 1);
        let (oh, ow) = ((h + 2 * pad - kernel) / stride + 1, (w + 2 * pad - kernel) / stride + 1);
        let mut case = Case::new();
        let x = case.buffer(DType::F32, &consts(&[n, ic, h, w]));
        let weight = case.buffer(DType::F32, &consts(&[oc, ic, kernel, kernel]));
        let out = case.buffer(DType::F32, &consts(&[n, oc, oh, ow]));
        case.function.buffers[x].class = BufferClass::Input(0);
        case.function.buffers[weight].class = BufferClass::Weight(crate::loops::WeightId::new(0));
        case.axes(AxisKind::Parallel, &consts(&[n, oc, oh, ow]));
        case.axes(AxisKind::Reduce, &consts(&[ic, kernel, kernel]));
        let a: Vec<ExprId> = (0..7).map(|n| case.axis(n)).collect();
        let e = &mut case.kernel.exprs;
        let (stride, pad) = (e.int(stride), e.int(-pad));
        let mut at = |o, k| {
            let o = e.binary(BinaryOp::Mul, o, stride);
            let o = e.binary(BinaryOp::Add, o, k);
            e.binary(BinaryOp::Add, o, pad)
        };
        let (y, xx) = (at(a[2], a[5]), at(a[3], a[6]));
        let mut cond = e.add(Expr::Const(Const::bool(true)));
        for (i, bound) in [(y, h), (xx, w)] {
            let (zero, bound) = (e.int(0), e.int(bound));
            for (op, b) in [(BinaryOp::Ge, zero), (BinaryOp::Lt, bound)] {
                let inside = e.binary(op, i, b);
                cond = e.binary(BinaryOp::And, cond, inside);
            }
        }
        let other = e.add(Expr::Const(Const::float(DType::F32, 0.0)));
        let index = vec![a[0], a[4], y, xx].into_boxed_slice();
        let load = e.add(Expr::Load { buffer: x, dtype: DType::F32, index, guard: Some(Guard { cond, other }) });
        let w = case.load(weight, &[a[1], a[4], a[5], a[6]]);
        let product = case.kernel.exprs.binary(BinaryOp::Mul, load, w);
        let acc = case.reduce(ReduceOp::Sum, product);
        case.store(out, &a[..4], acc);
        let mut kernels = Vec::new();
        next(&mut case, &mut kernels);
        let n_launches = check_function(&mut case, kernels, &[out]);
        assert!(n_launches >= 2, "the padded copy is a kernel");
    }
}

//! Small kernels and functions to schedule, run as they stand and scheduled.

use super::interpret::{Array, run_kernel, run_nest};
use super::*;
use crate::index::Id as _;
use crate::loops::{
    Axis, AxisKind, BinaryOp, Buffer, BufferClass, BufferId, Const, Dim, Expr, ExprId, Exprs, Guard, Layout, ReduceOp,
    Reduction, Store, StoreMode, Var, VarType,
};
use crate::types::DType;

pub(super) struct Case {
    pub(super) function: Function,
    pub(super) kernel: Kernel,
    pub(super) vars: Vec<u64>,
}

impl Case {
    pub(super) fn new() -> Self {
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
    pub(super) fn var(&mut self, value: i64) -> Dim {
        self.vars.push(value.cast_unsigned());
        Dim::Var(self.function.vars.push(Var { ty: VarType::Int, name: String::new() }))
    }
    pub(super) fn buffer(&mut self, dtype: DType, dims: &[Dim]) -> BufferId {
        let class = BufferClass::Temp { offset: None };
        let (name, dims, layout) = (String::new(), dims.to_vec(), Layout::RowMajor);
        self.function.buffers.push(Buffer { name, dtype, dims, class, layout })
    }
    pub(super) fn axes(&mut self, kind: AxisKind, extents: &[Dim]) {
        self.kernel.axes.extend(extents.iter().map(|&extent| Axis { extent, kind }));
    }
    pub(super) fn axis(&mut self, n: usize) -> ExprId {
        self.kernel.exprs.add(Expr::Axis(n))
    }
    pub(super) fn load(&mut self, buffer: BufferId, index: &[ExprId]) -> ExprId {
        let dtype = self.function.buffers[buffer].dtype;
        self.kernel.exprs.add(Expr::Load { buffer, dtype, index: index.into(), guard: None })
    }
    /// The element of a padded image at `[n, channel]` that a convolution of axes `[n, oc, y, x, ic, ky, kx]` multiplies.
    pub(super) fn padded_load(
        &mut self,
        x: BufferId,
        [n, channel]: [ExprId; 2],
        (stride, pad): (i64, i64),
        [h, w]: [i64; 2],
    ) -> ExprId {
        let [oy, ox, ky, kx] = [2, 3, 5, 6].map(|axis| self.axis(axis));
        let e = &mut self.kernel.exprs;
        let (stride, pad) = (e.int(stride), e.int(-pad));
        let mut at = |o, k| {
            let o = e.binary(BinaryOp::Mul, o, stride);
            let o = e.binary(BinaryOp::Add, o, k);
            e.binary(BinaryOp::Add, o, pad)
        };
        let (y, xx) = (at(oy, ky), at(ox, kx));
        let mut cond = e.add(Expr::Const(Const::bool(true)));
        for (i, bound) in [(y, h), (xx, w)] {
            let (zero, bound) = (e.int(0), e.int(bound));
            for (op, b) in [(BinaryOp::Ge, zero), (BinaryOp::Lt, bound)] {
                let inside = e.binary(op, i, b);
                cond = e.binary(BinaryOp::And, cond, inside);
            }
        }
        let other = e.add(Expr::Const(Const::float(DType::F32, 0.0)));
        let index = vec![n, channel, y, xx].into_boxed_slice();
        e.add(Expr::Load { buffer: x, dtype: DType::F32, index, guard: Some(Guard { cond, other }) })
    }
    pub(super) fn store(&mut self, buffer: BufferId, index: &[ExprId], value: ExprId) {
        let (index, mode) = (index.into(), StoreMode::Set);
        self.kernel.stores.push(Store { buffer, index, value, guard: None, mode });
    }
    pub(super) fn reduce(&mut self, op: ReduceOp, value: ExprId) -> ExprId {
        self.kernel.reductions.push(Reduction { op, value, payload: None });
        let dtype = self.kernel.exprs.dtype(value);
        self.kernel.exprs.add(Expr::Acc(self.kernel.reductions.len() - 1, dtype))
    }
    pub(super) fn extent(&self, dim: Dim) -> i64 {
        match dim {
            Dim::Const(n) => n,
            Dim::Var(v) => self.vars[v.index()].cast_signed(),
        }
    }

    /// Runs the kernel both ways on every kind of target.
    pub(super) fn check(&self) {
        for (vector_bytes, has_masks) in [(64, true), (32, true), (32, false), (16, false), (0, false)] {
            for n_registers in [16, 32] {
                let target =
                    ScheduleTarget { vector_bytes, n_registers, l1_bytes: 32 << 10, l2_bytes: 512 << 10, has_masks };
                self.check_on(&target);
            }
        }
    }

    pub(super) fn check_on(&self, target: &ScheduleTarget) {
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

pub(super) fn consts(extents: &[i64]) -> Vec<Dim> {
    extents.iter().map(|&n| Dim::Const(n)).collect()
}

pub(super) fn bits(case: &mut Case, value: f64) -> ExprId {
    case.kernel.exprs.add(Expr::Const(Const::float(DType::F32, value)))
}

/// A function of several kernels over `f32` buffers; runs it as it stands and scheduled, and compares what it returns.
pub(super) fn check_function(case: &mut Case, kernels: Vec<Kernel>, returned: &[BufferId]) -> usize {
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
pub(super) fn next(case: &mut Case, kernels: &mut Vec<Kernel>) {
    kernels.push(std::mem::replace(&mut case.kernel, Case::new().kernel));
}

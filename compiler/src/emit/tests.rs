//! Hand-built nests and functions, run on every backend through `run`.
#![allow(unsafe_code, reason = "calls compiled code on a frame made here")]

use super::target::Target;
use super::{program, symbol};
use crate::index::{Id as _, IndexVec};
use crate::loops::nest::{Local, Memory, Nest, NestBuffer, NestStmt, Op, Reg, RegType, Val};
use crate::loops::*;
use crate::types::DType;
use aot_runtime::abi::{Entry, Frame, Leaf, MAX_RANK, Tag};
use std::sync::Arc;

unsafe extern "C" {
    fn fmod(a: f64, b: f64) -> f64;
    fn sinf(a: f32) -> f32;
    fn cosf(a: f32) -> f32;
    fn tanf(a: f32) -> f32;
    fn erff(a: f32) -> f32;
    fn erf(a: f64) -> f64;
    fn exp(a: f64) -> f64;
}

unsafe extern "C" fn parallel_for(_: *mut Frame, n: i64, _: i64, body: aot_runtime::abi::Body, context: *mut u8) {
    // Uneven ranges, as a pool would make them.
    let half = n / 3;
    // SAFETY: the context belongs to the body.
    unsafe { body(context, half, n) };
    // SAFETY: as above.
    unsafe { body(context, 0, half) };
}

extern "C" fn raise(_: *mut Frame, _: *const u8, _: i64, _: *const u8, n: i64, _: *const u8, _: i64) -> i64 {
    -100 - n
}

fn resolve(name: &str) -> Option<*const u8> {
    Some(match name {
        "aot_rt_parallel_for" => parallel_for as *const u8,
        "aot_rt_raise" => raise as *const u8,
        "fmod" => fmod as *const u8,
        "sinf" => sinf as *const u8,
        "cosf" => cosf as *const u8,
        "tanf" => tanf as *const u8,
        "erff" => erff as *const u8,
        "erf" => erf as *const u8,
        "exp" => exp as *const u8,
        _ => return None,
    })
}

/// Compiles on each backend and calls function 0 with these argument leaves; `check` looks at status and results.
fn run(make: &dyn Fn(&Target) -> Program, inputs: &mut dyn FnMut() -> Vec<Leaf>, check: &dyn Fn(&str, i64, &[Leaf])) {
    let mut call = |name: &str, address: *const u8| {
        let mut arena = vec![0u64; 1024];
        let inputs = inputs();
        let mut outputs = [Leaf { tag: Tag::None as i64, bits: 0, dtype: 0, rank: 0, sizes: [0; MAX_RANK] }; 4];
        let mut state = [0u64; 4];
        let mut frame = Frame {
            weights: std::ptr::null(),
            arena: arena.as_mut_ptr().cast(),
            inputs: inputs.as_ptr(),
            outputs: outputs.as_mut_ptr(),
            state: state.as_mut_ptr(),
            slots: std::ptr::null_mut(),
            runtime: std::ptr::null_mut(),
            prepared: std::ptr::null_mut(),
        };
        // SAFETY: the address is that of an entry, and the frame is as it expects.
        let entry: Entry = unsafe { std::mem::transmute(address) };
        // SAFETY: as above.
        let status = unsafe { entry(&raw mut frame) };
        check(name, status, &outputs);
    };
    let exports = [symbol("aot", FunctionId::new(0))];
    #[cfg(feature = "llvm")]
    for name in ["native", "x86-64-v2", "x86-64-v3"] {
        use super::llvm::{Level, LlvmCode};
        let target = Target::named(name).unwrap();
        if Target::host().vector_bytes < target.vector_bytes || !cfg!(target_arch = "x86_64") && name != "native" {
            continue;
        }
        let made = make(&target);
        for level in [Level::None, Level::Full] {
            let (code, addresses) =
                LlvmCode::load(&|b| program(b, &made, "aot"), &target, level, &resolve, &exports).unwrap();
            call(&format!("llvm {name} {level:?}"), addresses[0]);
            drop(code);
        }
    }
    #[cfg(feature = "cranelift")]
    {
        let target = Target::host().for_cranelift();
        let made = make(&target);
        let load = super::cranelift::CraneliftCode::load;
        let (_code, addresses) = load(&|b| program(b, &made, "aot"), &target, resolve, &exports).unwrap();
        call("cranelift", addresses[0]);
    }
}

/// A program that runs a nest on its arguments.
fn launch(nest: Nest, dtypes: &[DType], scalars: &[Const]) -> Program {
    let mut function = Function { name: "forward".into(), ..Function::default() };
    for (index, &dtype) in dtypes.iter().enumerate() {
        let class = BufferClass::Input(index);
        let dims = vec![Dim::Const(64)];
        let buffer =
            function.buffers.push(Buffer { name: String::new(), dtype, dims, class, layout: Layout::RowMajor });
        function.inputs.push(Input { name: String::new(), kind: InputKind::Tensor { buffer, is_mutated: true } });
    }
    let scalars = scalars.iter().map(|&c| Operand::Const(c)).collect();
    let buffers = function.buffers.ids().collect();
    function.body.0.push(Stmt::Launch(Launch { nest: 0, buffers, scalars }));
    let mut program = Program { nests: vec![Arc::new(nest)], ..Program::default() };
    program.functions.push(function);
    program
}

fn leaf(data: *mut u8) -> Leaf {
    let mut sizes = [0; MAX_RANK];
    sizes[0] = 64;
    Leaf { tag: Tag::Tensor as i64, bits: data as u64, dtype: 6, rank: 1, sizes }
}

fn vector(dtype: DType, lanes: u16) -> RegType {
    RegType { dtype, lanes }
}

fn buffers(n: usize, dtype: DType) -> Vec<NestBuffer> {
    (0..n).map(|index| NestBuffer { dtype, is_written: index + 1 == n, align: 4 }).collect()
}

fn int(value: i64) -> Val {
    Val::Const(Const::int(value))
}

const B: fn(usize) -> Memory = Memory::Buffer;

fn load(buffer: usize, offset: Val) -> Op {
    Op::Load { memory: B(buffer), offset, stride: 1, mask: None }
}

fn store(buffer: usize, offset: Val, value: Reg) -> NestStmt {
    NestStmt::Store { memory: B(buffer), offset, stride: 1, value: Val::Reg(value), mask: None }
}

fn for_each(counter: Reg, end: i64, step: i64, parallel: bool, body: Vec<NestStmt>) -> NestStmt {
    NestStmt::For { counter, begin: int(0), end: int(end), step, parallel, body }
}

/// Adds 61 elements with a masked tail, as a parallel loop.
fn masked_add(target: &Target) -> Program {
    let lanes = target.lanes(4);
    let mut regs = IndexVec::new();
    let i = regs.push(RegType::INDEX);
    let index = regs.push(vector(DType::I64, lanes));
    let mask = regs.push(vector(DType::Bool, lanes));
    let [a, c, sum] = [0; 3].map(|_| regs.push(vector(DType::F32, lanes)));
    let n = regs.push(RegType::INDEX);
    let masked = |buffer| Op::Load { memory: B(buffer), offset: Val::Reg(i), stride: 1, mask: Some(Val::Reg(mask)) };
    let body = vec![
        NestStmt::Set(index, Op::Iota(Val::Reg(i))),
        NestStmt::Set(mask, Op::Binary(BinaryOp::Lt, Val::Reg(index), Val::Reg(n))),
        NestStmt::Set(a, masked(0)),
        NestStmt::Set(c, masked(1)),
        NestStmt::Set(sum, Op::Binary(BinaryOp::Add, Val::Reg(a), Val::Reg(c))),
        NestStmt::Store {
            memory: B(2),
            offset: Val::Reg(i),
            stride: 1,
            value: Val::Reg(sum),
            mask: Some(Val::Reg(mask)),
        },
    ];
    let body = vec![NestStmt::Set(n, Op::Param(0)), for_each(i, 61, i64::from(lanes), true, body)];
    let nest = Nest { buffers: buffers(3, DType::F32), scalars: vec![DType::I64], regs, body, ..Nest::default() };
    launch(nest, &[DType::F32; 3], &[Const::int(61)])
}

#[test]
fn vectors_add_with_a_masked_tail() {
    let a: Vec<f32> = (0..64u8).map(f32::from).collect();
    let results = std::cell::RefCell::new(vec![0f32; 64]);
    run(
        &masked_add,
        &mut || {
            results.borrow_mut().fill(-1.0);
            let out = results.borrow_mut().as_mut_ptr();
            vec![leaf(a.as_ptr() as *mut u8), leaf(a.as_ptr() as *mut u8), leaf(out.cast())]
        },
        &|name, status, _| {
            assert_eq!(status, 0, "{name}");
            for (i, &result) in results.borrow().iter().enumerate() {
                let expected = if i < 61 { 2.0 * a[i] } else { -1.0 };
                assert!((result - expected).abs() < 1e-6, "{name}: [{i}] is {result}");
            }
        },
    );
}

/// out[8 lanes] = sum over 16 rounds of in[3 k + lane * 2] * in2[k], through a local array, then its horizontal sum.
fn tile(target: &Target) -> Program {
    let lanes = target.lanes(4);
    let mut regs = IndexVec::new();
    let k = regs.push(RegType::INDEX);
    let [acc, x, w, out, gathered] = [0; 5].map(|_| regs.push(vector(DType::F32, lanes)));
    let offset = regs.push(RegType::INDEX);
    let total = regs.push(RegType::scalar(DType::F32));
    let indices = regs.push(vector(DType::I64, lanes));
    let zero = Val::Const(Const::float(DType::F32, 0.0));
    let strided = Op::Load { memory: B(0), offset: Val::Reg(offset), stride: 2, mask: None };
    let spread = Op::Load { memory: B(1), offset: Val::Reg(k), stride: 0, mask: None };
    let local = Memory::Local(0);
    let body = vec![
        NestStmt::Set(acc, Op::Copy(zero)),
        for_each(
            k,
            16,
            1,
            false,
            vec![
                NestStmt::Set(offset, Op::Binary(BinaryOp::Mul, Val::Reg(k), int(2))),
                NestStmt::Set(x, strided),
                NestStmt::Set(w, spread),
                NestStmt::Set(acc, Op::Fma(Val::Reg(x), Val::Reg(w), Val::Reg(acc))),
            ],
        ),
        NestStmt::Store { memory: local, offset: int(0), stride: 1, value: Val::Reg(acc), mask: None },
        NestStmt::Set(out, Op::Load { memory: local, offset: int(0), stride: 1, mask: None }),
        store(2, int(0), out),
        NestStmt::Set(total, Op::Horizontal(ReduceOp::Sum, out)),
        NestStmt::Store { memory: B(2), offset: int(32), stride: 1, value: Val::Reg(total), mask: None },
        NestStmt::Set(indices, Op::Iota(int(5))),
        NestStmt::Set(gathered, Op::Gather { memory: B(0), offsets: Val::Reg(indices), mask: None }),
        store(2, int(40), gathered),
    ];
    let locals = vec![Local { dtype: DType::F32, len: usize::from(lanes) }];
    let nest = Nest { buffers: buffers(3, DType::F32), locals, regs, body, ..Nest::default() };
    launch(nest, &[DType::F32; 3], &[])
}

#[test]
fn tiles_accumulate_and_reduce() {
    let a: Vec<f32> = (0..64u8).map(|i| f32::from(i) * 0.25).collect();
    let results = std::cell::RefCell::new(vec![0f32; 64]);
    run(
        &tile,
        &mut || {
            let out = results.borrow_mut().as_mut_ptr();
            vec![leaf(a.as_ptr() as *mut u8), leaf(a.as_ptr() as *mut u8), leaf(out.cast())]
        },
        &|name, _, _| {
            let results = results.borrow();
            let mut sum = 0.0;
            let lanes = if name.contains("v2") || name.contains("cranelift") {
                4
            } else if name.contains("v3") {
                8
            } else {
                usize::from(Target::host().lanes(4))
            };
            for lane in 0..lanes {
                let expected: f32 = (0..16).map(|k| a[2 * k + 2 * lane] * a[k]).sum();
                assert!((results[lane] - expected).abs() < 1e-3, "{name}: {lane}: {} {expected}", results[lane]);
                assert!((results[40 + lane] - a[5 + lane]).abs() < 1e-6, "{name}");
                sum += expected;
            }
            assert!((results[32] - sum).abs() < 1e-2, "{name}: {} {sum}", results[32]);
        },
    );
}

/// out[i] = op(in[i]) over 64 elements.
fn elementwise(op: UnaryOp) -> impl Fn(&Target) -> Program {
    move |target| {
        let lanes = target.lanes(4);
        let mut regs = IndexVec::new();
        let i = regs.push(RegType::INDEX);
        let [x, y] = [0; 2].map(|_| regs.push(vector(DType::F32, lanes)));
        let body = vec![
            NestStmt::Set(x, load(0, Val::Reg(i))),
            NestStmt::Set(y, Op::Unary(op, Val::Reg(x))),
            store(1, Val::Reg(i), y),
        ];
        let body = vec![for_each(i, N as i64, i64::from(lanes), false, body)];
        launch(Nest { buffers: buffers(2, DType::F32), regs, body, ..Nest::default() }, &[DType::F32; 2], &[])
    }
}

const N: usize = 1 << 14;

/// Largest error in ulp of the polynomial over a dense sample and the special values.
fn accuracy(op: UnaryOp, low: f32, high: f32, exact: fn(f64) -> f64, limit: f64) {
    let step = (f64::from(high) - f64::from(low)) / (N - 16) as f64;
    let mut x: Vec<f32> = (0..N).map(|i| (f64::from(low) + step * i as f64) as f32).collect();
    let special = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-40, 1.0, -1.0, 1e-8, -1e-8, 3e38, -3e38];
    x[..special.len()].copy_from_slice(&special);
    let results = std::cell::RefCell::new(vec![0f32; N]);
    run(
        &elementwise(op),
        &mut || vec![leaf(x.as_ptr() as *mut u8), leaf(results.borrow_mut().as_mut_ptr().cast())],
        &|name, _, _| {
            let mut worst = (0.0, 0.0, 0.0);
            for (&x, &got) in x.iter().zip(results.borrow().iter()) {
                let want = exact(f64::from(x));
                let single = want as f32;
                if single.is_nan() || single.is_infinite() {
                    let same = single.is_nan() && got.is_nan() || single == got;
                    assert!(same, "{name}: {op:?}({x:e}) is {got:e}, not {single:e}");
                    continue;
                }
                if single == 0.0 {
                    let same_sign = got.is_sign_negative() == single.is_sign_negative();
                    assert!(got.abs() < 1e-44 && same_sign, "{name}: {op:?}({x:e}) is {got:e}, not {single:e}");
                    continue;
                }
                let ulp = f64::from(f32::from_bits(single.abs().to_bits() + 1)) - f64::from(single.abs());
                let error = (f64::from(got) - want).abs() / ulp;
                if error.is_nan() || error > worst.0 {
                    worst = (error, x, got);
                }
            }
            assert!(worst.0 <= limit, "{name}: {op:?}({:e}) is {:e}: {} ulp", worst.1, worst.2, worst.0);
        },
    );
}

#[test]
fn exponentials_are_accurate() {
    accuracy(UnaryOp::Exp, -105.0, 90.0, f64::exp, 1.5);
    accuracy(UnaryOp::Exp2, -150.0, 129.0, f64::exp2, 1.5);
    accuracy(UnaryOp::Expm1, -20.0, 89.0, f64::exp_m1, 2.5);
    accuracy(UnaryOp::Expm1, -1.0, 1.0, f64::exp_m1, 2.5);
}

#[test]
fn logarithms_are_accurate() {
    accuracy(UnaryOp::Log, 1e-3, 3.0, f64::ln, 1.5);
    accuracy(UnaryOp::Log2, 1e-3, 3.0, f64::log2, 2.5);
    accuracy(UnaryOp::Log10, 1e-3, 3.0, f64::log10, 2.5);
    accuracy(UnaryOp::Log1p, -0.99, 2.0, f64::ln_1p, 2.5);
}

#[test]
fn bounded_functions_are_accurate() {
    accuracy(UnaryOp::Tanh, -10.0, 10.0, f64::tanh, 3.0);
    // SAFETY: a function of the C library.
    accuracy(UnaryOp::Erf, -4.5, 4.5, |x| unsafe { erf(x) }, 2.5);
}

#[test]
fn circular_functions_are_accurate() {
    accuracy(UnaryOp::Sin, -300.0, 300.0, f64::sin, 1.5);
    accuracy(UnaryOp::Cos, -300.0, 300.0, f64::cos, 1.5);
    accuracy(UnaryOp::Tan, -300.0, 300.0, f64::tan, 3.5);
}

/// total = 0; for i in 0..n: total = floormod(total * 3 + i, -7); raises where n < 0.
fn control(_: &Target) -> Program {
    let mut function = Function { name: "forward".into(), ..Function::default() };
    let mut var = |ty| function.vars.push(Var { ty, name: String::new() });
    let [n, i, total, t] = [0; 4].map(|_| var(VarType::Int));
    let (more, big) = (var(VarType::Bool), var(VarType::Bool));
    function.inputs.push(Input { name: "n".into(), kind: InputKind::Scalar { var: n, only: None } });
    let v = Operand::Var;
    let c = |value| Operand::Const(Const::int(value));
    let set = |var, op, a, b| Stmt::Assign(var, HostExpr::Binary(op, a, b));
    let body = Block(vec![
        set(t, BinaryOp::Mul, v(total), c(3)),
        set(t, BinaryOp::Add, v(t), v(i)),
        set(total, BinaryOp::FloorMod, v(t), c(-7)),
        set(i, BinaryOp::Add, v(i), c(1)),
        set(more, BinaryOp::Lt, v(i), v(n)),
    ]);
    let place: Arc<str> = "net.py:1".into();
    let is_odd = Block(vec![Stmt::Return(1, vec![Arg::Scalar(v(total)), Arg::Scalar(v(big))])]);
    function.body = Block(vec![
        set(big, BinaryOp::Ge, v(n), c(0)),
        Stmt::Check {
            cond: v(big),
            class: "RuntimeError".into(),
            message: Operand::Str("negative".into()),
            parts: Vec::new(),
            place: place.clone(),
        },
        set(more, BinaryOp::Lt, v(i), v(n)),
        Stmt::While(more, body),
        set(big, BinaryOp::Gt, v(n), c(10)),
        Stmt::If(v(big), is_odd, Block(vec![Stmt::Return(0, vec![Arg::Scalar(v(total))])])),
        Stmt::Raise { class: "".into(), message: Operand::Str("unreachable".into()), place },
    ]);
    let mut program = Program::default();
    program.functions.push(function);
    program
}

#[test]
fn host_code_loops_raises_and_returns() {
    for n in [-1i64, 0, 5, 40] {
        let input = Leaf { tag: Tag::Int as i64, bits: n.cast_unsigned(), dtype: 0, rank: 0, sizes: [0; MAX_RANK] };
        run(&control, &mut || vec![input], &|name, status, outputs| {
            if n < 0 {
                assert_eq!(status, -108, "{name}");
                return;
            }
            assert_eq!(status, i64::from(n > 10), "{name}");
            let total = (0..n).fold(0, |total, i| fold_i64(BinaryOp::FloorMod, total * 3 + i, -7).unwrap());
            assert_eq!((outputs[0].tag, outputs[0].bits.cast_signed()), (Tag::Int as i64, total), "{name}");
            assert!(n <= 10 || (outputs[1].tag, outputs[1].bits) == (Tag::Bool as i64, 1), "{name}");
        });
    }
}

#[cfg(feature = "llvm")]
#[test]
fn files_are_the_same_each_time() {
    use super::llvm::{Artifact, Level, compile};
    for name in ["x86-64-v3", "aarch64"] {
        let target = Target::named(name).unwrap();
        let made = masked_add(&target);
        let all = [Artifact::Object, Artifact::Assembly, Artifact::Text, Artifact::Bitcode];
        let make = || compile(&|b| program(b, &made, "aot"), &target, Level::Full, &all).unwrap();
        let (first, second) = (make(), make());
        assert!(first == second && first.iter().all(|bytes| !bytes.is_empty()));
    }
}

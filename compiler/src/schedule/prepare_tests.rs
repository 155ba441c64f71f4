//! Weights in other forms: what is stored, what is computed when a model is opened, and that results do not depend on it.

use super::convolution_tests::{PLAIN, buffer, check_program, load, program as convolution, values};
use super::prepare::Preparing;
use super::{Options, ScheduleTarget, schedule};
use crate::index::Id as _;
use crate::loops::{
    Arg, Axis, AxisKind, BinaryOp, BufferClass, Dim, Expr, Exprs, Function, FunctionId, Input, InputKind, Kernel,
    Method, OutputTree, Program, ReduceOp, Reduction, Stmt, Store, StoreMode, Variant, Weight, verify,
};
use crate::types::{DType, TensorData, Type};
use aot_runtime::{Tensor, Value};
use std::sync::Arc;

const TARGET: ScheduleTarget =
    ScheduleTarget { vector_bytes: 32, n_registers: 16, l1_bytes: 32 << 10, l2_bytes: 512 << 10, has_masks: true };

fn kernel(extents: &[(i64, AxisKind)]) -> Kernel {
    Kernel {
        name: "k".into(),
        place: "".into(),
        axes: extents.iter().map(|&(n, kind)| Axis { extent: Dim::Const(n), kind }).collect(),
        exprs: Exprs::new(),
        reductions: Vec::new(),
        stores: Vec::new(),
        is_ordered: false,
    }
}

/// `y[m, n] = sum of x[m, k] * w[n, k]`, and `2 * w[n, 0]` as a second result if the weight is read as it is.
fn linear(n: i64, is_read: bool) -> (Program, Vec<Value>) {
    let (m, k) = (4, 40);
    let mut program = Program::default();
    let bytes = values(&[n, k], 3).iter().flat_map(|x| x.to_ne_bytes()).collect();
    let data = Arc::new(TensorData::from_bytes(DType::F32, &[n, k], bytes).unwrap());
    let weight = program.weights.push(Weight { name: "w".into(), data });
    let mut f = Function { name: "forward".into(), params: vec![OutputTree::Tensor], ..Function::default() };
    let x = buffer(&mut f, BufferClass::Input(0), &[m, k]);
    f.inputs.push(Input { name: "x".into(), kind: InputKind::Tensor { buffer: x, is_mutated: false } });
    let w = buffer(&mut f, BufferClass::Weight(weight), &[n, k]);
    let y = buffer(&mut f, BufferClass::Temp { offset: None }, &[m, n]);
    let mut product = kernel(&[(m, AxisKind::Parallel), (n, AxisKind::Parallel), (k, AxisKind::Reduce)]);
    let e = &mut product.exprs;
    let [i, j, r] = [0, 1, 2].map(|axis| e.add(Expr::Axis(axis)));
    let (a, b) = (load(e, x, &[i, r]), load(e, w, &[j, r]));
    let value = e.binary(BinaryOp::Mul, a, b);
    let sum = e.add(Expr::Acc(0, DType::F32));
    product.reductions.push(Reduction { op: ReduceOp::Sum, value, payload: None });
    product.stores.push(Store { buffer: y, index: [i, j].into(), value: sum, guard: None, mode: StoreMode::Set });
    f.body.0.push(Stmt::Kernel(Box::new(product)));
    let mut results = vec![Arg::Buffer(y)];
    if is_read {
        let z = buffer(&mut f, BufferClass::Temp { offset: None }, &[n]);
        let mut twice = kernel(&[(n, AxisKind::Parallel)]);
        let e = &mut twice.exprs;
        let (j, zero) = (e.add(Expr::Axis(0)), e.int(0));
        let first = load(e, w, &[j, zero]);
        let value = e.binary(BinaryOp::Add, first, first);
        twice.stores.push(Store { buffer: z, index: [j].into(), value, guard: None, mode: StoreMode::Set });
        f.body.0.push(Stmt::Kernel(Box::new(twice)));
        results.push(Arg::Buffer(z));
    }
    f.results = vec![OutputTree::Tuple(vec![OutputTree::Tensor; results.len()])];
    f.body.0.push(Stmt::Return(0, results));
    program.functions.push(f);
    let variants = vec![Variant { state_tag: None, function: FunctionId::new(0) }];
    program.methods.push(Method { name: "forward".into(), params: vec![("x".into(), Type::tensor())], variants });
    (program, vec![Value::Tensor(Tensor::from_f32(&[m, k], &values(&[m, k], 1)).unwrap())])
}

/// Elements that are stored and elements that are prepared.
fn sizes(mut program: Program) -> (i64, usize) {
    schedule(&mut program, &TARGET, &Options::default()).unwrap();
    assert_eq!(program.prepare.is_some(), !program.prepared.is_empty());
    let stored = program.weights.iter().map(|w| w.data.numel()).sum();
    (stored, program.prepared.iter().map(|p| p.n_elements).sum())
}

#[test]
fn panels_take_the_place_of_a_weight_that_nothing_else_reads() {
    assert_eq!(sizes(linear(32, false).0), (32 * 40, 0));
    // 20 columns fill two vectors of 8 and half of a third.
    assert_eq!(sizes(linear(20, false).0), (24 * 40, 0));
}

#[test]
fn panels_are_prepared_beside_a_weight_that_is_read_as_it_is() {
    assert_eq!(sizes(linear(32, true).0), (32 * 40, 32 * 40));
    assert_eq!(sizes(linear(20, true).0), (20 * 40, 24 * 40));
}

#[test]
fn winograd_stores_the_original_alone() {
    let pairs = PLAIN.ic * PLAIN.oc;
    let n_prepared = usize::try_from(2 * 36 * pairs).unwrap();
    assert_eq!(sizes(convolution(PLAIN, 2).0), (2 * 9 * pairs, n_prepared));
}

#[test]
fn results_are_those_of_the_evaluator() {
    for n in [16, 20, 33, 100] {
        for is_read in [false, true] {
            let (program, args) = linear(n, is_read);
            check_program(&program, &args, &format!("{n} {is_read}"));
        }
    }
}

/// A program with Winograd's transform and nothing else done to it.
fn transformed() -> (Program, Vec<Value>) {
    let (mut program, args) = convolution(PLAIN, 1);
    let mut preparing = Preparing::default();
    super::winograd::rewrite(&mut program, &mut preparing, &TARGET).unwrap();
    preparing.finish(&mut program).unwrap();
    (program, args)
}

#[test]
fn the_evaluator_prepares_too() {
    let (program, args) = transformed();
    verify(&program).unwrap();
    let text = program.to_string();
    assert!(text.contains("prepared p0 \"winograd w\": Float[9216]\n"), "{text}");
    assert!(text.contains("prepare f1\n"), "{text}");
    let run = |program: Program| {
        let model = crate::eval::load(Arc::new(program)).unwrap();
        // A second instance sees what was prepared once.
        let results = [model.instance(), model.instance()].map(|i| i.unwrap().call("forward", &args).unwrap());
        results.map(|value| value.as_tensor().unwrap().to_bytes())
    };
    let floats = |b: &[u8]| b.chunks(4).map(|b| f32::from_ne_bytes(b.try_into().unwrap())).collect::<Vec<_>>();
    let ([first, second], [plain, _]) = (run(program), run(convolution(PLAIN, 1).0));
    assert_eq!(first, second);
    for (g, w) in floats(&first).iter().zip(floats(&plain)) {
        assert!((g - w).abs() < 1e-4 * w.abs().max(1.0), "{g} for {w}");
    }
}

#[test]
fn only_the_prepare_function_writes_what_is_prepared() {
    let (mut program, _) = transformed();
    let prepare = program.prepare.take().unwrap();
    let error = verify(&program).unwrap_err();
    assert!(error.ends_with("a constant"), "{error}");
    program.prepare = Some(FunctionId::new(0));
    let error = verify(&program).unwrap_err();
    assert_eq!(error, "prepare: it has inputs");
    program.prepare = Some(prepare);
    program.n_state_scalars = 1;
    program.functions[prepare].body.0.insert(0, Stmt::StoreState(0, crate::loops::Operand::Str("".into())));
    let error = verify(&program).unwrap_err();
    assert!(error.ends_with("needs an instance"), "{error}");
}

#[test]
fn equal_programs_are_prepared_equally() {
    let text = || {
        let (mut program, _) = convolution(PLAIN, 3);
        schedule(&mut program, &TARGET, &Options::default()).unwrap();
        program.to_string()
    };
    assert_eq!(text(), text());
}

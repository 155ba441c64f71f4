//! Evaluated models behind the runtime's entry code: state, slots, objects, routines and exceptions.

use super::load;
use crate::loops::{
    Arg, Axis, AxisKind, BinaryOp, Block, Buffer, BufferClass, BufferId, Const, Dim, Expr, Exprs, Function, FunctionId,
    HostExpr, Input, InputKind, Kernel, Layout, Method, Operand, OutputTree, Program, Stmt, Store, StoreMode, Var,
    VarId, VarType, Variant, verify,
};
use crate::types::{DType, Type};
use aot_runtime::{Status, Tensor, Value};
use std::sync::Arc;

/// `buffer = value` over one axis of this extent.
fn map(
    to: BufferId,
    extent: Dim,
    value: impl FnOnce(&mut Exprs, crate::loops::ExprId) -> crate::loops::ExprId,
) -> Stmt {
    let mut exprs = Exprs::new();
    let axis = exprs.add(Expr::Axis(0));
    let value = value(&mut exprs, axis);
    let store = Store { buffer: to, index: [axis].into(), value, guard: None, mode: StoreMode::Set };
    Stmt::Kernel(Box::new(Kernel {
        name: "map".into(),
        place: "".into(),
        axes: vec![Axis { extent, kind: AxisKind::Parallel }],
        exprs,
        reductions: vec![],
        stores: vec![store],
        is_ordered: false,
    }))
}

fn load_element(exprs: &mut Exprs, buffer: BufferId, index: crate::loops::ExprId) -> crate::loops::ExprId {
    exprs.add(Expr::Load { buffer, dtype: DType::F32, index: [index].into(), guard: None })
}

/// `forward(x)`: adds `x` to a running total in a slot and appends it to a list in the state; gives the total, the number of
/// calls and the list. Raises where an extent is 3.
fn program() -> Program {
    let mut f = Function { name: "forward".into(), params: vec![OutputTree::Tensor], ..Function::default() };
    let mut var = |ty| f.vars.push(Var { ty, name: String::new() });
    let (n, calls, list, bad, message) =
        (var(VarType::Int), var(VarType::Int), var(VarType::Object), var(VarType::Bool), var(VarType::Object));
    let mut buffer = |name: &str, class| {
        let dims = vec![Dim::Var(n)];
        f.buffers.push(Buffer { name: name.into(), dtype: DType::F32, dims, class, layout: Layout::RowMajor })
    };
    let x = buffer("x", BufferClass::Input(0));
    let (temp, total) = (buffer("", BufferClass::Slot(1)), buffer("total", BufferClass::Slot(0)));
    f.inputs.push(Input { name: "x".into(), kind: InputKind::Tensor { buffer: x, is_mutated: true } });
    let first = f.vars.push(Var { ty: VarType::Bool, name: "first".into() });
    let one = Operand::Const(Const::int(1));
    f.body.0 = vec![
        Stmt::Assign(bad, HostExpr::Binary(BinaryOp::Ne, Operand::Var(n), Operand::Const(Const::int(3)))),
        Stmt::Call {
            routine: "str_concat",
            args: vec![Arg::Scalar(Operand::Str("size ".into())), Arg::Scalar(Operand::Str("three".into()))],
            results: vec![message],
            place: "".into(),
        },
        Stmt::Check {
            cond: Operand::Var(bad),
            class: "ValueError".into(),
            message: Operand::Var(message),
            parts: Vec::new(),
            place: "net.py:3".into(),
        },
        Stmt::LoadState(calls, 0),
        Stmt::LoadState(list, 1),
        Stmt::Assign(first, HostExpr::Binary(BinaryOp::Eq, Operand::Var(calls), Operand::Const(Const::int(0)))),
        Stmt::If(
            Operand::Var(first),
            Block(vec![Stmt::Alloc(total), map(total, Dim::Var(n), |e, i| load_element(e, x, i))]),
            Block(vec![
                Stmt::Alloc(temp),
                map(temp, Dim::Var(n), |e, i| {
                    let (a, b) = (load_element(e, x, i), load_element(e, total, i));
                    e.binary(BinaryOp::Add, a, b)
                }),
                map(total, Dim::Var(n), |e, i| load_element(e, temp, i)),
            ]),
        ),
        Stmt::Call {
            routine: "list_push",
            args: vec![Arg::Scalar(Operand::Var(list)), Arg::Buffer(x)],
            results: vec![],
            place: "".into(),
        },
        Stmt::Assign(calls, HostExpr::Binary(BinaryOp::Add, Operand::Var(calls), one)),
        Stmt::StoreState(0, Operand::Var(calls)),
        Stmt::StoreState(1, Operand::Var(list)),
        map(x, Dim::Var(n), |e, _| e.add(Expr::Const(Const::float(DType::F32, 7.0)))),
        Stmt::Return(0, vec![Arg::Buffer(total), Arg::Scalar(Operand::Var(calls)), Arg::Scalar(Operand::Var(list))]),
    ];
    f.results = vec![OutputTree::Tuple(vec![OutputTree::Tensor, OutputTree::Int, OutputTree::Object])];
    let mut init = Function { name: "init".into(), results: vec![OutputTree::None], ..Function::default() };
    let list: VarId = init.vars.push(Var { ty: VarType::Object, name: String::new() });
    init.body.0 = vec![
        Stmt::Call { routine: "list_new", args: vec![], results: vec![list], place: "".into() },
        Stmt::StoreState(1, Operand::Var(list)),
        Stmt::Return(0, vec![]),
    ];
    let mut program = Program { n_state_scalars: 2, n_slots: 2, ..Program::default() };
    program.functions.push(f);
    program.init = Some(program.functions.push(init));
    program.methods = vec![Method {
        name: "forward".into(),
        params: vec![("x".into(), Type::tensor())],
        variants: vec![Variant { state_tag: None, function: FunctionId(0) }],
    }];
    program
}

fn floats(value: &Value) -> Vec<f32> {
    let bytes = value.as_tensor().expect("a tensor").to_bytes();
    bytes.chunks_exact(4).map(|b| f32::from_ne_bytes(b.try_into().expect("four bytes"))).collect()
}

#[test]
fn evaluated_models_keep_state_and_objects_and_raise() {
    let program = program();
    verify(&program).expect("the program keeps the rules");
    let model = load(Arc::new(program)).expect("it loads");
    let mut instance = model.instance().expect("it starts");
    let mut call = |values: &[f32]| {
        let x = Tensor::from_f32(&[i64::try_from(values.len()).unwrap()], values).unwrap();
        let result = instance.call("forward", &[Value::Tensor(x.clone())]);
        (result, floats(&Value::Tensor(x)))
    };
    let (first, x) = call(&[1.0, 2.0]);
    assert_eq!(x, [7.0, 7.0], "mutated arguments are written back");
    drop(first.expect("it runs"));
    let (second, _) = call(&[10.0, 20.0]);
    let Value::Tuple(items) = second.expect("it runs") else { panic!("not a tuple") };
    assert_eq!(floats(&items[0]), [11.0, 22.0]);
    assert!(matches!(items[1], Value::Int(2)));
    let Value::List(list) = &items[2] else { panic!("not a list") };
    let list: Vec<_> = list.iter().map(floats).collect();
    assert_eq!(list, [[1.0, 2.0], [10.0, 20.0]]);

    let (third, _) = call(&[1.0, 2.0, 3.0]);
    let error = third.expect_err("three elements are refused");
    assert_eq!((error.status, error.to_string().as_str()), (Status::Raised, "ValueError: size three\n  at net.py:3"));
    // Another instance starts anew.
    let mut fresh = model.instance().expect("it starts");
    let x = Tensor::from_f32(&[1], &[5.0]).unwrap();
    let Value::Tuple(items) = fresh.call("forward", &[Value::Tensor(x)]).expect("it runs") else {
        panic!("not a tuple")
    };
    assert!(matches!(items[1], Value::Int(1)));
}

#[test]
fn unknown_routines_are_errors_of_the_compiler() {
    let mut program = program();
    program.functions[FunctionId(0)].body.0[1] =
        Stmt::Call { routine: "no_such_thing", args: vec![], results: vec![], place: "".into() };
    let model = load(Arc::new(program)).expect("it loads");
    let x = Tensor::from_f32(&[1], &[5.0]).unwrap();
    let error = model.call("forward", &[Value::Tensor(x)]).expect_err("there is no such routine");
    assert_eq!(error.status, Status::Internal);
    assert!(error.message.contains("no_such_thing"), "{error}");
}

//! Small sources through the front end and lowering, run by the evaluator and by machine code.

use super::{ArgSpec, DimSpec, Request};
use crate::archive::Archive;
use crate::driver::{self, Backend, Timings};
use crate::exec::Executable;
use crate::source::Source;
use crate::types::{DType, IValue, Object, TensorData};
use aot_runtime::{Tensor, Value};
use indexmap::IndexMap;
use std::sync::Arc;

/// A module class with these attribute lines, methods and attribute values.
fn archive(attr_lines: &str, methods: &str, attrs: &[(&str, IValue)]) -> Archive {
    let text = format!("class M(Module):\n  __parameters__ = []\n  __buffers__ = []\n{attr_lines}{methods}");
    let name = "code/__torch__.py".to_owned();
    let source = Arc::new(Source { name: name.clone(), text, origins: Vec::new() });
    let attrs = attrs.iter().map(|(name, value)| (Arc::from(*name), value.clone())).collect();
    Archive {
        path: "test.pt".into(),
        version: 10,
        root: Arc::new(Object { class: "__torch__.M".into(), attrs }),
        constants: Vec::new(),
        sources: IndexMap::from([(name, source)]),
        traced_inputs: IndexMap::new(),
        extra_files: IndexMap::new(),
    }
}

fn models(archive: &Archive, args: &[Value]) -> Vec<Executable> {
    let module = driver::front_end(archive).expect("the source compiles");
    let args = args.iter().map(|v| ArgSpec::of(v).expect("a plain argument")).collect();
    let request = Request::new("forward", args);
    let mut timings = Timings::default();
    let program = driver::lower(&module, &[request], &mut timings).unwrap_or_else(|e| panic!("{}", e.render()));
    [Backend::Reference, Backend::Cranelift]
        .map(|backend| {
            driver::load(program.clone(), backend, &mut timings).unwrap_or_else(|e| panic!("{}", e.render()))
        })
        .into()
}

/// Runs `forward` once on a fresh instance of each backend; the results, which must agree, as text.
fn check(methods: &str, args: &[Value], expected: &str) {
    for model in models(&archive("", methods, &[]), args) {
        let result = model.instance().expect("an instance").call("forward", args);
        assert_eq!(text(&result), expected);
    }
}

fn text(result: &Result<Value, aot_runtime::Error>) -> String {
    match result {
        Ok(value) => value_text(value),
        Err(error) => format!("{}: {}", error.class, error.message),
    }
}

fn value_text(value: &Value) -> String {
    let all = |items: &[Value]| items.iter().map(value_text).collect::<Vec<_>>().join(", ");
    match value {
        Value::Int(x) => x.to_string(),
        Value::Bool(x) => x.to_string(),
        Value::Float(x) => format!("{x:?}"),
        Value::Str(x) => x.clone(),
        Value::Tensor(t) => {
            let bytes = t.to_bytes();
            let floats = bytes.chunks_exact(4).map(|b| f32::from_ne_bytes(b.try_into().expect("four bytes")));
            format!("{:?}{:?}", t.sizes, floats.collect::<Vec<_>>())
        }
        Value::List(items) => format!("[{}]", all(items)),
        Value::Tuple(items) => format!("({})", all(items)),
        other => format!("{other:?}"),
    }
}

fn floats(sizes: &[i64], elements: &[f32]) -> Value {
    Value::Tensor(Tensor::from_f32(sizes, elements).expect("sizes fit"))
}

#[test]
fn loops_carry_numbers_and_tensors() {
    let methods = "  def forward(self: __torch__.M, x: Tensor, n: int) -> Tuple[Tensor, int]:\n    y = x\n    s = 0\n    \
                   for i in range(n):\n      y0 = torch.add(y, x)\n      s0 = torch.add(s, i)\n      y, s = y0, s0\n    \
                   return (y, s)\n";
    check(methods, &[floats(&[2], &[1.0, 3.0]), Value::Int(4)], "([2][5.0, 15.0], 6)");
    check(methods, &[floats(&[2], &[1.0, 3.0]), Value::Int(0)], "([2][1.0, 3.0], 0)");
}

#[test]
fn loops_swap_what_they_carry() {
    let methods = "  def forward(self: __torch__.M, x: Tensor, y: Tensor, n: int) -> Tuple[Tensor, Tensor]:\n    a = x\n    \
                   b = y\n    for i in range(n):\n      c = b\n      d = a\n      a, b = c, d\n    return (a, b)\n";
    let args = [floats(&[1], &[1.0]), floats(&[1], &[2.0]), Value::Int(3)];
    check(methods, &args, "([1][2.0], [1][1.0])");
}

#[test]
fn in_place_operators_show_through_views() {
    let methods = "  def forward(self: __torch__.M, x: Tensor) -> Tensor:\n    y = torch.add(x, 0)\n    v = torch.select(y, \
                   0, 1)\n    _0 = torch.add_(v, 10)\n    return torch.mul(y, 2)\n";
    check(methods, &[floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0])], "[2, 2][2.0, 4.0, 26.0, 28.0]");
}

#[test]
fn arguments_changed_in_place_are_changed_for_the_caller() {
    let methods = "  def forward(self: __torch__.M, x: Tensor) -> int:\n    _0 = torch.add_(x, 1)\n    return 0\n";
    let args = [floats(&[2], &[1.0, 2.0])];
    for model in models(&archive("", methods, &[]), &args) {
        let args = [floats(&[2], &[1.0, 2.0])];
        model.instance().expect("an instance").call("forward", &args).expect("it runs");
        assert_eq!(value_text(&args[0]), "[2][2.0, 3.0]");
    }
}

#[test]
fn state_may_change_its_shape_between_calls() {
    let lines = "  h : Tensor\n  n : int\n";
    let methods = "  def forward(self: __torch__.M, x: Tensor) -> Tensor:\n    h = self.h\n    if torch.eq(torch.dim(h), \
                   1):\n      h0 = x\n    else:\n      h0 = torch.add(h, x)\n    self.h = h0\n    n = self.n\n    self.n = \
                   torch.add(n, 1)\n    return torch.mul(h0, torch.add(n, 1))\n";
    let empty = TensorData::from_bytes(DType::F32, &[0], Vec::new()).expect("no elements");
    let attrs = [("h", IValue::Tensor(Arc::new(empty))), ("n", IValue::Int(0))];
    let args = [floats(&[1, 2], &[1.0, 2.0])];
    for model in models(&archive(lines, methods, &attrs), &args) {
        let mut instance = model.instance().expect("an instance");
        let results: Vec<_> = (0..9).map(|_| text(&instance.call("forward", &args))).collect();
        assert_eq!(results[..3], ["[1, 2][1.0, 2.0]", "[1, 2][4.0, 8.0]", "[1, 2][9.0, 18.0]"]);
        assert_eq!(results[8], "[1, 2][81.0, 162.0]");
    }
}

#[test]
fn extents_may_be_known_only_when_running() {
    let methods = "  def forward(self: __torch__.M, x: Tensor) -> Tensor:\n    y = torch.view(x, [torch.size(x, 0), -1])\n    z = \
                   torch.add(y, torch.sum(y, [0], True))\n    return torch.mul(z, torch.size(x, 0))\n";
    let module = driver::front_end(&archive("", methods, &[])).expect("the source compiles");
    let dims = vec![DimSpec::Symbol("N".into()), DimSpec::Known(2), DimSpec::Known(1)];
    let request = Request::new("forward", vec![ArgSpec::Tensor(DType::F32, dims)]);
    let mut timings = Timings::default();
    let program = driver::lower(&module, &[request], &mut timings).unwrap_or_else(|e| panic!("{}", e.render()));
    for backend in [Backend::Reference, Backend::Cranelift, Backend::Llvm] {
        let model = driver::load(program.clone(), backend, &mut timings).unwrap_or_else(|e| panic!("{}", e.render()));
        let mut instance = model.instance().expect("an instance");
        let one = instance.call("forward", &[floats(&[1, 2, 1], &[1.0, 2.0])]);
        assert_eq!(text(&one), "[1, 2][2.0, 4.0]");
        let two = instance.call("forward", &[floats(&[2, 2, 1], &[1.0, 2.0, 3.0, 4.0])]);
        assert_eq!(text(&two), "[2, 2][10.0, 16.0, 14.0, 20.0]");
        let wrong = instance.call("forward", &[floats(&[2, 3, 1], &[0.0; 6])]);
        assert!(wrong.is_err(), "the second extent is fixed");
    }
}

#[test]
fn a_rank_that_depends_on_an_extent_is_lowered_for_each() {
    let methods =
        "  def forward(self: __torch__.M, x: Tensor) -> Tensor:\n    return torch.add(torch.squeeze(x, 0), 1)\n";
    let module = driver::front_end(&archive("", methods, &[])).expect("the source compiles");
    let dims = vec![DimSpec::Symbol("N".into()), DimSpec::Known(1)];
    let request = Request::new("forward", vec![ArgSpec::Tensor(DType::F32, dims)]);
    let mut timings = Timings::default();
    let program = driver::lower(&module, &[request], &mut timings).unwrap_or_else(|e| panic!("{}", e.render()));
    let model = driver::load(program, Backend::Reference, &mut timings).expect("it loads");
    let mut instance = model.instance().expect("an instance");
    assert_eq!(text(&instance.call("forward", &[floats(&[1, 1], &[1.0])])), "[1][2.0]");
    assert_eq!(text(&instance.call("forward", &[floats(&[2, 1], &[1.0, 2.0])])), "[2, 1][2.0, 3.0]");
}

#[test]
fn an_operator_that_cannot_work_raises_only_where_it_is_reached() {
    let methods = "  def forward(self: __torch__.M, x: Tensor, n: int) -> Tensor:\n    if torch.lt(n, 3):\n      y = \
                   torch.view(x, [7])\n    else:\n      y = x\n    return torch.add(y, 1)\n";
    check(methods, &[floats(&[1], &[1.0]), Value::Int(4)], "[1][2.0]");
    check(methods, &[floats(&[1], &[1.0]), Value::Int(1)], "RuntimeError: shape '[7]' is invalid for input of size 1");
}

#[test]
fn convolutions_work_on_extents_known_only_when_running() {
    let methods = "  def forward(self: __torch__.M, x: Tensor, w: Tensor, n: int) -> Tensor:\n    y = torch.slice(x, 2, 0, n)\n    \
                   return torch.conv1d(y, w)\n";
    let args = [floats(&[1, 1, 4], &[1.0, 2.0, 3.0, 4.0]), floats(&[2, 1, 1], &[1.0, 10.0]), Value::Int(3)];
    check(methods, &args, "[1, 2, 3][1.0, 2.0, 3.0, 10.0, 20.0, 30.0]");
}

#[test]
fn a_first_round_of_another_kind_stands_before_the_loop() {
    let methods = "  def forward(self: __torch__.M, x: Tensor, n: int) -> Tensor:\n    h = torch.zeros([0])\n    for i in \
                   range(500):\n      if torch.eq(torch.dim(h), 1):\n        h1 = torch.add(x, i)\n      else:\n        h1 = \
                   torch.add(h, i)\n      h = h1\n    return torch.mul(h, n)\n";
    check(methods, &[floats(&[1, 1], &[1.0]), Value::Int(2)], "[1, 1][249502.0]");
}

//! Graph text in and out, and the code printed from it.

use super::{Argument, Code, CodeFacts, Function, Graph, Node, SchemaFact, code, verify};
use crate::types::{IValue, Type};
use std::sync::Arc;

fn read(text: &str) -> Graph {
    let graph: Graph = text.parse().unwrap_or_else(|error: Box<crate::diag::Diagnostic>| panic!("{}", error.render()));
    verify(&graph).unwrap();
    graph
}

/// Text that prints as it was read.
fn check_round_trip(text: &str) {
    assert_eq!(read(text).to_string(), text);
}

fn check_error(text: &str, expected: &str) {
    let error = text.parse::<Graph>().unwrap_err();
    assert!(error.message.contains(expected), "{}\nfor {text}", error.message);
    assert!(error.span.is_some());
}

#[test]
fn values_nodes_and_blocks() {
    check_round_trip(
        "graph(%len.1 : int,
      %x.1 : Tensor):
  %20 : int = prim::Constant[value=1]()
  %12 : bool = prim::Constant[value=1]()
  %rv : Tensor = prim::Loop(%len.1, %12, %x.1)
    block0(%i.1 : int, %rv.29 : Tensor):
      %16 : bool = aten::lt(%i.1, %20)
      %rv.27 : Tensor = prim::If(%16)
        block0():
          %rv.5 : Tensor = aten::sub(%rv.29, %20, %20)
          -> (%rv.5)
        block1():
          -> (%rv.29)
      -> (%12, %rv.27)
   = prim::Print(%20)
  return (%rv)
",
    );
    check_round_trip("graph():\n  return ()\n");
}

#[test]
fn nested_graphs() {
    check_round_trip(
        "graph(%x.1 : Tensor):
  %f.1 : Future[Tensor] = prim::fork_0(%x.1)
  %g.1 : Future[Tensor] = prim::fork_1(%x.1)
  return (%f.1, %g.1)
with prim::fork_0 = graph(%x.1 : Tensor):
  %1 : Future[Tensor] = prim::fork_0(%x.1)
  %2 : Tensor = aten::wait(%1)
  return (%2)
with prim::fork_0 = graph(%x.1 : Tensor):
  return (%x.1)
with prim::fork_1 = graph(%x.1 : Tensor):
  return (%x.1)
",
    );
    check_error(
        "graph(%x : Tensor):\n  %1 : Future[Tensor] = prim::fork_0(%x)\n  return (%1)\n",
        "nested graph is missing",
    );
}

#[test]
fn types() {
    for ty in [
        "int[][]",
        "Tensor?[]",
        "(int, (Tensor, str?))",
        "()",
        "Dict(str, Tensor[])",
        "Union(int[], int, str)",
        "NamedTuple(tokens : int[], h : Tensor)",
        "Float(2, 3, strides=[3, 1], requires_grad=0, device=cpu)",
        "Long(requires_grad=0, device=cpu)",
        "Tensor(*, 33)",
        "FloatTensor(device=cuda:0)",
        "Float(*, 2)",
        "BFloat16(2)",
        "Future[(int, Tensor)]",
        "Enum<__torch__.Color>",
        "InterfaceType<Itf>",
        "__torch__.torch.nn.modules.linear.___torch_mangle_0.Linear",
        "Scalar",
        "Any",
    ] {
        check_round_trip(&format!("graph(%x : {ty}):\n  return (%x)\n"));
    }
}

#[test]
fn constants() {
    for (ty, value) in [
        ("int", "-9223372036854775808"),
        ("bool", "0"),
        ("float", "1."),
        ("float", "-0."),
        ("float", "0.10000000000000001"),
        ("float", "1e-10"),
        ("float", "10000000000"),
        ("float", "-inf"),
        ("float", "nan"),
        ("complex", "1.-3.j"),
        ("str", "\"a \\'b\\'\\n\\033\\303\\251\""),
        ("Device", "\"cpu\""),
        ("int[]", "[1, 1]"),
        ("int[]", "annotate(List[int], [])"),
        ("(int, str, bool)", "(1, \"a\", True)"),
        ("(int)", "(1,)"),
        ("(float, (Device))", "(2., (torch.device(\"cpu\"),))"),
        ("Dict(str, int)", "{\"a\": 1}"),
        ("Long()", "{3}"),
        ("Float()", "{2.07944}"),
        ("Double()", "{1e-06}"),
        ("Float(3)", " 0.0058 -0.1689  0.1256 [ CPUFloatType{3} ]"),
        ("Float(3)", "0.01 *  6.9845  7.6450  3.4320 [ CPUFloatType{3} ]"),
        ("Float(2, 3)", " 1  0  0  0  1  0 [ CPUFloatType{2,3} ]"),
        ("Long(2, 1, 2)", "(1,.,.) =   -1  2  (2,.,.) =     3  40 [ CPULongType{2,1,2} ]"),
        ("Float(2)", " 1.0000e-10  2.0000e+00 [ CPUFloatType{2} ]"),
        ("Float(2, 7)", "<Tensor>"),
    ] {
        check_round_trip(&format!("graph():\n  %1 : {ty} = prim::Constant[value={value}]()\n  return (%1)\n"));
    }
    check_round_trip("graph():\n  %1 : NoneType = prim::Constant()\n  return (%1)\n");
    check_error(
        "graph():\n  %1 : Tensor = prim::Constant[value=<Tensor>]()\n  return (%1)\n",
        "only be read if its type is known",
    );
}

#[test]
fn comments_and_scopes_are_skipped() {
    let text =
        "graph(%x : Tensor):  # here\n  %1 : Tensor = aten::relu(%x), scope: __module.a # t.py:1:2\n  return (%1)\n";
    assert_eq!(read(text).to_string(), "graph(%x : Tensor):\n  %1 : Tensor = aten::relu(%x)\n  return (%1)\n");
}

#[test]
fn names_are_distinct() {
    let mut graph =
        read("graph(%x.1 : Tensor):\n  %2 : Tensor = aten::relu(%x.1)\n  %y : Tensor = aten::neg(%2)\n  return (%y)\n");
    for id in graph.values.ids().collect::<Vec<_>>() {
        graph.values[id].name = if id.0 == 1 { None } else { Some("x.1".into()) };
    }
    let expected =
        "graph(%x.1 : Tensor):\n  %1 : Tensor = aten::relu(%x.1)\n  %x.2 : Tensor = aten::neg(%1)\n  return (%x.2)\n";
    assert_eq!(graph.to_string(), expected);
}

#[test]
fn wrong_text_is_refused() {
    check_error("", "expected 'graph('");
    check_error("graph(%x : Tensor):\n  return (%y)\n", "%y is not defined here");
    check_error("graph(%x : Tensor, %x : int):\n  return (%x)\n", "defined twice");
    check_error("graph(%x : Tnsor[):\n  return (%x)\n", "expected");
    check_error("graph(%x : Tensor):\n  %1 : Tensor = relu(%x)\n  return (%1)\n", "not the name of an operator");
    check_error(
        "graph(%x : Tensor):\n  %1 : int = prim::Constant[nope=1]()\n  return (%1)\n",
        "not the name of an attribute",
    );
    check_error("graph(%x : Tensor):\n  %1 : int = prim::Constant[value=1", "expected");
    check_error(&format!("graph(%x : {}int):\n", "(".repeat(10_000)), "nested too deeply");
    check_error(&format!("graph():\n  %1 : int[] = prim::Constant[value={}", "[".repeat(10_000)), "nested too deeply");
}

#[test]
fn deep_blocks_need_no_stack() {
    let mut text = "graph(%c : bool):\n".to_owned();
    (0..5000).for_each(|_| text.push_str("   = prim::If(%c)\n block0():\n"));
    (0..5000).for_each(|_| text.push_str("-> ()\nblock1():\n-> ()\n"));
    text.push_str("return (%c)\n");
    let printed = text.parse::<Graph>().unwrap().to_string();
    assert_eq!(printed.lines().count(), text.lines().count());
}

/// `alpha` of `add` and `sub` is all that these tests leave out.
struct Facts;

impl CodeFacts for Facts {
    fn schema(&self, node: &Node) -> Option<Vec<SchemaFact>> {
        let fact =
            |name: &str, default| SchemaFact { name: name.into(), default, is_kw_only: name == "alpha", is_out: false };
        let has_alpha = ["aten::add", "aten::sub", "aten::add_"].contains(&&*node.op.name) && node.inputs.len() == 3;
        has_alpha.then(|| vec![fact("self", None), fact("other", None), fact("alpha", Some(IValue::Int(1)))])
    }

    fn enum_member(&self, _: &str, _: &IValue) -> Option<Arc<str>> {
        None
    }
}

fn print(graph: &str) -> Code {
    let graph = read(graph);
    let params = graph.blocks[graph.top].params.iter().map(|&id| {
        let value = &graph.values[id];
        let name = value.debug_name().map_or("x", super::print::base_name).into();
        Argument { name, ty: value.ty.clone(), default: None }
    });
    let params = params.collect();
    code(
        &Function { name: "__torch__.f".into(), params, result: Type::tensor(), graph, span: None, is_traced: false },
        &Facts,
    )
}

fn check_code(graph: &str, expected: &str) {
    assert_eq!(print(graph).text, expected);
}

#[test]
fn code_of_loops_and_branches() {
    check_code(
        "graph(%len.1 : int):
  %20 : int = prim::Constant[value=1]()
  %12 : bool = prim::Constant[value=1]()
  %4 : NoneType = prim::Constant()
  %1 : int = prim::Constant[value=3]()
  %19 : float = prim::Constant[value=1.]()
  %3 : int[] = prim::ListConstruct(%1, %1)
  %rv.1 : Tensor = aten::rand(%3, %4)
  %rv : Tensor = prim::Loop(%len.1, %12, %rv.1)
    block0(%i.1 : int, %rv.29 : Tensor):
      %16 : bool = aten::lt(%i.1, %1)
      %rv.27 : Tensor = prim::If(%16)
        block0():
          %rv.5 : Tensor = aten::sub(%rv.29, %19, %20)
          -> (%rv.5)
        block1():
          %rv.11 : Tensor = aten::add(%rv.29, %19, %1)
          -> (%rv.11)
      -> (%12, %rv.27)
  return (%rv)
",
        "def f(len: int) -> Tensor:
  rv = torch.rand([3, 3], None)
  rv0 = rv
  for i in range(len):
    if torch.lt(i, 3):
      rv1 = torch.sub(rv0, 1.)
    else:
      rv1 = torch.add(rv0, 1., alpha=3)
    rv0 = rv1
  return rv0
",
    );
    check_code(
        "graph(%x.1 : int?):
  %max : int = prim::Constant[value=9223372036854775807]()
  %t : bool = prim::Constant[value=1]()
  %y : int? = prim::Loop(%max, %t, %x.1)
    block0(%i : int, %y.1 : int?):
      %c : bool = aten::__isnot__(%y.1, %y.1)
      -> (%c, %y.1)
  return (%y)
",
        "def f(x: Optional[int]) -> Tensor:
  y: Optional[int] = x
  i = True
  while i:
    i, y = torch.__isnot__(y, y), y
  return y
",
    );
}

#[test]
fn code_inlines_only_what_keeps_the_order() {
    check_code(
        "graph(%x : Tensor):
  %1 : Tensor = aten::relu(%x)
  %2 : Tensor = aten::neg(%x)
  %3 : Tensor = aten::mul(%2, %1)
  %4 : Tensor = aten::mul(%3, %3)
  return (%4)
",
        "def f(x: Tensor) -> Tensor:
  _0 = torch.relu(x)
  _1 = torch.mul(torch.neg(x), _0)
  return torch.mul(_1, _1)
",
    );
    // The text of `neg` would pass 40 characters, so what it holds gets a name first.
    check_code(
        "graph(%input_with_long_name : Tensor):
  %1 : Tensor = aten::relu(%input_with_long_name)
  %2 : Tensor = aten::neg(%1)
  %3 : Tensor = aten::exp(%2)
  return (%3)
",
        "def f(input_with_long_name: Tensor) -> Tensor:
  _0 = torch.neg(torch.relu(input_with_long_name))
  return torch.exp(_0)
",
    );
}

#[test]
fn code_of_single_forms() {
    let printed = print(
        "graph(%self : __torch__.M,
      %x : Tensor):
  %s : str = prim::Constant[value=\"a string that is too long to inline it\"]()
  %w : Tensor = prim::Constant[value={2}]()
  %i : int = prim::Constant[value=0]()
  %1 : __torch__.N = prim::GetAttr[name=\"0\"](%self)
  %2 : Tensor = prim::CallMethod[name=\"forward\"](%1, %x, %w)
   = prim::SetAttr[name=\"state\"](%self, %2)
  %3 : int[] = prim::ListConstruct()
  %4 : int[] = aten::append(%3, %i)
  %5 : (Tensor, str) = prim::TupleConstruct(%x, %s)
  %a : Tensor, %b : str = prim::TupleUnpack(%5)
  %6 : int? = prim::unchecked_cast(%i)
  %7 : int = aten::__getitem__(%3, %i)
   = prim::Print(%b)
  %8 : Tensor[] = prim::tolist(%x, %i)
  %9 : Tensor = quantized::add(%a, %x)
  return (%9, %6, %7, %8)
",
    );
    assert_eq!(
        printed.text,
        "def f(self,
    x: Tensor) -> Tensor:
  s = \"a string that is too long to inline it\"
  _0 = (getattr(self, \"0\")).forward(x, CONSTANTS.c0, )
  self.state = _0
  _1 = annotate(List[int], [])
  _2 = torch.append(_1, 0)
  a, b, = (x, s)
  _3 = unchecked_cast(Optional[int], 0)
  _4 = _1[0]
  print(b)
  _5 = annotate(List[Tensor], x.tolist())
  return ops.quantized.add(a, x), _3, _4, _5
"
    );
    assert!(matches!(printed.constants[..], [IValue::Tensor(_)]));
}

#[test]
fn code_of_forks_and_contexts() {
    check_code(
        "graph(%x : Tensor):
  %f.1 : Future[Tensor] = prim::fork_0(%x)
  %c : __torch__.C = prim::CreateObject()
  %v : Tensor = prim::Enter(%c)
   = prim::Exit(%c)
  %1 : Tensor = aten::wait(%f.1)
  return (%1)
with prim::fork_0 = graph(%y : Tensor):
  %2 : Tensor = aten::relu(%y)
  return (%2)
",
        "def f(x: Tensor) -> Tensor:
  def __forked_function():
    return torch.relu(x)
  f = fork(__forked_function)
  c = __torch__.C.__new__(__torch__.C)
  with c:
    pass
  return torch.wait(f)
",
    );
}

#[test]
fn code_of_deep_and_long_graphs_needs_no_stack() {
    let chain: String = (1..20_000).map(|n| format!("  %{n} : Tensor = aten::neg(%{})\n", n - 1)).collect();
    let printed = print(&format!("graph(%0 : Tensor):\n{chain}  return (%19999)\n")).text;
    assert!(printed.lines().count() > 5000);
    let mut text = "graph(%c : bool):\n".to_owned();
    (0..3000).for_each(|_| text.push_str("   = prim::If(%c)\n block0():\n"));
    (0..3000).for_each(|_| text.push_str("-> ()\nblock1():\n-> ()\n"));
    text.push_str("return (%c)\n");
    let graph: Graph = text.parse().unwrap();
    let function =
        Function { name: "f".into(), params: Vec::new(), result: Type::Bool, graph, span: None, is_traced: false };
    assert!(code(&function, &Facts).text.contains("else:"));
}

//! Small sources in, facts about graphs out.

use crate::archive::Archive;
use crate::diag::Result;
use crate::ir::{Graph, Module};
use crate::source::Source;
use crate::types::{IValue, Object};
use indexmap::IndexMap;
use std::sync::Arc;

/// Compiles the methods of a module class whose body is `methods`, after `before`.
fn compile_with(before: &str, methods: &str, version: u64) -> Result<Module> {
    let text = format!("{before}class M(Module):\n  __parameters__ = []\n  __buffers__ = []\n{methods}");
    let name = "code/__torch__.py".to_owned();
    let source = Arc::new(Source { name: name.clone(), text, origins: Vec::new() });
    let archive = Archive {
        path: "test.pt".into(),
        version,
        root: Arc::new(Object { class: "__torch__.M".into(), attrs: IndexMap::new() }),
        constants: Vec::new(),
        sources: IndexMap::from([(name, source)]),
        traced_inputs: IndexMap::new(),
        extra_files: IndexMap::new(),
    };
    super::compile(&archive)
}

/// The graph of `def forward(self: __torch__.M, PARAMS) -> RESULT` with this body.
fn forward(signature: &str, body: &str) -> Result<Graph> {
    let body: String = body.lines().map(|line| format!("    {line}\n")).collect();
    let module = compile_with("", &format!("  def forward(self: __torch__.M, {signature}:\n{body}"), 10)?;
    Ok(module.method("__torch__.M", "forward").expect("forward is compiled").graph.clone())
}

/// The operators of a graph in the order of its nodes, nested ones included, without constants.
fn ops(graph: &Graph) -> Vec<String> {
    fn walk(graph: &Graph, block: crate::ir::BlockId, out: &mut Vec<String>) {
        for &id in &graph.blocks[block].nodes {
            let node = &graph.nodes[id];
            if !node.is("prim::Constant") {
                out.push(node.op.to_string());
            }
            node.blocks.iter().for_each(|&inner| walk(graph, inner, out));
        }
    }
    let mut out = Vec::new();
    walk(graph, graph.top, &mut out);
    out
}

fn message(signature: &str, body: &str) -> String {
    forward(signature, body).expect_err("the source is wrong").message.clone()
}

#[test]
fn defaults_become_constants() {
    let graph = forward("x: Tensor) -> Tensor", "return torch.add(x, 1)").expect("it is right");
    assert_eq!(ops(&graph), ["aten::add.Scalar"]);
    let add = graph.nodes.iter().find(|node| node.is("aten::add")).expect("one add");
    assert_eq!(add.inputs.len(), 3);
    // 1 for `other` is written out, 1 for `alpha` is the schema's.
    let is_one = |value| matches!(graph.constant(value), Some(IValue::Int(1)));
    assert!(is_one(add.inputs[1]) && is_one(add.inputs[2]));
}

#[test]
fn overloads_by_exact_types_first() {
    let graph = forward("n: int) -> int", "return torch.mul(torch.add(n, 1), n)").expect("it is right");
    assert_eq!(ops(&graph), ["aten::add.int", "aten::mul.int"]);
    let graph = forward("x: Tensor) -> int", "return annotate(int, x)").expect("it is right");
    assert_eq!(ops(&graph), ["aten::IntImplicit"]);
}

#[test]
fn branches_merge_what_they_assign() {
    let body = "if bool(x):\n  y = torch.neg(x)\nelse:\n  y = x\nreturn y";
    let graph = forward("x: Tensor) -> Tensor", body).expect("it is right");
    assert_eq!(ops(&graph), ["aten::Bool.Tensor", "prim::If", "aten::neg"]);
}

#[test]
fn loops_carry_what_they_assign() {
    let body = "y = x\nfor i in range(n):\n  y = torch.add(y, i)\nreturn y";
    let graph = forward("x: Tensor, n: int) -> Tensor", body).expect("it is right");
    assert_eq!(ops(&graph), ["prim::Loop", "aten::add.Scalar"]);
    let node = graph.nodes.iter().find(|node| node.is("prim::Loop")).expect("one loop");
    assert_eq!((node.inputs.len(), node.outputs.len()), (3, 1));
}

#[test]
fn early_exits_become_structure() {
    let body = "for i in range(n):\n  if torch.gt(i, 3):\n    return i\n  if torch.eq(i, 2):\n    break\nreturn n";
    let graph = forward("n: int) -> int", body).expect("it is right");
    assert!(ops(&graph).contains(&"prim::Loop".to_owned()));
    let body = "while torch.lt(n, 9):\n  n = torch.add(n, 1)\n  if torch.eq(n, 5):\n    continue\n  n = torch.add(n, 2)\nreturn n";
    let graph = forward("n: int) -> int", body).expect("it is right");
    // The value that `continue` leaves with is carried on: one branch, and one choice of what the next round starts with.
    let n_ifs = ops(&graph).iter().filter(|op| *op == "prim::If").count();
    assert_eq!(n_ifs, 1, "{:?}", ops(&graph));
}

#[test]
fn optionals_are_refined() {
    let body = "if x is None:\n  y = 1\nelse:\n  y = torch.add(x, 1)\nreturn y";
    let graph = forward("x: Optional[int]) -> int", body).expect("it is right");
    assert_eq!(ops(&graph), ["aten::__is__", "prim::If", "prim::unchecked_cast", "aten::add.int"]);
    // Decided by the type: only the live branch is compiled.
    let graph =
        forward("x: int) -> int", "if x is None:\n  y = torch.nope(x)\nelse:\n  y = x\nreturn y").expect("it is right");
    assert!(ops(&graph).is_empty());
}

#[test]
fn old_division_is_upgraded() {
    let source = "  def forward(self: __torch__.M, x: Tensor) -> Tensor:\n    return torch.div(x, 2)\n";
    let old = compile_with("", source, 3).expect("it is right");
    let graph = &old.method("__torch__.M", "forward").expect("compiled").graph;
    assert!(ops(graph).contains(&"aten::div.Scalar_mode".to_owned()), "{:?}", ops(graph));
    let new = compile_with("", source, 4).expect("it is right");
    assert_eq!(ops(&new.method("__torch__.M", "forward").expect("compiled").graph), ["aten::div.Scalar"]);
}

#[test]
fn errors_begin_with_known_words() {
    assert!(message("x: Tensor) -> Tensor", "return torch.nope(x)").starts_with("Unknown builtin op: aten::nope"));
    assert!(message("x: Tensor) -> Tensor", "return y").starts_with("undefined value y"));
    assert!(message("x: Tensor) -> Tensor", "return self.y").contains("object has no attribute or method 'y'"));
    assert!(
        message("x: Tensor) -> Tensor", "return 3")
            .starts_with("Return value was annotated as having type Tensor but is actually of type int")
    );
    assert!(
        message("x: Tensor) -> Tensor", "return torch.add(x, \"a\")")
            .starts_with("Arguments for call are not valid.\nThe following variants are available:")
    );
    assert!(
        message("x: Tensor) -> Tensor", "return (self).forward(x, )")
            .contains("is called recursively. Recursive calls are not supported")
    );
    assert!(message("n: int) -> int", "for i in range(n):\n  z = i\nreturn z").starts_with("undefined value z"));
}

#[test]
fn nesting_is_bounded() {
    let deep: String = (0..7000).map(|at| format!("{}if True:\n", " ".repeat(at))).collect();
    let body = format!("{deep}{}y = x\nreturn x", " ".repeat(7000));
    assert!(forward("x: Tensor) -> Tensor", &body).is_err());
}

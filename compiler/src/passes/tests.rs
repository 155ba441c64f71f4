//! Graph text in and out of each pass, and whole modules through the pipeline.

use super::constant_propagation::Options;
use super::{
    Changed, constant_pooling, constant_propagation, eliminate_common_subexpressions, eliminate_dead_code, peephole,
    pipeline, remove_dropout,
};
use crate::archive::Archive;
use crate::ir::{Graph, Module, verify};
use crate::source::Source;
use crate::types::{DType, IValue, Object, TensorData};
use indexmap::IndexMap;
use std::sync::Arc;

/// The text of a graph of these lines after a pass, without the first and the last line's frame.
fn after(pass: impl FnOnce(&mut Graph) -> Changed, params: &str, body: &str) -> String {
    let text = format!("graph({params}):\n{body}");
    let mut graph: Graph = text.parse().unwrap_or_else(|e: Box<crate::diag::Diagnostic>| panic!("{}", e.render()));
    let before = graph.to_string();
    let changed = pass(&mut graph);
    verify(&graph).unwrap_or_else(|rule| panic!("{rule}\n{graph}"));
    assert_eq!(changed, graph.to_string() != before, "a pass says whether it changed something");
    graph.to_string().lines().skip_while(|line| !line.ends_with("):")).skip(1).map(|line| format!("{line}\n")).collect()
}

#[test]
fn dead_nodes_and_outputs_go() {
    let body = "  %1 : int = prim::Constant[value=1]()
  %2 : bool = prim::Constant[value=1]()
  %3 : Tensor = aten::rand_like(%x, %1, %1, %1, %1, %1)
  %4 : Tensor = aten::relu_(%x)
   = prim::Print(%1)
  %5 : Tensor, %6 : Tensor = prim::Loop(%n, %2, %x, %x)
    block0(%i : int, %a : Tensor, %b : Tensor):
      %7 : Tensor = aten::relu(%a)
      %8 : Tensor = aten::neg(%b)
      -> (%2, %7, %8)
  %9 : Tensor, %10 : Tensor = prim::If(%2)
    block0():
      %11 : Tensor = aten::neg(%5)
      -> (%11, %x)
    block1():
      -> (%x, %5)
  return (%10)
";
    let expected = "  %1 : int = prim::Constant[value=1]()
  %2 : bool = prim::Constant[value=1]()
  %4 : Tensor = aten::relu_(%x)
   = prim::Print(%1)
  %5 : Tensor = prim::Loop(%n, %2, %x)
    block0(%i : int, %a : Tensor):
      %7 : Tensor = aten::relu(%a)
      -> (%2, %7)
  %10 : Tensor = prim::If(%2)
    block0():
      -> (%x)
    block1():
      -> (%5)
  return (%10)
";
    assert_eq!(after(eliminate_dead_code::run, "%x : Tensor, %n : int", body), expected);
}

#[test]
fn equal_nodes_merge_where_nothing_is_written() {
    let body = "  %1 : Tensor = aten::relu(%x)
  %2 : Tensor = aten::relu(%x)
  %3 : Tensor = aten::dropout(%x, %p, %t)
  %4 : Tensor = aten::dropout(%x, %p, %t)
  %5 : Tensor = prim::If(%t)
    block0():
      %6 : Tensor = aten::relu(%2)
      %7 : Tensor = aten::relu(%1)
      %8 : Tensor = aten::mul(%6, %7)
      -> (%8)
    block1():
      %9 : Tensor = aten::relu(%1)
      %10 : Tensor = aten::mul(%3, %9)
      %11 : Tensor = aten::mul(%10, %4)
      -> (%11)
  return (%5)
";
    let expected = "  %1 : Tensor = aten::relu(%x)
  %3 : Tensor = aten::dropout(%x, %p, %t)
  %4 : Tensor = aten::dropout(%x, %p, %t)
  %5 : Tensor = prim::If(%t)
    block0():
      %6 : Tensor = aten::relu(%1)
      %8 : Tensor = aten::mul(%6, %6)
      -> (%8)
    block1():
      %9 : Tensor = aten::relu(%1)
      %10 : Tensor = aten::mul(%3, %9)
      %11 : Tensor = aten::mul(%10, %4)
      -> (%11)
  return (%5)
";
    let params = "%x : Tensor, %p : float, %t : bool";
    assert_eq!(after(eliminate_common_subexpressions::run, params, body), expected);
    let written = "  %1 : int = aten::size(%x, %d)
  %2 : Tensor = aten::relu(%x)
  %3 : Tensor = aten::add_(%x, %2, %d)
  %4 : Tensor = aten::relu(%x)
  %5 : int = aten::add(%d, %d)
  %6 : int = aten::add(%d, %d)
  %7 : (Tensor, int, int) = prim::TupleConstruct(%4, %5, %6)
  return (%7)
";
    let expected = written.replace("  %6 : int = aten::add(%d, %d)\n", "").replace("%5, %6", "%5, %5");
    assert_eq!(after(eliminate_common_subexpressions::run, "%x : Tensor, %d : int", written), expected);
}

#[test]
fn constants_fold_and_choose() {
    let body = "  %1 : int = prim::Constant[value=6]()
  %2 : int = prim::Constant[value=7]()
  %3 : int = aten::mul(%1, %2)
  %4 : bool = aten::gt(%3, %1)
  %5 : Tensor = prim::If(%4)
    block0():
      %6 : Tensor = aten::relu(%x)
      -> (%6)
    block1():
      -> (%x)
  %7 : int[] = prim::ListConstruct(%3, %1)
  %8 : Tensor = aten::reshape(%5, %7)
  return (%8)
";
    let folded = after(
        |g| {
            let changed = constant_propagation::run(g, Options { lists: true });
            eliminate_dead_code::run(g);
            constant_pooling::run(g);
            changed
        },
        "%x : Tensor",
        body,
    );
    let expected = "  %7 : int[] = prim::Constant[value=[42, 6]]()
  %6 : Tensor = aten::relu(%x)
  %8 : Tensor = aten::reshape(%6, %7)
  return (%8)
";
    assert_eq!(squash(&folded), squash(expected));
}

/// Text whose values are numbered in order of appearance.
fn squash(text: &str) -> String {
    let mut names: Vec<String> = Vec::new();
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..=at]);
        rest = &rest[at + 1..];
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '.' || c == '_')).unwrap_or(rest.len());
        let known = names.iter().position(|name| *name == rest[..end]);
        let number = known.unwrap_or_else(|| {
            names.push(rest[..end].to_owned());
            names.len() - 1
        });
        out.push_str(&number.to_string());
        rest = &rest[end..];
    }
    out + rest
}

#[test]
fn errors_stay_where_they_are() {
    let body = "  %1 : int = prim::Constant[value=1]()
  %2 : int = prim::Constant[value=0]()
  %3 : int = aten::floordiv(%1, %2)
  return (%3)
";
    assert_eq!(after(|g| constant_propagation::run(g, Options::default()), "", body), body);
}

#[test]
fn equal_constants_are_one() {
    let body = "  %1 : int = prim::Constant[value=1]()
  %2 : Tensor = aten::add(%x, %x, %1)
  %3 : int = prim::Constant[value=1]()
  %4 : bool = prim::Constant[value=1]()
  %5 : Tensor = aten::add(%2, %x, %3)
  %6 : (Tensor, bool) = prim::TupleConstruct(%5, %4)
  return (%6)
";
    let expected = "  %4 : bool = prim::Constant[value=1]()
  %1 : int = prim::Constant[value=1]()
  %2 : Tensor = aten::add(%x, %x, %1)
  %5 : Tensor = aten::add(%2, %x, %1)
  %6 : (Tensor, bool) = prim::TupleConstruct(%5, %4)
  return (%6)
";
    assert_eq!(after(constant_pooling::run, "%x : Tensor", body), expected);
}

#[test]
fn peepholes() {
    let both = |g: &mut Graph| {
        let changed = peephole::run(g);
        eliminate_dead_code::run(g);
        changed
    };
    let cases = [
        (
            "  %1 : int = prim::Constant[value=0]()
  %2 : int = prim::Constant[value=1]()
  %3 : Tensor = aten::add(%x, %1, %2)
  %4 : Tensor = aten::t(%3)
  %5 : Tensor = aten::t(%4)
  return (%5)
",
            "  return (%x)\n",
        ),
        (
            "  %1 : NoneType = prim::Constant()
  %2 : bool = aten::__is__(%x, %1)
  %3 : bool = aten::__isnot__(%o, %1)
  %4 : (bool, bool) = prim::TupleConstruct(%2, %3)
  %5 : bool, %6 : bool = prim::TupleUnpack(%4)
  %7 : bool = aten::__or__(%5, %6)
  return (%7)
",
            "  %1 : NoneType = prim::Constant()
  %2 : bool = prim::Constant[value=0]()
  %3 : bool = aten::__isnot__(%o, %1)
  %7 : bool = aten::__or__(%2, %3)
  return (%7)
",
        ),
        (
            "  %1 : Tensor[] = prim::ListConstruct(%x, %o)
  %2 : int = aten::len(%1)
  return (%2)
",
            "  %2 : int = prim::Constant[value=2]()
  return (%2)
",
        ),
        (
            "  %1 : Tensor[] = prim::ListConstruct(%x)
  %2 : Tensor[] = aten::append(%1, %x)
  %3 : int = aten::len(%1)
  return (%3)
",
            "  %1 : Tensor[] = prim::ListConstruct(%x)
  %2 : Tensor[] = aten::append(%1, %x)
  %3 : int = aten::len(%1)
  return (%3)
",
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(squash(&after(both, "%x : Tensor, %o : Tensor?", body)), squash(expected));
    }
}

#[test]
fn dropout_goes_outside_training() {
    let body = "  %1 : float = prim::Constant[value=0.5]()
  %2 : bool = prim::Constant[value=0]()
  %3 : Tensor = aten::dropout(%x, %1, %2)
  %4 : Tensor = aten::dropout(%3, %1, %t)
  return (%4)
";
    let expected = body.replace("  %3 : Tensor = aten::dropout(%x, %1, %2)\n", "").replace("%3", "%x");
    assert_eq!(after(remove_dropout::run, "%x : Tensor, %t : bool", body), expected);
}

fn floats(sizes: &[i64], values: &[f32]) -> IValue {
    let bytes = values.iter().flat_map(|x| x.to_ne_bytes()).collect();
    IValue::Tensor(Arc::new(TensorData::from_bytes(DType::F32, sizes, bytes).expect("sizes fit")))
}

fn object(class: &str, attrs: Vec<(&str, IValue)>) -> Arc<Object> {
    let attrs = attrs.into_iter().map(|(name, value)| (Arc::from(name), value)).collect();
    Arc::new(Object { class: class.into(), attrs })
}

fn module(text: &str, root: Arc<Object>) -> Module {
    let name = "code/__torch__.py".to_owned();
    let source = Arc::new(Source { name: name.clone(), text: text.into(), origins: Vec::new() });
    let archive = Archive {
        path: "test.pt".into(),
        version: 10,
        root,
        constants: Vec::new(),
        sources: IndexMap::from([(name, source)]),
        traced_inputs: IndexMap::new(),
        extra_files: IndexMap::new(),
    };
    crate::script::compile(&archive).unwrap_or_else(|e| panic!("{}", e.render()))
}

const LAYERS: &str = "\
class Conv(Module):
  __parameters__ = [\"weight\", ]
  __buffers__ = []
  weight : Tensor
  bias : Optional[Tensor]
  def forward(self: __torch__.Conv, x: Tensor) -> Tensor:
    return torch.conv2d(x, self.weight, self.bias, [1, 1], [0, 0], [1, 1])
class Norm(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  weight : Tensor
  bias : Tensor
  mean : Tensor
  var : Tensor
  def forward(self: __torch__.Norm, x: Tensor) -> Tensor:
    return torch.batch_norm(x, self.weight, self.bias, self.mean, self.var, self.training, 0.1, 0., False)
class M(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  conv : __torch__.Conv
  norm : __torch__.Norm
  count : int
  k : int
  def forward(self: __torch__.M, x: Tensor) -> Tensor:
    self.count = torch.add(self.count, 1)
    y = (self.norm).forward((self.conv).forward(x, ), )
    z = torch.dropout(torch.mul(y, self.k), 0.5, self.training)
    return torch.add(z, self.count)
";

fn layers(is_training: bool) -> Module {
    let conv = object("__torch__.Conv", vec![("weight", floats(&[2, 1, 1, 1], &[1., 2.])), ("bias", IValue::None)]);
    let norm = object(
        "__torch__.Norm",
        vec![
            ("training", IValue::Bool(is_training)),
            ("weight", floats(&[2], &[1., 2.])),
            ("bias", floats(&[2], &[0.5, 0.])),
            ("mean", floats(&[2], &[0., 3.])),
            ("var", floats(&[2], &[4., 1.])),
        ],
    );
    let attrs = vec![
        ("training", IValue::Bool(is_training)),
        ("conv", IValue::Object(conv)),
        ("norm", IValue::Object(norm)),
        ("count", IValue::Int(0)),
        ("k", IValue::Int(10)),
    ];
    module(LAYERS, object("__torch__.M", attrs))
}

#[test]
fn inlined_graphs_have_no_calls() {
    let graph = pipeline::inlined(&layers(false), "forward").expect("it inlines");
    let text = graph.to_string();
    assert!(!text.contains("CallMethod") && text.contains("aten::batch_norm"), "{text}");
    assert!(text.contains("prim::GetAttr[name=\"conv\"](%self"), "{text}");
}

#[test]
fn frozen_graphs_fold_into_convolutions() {
    let graph = pipeline::frozen(&layers(false), "forward").expect("it freezes");
    let text = graph.to_string();
    // weight: w * gamma / sqrt(var) * k; bias: (0 - mean) * gamma / sqrt(var) + beta, times k
    assert!(
        text.contains("value= 5  40 [ CPUFloatType") || text.contains("5 40") || text.contains("(1,1,.,.)"),
        "{text}"
    );
    assert!(!text.contains("batch_norm") && !text.contains("aten::mul") && !text.contains("dropout"), "{text}");
    assert!(text.contains("prim::GetAttr[name=\"count\"]") && text.contains("prim::SetAttr[name=\"count\"]"), "{text}");
    assert!(text.contains("%self.conv.bias_fused_bn_fused_mul : Float(2, 1, 1, 1"), "{text}");
    let error = pipeline::frozen(&layers(true), "forward").expect_err("it is in training mode");
    assert!(error.message.starts_with("Freezing is currently only implemented for modules in eval mode."));
}

#[test]
fn folded_weights_are_what_the_layers_compute() {
    let graph = pipeline::frozen(&layers(false), "forward").expect("it freezes");
    let conv = graph.nodes.iter().rfind(|node| node.is("aten::conv2d")).expect("a convolution");
    let numbers = |at: usize| match graph.constant(conv.inputs[at]) {
        Some(IValue::Tensor(data)) => {
            let bytes = data.contiguous_bytes().into_owned();
            bytes.chunks_exact(4).map(|b| f32::from_ne_bytes(b.try_into().expect("four"))).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    // w * gamma / sqrt(var) * k and ((0 - mean) * gamma / sqrt(var) + beta) * k
    assert_eq!((numbers(1), numbers(2)), (vec![5., 40.], vec![5., -60.]));
}

#[test]
fn deep_blocks_do_not_overflow_the_stack() {
    let mut body = String::new();
    for depth in 0..3000 {
        body.push_str(&format!("{}if b:\n", "  ".repeat(depth + 2)));
    }
    body.push_str(&format!("{}x = torch.relu(x)\n", "  ".repeat(3002)));
    let text = format!(
        "class M(Module):\n  __parameters__ = []\n  __buffers__ = []\n  \
         def forward(self: __torch__.M, x: Tensor, b: bool) -> Tensor:\n{body}    return x\n"
    );
    let module = module(&text, object("__torch__.M", vec![]));
    let graph = pipeline::frozen(&module, "forward").expect("it freezes");
    assert_eq!(graph.nodes.iter().filter(|node| node.is("aten::relu")).count(), 1);
    // Leave nothing deep to be dropped or printed by recursion.
    assert!(graph.to_string().contains("aten::relu"));
}

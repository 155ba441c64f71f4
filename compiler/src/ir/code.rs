//! The `.code` printer: a graph back to the source text that PyTorch prints and archives hold.
//!
//! Expressions are inlined where that keeps the order of evaluation: scanning backwards, a node may move into its only user if
//! it is exactly the node evaluated just before. Lines that would get long are cut by giving the inlined parts names again.
//! Neither pass recurses over nodes or blocks, only over graphs nested in graphs.

mod scan;

use super::print::base_name;
use super::text::{quoted, repr};
use super::{Attr, BlockId, Function, Graph, Node, NodeId, ValueId};
use crate::types::{IValue, TensorData, Type};
use scan::{Body, Text, Use, User};
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

/// What the printer must know of an argument of an operator's schema.
#[derive(Clone, Debug)]
pub struct SchemaFact {
    /// The argument's name.
    pub name: Arc<str>,
    /// Its default.
    pub default: Option<IValue>,
    /// Whether it is given by name only.
    pub is_kw_only: bool,
    /// Whether it is an `out=` argument.
    pub is_out: bool,
}

/// What the printer must know from outside the graph.
pub trait CodeFacts {
    /// The schema of a node's operator, or `None` if it has none: then all arguments print, by place.
    fn schema(&self, node: &Node) -> Option<Vec<SchemaFact>>;

    /// The name of the member of an enumeration class that has this value.
    fn enum_member(&self, class: &str, value: &IValue) -> Option<Arc<str>>;
}

/// A printed function.
#[derive(Clone, Debug, Default)]
pub struct Code {
    /// The text, from `def` on.
    pub text: String,
    /// What `CONSTANTS.c0`, `CONSTANTS.c1`, ... stand for.
    pub constants: Vec<IValue>,
}

/// Texts of at least this length, indentation included, are not inlined.
const LONG_LINE: usize = 40;

/// Names that no variable gets: Python's keywords and the names that archived code gives a meaning.
const RESERVED: [&str; 49] = [
    "_",
    "as",
    "aten",
    "attribute",
    "CONSTANTS",
    "fork",
    "getattr",
    "inf",
    "nan",
    "infj",
    "nanj",
    "ops",
    "__torch__",
    "uninitialized",
    "unchecked_cast",
    "False",
    "None",
    "True",
    "and",
    "assert",
    "async",
    "await",
    "break",
    "class",
    "continue",
    "def",
    "del",
    "elif",
    "else",
    "except",
    "finally",
    "for",
    "from",
    "global",
    "if",
    "import",
    "in",
    "is",
    "lambda",
    "nonlocal",
    "not",
    "or",
    "pass",
    "raise",
    "return",
    "try",
    "while",
    "with",
    "yield",
];

/// Where code is printed to.
#[derive(Clone, Debug, Default)]
pub struct CodeOptions {
    /// Whether `self` has its type, as in archives.
    pub self_type: bool,
    /// How deep the `def` stands; each level is two spaces.
    pub level: usize,
    /// The table of constants so far, which functions of an archive share.
    pub constants: Vec<IValue>,
}

/// Prints a function. The type of a method's `self` is left out, as `.code` of a module does.
pub fn code(function: &Function, facts: &dyn CodeFacts) -> Code {
    code_with(function, facts, CodeOptions::default())
}

/// Prints a function for where it will stand.
pub fn code_with(function: &Function, facts: &dyn CodeFacts, options: CodeOptions) -> Code {
    let mut writer = Writer::new(facts);
    writer.constants = options.constants;
    writer.level = options.level;
    writer.out = "  ".repeat(options.level);
    let mut body = Body::new(&function.graph);
    let name = function.name.rsplit('.').next().unwrap_or(&function.name);
    let _ = write!(writer.out, "def {name}(");
    let params = &function.graph.blocks[function.graph.top].params;
    for (at, param) in function.params.iter().enumerate() {
        let name = writer.fresh(&param.name);
        if at > 0 {
            writer.out.push_str(",\n    ");
        }
        writer.out.push_str(&name);
        if at > 0 || &*param.name != "self" || options.self_type {
            let _ = write!(writer.out, ": {}", param.ty.annotation());
        }
        if let Some(default) = &param.default {
            let default = writer.constant(default, &param.ty);
            let _ = write!(writer.out, "={default}");
        }
        if let Some(&value) = params.get(at) {
            body.texts[value] = Some(Text::Name(name));
        }
    }
    let _ = writeln!(writer.out, ") -> {}:", function.result.annotation());
    writer.body(&mut body);
    Code { text: writer.out, constants: writer.constants }
}

enum Step {
    Enter(BlockId, bool),
    Node(NodeId),
    Else(NodeId),
    EndIf(NodeId),
    EndLoop(NodeId),
}

/// The text being made, and the names in it.
struct Writer<'f> {
    facts: &'f dyn CodeFacts,
    out: String,
    level: usize,
    taken: HashSet<String>,
    next_suffix: HashMap<String, usize>,
    constants: Vec<IValue>,
}

impl<'f> Writer<'f> {
    fn new(facts: &'f dyn CodeFacts) -> Self {
        let (taken, next_suffix) = (HashSet::new(), HashMap::new());
        Self { facts, out: String::new(), level: 0, taken, next_suffix, constants: Vec::new() }
    }

    fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{}{text}", "  ".repeat(self.level));
    }

    fn is_long(&self, text: &str) -> bool {
        text.len() + self.level * 2 >= LONG_LINE
    }

    /// A name not in use, like this one. The counter belongs to the last name tried, as in PyTorch.
    fn fresh(&mut self, like: &str) -> String {
        let mut name = like.to_owned();
        while self.taken.contains(&name) || RESERVED.contains(&name.as_str()) {
            let suffix = self.next_suffix.entry(name).or_insert(0);
            name = format!("{like}{suffix}");
            *suffix += 1;
        }
        self.taken.insert(name.clone());
        name
    }

    fn name(&mut self, body: &mut Body<'_>, value: ValueId) {
        let like =
            body.graph.values[value].debug_name().map_or_else(|| "_".to_owned(), |name| identifier(base_name(name)));
        body.texts[value] = Some(Text::Name(self.fresh(&like)));
    }

    fn names(&mut self, body: &mut Body<'_>, values: &[ValueId]) {
        for &value in values {
            self.name(body, value);
        }
    }

    fn body(&mut self, body: &mut Body<'_>) {
        self.level += 1;
        for id in body.constants() {
            self.plain(body, id);
        }
        let returns = &body.graph.blocks[body.graph.top].returns;
        let mut steps = vec![Step::Enter(body.graph.top, !returns.is_empty())];
        while let Some(step) = steps.pop() {
            self.step(body, &step, &mut steps);
        }
        if !returns.is_empty() {
            let line = format!("return {}", body.list(returns));
            self.line(&line);
        }
        self.level -= 1;
    }

    fn step(&mut self, body: &mut Body<'_>, step: &Step, steps: &mut Vec<Step>) {
        let graph = body.graph;
        match *step {
            Step::Enter(id, has_more) => {
                let nodes = &graph.blocks[id].nodes;
                if nodes.is_empty() && !has_more {
                    self.line("pass");
                }
                steps.extend(nodes.iter().rev().map(|&node| Step::Node(node)));
            }
            Step::Node(id) => self.node(body, id, steps),
            Step::Else(id) => {
                let node = &graph.nodes[id];
                self.end_branch(body, node, 0);
                self.line("else:");
                self.level += 1;
            }
            Step::EndIf(id) => self.end_branch(body, &graph.nodes[id], 1),
            Step::EndLoop(id) => {
                let node = &graph.nodes[id];
                if let Some(&block) = node.blocks.first() {
                    // The condition of a `for` is always true and not assigned.
                    let offset = usize::from(loop_kind(body, node) == LoopKind::For);
                    let (lhs, rhs) = (&graph.blocks[block].params, &graph.blocks[block].returns);
                    self.assign(body, lhs.get(offset..).unwrap_or(&[]), rhs.get(offset..).unwrap_or(&[]));
                }
                self.level -= 1;
            }
        }
    }

    fn end_branch(&mut self, body: &mut Body<'_>, node: &Node, at: usize) {
        if let Some(&block) = node.blocks.get(at) {
            self.assign(body, &node.outputs, &body.graph.blocks[block].returns);
        }
        self.level -= 1;
    }

    fn assign(&mut self, body: &mut Body<'_>, lhs: &[ValueId], rhs: &[ValueId]) {
        let Some(&first) = lhs.first() else { return };
        let mut line = body.list(lhs);
        // Several targets cannot be annotated in one statement.
        let ty = &body.graph.values[first].ty;
        if lhs.len() == 1 && matches!(ty, Type::Optional(_) | Type::Union(_)) && body.annotated.insert(first) {
            let _ = write!(line, " : {}", ty.annotation());
        }
        let _ = write!(line, " = {}", body.list(rhs));
        self.line(&line);
    }

    fn node(&mut self, body: &mut Body<'_>, id: NodeId, steps: &mut Vec<Step>) {
        let graph = body.graph;
        let node = &graph.nodes[id];
        match (&*node.op.name, &node.inputs[..], &node.outputs[..]) {
            ("prim::Constant", ..) => {}
            ("prim::If", [cond], outputs) if node.blocks.len() == 2 => {
                self.names(body, outputs);
                let line = format!("if {}:", body.text(*cond));
                self.line(&line);
                self.level += 1;
                let has_more = !outputs.is_empty();
                steps.push(Step::EndIf(id));
                steps.push(Step::Enter(node.blocks[1], has_more));
                steps.push(Step::Else(id));
                steps.push(Step::Enter(node.blocks[0], has_more));
            }
            ("prim::Loop", ..) if node.blocks.len() == 1 && node.inputs.len() >= 2 => self.begin_loop(body, id, steps),
            ("prim::TupleUnpack" | "prim::ListUnpack", [input], outputs) => {
                self.names(body, outputs);
                // The comma after the last name makes readers unpack even a single one.
                let targets = if outputs.is_empty() { String::new() } else { format!("{}, = ", body.list(outputs)) };
                let line = targets + &body.text(*input);
                self.line(&line);
            }
            ("prim::SetAttr", [object, value], _) => {
                let name = node.attr_name("name").map_or("", |name| name);
                let line = format!("{}.{name} = {}", body.text(*object), body.text(*value));
                self.line(&line);
            }
            ("prim::fork" | "prim::awaitable", inputs, _) => {
                if let Some(Attr::Graph(inner)) = node.attr("Subgraph") {
                    let kind = node.op.name.strip_prefix("prim::").unwrap_or("fork");
                    let name = self.fresh(if kind == "fork" { "__forked_function" } else { "__awaitable_function" });
                    self.line(&format!("def {name}():"));
                    let mut inner_body = Body::new(inner);
                    for (&param, &input) in inner.blocks[inner.top].params.iter().zip(inputs) {
                        inner_body.texts[param] = Some(Text::Inline(body.text(input)));
                    }
                    self.body(&mut inner_body);
                    self.define(body, id, &format!("{kind}({name})"));
                }
            }
            ("prim::Enter", [context], outputs) => {
                let mut line = format!("with {}", body.text(*context));
                if let Some(&output) = outputs.first().filter(|&&output| !body.uses[output].is_empty()) {
                    self.name(body, output);
                    let _ = write!(line, " as {}", body.text(output));
                }
                self.line(&(line + ":"));
                self.level += 1;
            }
            ("prim::Exit", ..) => {
                let is_empty = body.before[id].is_some_and(|before| graph.nodes[before].is("prim::Enter"));
                if is_empty {
                    self.line("pass");
                }
                self.level = self.level.saturating_sub(1);
            }
            ("prim::ModuleContainerIndex", [container, key], [output]) => {
                self.name(body, *output);
                let ty = graph.values[*output].ty.annotation();
                let line = format!("{} : {ty} = {}[{}]", body.text(*output), body.text(*container), body.text(*key));
                self.line(&line);
            }
            _ => self.plain(body, id),
        }
    }

    fn begin_loop(&mut self, body: &mut Body<'_>, id: NodeId, steps: &mut Vec<Step>) {
        let graph = body.graph;
        let node = &graph.nodes[id];
        let block = node.blocks[0];
        let Some((&trip, carried)) = graph.blocks[block].params.split_first() else { return };
        self.names(body, &node.outputs);
        for (&param, &output) in carried.iter().zip(&node.outputs) {
            body.texts[param] = body.texts[output].clone();
            // The name is annotated before the loop, and a second time is an error.
            body.annotated.insert(param);
        }
        for (&output, &input) in node.outputs.iter().zip(&node.inputs[2..]) {
            let (ty, from) = (&graph.values[output].ty, &graph.values[input].ty);
            let needs_type = match ty {
                Type::Optional(_) | Type::Union(_) => body.annotated.insert(output),
                _ => ty != from,
            };
            let annotation = if needs_type { format!(": {}", ty.annotation()) } else { String::new() };
            let line = format!("{}{annotation} = {}", body.text(output), body.text(input));
            self.line(&line);
        }
        self.name(body, trip);
        let head = if loop_kind(body, node) == LoopKind::For {
            format!("for {} in range({}):", body.text(trip), body.text(node.inputs[0]))
        } else {
            // The count is not used, so its name stands for the condition.
            self.assign(body, &[trip], &[node.inputs[1]]);
            format!("while {}:", body.text(trip))
        };
        self.line(&head);
        self.level += 1;
        let n_assigned = match loop_kind(body, node) {
            LoopKind::For => carried.len(),
            LoopKind::While => carried.len() + 1,
        };
        steps.push(Step::EndLoop(id));
        steps.push(Step::Enter(block, n_assigned > 0));
    }

    /// A node that is one expression: kept to be inlined, or assigned.
    fn plain(&mut self, body: &mut Body<'_>, id: NodeId) {
        let node = &body.graph.nodes[id];
        let text = self.expression(body, node);
        let is_long = self.is_long(&text);
        let &[output] = &node.outputs[..] else { return self.define(body, id, &text) };
        if !body.inlined[id] || (is_long && node.is("prim::Constant")) {
            return self.define(body, id, &text);
        }
        body.texts[output] = Some(Text::Inline(text));
        if is_long && !node.is("prim::Constant") {
            self.split(body, output);
        }
    }

    fn define(&mut self, body: &mut Body<'_>, id: NodeId, text: &str) {
        let outputs = &body.graph.nodes[id].outputs;
        self.names(body, outputs);
        let line = if outputs.is_empty() { text.to_owned() } else { format!("{} = {text}", body.list(outputs)) };
        self.line(&line);
    }

    /// Names a long inlined value, and before it all inlined values that are evaluated earlier in the same statement.
    fn split(&mut self, body: &mut Body<'_>, value: ValueId) {
        let mut reversed = Vec::new();
        let mut next = body.uses[value].first().map(|&Use { user, offset }| (user, offset + 1));
        while let Some((user, end)) = next.take() {
            let done = body.split.get(&user).copied();
            for &input in body.inputs(user)[done.unwrap_or(0).min(end)..end].iter().rev() {
                if body.is_inlined_expression(input) {
                    reversed.push(input);
                }
            }
            body.split.insert(user, end);
            if let (None, User::Node(id)) = (done, user) {
                let node = &body.graph.nodes[id];
                if body.inlined[id] && node.outputs.len() == 1 {
                    // The use itself is still being put together and cannot be named.
                    next = body.uses[node.outputs[0]].first().map(|&Use { user, offset }| (user, offset));
                }
            }
        }
        for value in reversed.into_iter().rev() {
            if let (Some((id, _)), Some(Text::Inline(text))) = (body.def(value), body.texts[value].clone()) {
                self.define(body, id, &text);
            }
        }
    }

    /// The right side of a node's assignment.
    fn expression(&mut self, body: &Body<'_>, node: &Node) -> String {
        let (inputs, types) = (&node.inputs, |value: &ValueId| &body.graph.values[*value].ty);
        let text = |at: usize| inputs.get(at).map_or_else(String::new, |&value| body.text(value));
        let ty = node.outputs.first().map_or(&Type::None, types);
        let arguments =
            |from: usize| -> String { inputs.iter().skip(from).map(|&value| body.text(value) + ", ").collect() };
        let name = || node.attr_name("name").map_or("", |name| name);
        let annotated = |value: String| format!("annotate({}, {value})", ty.annotation());
        match &*node.op.name {
            "prim::Constant" => match (node.attrs.first().map(|(_, attr)| attr), ty) {
                (Some(Attr::Value(value)), _) => self.constant(value, ty),
                (Some(Attr::Name(name)), _) => name.to_string(),
                _ => "None".into(),
            },
            "aten::ScalarImplicit" | "aten::FloatImplicit" | "aten::IntImplicit" | "aten::ComplexImplicit" => {
                annotated(text(0))
            }
            "aten::Int" => format!("int({})", body.list(inputs)),
            "aten::Float" => format!("float({})", body.list(inputs)),
            "aten::Bool" => format!("bool({})", body.list(inputs)),
            "aten::str" => format!("str({})", body.list(inputs)),
            "prim::Print" => format!("print({})", body.list(inputs)),
            "aten::sorted" => format!("sorted({})", body.list(inputs)),
            "prim::TupleConstruct" => {
                let class = if let Type::NamedTuple(_) = ty { ty.annotation() } else { String::new() };
                format!("{class}({}{})", body.list(inputs), if inputs.len() == 1 { "," } else { "" })
            }
            "prim::TupleIndex" => format!("({})[{}]", text(0), text(1)),
            "prim::TupleSlice" => {
                let bound = |key| if let Some(Attr::Int(value)) = node.attr(key) { *value } else { 0 };
                format!("({})[{}:{}]", text(0), bound("beg"), bound("end"))
            }
            "prim::ListConstruct" => {
                let list = format!("[{}]", body.list(inputs));
                let is_clear = matches!(ty, Type::List(elem) if is_clear_from_members(elem));
                if inputs.is_empty() || !is_clear { annotated(list) } else { list }
            }
            "prim::DictConstruct" => {
                let pairs =
                    inputs.chunks(2).map(|pair| pair.iter().map(|&v| body.text(v)).collect::<Vec<_>>().join(": "));
                let dict = format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "));
                let is_clear = matches!(ty, Type::Dict(k, v) if is_clear_from_members(k) && is_clear_from_members(v));
                if inputs.is_empty() || !is_clear { annotated(dict) } else { dict }
            }
            "prim::CreateObject" => format!("{0}.__new__({0})", ty.annotation()),
            "prim::GetAttr" if is_identifier(name()) => format!("{}.{}", text(0), name()),
            "prim::GetAttr" => format!("getattr({}, {})", text(0), quoted(name())),
            "prim::CallFunction" => format!("{}({})", text(0), arguments(1)),
            "prim::CallMethod" => format!("({}).{}({})", text(0), name(), arguments(1)),
            "aten::__getitem__" if inputs.len() == 2 => {
                let object = text(0);
                if is_identifier(&object) {
                    format!("{object}[{}]", text(1))
                } else {
                    format!("({object})[{}]", text(1))
                }
            }
            "aten::_unwrap_optional" => {
                let is_none = inputs.first().is_some_and(|value| *types(value) == Type::None);
                let annotation = Type::optional(ty.clone()).annotation();
                let value = if is_none { format!("annotate({annotation}, {})", text(0)) } else { text(0) };
                format!("torch._unwrap_optional({value})")
            }
            "prim::unchecked_cast" | "prim::unchecked_unwrap_optional" => {
                format!("unchecked_cast({}, {})", ty.annotation(), text(0))
            }
            "prim::Uninitialized" => format!("uninitialized({})", ty.annotation()),
            "prim::isinstance" => {
                let Some(Attr::Types(types)) = node.attr("types") else {
                    return format!("isinstance({}, ())", text(0));
                };
                let names = types.iter().map(Type::annotation).collect::<Vec<_>>().join(", ");
                let names = if types.len() == 1 { names } else { format!("({names})") };
                format!("isinstance({}, {names})", text(0))
            }
            "prim::tolist" => annotated(format!("{}.tolist()", text(0))),
            "prim::EnumValue" => format!("({}).value", text(0)),
            "prim::EnumName" => format!("({}).name", text(0)),
            _ => self.operator(body, node),
        }
    }

    fn operator(&self, body: &Body<'_>, node: &Node) -> String {
        let function = match (&*node.op.name, node.op.name.split_once("::")) {
            ("aten::backward", _) => "torch.autograd.backward".to_owned(),
            ("aten::grad", _) => "torch.autograd.grad".to_owned(),
            (_, Some(("aten", name))) => format!("torch.{name}"),
            (_, Some((namespace, name))) => format!("ops.{namespace}.{name}"),
            (name, None) => format!("ops.{name}"),
        };
        let inputs = &node.inputs;
        let schema = self.facts.schema(node).unwrap_or_default();
        let (n_needed, n_out) = needed(body.graph, &schema, inputs);
        let mut args = Vec::new();
        for (at, &value) in inputs.iter().enumerate() {
            let is_out = at < schema.len() && at + n_out >= schema.len();
            if at >= n_needed && !is_out {
                continue;
            }
            args.push(match schema.get(at) {
                Some(fact) if fact.is_kw_only => format!("{}={}", fact.name, body.text(value)),
                _ => body.text(value),
            });
        }
        format!("{function}({})", args.join(", "))
    }

    /// A constant in source form. Tensors, objects and strings that are not ASCII go to the table of constants.
    fn constant(&mut self, value: &IValue, ty: &Type) -> String {
        let (facts, constants) = (self.facts, &mut self.constants);
        let prefix =
            if let (IValue::Tuple(_), Type::NamedTuple(_)) = (value, ty) { ty.annotation() } else { String::new() };
        let text = repr(&typed_if_empty(value, ty), &mut |value| match value {
            IValue::Tensor(_) | IValue::Object(_) => Some(format!("CONSTANTS.c{}", constant_index(constants, value))),
            IValue::Str(text) if !text.is_ascii() => Some(format!("CONSTANTS.c{}", constant_index(constants, value))),
            IValue::Enum { class, value } => facts.enum_member(class, value).map(|member| format!("{class}.{member}")),
            _ => None,
        });
        prefix + &text
    }
}

/// An empty container says its type, which the value itself may not know.
fn typed_if_empty(value: &IValue, ty: &Type) -> IValue {
    match (value, ty) {
        (IValue::List(None, items), Type::List(elem)) => IValue::List(Some((**elem).clone()), Arc::clone(items)),
        (IValue::Dict(None, items), Type::Dict(k, v)) => {
            IValue::Dict(Some(((**k).clone(), (**v).clone())), Arc::clone(items))
        }
        _ => value.clone(),
    }
}

fn constant_index(constants: &mut Vec<IValue>, value: &IValue) -> usize {
    let is_same = |known: &IValue| match (known, value) {
        (IValue::Tensor(a), IValue::Tensor(b)) => {
            Arc::ptr_eq(a, b) || (a.dtype() == b.dtype() && a.sizes() == b.sizes() && same_elements(a, b))
        }
        _ => false,
    };
    constants.iter().position(is_same).unwrap_or_else(|| {
        constants.push(value.clone());
        constants.len() - 1
    })
}

fn same_elements(a: &TensorData, b: &TensorData) -> bool {
    let is_plain = |data: &TensorData| data.quantizer.is_none() && data.channel_quantizer.is_none();
    is_plain(a) && is_plain(b) && a.contiguous_bytes() == b.contiguous_bytes()
}

/// How many leading inputs must print, as those after have their defaults, and how many trailing ones are `out=`.
fn needed(graph: &Graph, schema: &[SchemaFact], inputs: &[ValueId]) -> (usize, usize) {
    let n_out = schema.iter().rev().take_while(|fact| fact.is_out).count();
    if schema.len() < inputs.len() || schema.is_empty() {
        return (inputs.len(), if schema.is_empty() { 0 } else { n_out });
    }
    let mut n_needed = (schema.len() - n_out).min(inputs.len());
    while let Some(at) = n_needed.checked_sub(1) {
        let default = schema.get(at).and_then(|fact| fact.default.as_ref());
        let actual = inputs.get(at).and_then(|&value| graph.constant(value));
        match (default, actual) {
            (Some(default), Some(actual)) if is_equal(default, &actual) => n_needed = at,
            _ => break,
        }
    }
    (n_needed, n_out)
}

/// Whether a constant equals a default. Numbers compare by value, as the schema's text may spell `1` for a float.
#[allow(
    clippy::cast_precision_loss,
    clippy::float_cmp,
    reason = "defaults are small numbers, and only the exact default may be left out"
)]
fn is_equal(default: &IValue, actual: &IValue) -> bool {
    match (default, actual) {
        (IValue::None, IValue::None) => true,
        (IValue::Bool(a), IValue::Bool(b)) => a == b,
        (IValue::Int(a), IValue::Int(b)) => a == b,
        (IValue::Float(a), IValue::Float(b)) => a == b,
        (IValue::Str(a), IValue::Str(b)) => a == b,
        (IValue::List(_, a), IValue::List(_, b)) => {
            a.len() == b.len() && a.iter().zip(&**b).all(|(a, b)| is_equal(a, b))
        }
        _ => false,
    }
}

/// Whether a reader finds the type of a container from its members alone.
fn is_clear_from_members(elem: &Type) -> bool {
    !matches!(elem, Type::Optional(_) | Type::Union(_) | Type::Interface(_) | Type::Any)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LoopKind {
    For,
    While,
}

fn loop_kind(body: &Body<'_>, node: &Node) -> LoopKind {
    let graph = body.graph;
    let is_true = |value: Option<&ValueId>| matches!(value.and_then(|&v| graph.constant(v)), Some(IValue::Bool(true)));
    let block = node.blocks.first().map(|&block| &graph.blocks[block]);
    let always = is_true(node.inputs.get(1)) && is_true(block.and_then(|block| block.returns.first()));
    let has_count = match node.inputs.first().and_then(|&count| graph.constant(count)) {
        Some(IValue::Int(i64::MAX)) => {
            block.and_then(|block| block.params.first()).is_some_and(|&trip| !body.uses[trip].is_empty())
        }
        _ => true,
    };
    if always && has_count { LoopKind::For } else { LoopKind::While }
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A debug name made an identifier.
fn identifier(name: &str) -> String {
    let start = if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) { "_" } else { "" };
    start.to_owned() + &name.replace(|c: char| !(c.is_ascii_alphanumeric() || c == '_'), "_")
}

//! Reads the text of a graph, as PyTorch and [`print`](super::print) write it.
//!
//! Comments and scopes are skipped. Operators come without overloads, as the text has none. A numeric name is kept as the value's
//! name, so that text in and text out agree. Text may come from anywhere: no depth of blocks overflows the stack, and
//! every mistake is an error with its place.

use super::print::is_number;
use super::{Attr, BlockId, Graph, NodeId, OpName, ValueId};
use crate::diag::{Diagnostic, Result};
use crate::source::{Source, Span};
use crate::types::{DType, EnumType, IValue, NamedTupleType, TensorData, TensorType, Type};
use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

/// The deepest nesting of types, of constants and of graphs in graphs.
const MAX_DEPTH: usize = 64;

/// The most elements of a tensor constant whose text gives only its shape.
const MAX_FILLED_ELEMENTS: i64 = 1 << 24;

/// Keys of attributes. Graphs hold them as static text.
const KEYS: [&str; 8] = ["value", "name", "types", "beg", "end", "warn_id", "Subgraph", "idx"];

/// Kinds whose nested graph prints after the main one, under their name with a number.
const SUBGRAPH_KINDS: [&str; 4] = ["prim::fork", "prim::awaitable", "prim::Closure", "prim::DifferentiableGraph"];

impl FromStr for Graph {
    type Err = Box<Diagnostic>;

    fn from_str(text: &str) -> Result<Self> {
        let source = Source { name: "<graph>".into(), text: text.into(), origins: Vec::new() };
        parse(&Arc::new(source))
    }
}

/// Reads a graph.
///
/// Constants are read by the type of their output. `<Tensor>`, which hides the elements, becomes zeros if the type
/// gives the element type and every size, else it is an error.
///
/// # Errors
/// User errors with their place: text that is no graph, values used before they are defined, constants without text.
pub fn parse(source: &Arc<Source>) -> Result<Graph> {
    let mut reader = Reader { source, text: &source.text, at: 0 };
    let graph = reader.graph(0)?;
    reader.skip();
    if reader.rest().is_empty() { Ok(graph) } else { reader.fail("expected the end of the text") }
}

struct Reader<'a> {
    source: &'a Arc<Source>,
    text: &'a str,
    at: usize,
}

/// A block being read, and the node that owns it.
struct Open {
    block: BlockId,
    owner: Option<NodeId>,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T> {
        let line_end = self.rest().find('\n').unwrap_or(self.rest().len());
        let end = self.at + self.rest().find(char::is_whitespace).unwrap_or(line_end).max(1);
        let span = Span { source: Arc::clone(self.source), start: self.at, end };
        Err(Diagnostic::user(message).at(Some(&span)))
    }

    /// Skips blanks, newlines, comments.
    fn skip(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with('#') {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    /// Takes this token if it comes next.
    fn take(&mut self, token: &str) -> bool {
        self.skip();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn expect(&mut self, token: &str) -> Result<()> {
        if self.take(token) { Ok(()) } else { self.fail(format!("expected '{token}'")) }
    }

    /// Takes the longest run of characters that satisfy the test, perhaps none.
    fn run(&mut self, test: impl Fn(char) -> bool) -> &'a str {
        self.skip();
        let rest = self.rest();
        let (run, _) = rest.split_at(rest.find(|c| !test(c)).unwrap_or(rest.len()));
        self.at += run.len();
        run
    }

    fn word(&mut self) -> Result<&'a str> {
        let word = self.run(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | ':' | '^' | '-' | '+'));
        if word.is_empty() { self.fail("expected a word") } else { Ok(word) }
    }

    /// Items separated by commas, after the opening and up to and with the closing token.
    fn items<T>(&mut self, close: &str, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = Vec::new();
        while !self.take(close) {
            items.push(item(self)?);
            if !self.take(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(items)
    }

    fn graph(&mut self, depth: usize) -> Result<Graph> {
        if depth > MAX_DEPTH {
            return self.fail("graphs are nested too deeply");
        }
        let mut graph = Graph::new();
        let mut values: HashMap<&'a str, ValueId> = HashMap::new();
        let mut pending: Vec<NodeId> = Vec::new();
        self.expect("graph(")?;
        let top = graph.top;
        self.params(&mut graph, &mut values, top)?;
        let mut open = vec![Open { block: top, owner: None }];
        while let Some(Open { block, owner }) = open.last() {
            let (block, owner) = (*block, *owner);
            let last_node = graph.blocks[block].nodes.last().copied();
            if let (Some(node), true) = (last_node, self.at_block()) {
                let inner = graph.add_block();
                graph.nodes[node].blocks.push(inner);
                self.run(char::is_alphanumeric);
                self.expect("(")?;
                self.params(&mut graph, &mut values, inner)?;
                open.push(Open { block: inner, owner: Some(node) });
            } else if self.take(if owner.is_some() { "->" } else { "return" }) {
                self.expect("(")?;
                graph.blocks[block].returns = self.items(")", |reader| reader.value_use(&values))?;
                open.pop();
            } else {
                let node = self.node(&mut graph, &mut values, block)?;
                if subgraph_kind(&graph.nodes[node].op.name).is_some() {
                    pending.push(node);
                }
            }
        }
        while self.take("with ") {
            let start = self.at;
            let name = self.word()?;
            let Some(at) = pending.iter().position(|&node| &*graph.nodes[node].op.name == name) else {
                // It belongs to the graph around this one.
                self.at = start - "with ".len();
                break;
            };
            let node = pending.remove(at);
            self.expect("=")?;
            let inner = self.graph(depth + 1)?;
            let node = &mut graph.nodes[node];
            node.op = OpName::new(subgraph_kind(name).unwrap_or(name));
            node.attrs.push(("Subgraph", Attr::Graph(Arc::new(inner))));
        }
        if pending.is_empty() { Ok(graph) } else { self.fail("a nested graph is missing") }
    }

    /// Whether `blockN(` comes next.
    fn at_block(&mut self) -> bool {
        self.skip();
        let rest = self.rest().strip_prefix("block").unwrap_or("");
        rest.split_once('(').is_some_and(|(number, _)| is_number(number))
    }

    fn params(&mut self, graph: &mut Graph, values: &mut HashMap<&'a str, ValueId>, block: BlockId) -> Result<()> {
        let params = self.items(")", Self::definition)?;
        for (name, ty) in params {
            let id = graph.add_param(block, ty, Some(name.into()));
            self.define(values, name, id)?;
        }
        self.expect(":")
    }

    fn define(&self, values: &mut HashMap<&'a str, ValueId>, name: &'a str, id: ValueId) -> Result<()> {
        match values.insert(name, id) {
            None => Ok(()),
            Some(_) => self.fail(format!("%{name} is defined twice")),
        }
    }

    fn value_name(&mut self) -> Result<&'a str> {
        self.expect("%")?;
        // Frozen modules put attribute names of any spelling here.
        let name = self.run(|c| !(c.is_whitespace() || matches!(c, ',' | ')' | '(' | ':' | '=')));
        if name.is_empty() { self.fail("expected a value's name") } else { Ok(name) }
    }

    fn definition(&mut self) -> Result<(&'a str, Type)> {
        let name = self.value_name()?;
        let ty = if self.take(":") { self.ty(0)? } else { Type::tensor() };
        Ok((name, ty))
    }

    fn value_use(&mut self, values: &HashMap<&'a str, ValueId>) -> Result<ValueId> {
        let name = self.value_name()?;
        match values.get(name) {
            Some(&id) => Ok(id),
            None => self.fail(format!("%{name} is not defined here")),
        }
    }

    fn node(&mut self, graph: &mut Graph, values: &mut HashMap<&'a str, ValueId>, block: BlockId) -> Result<NodeId> {
        let mut outputs = Vec::new();
        while !self.take("=") {
            outputs.push(self.definition()?);
            if !self.take(",") {
                self.expect("=")?;
                break;
            }
        }
        let op = self.word()?;
        if op.starts_with('^') || !op.contains("::") {
            return self.fail(format!("'{op}' is not the name of an operator"));
        }
        let ty = outputs.first().map(|(_, ty)| ty);
        let attrs = if self.take("[") { self.items("]", |reader| reader.attribute(ty))? } else { Vec::new() };
        self.expect("(")?;
        let inputs = self.items(")", |reader| reader.value_use(values))?;
        let scope = self.rest().trim_start_matches(' ');
        if scope.starts_with(", scope:") {
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
        let node = graph.append(block, OpName::new(op), inputs, &[], None);
        for (name, ty) in outputs {
            let id = graph.add_output(node, ty);
            graph.values[id].name = Some(name.into());
            self.define(values, name, id)?;
        }
        graph.nodes[node].attrs = attrs;
        Ok(node)
    }

    fn attribute(&mut self, ty: Option<&Type>) -> Result<(&'static str, Attr)> {
        let word = self.run(|c| c.is_alphanumeric() || c == '_');
        let Some(&key) = KEYS.iter().find(|key| **key == word) else {
            return self.fail(format!("'{word}' is not the name of an attribute"));
        };
        self.expect("=")?;
        let attr = match key {
            "value" => Attr::Value(self.constant(ty.unwrap_or(&Type::Any))?),
            "name" => Attr::Name(utf8(&self.string()?)),
            "types" => {
                self.expect("[")?;
                Attr::Types(self.items("]", |reader| reader.ty(0))?)
            }
            _ => {
                let word = self.word()?;
                match word.parse() {
                    Ok(value) => Attr::Int(value),
                    Err(_) => return self.fail(format!("'{word}' is not an integer")),
                }
            }
        };
        Ok((key, attr))
    }

    /// A constant whose type is known.
    fn constant(&mut self, ty: &Type) -> Result<IValue> {
        self.skip();
        match ty {
            Type::Bool if self.take("0") => Ok(IValue::Bool(false)),
            Type::Bool if self.take("1") => Ok(IValue::Bool(true)),
            Type::Device => Ok(IValue::Device(utf8(&self.string()?))),
            Type::Tensor(tensor) => self.tensor(tensor),
            _ => self.value(ty, 0),
        }
    }

    /// A value in the form of source text; the type helps where the text does not say it.
    fn value(&mut self, ty: &Type, depth: usize) -> Result<IValue> {
        if depth > MAX_DEPTH {
            return self.fail("constant is nested too deeply");
        }
        let (elem, other) = match ty {
            Type::List(elem) => (Some(&**elem), None),
            Type::Dict(key, value) => (Some(&**key), Some(&**value)),
            Type::Optional(inner) => return self.value(inner, depth + 1),
            _ => (None, None),
        };
        let any = &Type::Any;
        self.skip();
        match self.rest().chars().next() {
            Some('"') => Ok(IValue::Str(utf8(&self.string()?))),
            Some('[') => {
                self.expect("[")?;
                if self.take("<Tensors>") {
                    return self.fail("a list of tensors without their elements cannot be read");
                }
                let items = self.items("]", |reader| reader.value(elem.unwrap_or(any), depth + 1))?;
                Ok(IValue::List(elem.cloned(), items.into()))
            }
            Some('(') => {
                self.expect("(")?;
                let mut types = match ty {
                    Type::Tuple(types) => types.to_vec(),
                    Type::NamedTuple(tuple) => tuple.fields.iter().map(|(_, ty)| ty.clone()).collect(),
                    _ => Vec::new(),
                }
                .into_iter();
                let items = self.items(")", |reader| reader.value(&types.next().unwrap_or(Type::Any), depth + 1))?;
                Ok(IValue::Tuple(items.into()))
            }
            Some('{') if matches!(ty, Type::Tensor(_)) => self.tensor(&TensorType::default()),
            Some('{') => {
                self.expect("{")?;
                let items = self.items("}", |reader| {
                    let key = reader.value(elem.unwrap_or(any), depth + 1)?;
                    reader.expect(":")?;
                    Ok((key, reader.value(other.unwrap_or(any), depth + 1)?))
                })?;
                Ok(IValue::Dict(elem.cloned().zip(other.cloned()), items.into()))
            }
            _ if self.take("annotate(") => {
                let Some(length) = self.rest().find("], ") else { return self.fail("expected a type and a value") };
                let annotation = self.rest().get(..=length).unwrap_or("");
                let Some(ty) = Type::parse_annotation(annotation) else { return self.fail("expected a type") };
                self.at += annotation.len();
                self.expect(",")?;
                let value = self.value(&ty, depth + 1)?;
                self.expect(")")?;
                Ok(value)
            }
            _ if self.take("torch.device(") => {
                let name = utf8(&self.string()?);
                self.expect(")")?;
                Ok(IValue::Device(name))
            }
            _ => self.scalar(ty),
        }
    }

    fn scalar(&mut self, ty: &Type) -> Result<IValue> {
        let word = self.word()?;
        let value = match word {
            "None" => Some(IValue::None),
            "True" => Some(IValue::Bool(true)),
            "False" => Some(IValue::Bool(false)),
            _ if word.ends_with('j') => complex(word),
            _ if matches!(ty, Type::Float) => word.parse().ok().map(IValue::Float),
            _ => word.parse().map(IValue::Int).ok().or_else(|| word.parse().ok().map(IValue::Float)),
        };
        match value {
            Some(value) => Ok(value),
            None => self.fail(format!("'{word}' is not a constant")),
        }
    }

    /// `{3}`, `<Tensor>`, or elements followed by `[ CPUFloatType{2,3} ]`.
    fn tensor(&mut self, ty: &TensorType) -> Result<IValue> {
        self.skip();
        let sizes = || ty.sizes.as_ref().and_then(|sizes| sizes.iter().copied().collect::<Option<Vec<i64>>>());
        if self.take("<Tensor>") {
            let (Some(dtype), Some(sizes)) = (ty.dtype, sizes()) else {
                return self.fail("a tensor without its elements can only be read if its type is known");
            };
            let numel = sizes.iter().try_fold(1_i64, |n, &size| n.checked_mul(size));
            let Some(numel) = numel.filter(|n| (0..=MAX_FILLED_ELEMENTS).contains(n)) else {
                return self.fail("a tensor constant is too large");
            };
            return self.filled(dtype, &sizes, &vec![0.0; usize::try_from(numel).unwrap_or(0)]);
        }
        if self.take("{") {
            let word = self.word()?;
            self.expect("}")?;
            let is_int = word.parse::<i64>().is_ok();
            let Ok(value) = word.parse::<f64>() else { return self.fail(format!("'{word}' is not a number")) };
            let dtype = ty.dtype.unwrap_or(if is_int { DType::I64 } else { DType::F32 });
            return self.filled(dtype, &sizes().unwrap_or_default(), &[value]);
        }
        let Some((body, tail)) = self.rest().split_once("[ CPU") else {
            return self.fail("expected a tensor's elements");
        };
        let Some((kind, tail)) = tail.split_once("Type{") else { return self.fail("expected a tensor's type") };
        let Some((shape, tail)) = tail.split_once("} ]") else { return self.fail("expected a tensor's sizes") };
        let Some(dtype) = DType::from_graph_name(kind) else {
            return self.fail(format!("unknown element type {kind}"));
        };
        let shape: Option<Vec<i64>> = shape.split(',').filter(|s| !s.is_empty()).map(|s| s.parse().ok()).collect();
        // `0.01 *` scales the elements; `(1,.,.) =` only labels them.
        let (mut scale, mut elements) = (1.0, Vec::new());
        for word in body.split_whitespace() {
            match word.parse::<f64>() {
                Ok(value) => elements.push(value),
                Err(_) if word == "*" => scale = elements.pop().unwrap_or(1.0),
                Err(_) if word == "=" || word.starts_with('(') => {}
                Err(_) => return self.fail(format!("'{word}' is not a number")),
            }
        }
        let Some(shape) = shape else { return self.fail("expected a tensor's sizes") };
        if let Some(declared) = sizes().filter(|declared| *declared != shape) {
            return self.fail(format!("a tensor of sizes {shape:?} where its type says {declared:?}"));
        }
        let values: Vec<f64> = elements.into_iter().map(|value| value * scale).collect();
        let value = self.filled(dtype, &shape, &values)?;
        self.at = self.text.len() - tail.len();
        Ok(value)
    }

    fn filled(&self, dtype: DType, sizes: &[i64], values: &[f64]) -> Result<IValue> {
        let bytes: Option<Vec<Vec<u8>>> = values.iter().map(|&value| element(dtype, value)).collect();
        let Some(bytes) = bytes else { return self.fail(format!("constants of type {dtype} cannot be read")) };
        let expected = sizes.iter().try_fold(1_i64, |n, &size| n.checked_mul(size));
        if expected != i64::try_from(values.len()).ok() {
            return self.fail(format!("{} elements for a tensor of sizes {sizes:?}", values.len()));
        }
        match TensorData::from_bytes(dtype, sizes, bytes.concat()) {
            Ok(data) => Ok(IValue::Tensor(Arc::new(data))),
            Err(message) => self.fail(message),
        }
    }

    /// A quoted string with its escapes resolved.
    fn string(&mut self) -> Result<Vec<u8>> {
        self.expect("\"")?;
        let mut out = Vec::new();
        let mut bytes = self.rest().bytes().enumerate();
        while let Some((at, byte)) = bytes.next() {
            match byte {
                b'"' => {
                    self.at += at + 1;
                    return Ok(out);
                }
                b'\\' => match bytes.next() {
                    Some((_, digit @ b'0'..=b'7')) => {
                        let mut value = u32::from(digit - b'0');
                        for (_, digit) in bytes.by_ref().take(2) {
                            value = value * 8 + u32::from(digit.wrapping_sub(b'0') & 7);
                        }
                        out.push(u8::try_from(value & 0xff).unwrap_or(0));
                    }
                    Some((_, letter)) => out.push(match letter {
                        b'n' => b'\n',
                        b't' => b'\t',
                        b'r' => b'\r',
                        b'a' => 7,
                        b'b' => 8,
                        b'f' => 12,
                        b'v' => 11,
                        other => other,
                    }),
                    None => break,
                },
                _ => out.push(byte),
            }
        }
        self.fail("unterminated string")
    }

    /// A type in its graph form.
    fn ty(&mut self, depth: usize) -> Result<Type> {
        if depth > MAX_DEPTH {
            return self.fail("type is nested too deeply");
        }
        let mut ty = self.base_type(depth)?;
        loop {
            // Blanks end a type, so these do not skip them.
            if self.rest().starts_with("[]") {
                self.at += 2;
                ty = Type::list(ty);
            } else if self.rest().starts_with('?') {
                self.at += 1;
                ty = Type::Optional(Arc::new(ty));
            } else {
                return Ok(ty);
            }
        }
    }

    fn base_type(&mut self, depth: usize) -> Result<Type> {
        let inner = |reader: &mut Self| reader.ty(depth + 1);
        if self.take("(") {
            return Ok(Type::Tuple(self.items(")", inner)?.into()));
        }
        let word = self.run(|c| c.is_alphanumeric() || matches!(c, '_' | '.'));
        let open = self.rest().chars().next().filter(|c| matches!(c, '(' | '[' | '<'));
        let opens_list = self.rest().starts_with("[]");
        match (word, open) {
            ("Dict", Some('(')) => {
                self.expect("(")?;
                let key = Arc::new(self.ty(depth + 1)?);
                self.expect(",")?;
                let value = Arc::new(self.ty(depth + 1)?);
                self.expect(")")?;
                Ok(Type::Dict(key, value))
            }
            ("Union", Some('(')) => {
                self.expect("(")?;
                Ok(Type::Union(self.items(")", inner)?.into()))
            }
            ("NamedTuple", Some('(')) => {
                self.expect("(")?;
                let fields = self.items(")", |reader| {
                    let name = reader.run(|c| c.is_alphanumeric() || c == '_');
                    reader.expect(":")?;
                    let ty = reader.ty(depth + 1)?;
                    if reader.take("=") {
                        reader.value(&ty, depth + 1)?;
                    }
                    Ok((name.into(), ty))
                })?;
                Ok(Type::NamedTuple(Arc::new(NamedTupleType { name: "".into(), fields })))
            }
            ("Await", Some('(')) => {
                self.expect("(")?;
                let inner = Arc::new(self.ty(depth + 1)?);
                self.expect(")")?;
                Ok(Type::Await(inner))
            }
            ("Future" | "RRef", Some('[')) if !opens_list => {
                self.expect("[")?;
                let inner = Arc::new(self.ty(depth + 1)?);
                self.expect("]")?;
                Ok(if word == "RRef" { Type::RRef(inner) } else { Type::Future(inner) })
            }
            ("Enum" | "InterfaceType", Some('<')) => {
                self.expect("<")?;
                let name = self.run(|c| c != '>' && c != '\n');
                self.expect(">")?;
                Ok(match word {
                    "Enum" => Type::Enum(Arc::new(EnumType { name: name.into(), value: Type::Any })),
                    _ => Type::Interface(name.into()),
                })
            }
            (_, Some('(')) => self.tensor_type(word),
            ("Tensor", _) => Ok(Type::tensor()),
            ("Scalar", _) => Ok(Type::Number),
            (_, _) => match Type::parse_annotation(word) {
                Some(ty) => Ok(ty),
                None => self.fail(format!("'{word}' is not a type")),
            },
        }
    }

    /// `Float(2, *, strides=[3, 1], requires_grad=0, device=cpu)`, `FloatTensor(device=cpu)`, `Tensor(*, 2)`.
    fn tensor_type(&mut self, word: &str) -> Result<Type> {
        let is_ranked = !word.ends_with("Tensor") || word == "Tensor";
        let dtype = DType::from_graph_name(word.strip_suffix("Tensor").unwrap_or(word));
        if dtype.is_none() && word != "Tensor" {
            return self.fail(format!("'{word}' is not an element type"));
        }
        let mut ty = TensorType { dtype, sizes: is_ranked.then(Vec::new), ..TensorType::default() };
        self.expect("(")?;
        self.items(")", |reader| {
            if reader.take("strides=") {
                reader.expect("[")?;
                let words = reader.items("]", Self::word_or_star)?;
                ty.strides = words.into_iter().map(|word| word.parse().ok()).collect();
            } else if reader.take("requires_grad=") {
                ty.requires_grad = Some(reader.word()? == "1");
            } else if reader.take("device=") {
                ty.device = Some(reader.word()?.into());
            } else {
                let word = reader.word_or_star()?;
                let size = if word == "*" { None } else { word.parse().ok() };
                if size.is_none() && word != "*" {
                    return reader.fail(format!("'{word}' is not a size"));
                }
                ty.sizes.get_or_insert_with(Vec::new).push(size);
            }
            Ok(())
        })?;
        Ok(Type::Tensor(ty))
    }

    fn word_or_star(&mut self) -> Result<&'a str> {
        if self.take("*") { Ok("*") } else { self.word() }
    }
}

/// The kind of a node whose printed name has the number of its nested graph.
fn subgraph_kind(name: &str) -> Option<&str> {
    let (kind, number) = name.rsplit_once('_')?;
    (is_number(number) && SUBGRAPH_KINDS.contains(&kind)).then_some(kind)
}

/// Strings of values are UTF-8; bytes that are not become replacement characters.
fn utf8(bytes: &[u8]) -> Arc<str> {
    String::from_utf8_lossy(bytes).into()
}

/// `1.+3.j`.
fn complex(word: &str) -> Option<IValue> {
    let word = word.strip_suffix('j')?;
    let split = word.char_indices().rev().find(|&(at, c)| {
        let before = word.get(..at).and_then(|before| before.chars().next_back());
        matches!(c, '+' | '-') && before.is_some_and(|before| before != 'e')
    });
    let (re, im) = word.split_at(split?.0);
    Some(IValue::Complex(re.parse().ok()?, im.parse().ok()?))
}

/// The bytes of one element, or `None` for types whose numbers have no plain form.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates; the text was an element of that type"
)]
fn element(dtype: DType, value: f64) -> Option<Vec<u8>> {
    Some(match dtype {
        DType::U8 => (value as u8).to_ne_bytes().to_vec(),
        DType::Bool => vec![u8::from(value != 0.0)],
        DType::I8 => (value as i8).to_ne_bytes().to_vec(),
        DType::I16 => (value as i16).to_ne_bytes().to_vec(),
        DType::I32 => (value as i32).to_ne_bytes().to_vec(),
        DType::I64 => (value as i64).to_ne_bytes().to_vec(),
        DType::U16 => (value as u16).to_ne_bytes().to_vec(),
        DType::U32 => (value as u32).to_ne_bytes().to_vec(),
        DType::U64 => (value as u64).to_ne_bytes().to_vec(),
        DType::F32 => (value as f32).to_ne_bytes().to_vec(),
        DType::F64 => value.to_ne_bytes().to_vec(),
        DType::BF16 => (((value as f32).to_bits() >> 16) as u16).to_ne_bytes().to_vec(),
        DType::F16 if value == 0.0 => vec![0; 2],
        DType::F16 | DType::C32 | DType::C64 | DType::C128 => return None,
        DType::QI8 | DType::QU8 | DType::QI32 | DType::F8E5M2 | DType::F8E4M3 => return None,
    })
}

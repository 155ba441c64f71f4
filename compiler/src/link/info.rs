//! The data behind `foo_info`: what a library holds, as constants in LLVM IR that mirror the structures of the C header.

use super::header;
use aot_runtime::abi::ABI_VERSION;
use aot_runtime::desc::{DimDesc, FunctionDesc, InputKind, ModelDesc, TensorDesc, Tree};
use std::collections::HashMap;
use std::fmt::Write as _;

/// `aot_leaf_info`
const LEAF: &str = "{ ptr, ptr, i32, i32, i32, ptr }";
/// `aot_signature_info`
const SIGNATURE: &str = "{ ptr, i64, i64, i32, i32, ptr, ptr }";
/// `aot_method_info`
const METHOD: &str = "{ ptr, ptr, i32, ptr }";
/// `aot_operator_info`
const OPERATOR: &str = "{ ptr, ptr, i32, i32 }";
/// `aot_model_info`
const MODEL: &str = "{ i32, i32, ptr, ptr, ptr, ptr, ptr, ptr, i32, ptr, i64, i64, ptr }";

/// Kinds of leaves, as the header numbers them.
mod kind {
    pub(super) const NONE: i32 = 0;
    pub(super) const BOOL: i32 = 1;
    pub(super) const INT: i32 = 2;
    pub(super) const FLOAT: i32 = 3;
    pub(super) const STRING: i32 = 5;
    pub(super) const TENSOR: i32 = 6;
    pub(super) const OTHER: i32 = -1;
}

/// Writes the constants and the function.
pub(super) fn write(ir: &mut String, desc: &ModelDesc) {
    let mut data = Data { ir, known: HashMap::new() };
    let mut methods = Vec::new();
    for method in &desc.methods {
        let texts = header::signatures(desc, method);
        let functions = method.variants.iter().filter_map(|v| Some((v, desc.functions.get(v.function as usize)?)));
        let mut signatures = Vec::new();
        for ((variant, function), text) in functions.zip(&texts) {
            let inputs: Vec<_> = function.inputs.iter().map(|i| data.input(&i.name, &i.kind)).collect();
            let outputs = data.results(function);
            let state = variant.state_tag.unwrap_or(-1);
            let (text, n_inputs, n_outputs) = (data.text(text), inputs.len(), outputs.len());
            let (inputs, outputs) = (data.table(LEAF, &inputs), data.table(LEAF, &outputs));
            signatures.push(format!(
                "{{ {text}, i64 {state}, i64 {}, i32 {n_inputs}, i32 {n_outputs}, {inputs}, {outputs} }}",
                function.arena_bytes
            ));
        }
        let (name, text, n) = (data.text(&method.name), data.text(&texts.join("\n")), signatures.len());
        let signatures = data.table(SIGNATURE, &signatures);
        methods.push(format!("{{ {name}, {text}, i32 {n}, {signatures} }}"));
    }
    let operators: Vec<_> = desc
        .operators
        .iter()
        .map(|op| {
            let (name, file) = (data.text(&op.name), data.text(&op.file));
            format!("{{ {name}, {file}, i32 {}, i32 {} }}", op.line, op.column)
        })
        .collect();
    let texts = [&desc.name, &desc.compiler, &desc.model_hash, &desc.cpu_features, &desc.flags];
    let texts: Vec<_> = texts.iter().map(|text| data.text(text)).collect();
    let (n_methods, methods) = (methods.len(), data.table(METHOD, &methods));
    let (n_operators, operators) = (operators.len(), data.table(OPERATOR, &operators));
    let prepared: Vec<_> = desc.prepared.iter().map(|(name, bytes)| format!("{bytes} {name}")).collect();
    let prepared = data.text(&prepared.join("\n"));
    let _ = writeln!(
        ir,
        "@aot_info = internal constant {MODEL} {{ i32 {ABI_VERSION}, i32 {n_methods}, {}, {methods}, i32 {n_operators}, \
         {operators}, i64 {}, i64 {}, {prepared} }}\ndefine ptr @\"{}_info\"() nounwind {{\n  ret ptr @aot_info\n}}",
        texts.join(", "),
        desc.weights_bytes,
        desc.prepared_bytes,
        desc.name
    );
}

/// Constants, each written once.
struct Data<'a> {
    ir: &'a mut String,
    /// The symbols of what is written, by its own text.
    known: HashMap<String, String>,
}

impl Data<'_> {
    /// The address of a constant of this type and these contents.
    fn constant(&mut self, contents: String) -> String {
        let symbol = format!("ptr @aot_data.{}", self.known.len());
        if let Some(known) = self.known.get(&contents) {
            return known.clone();
        }
        let _ = writeln!(self.ir, "{} = private unnamed_addr constant {contents}", symbol.trim_start_matches("ptr "));
        self.known.insert(contents, symbol.clone());
        symbol
    }

    fn text(&mut self, text: &str) -> String {
        let mut escaped = String::new();
        let mut n = 0;
        for byte in text.bytes().filter(|&b| b != 0).chain([0]) {
            let _ = write!(escaped, "\\{byte:02X}");
            n += 1;
        }
        self.constant(format!("[{n} x i8] c\"{escaped}\""))
    }

    fn table(&mut self, ty: &str, items: &[String]) -> String {
        if items.is_empty() {
            return "ptr null".to_owned();
        }
        let items: Vec<_> = items.iter().map(|item| format!("{ty} {item}")).collect();
        self.constant(format!("[{} x {ty}] [{}]", items.len(), items.join(", ")))
    }

    fn input(&mut self, name: &str, of: &InputKind) -> String {
        let (kind, tensor, value) = match of {
            InputKind::Tensor { tensor, .. } | InputKind::Shared { tensor, .. } => (kind::TENSOR, Some(tensor), None),
            InputKind::Int { only } => (kind::INT, None, only.map(|n| n.to_string())),
            InputKind::Float { only } => (kind::FLOAT, None, only.map(|x| format!("{x:?}"))),
            InputKind::Bool { only } => (kind::BOOL, None, only.map(|b| b.to_string())),
            InputKind::None => (kind::NONE, None, None),
            InputKind::Str(text) => (kind::STRING, None, Some(text.clone())),
            InputKind::Object => (kind::OTHER, None, None),
        };
        let name = self.text(name);
        let value = value.map_or_else(|| "ptr null".to_owned(), |value| self.text(&value));
        self.leaf(&name, &value, kind, tensor)
    }

    fn leaf(&mut self, name: &str, value: &str, kind: i32, tensor: Option<&TensorDesc>) -> String {
        let mut dims = Vec::new();
        for dim in tensor.map_or(&[][..], |tensor| &tensor.dims) {
            dims.push(match *dim {
                DimDesc::Const(n) => n.to_string(),
                DimDesc::Var(var) => (-1 - i64::from(var)).to_string(),
            });
        }
        // A number is a tensor without dimensions to a method's own function.
        let dtype = match (tensor, kind) {
            (Some(tensor), _) => tensor.dtype.0,
            (None, kind::INT) => aot_runtime::Dtype::I64.0,
            (None, kind::FLOAT) => aot_runtime::Dtype::F64.0,
            (None, kind::BOOL) => aot_runtime::Dtype::BOOL.0,
            (None, _) => 0,
        };
        let ndim = match (tensor, kind) {
            (None, kind::TENSOR) => "-1".to_owned(),
            _ => dims.len().to_string(),
        };
        let dims = self.table("i64", &dims);
        format!("{{ {name}, {value}, i32 {kind}, i32 {dtype}, i32 {ndim}, {dims} }}")
    }

    /// The leaves of a function's first result.
    fn results(&mut self, function: &FunctionDesc) -> Vec<String> {
        let mut kinds = Vec::new();
        if let Some(tree) = function.results.first() {
            leaves(tree, &mut kinds);
        }
        let null = "ptr null";
        let of = |(i, kind): (usize, i32)| {
            let tensor = function.outputs.get(i).and_then(Option::as_ref).filter(|_| kind == kind::TENSOR);
            self.leaf(null, null, kind, tensor)
        };
        kinds.into_iter().enumerate().map(of).collect()
    }
}

fn leaves(tree: &Tree, kinds: &mut Vec<i32>) {
    match tree {
        Tree::None | Tree::Str(_) => {}
        Tree::Tensor => kinds.push(kind::TENSOR),
        Tree::Int => kinds.push(kind::INT),
        Tree::Float => kinds.push(kind::FLOAT),
        Tree::Bool => kinds.push(kind::BOOL),
        Tree::Complex => kinds.extend([kind::FLOAT; 2]),
        Tree::Object => kinds.push(kind::OTHER),
        Tree::Tuple(items) | Tree::List(items) => items.iter().for_each(|item| leaves(item, kinds)),
        Tree::NamedTuple(_, fields) => fields.iter().for_each(|(_, item)| leaves(item, kinds)),
        Tree::Dict(entries) => {
            for (key, value) in entries {
                leaves(key, kinds);
                leaves(value, kinds);
            }
        }
    }
}

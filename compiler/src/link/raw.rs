//! Typed functions for methods with static signatures: `int foo_forward_raw(model, state, const float* x, float* y, void* ws)`.
//!
//! They are for the method's first version, where each argument is a tensor of fixed extents or a number and each result, too.
//! Model and state are parameters as everywhere: memory for weights in other forms and for state belongs to them.

use aot_runtime::Dtype;
use aot_runtime::desc::{DimDesc, InputKind, MethodDesc, ModelDesc, TensorDesc, Tree};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// A parameter of such a function.
pub(super) struct Parameter {
    /// In C, without the name: `const float*`.
    pub(super) ty: String,
    /// A C identifier.
    pub(super) name: String,
    /// What the comment says: `[1, 64]`.
    pub(super) comment: String,
    /// How it is passed.
    pub(super) pass: Pass,
}

/// How a parameter is passed on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// An address of elements that are read.
    Input,
    /// A number; its type in LLVM.
    Number(&'static str),
    /// Nothing: the argument is `None`.
    Nothing,
    /// An address of elements that are written.
    Output,
}

/// The parameters between state and workspace; `None` where the method can have no such function.
pub(super) fn parameters(desc: &ModelDesc, method: &MethodDesc) -> Option<Vec<Parameter>> {
    let function = desc.functions.get(method.variants.first()?.function as usize)?;
    let mut taken: BTreeSet<String> = ["model", "state", "ws"].map(str::to_owned).into();
    let mut parameters = Vec::new();
    for input in &function.inputs {
        let only = |value: Option<String>| value.map_or_else(String::new, |value| format!("only {value}"));
        let (ty, comment, pass) = match &input.kind {
            InputKind::Tensor { tensor, is_mutated } => {
                let constant = if *is_mutated { "" } else { "const " };
                (format!("{constant}{}*", c_type(tensor.dtype)?), extents(tensor)?, Pass::Input)
            }
            InputKind::Int { only: n } => ("int64_t".into(), only(n.map(|n| n.to_string())), Pass::Number("i64")),
            InputKind::Float { only: x } => {
                ("double".into(), only(x.map(|x| format!("{x:?}"))), Pass::Number("double"))
            }
            InputKind::Bool { only: b } => ("uint8_t".into(), only(b.map(|b| b.to_string())), Pass::Number("i8")),
            InputKind::None => (String::new(), String::new(), Pass::Nothing),
            InputKind::Str(_) | InputKind::Object | InputKind::Shared { .. } => return None,
        };
        let name = if pass == Pass::Nothing { String::new() } else { identifier(&input.name, &mut taken) };
        parameters.push(Parameter { ty, name, comment, pass });
    }
    let [result] = &function.results[..] else { return None };
    let mut kinds = Vec::new();
    if !plain_leaves(result, &mut kinds) || kinds.is_empty() {
        return None;
    }
    for (i, kind) in kinds.iter().enumerate() {
        let (ty, comment) = match kind {
            Tree::Int => ("int64_t*".to_owned(), "an int".to_owned()),
            Tree::Float => ("double*".to_owned(), "a float".to_owned()),
            Tree::Bool => ("uint8_t*".to_owned(), "a bool".to_owned()),
            _ => {
                let tensor = function.outputs.get(i)?.as_ref()?;
                (format!("{}*", c_type(tensor.dtype)?), extents(tensor)?)
            }
        };
        let name = if kinds.len() == 1 { "out".to_owned() } else { format!("out{i}") };
        let name = identifier(&name, &mut taken);
        parameters.push(Parameter { ty, name, comment, pass: Pass::Output });
    }
    Some(parameters)
}

/// The kinds of a result's leaves; whether all are tensors and numbers.
fn plain_leaves<'a>(tree: &'a Tree, kinds: &mut Vec<&'a Tree>) -> bool {
    match tree {
        Tree::Tensor | Tree::Int | Tree::Float | Tree::Bool => {
            kinds.push(tree);
            true
        }
        Tree::Tuple(items) | Tree::List(items) => items.iter().all(|item| plain_leaves(item, kinds)),
        Tree::NamedTuple(_, fields) => fields.iter().all(|(_, item)| plain_leaves(item, kinds)),
        Tree::Dict(entries) => entries.iter().all(|(k, v)| plain_leaves(k, kinds) && plain_leaves(v, kinds)),
        Tree::None | Tree::Str(_) => true,
        Tree::Complex | Tree::Object => false,
    }
}

/// `[1, 64]`, if all extents are fixed.
fn extents(tensor: &TensorDesc) -> Option<String> {
    let dim = |dim: &DimDesc| match dim {
        DimDesc::Const(n) => Some(n.to_string()),
        DimDesc::Var(_) => None,
    };
    Some(format!("[{}]", tensor.dims.iter().map(dim).collect::<Option<Vec<_>>>()?.join(", ")))
}

fn c_type(dtype: Dtype) -> Option<&'static str> {
    Some(match dtype {
        Dtype::F32 => "float",
        Dtype::F64 => "double",
        Dtype::I64 => "int64_t",
        Dtype::BOOL | Dtype(0) => "uint8_t",
        Dtype(1) => "int8_t",
        Dtype(2) => "int16_t",
        Dtype(3) => "int32_t",
        // Halves by their bits.
        Dtype(5 | 15) => "uint16_t",
        _ => return None,
    })
}

/// A name that is free in C and C++: `state[0]` is `state_0`.
fn identifier(name: &str, taken: &mut BTreeSet<String>) -> String {
    const KEYWORDS: [&str; 20] = [
        "auto", "bool", "char", "class", "const", "default", "double", "float", "for", "if", "in", "int", "long",
        "new", "register", "short", "signed", "this", "union", "void",
    ];
    let plain = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect::<String>();
    let mut free = plain.trim_end_matches('_').to_owned();
    if free.is_empty() || free.starts_with(|c: char| c.is_ascii_digit()) {
        free.insert_str(0, "arg");
    }
    while taken.contains(&free) || KEYWORDS.contains(&free.as_str()) {
        free.push('_');
    }
    taken.insert(free.clone());
    free
}

/// Writes the function: it puts addresses into two arrays and passes them on.
pub(super) fn write(ir: &mut String, method: &str, number: usize, parameters: &[Parameter]) {
    let mut list = vec!["ptr %0".to_owned(), "ptr %1".to_owned()];
    let mut body = String::new();
    let mut counts = [0usize; 2];
    let n_outputs = parameters.iter().filter(|p| p.pass == Pass::Output).count();
    let n_inputs = parameters.len() - n_outputs;
    let _ = writeln!(body, "  %in = alloca [{n_inputs} x ptr]\n  %out = alloca [{n_outputs} x ptr]");
    for parameter in parameters {
        let value = format!("%{}", list.len());
        let (array, count) = match parameter.pass {
            Pass::Output => ("out", &mut counts[1]),
            Pass::Input | Pass::Number(_) | Pass::Nothing => ("in", &mut counts[0]),
        };
        let address = match parameter.pass {
            Pass::Number(ty) => {
                list.push(format!("{ty} {value}"));
                let _ = writeln!(body, "  %number.{count} = alloca {ty}\n  store {ty} {value}, ptr %number.{count}");
                format!("%number.{count}")
            }
            Pass::Nothing => "null".to_owned(),
            Pass::Input | Pass::Output => {
                list.push(format!("ptr {value}"));
                value
            }
        };
        let _ = writeln!(body, "  %{array}.{count} = getelementptr ptr, ptr %{array}, i64 {count}");
        let _ = writeln!(body, "  store ptr {address}, ptr %{array}.{count}");
        *count += 1;
    }
    let workspace = list.len();
    list.push(format!("ptr %{workspace}"));
    let _ = writeln!(ir, "define i32 @\"{method}_raw\"({}) nounwind {{\nentry:\n{body}", list.join(", "));
    let _ = writeln!(
        ir,
        "  %result = call i32 @aot_rt_raw(ptr %0, i32 {number}, ptr %1, ptr %in, i64 {n_inputs}, ptr %out, i64 {n_outputs}, \
         ptr %{workspace})\n  ret i32 %result\n}}"
    );
}

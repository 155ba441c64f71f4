//! Text of loop programs and nests; [`parse`](super::parse) reads it back.
//!
//! ```text
//! weight w0 fc.weight: Float[2, 2] = [1.0, 0.5, -1.0, 2.0]
//! method forward(x: Tensor)
//!   f0
//! function f0 forward(x: b0)
//!   result 0 Tensor
//!   v0 n: int
//!   b0: Float[v0, 2] input 0
//!   b1: Float[2, 2] weight w0
//!   b2: Float[v0, 2] slot 0
//!   alloc b2
//!   kernel linear+relu i0 < v0, i1 < 2, r2 < 2 @ net.py:3:4
//!     acc0 = sum(b0[i0, r2] * b1[i1, r2])
//!     b2[i0, i1] = max(acc0, 0.0)
//!   return 0 (b2)
//! ```
//!
//! Before the functions come the program's tables: weights, `prepared p0 name: Float[16]` (element type and number of elements
//! in memory), methods, `init f1` and `prepare f2` for the functions with these tasks. The class of a buffer that shows a
//! prepared tensor is `prepared p0`.
//!
//! A kernel's expressions print in place where they are used once or are small, else as `e0 = ...` before the first use.
//! Axes are `i` (parallel), `s` (scan) and `r` (reduced) with the axis's number; `acc0` is the first reduction's result.
//! `b0[i0 - 1 if i0 >= 1 else 0.0]` is a guarded load, `b0[i0] sum= x if c` a store that adds where `c` holds.
//! A constant has its type behind it (`0.0:Float`) where neither an operand beside it nor the place says it.
//! Weights of more than [`MAX_INLINE_ELEMENTS`] elements print as `...`, and read back as zeros.

mod expr;
mod kernel;
mod nest;

use super::{
    Arg, Block, BufferClass, Const, Dim, Function, HostExpr, InputKind, Layout, Operand, OutputTree, Program, Stmt,
    VarType,
};
use crate::index::Id as _;
use crate::types::{DType, TensorData};
use expr::{Piece, binary, constant, select, unary};
use std::fmt::{self, Display, Write as _};

/// Weights of more elements print without them.
pub(super) const MAX_INLINE_ELEMENTS: i64 = 64;

impl Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (word, n) in [("state", self.n_state_scalars), ("slots", self.n_slots)] {
            if n > 0 {
                writeln!(f, "{word} {n}")?;
            }
        }
        for (id, weight) in self.weights.iter_ids() {
            let data = &weight.data;
            let ty = format!("{}{:?}", data.dtype(), data.sizes());
            writeln!(f, "weight {id}{}: {ty} = {}", spaced(&weight.name), elements(data))?;
        }
        for (id, prepared) in self.prepared.iter_ids() {
            writeln!(f, "prepared {id}{}: {}[{}]", spaced(&prepared.name), prepared.dtype, prepared.n_elements)?;
        }
        for method in &self.methods {
            let params = join(method.params.iter().map(|(param, ty)| format!("{}: {}", name(param), ty.annotation())));
            writeln!(f, "method {}({params})", name(&method.name))?;
            for variant in &method.variants {
                let tag = variant.state_tag.map_or_else(String::new, |tag| format!(" in state {tag}"));
                writeln!(f, "  {}{tag}", variant.function)?;
            }
        }
        if let Some(init) = self.init {
            writeln!(f, "init {init}")?;
        }
        if let Some(prepare) = self.prepare {
            writeln!(f, "prepare {prepare}")?;
        }
        for (id, function) in self.functions.iter_ids() {
            let gap = if id.index() > 0 { "\n" } else { "" };
            write!(f, "{gap}function {id} {function}")?;
        }
        for (number, nest) in self.nests.iter().enumerate() {
            let gap = if number > 0 || !self.functions.is_empty() { "\n" } else { "" };
            write!(f, "{gap}nest n{number} {nest}")?;
        }
        Ok(())
    }
}

/// Items with commas between them.
fn join(items: impl Iterator<Item = impl Display>) -> String {
    let mut out = String::new();
    for (at, item) in items.enumerate() {
        let _ = write!(out, "{}{item}", if at == 0 { "" } else { ", " });
    }
    out
}

/// A name, quoted where it is no plain word.
fn name(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '-');
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts && text.chars().all(is_plain) { text.to_owned() } else { format!("{text:?}") }
}

/// A name after a blank; nothing for none.
fn spaced(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" {}", name(text)) }
}

/// Where the user wrote it, up to the end of the line.
fn at_place(place: &str) -> String {
    if place.is_empty() { String::new() } else { format!("  @ {}", place.replace('\\', "\\\\").replace('\n', "\\n")) }
}

/// The elements of a small tensor, in row-major order.
fn elements(data: &TensorData) -> String {
    let dtype = data.dtype();
    let bytes = data.contiguous_bytes();
    let element = |bytes: &[u8]| {
        Some(match dtype {
            DType::U8 | DType::Bool => i64::from(u8::from_ne_bytes(bytes.try_into().ok()?)).to_string(),
            DType::I8 => i8::from_ne_bytes(bytes.try_into().ok()?).to_string(),
            DType::I16 => i16::from_ne_bytes(bytes.try_into().ok()?).to_string(),
            DType::I32 => i32::from_ne_bytes(bytes.try_into().ok()?).to_string(),
            DType::I64 => i64::from_ne_bytes(bytes.try_into().ok()?).to_string(),
            DType::F32 => format!("{:?}", f32::from_ne_bytes(bytes.try_into().ok()?)).to_lowercase(),
            DType::F64 => format!("{:?}", f64::from_ne_bytes(bytes.try_into().ok()?)).to_lowercase(),
            _ => return None,
        })
    };
    let is_small = data.numel() <= MAX_INLINE_ELEMENTS;
    let items: Option<Vec<String>> =
        is_small.then(|| bytes.chunks_exact(dtype.size_bytes()).map(element).collect()).flatten();
    items.map_or_else(|| "...".into(), |items| format!("[{}]", items.join(", ")))
}

impl Function {
    /// The nesting of arguments that none but plain leaves have.
    pub(super) fn flat_params(&self) -> Vec<OutputTree> {
        let leaf = |input: &super::Input| match &input.kind {
            InputKind::Tensor { .. } | InputKind::Shared { .. } => OutputTree::Tensor,
            InputKind::Scalar { var, .. } => match self.vars.get(*var).map(|var| var.ty) {
                Some(VarType::Float) => OutputTree::Float,
                Some(VarType::Bool) => OutputTree::Bool,
                Some(VarType::Object) => OutputTree::Object,
                Some(VarType::Int) | None => OutputTree::Int,
            },
            InputKind::None => OutputTree::None,
            InputKind::Str(text) => OutputTree::Str(std::sync::Arc::clone(text)),
            InputKind::Object(_) => OutputTree::Object,
        };
        self.inputs.iter().map(leaf).collect()
    }
}

impl Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let input = |input: &super::Input| {
            let kind = match &input.kind {
                InputKind::Tensor { buffer, is_mutated } => format!("{buffer}{}", if *is_mutated { "!" } else { "" }),
                InputKind::Scalar { var, only } => {
                    format!("{var}{}", only.map_or_else(String::new, |c| format!(" == {c}")))
                }
                InputKind::None => "None".into(),
                InputKind::Str(text) => format!("{text:?}"),
                InputKind::Object(var) => format!("object {var}"),
                InputKind::Shared { var, dtype, dims, strides } => {
                    format!("shared {var} {dtype}[{}] by [{}]", join(dims.iter()), join(strides.iter()))
                }
            };
            format!("{}: {kind}", name(&input.name))
        };
        writeln!(f, "{}({})", name(&self.name), join(self.inputs.iter().map(input)))?;
        if self.params != self.flat_params() {
            writeln!(f, "  params ({})", join(self.params.iter()))?;
        }
        for (number, tree) in self.results.iter().enumerate() {
            writeln!(f, "  result {number} {tree}")?;
        }
        if self.arena_bytes > 0 {
            writeln!(f, "  arena {}", self.arena_bytes)?;
        }
        for (id, var) in self.vars.iter_ids() {
            let ty = match var.ty {
                VarType::Int => "int",
                VarType::Float => "float",
                VarType::Bool => "bool",
                VarType::Object => "object",
            };
            writeln!(f, "  {id}{}: {ty}", spaced(&var.name))?;
        }
        for (id, buffer) in self.buffers.iter_ids() {
            let class = match buffer.class {
                BufferClass::Input(n) => format!("input {n}"),
                BufferClass::Output(n) => format!("output {n}"),
                BufferClass::Weight(w) => format!("weight {w}"),
                BufferClass::Prepared(p) => format!("prepared {p}"),
                BufferClass::Temp { offset: None } => "temp".into(),
                BufferClass::Temp { offset: Some(at) } => format!("temp at {at}"),
                BufferClass::Slot(n) => format!("slot {n}"),
                BufferClass::Alias { of, offset } => format!("alias {of} + {offset}"),
                BufferClass::Object(var) => format!("object {var}"),
            };
            let layout = match &buffer.layout {
                Layout::RowMajor => String::new(),
                Layout::Blocked { dim, block } => format!(" blocked {dim} by {block}"),
                Layout::Strided(strides) => format!(" strided [{}]", join(strides.iter())),
            };
            let dims = join(buffer.dims.iter());
            writeln!(f, "  {id}{}: {}[{dims}] {class}{layout}", spaced(&buffer.name), buffer.dtype)?;
        }
        block(f, &self.body, 1)
    }
}

impl Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Const(n) => write!(f, "{n}"),
            Self::Var(var) => write!(f, "{var}"),
        }
    }
}

/// Integers, booleans and doubles as they are; other types with the type: `1.5:Float`.
impl Display for Const {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&constant(*self, None))
    }
}

impl Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Const(c) => write!(f, "{c}"),
            Self::Str(text) => write!(f, "{text:?}"),
            Self::Var(var) => write!(f, "{var}"),
        }
    }
}

impl Display for Arg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(operand) => write!(f, "{operand}"),
            Self::Buffer(buffer) => write!(f, "{buffer}"),
        }
    }
}

impl Display for OutputTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Tensor => f.write_str("Tensor"),
            Self::Int => f.write_str("int"),
            Self::Float => f.write_str("float"),
            Self::Bool => f.write_str("bool"),
            Self::Complex => f.write_str("complex"),
            Self::Object => f.write_str("object"),
            Self::Str(text) => write!(f, "{text:?}"),
            Self::Tuple(items) => write!(f, "({})", join(items.iter())),
            Self::NamedTuple(class, fields) => {
                let fields = fields.iter().map(|(field, tree)| format!("{}: {tree}", name(field)));
                write!(f, "{}({})", name(class), join(fields))
            }
            Self::List(items) => write!(f, "[{}]", join(items.iter())),
            Self::Dict(items) => write!(f, "{{{}}}", join(items.iter().map(|(k, v)| format!("{k}: {v}")))),
        }
    }
}

impl Display for HostExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let piece = |operand: &Operand| Piece::atom(operand.to_string());
        match self {
            Self::Copy(a) => write!(f, "{a}"),
            Self::Unary(op, a) => f.write_str(&unary(*op, &piece(a), matches!(a, Operand::Const(_))).text),
            Self::Binary(op, a, b) => f.write_str(&binary(*op, &piece(a), &piece(b)).text),
            Self::Select(c, a, b) => f.write_str(&select(&piece(c), &piece(a), &piece(b)).text),
            Self::Cast(dtype, a) => write!(f, "{dtype}({a})"),
        }
    }
}

fn block(f: &mut fmt::Formatter<'_>, body: &Block, level: usize) -> fmt::Result {
    let pad = "  ".repeat(level);
    for stmt in &body.0 {
        match stmt {
            Stmt::Assign(var, expr) => writeln!(f, "{pad}{var} = {expr}")?,
            Stmt::Kernel(kernel) => kernel::kernel(f, kernel, level)?,
            Stmt::Launch(launch) => {
                let args = launch.buffers.iter().map(ToString::to_string);
                let args = join(args.chain(launch.scalars.iter().map(ToString::to_string)));
                writeln!(f, "{pad}launch n{}({args})", launch.nest)?;
            }
            Stmt::Alloc(buffer) => writeln!(f, "{pad}alloc {buffer}")?,
            Stmt::Read(var, buffer) => writeln!(f, "{pad}{var} = read {buffer}")?,
            Stmt::LoadState(var, index) => writeln!(f, "{pad}{var} = state[{index}]")?,
            Stmt::StoreState(index, value) => writeln!(f, "{pad}state[{index}] = {value}")?,
            Stmt::If(cond, then, other) => {
                writeln!(f, "{pad}if {cond}")?;
                block(f, then, level + 1)?;
                if !other.0.is_empty() {
                    writeln!(f, "{pad}else")?;
                    block(f, other, level + 1)?;
                }
            }
            Stmt::While(var, body) => {
                writeln!(f, "{pad}while {var}")?;
                block(f, body, level + 1)?;
            }
            Stmt::Call { routine, args, results, place } => {
                let results = if results.is_empty() { String::new() } else { format!("{} = ", join(results.iter())) };
                writeln!(f, "{pad}{results}call {routine}({}){}", join(args.iter()), at_place(place))?;
            }
            Stmt::Check { cond, class, message, parts, place } => {
                let parts = if parts.is_empty() { String::new() } else { format!(" ({})", join(parts.iter())) };
                writeln!(f, "{pad}check {cond} else raise {} {message}{parts}{}", name(class), at_place(place))?;
            }
            Stmt::Raise { class, message, place } => {
                writeln!(f, "{pad}raise {} {message}{}", name(class), at_place(place))?;
            }
            Stmt::Return(tree, args) => writeln!(f, "{pad}return {tree} ({})", join(args.iter()))?,
        }
    }
    Ok(())
}

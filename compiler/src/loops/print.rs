//! Text of loop programs and nests, for people.
//!
//! ```text
//! function f0 forward(x: Tensor b0)
//!   v0: int n
//!   b0: float[v0, 4] input 0
//!   b1: float[v0, 4] temp
//!   kernel relu i0 < v0, i1 < 4  # net.py:3
//!     b1[i0, i1] = max(b0[i0, i1], 0.0)
//!   return 0 (b1)
//! ```
//!
//! Before the functions come the program's tables: `weight w0: float[4, 4] name`, `prepared p0: float 16 name` (element type and
//! number of elements in memory), methods, `init f1` and `prepare f2` for the functions with these tasks. The class of a buffer
//! that shows a prepared tensor is `prepared p0`.
//!
//! A kernel's expressions print in place where they are used once or are small, else as `e3 = ...` before the first use.
//! Axes are `i` (parallel), `s` (scan) and `r` (reduced) with the axis's number; `acc0` is the first reduction's result.

use super::nest::{Memory, Nest, NestStmt, Op, Val};
use super::{
    Arg, AxisKind, BinaryOp, Block, BufferClass, Const, Dim, Expr, ExprId, Exprs, Function, HostExpr, InputKind,
    Kernel, Layout, Operand, OutputTree, Program, ReduceOp, Stmt, Store, StoreMode, UnaryOp, VarType,
};
use crate::index::Id as _;
use std::fmt::{self, Display, Write as _};

/// Expressions used once whose text is longer than this get a line of their own.
const MAX_INLINE: usize = 60;

impl Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "program state {} slots {}", self.n_state_scalars, self.n_slots)?;
        for (id, weight) in self.weights.iter_ids() {
            writeln!(f, "weight {id}: {}{:?} {}", weight.data.dtype(), weight.data.sizes(), weight.name)?;
        }
        for (id, prepared) in self.prepared.iter_ids() {
            writeln!(f, "prepared {id}: {} {} {}", prepared.dtype, prepared.n_elements, prepared.name)?;
        }
        for method in &self.methods {
            let params = join(method.params.iter().map(|(name, ty)| format!("{name}: {}", ty.annotation())));
            writeln!(f, "method {}({params})", method.name)?;
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
            writeln!(f, "function {id} {function}")?;
        }
        for (number, nest) in self.nests.iter().enumerate() {
            writeln!(f, "nest n{number} {nest}")?;
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
            };
            format!("{}: {kind}", input.name)
        };
        writeln!(f, "{}({})", self.name, join(self.inputs.iter().map(input)))?;
        writeln!(f, "  params ({})", join(self.params.iter()))?;
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
            writeln!(f, "  {id}: {ty}{}{}", if var.name.is_empty() { "" } else { " " }, var.name)?;
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
            let layout = match buffer.layout {
                Layout::RowMajor => String::new(),
                Layout::Blocked { dim, block } => format!(" blocked {dim} by {block}"),
            };
            let name = if buffer.name.is_empty() { String::new() } else { format!("  # {}", buffer.name) };
            writeln!(f, "  {id}: {}[{}] {class}{layout}{name}", buffer.dtype, join(buffer.dims.iter()))?;
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
        use crate::types::DType;
        match self.dtype {
            DType::I64 => write!(f, "{}", self.as_i64()),
            DType::Bool => write!(f, "{}", self.bits != 0),
            DType::F64 => write!(f, "{:?}", self.as_f64()),
            dtype if dtype.is_floating_point() => write!(f, "{:?}:{dtype}", self.as_f64()),
            dtype => write!(f, "{}:{dtype}", self.as_i64()),
        }
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
            Self::NamedTuple(name, fields) => {
                write!(f, "{name}({})", join(fields.iter().map(|(name, tree)| format!("{name}: {tree}"))))
            }
            Self::List(items) => write!(f, "[{}]", join(items.iter())),
            Self::Dict(items) => write!(f, "{{{}}}", join(items.iter().map(|(k, v)| format!("{k}: {v}")))),
        }
    }
}

impl Display for HostExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copy(a) => write!(f, "{a}"),
            Self::Unary(op, a) => f.write_str(&unary(*op, &a.to_string())),
            Self::Binary(op, a, b) => f.write_str(&binary(*op, &a.to_string(), &b.to_string())),
            Self::Select(c, a, b) => write!(f, "{c} ? {a} : {b}"),
            Self::Cast(dtype, a) => write!(f, "{dtype}({a})"),
        }
    }
}

fn unary(op: UnaryOp, a: &str) -> String {
    match op {
        UnaryOp::Neg => format!("-{a}"),
        UnaryOp::Not => format!("!{a}"),
        op => format!("{}({})", format!("{op:?}").to_lowercase(), unwrapped(a)),
    }
}

fn binary(op: BinaryOp, a: &str, b: &str) -> String {
    match symbol(op) {
        Some(symbol) => format!("({a} {symbol} {b})"),
        None => format!("{}({a}, {b})", format!("{op:?}").to_lowercase()),
    }
}

fn symbol(op: BinaryOp) -> Option<&'static str> {
    Some(match op {
        BinaryOp::Add => "+",
        BinaryOp::Sub => "-",
        BinaryOp::Mul => "*",
        BinaryOp::Div => "/",
        BinaryOp::FloorDiv => "//",
        BinaryOp::FloorMod => "%",
        BinaryOp::And => "&",
        BinaryOp::Or => "|",
        BinaryOp::Xor => "^",
        BinaryOp::Shl => "<<",
        BinaryOp::Shr => ">>",
        BinaryOp::Eq => "==",
        BinaryOp::Ne => "!=",
        BinaryOp::Lt => "<",
        BinaryOp::Le => "<=",
        BinaryOp::Gt => ">",
        BinaryOp::Ge => ">=",
        BinaryOp::Rem | BinaryOp::Pow | BinaryOp::Atan2 | BinaryOp::Min | BinaryOp::Max | BinaryOp::Copysign => {
            return None;
        }
    })
}

fn block(f: &mut fmt::Formatter<'_>, body: &Block, level: usize) -> fmt::Result {
    let pad = "  ".repeat(level);
    for stmt in &body.0 {
        match stmt {
            Stmt::Assign(var, expr) => writeln!(f, "{pad}{var} = {expr}")?,
            Stmt::Kernel(kernel) => print_kernel(f, kernel, level)?,
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
                writeln!(f, "{pad}{results}call {routine}({}){}", join(args.iter()), comment(place))?;
            }
            Stmt::Check { cond, class, message, place } => {
                writeln!(f, "{pad}check {cond} else raise {class:?} {message}{}", comment(place))?;
            }
            Stmt::Raise { class, message, place } => {
                writeln!(f, "{pad}raise {class:?} {message}{}", comment(place))?;
            }
            Stmt::Return(tree, args) => writeln!(f, "{pad}return {tree} ({})", join(args.iter()))?,
        }
    }
    Ok(())
}

fn comment(place: &str) -> String {
    if place.is_empty() { String::new() } else { format!("  # {}", place.replace('\n', " ")) }
}

fn print_kernel(f: &mut fmt::Formatter<'_>, kernel: &Kernel, level: usize) -> fmt::Result {
    let pad = "  ".repeat(level);
    let axes =
        join(kernel.axes.iter().enumerate().map(|(at, axis)| format!("{} < {}", axis_name(kernel, at), axis.extent)));
    let (kind, gap) =
        (if kernel.is_ordered { "ordered kernel" } else { "kernel" }, if axes.is_empty() { "" } else { " " });
    writeln!(f, "{pad}{kind} {}{gap}{axes}{}", kernel.name, comment(&kernel.place))?;
    let mut text = KernelText { kernel, texts: vec![None; kernel.exprs.len()], uses: uses(kernel) };
    for (number, reduction) in kernel.reductions.iter().enumerate() {
        let mut operands = vec![reduction.value];
        operands.extend(reduction.payload);
        let operands: Vec<String> = text.lines(f, &operands, level)?;
        writeln!(
            f,
            "{pad}  acc{number} = {}({})",
            reduce_name(reduction.op),
            join(operands.iter().map(|text| unwrapped(text)))
        )?;
    }
    for store in &kernel.stores {
        let mut operands = store.index.to_vec();
        operands.push(store.value);
        operands.extend(store.guard);
        let operands = text.lines(f, &operands, level)?;
        let (index, rest) = operands.split_at(store.index.len());
        let mode = match store.mode {
            StoreMode::Set => "=".to_owned(),
            StoreMode::Combine(op) => format!("{}=", reduce_name(op)),
        };
        let guard = rest.get(1).map_or_else(String::new, |guard| format!(" if {guard}"));
        writeln!(
            f,
            "{pad}  {}[{}] {mode} {}{guard}",
            store.buffer,
            join(index.iter().map(|text| unwrapped(text))),
            unwrapped(&rest[0])
        )?;
    }
    Ok(())
}

/// Without the parentheses that are around the whole text.
fn unwrapped(text: &str) -> &str {
    let Some(inner) = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')) else { return text };
    let mut depth = 0i32;
    let is_whole = inner.chars().all(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth >= 0
    });
    if is_whole { inner } else { text }
}

fn reduce_name(op: ReduceOp) -> String {
    format!("{op:?}").to_lowercase()
}

fn axis_name(kernel: &Kernel, axis: usize) -> String {
    let letter = match kernel.axes.get(axis).map(|axis| axis.kind) {
        Some(AxisKind::Parallel) | None => 'i',
        Some(AxisKind::Scan) => 's',
        Some(AxisKind::Reduce) => 'r',
    };
    format!("{letter}{axis}")
}

/// How often each expression is used by expressions that are needed, reductions and stores.
fn uses(kernel: &Kernel) -> Vec<usize> {
    let mut uses = vec![0; kernel.exprs.len()];
    let in_store = |s: &Store| s.index.iter().copied().chain([s.value]).chain(s.guard).collect::<Vec<_>>();
    let roots = kernel.reductions.iter().flat_map(|r| std::iter::once(r.value).chain(r.payload));
    for id in roots.chain(kernel.stores.iter().flat_map(in_store)) {
        uses[id.index()] += 1;
    }
    for id in kernel.exprs.ids().rev() {
        if uses[id.index()] > 0 {
            for operand in Exprs::operands(kernel.exprs.get(id)) {
                uses[operand.index()] += 1;
            }
        }
    }
    uses
}

/// The text of expressions, each defined before its first use.
struct KernelText<'k> {
    kernel: &'k Kernel,
    texts: Vec<Option<String>>,
    uses: Vec<usize>,
}

impl KernelText<'_> {
    /// The texts of expressions, after the lines that define what they name.
    fn lines(&mut self, f: &mut fmt::Formatter<'_>, ids: &[ExprId], level: usize) -> Result<Vec<String>, fmt::Error> {
        let mut needed = vec![false; self.texts.len()];
        for id in ids {
            needed[id.index()] = true;
        }
        for id in self.kernel.exprs.ids().rev() {
            if needed[id.index()] && self.texts[id.index()].is_none() {
                for operand in Exprs::operands(self.kernel.exprs.get(id)) {
                    needed[operand.index()] = true;
                }
            }
        }
        for id in self.kernel.exprs.ids().filter(|id| needed[id.index()]) {
            if self.texts[id.index()].is_some() {
                continue;
            }
            let (text, is_leaf) = self.text(id);
            let is_small = is_leaf || self.uses[id.index()] == 1 && text.len() <= MAX_INLINE;
            let name = if is_small || ids.contains(&id) && self.uses[id.index()] == 1 {
                text
            } else {
                writeln!(f, "{}  {id} = {}", "  ".repeat(level), unwrapped(&text))?;
                id.to_string()
            };
            self.texts[id.index()] = Some(name);
        }
        Ok(ids.iter().map(|&id| self.get(id)).collect())
    }

    fn get(&self, id: ExprId) -> String {
        self.texts[id.index()].clone().unwrap_or_else(|| id.to_string())
    }

    /// The text of one expression, and whether it is a leaf.
    fn text(&self, id: ExprId) -> (String, bool) {
        match self.kernel.exprs.get(id) {
            Expr::Const(c) => (c.to_string(), true),
            Expr::Axis(axis) => (axis_name(self.kernel, *axis), true),
            Expr::Var(var, dtype) => {
                let is_int = *dtype == crate::types::DType::I64;
                (if is_int { var.to_string() } else { format!("{var}:{dtype}") }, true)
            }
            Expr::Acc(number, _) => (format!("acc{number}"), true),
            Expr::Load { buffer, index, guard, .. } => {
                let load = format!("{buffer}[{}]", join(index.iter().map(|&i| unwrapped(&self.get(i)).to_owned())));
                match guard {
                    None => (load, false),
                    Some(g) => (format!("({} ? {load} : {})", self.get(g.cond), self.get(g.other)), false),
                }
            }
            Expr::Unary(op, a) => (unary(*op, &self.get(*a)), false),
            Expr::Binary(op, a, b) => (binary(*op, &self.get(*a), &self.get(*b)), false),
            Expr::Select(c, a, b) => (format!("({} ? {} : {})", self.get(*c), self.get(*a), self.get(*b)), false),
            Expr::Cast(dtype, a) => (format!("{dtype}({})", unwrapped(&self.get(*a))), false),
        }
    }
}

impl Display for Nest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buffers = self
            .buffers
            .iter()
            .enumerate()
            .map(|(at, b)| format!("p{at}: {}{} align {}", b.dtype, if b.is_written { "!" } else { "" }, b.align));
        let scalars = self.scalars.iter().enumerate().map(|(at, dtype)| format!("s{at}: {dtype}"));
        writeln!(f, "{}({}) cost {}", self.name, join(buffers.chain(scalars)), self.cost)?;
        for (at, local) in self.locals.iter().enumerate() {
            writeln!(f, "  local l{at}: {}[{}]", local.dtype, local.len)?;
        }
        nest_block(f, self, &self.body, 1)
    }
}

impl Display for Val {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reg(reg) => write!(f, "{reg}"),
            Self::Const(c) => write!(f, "{c}"),
        }
    }
}

impl Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Buffer(n) => write!(f, "p{n}"),
            Self::Local(n) => write!(f, "l{n}"),
        }
    }
}

/// `memory[offset by stride] if mask`
fn access(memory: Memory, offset: Val, stride: i64, mask: Option<Val>) -> String {
    let stride = if stride == 1 { String::new() } else { format!(" by {stride}") };
    let mask = mask.map_or_else(String::new, |mask| format!(" if {mask}"));
    format!("{memory}[{offset}{stride}]{mask}")
}

fn nest_block(f: &mut fmt::Formatter<'_>, nest: &Nest, body: &[NestStmt], level: usize) -> fmt::Result {
    let pad = "  ".repeat(level);
    for stmt in body {
        match stmt {
            NestStmt::Set(reg, op) => {
                let ty = nest.regs.get(*reg).map_or_else(
                    || "?".into(),
                    |ty| match ty.lanes {
                        1 => ty.dtype.to_string(),
                        lanes => format!("{}x{lanes}", ty.dtype),
                    },
                );
                let op = match op {
                    Op::Copy(a) => a.to_string(),
                    Op::Param(n) => format!("s{n}"),
                    Op::Unary(op, a) => unary(*op, &a.to_string()),
                    Op::Binary(op, a, b) => unwrapped(&binary(*op, &a.to_string(), &b.to_string())).to_owned(),
                    Op::Fma(a, b, c) => format!("fma({a}, {b}, {c})"),
                    Op::Select(c, a, b) => format!("{c} ? {a} : {b}"),
                    Op::Cast(a) => format!("cast({a})"),
                    Op::Load { memory, offset, stride, mask } => access(*memory, *offset, *stride, *mask),
                    Op::Gather { memory, offsets, mask } => format!("gather {}", access(*memory, *offsets, 1, *mask)),
                    Op::Iota(a) => format!("iota({a})"),
                    Op::Horizontal(op, a) => format!("{} of {a}", reduce_name(*op)),
                    Op::Extract(a, lane) => format!("lane {lane} of {a}"),
                };
                writeln!(f, "{pad}{reg}: {ty} = {op}")?;
            }
            NestStmt::For { counter, begin, end, step, parallel, body } => {
                let kind = if *parallel { "parallel for" } else { "for" };
                let step = if *step == 1 { String::new() } else { format!(" step {step}") };
                writeln!(f, "{pad}{kind} {counter} in {begin}..{end}{step}")?;
                nest_block(f, nest, body, level + 1)?;
            }
            NestStmt::If { cond, then_body, else_body } => {
                writeln!(f, "{pad}if {cond}")?;
                nest_block(f, nest, then_body, level + 1)?;
                if !else_body.is_empty() {
                    writeln!(f, "{pad}else")?;
                    nest_block(f, nest, else_body, level + 1)?;
                }
            }
            NestStmt::Store { memory, offset, stride, value, mask } => {
                let to = access(*memory, *offset, *stride, None);
                let mask = mask.map_or_else(String::new, |mask| format!(" if {mask}"));
                writeln!(f, "{pad}{to} = {value}{mask}")?;
            }
            NestStmt::Prefetch { memory, offset } => writeln!(f, "{pad}prefetch {memory}[{offset}]")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Axis, Buffer, BufferId, Reduction, VarId};
    use super::*;
    use crate::types::DType;

    #[test]
    fn kernels_read_like_formulas() {
        let mut exprs = Exprs::new();
        let (i, r, one) = (exprs.add(Expr::Axis(0)), exprs.add(Expr::Axis(1)), exprs.int(1));
        let at = exprs.binary(BinaryOp::Add, i, r);
        let extent = exprs.add(Expr::Var(VarId(0), DType::I64));
        let cond = exprs.binary(BinaryOp::Lt, at, extent);
        let other = exprs.add(Expr::Const(Const::float(DType::F32, 0.0)));
        let guard = Some(super::super::Guard { cond, other });
        let load = exprs.add(Expr::Load { buffer: BufferId(0), dtype: DType::F32, index: [at].into(), guard });
        let value = exprs.unary(UnaryOp::Exp, load);
        let acc = exprs.add(Expr::Acc(0, DType::F32));
        let root = exprs.unary(UnaryOp::Sqrt, acc);
        let index = exprs.binary(BinaryOp::Sub, i, one);
        let kernel = Kernel {
            name: "test".into(),
            place: "net.py:3".into(),
            axes: vec![
                Axis { extent: Dim::Var(VarId(0)), kind: AxisKind::Parallel },
                Axis { extent: Dim::Const(3), kind: AxisKind::Reduce },
            ],
            exprs,
            reductions: vec![Reduction { op: ReduceOp::Sum, value, payload: None }],
            stores: vec![Store {
                buffer: BufferId(1),
                index: [index].into(),
                value: root,
                guard: None,
                mode: StoreMode::Combine(ReduceOp::Max),
            }],
            is_ordered: true,
        };
        let mut function = Function { name: "forward".into(), ..Function::default() };
        let n = function.vars.push(super::super::Var { ty: VarType::Int, name: "n".into() });
        for class in [BufferClass::Input(0), BufferClass::Slot(2)] {
            let dims = vec![Dim::Var(n)];
            function.buffers.push(Buffer {
                name: String::new(),
                dtype: DType::F32,
                dims,
                class,
                layout: Layout::RowMajor,
            });
        }
        function.body.0 = vec![Stmt::Kernel(Box::new(kernel)), Stmt::Return(0, vec![Arg::Buffer(BufferId(1))])];
        assert_eq!(
            function.to_string(),
            "forward()
  params ()
  v0: int n
  b0: Float[v0] input 0
  b1: Float[v0] slot 2
  ordered kernel test i0 < v0, r1 < 3  # net.py:3
    e3 = i0 + r1
    acc0 = sum(exp((e3 < v0) ? b0[e3] : 0.0:Float))
    b1[i0 + -1] max= sqrt(acc0)
  return 0 (b1)
"
        );
    }
}

//! Text of nests.

use super::super::UnaryOp;
use super::super::nest::{Memory, Nest, NestStmt, Op, RegType, Val};
use super::expr::{Piece, binary, constant, select, unary};
use super::{join, name};
use crate::types::DType;
use std::fmt::{self, Display};

impl Display for Nest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buffers = self
            .buffers
            .iter()
            .enumerate()
            .map(|(at, b)| format!("p{at}: {}{} align {}", b.dtype, if b.is_written { "!" } else { "" }, b.align));
        let scalars = self.scalars.iter().enumerate().map(|(at, dtype)| format!("s{at}: {dtype}"));
        writeln!(f, "{}({}) cost {}", name(&self.name), join(buffers.chain(scalars)), self.cost)?;
        for (at, local) in self.locals.iter().enumerate() {
            writeln!(f, "  local l{at}: {}[{}]", local.dtype, local.len)?;
        }
        block(f, self, &self.body, 1)
    }
}

/// `Float`, or `Floatx8` for eight lanes.
impl Display for RegType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lanes {
            1 => write!(f, "{}", self.dtype),
            lanes => write!(f, "{}x{lanes}", self.dtype),
        }
    }
}

impl Display for Val {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&val(*self, None))
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

fn val(val: Val, expected: Option<DType>) -> String {
    match val {
        Val::Reg(reg) => reg.to_string(),
        Val::Const(c) => constant(c, expected),
    }
}

/// `memory[offset by stride] if mask`
fn access(memory: Memory, offset: Val, stride: i64, mask: Option<Val>) -> String {
    let stride = if stride == 1 { String::new() } else { format!(" by {stride}") };
    let mask = mask.map_or_else(String::new, |mask| format!(" if {mask}"));
    format!("{memory}[{offset}{stride}]{mask}")
}

/// The text of what a register of this type is set to; the type is that of constants where operands have the result's.
fn op_text(op: &Op, ty: RegType) -> String {
    let same = |a: Val| Piece::atom(val(a, Some(ty.dtype)));
    let own = |a: Val| Piece::atom(val(a, None));
    let is_constant = |a: &Val| matches!(a, Val::Const(_));
    match op {
        Op::Copy(a) => same(*a).text,
        Op::Param(n) => format!("s{n}"),
        Op::Unary(op @ UnaryOp::IsNan, a) => unary(*op, &own(*a), is_constant(a)).text,
        Op::Unary(op, a) => unary(*op, &same(*a), is_constant(a)).text,
        Op::Binary(op, a, b) if op.is_comparison() => binary(*op, &own(*a), &own(*b)).text,
        Op::Binary(op, a, b) => binary(*op, &same(*a), &same(*b)).text,
        Op::Fma(a, b, c) => format!("fma({}, {}, {})", same(*a).text, same(*b).text, same(*c).text),
        Op::Select(c, a, b) => select(&own(*c), &same(*a), &same(*b)).text,
        Op::Cast(a) => format!("cast({a})"),
        Op::Load { memory, offset, stride, mask } => access(*memory, *offset, *stride, *mask),
        Op::Gather { memory, offsets, mask } => format!("gather {}", access(*memory, *offsets, 1, *mask)),
        Op::Iota(a) => format!("iota({a})"),
        Op::Horizontal(op, a) => format!("{} of {a}", op.word()),
        Op::Extract(a, lane) => format!("lane {lane} of {a}"),
    }
}

fn block(f: &mut fmt::Formatter<'_>, nest: &Nest, body: &[NestStmt], level: usize) -> fmt::Result {
    let pad = "  ".repeat(level);
    for stmt in body {
        match stmt {
            NestStmt::Set(reg, op) => {
                let ty = nest.regs.get(*reg).copied().unwrap_or(RegType::INDEX);
                writeln!(f, "{pad}{reg}: {ty} = {}", op_text(op, ty))?;
            }
            NestStmt::For { counter, begin, end, step, parallel, body } => {
                let kind = if *parallel { "parallel for" } else { "for" };
                let step = if *step == 1 { String::new() } else { format!(" step {step}") };
                writeln!(f, "{pad}{kind} {counter} in {begin}..{end}{step}")?;
                block(f, nest, body, level + 1)?;
            }
            NestStmt::If { cond, then_body, else_body } => {
                writeln!(f, "{pad}if {cond}")?;
                block(f, nest, then_body, level + 1)?;
                if !else_body.is_empty() {
                    writeln!(f, "{pad}else")?;
                    block(f, nest, else_body, level + 1)?;
                }
            }
            NestStmt::Store { memory, offset, stride, value, mask } => {
                let dtype = match memory {
                    Memory::Buffer(n) => nest.buffers.get(*n).map(|b| b.dtype),
                    Memory::Local(n) => nest.locals.get(*n).map(|l| l.dtype),
                };
                let to = access(*memory, *offset, *stride, None);
                let mask = mask.map_or_else(String::new, |mask| format!(" if {mask}"));
                writeln!(f, "{pad}{to} = {}{mask}", val(*value, dtype))?;
            }
            NestStmt::Prefetch { memory, offset } => writeln!(f, "{pad}prefetch {memory}[{offset}]")?,
        }
    }
    Ok(())
}

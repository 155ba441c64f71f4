//! Reads nests. Registers are known by number; one that no line sets is an index.

use super::cursor::{Cursor, Line, MAX_DEPTH};
use super::kernel::reduce_op;
use super::{Reader, literal_const};
use crate::diag::Result;
use crate::index::Id as _;
use crate::loops::nest::{Local, Memory, Nest, NestBuffer, NestStmt, Op, Reg, RegType, Val};
use crate::loops::{BinaryOp, Const, UnaryOp};
use crate::types::DType;

/// The most registers of a nest.
const MAX_REGISTERS: u32 = 1 << 20;

/// Reads what follows `nest n0`, and the lines below.
pub(super) fn nest(reader: &mut Reader<'_>, mut at: Cursor<'_>, line: Line) -> Result<Nest> {
    let mut nest = Nest { name: at.name()?, ..Nest::default() };
    at.expect("(")?;
    let params = at.items(")", |at| {
        let start = *at;
        let (buffer, scalar) = (at.numbered("p"), at.numbered("s"));
        at.expect(":")?;
        let dtype = at.dtype()?;
        if buffer == Some(nest.buffers.len()) && nest.scalars.is_empty() {
            let is_written = at.take("!");
            at.expect("align")?;
            nest.buffers.push(NestBuffer { dtype, is_written, align: at.usize()? });
            return Ok(());
        }
        nest.scalars.push(dtype);
        let number = nest.scalars.len() - 1;
        if scalar == Some(number) { Ok(()) } else { start.fail("parameters are p0, p1, ... and then s0, s1, ...") }
    });
    params?;
    if at.take("cost") {
        nest.cost = at.usize()? as u64;
    }
    at.expect_end()?;
    while let Some(mut at) = reader.peek_below(line.indent) {
        if !at.take("local") {
            break;
        }
        if at.numbered("l") != Some(nest.locals.len()) {
            return at.fail(format!("expected l{}", nest.locals.len()));
        }
        at.expect(":")?;
        let dtype = at.dtype()?;
        at.expect("[")?;
        nest.locals.push(Local { dtype, len: at.usize()? });
        at.expect("]")?;
        at.expect_end()?;
        reader.next();
    }
    nest.body = block(reader, &mut nest, line.indent, 0)?;
    Ok(nest)
}

fn block(reader: &mut Reader<'_>, nest: &mut Nest, outer: usize, depth: usize) -> Result<Vec<NestStmt>> {
    let mut body = Vec::new();
    while let Some((line, mut at)) = reader.next_below(outer, depth)? {
        let parallel = at.take("parallel");
        let stmt = if parallel || at.peek_word() == "for" {
            at.expect("for")?;
            let counter = reg(&mut at, nest)?;
            at.expect("in")?;
            let begin = val(&mut at, nest, None)?;
            at.expect("..")?;
            let end = val(&mut at, nest, None)?;
            let step = if at.take("step") { at.int()? } else { 1 };
            at.expect_end()?;
            NestStmt::For { counter, begin, end, step, parallel, body: block(reader, nest, line.indent, depth + 1)? }
        } else if at.take("if") {
            let cond = val(&mut at, nest, None)?;
            at.expect_end()?;
            let then_body = block(reader, nest, line.indent, depth + 1)?;
            let is_else = reader.take_else(line.indent)?;
            let else_body = if is_else { block(reader, nest, line.indent, depth + 1)? } else { Vec::new() };
            NestStmt::If { cond, then_body, else_body }
        } else if at.take("prefetch") {
            let memory = expect_memory(&mut at)?;
            at.expect("[")?;
            let offset = val(&mut at, nest, None)?;
            at.expect("]")?;
            NestStmt::Prefetch { memory, offset }
        } else if let Some(memory) = memory(&mut at) {
            let (offset, stride) = access(&mut at, nest)?;
            at.expect("=")?;
            let dtype = match memory {
                Memory::Buffer(n) => nest.buffers.get(n).map(|b| b.dtype),
                Memory::Local(n) => nest.locals.get(n).map(|l| l.dtype),
            };
            let value = val(&mut at, nest, dtype)?;
            let mask = mask(&mut at, nest)?;
            NestStmt::Store { memory, offset, stride, value, mask }
        } else {
            let reg = reg(&mut at, nest)?;
            at.expect(":")?;
            let ty = reg_type(&mut at)?;
            nest.regs[reg] = ty;
            at.expect("=")?;
            NestStmt::Set(reg, op(&mut at, nest, ty, depth)?)
        };
        if !matches!(stmt, NestStmt::For { .. } | NestStmt::If { .. }) {
            at.expect_end()?;
        }
        body.push(stmt);
    }
    Ok(body)
}

fn reg_type(at: &mut Cursor<'_>) -> Result<RegType> {
    let start = *at;
    let word = at.word()?;
    let parsed = match word.rsplit_once('x') {
        Some((dtype, lanes)) if DType::from_graph_name(word).is_none() => {
            DType::from_graph_name(dtype).zip(lanes.parse().ok())
        }
        _ => DType::from_graph_name(word).zip(Some(1)),
    };
    let (dtype, lanes) = parsed.ok_or_else(|| start.error("expected a register's type, like Float or Floatx8"))?;
    Ok(RegType { dtype, lanes })
}

fn reg(at: &mut Cursor<'_>, nest: &mut Nest) -> Result<Reg> {
    let start = *at;
    let reg: Reg = at.expect_id("r", "a register")?;
    if reg.0 >= MAX_REGISTERS {
        return start.fail("a nest has no so many registers");
    }
    while nest.regs.len() <= reg.index() {
        nest.regs.push(RegType::INDEX);
    }
    Ok(reg)
}

fn val(at: &mut Cursor<'_>, nest: &mut Nest, expected: Option<DType>) -> Result<Val> {
    if at.is_at_number() {
        let literal = at.number()?;
        let expected = if at.rest().starts_with(':') {
            at.expect(":")?;
            Some(at.dtype()?)
        } else {
            expected
        };
        return literal_const(literal, expected).map(Val::Const).map_err(|why| at.error(why));
    }
    if at.take("true") {
        return Ok(Val::Const(Const::bool(true)));
    }
    if at.take("false") {
        return Ok(Val::Const(Const::bool(false)));
    }
    reg(at, nest).map(Val::Reg)
}

fn memory(at: &mut Cursor<'_>) -> Option<Memory> {
    at.numbered("p").map(Memory::Buffer).or_else(|| at.numbered("l").map(Memory::Local))
}

fn expect_memory(at: &mut Cursor<'_>) -> Result<Memory> {
    memory(at).ok_or_else(|| at.error("expected memory, like p0 or l0"))
}

/// `[offset by stride]`
fn access(at: &mut Cursor<'_>, nest: &mut Nest) -> Result<(Val, i64)> {
    at.expect("[")?;
    let offset = val(at, nest, None)?;
    let stride = if at.take("by") { at.int()? } else { 1 };
    at.expect("]")?;
    Ok((offset, stride))
}

fn mask(at: &mut Cursor<'_>, nest: &mut Nest) -> Result<Option<Val>> {
    if at.take("if") { val(at, nest, None).map(Some) } else { Ok(None) }
}

fn op(at: &mut Cursor<'_>, nest: &mut Nest, ty: RegType, depth: usize) -> Result<Op> {
    if depth > MAX_DEPTH {
        return at.fail("loops are nested too deeply");
    }
    let start = *at;
    let same = Some(ty.dtype);
    if at.take("gather") {
        let memory = expect_memory(at)?;
        let (offsets, _) = access(at, nest)?;
        return Ok(Op::Gather { memory, offsets, mask: mask(at, nest)? });
    }
    if let Some(memory) = memory(at) {
        let (offset, stride) = access(at, nest)?;
        return Ok(Op::Load { memory, offset, stride, mask: mask(at, nest)? });
    }
    if let Some(number) = at.numbered("s") {
        return Ok(Op::Param(number));
    }
    if at.take("lane") {
        let lane = at.usize()?;
        at.expect("of")?;
        let lane = u16::try_from(lane).map_err(|_| start.error("there is no such lane"))?;
        return Ok(Op::Extract(reg(at, nest)?, lane));
    }
    for (symbol, op) in [("-", UnaryOp::Neg), ("!", UnaryOp::Not)] {
        if !at.is_at_number() && at.take(symbol) {
            return Ok(Op::Unary(op, val(at, nest, same)?));
        }
    }
    let word = at.peek_word();
    let is_call = at.rest().trim_start().strip_prefix(word).is_some_and(|rest| rest.starts_with('('));
    if !word.is_empty() && is_call && !at.is_at_number() {
        return call(at, nest, same);
    }
    if at.rest().trim_start().strip_prefix(word).is_some_and(|rest| rest.starts_with(" of ")) {
        let op = reduce_op(at)?;
        at.expect("of")?;
        return Ok(Op::Horizontal(op, reg(at, nest)?));
    }
    let first = *at;
    let is_own = |op: BinaryOp| op.is_comparison();
    let a = val(at, nest, same);
    if let Some((op, _)) = super::operator(at, 1) {
        // The operands of comparisons say their own type.
        let expected = if is_own(op) { None } else { same };
        let a = val(&mut { first }, nest, expected)?;
        return Ok(Op::Binary(op, a, val(at, nest, expected)?));
    }
    if at.take("?") {
        let cond = val(&mut { first }, nest, None)?;
        let a = val(at, nest, same)?;
        at.expect(":")?;
        return Ok(Op::Select(cond, a, val(at, nest, same)?));
    }
    a.map(Op::Copy)
}

fn call(at: &mut Cursor<'_>, nest: &mut Nest, same: Option<DType>) -> Result<Op> {
    let start = *at;
    let word = at.word()?;
    at.expect("(")?;
    let expected = if matches!(word, "cast" | "iota" | "isnan") { None } else { same };
    let args = at.items(")", |at| val(at, nest, expected))?;
    let unary = UnaryOp::ALL.into_iter().find(|op| op.word() == word);
    let binary = BinaryOp::ALL.into_iter().find(|op| op.word() == word);
    Ok(match (word, unary, binary, args.as_slice()) {
        ("cast", _, _, &[a]) => Op::Cast(a),
        ("iota", _, _, &[a]) => Op::Iota(a),
        ("fma", _, _, &[a, b, c]) => Op::Fma(a, b, c),
        (_, Some(op), _, &[a]) => Op::Unary(op, a),
        (_, _, Some(op), &[a, b]) => Op::Binary(op, a, b),
        _ => return start.fail(format!("there is no operation '{word}' of {} operands", args.len())),
    })
}

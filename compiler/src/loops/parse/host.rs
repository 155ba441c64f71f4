//! Reads functions: inputs, results, variables, buffers and host statements.

use super::cursor::{Cursor, Line, Literal, MAX_DEPTH};
use super::kernel::KernelReader;
use super::{Reader, dim, expect_next, literal_const, operator};
use crate::diag::Result;
use crate::loops::{
    Arg, BinaryOp, Block, Buffer, BufferClass, BufferId, Const, Function, HostExpr, Input, InputKind, Launch, Layout,
    Operand, OutputTree, Stmt, UnaryOp, Var, VarId, VarType, WeightId,
};
use crate::types::DType;
use aot_runtime::routines::ROUTINES;
use std::sync::Arc;

/// Reads what follows `function f0`, and the lines below.
pub(super) fn function(reader: &mut Reader<'_>, mut at: Cursor<'_>, line: Line) -> Result<Function> {
    let mut function = Function { name: at.name()?, ..Function::default() };
    at.expect("(")?;
    function.inputs = at.items(")", input)?;
    at.expect_end()?;
    let mut params = None;
    while let Some(mut at) = reader.peek_below(line.indent) {
        if at.take("params") {
            at.expect("(")?;
            params = Some(at.items(")", |at| tree(at, 0))?);
        } else if at.take("result") {
            expect_next(&mut at, "", function.results.len())?;
            function.results.push(tree(&mut at, 0)?);
        } else if at.take("arena") {
            function.arena_bytes = at.usize()?;
        } else if !declaration(&mut at, &mut function)? {
            break;
        }
        at.expect_end()?;
        reader.next();
    }
    function.params = params.unwrap_or_else(|| function.flat_params());
    function.body = block(reader, &function, line.indent, 0)?;
    Ok(function)
}

fn input(at: &mut Cursor<'_>) -> Result<Input> {
    let name = at.name()?;
    at.expect(":")?;
    let kind = if let Some(buffer) = at.id("b") {
        InputKind::Tensor { buffer, is_mutated: at.take("!") }
    } else if let Some(var) = at.id("v") {
        let only = if at.take("==") { Some(constant(at)?) } else { None };
        InputKind::Scalar { var, only }
    } else if at.take("object") {
        InputKind::Object(at.expect_id("v", "a variable")?)
    } else if at.take("shared") {
        let var = at.expect_id("v", "a variable")?;
        let dtype = at.dtype()?;
        at.expect("[")?;
        let extents = |at: &mut Cursor<'_>| at.items("]", Cursor::int);
        let dims = extents(at)?;
        at.expect("by")?;
        at.expect("[")?;
        InputKind::Shared { var, dtype, dims, strides: extents(at)? }
    } else if at.take("None") {
        InputKind::None
    } else if at.peek() == Some('"') {
        InputKind::Str(at.string()?.into())
    } else {
        return at.fail("expected a buffer, a variable, an object, a shared tensor, None or text");
    };
    Ok(Input { name, kind })
}

/// Reads a variable or buffer if the line declares one: an id, perhaps a name, and a colon.
fn declaration(at: &mut Cursor<'_>, function: &mut Function) -> Result<bool> {
    let mut after = *at;
    let is_id = after.id::<VarId>("v").is_some() || after.id::<BufferId>("b").is_some();
    let is_declared = is_id && (after.peek() == Some(':') || after.name().is_ok() && after.peek() == Some(':'));
    if !is_declared {
        return Ok(false);
    }
    let is_var = at.peek() == Some('v');
    if is_var {
        expect_next(at, "v", function.vars.len())?;
    } else {
        expect_next(at, "b", function.buffers.len())?;
    }
    let name = if at.peek() == Some(':') { String::new() } else { at.name()? };
    at.expect(":")?;
    if is_var {
        let types =
            [("int", VarType::Int), ("float", VarType::Float), ("bool", VarType::Bool), ("object", VarType::Object)];
        let Some((_, ty)) = types.into_iter().find(|(word, _)| at.take(word)) else {
            return at.fail("expected int, float, bool or object");
        };
        function.vars.push(Var { ty, name });
        return Ok(true);
    }
    let dtype = at.dtype()?;
    at.expect("[")?;
    let dims = at.items("]", dim)?;
    let class = class(at)?;
    let layout = if at.take("blocked") {
        let start = *at;
        let dim = at.usize()?;
        at.expect("by")?;
        let block = at.usize()?;
        if dim >= dims.len() || block == 0 {
            return start.fail("there is no such dimension, or blocks are empty");
        }
        Layout::Blocked { dim, block }
    } else if at.take("strided") {
        let start = *at;
        at.expect("[")?;
        let strides = at.items("]", self::dim)?;
        if strides.len() != dims.len() {
            return start.fail("there is a stride for each dimension");
        }
        Layout::Strided(strides)
    } else {
        Layout::RowMajor
    };
    function.buffers.push(Buffer { name, dtype, dims, class, layout });
    Ok(true)
}

fn class(at: &mut Cursor<'_>) -> Result<BufferClass> {
    let start = *at;
    Ok(match at.word()? {
        "input" => BufferClass::Input(at.usize()?),
        "output" => BufferClass::Output(at.usize()?),
        "weight" => BufferClass::Weight(at.expect_id::<WeightId>("w", "a weight")?),
        "prepared" => BufferClass::Prepared(at.expect_id("p", "a prepared tensor")?),
        "temp" => BufferClass::Temp { offset: if at.take("at") { Some(at.usize()?) } else { None } },
        "slot" => BufferClass::Slot(at.usize()?),
        "alias" => {
            let of = buffer(at)?;
            at.expect("+")?;
            BufferClass::Alias { of, offset: dim(at)? }
        }
        "object" => BufferClass::Object(var(at)?),
        _ => return start.fail("expected input, output, weight, prepared, temp, slot, alias or object"),
    })
}

fn var(at: &mut Cursor<'_>) -> Result<VarId> {
    at.expect_id("v", "a variable")
}

fn buffer(at: &mut Cursor<'_>) -> Result<BufferId> {
    at.expect_id("b", "a buffer")
}

fn tree(at: &mut Cursor<'_>, depth: usize) -> Result<OutputTree> {
    if depth > MAX_DEPTH {
        return at.fail("results are nested too deeply");
    }
    let inner = |at: &mut Cursor<'_>| tree(at, depth + 1);
    if at.take("(") {
        return at.items(")", inner).map(OutputTree::Tuple);
    }
    if at.take("[") {
        return at.items("]", inner).map(OutputTree::List);
    }
    if at.take("{") {
        let entry = |at: &mut Cursor<'_>| {
            let key = tree(at, depth + 1)?;
            at.expect(":")?;
            Ok((key, tree(at, depth + 1)?))
        };
        return at.items("}", entry).map(OutputTree::Dict);
    }
    let start = *at;
    let is_quoted = at.peek() == Some('"');
    let name = at.name()?;
    if at.take("(") {
        let field = |at: &mut Cursor<'_>| {
            let name = at.name()?;
            at.expect(":")?;
            Ok((name.into(), tree(at, depth + 1)?))
        };
        return Ok(OutputTree::NamedTuple(name.into(), at.items(")", field)?));
    }
    Ok(match name.as_str() {
        _ if is_quoted => OutputTree::Str(name.into()),
        "None" => OutputTree::None,
        "Tensor" => OutputTree::Tensor,
        "int" => OutputTree::Int,
        "float" => OutputTree::Float,
        "bool" => OutputTree::Bool,
        "complex" => OutputTree::Complex,
        "object" => OutputTree::Object,
        _ => return start.fail("expected what a result is, like Tensor, int or (Tensor, int)"),
    })
}

/// A number with its type behind it where it is none of the host's.
fn constant(at: &mut Cursor<'_>) -> Result<Const> {
    for (word, value) in [("true", true), ("false", false)] {
        if at.take(word) {
            return Ok(Const::bool(value));
        }
    }
    let literal: Literal = at.number()?;
    let dtype = if at.rest().starts_with(':') {
        at.expect(":")?;
        Some(at.dtype()?)
    } else {
        None
    };
    literal_const(literal, dtype).map_err(|why| at.error(why))
}

fn operand(at: &mut Cursor<'_>) -> Result<Operand> {
    if let Some(var) = at.id("v") {
        return Ok(Operand::Var(var));
    }
    if at.peek() == Some('"') {
        return Ok(Operand::Str(at.string()?.into()));
    }
    if at.is_at_number() || matches!(at.peek_word(), "true" | "false") {
        return constant(at).map(Operand::Const);
    }
    at.fail("expected a variable, a number or text")
}

fn arg(at: &mut Cursor<'_>) -> Result<Arg> {
    match at.id("b") {
        Some(buffer) => Ok(Arg::Buffer(buffer)),
        None => operand(at).map(Arg::Scalar),
    }
}

fn host_expr(at: &mut Cursor<'_>) -> Result<HostExpr> {
    for (symbol, op) in [("-", UnaryOp::Neg), ("!", UnaryOp::Not)] {
        if !at.is_at_number() && at.take(symbol) {
            return Ok(HostExpr::Unary(op, operand(at)?));
        }
    }
    let start = *at;
    let word = at.peek_word();
    let is_call = at.rest().trim_start().strip_prefix(word).is_some_and(|rest| rest.starts_with('('));
    if is_call && !word.is_empty() && !at.is_at_number() {
        at.word()?;
        at.expect("(")?;
        let args = at.items(")", operand)?;
        let unary = UnaryOp::ALL.into_iter().find(|op| op.word() == word);
        let binary = BinaryOp::ALL.into_iter().find(|op| op.word() == word);
        return Ok(match (DType::from_graph_name(word), unary, binary, args.as_slice()) {
            (Some(dtype), _, _, [a]) => HostExpr::Cast(dtype, a.clone()),
            (_, Some(op), _, [a]) => HostExpr::Unary(op, a.clone()),
            (_, _, Some(op), [a, b]) => HostExpr::Binary(op, a.clone(), b.clone()),
            _ => return start.fail(format!("there is no operation '{word}' of {} operands", args.len())),
        });
    }
    let a = operand(at)?;
    if let Some((op, _)) = operator(at, 1) {
        return Ok(HostExpr::Binary(op, a, operand(at)?));
    }
    if at.take("?") {
        let then = operand(at)?;
        at.expect(":")?;
        return Ok(HostExpr::Select(a, then, operand(at)?));
    }
    Ok(HostExpr::Copy(a))
}

fn block(reader: &mut Reader<'_>, function: &Function, outer: usize, depth: usize) -> Result<Block> {
    let mut stmts = Vec::new();
    while let Some((line, mut at)) = reader.next_below(outer, depth)? {
        stmts.push(stmt(reader, function, &mut at, line, depth)?);
        at.expect_end()?;
    }
    Ok(Block(stmts))
}

fn stmt(reader: &mut Reader<'_>, function: &Function, at: &mut Cursor<'_>, line: Line, depth: usize) -> Result<Stmt> {
    let start = *at;
    let first = at.peek_word();
    if first.starts_with('v') && first.len() > 1 && first.bytes().skip(1).all(|b| b.is_ascii_digit()) {
        return assignment(at);
    }
    at.word()?;
    Ok(match first {
        "kernel" | "ordered" => {
            let is_ordered = first == "ordered";
            if is_ordered {
                at.expect("kernel")?;
            }
            let mut kernel = KernelReader::new(function, is_ordered, at)?;
            while let Some((_, mut at)) = reader.next_below(line.indent, depth)? {
                kernel.line(&mut at)?;
            }
            Stmt::Kernel(Box::new(kernel.finish()))
        }
        "launch" => {
            let Some(nest) = at.numbered("n") else { return at.fail("expected a nest, like n0") };
            at.expect("(")?;
            let (mut buffers, mut scalars) = (Vec::new(), Vec::new());
            for arg in at.items(")", arg)? {
                match arg {
                    Arg::Buffer(buffer) if scalars.is_empty() => buffers.push(buffer),
                    Arg::Buffer(_) => return start.fail("buffers come before scalars"),
                    Arg::Scalar(operand) => scalars.push(operand),
                }
            }
            Stmt::Launch(Launch { nest, buffers, scalars })
        }
        "alloc" => Stmt::Alloc(buffer(at)?),
        "state" => {
            at.expect("[")?;
            let index = at.usize()?;
            at.expect("]")?;
            at.expect("=")?;
            Stmt::StoreState(index, operand(at)?)
        }
        "if" => {
            let cond = operand(at)?;
            at.expect_end()?;
            let then = block(reader, function, line.indent, depth + 1)?;
            let is_else = reader.take_else(line.indent)?;
            let other = if is_else { block(reader, function, line.indent, depth + 1)? } else { Block::default() };
            Stmt::If(cond, then, other)
        }
        "while" => {
            let cond = var(at)?;
            at.expect_end()?;
            Stmt::While(cond, block(reader, function, line.indent, depth + 1)?)
        }
        "call" => call(at, Vec::new())?,
        "check" => {
            let cond = operand(at)?;
            at.expect("else")?;
            at.expect("raise")?;
            let class: Arc<str> = at.name()?.into();
            let message = operand(at)?;
            let parts = if at.take("(") { at.items(")", operand)? } else { Vec::new() };
            Stmt::Check { cond, class, message, parts, place: at.place()? }
        }
        "raise" => Stmt::Raise { class: at.name()?.into(), message: operand(at)?, place: at.place()? },
        "return" => {
            let tree = at.usize()?;
            at.expect("(")?;
            Stmt::Return(tree, at.items(")", arg)?)
        }
        _ => return start.fail("expected a statement"),
    })
}

/// What begins with a variable.
fn assignment(at: &mut Cursor<'_>) -> Result<Stmt> {
    let mut results = vec![var(at)?];
    while at.take(",") {
        results.push(var(at)?);
    }
    at.expect("=")?;
    if at.take("call") {
        return call(at, results);
    }
    let &[to] = results.as_slice() else { return at.fail("only calls have several results") };
    if at.take("read") {
        return Ok(Stmt::Read(to, buffer(at)?));
    }
    if at.take("state") {
        at.expect("[")?;
        let index = at.usize()?;
        at.expect("]")?;
        return Ok(Stmt::LoadState(to, index));
    }
    Ok(Stmt::Assign(to, host_expr(at)?))
}

fn call(at: &mut Cursor<'_>, results: Vec<VarId>) -> Result<Stmt> {
    let start = *at;
    let word = at.word()?;
    let Some(&(routine, _)) = ROUTINES.iter().find(|(name, _)| *name == word) else {
        return start.fail(format!("there is no routine '{word}'"));
    };
    at.expect("(")?;
    let args = at.items(")", arg)?;
    Ok(Stmt::Call { routine, args, results, place: at.place()? })
}

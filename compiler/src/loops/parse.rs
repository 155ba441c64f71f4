//! Reads the text of a loop program, as [`print`](super::print) writes it.
//!
//! What is printed reads back to an equal program and prints the same again: expressions that nothing needs are left out and
//! the others may be numbered anew. Large weights print without their elements (`...`) and read back as zeros; `= random 7`
//! gives elements of a pseudo-random sequence with that seed, and tests write so.
//! Text may come from anywhere: every mistake is an error with its line and column, nesting is limited, and sizes are checked.
//! Only what is needed to read is checked here; [`verify`](super::verify) checks the rest.

mod cursor;
mod host;
mod kernel;
mod nest;

use super::nest::Nest;
use super::{BinaryOp, Const, Dim, FunctionId, Method, Prepared, Program, VarId, Variant, Weight};
use crate::diag::{Diagnostic, Result};
use crate::source::Source;
use crate::types::{DType, TensorData, Type};
use cursor::{Cursor, Line, Literal, MAX_DEPTH};
use std::str::FromStr;
use std::sync::Arc;

/// The most bytes of a weight.
const MAX_FILLED_BYTES: usize = 1 << 28;

/// The most scalars of state, and slots.
const MAX_STATE: usize = 1 << 20;

impl FromStr for Program {
    type Err = Box<Diagnostic>;

    fn from_str(text: &str) -> Result<Self> {
        let source = Arc::new(Source { name: "<loops>".into(), text: text.into(), origins: Vec::new() });
        parse(&source)
    }
}

impl FromStr for Nest {
    type Err = Box<Diagnostic>;

    fn from_str(text: &str) -> Result<Self> {
        let program: Program = text.parse()?;
        let only = program.nests.first().filter(|_| program.nests.len() == 1);
        only.map(|nest| Self::clone(nest)).ok_or_else(|| Diagnostic::user("expected one nest"))
    }
}

/// Reads a program.
///
/// # Errors
/// User errors with their place: text that is no program.
pub fn parse(source: &Arc<Source>) -> Result<Program> {
    let mut reader = Reader { source, lines: cursor::lines(&source.text), at: 0 };
    let mut program = Program::default();
    while let Some(&line) = reader.lines.get(reader.at) {
        let mut at = Cursor::new(source, line);
        if line.indent > 0 {
            return at.fail("unexpected indentation");
        }
        reader.at += 1;
        match at.peek_word() {
            "state" | "slots" => {
                let is_state = at.word()? == "state";
                let start = at;
                let n = at.usize()?;
                if n > MAX_STATE {
                    return start.fail("too many");
                }
                *(if is_state { &mut program.n_state_scalars } else { &mut program.n_slots }) = n;
                at.expect_end()?;
            }
            "weight" => {
                at.expect("weight")?;
                expect_next(&mut at, "w", program.weights.len())?;
                program.weights.push(weight(&mut at)?);
                at.expect_end()?;
            }
            "prepared" => {
                at.expect("prepared")?;
                expect_next(&mut at, "p", program.prepared.len())?;
                program.prepared.push(prepared(&mut at)?);
                at.expect_end()?;
            }
            "method" => {
                at.expect("method")?;
                program.methods.push(reader.method(at, line)?);
            }
            "init" | "prepare" => {
                let is_init = at.word()? == "init";
                let function = at.expect_id::<FunctionId>("f", "a function")?;
                *(if is_init { &mut program.init } else { &mut program.prepare }) = Some(function);
                at.expect_end()?;
            }
            "function" => {
                at.expect("function")?;
                expect_next(&mut at, "f", program.functions.len())?;
                program.functions.push(host::function(&mut reader, at, line)?);
            }
            "nest" => {
                at.expect("nest")?;
                expect_next(&mut at, "n", program.nests.len())?;
                program.nests.push(Arc::new(nest::nest(&mut reader, at, line)?));
            }
            _ => return at.fail("expected state, slots, weight, prepared, method, init, prepare, function or nest"),
        }
    }
    Ok(program)
}

/// The lines of a text, and the next of them.
struct Reader<'a> {
    source: &'a Arc<Source>,
    lines: Vec<Line>,
    at: usize,
}

impl<'a> Reader<'a> {
    /// The next line if it is further in than `outer`.
    fn peek_below(&self, outer: usize) -> Option<Cursor<'a>> {
        let line = self.lines.get(self.at).filter(|line| line.indent > outer)?;
        Some(Cursor::new(self.source, *line))
    }

    fn next(&mut self) {
        self.at += 1;
    }

    /// Takes the next line of the block inside the line of this indentation.
    fn next_below(&mut self, outer: usize, depth: usize) -> Result<Option<(Line, Cursor<'a>)>> {
        let Some(&line) = self.lines.get(self.at).filter(|line| line.indent > outer) else { return Ok(None) };
        let at = Cursor::new(self.source, line);
        if depth > MAX_DEPTH {
            return at.fail("blocks are nested too deeply");
        }
        if line.indent != outer + 2 {
            return at.fail("a block is two blanks further in");
        }
        self.at += 1;
        Ok(Some((line, at)))
    }

    /// Takes an `else` at this indentation.
    fn take_else(&mut self, indent: usize) -> Result<bool> {
        let Some(&line) = self.lines.get(self.at).filter(|line| line.indent == indent) else { return Ok(false) };
        let mut at = Cursor::new(self.source, line);
        if !at.take("else") {
            return Ok(false);
        }
        at.expect_end()?;
        self.at += 1;
        Ok(true)
    }

    fn method(&mut self, mut at: Cursor<'a>, line: Line) -> Result<Method> {
        let name = at.name()?;
        at.expect("(")?;
        let params = at.items(")", |at| {
            let name = at.name()?;
            at.expect(":")?;
            let start = *at;
            let ty = Type::parse_annotation(at.balanced()).ok_or_else(|| start.error("expected a type"))?;
            Ok((name, ty))
        })?;
        at.expect_end()?;
        let mut variants = Vec::new();
        while let Some((_, mut at)) = self.next_below(line.indent, 0)? {
            let function = at.expect_id::<FunctionId>("f", "a function")?;
            let state_tag = if at.take("in") {
                at.expect("state")?;
                Some(at.int()?)
            } else {
                None
            };
            at.expect_end()?;
            variants.push(Variant { state_tag, function });
        }
        Ok(Method { name, params, variants })
    }
}

/// Definitions stand in the order of their numbers.
fn expect_next(at: &mut Cursor<'_>, prefix: &str, number: usize) -> Result<()> {
    let start = *at;
    if at.numbered(prefix) == Some(number) { Ok(()) } else { start.fail(format!("expected {prefix}{number}")) }
}

fn dim(at: &mut Cursor<'_>) -> Result<Dim> {
    let start = *at;
    if let Some(var) = at.id::<VarId>("v") {
        return Ok(Dim::Var(var));
    }
    match at.int() {
        Ok(n) => Ok(Dim::Const(n)),
        Err(_) => start.fail("expected an extent: a number or a variable, like v0"),
    }
}

/// A binary operator that binds at least as tightly as `level`, and how tightly it does.
fn operator(at: &mut Cursor<'_>, level: u8) -> Option<(BinaryOp, u8)> {
    let longest_first = [2, 1];
    for len in longest_first {
        for op in BinaryOp::ALL {
            let Some((symbol, own)) = op.symbol().filter(|(symbol, _)| symbol.len() == len) else { continue };
            let mut after = *at;
            if after.take(symbol) {
                if own < level {
                    return None;
                }
                *at = after;
                return Some((op, own));
            }
        }
    }
    None
}

/// A number as a constant of this type; without one, of its own: `int64`, or `float64` if it has a fraction.
fn literal_const(literal: Literal, dtype: Option<DType>) -> std::result::Result<Const, String> {
    match (literal, dtype) {
        (Literal::Int(n), None) => Ok(Const::int(n)),
        (Literal::Float(x), None) => Ok(Const::float(DType::F64, x)),
        (Literal::Int(_), Some(DType::Bool)) => Err("a number is no boolean".into()),
        (Literal::Int(n), Some(dtype)) => Ok(Const::from_i64(dtype, n)),
        (Literal::Float(x), Some(dtype)) if dtype.is_floating_point() => Ok(Const::float(dtype, x)),
        (Literal::Float(x), Some(dtype)) => Err(format!("{x:?} is no {dtype}")),
    }
}

/// What follows `prepared p0`.
fn prepared(at: &mut Cursor<'_>) -> Result<Prepared> {
    let name = if at.peek() == Some(':') { String::new() } else { at.name()? };
    at.expect(":")?;
    let dtype = at.dtype()?;
    at.expect("[")?;
    let start = *at;
    let n_elements = at.usize()?;
    if n_elements.checked_mul(dtype.size_bytes()).is_none_or(|bytes| isize::try_from(bytes).is_err()) {
        return start.fail("the prepared tensor is too large");
    }
    at.expect("]")?;
    Ok(Prepared { name, dtype, n_elements })
}

/// What follows `weight w0`.
fn weight(at: &mut Cursor<'_>) -> Result<Weight> {
    let name = if at.peek() == Some(':') { String::new() } else { at.name()? };
    at.expect(":")?;
    let start = *at;
    let dtype = at.dtype()?;
    at.expect("[")?;
    let sizes = at.items("]", Cursor::int)?;
    at.expect("=")?;
    let numel = sizes.iter().try_fold(1usize, |n, &size| n.checked_mul(usize::try_from(size).ok()?));
    let size_bytes = numel.and_then(|n| n.checked_mul(dtype.size_bytes()));
    let Some((numel, size_bytes)) = numel.zip(size_bytes).filter(|(_, bytes)| *bytes <= MAX_FILLED_BYTES) else {
        return start.fail("the weight is too large, or a size is negative");
    };
    let bytes = if at.take("...") {
        vec![0; size_bytes]
    } else if at.take("random") {
        let seed = at.usize()? as u64;
        random(dtype, numel, seed).ok_or_else(|| start.error(format!("random elements of type {dtype}")))?
    } else {
        at.expect("[")?;
        let start = *at;
        let items = at.items("]", |at| {
            let start = *at;
            element(dtype, at.number()?).ok_or_else(|| start.error(format!("it is no element of type {dtype}")))
        })?;
        if items.len() != numel {
            return start.fail(format!("{} elements for {numel}", items.len()));
        }
        items.concat()
    };
    let data = TensorData::from_bytes(dtype, &sizes, bytes).map_err(|why| start.error(why))?;
    Ok(Weight { name, data: Arc::new(data) })
}

/// The bytes of an element, where the type can hold it and text gives it.
fn element(dtype: DType, value: Literal) -> Option<Vec<u8>> {
    Some(match (dtype, value) {
        (DType::F32, Literal::Int(n)) => (n as f32).to_ne_bytes().into(),
        (DType::F32, Literal::Float(x)) => (x as f32).to_ne_bytes().into(),
        (DType::F64, Literal::Int(n)) => (n as f64).to_ne_bytes().into(),
        (DType::F64, Literal::Float(x)) => x.to_ne_bytes().into(),
        (DType::U8, Literal::Int(n)) => vec![u8::try_from(n).ok()?],
        (DType::Bool, Literal::Int(n @ 0..=1)) => vec![u8::from(n == 1)],
        (DType::I8, Literal::Int(n)) => i8::try_from(n).ok()?.to_ne_bytes().into(),
        (DType::I16, Literal::Int(n)) => i16::try_from(n).ok()?.to_ne_bytes().into(),
        (DType::I32, Literal::Int(n)) => i32::try_from(n).ok()?.to_ne_bytes().into(),
        (DType::I64, Literal::Int(n)) => n.to_ne_bytes().into(),
        _ => return None,
    })
}

/// Elements of a linear congruential sequence: eighths between -2 and 2, small numbers of integer types.
fn random(dtype: DType, numel: usize, seed: u64) -> Option<Vec<u8>> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(numel * dtype.size_bytes());
    for _ in 0..numel {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let small = (state >> 59).cast_signed();
        let value = match dtype {
            DType::F32 | DType::F64 => Literal::Float((small - 16) as f64 / 8.0),
            DType::Bool => Literal::Int(small & 1),
            _ => Literal::Int(small & 3),
        };
        bytes.extend(element(dtype, value)?);
    }
    Some(bytes)
}

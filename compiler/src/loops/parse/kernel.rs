//! Reads kernels: axes, expressions with their types, reductions, stores.

use super::cursor::{Cursor, Literal, MAX_DEPTH};
use super::literal_const;
use crate::diag::Result;
use crate::loops::{
    Axis, AxisKind, BinaryOp, BufferId, Const, Expr, ExprId, Exprs, Function, Guard, Kernel, ReduceOp, Reduction,
    Store, StoreMode, UnaryOp, VarId,
};
use crate::types::DType;
use std::collections::HashMap;

/// A kernel being read.
pub(super) struct KernelReader<'f, 'a> {
    function: &'f Function,
    kernel: Kernel,
    named: HashMap<&'a str, ExprId>,
}

/// An expression, or a number that takes its type from what stands beside it.
#[derive(Clone, Copy)]
enum Item {
    Expr(ExprId),
    Literal(Literal),
}

impl<'f, 'a> KernelReader<'f, 'a> {
    /// Reads what follows `kernel`.
    pub(super) fn new(function: &'f Function, is_ordered: bool, at: &mut Cursor<'a>) -> Result<Self> {
        let mut kernel = Kernel {
            name: at.name()?,
            place: "".into(),
            axes: Vec::new(),
            exprs: Exprs::new(),
            reductions: Vec::new(),
            stores: Vec::new(),
            is_ordered,
        };
        while !at.is_at_end() && at.peek() != Some('@') {
            let start = *at;
            let number = kernel.axes.len();
            let kinds = [("i", AxisKind::Parallel), ("s", AxisKind::Scan), ("r", AxisKind::Reduce)];
            let kind = kinds.into_iter().find(|(letter, _)| at.numbered(letter) == Some(number)).map(|(_, kind)| kind);
            let Some(kind) = kind else {
                return start.fail(format!("expected the axis i{number}, s{number} or r{number}"));
            };
            at.expect("<")?;
            let extent = super::dim(at)?;
            kernel.axes.push(Axis { extent, kind });
            if !at.take(",") {
                break;
            }
        }
        kernel.place = at.place()?;
        Ok(Self { function, kernel, named: HashMap::new() })
    }

    pub(super) fn finish(self) -> Kernel {
        self.kernel
    }

    /// Reads a line of the body.
    pub(super) fn line(&mut self, at: &mut Cursor<'a>) -> Result<()> {
        let start = *at;
        if let Some(number) = at.numbered("acc") {
            self.reduction(number, start, at)?;
        } else if let Some(buffer) = at.id::<BufferId>("b") {
            self.store(buffer, start, at)?;
        } else {
            let name = at.word()?;
            if at.peek() != Some('=') {
                return start.fail("expected a store, a reduction or a named expression");
            }
            at.expect("=")?;
            let value = self.expr(at, 0)?;
            let value = self.typed(value, None, &start)?;
            if self.named.insert(name, value).is_some() {
                return start.fail(format!("{name} is named twice"));
            }
        }
        at.expect_end()
    }

    fn reduction(&mut self, number: usize, start: Cursor<'a>, at: &mut Cursor<'a>) -> Result<()> {
        if number != self.kernel.reductions.len() {
            return start.fail(format!("expected acc{}", self.kernel.reductions.len()));
        }
        at.expect("=")?;
        let op = reduce_op(at)?;
        at.expect("(")?;
        let value = self.expr(at, 0)?;
        let value = self.typed(value, None, at)?;
        let payload = if at.take(",") {
            let payload = self.expr(at, 0)?;
            Some(self.typed(payload, None, at)?)
        } else {
            None
        };
        at.expect(")")?;
        self.kernel.reductions.push(Reduction { op, value, payload });
        Ok(())
    }

    fn store(&mut self, buffer: BufferId, start: Cursor<'a>, at: &mut Cursor<'a>) -> Result<()> {
        let dtype = self.dtype_of(buffer, &start)?;
        at.expect("[")?;
        let index = at.items("]", |at| {
            let index = self.expr(at, 0)?;
            self.typed(index, None, at)
        })?;
        let mode = if at.take("=") {
            StoreMode::Set
        } else {
            let op = reduce_op(at)?;
            at.expect("=")?;
            StoreMode::Combine(op)
        };
        let value = self.expr(at, 0)?;
        let value = self.typed(value, Some(dtype), at)?;
        let guard = if at.take("if") {
            let guard = self.expr(at, 0)?;
            Some(self.typed(guard, None, at)?)
        } else {
            None
        };
        self.kernel.stores.push(Store { buffer, index: index.into(), value, guard, mode });
        Ok(())
    }

    fn dtype_of(&self, buffer: BufferId, start: &Cursor<'a>) -> Result<DType> {
        let buffer =
            self.function.buffers.get(buffer).ok_or_else(|| start.error(format!("there is no buffer {buffer}")))?;
        Ok(buffer.dtype)
    }

    /// The expression; a number becomes one of the expected type, or of its own.
    fn typed(&mut self, item: Item, expected: Option<DType>, at: &Cursor<'a>) -> Result<ExprId> {
        match item {
            Item::Expr(id) => Ok(id),
            Item::Literal(literal) => {
                let constant = literal_const(literal, expected).map_err(|why| at.error(why))?;
                Ok(self.kernel.exprs.add(Expr::Const(constant)))
            }
        }
    }

    /// Two operands of one type; a number takes that of the other.
    fn pair(&mut self, a: Item, b: Item, at: &Cursor<'a>) -> Result<(ExprId, ExprId)> {
        let of = |item: Item| match item {
            Item::Expr(id) => Some(self.kernel.exprs.dtype(id)),
            Item::Literal(_) => None,
        };
        let is_float = |item: Item| matches!(item, Item::Literal(Literal::Float(_)));
        let both = if is_float(a) || is_float(b) { DType::F64 } else { DType::I64 };
        let dtype = of(a).or(of(b)).unwrap_or(both);
        let (a, b) = (self.typed(a, Some(dtype), at)?, self.typed(b, Some(dtype), at)?);
        let (x, y) = (self.kernel.exprs.dtype(a), self.kernel.exprs.dtype(b));
        if x == y { Ok((a, b)) } else { at.fail(format!("operands of the types {x} and {y}")) }
    }

    /// `cond ? a : b`, or anything that binds more tightly.
    fn expr(&mut self, at: &mut Cursor<'a>, depth: usize) -> Result<Item> {
        if depth > MAX_DEPTH {
            return at.fail("expressions are nested too deeply");
        }
        let first = self.operators(at, 1, depth)?;
        if !at.take("?") {
            return Ok(first);
        }
        let cond = self.typed(first, None, at)?;
        if self.kernel.exprs.dtype(cond) != DType::Bool {
            return at.fail("the condition is not a boolean");
        }
        let a = self.operators(at, 1, depth)?;
        at.expect(":")?;
        let b = self.operators(at, 1, depth)?;
        let (a, b) = self.pair(a, b, at)?;
        Ok(Item::Expr(self.kernel.exprs.add(Expr::Select(cond, a, b))))
    }

    /// Binary operators that bind at least as tightly as `level`.
    fn operators(&mut self, at: &mut Cursor<'a>, level: u8, depth: usize) -> Result<Item> {
        let mut left = self.unary(at, depth)?;
        loop {
            let start = *at;
            let Some((op, own)) = super::operator(at, level) else { return Ok(left) };
            if depth > MAX_DEPTH {
                return at.fail("expressions are nested too deeply");
            }
            let right = self.operators(at, own + 1, depth + 1)?;
            let (a, b) = self.pair(left, right, &start)?;
            left = Item::Expr(self.kernel.exprs.binary(op, a, b));
            if op.is_comparison() && super::operator(&mut at.clone(), 1).is_some_and(|(op, _)| op.is_comparison()) {
                return at.fail("comparisons need parentheses");
            }
        }
    }

    fn unary(&mut self, at: &mut Cursor<'a>, depth: usize) -> Result<Item> {
        if depth > MAX_DEPTH {
            return at.fail("expressions are nested too deeply");
        }
        if at.is_at_number() {
            return self.number(at);
        }
        if at.take("(") {
            let inner = self.expr(at, depth + 1)?;
            at.expect(")")?;
            return Ok(inner);
        }
        for (symbol, op) in [("-", UnaryOp::Neg), ("!", UnaryOp::Not)] {
            if at.take(symbol) {
                let operand = self.unary(at, depth + 1)?;
                let operand = self.typed(operand, None, at)?;
                return Ok(Item::Expr(self.kernel.exprs.unary(op, operand)));
            }
        }
        self.named(at, depth).map(Item::Expr)
    }

    fn number(&mut self, at: &mut Cursor<'a>) -> Result<Item> {
        let literal = at.number()?;
        if !at.rest().starts_with(':') {
            return Ok(Item::Literal(literal));
        }
        at.expect(":")?;
        let dtype = at.dtype()?;
        self.typed(Item::Literal(literal), Some(dtype), at).map(Item::Expr)
    }

    /// What begins with a word.
    fn named(&mut self, at: &mut Cursor<'a>, depth: usize) -> Result<ExprId> {
        let start = *at;
        if let Some(number) = at.numbered("acc") {
            let Some(reduction) = self.kernel.reductions.get(number) else {
                return start.fail(format!("there is no reduction {number} above"));
            };
            let exprs = &self.kernel.exprs;
            let dtype = if reduction.payload.is_some() { DType::I64 } else { exprs.dtype(reduction.value) };
            return Ok(self.kernel.exprs.add(Expr::Acc(number, dtype)));
        }
        if let Some(var) = at.id::<VarId>("v") {
            let dtype = self.function.vars.get(var).and_then(|var| var.ty.dtype());
            let dtype = dtype.ok_or_else(|| start.error(format!("there is no number {var}")))?;
            return Ok(self.kernel.exprs.add(Expr::Var(var, dtype)));
        }
        if let Some(buffer) = at.id::<BufferId>("b") {
            let dtype = self.dtype_of(buffer, &start)?;
            at.expect("[")?;
            return self.load(buffer, dtype, at, depth);
        }
        let word = at.word()?;
        if let Some(&id) = self.named.get(word) {
            return Ok(id);
        }
        if let Some(axis) = self.axis(word) {
            return Ok(self.kernel.exprs.add(Expr::Axis(axis)));
        }
        if let "true" | "false" = word {
            return Ok(self.kernel.exprs.add(Expr::Const(Const::bool(word == "true"))));
        }
        if at.peek() != Some('(') {
            return start.fail(format!("there is nothing named '{word}' here"));
        }
        at.expect("(")?;
        let args = at.items(")", |at| self.expr(at, depth + 1))?;
        let unary = UnaryOp::ALL.into_iter().find(|op| op.word() == word);
        let binary = BinaryOp::ALL.into_iter().find(|op| op.word() == word);
        let expr = match (DType::from_graph_name(word), unary, binary, args.as_slice()) {
            (Some(dtype), _, _, &[a]) => Expr::Cast(dtype, self.typed(a, None, &start)?),
            (_, Some(op), _, &[a]) => Expr::Unary(op, self.typed(a, None, &start)?),
            (_, _, Some(op), &[a, b]) => {
                let (a, b) = self.pair(a, b, &start)?;
                Expr::Binary(op, a, b)
            }
            _ => return start.fail(format!("there is no operation '{word}' of {} operands", args.len())),
        };
        Ok(self.kernel.exprs.add(expr))
    }

    /// The axis of this name: its kind's letter and its number.
    fn axis(&self, word: &str) -> Option<usize> {
        let letter = word.chars().next()?;
        let number: usize = word.strip_prefix(letter)?.parse().ok()?;
        let kind = match letter {
            'i' => AxisKind::Parallel,
            's' => AxisKind::Scan,
            'r' => AxisKind::Reduce,
            _ => return None,
        };
        self.kernel.axes.get(number).filter(|axis| axis.kind == kind).map(|_| number)
    }

    fn load(&mut self, buffer: BufferId, dtype: DType, at: &mut Cursor<'a>, depth: usize) -> Result<ExprId> {
        let mut index = Vec::new();
        let mut guard = None;
        while !at.take("]") {
            if at.take("if") {
                let cond = self.expr(at, depth + 1)?;
                let cond = self.typed(cond, None, at)?;
                at.expect("else")?;
                let other = self.expr(at, depth + 1)?;
                guard = Some(Guard { cond, other: self.typed(other, Some(dtype), at)? });
                at.expect("]")?;
                break;
            }
            let item = self.expr(at, depth + 1)?;
            index.push(self.typed(item, None, at)?);
            if !at.take(",") && at.peek() != Some(']') && at.peek_word() != "if" {
                return at.fail("expected ',', ']' or 'if'");
            }
        }
        Ok(self.kernel.exprs.add(Expr::Load { buffer, dtype, index: index.into(), guard }))
    }
}

pub(super) fn reduce_op(at: &mut Cursor<'_>) -> Result<ReduceOp> {
    let start = *at;
    let word = at.word()?;
    ReduceOp::ALL
        .into_iter()
        .find(|op| op.word() == word)
        .ok_or_else(|| start.error("expected a way to combine, like sum"))
}

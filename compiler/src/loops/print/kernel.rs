//! Text of kernels.

use super::super::{AxisKind, BinaryOp, Expr, ExprId, Exprs, Kernel, Store, StoreMode};
use super::expr::{Piece, binary, constant, select, unary};
use super::{at_place, join, name};
use crate::index::Id as _;
use crate::types::DType;
use std::fmt;

/// Expressions used once whose text is longer than this get a line of their own.
const MAX_INLINE: usize = 60;

pub(super) fn kernel(f: &mut fmt::Formatter<'_>, kernel: &Kernel, level: usize) -> fmt::Result {
    let pad = "  ".repeat(level);
    let axes =
        join(kernel.axes.iter().enumerate().map(|(at, axis)| format!("{} < {}", axis_name(kernel, at), axis.extent)));
    let (kind, gap) =
        (if kernel.is_ordered { "ordered kernel" } else { "kernel" }, if axes.is_empty() { "" } else { " " });
    writeln!(f, "{pad}{kind} {}{gap}{axes}{}", name(&kernel.name), at_place(&kernel.place))?;
    let mut text = KernelText { kernel, pieces: vec![None; kernel.exprs.len()], uses: uses(kernel), n_named: 0 };
    for (number, reduction) in kernel.reductions.iter().enumerate() {
        let mut operands = vec![reduction.value];
        operands.extend(reduction.payload);
        text.define(f, &operands, level)?;
        let operands = join(operands.iter().map(|&id| text.get(id, None).text));
        writeln!(f, "{pad}  acc{number} = {}({operands})", reduction.op.word())?;
    }
    for store in &kernel.stores {
        let mut operands = store.index.to_vec();
        operands.push(store.value);
        operands.extend(store.guard);
        text.define(f, &operands, level)?;
        let mode = match store.mode {
            StoreMode::Set => "=".to_owned(),
            StoreMode::Combine(op) => format!("{}=", op.word()),
        };
        let guard = store.guard.map_or_else(String::new, |guard| format!(" if {}", text.get(guard, None).text));
        let index = join(store.index.iter().map(|&id| text.get(id, None).text));
        // The buffer says the type.
        let value = text.get(store.value, Some(kernel.exprs.dtype(store.value))).text;
        writeln!(f, "{pad}  {}[{index}] {mode} {value}{guard}", store.buffer)?;
    }
    Ok(())
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

/// The text of expressions, each defined before its first use. Names count up in the order of definition, so that they do not
/// depend on expressions that are not needed.
struct KernelText<'k> {
    kernel: &'k Kernel,
    pieces: Vec<Option<Piece>>,
    uses: Vec<usize>,
    n_named: usize,
}

impl KernelText<'_> {
    /// Writes the lines that define what the text of these expressions names.
    fn define(&mut self, f: &mut fmt::Formatter<'_>, ids: &[ExprId], level: usize) -> fmt::Result {
        let mut needed = vec![false; self.pieces.len()];
        for id in ids {
            needed[id.index()] = true;
        }
        for id in self.kernel.exprs.ids().rev() {
            if needed[id.index()] && self.pieces[id.index()].is_none() {
                for operand in Exprs::operands(self.kernel.exprs.get(id)) {
                    needed[operand.index()] = true;
                }
            }
        }
        for id in self.kernel.exprs.ids().filter(|id| needed[id.index()]) {
            if self.pieces[id.index()].is_some() {
                continue;
            }
            let piece = self.text(id);
            let is_once = self.uses[id.index()] == 1;
            let is_small = Exprs::operands(self.kernel.exprs.get(id)).is_empty() && !self.is_load(id);
            let named = if is_small || is_once && (piece.text.len() <= MAX_INLINE || ids.contains(&id)) {
                piece
            } else {
                let name = format!("e{}", self.n_named);
                self.n_named += 1;
                writeln!(f, "{}  {name} = {}", "  ".repeat(level), piece.text)?;
                Piece::atom(name)
            };
            self.pieces[id.index()] = Some(named);
        }
        Ok(())
    }

    fn is_load(&self, id: ExprId) -> bool {
        matches!(self.kernel.exprs.get(id), Expr::Load { .. })
    }

    /// The text of a defined expression; `expected` is the type that the place says.
    fn get(&self, id: ExprId, expected: Option<DType>) -> Piece {
        match self.kernel.exprs.constant(id) {
            Some(c) => Piece::atom(constant(c, expected)),
            None => self.pieces[id.index()].clone().unwrap_or_else(|| Piece::atom("?")),
        }
    }

    fn is_constant(&self, id: ExprId) -> bool {
        self.kernel.exprs.constant(id).is_some()
    }

    /// Two operands of one type: a constant needs no type where the other, or what stands before it, says it.
    fn pair(&self, a: ExprId, b: ExprId) -> (Piece, Piece) {
        let exprs = &self.kernel.exprs;
        let left = (!self.is_constant(b)).then(|| exprs.dtype(b));
        (self.get(a, left), self.get(b, Some(exprs.dtype(a))))
    }

    fn text(&self, id: ExprId) -> Piece {
        let exprs = &self.kernel.exprs;
        match exprs.get(id) {
            Expr::Const(c) => Piece::atom(constant(*c, None)),
            Expr::Axis(axis) => Piece::atom(axis_name(self.kernel, *axis)),
            Expr::Var(var, _) => Piece::atom(var.to_string()),
            Expr::Acc(number, _) => Piece::atom(format!("acc{number}")),
            Expr::Load { buffer, index, guard, dtype } => {
                let index = join(index.iter().map(|&i| self.get(i, None).text));
                let guard = guard.map_or_else(String::new, |g| {
                    let gap = if index.is_empty() { "" } else { " " };
                    format!("{gap}if {} else {}", self.get(g.cond, None).text, self.get(g.other, Some(*dtype)).text)
                });
                Piece::atom(format!("{buffer}[{index}{guard}]"))
            }
            Expr::Unary(op, a) => unary(*op, &self.get(*a, None), self.is_constant(*a)),
            Expr::Binary(BinaryOp::Add, a, b) if let Some(n) = self.subtracted(*b) => {
                binary(BinaryOp::Sub, &self.get(*a, None), &Piece::atom(n.to_string()))
            }
            Expr::Binary(op, a, b) => {
                let (a, b) = self.pair(*a, *b);
                binary(*op, &a, &b)
            }
            Expr::Select(c, a, b) => {
                let (a, b) = self.pair(*a, *b);
                select(&self.get(*c, None), &a, &b)
            }
            Expr::Cast(dtype, a) => Piece::atom(format!("{dtype}({})", self.get(*a, None).text)),
        }
    }

    /// Adding a negative integer is how expressions keep a subtraction.
    fn subtracted(&self, b: ExprId) -> Option<i64> {
        let c = self.kernel.exprs.constant(b).filter(|c| c.dtype == DType::I64 && c.as_i64() < 0)?;
        c.as_i64().checked_neg()
    }
}

//! Recognises contractions: one sum of a product of two loads. Rewrites those of a function, see [`Rewrite`].

use super::linear::{Forms, Linear};
use crate::diag;
use crate::loops::{BinaryOp, Block, Const, Expr, ExprId, Function, Kernel, ReduceOp, Stmt};

/// The two loads of a contraction.
pub(crate) struct Contraction {
    /// In the order of the product.
    pub(crate) loads: [ExprId; 2],
}

/// The contraction a kernel is, if it is one.
pub(crate) fn recognise(kernel: &Kernel) -> Option<Contraction> {
    let [reduction] = kernel.reductions[..] else { return None };
    if reduction.op != ReduceOp::Sum || kernel.is_ordered {
        return None;
    }
    let Expr::Binary(BinaryOp::Mul, a, b) = *kernel.exprs.get(reduction.value) else { return None };
    let is_load = |id: ExprId| matches!(kernel.exprs.get(id), Expr::Load { .. });
    let is_float = kernel.exprs.dtype(reduction.value).is_floating_point();
    (is_float && is_load(a) && is_load(b)).then_some(Contraction { loads: [a, b] })
}

/// A transform that puts other statements in the place of some contractions.
pub(crate) trait Rewrite {
    /// What it needs to know of a contraction.
    type Found;

    /// Looks at a contraction; each load is offered as `weight` in turn, with the other one as `data`.
    fn find(&self, kernel: &Kernel, data: ExprId, weight: ExprId) -> Option<Self::Found>;

    /// Appends what takes the contraction's place.
    fn replace(&mut self, kernel: &Kernel, found: &Self::Found, out: &mut Block) -> diag::Result<()>;

    /// Rewrites a block and all blocks in it.
    fn block(&mut self, block: &mut Block) -> diag::Result<()> {
        for mut stmt in std::mem::take(&mut block.0) {
            match &mut stmt {
                Stmt::Kernel(kernel) => {
                    let found = recognise(kernel).and_then(|Contraction { loads: [a, b] }| {
                        self.find(kernel, a, b).or_else(|| self.find(kernel, b, a))
                    });
                    if let Some(found) = found {
                        self.replace(kernel, &found, block)?;
                        continue;
                    }
                }
                Stmt::If(_, then_body, else_body) => {
                    self.block(then_body)?;
                    self.block(else_body)?;
                }
                Stmt::While(_, body) => self.block(body)?,
                _ => {}
            }
            block.0.push(stmt);
        }
        Ok(())
    }
}

/// Linear forms of a kernel's expressions.
pub(crate) fn forms(kernel: &Kernel) -> Forms<'_> {
    Forms::new(&kernel.exprs, kernel.axes.iter().map(|axis| axis.extent.known()).collect())
}

/// Whether a condition says no more than that indices into these dimensions are in bounds.
pub(crate) fn is_bounds_check(
    kernel: &Kernel,
    forms: &mut Forms<'_>,
    cond: ExprId,
    index: &[Linear],
    dims: &[i64],
) -> bool {
    let not_negative = match *kernel.exprs.get(cond) {
        Expr::Binary(BinaryOp::And, a, b) => {
            return is_bounds_check(kernel, forms, a, index, dims) && is_bounds_check(kernel, forms, b, index, dims);
        }
        Expr::Binary(BinaryOp::Ge, a, b) => forms.form(a).plus(&forms.form(b), -1),
        Expr::Binary(BinaryOp::Le, a, b) => forms.form(b).plus(&forms.form(a), -1),
        Expr::Binary(BinaryOp::Gt, a, b) => forms.form(a).plus(&forms.form(b), -1).plus(&Linear::constant(1), -1),
        Expr::Binary(BinaryOp::Lt, a, b) => forms.form(b).plus(&forms.form(a), -1).plus(&Linear::constant(1), -1),
        Expr::Const(Const { bits, .. }) => return bits != 0,
        _ => return false,
    };
    let is_bound = index
        .iter()
        .zip(dims)
        .any(|(i, &dim)| not_negative == *i || not_negative == Linear::constant(dim - 1).plus(i, -1));
    is_bound || forms.range(&not_negative).is_some_and(|(low, _)| low >= 0)
}

/// The buffer's extents, if all are known.
pub(crate) fn known_dims(function: &Function, buffer: crate::loops::BufferId) -> Option<Vec<i64>> {
    function.buffers[buffer].dims.iter().map(|dim| dim.known()).collect()
}

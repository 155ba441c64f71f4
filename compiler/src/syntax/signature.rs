//! Signatures in comment form: `# type: (int, Tensor) -> Tensor` below the head of a function, or one `# type: T` beside
//! each parameter and `# type: (...) -> T` last. They end up where annotations would stand, so nobody after the parser
//! tells the two forms apart.

use super::ast::{Expr, ExprKind, StmtId, StmtKind, TypeComment};
use super::layout::range;
use super::parse::Parser;
use crate::diag::Result;

impl Parser<'_> {
    /// Puts the comments' types into the functions they belong to.
    pub(super) fn comment_signatures(&mut self, comments: &[TypeComment]) -> Result<()> {
        if comments.is_empty() {
            return Ok(());
        }
        let ids: Vec<StmtId> = self.stmts.ids().collect();
        for id in ids {
            let StmtKind::Def(def) = &self.stmts[id].kind else { continue };
            let first = def.body.stmts.first().map_or(def.range.end, |&first| self.stmts[first].range.start);
            let start = def.head.start;
            let is_here = |comment: &&TypeComment| {
                comment.range.start > start && comment.range.start < first && !comment.text.starts_with("ignore")
            };
            let here: Vec<TypeComment> = comments.iter().filter(is_here).cloned().collect();
            if let Some((last, before)) = here.split_last() {
                self.signature_of(id, last, before)?;
            }
        }
        Ok(())
    }

    fn signature_of(&mut self, id: StmtId, last: &TypeComment, before: &[TypeComment]) -> Result<()> {
        let Some((params, result)) = self.halves(last)? else {
            let head_end = match &self.stmts[id].kind {
                StmtKind::Def(def) => def.head.end,
                _ => 0,
            };
            return match before {
                // Below the head, the parameters alone.
                [] if last.text.trim_start().starts_with('(') && last.range.start >= head_end => {
                    let params = self.piece(last.range.start as usize, last.range.end as usize)?;
                    let types = match params.kind {
                        ExprKind::Tuple(items) => items,
                        _ => vec![params],
                    };
                    self.annotate(id, types, last)
                }
                // A lone type beside a parameter or below the head says nothing of the signature.
                [] => Ok(()),
                _ => self
                    .fail("Return type line '# type: (...) -> ...' not found on multiline type annotation", last.range),
            };
        };
        let types = match params.kind {
            ExprKind::Tuple(items) => items,
            ExprKind::Ellipsis => {
                let mut types = Vec::with_capacity(before.len());
                for comment in before {
                    types.push(self.piece(comment.range.start as usize, comment.range.end as usize)?);
                }
                types
            }
            _ => vec![params],
        };
        self.annotate(id, types, last)?;
        if let StmtKind::Def(def) = &mut self.stmts[id].kind {
            def.returns = Some(result);
        }
        Ok(())
    }

    /// Gives the parameters of a function their types.
    fn annotate(&mut self, id: StmtId, types: Vec<Expr>, last: &TypeComment) -> Result<()> {
        let StmtKind::Def(def) = &mut self.stmts[id].kind else { return Ok(()) };
        let n_params = def.params.len();
        // `self` is left out.
        let skip =
            usize::from(types.len() + 1 == n_params && def.params.first().is_some_and(|p| p.annotation.is_none()));
        if types.len() + skip != n_params {
            let message = format!(
                "Number of type annotations ({}) did not match the number of function parameters ({n_params})",
                types.len()
            );
            return self.fail(message, last.range);
        }
        for (param, ty) in def.params.iter_mut().skip(skip).zip(types) {
            param.annotation = Some(ty);
        }
        Ok(())
    }

    /// What stands left and right of the arrow; `None` without one.
    fn halves(&mut self, comment: &TypeComment) -> Result<Option<(Expr, Expr)>> {
        let Some((left, right)) = comment.text.split_once("->") else { return Ok(None) };
        let start = comment.range.start as usize;
        let middle = start + left.len();
        let params = self.piece(start, middle)?;
        // Some write `(a, b) -> T  # why`.
        let right = right.split('#').next().unwrap_or("");
        let result = self.piece(middle + 2, middle + 2 + right.len())?;
        Ok(Some((params, result)))
    }

    /// The expression in a piece of the file.
    fn piece(&mut self, start: usize, end: usize) -> Result<Expr> {
        let source = self.source;
        let text = source.text.get(start..end).unwrap_or("");
        let at = start + (text.len() - text.trim_start().len());
        let text = text.trim();
        let built = self.sub_expr(text, at)?;
        let is_call = matches!(built.expr.kind, ExprKind::Call { .. });
        if is_call {
            return self.fail("Syntax error in type annotation", range(at, at + text.len()));
        }
        Ok(built.expr)
    }
}

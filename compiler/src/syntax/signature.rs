//! Signatures in comment form: `# type: (int, Tensor) -> Tensor` below the head of a function, or one `# type: T` beside
//! each parameter and `# type: (...) -> T` last. They end up where annotations would stand, so nobody after the parser
//! tells the two forms apart.

use super::ast::{Expr, ExprKind, StmtId, StmtKind, TypeComment};
use super::layout::range;
use super::parse::{Dialect, Parser};
use crate::diag::Result;
use std::collections::HashSet;

/// The function whose comments are read.
struct Context {
    id: StmtId,
    /// Where it begins, with its decorators.
    start: u32,
    is_method: bool,
}

impl Parser<'_> {
    /// Puts the comments' types into the functions they belong to. What is wrong with them is kept in the function, and told
    /// when it is compiled.
    pub(super) fn comment_signatures(&mut self, comments: &[TypeComment]) -> Result<()> {
        if comments.is_empty() {
            return Ok(());
        }
        let methods = self.methods();
        let ids: Vec<StmtId> = self.stmts.ids().collect();
        for id in ids {
            let StmtKind::Def(def) = &self.stmts[id].kind else { continue };
            let start = def.decorators.first().map_or(def.head.start, |decorator| decorator.range.start);
            let first = def.body.stmts.first().map_or(def.range.end, |&first| self.stmts[first].range.start);
            // Python's comments are those of the whole function, the language's own stand below the head.
            let after = self.source.text.get(def.range.end as usize..).unwrap_or("");
            let rest_of_line = u32::try_from(after.find('\n').unwrap_or(after.len())).unwrap_or(0);
            let end = if self.dialect == Dialect::Python { def.range.end + rest_of_line } else { first };
            let is_here = |comment: &&TypeComment| {
                comment.range.start > start && comment.range.start < end && !comment.text.starts_with("ignore")
            };
            let here: Vec<TypeComment> = comments.iter().filter(is_here).cloned().collect();
            let context = Context { id, start, is_method: methods.contains(&id) };
            let read = match self.dialect {
                Dialect::Python => self.python_signature(&context, here),
                Dialect::Own => match here.iter().rfind(|comment| comment.is_exact) {
                    Some(comment) => self.signature_of(&context, comment, &[]),
                    None => Ok(()),
                },
            };
            if let Err(error) = read {
                let (Dialect::Python, Some(span)) = (self.dialect, &error.span) else { return Err(error) };
                let mistake = (error.message.as_str().into(), range(span.start, span.end));
                if let StmtKind::Def(def) = &mut self.stmts[id].kind {
                    def.mistake = Some(mistake);
                }
            }
        }
        Ok(())
    }

    /// Functions whose first parameter is the object.
    fn methods(&self) -> HashSet<StmtId> {
        let mut methods = HashSet::new();
        for stmt in self.stmts.iter() {
            let StmtKind::Class(class) = &stmt.kind else { continue };
            methods.extend(class.body.stmts.iter().copied().filter(|&id| {
                match &self.stmts[id].kind {
                    StmtKind::Def(def) => !def
                        .decorators
                        .iter()
                        .any(|decorator| matches!(&decorator.kind, ExprKind::Name(name) if &**name == "staticmethod")),
                    _ => false,
                }
            }));
        }
        methods
    }

    /// A signature by the comments of a Python function: one that says all, or one for each parameter and a last one.
    fn python_signature(&mut self, context: &Context, here: Vec<TypeComment>) -> Result<()> {
        let (here, nearly): (Vec<TypeComment>, Vec<TypeComment>) = here.into_iter().partition(|c| c.is_exact);
        match here.as_slice() {
            [] => nearly.first().map_or(Ok(()), |wrong| self.wrong_prefix(context.start, wrong)),
            [one] => {
                let text = &self.source.text;
                let at = one.range.start as usize;
                let line_start = text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |end| end + 1);
                let line = text.get(line_start..at).unwrap_or("");
                let code = line.trim_start();
                if !code.starts_with('#') {
                    let word: String = code.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    let kind = if word == "def" { "def" } else { "ident" };
                    let start = line_start + line.len() - code.len();
                    let message = format!("expected type comment but found '{kind}' here");
                    return self.fail(message, range(start, start + word.len()));
                }
                if !one.text.starts_with('(') {
                    return self.fail("expected ( but found 'ident' here", one.range);
                }
                self.signature_of(context, one, &[])
            }
            several => {
                let last = several.iter().position(|comment| comment.text.starts_with("(...) -> "));
                let Some(last) = last else {
                    return self.fail(
                        "Return type line '# type: (...) -> ...' not found on multiline type annotation",
                        several[0].range,
                    );
                };
                self.signature_of(context, &several[last], &several[..last])
            }
        }
    }

    fn wrong_prefix(&self, start: u32, comment: &TypeComment) -> Result<()> {
        let above = self.source.text.get(start as usize..comment.range.start as usize).unwrap_or("");
        let line = above.matches('\n').count();
        let text = format!(
            "The annotation prefix in line {line} is probably invalid.\nIt must be '# type:'\nSee PEP 484 (https://www.python.org/dev/peps/pep-0484/#suggested-syntax-for-python-2-7-and-straddling-code)\nfor examples"
        );
        self.fail(text, comment.range)
    }

    /// Reads the comment that says all, or the `last` of several.
    fn signature_of(&mut self, context: &Context, last: &TypeComment, before: &[TypeComment]) -> Result<()> {
        let (params, result) = match self.halves(last)? {
            Some((params, result)) => (params, Some(result)),
            // The parameters alone.
            None if last.text.starts_with('(') => {
                (self.piece(last.range.start as usize, last.range.end as usize)?, None)
            }
            None => return Ok(()),
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
        self.annotate(context, types)?;
        if let (StmtKind::Def(def), Some(result)) = (&mut self.stmts[context.id].kind, result) {
            def.returns = Some(result);
        }
        Ok(())
    }

    /// Gives the parameters of a function their types.
    fn annotate(&mut self, context: &Context, types: Vec<Expr>) -> Result<()> {
        let StmtKind::Def(def) = &mut self.stmts[context.id].kind else { return Ok(()) };
        let (skip, kind) = if context.is_method { (1, "method") } else { (0, "function") };
        let n_params = def.params.len().saturating_sub(skip);
        // Methods of the language's own texts have no class around them; their `self` is left out, too.
        let is_short = types.len() + 1 == n_params && self.dialect == Dialect::Own;
        let skip = if is_short && def.params.first().is_some_and(|p| p.annotation.is_none()) { 1 } else { skip };
        if !is_short && types.len() != n_params {
            let message = format!(
                "Number of type annotations ({}) did not match the number of {kind} parameters ({n_params})",
                types.len()
            );
            let head = def.head;
            return self.fail(message, head);
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

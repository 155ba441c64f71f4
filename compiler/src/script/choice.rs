//! Functions that stand for several: overloads, which the types of arguments choose from, and functions whose variant a
//! constant truth value chooses before the program runs.

use super::classes;
use super::function::Emitter;
use super::mismatch;
use super::names::{Definition, Param, ParsedFile, Program, Signature, dotted};
use super::python::{Mark, overload_name};
use super::ssa::V;
use super::sugar::Sugared;
use crate::diag::{Diagnostic, Result};
use crate::syntax::ast::{self, ExprKind, StmtId, StmtKind, TextRange};
use crate::types::{IValue, Type};
use std::sync::Arc;

/// The function of Python that makes a function of two.
const DISPATCH: &str = "torch._jit_internal.boolean_dispatch";

/// A function that is one of two: `f = boolean_dispatch(arg_name=..., if_true=..., if_false=...)`.
#[derive(Clone, Debug)]
pub(crate) struct Dispatch {
    parsed: Arc<ParsedFile>,
    stmt: StmtId,
}

impl Dispatch {
    fn argument(&self, name: &str) -> Option<&ast::Expr> {
        let StmtKind::Assign { value, .. } = &self.parsed.file.stmts[self.stmt].kind else { return None };
        let ExprKind::Call { args, .. } = &value.kind else { return None };
        args.iter().find(|arg| arg.name.as_ref().is_some_and(|own| &*own.text == name)).map(|arg| &arg.value)
    }

    fn literal(&self, name: &str) -> Option<IValue> {
        self.argument(name).and_then(|value| classes::literal(value, &self.parsed.file).ok())
    }
}

impl Program<'_> {
    /// The function of two that a global variable of a text is.
    pub(crate) fn dispatch(&self, parsed: &Arc<ParsedFile>, stmt: StmtId) -> Option<Dispatch> {
        let StmtKind::Assign { value, .. } = &parsed.file.stmts[stmt].kind else { return None };
        let ExprKind::Call { callee, .. } = &value.kind else { return None };
        let path = self.absolute(&parsed.file, &dotted(callee)?);
        (path == DISPATCH).then(|| Dispatch { parsed: Arc::clone(parsed), stmt })
    }

    /// The overloads that the text of a function declares, by the names they have as functions; none if it declares none.
    pub(crate) fn overloads(&mut self, name: &Arc<str>) -> Result<Arc<[Arc<str>]>> {
        if let Some(known) = self.overloads.get(name) {
            return Ok(Arc::clone(known));
        }
        let mut names: Vec<Arc<str>> = Vec::new();
        if let Some((module, base)) = name.rsplit_once('.')
            && let Some((file, stmt)) = self.find(name)?
            && let Some(parsed) = self.text_of(&file)
            && let StmtKind::Def(body) = &file.stmts[stmt].kind
            && self.mark(&file, body) != Mark::Overload
        {
            let mut n_mangled = 0;
            for &declared in parsed.defs.get(base).map_or(&[][..], |defs| defs) {
                let StmtKind::Def(def) = &file.stmts[declared].kind else { continue };
                if self.mark(&file, def) != Mark::Overload {
                    continue;
                }
                check_declaration(&file, def, body)?;
                let mut full: Arc<str> = Arc::clone(name);
                while !names.is_empty() && (names.contains(&full) || self.is_archived(&full)) {
                    full = format!("{module}.___torch_mangle_{n_mangled}.{base}").into();
                    n_mangled += 1;
                }
                let definition = Definition { file: Arc::clone(&file), stmt, declared: Some(declared) };
                self.definitions.insert(Arc::clone(&full), definition);
                names.push(full);
            }
        }
        let names: Arc<[Arc<str>]> = names.into();
        self.overloads.insert(Arc::clone(name), Arc::clone(&names));
        Ok(names)
    }

    /// Gives an overload the defaults of the function that is its body, where they are of its types.
    pub(crate) fn default_as(&self, signature: &mut Signature, body: &ast::Function, file: &Arc<ast::File>) {
        for param in &mut signature.params {
            let written = body.params.iter().find(|own| own.name.text == param.name);
            param.default = written.and_then(|own| own.default.clone()).filter(|default| {
                let Ok(value) = classes::literal(default, file) else { return false };
                let ty = classes::type_of(&value);
                super::typing::is_subtype(&ty, &param.ty, self)
                    || matches!((&ty, &param.ty), (Type::Int, Type::Float))
                    || param.list_size.is_some()
            });
        }
    }
}

/// An overload's declaration names the parameters of its body.
fn check_declaration(file: &Arc<ast::File>, declared: &ast::Function, body: &ast::Function) -> Result<()> {
    let text = if declared.params.len() != body.params.len() {
        "Overload must have same number of parameters\n"
    } else if declared.params.iter().zip(&body.params).any(|(a, b)| a.name.text != b.name.text) {
        "Overload parameters must have the same names\n"
    } else {
        return Ok(());
    };
    Err(Diagnostic::user(text).at(Some(&file.span(declared.head))))
}

impl Emitter<'_, '_> {
    /// The function that a call of one of two means.
    pub(crate) fn dispatched(
        &mut self,
        dispatch: &Dispatch,
        positional: &[V],
        named: &[(Arc<str>, V)],
        range: TextRange,
    ) -> Result<Sugared> {
        let (Some(IValue::Str(name)), Some(IValue::Int(at))) =
            (dispatch.literal("arg_name"), dispatch.literal("arg_index"))
        else {
            return Err(self.unsupported(range, "a boolean dispatch whose argument is not written out"));
        };
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let by_name = named.iter().find(|(own, _)| *own == name).map(|(_, value)| value);
        let truth = match (positional.get(at), by_name) {
            (Some(value), _) => self.known(value),
            (None, Some(value)) => self.known(value),
            (None, None) => dispatch.literal("default"),
        };
        let Some(IValue::Bool(truth)) = truth else {
            let text = if positional.len() > at {
                format!("Argument for boolean dispatch at position {at} was not constant")
            } else {
                format!("Keyword argument '{name}' for boolean dispatch at position was not constant")
            };
            return Err(self.error(range, text));
        };
        let variant = dispatch.argument(if truth { "if_true" } else { "if_false" });
        if let Some(ExprKind::Name(variant)) = variant.map(|value| &value.kind)
            && let Some(meaning) = self.meaning(&dispatch.parsed, variant, range)?
        {
            return Ok(meaning);
        }
        Err(self.unsupported(range, "a boolean dispatch between what is no function of the text"))
    }

    /// The overload of a function that takes these arguments; `None` if it has no overloads.
    pub(crate) fn overload_of_function(
        &mut self,
        name: &Arc<str>,
        positional: &[V],
        named: &[(Arc<str>, V)],
        range: TextRange,
    ) -> Result<Option<Arc<str>>> {
        let overloads = self.program.overloads(name)?;
        if overloads.is_empty() {
            return Ok(None);
        }
        let mut known = Vec::new();
        for overload in overloads.iter() {
            if let Some(signature) = self.program.signature(overload, None)? {
                known.push((Arc::clone(overload), signature));
            }
        }
        if let Some(chosen) = self.best(&known, 0, positional, named) {
            return Ok(Some(chosen));
        }
        let mut variants = Vec::new();
        for (overload, signature) in known {
            let result = self.program.compile_function(&overload, None, Some(&self.span(range)));
            let result = result.ok().and_then(|()| self.program.functions.get(&overload)).map(|f| f.result.clone());
            variants.push(self.why_not(&overload, &signature, result, positional, named, range));
        }
        Err(self.error(range, mismatch::no_variant(&variants)))
    }

    /// The overload of a method that takes these arguments best; the last one, if none does.
    pub(crate) fn overload_of_method(
        &mut self,
        class: &Arc<str>,
        name: &Arc<str>,
        own: &Type,
        positional: &[V],
        named: &[(Arc<str>, V)],
    ) -> Result<Option<Arc<str>>> {
        let mut known = Vec::new();
        loop {
            let overload = overload_name(name, known.len());
            let methods = self.program.classes.get(class).map(|declared| &declared.methods);
            if methods.and_then(|methods| methods.get(&overload)).is_none_or(|method| method.declared.is_none()) {
                break;
            }
            let full: Arc<str> = format!("{class}.{overload}").into();
            let Some(signature) = self.program.signature(&full, Some(own))? else { break };
            known.push((overload, signature));
        }
        let chosen = self.best(&known, 1, positional, named);
        Ok(chosen.or_else(|| known.pop().map(|(overload, _)| overload)))
    }

    /// The first that takes the arguments as they are, or else converted. The first `n_hidden` parameters are not written.
    fn best(
        &self,
        known: &[(Arc<str>, Arc<Signature>)],
        n_hidden: usize,
        positional: &[V],
        named: &[(Arc<str>, V)],
    ) -> Option<Arc<str>> {
        [false, true].into_iter().find_map(|may_convert| {
            let fits = |signature: &Signature| {
                self.takes(signature.params.get(n_hidden..).unwrap_or_default(), positional, named, may_convert)
            };
            known.iter().find(|(_, signature)| fits(signature)).map(|(overload, _)| Arc::clone(overload))
        })
    }

    /// Whether parameters take these arguments.
    fn takes(&self, params: &[Param], positional: &[V], named: &[(Arc<str>, V)], may_convert: bool) -> bool {
        let fits = |value: &V, param: &Param| {
            param.is_spread(&value.ty)
                || self.is_empty_literal(value, &param.ty)
                || self.fits(&value.ty, &param.ty, may_convert)
        };
        let by_name = |param: &Param| named.iter().find(|(name, _)| *name == param.name).map(|(_, value)| value);
        positional.len() <= params.len()
            && named.iter().all(|(name, _)| params.iter().skip(positional.len()).any(|param| param.name == *name))
            && params.iter().enumerate().all(|(at, param)| match positional.get(at).or_else(|| by_name(param)) {
                Some(value) => fits(value, param),
                None => param.default.is_some(),
            })
    }
}

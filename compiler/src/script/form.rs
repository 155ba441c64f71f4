//! Forms: calls that the language itself gives a meaning, such as `annotate`, `isinstance`, `int` and `fork`.

use super::classes;
use super::function::Emitter;
use super::mismatch::repr;
use super::ssa::{Binding, V};
use super::sugar::Sugared;
use crate::diag::{Diagnostic, Result};
use crate::ir::{Attr, BlockId, Graph, ValueDef, ValueId};
use crate::syntax::ast::{self, Expr, ExprKind, FormatPiece, StmtId, StmtKind, TextRange};
use crate::types::{IValue, Type};
use indexmap::IndexSet;
use std::collections::HashMap;
use std::sync::Arc;

impl Emitter<'_, '_> {
    /// `form(args)`.
    pub(crate) fn form(&mut self, form: &'static str, args: &[ast::Arg], range: TextRange) -> Result<Sugared> {
        let file = Arc::clone(&self.file);
        let arg = |at: usize| args.get(at).map(|arg| &arg.value);
        let need = |e: &Self, at: usize| {
            arg(at).ok_or_else(|| {
                e.error(range, format!("{form} expected at least {} arguments but found {}", at + 1, args.len()))
            })
        };
        Ok(match form {
            "annotate" => {
                let ty = self.program.ty(need(self, 0)?, &file)?;
                let expr = need(self, 1)?;
                let made = self.expr_sugar(expr, Some(&ty))?;
                let made = self.value_of(made, expr.range)?;
                if made.ty == Type::None && matches!(ty, Type::Optional(_)) {
                    // What may be there is remembered.
                    return Ok(Sugared::Value(self.constant(IValue::None, ty, range)));
                }
                let made = self.convert(made, &ty, true, range).map_err(|v| {
                    self.error(
                        range,
                        format!("expected an expression of type {} but found {}", repr(&ty), self.repr(&v)),
                    )
                })?;
                // The value keeps the type it has, but where any is wanted.
                let forgets = ty == Type::Any && made.ty != Type::Any;
                Sugared::Value(if forgets { self.prim("prim::unchecked_cast", &[&made], ty, range) } else { made })
            }
            "unchecked_cast" => {
                let ty = self.program.ty(need(self, 0)?, &file)?;
                let value = self.expr(need(self, 1)?)?;
                Sugared::Value(self.prim("prim::unchecked_cast", &[&value], ty, range))
            }
            "uninitialized" => {
                let ty = self.program.ty(need(self, 0)?, &file)?;
                Sugared::Value(self.uninitialized(&ty, range))
            }
            "_unwrap_optional" => {
                let value = self.expr(need(self, 0)?)?;
                self.builtin("aten::_unwrap_optional", vec![value], Vec::new(), range)?
            }
            "fork" => {
                let target = need(self, 0)?;
                self.fork(target, args.get(1..).unwrap_or_default(), range)?
            }
            "isinstance" | "hasattr" => {
                let call = Expr {
                    kind: ExprKind::Call {
                        callee: Box::new(Expr { kind: ExprKind::Name(form.into()), range }),
                        args: args.to_vec(),
                    },
                    range,
                };
                Sugared::Value(self.condition_value(&call)?)
            }
            "getattr" => {
                let object = self.expr_sugar(need(self, 0)?, None)?;
                let ExprKind::Str(name) = &need(self, 1)?.kind else {
                    return Err(self.error(range, "getattr's second argument must be a string literal"));
                };
                self.attribute(object, &classes::string(name), range)?
            }
            "is_scripting" => Sugared::Value(self.constant(IValue::Bool(true), Type::Bool, range)),
            "tuple" => {
                let value = self.expr(need(self, 0)?)?;
                match &value.ty {
                    Type::Tuple(_) => Sugared::Value(value),
                    ty => {
                        let ty = ty.annotation();
                        let text = match value.ty {
                            Type::List(_) => {
                                "cannot statically infer the expected size of a list in this context".to_owned()
                            }
                            _ => format!("{ty} cannot be used as a tuple"),
                        };
                        return Err(self.error(range, text));
                    }
                }
            }
            "range" | "enumerate" | "zip" => {
                return Err(self.unsupported(range, format!("{form} outside of a for loop")));
            }
            _ => {
                let (op, ty) = match form {
                    "int" => ("aten::Int", Type::Int),
                    "float" => ("aten::Float", Type::Float),
                    "bool" => ("aten::Bool", Type::Bool),
                    "complex" => ("aten::Complex", Type::Complex),
                    _ => ("aten::str", Type::Str),
                };
                let (positional, named) = self.arguments(args)?;
                match (positional.as_slice(), &ty) {
                    ([one], _) if one.ty == ty => Sugared::Value(one.clone()),
                    ([], Type::Str) => Sugared::Value(self.constant(IValue::Str("".into()), Type::Str, range)),
                    ([one], Type::Str | Type::Bool | Type::Int | Type::Float) if matches!(one.ty, Type::Class(_)) => {
                        let one = one.clone();
                        self.call_method(&one, &format!("__{form}__").into(), Vec::new(), Vec::new(), range)?
                    }
                    ([one], Type::Bool) if !matches!(one.ty, Type::Tensor(_) | Type::Int | Type::Float) => {
                        let (one, zero) = (one.clone(), self.int(0, range));
                        let len = self.builtin_value("aten::len", vec![one], range)?;
                        self.builtin("aten::gt", vec![len, zero], Vec::new(), range)?
                    }
                    _ => self.builtin(op, positional, named, range)?,
                }
            }
        })
    }

    fn fork(&mut self, target: &Expr, args: &[ast::Arg], range: TextRange) -> Result<Sugared> {
        let target = self.expr_sugar(target, None)?;
        let stmt = match target {
            Sugared::Closure(stmt) => stmt,
            callee => return self.fork_call(callee, args, range),
        };
        let (graph, captured, ty) = self.closure(stmt)?;
        let inputs: Vec<&V> = captured.iter().collect();
        let made = self.prim_attr(
            "prim::fork",
            ("Subgraph", Attr::Graph(Arc::new(graph))),
            &inputs,
            Type::Future(Arc::new(ty)),
            range,
        );
        Ok(Sugared::Value(made))
    }

    /// Compiles a nested function for the errors in it; what would call it compiles it again.
    pub(crate) fn check_closure(&mut self, stmt: StmtId) -> Result<()> {
        self.closure(stmt).map(|_| ())
    }

    /// The graph of a nested function, the values of the function around it that it uses, its first parameters, and its
    /// result. Parameters of its own come last.
    fn closure(&mut self, stmt: StmtId) -> Result<(Graph, Vec<V>, Type)> {
        let file = Arc::clone(&self.file);
        let StmtKind::Def(def) = &file.stmts[stmt].kind else {
            return Err(Diagnostic::internal("a closure is a function"));
        };
        if self.forking.contains(&stmt) {
            let name = &def.name.text;
            let message = format!("function '{name}' is called recursively. Recursive calls are not supported");
            return Err(self.error(def.head, message));
        }
        let signature = self.program.read_signature(&file, def, None)?;
        let mut names = IndexSet::new();
        read_names(&file, &def.body.stmts, &mut names);
        let mut captured = Vec::new();
        let mut sugar = Vec::new();
        for name in names {
            match self.scope.get(&name) {
                Some(Binding::Value { value, .. }) => captured.push((name, value.clone())),
                Some(Binding::Sugar(other)) => sugar.push((name, other.clone())),
                Some(Binding::Conflict(..)) | None => {}
            }
        }
        let name: Arc<str> = format!("{}.{}", self.name, def.name.text).into();
        let forking = self.forking.iter().copied().chain([stmt]).collect();
        let mut inner = Emitter::new(self.program, Arc::clone(&file), name);
        inner.forking = forking;
        for (name, value) in &captured {
            let top = inner.graph.top;
            let id = inner.graph.add_param(top, value.ty.clone(), Some(Arc::clone(name)));
            let value = V { id, ty: value.ty.clone() };
            inner.scope.set(Arc::clone(name), Some(Binding::Value { value }));
        }
        for (name, other) in sugar {
            inner.scope.set(name, Some(Binding::Sugar(other)));
        }
        for param in &signature.params {
            let top = inner.graph.top;
            let id = inner.graph.add_param(top, param.ty.clone(), Some(Arc::clone(&param.name)));
            let value = V { id, ty: param.ty.clone() };
            inner.scope.set(Arc::clone(&param.name), Some(Binding::Value { value }));
        }
        inner.is_result_declared = signature.result.is_some();
        inner.result.clone_from(&signature.result);
        let ty = inner.body(&def.body, def.head)?;
        let has_params = !signature.params.is_empty();
        let literals = if has_params { Vec::new() } else { inner.literals_as_params() };
        let mut graph = inner.finish();
        let mut captured: Vec<V> = captured.into_iter().map(|(_, v)| v).collect();
        for (value, ty, place) in literals {
            captured.push(self.literal(value, ty, place));
        }
        if !has_params {
            captured = keep_used_params(&mut graph, captured);
        }
        Ok((graph, captured, ty))
    }
}

impl Emitter<'_, '_> {
    /// `fork(f, args)`: a graph that makes the call.
    fn fork_call(&mut self, callee: Sugared, args: &[ast::Arg], range: TextRange) -> Result<Sugared> {
        if let Sugared::Value(value) = &callee
            && !matches!(value.ty, Type::Class(_))
        {
            let ty = value.ty.annotation();
            return Err(self.error(range, format!("cannot call a value of type '{ty}'")));
        }
        let (mut positional, mut named) = self.arguments(args)?;
        let mut captured: Vec<V> = Vec::new();
        let file = Arc::clone(&self.file);
        let name: Arc<str> = format!("{}.forked", self.name).into();
        let names: Vec<Option<Arc<str>>> = {
            let name_of = |v: &V| self.graph.values[v.id].name.clone();
            let object = match &callee {
                Sugared::Method(object, _) | Sugared::Value(object) => Some(name_of(object)),
                _ => None,
            };
            object
                .into_iter()
                .chain(positional.iter().map(name_of))
                .chain(named.iter().map(|(_, v)| name_of(v)))
                .collect()
        };
        let mut inner = Emitter::new(self.program, Arc::clone(&file), name);
        let mut names = names.into_iter();
        let mut pass = |inner: &mut Emitter<'_, '_>, value: &mut V| {
            let top = inner.graph.top;
            let id = inner.graph.add_param(top, value.ty.clone(), names.next().flatten());
            captured.push(value.clone());
            *value = V { id, ty: value.ty.clone() };
        };
        let mut callee = callee;
        if let Sugared::Method(object, _) | Sugared::Value(object) = &mut callee {
            pass(&mut inner, object);
        }
        for value in &mut positional {
            pass(&mut inner, value);
        }
        for (_, value) in &mut named {
            pass(&mut inner, value);
        }
        let made = inner.call_values(callee, positional, named, range)?;
        let made = inner.value_of(made, range)?;
        let top = inner.graph.top;
        inner.graph.blocks[top].returns.push(made.id);
        let graph = inner.finish();
        let inputs: Vec<&V> = captured.iter().collect();
        let subgraph = ("Subgraph", Attr::Graph(Arc::new(graph)));
        let ty = Type::Future(Arc::new(made.ty));
        Ok(Sugared::Value(self.prim_attr("prim::fork", subgraph, &inputs, ty, range)))
    }
}

/// Keeps those parameters that the graph uses, in the order in which it does, and gives what is passed for them.
fn keep_used_params(graph: &mut Graph, passed: Vec<V>) -> Vec<V> {
    let mut used = IndexSet::new();
    note_used(graph, graph.top, &mut used);
    let passed: HashMap<ValueId, V> = graph.blocks[graph.top].params.iter().copied().zip(passed).collect();
    let params: Vec<ValueId> = used.into_iter().filter(|value| passed.contains_key(value)).collect();
    for (at, &param) in params.iter().enumerate() {
        graph.values[param].def = ValueDef::Param(graph.top, at);
    }
    let kept = params.iter().map(|param| passed[param].clone()).collect();
    graph.blocks[graph.top].params = params;
    kept
}

fn note_used(graph: &Graph, block: BlockId, used: &mut IndexSet<ValueId>) {
    for &node in &graph.blocks[block].nodes {
        let node = &graph.nodes[node];
        used.extend(node.inputs.iter().copied());
        node.blocks.iter().for_each(|&inner| note_used(graph, inner, used));
    }
    used.extend(graph.blocks[block].returns.iter().copied());
}

/// Adds every name that the statements read.
pub(crate) fn read_names(file: &ast::File, body: &[StmtId], out: &mut IndexSet<Arc<str>>) {
    for &id in body {
        // Names are taken from the text, which is more than is read but never less.
        let stmt = &file.stmts[id];
        let mut exprs: Vec<&Expr> = Vec::new();
        match &stmt.kind {
            StmtKind::Expr(e) => exprs.push(e),
            StmtKind::Assign { targets, value } => {
                exprs.extend(targets);
                exprs.push(value);
            }
            StmtKind::AnnAssign { target, value, .. } => {
                exprs.push(target);
                exprs.extend(value);
            }
            StmtKind::AugAssign { target, value, .. } => exprs.extend([target, value]),
            StmtKind::If { cond, then, orelse } => {
                exprs.push(cond);
                read_names(file, &then.stmts, out);
                read_names(file, &orelse.stmts, out);
            }
            StmtKind::For { iter, body, .. } => {
                exprs.push(iter);
                read_names(file, &body.stmts, out);
            }
            StmtKind::While { cond, body, .. } => {
                exprs.push(cond);
                read_names(file, &body.stmts, out);
            }
            StmtKind::With { items, body } => {
                exprs.extend(items.iter().map(|item| &item.context));
                read_names(file, &body.stmts, out);
            }
            StmtKind::Return(value) => exprs.extend(value),
            StmtKind::Raise { error, .. } => exprs.extend(error),
            StmtKind::Assert { cond, message } => {
                exprs.push(cond);
                exprs.extend(message);
            }
            StmtKind::Delete(targets) => exprs.extend(targets),
            StmtKind::Def(def) => read_names(file, &def.body.stmts, out),
            StmtKind::Break
            | StmtKind::Continue
            | StmtKind::Pass
            | StmtKind::Import(_)
            | StmtKind::Class(_)
            | StmtKind::Unsupported { .. } => {}
        }
        for expr in exprs {
            expr_names(expr, out);
        }
    }
}

/// Adds every name that an expression reads.
pub(crate) fn expr_names(expr: &Expr, out: &mut IndexSet<Arc<str>>) {
    match &expr.kind {
        ExprKind::Name(name) => _ = out.insert(Arc::clone(name)),
        ExprKind::Attribute { value, .. } | ExprKind::Starred(value) => expr_names(value, out),
        ExprKind::Subscript { value, items } => {
            expr_names(value, out);
            for item in items {
                expr_names(item, out);
            }
        }
        ExprKind::Slice { start, stop, step } => {
            for part in [start, stop, step].into_iter().flatten() {
                expr_names(part, out);
            }
        }
        ExprKind::Call { callee, args } => {
            expr_names(callee, out);
            for arg in args {
                expr_names(&arg.value, out);
            }
        }
        ExprKind::Tuple(items) | ExprKind::List(items) | ExprKind::Set(items) => {
            for item in items {
                expr_names(item, out);
            }
        }
        ExprKind::Dict(entries) => {
            for (key, value) in entries {
                expr_names(key, out);
                expr_names(value, out);
            }
        }
        ExprKind::ListComp { element, generators } => {
            expr_names(element, out);
            for generator in generators {
                expr_names(&generator.iter, out);
            }
        }
        ExprKind::DictComp { key, value, generators } => {
            expr_names(key, out);
            expr_names(value, out);
            for generator in generators {
                expr_names(&generator.iter, out);
            }
        }
        ExprKind::Unary { operand, .. } => expr_names(operand, out),
        ExprKind::Binary { lhs, rhs, .. } => {
            expr_names(lhs, out);
            expr_names(rhs, out);
        }
        ExprKind::Compare { first, rest } => {
            expr_names(first, out);
            for (_, operand) in rest {
                expr_names(operand, out);
            }
        }
        ExprKind::Ternary { cond, then, orelse } => {
            for part in [cond, then, orelse] {
                expr_names(part, out);
            }
        }
        ExprKind::Format(pieces) => {
            for piece in pieces {
                if let FormatPiece::Value(value) = piece {
                    expr_names(value, out);
                }
            }
        }
        ExprKind::Int(_)
        | ExprKind::Float(_)
        | ExprKind::Imaginary(_)
        | ExprKind::Str(_)
        | ExprKind::Bool(_)
        | ExprKind::None
        | ExprKind::Ellipsis
        | ExprKind::Unsupported(_) => {}
    }
}

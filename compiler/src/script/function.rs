//! One function: its parameters, its body, its result; and the small tools every part of the emitter uses.

use super::exits::{Flow, OpenLoop};
use super::names::{Definition, MAX_CALL_DEPTH, Param, Program};
use super::ssa::{Binding, Scope, V};
use super::sugar::Sugared;
use super::typing::{is_subtype, unshaped};
use super::{classes, names};
use crate::diag::{Diagnostic, Result};
use crate::ir::{Argument, Attr, BlockId, Function, Graph, NodeId, OpName, ValueDef, ValueId};
use crate::source::Span;
use crate::syntax::Dialect;
use crate::syntax::ast::{self, File, TextRange};
use crate::types::{IValue, Type};
use indexmap::IndexSet;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// How deep blocks may be nested, counted through all functions that are compiled at a time.
pub(crate) const MAX_DEPTH: usize = 6000;

/// The state of compiling one function.
pub(crate) struct Emitter<'p, 'a> {
    /// The whole program, for classes and callees.
    pub program: &'p mut Program<'a>,
    /// The file the function is written in.
    pub file: Arc<File>,
    /// Qualified name.
    pub name: Arc<str>,
    /// The graph under construction.
    pub graph: Graph,
    /// Where the next node goes.
    pub block: BlockId,
    /// What names mean.
    pub scope: Scope,
    /// The result's type: declared, or that of the first return.
    pub result: Option<Type>,
    /// Whether `result` was declared.
    pub is_result_declared: bool,
    /// Loops around the present statement, innermost last.
    pub loops: Vec<OpenLoop>,
    /// Whether the present call is the body of an upgrader, which is of today.
    pub is_upgrading: bool,
    uninitialized: Vec<V>,
    /// Parameters that are tensors because nothing says otherwise.
    pub inferred: HashSet<ValueId>,
    /// Lists written `[]`, which PyTorch's compiler makes anew, without their names.
    pub nameless: HashSet<ValueId>,
    /// Those of them that no name has: they fit parameters that are lists of anything.
    pub empty_literals: HashSet<ValueId>,
    /// Constants that stand once in the function, at its top, by what they are.
    constants: HashMap<String, V>,
    /// Numbers that are written out, in the order in which they were met.
    literals: IndexSet<NodeId>,
    /// Other constants at the top, in the order in which they were met.
    constant_nodes: IndexSet<NodeId>,
    /// The functions inside this one whose bodies are being compiled as tasks.
    pub forking: Vec<ast::StmtId>,
}

impl Program<'_> {
    /// Compiles a method, if the class has it, and what it calls.
    pub(crate) fn compile_method(&mut self, class: &Arc<str>, method: &Arc<str>) -> Result<()> {
        let name: Arc<str> = format!("{class}.{method}").into();
        if self.classes.get(class).is_some_and(|c| c.methods.contains_key(method)) {
            self.compile_function(&name, Some(&Type::Class(Arc::clone(class))), None)?;
        }
        Ok(())
    }

    /// Compiles a function or method and what it calls, unless that is done already.
    pub(crate) fn compile_function(
        &mut self,
        name: &Arc<str>,
        self_ty: Option<&Type>,
        caller: Option<&Span>,
    ) -> Result<()> {
        if self.functions.contains_key(name) {
            return Ok(());
        }
        if let Some(error) = self.failed.get(name) {
            return Err(error.clone());
        }
        if self.compiling.contains(name) {
            let kind = if self_ty.is_some() { "method" } else { "function" };
            let short = name.rsplit('.').next().unwrap_or(name);
            return Err(Diagnostic::user(format!(
                "{kind} '{short}' is called recursively. Recursive calls are not supported"
            ))
            .at(caller));
        }
        if self.compiling.len() >= MAX_CALL_DEPTH {
            return Err(Diagnostic::unsupported(format!("calls are nested more than {MAX_CALL_DEPTH} deep")).at(caller));
        }
        let Some(definition) = self.definition(name)? else {
            return Err(Diagnostic::user(format!("undefined value {name}")).at(caller));
        };
        self.compiling.push(Arc::clone(name));
        let compiled = self.compile_definition(name, &definition, self_ty);
        self.compiling.pop();
        let function = compiled.inspect_err(|error| {
            // Callers that go on ask again.
            if self.goes_on {
                self.failed.insert(Arc::clone(name), error.clone());
            }
        })?;
        self.functions.insert(Arc::clone(name), function);
        Ok(())
    }

    fn compile_definition(
        &mut self,
        name: &Arc<str>,
        definition: &Definition,
        self_ty: Option<&Type>,
    ) -> Result<Function> {
        let signature = self.signature(name, self_ty)?.expect("a definition has a signature");
        let def = definition.function();
        let mut emitter = Emitter::new(self, Arc::clone(&definition.file), Arc::clone(name));
        emitter.result.clone_from(&signature.result);
        emitter.is_result_declared = signature.result.is_some();
        let mut params = Vec::with_capacity(signature.params.len());
        for (param, syntax) in signature.params.iter().zip(&def.params) {
            let top = emitter.graph.top;
            let id = emitter.graph.add_param(top, param.ty.clone(), Some(Arc::clone(&param.name)));
            let value = V { id, ty: param.ty.clone() };
            if param.is_inferred {
                emitter.inferred.insert(id);
            }
            if emitter.scope.get(&param.name).is_some() {
                return Err(emitter.error(syntax.name.range, format!("duplicate parameter '{}'", param.name)));
            }
            emitter.scope.set(Arc::clone(&param.name), Some(Binding::Value { value }));
            if let Some(default) = &param.default {
                emitter.refuse_mutable_default(default, &param.name, blamed_head(def))?;
            }
            let default = param.default.as_ref().map(|e| emitter.default_of(e, param)).transpose()?;
            if emitter.is_text()
                && let Some(value) = &default
                && !emitter.is_subtype(&classes::type_of(value), &param.ty)
            {
                let (ty, name) = (param.ty.annotation(), &param.name);
                let text = format!("Expected a default value of type {ty} on parameter \"{name}\".");
                return Err(emitter.error(blamed_head(def), text));
            }
            params.push(Argument { name: Arc::clone(&param.name), ty: param.ty.clone(), default });
        }
        if self_ty.is_some() && def.params.is_empty() {
            return Err(emitter.error(blamed_head(def), "methods must have a self argument"));
        }
        let result = emitter.body(&def.body, blamed_head(def))?;
        let graph = emitter.finish();
        let span = Some(definition.file.span(def.head));
        Ok(Function { name: Arc::clone(name), params, result, graph, span, is_traced: false })
    }
}

/// Kinds of nodes that PyTorch's compiler makes without a place in the source.
const UNPLACED: &[&str] = &[
    "prim::DictConstruct",
    "prim::Enter",
    "prim::EnumValue",
    "prim::Exit",
    "prim::GetAttr",
    "prim::ListConstruct",
    "prim::ListUnpack",
    "prim::ModuleContainerIndex",
    "prim::SetAttr",
    "prim::TupleConstruct",
    "prim::TupleIndex",
    "prim::TupleUnpack",
    "prim::isinstance",
    "prim::tolist",
    "prim::unchecked_cast",
];

impl<'p, 'a> Emitter<'p, 'a> {
    pub(crate) fn new(program: &'p mut Program<'a>, file: Arc<File>, name: Arc<str>) -> Self {
        let graph = Graph::new();
        Self {
            program,
            file,
            name,
            block: graph.top,
            graph,
            scope: Scope::default(),
            result: None,
            is_result_declared: false,
            loops: Vec::new(),
            is_upgrading: false,
            uninitialized: Vec::new(),
            inferred: HashSet::new(),
            nameless: HashSet::new(),
            empty_literals: HashSet::new(),
            constants: HashMap::new(),
            literals: IndexSet::new(),
            constant_nodes: IndexSet::new(),
            forking: Vec::new(),
        }
    }

    /// Emits the statements of the body and the graph's result; gives the result's type.
    pub(crate) fn body(&mut self, body: &ast::Block, head: TextRange) -> Result<Type> {
        let flow = self.stmts(&body.stmts)?;
        if flow == Flow::Falls {
            let declared = self.result.clone().filter(|_| self.is_result_declared);
            if declared.is_some_and(|ty| !is_subtype(&Type::None, &ty, self.program)) {
                return Err(self.error(
                    head,
                    "Function was not annotated as having type None, but does not return along all paths",
                ));
            }
            // What falls off the end returns None.
            self.return_stmt(None, head)?;
        }
        let ty = self.result.clone().unwrap_or(Type::None);
        self.structure(&ty, head);
        Ok(ty)
    }

    /// Makes parameters of the numbers that are written out: to PyTorch these are values of the outermost function.
    pub(crate) fn literals_as_params(&mut self) -> Vec<(IValue, Type, TextRange)> {
        let mut taken = Vec::new();
        for node in std::mem::take(&mut self.literals) {
            let value = self.graph.nodes[node].outputs[0];
            let (Some(constant), Some(span)) = (self.graph.constant(value), &self.graph.nodes[node].span) else {
                continue;
            };
            let at = |byte| u32::try_from(byte).unwrap_or(u32::MAX);
            let (range, ty) =
                (TextRange { start: at(span.start), end: at(span.end) }, self.graph.values[value].ty.clone());
            let mut nodes = self.graph.nodes.iter();
            if !nodes.any(|node| node.inputs.contains(&value))
                && !self.graph.blocks.iter().any(|block| block.returns.contains(&value))
            {
                continue;
            }
            let param = self.graph.add_param(self.graph.top, ty.clone(), None);
            self.graph.replace_uses(value, param);
            taken.push((constant, ty, range));
        }
        taken
    }

    /// The finished graph. Numbers that are written out come first; what else is constant stands where it was met.
    pub(crate) fn finish(mut self) -> Graph {
        let top = self.graph.top;
        // PyTorch's compiler puts each new one in front.
        self.literals.reverse();
        self.constant_nodes.append(&mut self.literals);
        for value in self.uninitialized.iter().rev() {
            if let ValueDef::Output(node, _) = self.graph.values[value.id].def {
                self.constant_nodes.insert(node);
            }
        }
        self.graph.blocks[top].nodes.splice(0..0, self.constant_nodes);
        self.graph
    }

    /// The place of a range of the function's file.
    pub(crate) fn span(&self, range: TextRange) -> Span {
        names::Program::span(&self.file, range)
    }

    /// An error of the user's at a range.
    pub(crate) fn error(&self, range: TextRange, message: impl Into<String>) -> Box<Diagnostic> {
        Diagnostic::user(message).at(Some(&self.span(range)))
    }

    /// The error of reading a name that has no one meaning since the statement at `made`.
    pub(crate) fn conflict(&self, text: &str, made: TextRange, used: TextRange) -> Box<Diagnostic> {
        let (line, column) = self.span(used).line_column();
        self.error(made, text).note(format!("and was used here: line {line}, column {column}"))
    }

    /// Something we cannot compile yet, at a range.
    pub(crate) fn unsupported(&self, range: TextRange, message: impl Into<String>) -> Box<Diagnostic> {
        Diagnostic::unsupported(message).at(Some(&self.span(range)))
    }

    /// Appends a node to the present block.
    pub(crate) fn node(&mut self, op: OpName, inputs: Vec<ValueId>, outputs: &[Type], range: TextRange) -> NodeId {
        let (span, hides_place) = (Some(self.span(range)), UNPLACED.contains(&&*op.name));
        let node = self.graph.append(self.block, op, inputs, outputs, span);
        self.graph.nodes[node].hides_place = hides_place;
        node
    }

    /// Appends a `prim::` node with one output.
    pub(crate) fn prim(&mut self, kind: &str, inputs: &[&V], ty: Type, range: TextRange) -> V {
        let inputs = inputs.iter().map(|v| v.id).collect();
        let node = self.node(OpName::new(kind), inputs, std::slice::from_ref(&ty), range);
        V { id: self.graph.nodes[node].outputs[0], ty }
    }

    /// Like [`prim`](Self::prim) with one attribute.
    pub(crate) fn prim_attr(
        &mut self,
        kind: &str,
        attr: (&'static str, Attr),
        inputs: &[&V],
        ty: Type,
        range: TextRange,
    ) -> V {
        let inputs = inputs.iter().map(|v| v.id).collect();
        let node = self.node(OpName::new(kind), inputs, std::slice::from_ref(&ty), range);
        self.graph.nodes[node].attrs.push(attr);
        V { id: self.graph.nodes[node].outputs[0], ty }
    }

    /// The value of a number that is written out, maybe with a minus, which the parser has taken into it. So has PyTorch's
    /// own parser; the minus of a Python file is an operator that its compiler folds, and graphs of archives are printed as
    /// they were before they were saved, which is as if all came from such files.
    pub(crate) fn number(&mut self, value: IValue, ty: Type, range: TextRange) -> V {
        let text = self.file.text(range);
        if self.file.dialect == Dialect::Own
            && (self.is_text() || !self.forking.is_empty())
            && let Some(digits) = text.strip_prefix('-')
        {
            let skipped = text.len() - digits.trim_start().len();
            let start = range.start + u32::try_from(skipped).unwrap_or(0);
            return self.literal(value, ty, TextRange { start, ..range });
        }
        let positive = match value {
            IValue::Int(n) if n < 0 => IValue::Int(n.wrapping_neg()),
            IValue::Float(x) if x.is_sign_negative() => IValue::Float(-x),
            IValue::Complex(re, im) if im.is_sign_negative() => IValue::Complex(re, -im),
            _ => return self.literal(value, ty, range),
        };
        self.literal(positive, ty.clone(), range);
        self.constant(value, ty, range)
    }

    /// The value of a number that is written out: one node for all that are equal.
    pub(crate) fn literal(&mut self, value: IValue, ty: Type, range: TextRange) -> V {
        let made = self.top_constant(value, ty, range);
        if let ValueDef::Output(node, _) = self.graph.values[made.id].def
            && !self.literals.contains(&node)
        {
            self.constant_nodes.shift_remove(&node);
            self.literals.insert(node);
            self.graph.nodes[node].span = Some(self.span(range));
            self.graph.nodes[node].hides_place = false;
        }
        made
    }

    /// The value of a constant. It stands where it is met, as in PyTorch's compiler, for which it is so a step of the program.
    pub(crate) fn constant(&mut self, value: IValue, ty: Type, range: TextRange) -> V {
        let span = Some(self.span(range));
        V { id: self.graph.append_constant(self.block, value, ty.clone(), span), ty }
    }

    /// The value of a constant that nobody wrote out: its place stays out of printed graphs.
    pub(crate) fn folded(&mut self, value: IValue, ty: Type, range: TextRange) -> V {
        let made = self.constant(value, ty, range);
        self.hide_place(&made);
        made
    }

    /// Keeps the place of the node that makes a value out of printed graphs.
    pub(crate) fn hide_place(&mut self, made: &V) {
        if let ValueDef::Output(node, _) = self.graph.values[made.id].def {
            self.graph.nodes[node].hides_place = true;
        }
    }

    /// The value of a constant; equal ones are one node at the top of the graph.
    pub(crate) fn top_constant(&mut self, value: IValue, ty: Type, range: TextRange) -> V {
        let key = match &value {
            IValue::Float(x) => format!("f{:x}", x.to_bits()),
            IValue::Complex(re, im) => format!("c{:x},{:x}", re.to_bits(), im.to_bits()),
            IValue::Tensor(data) => format!("t{:p}", Arc::as_ptr(data)),
            IValue::Object(object) => format!("o{:p}", Arc::as_ptr(object)),
            other => format!("{other:?}:{ty:?}"),
        };
        if let Some(known) = self.constants.get(&key) {
            return known.clone();
        }
        let span = Some(self.span(range));
        let node = self.graph.create_node(OpName::new("prim::Constant"), Vec::new(), span);
        let id = self.graph.add_output(node, ty.clone());
        if !matches!(value, IValue::None) {
            self.graph.nodes[node].attrs.push(("value", Attr::Value(value)));
        }
        self.constant_nodes.insert(node);
        let made = V { id, ty };
        self.constants.insert(key, made.clone());
        made
    }

    /// The constant that stands for a function.
    pub(crate) fn function_constant(&mut self, name: &Arc<str>, range: TextRange) -> V {
        let attr = ("name", Attr::Name(Arc::clone(name)));
        let made = self.prim_attr("prim::Constant", attr, &[], Type::Function, range);
        self.hide_place(&made);
        made
    }

    /// An `int` constant.
    pub(crate) fn int(&mut self, value: i64, range: TextRange) -> V {
        self.constant(IValue::Int(value), Type::Int, range)
    }

    /// The `None` constant.
    pub(crate) fn none(&mut self, range: TextRange) -> V {
        self.constant(IValue::None, Type::None, range)
    }

    /// A value that is never read.
    pub(crate) fn uninitialized(&mut self, ty: &Type, range: TextRange) -> V {
        if !self.is_text() {
            return self.prim("prim::Uninitialized", &[], ty.clone(), range);
        }
        self.never(ty, range)
    }

    /// A value that is never read; one for each type, before all else, as PyTorch's compiler has them.
    pub(crate) fn never(&mut self, ty: &Type, range: TextRange) -> V {
        if let Some(known) = self.uninitialized.iter().find(|known| known.ty == *ty) {
            return known.clone();
        }
        let span = Some(self.span(range));
        let node = self.graph.create_node(OpName::new("prim::Uninitialized"), Vec::new(), span);
        self.graph.nodes[node].hides_place = true;
        let made = V { id: self.graph.add_output(node, ty.clone()), ty: ty.clone() };
        self.uninitialized.push(made.clone());
        made
    }

    /// The constant a value stands for.
    pub(crate) fn known(&self, value: &V) -> Option<IValue> {
        self.graph.constant(value.id)
    }

    /// Whether every `sub` is a `sup`.
    pub(crate) fn is_subtype(&self, sub: &Type, sup: &Type) -> bool {
        is_subtype(sub, sup, self.program)
    }

    /// Binds a hidden name of the emitter's own.
    pub(crate) fn set_hidden(&mut self, name: &str, value: V) {
        self.scope.set(name.into(), Some(Binding::Value { value }));
    }

    /// The value of a hidden name.
    pub(crate) fn hidden(&self, name: &str, range: TextRange) -> Result<V> {
        match self.scope.get(name) {
            Some(Binding::Value { value, .. }) => Ok(value.clone()),
            Some(Binding::Conflict(text, made)) => Err(self.conflict(text, *made, range)),
            Some(Binding::Sugar(_)) | None => Err(Diagnostic::internal(format!("{name} has no value"))),
        }
    }

    /// The value of a parameter's default: a whole list where one value stands for it.
    pub(crate) fn default_of(&mut self, expr: &ast::Expr, param: &Param) -> Result<IValue> {
        let value = self.default_value(expr, &param.ty)?;
        let ty = classes::type_of(&value);
        Ok(if param.is_spread(&ty) {
            IValue::List(Some(ty), vec![value; param.list_size.unwrap_or(1)].into())
        } else {
            value
        })
    }

    /// The value of a parameter's default, for the function's interface.
    pub(crate) fn default_value(&mut self, expr: &ast::Expr, ty: &Type) -> Result<IValue> {
        if let ast::ExprKind::Attribute { value, name } = &expr.kind {
            match self.expr_sugar(value, None)? {
                Sugared::Constants => return self.stored_constant(&name.text, expr.range),
                Sugared::Item(names::Item::Enum(named)) => {
                    let v = self.enum_member(&named, &name.text, expr.range)?;
                    return self.known(&v).ok_or_else(|| self.error(expr.range, "Expected a literal"));
                }
                _ => {}
            }
        }
        Ok(match (classes::literal(expr, &self.file)?, ty) {
            (IValue::Int(value), Type::Float) => IValue::Float(value as f64),
            (IValue::Str(text), Type::Device) => IValue::Device(text),
            (value, _) => value,
        })
    }

    /// Python makes a default once for all calls, so one that a call could change is refused.
    fn refuse_mutable_default(&self, default: &ast::Expr, name: &str, head: TextRange) -> Result<()> {
        if !self.is_text() || !holds_mutable(default) {
            return Ok(());
        }
        let class = match &default.kind {
            ast::ExprKind::Tuple(_) => "tuple",
            ast::ExprKind::Dict(_) => "dict",
            _ => "list",
        };
        Err(self.error(
            head,
            format!(
                "Mutable default parameters are not supported because Python binds them to the function and they persist across function calls.\n As a workaround, make the default None and instantiate the default parameter within the body of the function. Found <class '{class}'> on parameter {name}"
            ),
        ))
    }

    /// `CONSTANTS.cN` of the archive.
    pub(crate) fn stored_constant(&self, name: &str, range: TextRange) -> Result<IValue> {
        let constants = &self.program.archive.constants;
        let index = name.strip_prefix('c').and_then(|digits| digits.parse::<usize>().ok());
        let Some(index) = index else {
            return Err(self.error(range, format!("invalid constant specifier: {name}")));
        };
        constants.get(index).cloned().ok_or_else(|| {
            let n = constants.len();
            self.error(range, format!("constant index {index} is out of bounds (constant table has {n} entries)"))
        })
    }

    /// The type with which a name is remembered.
    pub(crate) fn stored_type(ty: &Type) -> Type {
        unshaped(ty)
    }
}

fn holds_mutable(expr: &ast::Expr) -> bool {
    match &expr.kind {
        ast::ExprKind::List(_) | ast::ExprKind::Dict(_) => true,
        ast::ExprKind::Tuple(items) => items.iter().any(holds_mutable),
        _ => false,
    }
}

/// What errors about a function as a whole blame: its head, from its first decorator on.
fn blamed_head(def: &ast::Function) -> TextRange {
    def.decorators.first().map_or(def.head, |decorator| decorator.range.to(def.head))
}

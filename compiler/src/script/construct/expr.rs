//! Expressions of module-level code: names, displays, comprehensions, subscripts, attributes.

use super::{Cell, Frame, Interpreter, Value, value};
use crate::diag::Result;
use crate::script::classes;
use crate::script::names::{Item, ParsedFile};
use crate::script::trace::field_of;
use crate::syntax::ast::{self, Expr, ExprKind, StmtKind, TextRange};
use std::sync::Arc;

/// Functions and classes of Python that a name means where the file gives it no other meaning.
const BUILTINS: [&str; 74] = [
    "super",
    "len",
    "range",
    "list",
    "dict",
    "tuple",
    "set",
    "frozenset",
    "int",
    "float",
    "str",
    "bool",
    "complex",
    "object",
    "isinstance",
    "issubclass",
    "enumerate",
    "zip",
    "sum",
    "min",
    "max",
    "abs",
    "round",
    "pow",
    "sorted",
    "reversed",
    "any",
    "all",
    "map",
    "getattr",
    "setattr",
    "hasattr",
    "print",
    "type",
    "repr",
    "iter",
    "next",
    "callable",
    "id",
    "divmod",
    "filter",
    "slice",
    "open",
    "vars",
    "dir",
    "eval",
    "exec",
    "input",
    "format",
    "bytes",
    "bytearray",
    "memoryview",
    "hex",
    "oct",
    "bin",
    "ord",
    "chr",
    "classmethod",
    "staticmethod",
    "property",
    "hash",
    "delattr",
    "locals",
    "globals",
    "Exception",
    "ValueError",
    "RuntimeError",
    "TypeError",
    "KeyError",
    "IndexError",
    "NotImplementedError",
    "AssertionError",
    "AttributeError",
    "StopIteration",
];

impl Interpreter<'_, '_> {
    /// The value of an expression.
    pub(crate) fn eval(&mut self, frame: &mut Frame, expr: &Expr) -> Result<Value> {
        self.step(frame, expr.range)?;
        let range = expr.range;
        Ok(match &expr.kind {
            ExprKind::Name(name) => self.load_name(frame, name, range)?,
            ExprKind::Int(n) => Value::Int(*n),
            ExprKind::Float(x) => Value::Float(*x),
            ExprKind::Imaginary(x) => Value::Complex(0.0, *x),
            ExprKind::Str(text) => Value::Str(classes::string(text)),
            ExprKind::Format(pieces) => self.format(frame, pieces)?,
            ExprKind::Bool(b) => Value::Bool(*b),
            ExprKind::None => Value::None,
            ExprKind::Ellipsis => Value::Ellipsis,
            ExprKind::Attribute { value, name } => {
                let object = self.eval(frame, value)?;
                self.get_attribute(frame, &object, &name.text, range)?
            }
            ExprKind::Subscript { value, items } => {
                let container = self.eval(frame, value)?;
                if self.is_tensor(&container) {
                    return self.elements(frame, &container, items, range);
                }
                let key = self.key(frame, items)?;
                self.get_item(frame, &container, &key, range)?
            }
            ExprKind::Slice { start, stop, step } => {
                let mut parts = Vec::with_capacity(3);
                for part in [start, stop, step] {
                    parts.push(match part {
                        Some(part) => self.eval(frame, part)?,
                        None => Value::None,
                    });
                }
                Value::NamedTuple("slice".into(), parts.into())
            }
            ExprKind::Call { callee, args } => self.call_expr(frame, callee, args, range)?,
            ExprKind::Tuple(items) => Value::Tuple(self.display(frame, items)?.into()),
            ExprKind::List(items) => {
                let items = self.display(frame, items)?;
                Value::Ref(self.heap.push(Cell::List(items)))
            }
            ExprKind::Set(items) => {
                let items = self.display(frame, items)?;
                self.new_set(items)
            }
            ExprKind::Dict(entries) => {
                let made = Value::Ref(self.heap.push(Cell::Dict(Vec::new())));
                for (key, item) in entries {
                    let (key, item) = (self.eval(frame, key)?, self.eval(frame, item)?);
                    self.set_item(frame, &made, key, item, range)?;
                }
                made
            }
            ExprKind::ListComp { element, generators } => {
                let mut items = Vec::new();
                self.comprehension(frame, generators, &mut |this, frame| {
                    items.push(this.eval(frame, element)?);
                    Ok(())
                })?;
                Value::Ref(self.heap.push(Cell::List(items)))
            }
            ExprKind::DictComp { key, value, generators } => {
                let made = Value::Ref(self.heap.push(Cell::Dict(Vec::new())));
                self.comprehension(frame, generators, &mut |this, frame| {
                    let (key, item) = (this.eval(frame, key)?, this.eval(frame, value)?);
                    this.set_item(frame, &made, key, item, range)
                })?;
                made
            }
            ExprKind::Unary { op, operand } => {
                let operand = self.eval(frame, operand)?;
                self.unary(frame, *op, &operand, range)?
            }
            ExprKind::Binary { op: op @ (ast::BinaryOp::And | ast::BinaryOp::Or), lhs, rhs } => {
                let left = self.eval(frame, lhs)?;
                if self.truth(frame, &left, lhs.range)? == (*op == ast::BinaryOp::And) {
                    self.eval(frame, rhs)?
                } else {
                    left
                }
            }
            ExprKind::Binary { op, lhs, rhs } => {
                let (lhs, rhs) = (self.eval(frame, lhs)?, self.eval(frame, rhs)?);
                self.binary(frame, *op, &lhs, &rhs, range)?
            }
            ExprKind::Compare { first, rest } => {
                let mut left = self.eval(frame, first)?;
                for (op, operand) in rest {
                    let right = self.eval(frame, operand)?;
                    let holds = self.binary(frame, *op, &left, &right, range)?;
                    if !self.truth(frame, &holds, range)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Value::Bool(true)
            }
            ExprKind::Ternary { cond, then, orelse } => {
                let value = self.eval(frame, cond)?;
                let taken = if self.truth(frame, &value, cond.range)? { then } else { orelse };
                self.eval(frame, taken)?
            }
            ExprKind::Starred(_) => return Err(frame.unsupported(range, "'*' here outside of compiled code")),
            ExprKind::Unsupported("Lambda") => Value::Lambda,
            ExprKind::Unsupported(what) => {
                return Err(frame.unsupported(range, format!("'{what}' outside of compiled code")));
            }
        })
    }

    fn display(&mut self, frame: &mut Frame, items: &[Expr]) -> Result<Vec<Value>> {
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            if let ExprKind::Starred(inner) = &item.kind {
                let all = self.eval(frame, inner)?;
                values.extend(self.items(frame, &all, inner.range)?);
            } else {
                values.push(self.eval(frame, item)?);
            }
        }
        Ok(values)
    }

    fn comprehension(
        &mut self,
        frame: &mut Frame,
        generators: &[ast::Generator],
        each: &mut dyn FnMut(&mut Self, &mut Frame) -> Result<()>,
    ) -> Result<()> {
        let Some((first, rest)) = generators.split_first() else { return each(self, frame) };
        let all = self.eval(frame, &first.iter)?;
        // Names of a comprehension are its own.
        let outside = frame.locals.clone();
        let was_global = std::mem::replace(&mut frame.is_global, false);
        let mut result = Ok(());
        'items: for item in self.items(frame, &all, first.iter.range)? {
            result = self.assign(frame, &first.target, item);
            for condition in &first.conditions {
                if result.is_ok() {
                    match self.eval(frame, condition).and_then(|value| self.truth(frame, &value, condition.range)) {
                        Ok(true) => {}
                        Ok(false) => continue 'items,
                        Err(error) => result = Err(error),
                    }
                }
            }
            result = result.and_then(|()| self.comprehension(frame, rest, each));
            if result.is_err() {
                break;
            }
        }
        frame.is_global = was_global;
        frame.locals = outside;
        result
    }

    /// The subscript as one value: a tuple where there are several items.
    pub(crate) fn key(&mut self, frame: &mut Frame, items: &[Expr]) -> Result<Value> {
        match items {
            [one] => self.eval(frame, one),
            many => Ok(Value::Tuple(self.display(frame, many)?.into())),
        }
    }

    /// What a name means.
    pub(crate) fn load_name(&mut self, frame: &mut Frame, name: &Arc<str>, range: TextRange) -> Result<Value> {
        if let Some(value) = frame.locals.get(name) {
            return Ok(value.clone());
        }
        let parsed = Arc::clone(&frame.parsed);
        if let Some(value) = self.load_global(frame, &parsed, name)? {
            return Ok(value);
        }
        if BUILTINS.contains(&&**name) {
            return Ok(Value::Path(format!("builtins.{name}").into()));
        }
        Err(frame.error(range, format!("NameError: name '{name}' is not defined")))
    }

    /// The value of a name at the top level of a file; what its statement gives, if that has not run yet.
    pub(crate) fn load_global(
        &mut self,
        frame: &mut Frame,
        parsed: &Arc<ParsedFile>,
        name: &Arc<str>,
    ) -> Result<Option<Value>> {
        let key = (Arc::clone(&parsed.module), Arc::clone(name));
        if let Some(value) = self.globals.get(&key) {
            return Ok(Some(value.clone()));
        }
        if let Some(&id) = parsed.items.get(name) {
            let qualified: Arc<str> = format!("{}.{name}", parsed.module).into();
            return Ok(Some(match &parsed.file.stmts[id].kind {
                StmtKind::Class(_) => Value::Class(qualified),
                _ => Value::Function(qualified),
            }));
        }
        if let Some(&id) = parsed.values.get(name)
            && !self.pending.contains(&key)
        {
            match self.program.item_of_value(parsed, name)? {
                Some(Item::NamedTuple(ty)) => return Ok(Some(Value::Class(Arc::clone(&ty.name)))),
                Some(Item::Function(name)) => return Ok(Some(Value::Function(name))),
                _ => {}
            }
            self.pending.push(key.clone());
            let mut outer = self.global_frame(parsed);
            let result = self.stmt(&mut outer, id);
            self.pending.pop();
            result?;
            return Ok(self.globals.get(&key).cloned());
        }
        if let Some(path) = parsed.imports.get(name).cloned() {
            return self.load_path(frame, &path).map(Some);
        }
        Ok(None)
    }

    pub(crate) fn set_global(&mut self, module: &Arc<str>, name: &Arc<str>, value: Value) {
        self.globals.insert((Arc::clone(module), Arc::clone(name)), value);
    }

    pub(crate) fn remove_global(&mut self, module: &Arc<str>, name: &Arc<str>) {
        self.globals.remove(&(Arc::clone(module), Arc::clone(name)));
    }

    /// What a dotted path of a library means: a number, a class or function of the compiler's own texts, or the path itself.
    pub(crate) fn load_path(&mut self, _frame: &Frame, path: &str) -> Result<Value> {
        use std::f64::consts;
        if let Some(traced) = self.traced_path(path)? {
            return Ok(traced);
        }
        Ok(match path {
            "math.pi" | "torch.pi" => Value::Float(consts::PI),
            "math.e" | "torch.e" => Value::Float(consts::E),
            "math.tau" => Value::Float(consts::TAU),
            "math.inf" | "torch.inf" => Value::Float(f64::INFINITY),
            "math.nan" | "torch.nan" => Value::Float(f64::NAN),
            "sys.maxsize" => Value::Int(i64::MAX),
            _ => match self.program.library_item(path)? {
                Some(Item::Class(crate::types::Type::Class(name))) => Value::Class(name),
                Some(Item::Function(name)) => Value::Function(name),
                _ => Value::Path(path.into()),
            },
        })
    }

    /// `object.name`.
    pub(crate) fn get_attribute(
        &mut self,
        frame: &mut Frame,
        object: &Value,
        name: &Arc<str>,
        range: TextRange,
    ) -> Result<Value> {
        let method = || Value::Method(Arc::new(object.clone()), Arc::clone(name));
        let missing = |this: &Self| {
            let ty = value::type_name(object, &this.heap);
            frame.error(range, format!("AttributeError: '{ty}' object has no attribute '{name}'"))
        };
        match object {
            Value::Unknown(why) => Err(Box::new((**why).clone())),
            Value::Path(path) => self.load_path(frame, &format!("{path}.{name}")),
            Value::Class(class) => {
                let class = Arc::clone(class);
                self.class_attribute(frame, &class, name, range)
            }
            Value::NamedTuple(class, items) if let Some(at) = field_of(class, name) => {
                items.get(at).cloned().ok_or_else(|| missing(self))
            }
            Value::NamedTuple(class, items) => {
                let at = self.program.classes.get(class).and_then(|declared| declared.class.attrs.get_index_of(name));
                at.and_then(|at| items.get(at)).cloned().ok_or_else(|| missing(self))
            }
            Value::Enum(_, member, inner) => match &**name {
                "value" => Ok((**inner).clone()),
                "name" => Ok(Value::Str(Arc::clone(member))),
                _ => Err(missing(self)),
            },
            Value::Super(..) | Value::Str(_) => Ok(method()),
            Value::Ref(at) => match &self.heap[*at] {
                Cell::Tensor(_) | Cell::Traced(_) => self.tensor_attribute(frame, object, name, range),
                Cell::Instance(_) => self.instance_attribute(frame, *at, name, range),
                Cell::List(_) | Cell::Dict(_) | Cell::Set(_) => Ok(method()),
                Cell::Attribute(inner, _) if &**name == "value" => Ok(inner.clone()),
                Cell::Attribute(..) | Cell::Elements(_) => Err(missing(self)),
            },
            Value::Function(full) if &**name == "__name__" => Ok(Value::str(full.rsplit('.').next().unwrap_or(full))),
            Value::Device(text) if &**name == "type" => Ok(Value::str(text.split(':').next().unwrap_or(text))),
            Value::Complex(re, _) if &**name == "real" => Ok(Value::Float(*re)),
            Value::Complex(_, im) if &**name == "imag" => Ok(Value::Float(*im)),
            Value::Method(..)
            | Value::Function(_)
            | Value::Compiled(_)
            | Value::Module(_)
            | Value::Closure(_)
            | Value::Lambda => Err(self.refused(frame, object, "an attribute", range)),
            Value::None
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Float(_)
            | Value::Complex(..)
            | Value::Ellipsis
            | Value::Device(_)
            | Value::Tuple(_)
            | Value::Range(..) => match &**name {
                "index" | "count" if matches!(object, Value::Tuple(_)) => Ok(method()),
                "item" | "is_integer" => Ok(method()),
                _ => Err(missing(self)),
            },
        }
    }
}

//! Attributes of values: `object.name` read, assigned, or in front of a call.

use super::classes;
use super::construct::{FunctionAttribute, Missing};
use super::function::Emitter;
use super::names::{Item, dotted};
use super::python::{demangled, overload_name};
use super::ssa::{Binding, V};
use super::sugar::Sugared;
use super::typing::{Bindings, bind, substitute, unshaped};
use crate::diag::{Diagnostic, Result};
use crate::ir::{Attr, ClassKind, OpName};
use crate::syntax::ast::{self, Expr, ExprKind, StmtKind, TextRange};
use crate::types::{IValue, Type};
use std::sync::Arc;

/// The operator that reads a tensor's property.
fn tensor_property(name: &str) -> Option<&'static str> {
    Some(match name {
        "dtype" => "prim::dtype",
        "device" => "prim::device",
        "layout" => "prim::layout",
        "grad" => "prim::grad",
        "data" => "prim::data",
        "shape" => "aten::size",
        "ndim" => "aten::dim",
        "is_cuda" => "prim::is_cuda",
        "is_cpu" => "prim::is_cpu",
        "is_xpu" => "prim::is_xpu",
        "is_sparse" => "prim::is_sparse",
        "is_sparse_csr" => "prim::is_sparse_csr",
        "is_mkldnn" => "prim::is_mkldnn",
        "is_mps" => "prim::is_mps",
        "is_meta" => "prim::is_meta",
        "is_quantized" => "prim::is_quantized",
        "is_nested" => "prim::is_nested",
        "requires_grad" => "prim::requires_grad",
        "is_leaf" => "aten::is_leaf",
        "name" => "prim::name",
        "itemsize" => "prim::itemsize",
        "nbytes" => "prim::nbytes",
        "T" => "aten::numpy_T",
        "mT" => "aten::mT",
        "H" => "aten::matrix_H",
        "mH" => "aten::mH",
        "real" => "aten::real",
        "imag" => "aten::imag",
        _ => return None,
    })
}

/// Where a diagnostic points to, as a text.
fn place(error: &Diagnostic) -> String {
    error.span.as_ref().map_or_else(String::new, |span| {
        let (line, _) = span.line_column();
        format!("{}:{line}", span.source.name)
    })
}

impl Emitter<'_, '_> {
    /// `value.name`.
    pub(crate) fn value_attribute(&mut self, value: V, name: &Arc<str>, range: TextRange) -> Result<Sugared> {
        match &value.ty {
            Type::Class(class) => {
                let class = Arc::clone(class);
                if let Some(declared) = self.program.classes.get(&class) {
                    if let Some(ty) = declared.class.attrs.get(name) {
                        let ty = ty.clone();
                        let made = self.prim_attr(
                            "prim::GetAttr",
                            ("name", Attr::Name(Arc::clone(name))),
                            &[&value],
                            ty,
                            range,
                        );
                        // A name of digits alone would be no name but a number.
                        let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
                        let called = if is_number { format!("_{name}").into() } else { Arc::clone(name) };
                        self.graph.values[made.id].name.get_or_insert(called);
                        return Ok(Sugared::Value(made));
                    }
                    if let Some(constant) = declared.class.constants.get(name).cloned() {
                        let ty = classes::type_of(&constant);
                        return Ok(Sugared::Value(self.constant(constant, ty, range)));
                    }
                    let getter: Arc<str> = format!("__{name}_getter").into();
                    if declared.methods.contains_key(&getter) {
                        return self.call_method(&value, &getter, Vec::new(), Vec::new(), range);
                    }
                    if let Some(sugar) = self.module_attribute(&class, name, range)? {
                        return Ok(sugar);
                    }
                    if !self.has_method(&class, name) && !self.is_container_method(&value, name)? {
                        if self.is_text() && self.program.classes[&class].class.kind == ClassKind::Module {
                            if let Some(function) = self.constructed_function(&class, name, range)? {
                                return Ok(function);
                            }
                            let module = demangled(&class);
                            let module = module.rsplit('.').next().unwrap_or(&module);
                            let text = format!("Module '{module}' has no attribute '{name}' ");
                            return Err(self.error(range, text));
                        }
                        if !self.program.is_class_attribute(&class, name)? {
                            return Err(self.no_attribute(&value.ty, name, range));
                        }
                        let why = format!(
                            "'{name}' is defined as a class attribute which currently is not supported. Consider converting this to an instance attribute."
                        );
                        return Err(
                            self.error(range, format!("'{class}' object has no attribute or method '{name}'. {why}"))
                        );
                    }
                }
                Ok(Sugared::Method(value, Arc::clone(name)))
            }
            Type::NamedTuple(named) if named.fields.iter().any(|(field, _)| field == name) => {
                let at = named.fields.iter().position(|(field, _)| field == name).expect("checked by the guard");
                Ok(Sugared::Value(self.tuple_index(&value, at, range)))
            }
            Type::Enum(named) if matches!(&**name, "value" | "name") => {
                if self.is_text()
                    && let Some(IValue::Enum { class, value: member }) = self.known(&value)
                {
                    let constants = self.program.classes.get(&class).map(|declared| &declared.class.constants);
                    let is_member = |v: &IValue| format!("{v:?}") == format!("{member:?}");
                    let name_of =
                        constants.and_then(|c| c.iter().find(|(_, v)| is_member(v)).map(|(name, _)| name.clone()));
                    let (constant, ty) = match name_of {
                        Some(member_name) if &**name == "name" => (IValue::Str(member_name), Type::Str),
                        _ => ((*member).clone(), named.value.clone()),
                    };
                    return Ok(Sugared::Value(self.constant(constant, ty, range)));
                }
                let (kind, ty) = if &**name == "value" {
                    ("prim::EnumValue", named.value.clone())
                } else {
                    ("prim::EnumName", Type::Str)
                };
                if kind == "prim::EnumName" {
                    return Ok(Sugared::Value(self.prim(kind, &[&value], ty, range)));
                }
                let overload = ty.annotation();
                let node =
                    self.node(OpName::with_overload(kind, &overload), vec![value.id], std::slice::from_ref(&ty), range);
                Ok(Sugared::Value(V { id: self.graph.nodes[node].outputs[0], ty }))
            }
            Type::Tensor(_) => match tensor_property(name) {
                Some(op) => self.builtin_unplaced(op, vec![value], Vec::new(), range).map(Sugared::Value),
                None => self.method_of_value(value, name, range),
            },
            Type::Device if matches!(&**name, "type" | "index") => {
                self.builtin_unplaced(&format!("prim::{name}"), vec![value], Vec::new(), range).map(Sugared::Value)
            }
            _ => self.method_of_value(value, name, range),
        }
    }

    /// Whether a class has a method, be it one of several overloads.
    pub(crate) fn has_method(&self, class: &str, name: &str) -> bool {
        self.program.classes.get(class).is_some_and(|declared| {
            declared.methods.contains_key(name) || declared.methods.contains_key(&overload_name(name, 0))
        })
    }

    /// An attribute of a module made without an archive that is a function, or that has no form in the program.
    fn module_attribute(&mut self, class: &str, name: &Arc<str>, range: TextRange) -> Result<Option<Sugared>> {
        let Some(facts) = self.program.modules.get(class) else { return Ok(None) };
        match (facts.functions.get(name).cloned(), facts.missing.get(name)) {
            (Some(FunctionAttribute::Text(function)), _) => Ok(Some(Sugared::Item(Item::Function(function)))),
            (Some(FunctionAttribute::Library(path)), _) => self.imported(&path, range).map(Some),
            (None, Some(Missing::Reason(hint, place))) => {
                let module = demangled(class);
                let module = module.rsplit('.').next().unwrap_or(&module);
                let text = format!("Module '{module}' has no attribute '{name}' {hint}");
                Err(Diagnostic::user(text).at(place.as_ref()).at(Some(&self.span(range))))
            }
            (None, Some(Missing::Unknown(why))) => Err(self
                .unsupported(range, format!("the attribute '{name}', whose value is made by Python"))
                .note(format!("{}: {}", place(why), why.message))),
            (None, None) => Ok(None),
        }
    }

    /// The function that a constructor stores as an attribute (`self.act = torch.relu`): archives do not hold it.
    fn constructed_function(&mut self, class: &str, name: &str, range: TextRange) -> Result<Option<Sugared>> {
        for class in self.program.mro(class)? {
            let Some((parsed, id)) = self.program.text_class(&class)? else { continue };
            let StmtKind::Class(syntax) = &parsed.file.stmts[id].kind else { continue };
            let stmts =
                |body: &ast::Block| body.stmts.iter().map(|&id| &parsed.file.stmts[id].kind).collect::<Vec<_>>();
            let constructors = stmts(&syntax.body).into_iter().filter_map(|stmt| match stmt {
                StmtKind::Def(def) if &*def.name.text == "__init__" => Some(&def.body),
                _ => None,
            });
            for stmt in constructors.flat_map(stmts) {
                let StmtKind::Assign { targets, value } = stmt else { continue };
                let is_it = |target: &Expr| {
                    matches!(&target.kind, ExprKind::Attribute { value, name: own }
                        if &*own.text == name && matches!(&value.kind, ExprKind::Name(object) if &**object == "self"))
                };
                let Some(path) = dotted(value).filter(|_| targets.iter().any(is_it)) else { continue };
                let mut parts = path.split('.');
                let first = parts.next().unwrap_or("").into();
                let Some(mut made) = self.meaning(&parsed, &first, range)? else { continue };
                for part in parts {
                    made = self.attribute(made, &part.into(), range)?;
                }
                if matches!(made, Sugared::Item(Item::Function(_)) | Sugared::Operator(_) | Sugared::Dispatch(_)) {
                    return Ok(Some(made));
                }
            }
        }
        Ok(None)
    }

    fn method_of_value(&mut self, value: V, name: &Arc<str>, range: TextRange) -> Result<Sugared> {
        let is_known = matches!(value.ty, Type::Interface(_) | Type::Future(_))
            || &**name == "tolist"
            || (matches!(value.ty, Type::Tensor(_)) && super::call::cast_of(name).is_some())
            || self.has_operator(&format!("aten::{name}"), &value);
        if is_known {
            return Ok(Sugared::Method(value, Arc::clone(name)));
        }
        let ty = self.repr(&value);
        Err(self.error(range, format!("'{ty}' object has no attribute or method '{name}'.")))
    }

    /// Whether an operator takes the value as its `self`, as which its methods are found.
    fn has_operator(&self, name: &str, value: &V) -> bool {
        let overloads = crate::ops::schema::overloads(name);
        if !self.is_text() {
            return !overloads.is_empty();
        }
        overloads.iter().any(|schema| {
            let formal = schema.arg_index("self").map(|at| &schema.args[at].ty);
            formal.is_some_and(|formal| {
                let mut bindings = Bindings::new();
                bind(formal, &value.ty, &mut bindings, self.program)
                    && substitute(formal, &bindings).is_some_and(|ty| self.is_subtype(&value.ty, &ty))
            })
        })
    }

    /// The error of asking an object for what its class does not have.
    pub(crate) fn no_attribute(&self, ty: &Type, name: &str, range: TextRange) -> Box<Diagnostic> {
        let why = match ty {
            Type::Class(_) => " Did you forget to initialize an attribute in __init__()?",
            _ => "",
        };
        let ty = super::mismatch::repr(ty);
        self.error(range, format!("'{ty}' object has no attribute or method '{name}'.{why}"))
    }

    /// The declared type of `object.name`, for the right side of an assignment to it.
    pub(crate) fn attribute_type(&mut self, target: &Expr) -> Result<Option<Type>> {
        let ExprKind::Attribute { value, name } = &target.kind else { return Ok(None) };
        let ExprKind::Name(object) = &value.kind else { return Ok(None) };
        let Some(Binding::Value { value, .. }) = self.scope.get(object) else { return Ok(None) };
        let Type::Class(class) = &value.ty else { return Ok(None) };
        Ok(self.program.classes.get(class).and_then(|c| c.class.attrs.get(&name.text)).cloned())
    }

    /// `object.name = value`.
    pub(crate) fn set_attribute(&mut self, object: &V, name: &Arc<str>, value: V, range: TextRange) -> Result<()> {
        let Type::Class(class) = object.ty.clone() else {
            return Err(
                self.error(range, format!("Tried to set an attribute: {name} on a non-class: {}", self.repr(object)))
            );
        };
        let is_init = self.is_text() && self.name.strip_suffix(".__init__") == Some(&*class);
        if is_init
            && let Some(declared) = self.program.classes.get_mut(&class)
            && !declared.class.attrs.contains_key(name)
        {
            if self.block != self.graph.top {
                return Err(self.error(
                    range,
                    "First assignment cannot be in a control-flow block. Initialize the field at the top level first",
                ));
            }
            // What the constructor assigns is what the class has.
            declared.class.attrs.insert(Arc::clone(name), unshaped(&value.ty));
        }
        let declared = self.program.classes.get(&class);
        let Some(ty) = declared.and_then(|c| c.class.attrs.get(name)).cloned() else {
            let setter: Arc<str> = format!("__{name}_setter").into();
            if declared.is_some_and(|c| c.methods.contains_key(&setter)) {
                self.call_method(object, &setter, vec![value], Vec::new(), range)?;
                return Ok(());
            }
            let getter: Arc<str> = format!("__{name}_getter").into();
            if declared.is_some_and(|c| c.methods.contains_key(&getter)) {
                return Err(self.error(range, format!("Tried to set read-only attribute: {name}")));
            }
            return Err(self.error(
                range,
                format!("Tried to set nonexistent attribute: {name}. Did you forget to initialize it in __init__()?"),
            ));
        };
        let value = self.convert(value, &ty, true, range).map_err(|v| {
            let (want, have) = (ty.annotation(), v.ty.annotation());
            self.error(range, format!("Wrong type for attribute assignment. Expected {want} but got {have}"))
        })?;
        let node = self.node(OpName::new("prim::SetAttr"), vec![object.id, value.id], &[], range);
        self.graph.nodes[node].attrs.push(("name", Attr::Name(Arc::clone(name))));
        Ok(())
    }
}

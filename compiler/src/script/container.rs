//! Containers of modules and parameters (`ModuleList`, `Sequential`, `ModuleDict`, `ParameterList`, `ParameterDict` and classes
//! derived from them): what is in them is known from their classes, so that loops over them unroll and subscripts are attributes.

use super::function::Emitter;
use super::names::Program;
use super::python::demangled;
use super::ssa::V;
use super::sugar::Sugared;
use crate::diag::Result;
use crate::ir::ClassKind;
use crate::syntax::ast::{Expr, ExprKind, StmtKind, TextRange};
use crate::types::{IValue, Type};
use std::sync::Arc;

/// How a container is subscripted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Keys {
    /// By position.
    Positions,
    /// By name.
    Names,
}

/// The methods of modules that go through what they hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Walk {
    /// The module itself and all below it.
    Modules,
    /// Those it holds directly.
    Children,
    /// Its own buffers.
    Buffers,
}

impl Walk {
    fn named(method: &str) -> Option<Self> {
        Some(match method {
            "modules" | "named_modules" => Self::Modules,
            "children" | "named_children" => Self::Children,
            "named_buffers" => Self::Buffers,
            _ => return None,
        })
    }
}

impl Program<'_> {
    /// How objects of this class are subscripted, if they are containers.
    fn container_keys(&mut self, class: &str, depth: usize) -> Result<Option<Keys>> {
        let plain = demangled(class);
        match plain.strip_prefix("__torch__.").unwrap_or(&plain).rsplit_once('.') {
            Some(("torch.nn.modules.container" | "torch.nn", name)) => {
                return Ok(match name {
                    "Sequential" | "ModuleList" | "ParameterList" => Some(Keys::Positions),
                    "ModuleDict" | "ParameterDict" => Some(Keys::Names),
                    _ => None,
                });
            }
            _ if depth > 20 => return Ok(None),
            _ => {}
        }
        let Some((file, stmt)) = self.find(&plain)? else { return Ok(None) };
        let StmtKind::Class(syntax) = &file.stmts[stmt].kind else { return Ok(None) };
        let Some((module, _)) = plain.rsplit_once('.') else { return Ok(None) };
        for base in &syntax.bases {
            let Some(path) = super::names::dotted(base) else { continue };
            let path = self.absolute(&file, &path);
            let base = if path.starts_with("torch.") { path } else { format!("{module}.{path}") };
            if let Some(keys) = self.container_keys(&base, depth + 1)? {
                return Ok(Some(keys));
            }
        }
        Ok(None)
    }

    fn is_module_type(&self, ty: &Type) -> bool {
        match ty {
            Type::Class(class) => self.classes.get(class).is_some_and(|c| c.class.kind == ClassKind::Module),
            Type::Interface(_) => true,
            _ => false,
        }
    }

    /// The names of the modules that a module holds, in order.
    fn module_names(&self, class: &str) -> Vec<Arc<str>> {
        let attrs = self.classes.get(class).into_iter().flat_map(|declared| &declared.class.attrs);
        attrs.filter(|(_, ty)| self.is_module_type(ty)).map(|(name, _)| Arc::clone(name)).collect()
    }

    /// The names of a container's items, in order.
    fn container_names(&self, class: &str) -> Vec<Arc<str>> {
        let Some(declared) = self.classes.get(class) else { return Vec::new() };
        let holds_parameters = demangled(class).rsplit('.').next().is_some_and(|name| name.starts_with("Parameter"));
        let is_item =
            |ty: &Type| if holds_parameters { matches!(ty, Type::Tensor(_)) } else { self.is_module_type(ty) };
        declared.class.attrs.iter().filter(|(_, ty)| is_item(ty)).map(|(name, _)| Arc::clone(name)).collect()
    }
}

impl Emitter<'_, '_> {
    fn keys_of(&mut self, object: &V) -> Result<Option<(Keys, Vec<Arc<str>>)>> {
        let Type::Class(class) = &object.ty else { return Ok(None) };
        let is_module = self.program.classes.get(class).is_some_and(|c| c.class.kind == ClassKind::Module);
        if !is_module || !self.is_text() {
            return Ok(None);
        }
        let class = Arc::clone(class);
        let keys = self.program.container_keys(&class, 0)?;
        Ok(keys.map(|keys| (keys, self.program.container_names(&class))))
    }

    fn has_own_method(&self, object: &V, name: &str) -> bool {
        matches!(&object.ty, Type::Class(class) if self.program.classes.get(class).is_some_and(|c| c.methods.contains_key(name)))
    }

    fn contained(&mut self, object: &V, name: &Arc<str>, range: TextRange) -> Result<V> {
        let made = self.value_attribute(object.clone(), name, range)?;
        self.value_of(made, range)
    }

    /// What a loop over a container goes through: its items, or the names of those that have names.
    pub(crate) fn container_items(&mut self, object: &V, range: TextRange) -> Result<Option<Vec<Sugared>>> {
        let Some((keys, names)) = self.keys_of(object)? else { return Ok(None) };
        let mut items = Vec::with_capacity(names.len());
        for name in &names {
            items.push(Sugared::Value(match keys {
                Keys::Positions => self.contained(object, name, range)?,
                Keys::Names => self.constant(IValue::Str(Arc::clone(name)), Type::Str, range),
            }));
        }
        Ok(Some(items))
    }

    /// `container[item]`; `None` if the object is no container.
    pub(crate) fn container_subscript(&mut self, object: &V, item: &Expr, range: TextRange) -> Result<Option<V>> {
        if self.has_own_method(object, "__getitem__") {
            return Ok(None);
        }
        let Some((keys, names)) = self.keys_of(object)? else { return Ok(None) };
        if let ExprKind::Slice { start, stop, step } = &item.kind {
            let mut bounds = [None; 3];
            for (bound, part) in bounds.iter_mut().zip([start, stop, step]) {
                if let Some(part) = part {
                    let value = self.expr(part)?;
                    let Some(IValue::Int(value)) = self.known(&value) else {
                        return Err(self.error(part.range, "slices of containers need integer literals"));
                    };
                    *bound = Some(value);
                }
            }
            let chosen =
                aot_runtime::strings::slice_positions(names.len(), bounds[0], bounds[1], bounds[2].unwrap_or(1));
            let Some(chosen) = chosen else { return Err(self.error(range, "slice step cannot be zero")) };
            let mut values = Vec::with_capacity(chosen.len());
            for at in chosen {
                values.push(self.contained(object, &names[at], range)?);
            }
            return Ok(Some(self.tuple(values, range)));
        }
        let key = self.expr(item)?;
        // What a variable holds is not known to PyTorch's compiler, though it may have been assigned a literal.
        let known = if matches!(item.kind, ExprKind::Name(_)) { None } else { self.known(&key) };
        let name = match (keys, known) {
            (Keys::Positions, Some(IValue::Int(index))) => {
                let n = i64::try_from(names.len()).unwrap_or(i64::MAX);
                let at = if index < 0 { index + n } else { index };
                let name = usize::try_from(at).ok().and_then(|at| names.get(at));
                let missing = || format!("Index {index} out of range of length {n}");
                Arc::clone(name.ok_or_else(|| self.error(range, missing()))?)
            }
            (Keys::Names, Some(IValue::Str(key))) => {
                let name = names.iter().find(|name| **name == key);
                Arc::clone(name.ok_or_else(|| self.error(range, format!("Key Error, {key}")))?)
            }
            (Keys::Positions, _) => {
                return Err(self.error(
                    range,
                    "Expected integer literal for index but got a variable or non-integer. ModuleList/Sequential indexing is \
                     only supported with integer literals. For example, 'i = 4; self.layers[i](x)' will fail because i is \
                     not a literal. Enumeration is supported, e.g. 'for index, v in enumerate(self): out = v(inp)'",
                ));
            }
            (Keys::Names, _) => {
                return Err(self.error(
                    range,
                    "Unable to extract string literal index. ModuleDict indexing is only supported with string \
                     literals. For example, 'i = \"a\"; self.layers[i](x)' will fail because i is not a literal. \
                     Enumeration of ModuleDict is supported, e.g. 'for k, v in self.items(): out = v(inp)'",
                ));
            }
        };
        self.contained(object, &name, range).map(Some)
    }

    /// `container.keys()`, `.values()`, `.items()`; `None` if the object has no such method of a container.
    pub(crate) fn container_method(&mut self, object: &V, name: &str, range: TextRange) -> Result<Option<Sugared>> {
        if self.has_own_method(object, name) {
            return Ok(None);
        }
        if let Some(walk) = Walk::named(name) {
            return self.walked(object, walk, name, range);
        }
        if !matches!(name, "keys" | "values" | "items") {
            return Ok(None);
        }
        let Some((Keys::Names, names)) = self.keys_of(object)? else { return Ok(None) };
        let mut row = Vec::with_capacity(names.len());
        for key in &names {
            let text = |e: &mut Self| Sugared::Value(e.constant(IValue::Str(Arc::clone(key)), Type::Str, range));
            row.push(match name {
                "keys" => text(self),
                "values" => Sugared::Value(self.contained(object, key, range)?),
                _ => {
                    let value = self.contained(object, key, range)?;
                    Sugared::Row(vec![text(self), Sugared::Value(value)])
                }
            });
        }
        Ok(Some(Sugared::Row(row)))
    }

    /// Whether the object's class lets `name` be called as a method of a container.
    pub(crate) fn is_container_method(&mut self, object: &V, name: &str) -> Result<bool> {
        Ok(Walk::named(name).is_some() && self.is_module(object)
            || matches!(name, "keys" | "values" | "items") && matches!(self.keys_of(object)?, Some((Keys::Names, _))))
    }

    fn is_module(&self, object: &V) -> bool {
        let Type::Class(class) = &object.ty else { return false };
        self.is_text() && self.program.classes.get(class).is_some_and(|c| c.class.kind == ClassKind::Module)
    }

    /// `module.modules()` and the like: what they give is known from the classes.
    fn walked(&mut self, object: &V, walk: Walk, method: &str, range: TextRange) -> Result<Option<Sugared>> {
        if !self.is_module(object) {
            return Ok(None);
        }
        let mut found: Vec<(String, V)> = Vec::new();
        match walk {
            Walk::Buffers => {
                let Type::Class(class) = &object.ty else { return Ok(None) };
                let buffers = self.program.classes.get(class).map(|c| c.class.buffers.clone()).unwrap_or_default();
                for name in buffers {
                    found.push((name.to_string(), self.contained(object, &name, range)?));
                }
            }
            Walk::Children => found = self.children(object, method, range)?,
            Walk::Modules => {
                let mut todo = vec![(String::new(), object.clone())];
                while let Some((path, module)) = todo.pop() {
                    let mut below = self.children(&module, method, range)?;
                    below
                        .iter_mut()
                        .filter(|_| !path.is_empty())
                        .for_each(|(name, _)| *name = format!("{path}.{name}"));
                    todo.extend(below.into_iter().rev());
                    found.push((path, module));
                }
            }
        }
        let is_named = method.starts_with("named_");
        let row = found.into_iter().map(|(name, value)| {
            let value = Sugared::Value(value);
            if is_named {
                let name = Sugared::Value(self.constant(IValue::Str(name.into()), Type::Str, range));
                Sugared::Row(vec![name, value])
            } else {
                value
            }
        });
        Ok(Some(Sugared::Row(row.collect())))
    }

    /// The modules that a module holds, by name.
    fn children(&mut self, object: &V, method: &str, range: TextRange) -> Result<Vec<(String, V)>> {
        if !self.is_module(object) {
            let text = format!("Could not compile {method}() because module is an interface type. Please file issue.");
            return Err(self.error(range, text));
        }
        let Type::Class(class) = &object.ty else { return Ok(Vec::new()) };
        let names = self.program.module_names(class);
        names.iter().map(|name| Ok((name.to_string(), self.contained(object, name, range)?))).collect()
    }

    /// `container[key]` where an interface is expected: one of the modules, chosen when it runs.
    pub(crate) fn contained_as(&mut self, object: &V, key: &Expr, interface: &Type, range: TextRange) -> Result<V> {
        if let (Type::Class(class), Type::Interface(wanted)) = (&object.ty, interface) {
            let (class, wanted) = (Arc::clone(class), Arc::clone(wanted));
            for name in self.program.module_names(&class) {
                let ty = self.program.classes.get(&class).and_then(|c| c.class.attrs.get(&name)).cloned();
                let Some(Type::Class(item)) = ty else { continue };
                if let Some(why) = self.interface_fault(&item, &wanted, range)? {
                    let text = format!("Attribute {name} is not of annotated type {wanted}: {why}");
                    return Err(self.error(range, text));
                }
            }
        }
        let key = self.expr(key)?;
        Ok(self.prim("prim::ModuleContainerIndex", &[object, &key], interface.clone(), range))
    }

    /// Why a class does not fulfil an interface, in PyTorch's words.
    fn interface_fault(&mut self, class: &Arc<str>, interface: &Arc<str>, range: TextRange) -> Result<Option<String>> {
        let methods = self.program.classes.get(interface).map(|c| c.class.methods.clone()).unwrap_or_default();
        for method in methods {
            let own = Type::Class(Arc::clone(class));
            let Some(result) = self.method_result(class, &method, range)? else {
                return Ok(Some(format!("Class '{class}' does not have method '{method}' but '{interface}' does.")));
            };
            let have = self.program.signature(&format!("{class}.{method}").into(), Some(&own))?;
            let want = self
                .program
                .signature(&format!("{interface}.{method}").into(), Some(&Type::Interface(Arc::clone(interface))))?;
            let (Some(have), Some(want)) = (have, want) else { continue };
            let wanted = want.result.clone().unwrap_or(Type::None);
            let takes = have.params.len() == want.params.len()
                && have.params.iter().zip(&want.params).skip(1).all(|(have, want)| self.is_subtype(&want.ty, &have.ty));
            if !takes || !self.is_subtype(&result, &wanted) {
                return Ok(Some(format!(
                    "Method on class '{class}' (1) is not compatible with interface '{interface}' (2)\n  (1) {}\n  (2) {}",
                    self.program.schema_text(&method, &have, Some(&result)),
                    self.program.schema_text(&method, &want, Some(&wanted))
                )));
            }
        }
        Ok(None)
    }

    /// `len(container)` and `key in container`; `None` if that is for the class itself or for a builtin to say.
    pub(crate) fn container_question(&mut self, magic: &str, args: &[V], range: TextRange) -> Result<Option<V>> {
        let [object, rest @ ..] = args else { return Ok(None) };
        if self.has_own_method(object, magic) {
            return Ok(None);
        }
        let Some((keys, names)) = self.keys_of(object)? else { return Ok(None) };
        match (magic, keys, rest) {
            ("__len__", ..) => Ok(Some(self.int(i64::try_from(names.len()).unwrap_or(i64::MAX), range))),
            ("__contains__", Keys::Names, [key]) => Ok(match self.known(key) {
                Some(IValue::Str(key)) => Some(self.constant(IValue::Bool(names.contains(&key)), Type::Bool, range)),
                _ => None,
            }),
            _ => Ok(None),
        }
    }
}

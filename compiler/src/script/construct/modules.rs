//! Objects of classes, modules above all: their attributes, what they register, and the methods `torch.nn.Module` gives them.

use super::call::Named;
use super::value::{Instance, Parts};
use super::{Cell, Frame, Interpreter, Ref, Value, value};
use crate::diag::Result;
use crate::script::python::Mark;
use crate::syntax::ast::{ExprKind, StmtKind, TextRange};
use crate::types::IValue;
use std::sync::Arc;

/// Those of them that change nothing.
const PURE: [&str; 14] = [
    "parameters",
    "named_parameters",
    "buffers",
    "named_buffers",
    "modules",
    "named_modules",
    "children",
    "named_children",
    "keys",
    "values",
    "items",
    "get",
    "state_dict",
    "extra_repr",
];

/// Most modules that are visited for one call.
const MAX_VISITS: usize = 1_000_000;

/// Methods that a module has without defining them.
const METHODS: [&str; 40] = [
    "register_buffer",
    "register_parameter",
    "register_module",
    "add_module",
    "parameters",
    "named_parameters",
    "buffers",
    "named_buffers",
    "modules",
    "named_modules",
    "children",
    "named_children",
    "train",
    "eval",
    "requires_grad_",
    "apply",
    "float",
    "double",
    "half",
    "bfloat16",
    "to",
    "cpu",
    "cuda",
    "zero_grad",
    "append",
    "extend",
    "insert",
    "keys",
    "values",
    "items",
    "update",
    "pop",
    "get",
    "state_dict",
    "load_state_dict",
    "register_forward_hook",
    "register_forward_pre_hook",
    "extra_repr",
    "forward",
    "__setattr__",
];

impl Interpreter<'_, '_> {
    /// Whether the value is an object of a class that derives from `torch.nn.Module`.
    pub(crate) fn is_module(&self, value: &Value) -> bool {
        matches!(value, Value::Ref(at) if matches!(&self.heap[*at], Cell::Instance(instance) if instance.is_module))
    }

    pub(crate) fn instance(&self, at: Ref) -> Option<&Instance> {
        if let Cell::Instance(instance) = &self.heap[at] { Some(instance) } else { None }
    }

    pub(crate) fn instance_mut(&mut self, at: Ref) -> Option<&mut Instance> {
        if let Cell::Instance(instance) = &mut self.heap[at] { Some(instance) } else { None }
    }

    /// `object.name`.
    pub(crate) fn instance_attribute(
        &mut self,
        frame: &mut Frame,
        at: Ref,
        name: &Arc<str>,
        range: TextRange,
    ) -> Result<Value> {
        let Some(instance) = self.instance(at) else { return Ok(Value::None) };
        let class = Arc::clone(&instance.class);
        if let Some(value) = instance.attrs.get(name) {
            return Ok(value.clone());
        }
        if let Some(parts) = &instance.parts {
            let groups = [&parts.parameters, &parts.buffers, &parts.modules];
            if let Some(value) = groups.into_iter().find_map(|group| group.get(name)) {
                return Ok(value.clone());
            }
        }
        let is_module = instance.is_module;
        let object = Value::Ref(at);
        let classes = self.program.mro(&class)?;
        if let Some((_, definition)) = self.find_method(&classes, name)? {
            if self.program.mark(&definition.file, definition.function()) == Mark::Getter {
                return self.call_named(frame, &object, name, Vec::new(), range);
            }
            return Ok(Value::Method(Arc::new(object), Arc::clone(name)));
        }
        if &**name == "__class__" {
            return Ok(Value::Class(class));
        }
        if let Some(value) = self.class_value(&class, name)? {
            return Ok(value);
        }
        if is_module && METHODS.contains(&&**name) {
            return Ok(Value::Method(Arc::new(object), Arc::clone(name)));
        }
        if is_module && matches!(&**name, "_parameters" | "_buffers" | "_modules" | "__dict__" | "device" | "dtype") {
            return Err(frame.unsupported(range, format!("'{name}' of modules outside of compiled code")));
        }
        let short = super::concrete::plain_name(&class);
        Err(frame.error(range, format!("AttributeError: '{short}' object has no attribute '{name}'")))
    }

    /// `Class.name`.
    pub(crate) fn class_attribute(
        &mut self,
        frame: &Frame,
        class: &Arc<str>,
        name: &Arc<str>,
        range: TextRange,
    ) -> Result<Value> {
        if &**name == "__name__" {
            return Ok(Value::str(super::concrete::plain_name(class)));
        }
        if let Some(members) = self.enum_members(class)?
            && let Some(member) =
                members.into_iter().find(|member| matches!(member, Value::Enum(_, own, _) if own == name))
        {
            return Ok(member);
        }
        if let Some(value) = self.class_value(class, name)? {
            return Ok(value);
        }
        let classes = self.program.mro(class)?;
        if self.find_method(&classes, name)?.is_some() || &**name == "__init__" {
            return Ok(Value::Method(Arc::new(Value::Class(Arc::clone(class))), Arc::clone(name)));
        }
        let short = super::concrete::plain_name(class);
        Err(frame.error(range, format!("AttributeError: type object '{short}' has no attribute '{name}'")))
    }

    /// The value that the body of a class, or of one it derives from, gives a name.
    pub(crate) fn class_value(&mut self, class: &Arc<str>, name: &Arc<str>) -> Result<Option<Value>> {
        for owner in self.program.mro(class)? {
            let Some((file, stmt)) = self.program.find(&owner)? else { continue };
            let (StmtKind::Class(syntax), Some(parsed)) = (&file.stmts[stmt].kind, self.program.text_of(&file)) else {
                continue;
            };
            if let Some(known) = self.globals.get(&(Arc::clone(&owner), Arc::clone(name))) {
                return Ok(Some(known.clone()));
            }
            for &id in syntax.body.stmts.iter().rev() {
                let (target, value) = match &file.stmts[id].kind {
                    StmtKind::Assign { targets, value } => (targets.first(), value),
                    StmtKind::AnnAssign { target, value: Some(value), .. } => (Some(target), value),
                    _ => continue,
                };
                if matches!(target.map(|target| &target.kind), Some(ExprKind::Name(own)) if own == name) {
                    let mut frame = self.global_frame(&parsed);
                    frame.is_global = false;
                    let value = self.eval(&mut frame, value)?;
                    self.set_global(&owner, name, value.clone());
                    return Ok(Some(value));
                }
            }
        }
        Ok(None)
    }

    /// The members of an enumeration, in order; `None` of other classes.
    pub(crate) fn enum_members(&mut self, class: &Arc<str>) -> Result<Option<Vec<Value>>> {
        if self.program.kind_of_class(class)? != crate::ir::ClassKind::Enum {
            return Ok(None);
        }
        self.program.item(class)?;
        let Some(declared) = self.program.classes.get(class) else { return Ok(None) };
        let member = |(name, value): (&Arc<str>, &IValue)| {
            let value = match value {
                IValue::Int(n) => Value::Int(*n),
                IValue::Float(x) => Value::Float(*x),
                IValue::Str(text) => Value::Str(Arc::clone(text)),
                _ => Value::None,
            };
            Value::Enum(Arc::clone(class), Arc::clone(name), Arc::new(value))
        };
        Ok(Some(declared.class.constants.iter().map(member).collect()))
    }

    /// `object.name = value`.
    pub(crate) fn set_attribute(
        &mut self,
        frame: &mut Frame,
        object: &Value,
        name: &Arc<str>,
        value: Value,
        range: TextRange,
    ) -> Result<()> {
        let Value::Ref(at) = object else {
            return Err(self.refused(frame, object, "an attribute's assignment", range));
        };
        let at = *at;
        self.touch(at);
        if self.is_tensor(object) {
            return self.set_tensor_attribute(frame, object, name, &value, range);
        }
        let Some(instance) = self.instance(at) else {
            return Err(self.refused(frame, object, "an attribute's assignment", range));
        };
        let class = Arc::clone(&instance.class);
        let is_parameter = self.tensor_cell(&value).is_some_and(|cell| cell.is_parameter);
        let is_submodule = self.is_module(&value);
        let (is_tensor, given) = (self.is_tensor(&value), value::type_name(&value, &self.heap));
        let Some(instance) = self.instance_mut(at) else { return Ok(()) };
        if instance.is_module {
            let Some(parts) = &mut instance.parts else {
                if is_parameter || is_submodule {
                    let what = if is_parameter { "parameters" } else { "module" };
                    return Err(frame
                        .error(range, format!("AttributeError: cannot assign {what} before Module.__init__() call")));
                }
                instance.attrs.insert(Arc::clone(name), value);
                return Ok(());
            };
            let refuse = |what: &str, wanted: &str| {
                frame.error(
                    range,
                    format!("TypeError: cannot assign '{given}' as {what} '{name}' ({wanted} or None expected)"),
                )
            };
            let is_none = matches!(value, Value::None);
            if is_parameter {
                instance.attrs.shift_remove(name);
                parts.buffers.shift_remove(name);
                parts.modules.shift_remove(name);
                parts.parameters.insert(Arc::clone(name), value);
                return Ok(());
            }
            if parts.parameters.contains_key(name) {
                if !is_none {
                    return Err(refuse("parameter", "torch.nn.Parameter"));
                }
                parts.parameters.insert(Arc::clone(name), value);
                return Ok(());
            }
            if is_submodule {
                instance.attrs.shift_remove(name);
                parts.buffers.shift_remove(name);
                parts.modules.insert(Arc::clone(name), value);
                return Ok(());
            }
            if parts.modules.contains_key(name) {
                if !is_none {
                    return Err(refuse("child module", "torch.nn.Module"));
                }
                parts.modules.insert(Arc::clone(name), value);
                return Ok(());
            }
            if parts.buffers.contains_key(name) {
                if !is_none && !is_tensor {
                    return Err(refuse("buffer", "torch.Tensor"));
                }
                parts.buffers.insert(Arc::clone(name), value);
                return Ok(());
            }
        }
        if let Some(setter) = self.setter(&class, name)? {
            return self.run_setter(frame, &setter, at, value, range);
        }
        if let Some(instance) = self.instance_mut(at) {
            instance.attrs.insert(Arc::clone(name), value);
        }
        Ok(())
    }

    /// `del object.name`.
    pub(crate) fn delete_attribute(
        &mut self,
        frame: &Frame,
        object: &Value,
        name: &Arc<str>,
        range: TextRange,
    ) -> Result<()> {
        let Value::Ref(at) = object else { return Err(self.refused(frame, object, "'del'", range)) };
        let Some(instance) = self.instance_mut(*at) else { return Err(self.refused(frame, object, "'del'", range)) };
        let mut was_there = instance.attrs.shift_remove(name).is_some();
        if let Some(parts) = &mut instance.parts {
            for group in [&mut parts.parameters, &mut parts.buffers, &mut parts.modules] {
                was_there |= group.shift_remove(name).is_some();
            }
        }
        if was_there { Ok(()) } else { Err(frame.error(range, format!("AttributeError: {name}"))) }
    }

    /// A method that `torch.nn.Module` or a container has.
    pub(crate) fn module_method(
        &mut self,
        frame: &mut Frame,
        at: Ref,
        name: &Arc<str>,
        args: Vec<Value>,
        named: Named,
        range: TextRange,
    ) -> Result<Value> {
        let object = Value::Ref(at);
        if !PURE.contains(&&**name) {
            self.touch(at);
        }
        let Some(instance) = self.instance(at) else { return Err(self.refused(frame, &object, "a method", range)) };
        let (is_module, container) = (instance.is_module, instance.container);
        if &**name == "__init__" {
            if is_module {
                self.init_module(at);
                if let Some(container) = container {
                    self.fill_container(frame, at, container, args, named, range)?;
                }
            }
            return Ok(Value::None);
        }
        if !is_module {
            let short = super::concrete::plain_name(&instance.class);
            return Err(frame.error(range, format!("AttributeError: '{short}' object has no attribute '{name}'")));
        }
        if let Some(container) = container
            && let Some(value) = self.container_method_call(frame, at, container, name, &args, range)?
        {
            return Ok(value);
        }
        let argument = |at: usize, key: &str| {
            args.get(at).or_else(|| named.iter().find(|(name, _)| &**name == key).map(|(_, value)| value)).cloned()
        };
        let recurse = !matches!(argument(1, "recurse").or_else(|| argument(0, "recurse")), Some(Value::Bool(false)));
        match &**name {
            "register_buffer" | "register_parameter" | "register_module" | "add_module" => {
                let key = if name.starts_with("register_m") || name.starts_with("add") { "module" } else { "tensor" };
                let item = argument(1, key).or_else(|| argument(1, "param")).unwrap_or(Value::None);
                let Some(Value::Str(field)) = argument(0, "name") else {
                    return Err(frame.unsupported(range, format!("{name} with a computed name")));
                };
                return self.register(frame, at, name, &field, item, range);
            }
            "train" | "eval" => {
                let is_on = &**name == "train" && !matches!(argument(0, "mode"), Some(Value::Bool(false)));
                for (_, module) in self.all_modules(at) {
                    if let Some(instance) = self.instance_mut(module) {
                        instance.attrs.insert("training".into(), Value::Bool(is_on));
                    }
                }
                return Ok(object);
            }
            "parameters" | "buffers" | "modules" | "children" => {
                let found = self.named_parts(at, name, recurse);
                return Ok(Value::Tuple(found.into_iter().map(|(_, value)| value).collect()));
            }
            "named_parameters" | "named_buffers" | "named_modules" | "named_children" => {
                let found = self.named_parts(at, &name["named_".len()..], recurse);
                let row = |(name, value): (String, Value)| Value::Tuple([Value::str(name), value].into());
                return Ok(Value::Tuple(found.into_iter().map(row).collect()));
            }
            "requires_grad_" => {
                let is_on = !matches!(argument(0, "requires_grad"), Some(Value::Bool(false)));
                for (_, parameter) in self.named_parts(at, "parameters", true) {
                    self.set_requires_grad(&parameter, is_on);
                }
                return Ok(object);
            }
            "apply" => {
                let Some(function) = argument(0, "fn") else { return Ok(object) };
                for module in self.children_first(at) {
                    self.call(frame, function.clone(), vec![Value::Ref(module)], Vec::new(), range)?;
                }
                return Ok(object);
            }
            "float" | "double" | "half" | "bfloat16" => {
                for group in ["parameters", "buffers"] {
                    for (_, tensor) in self.named_parts(at, group, true) {
                        self.cast_in_place(frame, &tensor, name, range)?;
                    }
                }
                return Ok(object);
            }
            "cpu" | "zero_grad" | "extra_repr" => return Ok(object),
            _ => {}
        }
        Err(frame.unsupported(range, format!("'{name}' of modules outside of compiled code")))
    }

    fn init_module(&mut self, at: Ref) {
        if let Some(instance) = self.instance_mut(at) {
            instance.attrs.insert("training".into(), Value::Bool(true));
            instance.attrs.insert("_is_full_backward_hook".into(), Value::None);
            instance.parts = Some(Parts::default());
        }
    }

    fn register(
        &mut self,
        frame: &Frame,
        at: Ref,
        method: &str,
        field: &Arc<str>,
        item: Value,
        range: TextRange,
    ) -> Result<Value> {
        let (is_tensor, is_module) = (self.is_tensor(&item), self.is_module(&item));
        let (ty, is_none) = (value::type_name(&item, &self.heap), matches!(item, Value::None));
        if let Value::Unknown(why) = &item {
            return Err(Box::new((**why).clone()));
        }
        let is_parameter = self.tensor_cell(&item).is_some_and(|cell| cell.is_parameter);
        let Some(instance) = self.instance_mut(at) else { return Ok(Value::None) };
        let is_taken = instance.attrs.contains_key(field);
        let Some(parts) = &mut instance.parts else {
            let what = method.trim_start_matches("register_").trim_start_matches("add_");
            return Err(
                frame.error(range, format!("AttributeError: cannot assign {what} before Module.__init__() call"))
            );
        };
        let groups = [
            parts.parameters.contains_key(field),
            parts.buffers.contains_key(field),
            parts.modules.contains_key(field),
        ];
        let own = match method {
            "register_parameter" => 0,
            "register_buffer" => 1,
            _ => 2,
        };
        if is_taken || groups.iter().enumerate().any(|(group, has)| group != own && *has) {
            return Err(frame.error(range, format!("KeyError: \"attribute '{field}' already exists\"")));
        }
        if field.contains('.') || field.is_empty() {
            return Err(frame.error(range, format!("KeyError: the name '{field}' can't be empty or contain \".\"")));
        }
        let (group, fits, what, wanted) = match own {
            0 => (&mut parts.parameters, is_parameter, "parameter", "torch.nn.Parameter or None required"),
            1 => (&mut parts.buffers, is_tensor, "buffer", "torch Tensor or None required"),
            _ => (&mut parts.modules, is_module, "module", "torch.nn.Module or None required"),
        };
        if !fits && !is_none {
            return Err(
                frame.error(range, format!("TypeError: cannot assign '{ty}' object to {what} '{field}' ({wanted})"))
            );
        }
        group.insert(Arc::clone(field), item);
        Ok(Value::None)
    }

    /// The module and those below it, each once, with dotted names, parents first.
    pub(crate) fn all_modules(&self, root: Ref) -> Vec<(String, Ref)> {
        let (mut found, mut todo): (Vec<(String, Ref)>, _) = (Vec::new(), vec![(String::new(), root)]);
        while let Some((path, at)) = todo.pop() {
            if found.iter().any(|(_, known)| *known == at) {
                continue;
            }
            if let Some(parts) = self.instance(at).and_then(|instance| instance.parts.as_ref()) {
                for (name, module) in parts.modules.iter().rev() {
                    if let Value::Ref(inner) = module {
                        todo.push((joined(&path, name), *inner));
                    }
                }
            }
            found.push((path, at));
        }
        found
    }

    /// The module and those below it, what a module holds before it; a module is met as often as it is held.
    fn children_first(&self, root: Ref) -> Vec<Ref> {
        let (mut found, mut todo) = (Vec::new(), vec![root]);
        // Read backwards, children first is parents first with the last child in front.
        while let Some(at) = todo.pop() {
            found.push(at);
            if found.len() > MAX_VISITS {
                break;
            }
            if let Some(parts) = self.instance(at).and_then(|instance| instance.parts.as_ref()) {
                let inner =
                    parts.modules.values().filter_map(|m| if let Value::Ref(inner) = m { Some(*inner) } else { None });
                todo.extend(inner);
            }
        }
        found.reverse();
        found
    }

    fn named_parts(&self, root: Ref, what: &str, recurse: bool) -> Vec<(String, Value)> {
        let modules = self.all_modules(root);
        match what {
            "modules" => modules.into_iter().map(|(path, at)| (path, Value::Ref(at))).collect(),
            "children" => {
                let parts = self.instance(root).and_then(|instance| instance.parts.as_ref());
                let named = parts.into_iter().flat_map(|parts| &parts.modules);
                named
                    .filter(|(_, m)| !matches!(m, Value::None))
                    .map(|(name, m)| (name.to_string(), m.clone()))
                    .collect()
            }
            _ => {
                let mut found: Vec<(String, Value)> = Vec::new();
                for (path, at) in modules.into_iter().take(if recurse { usize::MAX } else { 1 }) {
                    let Some(parts) = self.instance(at).and_then(|instance| instance.parts.as_ref()) else { continue };
                    let group = if what == "parameters" { &parts.parameters } else { &parts.buffers };
                    for (name, value) in group {
                        let is_known = found.iter().any(|(_, known)| known.is_same(value, &self.heap));
                        if !matches!(value, Value::None) && !is_known {
                            found.push((joined(&path, name), value.clone()));
                        }
                    }
                }
                found
            }
        }
    }

    fn setter(
        &mut self,
        class: &Arc<str>,
        name: &Arc<str>,
    ) -> Result<Option<(Arc<str>, crate::script::names::Definition)>> {
        for owner in self.program.mro(class)? {
            let Some((file, stmt)) = self.program.find(&owner)? else { continue };
            let StmtKind::Class(syntax) = &file.stmts[stmt].kind else { continue };
            for &id in &syntax.body.stmts {
                if let StmtKind::Def(def) = &file.stmts[id].kind
                    && def.name.text == *name
                    && self.program.mark(&file, def) == Mark::Setter
                {
                    return Ok(Some((
                        owner,
                        crate::script::names::Definition { file: Arc::clone(&file), stmt: id, declared: None },
                    )));
                }
            }
        }
        Ok(None)
    }

    fn run_setter(
        &mut self,
        frame: &mut Frame,
        (owner, definition): &(Arc<str>, crate::script::names::Definition),
        at: Ref,
        value: Value,
        range: TextRange,
    ) -> Result<()> {
        self.run(frame, definition, Some(owner), None, vec![Value::Ref(at), value], Vec::new(), range).map(|_| ())
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

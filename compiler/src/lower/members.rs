//! `container[key]` of modules: the running program may choose, so what follows is lowered for each that it can choose.

use super::facts::Outcome;
use super::walk::{Lowerer, Next};
use crate::ir::{NodeId, OpName};
use crate::loops::Stmt;
use crate::ops::value::{Value, known};
use crate::types::Type;
use std::sync::Arc;

impl<'m, 'p> Lowerer<'m, 'p> {
    /// The module of a container that a `prim::ModuleContainerIndex` takes out.
    pub(super) fn chosen_member(&mut self, act: usize, node: NodeId, next: &mut Next<'_, 'm, 'p>) -> Outcome<()> {
        let inputs = self.graph(act).nodes[node].inputs.clone();
        let (container, key) = (self.get(act, inputs[0])?, self.get(act, inputs[1])?);
        let class = self.class_of(&container)?;
        let declared = self.module.classes.get(&*class);
        let is_module = |ty: &Type| match ty {
            Type::Class(class) | Type::Interface(class) => {
                self.module.classes.get(&**class).is_some_and(crate::ir::Class::is_module)
            }
            _ => false,
        };
        let attrs = declared.into_iter().flat_map(|declared| &declared.attrs);
        let names: Vec<Arc<str>> =
            attrs.filter(|(_, ty)| is_module(ty)).map(|(name, _)| Arc::clone(name)).rev().collect();
        // Numbers are names of attributes, too.
        let key = match key {
            Value::Int(_) => crate::ops::lower(&mut self.b, &OpName::with_overload("aten::str", ""), &[key])?,
            key => key,
        };
        self.member_among(&container, &key, names, node, act, next)
    }

    /// The one of these attributes that has the key as its name; the last is tried first.
    fn member_among(
        &mut self,
        container: &Value,
        key: &Value,
        mut names: Vec<Arc<str>>,
        node: NodeId,
        act: usize,
        next: &mut Next<'_, 'm, 'p>,
    ) -> Outcome<()> {
        self.b.span.clone_from(&self.graph(act).nodes[node].span);
        let op = |name, overload| OpName::with_overload(name, overload);
        let Some(name) = names.pop() else {
            let class = self.class_of(container)?;
            let mut message = Value::text(&format!("{class} does not have a field with name '"));
            for part in [key.clone(), Value::text("'")] {
                message = crate::ops::lower(&mut self.b, &op("aten::add", "str"), &[message, part])?;
            }
            let Value::Str(message) = message else { return Err(self.wrong("a text", &message)) };
            let place = self.b.place();
            self.b.push(Stmt::Raise { class: "RuntimeError".into(), message, place });
            return Ok(());
        };
        let is_it = crate::ops::lower(&mut self.b, &op("aten::eq", "str"), &[key.clone(), Value::text(&name)])?;
        let is_it = self.truth(&is_it)?;
        match known(&is_it) {
            Some(answer) if answer.bits == 0 => self.member_among(container, key, names, node, act, next),
            Some(_) => {
                let member = self.get_attr(container, &name)?;
                next(self, vec![member])
            }
            None => {
                let mut on_true = |lw: &mut Self, next: &mut Next<'_, 'm, 'p>| {
                    let member = lw.get_attr(container, &name)?;
                    next(lw, vec![member])
                };
                let mut on_false = |lw: &mut Self, next: &mut Next<'_, 'm, 'p>| {
                    lw.member_among(container, key, names.clone(), node, act, next)
                };
                self.branch(&is_it, Some((act, node)), &mut on_true, &mut on_false, next)
            }
        }
    }
}

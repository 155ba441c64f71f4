//! What the `.code` printer asks about operators and enumerations.

use super::schema;
use crate::ir::{CodeFacts, Module, Node, SchemaFact};
use crate::types::IValue;
use std::sync::Arc;

/// The registry's schemas, and the enumerations of a program.
#[derive(Clone, Copy, Debug, Default)]
pub struct PrinterFacts<'a> {
    /// Where enumeration classes are looked up, if anywhere.
    pub module: Option<&'a Module>,
}

impl CodeFacts for PrinterFacts<'_> {
    fn schema(&self, node: &Node) -> Option<Vec<SchemaFact>> {
        let overloads = schema::overloads(&node.op.name);
        // Graphs read from text have no overloads; the first one that takes as many arguments stands in.
        let exact = overloads.iter().find(|schema| schema.name.overload == node.op.overload);
        let by_count = || overloads.iter().find(|schema| schema.args.len() == node.inputs.len());
        let found = if node.op.overload.is_empty() { by_count().or(exact) } else { exact };
        let args = found?.args.iter().map(|arg| SchemaFact {
            name: Arc::clone(&arg.name),
            default: arg.default.clone(),
            is_kw_only: arg.kw_only,
            is_out: arg.kw_only && arg.alias.as_ref().is_some_and(|alias| alias.is_write),
        });
        Some(args.collect())
    }

    fn enum_member(&self, class: &str, value: &IValue) -> Option<Arc<str>> {
        let class = self.module?.classes.get(class)?;
        let is_same = |member: &IValue| match (member, value) {
            (IValue::Int(a), IValue::Int(b)) => a == b,
            (IValue::Float(a), IValue::Float(b)) => a.to_bits() == b.to_bits(),
            (IValue::Str(a), IValue::Str(b)) => a == b,
            _ => false,
        };
        class.constants.iter().find(|(_, member)| is_same(member)).map(|(name, _)| Arc::clone(name))
    }
}

//! Arguments of operators from Python, which is more lenient than TorchScript.

use super::Value;
use super::call::Named;
use crate::ops::schema::{Schema, SchemaArg, overloads};
use crate::types::Type;
use std::sync::Arc;

/// Arguments from Python, where an int does for a float: those after the first `n_before` of an operator.
pub(super) fn floats(operator: &str, n_before: usize, args: Vec<Value>) -> Vec<Value> {
    let wanted = |at: usize| is_float(operator, |schema| schema.args.get(n_before + at));
    args.into_iter().enumerate().map(|(at, value)| as_wanted(value, || wanted(at))).collect()
}

/// The same for arguments by name.
pub(super) fn floats_by_name(operator: &str, named: Named) -> Named {
    let wanted = |name: &str| is_float(operator, |schema| schema.arg_index(name).and_then(|at| schema.args.get(at)));
    named.into_iter().map(|(name, value)| (Arc::clone(&name), as_wanted(value, || wanted(&name)))).collect()
}

fn as_wanted(value: Value, is_float: impl Fn() -> bool) -> Value {
    match value {
        Value::Int(n) if is_float() => Value::Float(n as f64),
        other => other,
    }
}

/// Whether every overload that has the argument takes a float there.
fn is_float(operator: &str, arg: impl Fn(&'static Schema) -> Option<&'static SchemaArg>) -> bool {
    let mut known = overloads(&format!("aten::{operator}")).iter().filter_map(arg).peekable();
    let is_float =
        |ty: &Type| matches!(ty, Type::Float) || matches!(ty, Type::Optional(inner) if **inner == Type::Float);
    known.peek().is_some() && known.all(|arg| is_float(&arg.ty))
}

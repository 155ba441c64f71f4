//! Every operator, once: its schema (`schemas.txt`) and its lowering to primitives.
//!
//! A lowering receives the arguments in the schema's order and gives the result; the result's element type and shape are
//! those of what it builds, so there is no second rule for them. From this one definition come the evaluator's results,
//! constant folding and both backends' code.
//!
//! To add an operator: find its family in `aten/`, write a function `fn name(b: &mut Builder<'_>, args: &Args<'_>) ->
//! Result<Value>` and list it in the family's `DEFS`. In-place twins (`aten::relu_`) need nothing: they are the functional
//! operator followed by a write through the first argument.

pub mod args;
pub mod aten;
pub mod builder;
pub mod facts;
pub mod prim;
pub mod primitives;
pub mod promote;
pub mod schema;
pub mod value;
pub mod views;

use crate::diag::Result;
use crate::ir::OpName;
use args::Args;
use builder::Builder;
use std::collections::HashMap;
use std::sync::LazyLock;
use value::Value;

/// Builds the program for one call; several results come as a tuple.
pub type Lowering = fn(&mut Builder<'_>, &Args<'_>) -> Result<Value>;

/// The definition of an operator.
#[derive(Clone, Copy, Debug)]
pub struct OpDef {
    /// `ns::name` for all overloads, or `ns::name.overload` for one.
    pub name: &'static str,
    /// How it is lowered.
    pub lower: Lowering,
}

static REGISTRY: LazyLock<HashMap<&'static str, &'static OpDef>> = LazyLock::new(|| {
    let families = aten::FAMILIES.iter().copied().chain([prim::DEFS]);
    families.flatten().map(|def| (def.name, def)).collect()
});

/// The definition of an operator: of this overload, else of its name.
pub fn lookup(op: &OpName) -> Option<&'static OpDef> {
    REGISTRY.get(op.to_string().as_str()).or_else(|| REGISTRY.get(&*op.name)).copied()
}

/// Every defined name, sorted: what the table of supported operators lists.
pub fn defined() -> Vec<&'static str> {
    let mut names: Vec<_> = REGISTRY.keys().copied().collect();
    names.sort_unstable();
    names
}

/// Lowers a call. An in-place operator without a definition of its own (`aten::add_`) is the functional one followed by a
/// write through its first argument.
pub fn lower(b: &mut Builder<'_>, op: &OpName, values: &[Value]) -> Result<Value> {
    let short = op.name.split("::").last().expect("a split has a last part");
    short.clone_into(&mut b.op_name);
    let args = Args { schema: schema::schema(op), values };
    if let Some(def) = lookup(op) {
        return (def.lower)(b, &args);
    }
    let functional = op.name.strip_suffix('_').filter(|name| !name.ends_with('_'));
    let functional = functional.map(|name| OpName::with_overload(name, &op.overload));
    let Some(def) = functional.as_ref().and_then(lookup) else {
        return Err(match schema::overloads(&op.name) {
            [] => b.user(format!("Unknown builtin op: {}", op.name)),
            _ => b.unsupported(format!("operator {op}")),
        });
    };
    let target = args.tensor(0)?;
    let result = (def.lower)(b, &args)?;
    let Value::Tensor(result) = result else {
        return Err(b.unsupported(format!("operator {op}")));
    };
    write_result(b, &target, &result)?;
    Ok(Value::Tensor(target))
}

/// Writes a computed tensor into the memory of `target`, which must be able to hold it.
pub fn write_result(b: &mut Builder<'_>, target: &value::Tensor, result: &value::Tensor) -> Result<()> {
    let (from, to) = (result.dtype.category(), target.dtype.category());
    if from > to {
        return Err(
            b.user(format!("result type {} can't be cast to the desired output type {}", result.dtype, target.dtype))
        );
    }
    let value = views::expand_to(b, result, &target.dims.clone()).map_err(|_| {
        b.user(format!(
            "output with shape {} doesn't match the broadcast shape {}",
            views::shape_text(&target.dims),
            views::shape_text(&result.dims)
        ))
    })?;
    let dtype = target.dtype;
    b.write(target, |k, i| {
        let element = k.load(&value, i);
        k.cast(dtype, element)
    });
    Ok(())
}

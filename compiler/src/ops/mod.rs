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
pub mod effects;
pub mod facts;
pub mod instances;
pub mod message;
pub mod one_of;
pub mod prim;
pub mod primitives;
pub mod promote;
pub mod reshaping;
pub mod run_time;
pub mod schema;
pub mod shared;
pub mod value;
pub mod views;
pub mod vision;

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

static REGISTRY: LazyLock<HashMap<&'static str, &'static OpDef>> =
    LazyLock::new(|| families().flat_map(|(_, defs)| defs).map(|def| (def.name, def)).collect());

/// Every family of operators: its file below this folder, without `.rs`, and its definitions. A file may hold several.
pub fn families() -> impl Iterator<Item = (String, &'static [OpDef])> {
    let within = |folder: &'static str, families: &'static [(&str, &'static [OpDef])]| {
        families.iter().map(move |(file, defs)| (format!("{folder}/{file}"), *defs))
    };
    within("aten", aten::FAMILIES).chain(within("prim", prim::FAMILIES)).chain([("vision".to_owned(), vision::DEFS)])
}

/// The definition of an operator: of this overload, else of its name.
pub fn lookup(op: &OpName) -> Option<&'static OpDef> {
    REGISTRY.get(op.to_string().as_str()).or_else(|| REGISTRY.get(&*op.name)).copied()
}

/// Whether a call can be lowered: the operator is defined, or it is the in-place form of one that is.
pub fn is_defined(op: &OpName) -> bool {
    let functional = op.name.strip_suffix('_').filter(|name| !name.ends_with('_'));
    lookup(op).is_some()
        || reshaping::is_defined(op)
        || functional.is_some_and(|name| lookup(&OpName::with_overload(name, &op.overload)).is_some())
        || viewed(op).is_some()
}

/// The operator whose result this one gives a copy of: `aten::expand` for `aten::expand_copy`.
fn viewed(op: &OpName) -> Option<OpName> {
    let view = OpName::with_overload(op.name.strip_suffix("_copy")?, &op.overload);
    lookup(&view).is_some().then_some(view)
}

/// Copies of a tensor or of a list of them.
fn copied(b: &mut Builder<'_>, value: Value) -> Result<Value> {
    match value {
        Value::Tensor(x) => Ok(Value::Tensor(b.copy(&x))),
        Value::Cell(_) => {
            let items = b.items(&value)?;
            let copies = items.into_iter().map(|item| copied(b, item)).collect::<Result<_>>()?;
            Ok(b.new_list(copies))
        }
        other => Ok(other),
    }
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
    let result = lower_unchecked(b, op, values)?;
    match b.negative.take() {
        Some(dims) => {
            let sizes: Vec<_> = dims.iter().map(|dim| dim.known().map_or("?".to_owned(), |n| n.to_string())).collect();
            let least = dims.iter().filter_map(|dim| dim.known()).min().unwrap_or(-1);
            let message = format!("Trying to create tensor with negative dimension {least}: [{}]", sizes.join(", "));
            Err(b.user(message))
        }
        None => Ok(result),
    }
}

fn lower_unchecked(b: &mut Builder<'_>, op: &OpName, values: &[Value]) -> Result<Value> {
    let short = op.name.split("::").last().expect("a split has a last part");
    short.clone_into(&mut b.op_name);
    if let Some(result) = aten::quantized::lower_plain(b, op, values)? {
        return Ok(result);
    }
    let args = Args { schema: schema::schema(op), values };
    // A definition for all overloads does not speak for those that write to given results.
    let is_defined = REGISTRY.contains_key(op.to_string().as_str());
    if !is_defined && let Some(result) = lower_out(b, op, &args)? {
        return Ok(result);
    }
    if let Some(def) = aten::complex::form(&op.name, values).or_else(|| lookup(op)) {
        return (def.lower)(b, &args);
    }
    if let Some(result) = reshaping::lower(b, op, &args)? {
        return Ok(result);
    }
    if let Some(view) = viewed(op) {
        let result = lower(b, &view, values)?;
        return copied(b, result);
    }
    let functional = op.name.strip_suffix('_').filter(|name| !name.ends_with('_'));
    let functional = functional.map(|name| OpName::with_overload(name, &op.overload));
    let form = functional.as_ref().and_then(|name| aten::complex::form(&name.name, values));
    let Some(def) = form.or_else(|| functional.as_ref().and_then(lookup)) else {
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
    // An operator that had nothing to do gave its argument back.
    if result != target {
        write_result(b, &target, &result)?;
    }
    Ok(Value::Tensor(target))
}

/// An operator that writes to arguments it is given for its results (`full.out`) is the functional overload with the same
/// other arguments, followed by writes. `None` if this is not such an operator.
fn lower_out(b: &mut Builder<'_>, op: &OpName, args: &Args<'_>) -> Result<Option<Value>> {
    let Some(schema) = args.schema.filter(|s| s.args.iter().any(|a| a.kw_only && is_written(a))) else {
        return Ok(None);
    };
    let is_out = |i: usize| schema.args[i].kw_only && is_written(&schema.args[i]);
    let kept: Vec<usize> = (0..schema.args.len()).filter(|i| !is_out(*i)).collect();
    let same = |other: &&schema::Schema| {
        other.args.len() == kept.len()
            && kept.iter().zip(&other.args).all(|(i, a)| schema.args[*i].name == a.name && schema.args[*i].ty == a.ty)
    };
    // Options of the functional overload (dtype, layout, device) that the other lacks take their defaults.
    let longer = |other: &&schema::Schema| {
        other.args.len() > kept.len()
            && other.args.iter().all(|a| !is_written(a))
            && kept.iter().zip(&other.args).all(|(i, a)| schema.args[*i].name == a.name && schema.args[*i].ty == a.ty)
            && other.args[kept.len()..].iter().all(|a| matches!(a.default, Some(crate::types::IValue::None)))
    };
    let overloads = schema::overloads(&op.name);
    let functional = overloads.iter().find(same).or_else(|| overloads.iter().find(longer));
    let Some(functional) = functional else { return Ok(None) };
    let mut values: Vec<Value> = kept.iter().map(|i| args.values[*i].clone()).collect();
    values.resize(functional.args.len(), Value::None);
    // Numbers are computed in the type of the tensor that takes them.
    if let (Some(dtype), Some(out)) =
        (functional.args.iter().position(|a| &*a.name == "dtype"), (0..schema.args.len()).find(|i| is_out(*i)))
        && dtype >= kept.len()
    {
        values[dtype] = Value::int(args.tensor(out)?.dtype.code());
    }
    let result = lower(b, &functional.name, &values)?;
    let results = match result {
        Value::Tuple(items, _) => items,
        one => vec![one],
    };
    let mut targets = Vec::new();
    for (i, value) in (0..schema.args.len()).filter(|i| is_out(*i)).zip(results) {
        let target = args.tensor(i)?;
        let Value::Tensor(result) = value else { return Ok(None) };
        let target = reshaping::write_out(b, &target, &result)?;
        targets.push(Value::Tensor(target));
    }
    Ok(Some(if targets.len() == 1 { targets.remove(0) } else { Value::Tuple(targets, None) }))
}

fn is_written(arg: &schema::SchemaArg) -> bool {
    arg.alias.as_ref().is_some_and(|a| a.is_write)
}

/// A computed tensor as the elements of `target`, which must be able to hold them.
fn as_written(b: &mut Builder<'_>, target: &value::Tensor, result: &value::Tensor) -> Result<value::Tensor> {
    let (from, to) = (result.dtype.category(), target.dtype.category());
    if from > to {
        return Err(
            b.user(format!("result type {} can't be cast to the desired output type {}", result.dtype, target.dtype))
        );
    }
    // Kernels convert numbers that have no parts.
    let has_parts = result.dtype.is_complex() || target.dtype.is_complex();
    Ok(if has_parts { aten::copy::cast(b, result, target.dtype) } else { result.clone() })
}

/// Writes a computed tensor into the memory of `target`, which must be able to hold it.
pub fn write_result(b: &mut Builder<'_>, target: &value::Tensor, result: &value::Tensor) -> Result<()> {
    let result = as_written(b, target, result)?;
    let value = views::broadcast_into(b, &result, &target.dims.clone()).map_err(|_| {
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

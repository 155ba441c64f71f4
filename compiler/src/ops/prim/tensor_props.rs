//! What can be asked of a tensor or the run-time environment without looking at elements.

use crate::diag::Result;
use crate::loops::{BinaryOp, Const, Operand};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::promote::{as_tensor, result_type};
use crate::ops::value::{Tensor, Value, known};
use crate::ops::views;
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "prim::dtype", lower: dtype },
    OpDef { name: "prim::device", lower: |_, _| Ok(Value::Device("cpu".into())) },
    OpDef { name: "prim::layout", lower: |_, _| Ok(Value::int(0)) },
    OpDef { name: "prim::is_cpu", lower: yes },
    OpDef { name: "prim::is_cuda", lower: no },
    OpDef { name: "prim::is_xpu", lower: no },
    OpDef { name: "prim::is_ipu", lower: no },
    OpDef { name: "prim::is_xla", lower: no },
    OpDef { name: "prim::is_mtia", lower: no },
    OpDef { name: "prim::is_maia", lower: no },
    OpDef { name: "prim::is_vulkan", lower: no },
    OpDef { name: "prim::is_sparse", lower: no },
    OpDef { name: "prim::is_sparse_csr", lower: no },
    OpDef { name: "prim::is_mkldnn", lower: no },
    OpDef { name: "prim::is_mps", lower: no },
    OpDef { name: "prim::is_meta", lower: no },
    OpDef { name: "prim::is_nested", lower: no },
    OpDef { name: "prim::is_quantized", lower: is_quantized },
    OpDef { name: "prim::requires_grad", lower: no },
    OpDef { name: "prim::grad", lower: none },
    OpDef { name: "prim::name", lower: none },
    OpDef { name: "prim::index", lower: none },
    OpDef { name: "prim::itemsize", lower: itemsize },
    OpDef { name: "aten::element_size", lower: itemsize },
    OpDef { name: "prim::nbytes", lower: nbytes },
    OpDef { name: "prim::type", lower: device_type },
    OpDef { name: "prim::tolist", lower: tolist },
    OpDef { name: "aten::device", lower: device },
    OpDef { name: "aten::device.with_index", lower: device },
    OpDef { name: "aten::eq.device", lower: same_device },
    OpDef { name: "aten::ne.device", lower: other_device },
    OpDef { name: "aten::get_device", lower: |_, _| Ok(Value::int(-1)) },
    OpDef { name: "aten::is_floating_point", lower: |_, a| Ok(Value::bool(a.tensor(0)?.dtype.is_floating_point())) },
    OpDef { name: "aten::is_complex", lower: |_, a| Ok(Value::bool(a.tensor(0)?.dtype.is_complex())) },
    OpDef { name: "aten::is_signed", lower: |_, a| Ok(Value::bool(a.tensor(0)?.dtype.is_signed())) },
    OpDef { name: "aten::is_same_size", lower: is_same_size },
    OpDef { name: "aten::is_leaf", lower: yes },
    OpDef { name: "aten::is_conj", lower: no },
    OpDef { name: "aten::is_neg", lower: no },
    OpDef { name: "aten::is_inference", lower: no },
    OpDef { name: "aten::is_pinned", lower: no },
    OpDef { name: "aten::is_nonzero", lower: is_nonzero },
    OpDef { name: "aten::len.Tensor", lower: len },
    OpDef { name: "aten::result_type", lower: result_type_of },
    OpDef { name: "aten::promote_types", lower: promote_types },
    OpDef { name: "aten::is_grad_enabled", lower: no },
    OpDef { name: "aten::is_autocast_enabled", lower: no },
    OpDef { name: "aten::is_autocast_cpu_enabled", lower: no },
    OpDef { name: "aten::is_scripting", lower: yes },
    OpDef { name: "aten::set_grad_enabled", lower: none },
    OpDef { name: "aten::_autocast_to_full_precision", lower: |_, a| Ok(a.value(0)?.clone()) },
    OpDef { name: "aten::_autocast_to_reduced_precision", lower: |_, a| Ok(a.value(0)?.clone()) },
];

/// Tensors above this many elements do not become lists: each element would be a variable of its own.
const MAX_LIST_ELEMENTS: i64 = 4096;

#[allow(clippy::unnecessary_wraps, reason = "the signature of a lowering")]
fn yes(_: &mut Builder<'_>, _: &Args<'_>) -> Result<Value> {
    Ok(Value::bool(true))
}

#[allow(clippy::unnecessary_wraps, reason = "the signature of a lowering")]
fn no(_: &mut Builder<'_>, _: &Args<'_>) -> Result<Value> {
    Ok(Value::bool(false))
}

#[allow(clippy::unnecessary_wraps, reason = "the signature of a lowering")]
fn none(_: &mut Builder<'_>, _: &Args<'_>) -> Result<Value> {
    Ok(Value::None)
}

fn dtype(_: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    Ok(Value::int(args.tensor(0)?.dtype.code()))
}

fn is_quantized(_: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    Ok(Value::bool(matches!(args.tensor(0)?.dtype, DType::QI8 | DType::QU8 | DType::QI32)))
}

fn bytes(x: &Tensor) -> i64 {
    i64::try_from(x.dtype.size_bytes()).unwrap_or(i64::MAX)
}

fn itemsize(_: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    Ok(Value::int(bytes(&args.tensor(0)?)))
}

fn nbytes(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let count = b.product(&x.dims);
    Ok(Value::Int(b.binary(BinaryOp::Mul, count, Operand::Const(Const::int(bytes(&x))))))
}

fn device_type(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    match args.value(0)? {
        Value::Device(name) => Ok(Value::text(name.split(':').next().unwrap_or(name))),
        other => Err(b.user(format!("expected a Device, found {}", other.kind()))),
    }
}

fn device(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let name = args.text(b, 0)?;
    Ok(Value::Device(match args.values.get(1) {
        Some(Value::Int(_)) => format!("{name}:{}", args.known_int(b, 1)?).into(),
        _ => name,
    }))
}

fn same_device(_: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    Ok(Value::bool(args.value(0)? == args.value(1)?))
}

fn other_device(_: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    Ok(Value::bool(args.value(0)? != args.value(1)?))
}

fn is_same_size(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = (args.tensor(0)?, args.tensor(1)?);
    let mut same = Operand::Const(Const::bool(x.rank() == y.rank()));
    for (p, q) in x.dims.iter().zip(&y.dims) {
        let equal = b.binary(BinaryOp::Eq, (*p).into(), (*q).into());
        same = b.binary(BinaryOp::And, same, equal);
    }
    Ok(Value::Bool(same))
}

fn is_nonzero(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    if x.known_dims().is_some_and(|d| d.iter().product::<i64>() != 1) {
        return Err(b.user("Boolean value of Tensor with more than one value is ambiguous"));
    }
    let item = b.item(&x);
    Ok(Value::Bool(b.cast(DType::Bool, item)))
}

fn len(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    match args.tensor(0)?.dims.first() {
        Some(dim) => Ok(Value::Int((*dim).into())),
        None => Err(b.user("len() of a 0-d tensor")),
    }
}

fn result_type_of(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = (as_tensor(b, args.value(0)?)?, as_tensor(b, args.value(1)?)?);
    Ok(Value::int(result_type(&[&x, &y]).code()))
}

fn promote_types(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    match (args.dtype(b, 0)?, args.dtype(b, 1)?) {
        (Some(x), Some(y)) => Ok(Value::int(x.promote(y).code())),
        _ => Err(b.user("promote_types expects two element types")),
    }
}

/// Nested lists of a tensor's elements.
fn tolist(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dims = x.known_dims().filter(|d| d.iter().product::<i64>() <= MAX_LIST_ELEMENTS);
    if dims.is_none() {
        return Err(b.unsupported("tolist of a large tensor or one whose shape is known only when running"));
    }
    Ok(nested(b, &x))
}

fn nested(b: &mut Builder<'_>, x: &Tensor) -> Value {
    let Some(n) = x.dims.first().and_then(|d| d.known()) else {
        let item = b.item(x);
        return super::scalar::number_value(b, item);
    };
    let mut items = Vec::new();
    for i in 0..n {
        let index = Operand::Const(Const::int(i));
        debug_assert!(known(&index).is_some());
        let part = views::select(b, x, 0, index);
        items.push(nested(b, &part));
    }
    b.new_list(items)
}

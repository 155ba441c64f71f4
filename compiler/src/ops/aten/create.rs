//! New tensors: constants, ranges, masks of triangles. Layouts, devices and pinning are accepted and change nothing.

use super::copy::cast;
use super::pointwise::unary;
use crate::diag::Result;
use crate::loops::{Arg, BinaryOp, Const, Dim, Operand, ReduceOp, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::message::Message;
use crate::ops::primitives::KernelBuilder;
use crate::ops::promote::{as_tensor, compute_type};
use crate::ops::run_time::var_arg;
use crate::ops::value::{Cell, ItemFacts, RunTimeList, Tensor, TensorFacts, Value, int, known, known_int};
use crate::ops::views;
use crate::types::{DType, Type};

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::zeros", lower: zeros },
    OpDef { name: "aten::ones", lower: |b, a| filled(b, a, 1) },
    OpDef { name: "aten::empty", lower: |b, a| filled(b, a, 0) },
    OpDef { name: "aten::empty_strided", lower: |b, a| filled(b, a, 0) },
    OpDef { name: "aten::full", lower: full },
    OpDef { name: "aten::zeros_like", lower: |b, a| filled_like(b, a, 0) },
    OpDef { name: "aten::ones_like", lower: |b, a| filled_like(b, a, 1) },
    OpDef { name: "aten::empty_like", lower: |b, a| filled_like(b, a, 0) },
    OpDef { name: "aten::full_like", lower: full_like },
    OpDef { name: "aten::new_zeros", lower: |b, a| new_filled(b, a, 0) },
    OpDef { name: "aten::new_ones", lower: |b, a| new_filled(b, a, 1) },
    OpDef { name: "aten::new_empty", lower: |b, a| new_filled(b, a, 0) },
    OpDef { name: "aten::new_full", lower: new_full },
    OpDef { name: "aten::scalar_tensor", lower: scalar_tensor },
    OpDef { name: "aten::tensor", lower: tensor },
    OpDef { name: "aten::as_tensor", lower: tensor },
    OpDef { name: "aten::arange", lower: arange },
    OpDef { name: "aten::range", lower: range },
    OpDef { name: "aten::linspace", lower: linspace },
    OpDef { name: "aten::logspace", lower: logspace },
    OpDef { name: "aten::eye", lower: eye },
    OpDef { name: "aten::tril", lower: |b, a| triangle(b, a, BinaryOp::Le) },
    OpDef { name: "aten::triu", lower: |b, a| triangle(b, a, BinaryOp::Ge) },
    OpDef { name: "aten::tril_indices", lower: |b, a| triangle_indices(b, a, true) },
    OpDef { name: "aten::triu_indices", lower: |b, a| triangle_indices(b, a, false) },
    OpDef { name: "aten::one_hot", lower: one_hot },
    OpDef { name: "aten::fill_", lower: fill_ },
    OpDef { name: "aten::fill", lower: fill },
    OpDef { name: "aten::zero_", lower: zero_ },
    OpDef { name: "aten::_no_grad_zero_", lower: zero_ },
    OpDef { name: "aten::_no_grad_fill_", lower: fill_ },
    OpDef { name: "aten::hann_window", lower: |b, a| window(b, a, &[0.5, -0.5]) },
    OpDef { name: "aten::hamming_window", lower: |b, a| window(b, a, &[0.54, -0.46]) },
    OpDef { name: "aten::blackman_window", lower: |b, a| window(b, a, &[0.42, -0.5, 0.08]) },
];

/// The element type the caller names, else `default`.
fn dtype_or(b: &Builder<'_>, args: &Args<'_>, default: DType) -> Result<DType> {
    match args.position("dtype").filter(|at| *at < args.values.len()) {
        Some(at) => Ok(args.dtype(b, at)?.unwrap_or(default)),
        None => Ok(default),
    }
}

/// The element type that a number alone gives a tensor.
fn number_type(b: &Builder<'_>, number: &Operand) -> DType {
    match b.operand_type(number).dtype() {
        Some(DType::Bool) => DType::Bool,
        Some(DType::F64) => DType::F32,
        _ => DType::I64,
    }
}

fn zeros(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    for size in args.int_list(b, 0)? {
        let is_fine = b.binary(BinaryOp::Ge, size, int(0));
        b.require(is_fine, "zeros: Dimension size must be non-negative.")?;
    }
    filled(b, args, 0)
}

fn filled(b: &mut Builder<'_>, args: &Args<'_>, value: i64) -> Result<Value> {
    let dims = args.shape(b, 0)?;
    let dtype = dtype_or(b, args, DType::F32)?;
    Ok(Value::Tensor(b.splat(int(value), dtype, &dims)))
}

fn full(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let dims = args.shape(b, 0)?;
    if let Value::Complex(re, im) = args.value(1)? {
        let dtype = dtype_or(b, args, DType::C64)?;
        return Ok(Value::Tensor(super::complex::filled(b, [re.clone(), im.clone()], dtype, &dims)));
    }
    let value = args.number(b, 1)?;
    let dtype = dtype_or(b, args, number_type(b, &value))?;
    Ok(Value::Tensor(b.splat(value, dtype, &dims)))
}

fn filled_like(b: &mut Builder<'_>, args: &Args<'_>, value: i64) -> Result<Value> {
    let x = args.tensor(0)?;
    let dtype = dtype_or(b, args, x.dtype)?;
    Ok(Value::Tensor(b.splat(int(value), dtype, &x.dims)))
}

fn full_like(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dtype = dtype_or(b, args, x.dtype)?;
    if let (Value::Complex(re, im), true) = (args.value(1)?, dtype.is_complex()) {
        return Ok(Value::Tensor(super::complex::filled(b, [re.clone(), im.clone()], dtype, &x.dims)));
    }
    let value = args.number(b, 1)?;
    Ok(Value::Tensor(b.splat(value, dtype, &x.dims)))
}

fn new_filled(b: &mut Builder<'_>, args: &Args<'_>, value: i64) -> Result<Value> {
    let x = args.tensor(0)?;
    let dims = args.shape(b, 1)?;
    let dtype = dtype_or(b, args, x.dtype)?;
    Ok(Value::Tensor(b.splat(int(value), dtype, &dims)))
}

fn new_full(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dims = args.shape(b, 1)?;
    let value = args.number(b, 2)?;
    let dtype = dtype_or(b, args, x.dtype)?;
    Ok(Value::Tensor(b.splat(value, dtype, &dims)))
}

fn scalar_tensor(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let value = args.number(b, 0)?;
    // Without a type this gives the default type, whatever the number.
    let dtype = dtype_or(b, args, DType::F32)?;
    Ok(Value::Tensor(b.splat(value, dtype, &[])))
}

/// The lengths of nested lists at each depth: those of the first ones.
fn lengths(b: &Builder<'_>, value: &Value) -> Result<Vec<i64>> {
    let mut lengths = Vec::new();
    let mut first = Some(value.clone());
    while let Some(list @ (Value::Cell(_) | Value::Tuple(..))) = first {
        let items = b.items(&list)?;
        lengths.push(i64::try_from(items.len()).unwrap_or(i64::MAX));
        first = items.into_iter().next();
    }
    Ok(lengths)
}

/// Appends the numbers of nested lists, which must have these lengths from this depth on.
fn nested(b: &mut Builder<'_>, value: &Value, lengths: &[i64], dim: usize, out: &mut Vec<Operand>) -> Result<()> {
    match value {
        Value::Int(o) | Value::Float(o) | Value::Bool(o) => out.push(o.clone()),
        Value::Tensor(t) => {
            let item = b.item(t);
            out.push(item);
        }
        Value::Cell(_) | Value::Tuple(..) => {
            let items = b.items(value)?;
            let (want, found) = (lengths.get(dim).copied().unwrap_or(0), items.len());
            if i64::try_from(found) != Ok(want) {
                return Err(b.user(format!("Expected sequence of length {want} at dim {dim} (got {found})")));
            }
            for item in &items {
                nested(b, item, lengths, dim + 1, out)?;
            }
        }
        other => return Err(b.user(format!("Input must be of ints, floats, or bools, got {}", other.kind()))),
    }
    Ok(())
}

/// Whether a list, or one that it holds, is known to the running program only.
fn holds_run_time_list(b: &Builder<'_>, value: &Value) -> bool {
    match value {
        Value::Cell(cell) => match &b.heap.cells[*cell] {
            Cell::RunTimeList(_) => true,
            Cell::List(items) => items.iter().any(|item| holds_run_time_list(b, item)),
            Cell::Dict(_) | Cell::RunTimeDict(_) | Cell::Object(_) | Cell::RunTimeObject(_) | Cell::Future(_) => false,
        },
        _ => false,
    }
}

/// The element type that a list of nothing is made into.
fn type_of_items(ty: &Type) -> DType {
    match ty {
        Type::List(item) => type_of_items(item),
        Type::Int => DType::I64,
        Type::Bool => DType::Bool,
        Type::Complex => DType::C64,
        _ => DType::F32,
    }
}

/// A tensor of a number or of nested lists of numbers.
fn tensor(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    if let Value::Tensor(t) = args.value(0)? {
        let dtype = dtype_or(b, args, t.dtype)?;
        return Ok(Value::Tensor(if b.op_name == "tensor" && dtype == t.dtype {
            b.copy(t)
        } else {
            cast(b, t, dtype)
        }));
    }
    if let Value::Cell(cell) = *args.value(0)?
        && holds_run_time_list(b, args.value(0)?)
    {
        let list = b.to_run_time_list(cell)?;
        return of_run_time_list(b, args, &list);
    }
    let mut numbers = Vec::new();
    let value = args.value(0)?.clone();
    let dims = lengths(b, &value)?;
    // Where the first list is empty the others are not looked at.
    if !dims.contains(&0) {
        nested(b, &value, &dims, 0, &mut numbers)?;
    }
    let natural = match numbers.first() {
        Some(number) => number_type(b, number),
        None => b.argument_type(0).map_or(DType::F32, type_of_items),
    };
    let wanted = dtype_or(b, args, natural)?;
    let dims: Vec<Dim> = dims.into_iter().map(Dim::Const).collect();
    let made = of_numbers(b, &numbers, natural, wanted, &dims);
    Ok(Value::Tensor(made))
}

/// A tensor of the numbers of nested lists that only the running program knows.
fn of_run_time_list(b: &mut Builder<'_>, args: &Args<'_>, list: &RunTimeList) -> Result<Value> {
    let mut rank = 1;
    let mut facts = b.items_at(0, &list.item);
    while let ItemFacts::List(inner) = facts {
        rank += 1;
        facts = *inner;
    }
    let (kind, dtype, natural) = match facts {
        ItemFacts::Int => (0, DType::I64, DType::I64),
        ItemFacts::Float => (1, DType::F64, DType::F32),
        ItemFacts::Bool => (2, DType::Bool, DType::Bool),
        _ => return Err(b.unsupported(format!("{} of a run-time list of other than numbers", b.op_name))),
    };
    let var = b.call_for_object("list_tensor", vec![var_arg(list.var), Arg::Scalar(int(kind))]);
    let made = b.tensor_in(var, &TensorFacts::row_major(dtype, vec![None; rank]));
    let made = cast(b, &made, natural);
    let wanted = dtype_or(b, args, natural)?;
    Ok(Value::Tensor(cast(b, &made, wanted)))
}

/// A tensor of these numbers. PyTorch gives it the type that the numbers alone would have, and then the wanted one, so floats
/// are rounded to single precision on the way.
fn of_numbers(b: &mut Builder<'_>, numbers: &[Operand], natural: DType, wanted: DType, dims: &[Dim]) -> Tensor {
    let dtype = if natural == DType::F32 { natural } else { wanted };
    if dtype != wanted {
        let made = of_numbers(b, numbers, natural, natural, dims);
        return cast(b, &made, wanted);
    }
    if let [first, rest @ ..] = numbers
        && rest.iter().all(|n| n == first)
    {
        return b.splat(first.clone(), dtype, dims);
    }
    let count = Dim::Const(i64::try_from(numbers.len()).unwrap_or(i64::MAX));
    let line = elements(b, dtype, count, numbers);
    views::reshape(b, &line, dims)
}

/// A tensor of one dimension with these elements.
fn elements(b: &mut Builder<'_>, dtype: DType, count: Dim, numbers: &[Operand]) -> Tensor {
    if let Some(data) = constant_data(dtype, numbers) {
        let buffer = b.weight(&std::sync::Arc::new(data), "tensor");
        return b.tensor_of(buffer);
    }
    let buffer = b.new_buffer(dtype, &[count]);
    for (i, number) in (0..).zip(numbers) {
        let mut k = KernelBuilder::new(b);
        let at = k.int(i);
        let value = k.number(number, dtype);
        k.store(buffer, &[at], value);
        k.finish();
    }
    b.tensor_of(buffer)
}

/// Known numbers as constant data, for the types that need no rounding of their own.
#[allow(clippy::cast_possible_truncation, reason = "elements are rounded and wrapped to their type")]
fn constant_data(dtype: DType, numbers: &[Operand]) -> Option<crate::types::TensorData> {
    let mut bytes = Vec::new();
    for number in numbers {
        let c = known(number)?;
        match dtype {
            DType::F32 => bytes.extend((c.as_f64() as f32).to_ne_bytes()),
            DType::F64 => bytes.extend(c.as_f64().to_ne_bytes()),
            DType::I64 => bytes.extend(c.as_i64().to_ne_bytes()),
            DType::I32 => bytes.extend((c.as_i64() as i32).to_ne_bytes()),
            DType::Bool => bytes.push(u8::from(c.as_f64() != 0.0)),
            _ => return None,
        }
    }
    let count = i64::try_from(numbers.len()).ok()?;
    crate::types::TensorData::from_bytes(dtype, &[count], bytes).ok()
}

/// `start, start + step, ..` below `end`; integers unless a bound is a float.
fn arange(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let has_start = args.position("start").is_some();
    let (start, end) = if has_start { (args.number(b, 0)?, args.number(b, 1)?) } else { (int(0), args.number(b, 0)?) };
    let step = match args.position("step") {
        Some(at) => args.number(b, at)?,
        None => int(1),
    };
    let is_float = |b: &Builder<'_>, o: &Operand| b.operand_type(o).dtype() == Some(DType::F64);
    let any_float = is_float(b, &start) || is_float(b, &end) || is_float(b, &step);
    let dtype = dtype_or(b, args, if any_float { DType::F32 } else { DType::I64 })?;
    let length = steps(b, &start, &end, &step, any_float)?;
    Ok(Value::Tensor(progression(b, dtype, length, &start, &step)))
}

/// `ceil((end - start) / step)`, checked not to be negative.
fn steps(b: &mut Builder<'_>, start: &Operand, end: &Operand, step: &Operand, is_float: bool) -> Result<Dim> {
    if known(step).is_some_and(|s| s.as_f64() == 0.0) {
        return Err(b.user("step must be nonzero"));
    }
    let dtype = if is_float { DType::F64 } else { DType::I64 };
    let zero = b.cast(dtype, int(0));
    let wide = b.cast(dtype, step.clone());
    let is_fine = b.binary(BinaryOp::Ne, wide, zero);
    b.check(is_fine, "step must be nonzero");
    let (start, end, step) = (b.cast(dtype, start.clone()), b.cast(dtype, end.clone()), b.cast(dtype, step.clone()));
    let length = if is_float {
        let distance = b.binary(BinaryOp::Sub, end, start);
        let exact = b.binary(BinaryOp::Div, distance, step);
        let up = b.unary(UnaryOp::Ceil, exact);
        b.cast(DType::I64, up)
    } else {
        // With a step of 1 this is the plain difference, so that `arange(n)` has the extent n itself.
        let distance = b.binary(BinaryOp::Sub, end, start);
        let one = b.binary(BinaryOp::Gt, step.clone(), int(0));
        let slack = b.select(one, int(-1), int(1));
        let slack = b.binary(BinaryOp::Add, step.clone(), slack);
        let up = b.binary(BinaryOp::Add, distance, slack);
        b.binary(BinaryOp::FloorDiv, up, step)
    };
    if known_int(&length).is_some_and(|n| n < 0) {
        return Err(b.user("upper bound and lower bound inconsistent with step sign"));
    }
    let is_fine = b.binary(BinaryOp::Ge, length.clone(), int(0));
    b.check(is_fine, "upper bound and lower bound inconsistent with step sign");
    Ok(b.dim(length))
}

/// `start + i * step`, computed in 64 bits and converted at the end.
fn progression(b: &mut Builder<'_>, dtype: DType, length: Dim, start: &Operand, step: &Operand) -> Tensor {
    let compute = if dtype.is_floating_point() { DType::F64 } else { DType::I64 };
    b.map(dtype, &[length], |k, i| {
        let (start, step) = (k.number(start, compute), k.number(step, compute));
        let index = k.cast(compute, i[0]);
        let moved = k.mul(index, step);
        k.add(start, moved)
    })
}

/// The deprecated inclusive `range`.
fn range(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (start, end) = (args.float(b, 0)?, args.float(b, 1)?);
    let step = match args.position("step") {
        Some(at) => args.float(b, at)?,
        None => Operand::Const(Const::float(DType::F64, 1.0)),
    };
    let dtype = dtype_or(b, args, DType::F32)?;
    let distance = b.binary(BinaryOp::Sub, end, start.clone());
    let exact = b.binary(BinaryOp::Div, distance, step.clone());
    let whole = b.unary(UnaryOp::Floor, exact);
    let last = b.cast(DType::I64, whole);
    let length = b.binary(BinaryOp::Add, last, int(1));
    let length = b.dim(length);
    Ok(Value::Tensor(progression(b, dtype, length, &start, &step)))
}

/// Evenly spaced numbers; the second half is counted from the end, so that the last one is exact.
fn spaced(b: &mut Builder<'_>, args: &Args<'_>, default: DType) -> Result<Tensor> {
    let (start, end) = (args.float(b, 0)?, args.float(b, 1)?);
    let count = args.int(b, 2)?;
    let length = b.dim(count.clone());
    let compute = if default == DType::F64 { DType::F64 } else { DType::F32 };
    Ok(b.map(compute, &[length], |k, i| {
        let (start, end) = (k.number(&start, compute), k.number(&end, compute));
        let n = k.operand(&count);
        let (one, two) = (k.int(1), k.int(2));
        let gaps = k.sub(n, one);
        let gaps = k.max(gaps, one);
        let divisor = k.cast(compute, gaps);
        let distance = k.sub(end, start);
        let step = k.div(distance, divisor);
        let index = k.cast(compute, i[0]);
        let forth = k.mul(step, index);
        let from_start = k.add(start, forth);
        let last = k.sub(n, one);
        let left = k.sub(last, i[0]);
        let left = k.cast(compute, left);
        let back = k.mul(step, left);
        let from_end = k.sub(end, back);
        let half = k.binary(BinaryOp::FloorDiv, n, two);
        let is_first_half = k.binary(BinaryOp::Lt, i[0], half);
        let value = k.select(is_first_half, from_start, from_end);
        // A single point is the start.
        let is_single = k.binary(BinaryOp::Eq, n, one);
        k.select(is_single, start, value)
    }))
}

/// Whether one end of a line of numbers is complex.
fn has_complex_end(args: &Args<'_>) -> bool {
    args.values.iter().take(2).any(|end| matches!(end, Value::Complex(..)))
}

fn linspace(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    if has_complex_end(args) {
        return super::complex_functions::spaced(b, args, None);
    }
    let dtype = dtype_or(b, args, DType::F32)?;
    let line = spaced(b, args, dtype)?;
    Ok(Value::Tensor(cast(b, &line, dtype)))
}

fn logspace(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let base = args.known_float(b, 3)?;
    if has_complex_end(args) {
        return super::complex_functions::spaced(b, args, Some(base));
    }
    let dtype = dtype_or(b, args, DType::F32)?;
    // Powers are taken of real numbers, also where the result is of whole ones.
    let compute = if dtype.is_floating_point() { compute_type(dtype) } else { DType::F64 };
    let line = spaced(b, args, compute)?;
    let powers = unary(b, &line, compute, |k, v| {
        let base = k.float(k.dtype(v), base);
        k.binary(BinaryOp::Pow, base, v)
    });
    Ok(Value::Tensor(cast(b, &powers, dtype)))
}

fn eye(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let rows = args.int(b, 0)?;
    let columns = if args.position("m").is_some() { args.int(b, 1)? } else { rows.clone() };
    for (name, n) in [("n", &rows), ("m", &columns)] {
        let is_fine = b.binary(BinaryOp::Ge, n.clone(), int(0));
        b.require(is_fine, Message::new("{} must be greater or equal to 0, got {}", &[name.into(), n.into()]))?;
    }
    let dims = [b.dim(rows), b.dim(columns)];
    let dtype = dtype_or(b, args, DType::F32)?;
    Ok(Value::Tensor(b.map(dtype, &dims, |k, i| {
        let is_on = k.binary(BinaryOp::Eq, i[0], i[1]);
        k.cast(dtype, is_on)
    })))
}

/// Elements where `column - row` stands to the diagonal as told, zeros elsewhere.
fn triangle(b: &mut Builder<'_>, args: &Args<'_>, op: BinaryOp) -> Result<Value> {
    let x = args.tensor(0)?;
    let diagonal = args.int(b, 1)?;
    let Some(last) = x.rank().checked_sub(2) else {
        return Err(b.user(format!("{}: input tensor must have at least 2 dimensions", b.op_name)));
    };
    Ok(Value::Tensor(b.map(x.dtype, &x.dims, |k, i| {
        let diagonal = k.operand(&diagonal);
        let distance = k.sub(i[last + 1], i[last]);
        let is_in = k.binary(op, distance, diagonal);
        let (v, zero) = (k.load(&x, i), k.zero(x.dtype));
        k.select(is_in, v, zero)
    })))
}

/// The row and column numbers of a triangle's elements.
fn triangle_indices(b: &mut Builder<'_>, args: &Args<'_>, is_lower: bool) -> Result<Value> {
    let (rows, columns, offset) = (args.known_int(b, 0)?, args.known_int(b, 1)?, args.known_int(b, 2)?);
    let dtype = dtype_or(b, args, DType::I64)?;
    let mut found = (Vec::new(), Vec::new());
    for row in 0..rows {
        for column in 0..columns {
            let distance = column - row;
            if if is_lower { distance <= offset } else { distance >= offset } {
                found.0.push(int(row));
                found.1.push(int(column));
            }
        }
    }
    let count = i64::try_from(found.0.len()).unwrap_or(i64::MAX);
    let numbers: Vec<_> = found.0.into_iter().chain(found.1).collect();
    let line = elements(b, dtype, Dim::Const(2 * count), &numbers);
    Ok(Value::Tensor(views::reshape(b, &line, &[Dim::Const(2), Dim::Const(count)])))
}

fn one_hot(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let classes = args.int(b, 1)?;
    let extent = if known_int(&classes) == Some(-1) {
        // One more than the greatest class.
        let top = b.reduce(
            ReduceOp::Max,
            DType::I64,
            &[],
            &x.dims.clone(),
            |k, _, i| {
                let v = k.load(&x, i);
                k.cast(DType::I64, v)
            },
            |_, _, acc| acc,
        );
        let top = b.item(&top);
        let n = b.binary(BinaryOp::Add, top, int(1));
        b.dim(n)
    } else {
        b.dim(classes)
    };
    let mut dims = x.dims.clone();
    dims.push(extent);
    Ok(Value::Tensor(b.map(DType::I64, &dims, |k, i| {
        let (class, index) = (i[i.len() - 1], &i[..i.len() - 1]);
        let v = k.load(&x, index);
        let v = k.cast(DType::I64, v);
        let is = k.binary(BinaryOp::Eq, v, class);
        k.cast(DType::I64, is)
    })))
}

fn fill_(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let target = args.tensor(0)?;
    let value = fill_value(b, args)?;
    let value = views::expand_to(b, &value, &target.dims)?;
    let dtype = target.dtype;
    b.write(&target, |k, i| {
        let v = k.load(&value, i);
        k.cast(dtype, v)
    });
    Ok(Value::Tensor(target))
}

fn fill_value(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Tensor> {
    let value = as_tensor(b, args.value(1)?)?;
    if value.rank() > 0 {
        return Err(b.user(format!(
            "fill_ only supports 0-dimension value tensor but got tensor with {} dimensions.",
            value.rank()
        )));
    }
    Ok(value)
}

fn fill(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let value = fill_value(b, args)?;
    let value = cast(b, &value, x.dtype);
    let value = views::expand_to(b, &value, &x.dims)?;
    Ok(Value::Tensor(b.copy(&value)))
}

fn zero_(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let target = args.tensor(0)?;
    let dtype = target.dtype;
    b.write(&target, |k, _| k.zero(dtype));
    Ok(Value::Tensor(target))
}

/// A cosine window: the sum of `terms[j] * cos(2 pi j i / n)`, over n or n - 1 points.
fn window(b: &mut Builder<'_>, args: &Args<'_>, terms: &[f64]) -> Result<Value> {
    let length = args.int(b, 0)?;
    let is_periodic = match args.position("periodic") {
        Some(at) => args.flag(b, at)?,
        None => true,
    };
    let mut terms = terms.to_vec();
    for (name, place, sign) in [("alpha", 0, 1.0), ("beta", 1, -1.0)] {
        if let Some(at) = args.position(name) {
            terms[place] = sign * args.known_float(b, at)?;
        }
    }
    let dtype = dtype_or(b, args, DType::F32)?;
    let dim = b.dim(length.clone());
    Ok(Value::Tensor(b.map(dtype, &[dim], |k, i| {
        let (n, one) = (k.operand(&length), k.int(1));
        let period = if is_periodic { n } else { k.sub(n, one) };
        let period = k.max(period, one);
        let (period, index) = (k.cast(DType::F64, period), k.cast(DType::F64, i[0]));
        let mut sum = k.float(DType::F64, terms[0]);
        for (j, &term) in (1u8..).zip(&terms[1..]) {
            let turn = k.float(DType::F64, 2.0 * std::f64::consts::PI * f64::from(j));
            let angle = k.mul(turn, index);
            let angle = k.div(angle, period);
            let cosine = k.unary(UnaryOp::Cos, angle);
            let factor = k.float(DType::F64, term);
            let part = k.mul(factor, cosine);
            sum = k.add(sum, part);
        }
        // A window of one point is 1.
        let is_single = k.binary(BinaryOp::Eq, n, one);
        let unit = k.float(DType::F64, 1.0);
        k.select(is_single, unit, sum)
    })))
}

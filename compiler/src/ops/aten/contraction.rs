//! Contractions: products of two tensors summed over shared dimensions, from `dot` to `einsum`.
//!
//! All of them are one kernel over labelled dimensions ([`contract`]): a label in both tensors and not in the result is
//! summed over. Transposes, broadcasts and diagonals are only index expressions; nothing is copied before a product.

use super::pointwise::elementwise;
use super::view::decided_dim;
use crate::diag::Result;
use crate::loops::{Dim, ExprId, ReduceOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::message::Message;
use crate::ops::primitives::KernelBuilder;
use crate::ops::promote::{compute_type, result_type};
use crate::ops::value::{Tensor, Value, known};
use crate::ops::views::{self, shape_text};
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::linear", lower: linear },
    OpDef { name: "aten::matmul", lower: matmul_op },
    OpDef { name: "aten::linalg_matmul", lower: matmul_op },
    OpDef { name: "aten::mm", lower: mm },
    OpDef { name: "aten::bmm", lower: bmm },
    OpDef { name: "aten::mv", lower: mv },
    OpDef { name: "aten::dot", lower: dot },
    OpDef { name: "aten::vdot", lower: dot },
    OpDef { name: "aten::inner", lower: inner },
    OpDef { name: "aten::outer", lower: outer },
    OpDef { name: "aten::ger", lower: outer },
    OpDef { name: "aten::addmm", lower: addmm },
    OpDef { name: "aten::addmv", lower: addmv },
    OpDef { name: "aten::addr", lower: addr },
    OpDef { name: "aten::baddbmm", lower: baddbmm },
    OpDef { name: "aten::addbmm", lower: addbmm },
    OpDef { name: "aten::tensordot", lower: tensordot },
    OpDef { name: "prim::MMTreeReduce", lower: sum_of_products },
    OpDef { name: "aten::einsum", lower: einsum },
    OpDef { name: "aten::einsum.sublist", lower: einsum_of_sublists },
    OpDef { name: "aten::bilinear", lower: bilinear },
    OpDef { name: "aten::linalg_multi_dot", lower: chain },
    OpDef { name: "aten::chain_matmul", lower: chain },
];

/// A name for a dimension: those of one name have one index.
pub type Label = u32;

/// Most batches that `addbmm` rounds one by one.
const MAX_ROUNDED_BATCHES: i64 = 256;

/// A tensor and the labels of its dimensions.
pub type Labelled<'a> = (&'a Tensor, &'a [Label]);

/// The extents of labels, in order of first appearance. A dimension of extent 1 fits any other of its label.
fn extents(b: &mut Builder<'_>, operands: &[Labelled<'_>]) -> Result<Vec<(Label, Dim)>> {
    let mut out: Vec<(Label, Dim)> = Vec::new();
    for (tensor, labels) in operands {
        for (&label, &dim) in labels.iter().zip(&tensor.dims) {
            match out.iter_mut().find(|(l, _)| *l == label) {
                None => out.push((label, dim)),
                Some((_, have)) if *have == Dim::Const(1) => *have = dim,
                Some(_) if dim == Dim::Const(1) => {}
                Some((_, have)) => {
                    let have = *have;
                    let parts = [b.op_name.as_str().into(), have.into(), dim.into()];
                    let message = Message::new("{}: dimensions of sizes {} and {} do not match", &parts);
                    b.require_equal(have, dim, message)?;
                }
            }
        }
    }
    Ok(out)
}

/// Sums the product of the operands over the labels that are not in `out`; the result's dimensions are `out`. The operands
/// are of type `dtype`; `finish` makes the element of the sum.
pub fn contract<'p>(
    b: &mut Builder<'p>,
    operands: &[Labelled<'_>],
    out: &[Label],
    dtype: DType,
    finish: impl FnOnce(&mut KernelBuilder<'_, 'p>, &[ExprId], ExprId) -> ExprId,
) -> Result<Tensor> {
    if dtype.is_complex() {
        return Err(b.unsupported(format!("complex numbers in {}", b.op_name)));
    }
    let extents = extents(b, operands)?;
    let extent_of = |label: Label| extents.iter().find(|(l, _)| *l == label).map_or(Dim::Const(1), |e| e.1);
    let dims: Vec<Dim> = out.iter().map(|l| extent_of(*l)).collect();
    let summed: Vec<Label> = extents.iter().map(|e| e.0).filter(|l| !out.contains(l)).collect();
    let reduced: Vec<Dim> = summed.iter().map(|l| extent_of(*l)).collect();
    let compute = compute_type(dtype);
    let product = |k: &mut KernelBuilder<'_, 'p>, index: &[ExprId], over: &[ExprId]| {
        let mut product = None;
        for (tensor, labels) in operands {
            let at: Vec<ExprId> = labels
                .iter()
                .zip(&tensor.dims)
                .map(|(label, dim)| {
                    if *dim == Dim::Const(1) {
                        return k.int(0);
                    }
                    match out.iter().position(|l| l == label) {
                        Some(axis) => index[axis],
                        None => over[summed.iter().position(|l| l == label).expect("a label is kept or summed")],
                    }
                })
                .collect();
            let element = k.load(tensor, &at);
            let element = k.cast(dtype, element);
            let element = k.cast(compute, element);
            product = Some(product.map_or(element, |p| k.mul(p, element)));
        }
        product.expect("there are operands")
    };
    if reduced.is_empty() {
        return Ok(b.map(dtype, &dims, |k, i| {
            let value = product(k, i, &[]);
            finish(k, i, value)
        }));
    }
    Ok(b.reduce(ReduceOp::Sum, dtype, &dims, &reduced, product, finish))
}

/// The type of both operands, which must be one.
fn common_type(b: &Builder<'_>, x: &Tensor, y: &Tensor) -> Result<DType> {
    if x.dtype != y.dtype {
        return Err(b.user(format!(
            "expected m1 and m2 to have the same dtype, but got: {} != {}",
            x.dtype.python_name(),
            y.dtype.python_name()
        )));
    }
    if x.dtype == DType::Bool {
        return Err(b.user("\"addmm_impl_cpu_\" not implemented for 'Bool'"));
    }
    if x.dtype.is_complex() {
        return Err(b.unsupported(format!("complex numbers in {}", b.op_name)));
    }
    Ok(x.dtype)
}

/// Ends the program unless the last extent of `x` is the first of `y`, which is `[inner, columns]` or a vector, in the words
/// of the operator that PyTorch computes the product with: `dot`, `mv`, or the named one.
fn expect_inner(b: &mut Builder<'_>, x: &Tensor, y: (Dim, Option<Dim>), name: &str) -> Result<()> {
    let (inner, (y_inner, columns)) = (x.dims[x.rank() - 1], y);
    let rows = b.product(&x.dims[..x.rank() - 1]);
    let message = match columns {
        None if x.rank() == 1 => differing_vectors(inner, y_inner),
        None => Message::new(
            "size mismatch, got input ({}), mat ({}x{}), vec ({})",
            &[(&rows).into(), (&rows).into(), inner.into(), y_inner.into()],
        ),
        Some(columns) => Message::new(
            "{}: mat1 and mat2 shapes cannot be multiplied ({}x{} and {}x{})",
            &[name.into(), rows.into(), inner.into(), y_inner.into(), columns.into()],
        ),
    };
    b.require_equal(inner, y_inner, message)
}

fn differing_vectors(n: Dim, m: Dim) -> Message {
    let message = "inconsistent tensor size, expected tensor [{}] and src [{}] to have the same number of elements, but got \
                   {} and {} elements respectively";
    Message::new(message, &[n.into(), m.into(), n.into(), m.into()])
}

/// Ends the program unless a batch of matrices `[batch, _, inner]` fits one of `[y_batch, y_inner, _]`.
fn expect_batches(b: &mut Builder<'_>, [batch, inner]: [Dim; 2], [y_batch, y_inner]: [Dim; 2]) -> Result<()> {
    let message = "Expected size for first two dimensions of batch2 tensor to be: [{}, {}] but got: [{}, {}].";
    let message = Message::new(message, &[batch.into(), inner.into(), y_batch.into(), y_inner.into()]);
    b.require_equal(batch, y_batch, message.clone())?;
    b.require_equal(inner, y_inner, message)
}

/// Ends the program unless two tensors of these ranks can be multiplied; `name` is that of the matrices' product.
fn expect_factors(b: &mut Builder<'_>, x: &Tensor, y: &Tensor, ranks: [usize; 2], name: &str) -> Result<()> {
    let is_rank = [x.rank() == ranks[0], y.rank() == ranks[1]];
    match ranks {
        [2, 2] => {
            for (is_fine, which, t) in [(is_rank[0], "self", x), (is_rank[1], "mat2", y)] {
                if !is_fine {
                    return Err(b.user(format!("{name}: {which} must be a matrix, got {}-D tensor", t.rank())));
                }
            }
            expect_inner(b, x, (y.dims[0], Some(y.dims[1])), name)
        }
        [2, 1] if is_rank != [true; 2] => {
            Err(b.user(format!("vector + matrix @ vector expected, got 1, {}, {}", x.rank(), y.rank())))
        }
        [2, 1] => expect_inner(b, x, (y.dims[0], None), name),
        [3, 3] => {
            if let Some(at) = is_rank.iter().position(|is| !is) {
                return Err(b.user(format!("batch{} must be a 3D tensor", at + 1)));
            }
            expect_batches(b, [x.dims[0], x.dims[2]], [y.dims[0], y.dims[1]])
        }
        _ => {
            expect_rank(b, x, ranks[0], "the first factor")?;
            expect_rank(b, y, ranks[1], "the second factor")
        }
    }
}

fn expect_rank(b: &Builder<'_>, tensor: &Tensor, rank: usize, what: &str) -> Result<()> {
    if tensor.rank() == rank {
        return Ok(());
    }
    Err(b.user(format!("{what} must be a {rank}-D tensor, got {}", shape_text(&tensor.dims))))
}

/// Adds `bias`, whose dimensions are the last of the result's, to a sum.
fn add_bias(k: &mut KernelBuilder<'_, '_>, bias: Option<&Tensor>, index: &[ExprId], sum: ExprId) -> ExprId {
    let Some(bias) = bias else { return sum };
    let value = k.load(bias, &index[index.len() - bias.rank()..]);
    let value = k.cast(k.dtype(sum), value);
    k.add(sum, value)
}

/// `input @ weight.T + bias`.
fn linear(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, w, bias) = (args.tensor(0)?, args.tensor(1)?, args.optional_tensor(2)?);
    linear_of(b, &x, &w, bias.as_ref()).map(Value::Tensor)
}

/// `x [.., k]` with `weight [n, k]` (or `[k]`, whose result has no last dimension) and `bias [n]`.
pub fn linear_of(b: &mut Builder<'_>, x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let dtype = common_type(b, x, w)?;
    let (true, 1..=2) = (x.rank() > 0, w.rank()) else {
        return Err(b.user(format!(
            "both arguments to linear need to be at least 1D, but they are {}D and {}D",
            x.rank(),
            w.rank()
        )));
    };
    let columns = (w.rank() == 2).then(|| w.dims[0]);
    expect_inner(b, x, (w.dims[w.rank() - 1], columns), if bias.is_some() { "addmm" } else { "mm" })?;
    let (n, k) = (100, 101);
    let mut x_labels = labels(0, x.rank() - 1);
    let mut out = x_labels.clone();
    x_labels.push(k);
    let w_labels = if w.rank() == 2 { vec![n, k] } else { vec![k] };
    if w.rank() == 2 {
        out.push(n);
    }
    let bias = match bias {
        Some(bias) if bias.rank() > 0 => {
            let n = w.dims[..w.rank() - 1].last().copied().unwrap_or(Dim::Const(1));
            if let [extent] = bias.dims[..]
                && extent != Dim::Const(1)
            {
                let rows = b.product(&x.dims[..x.rank() - 1]);
                let message = "The expanded size of the tensor ({}) must match the existing size ({}) at non-singleton \
                               dimension 1.  Target sizes: {}.  Tensor sizes: {}";
                let target = [rows, n.into()];
                let parts = [n.into(), extent.into(), target.as_slice().into(), (&bias.dims).into()];
                b.require_equal(extent, n, Message::new(message, &parts))?;
            }
            // More than one dimension is added as it broadcasts.
            let result = [&x.dims[..x.rank() - 1], &w.dims[..w.rank() - 1]].concat();
            let n_added = bias.rank().max(w.rank() - 1).min(result.len());
            Some(views::expand_to(b, bias, &result[result.len() - n_added..])?)
        }
        other => other.cloned(),
    };
    contract(b, &[(x, &x_labels), (w, &w_labels)], &out, dtype, |k, i, sum| add_bias(k, bias.as_ref(), i, sum))
}

fn labels(from: usize, len: usize) -> Vec<Label> {
    (from..from + len).map(|l| Label::try_from(l).expect("ranks are small")).collect()
}

fn matmul_op(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = (args.tensor(0)?, args.tensor(1)?);
    matmul(b, &x, &y).map(Value::Tensor)
}

/// `x @ y` with PyTorch's rules: vectors take part as a row or a column, leading dimensions broadcast.
pub fn matmul(b: &mut Builder<'_>, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    matmul_with(b, x, y, |_, _, sum| sum)
}

/// [`matmul`] with the elements made of the sums by `finish`.
pub fn matmul_with<'p>(
    b: &mut Builder<'p>,
    x: &Tensor,
    y: &Tensor,
    finish: impl FnOnce(&mut KernelBuilder<'_, 'p>, &[ExprId], ExprId) -> ExprId,
) -> Result<Tensor> {
    let dtype = common_type(b, x, y)?;
    if x.rank() == 0 || y.rank() == 0 {
        return Err(b.user(format!(
            "both arguments to matmul need to be at least 1D, but they are {}D and {}D",
            x.rank(),
            y.rank()
        )));
    }
    let (m, n, k) = (100, 101, 102);
    let (x_batch, y_batch) = (x.rank().saturating_sub(2), y.rank().saturating_sub(2));
    let inner = y.dims[y.rank().saturating_sub(2)];
    if y_batch == 0 {
        let columns = (y.rank() > 1).then(|| y.dims[1]);
        expect_inner(b, x, (inner, columns), "mm")?;
    } else {
        let batch = views::broadcast(b, &[&x.dims[..x_batch], &y.dims[..y_batch]])?;
        let batch = b.product(&batch);
        let batch = b.dim(batch);
        expect_batches(b, [batch, x.dims[x.rank() - 1]], [batch, inner])?;
    }
    let batch = x_batch.max(y_batch);
    let mut x_labels = labels(batch - x_batch, x_batch);
    let mut y_labels = labels(batch - y_batch, y_batch);
    let mut out = labels(0, batch);
    if x.rank() > 1 {
        x_labels.push(m);
        out.push(m);
    }
    x_labels.push(k);
    y_labels.push(k);
    if y.rank() > 1 {
        y_labels.push(n);
        out.push(n);
    }
    contract(b, &[(x, &x_labels), (y, &y_labels)], &out, dtype, finish)
}

/// The product of matrices of these ranks.
fn fixed_rank(b: &mut Builder<'_>, args: &Args<'_>, ranks: [usize; 2]) -> Result<Value> {
    let (x, y) = (args.tensor(0)?, args.tensor(1)?);
    expect_factors(b, &x, &y, ranks, "mm")?;
    matmul(b, &x, &y).map(Value::Tensor)
}

fn mm(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    fixed_rank(b, args, [2, 2])
}

fn bmm(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    fixed_rank(b, args, [3, 3])
}

fn mv(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    fixed_rank(b, args, [2, 1])
}

fn dot(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = (args.tensor(0)?, args.tensor(1)?);
    if x.rank() != 1 || y.rank() != 1 {
        return Err(b.user(format!("1D tensors expected, but got {}D and {}D tensors", x.rank(), y.rank())));
    }
    b.require_equal(x.dims[0], y.dims[0], differing_vectors(x.dims[0], y.dims[0]))?;
    matmul(b, &x, &y).map(Value::Tensor)
}

/// Sums over the last dimension of both.
fn inner(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = (args.tensor(0)?, args.tensor(1)?);
    let dtype = common_type(b, &x, &y)?;
    if x.rank() == 0 || y.rank() == 0 {
        let labels = labels(0, x.rank() + y.rank());
        let operands = [(&x, &labels[..x.rank()]), (&y, &labels[x.rank()..])];
        return contract(b, &operands, &labels, dtype, |_, _, v| v).map(Value::Tensor);
    }
    let message = "inner() the last dimension must match on both input tensors but got shapes {} and {}";
    let message = Message::new(message, &[(&x.dims).into(), (&y.dims).into()]);
    b.require_equal(x.dims[x.rank() - 1], y.dims[y.rank() - 1], message)?;
    let mut x_labels = labels(0, x.rank() - 1);
    let mut y_labels = labels(x.rank() - 1, y.rank() - 1);
    let out = [x_labels.clone(), y_labels.clone()].concat();
    x_labels.push(1000);
    y_labels.push(1000);
    contract(b, &[(&x, &x_labels), (&y, &y_labels)], &out, dtype, |_, _, v| v).map(Value::Tensor)
}

fn outer(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = (args.tensor(0)?, args.tensor(1)?);
    for (name, t) in [("self", &x), ("vec2", &y)] {
        if t.rank() != 1 {
            return Err(b.user(format!("outer: Expected 1-D argument {name}, but got {}-D", t.rank())));
        }
    }
    let dtype = result_type(&[&x, &y]);
    contract(b, &[(&x, &[0]), (&y, &[1])], &[0, 1], dtype, |_, _, v| v).map(Value::Tensor)
}

/// `beta * self + alpha * (sum of products)` over labelled dimensions. With a `beta` of 0 nothing of `self` is read, so that
/// its NaNs do not spread.
fn add_contraction(
    b: &mut Builder<'_>,
    args: &Args<'_>,
    ranks: [usize; 2],
    operand_labels: [&[Label]; 2],
    out: &[Label],
) -> Result<Value> {
    let (base, x, y) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
    let dtype = common_type(b, &x, &y)?;
    let beta = args.position("beta").map(|at| args.number(b, at)).transpose()?;
    let alpha = args.position("alpha").map(|at| args.number(b, at)).transpose()?;
    let operands = [(&x, operand_labels[0]), (&y, operand_labels[1])];
    let is_one =
        |o: &Option<crate::loops::Operand>| o.as_ref().is_none_or(|o| known(o).is_some_and(|c| c.as_f64() == 1.0));
    // Without factors PyTorch takes `addmm` apart.
    let is_sum = ranks == [2, 2] && is_one(&alpha) && is_one(&beta);
    expect_factors(b, &x, &y, ranks, if is_sum { "mm" } else { "addmm" })?;
    let known_extents = extents(b, &operands)?;
    let dims: Vec<Dim> =
        out.iter().map(|l| known_extents.iter().find(|(x, _)| x == l).map_or(Dim::Const(1), |e| e.1)).collect();
    if is_sum {
        views::broadcast(b, &[&base.dims, &dims])?;
    }
    let base = views::expand_to(b, &base, &dims)?;
    let is_zero = beta.as_ref().and_then(known).is_some_and(|c| c.as_f64() == 0.0);
    contract(b, &operands, out, dtype, |k, i, sum| {
        let compute = k.dtype(sum);
        let mut value = sum;
        if !is_one(&alpha) {
            let alpha = k.number(alpha.as_ref().expect("checked"), compute);
            value = k.mul(value, alpha);
        }
        if is_zero {
            return value;
        }
        let element = k.load(&base, i);
        let mut element = k.cast(compute, element);
        if !is_one(&beta) {
            let beta = k.number(beta.as_ref().expect("checked"), compute);
            element = k.mul(element, beta);
        }
        k.add(value, element)
    })
    .map(Value::Tensor)
}

fn addmm(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    add_contraction(b, args, [2, 2], [&[0, 2], &[2, 1]], &[0, 1])
}

fn addmv(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    add_contraction(b, args, [2, 1], [&[0, 1], &[1]], &[0])
}

fn addr(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    add_contraction(b, args, [1, 1], [&[0], &[1]], &[0, 1])
}

fn baddbmm(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    add_contraction(b, args, [3, 3], [&[3, 0, 2], &[3, 2, 1]], &[3, 0, 1])
}

/// Sums over the batches as well. Types narrower than what sums are computed in are rounded after every batch.
fn addbmm(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (base, x, y) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
    if compute_type(x.dtype) != x.dtype
        && x.rank() == 3
        && y.rank() == 3
        && let Some(n) = x.dims[0].known().filter(|n| (1..=MAX_ROUNDED_BATCHES).contains(n))
    {
        b.require_equal(x.dims[0], y.dims[0], "batch1 and batch2 must have same number of batches")?;
        let mut sum = Value::Tensor(base);
        let mut values = args.values.to_vec();
        for batch in 0..n {
            let at = crate::loops::Operand::Const(crate::loops::Const::int(batch));
            values[1] = Value::Tensor(views::select(b, &x, 0, at.clone()));
            values[2] = Value::Tensor(views::select(b, &y, 0, at));
            values[0] = sum;
            if batch > 0
                && let Some(beta) = args.position("beta")
            {
                values[beta] = Value::int(1);
            }
            let args = Args { schema: args.schema, values: &values };
            sum = add_contraction(b, &args, [2, 2], [&[0, 2], &[2, 1]], &[0, 1])?;
        }
        return Ok(sum);
    }
    add_contraction(b, args, [3, 3], [&[3, 0, 2], &[3, 2, 1]], &[0, 1])
}

fn chain(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let tensors = args.tensors(b, 0)?;
    let Some((first, rest)) = tensors.split_first() else {
        return Err(b.user("multi_dot(): expected at least 2 tensors but got 0"));
    };
    rest.iter().try_fold(first.clone(), |x, y| matmul(b, &x, y)).map(Value::Tensor)
}

fn tensordot(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = (args.tensor(0)?, args.tensor(1)?);
    let (x_dims, y_dims) = (args.int_list(b, 2)?, args.int_list(b, 3)?);
    if x_dims.len() != y_dims.len() {
        return Err(b.user("both dimension lists should have same length"));
    }
    let dtype = common_type(b, &x, &y)?;
    let (mut x_labels, mut y_labels) = (labels(0, x.rank()), labels(x.rank(), y.rank()));
    let mut out = [x_labels.clone(), y_labels.clone()].concat();
    for (p, q) in x_dims.iter().zip(&y_dims) {
        let (p, q) = (decided_dim(b, p, x.rank())?, decided_dim(b, q, y.rank())?);
        out.retain(|l| *l != x_labels[p] && *l != y_labels[q]);
        y_labels[q] = x_labels[p];
    }
    x_labels.truncate(x.rank());
    contract(b, &[(&x, &x_labels), (&y, &y_labels)], &out, dtype, |_, _, v| v).map(Value::Tensor)
}

/// The labels of the dimensions that an ellipsis stands for, counted from the right, start here.
const ELLIPSIS: Label = 1 << 16;

/// One side of an equation: the labels of a tensor of this rank, or of the result (whose ellipsis has `n_batch` dimensions).
fn side_labels(b: &Builder<'_>, text: &str, rank: Option<usize>, n_batch: usize) -> Result<Vec<Label>> {
    let letters = text.chars().filter(char::is_ascii_alphabetic).count();
    let mut out = Vec::new();
    let mut rest = text;
    let mut has_ellipsis = false;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("...") {
            if has_ellipsis {
                return Err(b.user("einsum(): found '.' for operand for which an ellipsis was already found"));
            }
            has_ellipsis = true;
            let len = rank.map_or(n_batch, |r| r.saturating_sub(letters));
            out.extend((0..len).rev().map(|i| ELLIPSIS + Label::try_from(i).expect("ranks are small")));
            rest = after;
            continue;
        }
        if !c.is_ascii_alphabetic() {
            return Err(b.user(format!("einsum(): invalid subscript given: {c}, subscripts must be in [a-zA-Z]")));
        }
        out.push(c as Label);
        rest = &rest[1..];
    }
    if let Some(rank) = rank.filter(|r| *r != out.len()) {
        return Err(b.user(format!(
            "einsum(): the number of subscripts in the equation ({}) does not match the number of dimensions ({rank}) for \
             an operand and no ellipsis was given",
            out.len()
        )));
    }
    Ok(out)
}

/// Sums of products by an equation, contracted from left to right.
fn einsum(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    if let Value::Tensor(_) = args.value(0)? {
        return einsum_of_sublists(b, args);
    }
    let equation: String = args.text(b, 0)?.chars().filter(|c| !c.is_whitespace()).collect();
    let tensors = args.tensors(b, 1)?;
    einsum_of(b, &equation, &tensors)
}

/// The sum of the products of matrices: all left ones, then the right one of each.
fn sum_of_products(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let n = args.values.len() / 2;
    let mut sum: Option<Tensor> = None;
    for at in 0..n {
        let (x, y) = (args.tensor(at)?, args.tensor(n + at)?);
        let product = matmul(b, &x, &y)?;
        sum = Some(match sum {
            None => product,
            Some(sum) => elementwise(b, &[&sum, &product], None, |k, v| k.add(v[0], v[1]))?,
        });
    }
    sum.map(Value::Tensor).ok_or_else(|| b.user("a sum of no products"))
}

/// `einsum(x, [0, 1], y, [1, 2], [0, 2])`: numbers instead of letters.
fn einsum_of_sublists(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (mut tensors, mut sides) = (Vec::new(), Vec::new());
    for at in 0..args.values.len() {
        if let Value::Tensor(t) = args.value(at)? {
            tensors.push(t.clone());
            continue;
        }
        let mut side = String::new();
        for label in args.known_ints(b, at)? {
            let label = u8::try_from(label).ok().filter(|l| *l < 52);
            let label = label.ok_or_else(|| b.user("einsum(): expected subscripts to be within range [0, 52)"))?;
            side.push(char::from(if label < 26 { b'A' + label } else { b'a' + label - 26 }));
        }
        sides.push(side);
    }
    let output = if sides.len() > tensors.len() { sides.pop() } else { None };
    let equation = sides.join(",") + &output.map_or_else(String::new, |output| format!("->{output}"));
    einsum_of(b, &equation, &tensors)
}

fn einsum_of(b: &mut Builder<'_>, equation: &str, tensors: &[Tensor]) -> Result<Value> {
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation, None),
    };
    let sides: Vec<&str> = left.split(',').collect();
    if sides.len() != tensors.len() || tensors.is_empty() {
        return Err(
            b.user("einsum(): the number of operands in the equation does not match the number of operands given")
        );
    }
    let mut operands = Vec::new();
    for (side, tensor) in sides.iter().zip(tensors) {
        operands.push(side_labels(b, side, Some(tensor.rank()), 0)?);
    }
    let batch: Vec<Label> = operands.iter().flatten().copied().filter(|l| *l >= ELLIPSIS).collect();
    let n_batch = batch.iter().max().map_or(0, |l| (l - ELLIPSIS) as usize + 1);
    let out = if let Some(right) = right {
        side_labels(b, right, None, n_batch)?
    } else {
        // Without an arrow: the ellipsis, then the letters that appear once, in order.
        let mut letters: Vec<Label> = operands.iter().flatten().copied().filter(|l| *l < ELLIPSIS).collect();
        letters.sort_unstable();
        let once = letters.iter().copied().filter(|l| letters.iter().filter(|x| *x == l).count() == 1);
        let ellipsis = (0..n_batch).rev().map(|i| ELLIPSIS + Label::try_from(i).expect("ranks are small"));
        ellipsis.chain(once).collect()
    };
    if let Some(l) = out.iter().find(|l| !operands.iter().flatten().any(|x| x == *l)) {
        let letter = char::from_u32(*l).unwrap_or('.');
        return Err(b.user(format!(
            "einsum(): output subscript {letter} does not appear in the equation for any input operand"
        )));
    }
    let dtype = tensors[0].dtype;
    if let Some(other) = tensors.iter().find(|t| t.dtype != dtype) {
        common_type(b, &tensors[0], other)?;
    }
    let (mut acc, mut acc_labels) = (tensors[0].clone(), operands[0].clone());
    for i in 1..tensors.len() {
        let mut keep: Vec<Label> = Vec::new();
        if i + 1 == tensors.len() {
            keep.clone_from(&out);
        } else {
            for &l in acc_labels.iter().chain(&operands[i]) {
                let is_used = out.contains(&l) || operands[i + 1..].iter().flatten().any(|x| *x == l);
                if is_used && !keep.contains(&l) {
                    keep.push(l);
                }
            }
        }
        let pair = [(&acc, acc_labels.as_slice()), (&tensors[i], operands[i].as_slice())];
        acc = contract(b, &pair, &keep, dtype, |_, _, v| v)?;
        acc_labels = keep;
    }
    if tensors.len() == 1 {
        if acc_labels.len() == out.len() && acc_labels.iter().all(|l| out.contains(l)) {
            let order: Vec<usize> =
                out.iter().map(|l| acc_labels.iter().position(|x| x == l).expect("checked")).collect();
            return Ok(Value::Tensor(views::permute(b, &acc, &order)));
        }
        acc = contract(b, &[(&acc, &acc_labels)], &out, dtype, |_, _, v| v)?;
    }
    Ok(Value::Tensor(acc))
}

/// `x1 [.., i]`, `x2 [.., j]`, `weight [o, i, j]`: the sum over i and j, plus `bias`.
fn bilinear(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y, w, bias) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?, args.optional_tensor(3)?);
    expect_rank(b, &w, 3, "bilinear(): weight")?;
    if x.rank() != y.rank() || x.rank() == 0 {
        return Err(b.user("bilinear(): input dimensions do not match"));
    }
    let dtype = common_type(b, &x, &w)?;
    common_type(b, &x, &y)?;
    let lead = labels(0, x.rank() - 1);
    let (o, i, j) = (100, 101, 102);
    let with = |l: &[Label]| [&lead, l].concat();
    let half = contract(b, &[(&x, &with(&[i])), (&w, &[o, i, j])], &with(&[o, j]), dtype, |_, _, v| v)?;
    contract(b, &[(&half, &with(&[o, j])), (&y, &with(&[j]))], &with(&[o]), dtype, |k, i, sum| {
        add_bias(k, bias.as_ref(), i, sum)
    })
    .map(Value::Tensor)
}

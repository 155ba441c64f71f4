//! Right-hand sides of products that are known only at run time, turned so that columns lie next to each other.
//!
//! `out[m, n] += x[m, k] * y[n, k]` (the scores of attention) has no operand that lies along `n` as the results do. A copy of `y`
//! as `[k, n]` costs one pass over it, and every row of `x` then takes whole vectors from it; weights get the same from `pack`.

use super::ScheduleTarget;
use super::contraction::{forms, known_dims, recognise};
use super::fuse::rebuilt;
use super::linear::{Atom, Forms, Linear};
use crate::loops::{
    Axis, AxisKind, Block, Buffer, BufferClass, BufferId, Dim, Expr, ExprId, Exprs, Function, Kernel, Layout, Program,
    Stmt, Store, StoreMode,
};
use std::collections::HashMap;

/// Rows that must share the copy for it to pay.
const MIN_ROWS: i64 = 8;

/// Turns right-hand sides where that pays.
pub(crate) fn turn_operands(program: &mut Program, target: &ScheduleTarget) {
    for function in program.functions.iter_mut() {
        let mut body = std::mem::take(&mut function.body);
        turn_block(&mut body, function, target);
        function.body = body;
    }
}

fn turn_block(block: &mut Block, function: &mut Function, target: &ScheduleTarget) {
    for mut stmt in std::mem::take(&mut block.0) {
        match &mut stmt {
            Stmt::Kernel(kernel) => {
                let copy = recognise(kernel).map(|contraction| contraction.loads).and_then(|[a, b]| {
                    turned(kernel, function, target, [a, b]).or_else(|| turned(kernel, function, target, [b, a]))
                });
                block.0.extend(copy.map(|copy| Stmt::Kernel(Box::new(copy))));
            }
            Stmt::If(_, then_body, else_body) => {
                turn_block(then_body, function, target);
                turn_block(else_body, function, target);
            }
            Stmt::While(_, body) => turn_block(body, function, target),
            _ => {}
        }
        block.0.push(stmt);
    }
}

/// The address of an element of a row-major buffer, if it is linear.
fn address(function: &Function, forms: &mut Forms<'_>, buffer: BufferId, index: &[ExprId]) -> Option<Linear> {
    let dims = known_dims(function, buffer).filter(|_| function.buffers[buffer].layout == Layout::RowMajor)?;
    let (mut sum, mut stride) = (Linear::default(), 1i64);
    for (&i, dim) in index.iter().zip(&dims).rev() {
        sum = sum.plus(&forms.form(i), stride);
        stride = stride.checked_mul(*dim)?;
    }
    let is_axis = |m: &super::linear::Monomial| m.vars.is_empty() && matches!(m.atom, Some(Atom::Axis(_)));
    sum.terms.keys().all(is_axis).then_some(sum)
}

/// Makes the kernel read its right-hand side from a turned copy, and gives the kernel that makes the copy.
fn turned(
    kernel: &mut Kernel,
    function: &mut Function,
    target: &ScheduleTarget,
    [left, right]: [ExprId; 2],
) -> Option<Kernel> {
    let Expr::Load { buffer: x, index: x_index, guard: None, .. } = kernel.exprs.get(left) else { return None };
    let Expr::Load { buffer, dtype, index, guard: None } = kernel.exprs.get(right).clone() else { return None };
    if matches!(function.buffers[buffer].class, BufferClass::Weight(_)) || *x == buffer {
        return None;
    }
    let lanes = i64::try_from(target.vector_bytes / dtype.size_bytes().max(1)).ok()?;
    let extents: Vec<i64> = kernel.axes.iter().map(|axis| axis.extent.known()).collect::<Option<_>>()?;
    let mut forms = forms(kernel);
    let x = address(function, &mut forms, *x, x_index)?;
    let y = address(function, &mut forms, buffer, &index)?;
    let stores: Vec<Linear> =
        kernel.stores.iter().map(|s| address(function, &mut forms, s.buffer, &s.index)).collect::<Option<_>>()?;
    let stride = |form: &Linear, axis: usize| form.stride_along(axis).unwrap_or(0);
    let is = |axis: usize, kind: AxisKind| kernel.axes[axis].kind == kind && extents[axis] > 1;
    let is_column = |&n: &usize| {
        let lies_along = stores.iter().all(|s| stride(s, n) == 1);
        is(n, AxisKind::Parallel) && stride(&x, n) == 0 && stride(&y, n) > 1 && lies_along && extents[n] >= lanes
    };
    let column = (0..extents.len()).find(is_column)?;
    (0..extents.len()).find(|&k| is(k, AxisKind::Reduce) && stride(&y, k) == 1 && stride(&x, k) != 0)?;
    let is_row = |&m: &usize| is(m, AxisKind::Parallel) && stride(&x, m) != 0 && stride(&y, m) == 0;
    let n_rows: i64 = (0..extents.len()).filter(is_row).map(|m| extents[m]).product();
    // The copy has an element for each point that the operand depends on.
    let mut axes: Vec<usize> =
        (0..extents.len()).filter(|&a| a != column && extents[a] > 1 && stride(&y, a) != 0).collect();
    axes.push(column);
    let n_elements = axes.iter().try_fold(1i64, |n, &a| n.checked_mul(extents[a]))?;
    let n_source: i64 = known_dims(function, buffer)?.iter().product();
    if n_rows < MIN_ROWS || lanes < 2 || n_elements > n_source {
        return None;
    }
    let dims: Vec<Dim> = axes.iter().map(|&a| Dim::Const(extents[a])).collect();
    let class = BufferClass::Temp { offset: None };
    let name = String::from("turned");
    let copy = function.buffers.push(Buffer { name, dtype, dims: dims.clone(), class, layout: Layout::RowMajor });
    let mut exprs = Exprs::new();
    let mut memo = HashMap::new();
    let mut leaf = |exprs: &mut Exprs, expr: &Expr| match expr {
        Expr::Axis(axis) => Some(match axes.iter().position(|a| a == axis) {
            Some(number) => exprs.add(Expr::Axis(number)),
            None => exprs.int(0),
        }),
        _ => None,
    };
    let source = index.iter().map(|&i| exprs.import(&kernel.exprs, i, &mut memo, &mut leaf)).collect();
    let value = exprs.add(Expr::Load { buffer, dtype, index: source, guard: None });
    let place: Vec<ExprId> = (0..axes.len()).map(|number| exprs.add(Expr::Axis(number))).collect();
    let turn = Kernel {
        name: format!("turn+{}", kernel.name),
        place: kernel.place.clone(),
        axes: dims.iter().map(|&extent| Axis { extent, kind: AxisKind::Parallel }).collect(),
        exprs,
        reductions: Vec::new(),
        stores: vec![Store { buffer: copy, index: place.into(), value, guard: None, mode: StoreMode::Set }],
        is_ordered: false,
    };
    let mut leaf = |exprs: &mut Exprs, expr: &Expr| match expr {
        Expr::Load { buffer: b, guard: None, .. } if *b == buffer => {
            let index = axes.iter().map(|&a| exprs.add(Expr::Axis(a))).collect();
            Some(exprs.add(Expr::Load { buffer: copy, dtype, index, guard: None }))
        }
        _ => None,
    };
    // Other loads of the buffer (in the epilogue) would be redirected too.
    let n_loads =
        kernel.exprs.ids().filter(|&id| matches!(kernel.exprs.get(id), Expr::Load { buffer: b, .. } if *b == buffer));
    if n_loads.count() != 1 {
        return None;
    }
    *kernel = rebuilt(kernel, &mut leaf);
    Some(turn)
}

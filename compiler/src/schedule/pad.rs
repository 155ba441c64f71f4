//! Padding made explicit: a reduction (convolution, pooling) that tests the bounds of each element it loads reads from a padded copy instead.
//!
//! The copy costs one pass over the input; the tests would be made for every output channel and tap.

use super::contraction::{is_bounds_check, known_dims};
use super::fuse::rebuilt;
use super::linear::Linear;
use crate::loops::{
    Axis, AxisKind, BinaryOp, Block, Buffer, BufferClass, Dim, Expr, ExprId, Exprs, Function, Guard, Kernel, Layout,
    Program, Stmt, Store, StoreMode,
};
use std::collections::HashMap;

/// Gives padded convolutions padded inputs.
pub(crate) fn pad_inputs(program: &mut Program) {
    for function in program.functions.iter_mut() {
        let mut body = std::mem::take(&mut function.body);
        pad_block(&mut body, function);
        function.body = body;
    }
}

fn pad_block(block: &mut Block, function: &mut Function) {
    for mut stmt in std::mem::take(&mut block.0) {
        match &mut stmt {
            Stmt::Kernel(kernel) => {
                if let Some(copy) = padded(kernel, function) {
                    block.0.push(Stmt::Kernel(Box::new(copy)));
                }
            }
            Stmt::If(_, then_body, else_body) => {
                pad_block(then_body, function);
                pad_block(else_body, function);
            }
            Stmt::While(_, body) => pad_block(body, function),
            _ => {}
        }
        block.0.push(stmt);
    }
}

/// What the reductions' values are made of, except through addresses and guards.
fn reduced_values(kernel: &Kernel) -> Vec<ExprId> {
    let mut found: Vec<ExprId> = Vec::new();
    let mut stack: Vec<ExprId> = kernel.reductions.iter().map(|r| r.value).collect();
    while let Some(id) = stack.pop() {
        if found.contains(&id) {
            continue;
        }
        found.push(id);
        let expr = kernel.exprs.get(id);
        if !matches!(expr, Expr::Load { .. }) {
            stack.extend(Exprs::operands(expr));
        }
    }
    found
}

/// Makes the kernel read from a padded copy, and gives the kernel that makes the copy.
fn padded(kernel: &mut Kernel, function: &mut Function) -> Option<Kernel> {
    if kernel.reductions.is_empty() || kernel.is_ordered || kernel.axes.iter().any(|a| a.kind == AxisKind::Scan) {
        return None;
    }
    let is_guarded = |&id: &ExprId| matches!(kernel.exprs.get(id), Expr::Load { guard: Some(_), .. });
    let load = reduced_values(kernel).into_iter().find(is_guarded)?;
    let Expr::Load { buffer, dtype, index, guard: Some(guard) } = kernel.exprs.get(load).clone() else { return None };
    kernel.exprs.constant(guard.other)?;
    let dims = known_dims(function, buffer)?;
    let mut forms = super::contraction::forms(kernel);
    let index_forms: Vec<Linear> = index.iter().map(|&i| forms.form(i)).collect();
    if !is_bounds_check(kernel, &mut forms, guard.cond, &index_forms, &dims) {
        return None;
    }
    // For each dimension: the first index and the extent of the copy.
    let mut spans = Vec::new();
    for (form, &dim) in index_forms.iter().zip(&dims) {
        let (low, high) = forms.range(form)?;
        spans.push(if low >= 0 && high < dim { (0, dim) } else { (low, high - low + 1) });
    }
    let n_elements = spans.iter().try_fold(1i64, |n, &(_, extent)| n.checked_mul(extent))?;
    let n_points = kernel.axes.iter().try_fold(1i64, |n, axis| n.checked_mul(axis.extent.known()?))?;
    if n_points / n_elements.max(1) < 2 {
        return None;
    }
    let dim_of = |&(_, extent): &(i64, i64)| Dim::Const(extent);
    let copy = function.buffers.push(Buffer {
        name: "padded".into(),
        dtype,
        dims: spans.iter().map(dim_of).collect(),
        class: BufferClass::Temp { offset: None },
        layout: Layout::RowMajor,
    });
    let mut exprs = Exprs::new();
    let (mut source, mut cond) = (Vec::new(), None);
    for (d, (&(low, extent), &dim)) in spans.iter().zip(&dims).enumerate() {
        let axis = exprs.add(Expr::Axis(d));
        let shift = exprs.int(low);
        let i = exprs.binary(BinaryOp::Add, axis, shift);
        source.push(i);
        for (bound, op) in [(0, BinaryOp::Ge), (dim, BinaryOp::Lt)] {
            let is_needed = if bound == 0 { low < 0 } else { low + extent > dim };
            if is_needed {
                let bound = exprs.int(bound);
                let test = exprs.binary(op, i, bound);
                cond = Some(cond.map_or(test, |cond| exprs.binary(BinaryOp::And, cond, test)));
            }
        }
    }
    let other = exprs.import(&kernel.exprs, guard.other, &mut HashMap::new(), &mut |_, _| None);
    let guard = cond.map(|cond| Guard { cond, other });
    let value = exprs.add(Expr::Load { buffer, dtype, index: source.into(), guard });
    let index = (0..spans.len()).map(|d| exprs.add(Expr::Axis(d))).collect();
    let pad = Kernel {
        name: format!("pad+{}", kernel.name),
        place: kernel.place.clone(),
        axes: spans.iter().map(|span| Axis { extent: dim_of(span), kind: AxisKind::Parallel }).collect(),
        exprs,
        reductions: Vec::new(),
        stores: vec![Store { buffer: copy, index, value, guard: None, mode: StoreMode::Set }],
        is_ordered: false,
    };
    // Only the contraction's own load is redirected: others of the same buffer keep their index and guard.
    let target = kernel.exprs.get(load).clone();
    let source = kernel.exprs.clone();
    let mut redirected = kernel.clone();
    redirected.exprs = source;
    let mut memo_index: HashMap<ExprId, ExprId> = HashMap::new();
    let Expr::Load { index: old_index, .. } = &target else { return None };
    let mut leaf = |exprs: &mut Exprs, expr: &Expr| {
        let Expr::Load { buffer: b, index, guard: Some(_), .. } = expr else { return None };
        if *b != buffer || index.len() != old_index.len() {
            return None;
        }
        // Ids differ after copying; the same load is one whose copied index equals the copy of the old index.
        for (&old, &new) in old_index.iter().zip(index) {
            let known = exprs.import(&kernel.exprs, old, &mut memo_index, &mut |_, _| None);
            if known != new {
                return None;
            }
        }
        let mut index = index.to_vec();
        for (i, &(low, _)) in index.iter_mut().zip(&spans) {
            let low = exprs.int(low);
            *i = exprs.binary(BinaryOp::Sub, *i, low);
        }
        Some(exprs.add(Expr::Load { buffer: copy, dtype, index: index.into(), guard: None }))
    };
    let new = rebuilt(&redirected, &mut leaf);
    *kernel = new;
    Some(pad)
}

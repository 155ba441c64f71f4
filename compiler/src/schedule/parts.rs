//! Kernels that move complex numbers of two doubles, which no register holds, move their parts.
//!
//! In memory an element is two doubles side by side, so the buffers are seen as doubles under one dimension more, and the kernel gets
//! an axis for it. Such kernels only move elements (`ops::aten::complex` computes on parts); others stay as they are.

use super::fuse::rebuilt;
use crate::loops::{
    Axis, AxisKind, Buffer, BufferClass, BufferId, Const, Dim, Expr, Exprs, Function, Kernel, Layout, Program, Stmt,
    StoreMode, walk_mut,
};
use crate::types::DType;
use std::collections::HashMap;

/// Rewrites the kernels of a program that move complex numbers of two doubles.
pub(crate) fn move_parts(program: &mut Program) {
    for function in program.functions.iter_mut() {
        let mut body = std::mem::take(&mut function.body);
        let mut seen = HashMap::new();
        walk_mut(&mut body, &mut |stmt| {
            if let Stmt::Kernel(kernel) = stmt
                && let Some(new) = of_parts(kernel, function, &mut seen)
            {
                **kernel = new;
            }
        });
        function.body = body;
    }
}

/// The kernel that moves parts instead; `None` where this one does not only move complex numbers, or does not know where they lie.
fn of_parts(kernel: &Kernel, function: &mut Function, seen: &mut HashMap<BufferId, BufferId>) -> Option<Kernel> {
    let is_complex = |buffer: BufferId, function: &Function| function.buffers[buffer].dtype == DType::C128;
    let moves = |store: &crate::loops::Store| is_complex(store.buffer, function) && store.mode == StoreMode::Set;
    if kernel.stores.is_empty() || !kernel.stores.iter().all(moves) {
        return None;
    }
    for id in kernel.exprs.ids().filter(|id| kernel.exprs.dtype(*id) == DType::C128) {
        match kernel.exprs.get(id) {
            Expr::Load { buffer, .. } => _ = as_doubles(function, *buffer, seen)?,
            Expr::Const(c) if c.bits == 0 => {}
            Expr::Select(..) => {}
            _ => return None,
        }
    }
    for store in &kernel.stores {
        as_doubles(function, store.buffer, seen)?;
    }
    let axis = kernel.axes.len();
    let mut new = rebuilt(kernel, &mut |exprs: &mut Exprs, expr: &Expr| match expr {
        Expr::Load { buffer, dtype: DType::C128, index, guard } => {
            let part = exprs.add(Expr::Axis(axis));
            let index = index.iter().copied().chain([part]).collect();
            Some(exprs.add(Expr::Load { buffer: seen[buffer], dtype: DType::F64, index, guard: *guard }))
        }
        Expr::Const(Const { dtype: DType::C128, .. }) => Some(exprs.add(Expr::Const(Const::float(DType::F64, 0.0)))),
        _ => None,
    });
    new.axes.push(Axis { extent: Dim::Const(2), kind: AxisKind::Parallel });
    let part = new.exprs.add(Expr::Axis(axis));
    for store in &mut new.stores {
        store.buffer = seen[&store.buffer];
        store.index = store.index.iter().copied().chain([part]).collect();
    }
    Some(new)
}

/// The buffer's memory as doubles.
fn as_doubles(function: &mut Function, buffer: BufferId, seen: &mut HashMap<BufferId, BufferId>) -> Option<BufferId> {
    if let Some(known) = seen.get(&buffer) {
        return Some(*known);
    }
    let info = &function.buffers[buffer];
    if info.layout != Layout::RowMajor {
        return None;
    }
    let class = match info.class {
        BufferClass::Alias { of, offset } => {
            BufferClass::Alias { of, offset: Dim::Const(offset.known()?.checked_mul(2)?) }
        }
        _ => BufferClass::Alias { of: buffer, offset: Dim::Const(0) },
    };
    let (name, dims) = (info.name.clone(), info.dims.iter().copied().chain([Dim::Const(2)]).collect());
    let doubles = function.buffers.push(Buffer { name, dtype: DType::F64, dims, class, layout: Layout::RowMajor });
    seen.insert(buffer, doubles);
    Some(doubles)
}

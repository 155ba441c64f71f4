//! Walks over the statements of a body, and the buffers each touches.

use super::{Arg, Block, BufferId, Expr, Kernel, Operand, Stmt};
use std::sync::Arc;

/// Calls `visit` for every statement, nested ones after the one that holds them.
pub fn walk(block: &Block, visit: &mut dyn FnMut(&Stmt)) {
    walk_stmts(&block.0, visit);
}

/// [`walk`] over statements that are in no block yet.
pub fn walk_stmts(stmts: &[Stmt], visit: &mut dyn FnMut(&Stmt)) {
    for stmt in stmts {
        visit(stmt);
        match stmt {
            Stmt::If(_, then_body, else_body) => {
                walk(then_body, visit);
                walk(else_body, visit);
            }
            Stmt::While(_, body) => walk(body, visit),
            _ => {}
        }
    }
}

/// [`walk`] with statements that may be changed.
pub fn walk_mut(block: &mut Block, visit: &mut dyn FnMut(&mut Stmt)) {
    for stmt in &mut block.0 {
        visit(stmt);
        match stmt {
            Stmt::If(_, then_body, else_body) => {
                walk_mut(then_body, visit);
                walk_mut(else_body, visit);
            }
            Stmt::While(_, body) => walk_mut(body, visit),
            _ => {}
        }
    }
}

/// The arguments of the routine `raise_format`, which raises what a check with parts says.
pub fn raise_args(class: &Arc<str>, message: &Operand, parts: &[Operand]) -> Vec<Arg> {
    let operands = [Operand::Str(Arc::clone(class)), message.clone()].into_iter().chain(parts.iter().cloned());
    operands.map(Arg::Scalar).collect()
}

/// The buffers a kernel reads, each once.
pub fn kernel_reads(kernel: &Kernel) -> Vec<BufferId> {
    let mut buffers: Vec<BufferId> = Vec::new();
    for id in kernel.exprs.ids() {
        if let Expr::Load { buffer, .. } = kernel.exprs.get(id)
            && !buffers.contains(buffer)
        {
            buffers.push(*buffer);
        }
    }
    buffers
}

/// The buffers a statement itself touches; not those of nested statements.
pub fn touched(stmt: &Stmt) -> Vec<BufferId> {
    let of_args = |args: &[Arg]| {
        let buffers = args.iter().filter_map(|arg| if let Arg::Buffer(b) = arg { Some(*b) } else { None });
        buffers.collect()
    };
    match stmt {
        Stmt::Kernel(kernel) => {
            let mut buffers = kernel_reads(kernel);
            buffers.extend(kernel.stores.iter().map(|s| s.buffer));
            buffers
        }
        Stmt::Launch(launch) => launch.buffers.clone(),
        Stmt::Alloc(buffer) | Stmt::Read(_, buffer) => vec![*buffer],
        Stmt::Call { args, .. } | Stmt::Return(_, args) => of_args(args),
        Stmt::Assign(..)
        | Stmt::LoadState(..)
        | Stmt::StoreState(..)
        | Stmt::If(..)
        | Stmt::While(..)
        | Stmt::Check { .. }
        | Stmt::Raise { .. } => Vec::new(),
    }
}

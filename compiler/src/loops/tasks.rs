//! Functions that other functions start as tasks (`task_start`, `task_run`): which a program still needs, and which of their
//! arguments.

use super::{
    Arg, BufferClass, BufferId, Const, Dim, Expr, Function, FunctionId, HostExpr, InputKind, Operand, Program, Stmt,
    VarId, touched, walk, walk_mut,
};
use crate::index::{Id as _, IndexVec};
use std::collections::BTreeSet;

/// The function that a statement starts as a task.
pub fn task_of(stmt: &Stmt) -> Option<FunctionId> {
    match stmt {
        Stmt::Call { routine: "task_start" | "task_run", args, .. } => match args.first() {
            Some(Arg::Scalar(Operand::Const(number))) => usize::try_from(number.as_i64()).ok().map(FunctionId::new),
            _ => None,
        },
        _ => None,
    }
}

/// Drops the functions that nothing can call: tasks of code that was given up while lowering.
pub fn drop_unreached(program: &mut Program) {
    let entries = program.methods.iter().flat_map(|method| method.variants.iter().map(|v| v.function));
    let mut queue: Vec<FunctionId> = entries.chain(program.init).chain(program.prepare).collect();
    let mut reached = BTreeSet::new();
    while let Some(id) = queue.pop() {
        if reached.insert(id) {
            walk(&program.functions[id].body, &mut |stmt| queue.extend(task_of(stmt)));
        }
    }
    if reached.len() == program.functions.len() {
        return;
    }
    let mut kept = IndexVec::new();
    let mut renamed = vec![None; program.functions.len()];
    for id in program.functions.ids().filter(|id| reached.contains(id)) {
        renamed[id.index()] = Some(kept.push(std::mem::take(&mut program.functions[id])));
    }
    let new = |id: FunctionId| renamed[id.index()].expect("what is called was reached");
    let variants = program.methods.iter_mut().flat_map(|method| &mut method.variants);
    variants.for_each(|variant| variant.function = new(variant.function));
    program.init = program.init.map(new);
    program.prepare = program.prepare.map(new);
    for function in kept.iter_mut() {
        walk_mut(&mut function.body, &mut |stmt| {
            if let (Some(id), Stmt::Call { args, .. }) = (task_of(stmt), stmt) {
                args[0] = task_arg(new(id));
            }
        });
    }
    program.functions = kept;
}

/// A function as the first argument of the routines that start tasks.
pub fn task_arg(function: FunctionId) -> Arg {
    Arg::Scalar(Operand::Const(Const::int(i64::from(function.0))))
}

/// Drops the inputs that a function does not use; gives the numbers of those that stay.
pub fn keep_used_inputs(function: &mut Function) -> Vec<usize> {
    let mut used = Used::default();
    used.function(function);
    let is_used = |kind: &InputKind| match kind {
        InputKind::Tensor { buffer, .. } => used.buffers.contains(buffer),
        InputKind::Scalar { var, .. } | InputKind::Object(var) | InputKind::Shared { var, .. } => {
            used.vars.contains(var)
        }
        InputKind::None | InputKind::Str(_) => false,
    };
    let mut kept = Vec::new();
    for (number, input) in std::mem::take(&mut function.inputs).into_iter().enumerate() {
        let is_used = is_used(&input.kind);
        if let InputKind::Tensor { buffer, .. } = &input.kind {
            // What nothing reads is scratch that nothing touches.
            function.buffers[*buffer].class =
                if is_used { BufferClass::Input(kept.len()) } else { BufferClass::Temp { offset: None } };
        }
        if is_used {
            kept.push(number);
            function.inputs.push(input);
        }
    }
    kept
}

/// Variables and buffers that statements use.
#[derive(Default)]
struct Used {
    vars: BTreeSet<VarId>,
    buffers: BTreeSet<BufferId>,
}

impl Used {
    fn function(&mut self, function: &Function) {
        walk(&function.body, &mut |stmt| self.stmt(stmt));
        // Aliases use what they are of; extents and objects of used buffers are used.
        loop {
            let n_before = (self.vars.len(), self.buffers.len());
            for id in self.buffers.clone() {
                let buffer = &function.buffers[id];
                buffer.measures().for_each(|dim| self.dim(dim));
                match buffer.class {
                    BufferClass::Alias { of, .. } => _ = self.buffers.insert(of),
                    BufferClass::Object(var) => _ = self.vars.insert(var),
                    BufferClass::Input(_)
                    | BufferClass::Output(_)
                    | BufferClass::Weight(_)
                    | BufferClass::Prepared(_)
                    | BufferClass::Temp { .. }
                    | BufferClass::Slot(_) => {}
                }
            }
            if (self.vars.len(), self.buffers.len()) == n_before {
                return;
            }
        }
    }

    fn dim(&mut self, dim: Dim) {
        if let Dim::Var(var) = dim {
            self.vars.insert(var);
        }
    }

    fn operand(&mut self, operand: &Operand) {
        if let Operand::Var(var) = operand {
            self.vars.insert(*var);
        }
    }

    fn stmt(&mut self, stmt: &Stmt) {
        self.buffers.extend(touched(stmt));
        match stmt {
            Stmt::Assign(_, expr) => match expr {
                HostExpr::Copy(a) | HostExpr::Unary(_, a) | HostExpr::Cast(_, a) => self.operand(a),
                HostExpr::Binary(_, a, b) => [a, b].into_iter().for_each(|o| self.operand(o)),
                HostExpr::Select(c, a, b) => [c, a, b].into_iter().for_each(|o| self.operand(o)),
            },
            Stmt::Kernel(kernel) => {
                kernel.axes.iter().for_each(|axis| self.dim(axis.extent));
                for id in kernel.exprs.ids() {
                    if let Expr::Var(var, _) = kernel.exprs.get(id) {
                        self.vars.insert(*var);
                    }
                }
            }
            Stmt::Launch(launch) => launch.scalars.iter().for_each(|o| self.operand(o)),
            Stmt::Alloc(_) | Stmt::Read(..) | Stmt::LoadState(..) => {}
            Stmt::StoreState(_, operand) | Stmt::If(operand, ..) => self.operand(operand),
            Stmt::While(var, _) => _ = self.vars.insert(*var),
            Stmt::Call { args, .. } | Stmt::Return(_, args) => {
                for arg in args {
                    if let Arg::Scalar(operand) = arg {
                        self.operand(operand);
                    }
                }
            }
            Stmt::Check { cond, message, parts, .. } => {
                [cond, message].into_iter().chain(parts).for_each(|o| self.operand(o));
            }
            Stmt::Raise { message, .. } => self.operand(message),
        }
    }
}

//! What is known of a nest's registers before code is emitted: which ones need no variable, and which ones, and which
//! local arrays, a piece of the nest uses.

use crate::index::Id as _;
use crate::loops::nest::{Memory, Nest, NestStmt, Op, Reg, Val};
use std::collections::BTreeSet;

/// For each register, whether it is set once and read only where that setting reaches, so that its value can be used as
/// it is.
pub(super) fn set_once(nest: &Nest) -> Vec<bool> {
    let mut walk = SetOnce {
        n_sets: vec![0; nest.regs.len()],
        is_visible: vec![false; nest.regs.len()],
        is_simple: vec![true; nest.regs.len()],
    };
    walk.block(&nest.body);
    walk.n_sets.iter().zip(&walk.is_simple).map(|(&n, &simple)| n == 1 && simple).collect()
}

struct SetOnce {
    n_sets: Vec<usize>,
    is_visible: Vec<bool>,
    is_simple: Vec<bool>,
}

impl SetOnce {
    fn read(&mut self, reg: Reg) {
        self.is_simple[reg.index()] &= self.is_visible[reg.index()];
    }

    fn set(&mut self, reg: Reg, scope: &mut Vec<Reg>) {
        self.n_sets[reg.index()] += 1;
        if !self.is_visible[reg.index()] {
            self.is_visible[reg.index()] = true;
            scope.push(reg);
        }
    }

    fn block(&mut self, stmts: &[NestStmt]) {
        let mut scope = Vec::new();
        for stmt in stmts {
            reads(stmt, &mut |reg| self.read(reg));
            match stmt {
                NestStmt::Set(reg, _) => self.set(*reg, &mut scope),
                NestStmt::For { counter, body, .. } => {
                    let mut inner = Vec::new();
                    self.set(*counter, &mut inner);
                    self.block(body);
                    self.leave(inner);
                }
                NestStmt::If { then_body, else_body, .. } => {
                    self.block(then_body);
                    self.block(else_body);
                }
                NestStmt::Store { .. } | NestStmt::Prefetch { .. } => {}
            }
        }
        self.leave(scope);
    }

    fn leave(&mut self, scope: Vec<Reg>) {
        for reg in scope {
            self.is_visible[reg.index()] = false;
        }
    }
}

/// Registers that a block reads before (or without) setting them itself, in order, if they are set outside at all.
pub(super) fn captured(nest: &Nest, body: &[NestStmt], counter: Reg) -> Vec<Reg> {
    let mut read = BTreeSet::new();
    visit(body, &mut |stmt| reads(stmt, &mut |reg| _ = read.insert(reg)));
    let mut set_outside = BTreeSet::new();
    for stmt in &nest.body {
        if matches!(stmt, NestStmt::For { body: other, .. } if std::ptr::eq(other.as_slice(), body)) {
            continue;
        }
        visit(std::slice::from_ref(stmt), &mut |stmt| {
            if let NestStmt::Set(reg, _) = stmt {
                set_outside.insert(*reg);
            }
        });
    }
    set_outside.remove(&counter);
    read.intersection(&set_outside).copied().collect()
}

/// Local arrays that a block uses, without the parallel loops in it where `skip_parallel` is given.
pub(super) fn locals(body: &[NestStmt], parallel: Parallel) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut note = |memory: Memory| {
        if let Memory::Local(local) = memory {
            found.insert(local);
        }
    };
    let mut one = |stmt: &NestStmt| match stmt {
        NestStmt::Set(_, Op::Load { memory, .. } | Op::Gather { memory, .. })
        | NestStmt::Store { memory, .. }
        | NestStmt::Prefetch { memory, .. } => note(*memory),
        NestStmt::Set(..) | NestStmt::For { .. } | NestStmt::If { .. } => {}
    };
    for stmt in body {
        if parallel == Parallel::Skip && matches!(stmt, NestStmt::For { parallel: true, .. }) {
            continue;
        }
        visit(std::slice::from_ref(stmt), &mut one);
    }
    found
}

/// Whether bodies of parallel loops count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Parallel {
    /// They are functions of their own.
    Skip,
    /// They count.
    Include,
}

/// Calls `f` with each statement, outer ones first.
fn visit(stmts: &[NestStmt], f: &mut dyn FnMut(&NestStmt)) {
    for stmt in stmts {
        f(stmt);
        match stmt {
            NestStmt::For { body, .. } => visit(body, f),
            NestStmt::If { then_body, else_body, .. } => {
                visit(then_body, f);
                visit(else_body, f);
            }
            NestStmt::Set(..) | NestStmt::Store { .. } | NestStmt::Prefetch { .. } => {}
        }
    }
}

/// Calls `f` with each register that the statement itself reads, without the blocks in it.
fn reads(stmt: &NestStmt, f: &mut dyn FnMut(Reg)) {
    let mut val = |val: &Val| {
        if let Val::Reg(reg) = val {
            f(*reg);
        }
    };
    match stmt {
        NestStmt::Set(_, op) => match op {
            Op::Copy(a) | Op::Unary(_, a) | Op::Cast(a) | Op::Iota(a) => val(a),
            Op::Param(_) => {}
            Op::Binary(_, a, c) => [a, c].into_iter().for_each(val),
            Op::Fma(a, c, d) | Op::Select(a, c, d) => [a, c, d].into_iter().for_each(val),
            Op::Load { offset: at, mask, .. } | Op::Gather { offsets: at, mask, .. } => {
                std::iter::once(at).chain(mask).for_each(val);
            }
            Op::Horizontal(_, reg) | Op::Extract(reg, _) => val(&Val::Reg(*reg)),
        },
        NestStmt::For { begin, end, .. } => [begin, end].into_iter().for_each(val),
        NestStmt::If { cond, .. } => val(cond),
        NestStmt::Store { offset, value, mask, .. } => [offset, value].into_iter().chain(mask).for_each(val),
        NestStmt::Prefetch { offset, .. } => val(offset),
    }
}

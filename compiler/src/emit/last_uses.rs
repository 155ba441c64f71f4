//! Which statements are the last to use what an object variable holds, so that its reference can be moved instead of counted.
//!
//! A variable is live where some path reads it before it is set again. One walk backwards finds that; a loop's condition is
//! reached from before it and from its end, and there is live what is live after the loop or read first by a round.
//!
//! ```text
//! v5 = call str_format("{}x", v3)     last use of v3: the text may be extended where it lies
//! v3 = v5                             last use of v5: v3 takes its reference over
//! ```

use crate::loops::{Arg, Block, BufferClass, BufferId, Function, HostExpr, Operand, Stmt, VarId, VarType, touched};
use std::collections::{BTreeSet, HashMap};
use std::ptr::from_ref;

type Vars = BTreeSet<VarId>;

/// The object variables that statements of a function use last.
#[derive(Default)]
pub(super) struct LastUses(HashMap<*const Stmt, Vars>);

impl LastUses {
    /// Those of a function, which must stay where it is.
    pub(super) fn of(function: &Function) -> Self {
        let mut found = Self::default();
        if function.vars.iter().any(|var| var.ty == VarType::Object) {
            let mut walk = Walk { function, first_reads: HashMap::new(), found: &mut found.0 };
            walk.learn(&function.body);
            walk.block(&function.body, Vars::new(), true);
        }
        found
    }

    /// Whether nothing reads this variable after this statement before setting it.
    pub(super) fn is_last(&self, stmt: &Stmt, var: VarId) -> bool {
        self.0.get(&from_ref(stmt)).is_some_and(|vars| vars.contains(&var))
    }
}

struct Walk<'a> {
    function: &'a Function,
    /// What a round of each loop reads before setting it.
    first_reads: HashMap<*const Stmt, Vars>,
    found: &'a mut HashMap<*const Stmt, Vars>,
}

impl Walk<'_> {
    /// Finds what rounds read first, inner loops before outer ones.
    fn learn(&mut self, block: &Block) {
        for stmt in &block.0 {
            match stmt {
                Stmt::If(_, yes, no) => {
                    self.learn(yes);
                    self.learn(no);
                }
                Stmt::While(_, body) => {
                    self.learn(body);
                    let reads = self.block(body, Vars::new(), false);
                    self.first_reads.insert(stmt, reads);
                }
                _ => {}
            }
        }
    }

    /// What is live before a block, from what is live after it.
    fn block(&mut self, block: &Block, live: Vars, is_final: bool) -> Vars {
        block.0.iter().rev().fold(live, |live, stmt| self.stmt(stmt, live, is_final))
    }

    fn stmt(&mut self, stmt: &Stmt, mut live: Vars, is_final: bool) -> Vars {
        match stmt {
            Stmt::If(_, yes, no) => {
                let mut before = self.block(yes, live.clone(), is_final);
                before.extend(self.block(no, live, is_final));
                return before;
            }
            Stmt::While(_, body) => {
                live.extend(self.first_reads.get(&from_ref(stmt)).into_iter().flatten());
                if is_final {
                    self.block(body, live.clone(), true);
                }
                return live;
            }
            // Nothing comes after these.
            Stmt::Return(..) | Stmt::Raise { .. } => live.clear(),
            Stmt::Assign(var, _) | Stmt::Read(var, _) | Stmt::LoadState(var, _) => live.retain(|other| other != var),
            Stmt::Call { results, .. } => live.retain(|var| !results.contains(var)),
            Stmt::Kernel(_) | Stmt::Launch(_) | Stmt::Alloc(_) | Stmt::StoreState(..) | Stmt::Check { .. } => {}
        }
        let used = self.used(stmt);
        if is_final {
            let last: Vars = used.difference(&live).copied().collect();
            if !last.is_empty() {
                self.found.insert(stmt, last);
            }
        }
        live.extend(used);
        live
    }

    /// The object variables that a statement itself reads.
    fn used(&self, stmt: &Stmt) -> Vars {
        let mut vars = Vars::new();
        let mut operand = |operand: &Operand| {
            if let Operand::Var(var) = operand
                && self.function.vars[*var].ty == VarType::Object
            {
                vars.insert(*var);
            }
        };
        match stmt {
            Stmt::Assign(_, expr) => match expr {
                HostExpr::Copy(a) | HostExpr::Unary(_, a) | HostExpr::Cast(_, a) => operand(a),
                HostExpr::Binary(_, a, b) => [a, b].into_iter().for_each(operand),
                HostExpr::Select(a, b, c) => [a, b, c].into_iter().for_each(operand),
            },
            Stmt::Call { args, .. } | Stmt::Return(_, args) => {
                let scalars = args.iter().filter_map(|arg| if let Arg::Scalar(a) = arg { Some(a) } else { None });
                scalars.for_each(operand);
            }
            Stmt::Check { message, parts, .. } => std::iter::once(message).chain(parts).for_each(operand),
            Stmt::StoreState(_, a) | Stmt::Raise { message: a, .. } => operand(a),
            Stmt::Kernel(_)
            | Stmt::Launch(_)
            | Stmt::Alloc(_)
            | Stmt::Read(..)
            | Stmt::LoadState(..)
            | Stmt::If(..)
            | Stmt::While(..) => {}
        }
        vars.extend(touched(stmt).into_iter().filter_map(|buffer| owner(self.function, buffer)));
        vars
    }
}

/// The variable of the object that a buffer's memory belongs to.
pub(super) fn owner(function: &Function, id: BufferId) -> Option<VarId> {
    match function.buffers[id].class {
        BufferClass::Object(var) => Some(var),
        BufferClass::Alias { of, .. } => owner(function, of),
        BufferClass::Input(_)
        | BufferClass::Output(_)
        | BufferClass::Weight(_)
        | BufferClass::Prepared(_)
        | BufferClass::Temp { .. }
        | BufferClass::Slot(_) => None,
    }
}

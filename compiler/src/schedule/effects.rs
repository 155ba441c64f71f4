//! What statements read and write: the facts that moving a kernel past them needs.

use crate::index::Id as _;
use crate::loops::{Block, BufferClass, BufferId, Expr, Function, Kernel, Program, Stmt, VarId, kernel_reads, touched};
use std::collections::{BTreeMap, BTreeSet};

/// Memory that may be the same under several buffers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Place {
    /// Memory of one buffer of the function.
    Own(BufferId),
    /// A slot of the instance, whichever buffer uses it.
    Slot(usize),
    /// A tensor of a run-time object: any of them.
    Object,
    /// An argument.
    Input(usize),
    /// A result.
    Output(usize),
}

/// The memory behind a buffer.
pub(crate) fn place(function: &Function, buffer: BufferId) -> Place {
    let root = super::flat::root(function, buffer);
    match function.buffers[root].class {
        BufferClass::Slot(slot) => Place::Slot(slot),
        BufferClass::Object(_) => Place::Object,
        BufferClass::Input(n) => Place::Input(n),
        BufferClass::Output(n) => Place::Output(n),
        BufferClass::Weight(_) | BufferClass::Prepared(_) | BufferClass::Temp { .. } | BufferClass::Alias { .. } => {
            Place::Own(root)
        }
    }
}

/// What a statement, or several, read and write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effects {
    /// Memory that is read.
    pub(crate) reads: BTreeSet<Place>,
    /// Memory that is written or given up.
    pub(crate) writes: BTreeSet<Place>,
    /// Variables that are set.
    pub(crate) assigned: BTreeSet<VarId>,
    /// Whether the function may end there.
    pub(crate) may_end: bool,
}

impl Effects {
    /// Adds a statement's effects, nested statements included.
    pub(crate) fn add(&mut self, function: &Function, stmt: &Stmt) {
        let at = |buffer: &BufferId| place(function, *buffer);
        match stmt {
            Stmt::Kernel(kernel) => {
                self.reads.extend(kernel_reads(kernel).iter().map(at));
                self.writes.extend(kernel.stores.iter().map(|s| at(&s.buffer)));
            }
            Stmt::Launch(_) | Stmt::Call { .. } => {
                let places: Vec<Place> = touched(stmt).iter().map(at).collect();
                self.reads.extend(&places);
                self.writes.extend(&places);
                if let Stmt::Call { results, args, .. } = stmt {
                    self.may_end = true;
                    self.assigned.extend(results);
                    // A routine may change the tensors of a list it is given.
                    if !args.is_empty() {
                        self.reads.insert(Place::Object);
                        self.writes.insert(Place::Object);
                    }
                }
            }
            Stmt::Alloc(buffer) => _ = self.writes.insert(at(buffer)),
            Stmt::Read(var, buffer) => {
                self.reads.insert(at(buffer));
                self.assigned.insert(*var);
            }
            Stmt::Return(..) => {
                self.reads.extend(touched(stmt).iter().map(at));
                self.may_end = true;
            }
            Stmt::Assign(var, _) | Stmt::LoadState(var, _) => _ = self.assigned.insert(*var),
            Stmt::If(_, then_body, else_body) => {
                self.add_block(function, then_body);
                self.add_block(function, else_body);
            }
            Stmt::While(_, body) => self.add_block(function, body),
            Stmt::Check { .. } | Stmt::Raise { .. } => self.may_end = true,
            Stmt::StoreState(..) => {}
        }
    }

    fn add_block(&mut self, function: &Function, block: &Block) {
        for stmt in &block.0 {
            self.add(function, stmt);
        }
    }
}

/// The variables a kernel reads: in expressions and as extents of axes and buffers.
pub(crate) fn kernel_vars(function: &Function, kernel: &Kernel) -> BTreeSet<VarId> {
    let mut vars = BTreeSet::new();
    let mut add_dim = |dim: crate::loops::Dim| {
        if let crate::loops::Dim::Var(var) = dim {
            vars.insert(var);
        }
    };
    kernel.axes.iter().for_each(|axis| add_dim(axis.extent));
    let buffers = kernel_reads(kernel).into_iter().chain(kernel.stores.iter().map(|s| s.buffer));
    for buffer in buffers {
        function.buffers[buffer].measures().for_each(&mut add_dim);
        if let BufferClass::Object(var) = function.buffers[buffer].class {
            add_dim(crate::loops::Dim::Var(var));
        }
    }
    for id in kernel.exprs.ids() {
        if let Expr::Var(var, _) = kernel.exprs.get(id) {
            vars.insert(*var);
        }
    }
    vars
}

/// For each slot, how many buffers of the program's functions are in it.
pub(crate) fn slot_users(program: &Program) -> BTreeMap<usize, usize> {
    let mut users = BTreeMap::new();
    for function in program.functions.iter() {
        for buffer in function.buffers.iter() {
            if let BufferClass::Slot(slot) = buffer.class {
                *users.entry(slot).or_insert(0) += 1;
            }
        }
    }
    users
}

/// How many statements of a function touch each buffer itself (not through aliases), `Alloc` apart; and whether it has aliases.
pub(crate) fn uses(function: &Function) -> (Vec<usize>, Vec<bool>) {
    let n = function.buffers.len();
    let (mut counts, mut has_alias) = (vec![0; n], vec![false; n]);
    crate::loops::walk(&function.body, &mut |stmt| {
        if !matches!(stmt, Stmt::Alloc(_)) {
            let mut buffers = touched(stmt);
            buffers.sort_unstable();
            buffers.dedup();
            for buffer in buffers {
                counts[buffer.index()] += 1;
            }
        }
    });
    for buffer in function.buffers.iter() {
        if let BufferClass::Alias { of, .. } = buffer.class {
            has_alias[of.index()] = true;
        }
    }
    (counts, has_alias)
}

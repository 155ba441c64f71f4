//! Branches that only the running program decides.

use super::aliases::{held, storages_of};
use super::facts::{Before, Fact, Outcome, Stop};
use super::places::{Place, Stores};
use super::walk::{Lowerer, Next, Part};
use crate::index::{Id as _, IndexVec};
use crate::ir::NodeId;
use crate::loops::{Block, BufferId, Operand, Stmt};
use crate::ops::builder::Heap;
use crate::ops::value::{Cell, CellId, Contents, StorageId, Value};
use std::collections::BTreeSet;

/// One way through a branch: the statements, and the state of things at its end.
struct Way {
    stmts: Block,
    end: Option<(Vec<Value>, Heap)>,
}

impl<'m, 'p> Lowerer<'m, 'p> {
    /// Walks both sides of a branch. Where both end, their results are merged and `next` follows once; where that cannot be,
    /// this fails with [`Stop::Incompatible`] if `next` may not be called twice. `of` is the node whose outputs the results are.
    pub(super) fn branch(
        &mut self,
        cond: &Operand,
        of: Option<(usize, NodeId)>,
        on_true: &mut Part<'_, 'm, 'p>,
        on_false: &mut Part<'_, 'm, 'p>,
        next: &mut Next<'_, 'm, 'p>,
    ) -> Outcome<()> {
        if let Some(answer) = self.b.assumed(cond) {
            return if answer { on_true(self, next) } else { on_false(self, next) };
        }
        let mut snapshot = self.snapshot();
        loop {
            match self.merged(cond, of, on_true, on_false) {
                Ok(Some(values)) => return next(self, values),
                Ok(None) => return Ok(()),
                Err(Stop::Shared(storages)) => {
                    self.restore(&snapshot);
                    self.move_to_objects(&storages);
                    snapshot = self.snapshot();
                }
                Err(Stop::Instances(cells)) => {
                    self.restore(&snapshot);
                    self.to_run_time_objects(&cells)?;
                    snapshot = self.snapshot();
                }
                Err(Stop::Incompatible(_)) => {
                    self.restore(&snapshot);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        // What follows is walked on each side, where the condition's value is known.
        let n_decided = self.b.decided.len();
        self.b.open_region();
        self.b.assume(cond, true);
        let result = on_true(self, next);
        self.b.decided.truncate(n_decided);
        result?;
        let yes = self.b.close_region();
        self.b.heap = snapshot.heap();
        self.b.open_region();
        self.b.assume(cond, false);
        let result = on_false(self, next);
        self.b.decided.truncate(n_decided);
        result?;
        let no = self.b.close_region();
        self.b.push(Stmt::If(cond.clone(), yes, no));
        Ok(())
    }

    /// Walks both sides and merges their ends; `None` if neither ends.
    fn merged(
        &mut self,
        cond: &Operand,
        of: Option<(usize, NodeId)>,
        on_true: &mut Part<'_, 'm, 'p>,
        on_false: &mut Part<'_, 'm, 'p>,
    ) -> Outcome<Option<Vec<Value>>> {
        let before = Before::now(&self.b);
        let base = self.b.heap.clone();
        let mut yes = self.way((cond, true), on_true)?;
        self.b.heap = base.clone();
        let mut no = self.way((cond, false), on_false)?;
        self.b.heap = base.clone();
        match (yes.end.take(), no.end.take()) {
            (None, None) => {
                self.b.push(Stmt::If(cond.clone(), yes.stmts, no.stmts));
                Ok(None)
            }
            (Some(end), None) => {
                self.b.push(Stmt::If(cond.clone(), Block::default(), no.stmts));
                Ok(Some(self.go_on(yes.stmts, end)))
            }
            (None, Some(end)) => {
                self.b.push(Stmt::If(cond.clone(), yes.stmts, Block::default()));
                Ok(Some(self.go_on(no.stmts, end)))
            }
            (Some(yes_end), Some(no_end)) => {
                let values = self.merge(cond, of, before, &base, (&mut yes.stmts, yes_end), (&mut no.stmts, no_end))?;
                self.b.push(Stmt::If(cond.clone(), yes.stmts, no.stmts));
                Ok(Some(values))
            }
        }
    }

    fn way(&mut self, (cond, value): (&Operand, bool), part: &mut Part<'_, 'm, 'p>) -> Outcome<Way> {
        self.b.open_region();
        let n_decided = self.b.decided.len();
        self.b.assume(cond, value);
        let values = self.straight(part);
        self.b.decided.truncate(n_decided);
        let values = values?;
        let stmts = self.b.close_region();
        let heap = self.b.heap.clone();
        Ok(Way { stmts, end: values.map(|values| (values, heap)) })
    }

    /// The only way on from a branch: its statements simply follow.
    fn go_on(&mut self, stmts: Block, (values, heap): (Vec<Value>, Heap)) -> Vec<Value> {
        stmts.0.into_iter().for_each(|stmt| self.b.push(stmt));
        self.b.heap = heap;
        let depth = self.b.depth();
        for storage in self.b.heap.storages.iter_mut().filter(|s| s.region > depth) {
            storage.region = depth;
        }
        values
    }

    /// Makes places for what differs between the two ends, and stores to them at the end of each way.
    #[allow(clippy::too_many_arguments, reason = "both ends of the branch")]
    fn merge(
        &mut self,
        cond: &Operand,
        of: Option<(usize, NodeId)>,
        before: Before,
        base: &Heap,
        yes: (&mut Block, (Vec<Value>, Heap)),
        no: (&mut Block, (Vec<Value>, Heap)),
    ) -> Outcome<Vec<Value>> {
        let (yes_stmts, (yes_values, yes_heap)) = yes;
        let (no_stmts, (no_values, no_heap)) = no;
        // Facts look at each side's own heap.
        let facts_of = |lw: &mut Self, heap: &Heap, values: &[Value]| {
            let mine = std::mem::replace(&mut lw.b.heap, heap.clone());
            let facts: Vec<_> = values.iter().map(|v| Fact::of(&lw.b, v, before)).collect();
            lw.b.heap = mine;
            facts
        };
        let n_storages = base.storages.len();
        let is_same_tensor = |x: &Value, y: &Value| match x {
            Value::Tensor(t) => x == y && t.storage.index() < n_storages,
            _ => false,
        };
        let yes_facts = facts_of(self, &yes_heap, &yes_values);
        let no_facts = facts_of(self, &no_heap, &no_values);
        let mut places = Vec::with_capacity(yes_values.len());
        for (i, (x, y)) in yes_facts.iter().zip(&no_facts).enumerate() {
            let fact = if is_same_tensor(&yes_values[i], &no_values[i]) {
                Fact::Fixed(yes_values[i].clone())
            } else if yes_values[i] == Value::bool(true) && no_values[i] == Value::bool(false) {
                // The condition itself, so that what it decides is decided once.
                Fact::Fixed(Value::Bool(cond.clone()))
            } else {
                let ends = [&yes_values[i], &no_values[i]];
                let lasting = ends.into_iter().flat_map(storages_of).filter(|storage| storage.index() < n_storages);
                let lasting: Vec<StorageId> = lasting.collect();
                if let Some((act, node)) = of {
                    self.check_lasting(act, node, &[i], &lasting, None, base)?;
                }
                self.join(x, y)?
            };
            places.push(Place::new(&mut self.b, &fact));
        }
        // Cells and storages that existed before and that either side changed.
        let mut cells: Vec<(CellId, Place)> = Vec::new();
        for cell in base.cells.ids() {
            if yes_heap.cells[cell] == base.cells[cell] && no_heap.cells[cell] == base.cells[cell] {
                continue;
            }
            let fact = |lw: &mut Self, heap: &Heap| {
                let mine = std::mem::replace(&mut lw.b.heap, heap.clone());
                let fact = Fact::of_cell(&lw.b, &lw.b.heap.cells[cell], before);
                lw.b.heap = mine;
                fact
            };
            let (mut x, mut y) = (fact(self, &yes_heap), fact(self, &no_heap));
            let ends = (&yes_heap.cells[cell], &no_heap.cells[cell]);
            let mut lasting = Vec::new();
            if std::mem::discriminant(ends.0) == std::mem::discriminant(ends.1) {
                let items = held(ends.0).zip(held(ends.1)).zip(x.parts_mut().zip(y.parts_mut()));
                for ((in_yes, in_no), (of_yes, of_no)) in items {
                    if is_same_tensor(in_yes, in_no) {
                        (*of_yes, *of_no) = (Fact::Fixed(in_yes.clone()), Fact::Fixed(in_no.clone()));
                    } else if !matches!(ends.0, Cell::Object(_)) {
                        // An object goes everywhere; what is written of its attributes is their own memory (`attributes`).
                        let storages = [in_yes, in_no].into_iter().flat_map(storages_of);
                        lasting.extend(storages.filter(|storage| storage.index() < n_storages));
                    }
                }
            }
            if let Some((act, node)) = of {
                self.check_lasting(act, node, &[], &lasting, Some(cell), base)?;
            }
            let joined = self.join(&x, &y)?;
            cells.push((cell, Place::new(&mut self.b, &joined)));
        }
        let moved_by = |heap: &Heap, id: StorageId| {
            let differs = heap.storages[id].contents != base.storages[id].contents;
            differs && self.b.object_in(heap, id).is_some()
        };
        let moved = base.storages.ids().filter(|id| moved_by(&yes_heap, *id) || moved_by(&no_heap, *id)).collect();
        Self::check_moved(moved)?;
        let mut storages: Vec<(StorageId, BufferId)> = Vec::new();
        for id in base.storages.ids() {
            let contents = |heap: &Heap| heap.storages[id].contents.clone();
            if contents(&yes_heap) != contents(&no_heap) {
                let storage = &base.storages[id];
                let (dtype, dims) = (storage.dtype, storage.dims.clone());
                let class = super::places::scratch(&mut self.b, &dims);
                storages.push((id, self.b.add_buffer(dtype, &dims, class)));
            }
        }
        for (stmts, values, heap) in [(yes_stmts, yes_values, yes_heap.clone()), (no_stmts, no_values, no_heap)] {
            let held = heap.cells.clone();
            let before_stores = heap.clone();
            self.b.heap = heap;
            self.b.reopen_region(std::mem::take(stmts));
            let mut stores = Stores::default();
            for (place, value) in places.iter().zip(&values) {
                stores.add(&mut self.b, place, value)?;
            }
            for (cell, place) in &cells {
                let contents = self.b.heap.cells[*cell].clone();
                stores.add_cell(&mut self.b, place, &contents)?;
            }
            for (id, buffer) in &storages {
                let storage = self.b.heap.storages[*id].clone();
                let whole = crate::ops::value::Tensor::whole(*id, storage.dtype, &storage.dims);
                stores.add_tensor(*buffer, whole);
            }
            // A list that became an object in its place has taken tensors along.
            let apart = base.storages.ids().filter(|id| self.b.object_in(&before_stores, *id).is_none());
            Self::check_moved(apart.filter(|id| self.b.object_behind(*id).is_some()).collect())?;
            self.check_nested(&base.cells, &held, |id| cells.iter().any(|(cell, _)| *cell == id))?;
            stores.emit(&mut self.b);
            *stmts = self.b.close_region();
        }
        self.b.heap = base.clone();
        let depth = self.b.depth();
        for id in base.storages.ids() {
            self.b.heap.storages[id].contents = yes_heap.storages[id].contents.clone();
        }
        for (id, buffer) in storages {
            let storage = &mut self.b.heap.storages[id];
            storage.contents = Contents::Buffer(buffer);
            storage.region = depth;
        }
        for (cell, place) in cells {
            let contents = match &place {
                // An object keeps the identity of the archive's object it is.
                Place::Object(_, attrs) => {
                    let attrs: Vec<_> = attrs.iter().map(|(k, p)| (k.clone(), p.value(&mut self.b))).collect();
                    let mut contents = base.cells[cell].clone();
                    if let Cell::Object(object) = &mut contents {
                        object.attrs = attrs.into_iter().collect();
                    }
                    contents
                }
                other => other.cell(&mut self.b),
            };
            self.b.heap.cells[cell] = contents;
        }
        Ok(places.iter().map(|p| p.value(&mut self.b)).collect())
    }

    /// Storages from before control flow parted that are in objects on one of its paths.
    pub(super) fn check_moved(moved: BTreeSet<StorageId>) -> Outcome<()> {
        if moved.is_empty() { Ok(()) } else { Err(Stop::Shared(moved)) }
    }

    /// Moves storages into objects; those that cannot be are left.
    pub(super) fn move_to_objects(&mut self, storages: &BTreeSet<StorageId>) {
        for id in storages {
            self.b.move_to_object(*id);
        }
    }

    /// Memory that lives on under other names, and that only one path gives: a place can refer to it if it is in an object.
    fn check_lasting(
        &mut self,
        act: usize,
        node: NodeId,
        outputs: &[usize],
        lasting: &[StorageId],
        cell: Option<CellId>,
        base: &Heap,
    ) -> Outcome<()> {
        let is_apart = |id: &StorageId| {
            self.b.object_in(base, *id).is_none() && (cell.is_some() || self.has_other_names(act, node, *id, base))
        };
        let apart: Vec<StorageId> = lasting.iter().copied().filter(is_apart).collect();
        if apart.is_empty() || !self.may_be_written(act, node, outputs, &apart, cell) {
            return Ok(());
        }
        if apart.iter().all(|id| self.b.may_move(*id)) {
            return Err(Stop::Shared(apart.into_iter().collect()));
        }
        Err(Stop::Incompatible("memory that is written to after paths meet".to_owned()))
    }

    /// Makes instances objects of the running program.
    pub(super) fn to_run_time_objects(&mut self, cells: &BTreeSet<CellId>) -> Outcome<()> {
        for cell in cells {
            self.b.to_run_time_object(*cell)?;
        }
        Ok(())
    }

    /// Stores into places may have made objects of lists and instances that others now hold. Those from before control flow parted
    /// have a place of their own, or stay what they are.
    pub(super) fn check_nested(
        &self,
        base: &IndexVec<CellId, Cell>,
        before_stores: &IndexVec<CellId, Cell>,
        has_place: impl Fn(CellId) -> bool,
    ) -> Outcome<()> {
        let changed = |id: &CellId| self.b.heap.cells[*id] != before_stores[*id];
        let made: BTreeSet<CellId> = base.ids().filter(|id| changed(id) && !has_place(*id)).collect();
        if made.is_empty() {
            return Ok(());
        }
        // What an instance holds is made an object with it.
        let instances: BTreeSet<CellId> = made.into_iter().filter(|id| matches!(base[*id], Cell::Object(_))).collect();
        if !instances.is_empty() {
            return Err(Stop::Instances(instances));
        }
        Err(Stop::Incompatible("a list that only some paths put into another one".to_owned()))
    }

    /// What is known of a value that has one of two facts where paths meet.
    fn join(&self, x: &Fact, y: &Fact) -> Outcome<Fact> {
        if self.grows_lists { Fact::join_growing(&self.b, x, y) } else { Fact::join(&self.b, x, y) }
    }
}

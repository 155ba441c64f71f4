//! Loops: unrolled where their course is known and short, else loops of the program.

use super::aliases::{Moving, held, storages_of};
use super::facts::{Before, Fact, Outcome, Stop};
use super::places::{Place, Stores};
use super::walk::{Lowerer, Next, Snapshot};
use crate::ir::{NodeId, ValueId};
use crate::loops::{BinaryOp, Const, Operand, Stmt, VarType};
use crate::ops::builder::Heap;
use crate::ops::effects;
use crate::ops::value::{Cell, CellId, Contents, StorageId, Value, known, known_int};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Loops with known bounds unroll up to this many rounds,
const MAX_UNROLLED_ROUNDS: i64 = 256;
/// and as long as they do not grow the program by more statements than this.
const MAX_UNROLLED_STMTS: usize = 20_000;

impl<'m, 'p> Lowerer<'m, 'p> {
    /// Walks `prim::Loop`: unrolled where its course is known and short, else as a loop of the program.
    pub(super) fn run_loop(&mut self, act: usize, node: NodeId, next: &mut Next<'_, 'm, 'p>) -> Outcome<()> {
        let graph = self.graph(act);
        let inputs = &graph.nodes[node].inputs;
        let trip = match self.get(act, inputs[0])? {
            Value::Int(o) => o,
            other => return Err(self.b.user(format!("expected an int as loop bound, found {}", other.kind())).into()),
        };
        let cond = self.get(act, inputs[1])?;
        let cond = self.truth(&cond)?;
        let carried = inputs[2..].iter().map(|v| self.get(act, *v)).collect::<Outcome<Vec<_>>>()?;
        let snapshot = self.snapshot();
        match self.unrolled(act, node, &trip, &cond, &carried) {
            Ok(Unrolled::Done(values)) => return next(self, values),
            Ok(Unrolled::NeverEnds) => return Ok(()),
            Ok(Unrolled::NotKnown) | Err(Stop::Incompatible(_)) => self.restore(&snapshot),
            Err(error) => return Err(error),
        }
        match self.rolled_somehow(act, node, 0, &trip, &cond, &carried, &snapshot) {
            Err(Stop::Incompatible(_)) => {
                self.restore(&snapshot);
                match self.peeled(act, node, &trip, &cond, &carried, next) {
                    Err(Stop::Incompatible(_)) if self.may_box && !self.b.boxes => self.restore(&snapshot),
                    result => return result,
                }
                // Its rounds leave values of several kinds.
                self.b.boxes = true;
                let result = self.rolled_somehow(act, node, 0, &trip, &cond, &carried, &snapshot);
                self.b.boxes = false;
                next(self, result?)
            }
            Err(error) => Err(error),
            Ok(values) => next(self, values),
        }
    }

    /// One round of a loop's body: its condition for the next round, and the carried values.
    fn round(&mut self, act: usize, node: NodeId, i: Value, carried: &[Value]) -> Outcome<Option<(Value, Vec<Value>)>> {
        let body = self.graph(act).nodes[node].blocks[0];
        let params = self.graph(act).blocks[body].params.clone();
        let args = std::iter::once(i).chain(carried.iter().cloned());
        for (param, arg) in params.into_iter().zip(args) {
            self.set(act, param, arg);
        }
        self.trace_round(act, node);
        let end = self.straight(&mut |lw, next| lw.run_block(act, body, 0, next))?;
        Ok(end.map(|values| {
            let mut values = values.into_iter();
            let cond = values.next().expect("a loop body returns its condition first");
            (cond, values.collect())
        }))
    }

    fn unrolled(
        &mut self,
        act: usize,
        node: NodeId,
        trip: &Operand,
        cond: &Operand,
        carried: &[Value],
    ) -> Outcome<Unrolled> {
        let Some(trip) = known_int(trip) else { return Ok(Unrolled::NotKnown) };
        let (mut cond, mut carried) = (cond.clone(), carried.to_vec());
        let is_counted = trip != i64::MAX;
        if is_counted && trip > MAX_UNROLLED_ROUNDS {
            return Ok(Unrolled::NotKnown);
        }
        let start = self.b.n_stmts();
        for i in 0.. {
            match known(&cond) {
                Some(c) if c.bits == 0 || i >= trip => return Ok(Unrolled::Done(carried)),
                Some(_) if i < MAX_UNROLLED_ROUNDS && self.b.n_stmts() - start < MAX_UNROLLED_STMTS => {}
                _ if i >= trip => return Ok(Unrolled::Done(carried)),
                Some(_) | None => return Ok(Unrolled::NotKnown),
            }
            let rounds = if is_counted { trip } else { 8 };
            let grown = self.b.n_stmts() - start;
            if i == 1 && grown.saturating_mul(usize::try_from(rounds).unwrap_or(usize::MAX)) > MAX_UNROLLED_STMTS {
                return Ok(Unrolled::NotKnown);
            }
            match self.round(act, node, Value::int(i), &carried)? {
                Some((again, values)) => {
                    cond = self.truth(&again)?;
                    carried = values;
                }
                None => return Ok(Unrolled::NeverEnds),
            }
        }
        unreachable!("the count of rounds has no end")
    }

    /// [`Self::rolled`]; if the paths of a round do not meet, once more with lists and dicts as objects of the running program.
    #[allow(clippy::too_many_arguments, reason = "the loop's own parts")]
    fn rolled_somehow(
        &mut self,
        act: usize,
        node: NodeId,
        first_round: i64,
        trip: &Operand,
        cond: &Operand,
        carried: &[Value],
        entry: &Snapshot,
    ) -> Outcome<Vec<Value>> {
        match self.rolled(act, node, first_round, trip, cond, carried, entry) {
            Err(Stop::Incompatible(_)) if !self.grows_lists => {
                self.restore(entry);
                self.b.to_run_time_where_possible(carried);
                let changed = self.changed_within(act, node);
                self.b.to_run_time_where_possible(&changed);
                let entry = self.snapshot();
                self.grows_lists = true;
                let result = self.rolled(act, node, first_round, trip, cond, carried, &entry);
                self.grows_lists = false;
                result
            }
            result => result,
        }
    }

    /// The values from before a loop that operators in it change.
    fn changed_within(&self, act: usize, node: NodeId) -> Vec<Value> {
        let graph = self.graph(act);
        let blocks = &graph.nodes[node].blocks;
        let nodes: Vec<_> = blocks.iter().flat_map(|block| graph.nodes_within(*block)).map(|(_, id)| id).collect();
        let of_nodes = nodes.iter().flat_map(|id| {
            let node = &graph.nodes[*id];
            node.outputs.iter().chain(node.blocks.iter().flat_map(|block| &graph.blocks[*block].params))
        });
        let own: HashSet<ValueId> =
            of_nodes.chain(blocks.iter().flat_map(|block| &graph.blocks[*block].params)).copied().collect();
        let written = nodes.iter().flat_map(|id| effects::written(&graph.nodes[*id]));
        written.filter(|value| !own.contains(value)).filter_map(|value| self.get(act, value).ok()).collect()
    }

    /// A loop of the program, from this round on. What a round may change is found by trying: facts start out exact and widen until a round
    /// leaves them as they are.
    #[allow(clippy::too_many_arguments, reason = "the loop's own parts")]
    fn rolled(
        &mut self,
        act: usize,
        node: NodeId,
        first_round: i64,
        trip: &Operand,
        cond: &Operand,
        carried: &[Value],
        entry: &Snapshot,
    ) -> Outcome<Vec<Value>> {
        let before = Before::now(&self.b);
        let mut plan = LoopPlan { values: vec![None; carried.len()], ..LoopPlan::default() };
        loop {
            match self.try_loop(act, node, first_round, trip, cond, carried, before, &mut plan) {
                Ok(Some(values)) => return Ok(values),
                Ok(None) => self.restore(entry),
                Err(Stop::Instances(cells)) => {
                    self.restore(entry);
                    plan.begin_with(cells);
                }
                Err(stop) => return Err(stop),
            }
        }
    }

    /// One try at a loop with this plan; `None` if the plan had to widen.
    #[allow(clippy::too_many_arguments, reason = "the loop's own parts")]
    fn try_loop(
        &mut self,
        act: usize,
        node: NodeId,
        first_round: i64,
        trip: &Operand,
        cond: &Operand,
        carried: &[Value],
        before: Before,
        plan: &mut LoopPlan,
    ) -> Outcome<Option<Vec<Value>>> {
        self.move_to_objects(&plan.shared);
        self.to_run_time_objects(&plan.instances)?;
        let base = self.b.heap.clone();
        // Places for what changes, holding the values on entry.
        let mut stores = Stores::default();
        let mut places = Vec::with_capacity(carried.len());
        for (fact, value) in plan.values.iter().zip(carried) {
            let place = fact.as_ref().map(|fact| Place::new(&mut self.b, fact));
            if let Some(place) = &place {
                stores.add(&mut self.b, place, value)?;
            }
            places.push(place);
        }
        self.check_instances(&base)?;
        let mut cell_places = Vec::new();
        for (cell, fact) in &plan.cells {
            let place = Place::new(&mut self.b, fact);
            let contents = self.b.heap.cells[*cell].clone();
            stores.add_cell(&mut self.b, &place, &contents)?;
            self.check_instances(&base)?;
            cell_places.push((*cell, place));
        }
        let mut storage_buffers = Vec::new();
        for &id in &plan.storages {
            let storage = self.b.heap.storages[id].clone();
            let class = super::places::scratch(&mut self.b, &storage.dims);
            let buffer = self.b.add_buffer(storage.dtype, &storage.dims, class);
            let whole = crate::ops::value::Tensor::whole(id, storage.dtype, &storage.dims);
            stores.add_tensor(buffer, whole);
            storage_buffers.push((id, buffer));
        }
        stores.emit(&mut self.b);
        let counter = self.b.new_var(VarType::Int, "i");
        let go = self.b.new_var(VarType::Bool, "go");
        self.b.assign(counter, Operand::Const(Const::int(first_round)));
        let any = self.b.binary(BinaryOp::Lt, Operand::Const(Const::int(first_round)), trip.clone());
        let first = self.b.binary(BinaryOp::And, any, cond.clone());
        self.b.assign(go, first);

        // Inside, the storages and cells that change live in their places.
        let inner_depth = self.b.depth() + 1;
        for &(id, buffer) in &storage_buffers {
            let storage = &mut self.b.heap.storages[id];
            (storage.contents, storage.region) = (Contents::Buffer(buffer), inner_depth);
        }
        for (cell, place) in &cell_places {
            self.b.heap.cells[*cell] = self.place_cell(*cell, place, &base);
        }
        let values: Vec<Value> = places
            .iter()
            .zip(carried)
            .map(|(place, value)| place.as_ref().map_or_else(|| value.clone(), |place| place.value(&mut self.b)))
            .collect();
        let inside = self.b.heap.clone();
        self.b.open_region();
        let end = self.round(act, node, Value::Int(Operand::Var(counter)), &values)?;
        if let Some((again, results)) = end {
            if self.widen(plan, before, &values, carried, &results, &inside, &base)? {
                return Ok(None);
            }
            let moving = self.moving(plan, carried, &values, &results, &inside, &base);
            if plan.share(self.must_share(act, node, &moving, &inside, &base)?) {
                return Ok(None);
            }
            let again = self.truth(&again)?;
            let ended = self.b.heap.cells.clone();
            let mut stores = Stores::default();
            for (place, value) in places.iter().zip(&results) {
                if let Some(place) = place {
                    stores.add(&mut self.b, place, value)?;
                }
            }
            for (cell, place) in &cell_places {
                let contents = self.b.heap.cells[*cell].clone();
                stores.add_cell(&mut self.b, place, &contents)?;
            }
            for &(id, buffer) in &storage_buffers {
                let storage = self.b.heap.storages[id].clone();
                stores.add_tensor(buffer, crate::ops::value::Tensor::whole(id, storage.dtype, &storage.dims));
            }
            let moved = base.storages.ids().filter(|id| self.b.object_in(&inside, *id).is_none());
            if plan.share(moved.filter(|id| self.b.object_behind(*id).is_some()).collect()) {
                return Ok(None);
            }
            self.check_nested(&base.cells, &ended, |id| plan.cells.contains_key(&id))?;
            let held = self.b.new_var(VarType::Bool, "");
            self.b.assign(held, again);
            stores.emit(&mut self.b);
            let stepped = self.b.binary(BinaryOp::Add, Operand::Var(counter), Operand::Const(Const::int(1)));
            let more = self.b.binary(BinaryOp::Lt, stepped.clone(), trip.clone());
            let more = self.b.binary(BinaryOp::And, more, Operand::Var(held));
            self.b.assign(counter, stepped);
            self.b.assign(go, more);
        }
        let body = self.b.close_region();
        self.b.push(Stmt::While(go, body));
        self.b.heap = inside;
        let depth = self.b.depth();
        for (id, _) in storage_buffers {
            self.b.heap.storages[id].region = depth;
        }
        for storage in self.b.heap.storages.iter_mut().filter(|s| s.region > depth) {
            storage.region = depth;
        }
        Ok(Some(values))
    }

    /// Instances that a store made objects of the running program have to be that before the loop.
    fn check_instances(&self, base: &Heap) -> Outcome<()> {
        let is_made =
            |id: &CellId| matches!(base.cells[*id], Cell::Object(_)) && self.b.heap.cells[*id] != base.cells[*id];
        let made: BTreeSet<CellId> = base.cells.ids().filter(is_made).collect();
        if made.is_empty() { Ok(()) } else { Err(Stop::Instances(made)) }
    }

    /// The storages of tensors that move in a loop.
    fn moving(
        &self,
        plan: &LoopPlan,
        carried: &[Value],
        values: &[Value],
        results: &[Value],
        inside: &Heap,
        base: &Heap,
    ) -> Vec<Moving> {
        let mut moving = Vec::new();
        let mut add = |entries: Vec<StorageId>, places: Vec<StorageId>, results: Vec<StorageId>| {
            let three = entries.into_iter().zip(places).zip(results);
            moving.extend(three.map(|((entry, place), result)| Moving { entry, place, result }));
        };
        let of = |value: &Value| storages_of(value).collect::<Vec<_>>();
        let of_cell = |heap: &Heap, cell: CellId| held(&heap.cells[cell]).flat_map(storages_of).collect();
        for i in (0..carried.len()).filter(|i| plan.values[*i].is_some()) {
            add(of(&carried[i]), of(&values[i]), of(&results[i]));
        }
        for &cell in plan.cells.keys() {
            add(of_cell(base, cell), of_cell(inside, cell), of_cell(&self.b.heap, cell));
        }
        moving
    }

    /// The contents a cell has while a place holds them; an object stays the archive's object it is.
    fn place_cell(&mut self, cell: CellId, place: &Place, base: &Heap) -> Cell {
        match (place, &base.cells[cell]) {
            (Place::Object(_, attrs), Cell::Object(object)) => {
                let mut object = object.clone();
                object.attrs = attrs.iter().map(|(k, p)| (k.clone(), p.value(&mut self.b))).collect();
                Cell::Object(object)
            }
            _ => place.cell(&mut self.b),
        }
    }

    /// Widens the plan by what a round did; whether that changed it.
    #[allow(clippy::too_many_arguments, reason = "both ends of the round")]
    fn widen(
        &mut self,
        plan: &mut LoopPlan,
        before: Before,
        values: &[Value],
        entry_values: &[Value],
        results: &[Value],
        inside: &Heap,
        base: &Heap,
    ) -> Outcome<bool> {
        let mut is_wider = false;
        for (i, result) in results.iter().enumerate() {
            let known = plan.values[i].clone();
            if known.is_none() && *result == values[i] {
                continue;
            }
            let old = known.clone().unwrap_or_else(|| Fact::of(&self.b, &entry_values[i], before));
            let new = Fact::of(&self.b, result, before);
            let joined = Fact::join_growing(&self.b, &old, &new)?;
            if known.as_ref() != Some(&joined) {
                plan.values[i] = Some(joined);
                is_wider = true;
            }
        }
        for cell in base.cells.ids() {
            if self.b.heap.cells[cell] == inside.cells[cell] {
                continue;
            }
            let known = plan.cells.get(&cell).cloned();
            let old = known.clone().unwrap_or_else(|| Fact::of_cell(&self.b, &base.cells[cell], before));
            let new = Fact::of_cell(&self.b, &self.b.heap.cells[cell], before);
            let joined = Fact::join_growing(&self.b, &old, &new)?;
            if known.as_ref() != Some(&joined) {
                plan.cells.insert(cell, joined);
                is_wider = true;
            }
        }
        let changed = |id: &StorageId| self.b.heap.storages[*id].contents != inside.storages[*id].contents;
        let (moved, changed): (BTreeSet<_>, BTreeSet<_>) =
            base.storages.ids().filter(changed).partition(|id| self.b.object_behind(*id).is_some());
        if plan.share(moved) {
            return Ok(true);
        }
        for id in changed {
            is_wider |= plan.storages.insert(id);
        }
        Ok(is_wider)
    }

    /// A loop whose first round leaves other kinds of values than it found: that round stands before the loop.
    #[allow(clippy::too_many_arguments, reason = "the loop's own parts")]
    fn peeled(
        &mut self,
        act: usize,
        node: NodeId,
        trip: &Operand,
        cond: &Operand,
        carried: &[Value],
        next: &mut Next<'_, 'm, 'p>,
    ) -> Outcome<()> {
        let mut rest = |lw: &mut Self, next: &mut Next<'_, 'm, 'p>| {
            let Some((again, values)) = lw.round(act, node, Value::int(0), carried)? else { return Ok(()) };
            let again = lw.truth(&again)?;
            let entry = lw.snapshot();
            let values = lw.rolled_somehow(act, node, 1, trip, &again, &values, &entry)?;
            next(lw, values)
        };
        let any = self.b.binary(BinaryOp::Lt, Operand::Const(Const::int(0)), trip.clone());
        let enters = self.b.binary(BinaryOp::And, any, cond.clone());
        match known(&enters) {
            Some(c) if c.bits != 0 => rest(self, next),
            _ => {
                let mut skip = |lw: &mut Self, next: &mut Next<'_, 'm, 'p>| next(lw, carried.to_vec());
                self.branch(&enters, None, &mut rest, &mut skip, next)
            }
        }
    }
}

/// What a loop is found to change.
#[derive(Default)]
struct LoopPlan {
    /// For each carried value that changes, what is known of it throughout.
    values: Vec<Option<Fact>>,
    /// Cells from before the loop whose contents change.
    cells: BTreeMap<CellId, Fact>,
    /// Storages from before the loop whose contents move.
    storages: BTreeSet<StorageId>,
    /// Storages that are in objects before the loop begins.
    shared: BTreeSet<StorageId>,
    /// Instances that are objects of the running program before the loop begins.
    instances: BTreeSet<CellId>,
}

impl LoopPlan {
    /// Notes that these storages have to be in objects; what was found of values and cells so far then no longer holds.
    fn share(&mut self, storages: BTreeSet<StorageId>) -> bool {
        if storages.is_subset(&self.shared) {
            return false;
        }
        self.shared.extend(storages);
        self.begin_again();
        true
    }

    /// The same of instances that have to be objects of the running program.
    fn begin_with(&mut self, instances: BTreeSet<CellId>) {
        self.instances.extend(instances);
        self.begin_again();
    }

    fn begin_again(&mut self) {
        let (shared, instances) = (std::mem::take(&mut self.shared), std::mem::take(&mut self.instances));
        *self = Self { values: vec![None; self.values.len()], shared, instances, ..Self::default() };
    }
}

/// How an attempt to unroll a loop ended.
enum Unrolled {
    /// With these carried values.
    Done(Vec<Value>),
    /// Some round never ends normally.
    NeverEnds,
    /// The number of rounds is not known, or too large.
    NotKnown,
}

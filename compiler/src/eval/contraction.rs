//! Sums of products at the speed of plain loops: convolutions, matrix products, average pooling.
//!
//! Every index and every condition of the loads is taken apart into a linear form of the axes plus tables for what is not
//! linear, each table evaluated once for a block. One axis (the one with the best strides that no table depends on) becomes
//! a row: its bounds follow from the conditions, and the row itself is a loop over two slices. Whatever does not fit this
//! shape is left to the general way of running a kernel. Results differ from it only by the order of additions.

use super::column::Column;
use super::kernel::{Block, Place, Values, World, for_each_block, reachable, store_block};
use crate::index::Id as _;
use crate::loops::{AxisKind, BinaryOp, Expr, ExprId, Exprs, Kernel, ReduceOp, Store};
use crate::types::DType;
use std::collections::HashMap;

/// Most outer points of a block.
const BLOCK_POINTS: i64 = 1 << 14;
/// Most entries of a table.
const TABLE_ENTRIES: i64 = 1 << 20;

/// `base + coef . axes + sum of c * table`.
#[derive(Clone, Default)]
struct Form {
    base: i64,
    coef: Vec<i64>,
    tables: Vec<(i64, usize)>,
}

impl Form {
    fn constant(n_axes: usize, base: i64) -> Self {
        Self { base, coef: vec![0; n_axes], tables: Vec::new() }
    }

    fn scaled(mut self, by: i64) -> Self {
        self.base = self.base.wrapping_mul(by);
        self.coef.iter_mut().for_each(|c| *c = c.wrapping_mul(by));
        self.tables.iter_mut().for_each(|(c, _)| *c = c.wrapping_mul(by));
        self
    }

    fn plus(mut self, other: &Self) -> Self {
        self.base = self.base.wrapping_add(other.base);
        self.coef.iter_mut().zip(&other.coef).for_each(|(a, b)| *a = a.wrapping_add(*b));
        self.tables.extend(&other.tables);
        self
    }

    fn is_constant(&self) -> bool {
        self.tables.is_empty() && self.coef.iter().all(|&c| c == 0)
    }
}

/// An integer or boolean expression that is not linear, at every point of the axes it depends on.
struct Table {
    expr: ExprId,
    axes: Vec<usize>,
    values: Vec<i64>,
}

/// One load of the product, with the elements of its buffer after all conversions.
struct Factor<T> {
    elements: Vec<T>,
    /// Position of the element.
    offset: usize,
    /// Indices with the extents that they must keep to.
    dims: Vec<(usize, i64)>,
}

/// A kernel taken apart.
struct Plan {
    forms: Vec<Form>,
    /// Forms that must not be negative for the product to count.
    conds: Vec<usize>,
    tables: Vec<Table>,
}

/// A type that sums of products are computed in.
trait Number: Copy {
    /// What the sum is kept in, with the rules of [`super::fold`].
    type Sum: Copy;
    const ZERO: Self::Sum;
    fn add(sum: Self::Sum, value: Self) -> Self::Sum;
    fn mul(a: Self, b: Self) -> Self;
    fn join(a: Self::Sum, b: Self::Sum) -> Self::Sum;
    fn column(sums: &[Self::Sum]) -> Column;
    fn elements(column: Column) -> Option<Vec<Self>>;
    fn is_zero(self) -> bool;
}

macro_rules! float {
    ($t:ty, $kind:ident) => {
        impl Number for $t {
            type Sum = f64;
            const ZERO: f64 = 0.0;
            #[inline]
            fn add(sum: f64, value: Self) -> f64 {
                sum + f64::from(value)
            }
            #[inline]
            fn mul(a: Self, b: Self) -> Self {
                a * b
            }
            #[inline]
            fn join(a: f64, b: f64) -> f64 {
                a + b
            }
            #[allow(clippy::cast_possible_truncation, reason = "a sum of f32 is rounded at the end")]
            fn column(sums: &[f64]) -> Column {
                Column::$kind(sums.iter().map(|&x| x as $t).collect())
            }
            fn elements(column: Column) -> Option<Vec<Self>> {
                if let Column::$kind(v) = column { Some(v) } else { None }
            }
            fn is_zero(self) -> bool {
                self == 0.0
            }
        }
    };
}

macro_rules! int {
    ($t:ty, $kind:ident) => {
        impl Number for $t {
            type Sum = Self;
            const ZERO: Self = 0;
            #[inline]
            fn add(sum: Self, value: Self) -> Self {
                sum.wrapping_add(value)
            }
            #[inline]
            fn mul(a: Self, b: Self) -> Self {
                a.wrapping_mul(b)
            }
            #[inline]
            fn join(a: Self, b: Self) -> Self {
                a.wrapping_add(b)
            }
            fn column(sums: &[Self]) -> Column {
                Column::$kind(sums.to_vec())
            }
            fn elements(column: Column) -> Option<Vec<Self>> {
                if let Column::$kind(v) = column { Some(v) } else { None }
            }
            fn is_zero(self) -> bool {
                self == 0
            }
        }
    };
}

float!(f32, F32);
float!(f64, F64);
int!(i32, I32);
int!(i64, I64);

/// Runs the kernel if it is a sum of products; `false` if it is not, with nothing done.
pub(super) fn run(kernel: &Kernel, extents: &[i64], world: &mut World<'_, '_>) -> Result<bool, String> {
    let [reduction] = &kernel.reductions[..] else { return Ok(false) };
    let has_scan = kernel.axes.iter().any(|axis| axis.kind == AxisKind::Scan);
    if reduction.op != ReduceOp::Sum || kernel.is_ordered || has_scan || extents.contains(&0) {
        return Ok(false);
    }
    match kernel.exprs.dtype(reduction.value) {
        DType::F32 => run_typed::<f32>(kernel, reduction.value, extents, world),
        DType::F64 => run_typed::<f64>(kernel, reduction.value, extents, world),
        DType::I32 => run_typed::<i32>(kernel, reduction.value, extents, world),
        DType::I64 => run_typed::<i64>(kernel, reduction.value, extents, world),
        _ => Ok(false),
    }
}

fn run_typed<T: Number>(
    kernel: &Kernel,
    value: ExprId,
    extents: &[i64],
    world: &mut World<'_, '_>,
) -> Result<bool, String> {
    let Some((mut plan, factors)) = Planner::new(kernel, extents, world).plan::<T>(value)? else { return Ok(false) };
    let n_outer = kernel.axes.iter().filter(|axis| axis.kind != AxisKind::Reduce).count();
    let in_stores = |s: &Store| s.index.iter().copied().chain([s.value]).chain(s.guard).collect::<Vec<_>>();
    let stored = reachable(&kernel.exprs, kernel.stores.iter().flat_map(in_stores));
    let mut values = Values::new(&kernel.exprs);
    for_each_block(&extents[..n_outer], BLOCK_POINTS, |outer| {
        let mut block = outer.outer(n_outer);
        block.start.extend(extents[n_outer..].iter().map(|_| 0));
        block.len.extend(&extents[n_outer..]);
        plan.fill_tables(&block, &mut Values::new(&kernel.exprs), world)?;
        let sums = plan.sums(&factors, &block, n_outer)?;
        values.accs = vec![T::column(&sums)];
        values.evaluate(&stored, outer, world)?;
        store_block(kernel, &values, outer, world)
    })?;
    Ok(true)
}

/// Takes a kernel apart.
struct Planner<'k, 'a, 'm> {
    exprs: &'k Exprs,
    extents: &'k [i64],
    world: &'a World<'a, 'm>,
    plan: Plan,
    known_tables: HashMap<ExprId, usize>,
}

/// How the indices are walked, and the factors whose product is summed.
type Planned<T> = (Plan, Vec<Factor<T>>);

impl<'k, 'a, 'm> Planner<'k, 'a, 'm> {
    fn new(kernel: &'k Kernel, extents: &'k [i64], world: &'a World<'a, 'm>) -> Self {
        let plan = Plan { forms: Vec::new(), conds: Vec::new(), tables: Vec::new() };
        Self { exprs: &kernel.exprs, extents, world, plan, known_tables: HashMap::new() }
    }

    fn plan<T: Number>(mut self, value: ExprId) -> Result<Option<Planned<T>>, String> {
        let has_load = |id| {
            let mut needed = reachable(self.exprs, std::iter::once(id)).into_iter();
            needed.any(|id| matches!(self.exprs.get(id), Expr::Load { .. }))
        };
        let roots = match *self.exprs.get(value) {
            Expr::Binary(BinaryOp::Mul, a, b) if has_load(a) && has_load(b) => vec![a, b],
            _ => vec![value],
        };
        let points: i64 = self.extents.iter().fold(1, |n, &e| n.saturating_mul(e));
        let mut factors = Vec::new();
        for root in roots {
            match self.factor::<T>(root, points)? {
                Some(factor) => factors.push(factor),
                None => return Ok(None),
            }
        }
        Ok(Some((self.plan, factors)))
    }

    /// A factor: one load under conversions that depend on nothing else.
    fn factor<T: Number>(&mut self, root: ExprId, points: i64) -> Result<Option<Factor<T>>, String> {
        // What lies between the factor and its load; operands of the load are not followed.
        let (mut load, mut between, mut pending) = (None, Vec::new(), vec![root]);
        while let Some(id) = pending.pop() {
            match self.exprs.get(id) {
                Expr::Load { .. } if load.is_none_or(|known| known == id) => load = Some(id),
                Expr::Load { .. } | Expr::Axis(_) | Expr::Acc(..) => return Ok(None),
                expr => {
                    between.push(id);
                    pending.extend(Exprs::operands(expr));
                }
            }
        }
        let Some(load) = load else { return Ok(None) };
        let Expr::Load { buffer, index, guard, .. } = self.exprs.get(load) else { return Ok(None) };
        let place: &Place = &self.world.places[buffer];
        let numel: i64 = place.dims.iter().product();
        // Converting the whole buffer must not cost more than the sums.
        if numel > points.saturating_mul(4) || index.len() != place.dims.len() {
            return Ok(None);
        }
        between.sort_by_key(|id| id.index());
        between.dedup();
        let mut values = Values::new(self.exprs);
        let mut converted = |column: Column| -> Result<Option<Vec<T>>, String> {
            values.columns[load.index()] = Some(column);
            let point = Block { start: vec![0; self.extents.len()], len: vec![1; self.extents.len()] };
            values.evaluate(&between, &point, self.world)?;
            Ok(values.columns[root.index()].clone().and_then(T::elements))
        };
        if let Some(guard) = guard {
            let Some(other) = self.exprs.constant(guard.other) else { return Ok(None) };
            // Where the condition fails the product must vanish.
            match converted(Column::constant(other)?)?.as_deref() {
                Some([x]) if x.is_zero() => {}
                _ => return Ok(None),
            }
        }
        let offsets: Vec<usize> = (0..usize::try_from(numel).unwrap_or(0)).collect();
        let bytes = &self.world.memory[place.storage][place.offset..];
        let Some(elements) = converted(Column::gather(place.dtype, bytes, &offsets)?)? else { return Ok(None) };
        if elements.len() != offsets.len() {
            return Ok(None);
        }

        let n_axes = self.extents.len();
        let (mut offset, mut dims) = (Form::constant(n_axes, 0), Vec::new());
        for (&id, &extent) in index.iter().zip(&place.dims) {
            let Some(form) = self.form(id) else { return Ok(None) };
            offset = offset.scaled(extent).plus(&form);
            dims.push((self.push(form), extent));
        }
        if let Some(guard) = guard
            && !self.cond(guard.cond)
        {
            return Ok(None);
        }
        let offset = self.push(offset);
        Ok(Some(Factor { elements, offset, dims }))
    }

    fn push(&mut self, form: Form) -> usize {
        self.plan.forms.push(form);
        self.plan.forms.len() - 1
    }

    /// An `int64` expression as a form; `None` where a table would be too large.
    fn form(&mut self, id: ExprId) -> Option<Form> {
        let n_axes = self.extents.len();
        match *self.exprs.get(id) {
            Expr::Const(c) => Some(Form::constant(n_axes, c.as_i64())),
            Expr::Axis(axis) => {
                let mut form = Form::constant(n_axes, 0);
                form.coef[axis] = 1;
                Some(form)
            }
            Expr::Var(var, DType::I64) => match &self.world.vars[&var] {
                Column::I64(v) => Some(Form::constant(n_axes, v[0])),
                _ => None,
            },
            Expr::Binary(op @ (BinaryOp::Add | BinaryOp::Sub), a, b) => {
                let (a, b) = (self.form(a)?, self.form(b)?);
                Some(a.plus(&if op == BinaryOp::Add { b } else { b.scaled(-1) }))
            }
            Expr::Binary(BinaryOp::Mul, a, b) => {
                let (fa, fb) = (self.form(a)?, self.form(b)?);
                if fa.is_constant() {
                    Some(fb.scaled(fa.base))
                } else if fb.is_constant() {
                    Some(fa.scaled(fb.base))
                } else {
                    self.table(id, 0)
                }
            }
            _ => self.table(id, 0),
        }
    }

    /// Adds the forms that must not be negative for a condition to hold.
    fn cond(&mut self, id: ExprId) -> bool {
        let form = match *self.exprs.get(id) {
            Expr::Binary(BinaryOp::And, a, b) => return self.cond(a) && self.cond(b),
            Expr::Binary(op, a, b) if self.exprs.dtype(a) == DType::I64 => {
                let (Some(a), Some(b)) = (self.form(a), self.form(b)) else { return false };
                let less = |a: Form, b: &Form| b.clone().plus(&a.scaled(-1));
                match op {
                    BinaryOp::Le => Some(less(a, &b)),
                    BinaryOp::Ge => Some(less(b, &a)),
                    BinaryOp::Lt | BinaryOp::Gt => {
                        let mut form = if op == BinaryOp::Lt { less(a, &b) } else { less(b, &a) };
                        form.base -= 1;
                        Some(form)
                    }
                    _ => self.table(id, -1),
                }
            }
            _ => self.table(id, -1),
        };
        let Some(form) = form else { return false };
        let number = self.push(form);
        self.plan.conds.push(number);
        true
    }

    /// The form of an expression that is looked up.
    fn table(&mut self, id: ExprId, base: i64) -> Option<Form> {
        let number = if let Some(&number) = self.known_tables.get(&id) {
            number
        } else {
            let mut axes = Vec::new();
            for id in reachable(self.exprs, std::iter::once(id)) {
                match *self.exprs.get(id) {
                    Expr::Axis(axis) => axes.push(axis),
                    Expr::Acc(..) => return None,
                    _ => {}
                }
            }
            axes.sort_unstable();
            axes.dedup();
            let entries = axes.iter().fold(1i64, |n, &a| n.saturating_mul(self.extents[a]));
            if entries > TABLE_ENTRIES {
                return None;
            }
            self.plan.tables.push(Table { expr: id, axes, values: Vec::new() });
            self.known_tables.insert(id, self.plan.tables.len() - 1);
            self.plan.tables.len() - 1
        };
        Some(Form { base, coef: vec![0; self.extents.len()], tables: vec![(1, number)] })
    }
}

impl Plan {
    /// Evaluates the tables for a block.
    fn fill_tables(&mut self, block: &Block, values: &mut Values<'_>, world: &World<'_, '_>) -> Result<(), String> {
        for table in &mut self.tables {
            let mut part = Block { start: block.start.clone(), len: vec![1; block.len.len()] };
            for &axis in &table.axes {
                part.len[axis] = block.len[axis];
            }
            let needed = reachable(values.exprs, std::iter::once(table.expr));
            values.evaluate(&needed, &part, world)?;
            let mut column = values.get(table.expr)?.clone();
            column.expand(part.points());
            table.values = match column {
                Column::I64(v) => v,
                Column::Bool(v) => v.into_iter().map(i64::from).collect(),
                _ => return Err("an index is not an int64".into()),
            };
        }
        Ok(())
    }

    /// The axis whose points make a row: no table depends on it, its strides are small and it is long.
    fn row_axis<T>(&self, factors: &[Factor<T>], block: &Block, n_outer: usize) -> Option<usize> {
        let in_table = |axis: usize| self.tables.iter().any(|t| t.axes.contains(&axis));
        let cost = |&axis: &usize| {
            let is_strided = factors.iter().any(|f| !(0..=1).contains(&self.forms[f.offset].coef[axis]));
            // A step between rows costs about as much as 24 elements.
            let element = if is_strided { 3 } else { 1 };
            (element * 1024 + 24 * 1024 / block.len[axis].max(1), axis)
        };
        let last_outer = n_outer.checked_sub(1);
        last_outer.into_iter().chain(n_outer..block.len.len()).filter(|&axis| !in_table(axis)).min_by_key(cost)
    }

    /// One sum for each outer point of a block.
    fn sums<T: Number>(&self, factors: &[Factor<T>], block: &Block, n_outer: usize) -> Result<Vec<T::Sum>, String> {
        let row = self.row_axis(factors, block, n_outer);
        let n_axes = block.len.len();
        let length = row.map_or(1, |axis| block.len[axis]);
        let is_map = row.is_some_and(|axis| axis < n_outer);

        // The numbers that the walk keeps up to date: linear parts of forms, positions in tables, position of the sum.
        let (n_forms, n_tables) = (self.forms.len(), self.tables.len());
        let n_numbers = n_forms + n_tables + 1;
        let mut steps = vec![vec![0i64; n_numbers]; n_axes];
        let mut now = vec![0i64; n_numbers];
        for (number, form) in self.forms.iter().enumerate() {
            now[number] = form.base;
            for (axis, step) in steps.iter_mut().enumerate() {
                step[number] = form.coef[axis];
                now[number] = now[number].wrapping_add(form.coef[axis].wrapping_mul(block.start[axis]));
            }
        }
        for (number, table) in self.tables.iter().enumerate() {
            let mut stride = 1;
            for &axis in table.axes.iter().rev() {
                steps[axis][n_forms + number] = stride;
                stride *= block.len[axis];
            }
        }
        let mut stride = 1;
        for axis in (0..n_outer).rev() {
            steps[axis][n_numbers - 1] = stride;
            stride *= block.len[axis];
        }
        let checks = self.checks(factors, block);

        let walked: Vec<usize> = (0..n_axes).filter(|&axis| Some(axis) != row && block.len[axis] > 1).collect();
        let mut at = vec![0i64; walked.len()];
        let row_steps = row.map_or_else(|| vec![0; n_numbers], |axis| steps[axis].clone());
        let mut sums = vec![T::ZERO; block.outer(n_outer).points()];
        loop {
            let value = |form: usize| {
                let looked_up = |&(c, table): &(i64, usize)| {
                    let at = usize::try_from(now[n_forms + table]).unwrap_or(usize::MAX);
                    c.wrapping_mul(self.tables[table].values[at])
                };
                now[form].wrapping_add(self.forms[form].tables.iter().map(looked_up).sum())
            };
            let (mut low, mut high) = (0, length);
            for &cond in &self.conds {
                let (first, step) = (value(cond), row_steps[cond]);
                match step {
                    0 if first >= 0 => {}
                    0 => high = 0,
                    1 => low = low.max(-first),
                    -1 => high = high.min(first + 1),
                    step if step > 0 => {
                        low = low.max((-first).div_euclid(step) + i64::from(first.rem_euclid(step) != 0));
                    }
                    step => high = high.min(if first < 0 { 0 } else { first / -step + 1 }),
                }
            }
            if low < high {
                for &(form, extent) in &checks {
                    let first = value(form).wrapping_add(low.wrapping_mul(row_steps[form]));
                    let last = first.wrapping_add((high - low - 1).wrapping_mul(row_steps[form]));
                    for index in [first, last] {
                        if !(0..extent).contains(&index) {
                            return Err(format!("load: index {index} is outside a dimension of size {extent}"));
                        }
                    }
                }
                let sum = now[n_numbers - 1] + if is_map { low } else { 0 };
                let sum = usize::try_from(sum).unwrap_or(usize::MAX);
                let n = usize::try_from(high - low).unwrap_or(0);
                let slice = |factor: &Factor<T>| {
                    let first = value(factor.offset).wrapping_add(low.wrapping_mul(row_steps[factor.offset]));
                    // A negative step, e.g. of a flipped kernel, goes down from the first element.
                    (usize::try_from(first).unwrap_or(usize::MAX), row_steps[factor.offset])
                };
                match factors {
                    [a, b] => {
                        let ((at_a, step_a), (at_b, step_b)) = (slice(a), slice(b));
                        let (a, b) = (&a.elements[..], &b.elements[..]);
                        if is_map {
                            add_products((a, at_a, step_a), (b, at_b, step_b), &mut sums[sum..sum + n]);
                        } else {
                            sums[sum] = T::join(sums[sum], dot((a, at_a, step_a), (b, at_b, step_b), n));
                        }
                    }
                    [a] => {
                        let (at_a, step_a) = slice(a);
                        for i in 0..n {
                            let to = &mut sums[if is_map { sum + i } else { sum }];
                            *to = T::add(*to, a.elements[strided(at_a, step_a, i)]);
                        }
                    }
                    _ => return Err("a product of more than two loads".into()),
                }
            }
            // The next point of the walked axes.
            let mut place = walked.len();
            loop {
                if place == 0 {
                    return Ok(sums);
                }
                place -= 1;
                let axis = walked[place];
                at[place] += 1;
                if at[place] < block.len[axis] {
                    now.iter_mut().zip(&steps[axis]).for_each(|(n, s)| *n = n.wrapping_add(*s));
                    break;
                }
                let back = block.len[axis] - 1;
                now.iter_mut().zip(&steps[axis]).for_each(|(n, s)| *n = n.wrapping_sub(s.wrapping_mul(back)));
                at[place] = 0;
            }
        }
    }

    /// The indices that the block alone does not prove to be inside their dimensions.
    fn checks<T>(&self, factors: &[Factor<T>], block: &Block) -> Vec<(usize, i64)> {
        let is_open = |&(form, extent): &(usize, i64)| {
            let form = &self.forms[form];
            let (mut least, mut greatest) = (i128::from(form.base), i128::from(form.base));
            let mut widen = |a: i128, b: i128| {
                least += a.min(b);
                greatest += a.max(b);
            };
            for axis in 0..block.len.len() {
                let at = |i: i64| i128::from(form.coef[axis]) * i128::from(i);
                widen(at(block.start[axis]), at(block.start[axis] + block.len[axis] - 1));
            }
            for &(c, table) in &form.tables {
                let values = &self.tables[table].values;
                let (low, high) = (values.iter().min().unwrap_or(&0), values.iter().max().unwrap_or(&0));
                widen(i128::from(c) * i128::from(*low), i128::from(c) * i128::from(*high));
            }
            least < 0 || greatest >= i128::from(extent)
        };
        factors.iter().flat_map(|f| f.dims.iter().copied()).filter(is_open).collect()
    }
}

/// Position of element `i` of a strided row; out of every range where it is not in memory.
#[allow(clippy::cast_sign_loss, clippy::cast_possible_wrap, reason = "a wrapped position fails the bounds check")]
fn strided(first: usize, step: i64, i: usize) -> usize {
    (first as i64).wrapping_add(step.wrapping_mul(i as i64)) as usize
}

/// A row: elements, first position, step.
type Row<'a, T> = (&'a [T], usize, i64);

/// `sums[i] += a[i] * b[i]`.
fn add_products<T: Number>((a, at_a, step_a): Row<'_, T>, (b, at_b, step_b): Row<'_, T>, sums: &mut [T::Sum]) {
    let n = sums.len();
    match (step_a, step_b) {
        (1, 1) => {
            let (a, b) = (&a[at_a..at_a + n], &b[at_b..at_b + n]);
            for i in 0..n {
                sums[i] = T::add(sums[i], T::mul(a[i], b[i]));
            }
        }
        (1, 0) => {
            let (a, b) = (&a[at_a..at_a + n], b[at_b]);
            for i in 0..n {
                sums[i] = T::add(sums[i], T::mul(a[i], b));
            }
        }
        (0, 1) => add_products((b, at_b, 1), (a, at_a, 0), sums),
        _ => {
            for (i, sum) in sums.iter_mut().enumerate() {
                let product = T::mul(a[strided(at_a, step_a, i)], b[strided(at_b, step_b, i)]);
                *sum = T::add(*sum, product);
            }
        }
    }
}

/// Sums that a dot product keeps at once, so that one addition need not wait for the one before.
const LANES: usize = 8;

/// The sum of `a[i] * b[i]`.
fn dot<T: Number>((a, at_a, step_a): Row<'_, T>, (b, at_b, step_b): Row<'_, T>, n: usize) -> T::Sum {
    if (step_a, step_b) != (1, 1) {
        let product = |i| T::mul(a[strided(at_a, step_a, i)], b[strided(at_b, step_b, i)]);
        return (0..n).fold(T::ZERO, |sum, i| T::add(sum, product(i)));
    }
    let (a, b) = (&a[at_a..at_a + n], &b[at_b..at_b + n]);
    let mut sums = [T::ZERO; LANES];
    let mut i = 0;
    while i + LANES <= n {
        let (x, y) = (&a[i..i + LANES], &b[i..i + LANES]);
        for lane in 0..LANES {
            sums[lane] = T::add(sums[lane], T::mul(x[lane], y[lane]));
        }
        i += LANES;
    }
    let mut sum = sums.into_iter().fold(T::ZERO, T::join);
    while i < n {
        sum = T::add(sum, T::mul(a[i], b[i]));
        i += 1;
    }
    sum
}

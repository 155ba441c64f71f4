//! Convolutions with fewer multiplications: 3x3 kernels at stride 1 by Winograd's method.
//!
//! A tile of 4x4 results takes 36 products a channel pair in place of 144: the input's 6x6 patches are transformed (one
//! kernel), then each of the 36 positions is a matrix product over channels (one contraction with a batch axis), then results
//! are transformed back and stored through the convolution's own stores (one kernel). Weights are transformed when a model is
//! opened, as they take four times the memory.
//! Large planes are worked through in strips of tile rows, so that the transformed data stays in cache.
//!
//! Rounding differs from the direct sum: relative errors of about 1e-5. `Options::exact_convolution` turns this off.

use super::ScheduleTarget;
use super::contraction::{Rewrite, forms, is_bounds_check, known_dims};
use super::linear::{Atom, Linear};
use super::prepare::{self, Preparing};
use crate::diag;
use crate::index::{Id as _, IndexVec};
use crate::loops::{
    Axis, AxisKind, BinaryOp, Block, Buffer, BufferClass, BufferId, Const, Dim, Expr, ExprId, Exprs, Function, Guard,
    HostExpr, Kernel, Layout, Operand, PreparedId, Program, ReduceOp, Reduction, Stmt, Store, StoreMode, Var, VarType,
    Weight, WeightId,
};
use crate::types::DType;
use std::collections::{BTreeSet, HashMap};

/// Results along each side of a tile.
const M: usize = 4;
/// Taps along each side of the kernel.
const R: usize = 3;
/// Inputs along each side of a tile; as many interpolation points.
const N: usize = M + R - 1;
/// The finite points; small ones with small differences round least.
const POINTS: [f64; N - 1] = [0.0, 1.0, -1.0, 0.5, -2.0];

/// The method's matrices: results from products, products from inputs, products from weights.
struct Matrices {
    output: [[f64; N]; M],
    input: [[f64; N]; N],
    weight: [[f64; R]; N],
}

fn matrices() -> Matrices {
    let mut m = Matrices { output: [[0.0; N]; M], input: [[0.0; N]; N], weight: [[0.0; R]; N] };
    // Coefficients of the product of (x - p) over all finite points but one.
    let product = |skip: Option<usize>| {
        let mut poly = vec![1.0];
        for (i, p) in POINTS.iter().enumerate() {
            if Some(i) != skip {
                let mut next = vec![0.0; poly.len() + 1];
                for (d, c) in poly.iter().enumerate() {
                    next[d + 1] += c;
                    next[d] -= c * p;
                }
                poly = next;
            }
        }
        poly
    };
    for (j, &p) in POINTS.iter().enumerate() {
        let others = POINTS.iter().enumerate().filter(|(l, _)| *l != j);
        let scale: f64 = others.map(|(_, q)| p - q).product();
        let mut power = 1.0;
        for i in 0..M.max(R) {
            if i < M {
                m.output[i][j] = power;
            }
            if i < R {
                m.weight[j][i] = power / scale;
            }
            power *= p;
        }
        for (d, c) in product(Some(j)).into_iter().enumerate() {
            m.input[j][d] = c;
        }
    }
    m.output[M - 1][N - 1] = 1.0;
    m.weight[N - 1][R - 1] = 1.0;
    for (d, c) in product(None).into_iter().enumerate() {
        m.input[N - 1][d] = c;
    }
    m
}

/// Rewrites the convolutions of the program that gain by it; gives the buffers they read and write, function by function.
pub(crate) fn rewrite(
    program: &mut Program,
    preparing: &mut Preparing,
    target: &ScheduleTarget,
) -> diag::Result<Vec<BTreeSet<BufferId>>> {
    let mut known = HashMap::new();
    let mut touched = Vec::new();
    for function in program.functions.iter_mut() {
        let can_be_blocked = super::layout::eligible(function, target);
        let mut body = std::mem::take(&mut function.body);
        let (weights, known, touched_here) = (&program.weights, &mut known, BTreeSet::new());
        let mut rewriter =
            Rewriter { function, weights, preparing, known, target, can_be_blocked, touched: touched_here };
        rewriter.block(&mut body)?;
        touched.push(rewriter.touched);
        function.body = body;
    }
    Ok(touched)
}

struct Rewriter<'a> {
    function: &'a mut Function,
    weights: &'a IndexVec<WeightId, Weight>,
    preparing: &'a mut Preparing,
    known: &'a mut HashMap<WeightId, PreparedId>,
    target: &'a ScheduleTarget,
    /// By buffer: whether it can have blocks of channels next to each other.
    can_be_blocked: Vec<bool>,
    /// What the rewritten convolutions read and write.
    touched: BTreeSet<BufferId>,
}

/// A convolution that can be rewritten.
struct Convolution {
    data: BufferId,
    weight: WeightId,
    /// Axes: output channels, rows, columns.
    oc: usize,
    y: usize,
    x: usize,
    /// Extents of those.
    n_oc: i64,
    n_y: i64,
    n_x: i64,
    n_ic: i64,
    /// Index of the data's first dimension.
    batch: ExprId,
    /// What is added to row and column indices of the input.
    shift: [i64; 2],
    /// Extents of the input's planes.
    plane: [i64; 2],
}

fn int(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl Rewrite for Rewriter<'_> {
    type Found = Convolution;

    fn find(&self, kernel: &Kernel, data: ExprId, weight: ExprId) -> Option<Convolution> {
        let Expr::Load { buffer: w, index: w_index, guard: None, dtype: DType::F32 } = kernel.exprs.get(weight) else {
            return None;
        };
        let BufferClass::Weight(weight) = self.function.buffers[*w].class else { return None };
        let w_dims = known_dims(self.function, *w)?;
        let mut w_axes = Vec::new();
        for (&i, &dim) in w_index.iter().zip(&w_dims) {
            let Expr::Axis(axis) = *kernel.exprs.get(i) else { return None };
            if w_axes.contains(&axis) || kernel.axes[axis].extent != Dim::Const(dim) {
                return None;
            }
            w_axes.push(axis);
        }
        let &[oc, ic, ky, kx] = &w_axes[..] else { return None };
        let is = |axis: usize, kind| kernel.axes[axis].kind == kind;
        let n_reduced =
            kernel.axes.iter().filter(|a| a.kind != AxisKind::Parallel && a.extent != Dim::Const(1)).count();
        let is_shape = w_dims[2..] == [int(R); 2] && is(oc, AxisKind::Parallel) && is(ic, AxisKind::Reduce);
        if !is_shape || n_reduced != 3 || kernel.stores.iter().any(|s| s.mode != StoreMode::Set) {
            return None;
        }
        let Expr::Load { buffer, index, guard, .. } = kernel.exprs.get(data) else { return None };
        let dims = known_dims(self.function, *buffer)?;
        let &[batch, channel, row, column] = &index[..] else { return None };
        let mut forms = forms(kernel);
        let index_forms: Vec<Linear> = index.iter().map(|&i| forms.form(i)).collect();
        if let Some(guard) = guard {
            let is_zero = kernel.exprs.constant(guard.other).is_some_and(|c| c.bits == 0);
            if !is_zero || !is_bounds_check(kernel, &mut forms, guard.cond, &index_forms, &dims) {
                return None;
            }
        }
        if forms.form(channel) != Linear::atom(Atom::Axis(ic)) || dims[1] != w_dims[1] {
            return None;
        }
        // The axis of results along a dimension of the plane, and the constant.
        let along = |form: &Linear, tap: usize| {
            let rest = form.clone().plus(&Linear::atom(Atom::Axis(tap)), -1);
            let mut terms = rest.terms.iter();
            let (monomial, &coefficient) = terms.next()?;
            let Some(Atom::Axis(axis)) = monomial.atom else { return None };
            let is_plain = coefficient == 1 && monomial.vars.is_empty() && terms.next().is_none();
            (is_plain && is(axis, AxisKind::Parallel) && axis != oc).then_some((axis, rest.constant))
        };
        let ((y, shift_y), (x, shift_x)) = (along(&forms.form(row), ky)?, along(&forms.form(column), kx)?);
        let batch_axes: Vec<Atom> = index_forms[0].terms.keys().filter_map(|m| m.atom).collect();
        let is_used = |axis: usize| batch_axes.contains(&Atom::Axis(axis));
        let is_opaque = batch_axes.iter().any(|atom| matches!(atom, Atom::Expr(_)));
        if y == x || is_opaque || [oc, y, x, ic, ky, kx].into_iter().any(is_used) {
            return None;
        }
        // Any other axis is one of batches.
        if (0..kernel.axes.len()).any(|a| kernel.axes[a].extent.known().is_none()) {
            return None;
        }
        let extent = |axis: usize| kernel.axes[axis].extent.known().unwrap_or(0);
        let found = Convolution {
            data: *buffer,
            weight,
            oc,
            y,
            x,
            n_oc: extent(oc),
            n_y: extent(y),
            n_x: extent(x),
            n_ic: extent(ic),
            batch,
            shift: [shift_y, shift_x],
            plane: [dims[2], dims[3]],
        };
        // The transforms work on channels in lanes. Elsewhere than in blocks these lie planes apart, which is slow, and very
        // slow where all of them fall on the same places of the cache.
        let aliases = |n: i64| n * 4 % 4096 == 0;
        let is_apart = |b: BufferId, plane: i64| !self.can_be_blocked[b.index()] && aliases(plane);
        if kernel.stores.iter().any(|s| is_apart(s.buffer, found.n_y * found.n_x)) {
            return None;
        }
        self.is_worth(&found).then_some(found)
    }

    fn replace(&mut self, kernel: &Kernel, c: &Convolution, out: &mut Block) -> diag::Result<()> {
        let (m, n) = (int(M), int(N));
        let (ty, tx) = ((c.n_y + m - 1) / m, (c.n_x + m - 1) / m);
        let others: Vec<usize> = (0..kernel.axes.len())
            .filter(|&a| kernel.axes[a].kind == AxisKind::Parallel && ![c.oc, c.y, c.x].contains(&a))
            .collect();
        let other_extents: Vec<i64> = others.iter().map(|&a| kernel.axes[a].extent.known().unwrap_or(1)).collect();
        let n_batch: i64 = other_extents.iter().product();
        // Rows of tiles in a strip: the transformed data of a strip should stay in cache, and outweigh the weights.
        let row_bytes = n * n * n_batch * tx * (c.n_ic + c.n_oc) * 4;
        let weight_bytes = n * n * c.n_ic * c.n_oc * 4;
        let budget = (2 * int(self.target.l2_bytes)).max(weight_bytes);
        let wanted = (budget / row_bytes.max(1)).clamp(1, ty);
        let n_strips = (ty + wanted - 1) / wanted;
        let strip_rows = (ty + n_strips - 1) / n_strips;
        let strip = (n_strips > 1).then(|| {
            let var = |ty, name: &str| Var { ty, name: name.into() };
            let vars = &mut self.function.vars;
            (vars.push(var(VarType::Int, "strip")), vars.push(var(VarType::Bool, "more")))
        });
        let rows = strip_rows * n_strips;

        // The input with a border, and with what the last tiles reach over.
        let dims = known_dims(self.function, c.data).unwrap_or_default();
        let (padded_y, padded_x) = (rows * m + n - m, tx * m + n - m);
        let is_inside = c.shift == [0, 0] && padded_y <= c.plane[0] && padded_x <= c.plane[1];
        let padded = if is_inside {
            c.data
        } else {
            let padded = self.temp("padded", &[dims[0], dims[1], padded_y, padded_x]);
            out.0.push(Stmt::Kernel(Box::new(pad(kernel, c, padded, &[dims[0], dims[1], padded_y, padded_x]))));
            padded
        };
        let n_rows = n * n * n_batch * strip_rows * tx;
        let v = self.temp("winograd.input", &[n_rows, c.n_ic]);
        let products = self.temp("winograd.output", &[n_rows, c.n_oc]);
        let u = self.weight(c);

        let shared = Shared { kernel, c, others: &others, other_extents: &other_extents, strip_rows, tx, strip };
        self.touched.extend([padded].into_iter().chain(kernel.stores.iter().map(|s| s.buffer)));
        let to_input = shared.to_input(padded, v);
        let product = shared.product(v, u, products);
        let from_products = shared.from_products(products, rows);
        let kernels = [to_input, product, from_products].map(|k| Stmt::Kernel(Box::new(k)));
        let Some((strip, more)) = strip else {
            out.0.extend(kernels);
            return Ok(());
        };
        let number = |n: i64| Operand::Const(Const::int(n));
        out.0.push(Stmt::Assign(strip, HostExpr::Copy(number(0))));
        out.0.push(Stmt::Assign(more, HostExpr::Copy(Operand::Const(Const::bool(true)))));
        let mut body: Vec<Stmt> = kernels.into();
        body.push(Stmt::Assign(strip, HostExpr::Binary(BinaryOp::Add, Operand::Var(strip), number(1))));
        body.push(Stmt::Assign(more, HostExpr::Binary(BinaryOp::Lt, Operand::Var(strip), number(n_strips))));
        out.0.push(Stmt::While(more, Block(body)));
        Ok(())
    }
}

impl Rewriter<'_> {
    /// Whether the method saves time: enough channels for whole vectors, and enough tiles to use each transformed weight on.
    fn is_worth(&self, c: &Convolution) -> bool {
        let lanes = int(self.target.vector_bytes / 4).max(1);
        let is_whole = lanes > 1 && c.n_ic % lanes == 0 && c.n_oc % lanes == 0;
        let (m, n) = (int(M), int(N));
        let tiles = (c.n_y + m - 1) / m * ((c.n_x + m - 1) / m);
        // Cycles, roughly: vectors of multiply-adds at two a cycle, transforms at 3 cycles a vector of either side, transformed
        // weights from memory at 8 bytes a cycle.
        let pairs = c.n_ic * c.n_oc / lanes;
        let direct = c.n_y * c.n_x * int(R * R) * pairs / 2;
        let products = tiles * n * n * pairs / 2;
        let transforms = tiles * n * n * 3 * (c.n_ic + c.n_oc) / lanes;
        let weights = n * n * c.n_ic * c.n_oc * 4;
        let from_memory = if weights > int(self.target.l2_bytes) { weights / 8 } else { 0 };
        is_whole && (products.max(from_memory) + transforms) * 5 < direct * 4
    }

    fn temp(&mut self, name: &str, dims: &[i64]) -> BufferId {
        self.function.buffers.push(Buffer {
            name: name.into(),
            dtype: DType::F32,
            dims: dims.iter().map(|&n| Dim::Const(n)).collect(),
            class: BufferClass::Temp { offset: None },
            layout: Layout::RowMajor,
        })
    }

    /// The transformed weights, `[position][input channel][output channel]`.
    fn weight(&mut self, c: &Convolution) -> BufferId {
        let sizes = [int(N * N), c.n_ic, c.n_oc];
        let id = match self.known.get(&c.weight) {
            Some(&id) => id,
            None => {
                let taps = self.preparing.weight(self.weights, c.weight);
                let name = &self.weights[c.weight].name;
                let make = |target| to_weight(name, c, taps, target);
                let id = self.preparing.add(&format!("winograd {name}"), DType::F32, &sizes, make);
                self.known.insert(c.weight, id);
                id
            }
        };
        self.function.buffers.push(Buffer {
            name: "winograd.weight".into(),
            dtype: DType::F32,
            dims: sizes.iter().map(|&n| Dim::Const(n)).collect(),
            class: BufferClass::Prepared(id),
            layout: Layout::RowMajor,
        })
    }
}

/// Transformed weights.
fn to_weight(name: &str, c: &Convolution, taps: BufferId, target: BufferId) -> Kernel {
    let mut kernel = prepare::map(format!("winograd_weight+{name}"), &[c.n_oc, c.n_ic]);
    let e = &mut kernel.exprs;
    let [oc, ic] = [0, 1].map(|axis| e.add(Expr::Axis(axis)));
    let taps: [[ExprId; R]; R] = std::array::from_fn(|y| {
        std::array::from_fn(|x| {
            let index = [oc, ic, e.int(int(y)), e.int(int(x))].into();
            e.add(Expr::Load { buffer: taps, dtype: DType::F32, index, guard: None })
        })
    });
    let g = matrices().weight;
    let half: [[ExprId; R]; N] = std::array::from_fn(|i| {
        std::array::from_fn(|x| weighted(e, &g[i], &std::array::from_fn::<_, R, _>(|y| taps[y][x])))
    });
    for (i, row) in half.iter().enumerate() {
        for (j, g) in g.iter().enumerate() {
            let value = weighted(e, g, row);
            let index = [e.int(int(i * N + j)), ic, oc].into();
            kernel.stores.push(Store { buffer: target, index, value, guard: None, mode: StoreMode::Set });
        }
    }
    kernel
}

/// The copy of the input with its border.
fn pad(kernel: &Kernel, c: &Convolution, padded: BufferId, dims: &[i64; 4]) -> Kernel {
    let mut exprs = Exprs::new();
    let axes: Vec<ExprId> = (0..4).map(|a| exprs.add(Expr::Axis(a))).collect();
    let mut index = axes.clone();
    let mut cond = exprs.add(Expr::Const(Const::bool(true)));
    for d in 0..2 {
        let shift = exprs.int(c.shift[d]);
        let i = exprs.binary(BinaryOp::Add, axes[2 + d], shift);
        index[2 + d] = i;
        let (zero, end) = (exprs.int(0), exprs.int(c.plane[d]));
        if c.shift[d] < 0 {
            let test = exprs.binary(BinaryOp::Ge, i, zero);
            cond = exprs.binary(BinaryOp::And, cond, test);
        }
        if dims[2 + d] + c.shift[d] > c.plane[d] {
            let test = exprs.binary(BinaryOp::Lt, i, end);
            cond = exprs.binary(BinaryOp::And, cond, test);
        }
    }
    let other = exprs.add(Expr::Const(Const::float(DType::F32, 0.0)));
    let guard = Some(Guard { cond, other });
    let value = exprs.add(Expr::Load { buffer: c.data, dtype: DType::F32, index: index.into(), guard });
    let extents = dims.iter().map(|&n| Axis { extent: Dim::Const(n), kind: AxisKind::Parallel });
    Kernel {
        name: format!("pad+{}", kernel.name),
        place: kernel.place.clone(),
        axes: extents.collect(),
        exprs,
        reductions: Vec::new(),
        stores: vec![Store { buffer: padded, index: axes.into(), value, guard: None, mode: StoreMode::Set }],
        is_ordered: false,
    }
}

/// What the three kernels have in common. Their parallel axes: the other axes, rows of tiles, columns of tiles, channels.
struct Shared<'a> {
    kernel: &'a Kernel,
    c: &'a Convolution,
    others: &'a [usize],
    other_extents: &'a [i64],
    strip_rows: i64,
    tx: i64,
    strip: Option<(crate::loops::VarId, crate::loops::VarId)>,
}

impl Shared<'_> {
    fn kernel(&self, what: &str, extents: &[i64], reduced: Option<i64>) -> Kernel {
        let axis = |kind| move |&n: &i64| Axis { extent: Dim::Const(n), kind };
        let parallel = extents.iter().map(axis(AxisKind::Parallel));
        Kernel {
            name: format!("{what}+{}", self.kernel.name),
            place: self.kernel.place.clone(),
            axes: parallel.chain(reduced.iter().map(axis(AxisKind::Reduce))).collect(),
            exprs: Exprs::new(),
            reductions: Vec::new(),
            stores: Vec::new(),
            is_ordered: false,
        }
    }

    fn extents(&self, channels: i64) -> Vec<i64> {
        let mut extents = self.other_extents.to_vec();
        extents.extend([self.strip_rows, self.tx, channels]);
        extents
    }

    /// The first row and column of results of the tile.
    fn corner(&self, exprs: &mut Exprs) -> [ExprId; 2] {
        let n = self.others.len();
        let (mut row, column, m) = (exprs.add(Expr::Axis(n)), exprs.add(Expr::Axis(n + 1)), exprs.int(int(M)));
        if let Some((strip, _)) = self.strip {
            let (strip, rows) = (exprs.add(Expr::Var(strip, DType::I64)), exprs.int(self.strip_rows));
            let first = exprs.binary(BinaryOp::Mul, strip, rows);
            row = exprs.binary(BinaryOp::Add, first, row);
        }
        [exprs.binary(BinaryOp::Mul, row, m), exprs.binary(BinaryOp::Mul, column, m)]
    }

    fn n_tiles(&self) -> i64 {
        self.other_extents.iter().product::<i64>() * self.strip_rows * self.tx
    }

    /// The index of this tile and channel in the transformed data, at one of the positions.
    fn place(&self, exprs: &mut Exprs, position: usize) -> [ExprId; 2] {
        let mut tile = exprs.int(int(position));
        let extents = self.extents(1);
        let n_axes = self.others.len() + 3;
        for (axis, &extent) in extents[..n_axes - 1].iter().enumerate() {
            let (axis, extent) = (exprs.add(Expr::Axis(axis)), exprs.int(extent));
            tile = exprs.binary(BinaryOp::Mul, tile, extent);
            tile = exprs.binary(BinaryOp::Add, tile, axis);
        }
        [tile, exprs.add(Expr::Axis(n_axes - 1))]
    }

    /// Transformed patches of the input.
    fn to_input(&self, padded: BufferId, v: BufferId) -> Kernel {
        let mut kernel = self.kernel("winograd_input", &self.extents(self.c.n_ic), None);
        let e = &mut kernel.exprs;
        let corner = self.corner(e);
        let n_axes = self.others.len() + 3;
        let axes: Vec<ExprId> = (0..n_axes).map(|a| e.add(Expr::Axis(a))).collect();
        let mut memo = HashMap::new();
        let batch = e.import(&self.kernel.exprs, self.c.batch, &mut memo, &mut |e, leaf| match leaf {
            Expr::Axis(a) => self.others.iter().position(|o| o == a).map(|n| e.add(Expr::Axis(n))),
            _ => None,
        });
        let patch: [[ExprId; N]; N] = std::array::from_fn(|i| {
            std::array::from_fn(|j| {
                let (i, j) = (e.int(int(i)), e.int(int(j)));
                let (y, x) = (e.binary(BinaryOp::Add, corner[0], i), e.binary(BinaryOp::Add, corner[1], j));
                let index = [batch, axes[n_axes - 1], y, x].into();
                e.add(Expr::Load { buffer: padded, dtype: DType::F32, index, guard: None })
            })
        });
        let b = matrices().input;
        // Columns first, then rows.
        let half: [[ExprId; N]; N] = std::array::from_fn(|i| {
            std::array::from_fn(|j| weighted(e, &b[i], &std::array::from_fn::<_, N, _>(|k| patch[k][j])))
        });
        for i in 0..N {
            for j in 0..N {
                let value = weighted(e, &b[j], &half[i]);
                let index = self.place(e, i * N + j).into();
                kernel.stores.push(Store { buffer: v, index, value, guard: None, mode: StoreMode::Set });
            }
        }
        kernel
    }

    /// A matrix product for each position.
    fn product(&self, v: BufferId, u: BufferId, products: BufferId) -> Kernel {
        let n_tiles = self.n_tiles();
        let mut kernel = self.kernel("winograd_product", &[int(N * N), n_tiles, self.c.n_oc], Some(self.c.n_ic));
        let e = &mut kernel.exprs;
        let [position, tile, oc, ic] = std::array::from_fn(|a| e.add(Expr::Axis(a)));
        let n_tiles = e.int(n_tiles);
        let first = e.binary(BinaryOp::Mul, position, n_tiles);
        let row = e.binary(BinaryOp::Add, first, tile);
        let dtype = DType::F32;
        let a = e.add(Expr::Load { buffer: v, dtype, index: [row, ic].into(), guard: None });
        let b = e.add(Expr::Load { buffer: u, dtype, index: [position, ic, oc].into(), guard: None });
        let value = e.binary(BinaryOp::Mul, a, b);
        kernel.reductions.push(Reduction { op: ReduceOp::Sum, value, payload: None });
        let value = e.add(Expr::Acc(0, dtype));
        let index = [row, oc].into();
        kernel.stores.push(Store { buffer: products, index, value, guard: None, mode: StoreMode::Set });
        kernel
    }

    /// Results from products, through the convolution's own stores.
    fn from_products(&self, products: BufferId, rows: i64) -> Kernel {
        let c = self.c;
        let mut kernel = self.kernel("winograd_output", &self.extents(c.n_oc), None);
        let e = &mut kernel.exprs;
        let corner = self.corner(e);
        let n_axes = self.others.len() + 3;
        let axes: Vec<ExprId> = (0..n_axes).map(|a| e.add(Expr::Axis(a))).collect();
        let patch: [[ExprId; N]; N] = std::array::from_fn(|i| {
            std::array::from_fn(|j| {
                let index = self.place(e, i * N + j).into();
                e.add(Expr::Load { buffer: products, dtype: DType::F32, index, guard: None })
            })
        });
        let a = matrices().output;
        let half: [[ExprId; N]; M] = std::array::from_fn(|i| {
            std::array::from_fn(|j| weighted(e, &a[i], &std::array::from_fn::<_, N, _>(|k| patch[k][j])))
        });
        for i in 0..M {
            for j in 0..M {
                let acc = weighted(e, &a[j], &half[i]);
                let at = [i, j].map(|n| e.int(int(n)));
                let (y, x) = (e.binary(BinaryOp::Add, corner[0], at[0]), e.binary(BinaryOp::Add, corner[1], at[1]));
                // Points of the last tiles that lie outside.
                let mut inside: Option<ExprId> = None;
                let (m, last) = (int(M), [rows, self.tx]);
                for (d, (position, extent)) in [(y, c.n_y), (x, c.n_x)].into_iter().enumerate() {
                    // Tiles before the last may lie outside only where strips add rows.
                    let is_never = last[d] * m - (m - 1) + int([i, j][d]) <= extent;
                    if !is_never {
                        let bound = e.int(extent);
                        let test = e.binary(BinaryOp::Lt, position, bound);
                        inside = Some(inside.map_or(test, |other| e.binary(BinaryOp::And, other, test)));
                    }
                }
                let zero = |e: &mut Exprs, dtype: DType| e.add(Expr::Const(Const::from_i64(dtype, 0)));
                let mut leaf = |e: &mut Exprs, expr: &Expr| match expr {
                    Expr::Acc(..) => Some(acc),
                    Expr::Axis(axis) if *axis == c.y => Some(y),
                    Expr::Axis(axis) if *axis == c.x => Some(x),
                    Expr::Axis(axis) if *axis == c.oc => Some(axes[n_axes - 1]),
                    Expr::Axis(axis) => self.others.iter().position(|o| o == axis).map(|n| axes[n]),
                    Expr::Load { buffer, dtype, index, guard } => {
                        let inside = inside?;
                        let guard = match guard {
                            Some(g) => Guard { cond: e.binary(BinaryOp::And, g.cond, inside), other: g.other },
                            None => Guard { cond: inside, other: zero(e, *dtype) },
                        };
                        let index = index.clone();
                        Some(e.add(Expr::Load { buffer: *buffer, dtype: *dtype, index, guard: Some(guard) }))
                    }
                    _ => None,
                };
                let mut memo = HashMap::new();
                for store in &self.kernel.stores {
                    let from = &self.kernel.exprs;
                    let mut import = |e: &mut Exprs, id: ExprId| e.import(from, id, &mut memo, &mut leaf);
                    let index = store.index.iter().map(|&i| import(e, i)).collect();
                    let value = import(e, store.value);
                    let guard = store.guard.map(|g| import(e, g));
                    let guard = match (guard, inside) {
                        (Some(a), Some(b)) => Some(e.binary(BinaryOp::And, a, b)),
                        (a, b) => a.or(b),
                    };
                    kernel.stores.push(Store { buffer: store.buffer, index, value, guard, mode: StoreMode::Set });
                }
            }
        }
        kernel
    }
}

/// The sum of values times coefficients.
fn weighted(exprs: &mut Exprs, coefficients: &[f64], values: &[ExprId]) -> ExprId {
    let mut sum: Option<ExprId> = None;
    for (&k, &value) in coefficients.iter().zip(values) {
        if k == 0.0 {
            continue;
        }
        let is_unit = k.abs() == 1.0;
        let term = if is_unit {
            value
        } else {
            let k = exprs.add(Expr::Const(Const::float(DType::F32, if sum.is_some() { k.abs() } else { k })));
            exprs.binary(BinaryOp::Mul, value, k)
        };
        sum = Some(match sum {
            None if is_unit && k < 0.0 => exprs.unary(crate::loops::UnaryOp::Neg, term),
            None => term,
            Some(sum) => exprs.binary(if k < 0.0 { BinaryOp::Sub } else { BinaryOp::Add }, sum, term),
        });
    }
    sum.unwrap_or_else(|| exprs.add(Expr::Const(Const::float(DType::F32, 0.0))))
}

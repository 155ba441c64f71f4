//! Each schedule computes what its kernel says: small kernels of every kind.

use super::ScheduleTarget;
use super::cases::{Case, bits, consts};
use crate::loops::{AxisKind, BinaryOp, BufferId, Dim, Expr, ExprId, ReduceOp, Reduction, StoreMode, UnaryOp};
use crate::types::DType;

#[test]
fn pointwise_with_broadcast_and_transpose() {
    for dynamic in [false, true] {
        for (n, m) in [(3, 5), (4, 16), (7, 37), (1, 9), (6, 1)] {
            let mut case = Case::new();
            let dims = if dynamic { vec![case.var(n), case.var(m)] } else { consts(&[n, m]) };
            let swapped = [dims[1], dims[0]];
            let (x, row) = (case.buffer(DType::F32, &dims), case.buffer(DType::F32, &dims[1..]));
            let (t, out) = (case.buffer(DType::F32, &swapped), case.buffer(DType::F32, &dims));
            case.axes(AxisKind::Parallel, &dims);
            let (i, j) = (case.axis(0), case.axis(1));
            let (a, b, c) = (case.load(x, &[i, j]), case.load(row, &[j]), case.load(t, &[j, i]));
            let sum = case.kernel.exprs.binary(BinaryOp::Add, a, b);
            let value = case.kernel.exprs.binary(BinaryOp::Mul, sum, c);
            case.store(out, &[i, j], value);
            case.check();
        }
    }
}

#[test]
fn joined_axes_and_casts() {
    let mut case = Case::new();
    let dims = consts(&[2, 3, 5, 7]);
    let (x, mask) = (case.buffer(DType::I32, &dims), case.buffer(DType::Bool, &dims));
    let (out, flags) = (case.buffer(DType::F32, &dims), case.buffer(DType::Bool, &dims));
    case.axes(AxisKind::Parallel, &dims);
    let index: Vec<ExprId> = (0..4).map(|a| case.axis(a)).collect();
    let (a, m) = (case.load(x, &index), case.load(mask, &index));
    let a = case.kernel.exprs.cast(DType::F32, a);
    let two = bits(&mut case, 2.0);
    let value = case.kernel.exprs.add(Expr::Select(m, a, two));
    let flag = case.kernel.exprs.binary(BinaryOp::Lt, a, two);
    case.store(out, &index, value);
    case.store(flags, &index, flag);
    case.check();
}

#[test]
fn matmul_both_orders() {
    for dynamic in [false, true] {
        for w_transposed in [false, true] {
            for (m, n, k) in [(3, 5, 7), (13, 50, 33), (1, 70, 18), (8, 1, 64)] {
                let mut case = Case::new();
                let dims = if dynamic { vec![case.var(m), case.var(n), case.var(k)] } else { consts(&[m, n, k]) };
                let x = case.buffer(DType::F32, &[dims[0], dims[2]]);
                let w_dims = if w_transposed { [dims[1], dims[2]] } else { [dims[2], dims[1]] };
                let w = case.buffer(DType::F32, &w_dims);
                let bias = case.buffer(DType::F32, &[dims[1]]);
                let out = case.buffer(DType::F32, &[dims[0], dims[1]]);
                case.axes(AxisKind::Parallel, &dims[..2]);
                case.axes(AxisKind::Reduce, &dims[2..]);
                let (i, j, l) = (case.axis(0), case.axis(1), case.axis(2));
                let a = case.load(x, &[i, l]);
                let b = if w_transposed { case.load(w, &[j, l]) } else { case.load(w, &[l, j]) };
                let product = case.kernel.exprs.binary(BinaryOp::Mul, a, b);
                let acc = case.reduce(ReduceOp::Sum, product);
                let bias = case.load(bias, &[j]);
                let value = case.kernel.exprs.binary(BinaryOp::Add, acc, bias);
                case.store(out, &[i, j], value);
                case.check();
            }
        }
    }
}

#[test]
fn padded_convolution() {
    for (groups, stride, pad) in [(1, 1, 1), (1, 2, 0), (2, 1, 1), (4, 2, 1)] {
        let (n, ic, oc, h, w, kernel) = (2, 4, 8, 7, 9, 3);
        let (oh, ow) = ((h + 2 * pad - kernel) / stride + 1, (w + 2 * pad - kernel) / stride + 1);
        let (icg, ocg) = (ic / groups, oc / groups);
        let mut case = Case::new();
        let x = case.buffer(DType::F32, &consts(&[n, ic, h, w]));
        let weight = case.buffer(DType::F32, &consts(&[oc, icg, kernel, kernel]));
        let out = case.buffer(DType::F32, &consts(&[n, oc, oh, ow]));
        case.axes(AxisKind::Parallel, &consts(&[n, oc, oh, ow]));
        case.axes(AxisKind::Reduce, &consts(&[icg, kernel, kernel]));
        let a: Vec<ExprId> = (0..7).map(|n| case.axis(n)).collect();
        let e = &mut case.kernel.exprs;
        let (ocg, icg) = (e.int(ocg), e.int(icg));
        let group = e.binary(BinaryOp::FloorDiv, a[1], ocg);
        let group = e.binary(BinaryOp::Mul, group, icg);
        let channel = e.binary(BinaryOp::Add, group, a[4]);
        let load = case.padded_load(x, [a[0], channel], (stride, pad), [h, w]);
        let w = case.load(weight, &[a[1], a[4], a[5], a[6]]);
        let product = case.kernel.exprs.binary(BinaryOp::Mul, load, w);
        let acc = case.reduce(ReduceOp::Sum, product);
        case.store(out, &a[..4], acc);
        case.check();
    }
}

#[test]
fn several_reductions_along_each_axis() {
    for dynamic in [false, true] {
        for reduced in [0, 1] {
            for extents in [[5, 3], [9, 70], [70, 9], [4, 0], [33, 33]] {
                let mut case = Case::new();
                let dims = if dynamic { vec![case.var(extents[0]), case.var(extents[1])] } else { consts(&extents) };
                let x = case.buffer(DType::F32, &dims);
                let outs: Vec<BufferId> = (0..3).map(|_| case.buffer(DType::F32, &[dims[1 - reduced]])).collect();
                let arg = case.buffer(DType::I64, &[dims[1 - reduced]]);
                case.axes(AxisKind::Parallel, &[dims[1 - reduced]]);
                case.axes(AxisKind::Reduce, &[dims[reduced]]);
                let (i, l) = (case.axis(0), case.axis(1));
                let value = if reduced == 1 { case.load(x, &[i, l]) } else { case.load(x, &[l, i]) };
                let square = case.kernel.exprs.binary(BinaryOp::Mul, value, value);
                let results = [
                    case.reduce(ReduceOp::Max, value),
                    case.reduce(ReduceOp::Sum, square),
                    case.reduce(ReduceOp::Sum, value),
                ];
                for (out, result) in outs.into_iter().zip(results) {
                    case.store(out, &[i], result);
                }
                case.check();
                let payload = Some(l);
                case.kernel.reductions.push(Reduction { op: ReduceOp::ArgMax, value, payload });
                let best = case.kernel.exprs.add(Expr::Acc(3, DType::I64));
                case.store(arg, &[i], best);
                case.check();
            }
        }
    }
}

#[test]
fn scan_along_each_axis() {
    for scanned in [0, 1] {
        let mut case = Case::new();
        let dims = consts(&[6, 21]);
        let (x, out) = (case.buffer(DType::F32, &dims), case.buffer(DType::F32, &dims));
        case.axes(AxisKind::Parallel, &[dims[1 - scanned]]);
        case.axes(AxisKind::Scan, &[dims[scanned]]);
        let (i, s) = (case.axis(0), case.axis(1));
        let index = if scanned == 1 { [i, s] } else { [s, i] };
        let value = case.load(x, &index);
        let acc = case.reduce(ReduceOp::Sum, value);
        case.store(out, &index, acc);
        case.check();
    }
}

#[test]
fn recurrence_reads_its_own_stores() {
    // h[t + 1] = tanh(sum over j of h[t, j] * w[j, i] + x[t, i]) cannot be a kernel; this is the elementwise form.
    let mut case = Case::new();
    let (steps, width) = (Dim::Const(5), Dim::Const(19));
    let (x, h) = (case.buffer(DType::F32, &[steps, width]), case.buffer(DType::F32, &[Dim::Const(6), width]));
    case.axes(AxisKind::Parallel, &[width]);
    case.axes(AxisKind::Scan, &[steps]);
    let (i, t) = (case.axis(0), case.axis(1));
    let one = case.kernel.exprs.int(1);
    let next = case.kernel.exprs.binary(BinaryOp::Add, t, one);
    let (old, input) = (case.load(h, &[t, i]), case.load(x, &[t, i]));
    let sum = case.kernel.exprs.binary(BinaryOp::Add, old, input);
    let value = case.kernel.exprs.unary(UnaryOp::Tanh, sum);
    case.store(h, &[next, i], value);
    case.check();
}

#[test]
fn gather_and_ordered_scatter() {
    let mut case = Case::new();
    let (rows, n, width) = (Dim::Const(3), Dim::Const(10), Dim::Const(21));
    let table = case.buffer(DType::F32, &[rows, width]);
    let (ids, columns) = (case.buffer(DType::I64, &[n]), case.buffer(DType::I64, &[width]));
    let (out, sums) = (case.buffer(DType::F32, &[n, width]), case.buffer(DType::F32, &[rows, width]));
    case.axes(AxisKind::Parallel, &[n, width]);
    let (i, j) = (case.axis(0), case.axis(1));
    let (id, column) = (case.load(ids, &[i]), case.load(columns, &[j]));
    let (a, b) = (case.load(table, &[id, j]), case.load(table, &[id, column]));
    let value = case.kernel.exprs.binary(BinaryOp::Sub, a, b);
    case.store(out, &[i, j], value);
    case.check();
    case.kernel.is_ordered = true;
    case.store(sums, &[id, j], a);
    case.kernel.stores[1].mode = StoreMode::Combine(ReduceOp::Sum);
    case.check();
}

#[test]
fn large_maps_are_cut_into_chunks() {
    for n in [40_000, 40_001] {
        for dynamic in [false, true] {
            let mut case = Case::new();
            let dim = if dynamic { case.var(n) } else { Dim::Const(n) };
            let (x, out) = (case.buffer(DType::F32, &[dim]), case.buffer(DType::F32, &[dim]));
            case.axes(AxisKind::Parallel, &[dim]);
            let i = case.axis(0);
            let value = case.load(x, &[i]);
            let value = (0..6).fold(value, |v, _| case.kernel.exprs.unary(UnaryOp::Tanh, v));
            case.store(out, &[i], value);
            let target = ScheduleTarget {
                vector_bytes: 32,
                n_registers: 16,
                l1_bytes: 32 << 10,
                l2_bytes: 512 << 10,
                has_masks: true,
            };
            case.check_on(&target);
        }
    }
}

//! Functions of several kernels compute what these say: fused, by rows, with operands in other forms, in shared memory.

use super::cases::{Case, bits, check_function, consts, next};
use super::*;
use crate::index::Id as _;
use crate::loops::{AxisKind, BinaryOp, BufferClass, BufferId, Dim, ExprId, ReduceOp, UnaryOp};
use crate::types::DType;

#[test]
fn scratch_shares_memory_only_when_dead() {
    let mut case = Case::new();
    let dims = consts(&[100]);
    let buffers: Vec<BufferId> = (0..4).map(|_| case.buffer(DType::F32, &dims)).collect();
    let mut body = Vec::new();
    for pair in buffers.windows(2) {
        let mut step = Case::new();
        step.function.buffers.clone_from(&case.function.buffers);
        step.axes(AxisKind::Parallel, &dims);
        let i = step.axis(0);
        let value = step.load(pair[0], &[i]);
        step.store(pair[1], &[i], value);
        body.push(Stmt::Kernel(Box::new(step.kernel)));
    }
    body.push(Stmt::Return(0, vec![crate::loops::Arg::Buffer(buffers[3])]));
    case.function.body = Block(body);
    memory::place_results(&mut case.function);
    memory::plan_arena(&mut case.function).unwrap();
    let class = |n: usize| case.function.buffers[buffers[n]].class;
    assert_eq!(class(3), BufferClass::Output(0));
    assert_eq!(class(0), class(2));
    assert_ne!(class(0), class(1));
    assert_eq!(case.function.arena_bytes, 2 * 448);
}

#[test]
fn maps_join_the_contraction_before_them() {
    for dynamic in [false, true] {
        let mut case = Case::new();
        let (m, n, k) = if dynamic {
            (case.var(6), case.var(19), case.var(7))
        } else {
            (Dim::Const(6), Dim::Const(19), Dim::Const(7))
        };
        let (x, w) = (case.buffer(DType::F32, &[m, k]), case.buffer(DType::F32, &[n, k]));
        case.function.buffers[x].class = BufferClass::Input(0);
        case.function.buffers[w].class = BufferClass::Input(1);
        let (t1, t2) = (case.buffer(DType::F32, &[m, n]), case.buffer(DType::F32, &[m, n]));
        let (t3, out) = (case.buffer(DType::F32, &[m, n]), case.buffer(DType::F32, &[n, m]));
        if dynamic {
            for (slot, buffer) in [t1, t2, t3, out].into_iter().enumerate() {
                case.function.buffers[buffer].class = BufferClass::Slot(slot);
            }
        }
        let mut kernels = Vec::new();
        case.axes(AxisKind::Parallel, &[m, n]);
        case.axes(AxisKind::Reduce, &[k]);
        let (i, j, l) = (case.axis(0), case.axis(1), case.axis(2));
        let (a, b) = (case.load(x, &[i, l]), case.load(w, &[j, l]));
        let product = case.kernel.exprs.binary(BinaryOp::Mul, a, b);
        let acc = case.reduce(ReduceOp::Sum, product);
        case.store(t1, &[i, j], acc);
        next(&mut case, &mut kernels);
        for (from, to) in [(t1, t2), (t2, t3)] {
            case.axes(AxisKind::Parallel, &[m, n]);
            let (i, j) = (case.axis(0), case.axis(1));
            let (value, two) = (case.load(from, &[i, j]), bits(&mut case, 2.0));
            let value = case.kernel.exprs.binary(BinaryOp::Max, value, two);
            case.store(to, &[i, j], value);
            next(&mut case, &mut kernels);
        }
        // The transposed sum of both.
        case.axes(AxisKind::Parallel, &[n, m]);
        let (i, j) = (case.axis(0), case.axis(1));
        let (a, b) = (case.load(t3, &[j, i]), case.load(t2, &[j, i]));
        let value = case.kernel.exprs.binary(BinaryOp::Add, a, b);
        case.store(out, &[i, j], value);
        next(&mut case, &mut kernels);
        assert_eq!(check_function(&mut case, kernels, &[out]), 1);
    }
}

#[test]
fn softmax_reads_what_was_a_map() {
    let mut case = Case::new();
    let (rows, cols) = (Dim::Const(5), Dim::Const(37));
    let x = case.buffer(DType::F32, &[rows, cols]);
    case.function.buffers[x].class = BufferClass::Input(0);
    let (max, sum) = (case.buffer(DType::F32, &[rows]), case.buffer(DType::F32, &[rows]));
    let (e, out) = (case.buffer(DType::F32, &[rows, cols]), case.buffer(DType::F32, &[rows, cols]));
    let mut kernels = Vec::new();
    case.axes(AxisKind::Parallel, &[rows]);
    case.axes(AxisKind::Reduce, &[cols]);
    let (i, j) = (case.axis(0), case.axis(1));
    let value = case.load(x, &[i, j]);
    let acc = case.reduce(ReduceOp::Max, value);
    case.store(max, &[i], acc);
    next(&mut case, &mut kernels);
    case.axes(AxisKind::Parallel, &[rows, cols]);
    let (i, j) = (case.axis(0), case.axis(1));
    let (value, m) = (case.load(x, &[i, j]), case.load(max, &[i]));
    let value = case.kernel.exprs.binary(BinaryOp::Sub, value, m);
    let value = case.kernel.exprs.unary(UnaryOp::Exp, value);
    case.store(e, &[i, j], value);
    next(&mut case, &mut kernels);
    case.axes(AxisKind::Parallel, &[rows]);
    case.axes(AxisKind::Reduce, &[cols]);
    let (i, j) = (case.axis(0), case.axis(1));
    let value = case.load(e, &[i, j]);
    let acc = case.reduce(ReduceOp::Sum, value);
    case.store(sum, &[i], acc);
    next(&mut case, &mut kernels);
    case.axes(AxisKind::Parallel, &[rows, cols]);
    let (i, j) = (case.axis(0), case.axis(1));
    let (value, s) = (case.load(e, &[i, j]), case.load(sum, &[i]));
    let value = case.kernel.exprs.binary(BinaryOp::Div, value, s);
    case.store(out, &[i, j], value);
    next(&mut case, &mut kernels);
    assert_eq!(check_function(&mut case, kernels, &[out]), 1);
}

/// A kernel that puts the sum of each row of `x` (less `mean`, squared, where that is given) into `out`.
fn row_sums(case: &mut Case, x: BufferId, mean: Option<BufferId>, [rows, cols]: [Dim; 2], out: BufferId) {
    case.axes(AxisKind::Parallel, &[rows]);
    case.axes(AxisKind::Reduce, &[cols]);
    let (i, j) = (case.axis(0), case.axis(1));
    let mut value = case.load(x, &[i, j]);
    if let Some(mean) = mean {
        let mean = case.load(mean, &[i]);
        let less = case.kernel.exprs.binary(BinaryOp::Sub, value, mean);
        value = case.kernel.exprs.binary(BinaryOp::Mul, less, less);
    }
    let acc = case.reduce(ReduceOp::Sum, value);
    case.store(out, &[i], acc);
}

#[test]
fn a_row_goes_through_all_kernels_of_a_normalisation() {
    let mut case = Case::new();
    let (rows, cols) = (Dim::Const(6), Dim::Const(45));
    let x = case.buffer(DType::F32, &[rows, cols]);
    case.function.buffers[x].class = BufferClass::Input(0);
    let (mean, squares) = (case.buffer(DType::F32, &[rows]), case.buffer(DType::F32, &[rows]));
    let out = case.buffer(DType::F32, &[rows, cols]);
    let mut kernels = Vec::new();
    row_sums(&mut case, x, None, [rows, cols], mean);
    next(&mut case, &mut kernels);
    row_sums(&mut case, x, Some(mean), [rows, cols], squares);
    next(&mut case, &mut kernels);
    case.axes(AxisKind::Parallel, &[rows, cols]);
    let (i, j) = (case.axis(0), case.axis(1));
    let (value, m, s) = (case.load(x, &[i, j]), case.load(mean, &[i]), case.load(squares, &[i]));
    let value = case.kernel.exprs.binary(BinaryOp::Sub, value, m);
    let value = case.kernel.exprs.binary(BinaryOp::Div, value, s);
    case.store(out, &[i, j], value);
    next(&mut case, &mut kernels);
    // Somebody else wants the means too.
    assert_eq!(check_function(&mut case, kernels, &[out, mean]), 1);
}

#[test]
fn kernels_that_read_other_rows_stay_apart() {
    let mut case = Case::new();
    let (rows, cols) = (Dim::Const(6), Dim::Const(45));
    let x = case.buffer(DType::F32, &[rows, cols]);
    case.function.buffers[x].class = BufferClass::Input(0);
    let (sum, out) = (case.buffer(DType::F32, &[rows]), case.buffer(DType::F32, &[rows, cols]));
    let mut kernels = Vec::new();
    row_sums(&mut case, x, None, [rows, cols], sum);
    next(&mut case, &mut kernels);
    case.axes(AxisKind::Parallel, &[rows, cols]);
    let (i, j) = (case.axis(0), case.axis(1));
    let last = case.kernel.exprs.int(5);
    let other = case.kernel.exprs.binary(BinaryOp::Sub, last, i);
    let (value, s) = (case.load(x, &[i, j]), case.load(sum, &[other]));
    let value = case.kernel.exprs.binary(BinaryOp::Sub, value, s);
    case.store(out, &[i, j], value);
    next(&mut case, &mut kernels);
    assert_eq!(check_function(&mut case, kernels, &[out]), 2);
}

#[test]
fn a_flattened_result_joins_through_its_reshape() {
    let mut case = Case::new();
    let (b, t, n) = (Dim::Const(3), Dim::Const(4), Dim::Const(10));
    let (x, y) = (case.buffer(DType::F32, &[Dim::Const(12), n]), case.buffer(DType::F32, &[t, n]));
    case.function.buffers[x].class = BufferClass::Input(0);
    case.function.buffers[y].class = BufferClass::Input(1);
    let (flat, out) = (case.buffer(DType::F32, &[Dim::Const(12), n]), case.buffer(DType::F32, &[b, t, n]));
    let mut kernels = Vec::new();
    case.axes(AxisKind::Parallel, &[Dim::Const(12), n]);
    let (i, j) = (case.axis(0), case.axis(1));
    let value = case.load(x, &[i, j]);
    let value = case.kernel.exprs.unary(UnaryOp::Tanh, value);
    case.store(flat, &[i, j], value);
    next(&mut case, &mut kernels);
    case.axes(AxisKind::Parallel, &[b, t, n]);
    let (i, s, j) = (case.axis(0), case.axis(1), case.axis(2));
    let four = case.kernel.exprs.int(4);
    let row = case.kernel.exprs.binary(BinaryOp::Mul, i, four);
    let row = case.kernel.exprs.binary(BinaryOp::Add, row, s);
    let (a, p) = (case.load(flat, &[row, j]), case.load(y, &[s, j]));
    let value = case.kernel.exprs.binary(BinaryOp::Add, a, p);
    case.store(out, &[i, s, j], value);
    next(&mut case, &mut kernels);
    // The flat result is wanted too, so that the maps join in place of one being inlined.
    assert_eq!(check_function(&mut case, kernels, &[out, flat]), 1);
}

#[test]
fn weights_are_packed_into_panels() {
    for (m, n, k) in [(5, 24, 7), (1, 64, 9), (9, 50, 12), (3, 19, 5), (1, 8, 30)] {
        for is_transposed in [false, true] {
            let mut case = Case::new();
            let (m, n, k) = (Dim::Const(m), Dim::Const(n), Dim::Const(k));
            let x = case.buffer(DType::F32, &[m, k]);
            let w = case.buffer(DType::F32, &if is_transposed { [k, n] } else { [n, k] });
            let (bias, out) = (case.buffer(DType::F32, &[n]), case.buffer(DType::F32, &[m, n]));
            case.function.buffers[x].class = BufferClass::Input(0);
            case.function.buffers[w].class = BufferClass::Weight(crate::loops::WeightId::new(0));
            case.function.buffers[bias].class = BufferClass::Weight(crate::loops::WeightId::new(1));
            case.axes(AxisKind::Parallel, &[m, n]);
            case.axes(AxisKind::Reduce, &[k]);
            let (i, j, l) = (case.axis(0), case.axis(1), case.axis(2));
            let a = case.load(x, &[i, l]);
            let b = case.load(w, &if is_transposed { [l, j] } else { [j, l] });
            let product = case.kernel.exprs.binary(BinaryOp::Mul, a, b);
            let acc = case.reduce(ReduceOp::Sum, product);
            let bias = case.load(bias, &[j]);
            let value = case.kernel.exprs.binary(BinaryOp::Add, acc, bias);
            case.store(out, &[i, j], value);
            let mut kernels = Vec::new();
            next(&mut case, &mut kernels);
            check_function(&mut case, kernels, &[out]);
        }
    }
}

#[test]
fn run_time_right_hand_sides_are_turned() {
    // Scores of attention: a turned copy, except where too few rows share it. Kernels of several heads are one nest.
    for (heads, rows, n_launches) in [(1, 19, 2), (1, 3, 1), (3, 19, 1), (3, 3, 1)] {
        let mut case = Case::new();
        let (columns, terms) = (21, 10);
        let x = case.buffer(DType::F32, &consts(&[rows, heads, terms]));
        let y = case.buffer(DType::F32, &consts(&[columns, heads, terms]));
        let out = case.buffer(DType::F32, &consts(&[heads, rows, columns]));
        case.function.buffers[x].class = BufferClass::Input(0);
        case.function.buffers[y].class = BufferClass::Input(1);
        case.axes(AxisKind::Parallel, &consts(&[heads, rows, columns]));
        case.axes(AxisKind::Reduce, &consts(&[terms]));
        let [h, m, n, k] = [0, 1, 2, 3].map(|axis| case.axis(axis));
        let (a, b) = (case.load(x, &[m, h, k]), case.load(y, &[n, h, k]));
        let product = case.kernel.exprs.binary(BinaryOp::Mul, a, b);
        let acc = case.reduce(ReduceOp::Sum, product);
        case.store(out, &[h, m, n], acc);
        let mut kernels = Vec::new();
        next(&mut case, &mut kernels);
        assert_eq!(check_function(&mut case, kernels, &[out]), n_launches);
    }
}

#[test]
fn padded_convolutions_are_packed() {
    for (ic, oc, stride) in [(32, 16, 1), (30, 20, 2), (3, 8, 1)] {
        let (n, h, w, kernel, pad) = (2, 5, 6, 3, 1);
        let (oh, ow) = ((h + 2 * pad - kernel) / stride + 1, (w + 2 * pad - kernel) / stride + 1);
        let mut case = Case::new();
        let x = case.buffer(DType::F32, &consts(&[n, ic, h, w]));
        let weight = case.buffer(DType::F32, &consts(&[oc, ic, kernel, kernel]));
        let out = case.buffer(DType::F32, &consts(&[n, oc, oh, ow]));
        case.function.buffers[x].class = BufferClass::Input(0);
        case.function.buffers[weight].class = BufferClass::Weight(crate::loops::WeightId::new(0));
        case.axes(AxisKind::Parallel, &consts(&[n, oc, oh, ow]));
        case.axes(AxisKind::Reduce, &consts(&[ic, kernel, kernel]));
        let a: Vec<ExprId> = (0..7).map(|n| case.axis(n)).collect();
        let load = case.padded_load(x, [a[0], a[4]], (stride, pad), [h, w]);
        let w = case.load(weight, &[a[1], a[4], a[5], a[6]]);
        let product = case.kernel.exprs.binary(BinaryOp::Mul, load, w);
        let acc = case.reduce(ReduceOp::Sum, product);
        case.store(out, &a[..4], acc);
        let mut kernels = Vec::new();
        next(&mut case, &mut kernels);
        let n_launches = check_function(&mut case, kernels, &[out]);
        assert!(n_launches >= 2, "the padded copy is a kernel");
    }
}

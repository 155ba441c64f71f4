//! Recurrent networks: LSTM, GRU and plain cells, over sequences and one step at a time.
//!
//! A layer's input products are one contraction for all time steps. What depends on the step before runs in a loop of the
//! host over time; the state is a pair of buffers, read by the step's kernels and written for the next one.

use super::contraction::linear_of;
use super::packed::Packing;
use super::pointwise::sigmoid_expr;
use super::quantized::{dynamic_product, packed};
use crate::diag::Result;
use crate::loops::{BinaryOp, Dim, ExprId, HostExpr, Operand, Stmt, StoreMode, UnaryOp, VarType};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::primitives::KernelBuilder;
use crate::ops::promote::compute_type;
use crate::ops::value::{Tensor, Value, int, known_int};
use crate::ops::views::{self, shape_text};

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::lstm.input", lower: |b, a| network(b, a, Cell::Lstm) },
    OpDef { name: "aten::gru.input", lower: |b, a| network(b, a, Cell::Gru) },
    OpDef { name: "aten::rnn_tanh.input", lower: |b, a| network(b, a, Cell::Tanh) },
    OpDef { name: "aten::rnn_relu.input", lower: |b, a| network(b, a, Cell::Relu) },
    OpDef { name: "aten::lstm.data", lower: |b, a| packed_network(b, a, Cell::Lstm) },
    OpDef { name: "aten::gru.data", lower: |b, a| packed_network(b, a, Cell::Gru) },
    OpDef { name: "aten::rnn_tanh.data", lower: |b, a| packed_network(b, a, Cell::Tanh) },
    OpDef { name: "aten::rnn_relu.data", lower: |b, a| packed_network(b, a, Cell::Relu) },
    OpDef { name: "aten::quantized_lstm.input", lower: |b, a| network(b, a, Cell::Lstm) },
    OpDef { name: "aten::quantized_gru.input", lower: |b, a| network(b, a, Cell::Gru) },
    OpDef { name: "aten::lstm_cell", lower: |b, a| one_step(b, a, Cell::Lstm) },
    OpDef { name: "aten::gru_cell", lower: |b, a| one_step(b, a, Cell::Gru) },
    OpDef { name: "aten::rnn_tanh_cell", lower: |b, a| one_step(b, a, Cell::Tanh) },
    OpDef { name: "aten::rnn_relu_cell", lower: |b, a| one_step(b, a, Cell::Relu) },
];

/// What one step computes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cell {
    Lstm,
    Gru,
    Tanh,
    Relu,
}

impl Cell {
    /// Blocks of rows in the weights.
    const fn gates(self) -> i64 {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
            Self::Tanh | Self::Relu => 1,
        }
    }
}

/// The parameters of one direction of one layer.
#[derive(Clone)]
struct Weights {
    input: Tensor,
    hidden: Tensor,
    input_bias: Option<Tensor>,
    hidden_bias: Option<Tensor>,
    projection: Option<Tensor>,
    /// Whether inputs are rounded to 7 bits, not 8, where the weights are quantised.
    reduces_range: bool,
}

impl Weights {
    /// The product with a weight; what meets a quantised one is quantised by its own range.
    fn product(&self, b: &mut Builder<'_>, x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        if w.dtype.is_quantised() {
            return dynamic_product(b, x, w, bias, self.reduces_range);
        }
        linear_of(b, x, w, bias)
    }
}

/// Hidden state and, for an LSTM, cell state: `[batch, size]`.
#[derive(Clone)]
struct State {
    hidden: Tensor,
    cell: Option<Tensor>,
}

/// The new state from the gates' products with the input and with the hidden state, `[batch, gates * size]` each.
fn step(b: &mut Builder<'_>, cell: Cell, x: &Tensor, h: &Tensor, state: &State) -> Result<State> {
    let size = match h.dims[1].known() {
        Some(rows) => Dim::Const(rows / cell.gates()),
        None => return Err(b.unsupported("a recurrent network of unknown size")),
    };
    let dims = [state.hidden.dims[0], size];
    let dtype = state.hidden.dtype;
    let compute = compute_type(dtype);
    let part = |k: &mut KernelBuilder<'_, '_>, t: &Tensor, i: &[ExprId], gate: i64| {
        let offset = k.int(gate * size.known().unwrap_or(0));
        let row = k.add(i[1], offset);
        let v = k.load(t, &[i[0], row]);
        k.cast(compute, v)
    };
    let sum = |k: &mut KernelBuilder<'_, '_>, i: &[ExprId], gate: i64| {
        let (p, q) = (part(k, x, i, gate), part(k, h, i, gate));
        k.add(p, q)
    };
    match cell {
        Cell::Tanh | Cell::Relu => {
            let hidden = b.map(dtype, &dims, |k, i| {
                let v = sum(k, i, 0);
                if cell == Cell::Tanh {
                    return k.unary(UnaryOp::Tanh, v);
                }
                let zero = k.zero(compute);
                k.max(v, zero)
            });
            Ok(State { hidden, cell: None })
        }
        Cell::Gru => {
            let old = &state.hidden;
            let hidden = b.map(dtype, &dims, |k, i| {
                let (r, z) = (sum(k, i, 0), sum(k, i, 1));
                let (r, z) = (sigmoid_expr(k, r), sigmoid_expr(k, z));
                let (n_x, n_h) = (part(k, x, i, 2), part(k, h, i, 2));
                let gated = k.mul(r, n_h);
                let n = k.add(n_x, gated);
                let n = k.unary(UnaryOp::Tanh, n);
                let h = k.load(old, i);
                let h = k.cast(compute, h);
                let difference = k.sub(h, n);
                let kept = k.mul(difference, z);
                k.add(kept, n)
            });
            Ok(State { hidden, cell: None })
        }
        Cell::Lstm => {
            let Some(old) = &state.cell else { return Err(b.user("lstm expects two hidden states")) };
            let new = b.map(dtype, &dims, |k, i| {
                let (input, forget, g) = (sum(k, i, 0), sum(k, i, 1), sum(k, i, 2));
                let (input, forget) = (sigmoid_expr(k, input), sigmoid_expr(k, forget));
                let g = k.unary(UnaryOp::Tanh, g);
                let c = k.load(old, i);
                let c = k.cast(compute, c);
                let kept = k.mul(forget, c);
                let added = k.mul(input, g);
                k.add(kept, added)
            });
            let hidden = b.map(dtype, &dims, |k, i| {
                let output = sum(k, i, 3);
                let output = sigmoid_expr(k, output);
                let c = k.load(&new, i);
                let c = k.cast(compute, c);
                let c = k.unary(UnaryOp::Tanh, c);
                k.mul(output, c)
            });
            Ok(State { hidden, cell: Some(new) })
        }
    }
}

/// One step from the input's products.
fn advance(b: &mut Builder<'_>, cell: Cell, x: &Tensor, w: &Weights, state: &State) -> Result<State> {
    let h = w.product(b, &state.hidden, &w.hidden, w.hidden_bias.as_ref())?;
    let mut new = step(b, cell, x, &h, state)?;
    if let Some(projection) = &w.projection {
        new.hidden = linear_of(b, &new.hidden, projection, None)?;
    }
    Ok(new)
}

/// A cell as an operator: one step.
fn one_step(b: &mut Builder<'_>, args: &Args<'_>, cell: Cell) -> Result<Value> {
    let x = args.tensor(0)?;
    let states = if cell == Cell::Lstm { args.tensors(b, 1)? } else { vec![args.tensor(1)?] };
    let w = Weights {
        input: args.tensor(2)?,
        hidden: args.tensor(3)?,
        input_bias: args.optional_tensor(4)?,
        hidden_bias: args.optional_tensor(5)?,
        projection: None,
        reduces_range: false,
    };
    let Some(hidden) = states.first().cloned() else { return Err(b.user("a cell expects a hidden state")) };
    let is_unbatched = x.rank() == 1;
    let widen = |b: &mut Builder<'_>, t: &Tensor| if is_unbatched { views::unsqueeze(b, t, 0) } else { t.clone() };
    let (x, hidden) = (widen(b, &x), widen(b, &hidden));
    let cell_state = states.get(1).map(|c| widen(b, c));
    if let Some(t) = [&x, &hidden].into_iter().chain(&cell_state).find(|t| t.rank() != 2) {
        let (name, shape) = (&b.op_name, shape_text(&t.dims));
        return Err(b.user(format!("{name}: expected input and states to be 1D or 2D, like one another, got {shape}")));
    }
    let products = linear_of(b, &x, &w.input, w.input_bias.as_ref())?;
    let new = advance(b, cell, &products, &w, &State { hidden, cell: cell_state })?;
    let narrow = |b: &mut Builder<'_>, t: Tensor| if is_unbatched { views::squeeze(b, &t, |d| d == 0) } else { t };
    let hidden = Value::Tensor(narrow(b, new.hidden));
    Ok(match new.cell {
        Some(c) => Value::Tuple(vec![hidden, Value::Tensor(narrow(b, c))], None),
        None => hidden,
    })
}

/// `network(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)`
fn network(b: &mut Builder<'_>, args: &Args<'_>, cell: Cell) -> Result<Value> {
    let (x, batch_first) = (args.tensor(0)?, args.flag(b, 8)?);
    if x.rank() != 3 {
        return Err(b.user(format!(
            "{}: expected input and hidden states to have 3 dimensions, got input {}",
            b.op_name,
            shape_text(&x.dims)
        )));
    }
    if batch_first {
        let x = views::transpose(b, &x, 0, 1);
        let (output, states) = layers(b, args, cell, 1, x, None)?;
        let output = views::transpose(b, &output, 0, 1);
        return Ok(results(output, states));
    }
    let (output, states) = layers(b, args, cell, 1, x, None)?;
    Ok(results(output, states))
}

/// `network(data, batch_sizes, hx, params, has_biases, num_layers, dropout, train, bidirectional)`
fn packed_network(b: &mut Builder<'_>, args: &Args<'_>, cell: Cell) -> Result<Value> {
    let (x, sizes) = (args.tensor(0)?, args.tensor(1)?);
    if x.rank() != 2 {
        return Err(b.user(format!(
            "{}: expected packed data of 2 dimensions, got {}",
            b.op_name,
            shape_text(&x.dims)
        )));
    }
    let packing = Packing::new(b, &sizes)?;
    let (output, states) = layers(b, args, cell, 2, x, Some(&packing))?;
    Ok(results(output, states))
}

fn results(output: Tensor, states: Vec<Tensor>) -> Value {
    Value::Tuple(std::iter::once(output).chain(states).map(Value::Tensor).collect(), None)
}

/// All layers over `x`, `[time, batch, features]` or packed; the arguments from `at` on are
/// `hx, params, has_biases, num_layers, dropout, train, bidirectional`. The output and the last states.
fn layers(
    b: &mut Builder<'_>,
    args: &Args<'_>,
    cell: Cell,
    at: usize,
    mut x: Tensor,
    packing: Option<&Packing>,
) -> Result<(Tensor, Vec<Tensor>)> {
    let states = if cell == Cell::Lstm { args.tensors(b, at)? } else { vec![args.tensor(at)?] };
    let has_biases = args.flag(b, at + 2)?;
    let n_layers = usize::try_from(args.known_int(b, at + 3)?).unwrap_or(0);
    let (dropout, train) = (args.known_float(b, at + 4)?, args.flag(b, at + 5)?);
    let is_bidirectional = args.flag(b, at + 6)?;
    if train && dropout != 0.0 && n_layers > 1 {
        return Err(b.unsupported("dropout between the layers of a recurrent network in training"));
    }
    if states.iter().any(|s| s.rank() != 3) {
        let message = format!("{}: expected input and hidden states to have 3 dimensions", b.op_name);
        return Err(b.user(message));
    }
    if states.len() != if cell == Cell::Lstm { 2 } else { 1 } {
        return Err(b.user("lstm expects two hidden states"));
    }
    let n_directions = if is_bidirectional { 2 } else { 1 };
    // An LSTM whose hidden and cell sizes differ is projected.
    let is_projected = cell == Cell::Lstm && states[0].dims[2] != states[1].dims[2];
    let weights = if b.op_name.starts_with("quantized") {
        packed_weights(b, args)?
    } else {
        let params = args.tensors(b, at + 1)?;
        plain_weights(b, &params, has_biases, is_projected)?
    };
    if weights.len() != n_directions * n_layers {
        let (want, name) = (n_directions * n_layers, &b.op_name);
        let message = format!("{name}: expected the parameters of {want} layers and directions, got {}", weights.len());
        return Err(b.user(message));
    }
    let mut last_hidden = Vec::new();
    let mut last_cell = Vec::new();
    for layer in 0..n_layers {
        let mut outputs = Vec::new();
        for direction in 0..n_directions {
            let at = layer * n_directions + direction;
            let w = &weights[at];
            let index = int(i64::try_from(at).expect("layers are few"));
            let start = State {
                hidden: views::select(b, &states[0], 0, index.clone()),
                cell: states.get(1).map(|c| views::select(b, c, 0, index)),
            };
            let (output, end) = run_direction(b, cell, &x, w, &start, direction == 1, packing)?;
            outputs.push(output);
            last_hidden.push(end.hidden);
            last_cell.extend(end.cell);
        }
        x = match outputs.as_slice() {
            [one] => one.clone(),
            [forward, backward] => beside(b, forward, backward),
            _ => unreachable!("one or two directions"),
        };
    }
    let mut states = vec![stacked(b, &last_hidden)];
    if cell == Cell::Lstm {
        states.push(stacked(b, &last_cell));
    }
    Ok((x, states))
}

/// The parameters of every direction of every layer, from a list of tensors.
fn plain_weights(b: &Builder<'_>, params: &[Tensor], has_biases: bool, is_projected: bool) -> Result<Vec<Weights>> {
    let per_direction = 2 + 2 * usize::from(has_biases) + usize::from(is_projected);
    if !params.len().is_multiple_of(per_direction) {
        let message = format!("{}: {} parameters, a direction has {per_direction}", b.op_name, params.len());
        return Err(b.user(message));
    }
    let of = |p: &[Tensor]| Weights {
        input: p[0].clone(),
        hidden: p[1].clone(),
        input_bias: has_biases.then(|| p[2].clone()),
        hidden_bias: has_biases.then(|| p[3].clone()),
        projection: is_projected.then(|| p[per_direction - 1].clone()),
        reduces_range: false,
    };
    Ok(params.chunks_exact(per_direction).map(of).collect())
}

/// The parameters of every direction of every layer, from dynamically quantised cells: tuples of a name, biases, nothing,
/// a list with the flag for a reduced range, and the packed weights, input's first.
fn packed_weights(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Vec<Weights>> {
    let cells = b.items(args.value(2)?)?;
    let mut weights = Vec::with_capacity(cells.len());
    for cell in &cells {
        let parts = match cell {
            Value::Tuple(parts, _) => parts.as_slice(),
            _ => &[],
        };
        let [Value::Str(Operand::Str(name)), _, _, flags, packs] = parts else {
            return Err(b.unsupported(format!("{} with parameters of this kind", b.op_name)));
        };
        let (flags, packs) = (b.items(flags)?, b.items(packs)?);
        let ("quantized_dynamic", [first, second]) = (&**name, packs.as_slice()) else {
            return Err(b.unsupported(format!("{} with {name} parameters", b.op_name)));
        };
        let flag = flags.first().and_then(|v| if let Value::Int(o) = v { known_int(o) } else { None });
        let ((input, input_bias), (hidden, hidden_bias)) = (packed(b, first)?, packed(b, second)?);
        let reduces_range = flag.unwrap_or(0) != 0;
        weights.push(Weights { input, hidden, input_bias, hidden_bias, projection: None, reduces_range });
    }
    Ok(weights)
}

/// Copies a tensor into the storage of another of the same shape.
fn copy_into(b: &mut Builder<'_>, target: &Tensor, source: &Tensor) {
    let mut k = KernelBuilder::new(b);
    let i = k.parallel(&target.dims);
    let v = k.load(source, &i);
    k.store_through(target, &i, v, None, StoreMode::Set);
    k.finish();
}

/// All steps of one direction of a layer over `x [time, batch, features]`, or over packed rows: outputs and the last state.
fn run_direction(
    b: &mut Builder<'_>,
    cell: Cell,
    x: &Tensor,
    w: &Weights,
    start: &State,
    is_reverse: bool,
    packing: Option<&Packing>,
) -> Result<(Tensor, State)> {
    let products = w.product(b, x, &w.input, w.input_bias.as_ref())?;
    let (steps, batch) = packing.map_or((x.dims[0], x.dims[x.rank() - 2]), |p| (p.steps(), start.hidden.dims[0]));
    let dtype = start.hidden.dtype;
    let output_dims = [&x.dims[..x.rank() - 1], &start.hidden.dims[1..2]].concat();
    let buffer = b.new_buffer(dtype, &output_dims);
    let output = b.tensor_of(buffer);
    // The state lives in buffers of its own, which the loop's kernels update.
    let own = |b: &mut Builder<'_>, t: &Tensor| {
        let batch = [batch, t.dims[1]];
        let wide = views::expand_to(b, t, &batch)?;
        Ok::<_, Box<crate::diag::Diagnostic>>(b.map(dtype, &batch, |k, i| k.load(&wide, i)))
    };
    let state = State { hidden: own(b, &start.hidden)?, cell: start.cell.as_ref().map(|c| own(b, c)).transpose()? };
    let mut failed = Ok(());
    b.for_range(steps, |b, at| {
        let now = if is_reverse {
            let last = b.binary(BinaryOp::Sub, steps.into(), int(1));
            b.binary(BinaryOp::Sub, last, at)
        } else {
            at
        };
        let gates = match packing {
            None => views::select(b, &products, 0, now.clone()),
            Some(packing) => b.map(products.dtype, &[batch, products.dims[1]], |k, i| {
                let step = k.operand(&now);
                let (goes_on, row) = packing.row(k, step, i[0]);
                let zero = k.zero(products.dtype);
                k.load_or(&products, &[row, i[1]], goes_on, zero)
            }),
        };
        match advance(b, cell, &gates, w, &state) {
            Ok(new) => {
                match packing {
                    None => {
                        let row = views::select(b, &output, 0, now.clone());
                        copy_into(b, &row, &new.hidden);
                    }
                    Some(packing) => put_rows(b, packing, &now, &output, &new.hidden, true),
                }
                let new_cell = state.cell.as_ref().zip(new.cell.as_ref());
                for (old, new) in std::iter::once((&state.hidden, &new.hidden)).chain(new_cell) {
                    match packing {
                        None => copy_into(b, old, new),
                        Some(packing) => put_rows(b, packing, &now, old, new, false),
                    }
                }
            }
            Err(error) => failed = Err(error),
        }
    });
    failed?;
    Ok((output, state))
}

/// Copies the rows of the sequences that have one at this step: to their packed places, or to the places they have.
fn put_rows(b: &mut Builder<'_>, packing: &Packing, step: &Operand, to: &Tensor, from: &Tensor, packs: bool) {
    let mut k = KernelBuilder::new(b);
    let i = k.parallel(&from.dims);
    let step = k.operand(step);
    let (goes_on, row) = packing.row(&mut k, step, i[0]);
    let v = k.load(from, &i);
    let row = if packs { row } else { i[0] };
    k.store_through(to, &[row, i[1]], v, Some(goes_on), StoreMode::Set);
    k.finish();
}

/// Two outputs joined along the features.
fn beside(b: &mut Builder<'_>, x: &Tensor, y: &Tensor) -> Tensor {
    let last = x.rank() - 1;
    let (Some(p), Some(q)) = (x.dims[last].known(), y.dims[last].known()) else {
        unreachable!("a recurrent network's size is known");
    };
    let dims = [&x.dims[..last], &[Dim::Const(p + q)]].concat();
    b.map(x.dtype, &dims, |k, i| {
        let width = k.int(p);
        let is_first = k.binary(BinaryOp::Lt, i[last], width);
        let is_second = k.binary(BinaryOp::Ge, i[last], width);
        let shifted = k.sub(i[last], width);
        let zero = k.zero(x.dtype);
        let second = k.load_or(y, &[&i[..last], &[shifted]].concat(), is_second, zero);
        k.load_or(x, i, is_first, second)
    })
}

/// `[n, batch, size]` of `n` states.
fn stacked(b: &mut Builder<'_>, states: &[Tensor]) -> Tensor {
    let first = &states[0];
    let n = i64::try_from(states.len()).expect("layers are few");
    if n == 1 {
        return views::unsqueeze(b, first, 0);
    }
    let dims = [Dim::Const(n), first.dims[0], first.dims[1]];
    let buffer = b.new_buffer(first.dtype, &dims);
    let out = b.tensor_of(buffer);
    for (i, state) in (0..n).zip(states) {
        let row = views::select(b, &out, 0, int(i));
        copy_into(b, &row, state);
    }
    out
}

impl Builder<'_> {
    /// A loop of the host: the body is built once and runs for each index from 0 up to the extent. Storages of outside that
    /// it writes must be written in place, by kernels that store through them.
    pub fn for_range(&mut self, extent: Dim, body: impl FnOnce(&mut Self, Operand)) {
        let (index, goes_on) = (self.new_var(VarType::Int, "i"), self.new_var(VarType::Bool, ""));
        self.push(Stmt::Assign(index, HostExpr::Copy(int(0))));
        self.push(Stmt::Assign(goes_on, HostExpr::Binary(BinaryOp::Lt, int(0), extent.into())));
        self.open_region();
        body(self, Operand::Var(index));
        self.push(Stmt::Assign(index, HostExpr::Binary(BinaryOp::Add, Operand::Var(index), int(1))));
        self.push(Stmt::Assign(goes_on, HostExpr::Binary(BinaryOp::Lt, Operand::Var(index), extent.into())));
        let block = self.close_region();
        self.push(Stmt::While(goes_on, block));
    }
}

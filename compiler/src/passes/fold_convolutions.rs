//! What follows a convolution with constant weights and only scales or shifts its channels goes into the weights.
//!
//! Batch normalisation after a convolution or a linear layer, and adding, subtracting, multiplying by or dividing by a
//! constant for each channel (or for all). Nobody else may read elements of the convolution's result. Transposed
//! convolutions are left alone, and weights that others use stay: the folded ones are new constants, named as PyTorch
//! names them.

use super::evaluate::Computation;
use super::{Changed, edit};
use crate::ir::{Graph, Node, NodeId, ValueDef, ValueId};
use crate::types::{DType, IValue, TensorData, Type};
use std::collections::HashMap;
use std::sync::Arc;

/// Folds what can be folded.
pub fn run(graph: &mut Graph) -> Changed {
    let mut changed = false;
    while let Some(fold) = find(graph) {
        apply(graph, fold);
        changed = true;
    }
    changed
}

/// A fold that was found and computed.
struct Fold {
    convolution: NodeId,
    /// The node whose work moves into the weights.
    after: NodeId,
    weight: Option<(Arc<TensorData>, Option<Arc<str>>)>,
    bias: Option<(Arc<TensorData>, Option<Arc<str>>)>,
}

fn find(graph: &Graph) -> Option<Fold> {
    let mut uses = edit::use_counts(graph);
    // Questions about the shape have the same answer after the fold.
    for (_, id) in graph.nodes_in_order() {
        let node = &graph.nodes[id];
        if matches!(&*node.op.name, "aten::dim" | "aten::size" | "prim::dtype" | "prim::device")
            && let Some(&input) = node.inputs.first()
        {
            uses[input] -= 1;
        }
    }
    graph.nodes_in_order().into_iter().find_map(|(_, id)| {
        let node = &graph.nodes[id];
        let &input = node.inputs.first()?;
        let ValueDef::Output(convolution, 0) = graph.values[input].def else { return None };
        let layer = layer(graph, convolution).filter(|_| uses[input] == 1)?;
        match &*node.op.name {
            "aten::batch_norm" => batch_norm(graph, id, convolution, &layer),
            "aten::add" | "aten::sub" if node.inputs.len() == 3 && !layer.is_linear => {
                matches!(graph.constant(node.inputs[2]), Some(IValue::Int(1))).then_some(())?;
                shift(graph, id, convolution, &layer)
            }
            "aten::mul" | "aten::div" if node.inputs.len() == 2 && !layer.is_linear => {
                scale(graph, id, convolution, &layer)
            }
            _ => None,
        }
    })
}

/// A convolution or linear layer with constant parameters.
struct Layer {
    weight: Arc<TensorData>,
    bias: Option<Arc<TensorData>>,
    weight_name: Option<Arc<str>>,
    bias_name: Option<Arc<str>>,
    is_linear: bool,
}

fn layer(graph: &Graph, id: NodeId) -> Option<Layer> {
    let node = &graph.nodes[id];
    let is_linear = match &*node.op.name {
        "aten::linear" => true,
        "aten::conv1d" | "aten::conv2d" | "aten::conv3d" => false,
        "aten::_convolution" => {
            matches!(graph.constant(*node.inputs.get(6)?), Some(IValue::Bool(false))).then_some(())?;
            false
        }
        _ => return None,
    };
    let bias = match graph.constant(*node.inputs.get(2)?)? {
        IValue::None => None,
        IValue::Tensor(data) => Some(data),
        _ => return None,
    };
    let weight = tensor(graph, *node.inputs.get(1)?)?;
    if weight.sizes().is_empty() || !matches!(weight.dtype(), DType::F32 | DType::F64 | DType::F16 | DType::BF16) {
        return None;
    }
    let name = |at: usize| graph.values[node.inputs[at]].name.clone();
    let weight_name = name(1);
    // A layer without bias gets one, named like the bias it could have had.
    let derived = |name: &Arc<str>| Some(format!("{}bias", name.strip_suffix("weight")?).into());
    let bias_name = if bias.is_some() { name(2) } else { weight_name.as_ref().and_then(derived) };
    Some(Layer { weight, bias, weight_name, bias_name, is_linear })
}

fn tensor(graph: &Graph, value: ValueId) -> Option<Arc<TensorData>> {
    if let IValue::Tensor(data) = graph.constant(value)? { Some(data) } else { None }
}

fn suffixed(name: Option<&Arc<str>>, suffix: &str) -> Option<Arc<str>> {
    name.map(|name| format!("{name}{suffix}").into())
}

/// Builders of what the folded parameters are.
impl Layer {
    fn channels(&self) -> i64 {
        self.weight.sizes()[0]
    }

    fn weight_in(&self, c: &mut Computation) -> ValueId {
        c.constant(IValue::Tensor(self.weight.clone()), Type::tensor())
    }

    /// The bias, or zeros.
    fn bias_in(&self, c: &mut Computation) -> ValueId {
        match &self.bias {
            Some(bias) => c.constant(IValue::Tensor(bias.clone()), Type::tensor()),
            None => filled(c, self.channels(), self.weight.dtype(), 0.0),
        }
    }

    /// A value for each channel as a tensor that scales the weights.
    fn per_weight(&self, c: &mut Computation, value: ValueId) -> ValueId {
        let mut sizes = vec![IValue::Int(1); self.weight.sizes().len()];
        sizes[0] = IValue::Int(-1);
        let sizes = c.constant(IValue::List(Some(Type::Int), sizes.into()), Type::list(Type::Int));
        c.tensor("aten::reshape", vec![value, sizes])
    }

    fn cast(&self, c: &mut Computation, value: ValueId) -> ValueId {
        let dtype = c.int(self.weight.dtype().code());
        let no = c.constant(IValue::Bool(false), Type::Bool);
        let none = c.constant(IValue::None, Type::None);
        c.tensor("aten::to.dtype", vec![value, dtype, no, no, none])
    }
}

/// A vector of one number.
fn filled(c: &mut Computation, n: i64, dtype: DType, value: f64) -> ValueId {
    let sizes = IValue::List(Some(Type::Int), Arc::new([IValue::Int(n)]));
    let sizes = c.constant(sizes, Type::list(Type::Int));
    let value = c.constant(IValue::Float(value), Type::Float);
    let dtype = c.int(dtype.code());
    let none = c.constant(IValue::None, Type::None);
    c.tensor("aten::full", vec![sizes, value, dtype, none, none, none])
}

/// The value of a computation as a tensor.
fn computed(build: impl FnOnce(&mut Computation) -> ValueId) -> Option<Arc<TensorData>> {
    let mut c = Computation::default();
    let value = build(&mut c);
    if let IValue::Tensor(data) = c.run(value)? { Some(data) } else { None }
}

fn batch_norm(graph: &Graph, id: NodeId, convolution: NodeId, layer: &Layer) -> Option<Fold> {
    // input, weight, bias, running mean, running variance, training, momentum, eps, ...
    let node = &graph.nodes[id];
    let input = |at: usize| node.inputs.get(at).and_then(|&value| graph.constant(value));
    let (Some(IValue::Bool(false)), Some(IValue::Float(eps))) = (input(5), input(7)) else { return None };
    let (mean, variance) = (tensor(graph, node.inputs[3])?, tensor(graph, node.inputs[4])?);
    let n = layer.channels();
    if mean.sizes() != [n] || variance.sizes() != [n] {
        return None;
    }
    let optional = |at: usize| match input(at) {
        Some(IValue::Tensor(data)) => Some(Some(data)),
        Some(IValue::None) => Some(None),
        _ => None,
    };
    let (gamma, beta) = (optional(1)?, optional(2)?);
    let scale = |c: &mut Computation| {
        let variance = c.constant(IValue::Tensor(variance.clone()), Type::tensor());
        let (eps, one) = (c.constant(IValue::Float(eps), Type::Float), c.int(1));
        let variance = c.tensor("aten::add.Scalar", vec![variance, eps, one]);
        let inverse = c.tensor("aten::rsqrt", vec![variance]);
        match &gamma {
            Some(gamma) => {
                let gamma = c.constant(IValue::Tensor(gamma.clone()), Type::tensor());
                c.tensor("aten::mul.Tensor", vec![gamma, inverse])
            }
            None => inverse,
        }
    };
    let weight = computed(|c| {
        let scale = scale(c);
        let (weight, scale) = (layer.weight_in(c), layer.per_weight(c, scale));
        let product = c.tensor("aten::mul.Tensor", vec![weight, scale]);
        layer.cast(c, product)
    })?;
    let bias = computed(|c| {
        let (scale, bias, one) = (scale(c), layer.bias_in(c), c.int(1));
        let mean = c.constant(IValue::Tensor(mean.clone()), Type::tensor());
        let centred = c.tensor("aten::sub.Tensor", vec![bias, mean, one]);
        let mut value = c.tensor("aten::mul.Tensor", vec![centred, scale]);
        if let Some(beta) = &beta {
            let beta = c.constant(IValue::Tensor(beta.clone()), Type::tensor());
            value = c.tensor("aten::add.Tensor", vec![value, beta, one]);
        }
        layer.cast(c, value)
    })?;
    Some(Fold {
        convolution,
        after: id,
        weight: Some((weight, suffixed(layer.weight_name.as_ref(), "_fused_bn"))),
        bias: Some((bias, suffixed(layer.bias_name.as_ref(), "_fused_bn"))),
    })
}

/// A constant operand, with one element for each channel or one for all, as a vector or a 0-dim tensor.
fn channel_operand(graph: &Graph, node: &Node, layer: &Layer) -> Option<IValue> {
    let value = graph.constant(*node.inputs.get(1)?)?;
    match &value {
        IValue::Int(_) | IValue::Float(_) => Some(value),
        IValue::Tensor(data) => {
            let (sizes, rank) = (data.sizes(), layer.weight.sizes().len());
            let is_one = data.numel() == 1 && sizes.len() <= rank;
            // [1, C, 1, ..] or [C, 1, ..]: the channels are the second dimension of the result, which has the weight's rank.
            let channel_at = sizes.len().checked_sub(rank - 1);
            let is_per_channel = channel_at.is_some_and(|at| {
                at <= 1 && sizes.iter().enumerate().all(|(i, &n)| n == if i == at { layer.channels() } else { 1 })
            });
            let fits =
                data.dtype() == layer.weight.dtype() || data.sizes().is_empty() && data.dtype().is_floating_point();
            ((is_one || is_per_channel) && fits).then_some(value)
        }
        _ => None,
    }
}

/// The operand as something that combines with a vector of channels.
fn operand_in(c: &mut Computation, operand: &IValue) -> ValueId {
    match operand {
        IValue::Int(_) => c.constant(operand.clone(), Type::Int),
        IValue::Float(_) => c.constant(operand.clone(), Type::Float),
        _ => {
            let value = c.constant(operand.clone(), Type::tensor());
            let sizes = IValue::List(Some(Type::Int), Arc::new([IValue::Int(-1)]));
            let sizes = c.constant(sizes, Type::list(Type::Int));
            c.tensor("aten::reshape", vec![value, sizes])
        }
    }
}

/// The overload of a node's operator for this operand.
fn overload(node: &Node, operand: &IValue) -> String {
    format!("{}.{}", node.op.name, if matches!(operand, IValue::Tensor(_)) { "Tensor" } else { "Scalar" })
}

fn shift(graph: &Graph, id: NodeId, convolution: NodeId, layer: &Layer) -> Option<Fold> {
    let node = &graph.nodes[id];
    let operand = channel_operand(graph, node, layer)?;
    let bias = computed(|c| {
        let (bias, by, one) = (layer.bias_in(c), operand_in(c, &operand), c.int(1));
        let value = c.tensor(&overload(node, &operand), vec![bias, by, one]);
        layer.cast(c, value)
    })?;
    let suffix = if &*node.op.name == "aten::add" { "_fused_add" } else { "_fused_sub" };
    Some(Fold { convolution, after: id, weight: None, bias: Some((bias, suffixed(layer.bias_name.as_ref(), suffix))) })
}

fn scale(graph: &Graph, id: NodeId, convolution: NodeId, layer: &Layer) -> Option<Fold> {
    let node = &graph.nodes[id];
    let operand = channel_operand(graph, node, layer)?;
    let weight = computed(|c| {
        let (weight, mut by) = (layer.weight_in(c), operand_in(c, &operand));
        if matches!(operand, IValue::Tensor(_)) {
            by = layer.per_weight(c, by);
        }
        let value = c.tensor(&overload(node, &operand), vec![weight, by]);
        layer.cast(c, value)
    })?;
    let bias = match &layer.bias {
        None => None,
        Some(_) => Some(computed(|c| {
            let (bias, by) = (layer.bias_in(c), operand_in(c, &operand));
            let value = c.tensor(&overload(node, &operand), vec![bias, by]);
            layer.cast(c, value)
        })?),
    };
    let suffix = if &*node.op.name == "aten::mul" { "_fused_mul" } else { "_fused_div" };
    Some(Fold {
        convolution,
        after: id,
        // PyTorch names the new weight after the bias.
        weight: Some((weight, suffixed(layer.bias_name.as_ref(), suffix))),
        bias: bias.map(|bias| (bias, None)),
    })
}

fn apply(graph: &mut Graph, fold: Fold) {
    let block = graph.nodes_in_order().into_iter().find(|&(_, id)| id == fold.convolution).map(|(block, _)| block);
    let Some(block) = block else { return };
    let mut constants = Vec::new();
    for (at, new) in [(1, fold.weight), (2, fold.bias)] {
        let Some((data, name)) = new else { continue };
        let constant = edit::create_constant(graph, IValue::Tensor(data), Type::tensor(), name);
        graph.nodes[fold.convolution].inputs[at] = graph.nodes[constant].outputs[0];
        constants.push(constant);
    }
    constants.push(fold.convolution);
    edit::replace_node(graph, block, fold.convolution, constants);
    let (old, new) = (graph.nodes[fold.after].outputs[0], graph.nodes[fold.convolution].outputs[0]);
    let name = graph.values[old].name.clone();
    graph.values[new].name = name;
    edit::remove_nodes(graph, |id| id == fold.after);
    edit::substitute(graph, &HashMap::from([(old, new)]));
}

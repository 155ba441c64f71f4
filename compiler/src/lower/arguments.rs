//! The border of a method: what it takes from its caller and what it gives, as leaves of the program's functions.

use super::facts::{Kind, Outcome};
use super::places::Stores;
use super::signature::{ArgSpec, DimSpec};
use super::walk::Lowerer;
use crate::diag::Diagnostic;
use crate::loops::{
    self, Arg, BufferClass, BufferId, Const, Dim, Function, Input, InputKind, Operand, OutputTree, Stmt, VarId, VarType,
};
use crate::ops::builder::Builder;
use crate::ops::prim::scalar::number_value;
use crate::ops::value::{Cell, ObjectCell, RunTimeDict, RunTimeList, RunTimeObject, Tensor, Value};
use crate::types::{DEVICE_TYPES, DType, Type, is_device};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The value of an argument, and its part of the function's inputs.
pub(super) fn argument(
    lw: &mut Lowerer<'_, '_>,
    spec: &ArgSpec,
    ty: &Type,
    name: &str,
    tree: &mut Vec<OutputTree>,
    symbols: &mut HashMap<Arc<str>, VarId>,
) -> Outcome<Value> {
    let ty = match ty {
        Type::Optional(inner) if *spec != ArgSpec::None => inner,
        other => other,
    };
    if let Type::Enum(of) = ty {
        // The host has no enumerations, and passes a member's value.
        let value = argument(lw, spec, &of.value, name, tree, symbols)?;
        return Ok(Value::Enum(Arc::clone(&of.name), Box::new(value)));
    }
    let b = &mut lw.b;
    let mut scalar = |b: &mut Builder<'_>, kind: Kind, only: Option<Const>, leaf: OutputTree| {
        let var = b.new_var(kind.var_type(), name);
        b.function.inputs.push(Input { name: name.to_owned(), kind: InputKind::Scalar { var, only } });
        tree.push(leaf);
        match (only, kind) {
            (Some(c), Kind::Int) => Value::Int(Operand::Const(c)),
            (Some(c), Kind::Float) => Value::Float(Operand::Const(c)),
            (Some(c), Kind::Bool) => Value::Bool(Operand::Const(c)),
            _ => kind.value(var),
        }
    };
    Ok(match spec {
        ArgSpec::None => {
            b.function.inputs.push(Input { name: name.to_owned(), kind: InputKind::None });
            tree.push(OutputTree::None);
            Value::None
        }
        ArgSpec::Complex => complex_argument(b, name, tree),
        ArgSpec::Int(_) | ArgSpec::Float(_) if matches!(ty, Type::Complex) => complex_argument(b, name, tree),
        ArgSpec::Int(only) if matches!(ty, Type::Float) => {
            // Callers may pass an int for a float parameter.
            #[allow(clippy::cast_precision_loss, reason = "the conversion a caller's int undergoes")]
            let only = only.map(|x| Const::float(DType::F64, x as f64));
            scalar(b, Kind::Float, only, OutputTree::Float)
        }
        ArgSpec::Int(only) => scalar(b, Kind::Int, only.map(Const::int), OutputTree::Int),
        ArgSpec::Float(only) => scalar(b, Kind::Float, only.map(|x| Const::float(DType::F64, x)), OutputTree::Float),
        ArgSpec::Bool(only) => scalar(b, Kind::Bool, only.map(Const::bool), OutputTree::Bool),
        ArgSpec::Str(text) => {
            b.function.inputs.push(Input { name: name.to_owned(), kind: InputKind::Str(Arc::clone(text)) });
            tree.push(OutputTree::Str(Arc::clone(text)));
            if matches!(ty, Type::Device) && !is_device(text) {
                let types = DEVICE_TYPES.join(", ");
                let message = format!("Expected one of {types} device type at start of device string: {text}");
                return Err(b.user(message).into());
            }
            if matches!(ty, Type::Device) { Value::Device(Arc::clone(text)) } else { Value::text(text) }
        }
        ArgSpec::Tensor(dtype, _) if dtype.is_quantised() => {
            return Err(b.unsupported("a quantised tensor as an argument").into());
        }
        ArgSpec::Tensor(dtype, dims) => {
            let strides = lw.overlaps.next().flatten();
            // Callers may pass a tensor of one element for a number.
            let number = match ty {
                Type::Int => Some(DType::I64),
                Type::Float => Some(DType::F64),
                Type::Bool => Some(DType::Bool),
                _ => None,
            };
            if let Some(strides) = strides.filter(|_| number.is_none()) {
                return shared_argument(b, *dtype, dims, strides, name, tree);
            }
            let dims: Vec<Dim> = dims
                .iter()
                .map(|d| match d {
                    DimSpec::Known(n) => Dim::Const(*n),
                    DimSpec::Symbol(symbol) => {
                        let var = symbols.entry(Arc::clone(symbol)).or_insert_with(|| b.new_var(VarType::Int, symbol));
                        Dim::Var(*var)
                    }
                })
                .collect();
            let class = BufferClass::Input(b.function.inputs.len());
            let buffer = b.add_buffer(*dtype, &dims, class);
            name.clone_into(&mut b.function.buffers[buffer].name);
            let kind = InputKind::Tensor { buffer, is_mutated: false };
            b.function.inputs.push(Input { name: name.to_owned(), kind });
            tree.push(OutputTree::Tensor);
            let tensor = b.tensor_of(buffer);
            if let Some(dtype) = number {
                let item = b.item(&tensor);
                let item = b.cast(dtype, item);
                return Ok(number_value(b, item));
            }
            b.heap.storages[tensor.storage].argument = Some(buffer);
            Value::Tensor(tensor)
        }
        ArgSpec::Tuple(items) => {
            let types: Vec<Type> = match ty {
                Type::Tuple(types) => types.to_vec(),
                Type::NamedTuple(named) => named.fields.iter().map(|(_, ty)| ty.clone()).collect(),
                Type::List(elem) => vec![(**elem).clone(); items.len()],
                _ => Vec::new(),
            };
            let mut trees = Vec::new();
            let values = items.iter().enumerate().map(|(i, item)| {
                let ty = types.get(i).unwrap_or(&Type::Any);
                argument(lw, item, ty, &format!("{name}[{i}]"), &mut trees, symbols)
            });
            let values = values.collect::<Outcome<Vec<_>>>()?;
            tree.push(OutputTree::Tuple(trees));
            if let Type::List(_) = ty {
                return Ok(lw.b.new_list(values));
            }
            Value::Tuple(values, Some(ty.clone()).filter(|t| matches!(t, Type::NamedTuple(_))))
        }
        ArgSpec::List(items) => {
            let elem = if let Type::List(elem) = ty { (**elem).clone() } else { Type::Any };
            let mut trees = Vec::new();
            let values = items
                .iter()
                .enumerate()
                .map(|(i, item)| argument(lw, item, &elem, &format!("{name}[{i}]"), &mut trees, symbols));
            let values = values.collect::<Outcome<Vec<_>>>()?;
            tree.push(OutputTree::List(trees));
            lw.b.new_list(values)
        }
        ArgSpec::Dict(entries) => {
            let (key_ty, item_ty) =
                if let Type::Dict(k, v) = ty { ((**k).clone(), (**v).clone()) } else { (Type::Any, Type::Any) };
            let mut trees = Vec::new();
            let mut values = Vec::new();
            for (i, (key, item)) in entries.iter().enumerate() {
                let mut pair = Vec::new();
                let k = argument(lw, key, &key_ty, &format!("{name} key {i}"), &mut pair, symbols)?;
                let v = argument(lw, item, &item_ty, &format!("{name} value {i}"), &mut pair, symbols)?;
                let item = pair.pop().expect("two trees");
                trees.push((pair.pop().expect("two trees"), item));
                values.push((k, v));
            }
            tree.push(OutputTree::Dict(trees));
            Value::Cell(lw.b.heap.cells.push(Cell::Dict(values)))
        }
    })
}

/// A tensor argument that shares memory with another.
fn shared_argument(
    b: &mut Builder<'_>,
    dtype: DType,
    dims: &[DimSpec],
    strides: Vec<i64>,
    name: &str,
    tree: &mut Vec<OutputTree>,
) -> Outcome<Value> {
    let extent = |dim: &DimSpec| match dim {
        DimSpec::Known(n) => Some(*n),
        DimSpec::Symbol(_) => None,
    };
    let known: Option<Vec<i64>> = dims.iter().map(extent).collect();
    let dims = known.ok_or_else(|| Diagnostic::internal("a tensor that shares memory has open extents"))?;
    let var = b.new_var(VarType::Object, name);
    let is_row_major = aot_runtime::tensor::is_row_major(&dims, &strides);
    let own_strides = (!is_row_major).then(|| strides.iter().map(|n| Dim::Const(*n)).collect());
    let extents = dims.iter().map(|n| Dim::Const(*n)).collect();
    let kind = InputKind::Shared { var, dtype, dims, strides };
    b.function.inputs.push(Input { name: name.to_owned(), kind });
    tree.push(OutputTree::Tensor);
    Ok(Value::Tensor(b.tensor_object(var, dtype, extents, own_strides)))
}

/// Notes which tensor arguments the body writes to, itself or through its tasks.
pub(super) fn mark_mutated(function: &mut Function, by_tasks: &HashSet<BufferId>) {
    let mut written = by_tasks.clone();
    loops::walk(&function.body, &mut |stmt| {
        if let Stmt::Kernel(kernel) = stmt {
            written.extend(kernel.stores.iter().map(|store| store.buffer));
        }
    });
    let is_written = |buffer| {
        written.contains(&buffer)
            || written
                .iter()
                .any(|w| matches!(function.buffers[*w].class, BufferClass::Alias { of, .. } if of == buffer))
    };
    for input in &mut function.inputs {
        if let InputKind::Tensor { buffer, is_mutated } = &mut input.kind {
            *is_mutated = is_written(*buffer);
        }
    }
}

impl Lowerer<'_, '_> {
    /// Arguments that moved into objects go back to the caller's memory.
    pub(super) fn write_arguments_back(&mut self) {
        for (id, buffer) in self.b.arguments_in_objects() {
            let mut stores = Stores::default();
            let storage = &self.b.heap.storages[id];
            stores.add_tensor(buffer, Tensor::whole(id, storage.dtype, &storage.dims));
            stores.emit(&mut self.b);
        }
    }

    /// A result value as a tree, with its leaves.
    pub(super) fn result_tree(&mut self, value: &Value, leaves: &mut Vec<Arg>) -> Outcome<OutputTree> {
        let leaf = |leaves: &mut Vec<Arg>, operand: &Operand, tree: OutputTree| {
            leaves.push(Arg::Scalar(operand.clone()));
            tree
        };
        Ok(match value {
            Value::None | Value::Uninitialized => OutputTree::None,
            Value::Int(o) => leaf(leaves, o, OutputTree::Int),
            Value::Float(o) => leaf(leaves, o, OutputTree::Float),
            Value::Bool(o) => leaf(leaves, o, OutputTree::Bool),
            Value::Complex(re, im) => {
                leaves.extend([Arg::Scalar(re.clone()), Arg::Scalar(im.clone())]);
                OutputTree::Complex
            }
            Value::Str(Operand::Str(text)) | Value::Device(text) => OutputTree::Str(Arc::clone(text)),
            Value::Str(o) => leaf(leaves, o, OutputTree::Object),
            Value::OneOf(one) => leaf(leaves, &Operand::Var(one.item), OutputTree::Object),
            Value::Tensor(t) if t.dtype.is_quantised() => {
                return Err(self.b.unsupported("a quantised tensor as a result").into());
            }
            Value::Tensor(t) => {
                leaves.push(Arg::Buffer(self.b.row_major(t)));
                OutputTree::Tensor
            }
            Value::Tuple(items, ty) => {
                let trees = items.iter().map(|v| self.result_tree(v, leaves)).collect::<Outcome<Vec<_>>>()?;
                match ty {
                    Some(Type::NamedTuple(named)) => {
                        let names = named.fields.iter().map(|(name, _)| Arc::clone(name));
                        OutputTree::NamedTuple(Arc::clone(&named.name), names.zip(trees).collect())
                    }
                    _ => OutputTree::Tuple(trees),
                }
            }
            Value::Cell(cell) => match self.b.heap.cells[*cell].clone() {
                Cell::List(items) => {
                    OutputTree::List(items.iter().map(|v| self.result_tree(v, leaves)).collect::<Outcome<_>>()?)
                }
                Cell::Dict(entries) => {
                    let mut trees = Vec::with_capacity(entries.len());
                    for (k, v) in &entries {
                        trees.push((self.result_tree(k, leaves)?, self.result_tree(v, leaves)?));
                    }
                    OutputTree::Dict(trees)
                }
                Cell::RunTimeList(RunTimeList { var, .. }) | Cell::RunTimeDict(RunTimeDict { var, .. }) => {
                    leaf(leaves, &Operand::Var(var), OutputTree::Object)
                }
                Cell::Future(_) => return Err(self.b.unsupported("a Future as a result").into()),
                Cell::Object(ObjectCell { class, .. }) | Cell::RunTimeObject(RunTimeObject { class, .. }) => {
                    return Err(self.b.unsupported(format!("an object of class {class} as a result")).into());
                }
            },
            // The host has no enumerations.
            Value::Enum(_, value) => self.result_tree(value, leaves)?,
            Value::Function(_) => {
                return Err(self.b.unsupported(format!("a result of type {}", value.kind())).into());
            }
        })
    }
}

/// A complex argument: two inputs.
fn complex_argument(b: &mut Builder<'_>, name: &str, tree: &mut Vec<OutputTree>) -> Value {
    let mut part = || {
        let var = b.new_var(VarType::Float, name);
        b.function.inputs.push(Input { name: name.to_owned(), kind: InputKind::Scalar { var, only: None } });
        Operand::Var(var)
    };
    let parts = Value::Complex(part(), part());
    tree.push(OutputTree::Complex);
    parts
}

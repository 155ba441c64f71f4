//! The model description that the runtime reads: what each method accepts and gives, from the loop program.
//!
//! Works on a program whose memory is planned; the functions keep their numbers.

use crate::diag::{Diagnostic, Result};
use crate::loops::{self, BufferClass, Dim, Function, Input, InputKind, OutputTree, Program, Stmt, VarType};
use crate::loops::{BufferId, Operand, VarId};
use crate::types::DType;
use aot_runtime::Dtype;
use aot_runtime::desc::{self, DimDesc, FunctionDesc, InputDesc, MethodDesc, ModelDesc, OperatorDesc};
use aot_runtime::desc::{TensorDesc, Tree, VariantDesc};
use std::collections::BTreeSet;

/// Facts about a model that the program does not hold.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The model's name, a C identifier.
    pub name: String,
    /// Hash of the archive, as text.
    pub model_hash: String,
    /// CPU features that the code needs: `avx2,fma`.
    pub cpu_features: String,
    /// What the compiler was told: `-O2 --cpu x86-64-v3`.
    pub flags: String,
    /// Operators with their places in the user's Python.
    pub operators: Vec<OperatorDesc>,
}

/// Describes a program to the runtime.
pub fn describe(program: &Program, facts: &Facts) -> Result<ModelDesc> {
    let (_, weights_bytes) = loops::weight_offsets(program);
    let (_, prepared_bytes) = loops::prepared_offsets(program);
    let functions = program.functions.iter().map(function).collect::<Result<Vec<_>>>()?;
    let methods = program.methods.iter().map(|method| {
        let params = method.params.iter().map(|(name, ty)| (name.clone(), ty.annotation())).collect();
        let variant = |v: &loops::Variant| VariantDesc { state_tag: v.state_tag, function: v.function.0 };
        MethodDesc { name: method.name.clone(), params, variants: method.variants.iter().map(variant).collect() }
    });
    Ok(ModelDesc {
        name: facts.name.clone(),
        compiler: concat!("aot ", env!("CARGO_PKG_VERSION")).into(),
        model_hash: facts.model_hash.clone(),
        cpu_features: facts.cpu_features.clone(),
        flags: facts.flags.clone(),
        operators: facts.operators.clone(),
        weights_bytes: weights_bytes as u64,
        n_state_scalars: number(program.n_state_scalars)?,
        state_objects: state_objects(program)?,
        n_slots: number(program.n_slots)?,
        init: program.init.map(|f| f.0),
        prepare: program.prepare.map(|f| f.0),
        prepared_bytes: prepared_bytes as u64,
        prepared: program.prepared.iter().map(|p| (p.name.clone(), p.size_bytes() as u64)).collect(),
        methods: methods.collect(),
        functions,
    })
}

fn number(n: usize) -> Result<u32> {
    u32::try_from(n).map_err(|_| Diagnostic::internal("the program has more than 2^32 parts of a kind"))
}

/// The state scalars that hold objects: those that are loaded into or stored from object variables.
fn state_objects(program: &Program) -> Result<Vec<u32>> {
    let mut objects = BTreeSet::new();
    for function in program.functions.iter() {
        loops::walk(&function.body, &mut |stmt| match stmt {
            Stmt::LoadState(var, i) if function.vars[*var].ty == VarType::Object => _ = objects.insert(*i),
            Stmt::StoreState(i, Operand::Str(_)) => _ = objects.insert(*i),
            Stmt::StoreState(i, Operand::Var(var)) if function.vars[*var].ty == VarType::Object => {
                objects.insert(*i);
            }
            _ => {}
        });
    }
    objects.into_iter().map(number).collect()
}

fn function(function: &Function) -> Result<FunctionDesc> {
    let mut outputs: Vec<Option<TensorDesc>> = Vec::new();
    for buffer in function.buffers.iter() {
        if let BufferClass::Output(leaf) = buffer.class {
            if outputs.len() <= leaf {
                outputs.resize(leaf + 1, None);
            }
            let desc = TensorDesc { dtype: dtype(buffer.dtype)?, dims: dims(&buffer.dims) };
            // The runtime finds memory before the body runs, so it must know the dims from the arguments.
            let is_known = |dim: &Dim| match dim {
                Dim::Const(_) => true,
                Dim::Var(var) => is_bound_by_input(function, *var),
            };
            if buffer.dims.iter().all(is_known) {
                outputs[leaf] = Some(desc);
            } else {
                let message = format!("{}: result {leaf} has dims that no argument sets", function.name);
                return Err(Diagnostic::internal(message));
            }
        }
    }
    Ok(FunctionDesc {
        name: function.name.clone(),
        arena_bytes: function.arena_bytes as u64,
        params: function.params.iter().map(tree).collect(),
        inputs: function.inputs.iter().map(|i| input(function, i)).collect::<Result<_>>()?,
        results: function.results.iter().map(tree).collect(),
        outputs,
    })
}

fn is_bound_by_input(function: &Function, var: VarId) -> bool {
    function.inputs.iter().any(|input| match input.kind {
        InputKind::Tensor { buffer, .. } => function.buffers[buffer].dims.contains(&Dim::Var(var)),
        _ => false,
    })
}

fn input(function: &Function, input: &Input) -> Result<InputDesc> {
    let kind = match &input.kind {
        InputKind::Tensor { buffer, is_mutated } => {
            desc::InputKind::Tensor { tensor: tensor(function, *buffer)?, is_mutated: *is_mutated }
        }
        InputKind::Scalar { var, only } => match function.vars[*var].ty {
            VarType::Int => desc::InputKind::Int { only: only.map(loops::Const::as_i64) },
            VarType::Float => desc::InputKind::Float { only: only.map(loops::Const::as_f64) },
            VarType::Bool => desc::InputKind::Bool { only: only.map(|c| c.as_i64() != 0) },
            VarType::Object => return Err(Diagnostic::internal("a scalar argument goes into an object variable")),
        },
        InputKind::None => desc::InputKind::None,
        InputKind::Str(text) => desc::InputKind::Str(text.to_string()),
        InputKind::Object(_) => desc::InputKind::Object,
        InputKind::Shared { dtype: of, dims, strides, .. } => {
            let dims = dims.iter().map(|n| DimDesc::Const(*n)).collect();
            desc::InputKind::Shared { tensor: TensorDesc { dtype: dtype(*of)?, dims }, strides: strides.clone() }
        }
    };
    Ok(InputDesc { name: input.name.clone(), kind })
}

fn tensor(function: &Function, buffer: BufferId) -> Result<TensorDesc> {
    let buffer = &function.buffers[buffer];
    Ok(TensorDesc { dtype: dtype(buffer.dtype)?, dims: dims(&buffer.dims) })
}

fn dims(dims: &[Dim]) -> Vec<DimDesc> {
    let dim = |dim: &Dim| match *dim {
        Dim::Const(n) => DimDesc::Const(n),
        Dim::Var(var) => DimDesc::Var(var.0),
    };
    dims.iter().map(dim).collect()
}

/// The runtime's element type of this one.
pub fn dtype(dtype: DType) -> Result<Dtype> {
    u8::try_from(dtype.code()).map(Dtype).map_err(|_| Diagnostic::internal("element type code over 255"))
}

fn tree(of: &OutputTree) -> Tree {
    match of {
        OutputTree::None => Tree::None,
        OutputTree::Tensor => Tree::Tensor,
        OutputTree::Int => Tree::Int,
        OutputTree::Float => Tree::Float,
        OutputTree::Bool => Tree::Bool,
        OutputTree::Complex => Tree::Complex,
        OutputTree::Object => Tree::Object,
        OutputTree::Str(text) => Tree::Str(text.to_string()),
        OutputTree::Tuple(items) => Tree::Tuple(items.iter().map(tree).collect()),
        OutputTree::NamedTuple(name, fields) => {
            let fields = fields.iter().map(|(name, of)| (name.to_string(), tree(of))).collect();
            Tree::NamedTuple(name.to_string(), fields)
        }
        OutputTree::List(items) => Tree::List(items.iter().map(tree).collect()),
        OutputTree::Dict(items) => Tree::Dict(items.iter().map(|(k, v)| (tree(k), tree(v))).collect()),
    }
}

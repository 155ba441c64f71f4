//! Types of results for known types of arguments, by lowering: the operators' own definitions are the only rule for them.

use crate::diag::{Diagnostic, Result};
use crate::ir::Module;
use crate::loops::{Arg, Const, Function, Operand, OutputTree, Stmt, walk};
use crate::lower::{self, ArgSpec, DimSpec, Request};
use crate::types::{TensorType, Type};

/// The type of what `forward` of a module gives for arguments of these types, which are tensors of known extents. Extents
/// that only the running program knows stay open; a list of known length is a tuple of its items.
///
/// # Errors
/// Those of lowering: what is wrong for these arguments.
pub fn run(module: &Module, args: &[Type]) -> Result<Type> {
    let spec = |ty: &Type| match ty {
        Type::Tensor(TensorType { dtype: Some(dtype), sizes: Some(sizes), .. }) => {
            let dims = sizes.iter().map(|size| size.map(DimSpec::Known)).collect::<Option<Vec<_>>>();
            dims.map(|dims| ArgSpec::Tensor(*dtype, dims))
        }
        _ => None,
    };
    let args = args.iter().map(spec).collect::<Option<Vec<_>>>();
    let args = args.ok_or_else(|| Diagnostic::internal("results are inferred from tensors of known extents only"))?;
    let program = lower::lower(module, &[Request::new("forward", args)])?;
    let variant = program.methods.first().and_then(|method| method.variants.first());
    let function = variant.map(|variant| &program.functions[variant.function]);
    let function = function.ok_or_else(|| Diagnostic::internal("a lowered method has no version"))?;
    for stmt in &function.body.0 {
        // What always fails fails now.
        let is_false = |cond: &Operand| matches!(cond, Operand::Const(value) if *value == Const::bool(false));
        match stmt {
            Stmt::Raise { message: Operand::Str(text), .. } => return Err(Diagnostic::user(&**text)),
            Stmt::Check { cond, message: Operand::Str(text), parts, .. } if is_false(cond) && parts.is_empty() => {
                return Err(Diagnostic::user(&**text));
            }
            _ => {}
        }
    }
    let mut found: Option<Type> = None;
    walk(&function.body, &mut |stmt| {
        if let Stmt::Return(tree, leaves) = stmt {
            let ty = function.results.get(*tree).map_or(Type::Any, |tree| result(function, tree, &mut leaves.iter()));
            found = Some(match found.take() {
                Some(known) => common(known, ty),
                None => ty,
            });
        }
    });
    found.ok_or_else(|| Diagnostic::internal("a lowered method gives no result"))
}

fn result<'a>(function: &Function, tree: &OutputTree, leaves: &mut impl Iterator<Item = &'a Arg>) -> Type {
    let all = |items: &[OutputTree], leaves: &mut dyn Iterator<Item = &'a Arg>| {
        let mut types = Vec::with_capacity(items.len());
        for item in items {
            types.push(result(function, item, &mut &mut *leaves));
        }
        Type::Tuple(types.into())
    };
    match tree {
        OutputTree::None => Type::None,
        OutputTree::Tensor => match leaves.next() {
            Some(Arg::Buffer(id)) => {
                let buffer = &function.buffers[*id];
                let sizes = Some(buffer.dims.iter().map(|dim| dim.known()).collect());
                Type::Tensor(TensorType { dtype: Some(buffer.dtype), sizes, ..TensorType::default() })
            }
            _ => Type::tensor(),
        },
        OutputTree::Int => leaf(leaves, Type::Int),
        OutputTree::Float => leaf(leaves, Type::Float),
        OutputTree::Bool => leaf(leaves, Type::Bool),
        OutputTree::Complex => {
            leaves.next();
            leaf(leaves, Type::Complex)
        }
        OutputTree::Object => leaf(leaves, Type::Any),
        OutputTree::Str(_) => Type::Str,
        OutputTree::Tuple(items) | OutputTree::List(items) => all(items, leaves),
        OutputTree::NamedTuple(_, fields) => {
            let items: Vec<OutputTree> = fields.iter().map(|(_, tree)| tree.clone()).collect();
            all(&items, leaves)
        }
        OutputTree::Dict(entries) => {
            for (key, item) in entries {
                result(function, key, leaves);
                result(function, item, leaves);
            }
            Type::Any
        }
    }
}

fn leaf<'a>(leaves: &mut impl Iterator<Item = &'a Arg>, ty: Type) -> Type {
    leaves.next();
    ty
}

/// What holds of both: results of two branches.
fn common(a: Type, b: Type) -> Type {
    match (a, b) {
        (a, b) if a == b => a,
        (Type::Tuple(a), Type::Tuple(b)) if a.len() == b.len() => {
            Type::Tuple(a.iter().zip(b.iter()).map(|(a, b)| common(a.clone(), b.clone())).collect())
        }
        (Type::Tensor(_), Type::Tensor(_)) => Type::tensor(),
        _ => Type::Any,
    }
}

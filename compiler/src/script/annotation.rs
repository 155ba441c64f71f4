//! Types as annotations write them.

use super::names::{Item, MAX_TYPE_DEPTH, Program, dotted};
use super::typing;
use crate::diag::{Diagnostic, Result};
use crate::syntax::Dialect;
use crate::syntax::ast::{self, ExprKind, File};
use crate::types::Type;
use std::sync::Arc;

impl Program<'_> {
    /// The type an annotation means.
    pub(crate) fn ty(&mut self, expr: &ast::Expr, file: &Arc<File>) -> Result<Type> {
        self.type_depth += 1;
        let result = if self.type_depth > MAX_TYPE_DEPTH {
            Err(Diagnostic::unsupported("the type is nested too deeply"))
        } else {
            self.ty_inner(expr, file)
        };
        self.type_depth -= 1;
        result.map_err(|e| e.at(Some(&file.span(expr.range))))
    }

    fn ty_inner(&mut self, expr: &ast::Expr, file: &Arc<File>) -> Result<Type> {
        let unknown = |name: &str| Diagnostic::user(format!("Unknown type name '{name}'"));
        match &expr.kind {
            ExprKind::None => Ok(Type::None),
            ExprKind::Name(name) => match self.text_type(file, name)? {
                Some(ty) => Ok(ty),
                None if self.text_of(file).is_some()
                    && matches!(&**name, "List" | "Tuple" | "Optional" | "Dict" | "Union") =>
                {
                    Err(Diagnostic::user(if &**name == "Dict" {
                        "Attempted to use Dict without contained types. Please add contained type, e.g. Dict[int, int]"
                            .to_owned()
                    } else {
                        format!(
                            "Attempted to use {name} without a contained type. Please add a contained type, e.g. {name}[int]"
                        )
                    }))
                }
                None => simple(name).ok_or_else(|| unknown(name)),
            },
            ExprKind::Attribute { .. } => {
                let path = dotted(expr).ok_or_else(|| unknown(file.text(expr.range)))?;
                let path = self.absolute(file, &path);
                match &*path {
                    "torch.Tensor" => return Ok(Type::tensor()),
                    "torch.device" => return Ok(Type::Device),
                    "torch.dtype" | "torch.qscheme" => return Ok(Type::Int),
                    "torch.Generator" => return Ok(Type::Generator),
                    _ => {}
                }
                if let Some(ty) = path.strip_prefix("torch.").and_then(library_type) {
                    return Ok(ty);
                }
                if let Some(name) = path.strip_prefix("typing.") {
                    return simple(name).ok_or_else(|| unknown(&path));
                }
                match self.item(&path)? {
                    Some(Item::Class(ty)) => Ok(ty),
                    Some(Item::NamedTuple(ty)) => Ok(Type::NamedTuple(ty)),
                    Some(Item::Enum(ty)) => Ok(Type::Enum(ty)),
                    Some(Item::Function(_)) | None if file.dialect == Dialect::Python => {
                        let class = match self.library_item(&path)? {
                            Some(Item::Class(Type::Class(name))) => {
                                format!("<class '{}'>", name.strip_prefix("__torch__.").unwrap_or(&name))
                            }
                            _ => path,
                        };
                        Err(Diagnostic::user(format!("Unknown type annotation: '{class}'")))
                    }
                    Some(Item::Function(_)) | None => Err(unknown(&path)),
                }
            }
            ExprKind::Subscript { value, items } => {
                let head =
                    dotted(value).ok_or_else(|| Diagnostic::user("Subscripted type must be a type identifier"))?;
                let head = self.absolute(file, &head);
                let head = head.rsplit('.').next().unwrap_or(&head).to_owned();
                if let (Dialect::Own, "Tuple", [ast::Expr { kind: ExprKind::Tuple(inner), .. }]) =
                    (file.dialect, &*head, items.as_slice())
                    && let Some(first) = inner.first()
                {
                    let text = "Tuple literal in Tuple type annotation must not have any elements!";
                    return Err(Diagnostic::user(text).at(Some(&file.span(first.range))));
                }
                let items: Vec<&ast::Expr> = match items.as_slice() {
                    [ast::Expr { kind: ExprKind::Tuple(inner), .. }] => inner.iter().collect(),
                    items => items.iter().collect(),
                };
                if let Some(count) = head.strip_prefix("BroadcastingList") {
                    let is_known = count.len() <= 1 && count.bytes().all(|digit| (b'1'..=b'6').contains(&digit));
                    return match items.as_slice() {
                        [one] if is_known => Ok(Type::list(self.ty(one, file)?)),
                        _ => Err(unknown(&head)),
                    };
                }
                if let ("Callable", Dialect::Python) = (&*head, file.dialect) {
                    return Err(Diagnostic::user("Unknown type constructor Callable"));
                }
                let mut types = items.iter().map(|item| self.ty(item, file)).collect::<Result<Vec<_>>>()?;
                let one = |types: &mut Vec<Type>| match types.len() {
                    1 => Ok(types.remove(0)),
                    n => Err(Diagnostic::user(format!("{head} type must have exactly one element type, got {n}"))),
                };
                match &*head {
                    "List" | "list" => Ok(Type::list(one(&mut types)?)),
                    "Optional" => Ok(Type::optional(one(&mut types)?)),
                    "Future" => Ok(Type::Future(Arc::new(one(&mut types)?))),
                    "Await" => Ok(Type::Await(Arc::new(one(&mut types)?))),
                    "RRef" => Ok(Type::RRef(Arc::new(one(&mut types)?))),
                    "Final" => one(&mut types),
                    "Tuple" | "tuple" => Ok(Type::Tuple(types.into())),
                    "Union" => Ok(typing::union(types, self)),
                    "Dict" | "dict" => match <[Type; 2]>::try_from(types) {
                        Ok([key, value]) if is_key(&key) => Ok(Type::Dict(Arc::new(key), Arc::new(value))),
                        Ok([key, _]) => Err(Diagnostic::user(format!(
                            "Cannot create dict for key type '{key}', only int, float, complex, Tensor, device and string keys are supported"
                        ))),
                        Err(types) => {
                            Err(Diagnostic::user(format!("Dict type must have two element types, got {}", types.len())))
                        }
                    },
                    _ => Err(Diagnostic::user(format!("Unknown type constructor {head}"))),
                }
            }
            ExprKind::Tuple(items) if items.is_empty() => Ok(Type::Tuple([].into())),
            ExprKind::Binary { op: ast::BinaryOp::BitOr, lhs, rhs } => {
                let types = vec![self.ty(lhs, file)?, self.ty(rhs, file)?];
                Ok(typing::union(types, self))
            }
            ExprKind::Str(text) => {
                let name: Arc<str> = String::from_utf8_lossy(text).into();
                let inner = ast::Expr { kind: ExprKind::Name(Arc::clone(&name)), range: expr.range };
                self.ty(&inner, file)
            }
            ExprKind::Binary { op, .. } => {
                let op = op.text();
                Err(Diagnostic::user(format!("Expression of type {op} cannot be used in a type expression")))
            }
            _ => Err(unknown(file.text(expr.range))),
        }
    }
}

/// How many items one value stands for where a parameter has this type: `BroadcastingList2[int]`, or that or nothing.
pub(crate) fn broadcast_size(annotation: &ast::Expr) -> Option<usize> {
    let ExprKind::Subscript { value, items } = &annotation.kind else { return None };
    let head = dotted(value)?;
    match (head.rsplit('.').next()?, items.as_slice()) {
        ("Optional", [inner]) => broadcast_size(inner),
        (head, [_]) => head.strip_prefix("BroadcastingList")?.parse().ok(),
        _ => None,
    }
}

/// The type that a name of the module `torch` means, besides those of the language.
fn library_type(name: &str) -> Option<Type> {
    Some(match name {
        "LongTensor" | "FloatTensor" | "DoubleTensor" | "IntTensor" | "BoolTensor" | "nn.Parameter" => Type::tensor(),
        _ => return None,
    })
}

/// Whether a dictionary may have keys of this type.
pub(crate) fn is_key(ty: &Type) -> bool {
    matches!(ty, Type::Int | Type::Float | Type::Complex | Type::Bool | Type::Str | Type::Device | Type::Tensor(_))
}

/// The type a single word means.
fn simple(name: &str) -> Option<Type> {
    Some(match name {
        "Tensor" => Type::tensor(),
        "int" => Type::Int,
        "float" => Type::Float,
        "bool" => Type::Bool,
        "complex" => Type::Complex,
        "number" => Type::Number,
        "str" => Type::Str,
        "NoneType" | "None" => Type::None,
        "Device" => Type::Device,
        "Generator" => Type::Generator,
        "Stream" => Type::Stream,
        "Storage" => Type::Storage,
        "Capsule" => Type::Capsule,
        "Any" => Type::Any,
        "tuple" | "Tuple" => Type::AnyTuple,
        "list" | "List" => Type::AnyList,
        "Function" => Type::Function,
        _ => return None,
    })
}

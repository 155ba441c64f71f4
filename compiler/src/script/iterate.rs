//! What a `for` runs over and what a tuple of targets takes apart: lengths and items, known from the types or computed.

use super::function::Emitter;
use super::ssa::V;
use super::sugar::{Sugared, kind_of};
use crate::diag::Result;
use crate::ir::OpName;
use crate::syntax::ast::{Expr, ExprKind, TextRange};
use crate::types::{IValue, Type};

/// Longest range that a loop beside a tuple goes through number by number.
const MAX_COUNTED: usize = 10_000;

/// What a `for` runs over.
pub(crate) enum Iterable {
    /// `range(lo, hi, step)`.
    Range(V, V, V),
    /// `range(n)`.
    Count(V),
    /// A list, tensor, string or the keys of a dictionary.
    Items(V),
    /// A tuple.
    Fixed(Vec<Sugared>),
    /// `enumerate(x, start)`.
    Enumerate(Box<Iterable>, Counter),
    /// `zip(a, b, ...)`.
    Zip(Vec<Iterable>),
}

/// The numbers of an `enumerate`: a range without end.
pub(crate) struct Counter {
    start: V,
    end: V,
    step: V,
    /// Whether the first number is 0 because none was given.
    is_plain: bool,
}

impl Emitter<'_, '_> {
    /// What a `for` runs over.
    pub(crate) fn iterable(&mut self, expr: &Expr) -> Result<Iterable> {
        if let ExprKind::Call { callee, args } = &expr.kind
            && let ExprKind::Name(name) = &callee.kind
            && self.scope.get(name).is_none()
        {
            match &**name {
                "range" => {
                    let values = args.iter().map(|arg| self.expr(&arg.value)).collect::<Result<Vec<_>>>()?;
                    if let Some(at) = values.iter().position(|value| value.ty != Type::Int) {
                        let have = self.repr(&values[at]);
                        let text = format!("all inputs of range must be ints, found {have} in argument {at}");
                        return Err(self.error(expr.range, text));
                    }
                    let one = self.int(1, expr.range);
                    let mut values = values.into_iter();
                    return match (values.next(), values.next(), values.next(), values.next()) {
                        (Some(hi), None, ..) => Ok(Iterable::Count(hi)),
                        (Some(lo), Some(hi), step, None) => Ok(Iterable::Range(lo, hi, step.unwrap_or(one))),
                        (None, ..) => Err(self.error(expr.range, "range expected at least 1 arguments, got 0")),
                        _ => {
                            let text = format!("range expected at most 3 arguments, got {}", args.len());
                            Err(self.error(expr.range, text))
                        }
                    };
                }
                "enumerate" => {
                    if args.len() > 2 {
                        let text = format!("enumerate expected at most 2 arguments, got {}", args.len());
                        return Err(self.error(expr.range, text));
                    }
                    let Some(first) = args.first() else {
                        return Err(self.error(expr.range, "enumerate expected at least 1 arguments, got 0"));
                    };
                    let start = args.get(1).map(|start| self.expr(&start.value)).transpose()?;
                    let end = self.literal(IValue::Int(i64::MAX), Type::Int, expr.range);
                    let inner = self.iterable(&first.value)?;
                    let is_plain = start.is_none();
                    let start = start.unwrap_or_else(|| self.int(0, expr.range));
                    let step = self.int(1, expr.range);
                    return Ok(Iterable::Enumerate(Box::new(inner), Counter { start, end, step, is_plain }));
                }
                "zip" => {
                    let parts = args.iter().map(|arg| self.iterable(&arg.value)).collect::<Result<Vec<_>>>()?;
                    if parts.is_empty() {
                        return Err(self.error(expr.range, "zip expected at least 1 arguments, got 0"));
                    }
                    return Ok(Iterable::Zip(parts));
                }
                _ => {}
            }
        }
        let made = match self.expr_sugar(expr, None)? {
            Sugared::Row(items) => return Ok(Iterable::Fixed(items)),
            other => other,
        };
        let value = self.value_of(made, expr.range)?;
        self.iterable_value(value, expr.range)
    }

    /// A value as what a `for` runs over.
    pub(crate) fn iterable_value(&mut self, value: V, range: TextRange) -> Result<Iterable> {
        match &value.ty {
            Type::Tuple(items) => {
                let n = items.len();
                let values = self.unpack(Sugared::Value(value), n, false, range)?;
                Ok(Iterable::Fixed(values.into_iter().map(Sugared::Value).collect()))
            }
            Type::Class(_) if let Some(items) = self.container_items(&value, range)? => Ok(Iterable::Fixed(items)),
            Type::Dict(..) => Ok(Iterable::Items(self.builtin_value("aten::keys", vec![value], range)?)),
            Type::List(_) | Type::Tensor(_) | Type::Str => Ok(Iterable::Items(value)),
            _ => Err(self.error(range, format!("'{}' object is not iterable", self.repr(&value)))),
        }
    }

    /// The items, if their number is known from the types.
    pub(crate) fn unrolled(&mut self, items: &Iterable, range: TextRange) -> Result<Option<Vec<Sugared>>> {
        Ok(match items {
            Iterable::Fixed(values) => Some(values.clone()),
            Iterable::Enumerate(inner, Counter { start, .. }) => match self.unrolled(inner, range)? {
                None => None,
                Some(values) => {
                    let Some(IValue::Int(start)) = self.known(start) else {
                        return Err(self.unsupported(range, "enumerate over a tuple from a computed start"));
                    };
                    let mut all = Vec::with_capacity(values.len());
                    for (value, at) in values.into_iter().zip(start..) {
                        let at = self.int(at, range);
                        all.push(Sugared::Row(vec![Sugared::Value(at), value]));
                    }
                    Some(all)
                }
            },
            Iterable::Zip(parts) => {
                let mut columns = Vec::new();
                let mut is_fixed = false;
                for part in parts {
                    let values = self.unrolled(part, range)?;
                    is_fixed |= values.is_some();
                    match values.map_or_else(|| self.counted(part, range), Some) {
                        Some(values) => columns.push(values),
                        None => return Ok(None),
                    }
                }
                if !is_fixed {
                    return Ok(None);
                }
                let n = columns.iter().map(Vec::len).min().unwrap_or(0);
                let row = |at: usize| Sugared::Row(columns.iter().map(|column| column[at].clone()).collect());
                Some((0..n).map(row).collect())
            }
            Iterable::Range(..) | Iterable::Count(_) | Iterable::Items(_) => None,
        })
    }

    /// The numbers of a range whose bounds are written down.
    fn counted(&mut self, items: &Iterable, range: TextRange) -> Option<Vec<Sugared>> {
        let int = |e: &Self, v: &V| if let Some(IValue::Int(n)) = e.known(v) { Some(n) } else { None };
        let (start, stop, step) = match items {
            Iterable::Count(n) => (0, int(self, n)?, 1),
            Iterable::Range(lo, hi, step) => (int(self, lo)?, int(self, hi)?, int(self, step)?),
            _ => return None,
        };
        let values = std::iter::successors(Some(start), |at| at.checked_add(step));
        let values: Vec<i64> = match step {
            0 => return None,
            1.. => values.take_while(|at| *at < stop).take(MAX_COUNTED + 1).collect(),
            _ => values.take_while(|at| *at > stop).take(MAX_COUNTED + 1).collect(),
        };
        (values.len() <= MAX_COUNTED)
            .then(|| values.into_iter().map(|at| Sugared::Value(self.int(at, range))).collect())
    }

    /// How often the loop runs.
    pub(crate) fn iterable_len(&mut self, items: &Iterable, range: TextRange) -> Result<V> {
        match items {
            Iterable::Count(n) => Ok(n.clone()),
            Iterable::Range(lo, hi, step) => {
                let args = vec![lo.clone(), hi.clone(), step.clone()];
                self.builtin_value("aten::__range_length", args, range)
            }
            Iterable::Items(value) => self.builtin_value("aten::len", vec![value.clone()], range),
            Iterable::Fixed(values) => Ok(self.int(i64::try_from(values.len()).unwrap_or(i64::MAX), range)),
            Iterable::Enumerate(..) | Iterable::Zip(_) => {
                let mut lens = Vec::new();
                self.lengths(items, &mut lens, range)?;
                let inputs: Vec<&V> = lens.iter().collect();
                let list = self.prim("prim::ListConstruct", &inputs, Type::list(Type::Int), range);
                self.builtin_value("prim::min", vec![list], range)
            }
        }
    }

    /// The lengths of all that runs side by side; the counter of an `enumerate` could run on and on.
    fn lengths(&mut self, items: &Iterable, out: &mut Vec<V>, range: TextRange) -> Result<()> {
        match items {
            Iterable::Enumerate(inner, counter) => {
                out.push(if counter.is_plain {
                    counter.end.clone()
                } else {
                    let args = [&counter.start, &counter.end, &counter.step].map(V::clone).to_vec();
                    self.builtin_value("aten::__range_length", args, range)?
                });
                self.lengths(inner, out, range)
            }
            Iterable::Zip(parts) => parts.iter().try_for_each(|part| self.lengths(part, out, range)),
            Iterable::Range(..) | Iterable::Count(_) | Iterable::Items(_) | Iterable::Fixed(_) => {
                out.push(self.iterable_len(items, range)?);
                Ok(())
            }
        }
    }

    /// The item of iteration `index`.
    pub(crate) fn iterable_item(&mut self, items: &Iterable, index: &V, range: TextRange) -> Result<Sugared> {
        Ok(match items {
            Iterable::Count(_) => Sugared::Value(index.clone()),
            Iterable::Range(lo, _, step) => {
                let args = vec![index.clone(), lo.clone(), step.clone()];
                Sugared::Value(self.builtin_value("aten::__derive_index", args, range)?)
            }
            Iterable::Items(value) if matches!(value.ty, Type::Tensor(_)) => {
                let zero = self.int(0, range);
                Sugared::Value(self.builtin_value("aten::select", vec![value.clone(), zero, index.clone()], range)?)
            }
            Iterable::Items(value) => {
                Sugared::Value(self.builtin_value("aten::__getitem__", vec![value.clone(), index.clone()], range)?)
            }
            Iterable::Fixed(_) => {
                return Err(self.error(
                    range,
                    "Can not iterate over a module list or tuple with a value that does not have a statically \
                     determinable length",
                ));
            }
            Iterable::Enumerate(inner, counter) => {
                let at = if counter.is_plain {
                    index.clone()
                } else {
                    let args = vec![index.clone(), counter.start.clone(), counter.step.clone()];
                    self.builtin_value("aten::__derive_index", args, range)?
                };
                let item = self.iterable_item(inner, index, range)?;
                Sugared::Row(vec![Sugared::Value(at), item])
            }
            Iterable::Zip(parts) => {
                let mut row = Vec::with_capacity(parts.len());
                for part in parts {
                    row.push(self.iterable_item(part, index, range)?);
                }
                Sugared::Row(row)
            }
        })
    }

    /// How many values a starred value stands for.
    pub(crate) fn n_unpacked(&self, value: &Sugared, range: TextRange) -> Result<usize> {
        match value {
            Sugared::Multi(values, _) => Ok(values.len()),
            Sugared::Row(items) => Ok(items.len()),
            Sugared::Value(V { ty: Type::Tuple(items), .. }) => Ok(items.len()),
            Sugared::Value(V { ty: Type::NamedTuple(named), .. }) => Ok(named.fields.len()),
            Sugared::Value(V { ty: Type::List(_), .. }) => {
                Err(self.error(range, "cannot statically infer the expected size of a list in this context"))
            }
            Sugared::Value(value) => Err(self.error(range, format!("{} cannot be used as a tuple", self.repr(value)))),
            other => Err(self.error(range, format!("{} cannot be used as a tuple", kind_of(other)))),
        }
    }

    /// The values for `n` targets (one of them starred, perhaps).
    pub(crate) fn unpack(&mut self, value: Sugared, n: usize, has_star: bool, range: TextRange) -> Result<Vec<V>> {
        let values = match value {
            Sugared::Multi(values, _) => values,
            other => {
                let value = self.value_of(other, range)?;
                let types: Vec<Type> = match &value.ty {
                    Type::Tuple(items) => items.to_vec(),
                    Type::NamedTuple(named) => named.fields.iter().map(|(_, ty)| ty.clone()).collect(),
                    Type::List(elem) if !has_star => {
                        let types = vec![(**elem).clone(); n];
                        let node = self.node(OpName::new("prim::ListUnpack"), vec![value.id], &types, range);
                        let outputs = self.graph.nodes[node].outputs.clone();
                        return Ok(outputs.into_iter().zip(types).map(|(id, ty)| V { id, ty }).collect());
                    }
                    Type::List(_) => {
                        return Err(
                            self.error(range, "cannot statically infer the expected size of a list in this context")
                        );
                    }
                    Type::Tensor(_) if !has_star => {
                        let zero = self.int(0, range);
                        let list = self.builtin_value("aten::unbind", vec![value, zero], range)?;
                        return self.unpack(Sugared::Value(list), n, false, range);
                    }
                    ty => {
                        let ty = ty.annotation();
                        return Err(self.error(range, format!("{ty} cannot be used as a tuple")));
                    }
                };
                let node = self.node(OpName::new("prim::TupleUnpack"), vec![value.id], &types, range);
                let outputs = self.graph.nodes[node].outputs.clone();
                outputs.into_iter().zip(types).map(|(id, ty)| V { id, ty }).collect()
            }
        };
        let have = values.len();
        if (has_star && have + 1 < n) || (!has_star && have != n) {
            let text = if has_star {
                format!("need at least {} values to unpack but found only {have}", n - 1)
            } else if have < n {
                format!("need {n} values to unpack but found only {have}")
            } else {
                format!("too many values to unpack: need {n} but found {have}")
            };
            return Err(self.error(range, text));
        }
        Ok(values)
    }
}

//! The builtin functions of Python that constructors call.

use super::{Cell, Frame, Interpreter, Value, value};
use crate::diag::Result;
use crate::syntax::ast::{BinaryOp, TextRange};
use std::sync::Arc;

impl Interpreter<'_, '_> {
    /// `name(args)` for a builtin function or class.
    pub(crate) fn builtin(
        &mut self,
        frame: &mut Frame,
        name: &str,
        args: Vec<Value>,
        range: TextRange,
    ) -> Result<Value> {
        if let Some(Value::Unknown(why)) = args.iter().find(|arg| matches!(arg, Value::Unknown(_))) {
            return Err(Box::new((**why).clone()));
        }
        let args = if name == "range" { self.plain_numbers(&args)? } else { args };
        let list = |this: &mut Self, items: Vec<Value>| Value::Ref(this.heap.push(Cell::List(items)));
        Ok(match (name, args.as_slice()) {
            ("len", [one]) => Value::Int(self.len(frame, one, range)? as i64),
            ("range", [stop]) => self.range(frame, &Value::Int(0), stop, &Value::Int(1), range)?,
            ("range", [start, stop]) => self.range(frame, start, stop, &Value::Int(1), range)?,
            ("range", [start, stop, step]) => self.range(frame, start, stop, step, range)?,
            ("slice", [stop]) => Value::NamedTuple("slice".into(), [Value::None, stop.clone(), Value::None].into()),
            ("list", []) => list(self, Vec::new()),
            ("list" | "iter", [one]) => {
                let items = self.items(frame, one, range)?;
                list(self, items)
            }
            ("tuple", []) => Value::Tuple([].into()),
            ("tuple", [one]) => Value::Tuple(self.items(frame, one, range)?.into()),
            ("set" | "frozenset", []) => self.new_set(Vec::new()),
            ("set" | "frozenset", [one]) => {
                let items = self.items(frame, one, range)?;
                self.new_set(items)
            }
            ("dict", []) => Value::Ref(self.heap.push(Cell::Dict(Vec::new()))),
            ("dict", [one]) => {
                let made = Value::Ref(self.heap.push(Cell::Dict(Vec::new())));
                for (key, item) in self.entries(frame, one, range)? {
                    self.set_item(frame, &made, key, item, range)?;
                }
                made
            }
            ("int", [Value::Float(x)]) if x.is_finite() => Value::Int(*x as i64),
            ("int", [Value::Str(text)]) => {
                let wrong =
                    || frame.error(range, format!("ValueError: invalid literal for int() with base 10: '{text}'"));
                Value::Int(text.trim().parse().map_err(|_| wrong())?)
            }
            ("float", [Value::Str(text)]) => {
                let wrong = || frame.error(range, format!("ValueError: could not convert string to float: '{text}'"));
                Value::Float(text.trim().parse().map_err(|_| wrong())?)
            }
            ("int" | "float" | "bool", [tensor]) if self.is_tensor(tensor) => {
                let item = self.tensor_method(frame, tensor, "item", Vec::new(), Vec::new(), range)?;
                return self.builtin(frame, name, vec![item], range);
            }
            ("int", [one]) if one.as_int().is_some() => Value::Int(one.as_int().unwrap_or_default()),
            ("float", [one]) if one.as_float().is_some() => Value::Float(one.as_float().unwrap_or_default()),
            ("bool", [one]) => Value::Bool(self.truth(frame, one, range)?),
            ("complex", [re, im]) if re.as_float().is_some() && im.as_float().is_some() => {
                Value::Complex(re.as_float().unwrap_or_default(), im.as_float().unwrap_or_default())
            }
            ("int", []) => Value::Int(0),
            ("float", []) => Value::Float(0.0),
            ("str", []) => Value::str(""),
            ("str", [one]) => Value::str(self.str(one)),
            ("repr", [one]) => Value::str(self.repr(one, 0)),
            ("isinstance", [object, class]) => Value::Bool(self.is_instance(frame, object, class, range)?),
            ("issubclass", [Value::Class(class), Value::Class(base)]) => {
                Value::Bool(self.program.mro(class)?.contains(base))
            }
            ("enumerate", [all] | [all, _]) => {
                let start = args.get(1).and_then(Value::as_int).unwrap_or(0);
                let items = self.items(frame, all, range)?;
                list(self, (start..).zip(items).map(|(i, item)| Value::Tuple([Value::Int(i), item].into())).collect())
            }
            ("zip", _) => {
                let columns = args.iter().map(|arg| self.items(frame, arg, range)).collect::<Result<Vec<_>>>()?;
                let n = columns.iter().map(Vec::len).min().unwrap_or(0);
                let rows = (0..n).map(|at| Value::Tuple(columns.iter().map(|column| column[at].clone()).collect()));
                let rows = rows.collect();
                list(self, rows)
            }
            ("map", [function, all]) => {
                let mut made = Vec::new();
                for item in self.items(frame, all, range)? {
                    made.push(self.call(frame, function.clone(), vec![item], Vec::new(), range)?);
                }
                list(self, made)
            }
            ("sum", [all] | [all, _]) => {
                let mut total = args.get(1).cloned().unwrap_or(Value::Int(0));
                for item in self.items(frame, all, range)? {
                    total = self.binary(frame, BinaryOp::Add, &total, &item, range)?;
                }
                total
            }
            ("min" | "max", _) => {
                let items = if let [all] = args.as_slice() { self.items(frame, all, range)? } else { args.clone() };
                let op = if name == "min" { BinaryOp::Lt } else { BinaryOp::Gt };
                let mut items = items.into_iter();
                let empty = || frame.error(range, format!("ValueError: {name}() arg is an empty sequence"));
                let mut best = items.next().ok_or_else(empty)?;
                for item in items {
                    let is_better = self.binary(frame, op, &item, &best, range)?;
                    if self.truth(frame, &is_better, range)? {
                        best = item;
                    }
                }
                best
            }
            ("abs", [Value::Int(n)]) => Value::Int(n.wrapping_abs()),
            ("abs", [Value::Float(x)]) => Value::Float(x.abs()),
            ("abs", [tensor]) if self.is_tensor(tensor) => {
                return self.tensor_method(frame, tensor, "abs", Vec::new(), Vec::new(), range);
            }
            ("pow", [base, power]) => return self.binary(frame, BinaryOp::Pow, base, power, range),
            ("divmod", [a, b]) => {
                let quotient = self.binary(frame, BinaryOp::FloorDiv, a, b, range)?;
                let rest = self.binary(frame, BinaryOp::Mod, a, b, range)?;
                Value::Tuple([quotient, rest].into())
            }
            ("round", [Value::Float(x)]) => Value::Int(x.round_ties_even() as i64),
            ("round", [Value::Int(n)]) => Value::Int(*n),
            ("sorted", [all]) => {
                let items = self.items(frame, all, range)?;
                let items = self.sorted(frame, items, range)?;
                list(self, items)
            }
            ("reversed", [all]) => {
                let mut items = self.items(frame, all, range)?;
                items.reverse();
                list(self, items)
            }
            ("any" | "all", [all]) => {
                let wanted = name == "any";
                for item in self.items(frame, all, range)? {
                    if self.truth(frame, &item, range)? == wanted {
                        return Ok(Value::Bool(wanted));
                    }
                }
                Value::Bool(!wanted)
            }
            ("getattr", [object, Value::Str(attribute)]) => self.get_attribute(frame, object, attribute, range)?,
            ("getattr", [object, Value::Str(attribute), default]) => {
                self.has_attribute(frame, object, attribute, range)?.unwrap_or_else(|| default.clone())
            }
            ("hasattr", [object, Value::Str(attribute)]) => {
                Value::Bool(self.has_attribute(frame, object, attribute, range)?.is_some())
            }
            ("setattr", [object, Value::Str(attribute), item]) => {
                self.set_attribute(frame, object, attribute, item.clone(), range)?;
                Value::None
            }
            ("callable", [one]) => Value::Bool(matches!(
                one,
                Value::Class(_) | Value::Function(_) | Value::Closure(_) | Value::Method(..) | Value::Path(_)
            )),
            ("type", [Value::Ref(at)]) => match &self.heap[*at] {
                Cell::Instance(instance) => Value::Class(Arc::clone(&instance.class)),
                _ => Value::Path(format!("builtins.{}", value::type_name(&args[0], &self.heap)).into()),
            },
            ("type", [one]) => Value::Path(format!("builtins.{}", value::type_name(one, &self.heap)).into()),
            ("object", []) => return Err(frame.unsupported(range, "'object()' outside of compiled code")),
            _ => {
                let types: Vec<String> = args.iter().map(|arg| value::type_name(arg, &self.heap)).collect();
                return Err(frame.unsupported(range, format!("{name}({}) outside of compiled code", types.join(", "))));
            }
        })
    }

    fn range(&mut self, frame: &Frame, start: &Value, stop: &Value, step: &Value, range: TextRange) -> Result<Value> {
        match (start.as_int(), stop.as_int(), step.as_int()) {
            (Some(_), Some(_), Some(0)) => Err(frame.error(range, "ValueError: range() arg 3 must not be zero")),
            (Some(start), Some(stop), Some(step)) => Ok(Value::Range(start, stop, step)),
            _ => Err(frame.error(range, "TypeError: range() takes integers")),
        }
    }

    /// The attribute, if the object has it.
    fn has_attribute(
        &mut self,
        frame: &mut Frame,
        object: &Value,
        name: &Arc<str>,
        range: TextRange,
    ) -> Result<Option<Value>> {
        match self.get_attribute(frame, object, name, range) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.message.starts_with("AttributeError") => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn is_instance(&mut self, frame: &mut Frame, object: &Value, class: &Value, range: TextRange) -> Result<bool> {
        match class {
            Value::Tuple(classes) => {
                for class in classes.iter() {
                    if self.is_instance(frame, object, class, range)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Value::Class(class) => match object {
                Value::Ref(at) => match &self.heap[*at] {
                    Cell::Instance(instance) => Ok(self.program.mro(&Arc::clone(&instance.class))?.contains(class)),
                    _ => Ok(false),
                },
                Value::NamedTuple(name, _) | Value::Enum(name, ..) => Ok(name == class),
                _ => Ok(false),
            },
            Value::Path(path) => {
                let name = value::type_name(object, &self.heap);
                Ok(match &**path {
                    "builtins.object" => true,
                    "builtins.tuple" => matches!(object, Value::Tuple(_) | Value::NamedTuple(..)),
                    "builtins.int" => matches!(object, Value::Int(_) | Value::Bool(_)),
                    "torch.Tensor" => self.is_tensor(object),
                    "torch.nn.Module" | "torch.nn.modules.module.Module" => self.is_module(object),
                    path if path.starts_with("builtins.") => path["builtins.".len()..] == name,
                    "torch.nn.Parameter" | "torch.nn.parameter.Parameter" => name == "Parameter",
                    "collections.OrderedDict" => name == "dict",
                    _ => {
                        return Err(
                            frame.unsupported(range, format!("isinstance of '{path}' outside of compiled code"))
                        );
                    }
                })
            }
            _ => Err(self.refused(frame, class, "isinstance", range)),
        }
    }
}

//! Operators on plain values: arithmetic, comparison, truth.

use super::{Cell, Frame, Interpreter, MAX_ITEMS, Value, value};
use crate::diag::{Diagnostic, Result};
use crate::syntax::ast::{BinaryOp, TextRange, UnaryOp};
use std::cmp::Ordering;

/// How two values compare.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    Is(Ordering),
    /// A NaN is among them.
    Unordered,
    /// Python refuses to compare them.
    Incomparable,
}

impl Interpreter<'_, '_> {
    /// `lhs op rhs` of values that are no tensors.
    pub(crate) fn binary(
        &mut self,
        frame: &mut Frame,
        op: BinaryOp,
        lhs: &Value,
        rhs: &Value,
        range: TextRange,
    ) -> Result<Value> {
        if let Value::Unknown(why) = if matches!(lhs, Value::Unknown(_)) { lhs } else { rhs } {
            return Err(Box::new((**why).clone()));
        }
        match op {
            BinaryOp::Is => return Ok(Value::Bool(lhs.is_same(rhs, &self.heap))),
            BinaryOp::IsNot => return Ok(Value::Bool(!lhs.is_same(rhs, &self.heap))),
            BinaryOp::In | BinaryOp::NotIn => {
                let is_in = self.contains(frame, rhs, lhs, range)?;
                return Ok(Value::Bool(is_in == (op == BinaryOp::In)));
            }
            _ => {}
        }
        if self.is_tensor(lhs) || self.is_tensor(rhs) {
            return self.tensor_binary(frame, op, lhs, rhs, range);
        }
        let wrong = |this: &Self| {
            let (a, b) = (value::type_name(lhs, &this.heap), value::type_name(rhs, &this.heap));
            let is_plain =
                |value: &Value| !matches!(value, Value::Ref(at) if matches!(this.heap[*at], Cell::Instance(_)));
            if is_plain(lhs) && is_plain(rhs) {
                frame.error(range, format!("TypeError: unsupported operand type(s) for {}: '{a}' and '{b}'", op.text()))
            } else {
                frame.unsupported(range, format!("'{}' of objects outside of compiled code", op.text()))
            }
        };
        match op {
            BinaryOp::Eq => return Ok(Value::Bool(lhs.is_equal(rhs, &self.heap, 0))),
            BinaryOp::Ne => return Ok(Value::Bool(!lhs.is_equal(rhs, &self.heap, 0))),
            BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => {
                let order = match self.order(lhs, rhs) {
                    Order::Is(order) => order,
                    Order::Unordered => return Ok(Value::Bool(false)),
                    Order::Incomparable => return Err(wrong(self)),
                };
                return Ok(Value::Bool(match op {
                    BinaryOp::Lt => order.is_lt(),
                    BinaryOp::Le => order.is_le(),
                    BinaryOp::Gt => order.is_gt(),
                    _ => order.is_ge(),
                }));
            }
            _ => {}
        }
        if let (Some(a), Some(b)) = (lhs.as_int(), rhs.as_int()) {
            return self.integers(frame, op, a, b, matches!((lhs, rhs), (Value::Bool(_), Value::Bool(_))), range);
        }
        if let (Some(a), Some(b)) = (lhs.as_float(), rhs.as_float()) {
            return floats(frame, op, a, b, range);
        }
        if let (Some(a), Some(b)) = (complex(lhs), complex(rhs)) {
            return match op {
                BinaryOp::Add => Ok(Value::Complex(a.0 + b.0, a.1 + b.1)),
                BinaryOp::Sub => Ok(Value::Complex(a.0 - b.0, a.1 - b.1)),
                BinaryOp::Mul => Ok(Value::Complex(a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0)),
                _ => {
                    Err(frame
                        .unsupported(range, format!("'{}' of complex numbers outside of compiled code", op.text())))
                }
            };
        }
        if op == BinaryOp::Add && self.n_items(lhs) + self.n_items(rhs) > MAX_ITEMS {
            return Err(frame.unsupported(range, "sequences of this length outside of compiled code"));
        }
        match (op, lhs, rhs) {
            (BinaryOp::Add, Value::Str(a), Value::Str(b)) => Ok(Value::str(format!("{a}{b}"))),
            (BinaryOp::Mod, Value::Str(text), _) => self.percent(frame, text, rhs, range),
            (BinaryOp::Add, Value::Tuple(a), Value::Tuple(b)) => {
                Ok(Value::Tuple(a.iter().chain(b.iter()).cloned().collect()))
            }
            (BinaryOp::Add, Value::Ref(a), Value::Ref(b)) => match (&self.heap[*a], &self.heap[*b]) {
                (Cell::List(x), Cell::List(y)) => {
                    let all = x.iter().chain(y).cloned().collect();
                    Ok(Value::Ref(self.heap.push(Cell::List(all))))
                }
                _ => Err(wrong(self)),
            },
            (BinaryOp::BitOr, Value::Ref(a), Value::Ref(b)) => match (&self.heap[*a], &self.heap[*b]) {
                (Cell::Dict(x), Cell::Dict(_)) => {
                    let made = Value::Ref(self.heap.push(Cell::Dict(x.clone())));
                    let Cell::Dict(rest) = self.heap[*b].clone() else { return Err(wrong(self)) };
                    for (key, item) in rest {
                        self.set_item(frame, &made, key, item, range)?;
                    }
                    Ok(made)
                }
                _ => Err(wrong(self)),
            },
            (BinaryOp::Mul, _, _) => {
                let (items, count) = match (lhs.as_int(), rhs.as_int()) {
                    (None, Some(n)) => (lhs, n),
                    (Some(n), None) => (rhs, n),
                    _ => return Err(wrong(self)),
                };
                let count = usize::try_from(count).unwrap_or(0);
                let repeated = |all: &[Value]| -> Option<Vec<Value>> {
                    let n = all.len().checked_mul(count).filter(|n| *n <= MAX_ITEMS)?;
                    Some(all.iter().cycle().take(n).cloned().collect())
                };
                let too_long = || frame.unsupported(range, "sequences of this length outside of compiled code");
                match items {
                    Value::Str(text) if text.len().saturating_mul(count) <= MAX_ITEMS => {
                        Ok(Value::str(text.repeat(count)))
                    }
                    Value::Str(_) => Err(too_long()),
                    Value::Tuple(all) => Ok(Value::Tuple(repeated(all).ok_or_else(too_long)?.into())),
                    Value::Ref(at) => match &self.heap[*at] {
                        Cell::List(all) => {
                            let all = repeated(all).ok_or_else(too_long)?;
                            Ok(Value::Ref(self.heap.push(Cell::List(all))))
                        }
                        _ => Err(wrong(self)),
                    },
                    _ => Err(wrong(self)),
                }
            }
            _ => Err(wrong(self)),
        }
    }

    /// `target op= value`: lists grow where they are, everything else is computed anew.
    pub(crate) fn augmented(
        &mut self,
        frame: &mut Frame,
        op: BinaryOp,
        old: &Value,
        value: &Value,
        range: TextRange,
    ) -> Result<Value> {
        if let (BinaryOp::Add, Value::Ref(at)) = (op, old)
            && matches!(self.heap[*at], Cell::List(_))
        {
            let more = self.items(frame, value, range)?;
            if self.n_items(old) + more.len() > MAX_ITEMS {
                return Err(frame.unsupported(range, "sequences of this length outside of compiled code"));
            }
            if let Cell::List(items) = &mut self.heap[*at] {
                items.extend(more);
            }
            return Ok(old.clone());
        }
        if self.is_tensor(old) {
            return self.tensor_augmented(frame, op, old, value, range);
        }
        self.binary(frame, op, old, value, range)
    }

    fn integers(
        &mut self,
        frame: &Frame,
        op: BinaryOp,
        a: i64,
        b: i64,
        are_bools: bool,
        range: TextRange,
    ) -> Result<Value> {
        let overflow = || frame.unsupported(range, "integers beyond 64 bits");
        let by_zero = || frame.error(range, "ZeroDivisionError: integer division or modulo by zero");
        let checked = |value: Option<i64>| value.map(Value::Int).ok_or_else(overflow);
        match op {
            BinaryOp::Add => checked(a.checked_add(b)),
            BinaryOp::Sub => checked(a.checked_sub(b)),
            BinaryOp::Mul => checked(a.checked_mul(b)),
            BinaryOp::Div if b == 0 => Err(frame.error(range, "ZeroDivisionError: division by zero")),
            BinaryOp::Div => Ok(Value::Float(a as f64 / b as f64)),
            BinaryOp::FloorDiv | BinaryOp::Mod if b == 0 => Err(by_zero()),
            BinaryOp::FloorDiv => {
                let quotient = a.checked_div(b).ok_or_else(overflow)?;
                Ok(Value::Int(if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient }))
            }
            BinaryOp::Mod => {
                let rest = a.checked_rem(b).unwrap_or(0);
                Ok(Value::Int(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }))
            }
            BinaryOp::Pow => match u32::try_from(b) {
                Ok(power) => checked(a.checked_pow(power)),
                Err(_) if b < 0 => Ok(Value::Float((a as f64).powf(b as f64))),
                Err(_) => Err(overflow()),
            },
            BinaryOp::BitAnd if are_bools => Ok(Value::Bool(a & b == 1)),
            BinaryOp::BitOr if are_bools => Ok(Value::Bool(a | b == 1)),
            BinaryOp::BitXor if are_bools => Ok(Value::Bool(a ^ b == 1)),
            BinaryOp::BitAnd => Ok(Value::Int(a & b)),
            BinaryOp::BitOr => Ok(Value::Int(a | b)),
            BinaryOp::BitXor => Ok(Value::Int(a ^ b)),
            BinaryOp::ShiftLeft => {
                let shifted =
                    u32::try_from(b).ok().filter(|b| *b < 64).and_then(|b| a.checked_mul(1_i64.checked_shl(b)?));
                checked(shifted)
            }
            BinaryOp::ShiftRight => Ok(Value::Int(a >> b.clamp(0, 63))),
            _ => Err(frame
                .error(range, format!("TypeError: unsupported operand type(s) for {}: 'int' and 'int'", op.text()))),
        }
    }

    /// How long a sequence is; 0 for other values.
    pub(crate) fn n_items(&self, value: &Value) -> usize {
        match value {
            Value::Str(text) => text.len(),
            Value::Tuple(items) => items.len(),
            Value::Ref(at) => match &self.heap[*at] {
                Cell::List(items) => items.len(),
                _ => 0,
            },
            _ => 0,
        }
    }

    /// How two values compare.
    pub(crate) fn order(&self, lhs: &Value, rhs: &Value) -> Order {
        let rows = |a: &[Value], b: &[Value]| {
            for (x, y) in a.iter().zip(b) {
                match self.order(x, y) {
                    Order::Is(Ordering::Equal) => {}
                    other => return other,
                }
            }
            Order::Is(a.len().cmp(&b.len()))
        };
        match (lhs, rhs) {
            (Value::Str(a), Value::Str(b)) => Order::Is(a.cmp(b)),
            (Value::Tuple(a), Value::Tuple(b)) => rows(a, b),
            (Value::Ref(a), Value::Ref(b)) => match (&self.heap[*a], &self.heap[*b]) {
                (Cell::List(a), Cell::List(b)) => rows(a, b),
                _ => Order::Incomparable,
            },
            _ => match (lhs.as_int(), rhs.as_int(), lhs.as_float(), rhs.as_float()) {
                (Some(a), Some(b), ..) => Order::Is(a.cmp(&b)),
                (_, _, Some(a), Some(b)) => a.partial_cmp(&b).map_or(Order::Unordered, Order::Is),
                _ => Order::Incomparable,
            },
        }
    }

    /// `op operand`.
    pub(crate) fn unary(&mut self, frame: &mut Frame, op: UnaryOp, operand: &Value, range: TextRange) -> Result<Value> {
        if op == UnaryOp::Not {
            return Ok(Value::Bool(!self.truth(frame, operand, range)?));
        }
        if self.is_tensor(operand) {
            return self.tensor_unary(frame, op, operand, range);
        }
        let overflow = || frame.unsupported(range, "integers beyond 64 bits");
        match (op, operand) {
            (UnaryOp::Neg, Value::Float(x)) => Ok(Value::Float(-x)),
            (UnaryOp::Neg, Value::Complex(re, im)) => Ok(Value::Complex(-re, -im)),
            (UnaryOp::Pos, Value::Float(_) | Value::Complex(..)) => Ok(operand.clone()),
            _ => match (op, operand.as_int()) {
                (UnaryOp::Neg, Some(n)) => n.checked_neg().map(Value::Int).ok_or_else(overflow),
                (UnaryOp::Pos, Some(n)) => Ok(Value::Int(n)),
                (UnaryOp::Invert, Some(n)) => Ok(Value::Int(!n)),
                _ => Err(self.refused(frame, operand, "an operator", range)),
            },
        }
    }

    /// `bool(value)`.
    pub(crate) fn truth(&mut self, frame: &mut Frame, value: &Value, range: TextRange) -> Result<bool> {
        Ok(match value {
            Value::None => false,
            Value::Bool(b) => *b,
            Value::Int(n) => *n != 0,
            Value::Float(x) => *x != 0.0,
            Value::Complex(re, im) => *re != 0.0 || *im != 0.0,
            Value::Str(text) => !text.is_empty(),
            Value::Tuple(items) | Value::NamedTuple(_, items) => !items.is_empty(),
            Value::Range(start, stop, step) => {
                if *step > 0 {
                    start < stop
                } else {
                    start > stop
                }
            }
            Value::Unknown(why) => return Err(Box::new((**why).clone())),
            Value::Ref(at) => match &self.heap[*at] {
                Cell::List(items) | Cell::Set(items) => !items.is_empty(),
                Cell::Dict(entries) => !entries.is_empty(),
                Cell::Tensor(_) | Cell::Traced(_) if self.is_tracing() => self.trace_truth(frame, value, range)?,
                Cell::Tensor(_) => match self.tensor_method(frame, value, "item", Vec::new(), Vec::new(), range)? {
                    Value::Ref(_) => true,
                    plain => self.truth(frame, &plain, range)?,
                },
                Cell::Instance(_) if self.is_module(value) => match self.container_len(*at) {
                    Some(n) => n > 0,
                    None => true,
                },
                Cell::Instance(_) | Cell::Attribute(..) | Cell::Elements(_) | Cell::Traced(_) => true,
            },
            Value::Ellipsis
            | Value::Device(_)
            | Value::Enum(..)
            | Value::Path(_)
            | Value::Class(_)
            | Value::Function(_)
            | Value::Compiled(_)
            | Value::Module(_)
            | Value::Closure(_)
            | Value::Lambda
            | Value::Method(..)
            | Value::Super(..) => true,
        })
    }

    /// The error for a value that an operation does not take.
    pub(crate) fn refused(&self, frame: &Frame, operand: &Value, what: &str, range: TextRange) -> Box<Diagnostic> {
        match operand {
            Value::Unknown(why) => Box::new((**why).clone()),
            _ => {
                let name = value::type_name(operand, &self.heap);
                frame.unsupported(range, format!("{what} on a '{name}' outside of compiled code"))
            }
        }
    }
}

fn complex(value: &Value) -> Option<(f64, f64)> {
    match value {
        Value::Complex(re, im) => Some((*re, *im)),
        other => other.as_float().map(|x| (x, 0.0)),
    }
}

fn floats(frame: &Frame, op: BinaryOp, a: f64, b: f64, range: TextRange) -> Result<Value> {
    let by_zero = || frame.error(range, "ZeroDivisionError: float division by zero");
    Ok(Value::Float(match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div | BinaryOp::FloorDiv | BinaryOp::Mod if b == 0.0 => return Err(by_zero()),
        BinaryOp::Div => a / b,
        BinaryOp::FloorDiv => (a / b).floor(),
        BinaryOp::Mod => {
            let rest = a % b;
            if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
        }
        BinaryOp::Pow => a.powf(b),
        _ => {
            let text = format!("TypeError: unsupported operand type(s) for {}: 'float' and 'float'", op.text());
            return Err(frame.error(range, text));
        }
    }))
}

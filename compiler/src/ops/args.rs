//! Typed access to an operator's arguments.

use super::builder::Builder;
use super::message::Message;
use super::schema::Schema;
use super::value::{Cell, RunTimeList, Tensor, Value, int, known, known_int};
use crate::diag::{Diagnostic, Result};
use crate::loops::{BinaryOp, Const, Dim, Operand};
use crate::types::DType;

/// The arguments of one call, in the schema's order, defaults filled in.
#[derive(Clone, Debug)]
pub struct Args<'a> {
    /// The schema, if the operator has one.
    pub schema: Option<&'static Schema>,
    /// The values.
    pub values: &'a [Value],
}

impl Args<'_> {
    /// The argument at this position.
    pub fn value(&self, at: usize) -> Result<&Value> {
        self.values.get(at).ok_or_else(|| Diagnostic::internal(format!("argument {at} is missing")))
    }

    /// The argument with this name in the schema.
    pub fn named(&self, name: &str) -> Option<&Value> {
        let at = self.schema?.args.iter().position(|a| &*a.name == name)?;
        self.values.get(at)
    }

    /// The position of the argument with this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.schema?.args.iter().position(|a| &*a.name == name)
    }

    fn wrong(&self, at: usize, want: &str) -> Box<Diagnostic> {
        let name = self.schema.and_then(|s| s.args.get(at)).map_or_else(|| at.to_string(), |a| a.name.to_string());
        let found = self.values.get(at).map_or("nothing", Value::kind);
        if matches!(self.values.get(at), Some(Value::Uninitialized)) {
            // The program reads what it never set, or what follows a check that always fails.
            return Diagnostic::user(format!("argument '{name}' has no value"));
        }
        Diagnostic::internal(format!("expected {want} for argument '{name}' but found {found}"))
    }

    /// A tensor.
    pub fn tensor(&self, at: usize) -> Result<Tensor> {
        match self.value(at)? {
            Value::Tensor(t) => Ok(t.clone()),
            _ => Err(self.wrong(at, "a Tensor")),
        }
    }

    /// A tensor or `None`.
    pub fn optional_tensor(&self, at: usize) -> Result<Option<Tensor>> {
        if matches!(self.value(at)?, Value::None) { Ok(None) } else { self.tensor(at).map(Some) }
    }

    /// An integer, possibly known only when running. Tensors of one element and booleans convert.
    pub fn int(&self, b: &mut Builder<'_>, at: usize) -> Result<Operand> {
        match self.value(at)? {
            Value::Int(o) => Ok(o.clone()),
            Value::Bool(o) | Value::Float(o) => Ok(b.cast(DType::I64, o.clone())),
            Value::Tensor(t) => {
                let item = b.item(&t.clone());
                Ok(b.cast(DType::I64, item))
            }
            _ => Err(self.wrong(at, "an int")),
        }
    }

    /// An integer or `None`.
    pub fn optional_int(&self, b: &mut Builder<'_>, at: usize) -> Result<Option<Operand>> {
        if matches!(self.value(at)?, Value::None) { Ok(None) } else { self.int(b, at).map(Some) }
    }

    /// An integer that must be known when compiling.
    pub fn known_int(&self, b: &Builder<'_>, at: usize) -> Result<i64> {
        let (Value::Int(operand) | Value::Bool(operand)) = self.value(at)? else {
            return Err(self.wrong(at, "an int"));
        };
        known_int(operand).ok_or_else(|| self.must_be_known(b, at))
    }

    /// A boolean that decides what the operator is. If only the running program knows it, the operator is lowered once for
    /// each answer.
    pub fn flag(&self, b: &mut Builder<'_>, at: usize) -> Result<bool> {
        match self.value(at)? {
            Value::Bool(o) | Value::Int(o) => b.decide(o),
            _ => Err(self.wrong(at, "a bool")),
        }
    }

    /// An integer that decides what the operator is, one of some. If only the running program knows it, the operator is
    /// lowered once for each.
    pub fn choice(&self, b: &mut Builder<'_>, at: usize, choices: &[i64]) -> Result<i64> {
        let Value::Int(operand) = self.value(at)? else { return Err(self.wrong(at, "an int")) };
        if let Some(known) = known_int(operand) {
            return Ok(known);
        }
        let number = b.dim(operand.clone());
        for choice in choices {
            if b.decide_extent(number, *choice)? {
                return Ok(*choice);
            }
        }
        let name = self.schema.and_then(|s| s.args.get(at)).map_or_else(|| at.to_string(), |a| a.name.to_string());
        Err(b.user(format!("argument '{name}' of {} has a value that it cannot have", b.op_name)))
    }

    fn must_be_known(&self, b: &Builder<'_>, at: usize) -> Box<Diagnostic> {
        let name = self.schema.and_then(|s| s.args.get(at)).map_or_else(|| at.to_string(), |a| a.name.to_string());
        b.unsupported(format!("argument '{name}' of {} must be known when compiling", b.op_name))
    }

    /// A number as a host operand (`I64`, `F64` or `Bool`), or the value of a one-element tensor.
    pub fn number(&self, b: &mut Builder<'_>, at: usize) -> Result<Operand> {
        match self.value(at)? {
            Value::Int(o) | Value::Float(o) | Value::Bool(o) => Ok(o.clone()),
            Value::Tensor(t) => Ok(b.item(&t.clone())),
            Value::Complex(..) => Err(b.unsupported(format!("complex numbers in {}", b.op_name))),
            _ => Err(self.wrong(at, "a number")),
        }
    }

    /// A number or `None`.
    pub fn optional_number(&self, b: &mut Builder<'_>, at: usize) -> Result<Option<Operand>> {
        if matches!(self.value(at)?, Value::None) { Ok(None) } else { self.number(b, at).map(Some) }
    }

    /// A number as a float operand.
    pub fn float(&self, b: &mut Builder<'_>, at: usize) -> Result<Operand> {
        let number = self.number(b, at)?;
        Ok(b.cast(DType::F64, number))
    }

    /// A float that must be known when compiling.
    pub fn known_float(&self, b: &mut Builder<'_>, at: usize) -> Result<f64> {
        let float = self.float(b, at)?;
        known(&float).map(Const::as_f64).ok_or_else(|| self.must_be_known(b, at))
    }

    /// A float or `None`, known when compiling.
    pub fn optional_known_float(&self, b: &mut Builder<'_>, at: usize) -> Result<Option<f64>> {
        if matches!(self.value(at)?, Value::None) { Ok(None) } else { self.known_float(b, at).map(Some) }
    }

    /// Constant text.
    pub fn text(&self, b: &Builder<'_>, at: usize) -> Result<std::sync::Arc<str>> {
        match self.value(at)? {
            Value::Str(Operand::Str(text)) => Ok(std::sync::Arc::clone(text)),
            Value::Str(_) => Err(self.must_be_known(b, at)),
            _ => Err(self.wrong(at, "a str")),
        }
    }

    /// A list of integers. One integer stands for a list of one, as fixed-size list arguments allow.
    pub fn int_list(&self, b: &mut Builder<'_>, at: usize) -> Result<Vec<Operand>> {
        let value = self.value(at)?;
        if let Value::Int(o) = value {
            return Ok(vec![o.clone()]);
        }
        let items = b.items(value)?;
        let mut out = Vec::with_capacity(items.len());
        for item in &items {
            out.push(match item {
                Value::Int(o) => o.clone(),
                Value::Bool(o) => b.cast(DType::I64, o.clone()),
                Value::Tensor(t) => {
                    let number = b.item(t);
                    b.cast(DType::I64, number)
                }
                _ => return Err(self.wrong(at, "a list of ints")),
            });
        }
        Ok(out)
    }

    /// The run-time list at this position, if it is one.
    pub fn run_time_list(&self, b: &Builder<'_>, at: usize) -> Option<RunTimeList> {
        match self.values.get(at)? {
            Value::Cell(cell) => match &b.heap.cells[*cell] {
                Cell::RunTimeList(list) => Some(list.clone()),
                Cell::List(_)
                | Cell::Dict(_)
                | Cell::RunTimeDict(_)
                | Cell::Object(_)
                | Cell::RunTimeObject(_)
                | Cell::Future(_) => None,
            },
            _ => None,
        }
    }

    /// A shape: a list of extents, none of which may be negative.
    pub fn shape(&self, b: &mut Builder<'_>, at: usize) -> Result<Vec<Dim>> {
        let sizes = self.int_list(b, at)?;
        for size in &sizes {
            let is_fine = b.binary(BinaryOp::Ge, size.clone(), int(0));
            let message = "Trying to create tensor with negative dimension {}: {}";
            b.require(is_fine, Message::new(message, &[size.into(), sizes.as_slice().into()]))?;
        }
        Ok(sizes.into_iter().map(|size| b.dim(size)).collect())
    }

    /// A list of integers or `None`.
    pub fn optional_int_list(&self, b: &mut Builder<'_>, at: usize) -> Result<Option<Vec<Operand>>> {
        if matches!(self.value(at)?, Value::None) { Ok(None) } else { self.int_list(b, at).map(Some) }
    }

    /// A list of integers that must be known when compiling.
    pub fn known_ints(&self, b: &mut Builder<'_>, at: usize) -> Result<Vec<i64>> {
        let list = self.int_list(b, at)?;
        list.iter().map(known_int).collect::<Option<_>>().ok_or_else(|| self.must_be_known(b, at))
    }

    /// A list of integers of a fixed length, known when compiling; a single one is repeated, an empty one gives `default`.
    pub fn known_ints_of(&self, b: &mut Builder<'_>, at: usize, len: usize, default: &[i64]) -> Result<Vec<i64>> {
        let list = self.known_ints(b, at)?;
        match list.len() {
            0 => Ok(default.to_vec()),
            1 => Ok(vec![list[0]; len]),
            n if n == len => Ok(list),
            n => Err(b.user(format!("expected {len} values for argument {at} of {}, got {n}", b.op_name))),
        }
    }

    /// A list of tensors.
    pub fn tensors(&self, b: &mut Builder<'_>, at: usize) -> Result<Vec<Tensor>> {
        let items = b.items(self.value(at)?)?;
        let tensor = |item: &Value| match item {
            Value::Tensor(t) => Ok(t.clone()),
            _ => Err(self.wrong(at, "a list of Tensors")),
        };
        items.iter().map(tensor).collect()
    }

    /// A list of floats.
    pub fn known_floats(&self, b: &mut Builder<'_>, at: usize) -> Result<Vec<f64>> {
        let items = b.items(self.value(at)?)?;
        let float = |item: &Value| match item {
            Value::Float(o) | Value::Int(o) => known(o).map(Const::as_f64).ok_or_else(|| self.must_be_known(b, at)),
            _ => Err(self.wrong(at, "a list of floats")),
        };
        items.iter().map(float).collect()
    }

    /// An element type, from its code; `None` where the argument is `None`.
    pub fn dtype(&self, b: &Builder<'_>, at: usize) -> Result<Option<DType>> {
        if matches!(self.value(at)?, Value::None) {
            return Ok(None);
        }
        let code = self.known_int(b, at)?;
        DType::from_code(code).map(Some).ok_or_else(|| b.unsupported(format!("the element type with code {code}")))
    }
}

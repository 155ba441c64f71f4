//! The methods of strings: folded where the text is known, else a routine computes them. What they do stands in the runtime
//! (`aot_runtime::strings`), once for both.

use super::container::raise;
use crate::diag::Result;
use crate::loops::{Arg, Operand, VarType};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::value::{ItemFacts, Value, int, known_int};
use aot_runtime::strings::{self, Answer, Gives, METHODS};

/// Defines operators that are methods of strings.
macro_rules! methods {
    ($($operator:literal = $method:literal;)*) => {
        /// The definitions of this family.
        pub const DEFS: &[OpDef] = &[$(OpDef { name: $operator, lower: |b, args| method(b, args, $method) },)*];
    };
}

methods! {
    "aten::upper" = "upper";
    "aten::lower" = "lower";
    "aten::swapcase" = "swapcase";
    "aten::title" = "title";
    "aten::capitalize" = "capitalize";
    "aten::isdigit" = "isdigit";
    "aten::isdecimal" = "isdecimal";
    "aten::isnumeric" = "isnumeric";
    "aten::isalpha" = "isalpha";
    "aten::isalnum" = "isalnum";
    "aten::isspace" = "isspace";
    "aten::isprintable" = "isprintable";
    "aten::isupper" = "isupper";
    "aten::islower" = "islower";
    "aten::istitle" = "istitle";
    "aten::isidentifier" = "isidentifier";
    "aten::strip" = "strip";
    "aten::lstrip" = "lstrip";
    "aten::rstrip" = "rstrip";
    "aten::center" = "center";
    "aten::ljust" = "ljust";
    "aten::rjust" = "rjust";
    "aten::zfill" = "zfill";
    "aten::expandtabs" = "expandtabs";
    "aten::replace" = "replace";
    "aten::find" = "find";
    "aten::rfind" = "rfind";
    "aten::index.str" = "index";
    "aten::rindex" = "rindex";
    "aten::count" = "count";
    "aten::startswith" = "startswith";
    "aten::endswith" = "endswith";
    "aten::split.str" = "split";
    "aten::rsplit" = "rsplit";
    "aten::splitlines" = "splitlines";
    "aten::partition" = "partition";
    "aten::rpartition" = "rpartition";
    "aten::lt.str" = "lt";
    "aten::le.str" = "le";
    "aten::gt.str" = "gt";
    "aten::ge.str" = "ge";
    "aten::len.str" = "len";
    "aten::__getitem__.str" = "item";
    "prim::StringIndex" = "item";
    "aten::slice.str" = "slice";
    "aten::ord" = "ord";
}

/// The letters of a string as a list.
pub(super) fn letters(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    method(b, args, "letters")
}

/// A method by its name in the runtime's table.
fn method(b: &mut Builder<'_>, args: &Args<'_>, name: &str) -> Result<Value> {
    let number = strings::method_number(name).expect("the table names methods of the runtime");
    let operands: Vec<Option<Operand>> =
        (0..args.values.len()).map(|at| operand(b, args, at)).collect::<Result<_>>()?;
    if let Some(known) = operands.iter().map(|o| constant(o.as_ref())).collect::<Option<Vec<_>>>() {
        return Ok(match (METHODS[number].run)(strings::Args(&known)) {
            Ok(answer) => value(b, answer),
            Err(error) => raise(b, &error.message),
        });
    }
    let nones = (0..).zip(&operands).filter(|(_, o)| o.is_none()).fold(0, |mask, (at, _)| mask | 1 << at);
    let count = |n: usize| int(i64::try_from(n).unwrap_or(i64::MAX));
    let mut given = vec![count(number), int(nones)];
    given.extend(operands.into_iter().map(|o| o.unwrap_or(int(0))));
    let gives = METHODS[number].gives;
    let ty = match gives {
        Gives::Int => VarType::Int,
        Gives::Bool => VarType::Bool,
        Gives::Text | Gives::List | Gives::Triple => VarType::Object,
    };
    let var = b.call("str_method", given.into_iter().map(Arg::Scalar).collect(), &[ty])[0];
    Ok(match gives {
        Gives::Int => Value::Int(Operand::Var(var)),
        Gives::Bool => Value::Bool(Operand::Var(var)),
        Gives::Text => Value::Str(Operand::Var(var)),
        Gives::List => b.list_in(var, ItemFacts::Str),
        Gives::Triple => {
            let of = Arg::Scalar(Operand::Var(var));
            let part = |at| b.fetched("tuple_get", vec![of.clone(), Arg::Scalar(int(at))], &ItemFacts::Str);
            Value::Tuple((0..3).map(part).collect(), None)
        }
    })
}

/// The argument at this position; `None` where it is `None`.
fn operand(b: &Builder<'_>, args: &Args<'_>, at: usize) -> Result<Option<Operand>> {
    match args.value(at)? {
        Value::None => Ok(None),
        Value::Str(o) | Value::Int(o) | Value::Bool(o) => Ok(Some(o.clone())),
        other => Err(b.user(format!("expected a str or int in {}, found {}", b.op_name, other.kind()))),
    }
}

/// An argument that is known when compiling.
fn constant(operand: Option<&Operand>) -> Option<strings::Arg<'_>> {
    match operand {
        None => Some(strings::Arg::None),
        Some(Operand::Str(text)) => Some(strings::Arg::Text(text.as_bytes())),
        Some(number) => known_int(number).map(strings::Arg::Int),
    }
}

/// A folded answer.
fn value(b: &mut Builder<'_>, answer: Answer) -> Value {
    let text = |bytes: Vec<u8>| Value::text(&String::from_utf8_lossy(&bytes));
    match answer {
        Answer::Text(bytes) => text(bytes),
        Answer::Int(number) => Value::int(number),
        Answer::Bool(is) => Value::bool(is),
        Answer::List(parts) => b.new_list(parts.into_iter().map(text).collect()),
        Answer::Triple(parts) => Value::Tuple(parts.into_iter().map(text).collect(), None),
    }
}

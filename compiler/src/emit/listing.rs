//! A [`Builder`] that writes down what the emitter asks of it, one instruction a line: the same text on every machine.
//!
//! ```text
//! func t_f0(ptr) -> i64
//!   v1: i64 = int 8
//!   v2: f32x8 = load v0
//!   branch v3, block1, block2
//! block1:
//! ```
//!
//! Values, variables and blocks are numbered within their function. Nothing runs this; it shows what backends translate.

use super::builder::{Builder, Cmp, Conv, Func, Inst1, Inst2, Label, Lane, Linkage, Signature, Ty, Value, Variable};
use crate::diag::Result;
use crate::loops::Program;
use std::cell::{Cell, RefCell};
use std::fmt::{self, Display, Formatter};

/// The instructions of a scheduled program, whose symbols start with this prefix.
///
/// # Errors
/// As for [`program`](super::program).
pub fn listing(program: &Program, prefix: &str) -> Result<String> {
    let listing = Listing::default();
    super::program(&listing, program, prefix)?;
    Ok(listing.text.into_inner())
}

#[derive(Default)]
struct Listing {
    text: RefCell<String>,
    /// Declared functions, by number.
    functions: RefCell<Vec<(String, Signature, Linkage)>>,
    n_values: Cell<u32>,
    n_labels: Cell<u32>,
    n_variables: Cell<u32>,
}

impl Display for Ty {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let lane = match self.lane {
            Lane::I1 => "i1",
            Lane::I8 => "i8",
            Lane::I16 => "i16",
            Lane::I32 => "i32",
            Lane::I64 => "i64",
            Lane::F32 => "f32",
            Lane::F64 => "f64",
            Lane::Ptr => "ptr",
        };
        f.write_str(lane)?;
        if self.lanes > 1 { write!(f, "x{}", self.lanes) } else { Ok(()) }
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.id)
    }
}

impl Display for Label {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "block{}", self.0)
    }
}

impl Display for Variable {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "var{}", self.id)
    }
}

fn listed<T: Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The name of an instruction: that of its variant.
fn name(inst: impl fmt::Debug) -> String {
    format!("{inst:?}").to_lowercase()
}

impl Listing {
    fn line(&self, text: impl Display) {
        *self.text.borrow_mut() += &format!("  {text}\n");
    }

    fn fresh(&self, ty: Ty) -> Value {
        let id = self.n_values.replace(self.n_values.get() + 1);
        Value { id, ty }
    }

    /// A line that makes a value.
    fn made(&self, ty: Ty, text: impl Display) -> Value {
        let value = self.fresh(ty);
        self.line(format_args!("{value}: {ty} = {text}"));
        value
    }

    fn symbol(&self, func: Func) -> String {
        self.functions.borrow()[func.0 as usize].0.clone()
    }
}

impl Builder for Listing {
    fn declare(&self, name: &str, signature: &Signature, linkage: Linkage) -> Func {
        let mut functions = self.functions.borrow_mut();
        let known = functions.iter().position(|(own, ..)| own == name);
        let index = known.unwrap_or(functions.len());
        if known.is_none() {
            functions.push((name.to_owned(), signature.clone(), linkage));
        }
        Func(u32::try_from(index).expect("a program has few functions"))
    }

    fn begin(&self, func: Func) -> Vec<Value> {
        for counter in [&self.n_values, &self.n_labels, &self.n_variables] {
            counter.set(0);
        }
        let (name, signature, linkage) = self.functions.borrow()[func.0 as usize].clone();
        let params: Vec<Value> = signature.params.iter().map(|param| self.fresh(param.ty)).collect();
        let typed: Vec<String> = signature
            .params
            .iter()
            .zip(&params)
            .map(|(param, value)| {
                let mut text = format!("{value}: {}", param.ty);
                if param.ty == Ty::PTR {
                    text += &format!(" align {}", param.align);
                    text += if param.no_alias { " noalias" } else { "" };
                    text += if param.is_read_only { " readonly" } else { "" };
                }
                text
            })
            .collect();
        let result = signature.result.map_or_else(String::new, |ty| format!(" -> {ty}"));
        let head = format!("{} {name}({}){result}\n", self::name(linkage), typed.join(", "));
        *self.text.borrow_mut() += &head;
        params
    }

    fn end(&self) {
        *self.text.borrow_mut() += "\n";
    }

    fn bytes(&self, bytes: &[u8]) -> Value {
        self.made(Ty::PTR, format_args!("bytes \"{}\"", bytes.escape_ascii()))
    }

    fn has_fma(&self) -> bool {
        true
    }

    fn label(&self) -> Label {
        // The entry block is number 0.
        self.n_labels.set(self.n_labels.get() + 1);
        Label(self.n_labels.get())
    }

    fn place(&self, label: Label) {
        *self.text.borrow_mut() += &format!("{label}:\n");
    }

    fn jump(&self, label: Label) {
        self.line(format_args!("jump {label}"));
    }

    fn branch(&self, cond: Value, then_label: Label, else_label: Label) {
        self.line(format_args!("branch {cond}, {then_label}, {else_label}"));
    }

    fn ret(&self, value: Option<Value>) {
        match value {
            Some(value) => self.line(format_args!("ret {value}")),
            None => self.line("ret"),
        }
    }

    fn call(&self, func: Func, args: &[Value]) -> Option<Value> {
        let result = self.functions.borrow()[func.0 as usize].1.result;
        let text = format!("call {}({})", self.symbol(func), listed(args));
        if result.is_none() {
            self.line(&text);
        }
        result.map(|ty| self.made(ty, text))
    }

    fn address(&self, func: Func) -> Value {
        self.made(Ty::PTR, format_args!("address {}", self.symbol(func)))
    }

    fn variable(&self, ty: Ty) -> Variable {
        let id = self.n_variables.replace(self.n_variables.get() + 1);
        Variable { id, ty }
    }

    fn get(&self, variable: Variable) -> Value {
        self.made(variable.ty, format_args!("get {variable}"))
    }

    fn set(&self, variable: Variable, value: Value) {
        self.line(format_args!("set {variable}, {value}"));
    }

    fn stack(&self, bytes: usize, align: usize) -> Value {
        self.made(Ty::PTR, format_args!("stack {bytes} align {align}"))
    }

    fn element(&self, pointer: Value, index: Value, size_bytes: usize) -> Value {
        self.made(Ty::PTR, format_args!("element {pointer}, {index} * {size_bytes}"))
    }

    fn load(&self, ty: Ty, pointer: Value) -> Value {
        self.made(ty, format_args!("load {pointer}"))
    }

    fn store(&self, value: Value, pointer: Value) {
        self.line(format_args!("store {value}, {pointer}"));
    }

    fn load_masked(&self, ty: Ty, pointer: Value, mask: Value) -> Value {
        self.made(ty, format_args!("load {pointer} where {mask}"))
    }

    fn store_masked(&self, value: Value, pointer: Value, mask: Value) {
        self.line(format_args!("store {value}, {pointer} where {mask}"));
    }

    fn gather(&self, ty: Ty, pointer: Value, offsets: Value, mask: Option<Value>) -> Value {
        let place = mask.map_or_else(String::new, |mask| format!(" where {mask}"));
        self.made(ty, format_args!("gather {pointer}, {offsets}{place}"))
    }

    fn prefetch(&self, pointer: Value) {
        self.line(format_args!("prefetch {pointer}"));
    }

    fn int(&self, ty: Ty, value: i64) -> Value {
        self.made(ty, format_args!("int {value}"))
    }

    fn float(&self, ty: Ty, value: f64) -> Value {
        self.made(ty, format_args!("float {value:?}"))
    }

    fn inst2(&self, inst: Inst2, a: Value, b: Value) -> Value {
        self.made(a.ty, format_args!("{} {a}, {b}", name(inst)))
    }

    fn inst1(&self, inst: Inst1, a: Value) -> Value {
        self.made(a.ty, format_args!("{} {a}", name(inst)))
    }

    fn fma(&self, a: Value, b: Value, c: Value) -> Value {
        self.made(a.ty, format_args!("fma {a}, {b}, {c}"))
    }

    fn compare(&self, cmp: Cmp, a: Value, b: Value) -> Value {
        self.made(a.ty.with(Lane::I1), format_args!("{} {a}, {b}", name(cmp)))
    }

    fn select(&self, cond: Value, a: Value, b: Value) -> Value {
        self.made(a.ty, format_args!("select {cond}, {a}, {b}"))
    }

    fn convert(&self, conv: Conv, a: Value, lane: Lane) -> Value {
        self.made(a.ty.with(lane), format_args!("{} {a}", name(conv)))
    }

    fn any(&self, mask: Value) -> Value {
        self.made(Ty::I1, format_args!("any {mask}"))
    }

    fn splat(&self, a: Value, lanes: u16) -> Value {
        self.made(Ty { lane: a.ty.lane, lanes }, format_args!("splat {a}"))
    }

    fn extract(&self, a: Value, lane: u16) -> Value {
        self.made(Ty::scalar(a.ty.lane), format_args!("extract {a}, {lane}"))
    }

    fn half(&self, a: Value, is_upper: bool) -> Value {
        let which = if is_upper { "upper" } else { "lower" };
        self.made(Ty { lane: a.ty.lane, lanes: a.ty.lanes / 2 }, format_args!("{which} half {a}"))
    }

    fn pack(&self, lanes: &[Value]) -> Value {
        let [first, ..] = lanes else { panic!("a vector has lanes") };
        let n = u16::try_from(lanes.len()).expect("a vector has few lanes");
        self.made(Ty { lane: first.ty.lane, lanes: n }, format_args!("pack {}", listed(lanes)))
    }
}

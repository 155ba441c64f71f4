//! Linear forms of integer expressions over the axes of a kernel: the arithmetic of addresses.
//!
//! A form is a constant plus terms `coefficient * variables * atom`, where the atom is an axis, an expression that is not
//! linear, or nothing. Strides of buffers whose extents are known only at run time appear as products of variables.
//! Quotients and remainders by constants are resolved where the ranges of the axes allow it, so that views through
//! `reshape` and blocked layouts become plain strides again.

use crate::loops::{BinaryOp, Dim, Expr, ExprId, Exprs, VarId};
use std::collections::{BTreeMap, HashMap};

/// What varies in a term.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Atom {
    /// The index along an axis.
    Axis(usize),
    /// The value of an expression.
    Expr(ExprId),
}

/// A product of host variables and at most one atom.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct Monomial {
    /// Sorted; a variable may appear several times.
    pub(crate) vars: Vec<VarId>,
    /// What varies, if anything.
    pub(crate) atom: Option<Atom>,
}

/// An extent or a stride: a constant times variables.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Extent {
    /// The constant factor.
    pub(crate) factor: i64,
    /// The variable factors, sorted.
    pub(crate) vars: Vec<VarId>,
}

impl Extent {
    /// The extent 1.
    pub(crate) const ONE: Self = Self { factor: 1, vars: Vec::new() };

    /// The value, if it is known when compiling.
    pub(crate) fn known(&self) -> Option<i64> {
        (self.vars.is_empty() || self.factor == 0).then_some(self.factor)
    }

    /// The product of two extents.
    pub(crate) fn times(&self, other: &Self) -> Self {
        Self { factor: self.factor.wrapping_mul(other.factor), vars: merged(&self.vars, &other.vars) }
    }
}

impl From<Dim> for Extent {
    fn from(dim: Dim) -> Self {
        match dim {
            Dim::Const(n) => Self { factor: n, vars: Vec::new() },
            Dim::Var(var) => Self { factor: 1, vars: vec![var] },
        }
    }
}

fn merged(a: &[VarId], b: &[VarId]) -> Vec<VarId> {
    let mut vars = [a, b].concat();
    vars.sort_unstable();
    vars
}

/// A sum of terms and a constant. No coefficient is 0.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Linear {
    /// Coefficients; never of the empty monomial.
    pub(crate) terms: BTreeMap<Monomial, i64>,
    /// The constant.
    pub(crate) constant: i64,
}

impl Linear {
    /// A constant form.
    pub(crate) fn constant(value: i64) -> Self {
        Self { terms: BTreeMap::new(), constant: value }
    }

    /// The form that is one atom.
    pub(crate) fn atom(atom: Atom) -> Self {
        Self::default().plus_term(Monomial { vars: Vec::new(), atom: Some(atom) }, 1)
    }

    fn plus_term(mut self, monomial: Monomial, coefficient: i64) -> Self {
        if monomial == Monomial::default() {
            self.constant = self.constant.wrapping_add(coefficient);
            return self;
        }
        let entry = self.terms.entry(monomial.clone()).or_insert(0);
        *entry = entry.wrapping_add(coefficient);
        if *entry == 0 {
            self.terms.remove(&monomial);
        }
        self
    }

    /// `self + other * factor`.
    pub(crate) fn plus(mut self, other: &Self, factor: i64) -> Self {
        for (monomial, &coefficient) in &other.terms {
            self = self.plus_term(monomial.clone(), coefficient.wrapping_mul(factor));
        }
        self.constant = self.constant.wrapping_add(other.constant.wrapping_mul(factor));
        self
    }

    /// `self * extent`.
    pub(crate) fn scaled(&self, extent: &Extent) -> Self {
        let mut out = Self::default();
        for (monomial, &coefficient) in &self.terms {
            let vars = merged(&monomial.vars, &extent.vars);
            out = out.plus_term(Monomial { vars, atom: monomial.atom }, coefficient.wrapping_mul(extent.factor));
        }
        let constant = self.constant.wrapping_mul(extent.factor);
        if constant == 0 { out } else { out.plus_term(Monomial { vars: extent.vars.clone(), atom: None }, constant) }
    }

    /// The terms of an axis: variables and coefficient of each.
    pub(crate) fn of_axis(&self, axis: usize) -> impl Iterator<Item = (&[VarId], i64)> {
        let wanted = Some(Atom::Axis(axis));
        self.terms.iter().filter(move |(m, _)| m.atom == wanted).map(|(m, &c)| (m.vars.as_slice(), c))
    }

    /// How far the form moves when the index along `axis` grows by 1, where that is a known number and no opaque expression is
    /// asked (the caller checks those).
    pub(crate) fn stride_along(&self, axis: usize) -> Option<i64> {
        let mut stride = 0;
        for (vars, coefficient) in self.of_axis(axis) {
            if !vars.is_empty() {
                return None;
            }
            stride += coefficient;
        }
        Some(stride)
    }

    /// The opaque expressions in it.
    pub(crate) fn opaque(&self) -> impl Iterator<Item = ExprId> {
        self.terms.keys().filter_map(|m| if let Some(Atom::Expr(id)) = m.atom { Some(id) } else { None })
    }

    /// If it is a constant times variables, that.
    fn as_extent(&self) -> Option<Extent> {
        if self.terms.is_empty() {
            return Some(Extent { factor: self.constant, vars: Vec::new() });
        }
        let (monomial, &factor) = self.terms.first_key_value()?;
        let is_product = self.terms.len() == 1 && self.constant == 0 && monomial.atom.is_none();
        is_product.then(|| Extent { factor, vars: monomial.vars.clone() })
    }
}

/// Linear forms of the expressions of one kernel, computed once each.
pub(crate) struct Forms<'a> {
    exprs: &'a Exprs,
    /// Extents of the kernel's axes.
    extents: Vec<Option<i64>>,
    known: HashMap<ExprId, Linear>,
}

impl<'a> Forms<'a> {
    /// For these expressions over axes of these extents.
    pub(crate) fn new(exprs: &'a Exprs, extents: Vec<Option<i64>>) -> Self {
        Self { exprs, extents, known: HashMap::new() }
    }

    /// The form of an `int64` expression.
    pub(crate) fn form(&mut self, id: ExprId) -> Linear {
        if let Some(form) = self.known.get(&id) {
            return form.clone();
        }
        let form = self.compute(id);
        self.known.insert(id, form.clone());
        form
    }

    fn compute(&mut self, id: ExprId) -> Linear {
        let opaque = || Linear::atom(Atom::Expr(id));
        match *self.exprs.get(id) {
            Expr::Const(c) if !c.dtype.is_floating_point() => Linear::constant(c.as_i64()),
            Expr::Axis(axis) if self.extents[axis] == Some(1) => Linear::constant(0),
            Expr::Axis(axis) => Linear::atom(Atom::Axis(axis)),
            Expr::Var(var, crate::types::DType::I64) => {
                Linear::default().plus_term(Monomial { vars: vec![var], atom: None }, 1)
            }
            Expr::Binary(op, a, b) if self.exprs.dtype(id) == crate::types::DType::I64 => match op {
                BinaryOp::Add => self.form(a).plus(&self.form(b), 1),
                BinaryOp::Sub => self.form(a).plus(&self.form(b), -1),
                BinaryOp::Mul => {
                    let (a, b) = (self.form(a), self.form(b));
                    match (a.as_extent(), b.as_extent()) {
                        (_, Some(factor)) => a.scaled(&factor),
                        (Some(factor), None) => b.scaled(&factor),
                        (None, None) => opaque(),
                    }
                }
                BinaryOp::FloorDiv | BinaryOp::Div => {
                    let (a, b) = (self.form(a), self.form(b));
                    let needs_sign = op == BinaryOp::Div;
                    self.divided(&a, &b, needs_sign).map_or_else(opaque, |(quotient, _)| quotient)
                }
                BinaryOp::FloorMod | BinaryOp::Rem => {
                    let (a, b) = (self.form(a), self.form(b));
                    let needs_sign = op == BinaryOp::Rem;
                    self.divided(&a, &b, needs_sign).map_or_else(opaque, |(_, remainder)| remainder)
                }
                _ => opaque(),
            },
            _ => opaque(),
        }
    }

    /// Quotient and remainder of a form by a positive constant, where the part that the divisor does not divide provably stays
    /// within one period.
    fn divided(&self, form: &Linear, divisor: &Linear, needs_non_negative: bool) -> Option<(Linear, Linear)> {
        let by = divisor.as_extent()?.known().filter(|&d| d > 0)?;
        if needs_non_negative && self.range(form)?.0 < 0 {
            return None;
        }
        let mut quotient = Linear::constant(form.constant.div_euclid(by));
        let mut remainder = Linear::constant(form.constant.rem_euclid(by));
        for (monomial, &coefficient) in &form.terms {
            if coefficient % by == 0 {
                quotient = quotient.plus_term(monomial.clone(), coefficient / by);
            } else {
                remainder = remainder.plus_term(monomial.clone(), coefficient);
            }
        }
        let (low, high) = self.range(&remainder)?;
        (low >= 0 && high < by).then_some((quotient, remainder))
    }

    /// Least and greatest value of a form, if its terms are axes of known extent.
    pub(crate) fn range(&self, form: &Linear) -> Option<(i64, i64)> {
        let (mut low, mut high) = (form.constant, form.constant);
        for (monomial, &coefficient) in &form.terms {
            let last = match monomial.atom {
                Some(Atom::Axis(axis)) if monomial.vars.is_empty() => (self.extents[axis]? - 1).max(0),
                Some(Atom::Expr(id)) if monomial.vars.is_empty() => {
                    // A remainder that stayed opaque is still bounded.
                    let Expr::Binary(BinaryOp::FloorMod, _, by) = *self.exprs.get(id) else { return None };
                    self.exprs.constant(by)?.as_i64().checked_sub(1).filter(|&n| n >= 0)?
                }
                _ => return None,
            };
            let span = coefficient.checked_mul(last)?;
            if span < 0 {
                low = low.checked_add(span)?;
            } else {
                high = high.checked_add(span)?;
            }
        }
        Some((low, high))
    }

    /// The same form with `k * (x / c) * c + k * (x % c)` put together as `k * x`.
    pub(crate) fn rejoined(&mut self, mut form: Linear) -> Linear {
        loop {
            let mut found = None;
            for (monomial, &k) in &form.terms {
                let Some(Atom::Expr(id)) = monomial.atom else { continue };
                let Expr::Binary(BinaryOp::FloorMod, x, by) = *self.exprs.get(id) else { continue };
                let Some(c) = self.exprs.constant(by) else { continue };
                let quotient = form.terms.iter().find(|(other, q)| {
                    let Some(Atom::Expr(other_id)) = other.atom else { return false };
                    other.vars == monomial.vars
                        && Some(**q) == k.checked_mul(c.as_i64())
                        && *self.exprs.get(other_id) == Expr::Binary(BinaryOp::FloorDiv, x, by)
                });
                if let Some((quotient, _)) = quotient {
                    found = Some((monomial.clone(), quotient.clone(), x, k));
                    break;
                }
            }
            let Some((remainder, quotient, x, k)) = found else { return form };
            form.terms.remove(&remainder);
            form.terms.remove(&quotient);
            let whole = self.form(x).scaled(&Extent { factor: k, vars: remainder.vars });
            form = form.plus(&whole, 1);
        }
    }
}

//! One name for each operator: aliases become the operator they stand for, as PyTorch does right after compiling and tracing.
//!
//! An alias has the overloads of its operator, so a node keeps its operands. It stays as it is where the operator has no
//! overload with these arguments, or where only the alias can be compiled.

use super::Changed;
use crate::ir::{Graph, OpName};
use crate::ops::{self, schema};
use std::collections::HashMap;
use std::sync::LazyLock;

/// Aliases with their operators, without the namespace. Each pair holds for the forms that write in place, too.
const ALIASES: [(&str, &str); 55] = [
    ("absolute", "abs"),
    ("adjoint", "mH"),
    ("arccos", "acos"),
    ("arccosh", "acosh"),
    ("arcsin", "asin"),
    ("arcsinh", "asinh"),
    ("arctan", "atan"),
    ("arctan2", "atan2"),
    ("arctanh", "atanh"),
    ("clip", "clamp"),
    ("concat", "cat"),
    ("concatenate", "cat"),
    ("det", "linalg_det"),
    ("divide", "div"),
    ("fix", "trunc"),
    ("ger", "outer"),
    ("greater", "gt"),
    ("greater_equal", "ge"),
    ("inverse", "linalg_inv"),
    ("less", "lt"),
    ("less_equal", "le"),
    ("linalg_matmul", "matmul"),
    ("matrix_power", "linalg_matrix_power"),
    ("moveaxis", "movedim"),
    ("multiply", "mul"),
    ("negative", "neg"),
    ("not_equal", "ne"),
    ("orgqr", "linalg_householder_product"),
    ("row_stack", "vstack"),
    ("special_digamma", "digamma"),
    ("special_erf", "erf"),
    ("special_erfc", "erfc"),
    ("special_erfinv", "erfinv"),
    ("special_exp2", "exp2"),
    ("special_expit", "sigmoid"),
    ("special_expm1", "expm1"),
    ("special_gammainc", "igamma"),
    ("special_gammaincc", "igammac"),
    ("special_gammaln", "lgamma"),
    ("special_i0", "i0"),
    ("special_log1p", "log1p"),
    ("special_log_softmax", "log_softmax"),
    ("special_logit", "logit"),
    ("special_logsumexp", "logsumexp"),
    ("special_multigammaln", "mvlgamma"),
    ("special_polygamma", "polygamma"),
    ("special_psi", "digamma"),
    ("special_round", "round"),
    ("special_sinc", "sinc"),
    ("special_softmax", "softmax"),
    ("special_xlogy", "xlogy"),
    ("subtract", "sub"),
    ("swapaxes", "transpose"),
    ("swapdims", "transpose"),
    ("true_divide", "div"),
];

static OPERATORS: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| ALIASES.into_iter().collect());

/// Renames every alias.
pub fn run(graph: &mut Graph) -> Changed {
    let mut changed = false;
    for (_, id) in graph.nodes_in_order() {
        if let Some(op) = operator(&graph.nodes[id].op) {
            graph.nodes[id].op = op;
            changed = true;
        }
    }
    changed
}

/// The operator that an alias stands for.
fn operator(alias: &OpName) -> Option<OpName> {
    let base = alias.name.strip_prefix("aten::")?;
    let (plain, suffix) = base.strip_suffix('_').map_or((base, ""), |plain| (plain, "_"));
    let name = format!("aten::{}{suffix}", OPERATORS.get(plain)?);
    let own = schema::schema(alias)?;
    let same = |other: &&schema::Schema| {
        own.args.len() == other.args.len()
            && own.args.iter().zip(&other.args).all(|(a, b)| a.ty == b.ty && a.kw_only == b.kw_only)
            && own.returns.len() == other.returns.len()
    };
    let found = schema::overloads(&name).iter().find(same)?;
    (ops::is_defined(&found.name) || !ops::is_defined(alias)).then(|| found.name.clone())
}

//! Functions that are written out where they are called: PyTorch has TorchScript texts of its own for them, and inlines those.

use super::exits::Flow;
use super::function::Emitter;
use super::mismatch;
use super::ssa::V;
use crate::diag::Result;
use crate::syntax::ast::TextRange;
use crate::types::Type;
use std::sync::Arc;

impl Emitter<'_, '_> {
    /// What a call of such a function gives; `None` if it is none.
    pub(crate) fn written_out(
        &mut self,
        name: &str,
        positional: &[V],
        named: &[(Arc<str>, V)],
        range: TextRange,
    ) -> Result<Option<V>> {
        let ntuple = ["aten::_single", "aten::_pair", "aten::_triple", "aten::_quadruple"];
        match (ntuple.iter().position(|own| *own == name), positional) {
            (Some(at), [one]) if named.is_empty() => self.ntuple(one, at + 1, range).map(Some),
            (None, [sizes, defaults]) if name == "aten::list_with_default" && named.is_empty() => {
                self.list_with_default(sizes, defaults, range).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// One number for each dimension, given as a list or as one for all.
    fn ntuple(&mut self, value: &V, n: usize, range: TextRange) -> Result<V> {
        if matches!(value.ty, Type::Int | Type::Float) {
            return Ok(self.prim("prim::ListConstruct", &vec![value; n], Type::list(value.ty.clone()), range));
        }
        let mut value = value.clone();
        for elem in [Type::Float, Type::Int] {
            value = match self.convert(value, &Type::list(elem), false, range) {
                Ok(list) => return Ok(list),
                Err(value) => value,
            };
        }
        let why = self.misfit("List[int]", "x", &value);
        Err(self.error(range, mismatch::not_the_schema(&format!("_ntuple(int[{n}] x) -> int[]"), &why)))
    }

    /// Sizes of the last dimensions, of which there must be others before.
    fn list_with_default(&mut self, sizes: &V, defaults: &V, range: TextRange) -> Result<V> {
        let n_dims = self.builtin_value("aten::len", vec![defaults.clone()], range)?;
        let n_sizes = self.builtin_value("aten::len", vec![sizes.clone()], range)?;
        let has_others = self.builtin_value("aten::gt", vec![n_dims, n_sizes], range)?;
        let then = self.branch(&[], range, |_| Ok(Flow::Falls))?;
        let orelse = self.branch(&[], range, |e| e.fail_assertion(None, range))?;
        self.merge(&has_others, then, orelse, range)?;
        Ok(sizes.clone())
    }
}

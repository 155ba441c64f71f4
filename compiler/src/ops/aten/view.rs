//! Views and rearrangements: the same elements under other indices.

use crate::diag::Result;
use crate::ops::args::Args;
use crate::ops::builder::Builder;

/// A dimension given as users do, at this position, of a tensor of this rank: wrapped, or the error PyTorch gives.
pub fn dim_arg(b: &Builder<'_>, args: &Args<'_>, at: usize, rank: usize) -> Result<usize> {
    let dim = args.known_int(b, at)?;
    wrap(b, dim, rank)
}

/// [`dim_arg`] of a number.
pub fn wrap(b: &Builder<'_>, dim: i64, rank: usize) -> Result<usize> {
    let n = i64::try_from(rank.max(1)).unwrap_or(i64::MAX);
    let wrapped = if dim < 0 { dim + n } else { dim };
    usize::try_from(wrapped).ok().filter(|d| *d < rank.max(1)).ok_or_else(|| {
        b.user(format!("Dimension out of range (expected to be in range of [{}, {}], but got {dim})", -n, n - 1))
    })
}

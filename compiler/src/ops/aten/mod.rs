//! The `aten::` operators, one file a family.

pub mod activation;
pub mod arithmetic;
pub mod arrange;
pub mod compare;
pub mod contraction;
pub mod conv;
pub mod create;
pub mod norm;
pub mod pad;
pub mod pointwise;
pub mod reduce;
pub mod resize;
pub mod unary;
pub mod view;

use super::OpDef;

/// Every family's definitions.
pub const FAMILIES: &[&[OpDef]] = &[
    activation::DEFS,
    arithmetic::DEFS,
    arrange::DEFS,
    compare::DEFS,
    create::DEFS,
    contraction::DEFS,
    conv::DEFS,
    norm::DEFS,
    pad::DEFS,
    pointwise::DEFS,
    reduce::DEFS,
    resize::DEFS,
    unary::DEFS,
    reduce::DEFS,
    unary::FLOAT_DEFS,
    view::DEFS,
];

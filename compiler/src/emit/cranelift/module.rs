//! A module under construction: what ids stand for, and values taken apart into pieces and put together.
#![allow(unsafe_code, reason = "the function builder borrows from its neighbours")]

use super::Resolve;
use crate::diag::Diagnostic;
use crate::emit::builder::{self, Func, Lane, Ty};
use crate::emit::target::Target;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, Block, Endianness, FuncRef, InstBuilder, MemFlagsData, Type, Value, types};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};
use cranelift_jit::JITModule;
use cranelift_module::{FuncId, Module};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::mem::ManuallyDrop;

/// A declared function, its result and its parameters.
pub(super) type Declared = (FuncId, Option<Ty>, Vec<Ty>);

/// A module under construction.
pub(super) struct Cranelift {
    pub(super) module: RefCell<JITModule>,
    pub(super) resolve: Resolve,
    pub(super) has_fma: bool,
    pub(super) error: RefCell<Option<Box<Diagnostic>>>,
    pub(super) funcs: RefCell<Vec<Declared>>,
    pub(super) known: RefCell<HashMap<String, Func>>,
    pub(super) texts: RefCell<HashMap<Vec<u8>, cranelift_module::DataId>>,
    pub(super) current: Cell<Option<Func>>,
    pub(super) builder: RefCell<Option<Under>>,
    pub(super) values: RefCell<Vec<Vec<Value>>>,
    /// Integer constants by value, for shifts by constant amounts.
    pub(super) ints: RefCell<HashMap<u32, i64>>,
    pub(super) labels: RefCell<Vec<Block>>,
    pub(super) variables: RefCell<Vec<Vec<Variable>>>,
}

/// The function under construction; `builder` borrows the two boxes, which are freed after it.
pub(super) struct Under {
    pub(super) builder: ManuallyDrop<FunctionBuilder<'static>>,
    function: *mut ir::Function,
    context: *mut FunctionBuilderContext,
}

impl Under {
    /// Makes the function and the builder that borrows it.
    pub(super) fn new(function: ir::Function) -> Self {
        let function = Box::into_raw(Box::new(function));
        let context = Box::into_raw(Box::new(FunctionBuilderContext::new()));
        // SAFETY: the boxes are freed in `finish` or leaked, after the builder's last use.
        let builder = unsafe { FunctionBuilder::new(&mut *function, &mut *context) };
        Self { builder: ManuallyDrop::new(builder), function, context }
    }

    /// Ends the builder and gives the function back.
    pub(super) fn finish(self, config: cranelift_codegen::isa::TargetFrontendConfig) -> ir::Function {
        let mut builder = ManuallyDrop::into_inner(self.builder);
        builder.seal_all_blocks();
        builder.finalize(config);
        // SAFETY: made by `Box::into_raw` in `new`; the builder is gone.
        drop(unsafe { Box::from_raw(self.context) });
        // SAFETY: as above.
        *unsafe { Box::from_raw(self.function) }
    }
}

/// A lane's type.
pub(super) fn scalar_type(lane: Lane) -> Type {
    match lane {
        Lane::I1 | Lane::I8 => types::I8,
        Lane::I16 => types::I16,
        Lane::I32 => types::I32,
        Lane::I64 | Lane::Ptr => types::I64,
        Lane::F32 => types::F32,
        Lane::F64 => types::F64,
    }
}

/// The type of a piece, and how many lanes it has.
pub(super) fn piece(ty: Ty) -> (Type, u16) {
    let (lane, size) = match (ty.lane, ty.lanes) {
        (Lane::I1, 2) => (types::I64, 8),
        (Lane::I1, 4..) => (types::I32, 4),
        (lane, _) => (scalar_type(lane), u16::try_from(lane.size_bytes()).unwrap_or(8)),
    };
    if ty.lanes > 1 && ty.lanes * size >= 16 {
        let n = 16 / size;
        (lane.by(u32::from(n)).unwrap_or(lane), n)
    } else {
        (lane, 1)
    }
}

/// The types of all pieces.
pub(super) fn types_of(ty: Ty) -> Vec<Type> {
    let (piece, n) = piece(ty);
    vec![piece; usize::from(ty.lanes / n)]
}

impl Cranelift {
    /// An empty module for a target.
    pub(super) fn new(module: JITModule, target: &Target, resolve: Resolve) -> Self {
        Self {
            module: RefCell::new(module),
            resolve,
            has_fma: target.has_fma,
            error: RefCell::default(),
            funcs: RefCell::default(),
            known: RefCell::default(),
            texts: RefCell::default(),
            current: Cell::default(),
            builder: RefCell::default(),
            values: RefCell::default(),
            ints: RefCell::default(),
            labels: RefCell::default(),
            variables: RefCell::default(),
        }
    }

    /// Keeps the first error; calls of the builder cannot fail.
    pub(super) fn fail(&self, error: &dyn std::fmt::Display) {
        self.error.borrow_mut().get_or_insert_with(|| Diagnostic::internal(format!("Cranelift: {error}")));
    }

    /// Builds instructions in the function under construction.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut FunctionBuilder<'static>) -> R) -> R {
        let mut under = self.builder.borrow_mut();
        f(&mut under.as_mut().expect("instructions are built between begin and end").builder)
    }

    /// A value's pieces.
    pub(super) fn pieces(&self, value: builder::Value) -> Vec<Value> {
        self.values.borrow()[value.id as usize].clone()
    }

    /// The only piece of a scalar.
    pub(super) fn one(&self, value: builder::Value) -> Value {
        self.values.borrow()[value.id as usize][0]
    }

    /// A new value of these pieces.
    pub(super) fn add(&self, pieces: Vec<Value>, ty: Ty) -> builder::Value {
        let mut values = self.values.borrow_mut();
        values.push(pieces);
        builder::Value { id: u32::try_from(values.len() - 1).expect("fewer than 2^32 values"), ty }
    }

    /// The lanes as scalars; conditions as `i8`.
    pub(super) fn lanes(&self, value: builder::Value) -> Vec<Value> {
        let (_, n) = piece(value.ty);
        let pieces = self.pieces(value);
        if n == 1 {
            return pieces;
        }
        self.with(|b| {
            let lane = |(piece, lane)| {
                let scalar = b.ins().extractlane(piece, lane);
                if value.ty.lane == Lane::I1 { b.ins().icmp_imm_s(IntCC::NotEqual, scalar, 0) } else { scalar }
            };
            pieces.iter().flat_map(|&piece| (0..n as u8).map(move |lane| (piece, lane))).map(lane).collect()
        })
    }

    /// The value with these scalar lanes.
    pub(super) fn from_lanes(&self, lanes: &[Value], ty: Ty) -> builder::Value {
        let (piece, n) = piece(ty);
        if n == 1 {
            return self.add(lanes.to_vec(), ty);
        }
        let pieces = self.with(|b| {
            let part = |part: &[Value]| {
                let mask = |b: &mut FunctionBuilder<'static>, v| {
                    if ty.lane == Lane::I1 { b.ins().bmask(piece.lane_type(), v) } else { v }
                };
                let first = mask(b, part[0]);
                let first = b.ins().splat(piece, first);
                (1..).zip(&part[1..]).fold(first, |vector, (lane, &v)| {
                    let v = mask(b, v);
                    b.ins().insertlane(vector, v, lane)
                })
            };
            lanes.chunks(usize::from(n)).map(part).collect()
        });
        self.add(pieces, ty)
    }

    /// The same bits as another type.
    pub(super) fn bitcast(&self, value: Value, ty: Type) -> Value {
        self.with(|b| {
            if b.func.dfg.value_type(value) == ty {
                value
            } else {
                b.ins().bitcast(ty, MemFlagsData::new().with_endianness(Endianness::Little), value)
            }
        })
    }

    /// Four-byte lanes of two vectors chosen by number: 0..4 of the first, 4..8 of the second.
    pub(super) fn words(&self, a: Value, c: Value, words: [u8; 4], ty: Type) -> Value {
        let (a, c) = (self.bitcast(a, types::I8X16), self.bitcast(c, types::I8X16));
        let bytes: Vec<u8> = words.iter().flat_map(|word| (0..4).map(move |byte| word * 4 + byte)).collect();
        let result = self.with(|b| {
            let mask = b.func.dfg.immediates.push(ir::ConstantData::from(bytes));
            b.ins().shuffle(a, c, mask)
        });
        self.bitcast(result, ty)
    }

    /// Piece by piece.
    pub(super) fn each(
        &self,
        values: &[builder::Value],
        f: impl Fn(&mut FunctionBuilder<'static>, &[Value]) -> Value,
    ) -> Vec<Value> {
        let pieces: Vec<Vec<Value>> = values.iter().map(|&value| self.pieces(value)).collect();
        self.with(|b| {
            (0..pieces[0].len()).map(|i| f(b, &pieces.iter().map(|piece| piece[i]).collect::<Vec<_>>())).collect()
        })
    }

    /// Lane by lane, whatever the pieces.
    pub(super) fn each_lane(
        &self,
        values: &[builder::Value],
        ty: Ty,
        f: impl Fn(&mut FunctionBuilder<'static>, &[Value]) -> Value,
    ) -> builder::Value {
        let lanes: Vec<Vec<Value>> = values.iter().map(|&value| self.lanes(value)).collect();
        let results: Vec<Value> = self.with(|b| {
            (0..lanes[0].len()).map(|i| f(b, &lanes.iter().map(|lane| lane[i]).collect::<Vec<_>>())).collect()
        });
        self.from_lanes(&results, ty)
    }

    /// A function as the one under construction calls it.
    pub(super) fn func_ref(&self, func: Func) -> FuncRef {
        let id = self.funcs.borrow()[func.0 as usize].0;
        let mut module = self.module.borrow_mut();
        self.with(|b| module.declare_func_in_func(id, b.func))
    }

    /// Masks in the width of a value's pieces.
    pub(super) fn mask_for(&self, mask: builder::Value, ty: Ty) -> Option<Vec<Value>> {
        let (to, n) = piece(ty);
        let (from, _) = piece(mask.ty);
        let masks = self.pieces(mask);
        if n == 1 {
            return None;
        }
        if to.lane_bits() == from.lane_bits() {
            return Some(masks);
        }
        if to.lane_bits() == 64 && from.lane_bits() == 32 {
            let wide = |b: &mut FunctionBuilder<'static>, v| [b.ins().swiden_low(v), b.ins().swiden_high(v)];
            return Some(self.with(|b| masks.into_iter().flat_map(|v| wide(b, v)).collect()));
        }
        None
    }
}

//! A module under construction: what ids stand for, and the instructions that inkwell does not have.
#![allow(unsafe_code, reason = "addresses of vectors are built through LLVM's C interface")]

use crate::emit::builder::{Func, Lane, Part, Ty, Value};
use crate::emit::target::Target;
use inkwell::AddressSpace;
use inkwell::attributes::Attribute;
use inkwell::basic_block::BasicBlock;
use inkwell::builder::BuilderError;
use inkwell::context::Context;
use inkwell::intrinsics::Intrinsic;
use inkwell::llvm_sys::core::LLVMBuildGEP2;
use inkwell::module::{Linkage, Module};
use inkwell::targets::TargetMachine;
use inkwell::types::{AsTypeRef, BasicTypeEnum};
use inkwell::values::{
    AsValueRef, BasicMetadataValueEnum, BasicValueEnum, FunctionValue, InstructionValue, PointerValue, VectorValue,
};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// A module under construction.
pub(super) struct Llvm<'ctx> {
    pub(super) context: &'ctx Context,
    pub(super) module: Module<'ctx>,
    pub(super) builder: inkwell::builder::Builder<'ctx>,
    /// Stands at the end of the current function's first block, where stack memory is reserved.
    pub(super) entry: inkwell::builder::Builder<'ctx>,
    pub(super) attributes: Vec<Attribute>,
    pub(super) has_fma: bool,
    pub(super) funcs: RefCell<Vec<(FunctionValue<'ctx>, Option<Ty>)>>,
    pub(super) known: RefCell<HashMap<String, Func>>,
    pub(super) imports: RefCell<Vec<(String, FunctionValue<'ctx>)>>,
    pub(super) texts: RefCell<HashMap<Vec<u8>, PointerValue<'ctx>>>,
    /// Functions seen by others than this module that have loops.
    pub(super) looping: RefCell<Vec<FunctionValue<'ctx>>>,
    pub(super) current: Cell<Option<FunctionValue<'ctx>>>,
    pub(super) start: Cell<Option<BasicBlock<'ctx>>>,
    pub(super) values: RefCell<Vec<BasicValueEnum<'ctx>>>,
    pub(super) labels: RefCell<Vec<BasicBlock<'ctx>>>,
    pub(super) variables: RefCell<Vec<PointerValue<'ctx>>>,
}

/// The builder fails only without a position, which `begin` gives it.
pub(super) fn ok<T>(result: std::result::Result<T, BuilderError>) -> T {
    result.expect("instructions are built between begin and end, in a block")
}

impl<'ctx> Llvm<'ctx> {
    /// An empty module for a target.
    pub(super) fn new(context: &'ctx Context, target: &Target, machine: &TargetMachine) -> Self {
        let module = context.create_module("aot");
        module.set_triple(&machine.get_triple());
        module.set_data_layout(&machine.get_target_data().get_data_layout());
        let flag = |name| context.create_enum_attribute(Attribute::get_named_enum_kind_id(name), 0);
        let mut attributes = vec![flag("nounwind"), context.create_string_attribute("target-cpu", &target.cpu)];
        if !target.features.is_empty() {
            attributes.push(context.create_string_attribute("target-features", &target.features));
        }
        let width = (target.vector_bytes * 8).to_string();
        attributes.push(context.create_string_attribute("min-legal-vector-width", &width));
        attributes.push(context.create_string_attribute("prefer-vector-width", &width));
        Self {
            context,
            module,
            builder: context.create_builder(),
            entry: context.create_builder(),
            attributes,
            has_fma: target.has_fma,
            funcs: RefCell::default(),
            known: RefCell::default(),
            imports: RefCell::default(),
            texts: RefCell::default(),
            looping: RefCell::default(),
            current: Cell::new(None),
            start: Cell::new(None),
            values: RefCell::default(),
            labels: RefCell::default(),
            variables: RefCell::default(),
        }
    }

    /// A lane's type.
    pub(super) fn scalar_type(&self, lane: Lane) -> BasicTypeEnum<'ctx> {
        match lane {
            Lane::I1 => self.context.bool_type().into(),
            Lane::I8 => self.context.i8_type().into(),
            Lane::I16 => self.context.i16_type().into(),
            Lane::I32 => self.context.i32_type().into(),
            Lane::I64 => self.context.i64_type().into(),
            Lane::F32 => self.context.f32_type().into(),
            Lane::F64 => self.context.f64_type().into(),
            Lane::Ptr => self.context.ptr_type(AddressSpace::default()).into(),
        }
    }

    /// A scalar's or vector's type.
    pub(super) fn ty(&self, ty: Ty) -> BasicTypeEnum<'ctx> {
        let lanes = u32::from(ty.lanes);
        match self.scalar_type(ty.lane) {
            scalar if lanes == 1 => scalar,
            BasicTypeEnum::IntType(t) => t.vec_type(lanes).into(),
            BasicTypeEnum::FloatType(t) => t.vec_type(lanes).into(),
            other => other,
        }
    }

    /// What an id stands for.
    pub(super) fn value(&self, value: Value) -> BasicValueEnum<'ctx> {
        self.values.borrow()[value.id as usize]
    }

    /// A new value.
    pub(super) fn add(&self, value: impl Into<BasicValueEnum<'ctx>>, ty: Ty) -> Value {
        let mut values = self.values.borrow_mut();
        values.push(value.into());
        Value { id: u32::try_from(values.len() - 1).expect("fewer than 2^32 values"), ty }
    }

    /// The lanes of a constant or scalar in every lane.
    pub(super) fn spread(&self, scalar: BasicValueEnum<'ctx>, lanes: u16) -> BasicValueEnum<'ctx> {
        if lanes == 1 { scalar } else { inkwell::types::VectorType::const_vector(&vec![scalar; lanes as usize]).into() }
    }

    /// The number of a lane.
    pub(super) fn index(&self, lane: u32) -> inkwell::values::IntValue<'ctx> {
        self.context.i32_type().const_int(u64::from(lane), false)
    }

    /// A call of one of LLVM's intrinsics, for these types.
    pub(super) fn intrinsic(
        &self,
        name: &str,
        types: &[BasicTypeEnum<'ctx>],
        args: &[BasicMetadataValueEnum<'ctx>],
    ) -> Option<BasicValueEnum<'ctx>> {
        let intrinsic = Intrinsic::find(name).expect("the intrinsic is one of LLVM's");
        let function = intrinsic.get_declaration(&self.module, types).expect("the intrinsic has these types");
        ok(self.builder.build_call(function, args, "")).try_as_basic_value().basic()
    }

    /// An intrinsic of one operand, for its type.
    pub(super) fn unary_intrinsic(&self, name: &str, a: Value) -> BasicValueEnum<'ctx> {
        self.intrinsic(name, &[self.ty(a.ty)], &[self.value(a).into()]).expect("the intrinsic has a result")
    }

    /// A value that is an address.
    pub(super) fn pointer(&self, value: Value) -> PointerValue<'ctx> {
        self.value(value).into_pointer_value()
    }

    /// Notes that the current function goes back to where it was. Nests, which nobody else sees, need no note: their loops are
    /// what the schedule wants.
    pub(super) fn note_loop(&self) {
        let mut looping = self.looping.borrow_mut();
        if let Some(current) = self.current.get()
            && current.get_linkage() != Linkage::Internal
            && looping.last() != Some(&current)
        {
            looping.push(current);
        }
    }

    /// Notes which part of an object a load or store is of.
    pub(super) fn note_part(&self, access: InstructionValue<'ctx>, part: Part) {
        let name = |text| self.context.metadata_string(text).into();
        let root = self.context.metadata_node(&[name("aot")]);
        let zero = self.context.i64_type().const_zero();
        let part = match part {
            Part::Fields => name("fields"),
            Part::Items => name("items"),
        };
        let ty = self.context.metadata_node(&[part, root.into(), zero.into()]);
        let tag = self.context.metadata_node(&[ty.into(), ty.into(), zero.into()]);
        // Refused only of what is no instruction.
        let _ = access.set_metadata(tag, self.context.get_kind_id("tbaa"));
    }

    /// One address a lane; inkwell builds scalar ones only.
    pub(super) fn vector_address(
        &self,
        unit: BasicTypeEnum<'ctx>,
        base: PointerValue<'ctx>,
        offsets: VectorValue<'ctx>,
    ) -> VectorValue<'ctx> {
        let mut index = [offsets.as_value_ref()];
        let builder = self.builder.as_mut_ptr();
        // SAFETY: the builder stands in a block, the operands belong to its context, and the index array has one element.
        let value = unsafe {
            LLVMBuildGEP2(builder, unit.as_type_ref(), base.as_value_ref(), index.as_mut_ptr(), 1, c"".as_ptr())
        };
        // SAFETY: an address of a vector index is a vector.
        unsafe { VectorValue::new(value) }
    }

    /// Zero in every lane.
    pub(super) fn null_lanes(&self, ty: Ty) -> BasicValueEnum<'ctx> {
        self.ty(ty).const_zero()
    }

    /// Lanes chosen by number.
    pub(super) fn shuffle(&self, a: BasicValueEnum<'ctx>, lanes: impl Iterator<Item = u32>) -> BasicValueEnum<'ctx> {
        let mask: Vec<_> = lanes.map(|lane| self.index(lane)).collect();
        let a = a.into_vector_value();
        let mask = inkwell::types::VectorType::const_vector(&mask);
        ok(self.builder.build_shuffle_vector(a, a.get_type().get_poison(), mask, "")).into()
    }
}

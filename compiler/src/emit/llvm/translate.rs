//! Each call of the [`Builder`] as LLVM's instructions.
#![allow(unsafe_code, reason = "address arithmetic is unsafe in inkwell")]

use super::module::{Llvm, ok};
use crate::emit::builder::{
    Builder, Cmp, Conv, Func, Inst1, Inst2, Label, Lane, Linkage, Param, Part, Signature, Ty, Value, Variable,
};
use inkwell::attributes::{Attribute, AttributeLoc};
use inkwell::basic_block::BasicBlock;
use inkwell::types::{BasicMetadataTypeEnum, BasicType, BasicTypeEnum};
use inkwell::values::{BasicMetadataValueEnum, BasicValueEnum, InstructionOpcode};
use inkwell::{AddressSpace, FloatPredicate, GlobalVisibility, IntPredicate};
use std::num::{NonZeroU16, NonZeroU32};

impl Builder for Llvm<'_> {
    fn declare(&self, name: &str, signature: &Signature, linkage: Linkage) -> Func {
        if let Some(&func) = self.known.borrow().get(name) {
            return func;
        }
        let params: Vec<BasicMetadataTypeEnum<'_>> = signature.params.iter().map(|p| self.ty(p.ty).into()).collect();
        let ty = match signature.result {
            Some(result) => self.ty(result).fn_type(&params, false),
            None => self.context.void_type().fn_type(&params, false),
        };
        let llvm_linkage = match linkage {
            Linkage::Import | Linkage::Hidden => inkwell::module::Linkage::External,
            Linkage::Internal => inkwell::module::Linkage::Internal,
        };
        let function = self.module.add_function(name, ty, Some(llvm_linkage));
        for &attribute in &self.attributes {
            function.add_attribute(AttributeLoc::Function, attribute);
        }
        if signature.only_reads {
            // LLVM has two bits for each kind of memory: whether it is read, whether it is written.
            const READS_ALL: u64 = 0b01_01_01;
            for (name, value) in [("memory", READS_ALL), ("willreturn", 0)] {
                let kind = Attribute::get_named_enum_kind_id(name);
                function.add_attribute(AttributeLoc::Function, self.context.create_enum_attribute(kind, value));
            }
        }
        match linkage {
            Linkage::Import => self.imports.borrow_mut().push((name.to_owned(), function)),
            Linkage::Internal => {}
            Linkage::Hidden => function.as_global_value().set_visibility(GlobalVisibility::Hidden),
        }
        for (index, &Param { no_alias, align, is_read_only, .. }) in signature.params.iter().enumerate() {
            let facts = [("noalias", no_alias, 0), ("align", align > 1, align), ("readonly", is_read_only, 0)];
            for (name, _, value) in facts.into_iter().filter(|&(_, holds, _)| holds) {
                let kind = Attribute::get_named_enum_kind_id(name);
                let attribute = self.context.create_enum_attribute(kind, value as u64);
                let location = AttributeLoc::Param(u32::try_from(index).expect("few parameters"));
                function.add_attribute(location, attribute);
            }
        }
        let mut funcs = self.funcs.borrow_mut();
        funcs.push((function, signature.result));
        let func = Func(u32::try_from(funcs.len() - 1).expect("fewer than 2^32 functions"));
        self.known.borrow_mut().insert(name.to_owned(), func);
        func
    }

    fn begin(&self, func: Func) -> Vec<Value> {
        let function = self.funcs.borrow()[func.0 as usize].0;
        self.current.set(Some(function));
        self.entry.position_at_end(self.context.append_basic_block(function, ""));
        let start = self.context.append_basic_block(function, "");
        self.start.set(Some(start));
        self.builder.position_at_end(start);
        let param = |value: BasicValueEnum<'_>| match value {
            BasicValueEnum::PointerValue(_) => Ty::PTR,
            BasicValueEnum::FloatValue(v) if v.get_type() == self.context.f32_type() => Ty::scalar(Lane::F32),
            BasicValueEnum::FloatValue(_) => Ty::scalar(Lane::F64),
            BasicValueEnum::IntValue(v) => Ty::scalar(match v.get_type().get_bit_width() {
                1 => Lane::I1,
                8 => Lane::I8,
                16 => Lane::I16,
                32 => Lane::I32,
                _ => Lane::I64,
            }),
            _ => unreachable!("vectors are not passed"),
        };
        function.get_param_iter().map(|value| self.add(value, param(value))).collect()
    }

    fn end(&self) {
        if let Some(start) = self.start.take() {
            ok(self.entry.build_unconditional_branch(start));
        }
        self.current.set(None);
        self.values.borrow_mut().clear();
        self.labels.borrow_mut().clear();
        self.variables.borrow_mut().clear();
    }

    fn bytes(&self, bytes: &[u8]) -> Value {
        let known = self.texts.borrow().get(bytes).copied();
        let pointer = known.unwrap_or_else(|| {
            let data = self.context.const_string(bytes, false);
            let global = self.module.add_global(data.get_type(), None, "text");
            global.set_initializer(&data);
            global.set_constant(true);
            global.set_linkage(inkwell::module::Linkage::Private);
            global.set_alignment(16);
            let pointer = global.as_pointer_value();
            self.texts.borrow_mut().insert(bytes.to_vec(), pointer);
            pointer
        });
        self.add(pointer, Ty::PTR)
    }

    fn has_fma(&self) -> bool {
        self.has_fma
    }

    fn label(&self) -> Label {
        let function = self.current.get().expect("labels are made in a function");
        let mut labels = self.labels.borrow_mut();
        labels.push(self.context.append_basic_block(function, ""));
        Label(u32::try_from(labels.len() - 1).expect("fewer than 2^32 labels"))
    }

    fn place(&self, label: Label) {
        self.builder.position_at_end(self.labels.borrow()[label.0 as usize]);
    }

    fn jump(&self, label: Label) {
        let block = self.labels.borrow()[label.0 as usize];
        if block.get_first_instruction().is_some() {
            self.note_loop();
        }
        ok(self.builder.build_unconditional_branch(block));
    }

    fn branch(&self, cond: Value, then_label: Label, else_label: Label) {
        let labels = self.labels.borrow();
        let (then_block, else_block) = (labels[then_label.0 as usize], labels[else_label.0 as usize]);
        let cond = self.value(cond).into_int_value();
        ok(self.builder.build_conditional_branch(cond, then_block, else_block));
    }

    fn branch_usually(&self, cond: Value, usual: Label, rare: Label) {
        self.branch(cond, usual, rare);
        if let Some(branch) = self.builder.get_insert_block().and_then(BasicBlock::get_terminator) {
            let weight = |n| self.context.i32_type().const_int(n, false).into();
            let name = self.context.metadata_string("branch_weights");
            let weights = self.context.metadata_node(&[name.into(), weight(2000), weight(1)]);
            // Weights are refused only where no branch is.
            let _ = branch.set_metadata(weights, self.context.get_kind_id("prof"));
        }
    }

    fn ret(&self, value: Option<Value>) {
        let value = value.map(|value| self.value(value));
        ok(self.builder.build_return(value.as_ref().map(|value| value as &dyn inkwell::values::BasicValue<'_>)));
    }

    fn call(&self, func: Func, args: &[Value]) -> Option<Value> {
        let (function, result) = self.funcs.borrow()[func.0 as usize];
        let args: Vec<BasicMetadataValueEnum<'_>> = args.iter().map(|&arg| self.value(arg).into()).collect();
        let value = ok(self.builder.build_call(function, &args, "")).try_as_basic_value().basic();
        Some(self.add(value?, result?))
    }

    fn address(&self, func: Func) -> Value {
        self.add(self.funcs.borrow()[func.0 as usize].0.as_global_value().as_pointer_value(), Ty::PTR)
    }

    fn variable(&self, ty: Ty) -> Variable {
        let pointer = ok(self.entry.build_alloca(self.ty(ty), ""));
        let mut variables = self.variables.borrow_mut();
        variables.push(pointer);
        Variable { id: u32::try_from(variables.len() - 1).expect("fewer than 2^32 variables"), ty }
    }

    fn get(&self, variable: Variable) -> Value {
        let pointer = self.variables.borrow()[variable.id as usize];
        self.add(ok(self.builder.build_load(self.ty(variable.ty), pointer, "")), variable.ty)
    }

    fn set(&self, variable: Variable, value: Value) {
        debug_assert_eq!(variable.ty, value.ty, "a variable holds one type");
        ok(self.builder.build_store(self.variables.borrow()[variable.id as usize], self.value(value)));
    }

    fn stack(&self, bytes: usize, align: usize) -> Value {
        let ty = self.context.i8_type().array_type(u32::try_from(bytes).unwrap_or(u32::MAX));
        let pointer = ok(self.entry.build_alloca(ty, ""));
        if let Some(instruction) = pointer.as_instruction() {
            // The alignment is a power of two, so it is accepted.
            let _ = instruction.set_alignment(u32::try_from(align).unwrap_or(1));
        }
        self.add(pointer, Ty::PTR)
    }

    fn element(&self, pointer: Value, index: Value, size_bytes: usize) -> Value {
        let unit: BasicTypeEnum<'_> = match size_bytes {
            1 => self.context.i8_type().into(),
            2 => self.context.i16_type().into(),
            4 => self.context.i32_type().into(),
            8 => self.context.i64_type().into(),
            n => self.context.i8_type().array_type(u32::try_from(n).unwrap_or(u32::MAX)).into(),
        };
        // SAFETY: this builds an instruction; it is not `inbounds`, so any index has a meaning.
        let address =
            unsafe { self.builder.build_gep(unit, self.pointer(pointer), &[self.value(index).into_int_value()], "") };
        self.add(ok(address), Ty::PTR)
    }

    fn load(&self, ty: Ty, pointer: Value) -> Value {
        let value = ok(self.builder.build_load(self.ty(ty), self.pointer(pointer), ""));
        if let Some(instruction) = instruction(value) {
            let _ = instruction.set_alignment(align(ty.lane));
        }
        self.add(value, ty)
    }

    fn store(&self, value: Value, pointer: Value) {
        let store = ok(self.builder.build_store(self.pointer(pointer), self.value(value)));
        let _ = store.set_alignment(align(value.ty.lane));
    }

    fn load_part(&self, ty: Ty, pointer: Value, part: Part) -> Value {
        let value = self.load(ty, pointer);
        if let Some(instruction) = instruction(self.value(value)) {
            self.note_part(instruction, part);
        }
        value
    }

    fn store_part(&self, value: Value, pointer: Value, part: Part) {
        let store = ok(self.builder.build_store(self.pointer(pointer), self.value(value)));
        let _ = store.set_alignment(align(value.ty.lane));
        self.note_part(store, part);
    }

    fn load_masked(&self, ty: Ty, pointer: Value, mask: Value) -> Value {
        if ty.lanes == 1 {
            return self.load_if(ty, pointer, mask);
        }
        let args = [
            self.value(pointer).into(),
            self.index(align(ty.lane)).into(),
            self.value(mask).into(),
            self.null_lanes(ty).into(),
        ];
        let value = self.intrinsic("llvm.masked.load", &[self.ty(ty), self.ty(Ty::PTR)], &args);
        self.add(value.expect("a load has a result"), ty)
    }

    fn store_masked(&self, value: Value, pointer: Value, mask: Value) {
        if value.ty.lanes == 1 {
            return self.store_if(value, pointer, mask);
        }
        let align = self.index(align(value.ty.lane));
        let args = [self.value(value).into(), self.value(pointer).into(), align.into(), self.value(mask).into()];
        self.intrinsic("llvm.masked.store", &[self.ty(value.ty), self.ty(Ty::PTR)], &args);
    }

    fn gather(&self, ty: Ty, pointer: Value, offsets: Value, mask: Option<Value>) -> Value {
        if ty.lanes == 1 {
            let at = self.element(pointer, offsets, ty.lane.size_bytes());
            return mask.map_or_else(|| self.load(ty, at), |mask| self.load_if(ty, at, mask));
        }
        let base = self.context.ptr_type(AddressSpace::default()).vec_type(u32::from(ty.lanes));
        let at = self.vector_address(
            self.scalar_type(ty.lane),
            self.pointer(pointer),
            self.value(offsets).into_vector_value(),
        );
        let mask = mask.unwrap_or_else(|| self.int(ty.with(Lane::I1), 1));
        let args = [
            BasicValueEnum::from(at).into(),
            self.index(align(ty.lane)).into(),
            self.value(mask).into(),
            self.null_lanes(ty).into(),
        ];
        let value = self.intrinsic("llvm.masked.gather", &[self.ty(ty), base.into()], &args);
        self.add(value.expect("a load has a result"), ty)
    }

    fn prefetch(&self, pointer: Value) {
        // For reading, keep in all levels, data.
        let args = [self.value(pointer).into(), self.index(0).into(), self.index(3).into(), self.index(1).into()];
        self.intrinsic("llvm.prefetch", &[self.ty(Ty::PTR)], &args);
    }

    fn int(&self, ty: Ty, value: i64) -> Value {
        let scalar = match self.scalar_type(ty.lane) {
            BasicTypeEnum::IntType(t) => {
                // LLVM wants the bits beyond the width to be clear.
                let bits = value.cast_unsigned() & (u64::MAX >> (64 - t.get_bit_width()));
                t.const_int(bits, false).into()
            }
            other => other.const_zero(),
        };
        self.add(self.spread(scalar, ty.lanes), ty)
    }

    fn float(&self, ty: Ty, value: f64) -> Value {
        let scalar = self.scalar_type(ty.lane).into_float_type().const_float(value).into();
        self.add(self.spread(scalar, ty.lanes), ty)
    }

    fn inst2(&self, inst: Inst2, a: Value, b: Value) -> Value {
        debug_assert_eq!(a.ty, b.ty, "operands of {inst:?} have one type");
        let op = match inst {
            Inst2::Add => InstructionOpcode::Add,
            Inst2::Sub => InstructionOpcode::Sub,
            Inst2::Mul => InstructionOpcode::Mul,
            Inst2::SDiv => InstructionOpcode::SDiv,
            Inst2::UDiv => InstructionOpcode::UDiv,
            Inst2::SRem => InstructionOpcode::SRem,
            Inst2::URem => InstructionOpcode::URem,
            Inst2::And => InstructionOpcode::And,
            Inst2::Or => InstructionOpcode::Or,
            Inst2::Xor => InstructionOpcode::Xor,
            Inst2::Shl => InstructionOpcode::Shl,
            Inst2::LShr => InstructionOpcode::LShr,
            Inst2::AShr => InstructionOpcode::AShr,
            Inst2::FAdd => InstructionOpcode::FAdd,
            Inst2::FSub => InstructionOpcode::FSub,
            Inst2::FMul => InstructionOpcode::FMul,
            Inst2::FDiv => InstructionOpcode::FDiv,
        };
        self.add(ok(self.builder.build_binop(op, self.value(a), self.value(b), "")), a.ty)
    }

    fn inst1(&self, inst: Inst1, a: Value) -> Value {
        let name = match inst {
            Inst1::FNeg => {
                let value = match self.value(a) {
                    BasicValueEnum::VectorValue(v) => ok(self.builder.build_float_neg(v, "")).into(),
                    v => BasicValueEnum::from(ok(self.builder.build_float_neg(v.into_float_value(), ""))),
                };
                return self.add(value, a.ty);
            }
            Inst1::FAbs => "llvm.fabs",
            Inst1::Sqrt => "llvm.sqrt",
            Inst1::Floor => "llvm.floor",
            Inst1::Ceil => "llvm.ceil",
            Inst1::Trunc => "llvm.trunc",
            Inst1::Round => "llvm.roundeven",
        };
        self.add(self.unary_intrinsic(name, a), a.ty)
    }

    fn fma(&self, a: Value, b: Value, c: Value) -> Value {
        if !self.has_fma {
            return self.inst2(Inst2::FAdd, self.inst2(Inst2::FMul, a, b), c);
        }
        let args = [self.value(a).into(), self.value(b).into(), self.value(c).into()];
        let value = self.intrinsic("llvm.fma", &[self.ty(a.ty)], &args);
        self.add(value.expect("fma has a result"), a.ty)
    }

    fn compare(&self, cmp: Cmp, a: Value, b: Value) -> Value {
        debug_assert_eq!(a.ty, b.ty, "operands of {cmp:?} have one type");
        let int = |predicate| match (self.value(a), self.value(b)) {
            (BasicValueEnum::VectorValue(a), b) => {
                BasicValueEnum::from(ok(self.builder.build_int_compare(predicate, a, b.into_vector_value(), "")))
            }
            (BasicValueEnum::PointerValue(a), b) => {
                ok(self.builder.build_int_compare(predicate, a, b.into_pointer_value(), "")).into()
            }
            (a, b) => ok(self.builder.build_int_compare(predicate, a.into_int_value(), b.into_int_value(), "")).into(),
        };
        let float = |predicate| match (self.value(a), self.value(b)) {
            (BasicValueEnum::VectorValue(a), b) => {
                BasicValueEnum::from(ok(self.builder.build_float_compare(predicate, a, b.into_vector_value(), "")))
            }
            (a, b) => {
                ok(self.builder.build_float_compare(predicate, a.into_float_value(), b.into_float_value(), "")).into()
            }
        };
        let value = match cmp {
            Cmp::Eq => int(IntPredicate::EQ),
            Cmp::Ne => int(IntPredicate::NE),
            Cmp::SLt => int(IntPredicate::SLT),
            Cmp::SLe => int(IntPredicate::SLE),
            Cmp::SGt => int(IntPredicate::SGT),
            Cmp::SGe => int(IntPredicate::SGE),
            Cmp::ULt => int(IntPredicate::ULT),
            Cmp::ULe => int(IntPredicate::ULE),
            Cmp::UGt => int(IntPredicate::UGT),
            Cmp::UGe => int(IntPredicate::UGE),
            Cmp::FEq => float(FloatPredicate::OEQ),
            Cmp::FNe => float(FloatPredicate::UNE),
            Cmp::FLt => float(FloatPredicate::OLT),
            Cmp::FLe => float(FloatPredicate::OLE),
            Cmp::FGt => float(FloatPredicate::OGT),
            Cmp::FGe => float(FloatPredicate::OGE),
            Cmp::FUnordered => float(FloatPredicate::UNO),
        };
        self.add(value, a.ty.with(Lane::I1))
    }

    fn select(&self, cond: Value, a: Value, b: Value) -> Value {
        debug_assert_eq!(a.ty, b.ty, "both sides of a select have one type");
        let (x, y) = (self.value(a), self.value(b));
        let value = match self.value(cond) {
            BasicValueEnum::VectorValue(cond) => self.builder.build_select(cond, x, y, ""),
            cond => self.builder.build_select(cond.into_int_value(), x, y, ""),
        };
        self.add(ok(value), a.ty)
    }

    fn convert(&self, conv: Conv, a: Value, lane: Lane) -> Value {
        let ty = a.ty.with(lane);
        let op = match conv {
            Conv::SExt => InstructionOpcode::SExt,
            Conv::ZExt => InstructionOpcode::ZExt,
            Conv::Trunc => InstructionOpcode::Trunc,
            Conv::FExt => InstructionOpcode::FPExt,
            Conv::FTrunc => InstructionOpcode::FPTrunc,
            Conv::SToF => InstructionOpcode::SIToFP,
            Conv::UToF => InstructionOpcode::UIToFP,
            Conv::FToS => InstructionOpcode::FPToSI,
            Conv::FToU => InstructionOpcode::FPToUI,
            Conv::Bits => match (a.ty.lane == Lane::Ptr, lane == Lane::Ptr) {
                (true, false) => InstructionOpcode::PtrToInt,
                (false, true) => InstructionOpcode::IntToPtr,
                _ => InstructionOpcode::BitCast,
            },
        };
        self.add(ok(self.builder.build_cast(op, self.value(a), self.ty(ty), "")), ty)
    }

    fn any(&self, mask: Value) -> Value {
        if mask.ty.lanes == 1 {
            return mask;
        }
        let width = NonZeroU32::from(NonZeroU16::new(mask.ty.lanes).unwrap_or(NonZeroU16::MIN));
        let bits = self.context.custom_width_int_type(width).expect("masks are short");
        let packed =
            ok(self.builder.build_cast(InstructionOpcode::BitCast, self.value(mask), bits, "")).into_int_value();
        self.add(ok(self.builder.build_int_compare(IntPredicate::NE, packed, bits.const_zero(), "")), Ty::I1)
    }

    fn splat(&self, a: Value, lanes: u16) -> Value {
        let ty = Ty { lane: a.ty.lane, lanes };
        if lanes == 1 {
            return a;
        }
        let poison = self.ty(ty).into_vector_type().get_poison();
        let first = ok(self.builder.build_insert_element(poison, self.value(a), self.index(0), ""));
        self.add(self.shuffle(first.into(), std::iter::repeat_n(0, lanes as usize)), ty)
    }

    fn extract(&self, a: Value, lane: u16) -> Value {
        if a.ty.lanes == 1 {
            return a;
        }
        let vector = self.value(a).into_vector_value();
        self.add(ok(self.builder.build_extract_element(vector, self.index(u32::from(lane)), "")), Ty::scalar(a.ty.lane))
    }

    fn half(&self, a: Value, is_upper: bool) -> Value {
        let half = a.ty.lanes / 2;
        if half == 1 {
            return self.extract(a, u16::from(is_upper));
        }
        let first = if is_upper { u32::from(half) } else { 0 };
        self.add(self.shuffle(self.value(a), first..first + u32::from(half)), Ty { lane: a.ty.lane, lanes: half })
    }

    fn pack(&self, lanes: &[Value]) -> Value {
        if let [one] = lanes {
            return *one;
        }
        let ty = Ty { lane: lanes[0].ty.lane, lanes: u16::try_from(lanes.len()).expect("vectors are short") };
        let mut vector = self.ty(ty).into_vector_type().get_poison();
        for (lane, &value) in (0..).zip(lanes) {
            vector = ok(self.builder.build_insert_element(vector, self.value(value), self.index(lane), ""));
        }
        self.add(vector, ty)
    }
}

/// Memory is aligned to its elements; more is not promised.
fn align(lane: Lane) -> u32 {
    match lane.size_bytes() {
        1 => 1,
        2 => 2,
        4 => 4,
        _ => 8,
    }
}

fn instruction(value: BasicValueEnum<'_>) -> Option<inkwell::values::InstructionValue<'_>> {
    match value {
        BasicValueEnum::IntValue(v) => v.as_instruction(),
        BasicValueEnum::FloatValue(v) => v.as_instruction(),
        BasicValueEnum::PointerValue(v) => v.as_instruction(),
        BasicValueEnum::VectorValue(v) => v.as_instruction(),
        BasicValueEnum::ArrayValue(_) | BasicValueEnum::StructValue(_) | BasicValueEnum::ScalableVectorValue(_) => None,
    }
}

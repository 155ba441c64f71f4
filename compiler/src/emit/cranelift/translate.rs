//! Each call of the [`Builder`] as Cranelift's instructions.

use super::module::{Cranelift, Under, piece, scalar_type, types_of};
use crate::emit::builder::{self, Builder, Cmp, Conv, Func, Inst1, Inst2, Label, Lane, Linkage, Signature, Ty};
use cranelift_codegen::Context;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::immediates::{Ieee32, Ieee64, Offset32};
use cranelift_codegen::ir::{
    self, AbiParam, Endianness, InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, Type, Value, types,
};
use cranelift_frontend::FunctionBuilder;
use cranelift_module::{DataDescription, FuncId, Module};

impl Builder for Cranelift {
    fn declare(&self, name: &str, signature: &Signature, linkage: Linkage) -> Func {
        if let Some(&func) = self.known.borrow().get(name) {
            return func;
        }
        let mut module = self.module.borrow_mut();
        let mut sig = module.make_signature();
        sig.params.extend(signature.params.iter().map(|param| AbiParam::new(scalar_type(param.ty.lane))));
        sig.returns.extend(signature.result.map(|ty| AbiParam::new(scalar_type(ty.lane))));
        let linkage = match linkage {
            Linkage::Import => {
                if (self.resolve)(name).is_none() {
                    self.fail(&format!("compiled code calls '{name}', which the runtime lacks"));
                }
                cranelift_module::Linkage::Import
            }
            Linkage::Internal => cranelift_module::Linkage::Local,
            Linkage::Hidden => cranelift_module::Linkage::Export,
        };
        let id = module.declare_function(name, linkage, &sig).unwrap_or_else(|error| {
            self.fail(&error);
            FuncId::from_u32(0)
        });
        let mut funcs = self.funcs.borrow_mut();
        funcs.push((id, signature.result, signature.params.iter().map(|param| param.ty).collect()));
        let func = Func(u32::try_from(funcs.len() - 1).expect("fewer than 2^32 functions"));
        self.known.borrow_mut().insert(name.to_owned(), func);
        func
    }

    fn begin(&self, func: Func) -> Vec<builder::Value> {
        self.current.set(Some(func));
        let (id, _, params) = self.funcs.borrow()[func.0 as usize].clone();
        let module = self.module.borrow();
        let signature = module.declarations().get_function_decl(id).signature.clone();
        let name = ir::UserFuncName::user(0, id.as_u32());
        *self.builder.borrow_mut() = Some(Under::new(ir::Function::with_name_signature(name, signature)));
        let values: Vec<Value> = self.with(|b| {
            let entry = b.create_block();
            b.append_block_params_for_function_params(entry);
            b.switch_to_block(entry);
            b.block_params(entry).to_vec()
        });
        values.into_iter().zip(params).map(|(value, ty)| self.add(vec![value], ty)).collect()
    }

    fn end(&self) {
        let mut module = self.module.borrow_mut();
        let under = self.builder.borrow_mut().take();
        if let (Some(under), Some(func)) = (under, self.current.take()) {
            let function = under.finish(module.isa().frontend_config());
            let id = self.funcs.borrow()[func.0 as usize].0;
            let mut context = Context::for_function(function);
            if let Err(error) = module.define_function(id, &mut context) {
                self.fail(&format!("{error:?}"));
            }
        }
        self.values.borrow_mut().clear();
        self.ints.borrow_mut().clear();
        self.labels.borrow_mut().clear();
        self.variables.borrow_mut().clear();
    }

    fn bytes(&self, bytes: &[u8]) -> builder::Value {
        let mut module = self.module.borrow_mut();
        let known = self.texts.borrow().get(bytes).copied();
        let id = known.or_else(|| {
            let id = module.declare_anonymous_data(false, false).map_err(|e| self.fail(&e)).ok()?;
            let mut data = DataDescription::new();
            data.define(bytes.to_vec().into_boxed_slice());
            module.define_data(id, &data).map_err(|e| self.fail(&e)).ok()?;
            self.texts.borrow_mut().insert(bytes.to_vec(), id);
            Some(id)
        });
        let value = self.with(|b| match id {
            Some(id) => {
                let global = module.declare_data_in_func(id, b.func);
                b.ins().symbol_value(types::I64, global)
            }
            None => b.ins().iconst(types::I64, 0),
        });
        self.add(vec![value], Ty::PTR)
    }

    fn has_fma(&self) -> bool {
        self.has_fma
    }

    fn label(&self) -> Label {
        let mut labels = self.labels.borrow_mut();
        labels.push(self.with(cranelift_frontend::FunctionBuilder::create_block));
        Label(u32::try_from(labels.len() - 1).expect("fewer than 2^32 labels"))
    }

    fn place(&self, label: Label) {
        let block = self.labels.borrow()[label.0 as usize];
        self.with(|b| b.switch_to_block(block));
    }

    fn jump(&self, label: Label) {
        let block = self.labels.borrow()[label.0 as usize];
        self.with(|b| b.ins().jump(block, &[]));
    }

    fn branch(&self, cond: builder::Value, then_label: Label, else_label: Label) {
        let (yes, no) = (self.labels.borrow()[then_label.0 as usize], self.labels.borrow()[else_label.0 as usize]);
        let cond = self.one(cond);
        self.with(|b| b.ins().brif(cond, yes, &[], no, &[]));
    }

    fn branch_usually(&self, cond: builder::Value, usual: Label, rare: Label) {
        self.branch(cond, usual, rare);
        let rare = self.labels.borrow()[rare.0 as usize];
        self.with(|b| b.set_cold_block(rare));
    }

    fn ret(&self, value: Option<builder::Value>) {
        let values: Vec<Value> = value.into_iter().map(|value| self.one(value)).collect();
        self.with(|b| b.ins().return_(&values));
    }

    fn call(&self, func: Func, args: &[builder::Value]) -> Option<builder::Value> {
        let reference = self.func_ref(func);
        let args: Vec<Value> = args.iter().map(|&arg| self.one(arg)).collect();
        let result = self.with(|b| {
            let call = b.ins().call(reference, &args);
            b.inst_results(call).first().copied()
        });
        let ty = self.funcs.borrow()[func.0 as usize].1;
        Some(self.add(vec![result?], ty?))
    }

    fn address(&self, func: Func) -> builder::Value {
        let reference = self.func_ref(func);
        let value = self.with(|b| b.ins().func_addr(types::I64, reference));
        self.add(vec![value], Ty::PTR)
    }

    fn variable(&self, ty: Ty) -> builder::Variable {
        let variables = self.with(|b| types_of(ty).into_iter().map(|ty| b.declare_var(ty)).collect());
        let mut all = self.variables.borrow_mut();
        all.push(variables);
        builder::Variable { id: u32::try_from(all.len() - 1).expect("fewer than 2^32 variables"), ty }
    }

    fn get(&self, variable: builder::Variable) -> builder::Value {
        let variables = self.variables.borrow()[variable.id as usize].clone();
        let pieces = self.with(|b| variables.into_iter().map(|variable| b.use_var(variable)).collect());
        self.add(pieces, variable.ty)
    }

    fn set(&self, variable: builder::Variable, value: builder::Value) {
        let variables = self.variables.borrow()[variable.id as usize].clone();
        let pieces = self.pieces(value);
        self.with(|b| variables.into_iter().zip(pieces).for_each(|(variable, piece)| b.def_var(variable, piece)));
    }

    fn stack(&self, bytes: usize, _align: usize) -> builder::Value {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let value = self.with(|b| {
            // Frames are aligned to 16 bytes, which is all that vectors of 16 bytes want.
            let slot = b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 4));
            b.ins().stack_addr(types::I64, slot, 0)
        });
        self.add(vec![value], Ty::PTR)
    }

    fn element(&self, pointer: builder::Value, index: builder::Value, size_bytes: usize) -> builder::Value {
        let (base, at) = (self.one(pointer), self.one(index));
        let size = i64::try_from(size_bytes).unwrap_or(i64::MAX);
        let known = self.ints.borrow().get(&index.id).copied();
        let value = self.with(|b| match known {
            Some(0) => base,
            Some(index) => b.ins().iadd_imm_s(base, index.wrapping_mul(size)),
            None => {
                let offset = if size == 1 { at } else { b.ins().imul_imm_s(at, size) };
                b.ins().iadd(base, offset)
            }
        });
        self.add(vec![value], Ty::PTR)
    }

    fn load(&self, ty: Ty, pointer: builder::Value) -> builder::Value {
        let base = self.one(pointer);
        let pieces = self.with(|b| {
            let mut at = 0;
            let mut load = |ty: Type| {
                let value = b.ins().load(ty, memory(), base, Offset32::new(at));
                at += i32::try_from(ty.bytes()).unwrap_or(16);
                value
            };
            types_of(ty).into_iter().map(&mut load).collect()
        });
        self.add(pieces, ty)
    }

    fn store(&self, value: builder::Value, pointer: builder::Value) {
        let base = self.one(pointer);
        let pieces = self.pieces(value);
        self.with(|b| {
            let mut at = 0;
            for piece in pieces {
                b.ins().store(memory(), piece, base, Offset32::new(at));
                at += i32::try_from(b.func.dfg.value_type(piece).bytes()).unwrap_or(16);
            }
        });
    }

    fn prefetch(&self, _pointer: builder::Value) {}

    fn int(&self, ty: Ty, value: i64) -> builder::Value {
        let (piece_ty, n) = piece(ty);
        let value = if ty.lane == Lane::I1 { if n > 1 { -(value & 1) } else { value & 1 } } else { value };
        let lane = piece_ty.lane_type();
        let bits = if lane.bits() == 64 { value } else { value & ((1 << lane.bits()) - 1) };
        let one = self.with(|b| {
            let scalar = b.ins().iconst(lane, bits);
            if n > 1 { b.ins().splat(piece_ty, scalar) } else { scalar }
        });
        let result = self.add(vec![one; usize::from(ty.lanes / n)], ty);
        self.ints.borrow_mut().insert(result.id, value);
        result
    }

    #[allow(clippy::cast_possible_truncation, reason = "constants are rounded to their type")]
    fn float(&self, ty: Ty, value: f64) -> builder::Value {
        let (piece_ty, n) = piece(ty);
        let one = self.with(|b| {
            let scalar = if ty.lane == Lane::F32 {
                b.ins().f32const(Ieee32::with_float(value as f32))
            } else {
                b.ins().f64const(Ieee64::with_float(value))
            };
            if n > 1 { b.ins().splat(piece_ty, scalar) } else { scalar }
        });
        self.add(vec![one; usize::from(ty.lanes / n)], ty)
    }

    fn inst2(&self, inst: Inst2, a: builder::Value, c: builder::Value) -> builder::Value {
        let is_vector = piece(a.ty).1 > 1;
        let whole = || self.add(self.each(&[a, c], |b, v| inst2(b, inst, v[0], v[1])), a.ty);
        let by_lane = || self.each_lane(&[a, c], a.ty, |b, v| inst2(b, inst, v[0], v[1]));
        match inst {
            // Vector shifts take one amount for all lanes.
            Inst2::Shl | Inst2::LShr | Inst2::AShr if is_vector => match self.ints.borrow().get(&c.id).copied() {
                Some(amount) if a.ty.lane != Lane::I8 => {
                    let pieces = self.each(&[a], |b, v| {
                        let amount = b.ins().iconst(types::I32, amount);
                        inst2(b, inst, v[0], amount)
                    });
                    self.add(pieces, a.ty)
                }
                _ => by_lane(),
            },
            Inst2::Mul if a.ty.lane == Lane::I8 => by_lane(),
            Inst2::SDiv | Inst2::UDiv | Inst2::SRem | Inst2::URem => by_lane(),
            Inst2::Add
            | Inst2::Sub
            | Inst2::Mul
            | Inst2::And
            | Inst2::Or
            | Inst2::Xor
            | Inst2::Shl
            | Inst2::LShr
            | Inst2::AShr
            | Inst2::FAdd
            | Inst2::FSub
            | Inst2::FMul
            | Inst2::FDiv => whole(),
        }
    }

    fn inst1(&self, inst: Inst1, a: builder::Value) -> builder::Value {
        let pieces = self.each(&[a], |b, v| match inst {
            Inst1::FNeg => b.ins().fneg(v[0]),
            Inst1::FAbs => b.ins().fabs(v[0]),
            Inst1::Sqrt => b.ins().sqrt(v[0]),
            Inst1::Floor => b.ins().floor(v[0]),
            Inst1::Ceil => b.ins().ceil(v[0]),
            Inst1::Trunc => b.ins().trunc(v[0]),
            Inst1::Round => b.ins().nearest(v[0]),
        });
        self.add(pieces, a.ty)
    }

    fn fma(&self, a: builder::Value, c: builder::Value, d: builder::Value) -> builder::Value {
        let has_fma = self.has_fma;
        let pieces = self.each(&[a, c, d], |b, v| {
            if has_fma {
                b.ins().fma(v[0], v[1], v[2])
            } else {
                let product = b.ins().fmul(v[0], v[1]);
                b.ins().fadd(product, v[2])
            }
        });
        self.add(pieces, a.ty)
    }

    fn compare(&self, cmp: Cmp, a: builder::Value, c: builder::Value) -> builder::Value {
        let ty = a.ty.with(Lane::I1);
        let (from, n) = piece(a.ty);
        let one = |b: &mut FunctionBuilder<'static>, v: &[Value]| match int_cc(cmp) {
            Some(cc) => b.ins().icmp(cc, v[0], v[1]),
            None => b.ins().fcmp(float_cc(cmp), v[0], v[1]),
        };
        if n == 1 || a.ty.lane == Lane::I1 || from.lane_bits() < 32 {
            return self.each_lane(&[a, c], ty, one);
        }
        let masks = self.each(&[a, c], one);
        let (to, _) = piece(ty);
        if to.lane_bits() == from.lane_bits() {
            return self.add(masks, ty);
        }
        // Masks of 64-bit lanes, narrowed: the even words of two vectors.
        let pieces = masks.chunks(2).map(|pair| self.words(pair[0], pair[1], [0, 2, 4, 6], to)).collect();
        self.add(pieces, ty)
    }

    fn select(&self, cond: builder::Value, a: builder::Value, c: builder::Value) -> builder::Value {
        if cond.ty.lanes == 1 {
            let cond = self.one(cond);
            return self.add(self.each(&[a, c], |b, v| b.ins().select(cond, v[0], v[1])), a.ty);
        }
        let Some(masks) = self.mask_for(cond, a.ty) else {
            return self.each_lane(&[cond, a, c], a.ty, |b, v| b.ins().select(v[0], v[1], v[2]));
        };
        let (ty, _) = piece(a.ty);
        let masks: Vec<Value> = masks.into_iter().map(|mask| self.bitcast(mask, ty)).collect();
        let masks = self.add(masks, a.ty);
        self.add(self.each(&[masks, a, c], |b, v| b.ins().bitselect(v[0], v[1], v[2])), a.ty)
    }

    fn convert(&self, conv: Conv, a: builder::Value, lane: Lane) -> builder::Value {
        let to = a.ty.with(lane);
        let ((from_piece, n), (to_piece, _)) = (piece(a.ty), piece(to));
        let is_vector = n > 1 && to_piece.is_vector() && a.ty.lane != Lane::I1;
        let pieces = self.pieces(a);
        let bits = (from_piece.lane_bits(), to_piece.lane_bits());
        let vector = match conv {
            Conv::Bits if n > 1 || from_piece != to_piece => {
                Some(pieces.iter().map(|&v| self.bitcast(v, to_piece)).collect::<Vec<_>>())
            }
            Conv::Bits => Some(pieces),
            Conv::SToF if is_vector && bits == (32, 32) => {
                Some(self.each(&[a], |b, v| b.ins().fcvt_from_sint(to_piece, v[0])))
            }
            Conv::FToS if is_vector && bits == (32, 32) => {
                Some(self.each(&[a], |b, v| b.ins().fcvt_to_sint_sat(to_piece, v[0])))
            }
            Conv::Trunc if is_vector && bits == (64, 32) => {
                Some(pieces.chunks(2).map(|pair| self.words(pair[0], pair[1], [0, 2, 4, 6], to_piece)).collect())
            }
            Conv::FExt if is_vector => {
                let mut wide = Vec::new();
                for &v in &pieces {
                    let high = self.words(v, v, [2, 3, 2, 3], from_piece);
                    wide.extend(self.with(|b| [b.ins().fvpromote_low(v), b.ins().fvpromote_low(high)]));
                }
                Some(wide)
            }
            Conv::FTrunc if is_vector => {
                let narrow = self.with(|b| pieces.iter().map(|&v| b.ins().fvdemote(v)).collect::<Vec<_>>());
                Some(narrow.chunks(2).map(|pair| self.words(pair[0], pair[1], [0, 1, 4, 5], to_piece)).collect())
            }
            _ => None,
        };
        if let Some(pieces) = vector {
            return self.add(pieces, to);
        }
        let ty = scalar_type(lane);
        self.each_lane(&[a], to, |b, v| match conv {
            // Conditions are bytes already.
            Conv::ZExt if ty == types::I8 => v[0],
            Conv::SExt => b.ins().sextend(ty, v[0]),
            Conv::ZExt => b.ins().uextend(ty, v[0]),
            Conv::Trunc => b.ins().ireduce(ty, v[0]),
            Conv::FExt => b.ins().fpromote(ty, v[0]),
            Conv::FTrunc => b.ins().fdemote(ty, v[0]),
            Conv::SToF => b.ins().fcvt_from_sint(ty, v[0]),
            Conv::UToF => b.ins().fcvt_from_uint(ty, v[0]),
            Conv::FToS if ty == types::I64 || ty == types::I32 => {
                // What no integer is near to is the least one, as on the processor, for which PyTorch leaves this undefined.
                let from = b.func.dfg.value_type(v[0]);
                let saturated = b.ins().fcvt_to_sint_sat(ty, v[0]);
                let size = b.ins().fabs(v[0]);
                let bits = if ty == types::I64 { 63 } else { 31 };
                let end = match from {
                    types::F32 => b.ins().f32const(2f32.powi(bits)),
                    _ => b.ins().f64const(2f64.powi(bits)),
                };
                let is_near = b.ins().fcmp(FloatCC::LessThan, size, end);
                let least = b.ins().iconst(ty, if ty == types::I64 { i64::MIN } else { i64::from(i32::MIN) });
                b.ins().select(is_near, saturated, least)
            }
            Conv::FToS => b.ins().fcvt_to_sint_sat(ty, v[0]),
            Conv::FToU => b.ins().fcvt_to_uint_sat(ty, v[0]),
            Conv::Bits => v[0],
        })
    }

    fn any(&self, mask: builder::Value) -> builder::Value {
        if mask.ty.lanes == 1 {
            return mask;
        }
        let pieces = self.pieces(mask);
        let value = self.with(|b| {
            let all = pieces.into_iter().reduce(|a, c| b.ins().bor(a, c)).expect("a mask has lanes");
            b.ins().vany_true(all)
        });
        self.add(vec![value], Ty::I1)
    }

    fn splat(&self, a: builder::Value, lanes: u16) -> builder::Value {
        let ty = Ty { lane: a.ty.lane, lanes };
        if lanes == a.ty.lanes {
            return a;
        }
        let (piece_ty, n) = piece(ty);
        let scalar = self.one(a);
        let one = self.with(|b| {
            let scalar = if ty.lane == Lane::I1 { b.ins().bmask(piece_ty.lane_type(), scalar) } else { scalar };
            if n > 1 { b.ins().splat(piece_ty, scalar) } else { scalar }
        });
        self.add(vec![one; usize::from(lanes / n)], ty)
    }

    fn extract(&self, a: builder::Value, lane: u16) -> builder::Value {
        let ty = Ty::scalar(a.ty.lane);
        let (_, n) = piece(a.ty);
        let part = self.pieces(a)[usize::from(lane / n)];
        if n == 1 {
            return self.add(vec![part], ty);
        }
        let value = self.with(|b| {
            let value = b.ins().extractlane(part, (lane % n) as u8);
            if ty.lane == Lane::I1 { b.ins().icmp_imm_s(IntCC::NotEqual, value, 0) } else { value }
        });
        self.add(vec![value], ty)
    }

    fn half(&self, a: builder::Value, is_upper: bool) -> builder::Value {
        let half = a.ty.lanes / 2;
        let ty = Ty { lane: a.ty.lane, lanes: half };
        let pieces = self.pieces(a);
        if pieces.len() > 1 && piece(ty) == piece(a.ty) {
            let (low, high) = pieces.split_at(pieces.len() / 2);
            return self.add(if is_upper { high } else { low }.to_vec(), ty);
        }
        let lanes = self.lanes(a);
        let (low, high) = lanes.split_at(usize::from(half));
        self.from_lanes(if is_upper { high } else { low }, ty)
    }

    fn pack(&self, lanes: &[builder::Value]) -> builder::Value {
        let ty = Ty { lane: lanes[0].ty.lane, lanes: u16::try_from(lanes.len()).expect("vectors are short") };
        let scalars: Vec<Value> = lanes.iter().map(|&lane| self.one(lane)).collect();
        self.from_lanes(&scalars, ty)
    }
}

fn inst2(b: &mut FunctionBuilder<'static>, inst: Inst2, x: Value, y: Value) -> Value {
    let ins = b.ins();
    match inst {
        Inst2::Add => ins.iadd(x, y),
        Inst2::Sub => ins.isub(x, y),
        Inst2::Mul => ins.imul(x, y),
        Inst2::SDiv => ins.sdiv(x, y),
        Inst2::UDiv => ins.udiv(x, y),
        Inst2::SRem => ins.srem(x, y),
        Inst2::URem => ins.urem(x, y),
        Inst2::And => ins.band(x, y),
        Inst2::Or => ins.bor(x, y),
        Inst2::Xor => ins.bxor(x, y),
        Inst2::Shl => ins.ishl(x, y),
        Inst2::LShr => ins.ushr(x, y),
        Inst2::AShr => ins.sshr(x, y),
        Inst2::FAdd => ins.fadd(x, y),
        Inst2::FSub => ins.fsub(x, y),
        Inst2::FMul => ins.fmul(x, y),
        Inst2::FDiv => ins.fdiv(x, y),
    }
}

fn int_cc(cmp: Cmp) -> Option<IntCC> {
    Some(match cmp {
        Cmp::Eq => IntCC::Equal,
        Cmp::Ne => IntCC::NotEqual,
        Cmp::SLt => IntCC::SignedLessThan,
        Cmp::SLe => IntCC::SignedLessThanOrEqual,
        Cmp::SGt => IntCC::SignedGreaterThan,
        Cmp::SGe => IntCC::SignedGreaterThanOrEqual,
        Cmp::ULt => IntCC::UnsignedLessThan,
        Cmp::ULe => IntCC::UnsignedLessThanOrEqual,
        Cmp::UGt => IntCC::UnsignedGreaterThan,
        Cmp::UGe => IntCC::UnsignedGreaterThanOrEqual,
        Cmp::FEq | Cmp::FNe | Cmp::FLt | Cmp::FLe | Cmp::FGt | Cmp::FGe | Cmp::FUnordered => return None,
    })
}

fn float_cc(cmp: Cmp) -> FloatCC {
    match cmp {
        Cmp::FNe => FloatCC::NotEqual,
        Cmp::FLt => FloatCC::LessThan,
        Cmp::FLe => FloatCC::LessThanOrEqual,
        Cmp::FGt => FloatCC::GreaterThan,
        Cmp::FGe => FloatCC::GreaterThanOrEqual,
        Cmp::FUnordered => FloatCC::Unordered,
        Cmp::FEq
        | Cmp::Eq
        | Cmp::Ne
        | Cmp::SLt
        | Cmp::SLe
        | Cmp::SGt
        | Cmp::SGe
        | Cmp::ULt
        | Cmp::ULe
        | Cmp::UGt
        | Cmp::UGe => FloatCC::Equal,
    }
}

fn memory() -> MemFlagsData {
    MemFlagsData::new().with_notrap().with_endianness(Endianness::Little)
}

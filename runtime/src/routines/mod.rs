//! What is not a loop nest: `extern "C"` routines on objects and tensors that compiled code and the evaluator call by name.
//!
//! The symbol of the routine `list_push` is `aot_rt_list_push`. A routine gets its operands as leaves and writes each result
//! as 64 bits: an int, the bits of a float, a bool as 0 or 1, or an owned object pointer (null for `None`). It returns 0, or a
//! negative status with the error recorded in the frame.
#![allow(unsafe_code, reason = "the contract with compiled code is made of pointers")]

mod containers;
mod ctc;
mod fft;
mod instances;
mod joining;
pub mod kinds;
mod linalg;
mod numbers;
mod numeric;
mod order;
mod print_tensor;
mod special;
mod tasks;
pub mod text;
mod vision;

pub(crate) use containers::is_equal;

use crate::abi::{Frame, Leaf, Status, Tag};
use crate::entry::leaf_tensor;
use crate::error::{Error, Result};
use crate::host::{fail, runtime};
use crate::model::Runtime;
use crate::object::{Body, Item, ObjectRef};
use crate::tensor::Tensor;

/// A routine as compiled code sees it.
pub type Routine = unsafe extern "C" fn(*mut Frame, *const Leaf, i64, *mut u64) -> i64;

/// The routine of this name, without the prefix `aot_rt_`.
pub fn find(name: &str) -> Option<Routine> {
    ROUTINES.iter().find(|(n, _)| *n == name).map(|(_, routine)| *routine)
}

/// Operands and results of a running routine.
pub(crate) struct Call<'a> {
    pub(crate) runtime: &'a mut Runtime,
    args: &'a [Leaf],
    results: *mut u64,
    /// Whether items are to be given in boxes.
    boxes: bool,
}

/// Runs a routine's body between the contract with compiled code and checked access.
///
/// # Safety
/// As the contract says: a frame of a running call, `n_args` leaves, room for the routine's results.
unsafe fn enter(
    frame: *mut Frame,
    args: *const Leaf,
    n_args: i64,
    results: *mut u64,
    body: fn(&mut Call<'_>) -> Result<()>,
) -> i64 {
    let n_args = if args.is_null() { 0 } else { usize::try_from(n_args).unwrap_or(0) };
    // SAFETY: by the caller's promise; an empty slice needs no memory.
    let args = if n_args == 0 { &[][..] } else { unsafe { std::slice::from_raw_parts(args, n_args) } };
    // SAFETY: by the caller's promise; one routine runs at a time on a frame.
    let mut call = Call { runtime: unsafe { runtime(frame) }, args, results, boxes: false };
    match body(&mut call) {
        Ok(()) => 0,
        // SAFETY: by the caller's promise; `call` is not used again.
        Err(error) => unsafe { fail(frame, error) },
    }
}

/// An exception of the model.
pub(crate) fn raise<T>(class: &str, message: impl Into<String>) -> Result<T> {
    Err(Error::raised(class, message, ""))
}

/// An item as a result, with a reference of its own; a complex number has no 64-bit form and becomes its real part.
fn bits_of(item: &Item) -> u64 {
    match item {
        Item::None => 0,
        Item::Bool(b) => u64::from(*b),
        Item::Int(i) => *i as u64,
        Item::Float(x) | Item::Complex(x, _) => x.to_bits(),
        Item::Object(object) => object.clone().into_raw() as u64,
    }
}

impl<'a> Call<'a> {
    pub(crate) fn n_args(&self) -> usize {
        self.args.len()
    }

    pub(crate) fn leaf(&self, i: usize) -> Result<&Leaf> {
        self.args.get(i).ok_or_else(|| Error::new(Status::Internal, "a routine got too few operands"))
    }

    /// An int, or a bool as 0 or 1.
    pub(crate) fn int(&self, i: usize) -> Result<i64> {
        let leaf = self.leaf(i)?;
        match leaf.kind() {
            Tag::Float => Ok(f64::from_bits(leaf.bits) as i64),
            _ => Ok(leaf.bits as i64),
        }
    }

    pub(crate) fn int_or(&self, i: usize, default: i64) -> Result<i64> {
        if i < self.args.len() && self.args[i].kind() != Tag::None { self.int(i) } else { Ok(default) }
    }

    /// A float, or an int as one.
    pub(crate) fn float(&self, i: usize) -> Result<f64> {
        let leaf = self.leaf(i)?;
        Ok(if leaf.kind() == Tag::Float { f64::from_bits(leaf.bits) } else { leaf.bits as i64 as f64 })
    }

    /// The object operand, borrowed from the variable that holds it.
    pub(crate) fn borrowed(&self, i: usize) -> Result<&'a ObjectRef> {
        match self.args.get(i) {
            Some(leaf) if leaf.kind() == Tag::Object && leaf.bits != 0 => {
                // SAFETY: an object operand is alive during the call, and a reference is the pointer that is not null.
                Ok(unsafe { &*(&raw const leaf.bits).cast::<ObjectRef>() })
            }
            _ => Err(Error::new(Status::Internal, "a routine expected an object")),
        }
    }

    /// The object operand with the caller's reference to it; `None` for other operands.
    pub(crate) fn taken(&self, i: usize) -> Result<Option<ObjectRef>> {
        let leaf = self.leaf(i)?;
        if leaf.kind() != Tag::Object {
            return Ok(None);
        }
        // SAFETY: callers of routines that take an operand over give it away.
        Ok(unsafe { ObjectRef::from_raw(leaf.bits as *mut _) })
    }

    /// The object operand, with a reference of its own.
    pub(crate) fn object(&self, i: usize) -> Result<ObjectRef> {
        match self.item(i)? {
            Item::Object(object) => Ok(object),
            _ => Err(Error::new(Status::Internal, "a routine expected an object")),
        }
    }

    /// The operand as an element: text and tensors become new objects, a null object `None`.
    pub(crate) fn item(&self, i: usize) -> Result<Item> {
        let leaf = self.leaf(i)?;
        Ok(match leaf.kind() {
            Tag::None => Item::None,
            Tag::Bool => Item::Bool(leaf.bits != 0),
            Tag::Int => Item::Int(leaf.bits as i64),
            Tag::Float => Item::Float(f64::from_bits(leaf.bits)),
            // SAFETY: object operands are null or borrowed from a variable, alive during the call.
            Tag::Object => match unsafe { ObjectRef::from_borrowed(leaf.bits as *mut _) } {
                None => Item::None,
                Some(object) => match object.body() {
                    Body::Boxed(item) => item.clone(),
                    _ => Item::Object(object),
                },
            },
            // SAFETY: text operands are constant text of the model.
            Tag::Text => Item::from(Body::Str(unsafe { leaf.text_bytes() }.into())),
            Tag::Tensor => Item::from(Body::Tensor(leaf_tensor(leaf, self.runtime.env.allocator)?)),
        })
    }

    /// The tensor that a buffer operand or a tensor object stands for, sharing its memory.
    pub(crate) fn tensor(&self, i: usize) -> Result<Tensor> {
        let leaf = self.leaf(i)?;
        if leaf.kind() == Tag::Tensor {
            // SAFETY: the buffer lives during the call, in which the view is used.
            return Ok(unsafe { Tensor::borrowed(leaf.element_type(), leaf.dims(), None, leaf.bits as *mut u8) });
        }
        match self.object(i)?.body() {
            Body::Tensor(tensor) => Ok(tensor.clone()),
            _ => Err(Error::new(Status::Internal, "a routine expected a tensor")),
        }
    }

    /// The bytes of a text operand or a string object.
    pub(crate) fn text(&self, i: usize) -> Result<&'a [u8]> {
        match self.args.get(i) {
            // SAFETY: text operands are constant text of the model.
            Some(leaf) if leaf.kind() == Tag::Text => Ok(unsafe { leaf.text_bytes() }),
            _ => match self.borrowed(i)?.body() {
                Body::Str(bytes) => Ok(bytes),
                _ => Err(Error::new(Status::Internal, "a routine expected a string")),
            },
        }
    }

    /// A copy of [`Self::text`].
    pub(crate) fn bytes(&self, i: usize) -> Result<Vec<u8>> {
        self.text(i).map(<[u8]>::to_vec)
    }

    /// Runs a routine on the operands from this one on, whose result comes in a box.
    pub(crate) fn boxed(&mut self, from: usize, routine: fn(&mut Call<'_>) -> Result<()>) -> Result<()> {
        let args = self.args.get(from..).unwrap_or_default();
        routine(&mut Call { runtime: self.runtime, args, results: self.results, boxes: true })
    }

    fn bits(&mut self, k: usize, bits: u64) {
        // SAFETY: the caller gave room for the routine's results.
        unsafe { self.results.add(k).write(bits) };
    }

    pub(crate) fn ret_int(&mut self, value: i64) -> Result<()> {
        self.bits(0, value as u64);
        Ok(())
    }

    pub(crate) fn ret_bool(&mut self, value: bool) -> Result<()> {
        self.bits(0, u64::from(value));
        Ok(())
    }

    pub(crate) fn ret_float(&mut self, value: f64) -> Result<()> {
        self.bits(0, value.to_bits());
        Ok(())
    }

    pub(crate) fn ret_body(&mut self, body: Body) -> Result<()> {
        self.ret_item(0, Item::from(body))
    }

    pub(crate) fn ret_text(&mut self, text: impl Into<Vec<u8>>) -> Result<()> {
        self.ret_body(Body::Str(text.into().into()))
    }

    /// Result number `k`; a complex number has no 64-bit form and becomes its real part.
    pub(crate) fn ret_item(&mut self, k: usize, item: Item) -> Result<()> {
        let bits = match item {
            item if self.boxes => ObjectRef::new(Body::Boxed(item)).into_raw() as u64,
            Item::Object(object) => object.into_raw() as u64,
            plain => bits_of(&plain),
        };
        self.bits(k, bits);
        Ok(())
    }
}

/// Defines the exported symbol of each routine and the table by name.
macro_rules! routines {
    ($($symbol:ident $name:literal = $body:path;)*) => {
        $(
            #[doc = concat!("The routine `", $name, "`.")]
            ///
            /// # Safety
            /// The frame is that of the running call; `args` are `n_args` leaves; there is room for the results.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $symbol(frame: *mut Frame, args: *const Leaf, n_args: i64, results: *mut u64) -> i64 {
                // SAFETY: by the contract.
                unsafe { enter(frame, args, n_args, results, $body) }
            }
        )*
        /// Every routine by name.
        pub const ROUTINES: &[(&str, Routine)] = &[$(($name, $symbol)),*];
    };
}

routines! {
    aot_rt_list_new "list_new" = containers::list_new;
    aot_rt_list_push "list_push" = containers::list_push;
    aot_rt_list_push_boxed "list_push_boxed" = containers::list_push;
    aot_rt_list_get "list_get" = containers::list_get;
    aot_rt_list_set "list_set" = containers::list_set;
    aot_rt_list_len "list_len" = containers::list_len;
    aot_rt_list_pop "list_pop" = containers::list_pop;
    aot_rt_list_insert "list_insert" = containers::list_insert;
    aot_rt_list_extend "list_extend" = containers::list_extend;
    aot_rt_list_add "list_add" = containers::list_add;
    aot_rt_list_slice "list_slice" = containers::list_slice;
    aot_rt_list_clear "list_clear" = containers::list_clear;
    aot_rt_list_copy "list_copy" = containers::list_copy;
    aot_rt_list_reverse "list_reverse" = containers::list_reverse;
    aot_rt_list_sort "list_sort" = containers::list_sort;
    aot_rt_list_remove "list_remove" = containers::list_remove;
    aot_rt_list_delete "list_delete" = containers::list_delete;
    aot_rt_list_index "list_index" = containers::list_index;
    aot_rt_list_count "list_count" = containers::list_count;
    aot_rt_list_contains "list_contains" = containers::list_contains;
    aot_rt_list_repeat "list_repeat" = containers::list_repeat;
    aot_rt_list_range "list_range" = containers::list_range;
    aot_rt_list_sum "list_sum" = containers::list_sum;
    aot_rt_list_min "list_min" = containers::list_min;
    aot_rt_list_max "list_max" = containers::list_max;
    aot_rt_list_any "list_any" = containers::list_any;
    aot_rt_list_all "list_all" = containers::list_all;
    aot_rt_object_eq "object_eq" = containers::object_eq;
    aot_rt_tuple_new "tuple_new" = containers::tuple_new;
    aot_rt_dict_new "dict_new" = containers::dict_new;
    aot_rt_dict_set "dict_set" = containers::dict_set;
    aot_rt_dict_get "dict_get" = containers::dict_get;
    aot_rt_dict_contains "dict_contains" = containers::dict_contains;
    aot_rt_dict_pop "dict_pop" = containers::dict_pop;
    aot_rt_dict_setdefault "dict_setdefault" = containers::dict_setdefault;
    aot_rt_dict_popitem "dict_popitem" = containers::dict_popitem;
    aot_rt_dict_update "dict_update" = containers::dict_update;
    aot_rt_dict_delete "dict_delete" = containers::dict_delete;
    aot_rt_dict_keys "dict_keys" = containers::dict_keys;
    aot_rt_dict_values "dict_values" = containers::dict_values;
    aot_rt_dict_items "dict_items" = containers::dict_items;
    aot_rt_dict_clear "dict_clear" = containers::dict_clear;
    aot_rt_dict_copy "dict_copy" = containers::dict_copy;
    aot_rt_list_cat "list_cat" = joining::list_cat;
    aot_rt_list_stack "list_stack" = joining::list_stack;
    aot_rt_list_tensor "list_tensor" = joining::list_tensor;
    aot_rt_tensor_split "tensor_split" = joining::tensor_split;
    aot_rt_tensor_split_sizes "tensor_split_sizes" = joining::tensor_split_sizes;
    aot_rt_tensor_chunk "tensor_chunk" = joining::tensor_chunk;
    aot_rt_tensor_unbind "tensor_unbind" = joining::tensor_unbind;
    aot_rt_tensor_new "tensor_new" = containers::tensor_new;
    aot_rt_tensor_dim "tensor_dim" = containers::tensor_dim;
    aot_rt_object_new "object_new" = instances::object_new;
    aot_rt_object_get "object_get" = instances::object_get;
    aot_rt_object_set "object_set" = instances::object_set;
    aot_rt_object_is "object_is" = instances::object_is;
    aot_rt_box "box" = kinds::boxed;
    aot_rt_box_complex "box_complex" = kinds::box_complex;
    aot_rt_box_part "box_part" = kinds::box_part;
    aot_rt_box_kind "box_kind" = kinds::box_kind;
    aot_rt_unbox "unbox" = kinds::unbox;
    aot_rt_boxed "boxed" = kinds::boxed_result;
    aot_rt_tensor_stride "tensor_stride" = containers::tensor_stride;
    aot_rt_tensor_view "tensor_view" = containers::tensor_view;
    aot_rt_tensor_rank "tensor_rank" = containers::tensor_rank;
    aot_rt_tensor_dtype "tensor_dtype" = containers::tensor_dtype;
    aot_rt_print "print" = text::print;
    aot_rt_trace_enter "trace_enter" = text::trace_enter;
    aot_rt_trace_leave "trace_leave" = text::trace_leave;
    aot_rt_trace_statement "trace_statement" = text::trace_statement;
    aot_rt_trace_argument "trace_argument" = text::trace_argument;
    aot_rt_trace_update "trace_update" = text::trace_update;
    aot_rt_trace_value "trace_value" = text::trace_value;
    aot_rt_warn "warn" = text::warn;
    aot_rt_str "str" = text::str_of;
    aot_rt_complex_text "complex_text" = text::complex_text;
    aot_rt_str_concat "str_concat" = text::str_concat;
    aot_rt_str_format "str_format" = text::str_format;
    aot_rt_str_extend "str_extend" = text::str_extend;
    aot_rt_raise_format "raise_format" = text::raise_format;
    aot_rt_str_method "str_method" = text::str_method;
    aot_rt_str_join "str_join" = text::str_join;
    aot_rt_str_chr "str_chr" = text::str_chr;
    aot_rt_number_text "number_text" = numbers::number_text;
    aot_rt_time_point "time_point" = numbers::time_point;
    aot_rt_gamma "gamma" = numbers::gamma;
    aot_rt_gcd "gcd" = numbers::gcd;
    aot_rt_factorial "factorial" = numbers::factorial;
    aot_rt_ldexp "ldexp" = numbers::ldexp;
    aot_rt_frexp "frexp" = numbers::frexp;
    aot_rt_hash "hash" = numbers::hash;
    aot_rt_str_to_int "str_to_int" = text::str_to_int;
    aot_rt_str_to_float "str_to_float" = text::str_to_float;
    aot_rt_copy_bytes "copy_bytes" = numeric::copy_bytes;
    aot_rt_random_seed "random_seed" = numeric::random_seed;
    aot_rt_fill_uniform "fill_uniform" = numeric::fill_uniform;
    aot_rt_fill_normal "fill_normal" = numeric::fill_normal;
    aot_rt_fill_normal_each "fill_normal_each" = numeric::fill_normal_each;
    aot_rt_fill_bernoulli "fill_bernoulli" = numeric::fill_bernoulli;
    aot_rt_fill_randint "fill_randint" = numeric::fill_randint;
    aot_rt_randperm "randperm" = numeric::randperm;
    aot_rt_sort "sort" = order::sort;
    aot_rt_topk "topk" = order::topk;
    aot_rt_kth "kth" = order::kth;
    aot_rt_median "median" = order::median;
    aot_rt_mode "mode" = order::mode;
    aot_rt_sort_rows "sort_rows" = order::sort_rows;
    aot_rt_ctc_loss "ctc_loss" = ctc::ctc_loss;
    aot_rt_fft "fft" = fft::fft;
    aot_rt_lu "lu" = linalg::lu;
    aot_rt_special "special" = special::special;
    aot_rt_integers "integers" = special::integers;
    aot_rt_next_after "next_after" = special::next_after;
    aot_rt_frexp_each "frexp_each" = special::frexp_each;
    aot_rt_exponential "exponential" = linalg::exponential;
    aot_rt_exchanged "exchanged" = linalg::exchanged;
    aot_rt_cholesky "cholesky" = linalg::cholesky;
    aot_rt_solve_triangular "solve_triangular" = linalg::solve_triangular;
    aot_rt_reflectors "reflectors" = linalg::reflectors;
    aot_rt_reflected "reflected" = linalg::reflected;
    aot_rt_singular "singular" = linalg::singular;
    aot_rt_hermitian "hermitian" = linalg::hermitian;
    aot_rt_nms "nms" = vision::nms;
    aot_rt_task_start "task_start" = tasks::task_start;
    aot_rt_task_run "task_run" = tasks::task_run;
    aot_rt_task_wait "task_wait" = tasks::task_wait;
    aot_rt_task_get "task_get" = tasks::task_get;
    aot_rt_dict_len "dict_len" = containers::list_len;
    aot_rt_tuple_get "tuple_get" = containers::list_get;
    aot_rt_str_eq "str_eq" = containers::object_eq;
    aot_rt_list_eq "list_eq" = containers::object_eq;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desc::{FunctionDesc, MethodDesc, ModelDesc, Tree, VariantDesc};
    use crate::model::{Code, Model, Weights};
    use crate::value::Value;

    fn routine(frame: &mut Frame, name: &str, args: &[Leaf]) -> std::result::Result<u64, i64> {
        let mut result = [0; 2];
        let routine = find(name).unwrap();
        // SAFETY: the frame is that of the running call.
        let status = unsafe { routine(frame, args.as_ptr(), args.len() as i64, result.as_mut_ptr()) };
        if status < 0 { Err(status) } else { Ok(result[0]) }
    }

    /// Runs a body that gives an object's bits as the method's result.
    fn run(body: fn(&mut Frame) -> std::result::Result<u64, i64>) -> Result<Value> {
        let desc = ModelDesc {
            functions: vec![FunctionDesc { results: vec![Tree::Object], ..FunctionDesc::default() }],
            methods: vec![MethodDesc {
                name: "f".into(),
                variants: vec![VariantDesc { state_tag: None, function: 0 }],
                ..MethodDesc::default()
            }],
            ..ModelDesc::default()
        };
        let code = Code::Interpreted(Box::new(move |frame| match body(frame) {
            Ok(bits) => {
                // SAFETY: the description has one result leaf.
                unsafe { *frame.outputs = object(bits) };
                0
            }
            Err(status) => status,
        }));
        Model::new(desc, Weights::from_bytes(&[]).unwrap(), vec![code]).unwrap().call("f", &[])
    }

    fn object(bits: u64) -> Leaf {
        Leaf { tag: Tag::Object as i64, bits, ..Leaf::NONE }
    }

    #[test]
    fn lists_and_dicts_work_by_reference_and_print() {
        let value = run(|frame| {
            let list = object(routine(frame, "list_new", &[])?);
            for x in [3, 1, 2] {
                routine(frame, "list_push", &[list, Leaf::int(x)])?;
            }
            routine(frame, "list_extend", &[list, list])?;
            routine(frame, "list_sort", &[list])?;
            assert_eq!(routine(frame, "list_pop", &[list])?, 3);
            assert_eq!(routine(frame, "list_get", &[list, Leaf::int(-2)])?, 2);
            let dict = object(routine(frame, "dict_new", &[])?);
            routine(frame, "dict_set", &[dict, Leaf::text("k"), list])?;
            routine(frame, "dict_set", &[dict, Leaf::text("x"), Leaf::float(0.1)])?;
            let text = routine(frame, "str_format", &[Leaf::text("{} and {}"), dict, Leaf::bool(true)])?;
            // SAFETY: owned by this body.
            unsafe {
                crate::host::aot_rt_release(list.bits as *mut _);
                crate::host::aot_rt_release(dict.bits as *mut _);
            }
            Ok(text)
        });
        let expected = "{k: [1, 1, 2, 2, 3], x: 0.10000000000000001} and True";
        assert!(matches!(value, Ok(Value::Str(text)) if text == expected));
    }

    #[test]
    fn texts_are_extended_where_they_lie_if_nothing_else_refers_to_them() {
        let value = run(|frame| {
            let first = object(routine(frame, "str_format", &[Leaf::text("a{}"), Leaf::int(1)])?);
            let second = object(routine(frame, "str_extend", &[Leaf::text("{}-{}"), first, Leaf::text("b")])?);
            assert_eq!(first.bits, second.bits);
            // SAFETY: a living object; the reference is given away by the next line.
            unsafe { crate::host::aot_rt_retain(second.bits as *mut _) };
            let third = object(routine(frame, "str_extend", &[Leaf::text("{}!"), second])?);
            assert_ne!(second.bits, third.bits);
            let result = routine(frame, "str_format", &[Leaf::text("{} {} {}"), second, third, object(0)]);
            // SAFETY: owned by this body.
            unsafe {
                crate::host::aot_rt_release(second.bits as *mut _);
                crate::host::aot_rt_release(third.bits as *mut _);
            }
            result
        });
        assert!(matches!(value, Ok(Value::Str(text)) if text == "a1-b a1-b! None"));
    }

    #[test]
    fn failing_routines_report_the_exception() {
        let error = run(|frame| {
            let list = object(routine(frame, "list_new", &[])?);
            let result = routine(frame, "list_get", &[list, Leaf::int(0)]);
            // SAFETY: owned by this body.
            unsafe { crate::host::aot_rt_release(list.bits as *mut _) };
            result
        });
        assert_eq!(error.unwrap_err().to_string(), "RuntimeError: list index out of range");
    }

    #[test]
    fn sorting_fills_values_and_indices() {
        let value = run(|frame| {
            let mut input = [2.0_f32, f32::NAN, 1.0, 3.0];
            let (mut values, mut indices) = ([0.0_f32; 2], [0_i64; 2]);
            let leaf = |n, data: *mut f32| Leaf::tensor(crate::tensor::Dtype::F32, &[n], data.cast());
            let args = [
                leaf(4, input.as_mut_ptr()),
                leaf(2, values.as_mut_ptr()),
                Leaf::tensor(crate::tensor::Dtype::I64, &[2], indices.as_mut_ptr().cast()),
                Leaf::bool(false),
            ];
            routine(frame, "sort", &args)?;
            assert_eq!((values, indices), ([1.0, 2.0], [2, 0]));
            routine(frame, "str", &[Leaf::NONE])
        });
        assert!(matches!(value, Ok(Value::Str(text)) if text == "None"));
    }
}

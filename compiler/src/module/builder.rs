//! Modules made in Rust: attributes, submodules and methods in text, as with `torch::jit::Module` in C++.

use super::{Module, ToValue};
use crate::diag::{Diagnostic, Result};
use crate::driver::{self, Backend};
use crate::link::library::write_file;
use crate::script::{Field, Parts, Role};
use crate::source::Source;
use crate::types::{DType, IValue, TensorData, Type};
use crate::{export, ir, script};
use aot_runtime::Value;
use indexmap::IndexMap;
use std::path::Path;
use std::sync::Arc;

/// A module under construction.
///
/// ```
/// use aot::{Backend, ModuleBuilder};
/// use ndarray::array;
///
/// let mut scale = ModuleBuilder::new("Scale");
/// scale.register_constant("by", &2.0)?;
/// scale.define("def forward(self, x: Tensor) -> Tensor:\n    return x * self.by\n")?;
///
/// let mut net = ModuleBuilder::new("Net");
/// net.register_parameter("weight", &array![[1.0f32, 0.0], [0.0, 3.0]])?;
/// net.register_attribute("calls", "int", &0)?;
/// net.register_module("scale", scale)?;
/// net.define(
///     "def forward(self, x: Tensor) -> Tensor:
///     self.calls += 1
///     return self.scale(torch.matmul(x, self.weight))
/// ",
/// )?;
/// let y = net.load(Backend::Reference)?.forward(&[&array![1.0f32, 1.0]])?;
/// assert_eq!(aot::to_array::<f32>(&y)?, array![2.0f32, 6.0].into_dyn());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ModuleBuilder {
    parts: Parts,
}

impl ModuleBuilder {
    /// A module of a class with this name, without attributes and methods.
    pub fn new(name: &str) -> Self {
        let (fields, constants) = (IndexMap::new(), IndexMap::new());
        Self { parts: Parts { name: name.into(), fields, constants, methods: Vec::new() } }
    }

    /// Adds a tensor that training would change.
    ///
    /// # Errors
    /// User errors: the name is taken or none, the value is no tensor.
    pub fn register_parameter(&mut self, name: &str, value: &dyn ToValue) -> Result<&mut Self> {
        self.register(name, Type::tensor(), value, Role::Parameter)
    }

    /// Adds a tensor that is state.
    ///
    /// # Errors
    /// As [`Self::register_parameter`].
    pub fn register_buffer(&mut self, name: &str, value: &dyn ToValue) -> Result<&mut Self> {
        self.register(name, Type::tensor(), value, Role::Buffer)
    }

    /// Adds an attribute of a type, as annotations write it: `List[int]`, `Optional[Tensor]`.
    ///
    /// # Errors
    /// User errors: the name is taken or none, the type is not known, the value is not of it.
    pub fn register_attribute(&mut self, name: &str, ty: &str, value: &dyn ToValue) -> Result<&mut Self> {
        let known = Type::parse_annotation(ty).filter(|ty| !matches!(ty, Type::Class(_) | Type::Interface(_)));
        let ty = known.ok_or_else(|| Diagnostic::user(format!("Unknown type name '{ty}'")))?;
        self.register(name, ty, value, Role::Attribute)
    }

    /// Adds a constant: a number, text, truth value, `None`, or a tuple of these.
    ///
    /// # Errors
    /// User errors: the name is taken or none, the value is of another kind.
    pub fn register_constant(&mut self, name: &str, value: &dyn ToValue) -> Result<&mut Self> {
        let name = self.free(name)?;
        let value = value.to_value()?;
        let Some(constant) = constant(&value) else {
            return Err(Diagnostic::user(format!(
                "'{}' object in attribute '{}.{name}' is not a valid constant.",
                value.type_name(),
                self.parts.name
            )));
        };
        self.parts.constants.insert(name, constant);
        Ok(self)
    }

    /// Adds a module.
    ///
    /// # Errors
    /// User errors: the name is taken or none.
    pub fn register_module(&mut self, name: &str, module: Self) -> Result<&mut Self> {
        let name = self.free(name)?;
        self.parts.fields.insert(name, Field::Module(module.parts));
        Ok(self)
    }

    /// Adds the methods of a text, in TorchScript's own dialect: `def forward(self, x: Tensor) -> Tensor: ...`. They are
    /// compiled when the module is built.
    ///
    /// # Errors
    /// User errors: the text does not parse.
    pub fn define(&mut self, text: &str) -> Result<&mut Self> {
        let name = format!("{}.{}", self.parts.name, self.parts.methods.len());
        let source = Arc::new(Source { name, text: text.to_owned(), origins: Vec::new() });
        crate::syntax::parse(&source)?;
        self.parts.methods.push(source);
        Ok(self)
    }

    /// Compiles the methods to graphs.
    ///
    /// # Errors
    /// User errors in PyTorch's words with their place in the texts; unsupported for what cannot be compiled yet.
    pub fn build(&self) -> Result<ir::Module> {
        driver::script_parts(&self.parts)
    }

    /// A module that can be called.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub fn load(&self, backend: Backend) -> Result<Module> {
        Ok(Module::of_ir(self.build()?, backend))
    }

    /// Writes an archive that `torch.jit.load` reads.
    ///
    /// # Errors
    /// As [`Self::build`]; those of writing the file.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let (path, module) = (path.as_ref(), self.build()?);
        write_file(path, &export::bytes(&module, path, &script::empty_archive(path))?)
    }

    fn register(&mut self, name: &str, ty: Type, value: &dyn ToValue, role: Role) -> Result<&mut Self> {
        let name = self.free(name)?;
        let value = value.to_value()?;
        let Some(value) = typed(&value, &ty) else {
            return Err(Diagnostic::user(format!(
                "Expected a value of type '{}' for attribute '{name}' of '{}' but instead found type '{}'",
                ty.annotation(),
                self.parts.name,
                value.type_name()
            )));
        };
        self.parts.fields.insert(name, Field::Value { ty, value, role });
        Ok(self)
    }

    /// The name, if nothing has it.
    fn free(&self, name: &str) -> Result<Arc<str>> {
        if name.is_empty() || name.contains('.') {
            return Err(Diagnostic::user(format!("'{name}' cannot be the name of an attribute")));
        }
        if self.parts.fields.contains_key(name) || self.parts.constants.contains_key(name) {
            return Err(Diagnostic::user(format!("attribute '{name}' already exists in '{}'", self.parts.name)));
        }
        Ok(name.into())
    }
}

/// A value that a class can have as a constant.
fn constant(value: &Value) -> Option<IValue> {
    Some(match value {
        Value::None => IValue::None,
        Value::Bool(b) => IValue::Bool(*b),
        Value::Int(n) => IValue::Int(*n),
        Value::Float(x) => IValue::Float(*x),
        Value::Str(text) => IValue::Str(text.as_str().into()),
        Value::Tuple(items) | Value::List(items) => {
            IValue::Tuple(items.iter().map(constant).collect::<Option<Vec<_>>>()?.into())
        }
        Value::Complex(..) | Value::Tensor(_) | Value::NamedTuple { .. } | Value::Dict(_) => return None,
    })
}

/// A value as one of a type; `None` if it is not.
fn typed(value: &Value, ty: &Type) -> Option<IValue> {
    let all = |items: &[Value], ty: &Type| items.iter().map(|item| typed(item, ty)).collect::<Option<Vec<_>>>();
    Some(match (value, ty) {
        (Value::None, Type::Optional(_) | Type::None) => IValue::None,
        (value, Type::Optional(inner)) => return typed(value, inner),
        (value, Type::Union(members)) => return members.iter().find_map(|member| typed(value, member)),
        (Value::Bool(b), Type::Bool) => IValue::Bool(*b),
        (Value::Int(n), Type::Int | Type::Number) => IValue::Int(*n),
        (Value::Int(n), Type::Float) => IValue::Float(*n as f64),
        (Value::Float(x), Type::Float | Type::Number) => IValue::Float(*x),
        (Value::Complex(re, im), Type::Complex) => IValue::Complex(*re, *im),
        (Value::Str(text), Type::Str) => IValue::Str(text.as_str().into()),
        (Value::Str(text), Type::Device) => IValue::Device(text.as_str().into()),
        (Value::Tensor(tensor), Type::Tensor(_)) => {
            let dtype = DType::from_code(i64::from(tensor.dtype.0))?;
            IValue::Tensor(Arc::new(TensorData::from_bytes(dtype, &tensor.sizes, tensor.to_bytes()).ok()?))
        }
        (Value::List(items), Type::List(elem)) => IValue::List(Some((**elem).clone()), all(items, elem)?.into()),
        (Value::Dict(entries), Type::Dict(key, item)) => {
            let entry = |(k, v): &(Value, Value)| Some((typed(k, key)?, typed(v, item)?));
            let entries = entries.iter().map(entry).collect::<Option<Vec<_>>>()?;
            IValue::Dict(Some(((**key).clone(), (**item).clone())), entries.into())
        }
        (Value::Tuple(items), Type::Tuple(types)) if items.len() == types.len() => {
            let items = items.iter().zip(types.iter()).map(|(item, ty)| typed(item, ty));
            IValue::Tuple(items.collect::<Option<Vec<_>>>()?.into())
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn what_is_wrong_is_said() {
        let mut net = ModuleBuilder::new("Net");
        net.register_attribute("sizes", "List[int]", &vec![Value::Int(1)]).unwrap();
        let said = |result: Result<&mut ModuleBuilder>, words: &str| {
            let error = result.map(|_| ()).unwrap_err();
            assert!(error.message.contains(words), "{}", error.message);
        };
        said(net.register_buffer("sizes", &array![1.0f32]), "attribute 'sizes' already exists in 'Net'");
        said(net.register_parameter("", &array![1.0f32]), "cannot be the name");
        said(net.register_parameter("w", &1.0), "Expected a value of type 'Tensor' for attribute 'w' of 'Net'");
        said(net.register_attribute("t", "Lost[int]", &1), "Unknown type name 'Lost[int]'");
        said(net.register_attribute("t", "Dict[str, int]", &1), "Expected a value of type 'Dict[str, int]'");
        said(net.register_constant("c", &array![1.0f32]), "is not a valid constant");
        said(net.define("def f(self:\n"), "");
        net.define("def f(self) -> int:\n    return self.missing\n").unwrap();
        assert!(net.build().unwrap_err().message.contains("Module 'Net' has no attribute 'missing'"));
    }

    #[test]
    fn archives_of_built_modules_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.pt");
        let mut inner = ModuleBuilder::new("Inner");
        inner.register_constant("k", &3).unwrap();
        inner.define("def forward(self, x: int) -> int:\n    return x * self.k\n").unwrap();
        let mut net = ModuleBuilder::new("Net");
        let table = Value::Dict(vec![(Value::Str("a".into()), Value::Int(4))]);
        net.register_attribute("table", "Dict[str, int]", &table).unwrap();
        net.register_attribute("maybe", "Optional[int]", &Value::None).unwrap();
        net.register_module("a", inner.clone()).unwrap().register_module("b", inner).unwrap();
        net.define("def forward(self, x: int) -> int:\n    return self.a(x) + self.b(self.table[\"a\"])\n").unwrap();
        net.save(&path).unwrap();
        for module in [Module::load_with(&path, Backend::Reference).unwrap(), net.load(Backend::Cranelift).unwrap()] {
            assert!(matches!(module.forward(&[&2]).unwrap(), Value::Int(18)));
        }
    }
}

//! Layers of `torch.nn` as this compiler's own text, and how classes of texts derive from each other.
//!
//! The layers are classes like a user's: their constructors run where there is no archive, their methods are compiled on
//! demand, under the names they have in archives.

use super::names::{Item, ParsedFile, Program, dotted};
use super::python::demangled;
use crate::diag::Result;
use crate::ir::ClassKind;
use crate::source::Source;
use crate::syntax::Dialect;
use crate::syntax::ast::{Expr, File, StmtId, StmtKind};
use crate::types::Type;
use std::sync::Arc;

/// What the qualified names of layers begin with.
pub(crate) const MODULES: &str = "__torch__.torch.nn.modules.";

/// The texts by the module they are in.
const TEXTS: [(&str, &str); 16] = [
    ("activation", include_str!("layers/activation.py")),
    ("batchnorm", include_str!("layers/batchnorm.py")),
    ("container", include_str!("layers/container.py")),
    ("conv", include_str!("layers/conv.py")),
    ("dropout", include_str!("layers/dropout.py")),
    ("flatten", include_str!("layers/flatten.py")),
    ("instancenorm", include_str!("layers/instancenorm.py")),
    ("linear", include_str!("layers/linear.py")),
    ("loss", include_str!("layers/loss.py")),
    ("normalization", include_str!("layers/normalization.py")),
    ("padding", include_str!("layers/padding.py")),
    ("pixelshuffle", include_str!("layers/pixelshuffle.py")),
    ("pooling", include_str!("layers/pooling.py")),
    ("rnn", include_str!("layers/rnn.py")),
    ("sparse", include_str!("layers/sparse.py")),
    ("upsampling", include_str!("layers/upsampling.py")),
];

/// Most classes that one derives from.
const MAX_BASES: usize = 200;

impl Program<'_> {
    /// Makes the layers known to texts.
    pub(crate) fn add_layers(&mut self) {
        let mut add = |module: String, text: &str| {
            let name = format!("{}.py", module.rsplit('.').next().unwrap_or("layers"));
            let source = Source { name, text: text.to_owned(), origins: Vec::new() };
            self.add_text(&module, Arc::new(source), Dialect::Python, None);
        };
        for (module, text) in TEXTS {
            add(format!("{MODULES}{module}"), text);
        }
    }

    /// What a path below `torch.nn` means, if the compiler has a text for it.
    pub(crate) fn library_item(&mut self, path: &str) -> Result<Option<Item>> {
        let Some(rest) = path.strip_prefix("torch.nn.") else { return Ok(None) };
        if let Some(item) = self.library_function(path)? {
            return Ok(Some(item));
        }
        let rest = rest.strip_prefix("modules.").unwrap_or(rest);
        let name = rest.rsplit('.').next().unwrap_or(rest);
        let head = format!("class {name}(");
        for (module, text) in TEXTS {
            let qualified: Arc<str> = format!("{MODULES}{module}.{name}").into();
            if text.contains(&head) && self.text_module(&format!("{MODULES}{module}"))?.is_some() {
                return Ok(Some(Item::Class(Type::Class(qualified))));
            }
        }
        Ok(None)
    }

    /// The qualified name of the class that an expression in a file means; the path itself where no text has it.
    fn base_name(&mut self, file: &Arc<File>, base: &Expr) -> Result<Option<Arc<str>>> {
        let Some(path) = dotted(base) else { return Ok(None) };
        if let Some(parsed) = self.text_of(file)
            && parsed.items.contains_key(path.as_str())
        {
            return Ok(Some(format!("{}.{path}", parsed.module).into()));
        }
        let path = self.absolute(file, &path);
        Ok(Some(match self.library_item(&path)? {
            Some(Item::Class(Type::Class(name))) => name,
            _ => path.into(),
        }))
    }

    /// A class and those it derives from, in the order in which their attributes are looked for.
    pub(crate) fn mro(&mut self, class: &str) -> Result<Vec<Arc<str>>> {
        let mut order: Vec<Arc<str>> = Vec::new();
        let mut todo: Vec<Arc<str>> = vec![demangled(class).into()];
        while let Some(class) = todo.pop() {
            if order.len() > MAX_BASES {
                break;
            }
            if let Some((file, stmt)) = self.find(&class)?
                && let StmtKind::Class(syntax) = &file.stmts[stmt].kind
            {
                for base in syntax.bases.iter().rev() {
                    todo.extend(self.base_name(&file, base)?);
                }
            }
            // A class that several derive from comes after the last of them.
            order.retain(|known| *known != class);
            order.push(class);
        }
        Ok(order)
    }

    /// The class of a text with this qualified name.
    pub(crate) fn text_class(&mut self, class: &str) -> Result<Option<(Arc<ParsedFile>, StmtId)>> {
        let Some((file, stmt)) = self.find(&demangled(class))? else { return Ok(None) };
        let is_class = matches!(file.stmts[stmt].kind, StmtKind::Class(_));
        Ok(self.text_of(&file).filter(|_| is_class).map(|parsed| (parsed, stmt)))
    }

    /// What kind of class a text's class is.
    pub(crate) fn kind_of_class(&mut self, class: &str) -> Result<ClassKind> {
        if let Some((parsed, stmt)) = self.text_class(class)?
            && let StmtKind::Class(syntax) = &parsed.file.stmts[stmt].kind
        {
            return Ok(self.kind_of(&parsed, syntax, 0));
        }
        Ok(self.classes.get(class).map_or(ClassKind::Class, |declared| declared.class.kind))
    }
}

//! The data object of a library: weights and metadata in read-only sections of an ELF file.
//!
//! Weights are written straight from where they lie (mostly the memory-mapped archive) to the file, so that hundreds of
//! megabytes are copied once. The symbols `<name>_weights` and `<name>_metadata` are hidden: the library's own code sees
//! them, its users do not. The file depends on nothing but the arguments.

use crate::diag::{Diagnostic, Result};
use object::elf;
use object::write::StreamingBuffer;
use object::write::elf::{FileHeader, SectionHeader, SectionIndex, Sym, Writer};
use std::borrow::Cow;
use std::io::Write;

/// Alignment of the weights, which is that of a cache line and of the widest vector.
pub const WEIGHTS_ALIGN: usize = 64;

/// A processor that libraries are made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "self-explanatory")]
pub enum Machine {
    X86_64,
    Aarch64,
}

impl Machine {
    /// The processor in a target triple.
    pub fn of_triple(triple: &str) -> Result<Self> {
        match triple.split('-').next() {
            Some("x86_64") => Ok(Self::X86_64),
            Some("aarch64") => Ok(Self::Aarch64),
            _ => Err(Diagnostic::unsupported(format!("libraries for {triple} cannot be made; x86_64 and aarch64 can"))),
        }
    }

    fn elf_code(self) -> u16 {
        match self {
            Self::X86_64 => elf::EM_X86_64,
            Self::Aarch64 => elf::EM_AARCH64,
        }
    }
}

/// What the data object holds.
#[derive(Debug)]
pub struct DataObject<'a> {
    /// The processor.
    pub machine: Machine,
    /// The model's name, which prefixes the symbols.
    pub name: &'a str,
    /// Bytes of each weight with its offset in the section, in order.
    pub weights: Vec<(usize, Cow<'a, [u8]>)>,
    /// Size of the weights section.
    pub weights_bytes: usize,
    /// The encoded model description.
    pub metadata: &'a [u8],
}

impl DataObject<'_> {
    /// Writes the object file.
    pub fn write(&self, out: impl Write) -> Result<()> {
        let names = [
            format!(".rodata.{}_weights", self.name),
            format!(".rodata.{}_metadata", self.name),
            format!("{}_weights", self.name),
            format!("{}_metadata", self.name),
        ];
        let [weights_section, metadata_section, weights_symbol, metadata_symbol] =
            names.each_ref().map(std::string::String::as_bytes);
        let sizes = [self.weights_bytes, self.metadata.len()];
        let aligns = [WEIGHTS_ALIGN, 16];

        let mut buffer = StreamingBuffer::new(out);
        let mut elf = Writer::new(object::Endianness::Little, true, &mut buffer);
        elf.reserve_null_section_index();
        let section_names = [weights_section, metadata_section].map(|n| elf.add_section_name(n));
        let note_name = elf.add_section_name(b".note.GNU-stack");
        let sections: [SectionIndex; 2] = std::array::from_fn(|_| elf.reserve_section_index());
        elf.reserve_section_index();
        elf.reserve_symtab_section_index();
        elf.reserve_strtab_section_index();
        elf.reserve_shstrtab_section_index();
        elf.reserve_null_symbol_index();
        for section in sections {
            elf.reserve_symbol_index(Some(section));
        }
        let symbols = [weights_symbol, metadata_symbol].map(|n| elf.add_string(n));

        elf.reserve_file_header();
        let offsets: [usize; 2] = std::array::from_fn(|i| elf.reserve(sizes[i], aligns[i]));
        elf.reserve_symtab();
        elf.reserve_strtab();
        elf.reserve_shstrtab();
        elf.reserve_section_headers();

        let e_machine = self.machine.elf_code();
        let header = FileHeader { os_abi: 0, abi_version: 0, e_type: elf::ET_REL, e_machine, e_entry: 0, e_flags: 0 };
        elf.write_file_header(&header).map_err(|e| Diagnostic::internal(format!("ELF header: {e}")))?;
        elf.write_align(aligns[0]);
        for (offset, bytes) in &self.weights {
            elf.pad_until(offsets[0] + offset);
            elf.write(bytes);
        }
        elf.pad_until(offsets[0] + sizes[0]);
        elf.write_align(aligns[1]);
        elf.write(self.metadata);
        elf.write_null_symbol();
        for i in 0..2 {
            elf.write_symbol(&Sym {
                name: Some(symbols[i]),
                section: Some(sections[i]),
                st_info: (elf::STB_GLOBAL << 4) | elf::STT_OBJECT,
                st_other: elf::STV_HIDDEN,
                st_shndx: 0,
                st_value: 0,
                st_size: sizes[i] as u64,
            });
        }
        elf.write_strtab();
        elf.write_shstrtab();
        elf.write_null_section_header();
        let section = SectionHeader {
            name: Some(note_name),
            sh_type: elf::SHT_PROGBITS,
            sh_flags: 0,
            sh_addr: 0,
            sh_offset: offsets[0] as u64,
            sh_size: 0,
            sh_link: 0,
            sh_info: 0,
            sh_addralign: 1,
            sh_entsize: 0,
        };
        for i in 0..2 {
            elf.write_section_header(&SectionHeader {
                name: Some(section_names[i]),
                sh_flags: u64::from(elf::SHF_ALLOC),
                sh_offset: offsets[i] as u64,
                sh_size: sizes[i] as u64,
                sh_addralign: aligns[i] as u64,
                ..section.clone()
            });
        }
        // Without this section the linker believes that the code wants an executable stack.
        elf.write_section_header(&section);
        elf.write_symtab_section_header(1);
        elf.write_strtab_section_header();
        elf.write_shstrtab_section_header();
        drop(elf);
        buffer.result().map_err(|e| Diagnostic::user(format!("writing the weights: {e}")))?;
        buffer.into_inner().flush().map_err(|e| Diagnostic::user(format!("writing the weights: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

    #[test]
    fn weights_and_metadata_are_where_the_symbols_say() {
        let data = DataObject {
            machine: Machine::X86_64,
            name: "m",
            weights: vec![(0, Cow::Borrowed(&[1, 2, 3][..])), (64, Cow::Borrowed(&[4][..]))],
            weights_bytes: 65,
            metadata: b"meta",
        };
        let mut bytes = Vec::new();
        data.write(&mut bytes).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let section = file.section_by_name(".rodata.m_weights").unwrap();
        let found = section.data().unwrap();
        assert_eq!((section.align(), found.len()), (64, 65));
        assert_eq!((&found[..3], &found[3..64], found[64]), (&[1u8, 2, 3][..], &[0u8; 61][..], 4));
        assert_eq!(file.section_by_name(".rodata.m_metadata").unwrap().data().unwrap(), b"meta");
        let symbols: Vec<_> = file.symbols().map(|s| (s.name().unwrap().to_owned(), s.size())).collect();
        assert_eq!(symbols, [("m_weights".to_owned(), 65), ("m_metadata".to_owned(), 4)]);
    }

    #[test]
    fn a_model_without_weights_has_an_empty_section() {
        let data =
            DataObject { machine: Machine::Aarch64, name: "m", weights: vec![], weights_bytes: 0, metadata: b"meta" };
        let mut bytes = Vec::new();
        data.write(&mut bytes).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        assert_eq!(file.section_by_name(".rodata.m_weights").unwrap().size(), 0);
        assert_eq!(file.section_by_name(".rodata.m_metadata").unwrap().data().unwrap(), b"meta");
    }
}

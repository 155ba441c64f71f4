//! Makes symbols of a relocatable ELF file local, so that what a static library carries (the runtime, Rust's standard
//! library) cannot collide with another copy in the same program.
//!
//! ELF wants local symbols before global ones, so the symbol table is reordered and the symbol numbers in relocations and
//! section groups follow. Everything else in the file stays byte for byte.

use crate::diag::{Diagnostic, Result};
use object::elf::{self, FileHeader64, SectionHeader64, Sym64};
use object::endian::{LittleEndian as LE, U32, U64};
use object::read::elf::{FileHeader as _, SectionHeader as _};
use object::{Endianness, LittleEndian, pod};
use std::collections::BTreeSet;

/// Makes every defined global symbol local whose name is not in `keep`.
pub(super) fn localise(file: &mut [u8], keep: &BTreeSet<String>) -> Result<()> {
    let bad = |what: &str| Diagnostic::internal(format!("the joined object file has {what}"));
    let sections = {
        let header = FileHeader64::<Endianness>::parse(&*file).map_err(|e| bad(&e.to_string()))?;
        let endian = header.endian().map_err(|e| bad(&e.to_string()))?;
        if endian != Endianness::Little {
            return Err(bad("the wrong byte order"));
        }
        let sections = header.section_headers(endian, &*file).map_err(|e| bad(&e.to_string()))?;
        let place = |s: &SectionHeader64<Endianness>| {
            let range = s.file_range(endian).unwrap_or((0, 0));
            Section {
                ty: s.sh_type(endian),
                link: s.sh_link(endian) as usize,
                begin: usize::try_from(range.0).unwrap_or(usize::MAX),
                end: usize::try_from(range.0.saturating_add(range.1)).unwrap_or(usize::MAX),
            }
        };
        let table = usize::try_from(header.e_shoff(endian)).map_err(|_| bad("no sections"))?;
        (table, sections.iter().map(place).collect::<Vec<_>>())
    };
    let (table, sections) = sections;
    if sections.iter().any(|s| s.begin > s.end || s.end > file.len()) {
        return Err(bad("a section outside it"));
    }
    let Some(symtab) = sections.iter().position(|s| s.ty == elf::SHT_SYMTAB) else { return Ok(()) };
    let names = sections.get(sections[symtab].link).ok_or_else(|| bad("no symbol names"))?;
    let names = file[names.begin..names.end].to_vec();
    if sections.iter().any(|s| s.ty == elf::SHT_SYMTAB_SHNDX) {
        return Err(bad("more than 65 279 sections"));
    }

    let range = sections[symtab].begin..sections[symtab].end;
    let mut symbols: Vec<Sym64<LittleEndian>> =
        pod::slice_from_all_bytes(&file[range.clone()]).map_err(|()| bad("a symbol table of odd size"))?.to_vec();
    for symbol in symbols.iter_mut().skip(1) {
        let start = symbol.st_name.get(LE) as usize;
        let name = names.get(start..).and_then(|n| n.split(|&b| b == 0).next()).unwrap_or_default();
        let is_defined = symbol.st_shndx.get(LE) != elf::SHN_UNDEF;
        if symbol.st_info >> 4 != elf::STB_LOCAL && is_defined {
            let is_kept = std::str::from_utf8(name).is_ok_and(|name| keep.contains(name));
            if is_kept {
                symbol.st_other = (symbol.st_other & !3) | elf::STV_DEFAULT;
            } else {
                symbol.st_info &= 15;
                symbol.st_other &= !3;
            }
        }
    }
    let is_local = |symbol: &Sym64<LittleEndian>| symbol.st_info >> 4 == elf::STB_LOCAL;
    let mut order: Vec<usize> = (0..symbols.len()).collect();
    order.sort_by_key(|&i| !is_local(&symbols[i]));
    let n_locals = symbols.iter().filter(|s| is_local(s)).count();
    let mut new_number = vec![0u32; symbols.len()];
    for (new, &old) in order.iter().enumerate() {
        new_number[old] = u32::try_from(new).map_err(|_| bad("too many symbols"))?;
    }
    let sorted: Vec<_> = order.iter().map(|&i| symbols[i]).collect();
    file[range].copy_from_slice(pod::bytes_of_slice(&sorted));

    let renumber = |old: u32| new_number.get(old as usize).copied();
    for (i, section) in sections.iter().enumerate() {
        let header = table + i * size_of::<SectionHeader64<LittleEndian>>();
        let info = header + 44..header + 48;
        match section.ty {
            elf::SHT_SYMTAB => file[info].copy_from_slice(&(n_locals as u32).to_le_bytes()),
            elf::SHT_GROUP => {
                let field: &mut U32<LittleEndian> =
                    pod::from_bytes_mut(&mut file[info]).map_err(|()| bad("no room"))?.0;
                let new = renumber(field.get(LE)).ok_or_else(|| bad("a group without symbol"))?;
                field.set(LE, new);
            }
            elf::SHT_RELA | elf::SHT_REL if section.link == symtab => {
                let entry = if section.ty == elf::SHT_RELA { 24 } else { 16 };
                for relocation in file[section.begin..section.end].chunks_exact_mut(entry) {
                    let field: &mut U64<LittleEndian> =
                        pod::from_bytes_mut(&mut relocation[8..16]).map_err(|()| bad("no room"))?.0;
                    let old = field.get(LE);
                    let new = renumber((old >> 32) as u32).ok_or_else(|| bad("a relocation without symbol"))?;
                    field.set(LE, u64::from(new) << 32 | old & 0xffff_ffff);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

struct Section {
    ty: u32,
    link: usize,
    begin: usize,
    end: usize,
}

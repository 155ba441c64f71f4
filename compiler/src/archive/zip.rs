//! The zip container: an index of members that is checked as a whole before any member is read.
//!
//! Read from the central directory, which must be consistent with the local headers and with the file: members do not
//! overlap, have one name each, stay inside the file, and names are plain relative paths. Anything else that some reader
//! could see differently (junk around the archive, encrypted members, two members of one name) is refused.
//! Stored members are handed out in place; deflated ones are inflated up to the size that the directory declares, under
//! a budget for the whole container. The CRC-32 of a member is checked when it is read.
//! Source: PKWARE APPNOTE 6.3, sections 4.3 to 4.5.

use super::Fault;
use super::storage::{AlignedBuffer, Bytes};
use crate::diag::{Diagnostic, Result};
use flate2::{Decompress, FlushDecompress, Status};
use indexmap::IndexMap;
use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most members of one container.
const MAX_MEMBERS: u64 = 1 << 20;
/// Deflate cannot do better than 1032:1, so a declared ratio above it is a lie.
const MAX_DEFLATE_RATIO: u64 = 1032;
/// What one container may inflate to in total: this many bytes and [`INFLATED_PER_FILE_BYTE`] for each byte of the file.
const INFLATED_BASE_BYTES: u64 = 256 << 20;
/// See [`INFLATED_BASE_BYTES`]. Weights compress by a few times at most; source text and pickles by tens, but are small.
const INFLATED_PER_FILE_BYTE: u64 = 16;
/// Bytes inflated at a time, so that a short stream behind a large declared size does not cost that size.
const INFLATE_STEP_BYTES: usize = 1 << 20;

const LOCAL_SIGNATURE: u32 = 0x0403_4b50;
const CENTRAL_SIGNATURE: u32 = 0x0201_4b50;
const END_SIGNATURE: u32 = 0x0605_4b50;
const END64_SIGNATURE: u32 = 0x0606_4b50;
const LOCATOR64_SIGNATURE: u32 = 0x0706_4b50;
const LOCAL_BYTES: u64 = 30;
const CENTRAL_BYTES: u64 = 46;
const END_BYTES: u64 = 22;
const END64_BYTES: u64 = 56;
const LOCATOR64_BYTES: u64 = 20;

/// A zip file of members by name, in the order of its directory.
#[derive(Debug)]
pub struct Container {
    bytes: Bytes,
    name: String,
    members: IndexMap<String, Member>,
    /// Bytes that may still be inflated.
    budget: AtomicU64,
}

/// Where a member lies and how. Invariant, checked by [`Container::from_bytes`]: the range is inside the file and shared
/// with no other member.
#[derive(Debug)]
struct Member {
    is_deflated: bool,
    start: u64,
    packed_bytes: u64,
    size_bytes: u64,
    crc: u32,
}

impl Container {
    /// The container in a file, which is memory-mapped.
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_bytes(Bytes::map(path)?, &path.display().to_string())
    }

    /// The container in these bytes; `name` is for messages.
    pub fn from_bytes(bytes: Bytes, name: &str) -> Result<Self> {
        let members = read_directory(bytes.as_ref()).map_err(|what| {
            let message = format!("PytorchStreamReader failed reading zip archive: {what} ({name})");
            let error = Diagnostic::user(message);
            let is_zip = find_end(Fields(bytes.as_ref())).is_ok();
            match recognise(bytes.as_ref()).filter(|_| !is_zip) {
                Some(kind) => error
                    .note(format!("this looks like {kind}"))
                    .help("save the compiled model with `torch.jit.save(torch.jit.script(model), path)`"),
                None => error,
            }
        })?;
        let file = u64::try_from(bytes.as_ref().len()).unwrap_or(u64::MAX);
        let budget = INFLATED_BASE_BYTES.saturating_add(file.saturating_mul(INFLATED_PER_FILE_BYTE));
        Ok(Self { bytes, name: name.to_owned(), members, budget: AtomicU64::new(budget) })
    }

    /// What messages call this container.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Names of all members, in directory order; folders are left out.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// Whether there is a member of this name.
    pub fn contains(&self, member: &str) -> bool {
        self.members.contains_key(member)
    }

    /// The content of a member: in place if it is stored, inflated otherwise. An absent member, a wrong CRC-32 or a
    /// broken or oversized deflate stream is an error of the user's.
    pub fn get(&self, member: &str) -> Result<Bytes> {
        self.read(member, u64::MAX)
    }

    /// [`Container::get`], refusing a member larger than `limit_bytes`.
    pub(super) fn read(&self, member: &str, limit_bytes: u64) -> Result<Bytes> {
        let Some(entry) = self.members.get(member) else {
            return Err(Diagnostic::user(format!(
                "PytorchStreamReader failed locating file {member}: file not found ({})",
                self.name
            )));
        };
        let content = if entry.size_bytes > limit_bytes {
            let have = entry.size_bytes;
            Err(Fault::bad(format!("the member has {have} bytes where at most {limit_bytes} are expected")))
        } else {
            self.unpack(entry)
        };
        content.map_err(|fault| fault.in_member(&self.name, member))
    }

    /// The content of a member that another member's value refers to; the fault does not name the container.
    pub(super) fn content(&self, member: &str) -> std::result::Result<Bytes, Fault> {
        let Some(entry) = self.members.get(member) else {
            return Err(Fault::bad(format!("the member {member} is not found")));
        };
        self.unpack(entry).map_err(|fault| match fault {
            Fault::Bad(what) => Fault::Bad(format!("member {member}: {what}")),
            Fault::Unsupported(what) => Fault::Unsupported(format!("member {member}: {what}")),
        })
    }

    /// Size of a member, if there is one.
    pub(super) fn size_bytes(&self, member: &str) -> Option<u64> {
        self.members.get(member).map(|entry| entry.size_bytes)
    }

    /// Whether reading the member copies it.
    pub(super) fn is_deflated(&self, member: &str) -> bool {
        self.members.get(member).is_some_and(|entry| entry.is_deflated)
    }

    fn unpack(&self, entry: &Member) -> std::result::Result<Bytes, Fault> {
        let end = entry.start.checked_add(entry.packed_bytes);
        let range = end.and_then(|end| Some(usize::try_from(entry.start).ok()?..usize::try_from(end).ok()?));
        let packed = range.and_then(|r| self.bytes.slice(r)).ok_or_else(|| Fault::bad("the member leaves the file"))?;
        let content = if entry.is_deflated {
            let take = |left: u64| left.checked_sub(entry.size_bytes);
            if self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
                return Err(Fault::bad(
                    "the compressed members inflate to far more than the file's size (a zip bomb?)",
                ));
            }
            inflate(packed.as_ref(), entry.size_bytes)?
        } else {
            packed
        };
        let crc = crc32fast::hash(content.as_ref());
        if crc != entry.crc {
            return Err(Fault::bad(format!(
                "the CRC-32 of the content is {crc:08x}, but the archive says {:08x}: the file is damaged",
                entry.crc
            )));
        }
        Ok(content)
    }
}

/// Inflates a raw deflate stream that must give exactly `size_bytes` and end there.
fn inflate(packed: &[u8], size_bytes: u64) -> std::result::Result<Bytes, Fault> {
    let size = usize::try_from(size_bytes).map_err(|_| Fault::bad("the member does not fit in memory"))?;
    let mut out = AlignedBuffer::with_capacity(size);
    let base = out.bytes.len();
    let mut stream = Decompress::new(false);
    // One spare byte shows a stream that goes on after the declared size.
    let mut step = vec![0u8; size.saturating_add(1).min(INFLATE_STEP_BYTES)];
    loop {
        let done = out.bytes.len() - base;
        let (before_in, before_out) = (stream.total_in(), stream.total_out());
        let rest = usize::try_from(before_in).ok().and_then(|at| packed.get(at..)).unwrap_or(&[]);
        let status = stream
            .decompress(rest, &mut step, FlushDecompress::None)
            .map_err(|e| Fault::bad(format!("the compressed data is damaged: {e}")))?;
        let made = usize::try_from(stream.total_out() - before_out).unwrap_or(usize::MAX);
        if made > size - done {
            return Err(Fault::bad(format!("the compressed data goes on after the declared {size_bytes} bytes")));
        }
        out.bytes.extend_from_slice(step.get(..made).unwrap_or(&[]));
        if status == Status::StreamEnd {
            break;
        }
        if made == 0 && stream.total_in() == before_in {
            return Err(Fault::bad("the compressed data is cut short"));
        }
    }
    if out.bytes.len() - base != size {
        return Err(Fault::bad(format!("the compressed data ends before the declared {size_bytes} bytes")));
    }
    Ok(out.finish())
}

/// What a file that is not a zip is, for the message.
fn recognise(bytes: &[u8]) -> Option<&'static str> {
    if bytes.is_empty() {
        Some("an empty file")
    } else if bytes.starts_with(b"PK\x03\x04") {
        Some("a zip archive that is cut short or has other data in it")
    } else if bytes.starts_with(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.") {
        Some("a file of the old `torch.save` (raw pickles): weights or Python objects, not TorchScript")
    } else if bytes.get(4..8) == Some(b"PTMF") {
        Some("a model in the mobile flatbuffer format, which this reader leaves out")
    } else if bytes.get(257..262) == Some(b"ustar") {
        Some("a file of the oldest `torch.save` (a tar archive): weights or Python objects, not TorchScript")
    } else if bytes.starts_with(b"\x80") {
        Some("a Python pickle, not TorchScript")
    } else if bytes.starts_with(b"\x7fELF") {
        Some("a program or a shared library, not TorchScript")
    } else {
        None
    }
}

/// Little-endian fields at offsets of untrusted bytes.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(self, at: u64, n: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(at).ok()?;
        self.0.get(start..start.checked_add(usize::try_from(n).ok()?)?)
    }

    fn u16(self, at: u64) -> Option<u16> {
        Some(u16::from_le_bytes(self.bytes(at, 2)?.try_into().ok()?))
    }

    fn u32(self, at: u64) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes(at, 4)?.try_into().ok()?))
    }

    fn u64(self, at: u64) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes(at, 8)?.try_into().ok()?))
    }
}

/// The end record: where the central directory is.
struct End {
    n_members: u64,
    directory: u64,
    limit: u64,
}

fn read_directory(bytes: &[u8]) -> std::result::Result<IndexMap<String, Member>, String> {
    let file = Fields(bytes);
    let end = find_end(file)?;
    let mut members = IndexMap::new();
    let mut names = HashSet::new();
    let mut extents = Vec::new();
    let mut at = end.directory;
    for _ in 0..end.n_members {
        let (name, local, member, next) = read_entry(file, at, &end)?;
        at = next;
        check_name(&name)?;
        if !names.insert(name.clone()) {
            return Err(format!("two members have the name {name:?}"));
        }
        extents.push((local, member.start + member.packed_bytes, name.clone()));
        if !name.ends_with('/') {
            members.insert(name, member);
        } else if member.size_bytes != 0 {
            return Err(format!("the folder {name:?} has content"));
        }
    }
    if at != end.limit {
        return Err("the central directory does not have the size that the end record says".into());
    }
    extents.sort();
    for pair in extents.windows(2) {
        if let [(_, first_end, first), (second_start, _, second)] = pair
            && first_end > second_start
        {
            return Err(format!("members {first:?} and {second:?} overlap"));
        }
    }
    if extents.first().is_some_and(|(start, ..)| *start != 0) {
        return Err("there is other data before the first member".into());
    }
    if members.is_empty() {
        return Err("the archive has no members".into());
    }
    Ok(members)
}

/// Finds the end record, whose comment must reach exactly to the end of the file.
fn find_end(file: Fields<'_>) -> std::result::Result<End, String> {
    const CORRUPT: &str = "invalid header or archive is corrupted";
    if file.0.is_empty() {
        return Err("not a ZIP archive (the file is empty)".into());
    }
    let length = file.0.len() as u64;
    let last = length.checked_sub(END_BYTES).ok_or("not a ZIP archive")?;
    let first = last.saturating_sub(u64::from(u16::MAX));
    let fits = |at: &u64| {
        file.u32(*at) == Some(END_SIGNATURE)
            && file.u16(at + 20).is_some_and(|comment| at + END_BYTES + u64::from(comment) == length)
    };
    let at = (first..=last).rev().find(fits).ok_or("failed finding central directory")?;
    let field = |n: Option<u16>| n.map(u64::from).ok_or(CORRUPT);
    let (mut n_members, n_here) = (field(file.u16(at + 10))?, field(file.u16(at + 8))?);
    let mut size = u64::from(file.u32(at + 12).ok_or(CORRUPT)?);
    let mut directory = u64::from(file.u32(at + 16).ok_or(CORRUPT)?);
    let disks = (file.u16(at + 4), file.u16(at + 6));
    let mut limit = at;
    let locator = at.checked_sub(LOCATOR64_BYTES).filter(|l| file.u32(*l) == Some(LOCATOR64_SIGNATURE));
    if let Some(locator) = locator {
        let end64 = file.u64(locator + 8).ok_or(CORRUPT)?;
        let is_whole = end64.checked_add(END64_BYTES) == Some(locator) && file.u32(end64) == Some(END64_SIGNATURE);
        if !is_whole || file.u64(end64 + 24) != file.u64(end64 + 32) {
            return Err(CORRUPT.into());
        }
        n_members = file.u64(end64 + 32).ok_or(CORRUPT)?;
        size = file.u64(end64 + 40).ok_or(CORRUPT)?;
        directory = file.u64(end64 + 48).ok_or(CORRUPT)?;
        limit = end64;
    } else if n_members != n_here || disks != (Some(0), Some(0)) {
        return Err("archives of several parts are not read".into());
    }
    if directory.checked_add(size) != Some(limit) {
        return Err("the central directory is not where the end record says".into());
    }
    if n_members > MAX_MEMBERS || n_members > size / CENTRAL_BYTES {
        return Err(format!("the end record claims {n_members} members, more than its directory can hold"));
    }
    Ok(End { n_members, directory, limit })
}

/// Reads the directory entry at `at`: name, offset of the local header, the member, offset of the next entry.
fn read_entry(file: Fields<'_>, at: u64, end: &End) -> std::result::Result<(String, u64, Member, u64), String> {
    const CORRUPT: &str = "invalid header or archive is corrupted";
    let cut = || "the central directory is cut short".to_owned();
    if file.u32(at) != Some(CENTRAL_SIGNATURE) {
        return Err(CORRUPT.into());
    }
    let flags = file.u16(at + 8).ok_or_else(cut)?;
    let method = file.u16(at + 10).ok_or_else(cut)?;
    let crc = file.u32(at + 16).ok_or_else(cut)?;
    let mut packed_bytes = u64::from(file.u32(at + 20).ok_or_else(cut)?);
    let mut size_bytes = u64::from(file.u32(at + 24).ok_or_else(cut)?);
    let [name_bytes, extra_bytes, comment_bytes] =
        [28, 30, 32].map(|field| file.u16(at + field).map_or(u64::from(u16::MAX), u64::from));
    let mut local = u64::from(file.u32(at + 42).ok_or_else(cut)?);
    let next = at + CENTRAL_BYTES + name_bytes + extra_bytes + comment_bytes;
    if next > end.limit {
        return Err(cut());
    }
    let raw_name = file.bytes(at + CENTRAL_BYTES, name_bytes).ok_or_else(cut)?;
    let name = std::str::from_utf8(raw_name)
        .map_err(|_| format!("the member name {:?} is not UTF-8", String::from_utf8_lossy(raw_name)))?
        .to_owned();
    let quoted = shorten(&name);
    let extra = Fields(file.bytes(at + CENTRAL_BYTES + name_bytes, extra_bytes).ok_or_else(cut)?);
    let mut wide = zip64_fields(extra).into_iter();
    for field in [&mut size_bytes, &mut packed_bytes, &mut local] {
        if *field == u64::from(u32::MAX) {
            *field = wide.next().ok_or_else(|| format!("member {quoted} lacks its zip64 sizes"))?;
        }
    }
    if flags & 0x41 != 0 {
        return Err(format!("unsupported encryption: member {quoted} is encrypted"));
    }
    let is_deflated = match method {
        0 => false,
        8 => true,
        other => return Err(format!("unsupported method: member {quoted} has compression method {other}")),
    };
    if !is_deflated && packed_bytes != size_bytes {
        return Err(format!("stored member {quoted} has {packed_bytes} bytes but claims {size_bytes}"));
    }
    if is_deflated && size_bytes > packed_bytes.saturating_mul(MAX_DEFLATE_RATIO) {
        return Err(format!("member {quoted} claims to inflate from {packed_bytes} to {size_bytes} bytes"));
    }
    // The local header says where the data starts; it has to be about the same member.
    let is_same = local < end.directory
        && file.u32(local) == Some(LOCAL_SIGNATURE)
        && file.u16(local + 8) == Some(method)
        && file.u16(local + 26).map(u64::from) == Some(name_bytes)
        && file.bytes(local + LOCAL_BYTES, name_bytes) == Some(raw_name);
    let extra_here = file.u16(local.saturating_add(28)).filter(|_| is_same);
    let extra_here = extra_here.ok_or_else(|| format!("member {quoted} has no local header that matches it"))?;
    let start = local + LOCAL_BYTES + name_bytes + u64::from(extra_here);
    if start.checked_add(packed_bytes).is_none_or(|data_end| data_end > end.directory) {
        return Err(format!("member {quoted} reaches beyond the data of the file"));
    }
    Ok((name, local, Member { is_deflated, start, packed_bytes, size_bytes, crc }, next))
}

/// The 64-bit values of the zip64 extra field, in order.
fn zip64_fields(extra: Fields<'_>) -> Vec<u64> {
    let mut at = 0;
    while let (Some(id), Some(size)) = (extra.u16(at), extra.u16(at + 2)) {
        if id == 1 {
            let size = u64::from(size);
            return (0..size / 8).map_while(|i| extra.u64(at + 4 + 8 * i)).collect();
        }
        at += 4 + u64::from(size);
    }
    Vec::new()
}

/// A name quoted for a message, cut to a readable length.
fn shorten(name: &str) -> String {
    let head: String = name.chars().take(80).collect();
    if head.len() < name.len() { format!("{head:?}...") } else { format!("{head:?}") }
}

/// Refuses names that are not plain relative paths.
fn check_name(name: &str) -> std::result::Result<(), String> {
    let fault = if name.is_empty() {
        "is empty"
    } else if name.contains('\0') {
        "has a NUL byte"
    } else if name.starts_with('/') {
        "is an absolute path"
    } else if name.contains('\\') {
        "has a backslash"
    } else if name.split('/').any(|part| part == "..") {
        "has `..` in it"
    } else {
        return Ok(());
    };
    Err(format!("the member name {} {fault}", shorten(name)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A zip of stored members as a plain writer makes it.
    pub(in crate::archive) fn stored(members: &[(&str, &[u8])]) -> Vec<u8> {
        let (mut out, mut directory) = (Vec::new(), Vec::new());
        for (name, data) in members {
            let local = u32::try_from(out.len()).expect("small");
            let size = u32::try_from(data.len()).expect("small").to_le_bytes();
            let n_name = u16::try_from(name.len()).expect("small").to_le_bytes();
            let crc = crc32fast::hash(data).to_le_bytes();
            let shared = [&[20, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &crc, &size, &size, &n_name, &[0, 0]].concat();
            out.extend([b"PK\x03\x04", &shared[..], name.as_bytes(), data].concat());
            let rest = [&[0; 10][..], &local.to_le_bytes(), name.as_bytes()].concat();
            directory.extend([b"PK\x01\x02\x14\0", &shared[..], &rest].concat());
        }
        let count = u16::try_from(members.len()).expect("small").to_le_bytes();
        let start = u32::try_from(out.len()).expect("small").to_le_bytes();
        let size = u32::try_from(directory.len()).expect("small").to_le_bytes();
        out.extend(directory);
        out.extend([b"PK\x05\x06\0\0\0\0", &count[..], &count, &size, &start, &[0, 0]].concat());
        out
    }

    fn read(bytes: Vec<u8>) -> Result<Container> {
        Container::from_bytes(Bytes::new(bytes), "test.zip")
    }

    #[test]
    fn members_are_read_in_place() {
        let zip = read(stored(&[("m/a", b"alpha"), ("m/", b""), ("m/b", b"")])).expect("valid");
        assert_eq!(zip.names().collect::<Vec<_>>(), ["m/a", "m/b"]);
        assert_eq!(zip.get("m/a").expect("present").as_ref(), b"alpha");
        assert_eq!(zip.get("m/b").expect("present").as_ref(), b"");
        assert!(zip.get("m/c").expect_err("absent").message.contains("file not found"));
    }

    #[test]
    fn names_that_are_no_plain_paths_are_refused() {
        for name in ["", "/etc/x", "m/../x", "..", "m\\x", "m/x\0.py"] {
            let error = read(stored(&[("m/a", b"1"), (name, b"2")])).expect_err(name);
            assert!(error.message.contains("member name"), "{}", error.message);
        }
        assert!(read(stored(&[("m/a", b"1"), ("m/a", b"1")])).is_err());
        assert!(read(stored(&[])).is_err());
    }

    #[test]
    fn any_changed_or_cut_byte_is_an_error_or_the_same_content() {
        let whole = stored(&[("m/a", b"alpha"), ("m/b", b"beta")]);
        for at in 0..whole.len() {
            assert!(read(whole[..at].to_vec()).is_err(), "cut at {at}");
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            if let Ok(zip) = read(bytes) {
                for (name, data) in [("m/a", &b"alpha"[..]), ("m/b", b"beta")] {
                    if let Ok(content) = zip.get(name) {
                        assert_eq!(content.as_ref(), data, "byte {at}");
                    }
                }
            }
        }
    }
}

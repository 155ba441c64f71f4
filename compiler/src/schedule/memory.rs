//! Memory planning: results go straight to the caller's memory, scratch buffers share one arena by their live ranges.
//!
//! A live range runs from the first statement that touches a buffer (or an alias of it) to the last, in textual order; a
//! `While` keeps everything that is touched in it alive from its begin to its end. Two buffers may share bytes if their
//! ranges have no statement in common. Places are chosen for large buffers first, lowest gap that fits.

use super::flat::{physical_len, root};
use crate::diag::{self, Diagnostic};
use crate::index::{Id as _, IndexVec};
use crate::loops::{Arg, Block, BufferClass, BufferId, Dim, Function, Layout, Stmt, touched, walk};

/// Alignment of every buffer in the arena, in bytes.
const ALIGN: usize = 64;

/// Gives class `Output` to buffers that are made in the body and returned once, by the only `Return`, as its last statement.
pub(crate) fn place_results(function: &mut Function) {
    let mut n_returns = 0;
    walk(&function.body, &mut |stmt| n_returns += usize::from(matches!(stmt, Stmt::Return(..))));
    let Some(Stmt::Return(_, args)) = function.body.0.last() else { return };
    if n_returns != 1 {
        return;
    }
    let roots: Vec<Option<BufferId>> = args
        .iter()
        .map(|arg| match arg {
            Arg::Buffer(buffer) => Some(root(function, *buffer)),
            Arg::Scalar(_) => None,
        })
        .collect();
    let mut chosen = Vec::new();
    for (number, arg) in args.iter().enumerate() {
        let Arg::Buffer(id) = arg else { continue };
        let buffer = &function.buffers[*id];
        let is_scratch = matches!(buffer.class, BufferClass::Temp { .. });
        let is_known = buffer.dims.iter().all(|dim| dim.known().is_some());
        let is_once = roots.iter().filter(|&&r| r == Some(*id)).count() == 1;
        if is_scratch && is_known && is_once && buffer.layout == Layout::RowMajor {
            chosen.push((*id, number));
        }
    }
    for (id, number) in chosen {
        function.buffers[id].class = BufferClass::Output(number);
    }
}

/// First and last statement that touches a buffer.
type Ranges = IndexVec<BufferId, Option<(usize, usize)>>;

fn find_ranges(block: &Block, function: &Function, clock: &mut usize, ranges: &mut Ranges) {
    let touch = |buffer: BufferId, at: usize, ranges: &mut Ranges| {
        let range = &mut ranges[root(function, buffer)];
        *range = Some(range.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
    };
    for stmt in &block.0 {
        *clock += 1;
        for buffer in touched(stmt) {
            touch(buffer, *clock, ranges);
        }
        match stmt {
            Stmt::If(_, then_body, else_body) => {
                find_ranges(then_body, function, clock, ranges);
                find_ranges(else_body, function, clock, ranges);
            }
            Stmt::While(_, body) => {
                let begin = *clock;
                find_ranges(body, function, clock, ranges);
                *clock += 1;
                let end = *clock;
                for (first, last) in ranges.iter_mut().flatten() {
                    if *last > begin {
                        *first = (*first).min(begin);
                        *last = end;
                    }
                }
            }
            _ => {}
        }
    }
}

/// Bytes of a buffer in memory.
fn size_bytes(function: &Function, id: BufferId) -> diag::Result<usize> {
    let buffer = &function.buffers[id];
    let dims: Option<Vec<i64>> = buffer.dims.iter().map(|dim: &Dim| dim.known()).collect();
    let size = dims.and_then(|dims| {
        let len = usize::try_from(physical_len(&dims, &buffer.layout)).ok()?;
        len.checked_mul(buffer.dtype.size_bytes())
    });
    size.ok_or_else(|| Diagnostic::internal(format!("scratch buffer {id} ({}) has no known size", buffer.name)))
}

/// Gives every scratch buffer its place in the arena.
pub(crate) fn plan_arena(function: &mut Function) -> diag::Result<()> {
    let mut ranges: Ranges = function.buffers.ids().map(|_| None).collect();
    find_ranges(&function.body, function, &mut 0, &mut ranges);
    let mut wanted = Vec::new();
    for (id, range) in ranges.iter_ids() {
        if let (BufferClass::Temp { .. }, Some(range)) = (function.buffers[id].class, range) {
            wanted.push((id, size_bytes(function, id)?.next_multiple_of(ALIGN), *range));
        }
    }
    wanted.sort_by_key(|&(id, size, _)| (std::cmp::Reverse(size), id.index()));
    // Placed so far: begin, end, live range.
    let mut placed: Vec<(usize, usize, (usize, usize))> = Vec::new();
    let mut arena_bytes = 0;
    for (id, size, range) in wanted {
        let mut busy: Vec<(usize, usize)> = placed
            .iter()
            .filter(|(_, _, other)| other.0 <= range.1 && range.0 <= other.1)
            .map(|&(begin, end, _)| (begin, end))
            .collect();
        busy.sort_unstable();
        let mut offset = 0;
        for (begin, end) in busy {
            if begin >= offset + size {
                break;
            }
            offset = offset.max(end);
        }
        placed.push((offset, offset + size, range));
        arena_bytes = arena_bytes.max(offset + size);
        function.buffers[id].class = BufferClass::Temp { offset: Some(offset) };
    }
    // Buffers that nothing touches still need an address that exists.
    for buffer in function.buffers.iter_mut() {
        if let BufferClass::Temp { offset: offset @ None } = &mut buffer.class {
            *offset = Some(0);
        }
    }
    function.arena_bytes = arena_bytes;
    Ok(())
}

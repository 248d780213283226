//! The sequences, instruction by instruction.
//!
//! Rules for whoever changes them: one block each; the store that arms is the last instruction
//! before `start` (an interrupt between the two would disarm unseen); `limit` is read before `len`
//! (read the other way round, with an owner's whole reign in between, an old `len` would meet a new
//! `limit`); the store that commits is the last inside; no call, no push, no system call inside;
//! inputs are never written, as a restart needs them again; scratch registers are `out`, never
//! `lateout`, which may share a register with an input; no `nomem`, no `pure`. Labels are not of 0
//! and 1 only (they would be binary numbers).

use super::area::{Area, SIGNATURE};
use super::stack::Header;
use core::arch::asm;
use core::mem::offset_of;

/// Where the stack of this CPU is: `base` + id * `stride_bytes`.
#[derive(Copy, Clone)]
pub(super) struct Place {
    pub(super) area: *const Area,
    pub(super) base: *mut u8,
    pub(super) stride_bytes: usize,
}

/// What is outside of the sequence: the descriptor, and the way back behind its signature (the
/// three bytes make one instruction of it, which nobody executes). `.data.rel.ro`, as the loader of
/// a library writes the addresses.
macro_rules! with_descriptor {
    ($($line:literal),+ $(,)?) => {
        concat!(
            $($line, "\n",)+
            ".pushsection .data.rel.ro.gfp_restart, \"aw\", @progbits\n",
            ".balign 32\n",
            "9:\n",
            ".long 0, 0\n",
            ".quad 3b\n",
            ".if {covered}\n",
            ".quad 4b - 3b\n",
            ".else\n",
            ".quad 0\n",
            ".endif\n",
            ".quad 5f\n",
            ".popsection\n",
            ".pushsection .text.gfp_restart, \"ax\", @progbits\n",
            ".byte 0x0f, 0xb9, 0x3d\n",
            ".long {signature}\n",
            "5:\n",
            "jmp 2b\n",
            ".popsection\n",
        )
    };
}
pub(super) use with_descriptor;

/// Takes the last word. Answers (index, limit, word): it was taken if index < limit; the stack was
/// empty if not and the limit is not 0; else it is closed.
///
/// # Safety
/// [INV-RESTART-2] and [INV-RESTART-3]; `ID` is the offset of an id in the area. `COVERED` is 1, or
/// 0 where the caller knows that nothing interrupts.
#[inline(always)]
pub(super) unsafe fn pop<const ID: usize, const COVERED: u8>(place: Place) -> (u32, u32, usize) {
    let (index, limit, word): (u32, u32, usize);
    // SAFETY: [INV-RESTART-3] the header of the id is in the stacks' memory, and index < limit only
    // for words of that stack. [INV-RESTART-2] nothing comes between the loads and the commit.
    unsafe {
        asm!(
            with_descriptor!(
                "2:",
                "lea {at}, [rip + 9f]",
                "mov qword ptr [{area} + {sequence}], {at}",
                "3:",
                "mov {at:e}, dword ptr [{area} + {id}]",
                "imul {at}, {stride}",
                "add {at}, {base}",
                "mov {limit:e}, dword ptr [{at} + {limit_at}]",
                "mov {index:e}, dword ptr [{at} + {len_at}]",
                "sub {index:e}, 1",
                "cmp {index:e}, {limit:e}",
                "jae 4f",
                "mov {word}, qword ptr [{at} + 8 * {index:r} + {words_at}]",
                "mov dword ptr [{at} + {len_at}], {index:e}",
                "4:",
            ),
            area = in(reg) place.area,
            base = in(reg) place.base,
            stride = in(reg) place.stride_bytes,
            at = out(reg) _,
            index = out(reg) index,
            limit = out(reg) limit,
            word = out(reg) word,
            sequence = const Area::SEQUENCE,
            id = const ID,
            len_at = const offset_of!(Header, len),
            limit_at = const offset_of!(Header, limit),
            words_at = const size_of::<Header>(),
            covered = const COVERED,
            signature = const SIGNATURE,
            options(nostack),
        );
    }
    (index, limit, word)
}

/// Adds a word. Answers (len before, limit): it was added if len < limit; the stack was full if not
/// and the limit is not 0; else it is closed. The commit is one instruction, so it may add.
///
/// # Safety
/// As [`pop`].
#[inline(always)]
pub(super) unsafe fn push<const ID: usize, const COVERED: u8>(
    place: Place,
    word: usize,
) -> (u32, u32) {
    let (len, limit): (u32, u32);
    // SAFETY: as in `pop`. The word behind the last is nobody's until the commit.
    unsafe {
        asm!(
            with_descriptor!(
                "2:",
                "lea {at}, [rip + 9f]",
                "mov qword ptr [{area} + {sequence}], {at}",
                "3:",
                "mov {at:e}, dword ptr [{area} + {id}]",
                "imul {at}, {stride}",
                "add {at}, {base}",
                "mov {limit:e}, dword ptr [{at} + {limit_at}]",
                "mov {len:e}, dword ptr [{at} + {len_at}]",
                "cmp {len:e}, {limit:e}",
                "jae 4f",
                "mov qword ptr [{at} + 8 * {len:r} + {words_at}], {word}",
                "add dword ptr [{at} + {len_at}], 1",
                "4:",
            ),
            area = in(reg) place.area,
            base = in(reg) place.base,
            stride = in(reg) place.stride_bytes,
            word = in(reg) word,
            at = out(reg) _,
            len = out(reg) len,
            limit = out(reg) limit,
            sequence = const Area::SEQUENCE,
            id = const ID,
            len_at = const offset_of!(Header, len),
            limit_at = const offset_of!(Header, limit),
            words_at = const size_of::<Header>(),
            covered = const COVERED,
            signature = const SIGNATURE,
            options(nostack),
        );
    }
    (len, limit)
}

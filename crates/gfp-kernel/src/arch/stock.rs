//! The two quick operations on this CPU's stocks as restartable sequences: no section, interrupts
//! stay on.
//!
//! 1. **What keeps others off.** Who else touches this CPU's lists does so in an interrupt, an NMI,
//!    another task, or in this CPU's place, while this CPU is in the handler that gave it away.
//!    Each comes by an entry that sends the sequence back to its start ([INV-KERNEL-9]). So what a
//!    sequence read is still so at its one store that commits, and the CPU whose lists it found is
//!    the one that it is on.
//! 2. **Sections come first.** An NMI may come amid a section, and one that came while the CPU's
//!    place is taken finds others at its lists. Both find the CPU's word `inside` set: the sequence
//!    looks at it first and leaves the matter to the long way, which is refused as nested.
//! 3. **Words of frames.** A put marks the block before it commits, so nobody finds an unmarked
//!    block in a list. If the sequence begins anew and then does not put, the mark is taken back.
//! 4. The rules of `gfp::sync::restart` for sequences hold here. The ways out that do nothing stand
//!    behind the way back, so that the common way has no jump.

use super::percpu::{AREA, INSIDE_AT, OUTSIDE, SHELF};
use core::arch::asm;
use core::sync::atomic::Ordering::Relaxed;
use gfp::sync::restart::{Area, SIGNATURE};
use gfp::sync::stock::{At, KEY, Put, layout};

/// What is outside of a sequence from `3` to `4`: its descriptor, the way back to `2`, and the way
/// out at `7`, which ends at `6` with a zero in `at`.
macro_rules! sequence {
    ($($line:literal),+ $(,)?) => {
        concat!(
            "mov {at}, gs:[{area}]\n",
            "2:\n",
            "lea {n}, [rip + 9f]\n",
            "mov qword ptr [{at} + {armed}], {n}\n",
            "3:\n",
            $($line, "\n",)+
            "6:\n",
            ".pushsection .data.rel.ro.gfp_restart, \"aw\", @progbits\n",
            ".balign 32\n",
            "9:\n",
            ".long 0, 0\n",
            ".quad 3b\n",
            ".quad 4b - 3b\n",
            ".quad 5f\n",
            ".popsection\n",
            ".pushsection .text.gfp_restart, \"ax\", @progbits\n",
            ".byte 0x0f, 0xb9, 0x3d\n",
            ".long {signature}\n",
            "5:\n",
            "mov {at}, gs:[{area}]\n",
            "jmp 2b\n",
            "7:\n",
            "xor {at:e}, {at:e}\n",
            "jmp 6b\n",
            ".popsection\n",
        )
    };
}

/// Takes the newest number of a stock of this CPU.
///
/// # Safety
/// [INV-PCPU-4] `at` is that of a stock.
#[inline(always)]
pub unsafe fn take(at: At) -> Option<u32> {
    let (stock, number): (usize, u64);
    // SAFETY: [INV-PCPU-4] the place is that of a stock in this CPU's shelf. [INV-PCPU-3] its
    // length is at most its limit, for which it has room. [INV-KERNEL-9] nothing comes between.
    unsafe {
        asm!(
            sequence!(
                "cmp dword ptr gs:[{inside}], {outside}",
                "jne 7f",
                "mov {at}, gs:[{shelf}]",
                "test {at}, {at}",
                "je 7f",
                "add {at}, {place}",
                "mov {n:e}, dword ptr [{at} + {put}]",
                "add {n:e}, dword ptr [{at} + {moved}]",
                "sub {n:e}, dword ptr [{at} + {taken}]",
                "je 7f",
                "mov {number}, qword ptr [{at} + {entries}]",
                "mov {number:e}, dword ptr [{number} + 4 * {n} - 4]",
                "inc qword ptr [{at} + {taken}]",
                "4:",
            ),
            place = in(reg) at.bytes() as usize,
            at = out(reg) stock,
            n = out(reg) _,
            number = out(reg) number,
            area = const AREA,
            armed = const Area::SEQUENCE,
            inside = const INSIDE_AT,
            outside = const OUTSIDE,
            shelf = const SHELF,
            put = const layout::PUT,
            moved = const layout::MOVED,
            taken = const layout::TAKEN,
            entries = const layout::ENTRIES,
            signature = const SIGNATURE,
            options(nostack),
        );
    }
    (stock != 0).then_some(number as u32)
}

/// Puts a number to the stock of this CPU that is usual.
///
/// # Safety
/// The word is the caller's.
#[inline(always)]
pub unsafe fn put(put: Put<'_>) -> bool {
    let stock: usize;
    // SAFETY: [INV-KERNEL-9] as in `take`; what is usual is the place of a stock. The word is the
    // caller's.
    unsafe {
        asm!(
            sequence!(
                "cmp dword ptr gs:[{inside}], {outside}",
                "jne 7f",
                "mov {at}, gs:[{shelf}]",
                "test {at}, {at}",
                "je 7f",
                "movzx {n:e}, word ptr [{key}]",
                "and {n:e}, {bits}",
                "cmp {n:x}, word ptr [{at} + 4 * {hint} + {usual}]",
                "jne 7f",
                "movzx {n:e}, word ptr [{at} + 4 * {hint} + {usual} + {usual_at}]",
                "shl {n:e}, {unit}",
                "add {at}, {n}",
                "mov {n:e}, dword ptr [{at} + {put}]",
                "add {n:e}, dword ptr [{at} + {moved}]",
                "sub {n:e}, dword ptr [{at} + {taken}]",
                "cmp {n:e}, dword ptr [{at} + {limit}]",
                "jae 7f",
                "mov {room}, qword ptr [{at} + {entries}]",
                "mov dword ptr [{room} + 4 * {n}], {number:e}",
                "mov qword ptr [{word}], {marked}",
                "inc qword ptr [{at} + {put}]",
                "4:",
            ),
            key = in(reg) put.key.as_ptr(),
            hint = in(reg) put.hint,
            number = in(reg) put.number,
            word = in(reg) put.word.as_ptr(),
            marked = in(reg) put.marked,
            at = out(reg) stock,
            n = out(reg) _,
            room = out(reg) _,
            area = const AREA,
            armed = const Area::SEQUENCE,
            inside = const INSIDE_AT,
            outside = const OUTSIDE,
            shelf = const SHELF,
            bits = const KEY,
            usual = const layout::USUAL,
            usual_at = const layout::USUAL_AT,
            unit = const layout::UNIT_SHIFT,
            put = const layout::PUT,
            moved = const layout::MOVED,
            taken = const layout::TAKEN,
            limit = const layout::LIMIT,
            entries = const layout::ENTRIES,
            signature = const SIGNATURE,
            options(nostack),
        );
    }
    if stock == 0 {
        unmark(put);
    }
    stock != 0
}

/// Takes the mark back that a sequence made before it was interrupted, if it did.
#[inline(always)]
fn unmark(put: Put<'_>) {
    if put.word.load(Relaxed) == put.marked {
        put.word.store(put.unmarked, Relaxed);
    }
}

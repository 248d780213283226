//! One word for each CPU that says who has what belongs to the CPU.

use super::area::{Area, Current, SIGNATURE};
use super::stack::{ByCpu, Cover, Covered, Numbering};
use super::x86_64::{Place, with_descriptor};
use crate::frame::CpuId;
use core::arch::asm;
use core::marker::PhantomData;
use core::mem::offset_of;
use core::num::NonZeroUsize;
use core::ptr::NonNull;
use core::sync::atomic::AtomicUsize;

/// The two words of a CPU. Free: both are 0.
///
/// Who claimed the CPU keeps it wherever he runs from then on, also while he does not run: it is a
/// lock whose taking needs no locked instruction. He gives it back by a store of 0 to `owner`
/// (Release), from any CPU. Who must get at a CPU from outside writes `barred`, restarts the
/// sequences that are under way (`membarrier` in a process), and waits until `owner` is 0.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Claim {
    /// Who has the CPU; 0: nobody. Written by sequences of the CPU while it is 0, else by him.
    pub owner: AtomicUsize,
    /// Not 0: nobody can claim it.
    pub barred: AtomicUsize,
}

/// Words of all CPUs, `stride_bytes` from one [`Claim`] to the next.
///
/// [INV-RESTART-4] For each id there is a [`Claim`], `base` + id * `stride_bytes`, as long as this
/// value; `owner` is changed from 0 in sequences of the CPU with that id only, while `barred` is 0.
pub struct Claims<I: Numbering = ByCpu, C: Cover = Covered> {
    base: NonNull<Claim>,
    stride_bytes: usize,
    _kind: PhantomData<(I, C)>,
}

// SAFETY: [INV-RESTART-4] all that is shared is atomic.
unsafe impl<I: Numbering, C: Cover> Send for Claims<I, C> {}
// SAFETY: as above.
unsafe impl<I: Numbering, C: Cover> Sync for Claims<I, C> {}

impl<I: Numbering, C: Cover> Claims<I, C> {
    /// # Safety
    /// [INV-RESTART-4] holds for as many ids as any [`Current`] that is used with it can have, of
    /// this kind: in a process, compact ids only where the kernel says that it has them. With
    /// [`Exposed`](super::Exposed): nobody interrupts, or the harm is what the caller wants.
    pub const unsafe fn new(base: NonNull<Claim>, stride_bytes: usize) -> Claims<I, C> {
        Claims {
            base,
            stride_bytes,
            _kind: PhantomData,
        }
    }

    /// Makes `owner` the one who has the CPU that this runs on. `None`: somebody has it, perhaps a
    /// task that does not run, or it is barred. From any context that [`Current`] covers; what the
    /// last owner did, and who barred it, is seen.
    #[inline(always)]
    pub fn claim(&self, task: Current<'_>, owner: NonZeroUsize) -> Option<CpuId> {
        let place = Place {
            area: task.area(),
            base: self.base.as_ptr().cast(),
            stride_bytes: self.stride_bytes,
        };
        // SAFETY: [INV-RESTART-2] by `Current`, [INV-RESTART-4] by `new`.
        let (id, taken) = unsafe {
            match (I::ID, C::COVERED) {
                (Area::CPU_ID, 1) => claim::<{ Area::CPU_ID }, 1>(place, owner),
                (Area::CPU_ID, _) => claim::<{ Area::CPU_ID }, 0>(place, owner),
                (_, 1) => claim::<{ Area::MM_CID }, 1>(place, owner),
                (_, _) => claim::<{ Area::MM_CID }, 0>(place, owner),
            }
        };
        (taken == 0).then_some(CpuId(id))
    }
}

/// Writes `owner` if both words are 0. Answers the id, and what was found in the words: 0, or it
/// was not written. The rules are those of `x86_64.rs`.
///
/// Both loads acquire, as every load of x86: they pair with the Release of who gave the CPU back.
///
/// # Safety
/// [INV-RESTART-2] and [INV-RESTART-4]; `ID` is the offset of an id in the area. `COVERED` is 1, or
/// 0 where the caller knows that nothing interrupts.
#[inline(always)]
unsafe fn claim<const ID: usize, const COVERED: u8>(
    place: Place,
    owner: NonZeroUsize,
) -> (u32, usize) {
    let (id, taken): (u32, usize);
    // SAFETY: [INV-RESTART-4] the words of the id are there. [INV-RESTART-2] nothing comes between
    // the loads and the commit.
    unsafe {
        asm!(
            with_descriptor!(
                "2:",
                "lea {at}, [rip + 9f]",
                "mov qword ptr [{area} + {sequence}], {at}",
                "3:",
                "mov {id:e}, dword ptr [{area} + {id_at}]",
                "mov {at:e}, {id:e}",
                "imul {at}, {stride}",
                "add {at}, {base}",
                "mov {taken}, qword ptr [{at} + {owner_at}]",
                "or {taken}, qword ptr [{at} + {barred_at}]",
                "jnz 4f",
                "mov qword ptr [{at} + {owner_at}], {owner}",
                "4:",
            ),
            area = in(reg) place.area,
            base = in(reg) place.base,
            stride = in(reg) place.stride_bytes,
            owner = in(reg) owner.get(),
            at = out(reg) _,
            id = out(reg) id,
            taken = out(reg) taken,
            sequence = const Area::SEQUENCE,
            id_at = const ID,
            owner_at = const offset_of!(Claim, owner),
            barred_at = const offset_of!(Claim, barred),
            covered = const COVERED,
            signature = const SIGNATURE,
            options(nostack),
        );
    }
    (id, taken)
}

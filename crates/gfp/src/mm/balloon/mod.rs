//! The balloon: pages that a hypervisor takes from a machine while it runs, and gives back (P522).
//!
//! 1. **Concept.** Who lends a machine its memory asks for some of it back. The machine allocates
//!    single pages and tells a [`BalloonDevice`] of them: they count as used here, and are used
//!    there. What is given back is freed.
//! 2. **Never at the cost of others.** Requests for pages of a balloon take no reserves, are not
//!    repeated, kill nobody and complain about nothing: an inflation ends where they fail.
//! 3. **Movable.** A balloon is an [owner of pages](crate::page::PageOwner). What has to be free is
//!    made free by telling the device of another page: the content is nobody's, so nothing is
//!    copied.
//! 4. **The set** of the pages is one bit a frame, in memory that is taken when the balloon begins
//!    (single pages, 2 MiB of 64 GiB), so that nothing has to be allocated to give memory back. To
//!    give `n` pages back costs `n` and one look at the words between them, 64 frames each; a
//!    search goes on where the last one ended, or at the page that came last. The pages that go
//!    together stand side by side, and become larger blocks again.
//! 5. **Concurrency.** [INV-BALLOON-1] Who takes the bit of a page away has the page, alone, until
//!    he sets the bit again or frees the page. To give back takes bits away, and so does a move: of
//!    the two one comes first, and the other one finds no bit. A page that is given back while
//!    somebody holds it is freed by the holder ([`frame::movable`](crate::frame)). To isolate takes
//!    nothing away: who asked may never say more, as when the owner of another page panics. So the
//!    device hears of a page by one task at a time.
//! 6. **The end.** A balloon lives as long as the closure that uses it ([`Mm::with_balloon`]): no
//!    safe program can forget it while the machine would still call it. At the end it gives all
//!    back; pages that are just being moved it waits for.
//! 7. **What it does not do.** The machine does not become smaller: `MemTotal` and the watermarks
//!    stay. Nobody tells how large the balloon should be; its driver does.

mod core;
mod counts;
mod device;
mod set;

use self::core::{Batch, Core, Fate};
use super::Mm;
use crate::flags::{GFP_HIGHUSER_MOVABLE, GFP_KERNEL, Gfp};
use crate::frame::{PAGE_SIZE, Pfn};
use crate::page::{OwnerId, PageOwner, PageOwnerError};
use crate::platform::Platform;
use crate::policy::reclaim::shrink::Settings;
use crate::reclaim::{Shrinker, ShrinkerId};
use crate::sync::atomic::AtomicU64;
use ::core::mem::{forget, transmute};
use ::core::ptr::NonNull;
use ::core::slice;
use set::{FrameSet, WORD};

pub(super) use counts::BalloonCounts;
pub use device::{BalloonDevice, BalloonError, UnderPressure};

/// Pages that a device is told of at once.
const BATCH: usize = 64;

/// How pages are asked for: for anybody's use, where they can be moved; with little effort.
const BALLOON_GFP: Gfp = GFP_HIGHUSER_MOVABLE
    .with(Gfp::NOMEMALLOC)
    .with(Gfp::NORETRY)
    .with(Gfp::NOWARN);

/// A balloon of a machine: [`Mm::with_balloon`].
pub struct Balloon<'b, P: Platform> {
    core: &'b Core<'b, P>,
    owner: OwnerId,
    shrinker: Option<ShrinkerId>,
}

impl<P: Platform> Mm<P> {
    /// Runs `work` with a balloon: memory that `device` can use instead of this machine
    /// (`balloon_devinfo_init`, `balloon_page_alloc`, `balloon_page_dequeue`; P522). Nothing is in
    /// it at first. When `work` ends, all of it is given back. A machine may have several.
    ///
    /// The balloon may be used by several tasks at once. In the child of a fork that came in the
    /// middle of this, another task's balloon keeps its pages: let it use no memory of that task.
    ///
    /// Context: a task that may sleep, outside of the allocator.
    ///
    /// # Errors
    /// [`BalloonError`]: no memory for the set of its pages (one bit a frame of the machine, and of
    /// what may be plugged in), or too many owners of pages.
    ///
    /// ```
    /// use gfp::frame::Pfn;
    /// use gfp::mm::{BalloonDevice, UnderPressure};
    /// use gfp::page::Migrated;
    /// # use gfp::frame::{NodeId, PhysAddr};
    /// # use gfp::page::{BootConfig, MemoryRegion, RegionKind};
    /// # use gfp::platform::{DirectMap, SingleCore};
    /// # use gfp::Mm;
    /// # let layout = std::alloc::Layout::from_size_align(16 << 20, 4 << 20)?;
    /// # let ram = unsafe { std::alloc::alloc(layout) };
    /// # let map = [MemoryRegion {
    /// #     start: PhysAddr(0),
    /// #     end: PhysAddr(16 << 20),
    /// #     node: NodeId(0),
    /// #     kind: RegionKind::Usable,
    /// # }];
    /// # // SAFETY: the RAM is ours, and one thread uses the machine.
    /// # let platform = unsafe { SingleCore::new(DirectMap::new(ram, PhysAddr(0))) };
    /// # let mm = Mm::boot(platform, &map, &BootConfig::default())?;
    ///
    /// struct Hypervisor;
    ///
    /// impl BalloonDevice for Hypervisor {
    ///     fn inflate(&self, pages: &[Pfn]) { /* a queue tells the host */ }
    ///     fn deflate(&self, pages: &[Pfn]) { /* another one, which waits for its answer */ }
    ///     fn migrate(&self, from: Pfn, to: Pfn) -> Migrated {
    ///         self.inflate(&[to]);
    ///         self.deflate(&[from]);
    ///         Migrated::Done
    ///     }
    /// }
    ///
    /// mm.with_balloon(&Hypervisor, UnderPressure::Keep, |balloon| {
    ///     assert_eq!(balloon.inflate(1000), 1000);
    ///     assert_eq!(balloon.deflate(200), 200);
    ///     assert_eq!(balloon.pages(), 800);
    /// })?;
    /// # drop(mm);
    /// # unsafe { std::alloc::dealloc(ram, layout) };
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_balloon<R>(
        &self,
        device: &dyn BalloonDevice,
        pressure: UnderPressure,
        work: impl FnOnce(&Balloon<'_, P>) -> R,
    ) -> Result<R, BalloonError> {
        let bits = Bits::take(self)?;
        let core = Core::new(self, device, FrameSet::new(bits.chunks()));
        let balloon = Balloon::register(&core, pressure)?;
        Ok(work(&balloon))
    }
}

impl<'b, P: Platform> Balloon<'b, P> {
    /// Pages that the device is told of at once, at most.
    pub const BATCH: usize = BATCH;

    fn register(core: &'b Core<'b, P>, pressure: UnderPressure) -> Result<Self, BalloonError> {
        let owner: NonNull<dyn PageOwner + '_> = NonNull::from(core);
        // SAFETY: only a lifetime changes, and the next step says until when it lives.
        let owner =
            unsafe { transmute::<NonNull<dyn PageOwner + '_>, NonNull<dyn PageOwner>>(owner) };
        // SAFETY: [INV-BALLOON-2] the core lives longer than this balloon, whose drop unregisters.
        let owner = unsafe { core.mm.register_page_owner_for(owner) }?;
        let mut balloon = Balloon {
            core,
            owner,
            shrinker: None,
        };
        if pressure == UnderPressure::Deflate {
            let shrinker: NonNull<dyn Shrinker + '_> = NonNull::from(core);
            // SAFETY: as above.
            let shrinker =
                unsafe { transmute::<NonNull<dyn Shrinker + '_>, NonNull<dyn Shrinker>>(shrinker) };
            let settings = Settings::default();
            // SAFETY: [INV-BALLOON-2] as above.
            let id = unsafe { core.mm.register_shrinker_for(shrinker, settings) }?;
            balloon.shrinker = Some(id);
        }
        Ok(balloon)
    }

    /// Pages in the balloon. Stale when this returns, if others use it.
    pub fn pages(&self) -> usize {
        self.core.pages()
    }

    /// Takes pages from the machine and tells the device of them. Returns how many: less than asked
    /// for when requests fail that take no reserves and kill nobody.
    ///
    /// Context: a task that may reclaim and sleep.
    pub fn inflate(&self, pages: usize) -> usize {
        let mut done = 0;
        while done < pages {
            let most = BATCH.min(pages - done);
            let mut batch = Batch::new(self.core, Fate::Freed);
            while batch.pages().len() < most {
                match self.take_page() {
                    Some(page) => batch.push(page),
                    None => break,
                }
            }
            let got = batch.pages().len();
            if got != 0 {
                // Whatever comes of it, the device may have them from now on.
                batch.fate = Fate::Kept;
                batch.pages().iter().for_each(|page| self.core.came(*page));
                self.core.device.inflate(batch.pages());
            }
            done += got;
            if got < most {
                break;
            }
        }
        done
    }

    /// Gives pages back to the machine, after the device has. Returns how many: less than asked for
    /// if no more are in the balloon, but for those that are just being moved.
    ///
    /// Allocates nothing. Context: a task, in which the device may be told.
    pub fn deflate(&self, pages: usize) -> usize {
        self.core.deflate(pages)
    }

    /// A page that has the balloon as its owner, in no batch and not in the set.
    fn take_page(&self) -> Option<Pfn> {
        let mm = self.core.mm;
        let page = mm.alloc_pages(BALLOON_GFP, 0).ok()?;
        if mm.set_page_owner(page, self.owner).is_ok() {
            return Some(page);
        }
        // Somebody who guessed its number has a reference of it, too.
        // SAFETY: ours, and unused.
        unsafe { mm.free_frames(page, 0) };
        None
    }
}

impl<P: Platform> Drop for Balloon<'_, P> {
    fn drop(&mut self) {
        let last = NoWayBack;
        let mm = self.core.mm;
        if let Some(id) = self.shrinker.take() {
            mm.unregister_shrinker(id);
        }
        self.core.deflate_all();
        let mut spins = 0u32;
        // Who moved a page away has the old one for a moment longer.
        while let Err(PageOwnerError::HasPages { .. }) = mm.unregister_page_owner(self.owner) {
            mm.platform().relax(spins);
            spins = spins.saturating_add(1);
        }
        forget(last);
    }
}

/// Aborts when it is dropped by a panic: the machine calls what would be gone.
struct NoWayBack;

impl Drop for NoWayBack {
    fn drop(&mut self) {
        panic!("the device of a balloon panicked while that ended"); // the second: aborts
    }
}

/// A page of bits: those of 128 MiB.
const CHUNK: usize = PAGE_SIZE / size_of::<AtomicU64>();

/// The memory of a set: a bit for each frame that the machine may have, in single pages.
struct Bits<'m, P: Platform> {
    mm: &'m Mm<P>,
    /// Room for `room` references, of which `len` are written.
    chunks: NonNull<&'m [AtomicU64; CHUNK]>,
    room: usize,
    len: usize,
}

impl<'m, P: Platform> Bits<'m, P> {
    fn take(mm: &'m Mm<P>) -> Result<Bits<'m, P>, BalloonError> {
        let room = mm.pages().frames().len().div_ceil(WORD * CHUNK).max(1);
        let chunks = mm.alloc_pages_exact(room * size_of::<usize>(), GFP_KERNEL)?;
        let mut bits = Bits {
            mm,
            chunks: chunks.cast(),
            room,
            len: 0,
        };
        while bits.len < room {
            let chunk = mm.get_zeroed_page(GFP_KERNEL)?.cast();
            // SAFETY: a page of zeroes, which is ours until `bits` is dropped; the place is inside
            // of the room.
            unsafe { bits.chunks.add(bits.len).write(chunk.as_ref()) };
            bits.len += 1;
        }
        Ok(bits)
    }

    fn chunks(&self) -> &[&[AtomicU64; CHUNK]] {
        // SAFETY: ours until this is dropped, and so many are written.
        unsafe { slice::from_raw_parts(self.chunks.as_ptr(), self.len) }
    }
}

impl<P: Platform> Drop for Bits<'_, P> {
    fn drop(&mut self) {
        for at in 0..self.len {
            // SAFETY: written; allocated as one page each. Who borrowed from this is gone.
            unsafe {
                let chunk = self.chunks.add(at).cast::<*mut u8>().read();
                self.mm.free_pages(chunk, 0);
            }
        }
        let bytes = self.room * size_of::<usize>();
        // SAFETY: allocated for this, with this size.
        unsafe { self.mm.free_pages_exact(self.chunks.as_ptr().cast(), bytes) };
    }
}

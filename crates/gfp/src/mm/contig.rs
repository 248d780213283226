//! Certain frames, many side by side, and memory that goes.

use super::Mm;
use crate::flags::{GFP_KERNEL, Gfp};
use crate::frame::{NodeId, Pfn, PhysAddr};
use crate::page::{ContigError, IsolateMode, MemoryAnswer, MemoryEvent};
use crate::page::{RemoveMemoryError, RemovedMemory};
use crate::platform::Platform;
use crate::pool::contig;
use crate::report::Caller;
use core::ops::Range;

impl<P: Platform> Mm<P> {
    /// Exactly the frames of a range (`alloc_contig_range`; P500-P502). What is in use in it is
    /// moved elsewhere by its owner ([`Mm::set_page_owner`]); what has none makes the range busy.
    ///
    /// The result is single pages with one reference each, or with `COMP` one compound block. Free
    /// with [`Mm::free_contig_range`]. Allowed are `IO`, `FS`, the reclaim bits, `COMP`,
    /// `RETRY_MAYFAIL`, `NOWARN` and `ZERO`; placement bits are ignored (P58).
    ///
    /// Context: a task, outside of the allocator; waits for other CPUs to leave it, and for owners.
    ///
    /// # Errors
    /// [`ContigError`]: why not. All is as before then, but for pages that were moved.
    #[track_caller]
    pub fn alloc_contig_range(&self, range: Range<Pfn>, gfp: Gfp) -> Result<(), ContigError> {
        self.enters(gfp);
        contig::alloc_range(self.slabs(), range, gfp, IsolateMode::Other)
    }

    /// So many frames side by side, from a multiple of their number on (`alloc_contig_pages`;
    /// P503): the first window of the zones that the request may use, its node first, that is free
    /// or can be emptied. Otherwise as [`Mm::alloc_contig_range`]. Returns the first frame.
    ///
    /// Context: as there. No fast path: it looks at every frame of a zone.
    ///
    /// # Errors
    /// [`ContigError`], also [`ContigError::NoWindow`].
    #[track_caller]
    pub fn alloc_contig_pages(
        &self,
        pages: usize,
        gfp: Gfp,
        node: Option<NodeId>,
    ) -> Result<Pfn, ContigError> {
        self.enters(gfp);
        contig::alloc_pages(self.slabs(), pages, gfp, node)
    }

    /// Frees pages that [`Mm::alloc_contig_range`] or [`Mm::alloc_contig_pages`] gave without
    /// `COMP`, all or some of them (`free_contig_range`; P504). What was given with `COMP` is freed
    /// as one block by [`Mm::free_frames`]. Misuse is reported; the pages beside it are freed.
    ///
    /// Context: any; inside the allocator the free is put off.
    ///
    /// # Safety
    /// Nobody may use the pages any more.
    #[track_caller]
    pub unsafe fn free_contig_range(&self, first: Pfn, pages: usize) {
        // SAFETY: promised by the caller.
        let result = unsafe { self.pages().free_exact(first, pages) };
        self.freed(
            result,
            self.page_address(first).addr().get(),
            Caller::here(),
        );
    }

    /// Takes memory out of the running machine that was plugged in ([`Mm::add_memory`]): whole
    /// memory blocks of one zone (`offline_pages` and `remove_memory`; P514, P517). What is in use
    /// in it is moved elsewhere by its owner. When this returns `Ok` the machine does not touch it
    /// any more; it may be plugged in again.
    ///
    /// `listen` is told when it begins, and may refuse, and how it ended (P518). It may free pages;
    /// it must not remove or add memory.
    ///
    /// Context: a task, outside of the allocator; waits for other CPUs to leave it, and for owners.
    ///
    /// # Errors
    /// [`RemoveMemoryError`]: why not. All is as before then, but for pages that were moved.
    #[track_caller]
    pub fn remove_memory(
        &self,
        start: PhysAddr,
        end: PhysAddr,
        listen: &mut dyn FnMut(MemoryEvent) -> MemoryAnswer,
    ) -> Result<RemovedMemory, RemoveMemoryError> {
        self.enters(GFP_KERNEL);
        contig::remove_memory(self.slabs(), start, end, listen)
    }
}

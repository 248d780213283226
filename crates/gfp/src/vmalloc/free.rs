//! Taking an area apart, and the flush before its addresses are used again.

use super::Vmalloc;
use super::area::Area;
use super::areas::{Found, Space};
use super::postponed::Postponed;
use crate::error::AllocError;
use crate::frame::{PAGE_SHIFT, PAGE_SIZE};
use crate::platform::{Context, Nested, Paging};
use crate::report::{Caller, Misuse, Owner, Report};
use crate::sync::Local;

/// Pages of addresses that may wait for a flush, for each doubling of the CPUs: 32 MiB (V17).
const LAZY_PAGES: usize = (32 << 20) >> PAGE_SHIFT;

/// Who takes an area apart.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum When {
    /// The caller.
    Now,
    /// The next call from a task.
    Later,
}

impl<P: Paging> Vmalloc<P> {
    /// `vfree`: frees an area; null is nothing to do (V10).
    ///
    /// Context: any. In an interrupt, and inside the allocator, the work is left to the next
    /// vmalloc or vfree of a task; a misuse found only then is reported there with this `caller`.
    ///
    /// # Errors
    /// The misuse; nothing is freed then. An area that waits for its flush still knows that it was
    /// freed; after that a second free is a [`Misuse::WildFree`].
    ///
    /// # Safety
    /// Nobody may use the area any more.
    pub unsafe fn vfree(&self, ptr: *mut u8, caller: Caller) -> Result<(), Misuse> {
        let addr = ptr.addr();
        if addr == 0 {
            return Ok(());
        }
        if !self.is_vmalloc_addr(addr) {
            return Err(Misuse::WildFree);
        }
        let when = match self.platform().context() {
            Context::Task | Context::Atomic => When::Now,
            Context::SoftIrq | Context::HardIrq | Context::Nmi => When::Later,
        };
        match self.give_up(addr, when, caller) {
            Ok(Ok(found)) if when == When::Now => {
                self.purge_if_many(found.pages);
                self.dismantle(&found);
                let finished = self.finish_postponed();
                debug_assert!(finished.is_ok(), "we were inside a moment ago");
                Ok(())
            }
            Ok(result) => result.map(|_| ()),
            Err(Nested) if !addr.is_multiple_of(PAGE_SIZE) => Err(Misuse::InteriorFree),
            Err(Nested) => {
                // SAFETY: mapped memory that the caller gave up; its start is aligned.
                unsafe { self.postponed.write_down(ptr, caller) };
                Ok(())
            }
        }
    }

    /// Takes an area from its user; with [`When::Now`] the caller must dismantle it.
    fn give_up(
        &self,
        addr: usize,
        when: When,
        caller: Caller,
    ) -> Result<Result<Found, Misuse>, Nested> {
        self.with_space(|space| {
            let found = space.exact(addr)?;
            space.begin_free(found.node, caller);
            if when == When::Later {
                space.postpone(found.node);
            }
            Ok(found)
        })
    }

    /// Frees the area that an array of frames lives in.
    pub(super) fn free_array_area(&self, area: &Area) {
        match self.give_up(area.frames.addr(), When::Now, area.caller) {
            Ok(Ok(found)) => self.dismantle(&found),
            result => debug_assert!(false, "an array is an area of ours: {result:?}"),
        }
    }

    /// Unmaps an area that was given up, and returns its memory. Its addresses wait (V17).
    fn dismantle(&self, found: &Found) {
        let area = found.area;
        // SAFETY: [INV-VM-2] `publish` came after `map`; the area was given up and is ours now.
        unsafe { self.platform().unmap(self.ptr_at(found.start), area.pages) };
        self.release_frames(&area, 0..area.pages);
        self.free_array(&area);
        let retired = self.with_space(|space| space.retire(found.node));
        debug_assert!(retired.is_ok(), "we were inside a moment ago");
    }

    /// Does what frees in other contexts left to do.
    ///
    /// # Errors
    /// [`Nested`]: not from here.
    pub(super) fn finish_postponed(&self) -> Result<(), Nested> {
        if self.postponed.any() {
            // Before anything is taken: what a nested call took, it could not free.
            drop(Local::enter(self.platform())?);
            if self.postponed.take_any() {
                self.finish_written_down()?;
            }
        }
        while let Some(found) = self.with_space(|space| space.take_postponed())? {
            self.dismantle(&found);
        }
        Ok(())
    }

    /// Frees all that was written down.
    #[cold]
    fn finish_written_down(&self) -> Result<(), Nested> {
        while let Some((addr, caller)) = self.postponed.take_slot() {
            self.finish(addr, caller)?;
        }
        let mut ptr = self.postponed.take_stack();
        while !ptr.is_null() {
            // SAFETY: it is on the stack that we took, and is freed in the next line.
            let next = unsafe { Postponed::below(ptr) };
            self.finish(ptr.addr(), Caller::Address(0))?;
            ptr = next;
        }
        Ok(())
    }

    /// Frees one area that was written down; a misuse is reported here, since the caller has gone.
    fn finish(&self, addr: usize, caller: Caller) -> Result<(), Nested> {
        match self.give_up(addr, When::Now, caller)? {
            Ok(found) => self.dismantle(&found),
            Err(misuse) => {
                let owner = self.describe(addr).unwrap_or(Owner::Unmanaged);
                self.pages().complain(&Report {
                    misuse,
                    addr,
                    owner,
                    caller,
                });
            }
        }
        Ok(())
    }

    /// Purges if too many addresses wait when `pages` more are added. Before they are, so that the
    /// area freed last is always remembered, and a second free of it told as such.
    fn purge_if_many(&self, pages: usize) {
        let cpus = self.platform().nr_cpus_running().max(1);
        let limit = (cpus.ilog2() as usize + 1) * LAZY_PAGES;
        let many = self.with_space(|space| {
            // A small window must not be used up by what waits.
            let limit = limit.min(space.window_pages() / 8);
            space.lazy_pages() > 0 && space.lazy_pages() + pages > limit
        });
        if many == Ok(true) && self.platform().context() == Context::Task {
            self.purge();
        }
    }

    /// Flushes all addresses that wait for it, and makes them free (V17, V18): `vm_unmap_aliases`.
    /// Returns the pages of addresses that came back.
    ///
    /// Context: a task. One purge runs at a time; a second one has nothing to do.
    pub fn purge(&self) -> usize {
        if self.platform().unmap_flushes() {
            // In one step, so that a fork never finds a purge under way that nobody ends.
            let all = |space: &mut Space| {
                let list = space.take_lazy();
                space.recycle(list)
            };
            return self.with_space(all).unwrap_or(0);
        }
        let Ok(list) = self.with_space(|space| space.take_lazy()) else {
            return 0;
        };
        let mut cursor = list;
        // Ranges, not the whole span between them: what lies there may be in heavy use.
        let mut stretches = core::iter::from_fn(|| {
            let next = self.with_space(|space| space.walk(&mut cursor));
            next.ok()?.map(|(start, pages)| (self.ptr_at(start), pages))
        });
        if !list.is_empty() {
            self.platform().flush_ranges(&mut stretches);
        }
        self.with_space(|space| space.recycle(list)).unwrap_or(0)
    }

    /// `vm_unmap_aliases`: after it no CPU remembers a mapping of freed addresses.
    ///
    /// # Errors
    /// [`AllocError::Nested`]: not from here.
    pub fn vm_unmap_aliases(&self) -> Result<usize, AllocError> {
        self.finish_postponed()?;
        Ok(self.purge())
    }
}

//! Looking at areas: whose an address is, which frame is behind it, all areas, and the full check.

use super::Vmalloc;
use super::area::{AddressUse, Area, AreaOwner, AreaView, FreedArea, VmallocCounters};
use super::areas::{Found, Space};
use super::tree::State;
use crate::frame::{FrameKind, MAX_NODES, PAGE_SHIFT, Pfn};
use crate::page::VerifyError;
use crate::platform::{Nested, Platform};
use crate::report::Owner;
use crate::sync::atomic::Ordering::Relaxed;

impl<P: Platform> Vmalloc<P> {
    /// What is in use now. All zero inside the allocator.
    pub fn vmalloc_counters(&self) -> VmallocCounters {
        let counters = self
            .with_space(|space| space.counters())
            .unwrap_or_default();
        VmallocCounters {
            table_pages: self.table_pages.load(Relaxed),
            ..counters
        }
    }

    /// The area in use that holds an address, its guard page included.
    fn busy(space: &Space, addr: usize) -> Option<Found> {
        space.find(addr).filter(|found| found.state == State::Busy)
    }

    /// Whose an address of the window is; `None` outside of it, and inside the allocator.
    ///
    /// The guard page counts as its area's, so that an overrun is told with its owner; an area that
    /// was freed is told while it is remembered.
    pub fn describe(&self, addr: usize) -> Option<Owner<'static>> {
        let what = self
            .with_space(|space| space.find(addr).map(|_| space.address_use(addr)))
            .ok()??;
        Some(match what {
            AddressUse::Mapped(AreaOwner { start, size, .. })
            | AddressUse::Guard(AreaOwner { start, size, .. }) => Owner::Area { start, size },
            AddressUse::Freed(FreedArea { owner, .. }) => Owner::FreedArea {
                start: owner.start,
                size: owner.size,
            },
            AddressUse::Changing | AddressUse::Nothing => Owner::Unmanaged,
        })
    }

    /// What an address is used for: what a handler of page faults asks. Guard pages and freed areas
    /// are told with their owners. Takes the lock of the address space for O(log n) steps.
    ///
    /// Context: any.
    ///
    /// # Errors
    /// [`Nested`] if this CPU is inside the allocator.
    pub fn address_use(&self, addr: usize) -> Result<AddressUse, Nested> {
        self.with_space(|space| space.address_use(addr))
    }

    /// The area that holds an address (V12).
    pub fn find_vm_area(&self, addr: usize) -> Option<AreaView> {
        let view = |space: &mut Space| Self::busy(space, addr).map(|found| self.view(&found));
        self.with_space(view).ok()?
    }

    /// `vmalloc_to_pfn`: the frame behind an address; `None` if none is mapped there (V12).
    pub fn vmalloc_to_pfn(&self, addr: usize) -> Option<Pfn> {
        let frame = |space: &mut Space| {
            let found = Self::busy(space, addr)?;
            let index = (addr - found.start) >> PAGE_SHIFT;
            (index < found.area.pages).then(|| self.frame(&found.area, index))
        };
        self.with_space(frame).ok()?
    }

    /// The bytes that were asked for with the area that starts at `addr`.
    pub fn vmalloc_size(&self, addr: usize) -> Option<usize> {
        let found = self.with_space(|space| space.exact(addr)).ok()?;
        found.ok().map(|found| found.area.size)
    }

    /// Shows each area to `show` in the order of addresses, those freed and not flushed included
    /// (V28). Areas that come and go meanwhile may be missed; `show` may allocate.
    ///
    /// # Errors
    /// [`Nested`]: not from here.
    pub fn for_each_area(&self, show: &mut dyn FnMut(&AreaView)) -> Result<(), Nested> {
        let mut cursor = 0;
        loop {
            let view = self.with_space(|space| {
                while let Some(found) = space.at_or_after(cursor) {
                    cursor = found.start + (found.pages << PAGE_SHIFT);
                    match found.state {
                        State::Busy | State::Lazy | State::Flushing => {
                            return Some(self.view(&found));
                        }
                        // V19: what is being built is not shown.
                        State::Free | State::Building | State::Freeing => {}
                    }
                }
                None
            })?;
            match view {
                Some(view) => show(&view),
                None => return Ok(()),
            }
        }
    }

    /// The frame of page `index`.
    pub(super) fn frame(&self, area: &Area, index: usize) -> Pfn {
        debug_assert!(index < area.pages);
        // SAFETY: [INV-VM-3] the array has `area.pages` entries, all filled before it was
        // published, and lives as long as the area.
        let frame = unsafe { area.frames.add(index).read() };
        self.pages().frames().base().add(frame as usize)
    }

    fn view(&self, found: &Found) -> AreaView {
        let area = found.area;
        let mut node_pages = [0; MAX_NODES];
        for index in 0..area.pages {
            node_pages[self.pages().node_of(self.frame(&area, index)).0 as usize] += 1;
        }
        AreaView {
            start: found.start,
            size: found.pages << PAGE_SHIFT,
            requested_size: area.size,
            pages: area.pages,
            caller: area.caller,
            flags: area.flags,
            live: found.state == State::Busy,
            node_pages,
        }
    }

    /// Checks the tree, its states and counts, and that every frame of every area is marked as the
    /// page that it is (so that none is in two areas). Slow; nothing else may run on this machine
    /// meanwhile.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn verify(&self) -> Result<(), VerifyError> {
        let wrong = |rule, at, found, expected| VerifyError {
            rule,
            at,
            found,
            expected,
        };
        let checked = self.with_space(|space| {
            space.verify().map_err(|rule| wrong(rule, 0, 0, 0))?;
            let window = space.window_start();
            let mut cursor = window;
            while let Some(found) = space.at_or_after(cursor) {
                cursor = found.start + (found.pages << PAGE_SHIFT);
                if found.state != State::Busy {
                    continue;
                }
                for index in 0..found.area.pages {
                    let pfn = self.frame(&found.area, index);
                    let word = self.pages().frames().get(pfn);
                    let page = ((found.start - window) >> PAGE_SHIFT) + index;
                    if !word.is(FrameKind::Vmalloc) || word.payload() != page as u64 {
                        let says = word.payload() as usize;
                        return Err(wrong("a frame is of one area", pfn.0, says, page));
                    }
                }
            }
            Ok(())
        });
        checked.unwrap_or(Err(wrong("verify runs outside of the allocator", 0, 1, 0)))
    }
}

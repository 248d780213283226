//! The address space: which addresses are free, in use, or freed and not flushed yet.

use super::area::{AddressUse, AreaOwner, FreedArea};
use super::area::{Area, VmallocCounters};
use super::recent::{RECENT, Recent};
use super::tree::{Link, NodeRef, Ranges, State};
use crate::frame::{PAGE_SHIFT, PAGE_SIZE};
use crate::report::{Caller, Misuse};
use core::ptr::NonNull;

/// Why no range could be taken.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum CarveError {
    /// The pool needs another page of nodes; give one and try again.
    NeedNodes,
    /// No free range is large enough. `flushing`: one may be when a flush that is under way ends.
    Full { flushing: bool },
}

/// What stands at an address.
#[derive(Copy, Clone, Debug)]
pub(super) struct Found {
    pub(super) node: NodeRef,
    pub(super) start: usize,
    /// Pages of addresses, guard included.
    pub(super) pages: usize,
    pub(super) state: State,
    pub(super) area: Area,
}

impl Found {
    pub(super) fn owner(&self) -> AreaOwner {
        AreaOwner {
            start: self.start,
            size: self.area.size,
            caller: self.area.caller,
        }
    }

    /// What it was, if it is freed.
    pub(super) fn freed(&self) -> Option<FreedArea> {
        self.area.freed_by.map(|freed_by| FreedArea {
            owner: self.owner(),
            freed_by,
        })
    }
}

/// The address space of one machine's vmalloc; lives under the lock.
///
/// Every address of the window is in exactly one range of `ranges`.
pub(super) struct Space {
    ranges: Ranges,
    /// Start and pages of the window; empty before the first allocation.
    start: usize,
    window_pages: usize,
    /// Freed by a caller that could not wait, to be taken apart later (V10).
    postponed: Link,
    /// Freed and unmapped, to be flushed (V17).
    lazy: Link,
    lazy_pages: usize,
    flushing_pages: usize,
    areas: usize,
    pages: usize,
    peak_pages: usize,
    pool_pages: usize,
    recent: Recent,
}

impl Space {
    pub(super) const fn new() -> Space {
        Space {
            ranges: Ranges::new(),
            start: 0,
            window_pages: 0,
            postponed: None,
            lazy: None,
            lazy_pages: 0,
            flushing_pages: 0,
            areas: 0,
            pages: 0,
            peak_pages: 0,
            pool_pages: 0,
            recent: Recent::new(),
        }
    }

    /// Gives a page to the pool of nodes.
    ///
    /// # Safety
    /// The space may keep the page for as long as it lives.
    pub(super) unsafe fn add_page(&mut self, page: NonNull<u8>) {
        // SAFETY: promised by the caller.
        unsafe { self.ranges.add_page(page) };
        self.pool_pages += 1;
    }

    /// Takes `pages` (guard included) at the lowest address that fits, aligned to `align_pages`
    /// (V13). The range is `Building`.
    pub(super) fn carve(
        &mut self,
        window: (usize, usize),
        pages: usize,
        align_pages: usize,
    ) -> Result<Found, CarveError> {
        debug_assert!(pages > 1 && align_pages.is_power_of_two());
        // A fit in the middle splits into three, and the very first call makes the window.
        if self.ranges.spare() < 3 {
            return Err(CarveError::NeedNodes);
        }
        if self.window_pages == 0 {
            let (start, bytes) = window;
            debug_assert!(start.is_multiple_of(PAGE_SIZE));
            if bytes < PAGE_SIZE {
                return Err(CarveError::Full { flushing: false });
            }
            (self.start, self.window_pages) = (start, bytes >> PAGE_SHIFT);
            self.ranges
                .insert_after(None, start, self.window_pages, State::Free);
        }
        let full = CarveError::Full {
            flushing: self.flushing_pages > 0,
        };
        let free = self.fit(pages, align_pages).ok_or(full)?;
        let node = self.cut(free, pages, align_pages);
        Ok(self.found(node))
    }

    fn fit(&self, pages: usize, align_pages: usize) -> Link {
        // With room for any misalignment the first fit is found in O(log n); if there is none such,
        // one that happens to be aligned is looked for among all.
        let roomy = pages.checked_add(align_pages - 1)?;
        self.ranges.lowest_fit(roomy).or_else(|| {
            (align_pages > 1).then_some(())?;
            self.ranges.lowest_fit_where(pages, &|start, have| {
                let end = start + (have << PAGE_SHIFT);
                let align = align_pages << PAGE_SHIFT;
                let at = start.checked_next_multiple_of(align);
                at.is_some_and(|at| at < end && (end - at) >> PAGE_SHIFT >= pages)
            })
        })
    }

    /// Cuts `pages` out of a free range: at its left edge, in the middle, or all of it (V13).
    fn cut(&mut self, free: NodeRef, pages: usize, align_pages: usize) -> NodeRef {
        let (start, have) = (self.ranges.start(free), self.ranges.pages(free));
        let at = start.next_multiple_of(align_pages << PAGE_SHIFT);
        let before = (at - start) >> PAGE_SHIFT;
        debug_assert!(before + pages <= have);
        let after = have - before - pages;
        let node = if before > 0 {
            self.ranges.set_extent(free, start, before);
            self.ranges
                .insert_after(Some(free), at, pages, State::Building)
        } else {
            self.ranges.set_extent(free, at, pages);
            self.ranges.set_state(free, State::Building);
            free
        };
        if after > 0 {
            let rest = at + (pages << PAGE_SHIFT);
            self.ranges
                .insert_after(Some(node), rest, after, State::Free);
        }
        node
    }

    fn found(&self, node: NodeRef) -> Found {
        Found {
            node,
            start: self.ranges.start(node),
            pages: self.ranges.pages(node),
            state: self.ranges.state(node),
            area: self.ranges.area(node),
        }
    }

    /// The range that holds an address.
    pub(super) fn find(&self, addr: usize) -> Option<Found> {
        self.ranges.find(addr).map(|node| self.found(node))
    }

    /// What an address is used for.
    pub(super) fn address_use(&self, addr: usize) -> AddressUse {
        let Some(found) = self.find(addr) else {
            return AddressUse::Nothing;
        };
        let freed = || found.freed().or_else(|| self.recent.find(addr));
        match found.state {
            State::Busy if addr - found.start < found.area.mapped_bytes() => {
                AddressUse::Mapped(found.owner())
            }
            State::Busy => AddressUse::Guard(found.owner()),
            State::Building => AddressUse::Changing,
            State::Freeing | State::Lazy | State::Flushing | State::Free => {
                freed().map_or(AddressUse::Nothing, AddressUse::Freed)
            }
        }
    }

    /// The first range at or after an address.
    pub(super) fn at_or_after(&self, addr: usize) -> Option<Found> {
        let node = match self.ranges.find(addr) {
            Some(node) if self.ranges.start(node) < addr => self.ranges.next(node)?,
            Some(node) => node,
            None if addr < self.start => self.ranges.first()?,
            None => return None,
        };
        Some(self.found(node))
    }

    /// The busy area that starts at an address; else what kind of misuse it is to free it.
    pub(super) fn exact(&self, addr: usize) -> Result<Found, Misuse> {
        let found = self.find(addr).ok_or(Misuse::WildFree)?;
        match found.state {
            State::Free => Err(Misuse::WildFree),
            State::Freeing | State::Lazy | State::Flushing => Err(Misuse::DoubleFree),
            State::Building if found.start == addr => Err(Misuse::WildFree),
            State::Building | State::Busy if found.start != addr => Err(Misuse::InteriorFree),
            _ => Ok(found),
        }
    }

    /// Shows a finished area to everybody (V19).
    pub(super) fn publish(&mut self, node: NodeRef, area: Area) {
        debug_assert_eq!(self.ranges.state(node), State::Building);
        debug_assert!(
            area.pages < self.ranges.pages(node),
            "a guard page is left (V2)"
        );
        self.ranges.set_area(node, area);
        self.ranges.set_state(node, State::Busy);
        self.areas += 1;
        self.pages += area.pages;
        self.peak_pages = self.peak_pages.max(self.pages);
    }

    /// Changes what is known of a busy area.
    pub(super) fn update(&mut self, node: NodeRef, area: Area) {
        debug_assert_eq!(self.ranges.state(node), State::Busy);
        let old = self.ranges.area(node).pages;
        self.ranges.set_area(node, area);
        self.pages = self.pages - old + area.pages;
    }

    /// Takes a busy area out of sight while its pages change; `publish` shows it again.
    pub(super) fn hide(&mut self, node: NodeRef) {
        debug_assert_eq!(self.ranges.state(node), State::Busy);
        self.ranges.set_state(node, State::Building);
        self.areas -= 1;
        self.pages -= self.ranges.area(node).pages;
    }

    /// The owner gives a busy area up: from now on freeing it is a double free.
    pub(super) fn begin_free(&mut self, node: NodeRef, caller: Caller) {
        self.hide(node);
        let area = self.ranges.area(node);
        self.ranges.set_area(
            node,
            Area {
                freed_by: Some(caller),
                ..area
            },
        );
        self.ranges.set_state(node, State::Freeing);
    }

    /// Keeps an area that was given up for [`Space::take_postponed`].
    pub(super) fn postpone(&mut self, node: NodeRef) {
        debug_assert_eq!(self.ranges.state(node), State::Freeing);
        self.ranges.set_chain(node, self.postponed);
        self.postponed = Some(node);
    }

    /// An area given up that still has to be unmapped.
    pub(super) fn take_postponed(&mut self) -> Option<Found> {
        let node = self.postponed?;
        self.postponed = self.ranges.chain(node);
        Some(self.found(node))
    }

    /// A range whose mapping was taken away waits for its flush (V17). Returns the pages that wait.
    pub(super) fn retire(&mut self, node: NodeRef) -> usize {
        debug_assert!(matches!(
            self.ranges.state(node),
            State::Freeing | State::Building
        ));
        self.ranges.set_area(node, self.ranges.area(node).emptied());
        self.ranges.set_state(node, State::Lazy);
        self.ranges.set_chain(node, self.lazy);
        self.lazy = Some(node);
        self.lazy_pages += self.ranges.pages(node);
        self.lazy_pages
    }

    /// A range that was never mapped is free again at once.
    pub(super) fn give_back(&mut self, node: NodeRef) {
        debug_assert_eq!(self.ranges.state(node), State::Building);
        self.release(node);
    }

    /// Takes all ranges that wait for a flush: the caller flushes each, then recycles them. None
    /// while another flush is under way, so that all `Flushing` ranges are of one list.
    pub(super) fn take_lazy(&mut self) -> LazyList {
        if self.flushing_pages > 0 {
            return LazyList(None);
        }
        let list = LazyList(self.lazy.take());
        let mut link = list.0;
        while let Some(node) = link {
            self.ranges.set_state(node, State::Flushing);
            link = self.ranges.chain(node);
        }
        self.flushing_pages += core::mem::take(&mut self.lazy_pages);
        list
    }

    /// The next stretch to flush, start and pages; moves the cursor on. Ranges of the list that
    /// touch are one stretch.
    pub(super) fn walk(&self, cursor: &mut LazyList) -> Option<(usize, usize)> {
        let flushing = |n: &NodeRef| self.ranges.state(*n) == State::Flushing;
        loop {
            let first = cursor.0?;
            debug_assert!(flushing(&first));
            cursor.0 = self.ranges.chain(first);
            if self.ranges.prev(first).is_some_and(|n| flushing(&n)) {
                continue; // part of the stretch of the one before
            }
            let stretch = core::iter::successors(Some(first), |&n| self.ranges.next(n));
            let pages = stretch
                .take_while(flushing)
                .map(|n| self.ranges.pages(n))
                .sum();
            return Some((self.ranges.start(first), pages));
        }
    }

    /// Makes flushed ranges free. Returns their pages.
    pub(super) fn recycle(&mut self, list: LazyList) -> usize {
        let mut pages = 0;
        let mut link = list.0;
        let mut remembered = 0; // the list begins with what was freed last
        while let Some(node) = link {
            debug_assert_eq!(self.ranges.state(node), State::Flushing);
            link = self.ranges.chain(node);
            let found = self.found(node);
            pages += found.pages;
            if let Some(freed) = found.freed().filter(|_| remembered < RECENT) {
                self.recent.push(found.start, found.pages, freed);
                remembered += 1;
            }
            self.ranges.set_area(node, Area::NONE);
            self.release(node);
        }
        self.recent.turn_round(remembered);
        self.flushing_pages -= pages;
        pages
    }

    /// Frees a range and merges it with free neighbours (V14).
    fn release(&mut self, node: NodeRef) {
        self.ranges.set_state(node, State::Free);
        let is_free = |ranges: &Ranges, n: &NodeRef| ranges.state(*n) == State::Free;
        let node = match self.ranges.prev(node).filter(|n| is_free(&self.ranges, n)) {
            Some(prev) => self.swallow_next(prev),
            None => node,
        };
        if self
            .ranges
            .next(node)
            .is_some_and(|n| is_free(&self.ranges, &n))
        {
            self.swallow_next(node);
        }
    }

    fn swallow_next(&mut self, node: NodeRef) -> NodeRef {
        if let Some(next) = self.ranges.next(node) {
            let pages = self.ranges.pages(node) + self.ranges.pages(next);
            self.ranges.remove(next);
            self.ranges.set_extent(node, self.ranges.start(node), pages);
        }
        node
    }

    pub(super) fn lazy_pages(&self) -> usize {
        self.lazy_pages
    }

    /// The first address; 0 before the first allocation.
    pub(super) fn window_start(&self) -> usize {
        self.start
    }

    pub(super) fn window_pages(&self) -> usize {
        self.window_pages
    }

    pub(super) fn counters(&self) -> VmallocCounters {
        VmallocCounters {
            areas: self.areas,
            pages: self.pages,
            peak_pages: self.peak_pages,
            lazy_pages: self.lazy_pages + self.flushing_pages,
            range_pages: self.window_pages,
            pool_pages: self.pool_pages,
            table_pages: 0,
        }
    }

    /// Checks everything; what is wrong, if anything.
    pub(super) fn verify(&self) -> Result<(), &'static str> {
        self.ranges.verify()?;
        let (mut areas, mut pages, mut lazy, mut flushing, mut all) = (0, 0, 0, 0, 0);
        let mut before = State::Busy;
        let mut link = self.ranges.first();
        while let Some(node) = link {
            let found = self.found(node);
            all += found.pages;
            match found.state {
                State::Free if before == State::Free => return Err("free neighbours (V14)"),
                State::Busy => {
                    areas += 1;
                    pages += found.area.pages;
                    if found.area.pages >= found.pages {
                        return Err("an area without guard page (V2)");
                    }
                    if found.area.size > found.area.mapped_bytes() {
                        return Err("an area larger than what is mapped");
                    }
                }
                State::Lazy => lazy += found.pages,
                State::Flushing => flushing += found.pages,
                _ => {}
            }
            before = found.state;
            link = self.ranges.next(node);
        }
        if all != self.window_pages {
            return Err("the ranges do not cover the window");
        }
        if (areas, pages) != (self.areas, self.pages) || self.peak_pages < pages {
            return Err("areas or their pages are miscounted");
        }
        if (lazy, flushing) != (self.lazy_pages, self.flushing_pages) {
            return Err("lazy pages are miscounted");
        }
        let chain = |head: Link| core::iter::successors(head, |&n| self.ranges.chain(n));
        if chain(self.lazy).any(|n| self.ranges.state(n) != State::Lazy)
            || chain(self.lazy)
                .map(|n| self.ranges.pages(n))
                .sum::<usize>()
                != lazy
        {
            return Err("the list of lazy ranges is wrong (V17)");
        }
        if chain(self.postponed).any(|n| self.ranges.state(n) != State::Freeing) {
            return Err("the list of postponed frees is wrong (V10)");
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn ranges(&self) -> &Ranges {
        &self.ranges
    }
}

/// Ranges being flushed, chained. Whoever holds it must recycle it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct LazyList(Link);

impl LazyList {
    /// True if there is nothing to flush.
    pub(super) fn is_empty(self) -> bool {
        self.0.is_none()
    }
}

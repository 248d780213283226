//! Pages come, are used and written, and go.

use super::link::Source;
use super::lists::{End, ListId, NodeLists};
use super::marks::Mark;
use super::slots::Slot;
use super::{Lru, LruError};
use crate::flags::{GFP_ATOMIC, Gfp, ZoneKind};
use crate::frame::{FrameKind, NodeId, Order, Pfn, TAG_ARRIVING as ARRIVING};
use crate::page::{PageAllocator, PageRequest};
use crate::platform::Platform;
use crate::policy::reclaim::lru::Kind;
use crate::reclaim::Reclaim;
use crate::sync::Local;
use crate::sync::atomic::Ordering::Relaxed;
use core::ptr::NonNull;

/// Of the tag of a movable frame: its owner wants it on the lists.
const WANTED: u32 = 1;

/// A page of the machine, as the lists know it.
pub(super) struct Page<'l> {
    pub(super) lru: &'l Lru,
    pub(super) pfn: Pfn,
    pub(super) index: u32,
    pub(super) slot: &'l Slot,
    pub(super) node: &'l NodeLists,
    pub(super) zone: ZoneKind,
}

/// Pages of slots. They are few, and what they make possible is reclaim: reserves may be used.
struct Tables<'p, P: Platform>(&'p PageAllocator<P>);

impl<P: Platform> Source for Tables<'_, P> {
    fn take(&self) -> Option<NonNull<u8>> {
        let gfp = GFP_ATOMIC | Gfp::ZERO | Gfp::NOWARN;
        let pfn = self.0.alloc(&PageRequest::new(gfp, Order::ZERO)).ok()?;
        Some(self.0.ptr_of(pfn))
    }

    fn give_back(&self, page: NonNull<u8>) {
        let pfn = self.0.pfn_of(page.addr().get());
        // SAFETY: [INV-PAGE-1] it was taken above, and nobody else knows it.
        let freed = unsafe { self.0.free(pfn, Order::ZERO) };
        debug_assert!(freed.is_ok());
    }
}

impl Lru {
    /// Counts the marks of a page that goes on with those of another.
    fn count(page: &Page<'_>, new: Mark) {
        let sums = &page.node.zones[page.zone as usize];
        if new.is_dirty() {
            sums.dirty.fetch_add(1, Relaxed);
        }
        if new.is_writing() {
            sums.writing.fetch_add(1, Relaxed);
        }
    }

    /// Counts marks of a page off that is forgotten.
    pub(super) fn uncount(page: &Page<'_>, old: Mark) {
        let sums = &page.node.zones[page.zone as usize];
        if old.is_dirty() {
            sums.dirty.fetch_sub(1, Relaxed);
        }
        if old.is_writing() {
            sums.writing.fetch_sub(1, Relaxed);
        }
    }
}

impl<P: Platform> Reclaim<P> {
    /// The number of a frame's slot.
    fn lru_index(&self, pfn: Pfn) -> Option<u32> {
        u32::try_from(self.pages.frames().index(pfn)?).ok()
    }

    /// The page of a frame that has a slot.
    pub(super) fn lru_page(&self, pfn: Pfn) -> Option<Page<'_>> {
        let index = self.lru_index(pfn)?;
        let lru = self.lru.get()?;
        let slot = lru.slots.get(index)?;
        let (node, zone) = self.pages.place_of(pfn)?;
        Some(Page {
            lru,
            pfn,
            index,
            slot,
            node: lru.node(node)?,
            zone,
        })
    }

    /// The owner wants the page on the lists.
    pub(super) fn is_wanted(&self, pfn: Pfn) -> bool {
        self.pages.frames().movable_tag(pfn) & WANTED != 0
    }

    /// Puts a page on the lists: what [`Mm::lru_add`](crate::Mm::lru_add) describes.
    ///
    /// # Errors
    /// As there.
    pub fn lru_add(&self, pfn: Pfn, kind: Kind) -> Result<(), LruError> {
        let frames = self.pages.frames();
        let index = self.lru_index(pfn).ok_or(LruError::NotOwned)?;
        if !frames.get(pfn).is_block(FrameKind::Movable, Order::ZERO) {
            return Err(LruError::NotOwned);
        }
        let tables = Tables(&self.pages);
        let lru = self.lru.make(&tables).ok_or(LruError::NoMemory)?;
        let slot = lru.slots.make(index, &tables);
        slot.ok_or(LruError::NoMemory)?;
        let page = self.lru_page(pfn).ok_or(LruError::NotOwned)?;
        let local = Local::enter(self.pages.platform()).map_err(|_| LruError::Nested)?;
        let mut links = page.node.links.lock(&local);
        // Its owner may have freed it by now, and the frame be part of something else.
        let old = frames.change_page_tag(pfn, |tag| (tag | WANTED) & !ARRIVING);
        // What is arriving is not here yet, and now needs not come.
        let was_wanted = old.ok_or(LruError::NotOwned)? & (WANTED | ARRIVING) == WANTED;
        let mark = page.slot.marks.get();
        if was_wanted && mark.is_known() {
            return Err(LruError::OnList);
        }
        if mark.is_taken() {
            return Ok(()); // whoever has it puts it back
        }
        if mark.is_on_list() {
            self.unlink(&mut links, &page); // from when the frame was another page
        }
        page.slot.marks.enter(kind);
        self.link(&mut links, &page, End::Head);
        Ok(())
    }

    /// A page was moved, and the caller still holds both: `to` is its owner's now, and nobody uses
    /// `from`. The new page goes on where the old one was, but for what its owner has said about it
    /// already.
    pub(crate) fn lru_moved(&self, from: Pfn, to: Pfn) {
        let Some(old) = self.lru_page(from) else {
            return;
        };
        let wanted = self.is_wanted(from);
        // Nobody has taken it: it is held.
        let mark = self.with_links(old.node, |links| {
            let is_there = old.slot.marks.get().is_on_list();
            is_there.then(|| self.unlink(links, &old))
        });
        let tables = Tables(&self.pages);
        let goes_on = mark.filter(|_| wanted).and_then(|mark| {
            old.lru.slots.make(self.lru_index(to)?, &tables)?;
            Some((mark, self.lru_page(to)?))
        });
        let Some((mark, new)) = goes_on else {
            // It was on no list, or there is no memory: its owner may put it there anew.
            self.settle(to, |tag| tag & !WANTED);
            return;
        };
        self.with_links(new.node, |links| {
            if !self.pages.frames().is_held_freed(to) && self.settle(to, |tag| tag | WANTED) {
                if new.slot.marks.get().is_on_list() {
                    self.unlink(links, &new); // from when the frame was another page
                }
                new.slot.marks.enter_as(mark);
                self.link(links, &new, End::Head);
                Lru::count(&new, mark);
            }
        });
    }

    /// Changes the tag of a page that arrives, unless its owner has said by now what it is to be;
    /// then false.
    fn settle(&self, to: Pfn, change: impl Fn(u32) -> u32) -> bool {
        let next = |tag| match tag & ARRIVING {
            0 => tag,
            _ => change(tag) & !ARRIVING,
        };
        let old = self.pages.frames().change_movable_tag(to, next);
        old.is_some_and(|tag| tag & ARRIVING != 0)
    }

    /// Takes a page off the lists: what [`Mm::lru_del`](crate::Mm::lru_del) describes.
    pub fn lru_del(&self, pfn: Pfn) -> bool {
        let old = self
            .pages
            .frames()
            .change_movable_tag(pfn, |tag| tag & !(WANTED | ARRIVING));
        let was_wanted = old.is_some_and(|tag| tag & WANTED != 0);
        // In the middle of the allocator the rest is left to who finds it.
        if let (true, Some(page)) = (was_wanted, self.lru_page(pfn))
            && let Ok(local) = Local::enter(self.pages.platform())
        {
            let mut links = page.node.links.lock(&local);
            if page.slot.marks.get().is_on_list() && !self.is_wanted(pfn) {
                self.unlink(&mut links, &page);
            }
        }
        was_wanted
    }

    /// Links a page that has its marks. The lock is held.
    pub(super) fn link(&self, links: &mut super::lists::Links, page: &Page<'_>, end: End) {
        let list = ListId::of(page.slot.marks.get());
        links.push(&page.lru.slots, list, end, page.index, page.slot);
        page.node.zones[page.zone as usize].count(list, 1);
    }

    /// Unlinks a page that keeps its marks. The lock is held.
    pub(super) fn unlink_only(&self, links: &mut super::lists::Links, page: &Page<'_>) {
        let list = ListId::of(page.slot.marks.get());
        links.remove(&page.lru.slots, list, page.slot);
        page.node.zones[page.zone as usize].count(list, -1);
    }

    /// Unlinks and forgets a page. What it was. The lock is held.
    pub(super) fn unlink(&self, links: &mut super::lists::Links, page: &Page<'_>) -> Mark {
        self.unlink_only(links, page);
        let mark = page.slot.marks.leave();
        Lru::uncount(page, mark);
        mark
    }

    /// Notes that a page is used: what [`Mm::mark_page_accessed`](crate::Mm::mark_page_accessed)
    /// describes.
    pub fn mark_page_accessed(&self, pfn: Pfn) {
        if let Some(page) = self.lru_page(pfn) {
            page.slot.marks.note_use();
        }
    }

    /// Notes that a page must be written: what [`Mm::set_page_dirty`](crate::Mm::set_page_dirty)
    /// describes.
    pub fn set_page_dirty(&self, pfn: Pfn) -> bool {
        let page = self.lru_page(pfn);
        let new = page.filter(|page| page.slot.marks.note_dirty());
        if let Some(page) = &new {
            let dirty = &page.node.zones[page.zone as usize].dirty;
            dirty.fetch_add(1, Relaxed);
            page.lru.sums.dirtied.add(1);
        }
        new.is_some()
    }

    /// Takes that back: what [`Mm::clear_page_dirty`](crate::Mm::clear_page_dirty) describes.
    pub fn clear_page_dirty(&self, pfn: Pfn) -> bool {
        let page = self.lru_page(pfn);
        let new = page.filter(|page| page.slot.marks.note_clean());
        if let Some(page) = &new {
            let dirty = &page.node.zones[page.zone as usize].dirty;
            dirty.fetch_sub(1, Relaxed);
        }
        new.is_some()
    }

    /// A write begins: what
    /// [`Mm::start_page_writeback`](crate::Mm::start_page_writeback) describes.
    pub fn start_page_writeback(&self, pfn: Pfn) -> bool {
        let Some(page) = self.lru_page(pfn) else {
            return false;
        };
        let Some(old) = page.slot.marks.begin_write() else {
            return false;
        };
        let sums = &page.node.zones[page.zone as usize];
        sums.writing.fetch_add(1, Relaxed);
        if old.is_dirty() {
            sums.dirty.fetch_sub(1, Relaxed);
        }
        true
    }

    /// A write has ended: what [`Mm::end_page_writeback`](crate::Mm::end_page_writeback)
    /// describes.
    pub fn end_page_writeback(&self, pfn: Pfn) -> bool {
        let Some(page) = self.lru_page(pfn) else {
            return false;
        };
        let Some(old) = page.slot.marks.end_write() else {
            return false;
        };
        let sums = &page.node.zones[page.zone as usize];
        sums.writing.fetch_sub(1, Relaxed);
        page.lru.sums.written.add(1);
        if old.rotates() {
            self.rotate(&page);
        }
        // Relaxed: who waits looks again after the fence of the queue.
        page.node.writes.fetch_add(1, Relaxed);
        if self.pages.platform().context() != crate::platform::Context::Nmi {
            page.node.written.wake_all(self.pages.platform());
        }
        true
    }

    /// A page that reclaim had written is the next to go, if the lock is to be had.
    fn rotate(&self, page: &Page<'_>) {
        // That waits for nobody, so an NMI may ask.
        let Some(local) = Local::enter_quick(self.pages.platform()) else {
            return;
        };
        let Some(mut links) = page.node.links.try_lock(&local) else {
            return;
        };
        let mark = page.slot.marks.get();
        if mark.is_on_list() && ListId::of(mark) == ListId::inactive(mark.kind()) {
            self.unlink_only(&mut links, page);
            self.link(&mut links, page, End::Tail);
            page.lru.sums.rotated.add(1);
        }
    }

    /// P121: pages on the lists of a zone.
    pub(in crate::reclaim) fn lru_pages_of(&self, node: NodeId, zone: ZoneKind) -> usize {
        let lists = self.lru.node(node);
        let lists = lists.map(|node| &node.zones[zone as usize]);
        lists.map_or(0, |zone| {
            let pages = |list: &ListId| zone.pages(*list);
            ListId::EVICTABLE.iter().map(pages).sum()
        })
    }
}

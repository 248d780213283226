//! Pages are taken off the lists, 32 at once, and put back.

use super::Lru;
use super::lists::{End, Links, ListId, NodeLists};
use super::marks::Back;
use super::member::Page;
use crate::flags::ZoneKind;
use crate::frame::{Order, Pfn};
use crate::page::Held;
use crate::platform::Platform;
use crate::policy::reclaim::CLUSTER_PAGES;
use crate::policy::reclaim::lru::Kind;
use crate::reclaim::Reclaim;
use crate::sync::Local;

/// Pages that are looked at while the lock is held once: as many as are taken off at once, and
/// thrice as many that are only passed over.
const LOOKS_MAX: usize = 4 * CLUSTER_PAGES;

/// What becomes of a page that was taken off.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its owner gave it up.
    Freed,
    /// It goes back.
    Back(Back),
}

/// A page that was taken off a list.
pub(super) struct Taken<'p, P: Platform> {
    pub(super) pfn: Pfn,
    pub(super) held: Held<'p, P>,
    pub(super) fate: Fate,
}

/// Pages that were taken off one list. Dropped, as where an owner panics, they are put back too.
#[must_use]
pub(super) struct Batch<'p, P: Platform> {
    reclaim: &'p Reclaim<P>,
    node: &'p NodeLists,
    pub(super) pages: [Option<Taken<'p, P>>; CLUSTER_PAGES],
    pub(super) len: usize,
    pub(super) kind: Kind,
    /// Pages looked at that the pass may take: those taken, and those that were not to be had.
    pub(super) looked: usize,
    /// Pages passed over: their zone is of no use to the pass.
    pub(super) skipped: usize,
}

impl<P: Platform> Reclaim<P> {
    /// Enters a section: outside of any, as reclaim always is, that succeeds.
    fn lru_enter(&self) -> Local<'_, P> {
        let mut spins = 0u32;
        loop {
            if let Ok(local) = Local::enter(self.pages.platform()) {
                return local;
            }
            self.pages.platform().relax(spins);
            spins = spins.saturating_add(1);
        }
    }

    /// Does something with a node's links.
    pub(super) fn with_links<R>(&self, node: &NodeLists, work: impl FnOnce(&mut Links) -> R) -> R {
        let local = self.lru_enter();
        let mut links = node.links.lock(&local);
        work(&mut links)
    }

    pub(super) fn page_at(&self, index: u32) -> Option<Page<'_>> {
        self.lru_page(self.pages.frames().base().add(index as usize))
    }

    /// The page that is next on a list, if the pass may have it. Others go to the head.
    fn next<'l>(
        &'l self,
        links: &mut Links,
        list: ListId,
        highest: ZoneKind,
        skipped: &mut usize,
    ) -> Option<Page<'l>> {
        while *skipped < LOOKS_MAX {
            let page = self.page_at(links.last(list)?)?;
            if page.zone <= highest {
                return Some(page);
            }
            self.unlink_only(links, &page);
            self.link(links, &page, End::Head);
            page.lru.sums.skipped[page.zone as usize].add(1);
            *skipped += 1;
        }
        None
    }

    /// Takes up to `most` pages off the tail of an inactive list.
    pub(super) fn take<'p>(
        &'p self,
        node: &'p NodeLists,
        kind: Kind,
        highest: ZoneKind,
        most: usize,
    ) -> Batch<'p, P> {
        let mut batch = Batch {
            reclaim: self,
            node,
            pages: [const { None }; CLUSTER_PAGES],
            len: 0,
            kind,
            looked: 0,
            skipped: 0,
        };
        let list = ListId::inactive(kind);
        self.with_links(node, |links| {
            while batch.looked < most.min(CLUSTER_PAGES)
                && let Some(page) = self.next(links, list, highest, &mut batch.skipped)
            {
                batch.looked += 1;
                if !self.is_wanted(page.pfn) {
                    self.unlink(links, &page); // its owner let it go where there was no lock
                    continue;
                }
                self.unlink_only(links, &page);
                let Some(held) = self.pages.hold(page.pfn) else {
                    self.link(links, &page, End::Head); // somebody else has it
                    continue;
                };
                page.slot.marks.take();
                page.node.count_isolated(kind, 1);
                batch.pages[batch.len] = Some(Taken {
                    pfn: page.pfn,
                    held,
                    fate: Fate::Back(Back::Inactive),
                });
                batch.len += 1;
            }
        });
        batch
    }

    /// The lists' part of that. The lock is held.
    fn put_one(&self, links: &mut Links, kind: Kind, taken: &Taken<'_, P>) {
        let pfn: Pfn = taken.pfn;
        let Some(page) = self.lru_page(pfn) else {
            return;
        };
        page.node.count_isolated(kind, -1);
        let back = match taken.fate {
            Fate::Back(back) if self.is_wanted(pfn) && !taken.held.is_freed() => back,
            _ => return Lru::uncount(&page, page.slot.marks.leave()),
        };
        match back {
            Back::Active => page.lru.sums.activated.add(1),
            Back::Unevictable => page.lru.sums.culled.add(1),
            _ => {}
        }
        let mark = page.slot.marks.put_back(back);
        let end = match back {
            // It was written before it was back.
            Back::Rotate if !mark.is_writing() => End::Tail,
            _ => End::Head,
        };
        self.link(links, &page, end);
    }

    /// Makes up to `most` pages at the tail of an active list inactive. Returns how many were
    /// looked at; fewer: there are no more.
    pub(super) fn deactivate(
        &self,
        node: &NodeLists,
        kind: Kind,
        highest: ZoneKind,
        most: usize,
    ) -> usize {
        let list = ListId::active(kind);
        let (mut left, mut done) = (node.pages(list, ZoneKind::Movable), 0);
        while done < most && left != 0 {
            let (mut looked, mut skipped) = (0, 0);
            self.with_links(node, |links| {
                while looked < (most - done).min(CLUSTER_PAGES)
                    && let Some(page) = self.next(links, list, highest, &mut skipped)
                {
                    self.unlink_only(links, &page);
                    page.slot.marks.deactivate();
                    page.lru.sums.deactivated.add(1);
                    self.link(links, &page, End::Head);
                    looked += 1;
                }
            });
            done += looked;
            left = match looked + skipped {
                0 => 0,
                n => left.saturating_sub(n),
            };
        }
        done
    }
}

impl<P: Platform> Batch<'_, P> {
    /// Puts back what is to go back, and frees what was given up. Returns the pages freed.
    pub(super) fn put_back(mut self) -> usize {
        self.end()
    }

    fn end(&mut self) -> usize {
        let (reclaim, kind) = (self.reclaim, self.kind);
        reclaim.with_links(self.node, |links| {
            let taken = self.pages.iter().flatten();
            taken.for_each(|taken| reclaim.put_one(links, kind, taken));
        });
        self.node.put_back.wake_all(reclaim.pages.platform());
        // Without the lock: the last use of a page may end here.
        let mut freed = 0;
        for taken in self.pages.iter_mut().filter_map(Option::take) {
            if taken.fate == Fate::Freed {
                let pfn = taken.held.retire();
                // SAFETY: [INV-MOVE-2] its owner does not use it any more, so it is ours.
                let ended = unsafe { reclaim.pages.free(pfn, Order::ZERO) };
                debug_assert!(ended.is_ok());
                freed += 1;
            }
        }
        freed
    }
}

impl<P: Platform> Drop for Batch<'_, P> {
    fn drop(&mut self) {
        if self.pages.iter().any(Option::is_some) {
            self.end();
        }
    }
}

//! One pass of reclaim over the lists of a node (P402, P405, P407, P410).

use super::Lru;
use super::lists::{ListId, NodeLists};
use super::marks::Back;
use super::take::{Batch, Fate};
use crate::flags::{Gfp, ZoneKind};
use crate::frame::NodeId;
use crate::page::{GivenUp, ReclaimMode};
use crate::platform::{Platform, now_of};
use crate::policy::reclaim::lru::{
    Found, Kind, May, ShareFacts, Shares, Verdict, inactive_is_short, scan_count, shares, verdict,
};
use crate::policy::reclaim::throttle::{
    Limit, Reason, ends_waits, too_many_isolated, waits_for_writeback,
};
use crate::policy::reclaim::{CLUSTER_PAGES, PassResult, Priority};
use crate::reclaim::{Reclaim, TICK_NS};
use crate::sync::WaitQueue;
use crate::sync::atomic::Ordering::Relaxed;

/// Who scans.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(in crate::reclaim) enum Who {
    /// A node's task.
    Background = 0,
    /// A request.
    Request = 1,
    /// An administrator who wants memory back (P721).
    Proactive = 2,
    /// An administrator who drops caches: that is no reclaim, and counts nowhere (P417).
    Dropper = 3,
}

/// What a pass may do and wants.
#[derive(Copy, Clone, Debug)]
pub(in crate::reclaim) struct ListPass {
    pub(in crate::reclaim) who: Who,
    pub(in crate::reclaim) gfp: Gfp,
    /// Pages of zones above are of no use.
    pub(in crate::reclaim) highest: ZoneKind,
    pub(in crate::reclaim) priority: Priority,
    /// In pages: with so many freed the pass is over.
    pub(in crate::reclaim) wanted: usize,
    /// Pages may be written.
    pub(in crate::reclaim) may_write: bool,
    /// Pages may be asked for that have no place of their own.
    pub(in crate::reclaim) may_store: bool,
    /// Active pages are not spared (P405).
    pub(in crate::reclaim) deactivate: bool,
    /// P714, if another than the machine's.
    pub(in crate::reclaim) swappiness: Option<u8>,
}

/// What a pass did.
#[derive(Copy, Clone, Debug, Default)]
pub(in crate::reclaim) struct ListsDone {
    pub(in crate::reclaim) pages: PassResult,
    /// Active pages were left alone.
    pub(in crate::reclaim) spared_active: bool,
}

/// What was found in a batch.
#[derive(Default)]
struct Tally {
    writing: usize,
    writes: usize,
}

impl ListPass {
    /// What may be done with pages of a kind. To write a page that has a place of its own, its
    /// owner may have to enter a file system.
    fn may(&self, kind: Kind) -> May {
        let fs = kind == Kind::Storable || self.gfp.contains(Gfp::FS);
        May {
            gfp: self.gfp,
            write: self.may_write && self.gfp.contains(Gfp::IO) && fs,
            priority: self.priority,
        }
    }
}

impl<P: Platform> Reclaim<P> {
    /// One pass over the lists of a node.
    ///
    /// Context: as direct reclaim, or the node's task.
    pub(in crate::reclaim) fn scan_lists(&self, id: NodeId, pass: &ListPass) -> ListsDone {
        let mut done = ListsDone::default();
        let Some(node) = self.lru.node(id) else {
            return done;
        };
        let all = |list: &ListId| node.pages(*list, pass.highest);
        if ListId::EVICTABLE.iter().map(all).sum::<usize>() == 0 {
            return done;
        }
        // Where nobody stores anything, all of the scanning is for the others.
        let stored = all(&ListId::inactive(Kind::Storable)) + all(&ListId::active(Kind::Storable));
        let costs = self.with_links(node, |links| links.costs);
        let shares = shares(&ShareFacts {
            weight: pass.swappiness.unwrap_or(self.swappiness()),
            costs,
            gfp: pass.gfp,
            can_store: pass.may_store && stored != 0,
            priority: pass.priority,
        });
        // Before the pages are looked at: a write that ends after its page was found is no reason
        // to wait for another.
        let (mut writing, seen) = (0, node.writes.load(Relaxed));
        for kind in [Kind::Storable, Kind::Droppable] {
            done.spared_active |= self.balance_lists(node, kind, pass, &shares);
            writing += self.scan_kind(node, kind, pass, &shares, &mut done.pages);
        }
        let freed = done.pages.freed;
        if ends_waits(&done.pages) {
            // Relaxed: who waits looks again after the fence of the queue.
            node.gains.fetch_add(1, Relaxed);
            node.progress.wake_all(self.pages.platform());
        }
        let waits = freed == 0 && pass.who != Who::Dropper;
        if waits && waits_for_writeback(done.pages.scanned, writing, pass.gfp) {
            let over = || node.writes.load(Relaxed) != seen;
            self.lru_wait(&node.written, Reason::Writeback, over);
        }
        done
    }

    /// Active pages become inactive as far as the balance of the lists wants it. True if active
    /// pages were spared.
    fn balance_lists(
        &self,
        node: &NodeLists,
        kind: Kind,
        pass: &ListPass,
        shares: &Shares,
    ) -> bool {
        let inactive = node.pages(ListId::inactive(kind), pass.highest);
        let active = node.pages(ListId::active(kind), pass.highest);
        if !pass.deactivate && !inactive_is_short(inactive, active) {
            return active != 0;
        }
        let most = scan_count(active, pass.priority, shares, kind);
        self.deactivate(node, kind, pass.highest, most);
        false
    }

    /// Looks at inactive pages of a kind. Returns how many of them were found being written.
    fn scan_kind(
        &self,
        node: &NodeLists,
        kind: Kind,
        pass: &ListPass,
        shares: &Shares,
        done: &mut PassResult,
    ) -> usize {
        let list = ListId::inactive(kind);
        let mut left = scan_count(node.pages(list, pass.highest), pass.priority, shares, kind);
        let mut others = node.pages(list, ZoneKind::Movable);
        let mut writing = 0;
        while left != 0 && others != 0 && done.freed < pass.wanted {
            if !self.may_isolate(node, kind, pass) {
                break;
            }
            let mut batch = self.take(node, kind, pass.highest, left.min(CLUSTER_PAGES));
            let (looked, skipped) = (batch.looked, batch.skipped);
            if looked + skipped == 0 {
                break;
            }
            left -= looked;
            others = others.saturating_sub(looked + skipped);
            let scanned = batch.len;
            let tally = self.ask_owners(&mut batch, pass);
            let freed = batch.put_back();
            writing += tally.writing;
            self.account(node, kind, pass.who, scanned, freed, tally.writes);
            *done = done.and(PassResult { scanned, freed });
        }
        writing
    }

    /// Asks the owners of a batch about their pages, as far as the pass may.
    fn ask_owners(&self, batch: &mut Batch<'_, P>, pass: &ListPass) -> Tally {
        let may = pass.may(batch.kind);
        let mode = match may.write {
            true => ReclaimMode::Write,
            false => ReclaimMode::Drop,
        };
        let mut tally = Tally::default();
        for taken in batch.pages.iter_mut().flatten() {
            let pfn = taken.pfn;
            if !self.is_wanted(pfn) {
                continue; // taken off since, or another's since it was seen on the list
            }
            let Some(mark) = self.lru_page(pfn).map(|page| page.slot.marks.get()) else {
                continue;
            };
            let found = Found {
                used: mark.is_used() && pass.who != Who::Dropper,
                second_chance: mark.had_second_chance(),
                dirty: mark.is_dirty(),
                writeback: mark.is_writing(),
                held: taken.held.is_freed(),
                locked_in: false,
            };
            taken.fate = match verdict(&found, &may) {
                Verdict::Activate => Fate::Back(Back::Active),
                Verdict::SecondChance => Fate::Back(Back::SecondChance),
                Verdict::Keep => Fate::Back(Back::Inactive),
                Verdict::Unevictable => Fate::Back(Back::Unevictable),
                Verdict::KeepWriting => {
                    tally.writing += 1;
                    Fate::Back(Back::Rotate)
                }
                Verdict::Write | Verdict::Drop => {
                    match taken.held.owner().reclaim(pfn, pass.gfp, mode) {
                        GivenUp::Now => Fate::Freed,
                        GivenUp::Writeback => {
                            tally.writes += 1;
                            Fate::Back(Back::Rotate)
                        }
                        GivenUp::Referenced => Fate::Back(Back::Active),
                        GivenUp::Busy => Fate::Back(Back::Inactive),
                        GivenUp::Unevictable => Fate::Back(Back::Unevictable),
                    }
                }
            };
        }
        tally
    }

    /// P617: counts a batch.
    fn account(
        &self,
        node: &NodeLists,
        kind: Kind,
        who: Who,
        scanned: usize,
        freed: usize,
        writes: usize,
    ) {
        let Some(Lru { sums, .. }) = self.lru.get() else {
            return;
        };
        if who == Who::Dropper {
            return; // it has nothing written
        }
        sums.scanned[who as usize].add(scanned);
        sums.scanned_of[kind as usize].add(scanned);
        sums.freed[who as usize].add(freed);
        sums.freed_of[kind as usize].add(freed);
        if writes != 0 {
            sums.writes.add(writes);
            let all = |list: &ListId| node.pages(*list, ZoneKind::Movable);
            let pages = ListId::EVICTABLE.iter().map(all).sum();
            self.with_links(node, |links| {
                links.costs = links.costs.add(kind, writes, pages);
            });
        }
    }

    /// P407: whether a pass may take pages off. A request waits first while others have too many.
    fn may_isolate(&self, node: &NodeLists, kind: Kind, pass: &ListPass) -> bool {
        let too_many = || {
            let inactive = node.pages(ListId::inactive(kind), ZoneKind::Movable);
            too_many_isolated(node.isolated(kind), inactive, pass.gfp)
        };
        let waits = matches!(pass.who, Who::Request | Who::Proactive);
        let asks = waits && pass.priority != Priority::LAST;
        if !asks || !too_many() {
            return true;
        }
        self.lru_wait(&node.put_back, Reason::Isolated, || !too_many());
        !too_many()
    }

    /// P407: a request that has gained nothing down to the last priority but one waits until
    /// somebody else gains, or a tick.
    pub(in crate::reclaim) fn wait_for_gain(&self, id: NodeId) {
        let Some(node) = self.lru.node(id) else {
            return;
        };
        let seen = node.gains.load(Relaxed);
        self.lru_wait(&node.progress, Reason::NoProgress, || {
            node.gains.load(Relaxed) != seen
        });
    }

    /// P407: waits inside a pass, where tasks can sleep.
    fn lru_wait(&self, queue: &WaitQueue, why: Reason, over: impl FnMut() -> bool) {
        let platform = self.pages.platform();
        // Who dies frees memory when it gets through.
        let goes_on = platform.sleep().is_none() || now_of(platform).fatal_signal;
        if goes_on || !platform.context().is_task() {
            return;
        }
        let ns = match why.limit() {
            Limit::Ms(ms) => u64::from(ms) * 1_000_000,
            Limit::Tick => TICK_NS,
        };
        let deadline = platform.now_ns().saturating_add(ns);
        queue.wait_until_ns(platform, deadline, over);
    }
}

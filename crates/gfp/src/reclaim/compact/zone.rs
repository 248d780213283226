//! The compaction of one zone (P420).

use super::super::Reclaim;
use crate::flags::{MigrateType, ZoneKind};
use crate::frame::{Order, PAGEBLOCK_PAGES, Pfn};
use crate::page::{Contended, Ground, Held, Locking, MigrateMode, Migrated};
use crate::platform::{Platform, now_of};
use crate::policy::compaction::{
    Background, BlockFacts, CompactOutcome, CompactPriority, GAP_PAGES_MAX, Met, PageVerdict,
    Proactive, Scanners, Suitability, Use, ZoneProgress, captures, finished, free_block,
    migrate_block, page_verdict, suitability,
};

/// P421: blocks of pages that are isolated at once.
const BATCH: usize = GAP_PAGES_MAX;

/// What is to be made.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(in crate::reclaim) enum Goal {
    /// A block of this order.
    Block(Order),
    /// Whatever there is to gain.
    Everything,
    /// P427: large blocks until the zone's score is low enough for this proactiveness, while the
    /// background of the node is asleep.
    Ahead(u8),
}

impl Goal {
    fn order(self) -> Option<Order> {
        match self {
            Goal::Block(order) => Some(order),
            Goal::Everything | Goal::Ahead(_) => None,
        }
    }

    /// Of blocks of this order and above nothing is gained.
    fn limit(self) -> Order {
        match self {
            Goal::Block(order) => order,
            Goal::Everything => Order::MAX,
            Goal::Ahead(_) => Order::PAGEBLOCK,
        }
    }
}

/// One compaction: for what, for whom, how hard.
#[derive(Copy, Clone, Debug)]
pub(in crate::reclaim) struct Job {
    pub(in crate::reclaim) goal: Goal,
    /// P320: the block is to be taken.
    pub(in crate::reclaim) captures: Captures,
    /// The type that the block is for.
    pub(in crate::reclaim) mobility: MigrateType,
    /// The highest zone of the request.
    pub(in crate::reclaim) highest: ZoneKind,
    pub(in crate::reclaim) by: Use,
    pub(in crate::reclaim) priority: CompactPriority,
}

/// Whether a block is taken as soon as it is there.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(in crate::reclaim) enum Captures {
    No,
    Yes,
}

/// How the compaction of a zone ended.
pub(in crate::reclaim) enum Ended {
    /// With the block, taken.
    Captured(Pfn),
    Without(CompactOutcome),
}

impl Job {
    fn mode(&self) -> MigrateMode {
        match self.priority {
            CompactPriority::Async => MigrateMode::Async,
            CompactPriority::SyncLight => MigrateMode::SyncLight,
            CompactPriority::SyncFull => MigrateMode::Sync,
        }
    }

    fn locking(&self) -> Locking {
        match self.priority {
            CompactPriority::Async => Locking::Try,
            _ => Locking::Wait,
        }
    }

    /// P320: what may be captured in a block like this.
    fn captures(&self, block: &BlockFacts) -> Option<Order> {
        let order = self.goal.order();
        let order = order.filter(|_| self.captures == Captures::Yes)?;
        captures(order.get().into(), self.mobility, block.mobility).then_some(order)
    }
}

/// Blocks of free memory that pages are to move to. What is in it goes back when it is dropped, as
/// where an owner panics.
struct Targets<'r, P: Platform> {
    ground: Ground<'r, P>,
    order: Order,
    blocks: [Option<Pfn>; BATCH],
}

impl<P: Platform> Targets<'_, P> {
    /// Gives them back; takes what [`Ground::give_back`] takes for it.
    fn give_back(mut self, at: Pfn, wanted: Option<Order>) -> Option<Pfn> {
        let blocks = core::mem::take(&mut self.blocks);
        self.ground.give_back(&blocks, self.order, at, wanted)
    }
}

impl<P: Platform> Drop for Targets<'_, P> {
    fn drop(&mut self) {
        if self.blocks.iter().any(Option::is_some) {
            self.ground
                .give_back(&self.blocks, self.order, Pfn(0), None);
        }
    }
}

/// One walk over a zone.
struct Walk<'r, P: Platform> {
    reclaim: &'r Reclaim<P>,
    ground: Ground<'r, P>,
    job: &'r Job,
    at: Scanners,
    /// Where the next batch begins in the pageblock of the migrate scanner.
    frame: Pfn,
    /// The walk began at both ends.
    whole_zone: bool,
    contended: bool,
    /// Something was isolated in the pageblock of the migrate scanner.
    found: bool,
}

/// What a batch came to.
enum Batch {
    /// Nothing was left in the pageblock.
    End,
    Done,
    Captured(Pfn),
}

impl<P: Platform> Reclaim<P> {
    /// P422: whether compaction of a zone starts.
    pub(in crate::reclaim) fn suits(&self, ground: &Ground<'_, P>, job: &Job) -> Suitability {
        let Goal::Block(order) = job.goal else {
            return Suitability::Suitable;
        };
        let order = order.get().into();
        let room = ground.room(job.highest);
        let index = ground.fragmentation(order, job.mobility);
        let threshold = self.extfrag_threshold();
        suitability(order, &room, index, job.priority, threshold)
    }

    /// P420: compacts one zone, if that is of use.
    pub(in crate::reclaim) fn compact_zone(&self, ground: Ground<'_, P>, job: &Job) -> Ended {
        let order = job.goal.limit().get().into();
        match self.suits(&ground, job) {
            Suitability::Suitable => {}
            // There is a block, but not enough beside it: more of them would not help.
            Suitability::AlreadyThere if !ground.passes_min(order, job.highest) => {
                return Ended::Without(CompactOutcome::Skipped);
            }
            Suitability::AlreadyThere => return Ended::Without(CompactOutcome::Success),
            Suitability::TooFull | Suitability::NotFragmented => {
                return Ended::Without(CompactOutcome::Skipped);
            }
        }
        // P425: nobody falls asleep there, who would; or he sleeps already.
        let ahead = matches!(job.goal, Goal::Ahead(_));
        if ahead || !self.has_background(ground.node()) {
            ground.forget_hints();
        }
        let ends = ground.ends();
        let at = match job.priority {
            _ if ahead => ends,
            CompactPriority::SyncFull => ends,
            _ => ground.scanners(),
        };
        let mut walk = Walk {
            reclaim: self,
            ground,
            job,
            at,
            frame: Pfn(at.migrate),
            whole_zone: at == ends,
            contended: false,
            found: false,
        };
        let ended = walk.run();
        match walk.at.met() {
            Met::Yes => ground.scanners_met(),
            Met::No => ground.keep_scanners(walk.at),
        }
        ended
    }
}

impl<'r, P: Platform> Walk<'r, P> {
    /// Ends: each turn passes a pageblock, moves pages out of one, or is contended.
    fn run(&mut self) -> Ended {
        loop {
            let progress = ZoneProgress {
                met: self.at.met(),
                whole_zone: self.whole_zone,
                available: self.is_enough(),
                contended: self.contended || self.is_to_stop(),
            };
            if let Some(outcome) = finished(&progress) {
                return Ended::Without(outcome);
            }
            let block = Pfn(self.at.migrate);
            let facts = self.ground.block_facts(block);
            let worth = |facts: &BlockFacts| migrate_block(facts, self.job.by, self.job.priority);
            match facts.filter(worth) {
                None => self.pass(),
                Some(facts) => match self.batch(&facts) {
                    Batch::Captured(pfn) => return Ended::Captured(pfn),
                    Batch::Done => {}
                    Batch::End => {
                        if !self.found {
                            self.ground.skip_from_now(block);
                        }
                        self.pass();
                    }
                },
            }
        }
    }

    /// What was to be made is there.
    fn is_enough(&self) -> bool {
        match self.job.goal {
            Goal::Block(order) => {
                let order = order.get().into();
                self.ground.has_block(order, self.job.mobility)
            }
            Goal::Everything => false,
            Goal::Ahead(proactiveness) => {
                Proactive::is_enough(proactiveness, self.ground.score().score)
            }
        }
    }

    /// P425, P427: a fatal signal; the background of the node is at work.
    fn is_to_stop(&self) -> bool {
        match (self.job.by, self.job.goal) {
            (Use::Direct(_), _) => now_of(self.reclaim.pages.platform()).fatal_signal,
            (_, Goal::Ahead(_)) => {
                self.reclaim.background_of(self.ground.node()) == Background::Running
            }
            _ => false,
        }
    }

    /// The compaction task's work; an administrator wants everything.
    fn is_tasks(&self) -> bool {
        self.job.by == Use::Background && self.job.goal != Goal::Everything
    }

    /// The migrate scanner goes on to the next pageblock.
    fn pass(&mut self) {
        self.at.pass_migrate();
        self.frame = Pfn(self.at.migrate);
        if core::mem::take(&mut self.found) {
            // What other users of this CPU freed in it meanwhile may be all that is missing.
            self.reclaim.pages.drain_here();
        }
    }

    /// Isolates some pages of the migrate scanner's pageblock and moves them.
    fn batch(&mut self, facts: &BlockFacts) -> Batch {
        let mut held = [const { None }; BATCH];
        let (order, count) = self.isolate(&mut held);
        let Some(order) = order else {
            return Batch::End;
        };
        self.found = true;
        let events = &self.reclaim.events.compact;
        events.isolated.add(count << order.get());
        let mut targets = Targets {
            ground: self.ground,
            order,
            blocks: [None; BATCH],
        };
        let taken = self.targets(order, &mut targets.blocks[..count]);
        events.isolated.add(taken << order.get());
        // Each target is taken by a page that moves, and what that leaves takes its place.
        for (held, target) in held.iter_mut().zip(&mut targets.blocks[..taken]) {
            if let Some(page) = held.take()
                && let Some(to) = target.take()
            {
                let from = page.pfn();
                let moved_to = |to| self.reclaim.lru_moved(from, to);
                let moved = page.migrate(to, self.job.mode(), moved_to);
                *target = Some(moved.left);
                match moved.outcome {
                    Migrated::Done => events.migrated.add(order.pages()),
                    _ => events.not_migrated.add(order.pages()),
                }
            }
        }
        held.into_iter().flatten().for_each(Held::put_back);
        let block = Pfn(self.at.migrate);
        let wanted = self.job.captures(facts);
        match targets.give_back(block, wanted) {
            Some(pfn) => Batch::Captured(pfn),
            None => Batch::Done,
        }
    }

    /// Holds and isolates pages of one order in the pageblock, from where the last batch ended.
    /// Returns the order, if there were any.
    fn isolate(&mut self, into: &mut [Option<Held<'r, P>>; BATCH]) -> (Option<Order>, usize) {
        let end = Pfn((self.at.migrate / PAGEBLOCK_PAGES + 1) * PAGEBLOCK_PAGES);
        let limit = self.job.goal.limit();
        let unevictable = self.reclaim.compaction.unevictable();
        let (begin, mut order, mut count) = (self.frame, None, 0);
        while count < BATCH && self.frame < end {
            let mut at = self.frame;
            let held = self.ground.hold_next(&mut at, limit);
            let Some(held) = held else {
                self.frame = at;
                break;
            };
            if order.is_some_and(|order| order != held.order()) {
                self.frame = held.pfn(); // the next batch begins with it
                break;
            }
            self.frame = at;
            let facts = held.owner().facts(held.pfn());
            let verdict = page_verdict(&facts, self.job.priority, unevictable);
            if verdict != PageVerdict::Skip && held.isolate() {
                order = Some(held.order());
                into[count] = Some(held);
                count += 1;
            }
        }
        let events = &self.reclaim.events.compact;
        let scanned = self.frame.0 - begin.0;
        events.migrate_scanned.add(scanned);
        if self.is_tasks() {
            events.task_migrate_scanned.add(scanned);
        }
        (order, count)
    }

    /// Takes free blocks to move to. Returns how many.
    fn targets(&mut self, order: Order, into: &mut [Option<Pfn>]) -> usize {
        let mut taken = 0;
        while taken < into.len() {
            let block = Pfn(self.at.free.saturating_sub(1));
            if block.0 / PAGEBLOCK_PAGES <= self.at.migrate / PAGEBLOCK_PAGES {
                self.at.pass_free();
                break;
            }
            let facts = self.ground.block_facts(block);
            let wanted = into.len() - taken;
            let got = match facts.filter(|facts| free_block(facts, self.job.priority)) {
                None => Ok(0),
                Some(_) => {
                    let mut places = into[taken..].iter_mut();
                    let found = |pfn| {
                        if let Some(place) = places.next() {
                            *place = Some(pfn);
                        }
                    };
                    let locking = self.job.locking();
                    self.ground
                        .take_targets(block, order, wanted, locking, found)
                }
            };
            match got {
                Err(Contended) => {
                    self.contended = true;
                    break;
                }
                Ok(got) if got < wanted => {
                    taken += got;
                    let events = &self.reclaim.events.compact;
                    events.free_scanned.add(PAGEBLOCK_PAGES);
                    if self.is_tasks() {
                        events.task_free_scanned.add(PAGEBLOCK_PAGES);
                    }
                    self.at.pass_free();
                }
                Ok(got) => taken += got,
            }
        }
        taken
    }
}

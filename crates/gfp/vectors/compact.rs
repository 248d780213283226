//! Compaction on a real zone (P423, P426, P964): the same in a simulator, in a process, and on bare
//! metal. Their tests include this file.
//!
//! 1. The machine is the caller's alone meanwhile: nobody else allocates or frees, and no
//!    background runs.
//! 2. All its memory is held but for some pageblocks of the largest zone, the *arena*. Of these
//!    every second page is free, and the others can be moved, or refuse.
//! 3. Nothing here panics meanwhile: what was seen is returned, and compared by the caller.

use core::cell::Cell;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use gfp::flags::{GFP_HIGHUSER_MOVABLE, GFP_NOWAIT, Gfp, ZoneKind};
use gfp::frame::{NodeId, Pfn};
use gfp::page::{MigrateMode, Migrated, OwnerId, PageOwner, ZoneStats};
use gfp::platform::Sleep;
use gfp::policy::compaction::fragmentation;
use gfp::policy::tunable::Tunable;
use gfp::{Mm, Platform};

const BLOCK: u8 = 9;
const PAGES: usize = 1 << BLOCK;
/// The most pageblocks of an arena.
const BLOCKS_MAX: usize = 64;
const WORDS: usize = PAGES / 64;
/// The most pageblocks that are made, one a success.
const MADE_MAX: usize = 3;
/// Attempts that fail in a row, and again after one that succeeded.
const FAILURES: usize = 9;
const FAILURES_AFTER: usize = 3;
/// More attempts in a row are never left out (P426).
const LEFT_OUT_MAX: usize = 64;
/// The task looks so often whether it is to stop, half a second each, before it is given up.
const LOOKS_MAX: usize = 40;
/// Looks every 500 ms, and never compacts unasked: no zone is that fragmented.
const PROACTIVENESS: i64 = 1;

/// Blocks that are linked through their first words.
struct Pile {
    head: *mut *mut u8,
    order: u8,
}

impl Pile {
    const fn of(order: u8) -> Pile {
        let head = null_mut();
        Pile { head, order }
    }

    /// Takes all that is free, whatever the watermarks.
    fn take<P: Platform>(&mut self, mm: &Mm<P>) {
        let Ok(_scope) = mm.scope_noreclaim(&"holds all memory") else {
            return;
        };
        while let Ok(pfn) = mm.alloc_pages(GFP_NOWAIT | Gfp::NOWARN, self.order) {
            let block = mm.page_address(pfn).as_ptr().cast::<*mut u8>();
            // SAFETY: the block is ours.
            unsafe { block.write(self.head.cast()) };
            self.head = block;
        }
    }

    fn give<P: Platform>(&mut self, mm: &Mm<P>) {
        while let Some(block) = NonNull::new(self.head) {
            // SAFETY: written by `take`.
            self.head = unsafe { block.read() }.cast();
            // SAFETY: ours, given back once.
            unsafe { mm.free_pages(block.as_ptr().cast(), self.order) };
        }
    }
}

/// The pageblocks, and which of their pages are in use: the owner's.
struct Arena {
    blocks: [Pfn; BLOCKS_MAX],
    count: usize,
    mine: [AtomicU64; BLOCKS_MAX * WORDS],
    refuses: AtomicBool,
}

// SAFETY: it answers for the pages of its blocks only, which nobody else uses.
unsafe impl PageOwner for Arena {
    fn isolate(&self, page: Pfn) -> bool {
        let bit = self.bit(page);
        bit.is_some_and(|(word, bit)| word.load(Relaxed) & bit != 0)
    }

    fn migrate(&self, from: Pfn, to: Pfn, _: MigrateMode) -> Migrated {
        // The content is nobody's; that of pages which are moved others look at.
        match (self.refuses.load(Relaxed), self.bit(from), self.bit(to)) {
            (false, Some((from, old)), Some((to, new))) => {
                from.fetch_and(!old, Relaxed);
                to.fetch_or(new, Relaxed);
                Migrated::Done
            }
            _ => Migrated::Failed,
        }
    }
}

impl Arena {
    fn of<P: Platform>(mm: &Mm<P>, zone: &ZoneStats, count: usize) -> Arena {
        let mut arena = Arena {
            blocks: [Pfn(0); BLOCKS_MAX],
            count: 0,
            mine: [const { AtomicU64::new(0) }; BLOCKS_MAX * WORDS],
            refuses: AtomicBool::new(false),
        };
        let gfp = (GFP_HIGHUSER_MOVABLE & !Gfp::RECLAIM) | Gfp::NOWARN | Gfp::THISNODE;
        let end = zone.start.add(zone.spanned);
        while arena.count < count.min(BLOCKS_MAX) {
            match mm.alloc_pages_node(zone.node, gfp, BLOCK) {
                Ok(pfn) if (zone.start..end).contains(&pfn) => {
                    arena.blocks[arena.count] = pfn;
                    arena.count += 1;
                    mm.split_page(pfn, BLOCK);
                }
                Ok(pfn) => {
                    // SAFETY: just allocated.
                    unsafe { mm.free_frames(pfn, BLOCK) };
                    break;
                }
                Err(_) => break,
            }
        }
        arena
    }

    fn bit(&self, page: Pfn) -> Option<(&AtomicU64, u64)> {
        let mut blocks = self.blocks[..self.count].iter();
        let block = blocks.position(|block| page.0 >> BLOCK == block.0 >> BLOCK)?;
        let at = page.0 % PAGES;
        Some((&self.mine[block * WORDS + at / 64], 1 << (at % 64)))
    }

    fn pages(&self) -> impl Iterator<Item = Pfn> + '_ {
        let blocks = self.blocks[..self.count].iter();
        blocks.flat_map(|block| (0..PAGES).map(|page| block.add(page)))
    }

    /// Gives every second page back, and makes the others movable.
    fn break_up<P: Platform>(&self, mm: &Mm<P>, id: OwnerId) -> bool {
        let mut owned = true;
        for page in self.pages() {
            if page.0 % 2 == 0 {
                // SAFETY: ours.
                unsafe { mm.free_frames(page, 0) };
            } else if let Some((word, bit)) = self.bit(page) {
                word.fetch_or(bit, Relaxed);
                owned &= mm.set_page_owner(page, id).is_ok();
            }
        }
        mm.pages().drain_all();
        owned
    }

    /// Gives the pages back that are in use.
    fn give<P: Platform>(&self, mm: &Mm<P>) {
        for page in self.pages() {
            if let Some((word, bit)) = self.bit(page)
                && word.fetch_and(!bit, Relaxed) & bit != 0
            {
                // SAFETY: ours, and forgotten.
                unsafe { mm.free_frames(page, 0) };
            }
        }
    }
}

/// P423: the fragmentation index of a zone for an order.
fn index<P: Platform>(mm: &Mm<P>, start: Pfn, order: u32) -> Option<i32> {
    mm.pages().drain_all();
    let zone = mm.pages().zone_stats().find(|zone| zone.start == start)?;
    let blocks = |order: usize| zone.nr_free[order].iter().sum::<usize>();
    let orders = 0..zone.nr_free.len();
    let suitable = orders.clone().skip(order as usize).map(blocks).sum();
    let all = orders.map(blocks).sum();
    Some(fragmentation(order, all, zone.free.free, suitable).value())
}

/// P423: the index of a zone for order 4 while it has nothing free, 64 single pages, and a block
/// that is large enough. `None`: the machine has too little memory.
pub(super) fn indices<P: Platform>(mm: &Mm<P>) -> Option<[i32; 3]> {
    let block = mm.alloc_pages(GFP_NOWAIT | Gfp::NOWARN, BLOCK).ok()?;
    mm.split_page(block, BLOCK);
    let free = |pages: core::ops::Range<usize>, step| {
        for page in pages.step_by(step) {
            // SAFETY: ours, each freed once.
            unsafe { mm.free_frames(block.add(page), 0) };
        }
    };
    let mut zones = mm.pages().zone_stats();
    let has_it = |zone: &ZoneStats| (zone.start..zone.start.add(zone.spanned)).contains(&block);
    let seen = zones.find(has_it).and_then(|zone| {
        mm.pages().drain_all();
        let mut rest = [Pile::of(BLOCK), Pile::of(0)];
        rest.iter_mut().for_each(|pile| pile.take(mm));
        let nothing = index(mm, zone.start, 4);
        free(0..128, 2);
        let singles = index(mm, zone.start, 4);
        free(1..32, 2);
        let there = index(mm, zone.start, 4);
        rest.iter_mut().for_each(|pile| pile.give(mm));
        Some([nothing?, singles?, there?])
    });
    if seen.is_none() {
        free(0..128, 2);
        free(1..32, 2);
    }
    free(33..128, 2);
    free(128..PAGES, 1);
    mm.pages().drain_all();
    seen
}

/// How many attempts were left out before each that failed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// The first ones.
    pub(super) at_first: [usize; FAILURES],
    /// After one had succeeded.
    pub(super) after_success: [usize; FAILURES_AFTER],
}

/// What a task did that was woken once.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Woken {
    /// It left the attempt out.
    Deferred,
    Failed,
    Succeeded,
}

/// A node whose task is woken by requests, in this task.
struct Node<'m, P: Platform> {
    mm: &'m Mm<P>,
    arena: &'m Arena,
    id: NodeId,
    /// Zones that the task goes over.
    zones: usize,
    made: Cell<[Option<Pfn>; MADE_MAX]>,
}

impl<P: Platform + Sleep> Node<'_, P> {
    /// A request that may not wait, and takes what there is.
    fn ask(&self) {
        while let Ok(pfn) = self.mm.alloc_pages(GFP_NOWAIT | Gfp::NOWARN, BLOCK) {
            let mut made = self.made.get();
            match made.iter_mut().find(|place| place.is_none()) {
                Some(place) => *place = Some(pfn),
                // SAFETY: just allocated.
                None => return unsafe { self.mm.free_frames(pfn, BLOCK) },
            }
            self.made.set(made);
        }
    }

    /// Has the task woken once. `None`: nobody woke it.
    fn wake(&self) -> Option<Woken> {
        let events = || self.mm.slabs().reclaim().events().compact;
        let before = events();
        let (looks, works) = (Cell::new(0), Cell::new(0));
        // It looks before each zone; then it is done.
        let stop = || match events().task_wakes == before.task_wakes {
            true => {
                if looks.replace(looks.get() + 1) == 0 {
                    self.ask();
                }
                looks.get() > LOOKS_MAX
            }
            false => {
                works.set(works.get() + 1);
                works.get() > self.zones
            }
        };
        self.mm.kcompactd(self.id, stop).ok()?;
        let after = events();
        (after.task_wakes != before.task_wakes).then_some(())?;
        let scanned = after.task_migrate_scanned != before.task_migrate_scanned;
        Some(match (scanned, after.migrated != before.migrated) {
            (_, true) => Woken::Succeeded,
            (true, false) => Woken::Failed,
            (false, false) => Woken::Deferred,
        })
    }

    /// Wakes it until it does something. What that is, and how often it did nothing before.
    fn attempt(&self) -> Option<(Woken, usize)> {
        for left_out in 0..=LEFT_OUT_MAX {
            match self.wake()? {
                Woken::Deferred => {}
                done => return Some((done, left_out)),
            }
        }
        None
    }

    /// Nothing moves any more, and the next attempt begins at the ends of the zone.
    fn refuse(&self) {
        self.arena.refuses.store(true, Relaxed);
        self.mm.compact_node(self.id);
    }

    /// One attempt succeeds; then nothing moves any more.
    fn succeed(&self) -> Option<()> {
        self.arena.refuses.store(false, Relaxed);
        let done = self.attempt();
        self.ask(); // what was made
        self.refuse();
        (done?.0 == Woken::Succeeded).then_some(())
    }

    fn fail(&self, left_out: &mut [usize]) -> Option<()> {
        for place in left_out {
            let (done, before) = self.attempt()?;
            (done == Woken::Failed).then_some(())?;
            *place = before;
        }
        Some(())
    }

    fn run(&self) -> Option<LeftOut> {
        let mut seen = LeftOut::default();
        self.refuse();
        self.succeed()?; // whatever failed before is forgotten
        self.fail(&mut seen.at_first)?;
        self.succeed()?;
        self.fail(&mut seen.after_success)?;
        self.succeed()?; // nobody is left out after this
        Some(seen)
    }
}

/// P426, P964: how a zone is left out that fails. `None`: something else happened.
pub(super) fn left_out<P: Platform + Sleep>(mm: &Mm<P>) -> Option<LeftOut> {
    let usable = |zone: &ZoneStats| zone.kind <= ZoneKind::Normal;
    let zones = || mm.pages().zone_stats().filter(usable);
    let zone = zones().max_by_key(|zone| zone.managed)?;
    // P421, P422: room for compaction, beside the blocks that are made.
    let room = zone.watermarks.low + zone.protection[ZoneKind::Normal as usize] + 32;
    let count = (room + MADE_MAX * PAGES).div_ceil(PAGES / 2) + 1;
    let arena = Arena::of(mm, &zone, count);
    let owner: &dyn PageOwner = &arena;
    // SAFETY: it is unregistered below.
    let id = unsafe { mm.register_page_owner_for(NonNull::from(owner)) }.ok()?;
    let mut rest = [Pile::of(BLOCK), Pile::of(0)];
    mm.pages().drain_all();
    rest.iter_mut().for_each(|pile| pile.take(mm));
    let owned = arena.break_up(mm, id);
    let proactiveness = Tunable::CompactionProactiveness;
    let before = mm.tunables().get(proactiveness);
    let set = mm.tunables().set(proactiveness, &PROACTIVENESS.into());
    let node = Node {
        mm,
        arena: &arena,
        id: zone.node,
        zones: zones().filter(|other| other.node == zone.node).count(),
        made: Cell::default(),
    };
    let ready = owned && set.is_ok() && arena.count == count;
    let seen = if ready { node.run() } else { None };
    for block in node.made.get().into_iter().flatten() {
        // SAFETY: ours, freed once.
        unsafe { mm.free_frames(block, BLOCK) };
    }
    arena.give(mm);
    rest.iter_mut().for_each(|pile| pile.give(mm));
    mm.pages().drain_all();
    mm.tunables().set(proactiveness, &before.ok()?).ok()?;
    mm.unregister_page_owner(id).ok()?;
    seen
}

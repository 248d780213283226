//! All memory of a machine, kept from requests.

use core::ops::Range;
use core::ptr::null_mut;
use gfp::flags::{GFP_NOWAIT, Gfp, ZoneKind};
use gfp::frame::Pfn;
use gfp::page::ZoneStats;
use gfp::{Mm, Platform};

/// Most of the memory is taken and given back in blocks of this order, which costs less.
const BLOCK: u8 = 9;
/// Single pages of the zone, beyond its low watermark, that a script may give.
const ROOM: usize = 64;

/// Blocks of one order that are linked through their first words.
struct Pile {
    head: *mut *mut u8,
    blocks: usize,
    order: u8,
}

impl Pile {
    const fn of(order: u8) -> Pile {
        Pile {
            head: null_mut(),
            blocks: 0,
            order,
        }
    }

    fn push<P: Platform>(&mut self, mm: &Mm<P>, pfn: Pfn) {
        let block = mm.page_address(pfn).as_ptr().cast::<*mut u8>();
        // SAFETY: the block is ours.
        unsafe { block.write(self.head.cast()) };
        self.head = block;
        self.blocks += 1;
    }

    /// Frees so many of them; how many there were.
    fn give<P: Platform>(&mut self, mm: &Mm<P>, blocks: usize) -> usize {
        let blocks = blocks.min(self.blocks);
        for _ in 0..blocks {
            let block = self.head;
            // SAFETY: written by `push`.
            self.head = unsafe { block.read() }.cast();
            // SAFETY: ours, given back once.
            unsafe { mm.free_pages(block.cast(), self.order) };
        }
        self.blocks -= blocks;
        blocks
    }
}

/// All memory of a machine that requests could get.
///
/// ```text
///   the zone that the script gives from              elsewhere
///   | arena | near: every other page, odd | blocks   | rest, blocks
/// ```
pub(super) struct Hoard {
    near: Pile,
    /// The neighbours of those in `near`: while they are here, what is given does not merge.
    odd: Pile,
    rest: Pile,
    blocks: Pile,
    /// One block of the zone, page by page, so that a block of any order can be made of it.
    arena: Option<Pfn>,
    /// Pages of it that are ours now.
    in_arena: usize,
    /// The zone's frames, and with how many free pages ordinary requests are still refused.
    zone: Range<usize>,
    min: usize,
    floor: usize,
    /// So many pages may be given one by one.
    room: usize,
}

/// P269: a request that may use the Normal zone is refused one page while no more are free.
fn floor_of(zone: &ZoneStats) -> usize {
    zone.watermarks.min + zone.protection[ZoneKind::Normal as usize]
}

impl Hoard {
    /// Of a machine: hardly anything yet. The script gives from its largest zone.
    pub(super) fn of<P: Platform>(mm: &Mm<P>) -> Hoard {
        let zones = mm.pages().zone_stats();
        let usable = zones.filter(|zone| zone.kind <= ZoneKind::Normal);
        let largest = usable.max_by_key(|zone| zone.managed);
        let mut hoard = Hoard {
            near: Pile::of(0),
            odd: Pile::of(0),
            rest: Pile::of(0),
            blocks: Pile::of(BLOCK),
            arena: None,
            in_arena: 0,
            zone: 0..0,
            min: 0,
            floor: 0,
            room: 0,
        };
        let Some(zone) = largest else { return hoard };
        hoard.zone = zone.start.0..zone.start.0 + zone.spanned;
        hoard.min = zone.watermarks.min;
        hoard.floor = floor_of(&zone);
        hoard.room = hoard.floor - zone.watermarks.min + zone.watermarks.low + ROOM;
        if let Ok(pfn) = mm.alloc_pages_node(zone.node, GFP_NOWAIT | Gfp::NOWARN, BLOCK) {
            mm.split_page(pfn, BLOCK);
            hoard.arena = Some(pfn);
            hoard.in_arena = 1 << BLOCK;
        }
        hoard
    }

    /// Everything is ours, and the arena whole.
    pub(super) fn is_whole(&self) -> bool {
        self.arena.is_some() && self.in_arena == 1 << BLOCK && self.near.blocks >= self.room
    }

    /// Takes all that is free, whatever the watermarks.
    pub(super) fn take<P: Platform>(&mut self, mm: &Mm<P>) {
        let Ok(_scope) = mm.scope_noreclaim(&"hoards all memory") else {
            return;
        };
        for order in [BLOCK, 0] {
            while let Ok(pfn) = mm.alloc_pages(GFP_NOWAIT | Gfp::NOWARN, order) {
                let near = self.zone.contains(&pfn.0) && self.near.blocks < self.room;
                if order == 0 {
                    self.keep(mm, pfn);
                } else if near || self.arena == Some(pfn) {
                    mm.split_page(pfn, BLOCK);
                    (0..1 << BLOCK).for_each(|page| self.keep(mm, pfn.add(page)));
                } else {
                    self.blocks.push(mm, pfn);
                }
            }
        }
    }

    /// A single page more.
    pub(super) fn keep<P: Platform>(&mut self, mm: &Mm<P>, pfn: Pfn) {
        if self
            .arena
            .is_some_and(|arena| pfn.0 >> BLOCK == arena.0 >> BLOCK)
        {
            self.in_arena += 1;
            return;
        }
        let pile = match self.zone.contains(&pfn.0) {
            true if pfn.0.is_multiple_of(2) => &mut self.near,
            true => &mut self.odd,
            false => &mut self.rest,
        };
        pile.push(mm, pfn);
    }

    /// Gives so many pages of the zone back, of which no two are neighbours. No CPU has them at
    /// hand then: what one has is for its next request, watermark or not. How many there were.
    pub(super) fn give<P: Platform>(&mut self, mm: &Mm<P>, pages: usize) -> usize {
        let given = self.near.give(mm, pages);
        if given != 0 {
            mm.pages().drain_all();
        }
        given
    }

    /// Gives enough to serve any request here.
    pub(super) fn give_plenty<P: Platform>(&mut self, mm: &Mm<P>) -> usize {
        let arena = self.in_arena;
        self.give_arena(mm);
        let odd = self.odd.give(mm, usize::MAX);
        arena + odd + self.give(mm, usize::MAX)
    }

    /// The zone's min watermark.
    pub(super) fn min(&self) -> usize {
        self.min
    }

    /// In pages of [`Hoard::give`]: as many as an ordinary request is still refused at.
    pub(super) fn floor(&self) -> usize {
        self.floor
    }

    /// As many as compaction needs to begin, also for a large order (P422).
    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// Gives one block of this order back.
    pub(super) fn give_block<P: Platform>(&mut self, mm: &Mm<P>, order: u8) {
        let Some(arena) = self.arena else { return };
        for page in 0..1 << order {
            // SAFETY: ours: the arena is whole when a script begins.
            unsafe { mm.free_frames(arena.add(page), 0) };
            self.in_arena -= 1;
        }
        mm.pages().drain_all();
    }

    /// Gives back what is ours of the arena: all but a block at its beginning.
    fn give_arena<P: Platform>(&mut self, mm: &Mm<P>) {
        let Some(arena) = self.arena else { return };
        for page in (1 << BLOCK) - self.in_arena..1 << BLOCK {
            // SAFETY: ours; what was given before is at the beginning.
            unsafe { mm.free_frames(arena.add(page), 0) };
        }
        self.in_arena = 0;
    }

    /// Gives everything back.
    pub(super) fn end<P: Platform>(mut self, mm: &Mm<P>) {
        self.take(mm);
        self.give_arena(mm);
        for pile in [
            &mut self.near,
            &mut self.odd,
            &mut self.rest,
            &mut self.blocks,
        ] {
            pile.give(mm, usize::MAX);
        }
        mm.pages().drain_all();
    }
}

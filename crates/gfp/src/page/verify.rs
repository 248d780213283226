//! A full check of a machine's page accounting, for tests and for who suspects memory corruption.

use super::block::runs;
use super::block::{CLASS_FULL, CLASS_PAIR, NO_ZONE};
use super::shard::Shard;
use super::zone::{NR_LISTS, Zone};
use super::{OWNERS_MAX, PageAllocator};
use crate::flags::MigrateType;
use crate::frame::{CpuId, FrameKind, NR_ORDERS, Order, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES, Pfn};
use crate::platform::Platform;
use crate::policy::placement;
use core::fmt;

/// What [`PageAllocator::verify`] found wrong.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct VerifyError {
    /// The rule that does not hold.
    pub rule: &'static str,
    /// Where: a block, frame, zone or object number.
    pub at: usize,
    /// What was found.
    pub found: usize,
    /// What should be there.
    pub expected: usize,
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let VerifyError {
            rule,
            at,
            found,
            expected,
        } = self;
        write!(f, "{rule}: at {at:#x} found {found}, expected {expected}")
    }
}

impl core::error::Error for VerifyError {}

/// What a shard's blocks say.
#[derive(Default)]
struct Found {
    /// Free pages that are not isolated, and such that are.
    free: usize,
    isolated: usize,
    /// Blocks that wait for free page reporting.
    dirty: usize,
}

/// `Ok` if `found == expected`.
pub(crate) fn same(
    rule: &'static str,
    at: usize,
    found: usize,
    expected: usize,
) -> Result<(), VerifyError> {
    if found == expected {
        Ok(())
    } else {
        Err(VerifyError {
            rule,
            at,
            found,
            expected,
        })
    }
}

impl<P: Platform> PageAllocator<P> {
    /// Checks every invariant of the page allocator: bitmaps against descriptors, indexes, counts,
    /// frame words and per-CPU caches (P306). Slow; nothing else may run on this machine meanwhile.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn verify(&self) -> Result<(), VerifyError> {
        self.verify_absent()?;
        self.verify_owners()?;
        for zone in self.zones.iter() {
            let (mut free, mut isolated, mut dirty) = (0, 0, 0);
            for shard in zone.shards() {
                let found = self.verify_shard(zone, shard)?;
                free += found.free;
                isolated += found.isolated;
                dirty += found.dirty;
            }
            let id = zone.id.into();
            same("zone free count is its bits", id, zone.free_pages(), free)?;
            let found = zone.free_isolated();
            same("isolated free pages are counted", id, found, isolated)?;
            let found = zone.counts.aside();
            same("what stands aside is isolated", id, found, isolated)?;
            same("blocks to report are counted", id, zone.nr_dirty(), dirty)?;
            same("no block is hidden", id, zone.hidden(), 0)?;
        }
        self.verify_caches()
    }

    /// Checks one shard's blocks, indexes and counts.
    fn verify_shard(&self, zone: &Zone, shard: &Shard) -> Result<Found, VerifyError> {
        let mut counts = [[0usize; MigrateType::COUNT]; NR_ORDERS];
        let (mut sum, mut fixed) = (Found::default(), 0);
        for i in shard.first_block..shard.first_block + shard.nr_blocks {
            let block = &self.blocks.blocks[i];
            if block.zone() != zone.id {
                continue;
            }
            let found: *const Shard = &zone.shards()[zone.shard_of(i)];
            let mine = core::ptr::eq(found, shard);
            same("a block is in one shard", i, mine.into(), 1)?;
            let line = &self.blocks.lines[i];
            let frames = (0..PAGEBLOCK_PAGES).filter(|f| line.is_free(*f)).count();
            same("block free count is its bits", i, block.free(), frames)?;
            match block.is_isolated() {
                true => sum.isolated += frames,
                false => sum.free += frames,
            }
            fixed += usize::from(placement::is_fixed(block.kind_beneath()));
            let kind = block.kind() as usize;
            if block.class() == CLASS_PAIR {
                let whole = PAGEBLOCK_PAGES;
                same("a block of a pair is wholly free", i, frames, whole)?;
                let lower = (i + self.blocks.first).is_multiple_of(2);
                counts[PAGEBLOCK_ORDER as usize + 1][kind] += lower as usize;
                self.verify_member(shard, i, CLASS_PAIR, lower)?;
            } else {
                for (order, n) in runs(line).into_iter().enumerate() {
                    counts[order][kind] += n as usize;
                }
                let class = line.largest().unwrap_or(CLASS_FULL);
                let found = block.class().into();
                same("class is the largest run", i, found, class.into())?;
                self.verify_member(shard, i, class, true)?;
            }
            sum.dirty += self.verify_report(shard, i, frames)?;
            self.verify_words(i)?;
        }
        let id = zone.id.into();
        same("fixed blocks are counted", id, shard.fixed(), fixed)?;
        let unseen = shard.runs().without(zone.may_have());
        same("a zone knows what a shard has", id, unseen.0 as usize, 0)?;
        for (order, kinds) in counts.iter().enumerate() {
            for kind in MigrateType::ALL {
                let (found, expected) = (shard.nr_free(order, kind), kinds[kind as usize]);
                same("count per order and type", order, found, expected)?;
                let there = shard.first(kind, order as u8).is_some();
                let found = shard.runs().has(kind, order as u8);
                same(
                    "what a shard has is noted",
                    order,
                    found.into(),
                    there.into(),
                )?;
            }
        }
        Ok(sum)
    }

    /// What is in no zone has no free frame; what a zone manages is present; the nodes with memory
    /// are those that are known to have some.
    fn verify_absent(&self) -> Result<(), VerifyError> {
        for (i, block) in self.blocks.blocks.iter().enumerate() {
            if block.zone() == NO_ZONE {
                same("what is absent is not free", i, block.free(), 0)?;
            } else if block.plug() != NO_ZONE {
                let (zone, plug) = (block.zone().into(), block.plug().into());
                same("a block joins the zone that boot chose", i, zone, plug)?;
            }
        }
        let mut nodes = 0;
        for zone in self.zones.iter() {
            let more = zone.managed_pages() > zone.present_pages();
            same("managed is present", zone.id.into(), more.into(), 0)?;
            let spans = zone.span().1 >= zone.present_pages();
            same("present is spanned", zone.id.into(), spans.into(), 1)?;
            nodes |= usize::from(zone.is_populated()) << zone.node.0;
        }
        same("nodes with memory", 0, self.node_mask(), nodes)
    }

    /// A block that is wholly free either waits for free page reporting or was reported; no other
    /// block does. Returns whether it waits, as a number.
    fn verify_report(
        &self,
        shard: &Shard,
        block: usize,
        free: usize,
    ) -> Result<usize, VerifyError> {
        let dirty = shard.dirty().contains(block - shard.first_block) as usize;
        let clean = self.blocks.blocks[block].is_clean() as usize;
        let whole = (free == PAGEBLOCK_PAGES) as usize;
        if self.blocks.blocks[block].is_isolated() {
            same("an isolated block does not wait", block, dirty, 0)?;
            same("a clean block is free", block, clean & !whole, 0)?;
            return Ok(0);
        }
        let what = "a whole free block is clean or dirty";
        same(what, block, clean + dirty, whole)?;
        Ok(dirty)
    }

    /// A block is in the index of its type and class, and in no other.
    fn verify_member(
        &self,
        shard: &Shard,
        block: usize,
        class: u8,
        stands: bool,
    ) -> Result<(), VerifyError> {
        let kind = self.blocks.blocks[block].kind() as usize;
        for list in 0..NR_LISTS {
            for order in 0..NR_ORDERS {
                let expected = stands && list == kind && order == class as usize;
                let found = shard.index_contains(list, order, block);
                same("index membership", block, found.into(), expected.into())?;
            }
        }
        Ok(())
    }

    /// A free frame has no word; an owned block covers no free frame and no other owner.
    fn verify_words(&self, block: usize) -> Result<(), VerifyError> {
        let line = &self.blocks.lines[block];
        let first = (self.blocks.first + block) << PAGEBLOCK_ORDER;
        let mut frame = 0;
        while frame < PAGEBLOCK_PAGES {
            let pfn = Pfn(first + frame);
            let word = self.frames.get(pfn);
            match word.kind() {
                FrameKind::None => frame += 1,
                FrameKind::Slab | FrameKind::Vmalloc => {
                    same(
                        "an owned frame is not free",
                        pfn.0,
                        line.is_free(frame).into(),
                        0,
                    )?;
                    frame += 1;
                }
                _ => {
                    let order = word.order();
                    let aligned = pfn.is_aligned(order);
                    same("a block is aligned", pfn.0, aligned.into(), 1)?;
                    let inside = Order::PAGEBLOCK.min(order);
                    let none_free = line.none_free(frame, inside);
                    same("an owned block is not free", pfn.0, none_free.into(), 1)?;
                    for later in 1..inside.pages() {
                        let kind = self.frames.get(pfn.add(later)).kind();
                        let none = kind == FrameKind::None;
                        same("later frames have no word", pfn.0 + later, none.into(), 1)?;
                    }
                    frame += inside.pages();
                }
            }
        }
        Ok(())
    }

    /// Each owner of pages has as many blocks as are counted.
    fn verify_owners(&self) -> Result<(), VerifyError> {
        let mut found = [0usize; OWNERS_MAX];
        for frame in 0..self.frames.len() {
            let word = self.frames.get(Pfn(self.frames.base().0 + frame));
            if let Some(block) = word.movable() {
                found[usize::from(block.owner)] += 1;
            }
        }
        for (place, found) in found.into_iter().enumerate() {
            let counted = self.owned_blocks(place);
            same("blocks of an owner are counted", place, found, counted)?;
        }
        Ok(())
    }

    /// What is in a per-CPU cache is marked so, and each cache counts right.
    fn verify_caches(&self) -> Result<(), VerifyError> {
        for cpu in 0..self.cpus.len() {
            for cache in self.caches_of(CpuId(cpu as u32)).unwrap_or(&[]) {
                let mut pages = 0;
                let mut wrong = None;
                cache.each(|frame, order| {
                    let pfn = Pfn(self.frames.base().0 + frame as usize);
                    if !self.frames.get(pfn).is_block(FrameKind::Cached, order) {
                        wrong = Some(pfn.0);
                    }
                    pages += order.pages();
                });
                if let Some(at) = wrong {
                    same("a cached block is marked so", at, 0, 1)?;
                }
                same("cached pages", cpu, cache.count(), pages)?;
            }
        }
        Ok(())
    }

    /// Pages in the caches of all CPUs, and on their way from there to their zones.
    pub fn cached_page_count(&self) -> usize {
        let cached = (0..self.cpus.len()).map(|cpu| self.cached_pages(CpuId(cpu as u32)));
        cached.sum::<usize>() + self.pages_in_mail()
    }
}

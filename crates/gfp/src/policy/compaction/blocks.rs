//! Which blocks and pages may be touched (P424, P425, P428, P429).

use super::CompactPriority;
use crate::flags::MigrateType;
use crate::policy::order::PAGEBLOCK_ORDER;

/// P425: what a pageblock is remembered for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Hints {
    /// Nothing.
    None,
    /// The last scan found nothing to take there. Forgotten when the scanners have met and the
    /// background falls asleep.
    Skip,
}

/// A pageblock, as the scanners see it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct BlockFacts {
    /// Its type.
    pub mobility: MigrateType,
    /// What is remembered.
    pub hints: Hints,
    /// The order of the largest free block in it, if any page is free.
    pub largest_free: Option<u32>,
}

/// Who compacts.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// A request of this mobility, for itself.
    Direct(MigrateType),
    /// The task of a node, or an administrator: for everybody.
    Background,
}

const fn holds_movable(mobility: MigrateType) -> bool {
    matches!(mobility, MigrateType::Movable | MigrateType::Cma)
}

const fn honours_hints(priority: CompactPriority, hints: Hints) -> bool {
    matches!(hints, Hints::Skip) && !matches!(priority, CompactPriority::SyncFull)
}

/// P424: whether the migrate scanner looks into a pageblock.
///
/// A wholly free block has nothing to move. An asynchronous request looks only where pages are
/// likely to be movable and where emptying helps it: a movable one in movable blocks, another in
/// blocks of its own type. Types that are withheld are never touched.
pub const fn migrate_block(block: &BlockFacts, by: Use, priority: CompactPriority) -> bool {
    if honours_hints(priority, block.hints) || matches!(block.mobility, MigrateType::Isolate) {
        return false;
    }
    if let Some(order) = block.largest_free
        && order >= PAGEBLOCK_ORDER
    {
        return false;
    }
    match (by, priority) {
        (Use::Direct(MigrateType::Movable), CompactPriority::Async) => {
            holds_movable(block.mobility)
        }
        (Use::Direct(request), CompactPriority::Async) => request.index() == block.mobility.index(),
        _ => true,
    }
}

/// P424, P428: whether the free scanner takes targets from a pageblock: movable ones only, or pages
/// that move would pollute others. A wholly free block is what compaction makes, so it is not
/// broken up, but for sync-full. A block without a free page has nothing to give.
pub const fn free_block(block: &BlockFacts, priority: CompactPriority) -> bool {
    if honours_hints(priority, block.hints) || !holds_movable(block.mobility) {
        return false;
    }
    match block.largest_free {
        None => false,
        Some(order) => order < PAGEBLOCK_ORDER || matches!(priority, CompactPriority::SyncFull),
    }
}

/// A used page, as its owner describes it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct PageFacts {
    /// The owner can move it.
    pub movable: bool,
    /// Somebody relies on its address for now.
    pub pinned: bool,
    /// Its lock is held by others.
    pub locked: bool,
    /// It is being written.
    pub writeback: bool,
    /// Its content is not stored elsewhere, and moving it may mean to write it first.
    pub dirty: bool,
    /// It is locked into memory.
    pub unevictable: bool,
}

/// P424, P429: what to do with a page.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum PageVerdict {
    /// Leave it.
    Skip,
    /// Take it and move it, without a wait.
    Move,
    /// Wait for its lock, then move it.
    WaitForLock,
    /// Wait until it is written, then move it.
    WaitForWriteback,
}

/// P424, P429: what to do with a page.
pub const fn page_verdict(
    page: &PageFacts,
    priority: CompactPriority,
    unevictable: Unevictable,
) -> PageVerdict {
    if !page.movable || page.pinned {
        return PageVerdict::Skip;
    }
    if page.unevictable && matches!(unevictable, Unevictable::Leave) {
        return PageVerdict::Skip;
    }
    match priority {
        CompactPriority::Async if page.locked || page.writeback || page.dirty => PageVerdict::Skip,
        CompactPriority::SyncLight if page.writeback => PageVerdict::Skip,
        CompactPriority::SyncFull if page.writeback => PageVerdict::WaitForWriteback,
        _ if page.locked => PageVerdict::WaitForLock,
        _ => PageVerdict::Move,
    }
}

/// P429: the sysctl `compact_unevictable_allowed`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Unevictable {
    /// 1, the default: they are moved.
    #[default]
    Move,
    /// 0, the default where latency counts.
    Leave,
}

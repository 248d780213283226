//! Is it fragmentation? (P423, P623)

use crate::policy::order::MAX_PAGE_ORDER;

/// P423: why an allocation of an order would fail.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fragmentation {
    /// It would not: there is a block. Linux prints -1000.
    Suitable,
    /// 0: for lack of memory, to 1000: for fragmentation.
    Index(u16),
}

impl Fragmentation {
    /// Linux's number: -1000, or 0 to 1000.
    pub const fn value(self) -> i32 {
        match self {
            Fragmentation::Suitable => -1000,
            Fragmentation::Index(index) => index as i32,
        }
    }
}

/// P423: the fragmentation index of a zone for `2^order` pages.
///
/// `blocks`: free blocks of any order; `free`: pages in them; `suitable`: of those blocks, how many
/// have this order or a higher one.
///
/// The formula gives less than 0 where one block is nearly as large as what is wanted (one free
/// block of order 3, order 4: -500). Such a zone has no memory, so it counts as 0; the rule's range
/// has no other negative value than -1000.
pub const fn fragmentation(
    order: u32,
    blocks: usize,
    free: usize,
    suitable: usize,
) -> Fragmentation {
    if suitable > 0 {
        return Fragmentation::Suitable;
    }
    if blocks == 0 || order > MAX_PAGE_ORDER {
        return Fragmentation::Index(0);
    }
    let per_request = (free as u128 * 1000) >> order;
    let part = (1000 + per_request) / blocks as u128;
    Fragmentation::Index(if part >= 1000 { 0 } else { 1000 - part as u16 })
}

/// P623: how much of the free memory is of no use for `2^order` pages, in thousandths: pages in
/// smaller blocks. 1000 if nothing is free.
///
/// `usable`: free pages in blocks of this order or higher.
pub const fn unusable_permille(free: usize, usable: usize) -> u16 {
    if free == 0 {
        return 1000;
    }
    (free.saturating_sub(usable) as u128 * 1000 / free as u128) as u16
}

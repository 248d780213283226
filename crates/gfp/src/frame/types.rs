//! Newtypes for what must not be mixed.

use core::fmt;

/// log2 of the page size.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes in a page.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;
/// The largest order the page allocator serves (P300): 1024 pages, 4 MiB.
pub const MAX_PAGE_ORDER: u8 = 10;
/// Number of orders, 0 ..= [`MAX_PAGE_ORDER`].
pub const NR_ORDERS: usize = MAX_PAGE_ORDER as usize + 1;
/// Order of a pageblock, the unit of mobility grouping (P310).
pub const PAGEBLOCK_ORDER: u8 = 9;
/// Pages in a pageblock.
pub const PAGEBLOCK_PAGES: usize = 1 << PAGEBLOCK_ORDER;
/// Nodes one machine may have.
pub const MAX_NODES: usize = 8;

const _: () = assert!(PAGEBLOCK_ORDER < MAX_PAGE_ORDER);

/// Page frame number: physical address divided by the page size.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Pfn(pub usize);

impl Pfn {
    /// The frame `pages` after this one.
    #[inline]
    pub const fn add(self, pages: usize) -> Pfn {
        Pfn(self.0 + pages)
    }

    /// Physical address of the first byte.
    #[inline]
    pub const fn phys(self) -> PhysAddr {
        PhysAddr((self.0 as u64) << PAGE_SHIFT)
    }

    /// True if this frame may start a block of `order`.
    #[inline]
    pub const fn is_aligned(self, order: Order) -> bool {
        self.0 & (order.pages() - 1) == 0
    }
}

impl fmt::Debug for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pfn {:#x}", self.0)
    }
}

impl fmt::Display for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A physical address in bytes.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct PhysAddr(pub u64);

impl PhysAddr {
    /// The frame that holds this address.
    #[inline]
    pub const fn pfn(self) -> Pfn {
        Pfn((self.0 >> PAGE_SHIFT) as usize)
    }
}

impl fmt::Debug for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "phys {:#x}", self.0)
    }
}

/// Size of a naturally aligned group of frames: 2^order pages, `0 ..= MAX_PAGE_ORDER`.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Order(u8);

impl Order {
    /// One page.
    pub const ZERO: Order = Order(0);
    /// The order of a pageblock.
    pub const PAGEBLOCK: Order = Order(PAGEBLOCK_ORDER);
    /// The largest order.
    pub const MAX: Order = Order(MAX_PAGE_ORDER);

    /// `None` above [`MAX_PAGE_ORDER`] (P52).
    #[inline]
    pub const fn new(order: u8) -> Option<Order> {
        if order <= MAX_PAGE_ORDER {
            Some(Order(order))
        } else {
            None
        }
    }

    /// The smallest order whose block holds `bytes` (P350); `None` for 0 and above the largest.
    #[inline]
    pub const fn for_bytes(bytes: usize) -> Option<Order> {
        if bytes == 0 {
            return None;
        }
        let pages = ((bytes - 1) >> PAGE_SHIFT) + 1;
        // ceil(log2(pages)) <= 52, so it fits u8.
        Order::new((usize::BITS - (pages - 1).leading_zeros()) as u8)
    }

    /// The order as a number.
    #[inline]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The order as an index.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Pages in a block of this order.
    #[inline]
    pub const fn pages(self) -> usize {
        1 << self.0
    }

    /// Bytes in a block of this order.
    #[inline]
    pub const fn bytes(self) -> usize {
        PAGE_SIZE << self.0
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "order {}", self.0)
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A memory node: memory at one distance from a set of CPUs.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[repr(transparent)]
pub struct NodeId(pub u8);

/// A CPU, or in a process a thread-bound slot: the owner of private caches.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[repr(transparent)]
pub struct CpuId(pub u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_for_bytes_is_the_smallest_that_holds() {
        // P350
        assert_eq!(Order::for_bytes(0), None);
        for (bytes, order) in [
            (1, 0),
            (4096, 0),
            (4097, 1),
            (8192, 1),
            (8193, 2),
            (4 << 20, 10),
        ] {
            assert_eq!(Order::for_bytes(bytes), Order::new(order), "{bytes}");
        }
        assert_eq!(Order::for_bytes((4 << 20) + 1), None);
        assert_eq!(Order::for_bytes(usize::MAX), None);
    }

    #[test]
    fn alignment_is_relative_to_frame_zero() {
        // P301
        assert!(Pfn(8).is_aligned(Order::new(3).unwrap()));
        assert!(!Pfn(4).is_aligned(Order::new(3).unwrap()));
    }
}

//! What a device can reach.

use crate::frame::{NodeId, Order, PhysAddr};
use core::fmt;

/// An address as a device sees it, in bytes (`dma_addr_t`).
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct DmaAddr(pub u64);

impl fmt::Debug for DmaAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dma {:#x}", self.0)
    }
}

/// How many bits of a device address a device can drive (`DMA_BIT_MASK`).
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[repr(transparent)]
pub struct DmaMask(u64);

impl DmaMask {
    /// The mask of a device that drives this many bits.
    ///
    /// # Panics
    /// Unless `bits` is 1 ..= 64.
    ///
    /// ```
    /// use gfp::pool::dma::DmaMask;
    /// assert_eq!(DmaMask::bits(24).highest(), 0xff_ffff);
    /// ```
    pub const fn bits(bits: u32) -> DmaMask {
        assert!(bits >= 1 && bits <= 64, "a mask has 1 to 64 bits");
        DmaMask(u64::MAX >> (64 - bits))
    }

    /// The highest device address.
    pub const fn highest(self) -> u64 {
        self.0
    }
}

/// What the allocator must know of a device (M10). A driver keeps one for each of its devices.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct DmaDevice {
    mask: DmaMask,
    bus_offset: i64,
    node: Option<NodeId>,
}

impl DmaDevice {
    /// A device whose addresses are physical addresses.
    pub const fn new(mask: DmaMask) -> DmaDevice {
        DmaDevice {
            mask,
            bus_offset: 0,
            node: None,
        }
    }

    /// A bus that shifts addresses: the device sees physical address `p` at `p + bytes`.
    ///
    /// # Panics
    /// Unless `bytes` is a multiple of the largest block, 4 MiB: blocks are aligned on both sides.
    #[must_use]
    pub const fn bus_offset(mut self, bytes: i64) -> DmaDevice {
        assert!(bytes % Order::MAX.bytes() as i64 == 0, "not aligned");
        self.bus_offset = bytes;
        self
    }

    /// The node that the device is attached to: memory comes from there if it can be.
    #[must_use]
    pub const fn near(mut self, node: NodeId) -> DmaDevice {
        self.node = Some(node);
        self
    }

    /// The node that the device is attached to.
    pub const fn node(&self) -> Option<NodeId> {
        self.node
    }

    /// The device address of `bytes` bytes at `phys`; `None` if the device does not reach all of
    /// them.
    pub const fn address_of(&self, phys: PhysAddr, bytes: usize) -> Option<DmaAddr> {
        let Some(first) = phys.0.checked_add_signed(self.bus_offset) else {
            return None;
        };
        let Some(last) = first.checked_add((bytes as u64).saturating_sub(1)) else {
            return None;
        };
        if last <= self.mask.0 {
            Some(DmaAddr(first))
        } else {
            None
        }
    }

    /// True if the device reaches a byte of `start .. end`.
    pub(super) fn reaches_into(&self, start: PhysAddr, end: PhysAddr) -> bool {
        let offset = i128::from(self.bus_offset);
        let (first, end) = (i128::from(start.0) + offset, i128::from(end.0) + offset);
        first.max(0) < end.min(i128::from(self.mask.0) + 1)
    }
}

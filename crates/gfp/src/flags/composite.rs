//! The composite masks (P30-P46) and the global allowed masks (P29).

use super::bits::Gfp;

/// P30: urgent, from a context that cannot sleep; may use part of the reserves.
pub const GFP_ATOMIC: Gfp = Gfp::HIGH.with(Gfp::KSWAPD_RECLAIM);
/// P31: the usual choice where the caller may sleep.
pub const GFP_KERNEL: Gfp = Gfp::RECLAIM.with(Gfp::IO).with(Gfp::FS);
/// P32: [`GFP_KERNEL`], charged to the current memory group.
pub const GFP_KERNEL_ACCOUNT: Gfp = GFP_KERNEL.with(Gfp::ACCOUNT);
/// P33: never sleeps, likely to fail under pressure, silent.
pub const GFP_NOWAIT: Gfp = Gfp::KSWAPD_RECLAIM.with(Gfp::NOWARN);
/// P34: may sleep, but reclaim starts no I/O.
pub const GFP_NOIO: Gfp = Gfp::RECLAIM;
/// P35: may sleep, but reclaim does not call into file systems.
pub const GFP_NOFS: Gfp = Gfp::RECLAIM.with(Gfp::IO);
/// P36: memory for user space that the kernel also maps.
pub const GFP_USER: Gfp = GFP_KERNEL.with(Gfp::HARDWALL);
/// P37: the `DMA` zone bit alone; to be ORed with a reclaim class.
pub const GFP_DMA: Gfp = Gfp::DMA;
/// P37: the `DMA32` zone bit alone; to be ORed with a reclaim class.
pub const GFP_DMA32: Gfp = Gfp::DMA32;
/// P38: memory for user space that the kernel need not map.
pub const GFP_HIGHUSER: Gfp = GFP_USER.with(Gfp::HIGHMEM);
/// P39: as [`GFP_HIGHUSER`], and the page may be moved.
pub const GFP_HIGHUSER_MOVABLE: Gfp = GFP_HIGHUSER.with(Gfp::MOVABLE).with(Gfp::SKIP_KASAN);
/// P40: a huge page if one is there, no effort.
pub const GFP_TRANSHUGE_LIGHT: Gfp = GFP_HIGHUSER_MOVABLE
    .with(Gfp::COMP)
    .with(Gfp::NOMEMALLOC)
    .with(Gfp::NOWARN)
    .without(Gfp::RECLAIM);
/// P41: a huge page with direct reclaim, kswapd is not woken.
pub const GFP_TRANSHUGE: Gfp = GFP_TRANSHUGE_LIGHT.with(Gfp::DIRECT_RECLAIM);

/// P42: the bits that a nested allocator may pass through.
pub const GFP_RECLAIM_MASK: Gfp = Gfp::RECLAIM
    .with(Gfp::HIGH)
    .with(Gfp::IO)
    .with(Gfp::FS)
    .with(Gfp::NOWARN)
    .with(Gfp::RETRY_MAYFAIL)
    .with(Gfp::NOFAIL)
    .with(Gfp::NORETRY)
    .with(Gfp::MEMALLOC)
    .with(Gfp::NOMEMALLOC)
    .with(Gfp::NOLOCKDEP);
/// P43: the placement bits.
pub const GFP_CONSTRAINT_MASK: Gfp = Gfp::HARDWALL.with(Gfp::THISNODE);
/// P44: what slab strips and reports: `DMA32`, `HIGHMEM` and every undefined bit.
pub const GFP_SLAB_BUG_MASK: Gfp = Gfp::from_bits_retain(!Gfp::ALL.bits())
    .with(Gfp::DMA32)
    .with(Gfp::HIGHMEM);
/// P46: always added by the no-lock page entry (P170).
pub const GFP_NOLOCK: Gfp = Gfp::NOWARN
    .with(Gfp::ZERO)
    .with(Gfp::NOMEMALLOC)
    .with(Gfp::COMP);
/// P47: the bits that select the zone.
pub const GFP_ZONE_MASK: Gfp = Gfp::DMA
    .with(Gfp::HIGHMEM)
    .with(Gfp::DMA32)
    .with(Gfp::MOVABLE);
/// P48: the bits that select the mobility type.
pub const GFP_MOVABLE_MASK: Gfp = Gfp::MOVABLE.with(Gfp::RECLAIMABLE);
/// P29: what requests may carry during early boot.
pub const GFP_BOOT_MASK: Gfp = Gfp::ALL.without(GFP_KERNEL);
/// P29: what requests may carry while devices are going down.
pub const GFP_SUSPEND_MASK: Gfp = Gfp::ALL.without(Gfp::IO.with(Gfp::FS));

impl Gfp {
    /// P45: the word for debug metadata allocated inside an allocation made with `self`.
    ///
    /// Keeps the reclaim class, gives up early, takes no reserves and stays silent.
    pub const fn nested_mask(self) -> Gfp {
        self.intersection(GFP_KERNEL.with(GFP_ATOMIC).with(Gfp::NOLOCKDEP))
            .with(Gfp::NORETRY)
            .with(Gfp::NOMEMALLOC)
            .with(Gfp::NOWARN)
    }
}

// The values that traces of a real Linux carry (P30-P46).
const _: () = {
    assert!(GFP_ATOMIC.bits() == 0x820 && GFP_KERNEL.bits() == 0xCC0);
    assert!(GFP_NOWAIT.bits() == 0x2800 && GFP_NOIO.bits() == 0xC00 && GFP_NOFS.bits() == 0xC40);
    assert!(GFP_KERNEL_ACCOUNT.bits() == 0x40_0CC0 && GFP_USER.bits() == 0x10_0CC0);
    assert!(GFP_HIGHUSER.bits() == 0x10_0CC2 && GFP_HIGHUSER_MOVABLE.bits() == 0x10_0CCA);
    assert!(GFP_TRANSHUGE_LIGHT.bits() == 0x1C_20CA && GFP_TRANSHUGE.bits() == 0x1C_24CA);
};

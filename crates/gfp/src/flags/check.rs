//! What is illegal where (P49-P60, P170, S17, S36, V5, V31, M2, M10), and what Linux does about it.

use core::fmt;

use super::bits::Gfp;
use super::composite::{
    GFP_ATOMIC, GFP_CONSTRAINT_MASK, GFP_KERNEL, GFP_NOLOCK, GFP_SLAB_BUG_MASK, GFP_USER,
    GFP_ZONE_MASK,
};

/// P300: the largest order that the page allocator serves (4 MiB with 4 KiB pages).
pub const MAX_PAGE_ORDER: u32 = 10;

/// P50: the largest order for which `NOFAIL` is supported.
const MAX_NOFAIL_ORDER: u32 = 1;

/// The function family that received a flag word; what is legal depends on it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// `alloc_pages` and its node variants.
    Pages,
    /// `alloc_pages_exact` (P55).
    Exact,
    /// `__get_free_pages`, `get_zeroed_page` (P56).
    GetFreePages,
    /// `alloc_contig_range`, `alloc_contig_pages` (P58).
    Contig,
    /// `alloc_pages_bulk` (P59).
    Bulk,
    /// `alloc_pages_nolock` (P170).
    NoLock,
    /// `kmalloc` and `kmem_cache_alloc` of a cache without constructor (S17).
    Slab,
    /// `kmem_cache_alloc` of a cache with a constructor (S17).
    SlabCtor,
    /// `kmalloc_nolock` (S36).
    SlabNoLock,
    /// `__vmalloc` and relatives (V5).
    Vmalloc,
    /// `vmalloc_32`, the one vmalloc that takes a zone bit (V5).
    Vmalloc32,
    /// `kvmalloc` and relatives (V31).
    Kvmalloc,
    /// `mempool_alloc` (M2).
    Mempool,
    /// `dma_alloc_coherent` (M10).
    DmaCoherent,
}

/// Whether the node that a request names has memory on line (P54).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum NodeLiveness {
    /// The node can serve.
    Online,
    /// The node is absent or off line.
    Offline,
}

/// Why a flag word is refused; the text of each names the fix.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum GfpError {
    /// P10, P44: bits that have no meaning are set. Use only the named constants.
    UndefinedBits {
        /// The undefined bits.
        bits: u32,
    },
    /// P47: the zone bits contradict each other. Keep one of them.
    IllegalZoneSelector {
        /// The four selector bits.
        bits: u32,
    },
    /// P48: both mobility bits are set. Keep one of them.
    MovableAndReclaimable,
    /// P49: `NOFAIL` where the caller may not wait. Add `DIRECT_RECLAIM` or handle failure.
    NofailWithoutReclaim,
    /// P50: `NOFAIL` for more than two pages. Use kvmalloc, or handle failure.
    NofailHighOrder {
        /// The order asked for.
        order: u32,
    },
    /// P50: `NOFAIL` from a task that is itself reclaiming. Nobody else can make room for it.
    NofailInReclaim,
    /// P51: `NOFAIL` with `NORETRY` or `RETRY_MAYFAIL`. Say either "never fail" or "give up".
    NofailContradiction,
    /// P52: the order is beyond what the page allocator serves. Use vmalloc or a contiguous range.
    OrderTooLarge {
        /// The order asked for.
        order: u32,
        /// The largest order served.
        max: u32,
    },
    /// P54: `THISNODE` for a node without memory. Choose an online node or drop the bit.
    ThisNodeOffline,
    /// The function does not take these bits. Drop them, or use the function that does.
    BitsNotAllowed {
        /// The function family.
        entry: Entry,
        /// The offending bits, all defined ones.
        bits: Gfp,
    },
}

/// V5: what vmalloc takes.
const VMALLOC_ALLOWED: Gfp = GFP_USER
    .with(GFP_ATOMIC)
    .with(Gfp::ACCOUNT)
    .with(Gfp::ZERO)
    .with(Gfp::NOFAIL)
    .with(Gfp::NORETRY)
    .with(Gfp::RETRY_MAYFAIL)
    .with(Gfp::NOLOCKDEP)
    .with(Gfp::NOWARN)
    .with(Gfp::SKIP_KASAN);

/// P58: what a contiguous-range request acts on ...
const CONTIG_ALLOWED: Gfp = GFP_KERNEL
    .with(Gfp::COMP)
    .with(Gfp::RETRY_MAYFAIL)
    .with(Gfp::NOWARN)
    .with(Gfp::ZERO)
    .with(Gfp::ZEROTAGS)
    .with(Gfp::SKIP_ZERO)
    .with(Gfp::SKIP_KASAN);
/// ... and what it ignores: the caller named the range, so placement and mobility mean nothing.
const CONTIG_IGNORED: Gfp = GFP_ZONE_MASK
    .with(Gfp::RECLAIMABLE)
    .with(Gfp::WRITE)
    .with(GFP_CONSTRAINT_MASK);

/// S36: what `kmalloc_nolock` takes.
const SLAB_NOLOCK_ALLOWED: Gfp = Gfp::ZERO.with(Gfp::ACCOUNT).with(Gfp::NO_OBJ_EXT);

/// M2: what a mempool adds to every request.
const MEMPOOL_ADDED: Gfp = Gfp::NOMEMALLOC.with(Gfp::NORETRY).with(Gfp::NOWARN);

/// A word that has none of these bits cannot fail [`Gfp::check`]: every illegal zone selector holds
/// `DMA` or `DMA32`, the illegal mobility holds `RECLAIMABLE`, the rest `NOFAIL` or an undefined
/// bit.
const SUSPECT: Gfp = Gfp::from_bits_retain(!Gfp::ALL.bits())
    .with(Gfp::DMA)
    .with(Gfp::DMA32)
    .with(Gfp::RECLAIMABLE)
    .with(Gfp::NOFAIL);

const _: () = assert!(!GFP_KERNEL.intersects(SUSPECT) && !GFP_ATOMIC.intersects(SUSPECT));

impl Gfp {
    /// One AND: false means that [`Gfp::check`] would pass, so that hot paths skip it.
    #[inline]
    pub const fn needs_check(self) -> bool {
        self.intersects(SUSPECT)
    }

    /// [`Gfp::needs_check`], or one of these bits is set: one AND as well.
    #[inline]
    pub const fn needs_check_or(self, bits: Gfp) -> bool {
        self.intersects(SUSPECT.with(bits))
    }

    /// Whether the word makes sense by itself, whoever gets it.
    ///
    /// # Errors
    /// Undefined bits, illegal zone selector (P47), both mobility bits (P48), `NOFAIL` without
    /// `DIRECT_RECLAIM` (P49), `NOFAIL` with `NORETRY` or `RETRY_MAYFAIL` (P51).
    pub const fn check(self) -> Result<(), GfpError> {
        if self.undefined_bits() != 0 {
            return Err(GfpError::UndefinedBits {
                bits: self.undefined_bits(),
            });
        }
        if let Err(error) = self.highest_zone() {
            return Err(error);
        }
        if let Err(error) = self.migratetype() {
            return Err(error);
        }
        if self.intersects(Gfp::NOFAIL) {
            if !self.allows_blocking() {
                return Err(GfpError::NofailWithoutReclaim);
            }
            if self.intersects(Gfp::NORETRY.with(Gfp::RETRY_MAYFAIL)) {
                return Err(GfpError::NofailContradiction);
            }
        }
        Ok(())
    }

    /// Whether the word may ask the page allocator for `2^order` pages (P50, P52).
    ///
    /// # Errors
    /// [`GfpError::OrderTooLarge`], also with `NOFAIL`; [`GfpError::NofailHighOrder`] above order
    /// 1, which Linux documents as unsupported but serves ([`GfpError::linux_goes_on`]).
    pub const fn check_order(self, order: u32) -> Result<(), GfpError> {
        if order > MAX_PAGE_ORDER {
            return Err(GfpError::OrderTooLarge {
                order,
                max: MAX_PAGE_ORDER,
            });
        }
        if self.intersects(Gfp::NOFAIL) && order > MAX_NOFAIL_ORDER {
            return Err(GfpError::NofailHighOrder { order });
        }
        Ok(())
    }

    /// Whether the word may name this node (P54).
    ///
    /// # Errors
    /// [`GfpError::ThisNodeOffline`] if the request insists on a node without memory.
    pub const fn check_node(self, node: NodeLiveness) -> Result<(), GfpError> {
        if self.intersects(Gfp::THISNODE) && matches!(node, NodeLiveness::Offline) {
            return Err(GfpError::ThisNodeOffline);
        }
        Ok(())
    }

    /// Whether a task that is itself freeing memory (`PF_MEMALLOC`, the noreclaim scope) may use
    /// the word (P50).
    ///
    /// # Errors
    /// [`GfpError::NofailInReclaim`]: nobody else can make room for it, so it would wait for ever.
    pub const fn check_while_reclaiming(self) -> Result<(), GfpError> {
        if self.intersects(Gfp::NOFAIL) {
            return Err(GfpError::NofailInReclaim);
        }
        Ok(())
    }

    /// [`Gfp::check`], and whether the function `entry` takes the word.
    ///
    /// # Errors
    /// Those of [`Gfp::check`], and [`GfpError::BitsNotAllowed`].
    pub const fn check_for(self, entry: Entry) -> Result<(), GfpError> {
        if let Err(error) = self.check() {
            return Err(error);
        }
        let bits = self.refused_by(entry);
        if !bits.is_empty() {
            return Err(GfpError::BitsNotAllowed { entry, bits });
        }
        Ok(())
    }

    /// The word that Linux goes on with, and the complaint it would log, if any.
    ///
    /// Bits are removed where Linux removes them (P55, P56, P58, S17, V5), or where they are
    /// without effect (undefined bits, `NOFAIL` without `DIRECT_RECLAIM`), and added where the
    /// entry always adds them (P46, S36, M2). An illegal zone or mobility selector is cleared, so
    /// that the result is an ordinary unmovable request instead of Linux's silent use of the lowest
    /// zone. The result always passes [`Gfp::check`], but for the P51 contradiction, which Linux
    /// serves as `NOFAIL`: there `NORETRY` and `RETRY_MAYFAIL` are removed.
    pub const fn sanitize_for(self, entry: Entry) -> (Gfp, Option<GfpError>) {
        let complaint = match self.check_for(entry) {
            Ok(()) => None,
            Err(error) => Some(error),
        };
        let mut gfp = self.intersection(Gfp::ALL).without(self.stripped_by(entry));
        if gfp.highest_zone().is_err() {
            gfp = gfp.without(GFP_ZONE_MASK);
        }
        if gfp.migratetype().is_err() {
            gfp = gfp.without(Gfp::MOVABLE.with(Gfp::RECLAIMABLE));
        }
        if gfp.intersects(Gfp::NOFAIL) {
            gfp = if gfp.allows_blocking() {
                gfp.without(Gfp::NORETRY.with(Gfp::RETRY_MAYFAIL))
            } else {
                gfp.without(Gfp::NOFAIL)
            };
        }
        (gfp.with(Self::added_by(entry)), complaint)
    }

    /// The defined bits that make `entry` complain.
    const fn refused_by(self, entry: Entry) -> Gfp {
        let refused = match entry {
            Entry::Pages | Entry::GetFreePages | Entry::Bulk => Gfp::NONE,
            Entry::Exact => Gfp::COMP.with(Gfp::HIGHMEM),
            Entry::Contig => CONTIG_ALLOWED.with(CONTIG_IGNORED).complement(),
            Entry::NoLock => Gfp::ACCOUNT.complement(),
            Entry::Slab => GFP_SLAB_BUG_MASK,
            Entry::SlabCtor => GFP_SLAB_BUG_MASK.with(Gfp::ZERO),
            Entry::SlabNoLock => SLAB_NOLOCK_ALLOWED.complement(),
            Entry::Vmalloc => VMALLOC_ALLOWED.complement(),
            Entry::Vmalloc32 => VMALLOC_ALLOWED.with(Gfp::DMA).with(Gfp::DMA32).complement(),
            Entry::Kvmalloc => GFP_SLAB_BUG_MASK.with(Gfp::NORETRY),
            Entry::Mempool => Gfp::ZERO,
            Entry::DmaCoherent => Gfp::COMP,
        };
        self.intersection(refused).intersection(Gfp::ALL)
    }

    /// The defined bits that `entry` takes off, with or without a complaint.
    const fn stripped_by(self, entry: Entry) -> Gfp {
        let silent = match entry {
            Entry::GetFreePages => Gfp::HIGHMEM,
            Entry::Contig => CONTIG_IGNORED,
            Entry::DmaCoherent => GFP_ZONE_MASK,
            // A blocking pool allocation waits for its own elements and never fails anyway.
            Entry::Mempool => Gfp::NOFAIL,
            _ => Gfp::NONE,
        };
        let kept_in_spite = match entry {
            Entry::Kvmalloc => Gfp::NORETRY,
            _ => Gfp::NONE,
        };
        self.refused_by(entry)
            .without(kept_in_spite)
            .with(self.intersection(silent))
    }

    /// The bits that `entry` always adds.
    const fn added_by(entry: Entry) -> Gfp {
        match entry {
            Entry::NoLock => GFP_NOLOCK,
            Entry::SlabNoLock => Gfp::NOWARN.with(Gfp::NOMEMALLOC),
            Entry::Mempool => MEMPOOL_ADDED,
            _ => Gfp::NONE,
        }
    }
}

impl Entry {
    /// Every entry.
    pub const ALL: [Entry; 14] = [
        Entry::Pages,
        Entry::Exact,
        Entry::GetFreePages,
        Entry::Contig,
        Entry::Bulk,
        Entry::NoLock,
        Entry::Slab,
        Entry::SlabCtor,
        Entry::SlabNoLock,
        Entry::Vmalloc,
        Entry::Vmalloc32,
        Entry::Kvmalloc,
        Entry::Mempool,
        Entry::DmaCoherent,
    ];

    /// The name of the family's best known function, for messages.
    pub const fn name(self) -> &'static str {
        match self {
            Entry::Pages => "alloc_pages",
            Entry::Exact => "alloc_pages_exact",
            Entry::GetFreePages => "__get_free_pages",
            Entry::Contig => "alloc_contig_range",
            Entry::Bulk => "alloc_pages_bulk",
            Entry::NoLock => "alloc_pages_nolock",
            Entry::Slab => "kmalloc",
            Entry::SlabCtor => "kmem_cache_alloc of a cache with a constructor",
            Entry::SlabNoLock => "kmalloc_nolock",
            Entry::Vmalloc => "vmalloc",
            Entry::Vmalloc32 => "vmalloc_32",
            Entry::Kvmalloc => "kvmalloc",
            Entry::Mempool => "mempool_alloc",
            Entry::DmaCoherent => "dma_alloc_coherent",
        }
    }

    /// What to do about a bit that this entry refuses.
    const fn fix(self) -> &'static str {
        match self {
            Entry::Exact => {
                "drop them; for a compound page use alloc_pages with a power-of-two size"
            }
            Entry::Contig => "pass only reclaim bits, COMP, RETRY_MAYFAIL, NOWARN and ZERO",
            Entry::NoLock => "pass ACCOUNT or nothing; the rest is implied",
            Entry::Slab => "drop them; for memory of a zone use alloc_pages",
            Entry::SlabCtor => "drop them; the constructor defines the content",
            Entry::SlabNoLock => "pass only ZERO and ACCOUNT",
            Entry::Vmalloc => "drop them; for memory below 4 GiB use vmalloc_32",
            Entry::Vmalloc32 => "drop them; the zone is implied",
            Entry::Kvmalloc => "drop them; the vmalloc leg cannot honour them",
            Entry::Mempool => "drop them and clear the element after allocation",
            Entry::DmaCoherent => "drop them; the result is never a compound page",
            Entry::Pages | Entry::GetFreePages | Entry::Bulk => "drop them",
        }
    }
}

impl GfpError {
    /// Linux logs this (at most) and serves the request all the same; a Linux-shaped face may do so
    /// with the word from [`Gfp::sanitize_for`]. False: Linux fails the request.
    pub const fn linux_goes_on(self) -> bool {
        match self {
            GfpError::OrderTooLarge { .. } | GfpError::ThisNodeOffline => false,
            GfpError::BitsNotAllowed { entry, .. } => {
                !matches!(entry, Entry::Contig | Entry::DmaCoherent)
            }
            _ => true,
        }
    }
}

impl fmt::Display for GfpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            GfpError::UndefinedBits { bits } => write!(
                f,
                "undefined GFP bits {bits:#x}: build the mask from the named constants only"
            ),
            GfpError::IllegalZoneSelector { bits } => write!(
                f,
                "contradictory zone bits {}: keep one of __GFP_DMA, __GFP_DMA32, __GFP_HIGHMEM",
                Gfp::from_bits_retain(bits)
            ),
            GfpError::MovableAndReclaimable => f.write_str(
                "__GFP_MOVABLE and __GFP_RECLAIMABLE are both set: keep the one that is true \
                 of the memory",
            ),
            GfpError::NofailWithoutReclaim => f.write_str(
                "__GFP_NOFAIL without __GFP_DIRECT_RECLAIM: add __GFP_DIRECT_RECLAIM where \
                 sleeping is allowed, or drop __GFP_NOFAIL and handle failure",
            ),
            GfpError::NofailHighOrder { order } => write!(
                f,
                "__GFP_NOFAIL with order {order}: at most order {MAX_NOFAIL_ORDER} is supported; \
                 use kvmalloc or handle failure"
            ),
            GfpError::NofailInReclaim => f.write_str(
                "__GFP_NOFAIL from a task that is reclaiming: reserve the memory before reclaim \
                 starts, or handle failure",
            ),
            GfpError::NofailContradiction => f.write_str(
                "__GFP_NOFAIL with __GFP_NORETRY or __GFP_RETRY_MAYFAIL: keep __GFP_NOFAIL to wait \
                 for ever, or drop it and handle failure",
            ),
            GfpError::OrderTooLarge { order, max } => write!(
                f,
                "order {order} is above the maximum {max}: use vmalloc, or alloc_contig_range for \
                 contiguous memory"
            ),
            GfpError::ThisNodeOffline => f.write_str(
                "__GFP_THISNODE for a node without memory: name an online node or drop \
                 __GFP_THISNODE",
            ),
            GfpError::BitsNotAllowed { entry, bits } => {
                write!(f, "{} does not take {bits}: {}", entry.name(), entry.fix())
            }
        }
    }
}

impl core::error::Error for GfpError {}

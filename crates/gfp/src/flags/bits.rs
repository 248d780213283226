//! The flag word and its single bits (P1-P28).

use core::ops::{BitAnd, BitAndAssign, BitOr, BitOrAssign, Not};

use super::check::GfpError;

/// One request's allocation flags: a 32-bit word with Linux's bit values.
///
/// Set operations are `const fn`, so masks can be built in constants; the operators `|`, `&` and
/// `!` do the same at run time. The default is the empty word, which prints as `none`.
///
/// ```
/// use gfp::flags::{GFP_KERNEL, Gfp};
/// const ZEROED: Gfp = GFP_KERNEL.with(Gfp::ZERO);
/// assert_eq!(ZEROED, GFP_KERNEL | Gfp::ZERO);
/// assert_eq!(ZEROED.bits(), 0xDC0);
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Gfp(u32);

impl Gfp {
    /// P1, bit 0: the highest usable zone is `DMA`.
    pub const DMA: Gfp = Gfp(1 << 0);
    /// P2, bit 1: the highest usable zone is `HIGHMEM` (half of `MOVABLE`, see [`Gfp::MOVABLE`]).
    pub const HIGHMEM: Gfp = Gfp(1 << 1);
    /// P3, bit 2: the highest usable zone is `DMA32`. Slab refuses it.
    pub const DMA32: Gfp = Gfp(1 << 2);
    /// P4, bit 3: mobility type `Movable`; together with `HIGHMEM` it also allows the `Movable`
    /// zone.
    pub const MOVABLE: Gfp = Gfp(1 << 3);
    /// P5, bit 4: mobility type `Reclaimable` (caches with a shrinker).
    pub const RECLAIMABLE: Gfp = Gfp(1 << 4);
    /// P6, bit 5: urgent, may go below the min watermark.
    pub const HIGH: Gfp = Gfp(1 << 5);
    /// P7, bit 6: reclaim may start physical I/O; also the precondition of compaction.
    pub const IO: Gfp = Gfp(1 << 6);
    /// P8, bit 7: reclaim may call into file systems.
    pub const FS: Gfp = Gfp(1 << 7);
    /// P9, bit 8: the returned memory reads as zero.
    pub const ZERO: Gfp = Gfp(1 << 8);
    /// P11, bit 10: the caller may sleep and reclaim by itself. "Blocking" is exactly this bit.
    pub const DIRECT_RECLAIM: Gfp = Gfp(1 << 10);
    /// P12, bit 11: background reclaim is woken at the low watermark.
    pub const KSWAPD_RECLAIM: Gfp = Gfp(1 << 11);
    /// P13, bit 12: the page will be dirtied soon. No effect: there are no dirty limits.
    pub const WRITE: Gfp = Gfp(1 << 12);
    /// P14, bit 13: no failure, stall or over-order report.
    pub const NOWARN: Gfp = Gfp(1 << 13);
    /// P15, bit 14: try hard, never OOM-kill, may fail.
    pub const RETRY_MAYFAIL: Gfp = Gfp(1 << 14);
    /// P16, bit 15: never fail.
    pub const NOFAIL: Gfp = Gfp(1 << 15);
    /// P17, bit 16: one light attempt, never OOM-kill.
    pub const NORETRY: Gfp = Gfp(1 << 16);
    /// P18, bit 17: ignore all watermarks (the caller promises to free more than it takes).
    pub const MEMALLOC: Gfp = Gfp(1 << 17);
    /// P19, bit 18: a result of order > 0 is a compound page.
    pub const COMP: Gfp = Gfp(1 << 18);
    /// P20, bit 19: never use emergency reserves; beats [`Gfp::MEMALLOC`] (P53).
    pub const NOMEMALLOC: Gfp = Gfp(1 << 19);
    /// P21, bit 20: enforce the task's cpuset memory nodes.
    pub const HARDWALL: Gfp = Gfp(1 << 20);
    /// P22, bit 21: only the requested node.
    pub const THISNODE: Gfp = Gfp(1 << 21);
    /// P23, bit 22: charge to the current memory group.
    pub const ACCOUNT: Gfp = Gfp(1 << 22);
    /// P24, bit 23: zero memory tags too.
    pub const ZEROTAGS: Gfp = Gfp(1 << 23);
    /// P25: zero here, since no hardware memory tags are supported.
    pub const SKIP_ZERO: Gfp = Gfp(0);
    /// P25: zero here, since no hardware memory tags are supported.
    pub const SKIP_KASAN: Gfp = Gfp(0);
    /// P26, our bit 24: skip lock-dependency tracking of "may reclaim".
    pub const NOLOCKDEP: Gfp = Gfp(1 << 24);
    /// P27, our bit 25: slab-internal, do not allocate an object-extension vector.
    pub const NO_OBJ_EXT: Gfp = Gfp(1 << 25);

    /// P28: both reclaim bits.
    pub const RECLAIM: Gfp = Self::DIRECT_RECLAIM.with(Self::KSWAPD_RECLAIM);
    /// The empty word.
    pub const NONE: Gfp = Gfp(0);
    /// Every defined bit: 0..=25 without bit 9, which is reserved (P10).
    pub const ALL: Gfp = Gfp(((1 << 26) - 1) & !(1 << 9));
    /// P29: what requests may carry before there are tasks that could sleep or be woken.
    pub const AT_BOOT: Gfp = Self::SUSPENDED.without(Self::RECLAIM);
    /// P29: what requests may carry while devices are down.
    pub const SUSPENDED: Gfp = Self::ALL.without(Self::IO).without(Self::FS);

    /// The word with these bits.
    ///
    /// # Errors
    /// [`GfpError::UndefinedBits`] if a bit outside [`Gfp::ALL`] is set.
    pub const fn from_bits(bits: u32) -> Result<Gfp, GfpError> {
        let undefined = bits & !Self::ALL.0;
        if undefined != 0 {
            return Err(GfpError::UndefinedBits { bits: undefined });
        }
        Ok(Gfp(bits))
    }

    /// The word with these bits, undefined ones kept; [`Gfp::check`] refuses them later.
    pub const fn from_bits_retain(bits: u32) -> Gfp {
        Gfp(bits)
    }

    /// The numeric value, equal to Linux's for bits 0..=23.
    #[inline]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// No bit is set.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All bits of `other` are set.
    #[inline]
    pub const fn contains(self, other: Gfp) -> bool {
        self.0 & other.0 == other.0
    }

    /// At least one bit of `other` is set.
    #[inline]
    pub const fn intersects(self, other: Gfp) -> bool {
        self.0 & other.0 != 0
    }

    /// The bits of either word.
    #[inline]
    pub const fn union(self, other: Gfp) -> Gfp {
        Gfp(self.0 | other.0)
    }

    /// The bits of both words.
    #[inline]
    pub const fn intersection(self, other: Gfp) -> Gfp {
        Gfp(self.0 & other.0)
    }

    /// The same as [`Gfp::union`], for building constants: `GFP_KERNEL.with(Gfp::ZERO)`.
    #[inline]
    pub const fn with(self, other: Gfp) -> Gfp {
        self.union(other)
    }

    /// This word without the bits of `other`.
    #[inline]
    pub const fn without(self, other: Gfp) -> Gfp {
        Gfp(self.0 & !other.0)
    }

    /// All *defined* bits that are not set here.
    #[inline]
    pub const fn complement(self) -> Gfp {
        Gfp(!self.0 & Self::ALL.0)
    }

    /// The bits that Linux and we leave undefined (bit 9 and bits 26..=31).
    #[inline]
    pub const fn undefined_bits(self) -> u32 {
        self.0 & !Self::ALL.0
    }

    /// P28: the caller may sleep.
    #[inline]
    pub const fn allows_blocking(self) -> bool {
        self.intersects(Self::DIRECT_RECLAIM)
    }

    /// P28: locks may be spun on. A word without any reclaim bit may come from an NMI or from under
    /// any lock.
    #[inline]
    pub const fn allows_spinning(self) -> bool {
        self.intersects(Self::RECLAIM)
    }

    /// P12: background reclaim is to be woken.
    #[inline]
    pub const fn wakes_kswapd(self) -> bool {
        self.intersects(Self::KSWAPD_RECLAIM)
    }

    /// P28: reclaim may do both I/O and call into file systems.
    #[inline]
    pub const fn has_io_fs(self) -> bool {
        self.contains(Gfp(Self::IO.0 | Self::FS.0))
    }

    /// P9: the result must read as zero.
    #[inline]
    pub const fn wants_zero(self) -> bool {
        self.intersects(Self::ZERO)
    }

    /// P14: a failure may be reported.
    #[inline]
    pub const fn may_warn(self) -> bool {
        !self.intersects(Self::NOWARN)
    }

    /// P23: the memory is charged to the current group.
    #[inline]
    pub const fn is_accounted(self) -> bool {
        self.intersects(Self::ACCOUNT)
    }

    /// P16, P49: the caller cannot handle failure *and* can wait. `NOFAIL` without `DIRECT_RECLAIM`
    /// is a request that may fail (and that [`Gfp::check`] refuses).
    #[inline]
    pub const fn never_fails(self) -> bool {
        self.contains(Gfp(Self::NOFAIL.0 | Self::DIRECT_RECLAIM.0))
    }

    /// P53: all watermarks are ignored, unless `NOMEMALLOC` takes the right away.
    #[inline]
    pub const fn ignores_watermarks(self) -> bool {
        self.0 & (Self::MEMALLOC.0 | Self::NOMEMALLOC.0) == Self::MEMALLOC.0
    }

    /// P59: a bulk request with this word is served page by page, since it is charged page by page.
    #[inline]
    pub const fn bulk_is_page_by_page(self) -> bool {
        self.is_accounted()
    }
}

impl From<Gfp> for u32 {
    fn from(gfp: Gfp) -> u32 {
        gfp.bits()
    }
}

impl TryFrom<u32> for Gfp {
    type Error = GfpError;
    fn try_from(bits: u32) -> Result<Gfp, GfpError> {
        Gfp::from_bits(bits)
    }
}

impl BitOr for Gfp {
    type Output = Gfp;
    #[inline]
    fn bitor(self, other: Gfp) -> Gfp {
        self.union(other)
    }
}

impl BitOrAssign for Gfp {
    #[inline]
    fn bitor_assign(&mut self, other: Gfp) {
        *self = self.union(other);
    }
}

impl BitAnd for Gfp {
    type Output = Gfp;
    #[inline]
    fn bitand(self, other: Gfp) -> Gfp {
        self.intersection(other)
    }
}

impl BitAndAssign for Gfp {
    #[inline]
    fn bitand_assign(&mut self, other: Gfp) {
        *self = self.intersection(other);
    }
}

/// Complement within the defined bits, see [`Gfp::complement`].
impl Not for Gfp {
    type Output = Gfp;
    #[inline]
    fn not(self) -> Gfp {
        self.complement()
    }
}

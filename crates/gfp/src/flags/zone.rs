//! Zone and mobility selection from the low bits of the flag word (P47, P48).

use super::bits::Gfp;
use super::check::GfpError;
use super::composite::GFP_ZONE_MASK;

/// A class of physical memory, ordered from the most to the least restricted (P200).
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ZoneKind {
    /// Reachable by the oldest devices: below 16 MiB on x86.
    Dma = 0,
    /// Reachable with 32 address bits: below 4 GiB.
    Dma32 = 1,
    /// Ordinary memory.
    Normal = 2,
    /// Memory without a permanent direct map (32-bit systems, optional).
    HighMem = 3,
    /// Memory that holds only migratable pages (P206).
    Movable = 4,
}

impl ZoneKind {
    /// How many kinds there are.
    pub const COUNT: usize = 5;
    /// All kinds, lowest first.
    pub const ALL: [ZoneKind; Self::COUNT] = [
        ZoneKind::Dma,
        ZoneKind::Dma32,
        ZoneKind::Normal,
        ZoneKind::HighMem,
        ZoneKind::Movable,
    ];

    /// The name in `/proc/buddyinfo` and `/proc/zoneinfo`.
    pub const fn name(self) -> &'static str {
        match self {
            ZoneKind::Dma => "DMA",
            ZoneKind::Dma32 => "DMA32",
            ZoneKind::Normal => "Normal",
            ZoneKind::HighMem => "HighMem",
            ZoneKind::Movable => "Movable",
        }
    }

    /// Position in arrays indexed by zone, below [`ZoneKind::COUNT`].
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The kind at this position, if there is one.
    pub const fn from_index(index: usize) -> Option<ZoneKind> {
        if index < Self::COUNT {
            Some(Self::ALL[index])
        } else {
            None
        }
    }

    /// The next lower kind, if there is one.
    pub const fn below(self) -> Option<ZoneKind> {
        if self.index() == 0 {
            None
        } else {
            Some(Self::ALL[self.index() - 1])
        }
    }
}

/// The mobility type of a pageblock, and of a request (P308).
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MigrateType {
    /// Cannot be moved: the kernel's own memory.
    Unmovable = 0,
    /// Can be moved: its user is found and told.
    Movable = 1,
    /// Cannot be moved but given back on request.
    Reclaimable = 2,
    /// Reserved for urgent requests of order > 0.
    HighAtomic = 3,
    /// Part of a contiguous-memory area; lent to movable requests.
    Cma = 4,
    /// Withheld from allocation.
    Isolate = 5,
}

impl MigrateType {
    /// How many types there are.
    pub const COUNT: usize = 6;
    /// The types that requests can have and that per-CPU lists hold (P308): the first three.
    pub const PCP_TYPES: usize = 3;
    /// All types in Linux's order.
    pub const ALL: [MigrateType; Self::COUNT] = [
        MigrateType::Unmovable,
        MigrateType::Movable,
        MigrateType::Reclaimable,
        MigrateType::HighAtomic,
        MigrateType::Cma,
        MigrateType::Isolate,
    ];

    /// The name in `/proc/pagetypeinfo` (P611).
    pub const fn name(self) -> &'static str {
        match self {
            MigrateType::Unmovable => "Unmovable",
            MigrateType::Movable => "Movable",
            MigrateType::Reclaimable => "Reclaimable",
            MigrateType::HighAtomic => "HighAtomic",
            MigrateType::Cma => "CMA",
            MigrateType::Isolate => "Isolate",
        }
    }

    /// The letter in the free-list lines of a memory report (P606): U, M, E, H, C, I.
    pub const fn letter(self) -> char {
        match self {
            MigrateType::Unmovable => 'U',
            MigrateType::Movable => 'M',
            MigrateType::Reclaimable => 'E',
            MigrateType::HighAtomic => 'H',
            MigrateType::Cma => 'C',
            MigrateType::Isolate => 'I',
        }
    }

    /// Position in arrays indexed by type, below [`MigrateType::COUNT`].
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The type at this position, if there is one.
    pub const fn from_index(index: usize) -> Option<MigrateType> {
        if index < Self::COUNT {
            Some(Self::ALL[index])
        } else {
            None
        }
    }
}

/// P47 as a table: zone by the low four bits. `None` marks the illegal selectors.
const ZONE_TABLE: [Option<ZoneKind>; 16] = [
    Some(ZoneKind::Normal),  // 0
    Some(ZoneKind::Dma),     // 1 DMA
    Some(ZoneKind::HighMem), // 2 HIGHMEM
    None,                    // 3
    Some(ZoneKind::Dma32),   // 4 DMA32
    None,                    // 5
    None,                    // 6
    None,                    // 7
    Some(ZoneKind::Normal),  // 8 MOVABLE: type only
    Some(ZoneKind::Dma),     // 9 MOVABLE | DMA
    Some(ZoneKind::Movable), // A MOVABLE | HIGHMEM
    None,                    // B
    Some(ZoneKind::Dma32),   // C MOVABLE | DMA32
    None,                    // D
    None,                    // E
    None,                    // F
];

/// [`ZONE_TABLE`] with the illegal selectors mapped to `Normal`, for words that were checked
/// before.
const ZONE_TABLE_CHECKED: [ZoneKind; 16] = {
    let mut table = [ZoneKind::Normal; 16];
    let mut selector = 0;
    while selector < 16 {
        if let Some(zone) = ZONE_TABLE[selector] {
            table[selector] = zone;
        }
        selector += 1;
    }
    table
};

impl Gfp {
    /// P47: the highest zone that may serve this request, before zones that the machine does not
    /// have degrade to a lower one.
    ///
    /// # Errors
    /// [`GfpError::IllegalZoneSelector`] for the eight contradictory selectors, where Linux reads a
    /// zero table entry and silently serves from the lowest zone.
    #[inline]
    pub const fn highest_zone(self) -> Result<ZoneKind, GfpError> {
        match ZONE_TABLE[(self.bits() & GFP_ZONE_MASK.bits()) as usize] {
            Some(zone) => Ok(zone),
            None => Err(GfpError::IllegalZoneSelector {
                bits: self.bits() & GFP_ZONE_MASK.bits(),
            }),
        }
    }

    /// P47 without a branch, for a word that passed [`Gfp::check`]: one table load.
    ///
    /// For an illegal selector the answer is `Normal`, which is harmless, and is caught in debug
    /// builds.
    #[inline]
    pub const fn highest_zone_checked_before(self) -> ZoneKind {
        let selector = (self.bits() & GFP_ZONE_MASK.bits()) as usize;
        debug_assert!(
            ZONE_TABLE[selector].is_some(),
            "zone selector was not checked"
        );
        ZONE_TABLE_CHECKED[selector]
    }

    /// P48: the mobility type of the request.
    ///
    /// # Errors
    /// [`GfpError::MovableAndReclaimable`] if both type bits are set.
    #[inline]
    pub const fn migratetype(self) -> Result<MigrateType, GfpError> {
        match (self.bits() >> 3) & 3 {
            0 => Ok(MigrateType::Unmovable),
            1 => Ok(MigrateType::Movable),
            2 => Ok(MigrateType::Reclaimable),
            _ => Err(GfpError::MovableAndReclaimable),
        }
    }

    /// P48 without a branch, for a word that passed [`Gfp::check`].
    ///
    /// With both bits set the answer is `Unmovable`, and is caught in debug builds.
    #[inline]
    pub const fn migratetype_checked_before(self) -> MigrateType {
        const TABLE: [MigrateType; 4] = [
            MigrateType::Unmovable,
            MigrateType::Movable,
            MigrateType::Reclaimable,
            MigrateType::Unmovable,
        ];
        let selector = ((self.bits() >> 3) & 3) as usize;
        debug_assert!(selector != 3, "mobility bits were not checked");
        TABLE[selector]
    }
}

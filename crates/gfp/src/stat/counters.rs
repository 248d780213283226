//! The named counters of zones, nodes and the machine (P614..P617), in the order in which they
//! print.

use crate::flags::ZoneKind;

/// Declares one family of counters: an enum of names, and an array of values indexed by it.
macro_rules! counters {
    (
        $(#[$kdoc:meta])* $kind:ident;
        $(#[$sdoc:meta])* $set:ident of $value:ty;
        $($(#[$vdoc:meta])* $variant:ident = $name:literal,)+
    ) => {
        $(#[$kdoc])*
        #[derive(Copy, Clone, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum $kind {
            $($(#[$vdoc])* #[doc = concat!("`", $name, "`")] $variant,)+
        }

        impl $kind {
            /// All of them, in the order in which they print.
            pub const ALL: [$kind; [$($name),+].len()] = [$($kind::$variant),+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name that is printed.
            pub const fn name(self) -> &'static str {
                match self {
                    $($kind::$variant => $name,)+
                }
            }

            /// Position in arrays indexed by this family, below [`Self::COUNT`].
            #[inline]
            pub const fn index(self) -> usize {
                self as usize
            }
        }

        $(#[$sdoc])*
        #[derive(Copy, Clone, PartialEq, Eq, Debug)]
        pub struct $set([$value; $kind::COUNT]);

        impl $set {
            /// All zero.
            pub const ZERO: $set = $set([0; $kind::COUNT]);

            /// The value of one counter.
            #[inline]
            pub const fn get(&self, which: $kind) -> $value {
                self.0[which as usize]
            }

            /// Sets one counter.
            #[inline]
            pub const fn set(&mut self, which: $kind, value: $value) {
                self.0[which as usize] = value;
            }

            /// Adds to one counter; wraps around, as counters that are only ever differenced may.
            #[inline]
            pub const fn add(&mut self, which: $kind, value: $value) {
                self.0[which as usize] = self.0[which as usize].wrapping_add(value);
            }

            /// Adds all counters of `other`.
            pub fn add_all(&mut self, other: &$set) {
                for which in $kind::ALL {
                    self.add(which, other.get(which));
                }
            }
        }

        impl Default for $set {
            fn default() -> $set {
                $set::ZERO
            }
        }
    };
}

counters! {
    /// What is counted per zone (P614). Units are pages unless the name says otherwise.
    ZoneCounter;
    /// The counters of one zone. Signed: a sum of per-CPU parts that is read while they change can
    /// be below zero for a moment; it is printed as 0 (P613).
    ZoneCounters of i64;
    /// Free pages of the zone, those in per-CPU caches not included:
    FreePages = "nr_free_pages",
    /// Free pages that form whole free pageblocks:
    FreePagesBlocks = "nr_free_pages_blocks",
    /// On the LRU:
    InactiveAnon = "nr_zone_inactive_anon",
    /// On the LRU:
    ActiveAnon = "nr_zone_active_anon",
    /// On the LRU:
    InactiveFile = "nr_zone_inactive_file",
    /// On the LRU:
    ActiveFile = "nr_zone_active_file",
    /// On the LRU:
    Unevictable = "nr_zone_unevictable",
    /// Dirty or under write-back:
    WritePending = "nr_zone_write_pending",
    /// Locked into memory:
    Mlock = "nr_mlock",
    /// Used by zsmalloc:
    Zspages = "nr_zspages",
    /// Free pages in CMA blocks:
    FreeCma = "nr_free_cma",
    /// Not yet accepted by a confidential guest:
    Unaccepted = "nr_unaccepted",
}

counters! {
    /// What is counted per zone about where requests were served (P615), in pages.
    NumaEvent;
    /// The NUMA events of one zone.
    NumaEvents of u64;
    /// Got the intended node:
    Hit = "numa_hit",
    /// This zone served someone who wanted another node:
    Miss = "numa_miss",
    /// Wanted here, served elsewhere:
    Foreign = "numa_foreign",
    /// Placed here by interleaving, and it worked:
    Interleave = "numa_interleave",
    /// Served on the node of the requesting CPU:
    Local = "numa_local",
    /// Served to a CPU of another node:
    Other = "numa_other",
}

counters! {
    /// What is counted per node (P616). Units are pages unless the name says otherwise.
    NodeCounter;
    /// The counters of one node; signed for the reason given at [`ZoneCounters`].
    NodeCounters of i64;
    InactiveAnon = "nr_inactive_anon",
    ActiveAnon = "nr_active_anon",
    InactiveFile = "nr_inactive_file",
    ActiveFile = "nr_active_file",
    Unevictable = "nr_unevictable",
    SlabReclaimable = "nr_slab_reclaimable",
    SlabUnreclaimable = "nr_slab_unreclaimable",
    IsolatedAnon = "nr_isolated_anon",
    IsolatedFile = "nr_isolated_file",
    WorkingsetNodes = "workingset_nodes",
    WorkingsetRefaultAnon = "workingset_refault_anon",
    WorkingsetRefaultFile = "workingset_refault_file",
    WorkingsetActivateAnon = "workingset_activate_anon",
    WorkingsetActivateFile = "workingset_activate_file",
    WorkingsetRestoreAnon = "workingset_restore_anon",
    WorkingsetRestoreFile = "workingset_restore_file",
    WorkingsetNodereclaim = "workingset_nodereclaim",
    AnonPages = "nr_anon_pages",
    Mapped = "nr_mapped",
    FilePages = "nr_file_pages",
    Dirty = "nr_dirty",
    Writeback = "nr_writeback",
    Shmem = "nr_shmem",
    /// In units of huge pages:
    ShmemHugepages = "nr_shmem_hugepages",
    /// In units of huge pages:
    ShmemPmdmapped = "nr_shmem_pmdmapped",
    /// In units of huge pages:
    FileHugepages = "nr_file_hugepages",
    /// In units of huge pages:
    FilePmdmapped = "nr_file_pmdmapped",
    /// In units of huge pages:
    AnonThps = "nr_anon_transparent_hugepages",
    VmscanWrite = "nr_vmscan_write",
    VmscanImmediateReclaim = "nr_vmscan_immediate_reclaim",
    Dirtied = "nr_dirtied",
    Written = "nr_written",
    ThrottledWritten = "nr_throttled_written",
    KernelMiscReclaimable = "nr_kernel_misc_reclaimable",
    FollPinAcquired = "nr_foll_pin_acquired",
    FollPinReleased = "nr_foll_pin_released",
    /// Pages mapped by vmalloc:
    Vmalloc = "nr_vmalloc",
    /// In KiB:
    KernelStackKib = "nr_kernel_stack",
    PageTablePages = "nr_page_table_pages",
    SecPageTablePages = "nr_sec_page_table_pages",
    IommuPages = "nr_iommu_pages",
    Swapcached = "nr_swapcached",
    PgpromoteSuccess = "pgpromote_success",
    PgpromoteCandidate = "pgpromote_candidate",
    PgpromoteCandidateNrl = "pgpromote_candidate_nrl",
    PgdemoteKswapd = "pgdemote_kswapd",
    PgdemoteDirect = "pgdemote_direct",
    PgdemoteKhugepaged = "pgdemote_khugepaged",
    PgdemoteProactive = "pgdemote_proactive",
    Hugetlb = "nr_hugetlb",
    BalloonPages = "nr_balloon_pages",
    KernelFilePages = "nr_kernel_file_pages",
}

counters! {
    /// What is counted for the whole machine (P617).
    VmEvent;
    /// The events of the machine since boot.
    VmEvents of u64;
    Pgpgin = "pgpgin",
    Pgpgout = "pgpgout",
    Pswpin = "pswpin",
    Pswpout = "pswpout",
    PgallocDma = "pgalloc_dma",
    PgallocDma32 = "pgalloc_dma32",
    PgallocNormal = "pgalloc_normal",
    PgallocHigh = "pgalloc_high",
    PgallocMovable = "pgalloc_movable",
    PgallocDevice = "pgalloc_device",
    AllocstallDma = "allocstall_dma",
    AllocstallDma32 = "allocstall_dma32",
    AllocstallNormal = "allocstall_normal",
    AllocstallHigh = "allocstall_high",
    AllocstallMovable = "allocstall_movable",
    AllocstallDevice = "allocstall_device",
    PgskipDma = "pgskip_dma",
    PgskipDma32 = "pgskip_dma32",
    PgskipNormal = "pgskip_normal",
    PgskipHigh = "pgskip_high",
    PgskipMovable = "pgskip_movable",
    PgskipDevice = "pgskip_device",
    /// Pages returned to a cache or a zone:
    Pgfree = "pgfree",
    Pgactivate = "pgactivate",
    Pgdeactivate = "pgdeactivate",
    Pglazyfree = "pglazyfree",
    Pgfault = "pgfault",
    Pgmajfault = "pgmajfault",
    Pglazyfreed = "pglazyfreed",
    Pgrefill = "pgrefill",
    Pgreuse = "pgreuse",
    PgstealKswapd = "pgsteal_kswapd",
    PgstealDirect = "pgsteal_direct",
    PgstealKhugepaged = "pgsteal_khugepaged",
    PgstealProactive = "pgsteal_proactive",
    PgscanKswapd = "pgscan_kswapd",
    PgscanDirect = "pgscan_direct",
    PgscanKhugepaged = "pgscan_khugepaged",
    PgscanProactive = "pgscan_proactive",
    PgscanDirectThrottle = "pgscan_direct_throttle",
    PgscanAnon = "pgscan_anon",
    PgscanFile = "pgscan_file",
    PgstealAnon = "pgsteal_anon",
    PgstealFile = "pgsteal_file",
    ZoneReclaimSuccess = "zone_reclaim_success",
    ZoneReclaimFailed = "zone_reclaim_failed",
    Pginodesteal = "pginodesteal",
    /// Objects that shrinkers looked at:
    SlabsScanned = "slabs_scanned",
    KswapdInodesteal = "kswapd_inodesteal",
    KswapdLowWmarkHitQuickly = "kswapd_low_wmark_hit_quickly",
    KswapdHighWmarkHitQuickly = "kswapd_high_wmark_hit_quickly",
    /// Balancing runs of kswapd:
    Pageoutrun = "pageoutrun",
    Pgrotated = "pgrotated",
    DropPagecache = "drop_pagecache",
    DropSlab = "drop_slab",
    /// Victims:
    OomKill = "oom_kill",
    NumaPteUpdates = "numa_pte_updates",
    NumaHugePteUpdates = "numa_huge_pte_updates",
    NumaHintFaults = "numa_hint_faults",
    NumaHintFaultsLocal = "numa_hint_faults_local",
    NumaPagesMigrated = "numa_pages_migrated",
    PgmigrateSuccess = "pgmigrate_success",
    PgmigrateFail = "pgmigrate_fail",
    ThpMigrationSuccess = "thp_migration_success",
    ThpMigrationFail = "thp_migration_fail",
    ThpMigrationSplit = "thp_migration_split",
    CompactMigrateScanned = "compact_migrate_scanned",
    CompactFreeScanned = "compact_free_scanned",
    CompactIsolated = "compact_isolated",
    /// Direct compactions that were neither skipped nor deferred:
    CompactStall = "compact_stall",
    /// Compactions that did not:
    CompactFail = "compact_fail",
    /// Compactions that yielded the page:
    CompactSuccess = "compact_success",
    CompactDaemonWake = "compact_daemon_wake",
    CompactDaemonMigrateScanned = "compact_daemon_migrate_scanned",
    CompactDaemonFreeScanned = "compact_daemon_free_scanned",
    HtlbBuddyAllocSuccess = "htlb_buddy_alloc_success",
    HtlbBuddyAllocFail = "htlb_buddy_alloc_fail",
    CmaAllocSuccess = "cma_alloc_success",
    CmaAllocFail = "cma_alloc_fail",
    UnevictablePgsCulled = "unevictable_pgs_culled",
    UnevictablePgsScanned = "unevictable_pgs_scanned",
    UnevictablePgsRescued = "unevictable_pgs_rescued",
    UnevictablePgsMlocked = "unevictable_pgs_mlocked",
    UnevictablePgsMunlocked = "unevictable_pgs_munlocked",
    UnevictablePgsCleared = "unevictable_pgs_cleared",
    UnevictablePgsStranded = "unevictable_pgs_stranded",
    ThpFaultAlloc = "thp_fault_alloc",
    ThpFaultFallback = "thp_fault_fallback",
    ThpFaultFallbackCharge = "thp_fault_fallback_charge",
    ThpCollapseAlloc = "thp_collapse_alloc",
    ThpCollapseAllocFailed = "thp_collapse_alloc_failed",
    ThpFileAlloc = "thp_file_alloc",
    ThpFileFallback = "thp_file_fallback",
    ThpFileFallbackCharge = "thp_file_fallback_charge",
    ThpFileMapped = "thp_file_mapped",
    ThpSplitPage = "thp_split_page",
    ThpSplitPageFailed = "thp_split_page_failed",
    ThpDeferredSplitPage = "thp_deferred_split_page",
    ThpUnderusedSplitPage = "thp_underused_split_page",
    ThpSplitPmd = "thp_split_pmd",
    ThpScanExceedNonePte = "thp_scan_exceed_none_pte",
    ThpScanExceedSwapPte = "thp_scan_exceed_swap_pte",
    ThpScanExceedSharePte = "thp_scan_exceed_share_pte",
    ThpSplitPud = "thp_split_pud",
    ThpZeroPageAlloc = "thp_zero_page_alloc",
    ThpZeroPageAllocFailed = "thp_zero_page_alloc_failed",
    ThpSwpout = "thp_swpout",
    ThpSwpoutFallback = "thp_swpout_fallback",
    BalloonInflate = "balloon_inflate",
    BalloonDeflate = "balloon_deflate",
    BalloonMigrate = "balloon_migrate",
    SwapRa = "swap_ra",
    SwapRaHit = "swap_ra_hit",
    SwpinZero = "swpin_zero",
    SwpoutZero = "swpout_zero",
    KsmSwpinCopy = "ksm_swpin_copy",
    CowKsm = "cow_ksm",
    Zswpin = "zswpin",
    Zswpout = "zswpout",
    Zswpwb = "zswpwb",
}

impl VmEvent {
    /// Pages taken from zones of this kind, from a cache or directly.
    pub const fn pgalloc(kind: ZoneKind) -> VmEvent {
        match kind {
            ZoneKind::Dma => VmEvent::PgallocDma,
            ZoneKind::Dma32 => VmEvent::PgallocDma32,
            ZoneKind::Normal => VmEvent::PgallocNormal,
            ZoneKind::HighMem => VmEvent::PgallocHigh,
            ZoneKind::Movable => VmEvent::PgallocMovable,
        }
    }

    /// Entries into direct reclaim, by the highest zone of the request.
    pub const fn allocstall(kind: ZoneKind) -> VmEvent {
        match kind {
            ZoneKind::Dma => VmEvent::AllocstallDma,
            ZoneKind::Dma32 => VmEvent::AllocstallDma32,
            ZoneKind::Normal => VmEvent::AllocstallNormal,
            ZoneKind::HighMem => VmEvent::AllocstallHigh,
            ZoneKind::Movable => VmEvent::AllocstallMovable,
        }
    }

    /// LRU pages that a reclaimer skipped because their zone was of no use to it.
    pub const fn pgskip(kind: ZoneKind) -> VmEvent {
        match kind {
            ZoneKind::Dma => VmEvent::PgskipDma,
            ZoneKind::Dma32 => VmEvent::PgskipDma32,
            ZoneKind::Normal => VmEvent::PgskipNormal,
            ZoneKind::HighMem => VmEvent::PgskipHigh,
            ZoneKind::Movable => VmEvent::PgskipMovable,
        }
    }

    /// The zone kind that an event counts for, `None` if it is not kept by zone. A machine that is
    /// built without a kind does not print its events.
    pub fn zone(self) -> Option<ZoneKind> {
        ZoneKind::ALL.into_iter().find(|&kind| {
            [
                VmEvent::pgalloc(kind),
                VmEvent::allocstall(kind),
                VmEvent::pgskip(kind),
            ]
            .contains(&self)
        })
    }
}

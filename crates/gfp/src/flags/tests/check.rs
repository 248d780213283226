use super::*;

fn refused(entry: Entry, bits: Gfp) -> Option<GfpError> {
    Some(GfpError::BitsNotAllowed { entry, bits })
}

#[test]
fn a_word_that_needs_no_check_passes_it() {
    // P47-P51: needs_check() may be true for a good word, never false for a bad one.
    let composites = known_flags().map(|known| known.gfp);
    let sampled = words(7).take(200_000).map(Gfp::from_bits_retain);
    // All words of the eight bits that decide, over two backgrounds.
    let bits = Gfp::DMA | Gfp::HIGHMEM | Gfp::DMA32 | GFP_MOVABLE_MASK | Gfp::NOFAIL;
    let exhaustive = (0..0x20_000)
        .map(Gfp::from_bits_retain)
        .map(|gfp| gfp & (bits | GFP_KERNEL));
    let mut skipped = 0;
    for gfp in composites.chain(sampled).chain(exhaustive) {
        if !gfp.needs_check() {
            assert_eq!(gfp.check(), Ok(()), "{gfp}");
            skipped += 1;
        }
    }
    assert!(skipped > 1000);
    for gfp in [
        GFP_KERNEL,
        GFP_ATOMIC,
        GFP_NOWAIT,
        GFP_HIGHUSER_MOVABLE,
        GFP_TRANSHUGE,
    ] {
        assert!(!gfp.needs_check(), "{gfp} is ordinary");
    }
}

#[test]
fn nofail_needs_a_caller_that_can_wait() {
    // P49
    let word = GFP_ATOMIC | Gfp::NOFAIL;
    assert_eq!(word.check(), Err(GfpError::NofailWithoutReclaim));
    assert!(GfpError::NofailWithoutReclaim.linux_goes_on());
    assert_eq!(word.sanitize_for(Entry::Pages).0, GFP_ATOMIC);
    assert_eq!((GFP_KERNEL | Gfp::NOFAIL).check(), Ok(()));
    assert_eq!((GFP_NOIO | Gfp::NOFAIL).check(), Ok(()));
}

#[test]
fn nofail_cannot_wait_for_itself() {
    // P50
    let nofail = GFP_KERNEL | Gfp::NOFAIL;
    assert_eq!(
        nofail.check_while_reclaiming(),
        Err(GfpError::NofailInReclaim)
    );
    assert_eq!(
        (GFP_KERNEL | Gfp::MEMALLOC).check_while_reclaiming(),
        Ok(())
    );
    assert!(GfpError::NofailInReclaim.linux_goes_on());
}

#[test]
fn nofail_and_giving_up_contradict() {
    // P51
    for give_up in [
        Gfp::NORETRY,
        Gfp::RETRY_MAYFAIL,
        Gfp::NORETRY | Gfp::RETRY_MAYFAIL,
    ] {
        let word = GFP_KERNEL | Gfp::NOFAIL | give_up;
        assert_eq!(word.check(), Err(GfpError::NofailContradiction));
        assert_eq!(word.sanitize_for(Entry::Pages).0, GFP_KERNEL | Gfp::NOFAIL);
        assert_eq!((GFP_KERNEL | give_up).check(), Ok(()));
    }
}

#[test]
fn orders_have_a_limit_and_nofail_a_lower_one() {
    // P52: also with NOFAIL, which never reaches the NOFAIL limit first.
    for gfp in [GFP_KERNEL, GFP_KERNEL | Gfp::NOFAIL] {
        for order in [11, 12, 64, u32::MAX] {
            let error = GfpError::OrderTooLarge { order, max: 10 };
            assert_eq!(gfp.check_order(order), Err(error));
            assert!(!error.linux_goes_on());
        }
    }
    for order in 0..=10 {
        assert_eq!(GFP_KERNEL.check_order(order), Ok(()));
        // P50: order 1 is the last that NOFAIL may ask for.
        let nofail = (GFP_KERNEL | Gfp::NOFAIL).check_order(order);
        let error = GfpError::NofailHighOrder { order };
        assert_eq!(nofail, if order <= 1 { Ok(()) } else { Err(error) });
        assert!(error.linux_goes_on());
    }
}

#[test]
fn thisnode_needs_an_online_node() {
    // P54
    let word = GFP_KERNEL | Gfp::THISNODE;
    assert_eq!(
        word.check_node(NodeLiveness::Offline),
        Err(GfpError::ThisNodeOffline)
    );
    assert_eq!(word.check_node(NodeLiveness::Online), Ok(()));
    assert_eq!(GFP_KERNEL.check_node(NodeLiveness::Offline), Ok(()));
}

#[test]
fn each_entry_takes_off_what_linux_takes_off() {
    use Entry::*;
    const COMP: Gfp = Gfp::COMP;
    let (kernel, none) = (GFP_KERNEL, Gfp::NONE);
    let zero = Gfp::ZERO;
    let added = Gfp::NOMEMALLOC | Gfp::NORETRY | Gfp::NOWARN;
    let silent = Gfp::NOWARN | Gfp::NOMEMALLOC;
    let nokswapd = GFP_KERNEL & !Gfp::KSWAPD_RECLAIM;
    #[rustfmt::skip]
    let table = [
        // entry, word given, word Linux goes on with, bits complained about
        (Pages, GFP_TRANSHUGE, GFP_TRANSHUGE, none),
        (Exact, kernel | COMP, kernel, COMP), // P55
        (Exact, GFP_HIGHUSER, GFP_USER, Gfp::HIGHMEM), // P55
        (Exact, kernel | zero, kernel | zero, none),
        (GetFreePages, GFP_HIGHUSER, GFP_USER, none), // P56: silently
        (Contig, kernel | COMP | zero, kernel | COMP | zero, none), // P58
        (Contig, GFP_HIGHUSER_MOVABLE | Gfp::THISNODE, kernel, none), // P58: ignored
        (Contig, kernel | Gfp::ACCOUNT, kernel, Gfp::ACCOUNT), // P58
        (Contig, kernel | Gfp::HIGH | Gfp::NORETRY, kernel, Gfp::HIGH | Gfp::NORETRY), // P58
        (Bulk, GFP_KERNEL_ACCOUNT, GFP_KERNEL_ACCOUNT, none), // P59
        (NoLock, Gfp::ACCOUNT, Gfp::ACCOUNT | GFP_NOLOCK, none), // P170, P46
        (NoLock, GFP_NOWAIT, GFP_NOLOCK, GFP_NOWAIT), // P170
        (Slab, kernel | Gfp::HIGHMEM, kernel, Gfp::HIGHMEM), // S17
        (Slab, kernel | Gfp::DMA32, kernel, Gfp::DMA32), // S17
        (Slab, kernel | Gfp::DMA | zero, kernel | Gfp::DMA | zero, none), // S17
        (SlabCtor, kernel | zero, kernel, zero), // S17
        (SlabNoLock, zero | Gfp::ACCOUNT, zero | Gfp::ACCOUNT | silent, none), // S36
        (SlabNoLock, GFP_ATOMIC, silent, GFP_ATOMIC), // S36
        (Vmalloc, GFP_USER | zero, GFP_USER | zero, none), // V5
        (Vmalloc, kernel | Gfp::DMA32, kernel, Gfp::DMA32), // V5
        (Vmalloc, kernel | COMP, kernel, COMP), // V5
        (Vmalloc32, kernel | Gfp::DMA32, kernel | Gfp::DMA32, none), // V5
        (Vmalloc32, kernel | Gfp::THISNODE, kernel, Gfp::THISNODE), // V5
        (Kvmalloc, kernel | Gfp::RETRY_MAYFAIL, kernel | Gfp::RETRY_MAYFAIL, none), // V31
        (Kvmalloc, kernel | Gfp::NORETRY, kernel | Gfp::NORETRY, Gfp::NORETRY), // V31
        (Kvmalloc, kernel | Gfp::DMA32, kernel, Gfp::DMA32), // S17
        (Mempool, GFP_NOIO, GFP_NOIO | added, none), // M2
        (Mempool, nokswapd | zero, nokswapd | added, zero), // M2
        (DmaCoherent, kernel | Gfp::DMA32, kernel, none), // M10
        (DmaCoherent, kernel | COMP, kernel, COMP), // M10
        (Mempool, kernel | Gfp::NOFAIL, kernel | added, none), // M2: waits on its own
    ];
    for (entry, given, want, bits) in table {
        let complaint = if bits.is_empty() {
            None
        } else {
            refused(entry, bits)
        };
        assert_eq!(
            given.sanitize_for(entry),
            (want, complaint),
            "{entry:?} {given}"
        );
        assert_eq!(given.check_for(entry).err(), complaint);
    }
}

#[test]
fn only_ranges_and_dma_refuse_where_others_strip() {
    // P58: -EINVAL. M10: NULL.
    for entry in Entry::ALL {
        let error = GfpError::BitsNotAllowed {
            entry,
            bits: Gfp::COMP,
        };
        let refuses = matches!(entry, Entry::Contig | Entry::DmaCoherent);
        assert_eq!(error.linux_goes_on(), !refuses, "{entry:?}");
    }
}

#[test]
fn whatever_is_sanitized_is_legal_and_stays_so() {
    for entry in Entry::ALL {
        for bits in words(55).take(20_000) {
            let given = Gfp::from_bits_retain(bits);
            let (clean, complaint) = given.sanitize_for(entry);
            assert_eq!(clean.check(), Ok(()), "{entry:?} {given}");
            assert_eq!(complaint, given.check_for(entry).err());
            assert!(
                entry == Entry::Kvmalloc || clean.refused_is_only_added(entry),
                "{entry:?}"
            );
            assert_eq!(
                clean.sanitize_for(entry).0,
                clean,
                "{entry:?} {given}: idempotent"
            );
        }
    }
}

impl Gfp {
    /// What a clean word still has that its entry would complain about is what the entry itself
    /// added.
    fn refused_is_only_added(self, entry: Entry) -> bool {
        match self.check_for(entry) {
            Ok(()) => true,
            Err(GfpError::BitsNotAllowed { bits, .. }) => {
                Gfp::NONE.sanitize_for(entry).0.contains(bits)
            }
            Err(_) => false,
        }
    }
}

#[test]
fn every_error_names_problem_and_fix() {
    let entry = Entry::Exact;
    let errors = [
        (
            GfpError::UndefinedBits { bits: 0x200 },
            ["0x200", "named constants"],
        ),
        (
            GfpError::IllegalZoneSelector { bits: 3 },
            ["GFP_DMA|__GFP_HIGHMEM", "keep one"],
        ),
        (
            GfpError::MovableAndReclaimable,
            ["__GFP_MOVABLE", "keep the one"],
        ),
        (
            GfpError::NofailWithoutReclaim,
            ["without __GFP_DIRECT_RECLAIM", "handle failure"],
        ),
        (
            GfpError::NofailHighOrder { order: 4 },
            ["order 4", "use kvmalloc"],
        ),
        (
            GfpError::NofailInReclaim,
            ["reclaiming", "reserve the memory"],
        ),
        (GfpError::NofailContradiction, ["__GFP_NORETRY", "drop it"]),
        (
            GfpError::OrderTooLarge { order: 11, max: 10 },
            ["order 11", "use vmalloc"],
        ),
        (
            GfpError::ThisNodeOffline,
            ["__GFP_THISNODE", "drop __GFP_THISNODE"],
        ),
        (
            GfpError::BitsNotAllowed {
                entry,
                bits: Gfp::COMP,
            },
            [
                "alloc_pages_exact does not take __GFP_COMP",
                "use alloc_pages",
            ],
        ),
    ];
    for (error, parts) in errors {
        let text = error.to_string();
        for part in parts {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
        assert!(!text.contains("  "), "{text:?} has a gap");
    }
    for entry in Entry::ALL {
        let text = GfpError::BitsNotAllowed {
            entry,
            bits: Gfp::COMP,
        }
        .to_string();
        assert!(
            text.starts_with(entry.name()) && text.contains(": "),
            "{text}"
        );
    }
}

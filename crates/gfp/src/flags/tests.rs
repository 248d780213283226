extern crate std;

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::*;

/// A fixed sequence of 32-bit words (splitmix64), so that a failure repeats.
fn words(seed: u64) -> impl Iterator<Item = u32> {
    let mut state = seed;
    core::iter::repeat_with(move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) as u32
    })
}

#[test]
fn every_bit_has_the_value_of_linux() {
    // P1-P24: the number in the table is the value in the word.
    let table = [
        (Gfp::DMA, 0x1),
        (Gfp::HIGHMEM, 0x2),
        (Gfp::DMA32, 0x4),
        (Gfp::MOVABLE, 0x8),
        (Gfp::RECLAIMABLE, 0x10),
        (Gfp::HIGH, 0x20),
        (Gfp::IO, 0x40),
        (Gfp::FS, 0x80),
        (Gfp::ZERO, 0x100),
        (Gfp::DIRECT_RECLAIM, 0x400),
        (Gfp::KSWAPD_RECLAIM, 0x800),
        (Gfp::WRITE, 0x1000),
        (Gfp::NOWARN, 0x2000),
        (Gfp::RETRY_MAYFAIL, 0x4000),
        (Gfp::NOFAIL, 0x8000),
        (Gfp::NORETRY, 0x1_0000),
        (Gfp::MEMALLOC, 0x2_0000),
        (Gfp::COMP, 0x4_0000),
        (Gfp::NOMEMALLOC, 0x8_0000),
        (Gfp::HARDWALL, 0x10_0000),
        (Gfp::THISNODE, 0x20_0000),
        (Gfp::ACCOUNT, 0x40_0000),
        (Gfp::ZEROTAGS, 0x80_0000),
        (Gfp::NOLOCKDEP, 0x100_0000),
        (Gfp::NO_OBJ_EXT, 0x200_0000),
    ];
    let mut all = 0;
    for (flag, value) in table {
        assert_eq!(flag.bits(), value);
        assert_eq!(all & value, 0, "bits are disjoint");
        all |= value;
    }
    assert_eq!(all, Gfp::ALL.bits());
    assert_eq!(Gfp::SKIP_ZERO | Gfp::SKIP_KASAN, Gfp::NONE); // P25
    assert_eq!(Gfp::default(), Gfp::NONE);
}

#[test]
fn composites_are_the_sums_that_the_table_says() {
    // P30-P46, written out bit by bit, independent of composite.rs.
    let table = [
        (GFP_ATOMIC, 0x820),                   // P30
        (GFP_KERNEL, 0xCC0),                   // P31
        (GFP_KERNEL_ACCOUNT, 0x40_0CC0),       // P32
        (GFP_NOWAIT, 0x2800),                  // P33
        (GFP_NOIO, 0xC00),                     // P34
        (GFP_NOFS, 0xC40),                     // P35
        (GFP_USER, 0x10_0CC0),                 // P36
        (GFP_DMA, 0x1),                        // P37
        (GFP_DMA32, 0x4),                      // P37
        (GFP_HIGHUSER, 0x10_0CC2),             // P38
        (GFP_HIGHUSER_MOVABLE, 0x10_0CCA),     // P39
        (GFP_TRANSHUGE_LIGHT, 0x1C_20CA),      // P40
        (GFP_TRANSHUGE, 0x1C_24CA),            // P41
        (GFP_RECLAIM_MASK, 0x10B_ECE0),        // P42
        (GFP_CONSTRAINT_MASK, 0x30_0000),      // P43
        (GFP_SLAB_BUG_MASK, 0xFC00_0206),      // P44
        (GFP_NOLOCK, 0xC_2100),                // P46
        (Gfp::RECLAIM, 0xC00),                 // P28
        (GFP_BOOT_MASK, 0x3FF_FDFF - 0xCC0),   // P29
        (GFP_SUSPEND_MASK, 0x3FF_FDFF - 0xC0), // P29
    ];
    for (composite, value) in table {
        assert_eq!(composite.bits(), value, "{composite}");
    }
}

#[test]
fn nested_mask_keeps_the_class_and_gives_up_early() {
    // P45
    let kernel = (GFP_KERNEL | Gfp::ZERO | Gfp::NOFAIL | Gfp::DMA).nested_mask();
    assert_eq!(
        kernel,
        GFP_KERNEL | Gfp::NORETRY | Gfp::NOMEMALLOC | Gfp::NOWARN
    );
    let atomic = (GFP_ATOMIC | Gfp::NOLOCKDEP | Gfp::COMP).nested_mask();
    let added = Gfp::NORETRY | Gfp::NOMEMALLOC | Gfp::NOWARN;
    assert_eq!(atomic, GFP_ATOMIC | Gfp::NOLOCKDEP | added);
    for bits in words(45).take(1000) {
        let nested = Gfp::from_bits_retain(bits).nested_mask();
        assert_eq!(nested.nested_mask(), nested);
        assert_eq!(nested.check(), Ok(()));
    }
}

#[test]
fn set_operations_agree_with_the_operators() {
    for bits in words(1).take(2000) {
        let (a, b) = (Gfp::from_bits_retain(bits) & Gfp::ALL, GFP_USER | Gfp::ZERO);
        assert_eq!((a | b).bits(), a.bits() | b.bits());
        assert_eq!((a & b).bits(), a.bits() & b.bits());
        assert_eq!(a.without(b), a & !b);
        assert_eq!(!!a, a);
        assert_eq!(a | !a, Gfp::ALL);
        assert_eq!(a.contains(b), a & b == b);
        assert_eq!(a.intersects(b), !(a & b).is_empty());
        assert_eq!(Gfp::try_from(u32::from(a)), Ok(a));
    }
    let mut word = GFP_KERNEL;
    word |= Gfp::ZERO;
    word &= !Gfp::FS;
    assert_eq!(word, GFP_NOFS | Gfp::ZERO);
}

#[test]
fn undefined_bits_are_refused_one_by_one() {
    // P10, P24: bit 9 is reserved, bits 26 and up are not there.
    for bit in 0..32 {
        let word = 1u32 << bit;
        let defined = bit != 9 && bit < 26;
        assert_eq!(Gfp::from_bits(word).is_ok(), defined, "bit {bit}");
        let retained = Gfp::from_bits_retain(word | GFP_KERNEL.bits());
        assert_eq!(retained.undefined_bits() == 0, defined);
        if !defined {
            let error = GfpError::UndefinedBits { bits: word };
            assert_eq!(retained.check(), Err(error));
            assert_eq!(retained.check_for(Entry::Slab), Err(error));
            assert_eq!(
                retained.sanitize_for(Entry::Slab),
                (GFP_KERNEL, Some(error))
            );
        }
    }
}

#[test]
fn predicates_read_the_right_bits() {
    // P28
    assert!(GFP_KERNEL.allows_blocking() && !GFP_NOWAIT.allows_blocking());
    assert!(GFP_NOWAIT.allows_spinning() && GFP_ATOMIC.allows_spinning());
    assert!(!GFP_NOLOCK.allows_spinning() && !GFP_TRANSHUGE_LIGHT.allows_spinning());
    assert!(GFP_TRANSHUGE.allows_spinning() && !GFP_TRANSHUGE.wakes_kswapd()); // P41
    assert!(GFP_KERNEL.has_io_fs() && !GFP_NOFS.has_io_fs() && !GFP_NOIO.has_io_fs());
    assert!(!Gfp::FS.has_io_fs() && !Gfp::IO.has_io_fs());
    assert!(GFP_NOLOCK.wants_zero() && !GFP_KERNEL.wants_zero());
    assert!(GFP_KERNEL.may_warn() && !GFP_NOWAIT.may_warn());
    assert!(GFP_KERNEL_ACCOUNT.is_accounted() && !GFP_KERNEL.is_accounted());
    assert!(GFP_KERNEL_ACCOUNT.bulk_is_page_by_page() && !GFP_KERNEL.bulk_is_page_by_page()); // P59
    assert!((GFP_KERNEL | Gfp::NOFAIL).never_fails()); // P16
    assert!(!(GFP_ATOMIC | Gfp::NOFAIL).never_fails()); // P49
    assert!((GFP_KERNEL | Gfp::MEMALLOC).ignores_watermarks());
    assert!(!(GFP_KERNEL | Gfp::MEMALLOC | Gfp::NOMEMALLOC).ignores_watermarks()); // P53
    assert!(!GFP_ATOMIC.ignores_watermarks());
}

#[test]
fn all_sixteen_zone_selectors() {
    // P47, P950
    use ZoneKind::*;
    let legal = [
        (0x0, Normal),
        (0x1, Dma),
        (0x2, HighMem),
        (0x4, Dma32),
        (0x8, Normal),
        (0x9, Dma),
        (0xA, Movable),
        (0xC, Dma32),
    ];
    for selector in 0..16u32 {
        let word = GFP_KERNEL | Gfp::from_bits(selector).unwrap();
        match legal.iter().find(|(legal, _)| *legal == selector) {
            Some(&(_, zone)) => {
                assert_eq!(word.highest_zone(), Ok(zone), "{selector:#x}");
                assert_eq!(word.highest_zone_checked_before(), zone);
            }
            None => {
                let error = GfpError::IllegalZoneSelector { bits: selector };
                assert_eq!(word.highest_zone(), Err(error));
                assert_eq!(word.check(), Err(error));
                assert!(word.needs_check());
                // Degrades to an ordinary request, not to the lowest zone.
                assert_eq!(word.sanitize_for(Entry::Pages), (GFP_KERNEL, Some(error)));
            }
        }
    }
}

#[test]
fn all_four_mobility_selectors() {
    // P48, P950
    use MigrateType::*;
    assert_eq!(GFP_KERNEL.migratetype(), Ok(Unmovable));
    assert_eq!(GFP_HIGHUSER_MOVABLE.migratetype(), Ok(Movable));
    assert_eq!(
        (GFP_KERNEL | Gfp::RECLAIMABLE).migratetype(),
        Ok(Reclaimable)
    );
    let both = GFP_KERNEL | Gfp::MOVABLE | Gfp::RECLAIMABLE;
    assert_eq!(both.migratetype(), Err(GfpError::MovableAndReclaimable));
    assert_eq!(both.check(), Err(GfpError::MovableAndReclaimable));
    assert_eq!(both.sanitize_for(Entry::Pages).0, GFP_KERNEL);
    for word in [
        GFP_KERNEL,
        GFP_HIGHUSER_MOVABLE,
        GFP_KERNEL | Gfp::RECLAIMABLE,
    ] {
        assert_eq!(Ok(word.migratetype_checked_before()), word.migratetype());
    }
}

#[test]
fn zones_and_types_have_the_names_of_proc() {
    // P200, P611, P606
    let zones: Vec<_> = ZoneKind::ALL.iter().map(|zone| zone.name()).collect();
    assert_eq!(zones, ["DMA", "DMA32", "Normal", "HighMem", "Movable"]);
    let types: Vec<_> = MigrateType::ALL.iter().map(|mt| mt.name()).collect();
    assert_eq!(
        types,
        [
            "Unmovable",
            "Movable",
            "Reclaimable",
            "HighAtomic",
            "CMA",
            "Isolate"
        ]
    );
    let letters: String = MigrateType::ALL.iter().map(|mt| mt.letter()).collect();
    assert_eq!(letters, "UMEHCI");
    for (index, zone) in ZoneKind::ALL.into_iter().enumerate() {
        assert_eq!(zone.index(), index);
        assert_eq!(ZoneKind::from_index(index), Some(zone));
        assert_eq!(
            zone.below(),
            index.checked_sub(1).map(|below| ZoneKind::ALL[below])
        );
    }
    for (index, mt) in MigrateType::ALL.into_iter().enumerate() {
        assert_eq!(mt.index(), index);
        assert_eq!(MigrateType::from_index(index), Some(mt));
    }
    assert_eq!(ZoneKind::from_index(5), None);
    assert_eq!(MigrateType::from_index(6), None);
}

mod check;
mod text;

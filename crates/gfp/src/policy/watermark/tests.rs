extern crate std;

use super::*;
use crate::flags::*;

const MIB: usize = 256; // pages

const DMA: usize = ZoneKind::Dma.index();
const DMA32: usize = ZoneKind::Dma32.index();
const NORMAL: usize = ZoneKind::Normal.index();

/// The managed pages of P208.
const P208: ZoneTable = [4096, 520_192, 3_670_016, 0, 0];

fn one_gib() -> Watermarks {
    let lowmem = LowMemory {
        min_free_kbytes: 4096,
        pages: 262_144,
        scale_factor: 10,
    };
    zone_watermarks(ZoneKind::Normal, 262_144, &lowmem)
}

#[test]
fn square_roots_are_floors() {
    for n in (0..70_000).chain([u64::MAX, u64::MAX - 1, 1 << 62, (1 << 62) - 1]) {
        let root = isqrt(n) as u128;
        assert!(
            root * root <= n as u128 && (root + 1) * (root + 1) > n as u128,
            "{n}"
        );
    }
}

#[test]
fn min_free_vectors() {
    // P210, P951
    let table = [
        (16, 512),
        (64, 1024),
        (256, 2048),
        (1 << 10, 4096),
        (4 << 10, 8192),
        (16 << 10, 16384),
        (0, 128),           // lower clamp
        (1, 128),           // isqrt(16384) is the clamp itself
        (4 << 20, 262_144), // 4 TiB: the upper clamp itself
        (1 << 30, 262_144),
        (u64::MAX >> 10, 262_144),
    ];
    for (mib, kb) in table {
        assert_eq!(min_free_kbytes(mib << 10), kb, "{mib} MiB");
    }
}

#[test]
fn the_users_larger_value_stays() {
    // P211
    let gib_kb = 1 << 20;
    assert_eq!(
        recomputed_min_free_kbytes(gib_kb, None),
        MinFree::Computed(4096)
    );
    assert_eq!(
        recomputed_min_free_kbytes(gib_kb, Some(1000)),
        MinFree::Computed(4096)
    );
    assert_eq!(
        recomputed_min_free_kbytes(gib_kb, Some(5000)),
        MinFree::UserStays(5000)
    );
}

#[test]
fn levels_of_a_one_gib_zone() {
    // P214, P951
    let marks = one_gib();
    assert_eq!(
        marks,
        Watermarks {
            min: 1024,
            low: 1286,
            high: 1548,
            promo: 1810
        }
    );
    // P215
    assert_eq!(marks.level(WatermarkLevel::Min, 512), 1536);
    assert_eq!(marks.level(WatermarkLevel::Low, 512), 1798);
    assert_eq!(marks.level(WatermarkLevel::High, 0), 1548);
    assert_eq!(marks.level(WatermarkLevel::Promo, 1), 1811);
}

#[test]
fn zones_share_min_by_size_and_movable_needs_little() {
    // P212, P213
    let lowmem = LowMemory {
        min_free_kbytes: 8192,
        pages: 4000 * MIB,
        scale_factor: 10,
    };
    let quarter = zone_watermarks(ZoneKind::Dma32, 1000 * MIB, &lowmem);
    assert_eq!((quarter.min, quarter.low), (512, 512 + 256)); // scale: 256 > 512/4
    let movable = |managed| zone_watermarks(ZoneKind::Movable, managed, &lowmem).min;
    let table = [
        (0, 32),
        (32 * 1024, 32),
        (33 * 1024, 33),
        (100 * 1024 + 5, 100),
        (128 * 1024, 128),
        (1 << 30, 128),
    ];
    for (managed, min) in table {
        assert_eq!(movable(managed), min, "{managed}");
        assert_eq!(
            zone_watermarks(ZoneKind::HighMem, managed, &lowmem).min,
            min
        );
    }
    // A large user value makes share/4 the step.
    let user = LowMemory {
        min_free_kbytes: 262_144,
        ..lowmem
    };
    let large = zone_watermarks(ZoneKind::Normal, 4000 * MIB, &user);
    assert_eq!((large.min, large.low, large.high), (65_536, 81_920, 98_304));
    // Nothing overflows, nothing divides by zero.
    let extreme = LowMemory {
        min_free_kbytes: u64::MAX,
        pages: 0,
        scale_factor: usize::MAX,
    };
    let marks = zone_watermarks(ZoneKind::Normal, usize::MAX, &extreme);
    assert!(marks.min <= marks.low && marks.low <= marks.high && marks.high <= marks.promo);
}

#[test]
fn boost_rises_by_pageblocks_to_its_cap() {
    // P216, P951
    let high = one_gib().high;
    let mut boost = 0;
    for expected in [512, 1024, 1536, 2048, 2322, 2322] {
        boost = boosted(boost, 262_144, high, DEFAULT_BOOST_FACTOR).unwrap();
        assert_eq!(boost, expected);
    }
    assert_eq!(boosted(0, 262_144, 1, DEFAULT_BOOST_FACTOR), Some(512)); // cap: a pageblock
    assert_eq!(boosted(0, 4 * 512, high, DEFAULT_BOOST_FACTOR), Some(512));
    assert_eq!(boosted(0, 4 * 512 - 1, high, DEFAULT_BOOST_FACTOR), None);
    assert_eq!(boosted(0, 262_144, 0, DEFAULT_BOOST_FACTOR), None);
    assert_eq!(boosted(0, 262_144, high, 0), None);
}

#[test]
fn lower_zones_keep_pages_from_higher_requests() {
    // P208, P951
    let reserve = lowmem_reserve(&P208, &DEFAULT_LOWMEM_RATIO);
    assert_eq!(reserve[DMA], [0, 2032, 16368, 16368, 16368]);
    assert_eq!(reserve[DMA32], [0, 0, 14336, 14336, 14336]);
    assert_eq!(reserve[NORMAL], [0; 5]);
    // P207: only what is above counts; empty zones and a ratio below 1 keep nothing.
    let movable = [4096, 0, 3200, 0, 6400];
    let reserve = lowmem_reserve(&movable, &DEFAULT_LOWMEM_RATIO);
    assert_eq!(reserve[NORMAL], [0, 0, 0, 0, 200]);
    assert_eq!(reserve[DMA32], [0; 5]);
    assert_eq!(reserve[DMA], [0, 0, 12, 12, 37]);
    assert_eq!(lowmem_reserve(&movable, &[0; 5]), [[0; 5]; 5]);
}

#[test]
fn total_reserve_is_bounded_by_each_zone() {
    // P209
    let reserve = lowmem_reserve(&P208, &DEFAULT_LOWMEM_RATIO);
    let marks = |high| Watermarks {
        high,
        ..Watermarks::default()
    };
    let zones = [
        (4096, marks(10), reserve[DMA]),        // 16368 + 10, but it has 4096
        (520_192, marks(3000), reserve[DMA32]), // 14336 + 3000
        (3_670_016, marks(20_000), reserve[NORMAL]),
    ];
    assert_eq!(totalreserve(zones), 4096 + 17_336 + 20_000);
    assert_eq!(totalreserve([]), 0);
}

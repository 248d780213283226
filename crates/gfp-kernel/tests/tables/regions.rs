//! From firmware's map to regions: rules one by one, then against a page-by-page definition.

use super::image::span;
use super::tables::Span;
use super::tables::acpi::{MemoryAffinity, Plug};
use super::tables::nodes::Nodes;
use super::tables::pvh::E820;
use super::tables::regions::{HIGHEST_END, LOW_END, MAX_REGIONS, Regions, Sources};
use gfp::frame::PhysAddr;
use proptest::prelude::*;

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
const RAM: u32 = 1;
const RESERVED: u32 = 2;

fn entry((start, end, kind): (u64, u64, u32)) -> E820 {
    E820 {
        start: PhysAddr(start),
        len: end.wrapping_sub(start),
        kind: kind.into(),
    }
}

/// Regions of a machine whose domains 0 and 1 are its nodes.
fn regions(
    firmware: &[(u64, u64, u32)],
    affinity: &[(Span, u32, Plug)],
    taken: &[Span],
    top: u64,
) -> Regions {
    let firmware: Vec<_> = firmware.iter().copied().map(entry).collect();
    let affinity = affinity.iter();
    let affinity: Vec<_> = affinity
        .map(|&(span, domain, plug)| MemoryAffinity { span, domain, plug })
        .collect();
    Sources {
        firmware: &firmware,
        affinity: &affinity,
        taken,
        nodes: &two_nodes(),
        top: PhysAddr(top),
    }
    .regions()
}

fn two_nodes() -> Nodes {
    let entries = [0, 1].map(|d| super::acpi::memory(d, 0, 1, 1));
    let image = super::image::Image::acpi(&[super::acpi::srat(2, &entries)]);
    Nodes::new(Some(&image.tables().srat().unwrap()), None)
}

fn usable(regions: &Regions) -> Vec<(u8, u64, u64)> {
    let list = regions.usable.iter();
    list.map(|r| (r.node.0, r.start.0, r.end.0)).collect()
}

fn plain(firmware: &[(u64, u64, u32)]) -> Vec<(u8, u64, u64)> {
    usable(&regions(firmware, &[], &[], u64::MAX))
}

#[test]
fn what_is_not_ram_wins_in_any_order() {
    let ram = (MIB, 8 * MIB, RAM);
    for kind in [0, 2, 3, 4, 5, 6, 7, 99] {
        let other = (2 * MIB, 3 * MIB, kind);
        let expected = [(0, MIB, 2 * MIB), (0, 3 * MIB, 8 * MIB)];
        assert_eq!(plain(&[ram, other]), expected);
        assert_eq!(plain(&[other, ram]), expected);
    }
    // RAM that is listed twice is there once; what wraps reaches up to the end.
    assert_eq!(
        plain(&[ram, (3 * MIB, 9 * MIB, RAM), ram]),
        [(0, MIB, 9 * MIB)]
    );
    assert_eq!(
        plain(&[ram, (4 * MIB, 4 * MIB - 1, RESERVED)]),
        [(0, MIB, 4 * MIB)]
    );
    assert_eq!(
        plain(&[ram, (4 * MIB, 4 * MIB - 1, RAM)]),
        [(0, MIB, 8 * MIB)]
    );
    assert_eq!(plain(&[(4 * MIB, 4 * MIB - 1, RAM)]), []);
}

#[test]
fn usable_shrinks_to_pages_and_the_rest_grows() {
    let ram = (MIB + 1, 2 * MIB - 1, RAM);
    assert_eq!(plain(&[ram]), [(0, MIB + PAGE, 2 * MIB - PAGE)]);
    let one_byte = (MIB + 5 * PAGE + 7, MIB + 5 * PAGE + 8, RESERVED);
    assert_eq!(
        plain(&[(MIB, 2 * MIB, RAM), one_byte]),
        [(0, MIB, MIB + 5 * PAGE), (0, MIB + 6 * PAGE, 2 * MIB)]
    );
    let taken = [span(MIB + PAGE - 1, MIB + PAGE + 1)];
    let taken = regions(&[(MIB, 2 * MIB, RAM)], &[], &taken, u64::MAX);
    assert_eq!(usable(&taken), [(0, MIB + 2 * PAGE, 2 * MIB)]);
    assert_eq!(taken.lost, 2 * PAGE);
}

#[test]
fn the_first_mib_and_what_is_above_the_top_are_not_usable() {
    let all = [(0, u64::MAX - 1, RAM)];
    assert_eq!(plain(&all), [(0, MIB, HIGHEST_END.0)]);
    assert_eq!(
        usable(&regions(&all, &[], &[], 4 * MIB + 5)),
        [(0, MIB, 4 * MIB)]
    );
    assert_eq!(usable(&regions(&all, &[], &[], 0)), []);
}

#[test]
fn other_cpus_start_in_the_first_low_page_of_ram_that_is_free() {
    let page = |firmware: &[(u64, u64, u32)], taken: &[Span]| {
        let firmware: Vec<_> = firmware.iter().copied().map(entry).collect();
        let sources = Sources {
            firmware: &firmware,
            affinity: &[],
            taken,
            nodes: &two_nodes(),
            top: PhysAddr(u64::MAX),
        };
        sources.start_page().map(|at| at.0)
    };
    let low = [(0, 0x9_fc00, RAM)];
    assert_eq!(page(&low, &[]), Some(0x8000));
    // The loader left something in its last byte.
    assert_eq!(page(&low, &[span(0x8fff, 0x9000)]), Some(0x9000));
    let reserved = [low[0], (0x8000, 0xa010, RESERVED)];
    assert_eq!(page(&reserved, &[]), Some(0xb000));
    // The page of 0x9fc00 is not whole.
    assert_eq!(page(&low, &[span(0x8000, 0x9_f000)]), None);
    assert_eq!(page(&[(0x10_0000, 1 << 30, RAM)], &[]), None);
}

#[test]
fn nodes_split_ram_and_hot_ranges_are_apart() {
    let affinity = [
        (span(0, 4 * MIB + 5), 0, Plug::Fixed),
        (span(4 * MIB + 5, 8 * MIB), 1, Plug::Hot),
        (span(16 * MIB + 1, 32 * MIB), 1, Plug::Hot),
        (span(0, 64 * MIB), 0, Plug::Fixed), // the first entry wins
    ];
    let firmware = [
        (MIB, 8 * MIB, RAM),
        (9 * MIB, 10 * MIB, RAM),
        (20 * MIB, 21 * MIB, RESERVED),
    ];
    let regions = regions(&firmware, &affinity, &[], u64::MAX);
    // RAM that is listed is usable, also where it could be taken away.
    assert_eq!(
        usable(&regions),
        [
            (0, MIB, 4 * MIB),
            (1, 4 * MIB, 8 * MIB),
            (0, 9 * MIB, 10 * MIB),
        ]
    );
    assert_eq!(regions.end(), PhysAddr(32 * MIB));
    let hot: Vec<_> = regions.hot.iter().map(|h| (h.span, h.node.0)).collect();
    assert_eq!(
        hot,
        [
            (span(16 * MIB + PAGE, 20 * MIB), 1),
            (span(21 * MIB, 32 * MIB), 1),
        ]
    );
}

#[test]
fn of_too_many_regions_the_largest_stay() {
    // Region i has i + 1 pages, in an order that is neither ascending nor descending.
    let sizes: Vec<_> = (0..50u64).map(|i| (i * 7 % 50 + 1) * PAGE).collect();
    let firmware: Vec<_> = sizes
        .iter()
        .enumerate()
        .map(|(i, size)| ((i as u64 + 1) * MIB, (i as u64 + 1) * MIB + size, RAM))
        .collect();
    let regions = regions(&firmware, &[], &[], u64::MAX);
    let mut kept: Vec<_> = regions.usable.iter().map(|r| r.end.0 - r.start.0).collect();
    assert!(regions.usable.is_sorted_by_key(|r| r.start));
    kept.sort();
    let largest = (50 - MAX_REGIONS as u64..50).map(|i| (i + 1) * PAGE);
    assert_eq!(kept, largest.collect::<Vec<_>>());
    assert_eq!(regions.lost, (1..=18).sum::<u64>() * PAGE);
}

/// A small world around the first MiB, so that ranges meet.
const WORLD: std::ops::Range<u64> = MIB - 8 * PAGE..MIB + 40 * PAGE;

/// Pages of the longest range, and one that it may share.
const LONGEST: u64 = 12;

fn range() -> impl Strategy<Value = (u64, u64)> {
    let pages = WORLD.start / PAGE..WORLD.end / PAGE;
    let offset = || prop_oneof![Just(0), Just(1), Just(PAGE - 1)];
    (pages, 0..LONGEST, offset(), offset())
        .prop_map(|(page, pages, from, to)| (page * PAGE + from, (page + pages) * PAGE + to))
        .prop_filter("a range has a byte", |(from, to)| from < to)
}

fn spans(max: usize) -> impl Strategy<Value = Vec<Span>> {
    prop::collection::vec(range().prop_map(|(from, to)| span(from, to)), 0..max)
}

fn affinities() -> impl Strategy<Value = Vec<(Span, u32, Plug)>> {
    let plug = prop_oneof![Just(Plug::Fixed), Just(Plug::Hot)];
    let one = (range(), 0..2u32, plug).prop_map(|((from, to), d, plug)| (span(from, to), d, plug));
    prop::collection::vec(one, 0..4)
}

proptest! {
    #![proptest_config(super::mutated::config())]

    #[test]
    fn each_page_is_what_the_rules_say(
        firmware in prop::collection::vec((range(), 1..4u32), 0..8),
        affinity in affinities(),
        taken in spans(4),
        top in WORLD,
    ) {
        let firmware: Vec<_> = firmware.into_iter().map(|((s, e), kind)| (s, e, kind)).collect();
        let regions = regions(&firmware, &affinity, &taken, top);
        let mut lost = 0;
        for page in (WORLD.start..WORLD.end + LONGEST * PAGE).step_by(PAGE as usize) {
            let page = span(page, page + PAGE);
            let touch = |kinds: &dyn Fn(u32) -> bool| firmware.iter()
                .any(|&(s, e, kind)| kinds(kind) && span(s, e).overlaps(page));
            let whole = |s: Span| s.start <= page.start && page.end <= s.end;
            let ram = firmware.iter().any(|&(s, e, kind)| kind == RAM && whole(span(s, e)));
            let free = page.start >= LOW_END && page.end.0 <= top
                && !taken.iter().any(|t| t.overlaps(page));
            // The owner of a page holds its last byte, or ends on its last.
            let last = page.end.0 - 1;
            let near = affinity.iter()
                .find(|(s, ..)| s.start.0 <= last && s.end.0 > last);
            let node = near.map_or(0, |n| n.1 as u8);
            let hot = near.is_some_and(|n| n.2 == Plug::Hot && whole(n.0));

            let usable = ram && free && !touch(&|kind| kind != RAM);
            let found: Vec<_> = regions.usable.iter()
                .filter(|r| r.start < page.end && page.start < r.end).collect();
            prop_assert_eq!(found.len(), usable as usize, "{:?}", page);
            prop_assert!(found.iter().all(|r| r.node.0 == node));
            lost += if touch(&|kind| kind == RAM) && !usable && !touch(&|kind| kind != RAM) {
                PAGE
            } else {
                0
            };

            let hot = hot && free && !touch(&|_| true);
            let found: Vec<_> = regions.hot.iter().filter(|h| h.span.overlaps(page)).collect();
            prop_assert_eq!(found.len(), hot as usize, "{:?}", page);
            prop_assert!(found.iter().all(|h| h.node.0 == node));
        }
        prop_assert_eq!(regions.lost, lost);
        prop_assert!(regions.usable.is_sorted_by(|a, b| a.end <= b.start));
        // What touches and is the same is one region.
        prop_assert!(regions.usable.is_sorted_by(|a, b| a.end < b.start || a.node != b.node));
    }
}

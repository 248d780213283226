//! What a cache keeps and counts.

use super::*;
use std::vec;
use std::vec::Vec;

/// One cache, where it stays.
fn caches() -> Vec<ZoneCache> {
    let caches = vec![ZoneCache::new()];
    caches[0].settle();
    caches
}

/// Takes the oldest blocks out.
fn oldest(cache: &ZoneCache, list: List, n: usize) -> Vec<u32> {
    let frames = cache.frames(list).iter().take(n);
    let blocks = frames.map(|frame| frame.load(Relaxed)).collect();
    cache.drop_oldest(list, n);
    blocks
}

#[test]
fn it_is_last_in_first_out_and_gives_the_oldest_back() {
    // P327
    let caches = caches();
    let cache = &caches[0];
    let list = List::of(Order::ZERO, MigrateType::Movable).unwrap();
    let other = List::of(Order::ZERO, MigrateType::Unmovable).unwrap();
    assert_eq!((cache.next_filled(7), cache.push(list, 0)), (None, false));
    assert_eq!(cache.allow(list, usize::MAX >> 1, 1000), 128);
    for i in 0..128 {
        assert!(cache.push(list, i));
    }
    assert!(!cache.push(list, 999));
    assert_eq!(cache.count(), 128);
    assert_eq!(cache.pop(list), Some(127));
    assert_eq!(cache.pop(other), None);
    assert_eq!(cache.next_filled(NR_LISTS as u8 - 1), Some(list));
    assert_eq!(cache.next_filled(list.number()), Some(list));
    assert_eq!(cache.tally(), (127, 1));
    let mut out = Vec::new();
    out.extend(oldest(cache, list, 64));
    assert_eq!(out, (0..64).collect::<Vec<_>>());
    assert_eq!(cache.count(), 63);
    assert_eq!(cache.pop(list), Some(126));
    assert_eq!(oldest(cache, list, usize::MAX).len(), 62);
    assert_eq!((cache.count(), cache.blocks(list)), (0, 0));
}

#[test]
fn every_list_keeps_its_own_blocks() {
    let caches = caches();
    let cache = &caches[0];
    let mut n = 0;
    for list in List::all() {
        assert_eq!(cache.blocks(list), 0);
        while cache.push_beyond(list, n) {
            n += 1;
        }
    }
    assert_eq!(n as usize, START[NR_LISTS]);
    let mut seen = Vec::new();
    for list in List::all() {
        seen.extend(oldest(cache, list, usize::MAX));
    }
    assert_eq!(seen, (0..n).collect::<Vec<_>>());
    assert_eq!(cache.count(), 0);
}

#[test]
fn all_lists_together_may_hold_no_more_than_the_cpu_keeps() {
    // P325, P327
    let caches = caches();
    let cache = &caches[0];
    let small = List::of(Order::ZERO, MigrateType::Movable).unwrap();
    let large = List::of(Order::PAGEBLOCK, MigrateType::Movable).unwrap();
    assert_eq!(cache.allow(large, 1, 511), 0, "one block is more than that");
    assert_eq!(cache.allow(small, 100, 600), 100);
    assert_eq!(cache.allow(large, 1, 600), 1, "the first holds nothing yet");
    assert!(cache.push(large, 512) && !cache.push(small, 0));
    assert_eq!(cache.allow(small, 100, 600), 88);
    assert!((0..88).all(|i| cache.push(small, i)) && !cache.push(small, 88));
    assert_eq!((cache.count(), cache.allow(small, 1, 600)), (600, 0));
    assert_eq!(
        (cache.allow(small, 9, 605), cache.pop(small)),
        (5, Some(87))
    );
    assert_eq!(cache.allow(small, 1, 600), 6, "it may already");
    assert_eq!(
        cache.allow(small, 7, 600),
        1,
        "what it holds is less than it may"
    );
}

#[test]
fn what_is_of_no_list_has_no_place() {
    let zone = Front::lists_of(1);
    for (order, kind) in [
        (6, MigrateType::Movable),
        (10, MigrateType::Movable),
        (0, MigrateType::Isolate),
    ] {
        let order = Order::new(order).unwrap();
        assert_eq!(List::of(order, kind), None);
        assert_eq!(List::place_of(order, kind, zone).somewhere(), None);
    }
    let none = List::place_of(Order::MAX, MigrateType::Isolate, At::NOWHERE);
    assert_eq!(none.somewhere(), None, "of no zone either");
    for list in List::all() {
        let kind = MigrateType::ALL
            .into_iter()
            .find(|kind| List::of(list.order(), *kind) == Some(list));
        let place = List::place_of(list.order(), kind.unwrap(), zone).somewhere();
        assert_eq!(place, Some(list.at(zone)));
        assert_eq!(
            List::place_of(list.order(), kind.unwrap(), At::NOWHERE).somewhere(),
            None
        );
    }
}

#[test]
fn fast_paths_count_in_blocks_and_views_in_pages() {
    // P615, P617
    let caches = caches();
    let cache = &caches[0];
    let list = List::of(Order::new(3).unwrap(), MigrateType::Unmovable).unwrap();
    cache.allow(list, 2, 100);
    assert!(cache.push_counted(list, 8) && cache.push(list, 16));
    assert_eq!(
        (cache.pop_counted(list), cache.pop(list)),
        (Some(16), Some(8))
    );
    cache.events.alloc_pages.add(1);
    cache.events.numa_hit.add(5);
    assert_eq!((cache.alloc_pages(), cache.free_pages()), (9, 8));
    assert_eq!(cache.numa_hit(), 6);
}

#[test]
fn only_reserve_and_cma_blocks_share_the_list_of_movable_ones() {
    // P331
    let of = |kind| List::of(Order::ZERO, kind);
    assert_eq!(of(MigrateType::Cma), of(MigrateType::Movable));
    assert_eq!(of(MigrateType::HighAtomic), of(MigrateType::Movable));
    assert_ne!(of(MigrateType::Unmovable), of(MigrateType::Movable));
    assert_ne!(of(MigrateType::Unmovable), of(MigrateType::Reclaimable));
    for order in (0..=10).filter_map(Order::new) {
        let list = List::of(order, MigrateType::Movable);
        assert!(list.is_none_or(|l| l.order() == order), "{order:?}");
    }
}

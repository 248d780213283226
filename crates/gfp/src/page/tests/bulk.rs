//! Many single pages at once (P345, P59, P61).

use crate::flags::{GFP_KERNEL, Gfp};
use crate::frame::{Order, Pfn};
use crate::page::PageRequest;
use crate::report::Misuse;
use crate::testing::{Rng, pages};
use std::vec::Vec;

/// Frees in one call; what was refused.
fn free_bulk(
    machine: &crate::page::PageAllocator<crate::testing::TestPlatform>,
    frames: &mut [Pfn],
) -> Vec<(Pfn, Misuse)> {
    let mut refused = Vec::new();
    // SAFETY: the tests free what they have, or what is refused.
    unsafe { machine.free_bulk(frames, |pfn, misuse| refused.push((pfn, misuse))) };
    refused
}

#[test]
fn pages_that_follow_each_other_are_freed_as_one_block() {
    // P345
    let machine = pages(16);
    let huge = PageRequest::new(GFP_KERNEL, Order::PAGEBLOCK);
    let first = machine.alloc(&huge).unwrap();
    machine.split(first, Order::PAGEBLOCK);
    let mut frames: Vec<_> = (0..512).map(|i| first.add(i)).collect();
    let mut rng = Rng::new(7);
    for i in 0..512 {
        frames.swap(i, rng.below(512));
    }
    assert!(free_bulk(&machine, &mut frames).is_empty());
    machine.verify().unwrap();
    // It waits in the cache as what it is: no lock was taken for it, and no page of it is alone.
    let order3 = machine.alloc(&PageRequest::new(GFP_KERNEL, Order::new(3).unwrap()));
    assert!(!(first.0..first.0 + 512).contains(&order3.unwrap().0));
    assert_eq!(machine.alloc(&huge), Ok(first));
    // Three runs: each is freed as the largest aligned blocks that it has.
    machine.split(first, Order::PAGEBLOCK);
    let (hole, other) = (first.add(100), first.add(300));
    let but = |i: &usize| first.add(*i) != hole && first.add(*i) != other;
    let mut frames: Vec<_> = (0..512).filter(but).map(|i| first.add(i)).collect();
    assert!(free_bulk(&machine, &mut frames).is_empty());
    machine.verify().unwrap();
    assert!(free_bulk(&machine, &mut [other, hole]).is_empty());
    machine.drain_all();
    machine.verify().unwrap();
    assert!(machine.is_free(first) && machine.is_free(first.add(511)));
    assert_eq!(free_bulk(&machine, &mut []), []);
}

#[test]
fn what_cannot_be_freed_is_named_and_the_rest_is_freed() {
    // P342, P345
    let machine = pages(16);
    let request = PageRequest::new(GFP_KERNEL, Order::ZERO);
    let mut out = [None; 130];
    assert_eq!(machine.alloc_bulk(&request, &mut out), 130);
    let mut frames: Vec<_> = out.into_iter().flatten().collect();
    let (shared, twice) = (frames[17], frames[40]);
    let compound = PageRequest::new(GFP_KERNEL | Gfp::COMP, Order::new(2).unwrap());
    let block = machine.alloc(&compound).unwrap();
    assert!(machine.get_ref(shared));
    frames.extend([twice, block, block.add(1)]);
    let mut refused = free_bulk(&machine, &mut frames);
    refused.sort_unstable_by_key(|(pfn, _)| *pfn);
    let wrong: Vec<_> = refused.iter().map(|(pfn, _)| *pfn).collect();
    let mut expected = [twice, block, block.add(1)];
    expected.sort_unstable();
    assert_eq!(wrong, expected, "{refused:?}");
    // The shared page has a reference left, and the block is untouched.
    assert_eq!(machine.frames().get(shared).payload(), 1);
    assert!(free_bulk(&machine, &mut [shared]).is_empty());
    // SAFETY: ours.
    unsafe { machine.free(block, compound.order) }.unwrap();
    machine.drain_all();
    machine.verify().unwrap();
    assert_eq!(machine.cached_page_count(), 0);
    assert!(
        machine.managed_pages() - machine.free_page_count() <= 2,
        "the caches of a CPU"
    );
}

#[test]
fn from_inside_the_allocator_a_bulk_free_is_put_off_and_nothing_is_lost() {
    // P173
    let machine = pages(16);
    let request = PageRequest::new(GFP_KERNEL, Order::ZERO);
    let mut out = [None; 70];
    assert_eq!(machine.alloc_bulk(&request, &mut out), 70);
    let mut frames: Vec<_> = out.into_iter().flatten().collect();
    let nested = &machine.platform().nested;
    nested.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(free_bulk(&machine, &mut frames).is_empty());
    nested.store(false, std::sync::atomic::Ordering::Relaxed);
    machine.drain_all();
    machine.verify().unwrap();
    assert!(
        machine.managed_pages() - machine.free_page_count() <= 2,
        "the caches of a CPU"
    );
}

#[test]
fn a_bulk_request_that_is_charged_gets_one_page() {
    // P59
    let machine = pages(16);
    let mut out = [None; 8];
    let request = PageRequest::new(GFP_KERNEL | Gfp::ACCOUNT, Order::ZERO);
    assert_eq!(machine.alloc_bulk(&request, &mut out), 1);
    assert_eq!(machine.alloc_bulk(&request, &mut out), 2);
}

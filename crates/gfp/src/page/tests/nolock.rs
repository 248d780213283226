//! Pages that wait for nobody.

use crate::flags::{GFP_KERNEL, GFP_NOWAIT, Gfp};
use crate::frame::{Order, PAGE_SIZE, Pfn};
use crate::page::{PageAllocator, PageRequest};
use crate::report::Misuse;
use crate::sync::Local;
use crate::testing::{TestPlatform, pages};
use std::vec::Vec;

type Machine = PageAllocator<TestPlatform>;

fn get(machine: &Machine, gfp: Gfp, order: u8) -> Option<Pfn> {
    machine.alloc_nolock(&PageRequest::new(gfp, Order::new(order).unwrap()))
}

fn put(machine: &Machine, pfn: Pfn, order: u8) -> Result<(), Misuse> {
    // SAFETY: tests free what they own, or a block that the allocator refuses.
    unsafe { machine.free_nolock(pfn, Order::new(order).unwrap()) }
}

fn in_use(machine: &Machine) -> usize {
    let cached: usize = (0..4)
        .map(|c| machine.cached_pages(crate::frame::CpuId(c)))
        .sum();
    machine.managed_pages() - machine.free_page_count() - cached
}

#[test]
fn they_read_as_zero_and_only_orders_that_are_cached_are_given() {
    // P170-P172
    let machine = pages(16);
    for order in [0, 1, 3, 9] {
        let pfn = get(&machine, Gfp::NONE, order).unwrap();
        let at = machine.ptr_of(pfn).as_ptr();
        let bytes = PAGE_SIZE << order;
        // SAFETY: the block is ours.
        unsafe {
            assert!(
                core::slice::from_raw_parts(at, bytes)
                    .iter()
                    .all(|b| *b == 0)
            );
            at.write_bytes(0xee, bytes);
        }
        put(&machine, pfn, order).unwrap();
        assert_eq!(put(&machine, pfn, order), Err(Misuse::DoubleFree));
    }
    assert_eq!(get(&machine, Gfp::NONE, 6), None);
    assert_eq!(get(&machine, Gfp::NONE, 10), None);
    assert_eq!(
        get(&machine, GFP_NOWAIT, 0),
        None,
        "P170: no flag but ACCOUNT"
    );
    machine.verify().unwrap();
}

#[test]
fn with_every_lock_held_there_is_none_and_frees_are_put_off() {
    // P967, P171, P173
    let machine = pages(16);
    let one = machine
        .alloc(&PageRequest::new(GFP_KERNEL, Order::ZERO))
        .unwrap();
    put(&machine, one, 0).unwrap(); // this CPU has its caches from now on
    let before = in_use(&machine);
    let held: Vec<_> = (0..200)
        .map(|_| {
            machine
                .alloc(&PageRequest::new(GFP_KERNEL, Order::ZERO))
                .unwrap()
        })
        .collect();
    machine.drain_all();
    machine.platform().on(1);
    {
        // CPU 1 holds the zone's lock.
        let local = Local::enter(machine.platform()).unwrap();
        let _locks: Vec<_> = machine
            .zones
            .iter()
            .map(|z| z.lock(&machine.blocks, &local))
            .collect();
        machine.platform().on(0);
        assert_eq!(
            get(&machine, Gfp::NONE, 0),
            None,
            "nothing cached, the lock is taken"
        );
        for pfn in &held {
            put(&machine, *pfn, 0).unwrap(); // the cache has room for some; the rest waits
            assert!(put(&machine, *pfn, 0).is_err());
        }
        assert!(
            get(&machine, Gfp::NONE, 0).is_some_and(|p| put(&machine, p, 0).is_ok()),
            "cached"
        );
    }
    machine.drain_all();
    assert_eq!(in_use(&machine), before);
    machine.verify().unwrap();
}

#[test]
fn who_came_in_the_middle_of_a_call_gets_nothing_and_may_free() {
    // P173, P176
    let machine = pages(16);
    let before = in_use(&machine);
    let pfn = get(&machine, Gfp::NONE, 0).unwrap();
    let shared = get(&machine, Gfp::NONE, 2).unwrap();
    assert!(machine.get_ref(shared));
    {
        let _interrupted = Local::enter(machine.platform()).unwrap();
        assert_eq!(get(&machine, Gfp::NONE, 0), None);
        put(&machine, pfn, 0).unwrap();
        put(&machine, shared, 2).unwrap(); // the first of two references
        put(&machine, shared, 2).unwrap();
        assert!(put(&machine, shared, 2).is_err());
    }
    machine.drain_all();
    assert_eq!(in_use(&machine), before);
    machine.verify().unwrap();
}

#[test]
fn they_stop_at_min() {
    // P171: no reserve.
    let machine = pages(16);
    while get(&machine, Gfp::NONE, 0).is_some() {}
    let zone = &machine.zones[0];
    assert!(zone.free_pages() >= zone.watermarks().min);
    assert_eq!(
        machine.failures(),
        [0; crate::frame::NR_ORDERS],
        "it is no failure"
    );
    let more = PageRequest::new(GFP_NOWAIT.with(Gfp::HIGH), Order::ZERO);
    assert!(machine.alloc(&more).is_ok());
}

//! References, folios and frozen blocks (P340-P343, P347, P348, P901).

use crate::flags::{GFP_KERNEL, Gfp};
use crate::frame::{FrameKind, Order, Pfn};
use crate::page::{Folio, PageAllocator, PageRequest};
use crate::report::Misuse;
use crate::testing::{TestPlatform, pages};
use std::vec::Vec;

type Machine = PageAllocator<TestPlatform>;

fn order(o: u8) -> Order {
    Order::new(o).unwrap()
}

fn folio(machine: &Machine, o: u8) -> Folio<'_, TestPlatform> {
    let request = PageRequest::new(GFP_KERNEL | Gfp::COMP, order(o));
    let head = machine.alloc(&request).unwrap();
    // SAFETY: ours, and given up.
    unsafe { machine.into_folio(head) }.unwrap()
}

/// Pages that are in use, but for the caches of the CPU.
fn used(machine: &Machine) -> usize {
    machine.drain_all();
    machine.verify().unwrap();
    machine.managed_pages() - machine.free_page_count()
}

fn free(machine: &Machine, pfn: Pfn, o: Order) -> Result<(), Misuse> {
    // SAFETY: the tests free what they have, or what is refused.
    unsafe { machine.free(pfn, o) }
}

#[test]
fn a_block_that_others_look_at_while_it_is_freed_does_not_leak() {
    // P342, P901
    let machine = pages(16);
    let rounds = if cfg!(miri) { 20 } else { 1_000_000 };
    drop(folio(&machine, 0));
    let before = used(&machine);
    for gfp in [GFP_KERNEL, GFP_KERNEL | Gfp::COMP] {
        let left = if gfp.contains(Gfp::COMP) { 3 } else { 0 };
        for round in 0..rounds {
            let pfn = machine.alloc(&PageRequest::new(gfp, order(3))).unwrap();
            assert!(machine.get_ref(pfn));
            free(&machine, pfn, order(3)).unwrap();
            free(&machine, pfn, order(left)).unwrap();
            if round % 100 == 0 {
                assert_eq!(free(&machine, pfn, order(left)), Err(Misuse::DoubleFree));
            }
        }
        assert_eq!(used(&machine), before);
    }
}

#[test]
fn a_folio_is_found_by_each_of_its_frames_and_freed_by_its_last_reference() {
    // P340, P348
    let machine = pages(16);
    drop(folio(&machine, 0));
    let before = used(&machine);
    for o in 0..=10 {
        let first = folio(&machine, o);
        let head = first.head();
        assert_eq!((first.order(), first.references()), (order(o), 1));
        for i in 0..first.order().pages() {
            assert_eq!(machine.folio_of(head.add(i)), Some((head, order(o))));
            assert!(first.contains(head.add(i)));
        }
        assert!(
            !first.contains(head.add(first.order().pages())) && !first.contains(Pfn(head.0 - 1))
        );
        let tail = head.add(first.order().pages() - 1);
        let second = machine.try_get_folio(tail).unwrap();
        let third = second.clone();
        assert_eq!((second.head(), third.references()), (head, 3));
        drop(first);
        // SAFETY: given up just here.
        let third = unsafe { Folio::from_raw(&machine, third.into_raw()) }.unwrap();
        drop(second);
        assert_eq!(third.references(), 1);
        assert_eq!(used(&machine), before + (1 << o));
        drop(third);
        assert!(machine.try_get_folio(tail).is_none() && machine.folio_of(head).is_none());
        assert_eq!(free(&machine, head, order(o)), Err(Misuse::DoubleFree));
        assert_eq!(used(&machine), before);
    }
    assert!(machine.platform().reports().is_empty());
}

#[test]
fn only_compound_blocks_give_references_to_who_has_none() {
    // P342, P343, P347
    let machine = pages(16);
    let plain = machine
        .alloc(&PageRequest::new(GFP_KERNEL, order(2)))
        .unwrap();
    assert!(machine.try_get_folio(plain).is_none() && machine.folio_of(plain.add(1)).is_none());
    assert!(machine.try_get_folio(Pfn(usize::MAX)).is_none());
    // SAFETY: it is none.
    assert!(unsafe { Folio::from_raw(&machine, plain) }.is_none());
    assert!(machine.get_ref(plain));
    // SAFETY: it is refused.
    let shared = unsafe { machine.into_folio(plain) };
    assert!(shared.is_none());
    free(&machine, plain, order(2)).unwrap();
    free(&machine, plain, order(0)).unwrap();
    // A handle whose block somebody freed behind its back complains, and frees nothing.
    let lost = folio(&machine, 1);
    free(&machine, lost.head(), order(1)).unwrap();
    drop(lost);
    assert!(machine.platform().reports()[0].contains("double free"));
}

#[test]
fn a_frozen_block_has_no_reference_and_is_freed_by_its_own_call() {
    // P343
    let machine = pages(16);
    let request = PageRequest::new(GFP_KERNEL | Gfp::COMP, order(2));
    let frozen = machine.alloc_frozen(&request).unwrap();
    assert_eq!(machine.frames().get(frozen).payload(), 0);
    assert!(!machine.get_ref(frozen) && machine.try_get_folio(frozen).is_none());
    assert!(free(&machine, frozen, order(2)).is_err());
    // SAFETY: refused, or ours.
    let free_frozen = |pfn, o| unsafe { machine.free_frozen(pfn, order(o)) };
    assert!(free_frozen(frozen, 1).is_err() && free_frozen(frozen.add(1), 0).is_err());
    assert_eq!(free_frozen(frozen, 2), Ok(()));
    assert_eq!(free_frozen(frozen, 2), Err(Misuse::DoubleFree));
    let plain = machine
        .alloc(&PageRequest::new(GFP_KERNEL, order(2)))
        .unwrap();
    assert_eq!(free_frozen(plain, 2), Err(Misuse::WrongCall));
    free(&machine, plain, order(2)).unwrap();
    machine.verify().unwrap();
}

#[test]
fn references_that_many_take_and_drop_at_once_keep_a_folio_until_the_last() {
    // P342: real threads; all interleavings are in `frame/tests.rs`.
    let machine = pages(16);
    let rounds = if cfg!(miri) { 4 } else { 300 };
    for _ in 0..rounds {
        let folio = folio(&machine, 1);
        let head = folio.head();
        let frames = machine.frames();
        std::thread::scope(|scope| {
            let takers: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(move || {
                        let mut had = 0;
                        for _ in 0..50 {
                            had += usize::from(frames.try_get(head).is_some());
                        }
                        had
                    })
                })
                .collect();
            let had: usize = takers.into_iter().map(|t| t.join().unwrap()).sum();
            assert_eq!(folio.references(), 1 + had);
            assert_eq!(had, 150, "the handle kept it");
            for _ in 0..had {
                free(&machine, head, order(1)).unwrap();
            }
        });
        assert!(frames.get(head).is(FrameKind::Compound));
    }
    assert!(machine.platform().reports().is_empty());
}

//! What an address is used for, as a handler of page faults asks it.

use super::machine::*;
use crate::flags::GFP_KERNEL;
use crate::frame::PAGE_SIZE;
use crate::platform::{Nested, Platform};
use crate::report::{Caller, Owner};
use crate::vmalloc::recent::RECENT;
use crate::vmalloc::{AddressUse, AreaOwner, FreedArea};
use std::ptr::NonNull;

const MAKER: Caller = Caller::Address(0xa110c);

fn address(caller: Caller) -> usize {
    match caller {
        Caller::Address(at) => at,
        Caller::Location(_) => 0,
    }
}

fn assert_owner(owner: AreaOwner, area: NonNull<u8>, size: usize) {
    assert_eq!((owner.start, owner.size), (area.addr().get(), size));
    assert_eq!(address(owner.caller), address(MAKER));
}

#[track_caller]
fn assert_freed(vm: &Vm, area: NonNull<u8>, offset: usize, size: usize) {
    match vm.address_use(area.addr().get() + offset).unwrap() {
        AddressUse::Freed(FreedArea { owner, freed_by }) => {
            assert_owner(owner, area, size);
            assert_eq!(address(freed_by), address(HERE));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn pages_and_guard_page_are_told_with_their_owner() {
    // V2, V12
    let vm = machine(16, 64);
    let size = 2 * PAGE_SIZE - 5;
    let area = vm.vmalloc(size, MAKER).unwrap();
    let at = area.addr().get();
    for offset in [0, size - 1, 2 * PAGE_SIZE - 1] {
        match vm.address_use(at + offset).unwrap() {
            AddressUse::Mapped(owner) => assert_owner(owner, area, size),
            other => panic!("{other:?}"),
        }
    }
    for offset in [2 * PAGE_SIZE, 3 * PAGE_SIZE - 1] {
        match vm.address_use(at + offset).unwrap() {
            AddressUse::Guard(owner) => assert_owner(owner, area, size),
            other => panic!("{other:?}"),
        }
    }
    for addr in [at + 3 * PAGE_SIZE, at.wrapping_sub(1), 0, usize::MAX] {
        assert!(matches!(vm.address_use(addr), Ok(AddressUse::Nothing)));
    }
}

#[test]
fn a_tail_that_was_given_back_is_a_guard() {
    // V11
    let vm = machine(16, 64);
    let area = vm.vmalloc(4 * PAGE_SIZE, MAKER).unwrap();
    // SAFETY: the area is ours.
    unsafe { vm.vrealloc(area.as_ptr(), PAGE_SIZE, GFP_KERNEL, HERE) }.unwrap();
    let what = vm.address_use(area.addr().get() + PAGE_SIZE).unwrap();
    match what {
        AddressUse::Guard(owner) => assert_owner(owner, area, PAGE_SIZE),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_freed_area_is_told_with_its_owner_before_and_after_the_purge() {
    // V10, V17
    let vm = machine(16, 64);
    let area = vm.vmalloc(3 * PAGE_SIZE, MAKER).unwrap();
    let neighbour = vm.vmalloc(PAGE_SIZE, MAKER).unwrap();
    vm.free(area).unwrap();
    let check = || {
        for offset in [0, 2 * PAGE_SIZE, 4 * PAGE_SIZE - 1] {
            assert_freed(&vm, area, offset, 3 * PAGE_SIZE);
        }
    };
    check();
    vm.purge();
    check();
    let owner = Owner::FreedArea {
        start: area.addr().get(),
        size: 3 * PAGE_SIZE,
    };
    assert_eq!(vm.describe(area.addr().get()), Some(owner));
    // A free neighbour joins the range; both are told apart still.
    vm.free(neighbour).unwrap();
    vm.purge();
    check();
    assert_freed(&vm, neighbour, 0, PAGE_SIZE);
    vm.check();
}

#[test]
fn who_uses_the_addresses_again_is_told_instead() {
    // V13
    let vm = machine(16, 64);
    let old = vm.vmalloc(3 * PAGE_SIZE, HERE).unwrap();
    vm.free(old).unwrap();
    vm.purge();
    let new = vm.vmalloc(PAGE_SIZE, MAKER).unwrap();
    assert_eq!(new, old, "lowest fit");
    match vm.address_use(new.addr().get()).unwrap() {
        AddressUse::Mapped(owner) => assert_owner(owner, new, PAGE_SIZE),
        other => panic!("{other:?}"),
    }
    vm.free(new).unwrap();
    vm.purge();
    assert_freed(&vm, new, 0, PAGE_SIZE);
}

#[test]
fn a_purge_of_many_remembers_those_freed_last() {
    let vm = machine(16, 4096);
    let areas: [_; RECENT + 8] = std::array::from_fn(|_| vm.vmalloc(1, MAKER).unwrap());
    areas.iter().for_each(|&area| vm.free(area).unwrap());
    vm.purge();
    let (first, last) = areas.split_at(8);
    for &area in last {
        assert_freed(&vm, area, 0, 1);
    }
    for &area in first {
        let what = vm.address_use(area.addr().get());
        assert!(matches!(what, Ok(AddressUse::Nothing)));
    }
}

#[test]
fn the_next_purge_forgets_what_was_freed_first() {
    let vm = machine(16, 4096);
    let areas: [_; RECENT + 3] = std::array::from_fn(|_| vm.vmalloc(1, MAKER).unwrap());
    let (many, few) = areas.split_at(RECENT);
    for part in [many, few] {
        part.iter().for_each(|&area| vm.free(area).unwrap());
        vm.purge();
    }
    for (i, area) in areas.into_iter().enumerate() {
        let what = vm.address_use(area.addr().get());
        let known = matches!(what, Ok(AddressUse::Freed(_)));
        assert_eq!(known, i >= areas.len() - RECENT, "{i}");
    }
}

#[test]
fn inside_the_allocator_nothing_is_told() {
    // V10: a fault may come anywhere.
    let vm = machine(16, 64);
    let area = vm.vmalloc(PAGE_SIZE, MAKER).unwrap();
    let section = vm.platform().enter().unwrap();
    let what = vm.address_use(area.addr().get());
    assert!(matches!(what, Err(Nested)));
    drop(section);
}

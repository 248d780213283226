//! What the running task's scopes and rights change.

use super::super::relief::{Need, Reclaimed, Relief};
use crate::error::AllocError;
use crate::flags::{GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NOFS, GFP_NOIO, Gfp, MigrateType};
use crate::frame::{Order, Pfn};
use crate::page::{PageAllocator, PageRequest};
use crate::platform::{Context, Fact, Platform, ScopeGuard};
use crate::policy::effort::Scopes;
use crate::testing::{TestPlatform, pages};
use std::cell::Cell;
use std::vec::Vec;

type Machine = PageAllocator<TestPlatform>;

fn open(machine: &Machine, scopes: Scopes) -> ScopeGuard<'_> {
    ScopeGuard::open(machine.platform(), scopes, None).unwrap()
}

fn get(machine: &Machine, gfp: Gfp) -> Result<Pfn, AllocError> {
    machine.alloc(&PageRequest::new(gfp, Order::ZERO))
}

fn exhaust(machine: &Machine, gfp: Gfp) -> Vec<Pfn> {
    core::iter::from_fn(|| get(machine, gfp).ok()).collect()
}

/// Keeps the flags that a request went on with.
struct Seen(Cell<Gfp>);

impl Relief<TestPlatform> for Seen {
    fn reclaim(&self, _: &Machine, need: &Need<'_>, _: u32) -> Reclaimed {
        self.0.set(need.effort.gfp);
        Reclaimed::default()
    }
}

#[test]
fn a_scope_takes_its_bits_from_each_request_in_need() {
    // P150, P152
    let machine = pages(16);
    let all = exhaust(&machine, GFP_KERNEL);
    let in_need = |scopes| {
        let _scope = open(&machine, scopes);
        let seen = Seen(Cell::new(Gfp::NONE));
        let req = PageRequest::new(GFP_KERNEL, Order::ZERO);
        assert!(machine.alloc_with(&req, &seen).is_err());
        seen.0.get()
    };
    assert_eq!(in_need(Scopes::NONE), GFP_KERNEL);
    assert_eq!(in_need(Scopes::NOFS), GFP_NOFS);
    assert_eq!(in_need(Scopes::NOIO), GFP_NOIO);
    assert_eq!(in_need(Scopes::NOIO.with(Scopes::NOFS)), GFP_NOIO);
    drop(all);
}

#[test]
fn rights_of_the_task_are_not_inherited_by_interrupts() {
    // P152, P265
    let machine = pages(16);
    exhaust(&machine, GFP_KERNEL);
    let atomic = Gfp::KSWAPD_RECLAIM | Gfp::HIGH;
    exhaust(&machine, atomic);
    assert!(get(&machine, atomic).is_err(), "the reserve is used up");
    let scope = open(&machine, Scopes::NORECLAIM);
    for context in [Context::HardIrq, Context::Nmi] {
        machine.platform().play(context);
        assert!(get(&machine, atomic).is_err(), "{context:?}");
    }
    for context in [Context::Task, Context::Atomic, Context::SoftIrq] {
        machine.platform().play(context);
        get(&machine, atomic).unwrap();
    }
    machine.platform().play(Context::Task);
    drop(scope);
    assert!(get(&machine, atomic).is_err());
}

#[test]
fn a_victim_goes_below_all_others_while_it_is_one() {
    // P265, P268, ADR 0012
    let machine = pages(16);
    exhaust(&machine, GFP_KERNEL);
    let zone = &machine.zones[0];
    let min = zone.watermarks().min;
    assert!(zone.free_pages() >= min);
    let task = machine.platform().this_task().unwrap();
    task.note(Fact::OomVictim);
    exhaust(&machine, GFP_KERNEL | Gfp::NORETRY);
    let atomic = min - min / 2;
    let atomic = atomic - atomic / 4;
    assert_eq!(zone.free_pages(), atomic - atomic / 2);
    task.forget(Fact::OomVictim);
    assert!(get(&machine, GFP_KERNEL | Gfp::NORETRY).is_err());
}

#[test]
fn atomic_requests_take_exactly_their_part_and_leave_a_victim_its_own() {
    // P270, ADR 0012
    let machine = pages(64);
    let zone = &machine.zones[0];
    let min = zone.watermarks().min;
    assert_eq!(min, 255, "of 256 pages, the share of the zone");
    let nowait = Gfp::KSWAPD_RECLAIM;
    exhaust(&machine, nowait);
    assert_eq!(zone.free_pages(), 255, "GFP_NOWAIT stops at min");
    let atomic = Gfp::KSWAPD_RECLAIM | Gfp::HIGH;
    assert!(get(&machine, nowait).is_err());
    assert_eq!(
        (exhaust(&machine, atomic).len(), zone.free_pages()),
        (159, 96),
        "255 - 127 - 128 / 4"
    );
    for gfp in [nowait, atomic, GFP_KERNEL, GFP_KERNEL | Gfp::HIGH] {
        assert!(get(&machine, gfp | Gfp::NORETRY).is_err());
    }
    let task = machine.platform().this_task().unwrap();
    task.note(Fact::OomVictim);
    let mine = exhaust(&machine, GFP_KERNEL | Gfp::NORETRY);
    assert_eq!((mine.len(), zone.free_pages()), (48, 48));
    task.forget(Fact::OomVictim);
    // The rest is for those who free memory.
    assert_eq!(exhaust(&machine, nowait | Gfp::MEMALLOC).len(), 48);
}

#[test]
fn before_the_scheduler_a_request_looks_and_waits_for_nobody() {
    // P29, P100
    let machine = pages(16);
    let all = exhaust(&machine, GFP_KERNEL);
    let in_need = || {
        let seen = Seen(Cell::new(Gfp::NONE));
        let req = PageRequest::new(GFP_KERNEL, Order::ZERO);
        assert!(machine.alloc_with(&req, &seen).is_err());
        seen.0.get()
    };
    assert_eq!(machine.allow(Gfp::AT_BOOT), Gfp::ALL);
    assert_eq!(in_need(), Gfp::NONE, "it does not reclaim");
    assert_eq!(machine.allow(Gfp::SUSPENDED), Gfp::AT_BOOT);
    assert_eq!(in_need(), GFP_NOIO, "no device could be written to");
    machine.allow(Gfp::ALL);
    assert_eq!(in_need(), GFP_KERNEL);
    drop(all);
}

#[test]
fn what_is_pinned_is_not_movable() {
    // P150: on the fast path too, also in bulk.
    let machine = pages(16);
    let kind = |pfn| machine.blocks.kind_of(pfn);
    let free = get(&machine, GFP_HIGHUSER_MOVABLE).unwrap();
    assert_eq!(kind(free), MigrateType::Movable);
    let _pin = open(&machine, Scopes::PIN);
    let pinned = get(&machine, GFP_HIGHUSER_MOVABLE).unwrap();
    assert_eq!(kind(pinned), MigrateType::Unmovable);
    let mut bulk = [None; 4];
    let req = PageRequest::new(GFP_HIGHUSER_MOVABLE, Order::ZERO);
    assert_eq!(machine.alloc_bulk(&req, &mut bulk), 4);
    let kinds = bulk.map(|pfn| kind(pfn.unwrap()));
    assert_eq!(kinds, [MigrateType::Unmovable; 4]);
}

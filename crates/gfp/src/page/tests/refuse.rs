//! Requests that no shard can serve (P101, P106, P112, P820).

use super::mail::flush;
use super::shards::{EASY, exhaust, hold, machine, order, put, shard_of};
use crate::error::AllocError;
use crate::flags::{GFP_NOWAIT, Gfp};
use crate::frame::Pfn;
use crate::page::Reported;
use crate::page::descriptor::Content;
use crate::page::free::HOLD_MOST;
use crate::page::{PageAllocator, PageRequest, Relief, WakeUp};
use crate::sync::Local;
use crate::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use crate::testing::TestPlatform;
use std::boxed::Box;
use std::sync::Arc;

type Machine = PageAllocator<TestPlatform>;

const HUGE: u8 = 9;

fn huge(machine: &Machine) -> Result<Pfn, AllocError> {
    machine.alloc(&PageRequest::new(EASY, order(HUGE)))
}

/// Puts a block into its shard, past the caches.
fn put_back(machine: &Machine, pfn: Pfn) {
    put(machine, pfn, HUGE);
    drain(machine);
}

/// Gives back what this CPU has cached.
fn drain(machine: &Machine) {
    let local = Local::enter(machine.platform()).unwrap();
    machine.drain(&local);
}

/// Counts what it is asked.
#[derive(Default)]
struct Background {
    woken: AtomicUsize,
    reported: AtomicUsize,
}

impl Relief<TestPlatform> for Background {
    fn wake_background(&self, _: &Machine, _: crate::frame::NodeId, call: &WakeUp) {
        assert!(!call.direct_reclaim && call.order == u32::from(HUGE));
        self.woken.fetch_add(1, Relaxed);
    }

    fn report_failure(&self, _: &Machine, _: &crate::page::Need<'_>) {
        self.reported.fetch_add(1, Relaxed);
    }
}

#[test]
fn what_no_shard_has_is_known_after_one_look_and_what_comes_back_is_found() {
    let machine = machine(64, 16);
    let zone = &machine.zones[0];
    assert!(!zone.lacks(order(HUGE)));
    let mut held = exhaust(&machine, EASY, HUGE);
    // The last request that was refused had it looked at.
    assert!(zone.lacks(order(HUGE)) && !zone.lacks(order(0)));
    while let Some(pfn) = held.pop() {
        put_back(&machine, pfn);
        assert!(!zone.lacks(order(HUGE)));
        let again = huge(&machine);
        assert_eq!(again.ok(), Some(pfn), "the only one that is free");
        machine.verify().unwrap();
        assert!(huge(&machine).is_err() && zone.lacks(order(HUGE)));
    }
}

#[test]
fn a_shard_whose_lock_somebody_has_may_have_what_is_wanted() {
    let machine = machine(64, 16);
    let zone = &machine.zones[0];
    let held = exhaust(&machine, EASY, HUGE);
    put_back(&machine, held[0]);
    assert_eq!(huge(&machine).ok(), Some(held[0]));
    hold(&machine, &[0], || {
        assert!(huge(&machine).is_err());
        assert!(!zone.lacks(order(HUGE)), "one shard was not looked at");
    });
    assert!(huge(&machine).is_err() && zone.lacks(order(HUGE)));
}

#[test]
fn who_is_refused_has_woken_the_background_and_is_counted() {
    // P112, P600
    let machine = machine(64, 16);
    let background = Background::default();
    let count = |n: &AtomicUsize| n.load(Relaxed);
    let loud = GFP_NOWAIT.without(Gfp::NOWARN);
    exhaust(&machine, EASY, HUGE);
    assert!(huge(&machine).is_err());
    for n in 1..4 {
        let before = machine.failures()[usize::from(HUGE)];
        // On a CPU that counts apart, and on one that does not.
        machine.platform().on(n);
        let request = PageRequest::new(loud, order(HUGE));
        let refused = machine.alloc_with(&request, &background);
        assert!(matches!(refused, Err(AllocError::NoMemory { .. })));
        let seen = (count(&background.woken), count(&background.reported));
        assert_eq!(seen, (n as usize, n as usize));
        assert_eq!(machine.failures()[usize::from(HUGE)], before + 1);
    }
}

#[test]
fn who_may_have_what_others_keep_is_not_refused() {
    // P106: nothing is free, but something is on its way.
    let machine = machine(64, 16);
    let held = exhaust(&machine, EASY, HUGE);
    assert!(huge(&machine).is_err());
    let request = PageRequest::new(EASY, order(HUGE));
    assert!(machine.has_nothing_for(&request));
    hold(&machine, &[shard_of(&machine, held[0])], || {
        put(&machine, held[0], HUGE);
        flush(&machine);
        assert_eq!(machine.pages_in_mail(), 512);
        assert!(!machine.has_nothing_for(&request));
    });
    assert_eq!(huge(&machine).ok(), Some(held[0]));
}

#[test]
fn what_is_told_to_the_platform_just_now_is_waited_for() {
    // P106
    let machine = machine(16, 16);
    let held = exhaust(&machine, EASY, HUGE);
    put_back(&machine, held[0]);
    let (zone, request) = (&machine.zones[0], PageRequest::new(EASY, order(HUGE)));
    let local = || Local::enter(machine.platform()).unwrap();
    let hidden = zone.lock(&machine.blocks, &local()).take_reportable(0);
    let hidden = hidden.unwrap().pfn;
    machine.look_again_for(&request);
    assert!(zone.lacks(order(HUGE)) && !machine.has_nothing_for(&request));
    let local = local();
    let mut guard = zone.lock(&machine.blocks, &local);
    guard.put_reported(hidden, Content::Any, Reported::Taken);
    // The lock is still held, and nothing counted yet: so nobody misses it later.
    assert!(!zone.lacks(order(HUGE)) && zone.hidden() == 1);
    drop(guard);
    drop(local);
    assert_eq!(huge(&machine).ok(), Some(hidden));
}

#[test]
fn what_somebody_is_about_to_put_counts_as_mail() {
    // P106: he has it in his hands while he waits for the lock once more.
    for n in 0..6 {
        let machine: &_ = Box::leak(Box::new(machine(16, 16)));
        let held = exhaust(machine, EASY, HUGE);
        put_back(machine, held[0]);
        let pages = exhaust(machine, EASY, 0);
        assert!(pages.len() > HOLD_MOST && huge(machine).is_err());
        let request = PageRequest::new(EASY, order(HUGE));
        assert!(machine.has_nothing_for(&request));
        hold(machine, &[0], || {
            put(machine, held[1], HUGE);
            flush(machine);
            // What was sent last comes out first.
            pages
                .iter()
                .step_by(2)
                .for_each(|pfn| put(machine, *pfn, 0));
            flush(machine);
        });
        assert!(machine.pages_in_mail() > 512 + HOLD_MOST);
        let seen = Arc::new(AtomicUsize::new(0));
        let theirs = seen.clone();
        let look = move || {
            let in_mail = machine.pages_in_mail() >= 512;
            assert!(
                !in_mail || !machine.has_nothing_for(&request),
                "at lock {n}"
            );
            theirs.fetch_add(1, Relaxed);
        };
        at_lock(machine, n, Box::new(look));
        drain(machine);
        machine.verify().unwrap();
        assert_eq!(seen.load(Relaxed), 1);
        assert_eq!(huge(machine).ok(), Some(held[1]));
    }
}

/// At the nth lock from now on something happens.
fn at_lock(machine: &'static Machine, n: usize, what: Box<dyn FnOnce() + Send>) {
    let step = move || match n {
        0 => what(),
        _ => at_lock(machine, n - 1, what),
    };
    *machine.platform().on_step.lock().unwrap() = Some(Box::new(step));
}

#[test]
fn what_another_cpu_puts_while_somebody_looks_again_is_found() {
    // P106: also into a shard that was looked at already.
    for n in 0..4 {
        let machine: &_ = Box::leak(Box::new(machine(64, 16)));
        let held = exhaust(machine, EASY, HUGE);
        let first = held.iter().find(|pfn| shard_of(machine, **pfn) == 0);
        let (first, last) = (*first.unwrap(), held[held.len() - 1]);
        // What the zone knows is out of date.
        put_back(machine, last);
        assert_eq!(huge(machine).ok(), Some(last));
        assert!(!machine.zones[0].lacks(order(HUGE)));
        let put = move || {
            machine.platform().on(1);
            put_back(machine, first);
            machine.platform().on(0);
        };
        at_lock(machine, n, Box::new(put));
        assert_eq!(huge(machine).ok(), Some(first), "put at lock {n}");
        machine.verify().unwrap();
    }
}

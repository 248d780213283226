//! Locks that are held over requests and taken in reclaim are seen without a deadlock (P155).
//!
//! Seen to fail with: a pass that does not note itself; a request of a `nofs` scope that counts; a
//! class that tells each time; a guard that lets go of another class.

use super::{Mm, machine};
use crate::flags::{GFP_ATOMIC, GFP_KERNEL, GFP_NOFS, Gfp};
use crate::frame::NodeId;
use crate::platform::{Context, HELD_CLASSES, LockClass};
use crate::policy::effort::Scopes;
use crate::policy::reclaim::manual::NodeReclaim;
use crate::policy::reclaim::shrink::{Counted, Scanned, Settings};
use crate::reclaim::{ShrinkControl, Shrinker};
use crate::testing::TestPlatform;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;
use std::vec::Vec;

/// A cache whose shrinker waits for a lock of this class.
struct Locking {
    mm: NonNull<Mm<TestPlatform>>,
    class: &'static LockClass,
}

// SAFETY: one thread plays all CPUs.
unsafe impl Sync for Locking {}

impl Shrinker for Locking {
    fn count(&self, _: &ShrinkControl) -> Counted {
        Counted::Objects(10_000)
    }

    fn scan(&self, _: &ShrinkControl) -> Scanned {
        // SAFETY: the machine outlives the call that it makes.
        let mm = unsafe { self.mm.as_ref() };
        let _held = mm.holds(self.class);
        Scanned::Stop
    }
}

/// Runs `work` while a cache is registered that locks `class` to shrink.
fn with_cache(mm: &Mm<TestPlatform>, class: &'static LockClass, work: impl FnOnce()) {
    let cache = Locking {
        mm: NonNull::from(mm),
        class,
    };
    let address = NonNull::from(&cache as &dyn Shrinker);
    // SAFETY: lifetimes only; it is unregistered below, before `cache` ends.
    let address = unsafe {
        core::mem::transmute::<NonNull<dyn Shrinker + '_>, NonNull<dyn Shrinker>>(address)
    };
    // SAFETY: as above.
    let id = unsafe { mm.register_shrinker_for(address, Settings::default()) }.unwrap();
    work();
    mm.unregister_shrinker(id);
}

/// A request that must reclaim, while such a cache is registered.
fn reclaims(mm: &Mm<TestPlatform>, gfp: Gfp, class: &'static LockClass) {
    with_cache(mm, class, || reclaims_inside(mm, gfp));
}

fn reclaims_inside(mm: &Mm<TestPlatform>, gfp: Gfp) {
    let mut hoard = Vec::new();
    let scope = mm.scope_noreclaim(&"hoards").unwrap();
    while let Ok(pfn) = mm.alloc_pages(GFP_KERNEL | Gfp::NOWARN, 0) {
        hoard.push(pfn);
    }
    drop(scope);
    let taken = || mm.slabs().reclaim().events().stalls.iter().sum::<u64>();
    let before = taken();
    let failed = mm.alloc_pages(gfp | Gfp::NORETRY | Gfp::NOWARN, 0);
    assert!(failed.is_err() && taken() > before, "it has reclaimed");
    // SAFETY: they are ours.
    hoard
        .into_iter()
        .for_each(|pfn| unsafe { mm.free_frames(pfn, 0) });
}

#[test]
fn a_lock_that_is_held_over_a_request_and_taken_in_reclaim_is_reported_once() {
    // P155
    static LOCK: LockClass = LockClass::new("journal");
    let mm = machine();
    let held = mm.holds(&LOCK);
    mm.might_alloc(GFP_KERNEL);
    drop(held);
    assert!(
        mm.platform().reports().is_empty(),
        "nobody takes it in reclaim"
    );
    reclaims(&mm, GFP_KERNEL, &LOCK);
    let reports = mm.platform().reports();
    assert_eq!(reports.len(), 1, "{reports:?}");
    for part in [
        "`journal`",
        "GFP_NOFS",
        "request that may reclaim, at crates/gfp/src/mm/tests/locks.rs",
    ] {
        assert!(reports[0].contains(part), "{part}: {reports:?}");
    }
    reclaims(&mm, GFP_KERNEL, &LOCK);
    assert_eq!(mm.platform().reports().len(), 1);
}

#[test]
fn the_other_order_is_seen_as_well() {
    // P155
    static LOCK: LockClass = LockClass::new("inode");
    let mm = machine();
    reclaims(&mm, GFP_KERNEL, &LOCK);
    mm.might_alloc(GFP_KERNEL);
    assert!(mm.platform().reports().is_empty(), "it is not held");
    let _held = mm.holds(&LOCK);
    mm.might_alloc(GFP_KERNEL);
    assert_eq!(mm.platform().reports().len(), 1);
}

#[test]
fn requests_that_stay_out_of_file_systems_are_no_danger() {
    // P155, P150
    static LOCK: LockClass = LockClass::new("superblock");
    let mm = machine();
    reclaims(&mm, GFP_KERNEL, &LOCK);
    let held = mm.holds(&LOCK);
    for gfp in [GFP_NOFS, GFP_ATOMIC, GFP_KERNEL | Gfp::NOLOCKDEP] {
        mm.might_alloc(gfp);
    }
    for scopes in [Scopes::NOFS, Scopes::NOIO, Scopes::NORECLAIM] {
        let _scope = mm.scope(scopes, &"holds it").unwrap();
        mm.might_alloc(GFP_KERNEL);
    }
    mm.platform().play(Context::HardIrq);
    mm.might_alloc(GFP_ATOMIC);
    assert!(!mm.holds(&LOCK).is_kept(), "an interrupt is no task");
    mm.platform().play(Context::Task);
    assert!(mm.platform().reports().is_empty());
    mm.might_alloc(GFP_KERNEL);
    assert_eq!(mm.platform().reports().len(), 1);
    drop(held);
}

#[test]
fn reclaim_that_stays_out_of_file_systems_takes_any_lock() {
    // P155
    static LOCK: LockClass = LockClass::new("quota");
    let mm = machine();
    let held = mm.holds(&LOCK);
    mm.might_alloc(GFP_KERNEL);
    drop(held);
    reclaims(&mm, GFP_NOFS, &LOCK);
    reclaims(&mm, GFP_KERNEL | Gfp::NOLOCKDEP, &LOCK);
    assert!(mm.platform().reports().is_empty());
}

#[test]
fn a_pass_that_was_ordered_counts_as_well() {
    // P155, P721
    static LOCK: LockClass = LockClass::new("names");
    let mm = machine();
    let held = mm.holds(&LOCK);
    mm.might_alloc(GFP_KERNEL);
    drop(held);
    with_cache(&mm, &LOCK, || {
        let request = "1M".parse::<NodeReclaim>().unwrap();
        let freed = mm.reclaim_node(NodeId(0), &request);
        assert!(freed.is_err(), "there is nothing to free");
    });
    assert_eq!(mm.platform().reports().len(), 1);
}

#[test]
fn guards_are_dropped_in_any_order_and_more_than_fit_are_left_alone() {
    static LOCKS: [LockClass; 2] = [LockClass::new("one"), LockClass::new("two")];
    let mm = machine();
    for class in &LOCKS {
        reclaims(&mm, GFP_KERNEL, class);
    }
    let one = mm.holds(&LOCKS[0]);
    let two = mm.holds(&LOCKS[1]);
    drop(two);
    mm.might_alloc(GFP_KERNEL);
    let reports = mm.platform().reports();
    assert!(
        reports.len() == 1 && reports[0].contains("`one`"),
        "{reports:?}"
    );
    let many: Vec<_> = (0..HELD_CLASSES).map(|_| mm.holds(&LOCKS[0])).collect();
    let kept = many.iter().filter(|held| held.is_kept()).count();
    assert_eq!(kept, HELD_CLASSES - 1);
    drop((one, many));
    assert!(mm.holds(&LOCKS[1]).is_kept());
}

#[test]
fn a_platform_hears_of_the_virtual_lock() {
    // P155: the platform asserts that it is taken once, and given back.
    static LOCK: LockClass = LockClass::new("none");
    let mm = machine();
    let count = || mm.platform().fs_reclaim.1.load(Relaxed);
    mm.might_alloc(GFP_KERNEL);
    assert_eq!(count(), 1);
    mm.might_alloc(GFP_NOFS);
    assert_eq!(count(), 1);
    reclaims(&mm, GFP_NOFS, &LOCK);
    let before = count();
    reclaims(&mm, GFP_KERNEL, &LOCK);
    assert!(count() > before);
    assert_eq!(mm.platform().fs_reclaim.0.load(Relaxed), 0);
}

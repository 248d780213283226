//! Requests that may sleep are seen where they must not, whether or not they would have slept.

use super::{BootConfig, machine, machine_with};
use crate::flags::{GFP_ATOMIC, GFP_KERNEL, GFP_NOWAIT};
use crate::page::SleepCheck;
use crate::platform::Context;
use crate::policy::effort::Scopes;

#[test]
fn a_request_that_may_sleep_where_it_must_not_is_reported_once_a_place() {
    // P154
    let mm = machine();
    let ask = || mm.might_alloc(GFP_KERNEL);
    ask();
    assert_eq!(mm.sleep_misuses(), 0, "a task may");
    for (i, context) in Context::ALL.into_iter().skip(1).enumerate() {
        mm.platform().play(context);
        mm.might_alloc(GFP_ATOMIC);
        mm.might_alloc(GFP_NOWAIT);
        assert_eq!(mm.sleep_misuses(), i);
        ask();
    }
    let reports = mm.platform().reports();
    assert_eq!(reports.len(), 1, "{reports:?}");
    let told = reports[0].contains("may sleep") && reports[0].contains("atomic");
    assert!(
        told && reports[0].contains("mm/tests/might.rs"),
        "{reports:?}"
    );
    mm.might_alloc(GFP_KERNEL);
    assert_eq!(mm.platform().reports().len(), 2, "another place");
}

#[test]
#[cfg(debug_assertions)]
fn allocations_say_so_themselves_in_debug_builds() {
    // P154: also where the fast path would have served them.
    let mm = machine();
    mm.platform().play(Context::Atomic);
    let p = mm.kmalloc(64, GFP_KERNEL).unwrap();
    let pages = mm.get_free_pages(GFP_KERNEL, 0).unwrap();
    let reports = mm.platform().reports();
    assert_eq!(reports.len(), 2, "{reports:?}");
    assert!(
        reports.iter().all(|r| r.contains("mm/tests/might.rs")),
        "{reports:?}"
    );
    let q = mm.kmalloc(64, GFP_ATOMIC).unwrap();
    assert_eq!(mm.platform().reports().len(), 2);
    // SAFETY: they are ours.
    unsafe {
        mm.kfree(p.as_ptr());
        mm.kfree(q.as_ptr());
        mm.free_pages(pages.as_ptr(), 0);
    }
}

#[test]
fn who_frees_memory_itself_and_a_machine_that_does_not_care_are_left_alone() {
    let mm = machine();
    mm.platform().play(Context::Atomic);
    let scope = mm.scope(Scopes::NORECLAIM, &"freeing").unwrap();
    mm.might_alloc(GFP_KERNEL);
    drop(scope);
    assert_eq!(mm.sleep_misuses(), 0);
    let careless = machine_with(&BootConfig {
        sleep_check: SleepCheck::Off,
        ..BootConfig::default()
    });
    careless.platform().play(Context::Atomic);
    careless.might_alloc(GFP_KERNEL);
    assert_eq!(careless.sleep_misuses(), 0);
}

//! Direct reclaimers that wait for the background.

use super::{Cache, boot, with};
use crate::Mm;
use crate::flags::{GFP_KERNEL, GFP_NOFS, Gfp};
use crate::frame::{NodeId, Order, Pfn};
use crate::page::PageRequest;
use crate::platform::{Fact, Platform};
use crate::policy::reclaim::kswapd::TaskState;
use crate::policy::reclaim::shrink::Settings;
use crate::testing::{OnSleep, TestPlatform};
use std::boxed::Box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::vec::Vec;

type Machine = Mm<TestPlatform>;

const NODE: NodeId = NodeId(0);

/// Takes the reserve that reclaim lives on.
fn use_reserve(mm: &Machine) -> Vec<Pfn> {
    let req = PageRequest::new(GFP_KERNEL | Gfp::MEMALLOC, Order::ZERO);
    let mut taken = Vec::new();
    while mm.pages().reserve_of(NODE, false).allows_reclaim() {
        taken.push(mm.pages().alloc(&req).unwrap());
    }
    taken
}

/// One request of a machine at the end of its reserve whose background is at work and never done.
/// Returns how often it waited, how many ms passed, and whether it reclaimed.
fn wait(gfp: Gfp, on_sleep: impl FnMut(&TestPlatform, Option<u64>) + Send + 'static) -> [u64; 3] {
    let mm = boot();
    let cache = Cache::new(&mm);
    let mut result = [0; 3];
    with(&cache, Settings::default(), || {
        cache.fill();
        let taken = use_reserve(&mm);
        let before = mm.slabs().reclaim().events();
        mm.slabs().reclaim().nodes[0].post.play(TaskState::Running);
        *mm.platform().on_sleep.lock().unwrap() = Some(Box::new(on_sleep) as OnSleep);
        let start = mm.platform().now_ns();
        if let Ok(pfn) = mm.alloc_pages(gfp | Gfp::NORETRY, 0) {
            // SAFETY: freed once.
            unsafe { mm.free_frames(pfn, 0) };
        }
        let ms = (mm.platform().now_ns() - start) / 1_000_000;
        *mm.platform().on_sleep.lock().unwrap() = None;
        let after = mm.slabs().reclaim().events();
        let stalls = |of: crate::reclaim::ReclaimEvents| of.stalls.iter().sum::<u64>();
        result = [
            after.throttled - before.throttled,
            ms,
            stalls(after) - stalls(before),
        ];
        for pfn in taken {
            // SAFETY: freed once.
            unsafe { mm.pages().free(pfn, Order::ZERO) }.unwrap();
        }
    });
    cache.give(usize::MAX);
    mm.verify().unwrap();
    result
}

fn until_deadline(platform: &TestPlatform, deadline: Option<u64>) {
    let left = deadline.unwrap().saturating_sub(platform.now_ns());
    platform.advance(left.div_ceil(1_000_000));
}

#[test]
fn without_fs_a_reclaimer_waits_a_second_and_goes_on() {
    // P406
    let [throttled, ms, stalls] = wait(GFP_NOFS, until_deadline);
    assert_eq!((throttled, stalls), (1, 1));
    assert!((1000..1010).contains(&ms), "{ms} ms");
}

#[test]
fn with_fs_a_reclaimer_waits_until_it_is_killed_and_does_not_reclaim() {
    // P406
    let naps = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&naps);
    let [throttled, ms, stalls] = wait(GFP_KERNEL, move |platform, deadline| {
        until_deadline(platform, deadline);
        if counted.fetch_add(1, Relaxed) == 30 {
            platform.this_task().unwrap().note(Fact::FatalSignal);
        }
    });
    assert_eq!((throttled, stalls), (1, 0));
    assert!(ms >= 3000 && naps.load(Relaxed) == 31, "{ms} ms");
}

#[test]
fn a_dying_task_does_not_wait() {
    // P406
    let mm = boot();
    let cache = Cache::new(&mm);
    with(&cache, Settings::default(), || {
        cache.fill();
        let taken = use_reserve(&mm);
        mm.slabs().reclaim().nodes[0].post.play(TaskState::Running);
        let never: OnSleep = Box::new(|_, _| panic!("it waits"));
        *mm.platform().on_sleep.lock().unwrap() = Some(never);
        let task = mm.platform().this_task().unwrap();
        task.note(Fact::FatalSignal);
        let p = mm.kmalloc(4096, GFP_KERNEL).unwrap();
        *mm.platform().on_sleep.lock().unwrap() = None;
        // SAFETY: all freed once.
        unsafe {
            mm.kfree(p.as_ptr());
            taken
                .iter()
                .for_each(|pfn| mm.pages().free(*pfn, Order::ZERO).unwrap());
        }
    });
    cache.give(usize::MAX);
}

#[test]
fn nobody_waits_without_a_background_or_a_machine_that_sleeps() {
    // P406: nobody would end the wait
    let mm = boot();
    let cache = Cache::new(&mm);
    with(&cache, Settings::default(), || {
        for has_task in [false, true] {
            cache.fill();
            let taken = use_reserve(&mm);
            if has_task {
                mm.slabs().reclaim().nodes[0].post.play(TaskState::Running);
            } else {
                let never: OnSleep = Box::new(|_, _| panic!("it waits"));
                *mm.platform().on_sleep.lock().unwrap() = Some(never);
            }
            let p = mm.kmalloc(4096, GFP_KERNEL).unwrap();
            *mm.platform().on_sleep.lock().unwrap() = None;
            // SAFETY: all freed once.
            unsafe {
                mm.kfree(p.as_ptr());
                taken
                    .iter()
                    .for_each(|pfn| mm.pages().free(*pfn, Order::ZERO).unwrap());
            }
        }
    });
    assert_eq!(mm.slabs().reclaim().events().throttled, 0);
    cache.give(usize::MAX);
}

//! Requests that try for long.

use super::{boot, with_shrinker};
use crate::Mm;
use crate::flags::{GFP_KERNEL, Gfp};
use crate::frame::{Order, Pfn};
use crate::page::PageRequest;
use crate::platform::ScopeGuard;
use crate::policy::effort::Scopes;
use crate::policy::reclaim::shrink::{Counted, Scanned, Settings};
use crate::reclaim::{ShrinkControl, Shrinker};
use crate::testing::TestPlatform;
use std::string::String;
use std::sync::Mutex;
use std::vec::Vec;

/// Has a page, and gives it back after so many seconds.
struct Slow<'m> {
    mm: &'m Mm<TestPlatform>,
    held: Mutex<(Vec<Pfn>, u32)>,
}

impl Shrinker for Slow<'_> {
    fn count(&self, _: &ShrinkControl) -> Counted {
        match self.held.lock().unwrap().0.len() {
            0 => Counted::Empty,
            n => Counted::Objects(n),
        }
    }

    fn scan(&self, control: &ShrinkControl) -> Scanned {
        self.mm.platform().advance(1000);
        let (held, seconds) = &mut *self.held.lock().unwrap();
        *seconds = seconds.saturating_sub(1);
        let mut freed = 0;
        if *seconds == 0
            && let Some(pfn) = held.pop()
        {
            // SAFETY: freed once.
            unsafe { self.mm.pages().free(pfn, Order::ZERO) }.unwrap();
            freed = 1;
        }
        Scanned::Done {
            looked_at: control.objects,
            freed,
        }
    }
}

/// What is said while a request needs so many seconds.
fn said(gfp: Gfp, seconds: u32) -> Vec<String> {
    let mm = boot();
    let request = PageRequest::new(GFP_KERNEL | Gfp::NOWARN, Order::ZERO);
    let all = || core::iter::from_fn(|| mm.pages().alloc(&request).ok());
    let slow = Slow {
        mm: &mm,
        held: Mutex::new((Vec::new(), seconds)),
    };
    with_shrinker(&mm, &slow, Settings::default(), || {
        slow.held.lock().unwrap().0.extend(all());
        let request = PageRequest::new(gfp, Order::ZERO);
        let _scope = ScopeGuard::open(mm.platform(), Scopes::NOFS, Some(&"journal commit"));
        let served = mm.slabs().reclaim().alloc(&request, mm.slabs());
        let pfn = served.expect("it must not fail");
        // SAFETY: freed once.
        unsafe { mm.pages().free(pfn, Order::ZERO) }.unwrap();
    });
    for pfn in slow.held.into_inner().unwrap().0 {
        // SAFETY: freed once.
        unsafe { mm.pages().free(pfn, Order::ZERO) }.unwrap();
    }
    mm.platform().failures.lock().unwrap().clone()
}

#[test]
fn a_request_that_tries_for_ten_seconds_is_reported_once_in_ten_seconds() {
    // P117; and why it may not do more (P150)
    let gfp = GFP_KERNEL | Gfp::NOFAIL;
    assert_eq!(said(gfp, 5), [] as [&str; 0]);
    let mut next = 10;
    let seen = said(gfp, 200);
    assert!(!seen.is_empty());
    for text in seen {
        let mut lines = text.lines();
        let head = lines.next().unwrap();
        let after = head
            .strip_prefix("test: page allocation stall for ")
            .unwrap();
        let (seconds, rest) = after.split_once(' ').unwrap();
        let mode = "secs: order:0, mode:0x8c40(GFP_NOFS|__GFP_NOFAIL), nodemask=(null)";
        assert_eq!(rest, mode);
        let seconds: u32 = seconds.parse().unwrap();
        assert!((next..=201).contains(&seconds), "{seconds}");
        next = seconds + 10;
        assert_eq!(lines.next(), Some("in scope nofs: journal commit"));
        assert_eq!(lines.next(), None);
    }
    assert_eq!(said(gfp | Gfp::NOWARN, 200), [] as [&str; 0], "P14");
}

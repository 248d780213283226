//! A fork while somebody takes pages from an area: the child has the area's lock, and not its
//! holder.
//!
//! Seen to fail, by a child that hangs, with: a lock that is not given up in the child.
#![cfg(not(loom))]

use gfp::flags::{GFP_HIGHUSER_MOVABLE, Gfp};
use gfp::frame::{PAGE_SIZE, Pfn};
use gfp::page::{BootConfig, CmaSpec, MigrateMode, Migrated, OwnerId, PageOwner};
use gfp::pool::cma::{CmaAllocError, CmaId};
use gfp_host::{Host, HostConfig};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread;

#[path = "common/child.rs"]
mod child;
use child::in_child;

const AREA: u64 = 4 << 20;

/// Has movable pages that nobody looks at. The first that is moved takes its time.
#[derive(Default)]
struct Tenant {
    moves: AtomicUsize,
    may_end: AtomicBool,
}

// SAFETY: nobody uses the pages, so they may be moved at any time.
unsafe impl PageOwner for Tenant {
    fn isolate(&self, _: Pfn) -> bool {
        true
    }

    fn migrate(&self, _: Pfn, _: Pfn, _: MigrateMode) -> Migrated {
        self.moves.fetch_add(1, Release);
        while !self.may_end.load(Acquire) {
            thread::yield_now();
        }
        Migrated::Done
    }
}

/// Lends all of an area to the tenant, and leaves room for as much beside it.
fn lend(host: &Host, id: OwnerId, area: CmaId) {
    let stats = host.cma_stats(area).unwrap();
    let inside = stats.first..stats.first.add(stats.total_pages);
    let gfp = GFP_HIGHUSER_MOVABLE | Gfp::NORETRY | Gfp::NOWARN;
    let mut beside = Vec::new();
    while let Ok(pfn) = host.alloc_pages(gfp, 0) {
        match inside.contains(&pfn) {
            true => host.set_page_owner(pfn, id).unwrap(),
            false => beside.push(pfn),
        }
    }
    assert!(beside.len() * PAGE_SIZE > AREA as usize);
    // SAFETY: ours.
    beside
        .into_iter()
        .for_each(|pfn| unsafe { host.free_frames(pfn, 0) });
}

#[test]
fn a_child_of_a_fork_amid_a_request_to_an_area_waits_for_nobody() {
    // P507
    let boot = BootConfig::default()
        .with_cma(CmaSpec::new("taken", AREA))
        .with_cma(CmaSpec::new("free", AREA));
    let host = Host::boot_with(&HostConfig::new(32 << 20), &boot).unwrap();
    let [taken, free] = ["taken", "free"].map(|name| host.cma_area(name).unwrap());
    let held = host.cma_alloc(taken, 1, 0).unwrap();
    let tenant: &'static Tenant = Box::leak(Box::default());
    // SAFETY: it stays for ever.
    let id = unsafe { host.register_page_owner_for(NonNull::from(tenant as &dyn PageOwner)) };
    lend(&host, id.unwrap(), taken);
    let peaceful = in_child(|| match host.cma_alloc(free, 8, 0) {
        Ok(_) => 0,
        Err(_) => 1, // its lock is free
    });
    assert_eq!(peaceful, 0);
    thread::scope(|scope| {
        let request = scope.spawn(|| host.cma_alloc(taken, 512, 9));
        while tenant.moves.load(Acquire) == 0 {
            thread::yield_now();
        }
        let answer = in_child(|| {
            if host.cma_alloc(taken, 1, 0) != Err(CmaAllocError::Lost) {
                return 1;
            }
            // SAFETY: nobody uses it.
            if !unsafe { host.cma_release(taken, held, 1) } {
                return 2;
            }
            let Ok(other) = host.cma_alloc(free, 8, 0) else {
                return 3;
            };
            // SAFETY: as above.
            let released = unsafe { host.cma_release(free, other, 8) };
            i32::from(!released) * 4
        });
        tenant.may_end.store(true, Release);
        assert_eq!(answer, 0);
        let got = request.join().unwrap();
        assert!(got.is_ok(), "the parent's goes on: {got:?}");
    });
    assert!(tenant.moves.load(Relaxed) > 1);
    host.verify().unwrap();
}

//! Scopes by guard, in Linux's shape, and as a snapshot.

use super::{Mm, TestPlatform, Vec, machine};
use crate::flags::{GFP_ATOMIC, GFP_KERNEL, Gfp};
use crate::platform::{Context, DirectMap, Nested, Platform, ScopeError, Snapshot};
use crate::policy::effort::Scopes;

type Machine = Mm<TestPlatform>;

fn now(mm: &Machine) -> Scopes {
    mm.scopes().scopes()
}

#[test]
fn inner_scopes_leave_the_outer_one_open() {
    // P151: noio{ nofs{ noio{} } }
    let mm = machine();
    let outer = mm.scope_noio(&"outer").unwrap();
    assert_eq!(outer.newly(), Scopes::NOIO);
    {
        let middle = mm.scope_nofs(&"middle").unwrap();
        assert_eq!(middle.newly(), Scopes::NOFS);
        {
            let inner = mm.scope_noio(&"inner").unwrap();
            assert_eq!(inner.newly(), Scopes::NONE, "it was open");
            assert_eq!(mm.scopes().reason(), Some(&"inner"));
        }
        assert_eq!(now(&mm), Scopes::NOIO.with(Scopes::NOFS));
        assert_eq!(mm.scopes().reason(), Some(&"middle"));
    }
    assert_eq!(now(&mm), Scopes::NOIO);
    assert_eq!(mm.scopes().reason(), Some(&"outer"));
    drop(outer);
    assert_eq!(mm.scopes(), Snapshot::default());
}

#[test]
fn saves_and_restores_nest_as_in_linux() {
    // P151: noio{ nofs{ noio{} } }, and each of the four by itself.
    let mm = machine();
    let outer = mm.memalloc_save(Scopes::NOIO);
    let middle = mm.memalloc_save(Scopes::NOFS);
    let inner = mm.memalloc_save(Scopes::NOIO);
    assert_eq!(inner, 0);
    mm.memalloc_restore(Scopes::NOIO, inner);
    assert_eq!(now(&mm), Scopes::NOIO.with(Scopes::NOFS));
    mm.memalloc_restore(Scopes::NOFS, middle);
    assert_eq!(now(&mm), Scopes::NOIO);
    mm.memalloc_restore(Scopes::NOIO, outer);
    assert_eq!(now(&mm), Scopes::NONE);
    for (_, scope) in Scopes::NAMED {
        let saved = mm.memalloc_save(scope);
        assert_eq!(now(&mm), scope);
        mm.memalloc_restore(scope, saved);
        assert_eq!(now(&mm), Scopes::NONE);
    }
}

#[test]
fn a_snapshot_is_entered_by_another_task() {
    let mm = machine();
    let scope = mm.scope_nofs(&"write-back").unwrap();
    let work = mm.scopes();
    drop(scope);
    mm.platform().on(1);
    let own = mm.scope_pin(&"worker").unwrap();
    {
        let _entered = mm.enter_scopes(work).unwrap();
        assert_eq!(now(&mm), Scopes::NOFS.with(Scopes::PIN));
        assert_eq!(mm.scopes().reason(), Some(&"write-back"));
        mm.platform().on(0);
        assert_eq!(now(&mm), Scopes::NONE, "it is the other task's");
        mm.platform().on(1);
    }
    assert_eq!(now(&mm), Scopes::PIN);
    assert_eq!(mm.scopes().reason(), Some(&"worker"));
    drop(own);
}

#[test]
fn an_interrupt_has_no_scopes_and_opens_none() {
    // P152
    let mm = machine();
    let _outer = mm.scope_noio(&"task").unwrap();
    for context in [Context::HardIrq, Context::Nmi] {
        mm.platform().play(context);
        assert_eq!(mm.scope_nofs(&"irq").unwrap_err(), ScopeError::NoTask);
        assert_eq!(mm.memalloc_save(Scopes::NOFS), 0);
        assert_eq!(mm.scopes(), Snapshot::default());
    }
    mm.platform().play(Context::Task);
    assert_eq!(now(&mm), Scopes::NOIO);
}

#[test]
#[should_panic(expected = "opposite")]
#[cfg(debug_assertions)]
fn guards_dropped_out_of_order_are_seen() {
    let mm = machine();
    let outer = mm.scope_noio(&"outer").unwrap();
    let inner = mm.scope_nofs(&"inner").unwrap();
    core::mem::forget(inner); // else it would panic as well, in the middle of the first panic
    drop(outer);
}

/// A platform that offers only what it must.
struct Bare;

// SAFETY: it has no memory, and no section ever exists.
unsafe impl Platform for Bare {
    type Section<'a> = ();

    fn direct_map(&self) -> DirectMap {
        DirectMap::new(core::ptr::null_mut(), crate::frame::PhysAddr(0))
    }

    fn nr_cpus(&self) -> u32 {
        1
    }

    fn enter(&self) -> Result<(crate::frame::CpuId, ()), Nested> {
        Err(Nested)
    }

    fn now_ns(&self) -> u64 {
        0
    }

    fn relax(&self, _: u32) {}
}

#[test]
fn a_platform_without_task_words_says_so() {
    use crate::platform::ScopeGuard;
    let refused = ScopeGuard::open(&Bare, Scopes::NOIO, None).unwrap_err();
    assert_eq!(refused, ScopeError::NotKept);
    assert_eq!(Snapshot::take(&Bare), Snapshot::default());
}

#[test]
fn memory_that_was_given_past_the_watermarks_is_marked_until_it_is_free() {
    // P266
    let mm = machine();
    let mut ordinary = Vec::new();
    while let Ok(pfn) = mm.alloc_pages(GFP_ATOMIC | Gfp::HIGH | Gfp::NOWARN, 0) {
        assert!(!mm.is_pfmemalloc(pfn));
        ordinary.push(pfn);
    }
    let scope = mm.scope_noreclaim(&"writes memory back").unwrap();
    let page = mm.alloc_pages(GFP_KERNEL, 0).unwrap();
    let block = mm.alloc_pages(GFP_KERNEL, 1).unwrap();
    drop(scope);
    assert!(mm.is_pfmemalloc(page) && mm.is_pfmemalloc(block));
    assert!(mm.get_page(page) && mm.is_pfmemalloc(page));
    assert!(mm.split_page(block, 1));
    assert!(mm.is_pfmemalloc(block) && mm.is_pfmemalloc(block.add(1)));
    // SAFETY: ours: two references of one page, and two pages.
    unsafe {
        mm.free_frames(page, 0);
        assert!(mm.is_pfmemalloc(page), "one reference is left");
        mm.free_frames(page, 0);
        mm.free_frames(block, 0);
        mm.free_frames(block.add(1), 0);
    }
    assert!(!mm.is_pfmemalloc(page));
    for pfn in ordinary {
        // SAFETY: ours.
        unsafe { mm.free_frames(pfn, 0) };
    }
    let mut again = Vec::new();
    while let Ok(pfn) = mm.alloc_pages(GFP_ATOMIC | Gfp::HIGH | Gfp::NOWARN, 0) {
        assert!(!mm.is_pfmemalloc(pfn), "nothing of the mark is left");
        again.push(pfn);
    }
    for pfn in again {
        // SAFETY: ours.
        unsafe { mm.free_frames(pfn, 0) };
    }
    mm.verify().unwrap();
}

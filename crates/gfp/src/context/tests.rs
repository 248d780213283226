//! What typed calls do; what they refuse is in `tests/misuse.rs`.

use super::{
    Accounted, AllowedIn, Atomic, Class, InAtomic, InHardIrq, InNmi, InSoftIrq, InTask, Kernel,
};
use super::{NoFs, NoIo, Nofs, Noio, Nolock, Nowait, Token, Usual, WaitsForNobody, Zeroed};
use crate::flags::{GFP_ATOMIC, GFP_KERNEL, GFP_NOFS, GFP_NOIO, GFP_NOWAIT, Gfp};
use crate::frame::PAGE_SIZE;
use crate::mm::Mm;
use crate::owned::KBox;
use crate::page::BootConfig;
use crate::policy::effort::Scopes;
use crate::slab::CacheArgs;
use crate::testing::{TestPlatform, region};
use std::rc::Rc;
use std::string::{String, ToString};
use std::sync::Mutex;
use std::sync::atomic::Ordering;

fn machine() -> Mm<TestPlatform> {
    let (start, bytes) = (4u64 << 30, 32 << 20);
    let map = [region(start, start + bytes)];
    let platform = TestPlatform::new(start, bytes as usize);
    Mm::boot(platform, &map, &BootConfig::default()).unwrap()
}

fn word<T: Token, C: AllowedIn<T>>(_: &T, _: C) -> Gfp {
    C::GFP
}

#[test]
fn classes_are_the_words_of_linux() {
    // SAFETY: nothing is asked of a machine.
    let task = &unsafe { InTask::assume() };
    // P30-P35
    assert_eq!(word(task, Kernel), GFP_KERNEL);
    assert_eq!(word(task, Nofs), GFP_NOFS);
    assert_eq!(word(task, Noio), GFP_NOIO);
    assert_eq!(word(task, Atomic), GFP_ATOMIC);
    assert_eq!(word(task, Nowait), GFP_NOWAIT);
    // P9, P14, P15, P17, P23
    assert_eq!(word(task, Kernel.zeroed()), GFP_KERNEL | Gfp::ZERO);
    assert_eq!(word(task, Nofs.account()), GFP_NOFS | Gfp::ACCOUNT);
    let words = Gfp::NOWARN | Gfp::NORETRY | Gfp::ZERO;
    assert_eq!(
        word(task, Noio.zeroed().quiet().noretry()),
        GFP_NOIO | words
    );
    assert_eq!(
        word(task, Usual.retry_mayfail()),
        GFP_KERNEL | Gfp::RETRY_MAYFAIL
    );
}

#[test]
fn the_context_supplies_the_usual_class() {
    // SAFETY: nothing is asked of a machine.
    let mut task = unsafe { InTask::assume() };
    assert_eq!(word(&task, Usual), GFP_KERNEL);
    task.nofs(|task| {
        assert_eq!(word(task, Usual), GFP_NOFS);
        task.noio(|task| {
            assert_eq!(word(task, Usual), GFP_NOIO);
            // The wider prohibition stays.
            task.nofs(|task: &mut InTask<NoIo>| assert_eq!(word(task, Usual), GFP_NOIO));
        });
        task.nofs(|task: &mut InTask<NoFs>| assert_eq!(word(task, Usual), GFP_NOFS));
    });
    assert_eq!(word(&task, Usual), GFP_KERNEL);
    task.without_sleep(|atomic| assert_eq!(word(atomic, Usual), GFP_ATOMIC));
    // SAFETY: as above.
    let (softirq, irq) = unsafe { (InSoftIrq::assume(), InHardIrq::assume()) };
    assert_eq!(word(&softirq, Usual), GFP_ATOMIC);
    assert_eq!(word(&irq, Usual.zeroed()), GFP_ATOMIC | Gfp::ZERO);
}

#[test]
fn typed_calls_hand_their_word_to_the_untyped_ones() {
    let mm = machine();
    let task = mm.in_task().unwrap();
    let with = mm.with(&task);
    let dirty = with.kmalloc(64, Kernel).unwrap().as_ptr();
    // SAFETY: an object of 64 bytes, freed once; the next one may be the same, zeroed (P9).
    unsafe {
        dirty.write_bytes(0xA5, 64);
        mm.kfree(dirty);
        let clean = with.kmalloc(64, Usual.zeroed()).unwrap().as_ptr();
        assert_eq!(clean, dirty);
        assert!((0..64).all(|i| *clean.add(i) == 0));
        mm.kfree(clean);
    }
    let cache = mm.kmem_cache_create(&CacheArgs::new("typed", 40)).unwrap();
    let object = with.kmem_cache_alloc(cache, Atomic).unwrap();
    let block = with.alloc_pages(Kernel, 3).unwrap();
    assert!(with.alloc_pages(Kernel, 11).is_err()); // P52
    // SAFETY: each is freed once.
    unsafe {
        mm.kmem_cache_free(cache, object.as_ptr());
        mm.free_frames(block, 3);
    }
    mm.kmem_cache_destroy(cache).unwrap();
    mm.verify().unwrap();
    assert!(mm.platform().reports().is_empty());
}

#[test]
fn calls_that_never_fail_return_memory() {
    let mm = machine();
    let mut task = mm.in_task().unwrap();
    let object = mm.with(&task).kmalloc_nofail::<100, _>(Kernel.zeroed());
    let two_pages = task.nofs(|task| mm.with(task).kmalloc_nofail::<{ 2 * PAGE_SIZE }, _>(Usual));
    let pair = mm.with(&task).alloc_pages_nofail::<1, _>(Noio);
    // SAFETY: each is freed once.
    unsafe {
        mm.kfree(object.as_ptr());
        mm.kfree(two_pages.as_ptr());
        mm.free_frames(pair, 1);
    }
    mm.verify().unwrap();
}

#[test]
#[should_panic(expected = "NOFAIL cannot be served: ")]
fn a_promise_that_a_wrong_token_broke_is_a_panic() {
    let mm = machine();
    // SAFETY: not kept, to see what happens: the test plays an interrupt inside of the allocator.
    let task = unsafe { InTask::assume() };
    mm.platform().nested.store(true, Ordering::Relaxed);
    let _ = mm.with(&task).alloc_pages_nofail::<0, _>(Kernel);
}

#[test]
fn under_a_lock_the_guard_is_used_and_its_context_too() {
    let mm = machine();
    let mut task = mm.in_task().unwrap();
    let list = Mutex::new(0); // stands for a spin lock
    let mut held = task.holding(list.lock().unwrap());
    let seven: KBox<'_, u32, _> = mm.with(held.atomic()).kmalloc_obj(7, Usual).unwrap();
    **held += *seven;
    drop(held);
    assert_eq!(*list.lock().unwrap(), 7);
    drop(mm.with(&task).kmalloc_obj(8, Kernel).unwrap());
}

#[test]
fn a_box_drops_its_value_and_frees_its_memory() {
    let mm = machine();
    let task = mm.in_task().unwrap();
    let witness = Rc::new(());
    let mut boxed = mm
        .with(&task)
        .kmalloc_obj((String::from("a"), witness.clone()), Kernel)
        .unwrap();
    boxed.0.push('b');
    assert_eq!(boxed.0.to_string(), "ab");
    let place = &raw const *boxed;
    drop(boxed);
    assert_eq!(Rc::strong_count(&witness), 1);
    let again = mm.with(&task).kmalloc_obj([0u64; 4], Kernel).unwrap();
    assert_eq!((&raw const *again).addr(), place.addr());
}

#[test]
fn a_box_is_aligned_as_its_value_needs() {
    #[repr(align(256))]
    struct Wide([u8; 700]);
    #[repr(align(4096))]
    struct Empty;
    let mm = machine();
    let task = mm.in_task().unwrap();
    let wide = mm.with(&task).kmalloc_obj(Wide([1; 700]), Kernel).unwrap(); // S13
    assert!((&raw const *wide).is_aligned() && wide.0[699] == 1);
    let empty = mm.with(&task).kmalloc_obj(Empty, Kernel).unwrap();
    assert!((&raw const *empty).is_aligned());
}

#[test]
fn a_box_that_got_no_memory_drops_its_value() {
    let mm = machine();
    // SAFETY: a test may call itself atomic.
    let atomic = unsafe { InAtomic::assume() };
    let witness = Rc::new(());
    mm.platform().nested.store(true, Ordering::Relaxed);
    let result = mm.with(&atomic).kmalloc_obj(witness.clone(), Atomic);
    assert!(result.is_err());
    assert_eq!(Rc::strong_count(&witness), 1);
    mm.platform().nested.store(false, Ordering::Relaxed);
}

#[test]
fn a_scope_of_the_machine_narrows_the_token_and_the_untyped_calls() {
    let mm = machine();
    let mut task = mm.in_task().unwrap();
    let open = |mm: &Mm<TestPlatform>| mm.scopes().scopes();
    // P150
    mm.nofs(&mut task, &"committing", |task| {
        assert_eq!(word(task, Usual), GFP_NOFS);
        assert_eq!(open(&mm), Scopes::NOFS);
        mm.noio(task, &"writing", |task| {
            assert_eq!(word(task, Usual), GFP_NOIO);
            assert_eq!(open(&mm), Scopes::NOFS.with(Scopes::NOIO));
        })
        .unwrap();
        assert_eq!(open(&mm), Scopes::NOFS);
    })
    .unwrap();
    assert_eq!(open(&mm), Scopes::NONE);
}

#[test]
fn nobody_gets_a_wide_token_inside_a_scope() {
    let mm = machine();
    // P150
    for scope in [Scopes::NOFS, Scopes::NOIO, Scopes::NORECLAIM] {
        let guard = mm.scope(scope, &"narrow").unwrap();
        assert!(mm.in_task().is_none(), "{scope:?}");
        drop(guard);
        assert!(mm.in_task().is_some());
    }
    let _pinned = mm.scope_pin(&"long").unwrap();
    assert!(mm.in_task().is_some());
}

// P170, S36
#[test]
fn an_nmi_gets_what_needs_no_lock() {
    let mm = machine();
    // SAFETY: a test may call itself an NMI.
    let nmi = unsafe { InNmi::assume() };
    let words = <Zeroed<Accounted<Nolock>> as WaitsForNobody>::GFP;
    assert_eq!(words, Gfp::ZERO | Gfp::ACCOUNT);
    // So that objects and pages are at hand.
    let task = mm.in_task().unwrap();
    drop(mm.with(&task).kmalloc_obj([1u8; 64], Kernel).unwrap());
    let object = mm.with(&nmi).kmalloc_nolock(64, Nolock.zeroed()).unwrap();
    let page = mm
        .with(&nmi)
        .alloc_pages_nolock(Nolock.zeroed(), 0)
        .unwrap();
    // SAFETY: each is ours, of the size asked for, and freed once.
    unsafe {
        assert!((0..64).all(|i| object.add(i).read() == 0));
        mm.kfree_nolock(object.as_ptr());
        mm.free_pages_nolock(page, 0);
    }
    mm.platform().nested.store(true, Ordering::Relaxed);
    assert!(mm.with(&nmi).kmalloc_nolock(64, Nolock).is_none());
    mm.platform().nested.store(false, Ordering::Relaxed);
    assert!(mm.platform().reports().is_empty());
}

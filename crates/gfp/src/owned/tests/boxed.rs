use super::{Counter, fail, live, machine};
use crate::context::{Class, InHardIrq, Kernel, Usual};
use crate::flags::{GFP_ATOMIC, GFP_KERNEL, Gfp};
use crate::mm::Mm;
use crate::owned::{Box, KBox, KVec};
use crate::testing::TestPlatform;
use core::mem::MaybeUninit;
use core::pin::Pin;
use std::boxed::Box as StdBox;
use std::format;
use std::panic::{AssertUnwindSafe, catch_unwind};

// S40, S41
#[test]
fn the_permit_is_a_word_a_token_or_a_token_with_a_class() {
    let mm = machine();
    let mut task = mm.in_task().unwrap();
    let words: KBox<'_, _, _> = Box::new(&mm, 1, GFP_ATOMIC).unwrap();
    let token: KBox<'_, _, _> = Box::new(&mm, 2, &task).unwrap();
    let class: KBox<'_, _, _> = Box::new(&mm, 3, (&task, Kernel.noretry())).unwrap();
    // SAFETY: a test may call itself an interrupt.
    let irq = unsafe { InHardIrq::assume() };
    let urgent: KBox<'_, _, _> = Box::new(&mm, 4, (&irq, Usual.quiet())).unwrap();
    let narrow = task.nofs(|task| KBox::new(&mm, 5, &*task)).unwrap();
    assert_eq!(*words + *token + *class + *urgent + *narrow, 15);
}

#[test]
fn raw_forms_and_the_value_go_out_and_come_back() {
    let mm = machine();
    let counter = Counter::new();
    let before = live(&mm);
    let boxed: KBox<'_, _, _> = Box::new(&mm, counter.make(7), GFP_KERNEL).unwrap();
    let raw = boxed.into_raw();
    assert_eq!((counter.alive(), live(&mm)), (1, before + 1));
    // SAFETY: from `into_raw`, once.
    let boxed: KBox<'_, _, _> = unsafe { Box::from_raw(&mm, raw) };
    let value = boxed.into_inner();
    assert_eq!((value.0, counter.alive(), live(&mm)), (7, 1, before));
    let empty: KBox<'_, (), _> = Box::new(&mm, (), GFP_KERNEL).unwrap();
    empty.into_inner();
    assert_eq!(live(&mm), before);
    mm.verify().unwrap();
}

#[test]
fn a_leaked_value_stays_and_is_not_dropped() {
    let mm = machine();
    let counter = Counter::new();
    let value = KBox::new(&mm, counter.make(1), GFP_KERNEL).unwrap().leak();
    value.0 += 1;
    assert_eq!((value.0, counter.alive()), (2, 1));
    // SAFETY: from a box of this machine, taken back once.
    drop(unsafe { KBox::from_raw(&mm, value.into()) });
    assert_eq!(counter.alive(), 0);
}

// S40
#[test]
fn memory_can_come_first_and_the_value_later() {
    let mm = machine();
    let boxed: KBox<'_, MaybeUninit<[u64; 3]>, _> =
        Box::<[u64; 3], _, _>::new_uninit(&mm, GFP_KERNEL).unwrap();
    assert_eq!(*boxed.write([1, 2, 3]), [1, 2, 3]);
    let mut many: KBox<'_, [MaybeUninit<u16>], _> =
        Box::<[u16], _, _>::new_uninit_slice(&mm, 5, GFP_KERNEL).unwrap();
    for (i, place) in many.iter_mut().enumerate() {
        place.write(i as u16);
    }
    // SAFETY: all five are written.
    let many = unsafe { many.assume_init() };
    assert_eq!(*many, [0, 1, 2, 3, 4]);
    assert_eq!(format!("{many:?}"), "[0, 1, 2, 3, 4]");
}

// S19, S40
#[test]
fn zeroed_values_are_zero_in_memory_that_was_not() {
    let mm = machine();
    for _ in 0..2 {
        let dirty = KBox::new(&mm, [0xA5u8; 200], GFP_KERNEL).unwrap();
        drop(dirty);
        let clean = KBox::<[u32; 50], _>::zeroed(&mm, GFP_KERNEL).unwrap();
        assert_eq!(*clean, [0; 50]);
        let many = KBox::<[u32], _>::zeroed_slice(&mm, 40, GFP_KERNEL).unwrap();
        assert_eq!(*many, [0; 40]);
    }
}

// S40, V60
#[test]
fn slices_without_bytes_need_no_memory_and_those_too_large_get_none() {
    let mm = machine();
    let before = live(&mm);
    fail(&mm, true);
    let none = KBox::<[u64], _>::zeroed_slice(&mm, 0, GFP_KERNEL).unwrap();
    let units = KBox::<[()], _>::zeroed_slice(&mm, 9, GFP_KERNEL).unwrap();
    assert_eq!((none.len(), units.len()), (0, 9));
    assert!(KBox::<[u64], _>::zeroed_slice(&mm, 1, GFP_KERNEL).is_err());
    assert!(KBox::<[u64], _>::new_uninit_slice(&mm, usize::MAX, GFP_KERNEL).is_err());
    fail(&mm, false);
    assert_eq!(units.into_vec().len(), 9);
    assert!(none.into_vec().is_empty());
    assert_eq!(live(&mm), before);
}

#[test]
fn who_gets_no_memory_drops_the_value() {
    let mm = machine();
    let counter = Counter::new();
    fail(&mm, true);
    assert!(KBox::new(&mm, counter.make(1), GFP_KERNEL).is_err());
    assert_eq!(counter.alive(), 0);
    fail(&mm, false);
}

#[test]
fn a_destructor_that_panics_keeps_no_memory() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("in a destructor");
        }
    }
    let mm = machine();
    let before = live(&mm);
    let boxed = KBox::new(&mm, (Panics, 1u64), GFP_KERNEL).unwrap();
    assert_eq!(live(&mm), before + 1);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(boxed))).is_err());
    assert_eq!(live(&mm), before);
    let mut vec = KVec::new(&mm);
    vec.push((Panics, 1u64), GFP_KERNEL).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| drop(vec))).is_err());
    assert_eq!(live(&mm), before);
}

#[test]
fn a_value_can_be_pinned_on_a_machine_that_lives_for_ever() {
    let mm: &'static Mm<TestPlatform> = StdBox::leak(StdBox::new(machine()));
    let counter = Counter::new();
    let pinned = (counter.make(3), core::marker::PhantomPinned);
    let boxed: Pin<KBox<'static, _, _>> = Box::pin(mm, pinned, GFP_KERNEL).unwrap();
    let place = &raw const *boxed;
    let moved = boxed;
    assert!(core::ptr::eq(place, &raw const *moved) && moved.0.0 == 3);
    drop(moved);
    assert_eq!(counter.alive(), 0);
    // SAFETY: made above, and nothing points to it any more.
    drop(unsafe { StdBox::from_raw(core::ptr::from_ref(mm).cast_mut()) });
}

#[test]
fn a_box_goes_to_another_thread_if_its_value_may() {
    fn sendable<T: Send>(_: &T) {}
    fn shared<T: Sync>(_: &T) {}
    let mm = machine();
    let boxed = KBox::new(&mm, 5u64, GFP_KERNEL.with(Gfp::NOWARN)).unwrap();
    sendable(&boxed);
    shared(&boxed);
    let vec = crate::kvec!(&mm, GFP_KERNEL; [5u8; 3]).unwrap();
    sendable(&vec);
    shared(&vec);
    std::thread::scope(|scope| {
        scope.spawn(move || assert_eq!(*boxed + u64::from(vec[2]), 10));
    });
    mm.verify().unwrap();
}

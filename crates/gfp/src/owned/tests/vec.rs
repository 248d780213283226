use super::{Counted, Counter, fail, live, machine, numbers};
use crate::error::AllocError;
use crate::flags::GFP_KERNEL;
use crate::owned::{KVec, Vec};
use std::format;
use std::panic::{AssertUnwindSafe, catch_unwind};

// S2, S26
#[test]
fn the_capacity_is_all_of_the_class() {
    let mm = machine();
    let mut vec = KVec::with_capacity(&mm, 10, GFP_KERNEL).unwrap();
    assert_eq!((vec.capacity(), vec.len()), (12, 0)); // 80 bytes are class 96
    for i in 0..12u64 {
        vec.push_within_capacity(i).unwrap();
    }
    assert_eq!(vec.push_within_capacity(12), Err(12));
    let place = vec.as_ptr();
    vec.push(12, GFP_KERNEL).unwrap();
    assert_eq!(vec.capacity(), 24); // 192 bytes
    assert_ne!(vec.as_ptr(), place);
    assert_eq!(vec.iter().sum::<u64>(), 78);
    vec.truncate(3);
    let place = vec.as_ptr();
    vec.shrink_to(0, GFP_KERNEL).unwrap();
    assert_eq!((vec.capacity(), vec.as_ptr()), (4, place)); // S22.c: in place
    vec.clear();
    vec.shrink_to(0, GFP_KERNEL).unwrap();
    assert_eq!(vec.capacity(), 0);
    assert!(vec.reserve_exact(5, GFP_KERNEL).is_ok() && vec.capacity() == 8);
}

#[test]
fn without_memory_a_vector_is_as_it_was() {
    let mm = machine();
    let counter = Counter::new();
    let mut vec = KVec::with_capacity(&mm, 2, GFP_KERNEL).unwrap();
    while vec.len() < vec.capacity() {
        vec.push(counter.make(vec.len() as u32), GFP_KERNEL)
            .unwrap();
    }
    let (len, before) = (vec.len(), numbers(&vec));
    fail(&mm, true);
    assert!(vec.push(counter.make(9), GFP_KERNEL).is_err());
    assert!(vec.insert(0, counter.make(9), GFP_KERNEL).is_err());
    let more = [counter.make(8), counter.make(9)];
    assert!(vec.extend_from_slice(&more, GFP_KERNEL).is_err());
    let rest = vec.try_extend(more, GFP_KERNEL);
    assert!(rest.is_err() && vec.try_clone(GFP_KERNEL).is_err());
    assert!(vec.resize(100, counter.make(1), GFP_KERNEL).is_err());
    assert!(KVec::from_elem(&mm, counter.make(1), 3, GFP_KERNEL).is_err());
    assert!(crate::kvec!(&mm, GFP_KERNEL; [counter.make(1)]).is_err());
    fail(&mm, false);
    assert_eq!((numbers(&vec), counter.alive()), (before, len));
}

// V60
#[test]
fn a_length_that_no_memory_has_is_an_error() {
    let mm = machine();
    let mut vec = crate::kvec!(&mm, GFP_KERNEL; [1u64, 2]).unwrap();
    for more in [usize::MAX, usize::MAX - 2, usize::MAX / 8, 1 << 60] {
        assert_eq!(vec.reserve(more, GFP_KERNEL), Err(AllocError::Overflow));
        assert_eq!(
            vec.reserve_exact(more, GFP_KERNEL),
            Err(AllocError::Overflow)
        );
    }
    let max = 4 << 20; // S1
    assert_eq!(
        vec.reserve(1 << 20, GFP_KERNEL),
        Err(AllocError::TooLarge { max })
    );
    assert_eq!(vec[..], [1, 2]);
    let mut units = KVec::from_elem(&mm, (), usize::MAX, GFP_KERNEL).unwrap();
    assert_eq!(units.push((), GFP_KERNEL), Err(AllocError::Overflow));
    assert_eq!((units.pop(), units.len()), (Some(()), usize::MAX - 1));
}

// S1: twice as much is above the largest; what is needed is not.
#[test]
fn growth_that_cannot_double_takes_what_is_needed() {
    let mm = machine();
    let mut vec = KVec::<u8, _>::with_capacity(&mm, 3 << 20, GFP_KERNEL).unwrap();
    assert_eq!(vec.capacity(), 4 << 20);
    vec.resize(4 << 20, 1, GFP_KERNEL).unwrap();
    assert!(vec.push(1, GFP_KERNEL).is_err());
    let mut vec = KVec::<[u8; 3 << 19], _>::new(&mm);
    vec.reserve(2, GFP_KERNEL).unwrap(); // 3 MiB
    assert_eq!(vec.capacity(), 2);
}

#[test]
fn values_without_size_take_no_memory() {
    let mm = machine();
    let before = live(&mm);
    fail(&mm, true);
    let mut vec = KVec::new(&mm);
    for _ in 0..1000 {
        vec.push([(); 3], GFP_KERNEL).unwrap();
    }
    assert_eq!((vec.len(), vec.capacity()), (1000, usize::MAX));
    assert_eq!(vec.drain(10..20).count(), 10);
    vec.retain(|_| false);
    assert!(vec.is_empty() && vec.pop().is_none());
    vec.extend_from_slice(&[[(); 3]; 5], GFP_KERNEL).unwrap();
    assert_eq!(vec.into_iter().count(), 5);
    fail(&mm, false);
    assert_eq!(live(&mm), before);
}

#[test]
fn a_slice_and_a_vector_share_their_memory() {
    let mm = machine();
    let counter = Counter::new();
    let before = live(&mm);
    let mut vec = KVec::with_capacity(&mm, 10, GFP_KERNEL).unwrap();
    vec.try_extend((0..3).map(|i| counter.make(i)), GFP_KERNEL)
        .unwrap();
    let place = vec.as_ptr();
    let boxed = vec.into_boxed_slice();
    assert_eq!(
        (numbers(&*boxed), boxed.as_ptr()),
        (std::vec![0, 1, 2], place)
    );
    let mut vec = boxed.into_vec();
    vec.push(counter.make(3), GFP_KERNEL).unwrap(); // S22.c: the class has room
    assert_eq!(
        (numbers(&vec), vec.as_ptr()),
        (std::vec![0, 1, 2, 3], place)
    );
    vec.clear();
    assert_eq!(live(&mm), before + 1);
    let empty = vec.into_boxed_slice();
    assert_eq!((live(&mm), counter.alive()), (before, 0));
    drop(empty);
    let (first, len, cap) = crate::kvec!(&mm, GFP_KERNEL; [1u8; 9])
        .unwrap()
        .into_raw_parts();
    // SAFETY: from `into_raw_parts`, once.
    let vec: KVec<'_, u8, _> = unsafe { Vec::from_raw_parts(&mm, first, len, cap) };
    assert_eq!(vec[..], [1; 9]);
}

#[test]
fn the_macro_takes_elements_or_one_value_and_a_number() {
    let mm = machine();
    let task = mm.in_task().unwrap();
    let none: KVec<'_, u8, _> = crate::kvec!(&mm, &task; []).unwrap();
    let three = crate::kvec!(&mm, &task; ["a", "b", "c",]).unwrap();
    let nines = crate::kvec!(&mm, &task; [9u8; 4]).unwrap();
    assert!(none.is_empty());
    assert_eq!(
        format!("{three:?} {nines:?}"),
        r#"["a", "b", "c"] [9, 9, 9, 9]"#
    );
}

#[test]
fn iterators_give_each_element_once_from_both_ends() {
    let mm = machine();
    let counter = Counter::new();
    let before = live(&mm);
    let make = |mm| {
        let mut vec = KVec::new(mm);
        vec.try_extend((0..6).map(|i| counter.make(i)), GFP_KERNEL)
            .unwrap();
        vec
    };
    let mut iter = make(&mm).into_iter();
    assert_eq!((iter.len(), iter.next().unwrap().0), (6, 0));
    assert_eq!((iter.next_back().unwrap().0, iter.as_slice().len()), (5, 4));
    assert!(format!("{iter:?}").starts_with("IntoIter([Counted(1"));
    drop(iter);
    assert_eq!((counter.alive(), live(&mm)), (0, before));
    let mut vec = make(&mm);
    let mut drain = vec.drain(1..=4);
    assert_eq!(
        (drain.next().unwrap().0, drain.next_back().unwrap().0),
        (1, 4)
    );
    assert!(format!("{drain:?}").starts_with("Drain([Counted(2"));
    drop(drain);
    assert_eq!((numbers(&vec), counter.alive()), (std::vec![0, 5], 2));
    // What a forgotten drain had is leaked, and nothing is seen twice.
    core::mem::forget(vec.drain(1..));
    assert_eq!(numbers(&vec), [0]);
    for value in &mut vec {
        value.0 = 8;
    }
    assert_eq!(numbers(&vec), [8]);
}

/// What panics for an index that is not there.
#[test]
fn indices_out_of_range_panic_and_change_nothing() {
    let mm = machine();
    let counter = Counter::new();
    let mut vec = KVec::new(&mm);
    vec.try_extend((0..3).map(|i| counter.make(i)), GFP_KERNEL)
        .unwrap();
    type Act<'a, 'm> = &'a dyn Fn(&mut KVec<'m, Counted, crate::testing::TestPlatform>);
    let acts: [Act<'_, '_>; 7] = [
        &|vec| drop(vec.remove(3)),
        &|vec| drop(vec.swap_remove(3)),
        &|vec| vec.insert(4, counter.make(9), GFP_KERNEL).unwrap(),
        &|vec| drop(vec.drain(2..4)),
        &|vec| {
            drop(vec.drain((
                core::ops::Bound::Excluded(usize::MAX),
                core::ops::Bound::Unbounded,
            )))
        },
        &|vec| drop(vec.drain(..=usize::MAX)),
        #[allow(clippy::reversed_empty_ranges)]
        &|vec| drop(vec.drain(2..1)),
    ];
    for act in acts {
        let result = catch_unwind(AssertUnwindSafe(|| act(&mut vec)));
        assert!(result.is_err());
        assert_eq!((numbers(&vec), counter.alive()), (std::vec![0, 1, 2], 3));
    }
}

#[test]
fn a_predicate_that_panics_loses_no_element() {
    let mm = machine();
    let counter = Counter::new();
    let mut vec = KVec::new(&mm);
    vec.try_extend((0..6).map(|i| counter.make(i)), GFP_KERNEL)
        .unwrap();
    let result = catch_unwind(AssertUnwindSafe(|| {
        vec.retain(|value| {
            assert!(value.0 < 4, "enough");
            value.0 % 2 == 1
        });
    }));
    assert!(result.is_err());
    assert_eq!((numbers(&vec), counter.alive()), (std::vec![1, 3, 4, 5], 4));
}

#[test]
fn a_destructor_that_panics_in_the_middle_drops_nothing_twice() {
    struct Bomb(u32, #[allow(dead_code)] Counted);
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(self.0 != 2 || std::thread::panicking(), "in a destructor");
        }
    }
    let mm = machine();
    let counter = Counter::new();
    let before = live(&mm);
    let acts: [fn(&mut KVec<'_, Bomb, _>); 4] = [
        |vec| vec.truncate(1),
        |vec| vec.retain(|bomb| bomb.0 != 2),
        |vec| drop(vec.drain(1..4)),
        |vec| drop(core::mem::replace(vec, KVec::new(vec.machine())).into_iter()),
    ];
    for act in acts {
        let mut vec = KVec::new(&mm);
        vec.try_extend((0..5).map(|i| Bomb(i, counter.make(i))), GFP_KERNEL)
            .unwrap();
        assert!(catch_unwind(AssertUnwindSafe(|| act(&mut vec))).is_err());
        drop(vec);
        assert_eq!((counter.alive(), live(&mm)), (0, before));
    }
}

use super::{Counted, Counter, fail, live, machine};
use crate::error::AllocError;
use crate::flags::GFP_KERNEL;
use crate::owned::KFlex;
use core::num::TryFromIntError;
use std::format;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[derive(Debug)]
struct Head {
    who: Counted,
    len: u8,
}
crate::flexible!(Head, len: u8, [Counted]);

fn head(counter: &Counter) -> Head {
    Head {
        who: counter.make(100),
        len: 0,
    }
}

// S40
#[test]
fn a_header_counts_its_elements_and_all_are_dropped() {
    let mm = machine();
    let counter = Counter::new();
    let before = live(&mm);
    for n in [0, 1, 20, 255] {
        let make = |i| counter.make(i as u32);
        let mut flex = KFlex::new(&mm, head(&counter), n, make, GFP_KERNEL).unwrap();
        assert_eq!((flex.len as usize, flex.items().len()), (n, n));
        assert_eq!((flex.who.0, counter.alive()), (100, n + 1));
        assert!(
            flex.items()
                .iter()
                .enumerate()
                .all(|(i, v)| v.0 == i as u32)
        );
        // The header's counter is the user's: what is dropped is another matter.
        flex.len = 200;
        if let Some(first) = flex.items_mut().first_mut() {
            first.0 = 9;
        }
        let (raw, n) = flex.into_raw();
        // SAFETY: from `into_raw`, once.
        let flex = unsafe { KFlex::<Head, _>::from_raw(&mm, raw, n) };
        assert!(format!("{flex:?}").starts_with("Flex { header: Head"));
        drop(flex);
        assert_eq!((counter.alive(), live(&mm)), (0, before));
    }
    mm.verify().unwrap();
}

// S40
#[test]
fn what_cannot_be_made_drops_the_header_and_makes_no_element() {
    let mm = machine();
    let counter = Counter::new();
    let never = |_| -> Counted { panic!("an element was made") };
    let refused = KFlex::new(&mm, head(&counter), 256, never, GFP_KERNEL);
    assert!(matches!(refused, Err(AllocError::Overflow)));
    fail(&mm, true);
    assert!(KFlex::new(&mm, head(&counter), 5, never, GFP_KERNEL).is_err());
    fail(&mm, false);
    assert_eq!(counter.alive(), 0);
}

#[test]
fn a_maker_that_panics_leaves_nothing_behind() {
    let mm = machine();
    let counter = Counter::new();
    let before = live(&mm);
    let make = |i| {
        assert!(i < 3, "enough");
        counter.make(i as u32)
    };
    let made = catch_unwind(AssertUnwindSafe(|| {
        KFlex::new(&mm, head(&counter), 5, make, GFP_KERNEL).map(drop)
    }));
    assert!(made.is_err());
    assert_eq!((counter.alive(), live(&mm)), (0, before));
}

/// A counter of one's own is asked as well.
#[test]
fn the_counter_may_be_any_type_made_of_a_number() {
    #[derive(Debug, PartialEq)]
    struct Small(u8);
    impl TryFrom<usize> for Small {
        type Error = TryFromIntError;
        fn try_from(n: usize) -> Result<Small, TryFromIntError> {
            u8::try_from(n).map(|n| Small(n.wrapping_mul(2)))
        }
    }
    struct Head {
        twice: Small,
    }
    crate::flexible!(Head, twice: Small, [u64]);
    let mm = machine();
    let head = || Head { twice: Small(0) };
    let flex = KFlex::new(&mm, head(), 21, |i| i as u64, GFP_KERNEL).unwrap();
    assert_eq!((&flex.twice, flex.items()[20]), (&Small(42), 20));
    assert!(KFlex::new(&mm, head(), 256, |i| i as u64, GFP_KERNEL).is_err());
}

//! Where numbers go, and what counts say.

use super::*;
use core::ptr;
use std::boxed::Box;

const ROOM: usize = 4;

/// One CPU's shelf with two stocks.
#[repr(C)]
struct Place {
    shelf: Shelf,
    stocks: [Stock; 2],
    room: [[AtomicU32; ROOM]; 2],
}

const FIRST: At = At::new(core::mem::offset_of!(Place, stocks));
const SECOND: At = FIRST.add(size_of::<Stock>() as u32);

/// Shelves of one CPU; all of it stays for ever.
fn shelves() -> (Shelves, &'static Place) {
    let place = Box::leak(Box::new(Place {
        shelf: Shelf::new(),
        stocks: core::array::from_fn(|_| Stock::new()),
        room: core::array::from_fn(|_| core::array::from_fn(|_| AtomicU32::new(0))),
    }));
    let all: *mut Place = place;
    for i in 0..2 {
        // SAFETY: the room of this stock alone.
        unsafe {
            let room = (&raw mut (*all).room[i]).cast();
            (*all).stocks[i].settle(room);
            (*all).stocks[i].set_limit(ROOM);
        }
    }
    let table = Box::leak(Box::new(AtomicPtr::new(ptr::null_mut())));
    // SAFETY: one place, that stays.
    let shelves = unsafe { Shelves::new(Carved::new(ptr::NonNull::from(table), 1)) };
    // SAFETY: nobody else uses it.
    unsafe {
        assert_eq!(shelves.take(CpuId(0), FIRST), None, "there is none yet");
        shelves.publish(CpuId(0), all.cast());
        (shelves, &*all)
    }
}

fn put(shelves: &Shelves, key: u16, number: u32, word: &AtomicU64) -> bool {
    let put = Put {
        hint: 3,
        key: &AtomicU16::new(key),
        number,
        word,
        unmarked: word.load(Relaxed),
        marked: 7,
    };
    // SAFETY: there is one CPU, and nobody else.
    unsafe { shelves.put(CpuId(0), put) }
}

#[test]
fn a_number_goes_where_its_key_says_or_nothing_is_done() {
    let (shelves, place) = shelves();
    let word = AtomicU64::new(1);
    assert!(!put(&shelves, 5, 10, &word), "nothing is usual yet");
    place.shelf.note(3, 5, FIRST);
    place.shelf.note(2, 6, SECOND);
    assert!(!put(&shelves, 6, 10, &word), "usual for another hint");
    assert_eq!(word.load(Relaxed), 1, "it is as it was");
    assert!(
        put(&shelves, 5 | !KEY, 10, &word),
        "the other bits say nothing"
    );
    assert_eq!(word.load(Relaxed), 7);
    place.shelf.note(3, 6, SECOND);
    assert!(!put(&shelves, 5, 11, &word) && put(&shelves, 6, 11, &word));
    assert_eq!((place.stocks[0].len(), place.stocks[1].len()), (1, 1));
    // SAFETY: as in `put`.
    let take = |at| unsafe { shelves.take(CpuId(0), at) };
    assert_eq!(
        (take(FIRST), take(SECOND), take(FIRST)),
        (Some(10), Some(11), None)
    );
}

#[test]
fn what_is_full_takes_nothing_and_counts_tell_puts_from_moves() {
    let (shelves, place) = shelves();
    let (stock, word) = (&place.stocks[0], AtomicU64::new(0));
    place.shelf.note(3, 0, FIRST);
    assert!(stock.move_in(20) && stock.move_in(21));
    assert!(put(&shelves, 0, 22, &word) && put(&shelves, 0, 23, &word));
    word.store(0, Relaxed);
    assert!(!put(&shelves, 0, 24, &word) && !stock.move_in(24));
    assert_eq!((word.load(Relaxed), stock.len()), (0, ROOM));
    stock.move_out_oldest(1);
    assert_eq!(stock.move_out(), Some(23));
    assert_eq!((stock.put_count(), stock.taken_count()), (2, 0));
    // SAFETY: as in `put`.
    assert_eq!(unsafe { shelves.take(CpuId(0), FIRST) }, Some(22));
    assert_eq!((stock.put_count(), stock.taken_count()), (2, 1));
    stock.move_out_oldest(9);
    assert_eq!((stock.move_out(), stock.len()), (None, 0));
}

#[test]
fn a_row_goes_in_whole_or_not_at_all_and_its_first_comes_out_first() {
    let (_, place) = shelves();
    let stock = &place.stocks[1];
    assert!(stock.move_in(7) && stock.move_in_row(8, 3, 2));
    assert!(!stock.move_in_row(100, 0, 2), "there is room for one");
    let numbers = stock.numbers().iter().map(|n| n.load(Relaxed));
    assert_eq!(numbers.collect::<std::vec::Vec<_>>(), [7, 16, 8]);
    assert!(stock.move_in_row(100, 0, 1) && stock.move_in_row(200, 0, 0));
    assert_eq!((stock.len(), stock.move_out()), (ROOM, Some(100)));
    stock.move_out_newest(1);
    assert_eq!((stock.move_out(), stock.put_count()), (Some(16), 0));
    stock.move_out_newest(9);
    assert_eq!(stock.len(), 0);
    let none = Stock::new();
    assert!(none.numbers().is_empty() && !none.move_in_row(1, 0, 1) && none.move_in_row(1, 0, 0));
}

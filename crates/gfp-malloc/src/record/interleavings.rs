//! The sections of a record under a model checker, which tries every interleaving and every value
//! that a relaxed load may see:
//! `RUSTFLAGS="--cfg loom" cargo test -p gfp-malloc --release --lib record::`
//!
//! The reader in another process is a thread here, as is a signal handler. One attempt of a reader
//! is modelled, not the bounded loop around it, nor what it takes after the last attempt.
//!
//! Seen to fail: `write` without the Release fence; with a relaxed store at its end; with a relaxed
//! compare-and-swap, or a store in its place (two writers); without the test for a writer that is
//! in; `try_read` without the Acquire fence; with a relaxed first load;
//! without the second look at the sequence; without the test for odd.

use super::Text;
use super::section::{Bytes, Section, Written};
use crate::atomic::{AtomicU8, AtomicU64, Ordering};
use loom::sync::Arc;
use loom::thread;
use std::sync::atomic::AtomicUsize;

/// A text and a number: what the tables of a record are made of.
struct Row {
    name: Bytes<1>,
    number: AtomicU64,
}

type Copied = ([u8; 1], u64);

fn section() -> Arc<Section<Row>> {
    Arc::new(Section {
        sequence: AtomicU64::new(0),
        data: Row {
            name: Bytes([AtomicU8::new(b'0')]),
            number: AtomicU64::new(0),
        },
    })
}

/// Writes what is of generation `n` in every part.
fn write(section: &Section<Row>, n: u8) -> Written {
    section.write(|row| {
        row.name.store(&Text::new(&[b'0' + n]));
        row.number.store(n.into(), Ordering::Relaxed);
    })
}

fn copy(row: &Row) -> Copied {
    let name = row.name.load();
    let number = row.number.load(Ordering::Relaxed);
    (name.bytes().try_into().unwrap(), number)
}

/// The generation of a copy; panics if it is torn.
fn generation((name, number): Copied) -> u8 {
    let n = name[0] - b'0';
    assert!(number == n.into(), "torn: {name:?} {number}");
    n
}

/// A reader makes `reads` attempts while a writer writes generations 1 to `writes`. How often it
/// refused, and took generation 0, 1, 2.
fn read_beside_a_writer(reads: usize, writes: u8) -> [usize; 4] {
    let seen: std::sync::Arc<[AtomicUsize; 4]> = Default::default();
    let inner = seen.clone();
    loom::model(move || {
        let section = section();
        let reader = {
            let (section, seen) = (section.clone(), inner.clone());
            thread::spawn(move || {
                let mut last = 0;
                for _ in 0..reads {
                    let got = section.try_read(copy).map(generation);
                    seen[got.map_or(0, |n| usize::from(n) + 1)].fetch_add(1, Ordering::Relaxed);
                    if let Some(n) = got {
                        assert!(n >= last, "time runs back: {last} {n}");
                        last = n;
                    }
                }
            })
        };
        for n in 1..=writes {
            assert_eq!(write(&section, n), Written::Yes);
        }
        reader.join().unwrap();
        assert_eq!(section.try_read(copy).map(generation), Some(writes));
    });
    seen.each_ref().map(|n| n.load(Ordering::Relaxed))
}

#[test]
fn a_reader_accepts_no_torn_copy() {
    // Else the model shows nothing.
    let seen = read_beside_a_writer(1, 2);
    assert!(seen.iter().all(|n| *n > 0), "{seen:?}");
    let seen = read_beside_a_writer(2, 1);
    assert!(seen[..3].iter().all(|n| *n > 0), "{seen:?}");
}

#[test]
fn of_two_writers_one_writes_and_neither_tears() {
    static BUSY: AtomicUsize = AtomicUsize::new(0);
    loom::model(|| {
        let section = section();
        let theirs = section.clone();
        let other = thread::spawn(move || write(&theirs, 1));
        let mine = write(&section, 2);
        let theirs = other.join().unwrap();
        assert!(mine == Written::Yes || theirs == Written::Yes);
        let got = section.try_read(copy).map(generation);
        match (mine, theirs) {
            (Written::Yes, Written::Yes) => assert!(matches!(got, Some(1 | 2))),
            (Written::Yes, Written::Busy) => assert_eq!(got, Some(2)),
            (Written::Busy, _) => assert_eq!(got, Some(1)),
        }
        BUSY.fetch_add(usize::from(mine != theirs), Ordering::Relaxed);
    });
    assert!(BUSY.load(Ordering::Relaxed) > 0);
}

#[test]
fn a_section_whose_writer_died_is_never_accepted() {
    loom::model(|| {
        let section = section();
        let theirs = section.clone();
        // Died in the middle: the sequence is odd, half of the data is there.
        let dying = thread::spawn(move || {
            theirs.sequence.store(1, Ordering::Relaxed);
            loom::sync::atomic::fence(Ordering::Release);
            theirs.data.number.store(1, Ordering::Relaxed);
        });
        let got = section.try_read(copy);
        assert!(got.is_none_or(|copied| generation(copied) == 0));
        dying.join().unwrap();
        assert_eq!(section.try_read(copy), None);
        assert_eq!(write(&section, 2), Written::Busy);
    });
}

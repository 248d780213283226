//! The border of the frame table moves while somebody looks at a frame behind it, by a number that
//! he made up. The memory of the word holds what looks like an allocated block.
//!
//! Seen to fail: the border before the words are cleared; `replace` that does not ask for the
//! border.
//!
//! Not seen: the border released or acquired relaxed. The model's exchanges see the newest value
//! of a word whatever was seen of other places; the orderings are for machines and compilers whose
//! do not.

use crate::frame::{FrameKind, FrameTable, FrameWord, Order, Pfn};
use crate::sync::Carved;
use crate::sync::atomic::AtomicU64;
use core::ptr::NonNull;
use loom::sync::Arc;
use loom::thread;
use std::vec::Vec;

const FIRST: Pfn = Pfn(1 << 10);
const SECOND: Pfn = Pfn((1 << 10) + 1);
const GARBAGE: FrameWord = FrameWord::new(FrameKind::Page, Order::ZERO, 1);

struct Machine {
    frames: FrameTable,
    _words: Vec<AtomicU64>,
}

// SAFETY: all of it are atomics.
unsafe impl Send for Machine {}
// SAFETY: as above.
unsafe impl Sync for Machine {}

#[test]
fn what_memory_held_before_is_never_taken_for_a_block() {
    loom::model(|| {
        let words: Vec<_> = [0, GARBAGE.bits()].map(AtomicU64::new).into();
        // SAFETY: the vector lives beside the table and never grows.
        let carved = unsafe { Carved::new(NonNull::from(&*words).cast(), 2) };
        let machine = Arc::new(Machine {
            frames: FrameTable::new(FIRST, carved, 1),
            _words: words,
        });
        let other = machine.clone();
        let wild = thread::spawn(move || {
            let frames = &other.frames;
            let more = FrameWord::new(FrameKind::Page, Order::ZERO, 2);
            // Not read before: whoever guesses right is refused as well.
            let replaced = frames.replace(SECOND, GARBAGE, more);
            assert!(!replaced, "a reference of nobody's block");
            assert!(frames.get(FIRST) == FrameWord::NONE);
        });
        machine.frames.clear_up_to(SECOND.add(1));
        assert!(machine.frames.get(SECOND) == FrameWord::NONE);
        wild.join().unwrap();
        assert!(machine.frames.get(SECOND) == FrameWord::NONE);
    });
}

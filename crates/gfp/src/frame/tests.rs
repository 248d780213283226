//! Lock-free protocols under a model checker, which tries every interleaving and every value that a
//! relaxed load may see:
//! `RUSTFLAGS="--cfg loom" cargo test -p gfp --release --lib frame::tests`
//!
//! Modelled: the stack of deferred frees, a shard's lock and mail, the lock, the last reference of
//! a frame, a reference that is taken while the last one goes. Memory that they
//! protect is a loom cell, which panics when two threads touch it unordered. Not modelled: the
//! caches and the bitmaps (plain data under a section and under the lock), sections (the platform's
//! promise; those of a process have a model in `gfp-host`), and signal handlers, which are threads
//! here.
//!
//! Seen to fail: `push` and `push_chain` with a relaxed exchange, `take` with a relaxed one;
//! `LockGuard::drop` and `Lock::lock` relaxed; `get_acquire` relaxed; `try_get` and `drop_ref` as a
//! load and a store, and `replace` relaxed.

use crate::frame::{
    CpuId, Dropped, FrameKind, FrameStack, FrameTable, FrameWord, MAX_PAGE_ORDER, Order, Pfn,
    PhysAddr,
};
use crate::platform::{DirectMap, Nested, Platform};
use crate::sync::{Carved, Local, Lock, Rank};
use core::ptr::NonNull;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::thread;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::vec::Vec;

/// A table of `n` frames and the memory of each.
struct Memory {
    frames: FrameTable,
    content: Vec<UnsafeCell<u32>>,
    /// Keeps the words alive; the table is a slice of them.
    _words: Vec<AtomicU64>,
}

// SAFETY: the cells check every access.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

const BASE: usize = 1 << MAX_PAGE_ORDER;

impl Memory {
    fn new(n: usize) -> Memory {
        let words: Vec<_> = (0..n).map(|_| AtomicU64::new(0)).collect();
        // SAFETY: the vector lives beside the table and never grows.
        let carved = unsafe { Carved::new(NonNull::from(&*words).cast(), n) };
        Memory {
            frames: FrameTable::new(Pfn(BASE), carved, n),
            content: (0..n).map(|_| UnsafeCell::new(0)).collect(),
            _words: words,
        }
    }

    /// What an owner does with its memory; returns how often that was done before.
    fn touch(&self, pfn: Pfn) -> u32 {
        self.content[pfn.0 - BASE].with_mut(|value| {
            // SAFETY: the cell checks that nobody else is here.
            unsafe {
                *value += 1;
                *value - 1
            }
        })
    }
}

#[test]
fn no_deferred_block_is_lost_or_taken_twice() {
    // How often the taker found blocks of one pusher, and of both: else the model shows nothing.
    static FOUND: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];
    loom::model(|| {
        let memory = Arc::new(Memory::new(2));
        let stack = Arc::new(FrameStack::new());
        let put_off = |i: usize| {
            let (memory, stack) = (memory.clone(), stack.clone());
            move || {
                memory.touch(Pfn(BASE + i));
                stack.push(&memory.frames, Pfn(BASE + i), Order::ZERO);
            }
        };
        let take = |memory: &Memory, stack: &FrameStack| {
            let taken = stack.take(&memory.frames);
            let touched = taken.map(|(pfn, _)| (pfn.0 - BASE, memory.touch(pfn)));
            touched.collect::<Vec<_>>()
        };
        let taker = {
            let (memory, stack) = (memory.clone(), stack.clone());
            thread::spawn(move || {
                let mut got = take(&memory, &stack);
                FOUND[got.len()].fetch_add(1, Ordering::Relaxed);
                // One comes back, is given out and put off again while others push.
                if let Some((again, _)) = got.pop() {
                    stack.push(&memory.frames, Pfn(BASE + again), Order::ZERO);
                }
                got
            })
        };
        let other = thread::spawn(put_off(1));
        put_off(0)();
        other.join().unwrap();
        let mut all = taker.join().unwrap();
        all.extend(take(&memory, &stack));
        all.sort_unstable();
        let who: Vec<_> = all.iter().map(|(i, _)| *i).collect();
        assert_eq!(who, [0, 1]);
        assert!(
            all.iter().all(|(_, touched)| *touched >= 1),
            "by who pushed it"
        );
        assert_eq!(stack.take(&memory.frames).count(), 0);
    });
    let found = FOUND.each_ref().map(|n| n.load(Ordering::Relaxed));
    assert!(found.iter().all(|n| *n > 0), "{found:?}");
}

#[test]
fn what_is_sent_while_the_lock_is_taken_is_put_once() {
    // The mail of a shard: how often who gave back put its blocks itself, sent them, and found
    // what another had sent.
    static SEEN: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];
    loom::model(|| {
        let memory = Arc::new(Memory::new(4));
        let shared = Arc::new((
            Lock::<_, { Rank::Zone as u8 }>::new(UnsafeCell::new(0)),
            FrameStack::new(),
        ));
        let put = |memory: &Memory, sum: &UnsafeCell<u32>, pfn| {
            memory.touch(pfn);
            // SAFETY: the cell checks that nobody else is here.
            sum.with_mut(|sum| unsafe { *sum += 1 });
        };
        let look = move |memory: &Memory, shared: &(Lock<_, { Rank::Zone as u8 }>, FrameStack)| {
            let local = Local::enter(&Cpus).unwrap();
            if !shared.1.is_empty()
                && let Some(sum) = shared.0.try_lock(&local)
            {
                for (pfn, order) in shared.1.take(&memory.frames) {
                    assert_eq!(order, Order::ZERO);
                    put(memory, &sum, pfn);
                    SEEN[2].fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let give_back = |first: usize| {
            let (memory, shared) = (memory.clone(), shared.clone());
            move || {
                let local = Local::enter(&Cpus).unwrap();
                let blocks = [Pfn(BASE + first), Pfn(BASE + first + 1)];
                blocks.iter().for_each(|pfn| _ = memory.touch(*pfn));
                if let Some(sum) = shared.0.try_lock(&local) {
                    blocks.iter().for_each(|pfn| put(&memory, &sum, *pfn));
                    SEEN[0].fetch_add(1, Ordering::Relaxed);
                } else {
                    let mut chain = memory.frames.chain(Order::ZERO);
                    blocks.iter().for_each(|pfn| chain.add(*pfn));
                    shared.1.push_chain(&memory.frames, chain);
                    SEEN[1].fetch_add(1, Ordering::Relaxed);
                }
                look(&memory, &shared);
            }
        };
        let other = thread::spawn(give_back(2));
        give_back(0)();
        other.join().unwrap();
        // A drain.
        look(&memory, &shared);
        assert!(shared.1.is_empty());
        for frame in 0..4 {
            assert_eq!(memory.touch(Pfn(BASE + frame)), 2, "once each");
        }
    });
    let seen = SEEN.each_ref().map(|n| n.load(Ordering::Relaxed));
    assert!(seen.iter().all(|n| *n > 0), "{seen:?}");
}

/// Each thread plays a CPU of its own.
struct Cpus;

// SAFETY: no memory; `enter` is called once by each thread, so each has its own CPU.
unsafe impl Platform for Cpus {
    type Section<'a> = ();

    fn direct_map(&self) -> DirectMap {
        DirectMap::new(core::ptr::null_mut(), PhysAddr(0))
    }

    fn nr_cpus(&self) -> u32 {
        1
    }

    fn enter(&self) -> Result<(CpuId, ()), Nested> {
        Ok((CpuId(0), ()))
    }

    fn now_ns(&self) -> u64 {
        0
    }

    fn relax(&self, _: u32) {
        thread::yield_now();
    }
}

#[test]
fn the_lock_lets_one_in_and_shows_what_the_last_one_wrote() {
    loom::model(|| {
        let lock = Arc::new(Lock::<_, { Rank::Zone as u8 }>::new(UnsafeCell::new(0)));
        let add = |lock: &Lock<UnsafeCell<u32>, { Rank::Zone as u8 }>| {
            let local = Local::enter(&Cpus).unwrap();
            let guard = lock.lock(&local);
            // SAFETY: the cell checks that nobody else is here.
            guard.with_mut(|value| unsafe { *value += 1 });
            drop(guard);
            if let Some(guard) = lock.try_lock(&local) {
                // SAFETY: as above.
                guard.with(|value| assert!(unsafe { *value } >= 1));
            }
        };
        let theirs = lock.clone();
        let other = thread::spawn(move || add(&theirs));
        add(&lock);
        other.join().unwrap();
        let local = Local::enter(&Cpus).unwrap();
        // SAFETY: as above.
        lock.lock(&local)
            .with(|value| assert_eq!(unsafe { *value }, 2));
    });
}

/// [`PageAllocator::free`](crate::page::PageAllocator::free) in small: true if the memory is free.
fn drop_reference(frames: &FrameTable, pfn: Pfn) -> bool {
    loop {
        let word = frames.get_acquire(pfn);
        assert!(word.is(FrameKind::Page));
        if word.payload() == 1 {
            frames.set(pfn, FrameWord::NONE);
            return true;
        }
        let new = FrameWord::new(FrameKind::Page, Order::ZERO, word.payload() - 1);
        if frames.replace(pfn, word, new) {
            return false;
        }
    }
}

#[test]
fn who_drops_the_last_reference_sees_what_the_others_did() {
    loom::model(|| {
        let memory = Arc::new(Memory::new(1));
        let pfn = Pfn(BASE);
        memory
            .frames
            .set(pfn, FrameWord::new(FrameKind::Page, Order::ZERO, 2));
        let theirs = memory.clone();
        let other = thread::spawn(move || {
            // Readers may be many; the next owner writes.
            // SAFETY: the cell checks that nobody writes.
            theirs.content[0].with(|value| assert!(unsafe { *value } == 0));
            let last = drop_reference(&theirs.frames, pfn);
            last.then(|| theirs.touch(pfn));
            last
        });
        // SAFETY: as above.
        memory.content[0].with(|value| assert!(unsafe { *value } == 0));
        let mine = drop_reference(&memory.frames, pfn);
        mine.then(|| memory.touch(pfn));
        let theirs = other.join().unwrap();
        assert!(mine != theirs, "one of the two is the last");
    });
}

#[test]
fn a_reference_is_taken_or_the_block_is_freed_and_never_both() {
    // P342, P348. How often the speculative reference was had, and how often it was the last.
    static SEEN: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];
    loom::model(|| {
        let memory = Arc::new(Memory::new(1));
        let pfn = Pfn(BASE);
        let word = FrameWord::new(FrameKind::Compound, Order::ZERO, 1);
        memory.frames.set(pfn, word);
        // What `PageAllocator::free` does: the last one owns the memory, and gives it away.
        let put = move |memory: &Memory| match memory.frames.drop_ref(pfn, Order::ZERO) {
            Dropped::Last => {
                memory.touch(pfn);
                memory.frames.set(pfn, FrameWord::NONE);
                true
            }
            other => {
                assert_eq!(other, Dropped::Shared);
                false
            }
        };
        let theirs = memory.clone();
        let other = thread::spawn(move || {
            if theirs.frames.try_get(pfn).is_none() {
                SEEN[0].fetch_add(1, Ordering::Relaxed);
                return false;
            }
            // SAFETY: the cell checks that nobody writes.
            theirs.content[0].with(|value| assert!(unsafe { *value } == 0, "it is freed"));
            let last = put(&theirs);
            SEEN[1 + usize::from(last)].fetch_add(1, Ordering::Relaxed);
            last
        });
        let mine = put(&memory);
        let theirs = other.join().unwrap();
        assert!(mine != theirs, "it is freed once");
        assert!(memory.frames.get(pfn) == FrameWord::NONE);
    });
    let seen = SEEN.each_ref().map(|n| n.load(Ordering::Relaxed));
    assert!(seen.iter().all(|n| *n > 0), "{seen:?}");
}

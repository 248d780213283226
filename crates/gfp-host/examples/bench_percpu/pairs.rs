//! What is done in pairs: sections, and arrays of each CPU.

use crate::floor;
use crate::measure::Turn;
use crate::sides::{Machines, Side};
use gfp::platform::Platform;
use std::cell::UnsafeCell;
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

const CAPACITY: usize = 64;

/// An array of words, as a private cache has it.
#[repr(align(128))]
struct Array {
    len: usize,
    words: [usize; CAPACITY],
}

impl Array {
    fn new() -> Array {
        Array {
            len: CAPACITY / 2,
            words: [7; CAPACITY],
        }
    }

    #[inline(always)]
    fn pop(&mut self) -> usize {
        if self.len == 0 {
            return 7;
        }
        self.len -= 1;
        self.words[self.len]
    }

    #[inline(always)]
    fn push(&mut self, word: usize) {
        if self.len < CAPACITY {
            self.words[self.len] = word;
            self.len += 1;
        }
    }
}

/// An array that is kept to one by what stands beside it.
struct Kept<K> {
    keeper: K,
    array: UnsafeCell<Array>,
}

// SAFETY: the array is used under `keeper`, or in the section of its CPU, [INV-PCPU-1].
unsafe impl<K: Sync> Sync for Kept<K> {}

fn arrays<K>(count: u32, keeper: impl Fn() -> K) -> Vec<Kept<K>> {
    let one = |_| Kept {
        keeper: keeper(),
        array: UnsafeCell::new(Array::new()),
    };
    (0..count).map(one).collect()
}

/// All rows of pairs, with their sides; the first is the floor.
pub(crate) fn rows(machines: &Machines) -> Vec<(&'static str, Vec<Turn<'_>>)> {
    let mut sections = vec![cmpxchg()];
    let mut pairs = vec![cmpxchg(), stack()];
    for side in &machines.sides {
        sections.push((side.name, Box::new(|pairs| section(side, pairs))));
        pairs.push(sectioned(side));
    }
    pairs.extend(sequences());
    pairs.extend([trylock(), mutex()]);
    let mut pages = vec![cmpxchg()];
    for side in machines.allocators() {
        let name = side.name;
        let turn = move |pairs| {
            side.pairs(pairs);
            0
        };
        pages.push((name, Box::new(turn)));
    }
    vec![
        ("percpu/section", sections),
        ("percpu/pair", pairs),
        ("percpu/page", pages),
    ]
}

fn cmpxchg() -> Turn<'static> {
    let turn = |pairs| {
        floor::locked_cmpxchg(pairs);
        0
    };
    ("locked-cmpxchg", Box::new(turn))
}

fn stack() -> Turn<'static> {
    let turn = |pairs| {
        floor::percpu_stack(pairs);
        0
    };
    ("percpu-stack", Box::new(turn))
}

fn section(side: &Side, pairs: usize) -> u64 {
    let guest = side.platform.nr_cpus() - 1;
    let mut guests = 0;
    for _ in 0..pairs {
        let (cpu, section) = side.platform.enter().expect("not nested");
        *black_box(&mut guests) += u64::from(cpu.0 == guest);
        drop(section);
    }
    guests
}

fn sectioned(side: &Side) -> Turn<'_> {
    let arrays = arrays(side.platform.nr_cpus(), || ());
    let guest = side.platform.nr_cpus() - 1;
    let turn = move |pairs| {
        let mut guests = 0;
        for _ in 0..pairs {
            let (cpu, section) = side.platform.enter().expect("not nested");
            // SAFETY: the section is that of the CPU.
            let word = unsafe { &mut *arrays[cpu.0 as usize].array.get() }.pop();
            drop(section);
            guests += u64::from(cpu.0 == guest);
            let (cpu, section) = side.platform.enter().expect("not nested");
            // SAFETY: as above.
            unsafe { &mut *arrays[cpu.0 as usize].array.get() }.push(black_box(word));
            drop(section);
        }
        guests
    };
    (side.name, Box::new(turn))
}

fn this_processor(of: usize) -> usize {
    // SAFETY: always valid to call. With rseq it reads the area, else the time page.
    (unsafe { libc::sched_getcpu() }) as usize % of
}

fn trylock() -> Turn<'static> {
    let arrays = arrays(64, || AtomicBool::new(false));
    let with = move |work: &mut dyn FnMut(&mut Array)| {
        let mut spins = 0;
        loop {
            let kept = &arrays[this_processor(arrays.len())];
            // Acquire: pairs with the Release below.
            if !kept.keeper.swap(true, Ordering::Acquire) {
                // SAFETY: the lock is held.
                work(unsafe { &mut *kept.array.get() });
                return kept.keeper.store(false, Ordering::Release);
            }
            spins += 1;
            match spins < 64 {
                true => std::hint::spin_loop(),
                false => std::thread::yield_now(),
            }
        }
    };
    let turn = move |pairs| {
        for _ in 0..pairs {
            let mut word = 0;
            with(&mut |array| word = array.pop());
            with(&mut |array| array.push(black_box(word)));
        }
        0
    };
    ("trylock", Box::new(turn))
}

fn mutex() -> Turn<'static> {
    let arrays: Vec<Mutex<Array>> = (0..64).map(|_| Mutex::new(Array::new())).collect();
    let turn = move |pairs| {
        let here = || {
            let mine = &arrays[this_processor(arrays.len())];
            mine.lock().expect("nobody panics")
        };
        for _ in 0..pairs {
            let word = here().pop();
            here().push(black_box(word));
        }
        0
    };
    ("mutex", Box::new(turn))
}

#[cfg(not(target_arch = "x86_64"))]
fn sequences() -> Vec<Turn<'static>> {
    Vec::new()
}

#[cfg(target_arch = "x86_64")]
fn sequences() -> Vec<Turn<'static>> {
    use gfp::sync::restart::{ByCid, ByCpu};
    let Some(rseq) = gfp_host::rseq::Rseq::find() else {
        return Vec::new();
    };
    let mut turns = vec![sequence::<ByCpu>("sequence-cpu", rseq)];
    if rseq.has_cid() {
        turns.push(sequence::<ByCid>("sequence-cid", rseq));
    }
    turns
}

/// The whole operation as one sequence; the thread's area is looked up for each.
#[cfg(target_arch = "x86_64")]
fn sequence<I: gfp::sync::restart::Numbering + 'static>(
    name: &'static str,
    rseq: gfp_host::rseq::Rseq,
) -> Turn<'static> {
    use gfp::sync::restart::{Shape, Stacks};
    let shape = Shape::new(rseq.nr_cpus(), CAPACITY as u32);
    let mut memory = vec![0u64; shape.bytes() / 8];
    let base = std::ptr::NonNull::new(memory.as_mut_ptr())
        .expect("not null")
        .cast();
    // SAFETY: the memory is as large as the shape says, and goes with the closure.
    let stacks: Stacks<I> = unsafe { Stacks::new(base, shape) };
    let turn = move |pairs| {
        let _keep = &memory;
        for _ in 0..pairs {
            let task = || black_box(rseq).current().expect("registered");
            // A CPU that the thread came to since has nothing yet.
            let word = stacks.pop(task()).unwrap_or(7);
            let _ = stacks.push(task(), black_box(word));
        }
        0
    };
    (name, Box::new(turn))
}

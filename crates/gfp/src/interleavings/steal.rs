//! Stealing from a cache against its use (`page/steal.rs`): the protocol, with lists of two blocks
//! on CPUs whose sections are locks. How much a CPU has is read without its section.
//!
//! Seen to fail: a thief without the section; a thief that takes the length that it read before it
//! entered; a thief that gives up when the fullest list is empty by the time it gets there.

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::sync::{Arc, Mutex};
use loom::thread;

const CPUS: usize = 2;

#[derive(Default)]
struct Cpu {
    section: Mutex<()>,
    len: AtomicUsize,
    entries: [UnsafeCell<usize>; 2],
}

impl Cpu {
    fn push(&self, block: usize) {
        let _section = self.section.lock().unwrap();
        let len = self.len.load(Relaxed);
        // SAFETY: in the section; loom checks it.
        self.entries[len].with_mut(|entry| unsafe { *entry = block });
        self.len.store(len + 1, Relaxed);
    }

    fn pop(&self) -> Option<usize> {
        let _section = self.section.lock().unwrap();
        let top = self.len.load(Relaxed).checked_sub(1)?;
        // SAFETY: as above.
        let block = self.entries[top].with(|entry| unsafe { *entry });
        self.len.store(top, Relaxed);
        Some(block)
    }
}

#[derive(Default)]
struct Machine {
    cpus: [Cpu; CPUS],
}

impl Machine {
    /// A block of the CPU that seems to have most, or of the next.
    fn steal(&self) -> Option<usize> {
        let mut last = (usize::MAX, usize::MAX);
        loop {
            let keys = self.cpus.iter().enumerate();
            let keys = keys.map(|(cpu, lists)| (lists.len.load(Relaxed), CPUS - cpu));
            let next = keys.filter(|key| key.0 != 0 && *key < last).max()?;
            last = next;
            if let Some(block) = self.cpus[CPUS - next.1].pop() {
                return Some(block);
            }
        }
    }
}

fn machine() -> Arc<Machine> {
    Arc::new(Machine::default())
}

#[test]
fn a_block_goes_to_the_thief_or_to_its_cpu() {
    // P821
    loom::model(|| {
        let machine = machine();
        machine.cpus[1].push(1);
        machine.cpus[1].push(2);
        let theirs = machine.clone();
        // The CPU allocates two, and frees the first.
        let user = thread::spawn(move || {
            let cpu = &theirs.cpus[1];
            let first = cpu.pop();
            let second = cpu.pop();
            first.into_iter().for_each(|block| cpu.push(block));
            second
        });
        let stolen = machine.steal();
        let used = user.join().unwrap();
        let left = core::iter::from_fn(|| machine.cpus[1].pop());
        let mut blocks: std::vec::Vec<usize> = left.chain(stolen).chain(used).collect();
        blocks.sort_unstable();
        assert_eq!(blocks, [1, 2], "each is somewhere, and once");
    });
}

#[test]
fn a_thief_finds_what_stays_though_the_fullest_is_emptied() {
    // P821: a request is served as long as memory is anywhere
    loom::model(|| {
        let machine = machine();
        machine.cpus[0].push(1);
        machine.cpus[0].push(2);
        machine.cpus[1].push(3);
        let theirs = machine.clone();
        let user = thread::spawn(move || [theirs.cpus[0].pop(), theirs.cpus[0].pop()]);
        assert!(machine.steal().is_some());
        user.join().unwrap();
    });
}

//! A vector does what std's does, whatever is done to it.

use super::{Counted, Counter, Machine, fail, live, machine, numbers};
use crate::flags::GFP_KERNEL;
use crate::owned::KVec;
use crate::testing::TestPlatform;
use std::vec::Vec as Model;

const SEEDS: u64 = 200;
const STEPS: usize = 120;

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    /// A range of up to `len` elements.
    fn range(&mut self, len: usize) -> core::ops::Range<usize> {
        let (a, b) = (self.below(len + 1), self.below(len + 1));
        a.min(b)..a.max(b)
    }
}

struct Pair<'m> {
    vec: KVec<'m, Counted, TestPlatform>,
    model: Model<u32>,
    next: u32,
}

impl Pair<'_> {
    /// One operation on both.
    fn step(&mut self, mm: &Machine, counter: &Counter, random: &mut Random) {
        let len = self.model.len();
        // Now and then there is no memory; then nothing may happen, or what needs none.
        let fails = random.below(8) == 0;
        fail(mm, fails);
        self.next += 1;
        let (next, new) = (self.next, counter.make(self.next));
        let (vec, model) = (&mut self.vec, &mut self.model);
        match random.below(14) {
            0..=3 => {
                if vec.push(new, GFP_KERNEL).is_ok() {
                    model.push(next);
                }
            }
            4 => assert_eq!(vec.pop().map(|v| v.0), model.pop()),
            5 => {
                let at = random.below(len + 1);
                if vec.insert(at, new, GFP_KERNEL).is_ok() {
                    model.insert(at, next);
                }
            }
            6 if len > 0 => {
                let at = random.below(len);
                assert_eq!(vec.remove(at).0, model.remove(at));
            }
            7 if len > 0 => {
                let at = random.below(len);
                assert_eq!(vec.swap_remove(at).0, model.swap_remove(at));
            }
            8 => {
                let n = random.below(12);
                let more: Model<_> = (0..n as u32).map(|i| counter.make(next + i)).collect();
                if vec.extend_from_slice(&more, GFP_KERNEL).is_ok() {
                    model.extend(numbers(&more));
                }
            }
            9 => {
                let range = random.range(len);
                let taken = random.below(range.len() + 1);
                let ours: Model<_> = vec.drain(range.clone()).take(taken).map(|v| v.0).collect();
                let theirs: Model<_> = model.drain(range).take(taken).collect();
                assert_eq!(ours, theirs);
            }
            10 => {
                let of = random.below(4) as u32 + 2;
                vec.retain(|v| v.0 % of != 0);
                model.retain(|v| v % of != 0);
            }
            11 => {
                let n = random.below(len + 20);
                if vec.resize(n, new, GFP_KERNEL).is_ok() {
                    model.resize(n, next);
                } else {
                    assert!(fails);
                }
            }
            12 => {
                let n = random.below(len + 4);
                vec.truncate(n);
                model.truncate(n);
                // Shrinking stays in place, and needs no memory. (S22.c)
                vec.shrink_to(random.below(8), GFP_KERNEL).unwrap();
            }
            _ => {
                let empty = KVec::new(vec.machine());
                let boxed = core::mem::replace(vec, empty).into_boxed_slice();
                assert_eq!(boxed.len(), len);
                *vec = boxed.into_vec();
            }
        }
        fail(mm, false);
    }
}

#[test]
fn a_vector_is_the_vector_of_std() {
    let mm = machine();
    let counter = Counter::new();
    let before = live(&mm);
    for seed in 1..=SEEDS {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (vec, model) = (KVec::new(&mm), Model::new());
        let next = 0;
        let mut pair = Pair { vec, model, next };
        for step in 0..STEPS {
            pair.step(&mm, &counter, &mut random);
            let found = numbers(&pair.vec);
            assert_eq!(found, pair.model, "seed {seed}, step {step}");
            assert!(pair.vec.len() <= pair.vec.capacity(), "seed {seed}");
            assert_eq!(counter.alive(), found.len(), "seed {seed}, step {step}");
        }
        drop(pair);
        mm.slabs().shrink_all(); // takes back what was freed while there was no section
        assert_eq!((counter.alive(), live(&mm)), (0, before), "seed {seed}");
    }
    mm.verify().unwrap();
    assert!(mm.platform().reports().is_empty());
}

//! Random operations against a model: what is live, where, and with which bytes.

use super::{Machine, baseline, machine, pages_in_use, verify};
use crate::flags::{GFP_KERNEL, Gfp};
use crate::policy::size_class::kmalloc_align;
use crate::testing::Rng;
use std::collections::BTreeMap;
use std::vec::Vec;

/// A live allocation: its pointer, and its first bytes as they must be.
struct Live {
    ptr: *mut u8,
    content: Vec<u8>,
}

struct Model {
    slabs: Machine,
    live: BTreeMap<usize, Live>,
    rng: Rng,
    stamp: u8,
}

impl Model {
    fn size(&mut self) -> usize {
        match self.rng.below(10) {
            0 => self.rng.below(60_000),
            1 | 2 => self.rng.below(9000),
            _ => self.rng.below(600),
        }
    }

    fn add(&mut self, ptr: *mut u8, kept: Vec<u8>, size: usize) {
        let addr = ptr.addr();
        let usable = self.slabs.ksize(ptr);
        assert!(usable >= size);
        let before = self.live.range(..addr + usable).next_back();
        if let Some((at, live)) = before {
            assert!(
                at + self.slabs.ksize(live.ptr) <= addr,
                "{addr:#x} overlaps {at:#x}"
            );
        }
        self.stamp = self.stamp.wrapping_add(1);
        let mut content = kept;
        content.resize(size, self.stamp);
        // SAFETY: the allocation is the model's, and has `size` bytes.
        unsafe { ptr.copy_from(content.as_ptr(), size) };
        self.live.insert(addr, Live { ptr, content });
    }

    fn pick(&mut self) -> Option<Live> {
        if self.live.is_empty() {
            return None;
        }
        let n = self.rng.below(self.live.len());
        let addr = *self.live.keys().nth(n)?;
        let live = self.live.remove(&addr)?;
        // SAFETY: the allocation is the model's.
        let bytes = unsafe { core::slice::from_raw_parts(live.ptr, live.content.len()) };
        assert_eq!(bytes, live.content, "content of {addr:#x}");
        Some(live)
    }

    fn step(&mut self) {
        self.slabs.platform().on(self.rng.below(4) as u32);
        let size = self.size().max(1);
        let zeroed = self.rng.below(2) == 0;
        let gfp = if zeroed {
            GFP_KERNEL | Gfp::ZERO
        } else {
            GFP_KERNEL
        };
        match self.rng.below(12) {
            0..4 => {
                let ptr = self.slabs.kmalloc(size, gfp, None).unwrap().as_ptr();
                assert_eq!(ptr.addr() % kmalloc_align(size), 0);
                self.check_zero(ptr, zeroed);
                self.add(ptr, Vec::new(), size);
            }
            4 => {
                let align = 1 << self.rng.below(14);
                let ptr = self
                    .slabs
                    .kmalloc_aligned(size, align, gfp)
                    .unwrap()
                    .as_ptr();
                assert_eq!(ptr.addr() % align, 0);
                self.check_zero(ptr, zeroed);
                self.add(ptr, Vec::new(), size);
            }
            5 | 6 => {
                let Some(live) = self.pick() else { return };
                // SAFETY: the model uses the old pointer no more.
                let new = unsafe { self.slabs.krealloc(live.ptr, size, gfp) }.unwrap();
                let mut kept = live.content;
                kept.truncate(size);
                // SAFETY: the allocation is the model's.
                let bytes = unsafe { core::slice::from_raw_parts(new.as_ptr(), kept.len()) };
                assert_eq!(bytes, kept, "krealloc keeps the smaller of both sizes");
                self.add(new.as_ptr(), kept, size);
            }
            7 if self.rng.below(20) == 0 => drop(self.slabs.shrink_all()),
            _ => {
                let Some(live) = self.pick() else { return };
                // SAFETY: the model uses it no more; the second free is refused.
                unsafe {
                    self.slabs.kfree(live.ptr).unwrap();
                    assert!(self.slabs.kfree(live.ptr).is_err());
                }
            }
        }
    }

    fn check_zero(&self, ptr: *mut u8, zeroed: bool) {
        let usable = self.slabs.ksize(ptr);
        if !zeroed {
            return;
        }
        // SAFETY: the allocation is the model's, and zeroed up to there.
        let bytes = unsafe { core::slice::from_raw_parts(ptr, usable) };
        assert!(
            bytes.iter().all(|b| *b == 0),
            "S19: all usable bytes are cleared"
        );
    }
}

#[test]
fn random_operations_agree_with_the_model() {
    // S13, S19, S22, S24, S26, S41, with a full check after each step.
    let (seeds, steps) = if cfg!(miri) { (1, 60) } else { (8, 1500) };
    for seed in 0..seeds {
        std::println!("seed {seed}");
        let slabs = machine(24);
        let before = baseline(&slabs);
        let rng = Rng::new(seed);
        let mut model = Model {
            slabs,
            live: BTreeMap::new(),
            rng,
            stamp: 0,
        };
        for _ in 0..steps {
            model.step();
            model.slabs.verify().unwrap();
        }
        while let Some(live) = model.pick() {
            // SAFETY: not used any more.
            unsafe { model.slabs.kfree(live.ptr) }.unwrap();
        }
        model.slabs.shrink_all();
        verify(&model.slabs);
        assert_eq!(pages_in_use(&model.slabs), before, "seed {seed}");
        assert!(model.slabs.platform().reports().is_empty());
    }
}

//! Random operations against a model, with every check after each step.

use super::machine::*;
use crate::flags::{GFP_KERNEL, GFP_NOWAIT, Gfp};
use crate::frame::PAGE_SIZE;
use crate::platform::Mapped;
use crate::testing::Rng;
use std::ptr::NonNull;
use std::vec::Vec;

struct Block {
    ptr: NonNull<u8>,
    size: usize,
    tag: u8,
}

fn no_overlap(vm: &Vm, blocks: &[Block]) {
    let mut spans: Vec<(usize, usize)> = blocks
        .iter()
        .filter(|b| vm.is_vmalloc_addr(b.ptr.addr().get()))
        .map(|b| (b.ptr.addr().get(), b.size))
        .collect();
    spans.sort_unstable();
    for pair in spans.windows(2) {
        let end = pair[0].0 + pair[0].1.next_multiple_of(PAGE_SIZE);
        assert!(end + PAGE_SIZE <= pair[1].0, "areas overlap or touch (V2)");
    }
}

fn run(seed: u64, steps: usize, max_bytes: usize) {
    let mut rng = Rng::new(seed);
    let vm = machine(16, 2048);
    for cpu in 0..4 {
        // Each CPU makes its caches now.
        vm.platform().base.on(cpu);
        vm.vmalloc(1, HERE).map(|p| vm.free(p)).unwrap().unwrap();
    }
    vm.pages().drain_all();
    let kept = vm.vmalloc_counters();
    let before = vm.used_pages() - kept.pool_pages - kept.table_pages;
    let mut blocks: Vec<Block> = Vec::new();
    for step in 0..steps {
        std::println!("seed {seed} step {step}"); // shown if the test fails
        vm.platform().base.on(rng.below(4) as u32);
        let size = match rng.below(8) {
            0 => 1 + rng.below(max_bytes),
            _ => 1 + rng.below(40_000),
        };
        let tag = rng.below(256) as u8;
        match rng.below(10) {
            0..4 => {
                let zero = rng.below(2) == 0;
                let gfp = if rng.below(4) == 0 {
                    GFP_NOWAIT
                } else {
                    GFP_KERNEL
                };
                let gfp = if zero { gfp.with(Gfp::ZERO) } else { gfp };
                let answer = if rng.below(2) == 0 {
                    Mapped::Zeroed
                } else {
                    Mapped::Content
                };
                *vm.platform().answer.lock().unwrap() = answer;
                let got = match rng.below(2) {
                    0 => vm.__vmalloc(size, gfp, HERE),
                    _ => vm.kvmalloc(size, gfp, None, HERE),
                };
                if let Ok(ptr) = got {
                    assert!(!zero || bytes(ptr, 0..size).iter().all(|b| *b == 0));
                    fill(ptr, size, tag);
                    blocks.push(Block { ptr, size, tag });
                }
            }
            4..7 if !blocks.is_empty() => {
                let block = blocks.swap_remove(rng.below(blocks.len()));
                assert_filled(block.ptr, block.size, block.tag);
                // SAFETY: the model forgets it.
                unsafe { vm.kvfree(block.ptr.as_ptr(), HERE) }.unwrap();
            }
            7..9 if !blocks.is_empty() => {
                let nth = rng.below(blocks.len());
                let block = &mut blocks[nth];
                let kept = block.size.min(size);
                // SAFETY: the model goes on with the answer.
                let new = unsafe { vm.kvrealloc(block.ptr.as_ptr(), size, GFP_KERNEL, HERE) };
                if let Ok(ptr) = new {
                    assert_filled(ptr, kept, block.tag);
                    fill(ptr, size, tag);
                    *block = Block { ptr, size, tag };
                }
            }
            _ => {
                if rng.below(3) == 0 {
                    vm.purge();
                }
            }
        }
        vm.check();
        no_overlap(&vm, &blocks);
        for block in &blocks {
            assert_filled(block.ptr, block.size.min(PAGE_SIZE), block.tag);
            let addr = block.ptr.addr().get();
            if vm.is_vmalloc_addr(addr) {
                assert_eq!(vm.vmalloc_size(addr), Some(block.size));
            }
            assert!(vm.kvsize(block.ptr.as_ptr()) >= Some(block.size));
        }
    }
    for block in blocks {
        assert_filled(block.ptr, block.size, block.tag);
        // SAFETY: the model forgets it.
        unsafe { vm.kvfree(block.ptr.as_ptr(), HERE) }.unwrap();
    }
    vm.check_nothing_leaks(before);
}

#[test]
fn random_operations_agree_with_a_model() {
    // V1, V2, V8, V11, V13, V14, V17, V29, V33-V35
    let (seeds, steps) = if cfg!(miri) { (1, 20) } else { (12, 250) };
    for seed in 0..seeds {
        run(seed, steps, if cfg!(miri) { 50_000 } else { 6 << 20 });
    }
}

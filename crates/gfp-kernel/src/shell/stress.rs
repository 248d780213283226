//! All CPUs allocate and free at random.

use super::held::Held;
use crate::arch::{percpu, time};
use crate::memory::mm;
use crate::println;
use crate::sched::{Affinity, Builder};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ptr::null_mut;
use gfp::flags::{GFP_KERNEL, Gfp};
use gfp::frame::CpuId;

/// What each task holds at most.
const HELD: usize = 256;

/// `stress [OPERATIONS]`.
pub(super) fn run(args: &[&str], _: &mut Held) -> Result<(), String> {
    let operations: usize = match args {
        [] => 100_000,
        [n] => n
            .parse()
            .map_err(|_| format!("`{n}` is no number of operations"))?,
        _ => return Err("usage: stress [OPERATIONS]".to_string()),
    };
    mm().trim();
    let (before, from) = (mm().pages().free_page_count(), time::now_ns());
    let spawned = percpu::all().map(|cpu| {
        let cpu = cpu.index();
        let task = Builder::new("stress").affinity(Affinity::One(CpuId(cpu)));
        task.spawn(move || one(cpu.into(), operations))
    });
    let spawned: Vec<_> = spawned.collect();
    let (mut done, mut failed) = (0, 0);
    for task in spawned {
        let task = task.map_err(|error| format!("no task: {error}"))?;
        let tally = task.join().map_err(|death| death.message().to_string())?;
        done += tally.done;
        failed += tally.failed;
    }
    let us = (time::now_ns() - from) / 1000;
    mm().trim();
    let after = mm().pages().free_page_count();
    println!("{done} operations, {failed} found no memory, {us} us");
    println!("{before} pages were free before, {after} are now");
    Ok(())
}

/// What one task did.
struct Tally {
    done: usize,
    failed: usize,
}

/// One task: each step frees what stands at a random place, and puts something new there.
fn one(seed: u64, operations: usize) -> Tally {
    let mut held = alloc::vec![null_mut::<u8>(); HELD];
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut failed = 0;
    for _ in 0..operations {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let place = &mut held[random as usize % HELD];
        // Sizes are spread evenly over powers of two up to 64 KiB.
        let size = 1 + (random >> 32) as usize % (8 << ((random >> 16) % 14));
        // SAFETY: what stands there is ours, and is replaced.
        unsafe { mm().kvfree(*place) };
        *place = match mm().kvmalloc(size, GFP_KERNEL | Gfp::NOWARN) {
            Ok(p) => p.as_ptr(),
            Err(_) => {
                failed += 1;
                null_mut()
            }
        };
    }
    // SAFETY: ours, for the last time.
    held.into_iter().for_each(|p| unsafe { mm().kvfree(p) });
    Tally {
        done: operations,
        failed,
    }
}

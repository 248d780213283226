//! More threads than slots, alive at once.
#![cfg(not(loom))]

use gfp::frame::CpuId;
use gfp_host::NR_SLOTS;
use gfp_host::slots::{self, GUEST};
use std::collections::HashSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

#[test]
fn threads_beyond_the_last_slot_are_guests() {
    const MORE: usize = 20;
    let all = Barrier::new(NR_SLOTS + MORE);
    let seen = [const { AtomicU32::new(u32::MAX) }; NR_SLOTS + MORE];
    thread::scope(|scope| {
        for place in &seen {
            let all = &all;
            let body = move || {
                let cpu = slots::enter().unwrap().0;
                place.store(cpu.0, Ordering::Relaxed);
                all.wait();
                assert_eq!(slots::enter().unwrap().0, cpu, "as long as nobody ends");
                if cpu != GUEST {
                    drop(slots::enter_remote(GUEST).unwrap());
                }
                all.wait();
            };
            thread::Builder::new()
                .stack_size(64 << 10)
                .spawn_scoped(scope, body)
                .unwrap();
        }
    });
    let seen: Vec<_> = seen
        .iter()
        .map(|cpu| CpuId(cpu.load(Ordering::Relaxed)))
        .collect();
    let own: HashSet<CpuId> = seen.iter().copied().filter(|cpu| *cpu != GUEST).collect();
    assert_eq!(own.len(), NR_SLOTS, "each slot has one owner");
    assert_eq!(seen.iter().filter(|cpu| **cpu == GUEST).count(), MORE);
    // They have ended: slots are free again.
    assert_ne!(slots::enter().unwrap().0, GUEST);
}

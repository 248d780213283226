//! Memory that is added to a machine, and how much of it is kept free, while its threads allocate
//! (P516, P218).

use gfp::Mm;
use gfp::flags::{GFP_KERNEL, Gfp};
use gfp::frame::{NodeId, PAGE_SIZE, Pfn, PhysAddr};
use gfp::page::{AddMemoryError, BootConfig, MemoryRegion, RegionKind};
use gfp_host::{HostConfig, HostPlatform};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicU8, AtomicUsize};

const MIB: u64 = 1 << 20;
const BASE: u64 = 4 << 30;
const BLOCK: u64 = 4 * MIB;

fn part(node: u8, kind: RegionKind, mib: core::ops::Range<u64>) -> MemoryRegion {
    MemoryRegion {
        start: PhysAddr(BASE + mib.start * MIB),
        end: PhysAddr(BASE + mib.end * MIB),
        node: NodeId(node),
        kind,
    }
}

/// A machine of `total` MiB, `present` of which are there; the last third is a node of its own.
fn machine(present: u64, total: u64) -> Mm<HostPlatform> {
    let platform = HostPlatform::new(&HostConfig::new((total * MIB) as usize)).unwrap();
    let second = total / 3 * 2 / 4 * 4;
    let map = [
        part(0, RegionKind::Usable, 0..present),
        part(0, RegionKind::Hotpluggable, present..second),
        part(1, RegionKind::Hotpluggable, second..total),
    ];
    let config = BootConfig {
        memory_is_zero: true,
        memory_block_bytes: BLOCK,
        ..BootConfig::default()
    };
    Mm::boot(platform, &map, &config).unwrap()
}

/// One byte a frame: who has it.
struct Owners(Vec<AtomicU8>);

impl Owners {
    fn change(&self, pfn: Pfn, order: u8, from: u8, to: u8) {
        let first = pfn.0 - (BASE as usize / PAGE_SIZE);
        for owner in &self.0[first..first + (1 << order)] {
            // AcqRel: an owner's change comes after the last owner's.
            assert_eq!(owner.swap(to, AcqRel), from, "{pfn:?} of order {order}");
        }
    }
}

/// What the threads of the test share.
struct Shared {
    mm: Mm<HostPlatform>,
    owners: Owners,
    /// The first block that may be added, and how many follow.
    start: PhysAddr,
    blocks: usize,
    /// Attempts to add so far: two a block.
    attempts: AtomicUsize,
    added: AtomicUsize,
}

impl Shared {
    /// Adds the next block. Two threads try each, often at once; one of them wins.
    fn add_next(&self) {
        let block = self.attempts.fetch_add(1, Relaxed) / 2;
        if block >= self.blocks {
            return;
        }
        let start = PhysAddr(self.start.0 + block as u64 * BLOCK);
        // SAFETY: the platform has the memory.
        match unsafe { self.mm.add_memory(start, PhysAddr(start.0 + BLOCK)) } {
            Ok(more) => {
                assert_eq!(more.pages, BLOCK as usize / PAGE_SIZE);
                self.added.fetch_add(1, Relaxed);
            }
            Err(e) => assert_eq!(e, AddMemoryError::AlreadyPresent { at: start }),
        }
    }
}

/// Sets one of the numbers that say how much is kept free.
fn tune(mm: &Mm<HostPlatform>, x: u64) {
    let number = (x >> 50) % 3000 + 1;
    let (name, text) = match x >> 62 {
        0 => ("min_free_kbytes", number.to_string()),
        1 => ("watermark_scale_factor", number.to_string()),
        _ => ("lowmem_reserve_ratio", format!("{number} 0 {number}")),
    };
    mm.tunables().write(name, &text).unwrap();
}

fn churn(shared: &Shared, me: u8) {
    let (mm, owners) = (&shared.mm, &shared.owners);
    let mut x = u64::from(me).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut live: Vec<(Pfn, u8)> = Vec::new();
    for step in 0..60_000 {
        if step % 256 == 0 {
            shared.add_next();
        }
        x = x
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        if step % 256 == 128 {
            tune(mm, x);
        }
        if x >> 60 < 9 {
            let order = [0, 0, 0, 1, 2, 3, 9, 10][(x >> 40) as usize % 8];
            let Ok(pfn) = mm.alloc_pages(GFP_KERNEL | Gfp::NORETRY, order) else {
                continue;
            };
            owners.change(pfn, order, 0, me);
            // SAFETY: the block is ours.
            unsafe { mm.page_address(pfn).as_ptr().write_bytes(me, 64) };
            live.push((pfn, order));
        } else if !live.is_empty() {
            let (pfn, order) = live.swap_remove((x >> 33) as usize % live.len());
            // SAFETY: still ours, and freed once.
            unsafe {
                assert_eq!(mm.page_address(pfn).as_ptr().read(), me);
                owners.change(pfn, order, me, 0);
                mm.free_frames(pfn, order);
            }
        }
    }
    for (pfn, order) in live {
        owners.change(pfn, order, me, 0);
        // SAFETY: freed once.
        unsafe { mm.free_frames(pfn, order) };
    }
}

#[test]
fn memory_is_added_once_while_threads_allocate_and_others_tune() {
    let (present, total) = (16, 256);
    let mm = machine(present, total);
    let before = mm.pages().managed_pages();
    let shared = Shared {
        mm,
        owners: Owners(
            (0..total as usize * 256)
                .map(|_| AtomicU8::new(0))
                .collect(),
        ),
        start: PhysAddr(BASE + present * MIB),
        blocks: ((total - present) * MIB / BLOCK) as usize,
        attempts: AtomicUsize::new(0),
        added: AtomicUsize::new(0),
    };
    std::thread::scope(|scope| {
        for me in 1..=4 {
            let shared = &shared;
            scope.spawn(move || churn(shared, me));
        }
    });
    assert_eq!(shared.added.load(Relaxed), shared.blocks);
    let mm = shared.mm;
    let pages = mm.pages();
    let more = (total - present) as usize * 256;
    assert_eq!(pages.managed_pages(), before + more);
    assert_eq!(pages.nodes().count(), 2);
    assert_eq!(pages.misuses(), 0);
    mm.trim();
    mm.verify().unwrap();
    mm.tunables().write("watermark_scale_factor", "10").unwrap();
    mm.tunables().write("min_free_kbytes", "4096").unwrap();
    let min: usize = pages.zone_stats().map(|zone| zone.watermarks.min).sum();
    assert!((1020..=1024).contains(&min), "{min}");
    let used = pages.managed_pages() - pages.free_page_count();
    assert!(used < 200, "{used} pages are nobody's");
}

#[test]
fn of_two_that_add_the_same_range_at_once_one_is_told_that_it_is_there() {
    // P516. Large ranges, so that both are at it at the same time. (Without the lock around the
    // claim both win.)
    const ROUNDS: u64 = 16;
    let mm = machine(64, 64 + ROUNDS * 256);
    for round in 0..ROUNDS {
        let start = PhysAddr(BASE + (64 + round * 256) * MIB);
        let ready = AtomicUsize::new(0);
        let results: Vec<_> = std::thread::scope(|scope| {
            let add = || {
                // AcqRel: with itself, so that both begin together.
                ready.fetch_add(1, AcqRel);
                while ready.load(Acquire) < 2 {
                    core::hint::spin_loop();
                }
                // SAFETY: the platform has the memory.
                unsafe { mm.add_memory(start, PhysAddr(start.0 + 256 * MIB)) }
            };
            let both = [scope.spawn(add), scope.spawn(add)];
            both.map(|t| t.join().unwrap()).to_vec()
        });
        let there = Err(AddMemoryError::AlreadyPresent { at: start });
        let losers = results.iter().filter(|r| **r == there).count();
        let winners = results.iter().filter(|r| r.is_ok()).count();
        assert_eq!((winners, losers), (1, 1), "round {round}");
    }
    mm.verify().unwrap();
}

#[test]
fn a_request_that_may_not_fail_is_served_by_memory_that_comes() {
    // P132, P516
    let mm = machine(16, 48);
    let mut held = Vec::new();
    while let Ok(pfn) = mm.alloc_pages(GFP_KERNEL | Gfp::MEMALLOC, 0) {
        held.push(pfn);
    }
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| mm.alloc_pages(GFP_KERNEL | Gfp::NOFAIL, 0));
        let (start, end) = (PhysAddr(BASE + 16 * MIB), PhysAddr(BASE + 20 * MIB));
        // SAFETY: the platform has the memory.
        unsafe { mm.add_memory(start, end) }.unwrap();
        held.push(waits.join().unwrap().unwrap());
    });
    for pfn in held {
        // SAFETY: freed once.
        unsafe { mm.free_frames(pfn, 0) };
    }
    assert_eq!(mm.pages().misuses(), 0);
    mm.verify().unwrap();
}

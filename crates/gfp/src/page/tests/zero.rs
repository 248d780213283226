//! Nothing reads other than zero that should, and nothing is cleared twice (P61, P351, P835, P900).

use crate::flags::{GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NOWAIT, Gfp};
use crate::frame::{Order, PAGE_SIZE, Pfn};
use crate::page::{BootConfig, PageAllocator, PageRequest};
use crate::testing::{CPUS, Rng, TestPlatform, region};
use std::sync::atomic::Ordering::Relaxed;
use std::vec::Vec;

type Machine = PageAllocator<TestPlatform>;

const START: u64 = 4 << 30;
/// What nobody but this test writes.
const POISON: u8 = 0xa5;

fn boot(mib: u64, config: &BootConfig) -> Machine {
    let platform = TestPlatform::new(START, (mib << 20) as usize);
    if !config.memory_is_zero {
        // SAFETY: nobody has this memory yet.
        unsafe {
            fill(
                &platform,
                Pfn(START as usize / PAGE_SIZE),
                (mib << 8) as usize,
            )
        };
    }
    PageAllocator::boot(platform, &[region(START, START + (mib << 20))], config).unwrap()
}

fn zeroed() -> BootConfig {
    BootConfig {
        memory_is_zero: true,
        ..BootConfig::default()
    }
}

/// # Safety
/// The pages are the caller's, or free.
unsafe fn fill(platform: &TestPlatform, pfn: Pfn, pages: usize) {
    use crate::platform::Platform;
    let at = platform.direct_map().ptr(pfn.phys());
    // SAFETY: promised by the caller.
    unsafe { at.write_bytes(POISON, pages * PAGE_SIZE) };
}

/// True if all of it is `byte`.
fn reads(machine: &Machine, pfn: Pfn, pages: usize, byte: u8) -> bool {
    let at = machine.ptr_of(pfn).as_ptr();
    // SAFETY: the pages are the test's, or free; nobody writes meanwhile.
    let bytes = unsafe { core::slice::from_raw_parts(at, pages * PAGE_SIZE) };
    bytes.iter().all(|b| *b == byte)
}

fn free(machine: &Machine, pfn: Pfn, order: Order) {
    // SAFETY: each block is freed once.
    unsafe { machine.free(pfn, order) }.unwrap();
}

fn free_frames(machine: &Machine) -> impl Iterator<Item = Pfn> {
    let first = START as usize / PAGE_SIZE;
    let frames = first..first + machine.frames().len();
    frames.map(Pfn).filter(|pfn| machine.is_free(*pfn))
}

/// Spoils what is free behind the allocator's back: what it still says is zero was not written.
fn poison_free(machine: &Machine) {
    for pfn in free_frames(machine) {
        // SAFETY: the frame is free.
        unsafe { fill(machine.platform(), pfn, 1) };
    }
}

#[test]
fn what_nobody_has_had_is_not_cleared_and_what_somebody_had_is() {
    // P835
    if cfg!(miri) {
        return;
    }
    for order in (0..=10).filter_map(Order::new) {
        let machine = boot(16, &zeroed());
        let request = PageRequest::new(GFP_KERNEL | Gfp::ZERO, order);
        // The first block goes where the CPU's caches were made; see that one alone.
        let warm = machine.alloc(&request).unwrap();
        assert!(reads(&machine, warm, order.pages(), 0));
        machine.drain_all();
        poison_free(&machine);
        let mut live = Vec::new();
        while let Ok(pfn) = machine.alloc(&request) {
            live.push(pfn);
        }
        let untouched = |pfn: &&Pfn| reads(&machine, **pfn, order.pages(), POISON);
        let not_written = live.iter().filter(untouched).count();
        // All but what came back when the caches were drained, in whose 64 frames nothing is known.
        let pages = (live.len() - not_written) << order.get();
        assert!(
            not_written > 0 && pages <= 64 + 1024,
            "{order:?}: {pages} pages written"
        );
        for pfn in live.drain(..) {
            free(&machine, pfn, order);
        }
        while let Ok(pfn) = machine.alloc(&request) {
            assert!(
                reads(&machine, pfn, order.pages(), 0),
                "{order:?}: not cleared"
            );
            live.push(pfn);
        }
        assert!(live.len() >= not_written);
    }
}

#[test]
fn with_init_on_free_nothing_is_cleared_when_it_is_given_out() {
    // P351
    if cfg!(miri) {
        return;
    }
    let config = BootConfig {
        init_on_free: true,
        init_on_alloc: true,
        ..BootConfig::default()
    };
    let machine = boot(16, &config);
    assert!(
        free_frames(&machine).all(|pfn| reads(&machine, pfn, 1, 0)),
        "cleared by boot"
    );
    for order in [0, 3, 9, 10].into_iter().filter_map(Order::new) {
        let request = PageRequest::new(GFP_KERNEL, order);
        let mut live = Vec::new();
        while let Ok(pfn) = machine.alloc(&request) {
            // SAFETY: ours.
            unsafe { fill(machine.platform(), pfn, order.pages()) };
            live.push(pfn);
        }
        live.into_iter().for_each(|pfn| free(&machine, pfn, order));
        machine.drain_all();
        assert!(
            free_frames(&machine).all(|pfn| reads(&machine, pfn, 1, 0)),
            "cleared by free"
        );
    }
    poison_free(&machine);
    let request = PageRequest::new(GFP_KERNEL | Gfp::ZERO, Order::ZERO);
    let mut pages = 0;
    while let Ok(pfn) = machine.alloc(&request) {
        assert!(reads(&machine, pfn, 1, POISON), "cleared twice");
        pages += 1;
    }
    assert!(pages > 2000);
}

/// Whoever gets pages fills them; whoever asks for zeroes gets them.
fn run(config: &BootConfig, spoils: bool, seed: u64, steps: usize) {
    let machine = boot(20, config);
    machine.platform().spoils.store(spoils, Relaxed);
    let always = config.init_on_alloc || config.init_on_free;
    let mut rng = Rng::new(seed);
    let mut live: Vec<(Pfn, Order)> = Vec::new();
    let kinds = [
        GFP_KERNEL,
        GFP_ATOMIC,
        GFP_NOWAIT,
        GFP_HIGHUSER_MOVABLE,
        GFP_KERNEL | Gfp::RECLAIMABLE,
    ];
    for step in 0..steps {
        let context = || std::format!("seed {seed} step {step}");
        machine.platform().on(rng.below(CPUS) as u32);
        let mut gfp = kinds[rng.below(kinds.len())];
        let wanted = rng.below(2) == 0;
        if wanted {
            gfp |= Gfp::ZERO;
        }
        let had = live.len();
        match rng.below(20) {
            0..8 => {
                let order = Order::new([0, 0, 0, 1, 2, 3, 5, 6, 8, 9, 10][rng.below(11)]).unwrap();
                let request = PageRequest::new(gfp, order);
                live.extend(machine.alloc(&request).ok().map(|pfn| (pfn, order)));
            }
            8 => {
                let mut out = [None; 40];
                let request = PageRequest::new(gfp, Order::ZERO);
                machine.alloc_bulk(&request, &mut out);
                live.extend(out.iter().flatten().map(|pfn| (*pfn, Order::ZERO)));
            }
            9 => {
                let bytes = (rng.below(70) + 1) * PAGE_SIZE;
                if let Ok((pfn, pages)) = machine.alloc_exact(bytes, gfp) {
                    live.extend((0..pages).map(|i| (pfn.add(i), Order::ZERO)));
                }
            }
            10 => {
                let request =
                    PageRequest::new(if wanted { Gfp::ZERO } else { Gfp::NONE }, Order::ZERO);
                live.extend(machine.alloc_nolock(&request).map(|pfn| (pfn, Order::ZERO)));
            }
            11 => _ = machine.drain_all(),
            12 => {
                let mut large = |pfn: Pfn| {
                    let right = !(wanted || always) || reads(&machine, pfn, 8, 0);
                    assert!(right, "{}", context());
                    // SAFETY: ours, and freed once.
                    unsafe {
                        fill(machine.platform(), pfn, 8);
                        assert!(machine.free_large(pfn));
                    }
                };
                let request = PageRequest::new(gfp, Order::new(3).unwrap());
                _ = machine
                    .alloc_large(&request, &crate::page::Alone)
                    .map(&mut large);
            }
            _ if !live.is_empty() => {
                let (pfn, order) = live.swap_remove(rng.below(live.len()));
                match rng.below(4) {
                    // SAFETY: freed once.
                    0 => unsafe { machine.free_nolock(pfn, order) }.unwrap(),
                    1 => {
                        machine.platform().nested.store(true, Relaxed);
                        free(&machine, pfn, order);
                        machine.platform().nested.store(false, Relaxed);
                    }
                    _ => free(&machine, pfn, order),
                }
            }
            _ => (),
        }
        for (pfn, order) in live.iter().skip(had) {
            if wanted || always {
                let zero = reads(&machine, *pfn, order.pages(), 0);
                assert!(zero, "{}: {pfn:?} {order:?}", context());
            }
            // SAFETY: ours.
            unsafe { fill(machine.platform(), *pfn, order.pages()) };
        }
    }
    machine.platform().on(0);
    live.into_iter()
        .for_each(|(pfn, order)| free(&machine, pfn, order));
    machine.drain_all();
    machine.verify().unwrap();
    assert!(machine.platform().reports().is_empty());
    let all_zero = free_frames(&machine).all(|pfn| reads(&machine, pfn, 1, 0));
    assert!(all_zero || !config.init_on_free);
}

#[test]
fn who_wants_zeroes_gets_them_by_every_way() {
    // P61, P900
    let (seeds, steps) = if cfg!(miri) { (1, 40) } else { (12, 900) };
    for seed in 0..seeds {
        // Many blocks go to the platform and come back.
        let mut config = BootConfig {
            report_keep_blocks: seed as usize % 3,
            ..zeroed()
        };
        run(&config, false, seed, steps);
        run(&config, true, seed, steps);
        config.memory_is_zero = false;
        run(&config, true, seed, steps);
        config.init_on_alloc = true;
        run(&config, true, seed, steps);
        config.init_on_free = true;
        run(&config, true, seed, steps);
        config.memory_is_zero = true;
        config.init_on_alloc = false;
        run(&config, false, seed, steps);
    }
}

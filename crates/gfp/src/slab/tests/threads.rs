//! Real threads, each a CPU: objects change hands while sheaves are drained and caches come and go.

use super::{pages_in_use, verify};
use crate::error::AllocError;
use crate::flags::GFP_KERNEL;
use crate::frame::{CpuId, PAGE_SIZE};
use crate::page::{BootConfig, PageAllocator};
use crate::platform::{DirectMap, Nested, Platform};
use crate::report::{Misuse, Report};
use crate::slab::{CacheArgs, CacheError, Slabs};
use crate::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use crate::testing::{Rng, TestPlatform, region};
use core::cell::Cell;
use std::format;
use std::vec::Vec;

const THREADS: usize = 4;

std::thread_local! {
    static CPU: Cell<u32> = const { Cell::new(0) };
}

/// One CPU a thread. A section is a flag taken by compare-and-swap; who wants that of another CPU
/// waits.
struct Threads {
    ram: TestPlatform,
    inside: [AtomicBool; THREADS],
    ticks: AtomicU64,
    reports: AtomicUsize,
}

// SAFETY: RAM is as promised by `TestPlatform`; `inside` is taken by compare-and-swap with Acquire
// and left with Release; the only thread of a CPU enters it, or one that waits for it to be
// outside.
unsafe impl Platform for Threads {
    type Section<'a> = Left<'a>;

    fn direct_map(&self) -> DirectMap {
        self.ram.direct_map()
    }

    fn nr_cpus(&self) -> u32 {
        THREADS as u32
    }

    fn enter(&self) -> Result<(CpuId, Left<'_>), Nested> {
        let cpu = CPU.get();
        self.enter_remote(CpuId(cpu))
            .map(|left| (CpuId(cpu), left))
            .ok_or(Nested)
    }

    fn enter_remote(&self, cpu: CpuId) -> Option<Left<'_>> {
        let inside = self.inside.get(cpu.0 as usize)?;
        while inside.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
        Some(Left(inside))
    }

    fn now_ns(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed)
    }

    fn relax(&self, _spins: u32) {
        std::thread::yield_now();
    }

    fn report(&self, _report: &Report<'_>) {
        self.reports.fetch_add(1, Ordering::Relaxed);
    }
}

struct Left<'a>(&'a AtomicBool);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

fn threads(mib: usize) -> Slabs<Threads> {
    let start = 4u64 << 30;
    let ram = TestPlatform::new(start, mib << 20);
    let map = [region(start, start + ((mib as u64) << 20))];
    let config = BootConfig {
        memory_is_zero: true,
        ..BootConfig::default()
    };
    let platform = Threads {
        ram,
        inside: Default::default(),
        ticks: AtomicU64::new(0),
        reports: AtomicUsize::new(0),
    };
    Slabs::boot(PageAllocator::boot(platform, &map, &config).unwrap()).unwrap()
}

/// Runs `f` on each CPU at once.
fn on_all(slabs: &Slabs<Threads>, f: impl Fn(usize, &Slabs<Threads>) + Sync) {
    std::thread::scope(|scope| {
        for cpu in 0..THREADS {
            let f = &f;
            scope.spawn(move || {
                CPU.set(cpu as u32);
                f(cpu, slabs);
            });
        }
    });
    CPU.set(0);
}

const PLACES: usize = 64;
const STEPS: usize = if cfg!(miri) { 300 } else { 60_000 };

#[test]
fn objects_change_hands_while_others_drain() {
    let slabs = threads(64);
    let size_of = |i: usize| [8, 64, 96, 500, 3000, 9000][i % 6];
    let places: Vec<_> = (0..PLACES)
        .map(|_| AtomicPtr::<u8>::new(core::ptr::null_mut()))
        .collect();
    // An object's first byte names its place; who takes it out of the place owns it.
    let check_and_free = |slabs: &Slabs<Threads>, i: usize, p: *mut u8| {
        if !p.is_null() {
            // SAFETY: the object came out of its place, so it is ours.
            unsafe {
                assert_eq!((p.read(), p.add(size_of(i) - 1).read()), (i as u8, i as u8));
                slabs.kfree(p).unwrap();
            }
        }
    };
    on_all(&slabs, |cpu, slabs| {
        let mut rng = Rng::new(cpu as u64 + 1);
        for step in 0..STEPS {
            let i = rng.below(PLACES);
            let p = slabs
                .kmalloc(size_of(i), GFP_KERNEL, None)
                .unwrap()
                .as_ptr();
            // SAFETY: just allocated.
            unsafe { p.write_bytes(i as u8, size_of(i)) };
            check_and_free(slabs, i, places[i].swap(p, Ordering::AcqRel));
            if step % (STEPS / 20) == cpu {
                slabs.shrink_all();
            }
        }
    });
    verify(&slabs);
    for (i, place) in places.iter().enumerate() {
        check_and_free(&slabs, i, place.load(Ordering::Relaxed));
    }
    slabs.shrink_all();
    verify(&slabs);
    assert_eq!(slabs.slab_pages().1, 0);
    assert_eq!(slabs.platform().reports.load(Ordering::Relaxed), 0);
}

#[test]
fn caches_come_and_go_while_others_use_their_handles() {
    // S67, S70: a stale handle is refused, never followed.
    let slabs = threads(64);
    let handles: Vec<_> = (0..THREADS).map(|_| AtomicU64::new(0)).collect();
    let pack = |c: crate::slab::CacheRef| u64::from(c.generation) << 16 | u64::from(c.id);
    let unpack = |bits: u64| crate::slab::CacheRef {
        id: bits as u16,
        generation: (bits >> 16) as u32,
    };
    on_all(&slabs, |cpu, slabs| {
        let mut rng = Rng::new(cpu as u64 + 77);
        for round in 0..STEPS / 200 {
            let name = format!("cpu{cpu}-{round}");
            let size = 16 << (round % 6);
            let cache = slabs.cache_create(&CacheArgs::new(&name, size)).unwrap();
            handles[cpu].store(pack(cache), Ordering::Release);
            for _ in 0..50 {
                let other = unpack(handles[rng.below(THREADS)].load(Ordering::Acquire));
                match slabs.cache_alloc(other, GFP_KERNEL, None) {
                    // SAFETY: just allocated; its cache's owner may have closed it since.
                    Ok(p) => match unsafe { slabs.cache_free(other, p.as_ptr()) } {
                        Ok(()) | Err(Misuse::LiveObject) => (),
                        Err(e) => panic!("{e}"),
                    },
                    Err(AllocError::BadPointer) => (),
                    Err(e) => panic!("{e}"),
                }
            }
            // Another thread may hold an object at this very moment; then the slabs are leaked.
            let _ = slabs.destroy(cache, &mut |_| ());
        }
    });
    verify(&slabs);
    assert_eq!(slabs.platform().reports.load(Ordering::Relaxed), 0);
}

#[test]
fn memory_comes_back_after_threads_fought_for_it() {
    let slabs = threads(16);
    let hold = |n: usize| {
        on_all(&slabs, |cpu, slabs| {
            let mut held = Vec::new();
            for i in 0..n {
                match slabs.kmalloc(1 + (i * 37 + cpu) % 5000, GFP_KERNEL, None) {
                    Ok(p) => held.push(p),
                    Err(AllocError::NoMemory { .. }) => break,
                    Err(e) => panic!("{e}"),
                }
            }
            for p in held {
                // SAFETY: not used any more.
                unsafe { slabs.kfree(p.as_ptr()) }.unwrap();
            }
        });
        slabs.shrink_all();
        verify(&slabs);
        pages_in_use(&slabs)
    };
    let before = hold(10);
    assert_eq!(hold(if cfg!(miri) { 100 } else { 20_000 }), before);
    assert!(before * PAGE_SIZE < 8 << 20);
}

#[test]
fn of_caches_made_at_once_one_has_the_name() {
    // S47
    let slabs = threads(16);
    let rounds = STEPS / 30;
    let barrier = std::sync::Barrier::new(THREADS);
    let made: Vec<_> = (0..rounds).map(|_| AtomicUsize::new(0)).collect();
    let wrong = AtomicUsize::new(0); // a panic would leave the others at the barrier
    on_all(&slabs, |_, slabs| {
        for made in &made {
            barrier.wait();
            let cache = slabs.cache_create(&CacheArgs::new("twin", 64));
            made.fetch_add(usize::from(cache.is_ok()), Ordering::Relaxed);
            barrier.wait();
            let right = match cache {
                Ok(cache) => slabs.destroy(cache, &mut |_| ()).is_ok(),
                Err(e) => e == CacheError::DuplicateName,
            };
            wrong.fetch_add(usize::from(!right), Ordering::Relaxed);
        }
    });
    assert!(made.iter().all(|n| n.load(Ordering::Relaxed) == 1));
    assert_eq!(wrong.load(Ordering::Relaxed), 0);
    verify(&slabs);
}

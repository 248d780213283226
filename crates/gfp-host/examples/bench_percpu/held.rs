//! What caches hold when many threads have freed, and what it costs to take it from outside.

use crate::options::Options;
use crate::pace::{Clock, Line};
use crate::sides::{Allocator, Side};
use gfp::flags::GFP_NOWAIT;
use gfp::frame::{CpuId, Order};
use gfp::page::PageRequest;
use gfp::platform::Platform;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Pages that each thread takes, and frees.
const PAGES: usize = 2048;

/// What is in private caches.
pub(crate) struct Held {
    pub(crate) threads: usize,
    pub(crate) pages: usize,
    /// CPU ids whose caches hold some.
    pub(crate) cpus: usize,
}

/// Each of `threads` threads takes pages and frees them; all are there at the end.
pub(crate) fn held(side: Allocator, threads: usize) -> Held {
    let (side, line) = (&side, &Line::new(threads + 1));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(move || {
                let request = PageRequest::new(GFP_NOWAIT, Order::ZERO);
                let get = |_| side.pages.alloc(&request).expect("there is memory");
                let mine: Vec<_> = (0..PAGES).map(get).collect();
                for pfn in mine {
                    // SAFETY: it is ours, and nobody uses it.
                    let freed = unsafe { side.pages.free(pfn, Order::ZERO) };
                    debug_assert!(freed.is_ok());
                }
                line.wait();
                line.wait();
            });
        }
        line.wait();
        let cpus = 0..side.pages.platform().nr_cpus();
        let of = |cpu| side.pages.cached_pages(CpuId(cpu));
        let held = Held {
            threads,
            pages: side.pages.cached_page_count(),
            cpus: cpus.filter(|cpu| of(*cpu) != 0).count(),
        };
        line.wait();
        held
    })
}

/// Microseconds by the clock on the wall to take a CPU's place from outside and give it back: the
/// median, while `running` threads enter and leave all the time. With none of them the place is one
/// that a thread has used which sleeps.
pub(crate) fn drain(side: &Side, running: usize, options: &Options) -> f64 {
    let (stop, line) = (&AtomicBool::new(false), &Line::new(running.max(1) + 1));
    let asleep = &Mutex::new(());
    let held = asleep.lock();
    let cpus: Vec<AtomicU32> = (0..running.max(1)).map(|_| AtomicU32::new(0)).collect();
    std::thread::scope(|scope| {
        for cpu in &cpus {
            scope.spawn(move || {
                let mut at = side.platform.enter().expect("not nested").0;
                cpu.store(at.0, Ordering::Relaxed);
                line.wait();
                // One that shall not run sleeps until it is over.
                if running == 0 {
                    drop(asleep.lock());
                }
                while !stop.load(Ordering::Relaxed) {
                    at = side.platform.enter().expect("not nested").0;
                }
                std::hint::black_box(at);
            });
        }
        line.wait();
        let mut times: Vec<f64> = (0..options.drains())
            .map(|turn| {
                let cpu = &cpus[turn % cpus.len()];
                let start = Clock::Wall.now_ns();
                drop(
                    side.platform
                        .enter_remote(CpuId(cpu.load(Ordering::Relaxed))),
                );
                (Clock::Wall.now_ns() - start) as f64 / 1e3
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        drop(held);
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    })
}

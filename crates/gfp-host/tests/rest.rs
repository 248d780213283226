//! Memory that boot left for later is taken in while threads allocate (P275).

use gfp::Mm;
use gfp::flags::{GFP_KERNEL, Gfp};
use gfp::frame::{PAGE_SIZE, Pfn};
use gfp::page::BootConfig;
use gfp_host::{HostConfig, HostPlatform};
use std::sync::Barrier;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};

const MIB: usize = 1 << 20;
const TOTAL: usize = 1 << 30;
const THREADS: u8 = 4;

/// A machine of 1 GiB that has taken in 16 MiB.
fn machine() -> Mm<HostPlatform> {
    let platform = HostPlatform::new(&HostConfig::new(TOTAL)).unwrap();
    let config = BootConfig {
        at_once_bytes: 16 << 20,
        ..BootConfig::default()
    };
    let map = platform.memory_map();
    Mm::boot(platform, &map, &config).unwrap()
}

/// One byte a frame: who has it.
struct Owners {
    first: Pfn,
    of: Vec<AtomicU8>,
}

impl Owners {
    fn change(&self, pfn: Pfn, order: u8, from: u8, to: u8) {
        let first = pfn.0 - self.first.0;
        for owner in &self.of[first..first + (1 << order)] {
            // AcqRel: an owner's change comes after the last owner's.
            assert_eq!(owner.swap(to, AcqRel), from, "{pfn:?} of order {order}");
        }
    }
}

/// Takes blocks until `pages` are held, of all orders, and gives them back.
fn hold(mm: &Mm<HostPlatform>, owners: &Owners, me: u8, pages: usize) {
    let mut live = Vec::new();
    let (mut held, mut turn) = (0, usize::from(me));
    while held < pages {
        turn += 1;
        let order = [0, 9, 3, 0, 10, 1][turn % 6];
        let pfn = mm.alloc_pages(GFP_KERNEL | Gfp::NORETRY, order).unwrap();
        owners.change(pfn, order, 0, me);
        held += 1 << order;
        live.push((pfn, order));
    }
    for (pfn, order) in live {
        owners.change(pfn, order, me, 0);
        // SAFETY: ours, freed once.
        unsafe { mm.free_frames(pfn, order) };
    }
}

#[test]
fn threads_that_need_more_get_it_once() {
    let mm = machine();
    let pages = mm.pages();
    let all = pages.managed_pages() + pages.rest_pages();
    assert!(pages.rest_pages() > 900 * MIB / PAGE_SIZE);
    let frames = pages.frames();
    let owners = Owners {
        first: frames.base(),
        of: (0..frames.len()).map(|_| AtomicU8::new(0)).collect(),
    };
    let begin = Barrier::new(usize::from(THREADS) + 1);
    std::thread::scope(|scope| {
        for me in 1..=THREADS {
            let (mm, owners, begin) = (&mm, &owners, &begin);
            scope.spawn(move || {
                begin.wait();
                for round in 1..=4 {
                    hold(mm, owners, me, round * 40 * MIB / PAGE_SIZE);
                }
            });
        }
        begin.wait();
        // At some moment of their work.
        mm.take_in_rest();
    });
    assert_eq!(pages.rest_pages(), 0);
    assert_eq!(pages.managed_pages(), all);
    assert_eq!(pages.misuses(), 0);
    assert!(owners.of.iter().all(|owner| owner.load(Relaxed) == 0));
    mm.trim();
    mm.verify().unwrap();
    let used = all - pages.free_page_count();
    assert!(used < 200, "{used} pages are nobody's");
}

#[test]
fn threads_that_need_more_take_it_in_themselves() {
    let mm = machine();
    let pages = mm.pages();
    let all = pages.managed_pages() + pages.rest_pages();
    let frames = pages.frames();
    let owners = Owners {
        first: frames.base(),
        of: (0..frames.len()).map(|_| AtomicU8::new(0)).collect(),
    };
    let begin = Barrier::new(usize::from(THREADS));
    std::thread::scope(|scope| {
        for me in 1..=THREADS {
            let (mm, owners, begin) = (&mm, &owners, &begin);
            scope.spawn(move || {
                begin.wait();
                hold(mm, owners, me, 180 * MIB / PAGE_SIZE);
            });
        }
    });
    assert_eq!(pages.managed_pages() + pages.rest_pages(), all);
    assert!(pages.managed_pages() >= 180 * MIB / PAGE_SIZE);
    assert_eq!(pages.misuses(), 0);
    mm.trim();
    mm.verify().unwrap();
}

//! One face for all sides, so that their loops are the same code; and gfp's.

use crate::peers::{Buddy, Cached, SummaryBuddy};
use crate::rows::{Memory, State};
use gfp::flags::{GFP_NOWAIT, Gfp};
use gfp::frame::{Order, PAGE_SIZE, Pfn};
use gfp::page::{BootConfig, PageAllocator, PageRequest};
use gfp_host::{HostConfig, HostPlatform};

/// Frames that one bulk request asks for.
pub(crate) const BULK: usize = 64;

/// An allocator of frames.
pub(crate) trait Side: Sync {
    /// 2^order frames, by the number of the first.
    fn get(&self, order: Order) -> Option<u32>;

    /// Gives them back.
    fn put(&self, frame: u32, order: Order);

    /// As [`Side::get`], where there is memory: asks again if the side may fail without reason.
    fn get_sure(&self, order: Order) -> u32 {
        self.get(order).expect("there is memory")
    }

    /// All frames that can be had, also those kept for special callers.
    fn get_last(&self) -> Option<u32> {
        self.get(Order::ZERO)
    }

    /// Single frames, all of `out`. A side without such a call gets one after the other.
    fn get_bulk(&self, out: &mut [u32; BULK]) {
        out.fill_with(|| self.get_sure(Order::ZERO));
    }

    /// Brings what is cached back to where everyone finds it.
    fn settle(&self) {}
}

pub(crate) struct Ours {
    pages: PageAllocator<HostPlatform>,
}

impl Ours {
    fn new(bytes: usize) -> Ours {
        let config = HostConfig::new(bytes).vmalloc_bytes(0);
        let platform = HostPlatform::new(&config).expect("addresses");
        let map = platform.memory_map();
        let boot = BootConfig {
            memory_is_zero: true,
            report_keep_blocks: usize::MAX,
            ..BootConfig::default()
        };
        let pages = PageAllocator::boot(platform, &map, &boot).expect("a machine");
        Ours { pages }
    }
}

fn number(pfn: Pfn) -> u32 {
    u32::try_from(pfn.0).expect("less than 16 TiB")
}

impl Side for Ours {
    #[inline(always)]
    fn get(&self, order: Order) -> Option<u32> {
        let request = PageRequest::new(GFP_NOWAIT, order);
        self.pages.alloc(&request).ok().map(number)
    }

    #[inline(always)]
    fn put(&self, frame: u32, order: Order) {
        // SAFETY: rows put what they got, once.
        let done = unsafe { self.pages.free(Pfn(frame as usize), order) };
        debug_assert!(done.is_ok());
    }

    fn get_last(&self) -> Option<u32> {
        let request = PageRequest::new(GFP_NOWAIT | Gfp::MEMALLOC, Order::ZERO);
        self.pages.alloc(&request).ok().map(number)
    }

    fn get_bulk(&self, out: &mut [u32; BULK]) {
        let mut got = [None; BULK];
        let request = PageRequest::new(GFP_NOWAIT, Order::ZERO);
        let n = self.pages.alloc_bulk(&request, &mut got);
        assert_eq!(n, BULK, "there is memory");
        for (out, got) in out.iter_mut().zip(got.into_iter().flatten()) {
            *out = number(got);
        }
    }

    fn settle(&self) {
        self.pages.drain_all();
    }
}

/// Whether the other crates are measured, too.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Peers {
    All,
    None,
}

/// All sides over one kind of memory.
pub(crate) struct Sides {
    pub(crate) ours: Ours,
    pub(crate) peers: Option<(SummaryBuddy, Cached, Buddy)>,
}

impl Sides {
    pub(crate) fn new(memory: Memory, peers: Peers) -> Sides {
        let bytes = memory.bytes();
        let sides = Sides {
            ours: Ours::new(bytes),
            peers: (peers == Peers::All).then(|| {
                let sides = (SummaryBuddy::new(bytes), Cached::new(bytes));
                (sides.0, sides.1, Buddy::new(bytes))
            }),
        };
        if memory.state == State::Fragmented {
            fragment(&sides.ours, bytes);
            if let Some((bare, cached, buddy)) = &sides.peers {
                fragment(bare, bytes);
                fragment(cached, bytes);
                fragment(buddy, bytes);
            }
        }
        sides
    }
}

/// Gets every frame singly, then puts each back with a probability of one half. A run of order n is
/// left with a probability of 2^-(2^n): one pair in 4, one run of order 2 in 16, of order 3 in 256.
fn fragment(side: &impl Side, bytes: usize) {
    let mut frames = Vec::with_capacity(bytes / PAGE_SIZE);
    frames.extend(std::iter::from_fn(|| side.get(Order::ZERO)));
    frames.extend(std::iter::from_fn(|| side.get_last()));
    let free = |frame: &&u32| mix(**frame) & 1 == 0;
    for frame in frames.iter().filter(free) {
        side.put(*frame, Order::ZERO);
    }
    side.settle();
}

/// A number that looks random, the same for the same frame.
fn mix(frame: u32) -> u64 {
    let mut x = (u64::from(frame) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 29;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ x >> 32
}

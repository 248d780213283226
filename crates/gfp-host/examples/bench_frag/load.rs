//! A mixed load on one machine.
//!
//! | class | orders | share of memory | share of operations |
//! |---|---|---|---|
//! | unmovable | 0 (60 %), 1, 2, 3 | 5 %, from 3 to 7 | 20 % |
//! | reclaimable | 0 (60 %), 1, 2, 3 | 2 %, from 1.2 to 2.8 | 10 % |
//! | huge, movable | 9 | 25 % | 0.2 % |
//! | single, movable | 0 | the rest, to 80 to 90 % (`--fill`) | 69.8 % |
//!
//! Two waves go over the run: one of all memory, one of what cannot be moved. So unmovable memory
//! grows while movable memory is everywhere, which is what spreads it.

use crate::map::Map;
use gfp::flags::{GFP_HIGHUSER_MOVABLE, GFP_NOWAIT, Gfp};
use gfp::frame::{Order, PAGE_SIZE, Pfn};
use gfp::page::{BootConfig, PageAllocator, PageRequest};
use gfp_host::{HostConfig, HostPlatform};

/// Waves of all memory in a run, and of what cannot be moved.
const WAVES: (u64, u64) = (7, 12);
/// How far the use of all memory goes up and down, at most.
const SWING: f64 = 0.05;
/// Blocks that were allocated last, of which most frees take one.
const RECENT: usize = 2000;

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

#[derive(Copy, Clone)]
struct Block {
    pfn: u32,
    order: u8,
}

/// What kind of memory is asked for.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Class {
    Unmovable,
    Reclaimable,
    Huge,
    Single,
}

/// One class's blocks.
struct Pool {
    class: Class,
    live: Vec<Block>,
    pages: usize,
}

impl Pool {
    fn new(class: Class) -> Pool {
        Pool {
            class,
            live: Vec::new(),
            pages: 0,
        }
    }

    fn gfp(&self) -> Gfp {
        match self.class {
            Class::Unmovable => GFP_NOWAIT,
            Class::Reclaimable => GFP_NOWAIT | Gfp::RECLAIMABLE,
            Class::Huge | Class::Single => GFP_HIGHUSER_MOVABLE.without(Gfp::RECLAIM) | Gfp::NOWARN,
        }
    }

    fn order(&self, rng: &mut Rng) -> u8 {
        match self.class {
            Class::Huge => 9,
            Class::Single => 0,
            _ => [0, 0, 0, 0, 0, 0, 1, 1, 2, 3][rng.below(10)],
        }
    }

    /// Takes out the block that is freed next: of those that came last, or any; the oldest ones of
    /// what cannot be moved stay for ever.
    fn pick(&mut self, rng: &mut Rng) -> Option<Block> {
        let n = self.live.len();
        let for_ever = match self.class {
            Class::Unmovable => n / 10,
            _ => 0,
        };
        let young = n - for_ever;
        if young == 0 {
            return None;
        }
        let at = match rng.below(10) {
            0..7 => n - 1 - rng.below(young.min(RECENT)),
            _ => for_ever + rng.below(young),
        };
        let block = self.live.swap_remove(at);
        self.pages -= 1 << block.order;
        Some(block)
    }
}

pub(crate) struct Load {
    pages: PageAllocator<HostPlatform>,
    first: Pfn,
    total: usize,
    /// Part of memory that is in use, on average.
    fill: f64,
    pools: [Pool; 4],
    rng: Rng,
    /// Requests for huge pages: asked, and served.
    huge: (u64, u64),
}

impl Load {
    pub(crate) fn new(bytes: usize, fill_percent: u64, seed: u64) -> Load {
        let config = HostConfig::new(bytes).vmalloc_bytes(0);
        let platform = HostPlatform::new(&config).expect("addresses");
        let map = platform.memory_map();
        let boot = BootConfig {
            memory_is_zero: true,
            report_keep_blocks: usize::MAX,
            ..BootConfig::default()
        };
        let first = map[0].start.pfn();
        let pages = PageAllocator::boot(platform, &map, &boot).expect("a machine");
        let classes = [
            Class::Unmovable,
            Class::Reclaimable,
            Class::Huge,
            Class::Single,
        ];
        Load {
            pages,
            first,
            total: bytes / PAGE_SIZE,
            fill: fill_percent as f64 / 100.0,
            pools: classes.map(Pool::new),
            rng: Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            huge: (0, 0),
        }
    }

    /// What `class` should have now, in pages.
    fn target(&self, class: usize, step: u64, ops: u64) -> usize {
        let total = self.total as f64;
        let swing = SWING.min(1.0 - self.fill);
        let all = total * (self.fill + swing * wave(step, ops, WAVES.0));
        let fixed = 1.0 + 0.4 * wave(step, ops, WAVES.1);
        let share = |class| match class {
            0 => 0.05 * fixed * total,
            1 => 0.02 * fixed * total,
            _ => 0.25 * total,
        };
        let pages = match class {
            0..3 => share(class),
            _ => all - share(0) - share(1) - self.pools[2].pages as f64,
        };
        pages as usize
    }

    /// Does `ops` operations.
    pub(crate) fn run(&mut self, ops: u64) {
        for step in 0..ops {
            let class = match self.rng.below(1000) {
                0..200 => 0,
                200..300 => 1,
                300..302 => 2,
                _ => 3,
            };
            let wanted = self.target(class, step, ops);
            let grow = match self.pools[class].pages < wanted {
                true => 70,
                false => 30,
            };
            if self.rng.below(100) < grow {
                self.alloc(class);
            } else if let Some(block) = self.pools[class].pick(&mut self.rng) {
                self.free(block);
            }
        }
    }

    fn alloc(&mut self, class: usize) {
        let pool = &mut self.pools[class];
        let order = pool.order(&mut self.rng);
        let request = PageRequest::new(pool.gfp(), Order::new(order).expect("at most 9"));
        let got = self.pages.alloc(&request);
        if pool.class == Class::Huge {
            self.huge.0 += 1;
            self.huge.1 += u64::from(got.is_ok());
        }
        if let Ok(pfn) = got {
            let pfn = u32::try_from(pfn.0).expect("less than 16 TiB");
            pool.live.push(Block { pfn, order });
            pool.pages += 1 << order;
        }
    }

    fn free(&mut self, block: Block) {
        let order = Order::new(block.order).expect("as allocated");
        // SAFETY: it was live, and nobody uses its memory.
        let freed = unsafe { self.pages.free(Pfn(block.pfn as usize), order) };
        assert!(freed.is_ok());
    }

    /// Percent of the requests for huge pages that were served.
    pub(crate) fn huge_percent(&self) -> f64 {
        100.0 * self.huge.1 as f64 / self.huge.0.max(1) as f64
    }

    /// Who uses each block of 2 MiB now.
    pub(crate) fn map(&self) -> Map {
        let mut map = Map::new(self.total);
        for pool in &self.pools {
            let movable = matches!(pool.class, Class::Huge | Class::Single);
            for block in &pool.live {
                let at = block.pfn as usize - self.first.0;
                match movable {
                    true => map.add_movable(at, 1 << block.order),
                    false => map.add_unmovable(at, 1 << block.order),
                }
            }
        }
        map
    }
}

/// From -1 to 1 and back, `waves` times in `ops` steps; 0 at the end.
fn wave(step: u64, ops: u64, waves: u64) -> f64 {
    let turn = step as f64 * waves as f64 / ops as f64;
    let at = (turn + 0.25).fract();
    1.0 - 4.0 * (at - 0.5).abs()
}

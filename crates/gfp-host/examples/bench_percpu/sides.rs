//! The machines that are compared.

use crate::options::Options;
use gfp::flags::GFP_NOWAIT;
use gfp::frame::Order;
use gfp::page::{BootConfig, PageAllocator, PageRequest};
use gfp_host::{HostConfig, HostPlatform, PerCpu};
use std::hint::black_box;

/// One kind of CPUs.
pub(crate) struct Side {
    pub(crate) name: &'static str,
    kind: PerCpu,
    pub(crate) platform: HostPlatform,
}

/// A page allocator over that kind.
pub(crate) struct Allocator {
    pub(crate) name: &'static str,
    pub(crate) pages: PageAllocator<HostPlatform>,
}

pub(crate) struct Machines {
    pub(crate) sides: Vec<Side>,
    bytes: usize,
}

impl Machines {
    pub(crate) fn new(options: &Options) -> Machines {
        let kinds = [
            ("slots", PerCpu::Slots),
            ("rseq-cpu", PerCpu::RseqByCpu),
            ("rseq-cid", PerCpu::Rseq),
        ];
        let side = |(name, kind)| {
            let config = HostConfig::new(4 << 20).vmalloc_bytes(0).per_cpu(kind);
            match HostPlatform::new(&config) {
                Ok(platform) => Some(Side {
                    name,
                    kind,
                    platform,
                }),
                Err(why) => {
                    eprintln!("{name}: {why}");
                    None
                }
            }
        };
        Machines {
            sides: kinds.into_iter().filter_map(side).collect(),
            bytes: if options.quick { 64 << 20 } else { 8 << 30 },
        }
    }

    /// Fresh allocators of all kinds. Their memory is never touched.
    pub(crate) fn allocators(&self) -> impl Iterator<Item = Allocator> {
        let allocator = |side: &Side| {
            let config = HostConfig::new(self.bytes).vmalloc_bytes(0);
            let config = config.per_cpu(side.kind);
            let platform = HostPlatform::new(&config).expect("as before");
            let map = platform.memory_map();
            let boot = BootConfig {
                memory_is_zero: true,
                report_keep_blocks: usize::MAX,
                ..BootConfig::default()
            };
            Allocator {
                name: side.name,
                pages: PageAllocator::boot(platform, &map, &boot).expect("a machine"),
            }
        };
        self.sides.iter().map(allocator)
    }
}

impl Allocator {
    /// Pages that come and go at once.
    pub(crate) fn pairs(&self, pairs: usize) {
        let request = PageRequest::new(GFP_NOWAIT, Order::ZERO);
        for _ in 0..pairs {
            let pfn = self.pages.alloc(&request).expect("there is memory");
            // SAFETY: it is ours, and nobody uses it.
            let freed = unsafe { self.pages.free(black_box(pfn), Order::ZERO) };
            debug_assert!(freed.is_ok());
        }
    }
}

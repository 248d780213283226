//! Slab geometry: how large a slab is, how objects are aligned, how many a sheaf holds
//! (S49, S56, S58, S75).

use super::order::{MAX_PAGE_ORDER, PAGE_SIZE, get_order};
use super::size_class::{KMALLOC_MIN_SIZE, kmalloc_size_roundup};

/// S56: a slab never holds more objects than this.
pub const MAX_OBJECTS_PER_SLAB: usize = 32767;
/// S56: the usual limit of the slab order.
pub const SLAB_MAX_ORDER: u32 = 3;

/// What the order of a slab depends on, apart from the object (S56, S59).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SlabOrderParams {
    /// Objects that a slab should hold; `None`: computed from the number of CPUs.
    pub min_objects: Option<usize>,
    /// Smallest order, 0 by default.
    pub min_order: u32,
    /// Largest order that is chosen to reduce waste, [`SLAB_MAX_ORDER`] by default.
    pub max_order: u32,
    /// CPUs that are there.
    pub present_cpus: u32,
    /// CPUs that may come.
    pub possible_cpus: u32,
}

impl SlabOrderParams {
    /// The defaults for a machine with this many CPUs, all present.
    pub const fn for_cpus(cpus: u32) -> SlabOrderParams {
        SlabOrderParams {
            min_objects: None,
            min_order: 0,
            max_order: SLAB_MAX_ORDER,
            present_cpus: cpus,
            possible_cpus: cpus,
        }
    }

    /// S56: more CPUs share a cache, so more objects come with each slab.
    const fn wanted_objects(&self) -> usize {
        match self.min_objects {
            Some(objects) => objects,
            None => {
                let cpus = if self.present_cpus > 1 {
                    self.present_cpus
                } else {
                    self.possible_cpus
                };
                4 * (u32::BITS - cpus.leading_zeros() + 1) as usize
            }
        }
    }
}

/// The size of a cache's slabs.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SlabOrder {
    /// The order to ask for first.
    pub order: u32,
    /// Objects in a slab of that order.
    pub objects: usize,
    /// The order to fall back to: the smallest that holds one object.
    pub min_order: u32,
    /// Objects in a slab of the fallback order.
    pub min_objects: usize,
}

/// Objects of `stride` bytes in a slab of this order.
const fn objects_in(order: u32, stride: usize) -> usize {
    let objects = (PAGE_SIZE << order) / stride;
    if objects < MAX_OBJECTS_PER_SLAB {
        objects
    } else {
        MAX_OBJECTS_PER_SLAB
    }
}

/// S56: the slab order for objects that are `stride` bytes apart.
///
/// `None` if `stride` is 0 or one object does not fit the largest block. The order is the smallest
/// that holds the wanted number of objects (as far as the largest order can) and wastes at most
/// 1/16 of the slab; failing that 1/8, 1/4, 1/2; failing that the order of one object.
pub const fn slab_order(stride: usize, params: &SlabOrderParams) -> Option<SlabOrder> {
    let min_order = match get_order(stride) {
        Some(order) if order <= MAX_PAGE_ORDER => order,
        _ => return None,
    };
    let order = preferred_order(stride, min_order, params);
    Some(SlabOrder {
        order,
        objects: objects_in(order, stride),
        min_order,
        min_objects: objects_in(min_order, stride),
    })
}

const fn preferred_order(stride: usize, one_object: u32, params: &SlabOrderParams) -> u32 {
    let max_order = if params.max_order < MAX_PAGE_ORDER {
        params.max_order
    } else {
        MAX_PAGE_ORDER
    };
    let fits = objects_in(max_order, stride);
    let wanted = params.wanted_objects();
    let objects = if fits == 0 {
        1
    } else if wanted < fits {
        wanted
    } else {
        fits
    };
    let mut first = params.min_order;
    if let Some(needed) = get_order(objects * stride)
        && needed > first
    {
        first = needed;
    }
    if first <= MAX_PAGE_ORDER && (PAGE_SIZE << first) / stride > MAX_OBJECTS_PER_SLAB {
        // A whole slab would hold more objects than can be counted: the largest that does not.
        let mut order = first;
        while order > 0 && (PAGE_SIZE << order) / stride > MAX_OBJECTS_PER_SLAB {
            order -= 1;
        }
        return order;
    }
    let mut part = 16;
    while part > 1 {
        let mut order = first;
        while order <= max_order {
            let slab = PAGE_SIZE << order;
            if slab % stride <= slab / part {
                return order;
            }
            order += 1;
        }
        part /= 2;
    }
    one_object
}

/// Whether objects should not share cache lines more than needed (`SLAB_HWCACHE_ALIGN`).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum CacheLineAlign {
    /// Only the alignment asked for.
    No,
    /// To the line of this many bytes, a power of two, or to the fraction of it that the object
    /// fills.
    Line(usize),
}

/// S49: the alignment of a cache's objects: `align` (a power of two, or 0 for none), the cache line
/// if asked for, and at least [`KMALLOC_MIN_SIZE`].
pub const fn slab_align(size: usize, align: usize, line: CacheLineAlign) -> usize {
    let mut result = align;
    if let CacheLineAlign::Line(bytes) = line {
        let mut part = bytes;
        while part > 1 && size <= part / 2 {
            part /= 2;
        }
        if part > result {
            result = part;
        }
    }
    if result < KMALLOC_MIN_SIZE {
        result = KMALLOC_MIN_SIZE;
    }
    result.next_multiple_of(8)
}

/// S58: slabs kept on each node's partial list though empty: between 5 and 10.
pub const fn min_partial(stride: usize) -> usize {
    let half = match stride.checked_ilog2() {
        Some(log) => log / 2,
        None => 0,
    };
    match half {
        0..=5 => 5,
        6..=9 => half as usize,
        _ => 10,
    }
}

/// S75: bytes before the pointers in a sheaf.
pub const SHEAF_HEADER_SIZE: usize = 32;

/// S75: pointers in a sheaf for objects of `stride` bytes; `explicit` (0 for none) may only raise
/// it. Enlarged so that header and pointers, of 8 bytes each, fill their kmalloc class.
pub const fn sheaf_capacity(stride: usize, explicit: usize) -> usize {
    let by_stride = match stride {
        4096.. => 4,
        1024.. => 12,
        256.. => 26,
        _ => 60,
    };
    let capacity = if explicit > by_stride {
        explicit
    } else {
        by_stride
    };
    let size = capacity.saturating_mul(8).saturating_add(SHEAF_HEADER_SIZE);
    (kmalloc_size_roundup(size) - SHEAF_HEADER_SIZE) / 8
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn orders_of_the_worked_table() {
        // S56: (CPUs, stride, order, objects)
        let table = [
            (8, 64, 0, 64),
            (8, 96, 0, 42),
            (8, 192, 0, 21),
            (8, 256, 1, 32),
            (8, 512, 2, 32),
            (8, 1024, 3, 32),
            (8, 2048, 3, 16),
            (8, 4096, 3, 8),
            (8, 8192, 3, 4),
            (1, 256, 0, 16),
            (1, 512, 0, 8),
            (1, 1024, 1, 8),
            (1, 2048, 2, 8),
            (1, 4096, 3, 8),
            (1, 750, 2, 21),  // order 1 would waste 692 of 8192, more than 1/16
            (8, 5000, 3, 6),  // 1/16 is nowhere to be had, 1/8 is
            (8, 12000, 3, 2), // 1/4 too is not, 1/2 is
            (64, 192, 1, 42),
            (64, 256, 1, 32),
            (64, 512, 2, 32),
            (64, 1024, 3, 32),
            (64, 8192, 3, 4),
        ];
        for (cpus, stride, order, objects) in table {
            let found = slab_order(stride, &SlabOrderParams::for_cpus(cpus)).unwrap();
            assert_eq!(
                (found.order, found.objects),
                (order, objects),
                "{cpus} CPUs, {stride}"
            );
        }
    }

    #[test]
    fn one_present_cpu_counts_the_possible_ones() {
        // S56
        let params = SlabOrderParams {
            possible_cpus: 8,
            ..SlabOrderParams::for_cpus(1)
        };
        assert_eq!(
            slab_order(256, &params),
            slab_order(256, &SlabOrderParams::for_cpus(8))
        );
    }

    #[test]
    fn parameters_move_the_order_both_ways() {
        // S59
        let base = SlabOrderParams::for_cpus(8);
        let order = |params: SlabOrderParams| slab_order(64, &params).unwrap().order;
        assert_eq!(
            order(SlabOrderParams {
                min_order: 2,
                ..base
            }),
            2
        );
        assert_eq!(
            order(SlabOrderParams {
                min_objects: Some(65),
                ..base
            }),
            1
        );
        assert_eq!(
            order(SlabOrderParams {
                max_order: 0,
                min_objects: Some(65),
                ..base
            }),
            0
        );
        let large = slab_order(
            1024,
            &SlabOrderParams {
                max_order: 1,
                ..base
            },
        )
        .unwrap();
        assert_eq!((large.order, large.objects), (1, 8)); // capped by what fits the largest order
    }

    #[test]
    fn waste_is_bounded_unless_one_object_needs_it() {
        // S56, for every stride that a slab of the largest usual order holds at least once.
        for cpus in [1, 2, 4, 8, 64, 256] {
            let params = SlabOrderParams::for_cpus(cpus);
            for stride in (8..=40_000).step_by(8) {
                let found = slab_order(stride, &params).unwrap();
                let slab = PAGE_SIZE << found.order;
                assert!(found.objects >= 1 && found.objects * stride <= slab);
                assert!(found.min_order <= found.order && found.min_objects >= 1);
                let waste = slab - found.objects * stride;
                assert!(
                    waste <= slab / 2 || found.order == found.min_order,
                    "{stride}"
                );
            }
        }
    }

    #[test]
    fn extremes_have_an_answer() {
        // S56
        let params = SlabOrderParams::for_cpus(8);
        assert_eq!(slab_order(0, &params), None);
        assert_eq!(slab_order((4 << 20) + 1, &params), None);
        assert_eq!(slab_order(usize::MAX, &params), None);
        let one = slab_order(4 << 20, &params).unwrap();
        assert_eq!((one.order, one.objects, one.min_order), (10, 1, 10));
        // 5 MiB of one-byte objects would not be countable in one slab.
        let many = SlabOrderParams {
            min_objects: Some(1 << 20),
            max_order: 10,
            ..params
        };
        let found = slab_order(1, &many).unwrap();
        assert!(found.objects <= MAX_OBJECTS_PER_SLAB && PAGE_SIZE << found.order <= 32767);
        assert_eq!(found.order, 2);
    }

    #[test]
    fn objects_are_aligned_as_asked_and_by_the_line_they_fill() {
        // S49
        let line = CacheLineAlign::Line(64);
        for (sizes, align) in [
            (1..=8, 8),
            (9..=16, 16),
            (17..=32, 32),
            (33..=64, 64),
            (65..=300, 64),
        ] {
            for size in sizes {
                assert_eq!(slab_align(size, 0, line), align, "{size}");
            }
        }
        assert_eq!(slab_align(100, 0, CacheLineAlign::No), 8);
        assert_eq!(slab_align(100, 4, CacheLineAlign::No), 8);
        assert_eq!(slab_align(100, 256, CacheLineAlign::No), 256);
        assert_eq!(slab_align(20, 128, line), 128);
        assert_eq!(slab_align(20, 16, line), 32);
    }

    #[test]
    fn partial_lists_keep_five_to_ten() {
        // S58
        for (stride, keep) in [
            (8, 5),
            (1024, 5),
            (4096, 6),
            (8192, 6),
            (1 << 14, 7),
            (1 << 20, 10),
        ] {
            assert_eq!(min_partial(stride), keep, "{stride}");
        }
        assert_eq!(min_partial(0), 5);
        assert_eq!(min_partial(1 << 22), 10);
    }

    #[test]
    fn sheaves_fill_their_class() {
        // S75: 4, 12, 28, 60
        let table = [
            (8, 60),
            (255, 60),
            (256, 28),
            (1023, 28),
            (1024, 12),
            (4095, 12),
            (4096, 4),
        ];
        for (stride, capacity) in table {
            assert_eq!(sheaf_capacity(stride, 0), capacity, "{stride}");
            let size = SHEAF_HEADER_SIZE + 8 * capacity;
            assert_eq!(kmalloc_size_roundup(size), size);
        }
        assert_eq!(sheaf_capacity(8, 10), 60); // only raised
        assert_eq!(sheaf_capacity(4096, 32), 60); // 288 bytes -> 512
        assert_eq!(sheaf_capacity(8, 61), 124); // 520 bytes -> 1k
    }
}

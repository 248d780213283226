//! kmalloc size classes: which cache serves how many bytes (S1-S6, S9, S13, S26).
//!
//! Classes are numbered as in Linux: 1 is 96 bytes, 2 is 192 bytes, `n >= 3` is `2^n` bytes. Index
//! 0 stands for size 0, which no cache serves. The two odd classes keep 65..=96 and 129..=192 from
//! wasting up to half of their object.
//!
//! ```text
//! bytes  1..8 ..16 ..32 ..64 ..96 ..128 ..192 ..256 ..512 ..1k ..2k ..4k ..8k  more
//! index     3    4    5    6    1     7     2     8     9   10   11   12   13  pages
//! ```

use super::order::{MAX_PAGE_ORDER, PAGE_SHIFT, PAGE_SIZE, get_order, order_size};
use crate::flags::Gfp;

/// S1: the smallest class, and the alignment of every object.
pub const KMALLOC_MIN_SIZE: usize = 8;
/// S1: the largest size that a cache serves; above it whole pages are used (S10).
pub const KMALLOC_MAX_CACHE_SIZE: usize = 2 * PAGE_SIZE;
/// S1: the largest size that kmalloc serves at all.
pub const KMALLOC_MAX_SIZE: usize = PAGE_SIZE << MAX_PAGE_ORDER;
/// One more than the largest class index: the length of arrays indexed by class.
pub const KMALLOC_CLASSES: usize = PAGE_SHIFT as usize + 2;
/// S15: the address that stands for "zero bytes"; never dereferenced.
pub const ZERO_SIZE_ADDR: usize = 16;

/// Sizes up to here use the small table, eight bytes a step.
const TABLE_MAX: usize = 192;
const TABLE_LEN: usize = TABLE_MAX / 8;

/// The size classes for one minimum alignment, computed at compile time (S9).
///
/// ```
/// use gfp::policy::size_class::SizeClasses;
/// const BOUNCED: SizeClasses = SizeClasses::new(128);
/// assert_eq!(BOUNCED.size_for(20), Some(128));
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SizeClasses {
    min_align: usize,
    /// S3: class index by `(size - 1) / 8`.
    table: [u8; TABLE_LEN],
}

/// The classes with the default minimum alignment of 8.
pub const KMALLOC: SizeClasses = SizeClasses::new(KMALLOC_MIN_SIZE);

impl SizeClasses {
    /// The classes whose objects are all aligned to `min_align` bytes (S4).
    ///
    /// # Panics
    /// If `min_align` is not a power of two from 8 to 256; at compile time where it is a constant.
    pub const fn new(min_align: usize) -> SizeClasses {
        assert!(min_align.is_power_of_two() && min_align >= 8 && min_align <= 256);
        let mut table = [0; TABLE_LEN];
        let mut step = 0;
        while step < TABLE_LEN {
            let size = (step + 1) * 8;
            // S4: an odd class stays only while its size is a multiple of the minimum alignment.
            table[step] = if size > 64 && size <= 96 && min_align <= 32 {
                1
            } else if size > 128 && size <= 192 && min_align <= 64 {
                2
            } else {
                let rounded = if size < min_align { min_align } else { size };
                rounded.next_power_of_two().ilog2() as u8
            };
            step += 1;
        }
        SizeClasses { min_align, table }
    }

    /// S3: the class that serves `size` bytes, in constant time; `None` for 0 and for sizes above
    /// [`KMALLOC_MAX_CACHE_SIZE`].
    #[inline]
    pub const fn index(&self, size: usize) -> Option<usize> {
        let step = size.wrapping_sub(1) / 8;
        if step < TABLE_LEN {
            return Some(self.table[step] as usize);
        }
        if size.wrapping_sub(1) >= KMALLOC_MAX_CACHE_SIZE {
            return None; // size 0 wraps to the largest number
        }
        let index = (usize::BITS - (size - 1).leading_zeros()) as usize;
        // With a minimum alignment of 256 the table answers 256 too, so nothing is smaller here.
        Some(index)
    }

    /// Bytes in an object of the class that serves `size`, `None` as for [`SizeClasses::index`].
    #[inline]
    pub const fn size_for(&self, size: usize) -> Option<usize> {
        match self.index(size) {
            Some(index) => class_size(index),
            None => None,
        }
    }

    /// Whether some size is served by this class; others need no cache.
    pub const fn has_class(&self, index: usize) -> bool {
        match class_size(index) {
            Some(size) => matches!(self.index(size), Some(found) if found == index),
            None => false,
        }
    }

    /// The class indices in use, in order of size.
    pub fn classes(&self) -> impl Iterator<Item = usize> + use<> {
        let classes = *self;
        const BY_SIZE: [usize; KMALLOC_CLASSES - 1] = {
            let mut order = [3, 4, 5, 6, 1, 7, 2, 8, 0, 0, 0, 0, 0];
            let mut at = 8;
            while at < KMALLOC_CLASSES - 1 {
                order[at] = at + 1;
                at += 1;
            }
            order
        };
        BY_SIZE
            .into_iter()
            .filter(move |&index| classes.has_class(index))
    }

    /// S13: the alignment that the address of a `size` byte object has at least: the largest power
    /// of two that divides `size`, or the minimum alignment. For 0 the alignment of
    /// [`ZERO_SIZE_ADDR`].
    #[inline]
    pub const fn align(&self, size: usize) -> usize {
        if size == 0 {
            return ZERO_SIZE_ADDR;
        }
        let divisor = 1 << size.trailing_zeros();
        if divisor > self.min_align {
            divisor
        } else {
            self.min_align
        }
    }

    /// S26: usable bytes of an object allocated with `size`: the class size, whole pages above
    /// [`KMALLOC_MAX_CACHE_SIZE`], `size` itself for 0 and above [`KMALLOC_MAX_SIZE`].
    #[inline]
    pub const fn size_roundup(&self, size: usize) -> usize {
        if let Some(rounded) = self.size_for(size) {
            return rounded;
        }
        if size > KMALLOC_MAX_SIZE {
            return size;
        }
        match get_order(size) {
            Some(order) => match order_size(order) {
                Some(rounded) => rounded,
                None => size,
            },
            None => 0,
        }
    }
}

/// [`SizeClasses::index`] with the default alignment: the class that serves `size` bytes.
#[inline]
pub const fn kmalloc_index(size: usize) -> Option<usize> {
    KMALLOC.index(size)
}

/// [`SizeClasses::size_roundup`] with the default alignment: usable bytes of a `size` byte object.
#[inline]
pub const fn kmalloc_size_roundup(size: usize) -> usize {
    KMALLOC.size_roundup(size)
}

/// [`SizeClasses::align`] with the default alignment: guaranteed alignment of a `size` byte object.
#[inline]
pub const fn kmalloc_align(size: usize) -> usize {
    KMALLOC.align(size)
}

/// S2: bytes in an object of this class; `None` for index 0 and for indices without a class.
#[inline]
pub const fn class_size(index: usize) -> Option<usize> {
    match index {
        1 => Some(96),
        2 => Some(192),
        3..KMALLOC_CLASSES => Some(1 << index),
        _ => None,
    }
}

/// S13: the alignment of the objects of this class: the largest power of two that divides its size.
pub const fn class_align(index: usize) -> Option<usize> {
    match class_size(index) {
        Some(size) => Some(1 << size.trailing_zeros()),
        None => None,
    }
}

/// S5: a row of caches, one for each class, with a common purpose.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum KmallocFamily {
    /// Plain kernel objects, never charged.
    Normal = 0,
    /// Objects that can be given back on request.
    Reclaim = 1,
    /// Objects in memory that old devices reach.
    Dma = 2,
    /// Objects charged to a memory group.
    Cgroup = 3,
}

macro_rules! names {
    ($prefix:literal) => {
        [
            concat!($prefix, "96"),
            concat!($prefix, "192"),
            concat!($prefix, "8"),
            concat!($prefix, "16"),
            concat!($prefix, "32"),
            concat!($prefix, "64"),
            concat!($prefix, "128"),
            concat!($prefix, "256"),
            concat!($prefix, "512"),
            concat!($prefix, "1k"),
            concat!($prefix, "2k"),
            concat!($prefix, "4k"),
            concat!($prefix, "8k"),
        ]
    };
}

impl KmallocFamily {
    /// How many families there are.
    pub const COUNT: usize = 4;
    /// All families.
    pub const ALL: [KmallocFamily; Self::COUNT] = [
        KmallocFamily::Normal,
        KmallocFamily::Reclaim,
        KmallocFamily::Dma,
        KmallocFamily::Cgroup,
    ];

    /// S6: the family that serves this request: `DMA` before `RECLAIMABLE` before `ACCOUNT`.
    #[inline]
    pub const fn of(gfp: Gfp) -> KmallocFamily {
        const SPECIAL: Gfp = Gfp::DMA.with(Gfp::RECLAIMABLE).with(Gfp::ACCOUNT);
        if !gfp.intersects(SPECIAL) {
            KmallocFamily::Normal
        } else if gfp.intersects(Gfp::DMA) {
            KmallocFamily::Dma
        } else if gfp.intersects(Gfp::RECLAIMABLE) {
            KmallocFamily::Reclaim
        } else {
            KmallocFamily::Cgroup
        }
    }

    /// Position in arrays indexed by family, below [`KmallocFamily::COUNT`].
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// S5: the name of this family's cache for a class, as in slabinfo: `kmalloc-rcl-1k`; `None`
    /// for an index without a class.
    pub const fn cache_name(self, index: usize) -> Option<&'static str> {
        const NAMES: [[&str; KMALLOC_CLASSES - 1]; KmallocFamily::COUNT] = [
            names!("kmalloc-"),
            names!("kmalloc-rcl-"),
            names!("dma-kmalloc-"),
            names!("kmalloc-cg-"),
        ];
        if index == 0 || index >= KMALLOC_CLASSES {
            return None;
        }
        Some(NAMES[self.index()][index - 1])
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::flags::{GFP_KERNEL, GFP_KERNEL_ACCOUNT};
    use std::string::ToString;
    use std::vec::Vec;

    /// S2, S4 the slow way: the smallest class that is large enough and a multiple of the
    /// alignment.
    fn model(size: usize, min_align: usize) -> Option<usize> {
        let all = [
            8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192,
        ];
        all.into_iter()
            .find(|class| size != 0 && *class >= size && class % min_align == 0)
    }

    #[test]
    fn every_size_finds_its_class_for_every_alignment() {
        // S3, S4, S9
        for min_align in [8, 16, 32, 64, 128, 256] {
            let classes = SizeClasses::new(min_align);
            for size in 0..=8193 {
                assert_eq!(
                    classes.size_for(size),
                    model(size, min_align),
                    "{size} by {min_align}"
                );
                let Some(index) = classes.index(size) else {
                    continue;
                };
                assert!(classes.has_class(index));
                // S13 (a)-(c): every address start + k * class size has the promised alignment.
                let class = class_size(index).unwrap();
                assert_eq!(class % classes.align(size), 0, "{size} by {min_align}");
            }
            for size in [8193, 8194, 1 << 20, usize::MAX - 1, usize::MAX, 0] {
                assert_eq!(classes.index(size), None, "{size}");
            }
        }
    }

    #[test]
    fn indices_are_those_of_linux() {
        // S2
        let table = [
            (1, 3),
            (8, 3),
            (9, 4),
            (17, 5),
            (64, 6),
            (65, 1),
            (96, 1),
            (97, 7),
            (129, 2),
            (192, 2),
            (193, 8),
            (256, 8),
            (257, 9),
            (4097, 13),
            (8192, 13),
        ];
        for (size, index) in table {
            assert_eq!(kmalloc_index(size), Some(index), "{size}");
        }
        assert_eq!(class_size(0), None);
        assert_eq!(class_size(KMALLOC_CLASSES), None);
        assert_eq!(class_align(1), Some(32)); // S13
        assert_eq!(class_align(2), Some(64)); // S13
        assert_eq!(class_align(13), Some(8192));
        assert_eq!((KMALLOC_MAX_CACHE_SIZE, KMALLOC_MAX_SIZE), (8192, 4 << 20)); // S1
    }

    #[test]
    fn classes_are_listed_by_size_without_the_patched_ones() {
        // S2, S4
        let sizes = |align| -> Vec<usize> {
            SizeClasses::new(align)
                .classes()
                .map(|index| class_size(index).unwrap())
                .collect()
        };
        let all = [
            8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192,
        ];
        assert_eq!(sizes(8), all);
        assert_eq!(sizes(32), all[2..]);
        assert_eq!(sizes(64), [64, 128, 192, 256, 512, 1024, 2048, 4096, 8192]);
        assert_eq!(sizes(128), [128, 256, 512, 1024, 2048, 4096, 8192]);
        assert_eq!(sizes(256), [256, 512, 1024, 2048, 4096, 8192]);
    }

    #[test]
    fn roundup_is_the_usable_size() {
        // S26
        let table = [
            (0, 0),
            (1, 8),
            (65, 96),
            (100, 128),
            (8192, 8192),
            (8193, 16384),
            (20_000, 32768),
            (4 << 20, 4 << 20),
            ((4 << 20) + 1, (4 << 20) + 1),
            (usize::MAX, usize::MAX),
        ];
        for (size, usable) in table {
            assert_eq!(kmalloc_size_roundup(size), usable, "{size}");
        }
        for size in 1..40_000 {
            let usable = kmalloc_size_roundup(size);
            assert!(usable >= size);
            assert_eq!(kmalloc_size_roundup(usable), usable, "{size}: idempotent");
        }
    }

    #[test]
    fn alignment_is_the_largest_power_of_two_in_the_size() {
        // S13
        let table = [
            (1, 8),
            (7, 8),
            (8, 8),
            (12, 8),
            (24, 8),
            (48, 16),
            (96, 32),
            (192, 64),
            (4096, 4096),
            (12288, 4096),
            (1 << 20, 1 << 20),
            (0, 16),
        ];
        for (size, align) in table {
            assert_eq!(kmalloc_align(size), align, "{size}");
        }
        assert_eq!(SizeClasses::new(128).align(24), 128);
    }

    #[test]
    fn the_request_picks_the_family() {
        // S6
        use KmallocFamily::*;
        let (dma, rcl, account) = (Gfp::DMA, Gfp::RECLAIMABLE, Gfp::ACCOUNT);
        let table = [
            (GFP_KERNEL | Gfp::ZERO, Normal),
            (GFP_KERNEL | dma, Dma),
            (GFP_KERNEL | rcl, Reclaim),
            (GFP_KERNEL_ACCOUNT, Cgroup),
            (GFP_KERNEL | dma | rcl | account, Dma),
            (GFP_KERNEL | dma | account, Dma),
            (GFP_KERNEL | rcl | account, Reclaim),
        ];
        for (gfp, family) in table {
            assert_eq!(KmallocFamily::of(gfp), family, "{gfp}");
        }
    }

    #[test]
    fn cache_names_are_those_of_slabinfo() {
        // S5
        let name = |family: KmallocFamily, size| family.cache_name(kmalloc_index(size).unwrap());
        assert_eq!(name(KmallocFamily::Normal, 64), Some("kmalloc-64"));
        assert_eq!(name(KmallocFamily::Reclaim, 1024), Some("kmalloc-rcl-1k"));
        assert_eq!(name(KmallocFamily::Dma, 8192), Some("dma-kmalloc-8k"));
        assert_eq!(name(KmallocFamily::Cgroup, 96), Some("kmalloc-cg-96"));
        for family in KmallocFamily::ALL {
            assert_eq!(family.cache_name(0), None);
            assert_eq!(family.cache_name(KMALLOC_CLASSES), None);
            for index in KMALLOC.classes() {
                let size = class_size(index).unwrap();
                let text = if size < 1024 {
                    size.to_string()
                } else {
                    (size / 1024).to_string() + "k"
                };
                let found = family.cache_name(index).unwrap();
                assert!(
                    found.ends_with(&("-".to_string() + &text)),
                    "{found} {size}"
                );
            }
        }
    }
}

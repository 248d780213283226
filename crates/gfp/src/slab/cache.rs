//! One cache: what its objects look like, and its slabs.

use super::DESC_SIZES;
use super::desc::{NO_ID, desc_size};
use super::home::{HOME_ALIGN, Homes};
use crate::error::AllocError;
use crate::flags::Gfp;
use crate::frame::Order;
use crate::policy::order::MAX_PAGE_ORDER;
use crate::policy::size_class::KMALLOC_MAX_SIZE;
use crate::policy::slab_order::{
    CacheLineAlign, SlabOrderParams, min_partial, sheaf_capacity, slab_align, slab_order,
};
use crate::sync::atomic::AtomicBool;
use core::fmt;

/// Bytes of the largest descriptor that stands apart from its slab.
const LARGEST_DESC: usize = DESC_SIZES[DESC_SIZES.len() - 1];
/// Bytes of a cache line, for [`CacheFlags::HWCACHE_ALIGN`].
const CACHE_LINE: usize = 64;
/// The longest name in bytes.
pub const MAX_NAME_LEN: usize = 31;
/// The most objects that a sheaf may hold: so that its entries fit one page.
pub const MAX_SHEAF_CAPACITY: usize = 252;

/// What a cache is, as a set (S50). Flags without a meaning here do not exist.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct CacheFlags(u32);

impl CacheFlags {
    /// No flag.
    pub const NONE: CacheFlags = CacheFlags(0);
    /// Objects do not share cache lines more than needed (S49).
    pub const HWCACHE_ALIGN: CacheFlags = CacheFlags(1);
    /// Slabs come from ZONE_DMA.
    pub const CACHE_DMA: CacheFlags = CacheFlags(2);
    /// Slabs come from ZONE_DMA32 or below.
    pub const CACHE_DMA32: CacheFlags = CacheFlags(4);
    /// Objects can be given back on request: pages are of reclaimable mobility and counted so.
    pub const RECLAIM_ACCOUNT: CacheFlags = CacheFlags(8);
    /// Every object is charged to a memory group (as soon as there are groups).
    pub const ACCOUNT: CacheFlags = CacheFlags(16);
    /// A failure to create the cache panics.
    pub const PANIC: CacheFlags = CacheFlags(32);
    /// Never shares slabs with another cache: always so, since merging does not exist (S52).
    pub const NO_MERGE: CacheFlags = CacheFlags(64);
    /// No sheaves: every call goes to the slabs. What `NOLEAKTRACE` has in Linux (S50).
    pub const NO_SHEAVES: CacheFlags = CacheFlags(128);

    /// The flags of either set.
    #[must_use]
    pub const fn with(self, other: CacheFlags) -> CacheFlags {
        CacheFlags(self.0 | other.0)
    }

    /// True if all flags of `other` are set.
    pub const fn contains(self, other: CacheFlags) -> bool {
        self.0 & other.0 == other.0
    }
}

impl core::ops::BitOr for CacheFlags {
    type Output = CacheFlags;

    fn bitor(self, other: CacheFlags) -> CacheFlags {
        self.with(other)
    }
}

/// How to make a cache (S45). Start from [`CacheArgs::new`] and change what differs.
#[derive(Copy, Clone, Debug)]
pub struct CacheArgs<'a> {
    /// Its name in reports and views: 1 to 31 bytes, no blanks, not used by another cache (S47).
    pub name: &'a str,
    /// Bytes of an object, 1 to 4 MiB.
    pub size: usize,
    /// Alignment in bytes: 0 for the least, or a power of two.
    pub align: usize,
    /// What else it is.
    pub flags: CacheFlags,
    /// Called once for each object when its slab is made; a freed object must be as this left it
    /// (S53).
    pub ctor: Option<fn(*mut u8)>,
    /// First byte of an object that may be copied to user space (S48).
    pub useroffset: usize,
    /// How many bytes may be copied from there; 0: none.
    pub usersize: usize,
    /// Objects that a CPU keeps at hand; 0 or too few: by size (S75).
    pub sheaf_capacity: usize,
}

impl<'a> CacheArgs<'a> {
    /// A cache of `size` byte objects with no wishes.
    pub const fn new(name: &'a str, size: usize) -> CacheArgs<'a> {
        CacheArgs {
            name,
            size,
            align: 0,
            flags: CacheFlags::NONE,
            ctor: None,
            useroffset: 0,
            usersize: 0,
            sheaf_capacity: 0,
        }
    }
}

/// A cache of one machine. Plain data: using it after the cache was destroyed is refused. It names
/// nothing on another machine, which may take it for one of its own caches.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct CacheRef {
    pub(super) id: u16,
    pub(super) generation: u32,
}

/// Why a cache could not be made, or taken down.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CacheError {
    /// The name is empty, longer than 31 bytes, or has a blank: choose another (S47).
    BadName,
    /// A cache of this name exists: choose another name, or use that cache (S47).
    DuplicateName,
    /// The size is 0 or above the largest (S46).
    BadSize {
        /// The largest size in bytes.
        max: usize,
    },
    /// The alignment is no power of two, or too large for any slab.
    BadAlign {
        /// The largest alignment in bytes.
        max: usize,
    },
    /// The usercopy window does not lie inside of the object (S48).
    BadUsercopy,
    /// Both zones were asked for: keep one of `CACHE_DMA`, `CACHE_DMA32`.
    BadFlags,
    /// Sheaves of this size do not exist.
    BadSheafCapacity {
        /// The largest capacity in objects.
        max: usize,
    },
    /// As many caches exist as a machine can have: destroy one.
    TooManyCaches {
        /// How many that is.
        max: usize,
    },
    /// No memory for the cache itself, or called from inside the allocator.
    NoMemory(AllocError),
    /// The cache was destroyed before.
    Destroyed,
    /// kmalloc's own caches cannot be destroyed.
    Permanent,
    /// Objects are still in use (S68, S70). The cache is gone, its slabs are never freed.
    LiveObjects {
        /// How many.
        count: usize,
        /// Address of one of them.
        first: usize,
    },
    /// A CPU that is in use could not be reached; nothing happened.
    CpuBusy,
}

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            CacheError::BadName => {
                write!(
                    f,
                    "the name of a cache has 1 to {MAX_NAME_LEN} bytes and no blank"
                )
            }
            CacheError::DuplicateName => f.write_str("a cache of this name exists: choose another"),
            CacheError::BadSize { max } => write!(f, "an object has 1 to {max} bytes"),
            CacheError::BadAlign { max } => {
                write!(
                    f,
                    "the alignment must be a power of two of at most {max}, or 0"
                )
            }
            CacheError::BadUsercopy => f.write_str("the usercopy window must lie in the object"),
            CacheError::BadFlags => f.write_str("keep one of CACHE_DMA and CACHE_DMA32"),
            CacheError::BadSheafCapacity { max } => {
                write!(f, "a sheaf holds at most {max} objects")
            }
            CacheError::TooManyCaches { max } => write!(f, "{max} caches exist: destroy one"),
            CacheError::NoMemory(e) => write!(f, "no cache: {e}"),
            CacheError::Destroyed => f.write_str("the cache was destroyed before"),
            CacheError::Permanent => f.write_str("kmalloc's own caches cannot be destroyed"),
            CacheError::LiveObjects { count, first } => {
                write!(
                    f,
                    "{count} objects still in use, one at {first:#x}: their slabs are leaked"
                )
            }
            CacheError::CpuBusy => f.write_str("a CPU that is in use could not be reached"),
        }
    }
}

impl core::error::Error for CacheError {}

/// The name of a cache.
#[derive(Copy, Clone, PartialEq, Eq)]
pub struct CacheName {
    bytes: [u8; MAX_NAME_LEN],
    len: u8,
}

impl CacheName {
    /// No name.
    pub const EMPTY: CacheName = CacheName {
        bytes: [0; MAX_NAME_LEN],
        len: 0,
    };

    pub(super) fn new(name: &str) -> Option<CacheName> {
        let mut this = CacheName {
            len: name.len() as u8,
            ..CacheName::EMPTY
        };
        this.bytes
            .get_mut(..name.len())?
            .copy_from_slice(name.as_bytes());
        let blank = |b: u8| b.is_ascii_whitespace() || b == 0;
        (!name.is_empty() && !name.bytes().any(blank)).then_some(this)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len as usize]).unwrap_or("?")
    }
}

impl fmt::Debug for CacheName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// Where the descriptors of a cache's slabs are.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum DescPlace {
    /// At the start of the slab itself: the caches that everything else is made of (S89).
    OnSlab,
    /// In objects of the descriptor caches.
    OutOfLine,
}

/// The geometry of a cache's slabs.
#[derive(Copy, Clone, Debug)]
pub(super) struct Shape {
    pub(super) stride: usize,
    /// Asked for first (S57).
    pub(super) order: Order,
    pub(super) objects: usize,
    /// Asked for when that fails: the smallest that holds one object.
    pub(super) min_order: Order,
    pub(super) min_objects: usize,
    pub(super) place: DescPlace,
}

impl Shape {
    /// Geometry of a cache with descriptors out of line; `None` if no slab holds an object.
    fn out_of_line(stride: usize, params: &SlabOrderParams) -> Option<Shape> {
        let found = slab_order(stride, params)?;
        if desc_size(found.objects.max(found.min_objects)) > LARGEST_DESC {
            return None;
        }
        Some(Shape {
            stride,
            order: Order::new(found.order as u8)?,
            objects: found.objects,
            min_order: Order::new(found.min_order as u8)?,
            min_objects: found.min_objects,
            place: DescPlace::OutOfLine,
        })
    }

    /// Geometry of a cache whose slabs start with their descriptor.
    pub(super) fn on_slab(stride: usize) -> Shape {
        let fits = |order: Order| {
            let mut objects = order.bytes() / stride;
            while objects > 0 && on_slab_start(objects, stride) + objects * stride > order.bytes() {
                objects -= 1;
            }
            objects
        };
        // At least four objects, so that the descriptor costs little.
        let orders = || (0..=MAX_PAGE_ORDER as u8).filter_map(Order::new);
        let order = orders().find(|o| fits(*o) >= 4).unwrap_or(Order::MAX);
        Shape {
            stride,
            order,
            objects: fits(order),
            min_order: order,
            min_objects: fits(order),
            place: DescPlace::OnSlab,
        }
    }
}

/// Where objects start in a slab that holds its own descriptor; caches with their homes, and other
/// objects of such a size, are aligned as homes are.
pub(super) const fn on_slab_start(objects: usize, stride: usize) -> usize {
    let whole = stride.is_multiple_of(HOME_ALIGN);
    desc_size(objects).next_multiple_of(if whole { HOME_ALIGN } else { 16 })
}

/// One cache. What is not in its homes never changes after the cache was made, but for `dead`.
pub(super) struct Cache {
    pub(super) name: CacheName,
    pub(super) generation: u32,
    /// Index in the registry; [`NO_ID`] for the caches that everything else is made of.
    pub(super) id: u16,
    /// Index in the sheaf tables; [`NO_ID`] without sheaves.
    pub(super) sheaf_id: u16,
    pub(super) flags: CacheFlags,
    pub(super) object_size: usize,
    pub(super) align: usize,
    pub(super) shape: Shape,
    pub(super) sheaf_capacity: usize,
    pub(super) usercopy: (usize, usize),
    pub(super) ctor: Option<fn(*mut u8)>,
    /// Bits added to every request for pages.
    pub(super) page_gfp: Gfp,
    /// Destroyed with live objects: frees of those are refused.
    pub(super) dead: AtomicBool,
    /// S58: empty or partial slabs that a node keeps, shared out among its homes.
    pub(super) min_partial: usize,
    /// Its slabs; none before [`Cache::place`].
    pub(super) homes: Homes,
}

impl Cache {
    /// Checks `args` and works the geometry out. The identity (`id`, `generation`) comes later.
    pub(super) fn new(args: &CacheArgs<'_>, params: &SlabOrderParams) -> Result<Cache, CacheError> {
        let name = CacheName::new(args.name).ok_or(CacheError::BadName)?;
        let bad_size = CacheError::BadSize {
            max: KMALLOC_MAX_SIZE,
        };
        if args.size == 0 || args.size > KMALLOC_MAX_SIZE {
            return Err(bad_size);
        }
        let bad_align = CacheError::BadAlign {
            max: KMALLOC_MAX_SIZE,
        };
        if args.align != 0 && !args.align.is_power_of_two() || args.align > KMALLOC_MAX_SIZE {
            return Err(bad_align);
        }
        let window = args.useroffset.checked_add(args.usersize);
        let empty_but_placed = args.usersize == 0 && args.useroffset != 0;
        if empty_but_placed || window.is_none_or(|end| end > args.size) {
            return Err(CacheError::BadUsercopy);
        }
        if args
            .flags
            .contains(CacheFlags::CACHE_DMA | CacheFlags::CACHE_DMA32)
        {
            return Err(CacheError::BadFlags);
        }
        if args.sheaf_capacity > MAX_SHEAF_CAPACITY {
            return Err(CacheError::BadSheafCapacity {
                max: MAX_SHEAF_CAPACITY,
            });
        }
        let line = if args.flags.contains(CacheFlags::HWCACHE_ALIGN) {
            CacheLineAlign::Line(CACHE_LINE)
        } else {
            CacheLineAlign::No
        };
        let align = slab_align(args.size, args.align, line);
        let stride = args.size.checked_next_multiple_of(align).ok_or(bad_size)?;
        let shape = Shape::out_of_line(stride, params).ok_or(bad_size)?;
        let mut page_gfp = Gfp::NONE;
        for (flag, bit) in [
            (CacheFlags::CACHE_DMA, Gfp::DMA),
            (CacheFlags::CACHE_DMA32, Gfp::DMA32),
            (CacheFlags::RECLAIM_ACCOUNT, Gfp::RECLAIMABLE),
        ] {
            if args.flags.contains(flag) {
                page_gfp = page_gfp.with(bit);
            }
        }
        Ok(Cache {
            name,
            generation: 0,
            id: NO_ID,
            sheaf_id: NO_ID,
            flags: args.flags,
            object_size: args.size,
            align,
            shape,
            sheaf_capacity: sheaf_capacity(stride, args.sheaf_capacity).min(MAX_SHEAF_CAPACITY),
            usercopy: (args.useroffset, args.usersize),
            ctor: args.ctor,
            page_gfp,
            dead: AtomicBool::new(false),
            min_partial: min_partial(stride),
            homes: Homes::NONE,
        })
    }

    /// One of the caches that everything else is made of: no sheaves, descriptors on the slab.
    pub(super) fn internal(name: &str, size: usize) -> Cache {
        let stride = size.next_multiple_of(16);
        Cache {
            name: CacheName::new(name).unwrap_or(CacheName::EMPTY),
            generation: 0,
            id: NO_ID,
            sheaf_id: NO_ID,
            flags: CacheFlags::NO_SHEAVES,
            object_size: size,
            align: 16,
            shape: Shape::on_slab(stride),
            sheaf_capacity: 0,
            usercopy: (0, 0),
            ctor: None,
            page_gfp: Gfp::NONE,
            dead: AtomicBool::new(false),
            min_partial: 1,
            homes: Homes::NONE,
        }
    }

    pub(super) fn is_reclaimable(&self) -> bool {
        self.flags.contains(CacheFlags::RECLAIM_ACCOUNT)
    }

    pub(super) fn handle(&self) -> CacheRef {
        CacheRef {
            id: self.id,
            generation: self.generation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slab_has_a_descriptor_large_enough() {
        // S56: whatever the number of CPUs asks for.
        for cpus in [0, 1, 4, 64, 512, u32::MAX] {
            let params = SlabOrderParams::for_cpus(cpus);
            let (small, page) = ((8..8192).step_by(8), 1..=1024);
            for stride in small.chain(page.map(|n| n * 4096)) {
                let shape = Shape::out_of_line(stride, &params);
                assert!(
                    shape.is_some_and(|s| s.objects > 0),
                    "{stride}, {cpus} CPUs"
                );
            }
        }
    }
}

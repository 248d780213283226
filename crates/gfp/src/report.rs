//! What is said when somebody misuses memory, and when there is none.

use crate::frame::{Order, Pfn};
use crate::platform::ReclaimCycle;
use crate::policy::context::Context;
use core::fmt;
use core::panic::Location;

mod failure;

pub(crate) use failure::Reasons;
pub use failure::{AllocFailure, AllocStall, Shortages};

/// Who called: a place in Rust source, or a return address.
#[derive(Copy, Clone, Debug)]
pub enum Caller {
    /// A place in Rust source.
    Location(&'static Location<'static>),
    /// A code address, from a C face.
    Address(usize),
}

impl Caller {
    /// The place of the caller of the function that calls this.
    #[track_caller]
    #[inline]
    pub fn here() -> Caller {
        Caller::Location(Location::caller())
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Caller::Location(l) => l.fmt(f),
            Caller::Address(a) => write!(f, "{a:#x}"),
        }
    }
}

/// What was done wrong.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Misuse {
    /// The object, block or area was free already.
    DoubleFree,
    /// The address is not memory that was given out by this machine.
    WildFree,
    /// The address lies inside an object, block or area, not at its start.
    InteriorFree,
    /// The block was allocated with another order than it is freed with.
    WrongOrder {
        /// The order given to the free.
        freed_as: Order,
    },
    /// The coherent block was allocated with another size than it is freed with.
    WrongSize {
        /// Bytes given to the free.
        freed_as: usize,
    },
    /// The coherent block has another device address, or belongs to another device.
    WrongDmaAddr {
        /// Device address given to the free.
        freed_as: u64,
    },
    /// The object belongs to another cache than it is freed to.
    WrongCache,
    /// The memory is freed by the call of another allocator (a page by kfree, ...).
    WrongCall,
    /// The cache was destroyed while this object lived.
    LiveObject,
    /// Memory was to be copied to user space that must not be (D60).
    Exposure {
        /// Bytes of the copy.
        bytes: usize,
    },
    /// Memory was to be overwritten from user space that must not be (D60).
    Overwrite {
        /// Bytes of the copy.
        bytes: usize,
    },
    /// A request that may sleep was made where the caller must not (P154). It concerns no address.
    MaySleep {
        /// Where that was.
        context: Context,
    },
    /// A lock is held over requests that may reclaim, and taken in reclaim (P155). It concerns no
    /// address.
    Cycle(ReclaimCycle),
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misuse::DoubleFree => f.write_str("double free"),
            Misuse::WildFree => f.write_str("wild free"),
            Misuse::InteriorFree => f.write_str("free of an interior address"),
            Misuse::WrongOrder { freed_as } => write!(f, "free as order {freed_as}"),
            Misuse::WrongSize { freed_as } => write!(f, "free as {freed_as} bytes"),
            Misuse::WrongDmaAddr { freed_as } => {
                write!(f, "free by device address {freed_as:#x}")
            }
            Misuse::WrongCache => f.write_str("free to the wrong cache"),
            Misuse::WrongCall => f.write_str("free by the wrong call"),
            Misuse::LiveObject => f.write_str("live object in a destroyed cache"),
            Misuse::Exposure { bytes } => write!(f, "copy of {bytes} bytes to user space"),
            Misuse::Overwrite { bytes } => write!(f, "copy of {bytes} bytes from user space"),
            Misuse::MaySleep { context } => {
                write!(f, "request that may sleep in {} context", context.name())
            }
            Misuse::Cycle(cycle) => cycle.fmt(f),
        }
    }
}

/// Whose the memory at an address is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Owner<'a> {
    /// Nobody's: not RAM of this machine, or never given to it.
    Unmanaged,
    /// Free memory.
    Free {
        /// Its frame.
        pfn: Pfn,
    },
    /// A block of pages.
    Pages {
        /// First frame.
        pfn: Pfn,
        /// Size.
        order: Order,
    },
    /// An object of a slab cache.
    Object {
        /// The cache's name.
        cache: &'a str,
        /// Address of the object.
        start: usize,
        /// Its size in bytes.
        size: usize,
    },
    /// A kmalloc block too large for a cache.
    LargeKmalloc {
        /// Address of the block.
        start: usize,
        /// Its size in bytes.
        size: usize,
    },
    /// Coherent memory of a device.
    DmaCoherent {
        /// Address of the block.
        start: usize,
        /// Bytes asked for.
        size: usize,
    },
    /// A vmalloc area.
    Area {
        /// First address.
        start: usize,
        /// Size in bytes, without the guard page.
        size: usize,
    },
    /// A vmalloc area that was freed.
    FreedArea {
        /// Its first address.
        start: usize,
        /// The size it had.
        size: usize,
    },
}

impl fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Owner::Unmanaged => f.write_str("no memory of this machine"),
            Owner::Free { pfn } => write!(f, "free memory, pfn {pfn}"),
            Owner::Pages { pfn, order } => write!(f, "pages, pfn {pfn} order {order}"),
            Owner::Object { cache, start, size } => {
                write!(f, "object {start:#x} of {size} bytes in cache {cache}")
            }
            Owner::LargeKmalloc { start, size } => {
                write!(f, "large kmalloc {start:#x} of {size} bytes")
            }
            Owner::DmaCoherent { start, size } => {
                write!(f, "coherent memory {start:#x} of {size} bytes")
            }
            Owner::Area { start, size } => write!(f, "vmalloc area {start:#x} of {size} bytes"),
            Owner::FreedArea { start, size } => {
                write!(f, "freed vmalloc area {start:#x} of {size} bytes")
            }
        }
    }
}

/// One misuse of memory: what, where, whose, and by whom.
#[derive(Copy, Clone, Debug)]
pub struct Report<'a> {
    /// What was done.
    pub misuse: Misuse,
    /// The address that was given.
    pub addr: usize,
    /// Whose memory that is.
    pub owner: Owner<'a>,
    /// Who did it.
    pub caller: Caller,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Misuse::MaySleep { .. } | Misuse::Cycle(_) = self.misuse {
            return write!(f, "gfp: {}, called from {}", self.misuse, self.caller);
        }
        write!(
            f,
            "gfp: {} of {:#x} ({}), called from {}",
            self.misuse, self.addr, self.owner, self.caller
        )
    }
}

/// What to do on a misuse. The memory is never freed or handed out because of it: at worst it
/// leaks.
#[derive(Copy, Clone, Default)]
pub enum OnMisuse {
    /// Tell the platform ([`Platform::report`](crate::Platform::report)) and go on.
    #[default]
    Report,
    /// Tell the platform, then panic.
    Panic,
    /// Tell this function instead, and go on.
    Callback(fn(&Report<'_>)),
}

impl fmt::Debug for OnMisuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OnMisuse::Report => "Report",
            OnMisuse::Panic => "Panic",
            OnMisuse::Callback(_) => "Callback",
        })
    }
}

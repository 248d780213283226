//! Memory for a Rust program that gives way: safe faces over one machine of this process.
//!
//! 1. **Concept.** A [`Host`] is a machine that threads share. What it gives out is [`Buffer`]s,
//!    freed when dropped. Caches register shrinkers, and are asked for memory before a request
//!    fails; background threads ask them before a request must.
//! 2. **Structure.** A [`Host`] is a counted reference: every buffer, guard and thread has one, so
//!    the machine ends when the last of them does. Each guard undoes on drop what made it.
//! 3. **Cycles.** A cache that keeps buffers keeps the machine. Its guard keeps the cache. So keep
//!    the guard beside the cache, not inside.
//! 4. **Fork.** A child has a copy of the machine and none of its threads. Its copies of guards do
//!    not wait for threads that it has not got.
//! 5. **std.** This module uses it, for threads and counted references. The rest of the crate does
//!    not, and nothing here runs inside `malloc`.
//!
//! | module | what |
//! |---|---|
//! | `background` | a thread for each node, which frees memory before requests must |
//! | `buffer` | bytes of one's own |
//! | `watch` | being told of memory pressure |
//! | `signals` | are for the program's own threads |
//! | `machines` | which there are, for the child of a fork |
//! | `home` | which process something was made in; threads that are there only |
//! | `registered` | what a machine calls while its guard lives |
//! | `killer` | whom the OOM killer may choose |
//! | `reporting` | a device that is told of free memory |
//! | `shrinker` | caches that give way, registered without unsafe code |

mod background;
mod buffer;
mod home;
mod killer;
pub(crate) mod machines;
mod registered;
mod reporting;
mod shrinker;
mod signals;
mod watch;

extern crate std;

use self::std::sync::{Arc, OnceLock};
use crate::{HostConfig, HostError, HostPlatform, fork};
use core::fmt;
use core::ops::Deref;
use gfp::Mm;
use gfp::page::{BootConfig, BootError};

pub use background::{Background, BackgroundError};
pub use buffer::Buffer;
pub use killer::OomSourceGuard;
pub use machines::MACHINES_MAX;
pub use reporting::{ReportingGuard, StartReportingError};
pub use shrinker::ShrinkerGuard;
pub use watch::PressureGuard;

const _: () = {
    const fn may_be_anywhere<T: Send + Sync>() {}
    may_be_anywhere::<ShrinkerGuard>();
    may_be_anywhere::<OomSourceGuard>();
};

/// A machine of this process, shared by its threads. A clone is the same machine.
///
/// It is an [`Mm`] for everything that an `Mm` can do:
///
/// | what | calls |
/// |---|---|
/// | certain frames | [`Mm::alloc_contig_range`] |
/// | many side by side | [`Mm::alloc_contig_pages`] |
/// | an area for that, lent meanwhile | [`BootConfig::with_cma`], [`Mm::cma_alloc`] |
/// | pages from certain nodes | [`Mm::alloc_pages_mpol`] |
/// | many single pages at once | [`Mm::alloc_pages_bulk`] |
/// | pages that are counted by who uses them | [`Mm::folio_alloc`] |
/// | who is told of free memory | [`Host::report_free_memory`] |
/// | settings, such as `percpu_pagelist_high_fraction` | [`Mm::tunables`] |
///
/// Memory of a host is all there from boot on, so there is none that could be plugged in or taken
/// out: for that make a platform and an `Mm` with a memory map of your own.
///
/// ```
/// use gfp::flags::GFP_KERNEL;
/// use gfp_host::{Host, HostConfig};
/// let host = Host::boot(&HostConfig::new(16 << 20))?;
/// let mut buffer = host.buffer(10_000, GFP_KERNEL)?;
/// buffer[..5].copy_from_slice(b"hello");
/// assert!(host.pages().free_page_count() < 4096);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Areas, nodes and settings:
///
/// ```
/// use gfp::flags::GFP_KERNEL;
/// use gfp::frame::NodeId;
/// use gfp::page::{BootConfig, CmaSpec, MemPolicy};
/// use gfp_host::{Host, HostConfig};
/// let config = HostConfig::new(16 << 20).node(NodeId(1), 16 << 20);
/// let boot = BootConfig::default().with_cma(CmaSpec::new("camera", 4 << 20));
/// let host = Host::boot_with(&config, &boot)?;
/// host.tunables().write("percpu_pagelist_high_fraction", "100")?;
///
/// let camera = host.cma_area("camera").expect("boot made it");
/// let picture = host.cma_alloc(camera, 1000, 0)?;
/// let table = host.alloc_contig_pages(300, GFP_KERNEL, Some(NodeId(1)))?;
/// let spread = MemPolicy::interleave(host.pages().nodes().collect());
/// let page = host.alloc_pages_mpol(&spread, GFP_KERNEL, 0)?;
/// // SAFETY: nobody uses them.
/// unsafe {
///     host.free_frames(page, 0);
///     host.free_contig_range(table, 300);
///     assert!(host.cma_release(camera, picture, 1000));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Host {
    machine: Arc<Machine>,
}

/// What the clones of a [`Host`] share.
struct Machine {
    /// First, so that it goes before the machine does.
    entry: OnceLock<machines::Entry>,
    mm: Mm<HostPlatform>,
}

/// Why a machine could not be made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum HostBootError {
    /// Its RAM.
    Ram(HostError),
    /// What the library says of it.
    Boot(BootError),
    /// The handlers that a fork runs were not registered.
    Fork(HostError),
    /// There are [`MACHINES_MAX`].
    TooMany,
}

impl fmt::Display for HostBootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostBootError::Ram(error) | HostBootError::Fork(error) => error.fmt(f),
            HostBootError::TooMany => write!(f, "this process has {MACHINES_MAX} machines"),
            HostBootError::Boot(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for HostBootError {}

impl Host {
    /// Reserves the addresses of a machine and brings it up.
    ///
    /// # Errors
    /// [`HostBootError`]: the configuration is impossible, or too small, or the operating system
    /// refuses.
    pub fn boot(config: &HostConfig) -> Result<Host, HostBootError> {
        Self::boot_with(config, &BootConfig::default())
    }

    /// [`Host::boot`] with choices of the library's, such as areas for contiguous allocations
    /// ([`BootConfig::with_cma`]).
    ///
    /// # Errors
    /// As there.
    pub fn boot_with(config: &HostConfig, boot: &BootConfig) -> Result<Host, HostBootError> {
        fork::install().map_err(HostBootError::Fork)?;
        let platform = HostPlatform::new(config).map_err(HostBootError::Ram)?;
        let map = platform.memory_map();
        let mm = Mm::boot(platform, &map, boot).map_err(HostBootError::Boot)?;
        let entry = OnceLock::new();
        let machine = Arc::new(Machine { entry, mm });
        // SAFETY: [INV-HOST-9] nobody but `Host` has the reference, and it moves nothing out of it.
        unsafe { machine.mm.platform().belongs_to(&machine.mm) };
        let entry = machines::Entry::take(&machine.mm).ok_or(HostBootError::TooMany)?;
        let set = machine.entry.set(entry);
        debug_assert!(set.is_ok());
        Ok(Host { machine })
    }
}

impl Deref for Host {
    type Target = Mm<HostPlatform>;

    fn deref(&self) -> &Mm<HostPlatform> {
        &self.machine.mm
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pages = self.machine.mm.pages();
        f.debug_struct("Host")
            .field("managed_pages", &pages.managed_pages())
            .field("free_pages", &pages.free_page_count())
            .finish()
    }
}

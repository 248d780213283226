//! What an administrator asks for: caches are dropped, a node is reclaimed from or compacted. And
//! how long to wait before a request is made again.

use super::Mm;
use crate::flags::Gfp;
use crate::frame::NodeId;
use crate::platform::Platform;
use crate::policy::effort::retry_wait_ns;
use crate::policy::reclaim::manual::{DropCaches, NodeReclaim};
use crate::reclaim::{Dropped, NodeError, ReclaimBusy};
use crate::sync::WaitQueue;
use core::panic::Location;

impl<P: Platform> Mm<P> {
    /// Drops caches (`vm.drop_caches`; P417, P716): pages of the lists that can go without being
    /// written ([`Kind::Droppable`](crate::policy::reclaim::lru::Kind), in use lately or not), what
    /// shrinkers give, until they give next to nothing, or both. The platform is told
    /// ([`Platform::report_drop_caches`]), until [`DropCaches::Silence`]. As text:
    /// [`Tunables::write`](super::Tunables::write).
    ///
    /// It is for measurements and tests: what is dropped must be made again.
    ///
    /// Context: a task that may sleep, with no lock held that owners or shrinkers want.
    ///
    /// # Errors
    /// [`ReclaimBusy`]: nothing was done.
    pub fn drop_caches(&self, what: DropCaches) -> Result<Dropped, ReclaimBusy> {
        let slabs = self.slabs();
        slabs.reclaim().drop_caches(what, slabs)
    }

    /// Waits before a request that failed is made again (`memalloc_retry_wait`; P156), for callers
    /// who cannot do without and do not want `__GFP_NOFAIL`: a tick of 4 ms if the request may
    /// block and is not [`Gfp::NORETRY`], as such a request has tried for long itself; else 20 ms.
    /// On a machine without [`Sleep`](crate::platform::Sleep) this spins.
    ///
    /// ```
    /// # use gfp::{flags::*, frame::*, page::*, platform::*, Mm};
    /// # let layout = std::alloc::Layout::from_size_align(16 << 20, 4 << 20)?;
    /// # let ram = unsafe { std::alloc::alloc(layout) };
    /// # let (start, end, node) = (PhysAddr(0), PhysAddr(16 << 20), NodeId(0));
    /// # let map = [MemoryRegion { start, end, node, kind: RegionKind::Usable }];
    /// # let platform = unsafe { SingleCore::new(DirectMap::new(ram, PhysAddr(0))) };
    /// # let mm = Mm::boot(platform, &map, &BootConfig::default())?;
    /// let gfp = GFP_NOIO;
    /// let pages = loop {
    ///     match mm.alloc_pages(gfp, 2) {
    ///         Ok(pages) => break pages,
    ///         Err(_) => mm.retry_wait(gfp),
    ///     }
    /// };
    /// # unsafe { mm.free_frames(pages, 2) };
    /// # drop(mm);
    /// # unsafe { std::alloc::dealloc(ram, layout) };
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Context: a task that may sleep, whatever the flags; elsewhere that is reported as
    /// [`Mm::might_alloc`] does, and nobody waits.
    ///
    /// # Panics
    /// As [`Mm::complain`].
    #[track_caller]
    pub fn retry_wait(&self, gfp: Gfp) {
        self.might_sleep(Location::caller());
        if self.platform().context().may_sleep() {
            WaitQueue::pass_ns(self.platform(), retry_wait_ns(gfp));
        }
    }

    /// Reclaims so much from a node before anybody needs it (the node's file `reclaim`; P721). What
    /// came free, in bytes: what was asked for, or a little more.
    ///
    /// Shrinkers that do not tell nodes apart may give memory of other nodes, which counts. The
    /// time counts as a stall (P409); pressure levels do not change.
    ///
    /// Context: as [`Mm::drop_caches`].
    ///
    /// # Errors
    /// [`NodeError::TooLittle`] after 17 rounds in which nothing came free, and
    /// [`NodeError::Killed`], both with what came free; [`NodeError::NoSuchNode`] and
    /// [`NodeError::Busy`].
    pub fn reclaim_node(&self, node: NodeId, request: &NodeReclaim) -> Result<u64, NodeError> {
        let slabs = self.slabs();
        slabs.reclaim().reclaim_node(node, request, slabs)
    }

    /// Writes to a file of a node, as in `/sys/devices/system/node/nodeN` (P721): `compact` takes 1
    /// and does [`Mm::compact_node`], `reclaim` takes `BYTES [swappiness=N]` and does
    /// [`Mm::reclaim_node`].
    ///
    /// Context: as [`Mm::drop_caches`].
    ///
    /// # Errors
    /// [`NodeError`]; of a text that is refused nothing was done (P723).
    pub fn write_node(&self, node: NodeId, file: &str, text: &str) -> Result<(), NodeError> {
        if !self.pages().nodes().any(|there| there == node) {
            return Err(NodeError::NoSuchNode);
        }
        match file {
            "compact" if text.trim_ascii() == "1" => self.compact_node(node),
            "compact" => return Err(NodeError::NotOne),
            "reclaim" => {
                let request = text.parse().map_err(NodeError::Text)?;
                self.reclaim_node(node, &request)?;
            }
            _ => return Err(NodeError::NoSuchFile),
        }
        Ok(())
    }
}

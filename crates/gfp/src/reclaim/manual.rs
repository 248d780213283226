//! What an administrator asks for: to drop caches (P417, P716), to reclaim from a node (P721).

use super::lru::{ListPass, Who};
use super::{Above, Reclaim};
use crate::flags::{GFP_KERNEL, ZoneKind};
use crate::frame::{NodeId, PAGE_SIZE};
use crate::platform::{Platform, now_of};
use crate::policy::effort::MAX_RECLAIM_RETRIES;
use crate::policy::reclaim::Priority;
use crate::policy::reclaim::manual::{DropCaches, NodeReclaim, NodeReclaimError};
use crate::policy::reclaim::shrink::drop_again;
use crate::sync::atomic::Ordering::Relaxed;
use core::fmt;
use core::iter::once;

/// What was dropped.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Pages of lists.
    pub pages: usize,
    /// Objects, as shrinkers count them.
    pub objects: usize,
}

/// Who asks may not reclaim now: it is no task, or another one reclaims, on a machine that keeps
/// nothing for its tasks.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ReclaimBusy;

impl fmt::Display for ReclaimBusy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the caller is no task, or another task reclaims; try again")
    }
}

impl core::error::Error for ReclaimBusy {}

/// Why a node was not reclaimed from, or compacted, as was asked.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeError {
    /// The text is none: nothing was done.
    Text(NodeReclaimError),
    /// Only 1 can be written to this file: nothing was done.
    NotOne,
    /// A node has files `compact` and `reclaim`: nothing was done.
    NoSuchFile,
    /// There is no such node.
    NoSuchNode,
    /// See [`ReclaimBusy`]: nothing was done.
    Busy,
    /// So much came free, and then nothing more (`EAGAIN`).
    TooLittle {
        /// In bytes.
        freed: u64,
    },
    /// The task is to end (`EINTR`); so much came free before.
    Killed {
        /// In bytes.
        freed: u64,
    },
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NodeError::Text(error) => error.fmt(f),
            NodeError::NotOne => f.write_str("only 1 can be written here"),
            NodeError::NoSuchFile => f.write_str("a node has files `compact` and `reclaim`"),
            NodeError::NoSuchNode => f.write_str("no such node"),
            NodeError::Busy => ReclaimBusy.fmt(f),
            NodeError::TooLittle { freed } => write!(f, "only {freed} bytes came free"),
            NodeError::Killed { freed } => write!(f, "killed after {freed} bytes came free"),
        }
    }
}

impl core::error::Error for NodeError {}

impl<P: Platform> Reclaim<P> {
    /// What [`Mm::drop_caches`](crate::Mm::drop_caches) describes.
    ///
    /// # Errors
    /// As there.
    pub fn drop_caches<A>(&self, what: DropCaches, above: &A) -> Result<Dropped, ReclaimBusy>
    where
        A: Above + ?Sized,
    {
        let _reclaiming = self.begin(&"drop_caches").ok_or(ReclaimBusy)?;
        let mut dropped = Dropped::default();
        if what.pages() {
            dropped.pages = self.drop_pages();
            self.events.dropped_pages.add(1);
        }
        if what.objects() {
            dropped.objects = self.drop_objects();
            above.give_back();
            self.events.dropped_objects.add(1);
        }
        // Relaxed: a word by itself.
        match what {
            DropCaches::Silence => self.silent.store(true, Relaxed),
            _ if self.silent.load(Relaxed) => {}
            _ => self.pages.platform().report_drop_caches(what),
        }
        // Whoever waits finds the memory free.
        self.tell_pressure();
        Ok(dropped)
    }

    /// P417: all pages of lists that need not be written, however they are used.
    fn drop_pages(&self) -> usize {
        let pass = ListPass {
            who: Who::Dropper,
            gfp: GFP_KERNEL,
            highest: ZoneKind::Movable,
            priority: Priority::LAST,
            wanted: usize::MAX,
            may_write: false,
            may_store: false,
            deactivate: true,
            swappiness: None,
        };
        let of_node = |node| self.scan_lists(node, &pass).pages.freed;
        let freed = self.pages.nodes().map(of_node).sum();
        self.pages.drain_here();
        freed
    }

    /// P417: asks shrinkers until a round frees next to nothing.
    fn drop_objects(&self) -> usize {
        let (mut all, mut round) = (0usize, 0);
        loop {
            let of_node = |node| self.shrink(GFP_KERNEL, node, Priority::LAST);
            let (mut freed, mut looked_at) = (0usize, 0usize);
            for shrunk in self.pages.nodes().map(of_node) {
                freed = freed.saturating_add(shrunk.freed);
                looked_at = looked_at.saturating_add(shrunk.looked_at);
            }
            self.events.objects_scanned.add(looked_at);
            all = all.saturating_add(freed);
            let killed = now_of(self.pages.platform()).fatal_signal;
            if killed || !drop_again(freed, round) {
                return all;
            }
            round += 1;
        }
    }

    /// What [`Mm::reclaim_node`](crate::Mm::reclaim_node) describes.
    ///
    /// # Errors
    /// As there.
    pub fn reclaim_node<A>(
        &self,
        node: NodeId,
        request: &NodeReclaim,
        above: &A,
    ) -> Result<u64, NodeError>
    where
        A: Above + ?Sized,
    {
        if !self.pages.nodes().any(|there| there == node) {
            return Err(NodeError::NoSuchNode);
        }
        let _reclaiming = self.begin(&"reclaim of a node").ok_or(NodeError::Busy)?;
        let _stalled = self.stall();
        let wanted = usize::try_from(request.bytes / PAGE_SIZE as u64).unwrap_or(usize::MAX);
        let bytes = |pages: usize| pages as u64 * PAGE_SIZE as u64;
        let (mut freed, mut in_vain) = (0usize, 0);
        while freed < wanted {
            if now_of(self.pages.platform()).fatal_signal {
                let freed = bytes(freed);
                return Err(NodeError::Killed { freed });
            }
            let lists = ListPass {
                who: Who::Proactive,
                gfp: GFP_KERNEL,
                highest: ZoneKind::Movable,
                priority: Priority::NODE_RECLAIM,
                wanted: wanted - freed,
                may_write: true,
                may_store: true,
                // A second chance, as a request gets it (P405).
                deactivate: in_vain != 0,
                swappiness: request.swappiness,
            };
            let more = self.one_round(node, &lists, above);
            freed = freed.saturating_add(more);
            in_vain += u32::from(more == 0);
            if more == 0 && in_vain > MAX_RECLAIM_RETRIES {
                let freed = bytes(freed);
                return Err(NodeError::TooLittle { freed });
            }
        }
        self.freed_directly(node, ZoneKind::Movable);
        Ok(bytes(freed))
    }

    /// Asks everybody on a node, more and more of what they have, until so many pages came free.
    /// Returns the pages.
    fn one_round<A>(&self, node: NodeId, lists: &ListPass, above: &A) -> usize
    where
        A: Above + ?Sized,
    {
        let (mut freed, mut next) = (0usize, Some(lists.priority));
        while let Some(priority) = next
            && freed < lists.wanted
        {
            let pass = ListPass {
                priority,
                wanted: lists.wanted - freed,
                ..*lists
            };
            let done = self.pass(&pass, once(node), above);
            freed = freed.saturating_add(done.pages.freed);
            next = priority.next();
        }
        freed
    }
}

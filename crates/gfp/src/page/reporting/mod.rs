//! Free page reporting to a device: a hypervisor learns what memory its guest does not use (P520,
//! P521).
//!
//! 1. **Two receivers.** By itself the allocator gives whole free pageblocks to the platform
//!    ([`Platform::discard`]), as they come free, beyond the first
//!    [`report_keep_blocks`](super::BootConfig::report_keep_blocks) of a zone: that is right in a
//!    process, where it takes a system call. A device is slower and takes many at once, so it is
//!    told later and by a task. While one is registered frees give nothing to the platform; only
//!    [`PageAllocator::trim`] does, and what it gives away is not told to the device again.
//! 2. **The mark** is the same for both: a wholly free pageblock is *clean* if it was reported, or
//!    else waits in its shard's set. It loses the mark when a page of it is used. Registration
//!    takes all marks, as this device has been told of nothing. A free block of the largest order
//!    has two marks, and is reported if one is missing.
//! 3. **A round** goes over the zones, and for each order from the registered one on, and each type
//!    but isolated ones, takes up to a sixteenth of the blocks in batches. Frames of a batch are
//!    taken out like any other, and *hidden*: who is in need of memory waits for them before he
//!    gives up.
//! 4. **Locking.** A shard's lock to take and to put back, at most `HOLD_MOST` blocks are looked at
//!    under one hold. The device is called without locks and outside of sections.
//! 5. **Failure.** What the device refuses, or panics at, is put back and waits as before.
//!    The child of a fork does not have the blocks that the device is just told of in the parent;
//!    nobody waits for them there.
//! 6. **Driven** by whoever ticks; the allocator has no task. That memory waits is noticed at a
//!    tick, so a free costs nothing more.

mod batch;

use super::PageAllocator;
use super::free::HOLD_MOST;
use super::zone::Zone;
use crate::frame::Order;
use crate::platform::{FrameRun, Platform};
use crate::policy::reporting::{self, CAPACITY_MOST, DELAY_NS};
use crate::sync::Local;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use batch::{Batch, Cursor, List, types};
use core::fmt;

/// What a device did with a report.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Reported {
    /// It knows of the blocks; it is told again after they were used.
    Taken,
    /// It could not take the report. The round ends; it is told again in a later one.
    Refused,
}

/// Who wants to know what memory is free (P520).
pub trait ReportingDevice {
    /// Blocks that it takes at once: 1 to 32. The same at each call.
    fn capacity(&self) -> usize {
        CAPACITY_MOST
    }

    /// These blocks are free, and nobody gets them before this returns: at least one and at most
    /// [`ReportingDevice::capacity`] of the same order. Their content is not needed any more.
    ///
    /// Context: that of [`PageReporting::tick`], with no lock held. Must not allocate from this
    /// machine, nor wait for who does: requests in need wait for the blocks.
    fn report(&mut self, blocks: &[FrameRun]) -> Reported;
}

/// Why a device was not registered; nothing was changed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ReportingError {
    /// Another device is registered.
    Busy,
    /// Blocks of this order cannot be marked as reported.
    TooSmall {
        /// The order that was asked for.
        order: Order,
    },
    /// The device takes no number of blocks that there is.
    Capacity {
        /// What it said.
        capacity: usize,
    },
    /// We are inside the allocator: do it from a task.
    Nested,
}

impl fmt::Display for ReportingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReportingError::Busy => f.write_str(
                "free memory is reported to another device: drop its registration first",
            ),
            ReportingError::TooSmall { order } => write!(
                f,
                "blocks of order {} have no mark: report from order {} on",
                order.get(),
                Order::PAGEBLOCK.get()
            ),
            ReportingError::Capacity { capacity } => write!(
                f,
                "a device that takes {capacity} blocks at once: let it take 1 to {CAPACITY_MOST}"
            ),
            ReportingError::Nested => f.write_str("registration from inside the allocator"),
        }
    }
}

impl core::error::Error for ReportingError {}

/// A registered device. Dropped, another may be registered, and free memory goes to the platform
/// again.
///
/// Not to be dropped inside a section.
pub struct PageReporting<'p, P: Platform, D: ReportingDevice> {
    pages: &'p PageAllocator<P>,
    device: D,
    capacity: usize,
    /// The smallest order that is reported.
    least: Order,
    /// When the next round is; `None`: nothing waits, as far as is known.
    due_ns: Option<u64>,
}

impl<P: Platform, D: ReportingDevice + fmt::Debug> fmt::Debug for PageReporting<'_, P, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageReporting")
            .field("device", &self.device)
            .field("least", &self.least)
            .field("due_ns", &self.due_ns)
            .finish_non_exhaustive()
    }
}

impl<P: Platform, D: ReportingDevice> Drop for PageReporting<'_, P, D> {
    fn drop(&mut self) {
        let keep = self.pages.config.report_keep_blocks;
        self.pages.report_keep.store(keep, Relaxed);
        // Release: pairs with the Acquire in `register_reporting`: two devices take turns.
        self.pages.reporting.store(false, Release);
    }
}

impl<P: Platform, D: ReportingDevice> PageReporting<'_, P, D> {
    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// The device.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    /// When a tick will report what waits, by [`Platform::now_ns`]; `None` if nothing waited at the
    /// last tick.
    pub fn due_ns(&self) -> Option<u64> {
        self.due_ns
    }

    /// Lets the time pass: notices that free blocks wait, and tells the device of them 2 s after
    /// that (P520). Whoever has a task calls it now and then, say each second. Returns the pages
    /// that the device has taken in this call.
    ///
    /// Context: task, outside of the allocator, in which the device may be called.
    pub fn tick(&mut self) -> usize {
        let now = self.pages.platform.now_ns();
        let mut reported = 0;
        match self.due_ns {
            Some(due) if now < due => return 0,
            Some(_) => reported = self.round(),
            None => (),
        }
        let next = self.pages.platform.now_ns().saturating_add(DELAY_NS);
        self.due_ns = self.waits().then_some(next);
        reported
    }

    /// Orders that are reported.
    fn orders(&self) -> impl Iterator<Item = Order> + use<P, D> {
        (self.least.get()..=Order::MAX.get()).filter_map(Order::new)
    }

    /// True if a block may wait that is to be reported.
    fn waits(&self) -> bool {
        self.pages.zones.iter().any(|zone| {
            let there = |order: Order| types().any(|kind| zone.nr_free(order.index(), kind) != 0);
            zone.nr_dirty() != 0 && self.orders().any(there)
        })
    }

    /// P521: one round over all zones. Returns the pages that the device took.
    fn round(&mut self) -> usize {
        let mut reported = 0;
        let pages = self.pages;
        for zone in pages.zones.iter() {
            for order in self.orders() {
                for kind in types() {
                    let list = List { zone, order, kind };
                    match self.report_list(&list, &mut reported) {
                        Reported::Taken => (),
                        Reported::Refused => return reported,
                    }
                }
            }
        }
        reported
    }

    fn report_list(&mut self, list: &List<'_>, reported: &mut usize) -> Reported {
        let mut cursor = Cursor {
            shards: list.zone.shards().len(),
            below: None,
        };
        let nr_free = list.zone.nr_free(list.order.index(), list.kind);
        for _ in 0..reporting::batches(nr_free, self.capacity) {
            if !list.may_part(self.capacity) {
                break;
            }
            let mut batch = Batch::new(self.pages, *list);
            batch.fill(self.capacity, &mut cursor);
            if batch.blocks().is_empty() {
                break;
            }
            batch.outcome = self.device.report(batch.blocks());
            if batch.outcome == Reported::Refused {
                return Reported::Refused;
            }
            *reported += batch.blocks().len() * list.order.pages();
        }
        Reported::Taken
    }
}

impl<P: Platform> PageAllocator<P> {
    /// Registers who is to be told of free memory, in blocks of the order `least` and larger;
    /// `None`: of whole pageblocks. One at a time (P520). All that is free now is told, too.
    ///
    /// Nothing happens before somebody calls [`PageReporting::tick`].
    ///
    /// Context: task, outside of the allocator.
    ///
    /// # Errors
    /// [`ReportingError`]; nothing was changed then.
    pub fn register_reporting<D: ReportingDevice>(
        &self,
        device: D,
        least: Option<Order>,
    ) -> Result<PageReporting<'_, P, D>, ReportingError> {
        let least = least.unwrap_or(Order::PAGEBLOCK);
        if least < Order::PAGEBLOCK {
            return Err(ReportingError::TooSmall { order: least });
        }
        let capacity = device.capacity();
        if !(1..=CAPACITY_MOST).contains(&capacity) {
            return Err(ReportingError::Capacity { capacity });
        }
        drop(Local::enter(&self.platform).map_err(|_| ReportingError::Nested)?);
        // Acquire: pairs with the Release where the last registration was dropped.
        let free = self
            .reporting
            .compare_exchange(false, true, Acquire, Relaxed);
        free.map_err(|_| ReportingError::Busy)?;
        self.report_keep.store(usize::MAX, Relaxed);
        self.forget_reported();
        Ok(PageReporting {
            pages: self,
            device,
            capacity,
            least,
            due_ns: None,
        })
    }

    /// What [`Mm::reporting_is_gone`](crate::Mm::reporting_is_gone) describes.
    pub(crate) fn reporting_is_gone(&self) {
        // Relaxed, all of it: there is nobody else.
        if self.reporting.load(Relaxed) {
            self.zones.iter().for_each(Zone::forget_hidden);
            self.report_keep
                .store(self.config.report_keep_blocks, Relaxed);
            self.reporting.store(false, Relaxed);
        }
    }

    /// True while a device is told of free memory.
    #[inline]
    pub(super) fn has_reporting(&self) -> bool {
        // Relaxed: memory that is added just now may be told or not.
        self.reporting.load(Relaxed)
    }

    fn forget_reported(&self) {
        for zone in self.zones.iter() {
            for shard in zone.shards() {
                let end = shard.first_block + shard.nr_blocks;
                for first in (shard.first_block..end).step_by(HOLD_MOST) {
                    let local = self.enter_again();
                    let mut guard = zone.lock_shard(&self.blocks, &local, shard);
                    guard.forget_reported(first..end.min(first + HOLD_MOST));
                }
            }
        }
    }
}

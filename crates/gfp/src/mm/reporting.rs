//! Who is told of free memory.

use super::Mm;
use crate::frame::Order;
use crate::page::{PageReporting, ReportingDevice, ReportingError};
use crate::platform::Platform;

impl<P: Platform> Mm<P> {
    /// Has a device told what memory is free, such as a hypervisor (`page_reporting_register`;
    /// P520, P521): whole pageblocks, or blocks of the order `least` and larger. The result is the
    /// registration; call [`PageReporting::tick`] of it each second or so, and drop it to end
    /// reporting.
    ///
    /// Context: task.
    ///
    /// # Errors
    /// [`ReportingError`]: another device is registered, or the order or the device's capacity is
    /// none that there is.
    pub fn register_reporting<D: ReportingDevice>(
        &self,
        device: D,
        least: Option<Order>,
    ) -> Result<PageReporting<'_, P, D>, ReportingError> {
        self.pages().register_reporting(device, least)
    }

    /// Who held the registration is gone: this process is the child of a fork, which copied the
    /// machine and not the thread. Nobody waits for the blocks that the device was just told of;
    /// they count as used for ever. Free memory goes to the platform again, and another device may
    /// be registered. Context: any but the device itself, which must not fork and go on.
    pub fn reporting_is_gone(&self) {
        self.pages().reporting_is_gone();
    }
}

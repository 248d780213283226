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
}

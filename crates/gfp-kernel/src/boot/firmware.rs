//! Firmware's tables, read through the direct map.

use super::tables::PhysRead;
use crate::arch::phys_to_ptr;
use gfp::frame::PhysAddr;

/// What the entry code maps; firmware's tables lie below.
const SHOWN: u64 = 4 << 30;

/// Reads where the entry code's direct map shows memory.
pub(super) struct Firmware(());

impl Firmware {
    /// # Safety
    /// Nobody writes to what firmware and loader left while slices of it live.
    pub(super) const unsafe fn new() -> Firmware {
        Firmware(())
    }
}

impl PhysRead for Firmware {
    fn bytes(&self, at: PhysAddr, len: usize) -> Option<&[u8]> {
        let end = at.0.checked_add(len as u64)?;
        // SAFETY: [INV-KERNEL-5] the direct map shows these addresses, any byte is a valid u8, and
        // `new`'s caller promised that they stay as they are.
        (end <= SHOWN).then(|| unsafe { core::slice::from_raw_parts(phys_to_ptr(at.0), len) })
    }
}

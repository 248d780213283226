//! Who is told of the pages of a balloon, and what can be wrong with one.

use crate::error::AllocError;
use crate::frame::Pfn;
use crate::page::{Migrated, PageOwnerError};
use core::fmt;

/// What can use the memory of pages that a machine does not: a hypervisor, or its driver.
///
/// The calls about one page come one after the other; those about different pages may come at once,
/// from different tasks. None comes with a lock of the library held.
///
/// A device that panics loses no page: of those that it was being told of each is in the balloon
/// afterwards, and it is told to give it back later. A panic while the balloon ends aborts.
pub trait BalloonDevice: Sync {
    /// These pages are the device's from now on: single pages, at least one and at most
    /// [`Balloon::BATCH`](super::Balloon::BATCH). Their content is not needed any more.
    ///
    /// Context: that of [`Balloon::inflate`](super::Balloon::inflate).
    fn inflate(&self, pages: &[Pfn]);

    /// The device has these pages no more when this returns: each is memory that can be read and
    /// written, of any content. As many as in [`BalloonDevice::inflate`].
    ///
    /// Context: that of [`Balloon::deflate`](super::Balloon::deflate); with
    /// [`UnderPressure::Deflate`] also a task in need of memory. Must not wait for an allocation of
    /// another task.
    fn deflate(&self, pages: &[Pfn]);

    /// The machine needs the page `from` and has `to` instead: takes `to` as in
    /// [`BalloonDevice::inflate`] and then gives `from` back as in [`BalloonDevice::deflate`].
    /// Nothing is copied. After an answer other than [`Migrated::Done`] it has `from` as before,
    /// and not `to`.
    ///
    /// Context: a task in need of memory, or one that compacts or isolates. Must not wait for an
    /// allocation of another task.
    fn migrate(&self, from: Pfn, to: Pfn) -> Migrated;
}

/// What a balloon does when the machine is short of memory.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum UnderPressure {
    /// It keeps its pages.
    Keep,
    /// It gives some back, as any cache: it is a [shrinker](crate::reclaim::Shrinker).
    Deflate,
}

/// Why there is no balloon.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BalloonError {
    /// No memory for the set of its pages, or to register its shrinker.
    Alloc(AllocError),
    /// It could not be registered as an owner of pages: there are too many.
    Owner(PageOwnerError),
}

impl fmt::Display for BalloonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BalloonError::Alloc(error) => write!(f, "no memory for a balloon: {error}"),
            BalloonError::Owner(error) => write!(f, "no place for a balloon: {error}"),
        }
    }
}

impl core::error::Error for BalloonError {}

impl From<AllocError> for BalloonError {
    fn from(error: AllocError) -> BalloonError {
        BalloonError::Alloc(error)
    }
}

impl From<PageOwnerError> for BalloonError {
    fn from(error: PageOwnerError) -> BalloonError {
        BalloonError::Owner(error)
    }
}

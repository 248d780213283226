//! `vmalloc` in a process.
//!
//! | | [`Private`](crate::Backing::Private) | [`Shared`](crate::Backing::Shared) |
//! |---|---|---|
//! | map | the area becomes accessible, its frames' own pages go | the frames' file is mapped |
//! | content | zeroes | what the frames contain |
//! | unmap | the area loses its content and its access | the area loses its access |
//!
//! The system call that changes a mapping makes all processors forget it, so `flush` has nothing to
//! do. Each area is a mapping of its own to the operating system, which allows some 65,000 of them
//! (`vm.max_map_count`): then mapping fails with [`MapError::NoMemory`].

use crate::HostPlatform;
use crate::ram::Ram;
use crate::sys::{self, Errno};
use core::ptr::NonNull;
use gfp::frame::{PAGE_SIZE, Pfn};
use gfp::platform::{FrameRun, MapError, Mapped, Paging, Protection};

fn access(protection: Protection) -> i32 {
    match protection {
        Protection::Read => libc::PROT_READ,
        Protection::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
    }
}

/// Takes all access and all content from a part of the vmalloc range.
///
/// # Safety
/// The part must be inside the range and owned by the caller.
unsafe fn close(at: usize, bytes: usize) -> Result<(), Errno> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
    // SAFETY: the caller owns the part.
    unsafe { sys::mmap(at, bytes, libc::PROT_NONE, flags, -1, 0) }.map(drop)
}

impl Ram {
    fn run_offset(&self, run: FrameRun) -> (usize, usize) {
        let bytes = run.pages * PAGE_SIZE;
        let offset = self.offset(run.first.phys(), bytes);
        (offset.expect("frames of this machine"), bytes)
    }

    /// Gives the pages of `runs` back and answers how many bytes they were.
    ///
    /// # Safety
    /// The caller owns the frames and does not need their content.
    unsafe fn forget_runs(&self, runs: &mut dyn Iterator<Item = FrameRun>) -> usize {
        let mut total = 0;
        let mut pending = (0, 0);
        for run in runs {
            let (offset, bytes) = self.run_offset(run);
            total += bytes;
            if pending.0 + pending.1 == offset {
                pending.1 += bytes; // one call for neighbours
                continue;
            }
            if pending.1 != 0 {
                // SAFETY: the caller's promise. Failing costs memory only: the area has its own.
                unsafe { self.forget(pending.0, pending.1) };
            }
            pending = (offset, bytes);
        }
        if pending.1 != 0 {
            // SAFETY: as above.
            unsafe { self.forget(pending.0, pending.1) };
        }
        total
    }

    /// # Safety
    /// As [`Paging::map`].
    unsafe fn map_file(
        &self,
        fd: i32,
        at: usize,
        runs: &mut dyn Iterator<Item = FrameRun>,
        access: i32,
    ) -> Result<(), MapError> {
        let flags = libc::MAP_SHARED | libc::MAP_FIXED | libc::MAP_NORESERVE;
        let mut mapped = 0;
        for run in runs {
            let (offset, bytes) = self.run_offset(run);
            // SAFETY: the part of the range is the caller's; the file shows the caller's frames.
            let done = unsafe { sys::mmap(at + mapped, bytes, access, flags, fd, offset) };
            // SAFETY: the part mapped just now; this drops no content.
            let done =
                done.and_then(|place| unsafe { sys::madvise(place, bytes, libc::MADV_DONTFORK) });
            mapped += bytes;
            if done.is_err() {
                // SAFETY: the part is the caller's.
                let closed = unsafe { close(at, mapped) };
                debug_assert!(closed.is_ok());
                return Err(MapError::NoMemory);
            }
        }
        Ok(())
    }
}

// SAFETY: [INV-HOST-1] the range is the machine's own; a part is accessible from `map` to `unmap`
// only, and shows the frames given or private memory.
unsafe impl Paging for HostPlatform {
    fn vmalloc_range(&self) -> (NonNull<u8>, usize) {
        let range = self.ram().vmalloc();
        let start = core::ptr::with_exposed_provenance_mut(range.start);
        (
            NonNull::new(start).expect("nothing is mapped at 0"),
            range.len,
        )
    }

    /// If this fails in private mode the frames may have lost their content.
    unsafe fn map(
        &self,
        at: NonNull<u8>,
        runs: &mut dyn Iterator<Item = FrameRun>,
        protection: Protection,
        _table: &mut dyn FnMut() -> Option<Pfn>,
    ) -> Result<Mapped, MapError> {
        let at = at.as_ptr().expose_provenance();
        if let Some(fd) = self.ram().fd() {
            // SAFETY: the caller's promise.
            unsafe { self.ram().map_file(fd, at, runs, access(protection)) }?;
            return Ok(Mapped::Content);
        }
        // SAFETY: the caller owns the frames; in this mode the area takes their place.
        let bytes = unsafe { self.ram().forget_runs(runs) };
        // SAFETY: the caller owns this part of the range.
        unsafe { sys::mprotect(at, bytes, access(protection)) }.map_err(|_| MapError::NoMemory)?;
        Ok(Mapped::Zeroed)
    }

    unsafe fn unmap(&self, at: NonNull<u8>, pages: usize) {
        let at = at.as_ptr().expose_provenance();
        // SAFETY: the caller owns this part, and nobody uses it any more.
        if unsafe { close(at, pages * PAGE_SIZE) }.is_err() {
            // No memory to split a mapping: keep the mapping, without the content.
            if self.ram().fd().is_none() {
                // SAFETY: as above.
                let _ = unsafe { sys::madvise(at, pages * PAGE_SIZE, libc::MADV_DONTNEED) };
            }
        }
    }

    fn flush(&self, _at: NonNull<u8>, _pages: usize) {}

    fn unmap_flushes(&self) -> bool {
        true
    }

    fn aliases_frames(&self) -> bool {
        self.ram().fd().is_some()
    }
}

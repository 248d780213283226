//! Copies of text and arrays, and text that is printed into memory of its own (S27).

use super::Mm;
use crate::error::AllocError;
use crate::flags::Gfp;
use crate::overflow::size_add;
use crate::platform::Platform;
use core::ffi::CStr;
use core::fmt::{self, Write};
use core::ptr::NonNull;

/// Why text was not printed into memory of its own.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PrintError {
    /// No memory for it.
    Alloc(AllocError),
    /// A value could not be printed, or printed another length the second time: its `Display` is
    /// at fault.
    Failed,
}

impl From<AllocError> for PrintError {
    fn from(error: AllocError) -> PrintError {
        PrintError::Alloc(error)
    }
}

impl fmt::Display for PrintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PrintError::Alloc(error) => error.fmt(f),
            PrintError::Failed => {
                f.write_str("a value did not print, or not twice the same length")
            }
        }
    }
}

impl core::error::Error for PrintError {}

/// Counts what is printed.
struct Length(usize);

impl Write for Length {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = size_add(self.0, text.len());
        Ok(())
    }
}

/// Memory that is printed into, as long as it lasts.
struct Sink {
    next: NonNull<u8>,
    room: usize,
}

impl Write for Sink {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.len() > self.room {
            return Err(fmt::Error);
        }
        // SAFETY: there is room for as many bytes, which are ours.
        unsafe {
            let source = NonNull::from(text.as_bytes()).cast();
            self.next.copy_from_nonoverlapping(source, text.len());
            self.next = self.next.add(text.len());
        }
        self.room -= text.len();
        Ok(())
    }
}

impl<P: Platform> Mm<P> {
    /// A copy of an array (`kmemdup_array`; S27).
    ///
    /// # Errors
    /// As [`Mm::kmalloc_objs`].
    #[track_caller]
    pub fn kmemdup_array<T: Copy>(&self, src: &[T], gfp: Gfp) -> Result<NonNull<[T]>, AllocError> {
        let copy = self.kmalloc_objs::<T>(src.len(), gfp.without(Gfp::ZERO))?;
        let source = NonNull::from(src).cast::<T>();
        // SAFETY: the new memory has room for as many; for no bytes nothing is written.
        unsafe { copy.cast().copy_from_nonoverlapping(source, src.len()) };
        Ok(copy)
    }

    /// A copy of a string, or the string itself if the platform says that it lies in memory that
    /// is only ever read ([`Platform::is_read_only`]) (`kstrdup_const`; S27). Not to be written
    /// to. Freed with [`Mm::kfree_const`].
    ///
    /// # Errors
    /// As [`Mm::kmalloc`].
    #[track_caller]
    pub fn kstrdup_const(&self, s: &CStr, gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        let bytes = NonNull::from(s.to_bytes_with_nul()).cast::<u8>();
        if self.platform().is_read_only(bytes.addr().get()) {
            return Ok(bytes);
        }
        self.kstrdup(s, gfp)
    }

    /// Frees what [`Mm::kstrdup_const`] gave, unless it was the string itself (`kfree_const`;
    /// S27).
    ///
    /// # Safety
    /// As [`Mm::kfree`].
    #[track_caller]
    pub unsafe fn kfree_const(&self, ptr: *mut u8) {
        if !self.platform().is_read_only(ptr.addr()) {
            // SAFETY: promised by the caller.
            unsafe { self.kfree(ptr) }
        }
    }

    /// Text, with a NUL behind it (`kasprintf`; S27): `mm.kasprintf(gfp, format_args!("{n}"))`. It
    /// is printed twice, first to see how long it is.
    ///
    /// # Errors
    /// [`PrintError`]; nothing was kept.
    #[track_caller]
    pub fn kasprintf(&self, gfp: Gfp, text: fmt::Arguments<'_>) -> Result<NonNull<u8>, PrintError> {
        let mut length = Length(0);
        length.write_fmt(text).map_err(|_| PrintError::Failed)?;
        let memory = self.kmalloc(size_add(length.0, 1), gfp.without(Gfp::ZERO))?;
        let mut sink = Sink {
            next: memory,
            room: length.0,
        };
        let printed = sink.write_fmt(text);
        if printed.is_err() || sink.room != 0 {
            // SAFETY: just allocated, and known to nobody else.
            unsafe { self.kfree(memory.as_ptr()) };
            return Err(PrintError::Failed);
        }
        // SAFETY: one byte more than the text has.
        unsafe { sink.next.write(0) };
        Ok(memory)
    }

    /// [`Mm::kasprintf`]: in Rust the arguments are a value anyhow (`kvasprintf`; S27).
    ///
    /// # Errors
    /// As [`Mm::kasprintf`].
    #[track_caller]
    pub fn kvasprintf(
        &self,
        gfp: Gfp,
        text: fmt::Arguments<'_>,
    ) -> Result<NonNull<u8>, PrintError> {
        self.kasprintf(gfp, text)
    }
}

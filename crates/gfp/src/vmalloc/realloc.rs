//! Changing the size of an area (V11).

use super::area::{Area, AreaFlags};
use super::areas::Found;
use super::{AreaRequest, Vmalloc};
use crate::error::AllocError;
use crate::flags::Gfp;
use crate::frame::{NodeId, PAGE_SIZE};
use crate::platform::Paging;
use crate::report::Caller;
use core::ptr::NonNull;

impl<P: Paging> Vmalloc<P> {
    /// `vrealloc`: makes an area `size` bytes long, keeping its content (V11).
    ///
    /// Null allocates; size 0 frees, and the answer is `None`. Shrinking stays in place and gives
    /// whole tail pages back; growing stays in place within the pages that are mapped. With `ZERO`
    /// the bytes beyond the old size read as zero.
    ///
    /// # Errors
    /// [`AllocError::BadPointer`] for what is not the start of an area; else as
    /// [`Vmalloc::alloc_area`]. The old area stays valid.
    ///
    /// # Safety
    /// On success the old pointer may not be used any more, unless it is the answer;
    /// meanwhile nobody else may use the area.
    pub unsafe fn vrealloc(
        &self,
        ptr: *mut u8,
        size: usize,
        gfp: Gfp,
        caller: Caller,
    ) -> Result<Option<NonNull<u8>>, AllocError> {
        // SAFETY: promised by the caller.
        unsafe { self.vrealloc_node_align(ptr, size, 1, gfp, None, caller) }
    }

    /// `vrealloc_node_align`: the same, with an alignment that the old area must have too, and a
    /// node for the new one if it must move.
    ///
    /// # Errors
    /// As [`Vmalloc::vrealloc`].
    ///
    /// # Safety
    /// As [`Vmalloc::vrealloc`].
    pub unsafe fn vrealloc_node_align(
        &self,
        ptr: *mut u8,
        size: usize,
        align: usize,
        gfp: Gfp,
        node: Option<NodeId>,
        caller: Caller,
    ) -> Result<Option<NonNull<u8>>, AllocError> {
        let misplaced = align == 0 || !ptr.addr().is_multiple_of(align);
        if size != 0 && !ptr.is_null() && misplaced {
            return Err(AllocError::BadPointer);
        }
        let plain = AreaRequest::new(size, gfp, caller);
        // SAFETY: promised by the caller.
        unsafe {
            self.resize_area(
                ptr,
                &AreaRequest {
                    align,
                    node,
                    ..plain
                },
            )
        }
    }

    /// Makes an area what `req` says, in place if it can; only what moves is aligned anew.
    ///
    /// # Safety
    /// As [`Vmalloc::vrealloc`].
    pub(super) unsafe fn resize_area(
        &self,
        ptr: *mut u8,
        req: &AreaRequest,
    ) -> Result<Option<NonNull<u8>>, AllocError> {
        let size = req.size;
        let Some(old) = NonNull::new(ptr) else {
            return match size {
                0 => Ok(None),
                _ => self.alloc_area(req).map(Some),
            };
        };
        if size == 0 {
            // SAFETY: promised by the caller.
            let freed = unsafe { self.vfree(ptr, req.caller) };
            return freed.map(|()| None).map_err(|_| AllocError::BadPointer);
        }
        if !self.is_vmalloc_addr(ptr.addr()) {
            return Err(AllocError::BadPointer);
        }
        let found = self.with_space(|space| space.exact(ptr.addr()))?;
        let found = found.map_err(|_| AllocError::BadPointer)?;
        let area = found.area;
        if size <= area.mapped_bytes() {
            self.resize_in_place(old, &found, size, req.gfp)?;
            return Ok(Some(old));
        }
        let flags = user(&area);
        let new = self.alloc_area(&AreaRequest { flags, ..*req })?;
        // SAFETY: [INV-VM-2] both are mapped, readable and writable, for these many bytes, apart
        // from each other; the caller keeps others away.
        unsafe { new.copy_from_nonoverlapping(old, area.size) };
        // SAFETY: promised by the caller.
        let freed = unsafe { self.vfree(ptr, req.caller) };
        debug_assert!(freed.is_ok());
        Ok(Some(new))
    }

    fn resize_in_place(
        &self,
        ptr: NonNull<u8>,
        found: &Found,
        size: usize,
        gfp: Gfp,
    ) -> Result<(), AllocError> {
        let area = found.area;
        debug_assert!(size <= area.mapped_bytes());
        let needed = size.div_ceil(PAGE_SIZE);
        let shrinkable = gfp.has_io_fs() && !area.flags.contains(AreaFlags::USER);
        let pages = if shrinkable {
            needed.min(area.pages)
        } else {
            area.pages
        };
        if gfp.wants_zero() {
            // What a later growth within these pages shows, and what this one does.
            let from = area.size.min(size);
            // SAFETY: [INV-VM-2] the bytes are mapped; the caller gave up those behind `size`, and
            // never had those behind the old size.
            unsafe { ptr.add(from).write_bytes(0, pages * PAGE_SIZE - from) };
        }
        if pages == area.pages {
            self.with_space(|space| space.update(found.node, Area { size, ..area }))?;
            return Ok(());
        }
        // Out of sight while its tail goes, so that a wrong free meanwhile finds no area.
        self.with_space(|space| space.hide(found.node))?;
        let kept = Area {
            pages,
            size,
            ..area
        };
        // SAFETY: [INV-VM-2] the tail is mapped and the caller gave it up. Its addresses stay the
        // area's until it is freed and flushed, so no mapping takes their place (V17).
        unsafe {
            self.platform()
                .unmap(ptr.add(pages * PAGE_SIZE), area.pages - pages)
        };
        self.release_frames(&area, pages..area.pages);
        self.with_space(|space| space.publish(found.node, kept))?;
        Ok(())
    }
}

fn user(area: &Area) -> AreaFlags {
    if area.flags.contains(AreaFlags::USER) {
        AreaFlags::USER
    } else {
        AreaFlags::NONE
    }
}

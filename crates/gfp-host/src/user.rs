//! User space of a machine in a process: the process itself, but for the machine's own memory. And
//! the constants of the program, which nobody writes.

use crate::platform::HostPlatform;
use crate::raw::call;
use core::ptr::NonNull;
use gfp::frame::PAGE_SIZE;
use gfp::platform::{Paging, UserAddr, UserMemory};

/// True if the byte lies in a segment of the program that is mapped without the right to write.
/// Libraries that it loads are not looked at: they may go.
pub(crate) fn in_constants(addr: usize) -> bool {
    // SAFETY: no argument is a pointer.
    let (table, n) = unsafe {
        (
            libc::getauxval(libc::AT_PHDR),
            libc::getauxval(libc::AT_PHNUM),
        )
    };
    let first = core::ptr::with_exposed_provenance::<libc::Elf64_Phdr>(table as usize);
    if first.is_null() || !cfg!(target_pointer_width = "64") {
        return false;
    }
    // SAFETY: the kernel says that the program's headers are there; they are mapped as long as the
    // program runs, and constant.
    let headers = unsafe { core::slice::from_raw_parts(first, n as usize) };
    let of = |kind| headers.iter().filter(move |header| header.p_type == kind);
    let Some(itself) = of(libc::PT_PHDR).next() else {
        return false;
    };
    let base = (table as usize).wrapping_sub(itself.p_vaddr as usize);
    of(libc::PT_LOAD).any(|segment| {
        let start = base.wrapping_add(segment.p_vaddr as usize);
        let inside = addr.wrapping_sub(start) < segment.p_memsz as usize;
        inside && segment.p_flags & libc::PF_W == 0
    })
}

/// Which way bytes go.
#[derive(Copy, Clone)]
enum Way {
    Read,
    Write,
}

/// Copies between memory of ours and addresses that may have none, by a system call that answers
/// where an access would fault. Returns how many bytes at the end were not copied.
///
/// # Safety
/// `n` bytes at `ours` may be read, and written if the way is to read from there. Those at `user`
/// are nobody's that the copy could surprise.
unsafe fn transfer(way: Way, ours: usize, user: usize, n: usize) -> usize {
    let nr = match way {
        Way::Read => libc::SYS_process_vm_readv,
        Way::Write => libc::SYS_process_vm_writev,
    };
    // SAFETY: it changes nothing.
    let Ok(pid) = (unsafe { call(libc::SYS_getpid, [0; 6]) }) else {
        return n;
    };
    let mut done = 0;
    while done < n {
        // A piece that ends with a page: where one fails, what is before it was copied.
        let to_end = PAGE_SIZE - user.wrapping_add(done) % PAGE_SIZE;
        let len = to_end.min(n - done);
        let [local, remote] = [ours + done, user.wrapping_add(done)].map(|at| libc::iovec {
            iov_base: core::ptr::with_exposed_provenance_mut(at),
            iov_len: len,
        });
        let (local, remote) = (&raw const local, &raw const remote);
        // SAFETY: the caller's promise; the kernel checks both ranges.
        let copied = unsafe { call(nr, [pid, local.addr(), 1, remote.addr(), 1, 0]) };
        match copied {
            Ok(copied) if copied == len => done += len,
            Ok(copied) => return n - done - copied,
            Err(_) => return n - done,
        }
    }
    0
}

impl HostPlatform {
    /// True if all of it lies outside of the machine's RAM and vmalloc window.
    fn is_user(&self, user: UserAddr, n: usize) -> bool {
        let Some(end) = user.0.checked_add(n) else {
            return false;
        };
        let (window, len) = self.vmalloc_range();
        let own = [
            (self.ram().start().addr().get(), self.size()),
            (window.addr().get(), len),
        ];
        own.iter()
            .all(|(start, len)| end <= *start || user.0 >= start + len)
    }
}

// SAFETY: the system calls write to the addresses named only, and the machine's own memory is left
// out; what was not copied is counted from the end.
unsafe impl UserMemory for HostPlatform {
    unsafe fn read_user(&self, to: NonNull<u8>, from: UserAddr, n: usize) -> usize {
        if !self.is_user(from, n) {
            return n;
        }
        // SAFETY: the caller's promise; memory of the process is only read.
        unsafe { transfer(Way::Read, to.as_ptr().expose_provenance(), from.0, n) }
    }

    unsafe fn write_user(&self, to: UserAddr, from: NonNull<u8>, n: usize) -> usize {
        if !self.is_user(to, n) {
            return n;
        }
        // SAFETY: the caller's promise; what the process gave as its buffer is for it to know.
        unsafe { transfer(Way::Write, from.as_ptr().expose_provenance(), to.0, n) }
    }
}

//! Page faults: what was wrong with an access, and whose memory was missed.
//!
//! 1. [`Fault::of`] looks at the address, the error code and the tables, and asks the library about
//!    addresses of its window: guard pages and freed areas are told with their owners.
//! 2. An access by [`try_read`] and its kind is told its fault and goes on; any other is told to
//!    the console, and is fatal.
//! 3. A fault inside the allocator is told without asking it.

use super::{OWN, VMALLOC, VMALLOC_BYTES, direct, table};
use crate::arch::traps::Frame;
use crate::arch::{DIRECT_MAP, KBASE, cpu};
use crate::memory;
use core::arch::global_asm;
use core::fmt;
use gfp::frame::PAGE_SIZE;
use gfp::vmalloc::{AddressUse, AreaOwner, FreedArea};

global_asm!(include_str!("fault.s"));

/// What was tried.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// Execution.
    Execute,
}

/// What stands at an address where something may not be done.
#[derive(Copy, Clone, Debug)]
pub enum Place {
    /// The kernel's code.
    Text,
    /// The kernel's constants.
    ReadOnlyData,
    /// The kernel's variables.
    Data,
    /// An area in use.
    Area(AreaOwner),
    /// Memory, seen through the direct map.
    DirectMap,
    /// What the kernel maps itself.
    Own,
}

/// What was wrong.
#[derive(Copy, Clone, Debug)]
pub enum Cause {
    /// The first page: a null pointer, or a field behind one.
    Null,
    /// The guard page behind an area: somebody ran over its end.
    Guard(AreaOwner),
    /// The stack pointer left the stack that is this area.
    StackOverflow(AreaOwner),
    /// The stack that the first CPU boots on, and idles on, is full.
    BootStack,
    /// An area that was freed.
    Freed(FreedArea),
    /// An area that is being made or resized.
    Changing,
    /// An address of the window that is nobody's.
    Unused,
    /// An address of the window; the allocator could not be asked.
    InAllocator,
    /// Behind the end of memory.
    DirectMapHole,
    /// A store to what can only be read.
    ReadOnly(Place),
    /// Execution of what is data.
    NotExecutable(Place),
    /// An entry of the page tables is corrupted.
    BadEntry,
    /// Anything else.
    Wild,
}

/// A page fault.
#[derive(Copy, Clone, Debug)]
pub struct Fault {
    /// The address.
    pub addr: usize,
    /// What was tried.
    pub access: Access,
    /// What was wrong.
    pub cause: Cause,
}

/// Bits of the error code: the page is there; a store; a broken entry; execution.
const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const RESERVED: u64 = 1 << 3;
const FETCH: u64 = 1 << 4;

impl Fault {
    /// The fault that a frame is about. `addr` is what CR2 said.
    pub fn of(addr: usize, frame: &Frame) -> Fault {
        let access = match frame.error {
            error if error & FETCH != 0 => Access::Execute,
            error if error & WRITE != 0 => Access::Write,
            _ => Access::Read,
        };
        let cause = match frame.error {
            error if error & RESERVED != 0 => Cause::BadEntry,
            error if error & PRESENT != 0 => forbidden(addr, access),
            _ => missing(addr, frame.rsp as usize),
        };
        Fault {
            addr,
            access,
            cause,
        }
    }
}

/// A page is there, but not for this.
fn forbidden(addr: usize, access: Access) -> Cause {
    let place = match addr {
        KBASE.. => direct::part_of_image(addr),
        OWN.. => Place::Own,
        VMALLOC.. => match address_use(addr) {
            Some(AddressUse::Mapped(owner)) => Place::Area(owner),
            _ => return Cause::InAllocator,
        },
        DIRECT_MAP.. => Place::DirectMap,
        _ => return Cause::Wild,
    };
    match access {
        Access::Execute => Cause::NotExecutable(place),
        Access::Write => Cause::ReadOnly(place),
        Access::Read => Cause::Wild,
    }
}

/// Nothing is there.
fn missing(addr: usize, stack_pointer: usize) -> Cause {
    const PAGE: usize = PAGE_SIZE;
    match addr {
        ..PAGE => Cause::Null,
        VMALLOC.. if addr - VMALLOC < VMALLOC_BYTES => {
            if let Some(owner) = overflowed_stack(addr, stack_pointer) {
                return Cause::StackOverflow(owner);
            }
            match address_use(addr) {
                Some(AddressUse::Guard(owner)) => Cause::Guard(owner),
                Some(AddressUse::Freed(area)) => Cause::Freed(area),
                Some(AddressUse::Changing | AddressUse::Mapped(_)) => Cause::Changing,
                Some(AddressUse::Nothing) => Cause::Unused,
                None => Cause::InAllocator,
            }
        }
        DIRECT_MAP..VMALLOC => Cause::DirectMapHole,
        _ if direct::boot_stack_guard().contains(&addr) => Cause::BootStack,
        _ => Cause::Wild,
    }
}

fn address_use(addr: usize) -> Option<AddressUse> {
    memory::try_mm()?.address_use(addr).ok()
}

/// The area whose start is the next page, if the access is one of the stack: the page below a stack
/// is never mapped, since it is the guard page of another area, or nobody's.
fn overflowed_stack(addr: usize, stack_pointer: usize) -> Option<AreaOwner> {
    let above = (addr / PAGE_SIZE + 1) * PAGE_SIZE;
    if addr.abs_diff(stack_pointer) > PAGE_SIZE {
        return None;
    }
    match address_use(above)? {
        AddressUse::Mapped(owner) if owner.start == above => Some(owner),
        _ => None,
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = match self.access {
            Access::Read => "read of",
            Access::Write => "write to",
            Access::Execute => "execution of",
        };
        write!(f, "{access} {:#x}: {}", self.addr, self.cause)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Null => f.write_str("null pointer"),
            Cause::Guard(owner) => write!(f, "guard page behind {}", Shown(owner)),
            Cause::StackOverflow(owner) => write!(f, "overflow of the stack in {}", Shown(owner)),
            Cause::BootStack => f.write_str("overflow of the boot stack"),
            Cause::Freed(area) => write!(
                f,
                "use after vfree of {}, freed by {}",
                Shown(&area.owner),
                area.freed_by
            ),
            Cause::Changing => f.write_str("an area that is being made or resized"),
            Cause::Unused => f.write_str("an address of vmalloc that is nobody's"),
            Cause::InAllocator => f.write_str("an address of vmalloc, missed by the allocator"),
            Cause::DirectMapHole => f.write_str("behind the end of memory"),
            Cause::ReadOnly(place) => write!(f, "{place} can only be read"),
            Cause::NotExecutable(place) => write!(f, "{place} is no code"),
            Cause::BadEntry => f.write_str("an entry of the page tables is corrupted"),
            Cause::Wild => f.write_str("wild access"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Text => f.write_str("the kernel's text"),
            Place::ReadOnlyData => f.write_str("the kernel's read-only data"),
            Place::Data => f.write_str("the kernel's data"),
            Place::Area(owner) => Shown(owner).fmt(f),
            Place::DirectMap => f.write_str("memory in the direct map"),
            Place::Own => f.write_str("a mapping of the kernel's own"),
        }
    }
}

struct Shown<'a>(&'a AreaOwner);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AreaOwner {
            start,
            size,
            caller,
        } = self.0;
        write!(
            f,
            "vmalloc area {start:#x} of {size} bytes, allocated by {caller}"
        )
    }
}

unsafe extern "C" {
    fn fault_read(addr: usize, value: &mut u8, told: usize) -> u32;
    fn fault_write(addr: usize, value: u8, told: usize) -> u32;
    fn fault_call(addr: usize, unused: usize, told: usize) -> u32;
    fn fault_push(stack_pointer: usize, unused: usize, told: usize) -> u32;
    static fault_called: u8;
    static fault_pushed: u8;
    static fault_push_failed: u8;
    static fault_failed: u8;
}

/// Handles a page fault: `None` if the access was one of those below, which is told; else what is
/// wrong. Called by the gate, with interrupts off.
pub(crate) fn handle(frame: &mut Frame) -> Option<Fault> {
    let fault = Fault::of(cpu::read_cr2(), frame);
    let go_on = match frame.rip as usize {
        at if at == fault_read as *const () as usize => &raw const fault_failed,
        at if at == fault_write as *const () as usize => &raw const fault_failed,
        at if at == (&raw const fault_pushed).addr() => &raw const fault_push_failed,
        _ if was_called(&fault, frame) => {
            frame.rsp += 16; // the return address, and what `fault_call` took
            &raw const fault_failed
        }
        _ => return Some(fault),
    };
    let told = core::ptr::with_exposed_provenance_mut::<Option<Fault>>(frame.rdx as usize);
    // SAFETY: [INV-PAGING-2] at these instructions rdx holds the reference that the function was
    // given, and its caller waits.
    unsafe { told.write(Some(fault)) };
    frame.rip = go_on.addr() as u64;
    None
}

/// True if the fault is the first step of what `fault_call` called.
fn was_called(fault: &Fault, frame: &Frame) -> bool {
    let at = frame.rsp as usize;
    if fault.access != Access::Execute
        || frame.rip as usize != fault.addr
        || at < DIRECT_MAP
        || !at.is_multiple_of(8)
        || table::walk(at).is_none()
    {
        return false;
    }
    let word = core::ptr::with_exposed_provenance::<usize>(at);
    // SAFETY: [INV-PAGING-2] the interrupted stack is mapped here, and waits.
    unsafe { word.read() == (&raw const fault_called).addr() }
}

/// Where the handler leaves what it found.
struct Told(Option<Fault>);

impl Told {
    fn at(&mut self) -> usize {
        (&raw mut self.0).expose_provenance()
    }
}

fn result<T>(value: T, failed: u32, told: Told) -> Result<T, Fault> {
    match told.0 {
        Some(fault) => Err(fault),
        None => {
            debug_assert_eq!(failed, 0);
            Ok(value)
        }
    }
}

/// Reads a byte, if that can be done.
///
/// # Errors
/// What was wrong.
///
/// # Safety
/// No register of a device that a read changes stands there.
pub unsafe fn try_read(addr: usize) -> Result<u8, Fault> {
    let (mut value, mut told) = (0, Told(None));
    // SAFETY: [INV-PAGING-2] a fault is told; what is read is only looked at.
    let failed = unsafe { fault_read(addr, &mut value, told.at()) };
    result(value, failed, told)
}

/// Writes a byte, if that can be done.
///
/// # Errors
/// What was wrong.
///
/// # Safety
/// If it can be written, the byte is the caller's.
pub unsafe fn try_write(addr: usize, value: u8) -> Result<(), Fault> {
    let mut told = Told(None);
    // SAFETY: [INV-PAGING-2] a fault is told; the rest is promised by the caller.
    let failed = unsafe { fault_write(addr, value, told.at()) };
    result((), failed, told)
}

/// Calls what stands at an address, if that can be done.
///
/// # Errors
/// What was wrong with its first step.
///
/// # Safety
/// If it can be executed, it is a function without arguments that may be called.
pub unsafe fn try_call(addr: usize) -> Result<(), Fault> {
    let mut told = Told(None);
    // SAFETY: [INV-PAGING-2] a fault is told; the rest is promised by the caller.
    let failed = unsafe { fault_call(addr, 0, told.at()) };
    result((), failed, told)
}

/// Pushes a word to a stack, if that can be done.
///
/// # Errors
/// What was wrong.
///
/// # Safety
/// If they can be written, the 8 bytes below `stack_pointer` are the caller's.
pub unsafe fn try_push(stack_pointer: usize) -> Result<(), Fault> {
    let mut told = Told(None);
    // SAFETY: [INV-PAGING-2] as `try_write`; interrupts are off while the stack is another.
    let failed = unsafe { fault_push(stack_pointer, 0, told.at()) };
    result((), failed, told)
}

//! The other CPUs: starting them, and messages between CPUs.
//!
//! A message is one interrupt ([`apic::MESSAGE`]) and a word of bits, one a reason. What a reason
//! does is said by who owns it: the allocator's place is asked for (`platform`), mappings are to be
//! forgotten (`paging`), the scheduler has work.

use super::percpu::{self, PerCpu};
use super::{apic, phys_to_ptr, time, traps};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use gfp::frame::{PAGE_SHIFT, PhysAddr};

unsafe extern "C" {
    static ap_trampoline: u8;
    static ap_trampoline_end: u8;
    static ap_boot_wanted: AtomicU32;
    static ap_boot_stack: AtomicU64;
    static ap_boot_percpu: AtomicU64;
    static ap_boot_entry: AtomicU64;
}

static UP: AtomicU32 = AtomicU32::new(1);

/// CPUs that run.
pub fn count() -> u32 {
    // Acquire: pairs with the Release in `ap_entry`.
    UP.load(Ordering::Acquire)
}

/// No CPU is waited for.
const NOBODY: u32 = u32::MAX;

/// How long a CPU is waited for. An emulator's CPU waits itself, for a core of a busy host.
const PATIENCE_NS: u64 = 10_000_000_000;

/// Starts one more CPU and waits until it runs. False if it did not come in time, is this one, or
/// cannot be sent to.
///
/// A CPU that comes must find its number in `ap_boot_wanted`, and takes it out: so stack and
/// `percpu` are its alone. One that is late does not find it, and stops.
///
/// # Safety
/// One caller at a time; `page` is RAM below 1 MiB that nobody uses, now or later; `percpu` is
/// valid for ever and fresh, `stack` is the end of a stack for that CPU alone.
pub unsafe fn start(
    page: PhysAddr,
    (apic_id, node): (u32, u32),
    percpu: *mut PerCpu,
    stack: *mut u8,
) -> bool {
    if !apic::can_address(apic_id) || apic_id == apic::id() {
        return false;
    }
    let from = &raw const ap_trampoline;
    let bytes = (&raw const ap_trampoline_end).addr() - from.addr();
    // The symbols stand at low addresses; the direct map shows the same bytes.
    let from = phys_to_ptr(from.addr() as u64);
    // SAFETY: promised by the caller.
    let wanted = unsafe {
        core::ptr::copy_nonoverlapping(from, phys_to_ptr(page.0), bytes);
        (*percpu).apic_id.store(apic_id, Ordering::Relaxed);
        (*percpu).node.store(node, Ordering::Relaxed);
        ap_boot_stack.store(stack.expose_provenance() as u64, Ordering::Relaxed);
        ap_boot_percpu.store(percpu.expose_provenance() as u64, Ordering::Relaxed);
        ap_boot_entry.store(ap_entry as *const () as u64, Ordering::Relaxed);
        &ap_boot_wanted
    };
    let before = count();
    // Release: pairs with the locked exchange in `ap_high`; what was written for the CPU is seen.
    wanted.store(apic_id, Ordering::Release);
    apic::send_init(apic_id);
    time::spin_us(200);
    for _ in 0..2 {
        apic::send_startup(apic_id, (page.0 >> PAGE_SHIFT) as u8);
        time::spin_us(200);
    }
    let limit = time::now_ns() + PATIENCE_NS;
    while count() == before {
        // One that took its number out will be counted: only its own steps are between.
        if time::now_ns() >= limit
            && wanted
                .compare_exchange(apic_id, NOBODY, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

extern "C" fn ap_entry(percpu: *mut PerCpu) -> ! {
    let index = count();
    // SAFETY: [INV-KERNEL-2] given by `start` for this CPU alone; it runs here for the first time.
    unsafe { PerCpu::install(percpu, index) };
    traps::load();
    apic::init();
    // Release: pairs with the Acquire in `count`.
    UP.store(index + 1, Ordering::Release);
    crate::on_cpu_up()
}

/// Why a CPU was sent a message.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Reason {
    /// The scheduler has work for it: it need only come out of its sleep.
    Wake = 1 << 0,
    /// Another CPU wants its place in the allocator.
    GiveWay = 1 << 1,
    /// Mappings are to be forgotten.
    Forget = 1 << 2,
}

static PENDING: [AtomicU32; percpu::MAX_CPUS] = [const { AtomicU32::new(0) }; percpu::MAX_CPUS];

/// Sends a message.
pub fn send(to: &PerCpu, reason: Reason) {
    // Release: pairs with the Acquire in `on_message`; what the reason is about was written before.
    let before = PENDING[to.index() as usize].fetch_or(reason as u32, Ordering::Release);
    if before & reason as u32 == 0 {
        apic::send_message(to.apic_id.load(Ordering::Relaxed));
    }
}

/// A message came: does what it is about. Called with interrupts off, on the interrupted stack.
pub fn on_message() {
    // Acquire: pairs with the Release in `send`.
    let reasons = PENDING[percpu::cpu() as usize].swap(0, Ordering::Acquire);
    if reasons & Reason::Forget as u32 != 0 {
        crate::paging::shootdown::answer();
    }
    if reasons & Reason::GiveWay as u32 != 0 {
        crate::platform::give_way();
    }
}

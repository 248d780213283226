//! What each CPU knows of itself. GS points at it, so one instruction reads a field of the CPU that
//! executes it, and no interrupt can come between finding the CPU and reading.
//!
//! [INV-KERNEL-2] While a CPU runs Rust code, GS holds the address of its own `PerCpu`, which lives
//! for ever. A field is written by its own CPU only, unless its line says otherwise; an interrupt
//! handler leaves the counters as it found them.

use super::cpu;
use core::arch::asm;
use core::marker::PhantomData;
use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering::Relaxed};
use gfp::frame::CpuId;
use gfp::platform::TaskWord;
use gfp::sync::restart::{Area, Current};
use gfp::sync::stock::Shelf;

/// CPUs that this kernel can start.
pub const MAX_CPUS: usize = 64;

/// `inside`: nobody is in the allocator on this CPU.
pub const OUTSIDE: u32 = 0;
/// `inside`: a section of this CPU exists.
pub const INSIDE: u32 = 1;
/// `inside`: another CPU took this one's place.
pub const TAKEN: u32 = 2;

/// Bytes of a slice of the fault stack: one fault inside another takes the next.
pub const FAULT_SLICE: usize = 8192;
const FAULT_SLICES: usize = 4;

/// The task state segment: only the stack table is used.
#[repr(C, packed(4))]
struct Tss {
    _reserved: u32,
    rsp: [u64; 3],
    _reserved2: u64,
    ist: [u64; 7],
    _reserved3: [u32; 3],
}

#[repr(C, align(16))]
struct Stacks {
    interrupt: [u8; 512], // 9 words: the frame leaves it at once
    fault: [u8; FAULT_SLICE * FAULT_SLICES],
    nmi: [u8; 16384],
    double_fault: [u8; 8192],
}

/// The lowest bytes of each stack: who writes there had too little room.
const MARK: [u8; 8] = *b"the end.";

impl Stacks {
    fn mark(&mut self) {
        let Stacks {
            interrupt,
            fault,
            nmi,
            double_fault,
        } = self;
        let others = [&mut interrupt[..], nmi, double_fault];
        for stack in fault.chunks_exact_mut(FAULT_SLICE).chain(others) {
            stack[..MARK.len()].copy_from_slice(&MARK);
        }
    }

    fn are_whole(&self) -> bool {
        let others = [&self.interrupt[..], &self.nmi, &self.double_fault];
        let mut all = self.fault.chunks_exact(FAULT_SLICE).chain(others);
        // SAFETY: each is larger than the mark. Volatile: a handler may be at the next byte.
        all.all(|stack| unsafe { stack.as_ptr().cast::<[u8; 8]>().read_volatile() } == MARK)
    }
}

/// One CPU.
#[repr(C, align(64))]
pub struct PerCpu {
    this: AtomicPtr<PerCpu>,
    /// Index of this CPU, from 0 in the order of their start.
    cpu: AtomicU32,
    /// [`OUTSIDE`], [`INSIDE`] or [`TAKEN`].
    inside: AtomicU32,
    /// Interrupt handlers under way.
    pub irq_depth: AtomicU32,
    /// NMI handlers under way.
    pub nmi_depth: AtomicU32,
    /// What the NMI that is being handled interrupted: `rip` and `rsp`; `rip` 0 if there is none.
    pub(super) nmi_at: [AtomicU64; 2],
    /// Reasons not to switch tasks here; bare counts, [`preempt_off`] is the guard.
    pub preempt_depth: AtomicU32,
    /// The running task should give way when it can. Others may set it.
    pub need_resched: AtomicU32,
    /// Spin locks held here that keep interrupts off.
    pub locks: AtomicU32,
    /// The running task; the scheduler's.
    pub task: AtomicPtr<u8>,
    /// The restart area of the running task; the scheduler's.
    area: AtomicPtr<Area>,
    /// What the allocator has for this CPU; null until its first use. Written in its section.
    shelf: AtomicPtr<Shelf>,
    /// The restart area of what runs here before there are tasks.
    boot_area: Area,
    /// What is true of what runs here before there are tasks.
    pub boot_word: TaskWord,
    /// The node whose memory is nearest.
    pub node: AtomicU32,
    /// The number that messages to this CPU's interrupt controller are addressed to.
    pub apic_id: AtomicU32,
    /// Interrupts taken: timer, messages, NMIs, and faults.
    pub timer_ticks: AtomicU64,
    /// NMIs taken.
    pub nmis: AtomicU64,
    /// Messages taken.
    pub messages: AtomicU64,
    tss: Tss,
    gdt: [u64; 5],
    stacks: Stacks,
}

/// Where the stubs find the entry of IST2.
pub const IST2: usize = offset_of!(PerCpu, tss) + offset_of!(Tss, ist) + 8;

/// Where sequences find the running task's area, the allocator's state, and what it has.
pub(super) const AREA: usize = offset_of!(PerCpu, area);
pub(super) const INSIDE_AT: usize = offset_of!(PerCpu, inside);
pub(super) const SHELF: usize = offset_of!(PerCpu, shelf);

static CPUS: [AtomicPtr<PerCpu>; MAX_CPUS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];

impl PerCpu {
    /// A CPU before [`PerCpu::install`].
    pub const fn new() -> PerCpu {
        PerCpu {
            this: AtomicPtr::new(core::ptr::null_mut()),
            cpu: AtomicU32::new(0),
            inside: AtomicU32::new(OUTSIDE),
            irq_depth: AtomicU32::new(0),
            nmi_depth: AtomicU32::new(0),
            nmi_at: [const { AtomicU64::new(0) }; 2],
            preempt_depth: AtomicU32::new(0),
            need_resched: AtomicU32::new(0),
            locks: AtomicU32::new(0),
            task: AtomicPtr::new(core::ptr::null_mut()),
            area: AtomicPtr::new(core::ptr::null_mut()),
            shelf: AtomicPtr::new(core::ptr::null_mut()),
            boot_area: Area::new(),
            boot_word: TaskWord::new(),
            node: AtomicU32::new(0),
            apic_id: AtomicU32::new(0),
            timer_ticks: AtomicU64::new(0),
            nmis: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            tss: Tss {
                _reserved: 0,
                rsp: [0; 3],
                _reserved2: 0,
                ist: [0; 7],
                _reserved3: [0; 3],
            },
            gdt: [0; 5],
            stacks: Stacks {
                interrupt: [0; 512],
                fault: [0; FAULT_SLICE * FAULT_SLICES],
                nmi: [0; 16384],
                double_fault: [0; 8192],
            },
        }
    }

    /// Makes the CPU that runs this the one of index `cpu`: segments, stacks of the gates, GS.
    ///
    /// # Safety
    /// Called once for each CPU, on it, with interrupts off; `at` is valid for ever and used by
    /// nobody else.
    pub unsafe fn install(at: *mut PerCpu, cpu: u32) {
        const CODE: u64 = 0x00af_9b00_0000_ffff;
        const DATA: u64 = 0x00cf_9300_0000_ffff;
        const GS_BASE: u32 = 0xc000_0101;
        // SAFETY: [INV-KERNEL-2] ours alone until GS says otherwise.
        let this = unsafe { &mut *at };
        *this.this.get_mut() = at;
        *this.cpu.get_mut() = cpu;
        let node = *this.node.get_mut();
        // SAFETY: [INV-RESTART-2] this is that CPU, and nobody uses its area yet.
        unsafe { this.boot_area.set_cpu(cpu, node) };
        *this.area.get_mut() = &raw mut this.boot_area;
        this.stacks.mark();
        let top = |stack: &[u8]| stack.as_ptr_range().end.addr() as u64;
        let stacks = &this.stacks;
        let ist = [
            top(&stacks.interrupt),
            top(&stacks.fault),
            top(&stacks.nmi),
            top(&stacks.double_fault),
            0,
            0,
            0,
        ];
        this.tss.ist = ist;
        let tss = (&raw const this.tss).addr() as u64;
        let limit = size_of::<Tss>() as u64 - 1;
        let low = limit | (tss & 0xff_ffff) << 16 | 0x89 << 40 | (tss >> 24 & 0xff) << 56;
        this.gdt = [0, CODE, DATA, low, tss >> 32];
        let gdtr: (u16, [u16; 4]) = (39, words(this.gdt.as_ptr().addr() as u64));
        // SAFETY: [INV-KERNEL-2] the table lives for ever and holds code at 8, data at 16, the TSS
        // at 24.
        unsafe {
            asm!(
                "lgdt [{gdtr}]",
                "push 8", "lea {scratch}, [rip + 2f]", "push {scratch}", "retfq", "2:",
                "mov ss, {data:x}", "mov ds, {data:x}", "mov es, {data:x}",
                "ltr {tss:x}",
                gdtr = in(reg) &Gdtr::new(gdtr.0, gdtr.1),
                scratch = out(reg) _, data = in(reg) 16, tss = in(reg) 24,
            );
            cpu::wrmsr(GS_BASE, at.addr() as u64);
        }
        // Release: pairs with the Acquire in `of`.
        CPUS[cpu as usize].store(at, core::sync::atomic::Ordering::Release);
    }

    /// Index of this CPU.
    #[inline]
    pub fn index(&self) -> u32 {
        self.cpu.load(Relaxed)
    }

    /// From now on `area` is that of the running task.
    ///
    /// # Safety
    /// [INV-KERNEL-8] For the scheduler, on this CPU with interrupts off: the area's task is about
    /// to run here, or does, and the area stays as long.
    pub unsafe fn set_area(&self, area: &Area) {
        // SAFETY: [INV-RESTART-2] the caller's promise: the area's task runs here next.
        unsafe { area.set_cpu(self.index(), self.node.load(Relaxed)) };
        // An NMI that comes now finds this CPU's number in both.
        self.area
            .store(core::ptr::from_ref(area).cast_mut(), Relaxed);
    }

    /// True if a stack pointer of this value is one of the stack of NMIs.
    pub(super) fn is_nmi_stack(&self, rsp: u64) -> bool {
        let stack = self.stacks.nmi.as_ptr_range();
        // Empty it is at its upper end; at its lower end the next stack is empty.
        (stack.start.addr() as u64) < rsp && rsp <= stack.end.addr() as u64
    }

    /// True unless somebody ran over the lower end of a gate's stack.
    pub(super) fn stacks_are_whole(&self) -> bool {
        self.stacks.are_whole()
    }

    /// Says whether somebody is in the allocator on this CPU; for the platform.
    #[inline]
    pub fn set_inside(&self, state: u32) {
        self.inside.store(state, Relaxed);
    }

    /// Says what the allocator has for this CPU, for ever; for the platform, inside its section.
    pub fn set_shelf(&self, shelf: *mut Shelf) {
        // Relaxed: sequences of this CPU come after the section.
        self.shelf.store(shelf, Relaxed);
    }

    /// What [`PerCpu::set_inside`] said.
    #[inline]
    pub fn inside(&self) -> u32 {
        self.inside.load(Relaxed)
    }
}

impl Default for PerCpu {
    fn default() -> PerCpu {
        PerCpu::new()
    }
}

#[repr(C, packed)]
struct Gdtr {
    limit: u16,
    base: [u16; 4],
}

impl Gdtr {
    fn new(limit: u16, base: [u16; 4]) -> Gdtr {
        Gdtr { limit, base }
    }
}

fn words(value: u64) -> [u16; 4] {
    [0, 16, 32, 48].map(|shift| (value >> shift) as u16)
}

/// The CPU that runs this. May be another one in the next instruction if tasks can be switched.
#[inline(always)]
pub fn this() -> &'static PerCpu {
    let at: *const PerCpu;
    // SAFETY: [INV-KERNEL-2] the first field is the address.
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) at, options(nostack, preserves_flags, readonly));
        &*at
    }
}

/// A CPU by its index; `None` if it was not started.
#[inline]
pub fn of(cpu: CpuId) -> Option<&'static PerCpu> {
    // Acquire: pairs with the Release in `install`.
    let at = CPUS
        .get(cpu.0 as usize)?
        .load(core::sync::atomic::Ordering::Acquire);
    // SAFETY: [INV-KERNEL-2] valid for ever.
    unsafe { at.as_ref() }
}

/// All CPUs that were started.
pub fn all() -> impl Iterator<Item = &'static PerCpu> {
    (0..MAX_CPUS as u32).map_while(|cpu| of(CpuId(cpu)))
}

/// Index of this CPU, in one load.
#[inline(always)]
pub fn cpu() -> u32 {
    let cpu: u32;
    // SAFETY: [INV-KERNEL-2].
    unsafe {
        asm!("mov {:e}, gs:[{}]", out(reg) cpu, const offset_of!(PerCpu, cpu),
            options(nostack, preserves_flags, readonly));
    }
    cpu
}

/// The node whose memory is nearest to this CPU, in one load.
#[inline(always)]
pub fn node() -> u32 {
    let node: u32;
    // SAFETY: [INV-KERNEL-2].
    unsafe {
        asm!("mov {:e}, gs:[{}]", out(reg) node, const offset_of!(PerCpu, node),
            options(nostack, preserves_flags, readonly));
    }
    node
}

/// The running task, in one load: the answer holds wherever the task is moved.
#[inline(always)]
pub fn task() -> *mut u8 {
    let task: *mut u8;
    // SAFETY: [INV-KERNEL-2].
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) task, const offset_of!(PerCpu, task),
            options(nostack, preserves_flags, readonly));
    }
    task
}

/// The restart area of the running task, for the entries of interrupts. With interrupts off.
#[inline(always)]
pub(super) fn area() -> &'static Area {
    let area: *const Area;
    // SAFETY: [INV-KERNEL-2], [INV-KERNEL-8].
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) area, const offset_of!(PerCpu, area),
            options(nostack, preserves_flags, readonly));
        &*area
    }
}

/// The right to run restartable sequences here: in a task, or in a handler on the area of the task
/// that it interrupted.
#[inline(always)]
pub fn restartable<'a>() -> Current<'a> {
    // SAFETY: [INV-RESTART-2] by [INV-KERNEL-8]: it is the area of the running task, whose entries
    // and switches look at it. `Current` is not `Send`, so it stays with the task.
    unsafe { Current::new(area()) }
}

/// Is somebody in the allocator on this CPU? One instruction.
#[inline(always)]
pub fn inside() -> u32 {
    let inside: u32;
    // SAFETY: [INV-KERNEL-2]. Not `readonly`: what follows must not move before it.
    unsafe {
        asm!("mov {:e}, gs:[{}]", out(reg) inside, const offset_of!(PerCpu, inside),
            options(nostack, preserves_flags));
    }
    inside
}

/// Says so.
///
/// # Safety
/// Interrupts are off, and the caller is who enters or leaves.
#[inline(always)]
pub unsafe fn set_inside<const STATE: u32>() {
    // SAFETY: [INV-KERNEL-2]. A compiler barrier: what a section does stays between its two.
    unsafe {
        asm!("mov dword ptr gs:[{}], {}", const offset_of!(PerCpu, inside), const STATE,
            options(nostack, preserves_flags));
    }
}

/// No other task runs on this CPU, and this one on no other, while the guard lives. Not `Send`:
/// the count is the CPU's.
pub struct PreemptOff(&'static PerCpu, PhantomData<*mut ()>);

/// Keeps the running task on this CPU.
pub fn preempt_off() -> PreemptOff {
    let _off = cpu::IrqOff::new();
    let this = this();
    this.preempt_depth
        .store(this.preempt_depth.load(Relaxed) + 1, Relaxed);
    PreemptOff(this, PhantomData)
}

impl PreemptOff {
    /// The CPU.
    pub fn cpu(&self) -> &'static PerCpu {
        self.0
    }
}

impl Drop for PreemptOff {
    fn drop(&mut self) {
        let off = cpu::IrqOff::new();
        let depth = &self.0.preempt_depth;
        depth.store(depth.load(Relaxed) - 1, Relaxed);
        if off.were_on() {
            crate::sched::on_interrupt_end();
        }
    }
}

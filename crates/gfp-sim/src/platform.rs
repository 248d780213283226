//! A machine in the simulator.

use crate::config::Violation;
use crate::paging::Space;
use crate::ram::Block;
use crate::sim::{Core, Sim};
use crate::world::{At, Event};
use core::marker::PhantomData;
use gfp::frame::{CpuId, NodeId, Order, PAGE_SIZE, Pfn, PhysAddr};
use gfp::page::{MemoryRegion, RegionKind};
use gfp::platform::{Context, DirectMap, Nested, Platform, Sleep, TaskWord, ThisTask};
use gfp::report::Report;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Where RAM begins: all of it is in zone Normal.
const PHYS_BASE: PhysAddr = PhysAddr(4 << 30);

thread_local! {
    /// Its address names the thread.
    static THREAD: Cell<u8> = const { Cell::new(0) };
}

fn this_thread() -> usize {
    THREAD.with(|place| std::ptr::from_ref(place).addr())
}

/// A machine of a [`Sim`]: RAM from the heap, the run's virtual CPUs.
///
/// May be used by the thread that made the run only, and panics on others.
pub struct SimPlatform {
    core: Rc<Core>,
    thread: usize,
    map: DirectMap,
    bytes: usize,
    /// Bytes behind them that can be plugged in.
    plug_bytes: usize,
    nodes: u8,
    pub(crate) space: Space,
    reports: RefCell<Vec<String>>,
    _ram: Block,
}

// SAFETY: [INV-SIM-1] every method asks for the core first, which only the thread that made it
// gets.
unsafe impl Sync for SimPlatform {}

impl SimPlatform {
    pub(crate) fn new(sim: &Sim, bytes: usize, nodes: u8, plug_bytes: usize) -> SimPlatform {
        assert!(plug_bytes.is_multiple_of(Order::MAX.bytes()));
        assert!(bytes.is_multiple_of(PAGE_SIZE) && bytes != 0);
        let largest = Order::MAX.bytes() * usize::from(nodes);
        assert!(nodes == 1 || nodes > 1 && bytes.is_multiple_of(largest));
        let ram = Block::new(bytes + plug_bytes, Order::MAX.bytes());
        SimPlatform {
            core: Rc::clone(&sim.0),
            thread: this_thread(),
            map: DirectMap::new(ram.start(), PHYS_BASE),
            bytes,
            plug_bytes,
            nodes,
            space: Space::new(),
            reports: RefCell::default(),
            _ram: ram,
        }
    }

    #[inline]
    pub(crate) fn core(&self) -> &Core {
        assert!(this_thread() == self.thread, "a run belongs to one thread");
        &self.core
    }

    /// The run that this machine is part of.
    pub fn sim(&self) -> Sim {
        self.core();
        Sim(Rc::clone(&self.core))
    }

    /// All of RAM, to boot with: one region a node, and what can be plugged into the last one.
    pub fn regions(&self) -> impl Iterator<Item = MemoryRegion> {
        let share = self.bytes as u64 / u64::from(self.nodes);
        let at = move |node: u8| PhysAddr(PHYS_BASE.0 + u64::from(node) * share);
        let region = move |node: u8| MemoryRegion {
            start: at(node),
            end: at(node + 1),
            node: NodeId(node),
            kind: RegionKind::Usable,
        };
        let (start, end) = self.plug_range();
        let plug = MemoryRegion {
            start,
            end,
            node: NodeId(self.nodes - 1),
            kind: RegionKind::Hotpluggable,
        };
        let plug = (self.plug_bytes != 0).then_some(plug);
        (0..self.nodes).map(region).chain(plug)
    }

    /// RAM that is there, and not known to the machine before it is added.
    pub fn plug_range(&self) -> (PhysAddr, PhysAddr) {
        let start = PHYS_BASE.0 + self.bytes as u64;
        (PhysAddr(start), PhysAddr(start + self.plug_bytes as u64))
    }

    /// What the library reported so far.
    pub fn reports(&self) -> Vec<String> {
        self.core();
        self.reports.borrow().clone()
    }
}

/// The right to a CPU's private state. Nobody else runs on that CPU while it lives, but NMIs.
pub struct SimSection<'a> {
    platform: &'a SimPlatform,
    target: u32,
    _cpu: PhantomData<*mut ()>,
}

impl Drop for SimSection<'_> {
    fn drop(&mut self) {
        let core = self.platform.core();
        core.point(At::Leave);
        core.world.borrow_mut().leave(self.target);
        core.point(At::Left);
    }
}

// SAFETY: (1) RAM lives as long as the value, and nobody else knows it. (2) [INV-SIM-1] `enter` and
// `try_take` begin a section only of a CPU that is outside, and `leave` ends it, on one thread, so
// all that was written is seen. A run with a `Violation` breaks this, as its maker was told. (3)
// CPUs are numbered from 0. (4) `SimSection` is not `Send`, and a task inside stays on its CPU.
unsafe impl Platform for SimPlatform {
    type Section<'a> = SimSection<'a>;

    #[inline]
    fn direct_map(&self) -> DirectMap {
        self.map
    }

    fn nr_cpus(&self) -> u32 {
        self.core().world.borrow().config.cpus
    }

    fn enter(&self) -> Result<(CpuId, SimSection<'_>), Nested> {
        let core = self.core();
        core.point(At::Enter);
        let target = core.world.borrow_mut().enter().ok_or(Nested)?;
        let section = SimSection {
            platform: self,
            target,
            _cpu: PhantomData,
        };
        core.point(At::Entered);
        Ok((CpuId(target), section))
    }

    /// As on the bare machine: from a task only; waits until the other CPU is outside.
    fn enter_remote(&self, cpu: CpuId) -> Option<SimSection<'_>> {
        let core = self.core();
        core.point(At::Remote);
        let target = cpu.0;
        {
            let mut world = core.world.borrow_mut();
            let refuse = world.config.rates.refuse_remote;
            if target >= world.config.cpus || world.fault(refuse, Event::RefuseRemote) {
                return None;
            }
        }
        if self.context() != Context::Task {
            return None;
        }
        loop {
            let mut world = core.world.borrow_mut();
            assert!(!world.is_inside(), "a place is taken from inside a section");
            // The task may have been moved to that very CPU.
            let own = world.here() == target;
            let taken = match own {
                true => world.enter().is_some(),
                false => world.try_take(target),
            };
            drop(world);
            if taken {
                break;
            }
            core.point(At::Relax);
        }
        let section = SimSection {
            platform: self,
            target,
            _cpu: PhantomData,
        };
        core.point(At::Entered);
        Some(section)
    }

    fn node(&self) -> NodeId {
        let here = self.core().world.borrow().here();
        NodeId((here % u32::from(self.nodes)) as u8)
    }

    fn context(&self) -> Context {
        let core = self.core();
        core.point(At::Context);
        core.world.borrow().context()
    }

    fn this_task(&self) -> Option<ThisTask<'_>> {
        let world = self.core().world.borrow();
        let word: *const TaskWord = Rc::as_ptr(world.word());
        // SAFETY: [INV-TASK-1] each task has its own, kept as long as the run, which this machine
        // has a share of.
        Some(unsafe { ThisTask::new(&*word) })
    }

    fn now_ns(&self) -> u64 {
        let core = self.core();
        core.point(At::Clock);
        core.world.borrow().now_ns
    }

    fn relax(&self, _spins: u32) {
        self.core().point(At::Relax);
    }

    fn step(&self) {
        self.core().point(At::Step);
    }

    fn sleep(&self) -> Option<&dyn Sleep> {
        Some(self)
    }

    fn report(&self, report: &Report<'_>) {
        self.core().point(At::Report);
        self.reports.borrow_mut().push(report.to_string());
    }

    /// Writes zeroes; others may come in between.
    fn discard(&self, first: Pfn, pages: usize) -> bool {
        self.core().point(At::Step);
        // SAFETY: the frames are free and lent to us by the caller.
        unsafe { self.map.ptr(first.phys()).write_bytes(0, pages * PAGE_SIZE) };
        self.core().point(At::Step);
        true
    }
}

impl SimPlatform {
    pub(crate) fn violates(&self, violation: Violation) -> bool {
        self.core().world.borrow().config.violation == Some(violation)
    }
}

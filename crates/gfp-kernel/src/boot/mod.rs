//! From the firmware to a machine with memory.
//!
//! 1. The entry code (`entry.s`) brings a CPU to 64 bits, with 4 GiB of direct map.
//! 2. [`tables`] reads what firmware says; the command line is understood, or the boot ends.
//! 3. The direct map grows over all memory that is there or may come.
//! 4. The library boots over what is usable.

use crate::arch::exit::{Outcome, exit};
use crate::arch::percpu::{self, MAX_CPUS};
use crate::arch::{KBASE, cpu, time};
use crate::controls::{self, Control, broken};
use crate::once::Once;
use crate::platform::Machine;
use crate::{memory, paging, println};
use core::arch::global_asm;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use firmware::Firmware;
use gfp::flags::GFP_NOWAIT;
use gfp::frame::{MAX_NODES, NodeId, PhysAddr};
use gfp::page::{BootConfig, CmaSpec, MemoryRegion, RegionKind};
use tables::acpi::CpuState;
use tables::cmdline::Command;
use tables::nodes::Nodes;
use tables::regions::{HotRange, MAX_HOT, MAX_REGIONS, Regions};
use tables::{List, Span, Survey};

pub mod dimms;
mod firmware;
#[forbid(unsafe_code)]
pub mod tables;

global_asm!(include_str!("entry.s"), options(att_syntax));
global_asm!(include_str!("symbols.s"), options(att_syntax));

/// Where the image starts.
const IMAGE_START: PhysAddr = PhysAddr(1 << 20);

unsafe extern "C" {
    static image_end: u8;
}

/// What the kernel knows when it has memory.
pub struct Options {
    /// What the command line asks for.
    pub command: Command<'static>,
    /// The nodes and the domains that they were.
    pub nodes: Nodes,
    /// Where memory may be added: the direct map shows these addresses.
    pub hot: List<HotRange, MAX_HOT>,
    /// The page in which other CPUs start.
    pub start_page: PhysAddr,
    cpus: List<(u32, u32), MAX_CPUS>,
}

impl Options {
    /// The other CPUs: number of the interrupt controller, and node.
    pub fn other_cpus(&self) -> &[(u32, u32)] {
        &self.cpus
    }
}

static OPTIONS: Once<Options> = Once::new();

/// The counter when the first allocation was done.
static FIRST_ALLOCATION: AtomicU64 = AtomicU64::new(0);

/// What [`machine`] found.
///
/// # Panics
/// Before it.
pub fn options() -> &'static Options {
    match OPTIONS.get() {
        Some(options) => options,
        None => panic!("the firmware's tables are not read yet"),
    }
}

/// Nanoseconds from the entry of the kernel to the end of its first allocation.
pub fn first_allocation_ns() -> u64 {
    time::ns_since_start(FIRST_ALLOCATION.load(Relaxed))
}

/// Reads the firmware's tables and boots the library.
///
/// # Panics
/// If there is no memory map, or the command line is not understood: there is nothing to go on
/// with.
///
/// # Safety
/// Once, on the first CPU; `start_info` is what the entry code was given.
pub unsafe fn machine(start_info: u64) -> &'static Options {
    // SAFETY: what firmware and loader left is not usable memory, so nobody writes to it.
    const TABLES: &Firmware = &unsafe { Firmware::new() };
    let survey = |top| {
        let survey = tables::survey(TABLES, PhysAddr(start_info), image(), top);
        survey.unwrap_or_else(|e| panic!("boot: {e}"))
    };
    let end = survey(PhysAddr(u64::MAX)).regions.end();
    let shown = PhysAddr(paging::direct_map_up_to(end.0));
    let survey = survey(shown);
    let command = understand(survey.command_line);
    let cpus = other_cpus(&survey);
    let config = BootConfig {
        distance: Some(remember_distances(&survey.nodes)),
        ..zones()
    };
    let config = with_area(config, command.cma_bytes);
    // SAFETY: once; the direct map shows the whole map by now; these CPUs and this one.
    let machine = unsafe { Machine::new(cpus.len() as u32 + 1) };
    let booted = memory::boot(machine, &memory_map(&survey.regions), &config);
    booted.unwrap_or_else(|e| panic!("boot: {e}"));
    match memory::mm().kmalloc(100, GFP_NOWAIT) {
        // SAFETY: freed once.
        Ok(p) => unsafe { memory::mm().kfree(p.as_ptr()) },
        Err(e) => panic!("boot: the first allocation: {e}"),
    }
    FIRST_ALLOCATION.store(cpu::rdtsc(), Relaxed);
    tell(&survey);
    let options = OPTIONS.set(Options {
        command,
        nodes: survey.nodes,
        hot: survey.regions.hot,
        start_page: survey.start_page.unwrap_or(PhysAddr(0)),
        cpus,
    });
    tell_dimms(options);
    options
}

/// What the library boots with: what is there, and where more may come.
fn memory_map(regions: &Regions) -> List<MemoryRegion, { MAX_REGIONS + MAX_HOT }> {
    let hot = regions.hot.iter().map(|range| MemoryRegion {
        start: range.span.start,
        end: range.span.end,
        node: range.node,
        kind: RegionKind::Hotpluggable,
    });
    let nothing = MemoryRegion::usable(PhysAddr(0), PhysAddr(0));
    let mut map = List::new(nothing);
    // There is room for both lists.
    let _ = regions
        .usable
        .iter()
        .copied()
        .chain(hot)
        .try_for_each(|region| map.push(region));
    map
}

/// The zones of a PC and their reserves, unless a control takes them out.
fn zones() -> BootConfig {
    let mut config = BootConfig::default();
    if broken(Control::NoDma) {
        config.dma_end = None;
    }
    if broken(Control::NoReserve) {
        config.min_free_kbytes = Some(0);
    }
    config
}

/// The name of the area that `cma=` asks for.
pub const AREA: &str = "reserved";

/// With the area that the command line asks for.
fn with_area(config: BootConfig, bytes: u64) -> BootConfig {
    match bytes {
        0 => config,
        _ => config.with_cma(CmaSpec::new(AREA, bytes)),
    }
}

/// Where the kernel itself lies.
fn image() -> Span {
    let end = (&raw const image_end).addr() - KBASE;
    Span {
        start: IMAGE_START,
        end: PhysAddr(end as u64),
    }
}

/// The command line; what `break=` names is taken out from here on.
fn understand(line: &'static str) -> Command<'static> {
    let names: [&str; Control::ALL.len()] = core::array::from_fn(|i| Control::ALL[i].name());
    let command = match Command::parse(line, &names) {
        Ok(command) => command,
        Err(e) => {
            println!("boot: refused: {e}");
            exit(Outcome::Broken)
        }
    };
    if let Some(place) = command.broken {
        controls::set(Control::ALL[place]);
    }
    command
}

/// The CPUs to start. Notes the node of this one.
fn other_cpus(survey: &Survey<'_>) -> List<(u32, u32), MAX_CPUS> {
    let own = own_apic_id();
    let mut others = List::new((0, 0));
    let may_start = survey.start_page.is_some();
    for p in survey
        .processors
        .iter()
        .filter(|p| p.cpu.state == CpuState::Enabled)
    {
        if p.cpu.apic_id == own {
            percpu::this().node.store(p.node.0.into(), Relaxed);
        } else if may_start && others.len() + 1 < MAX_CPUS {
            // One place is free.
            let _ = others.push((p.cpu.apic_id, p.node.0.into()));
        }
    }
    others
}

/// This CPU's number, before its interrupt controller is set up.
fn own_apic_id() -> u32 {
    const TOPOLOGY: u32 = 0xb;
    if cpu::cpuid(0, 0).eax >= TOPOLOGY {
        let topology = cpu::cpuid(TOPOLOGY, 0);
        if topology.ebx != 0 {
            return topology.edx;
        }
    }
    cpu::cpuid(1, 0).ebx >> 24
}

static DISTANCES: [[AtomicU8; MAX_NODES]; MAX_NODES] =
    [const { [const { AtomicU8::new(0) }; MAX_NODES] }; MAX_NODES];

/// Keeps the distances where a plain function finds them.
fn remember_distances(nodes: &Nodes) -> fn(NodeId, NodeId) -> u8 {
    for (from, row) in DISTANCES.iter().enumerate() {
        for (to, distance) in row.iter().enumerate() {
            let value = nodes.distance(NodeId(from as u8), NodeId(to as u8));
            // Relaxed: written before other CPUs start.
            distance.store(value, Relaxed);
        }
    }
    |from, to| DISTANCES[from.0 as usize][to.0 as usize].load(Relaxed)
}

/// Prints what was found.
fn tell(survey: &Survey<'_>) {
    const MIB: u64 = 1 << 20;
    for region in survey.regions.usable.iter() {
        let (start, end) = (region.start.0, region.end.0);
        println!("boot: node {} memory {start:#x}..{end:#x}", region.node.0);
    }
    for hot in survey.regions.hot.iter() {
        let (start, end) = (hot.span.start.0, hot.span.end.0);
        println!(
            "boot: node {} may get memory at {start:#x}..{end:#x}",
            hot.node.0
        );
    }
    println!(
        "boot: {} node{}; {} MiB of RAM are in use or out of reach",
        survey.nodes.count(),
        if survey.nodes.count() == 1 { "" } else { "s" },
        survey.regions.lost.div_ceil(MIB)
    );
    if survey.processors_missed > 0 {
        println!("boot: {} CPUs are too many", survey.processors_missed);
    }
}

/// Prints which memory modules wait in their slots to be added.
fn tell_dimms(options: &Options) {
    let Some(scan) = dimms::at_boot(options) else {
        return;
    };
    for dimm in scan.dimms.iter() {
        let (start, end) = (dimm.span.start.0, dimm.span.end.0);
        let node = options.nodes.of_domain(dimm.domain).0;
        println!(
            "boot: slot {} holds memory {start:#x}..{end:#x} of node {node}",
            dimm.slot
        );
    }
    if scan.refused > 0 {
        println!("boot: {} memory modules cannot be used", scan.refused);
    }
}

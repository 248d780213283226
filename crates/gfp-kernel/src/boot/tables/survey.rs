//! Everything that firmware says, read in order.

use super::acpi::{AcpiError, Cpu, Madt, MemoryAffinity, Plug, Srat, Tables};
use super::bytes::PhysRead;
use super::list::List;
use super::nodes::Nodes;
use super::pvh::{PvhError, StartInfo};
use super::regions::{Regions, Sources};
use super::span::Span;
use core::fmt;
use gfp::frame::{NodeId, PhysAddr};

/// CPUs that are kept.
pub const MAX_CPUS: usize = 64;
/// Memory ranges of SRAT that are kept; memory of later ones counts as node 0.
pub const MAX_AFFINITIES: usize = 64;
/// Ranges that are in use.
pub const MAX_TAKEN: usize = 128;
/// Where the local APIC is if no table says it.
const USUAL_APIC: PhysAddr = PhysAddr(0xfee0_0000);

/// A CPU and its node.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Processor {
    /// What MADT says.
    pub cpu: Cpu,
    /// Its node, by SRAT.
    pub node: NodeId,
}

/// What the kernel must know before it can allocate.
#[derive(Debug)]
pub struct Survey<'m> {
    /// The command line, not yet understood.
    pub command_line: &'m str,
    /// The CPUs in the order of MADT, each once. Empty without MADT: the boot CPU alone.
    pub processors: List<Processor, MAX_CPUS>,
    /// CPUs that found no place in the list.
    pub processors_missed: usize,
    /// The page in which other CPUs can start; `None`: they cannot.
    pub start_page: Option<PhysAddr>,
    /// Where each CPU sees its local APIC.
    pub local_apic: PhysAddr,
    /// The nodes.
    pub nodes: Nodes,
    /// The memory.
    pub regions: Regions,
    /// Why there is no MADT, SRAT or SLIT, in this order; to be printed, nothing more. A machine
    /// without nodes has no SRAT.
    pub without: [Option<AcpiError>; 3],
}

/// Why a machine cannot be booted.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum SurveyError {
    /// The start info is bad.
    Pvh(PvhError),
    /// More ranges are in use than can be remembered; memory in use would be given away.
    TooManyTaken,
}

impl fmt::Display for SurveyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SurveyError::Pvh(e) => e.fmt(f),
            SurveyError::TooManyTaken => {
                write!(
                    f,
                    "more than {MAX_TAKEN} ranges of memory are in use at boot"
                )
            }
        }
    }
}

impl core::error::Error for SurveyError {}

impl From<PvhError> for SurveyError {
    fn from(e: PvhError) -> SurveyError {
        SurveyError::Pvh(e)
    }
}

/// Reads all that the start info at `at` leads to. `image` is where the kernel lies, `top` the
/// first address that it cannot use.
///
/// # Errors
/// [`SurveyError`]: without a memory map nothing can be done. Bad ACPI tables are no error.
pub fn survey<'m, M: PhysRead + ?Sized>(
    memory: &'m M,
    at: PhysAddr,
    image: Span,
    top: PhysAddr,
) -> Result<Survey<'m>, SurveyError> {
    let info = StartInfo::read(memory, at)?;
    let firmware = info.memory_map(memory)?;
    let tables = info.rsdp.ok_or(AcpiError::BadRoot { at: PhysAddr(0) });
    let tables = tables.and_then(|rsdp| Tables::open(memory, rsdp));

    let mut taken = List::<_, MAX_TAKEN>::new(Span::EMPTY);
    let mut full = taken.push(image).is_err();
    info.spans(memory, |span| full |= taken.push(span).is_err())?;
    let acpi = tables.iter().flat_map(|t| t.spans());
    acpi.for_each(|span| full |= taken.push(span).is_err());
    if full {
        return Err(SurveyError::TooManyTaken);
    }

    let tables = tables.as_ref().map_err(|e| *e);
    let madt = tables.and_then(|t| t.madt());
    let srat = tables.and_then(|t| t.srat());
    let slit = tables.and_then(|t| t.slit());
    let nodes = Nodes::new(srat.as_ref().ok(), slit.as_ref().ok());
    let affinity = affinities(srat.ok());
    let sources = Sources {
        firmware: &firmware,
        affinity: &affinity,
        taken: &taken,
        nodes: &nodes,
        top,
    };
    let (processors, processors_missed) = processors(madt.ok(), srat.ok(), &nodes);
    Ok(Survey {
        command_line: info.command_line(memory)?,
        processors,
        processors_missed,
        local_apic: madt.map_or(USUAL_APIC, |m| m.local_apic()),
        start_page: sources.start_page(),
        regions: sources.regions(),
        nodes,
        without: [madt.err(), srat.err(), slit.err()],
    })
}

/// The memory ranges of SRAT, as many as there is room for.
fn affinities(srat: Option<Srat<'_>>) -> List<MemoryAffinity, MAX_AFFINITIES> {
    let mut list = List::new(MemoryAffinity {
        span: Span::EMPTY,
        domain: 0,
        plug: Plug::Fixed,
    });
    let all = srat.into_iter().flat_map(|s| s.memory());
    // The length of the list says when it is full; what comes then only loses its node.
    for range in all.take(MAX_AFFINITIES) {
        let _ = list.push(range);
    }
    list
}

/// The CPUs of MADT, each once, and the number of those that found no place.
fn processors(
    madt: Option<Madt<'_>>,
    srat: Option<Srat<'_>>,
    nodes: &Nodes,
) -> (List<Processor, MAX_CPUS>, usize) {
    let mut list = List::<Processor, MAX_CPUS>::new(Processor {
        cpu: Cpu {
            apic_id: 0,
            state: super::acpi::CpuState::Enabled,
        },
        node: NodeId(0),
    });
    let mut missed = 0;
    for cpu in madt.into_iter().flat_map(|m| m.cpus()) {
        if list.iter().any(|p| p.cpu.apic_id == cpu.apic_id) {
            continue;
        }
        let mut near = srat.into_iter().flat_map(|s| s.cpus());
        let near = near.find(|c| c.apic_id == cpu.apic_id);
        let node = near.map_or(NodeId(0), |c| nodes.of_domain(c.domain));
        missed += list.push(Processor { cpu, node }).is_err() as usize;
    }
    (list, missed)
}

//! `/proc/meminfo` (P620..P622).

use super::source::Sink;
use super::{MachineView, NodeCounter, Source, Totals, ZoneCounter};
use crate::flags::ZoneKind;
use crate::frame::PAGE_SIZE;
use core::fmt;

/// KiB in a page.
const KIB_PER_PAGE: usize = PAGE_SIZE / 1024;
/// Pages in a huge page of programs (2 MiB).
pub(super) const PAGES_PER_THP: usize = (2 << 20) / PAGE_SIZE;

/// The figures of `/proc/meminfo` that are computed rather than only summed, in pages.
#[derive(Copy, Clone, Debug)]
pub struct MemInfo {
    /// Managed pages (P622).
    pub total: usize,
    /// Free pages.
    pub free: usize,
    /// What programs could get without swapping, an estimate (P621).
    pub available: usize,
    /// Page cache without block-device buffers and swap cache.
    pub cached: usize,
    /// Reclaimable slab and other reclaimable kernel memory (P622).
    pub kreclaimable: usize,
}

impl MemInfo {
    /// Computes the figures of a machine.
    pub fn of(src: &dyn Source) -> MemInfo {
        MemInfo::compute(&Totals::of(src), &src.machine())
    }

    pub(super) fn compute(t: &Totals, machine: &MachineView) -> MemInfo {
        let free = t.zone(ZoneCounter::FreePages);
        let file_lru = sum(
            t.node(NodeCounter::ActiveFile),
            t.node(NodeCounter::InactiveFile),
        );
        let kreclaimable = sum(
            t.node(NodeCounter::SlabReclaimable),
            t.node(NodeCounter::KernelMiscReclaimable),
        );
        // P621. Half of each, or the low watermarks, are taken to be in real use.
        let spare = |pages: usize| pages - (pages / 2).min(t.low);
        let available = sum(sum(free, spare(file_lru)), spare(kreclaimable));
        MemInfo {
            total: t.managed,
            free,
            available: available.saturating_sub(t.reserve),
            cached: t
                .node(NodeCounter::FilePages)
                .saturating_sub(t.node(NodeCounter::Swapcached))
                .saturating_sub(machine.buffers),
            kreclaimable,
        }
    }
}

/// Writes `/proc/meminfo` (P620).
///
/// Beside Linux 6.18 it has `Ftrace`, `GPUActive` and `GPUReclaim`. Optional lines: `HighTotal` and
/// its three neighbours if the machine is built with zone `HighMem`; huge pages of programs, CMA
/// and unaccepted memory always; all others never, as this library does not have what they measure.
///
/// # Errors
/// Those of `w`.
pub fn meminfo(src: &dyn Source, w: &mut dyn fmt::Write) -> fmt::Result {
    let t = Totals::of(src);
    let machine = src.machine();
    let info = MemInfo::compute(&t, &machine);
    let mut out = Sink::new(w);
    lru(&t, &machine, &info, &mut out);
    if src.has_zone(ZoneKind::HighMem) {
        pages(&mut out, "HighTotal:", t.managed_high);
        pages(&mut out, "HighFree:", t.free_high);
        pages(
            &mut out,
            "LowTotal:",
            t.managed.saturating_sub(t.managed_high),
        );
        pages(&mut out, "LowFree:", info.free.saturating_sub(t.free_high));
    }
    pages(&mut out, "SwapTotal:", machine.total_swap);
    pages(&mut out, "SwapFree:", machine.free_swap);
    in_use(&t, &info, &mut out);
    kernel(&t, &machine, &mut out);
    special(&t, &machine, &mut out);
    out.finish()
}

/// From `MemTotal` to `Mlocked`.
fn lru(t: &Totals, machine: &MachineView, info: &MemInfo, out: &mut Sink<'_>) {
    let [active_anon, inactive_anon, active_file, inactive_file] = [
        NodeCounter::ActiveAnon,
        NodeCounter::InactiveAnon,
        NodeCounter::ActiveFile,
        NodeCounter::InactiveFile,
    ]
    .map(|which| t.node(which));
    pages(out, "MemTotal:", info.total);
    pages(out, "MemFree:", info.free);
    pages(out, "MemAvailable:", info.available);
    pages(out, "Buffers:", machine.buffers);
    pages(out, "Cached:", info.cached);
    pages(out, "SwapCached:", t.node(NodeCounter::Swapcached));
    pages(out, "Active:", sum(active_anon, active_file));
    pages(out, "Inactive:", sum(inactive_anon, inactive_file));
    pages(out, "Active(anon):", active_anon);
    pages(out, "Inactive(anon):", inactive_anon);
    pages(out, "Active(file):", active_file);
    pages(out, "Inactive(file):", inactive_file);
    pages(out, "Unevictable:", t.node(NodeCounter::Unevictable));
    pages(out, "Mlocked:", t.zone(ZoneCounter::Mlock));
}

/// From `Dirty` to `SUnreclaim`.
fn in_use(t: &Totals, info: &MemInfo, out: &mut Sink<'_>) {
    let reclaimable = t.node(NodeCounter::SlabReclaimable);
    let unreclaimable = t.node(NodeCounter::SlabUnreclaimable);
    pages(out, "Dirty:", t.node(NodeCounter::Dirty));
    pages(out, "Writeback:", t.node(NodeCounter::Writeback));
    pages(out, "AnonPages:", t.node(NodeCounter::AnonPages));
    pages(out, "Mapped:", t.node(NodeCounter::Mapped));
    pages(out, "Shmem:", t.node(NodeCounter::Shmem));
    pages(out, "KReclaimable:", info.kreclaimable);
    pages(out, "Slab:", sum(reclaimable, unreclaimable));
    pages(out, "SReclaimable:", reclaimable);
    pages(out, "SUnreclaim:", unreclaimable);
}

/// From `Ftrace` to `Percpu`.
fn kernel(t: &Totals, machine: &MachineView, out: &mut Sink<'_>) {
    pages(out, "Ftrace:", 0);
    kib(out, "KernelStack:", t.node(NodeCounter::KernelStackKib));
    pages(out, "PageTables:", t.node(NodeCounter::PageTablePages));
    pages(
        out,
        "SecPageTables:",
        t.node(NodeCounter::SecPageTablePages),
    );
    pages(out, "NFS_Unstable:", 0);
    pages(out, "Bounce:", 0);
    pages(out, "WritebackTmp:", 0);
    pages(out, "CommitLimit:", machine.commit_limit);
    pages(out, "Committed_AS:", machine.committed);
    pages(out, "VmallocTotal:", machine.vmalloc_total);
    pages(out, "VmallocUsed:", t.node(NodeCounter::Vmalloc));
    pages(out, "VmallocChunk:", 0);
    pages(out, "Percpu:", machine.percpu);
}

/// From `AnonHugePages` to the end.
fn special(t: &Totals, machine: &MachineView, out: &mut Sink<'_>) {
    let huge = |which| t.node(which).saturating_mul(PAGES_PER_THP);
    pages(out, "AnonHugePages:", huge(NodeCounter::AnonThps));
    pages(out, "ShmemHugePages:", huge(NodeCounter::ShmemHugepages));
    pages(out, "ShmemPmdMapped:", huge(NodeCounter::ShmemPmdmapped));
    pages(out, "FileHugePages:", huge(NodeCounter::FileHugepages));
    pages(out, "FilePmdMapped:", huge(NodeCounter::FilePmdmapped));
    pages(out, "CmaTotal:", t.cma);
    pages(out, "CmaFree:", t.zone(ZoneCounter::FreeCma));
    pages(out, "Unaccepted:", t.zone(ZoneCounter::Unaccepted));
    pages(out, "Balloon:", t.node(NodeCounter::BalloonPages));
    pages(out, "GPUActive:", 0);
    pages(out, "GPUReclaim:", 0);
    let hugetlb = &machine.hugetlb;
    for (label, number) in [
        ("HugePages_Total:", hugetlb.total),
        ("HugePages_Free:", hugetlb.free),
        ("HugePages_Rsvd:", hugetlb.reserved),
        ("HugePages_Surp:", hugetlb.surplus),
    ] {
        out.put(format_args!("{label:<16}{number:>8}\n"));
    }
    kib(out, "Hugepagesize:", hugetlb.size_kib);
    kib(
        out,
        "Hugetlb:",
        hugetlb.total.saturating_mul(hugetlb.size_kib),
    );
    let [small, large, giant] = machine.direct_map_kib;
    kib(out, "DirectMap4k:", small);
    kib(out, "DirectMap2M:", large);
    kib(out, "DirectMap1G:", giant);
}

fn sum(a: usize, b: usize) -> usize {
    a.saturating_add(b)
}

fn pages(out: &mut Sink<'_>, label: &str, pages: usize) {
    kib(out, label, pages.saturating_mul(KIB_PER_PAGE));
}

fn kib(out: &mut Sink<'_>, label: &str, kib: usize) {
    out.put(format_args!("{label:<16}{kib:>8} kB\n"));
}

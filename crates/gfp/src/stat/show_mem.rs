//! The memory report in the log, after a failed allocation or before a victim is chosen (P606).

use super::meminfo::PAGES_PER_THP;
use super::source::Sink;
use super::zones::for_each_populated;
use super::{MachineView, NodeCounter, NodeView, Source, Totals, ZoneCounter, ZoneView};
use crate::flags::{MigrateType, ZoneKind};
use crate::frame::{NR_ORDERS, NodeId, PAGE_SIZE};
use core::fmt;

/// KiB in a page.
const KIB_PER_PAGE: usize = PAGE_SIZE / 1024;

/// What a report is about: the zones that a request could have used (P601).
#[derive(Copy, Clone, Debug)]
pub struct MemFilter<'a> {
    /// These nodes, or all.
    pub nodes: Option<&'a [NodeId]>,
    /// Zones up to this kind.
    pub highest: ZoneKind,
}

impl MemFilter<'_> {
    /// All nodes and zones.
    pub const ALL: MemFilter<'static> = MemFilter {
        nodes: None,
        highest: ZoneKind::Movable,
    };

    fn wants(&self, node: NodeId) -> bool {
        self.nodes.is_none_or(|nodes| nodes.contains(&node))
    }
}

/// Writes the memory report (P606). Totals are of the whole machine, the rest is filtered.
///
/// P606 leaves the order inside the zone line unverified; it is that of the logs of Linux 6.14 to
/// 7.1. The ten largest allocation sites are not there: call sites are not counted.
///
/// # Errors
/// Those of `w`.
pub fn show_mem(src: &dyn Source, filter: &MemFilter<'_>, w: &mut dyn fmt::Write) -> fmt::Result {
    let mut out = Sink::new(w);
    let totals = Totals::of(src);
    let machine = src.machine();
    out.put(format_args!("Mem-Info:\n"));
    sums(src, &totals, &mut out);
    src.for_each_node(&mut |node| {
        if filter.wants(node.node) {
            node_line(node, &mut out);
        }
    });
    for_each_wanted(src, filter, &mut |zone| {
        zone_line(src, &machine, zone, &mut out);
    });
    for_each_wanted(src, filter, &mut |zone| free_line(zone, &mut out));
    src.for_each_node(&mut |node| {
        if filter.wants(node.node) {
            huge_line(node.node, &machine, &mut out);
        }
    });
    rest(&totals, &machine, &mut out);
    out.finish()
}

/// Shows the populated zones that a filter lets through.
fn for_each_wanted(src: &dyn Source, filter: &MemFilter<'_>, visit: &mut dyn FnMut(&ZoneView)) {
    src.for_each_node(&mut |node| {
        if filter.wants(node.node) {
            for_each_populated(src, node.node, &mut |zone| {
                if zone.kind <= filter.highest {
                    visit(zone);
                }
            });
        }
    });
}

/// The sums over the machine, in pages.
fn sums(src: &dyn Source, t: &Totals, out: &mut Sink<'_>) {
    let mut free_pcp = 0usize;
    for_each_wanted(src, &MemFilter::ALL, &mut |zone| {
        free_pcp = free_pcp.saturating_add(in_pagesets(src, zone));
    });
    let n = |which| t.node(which);
    out.put(format_args!(
        "active_anon:{} inactive_anon:{} isolated_anon:{}\n",
        n(NodeCounter::ActiveAnon),
        n(NodeCounter::InactiveAnon),
        n(NodeCounter::IsolatedAnon)
    ));
    out.put(format_args!(
        " active_file:{} inactive_file:{} isolated_file:{}\n",
        n(NodeCounter::ActiveFile),
        n(NodeCounter::InactiveFile),
        n(NodeCounter::IsolatedFile)
    ));
    out.put(format_args!(
        " unevictable:{} dirty:{} writeback:{}\n",
        n(NodeCounter::Unevictable),
        n(NodeCounter::Dirty),
        n(NodeCounter::Writeback)
    ));
    out.put(format_args!(
        " slab_reclaimable:{} slab_unreclaimable:{}\n",
        n(NodeCounter::SlabReclaimable),
        n(NodeCounter::SlabUnreclaimable)
    ));
    out.put(format_args!(
        " mapped:{} shmem:{} pagetables:{}\n",
        n(NodeCounter::Mapped),
        n(NodeCounter::Shmem),
        n(NodeCounter::PageTablePages)
    ));
    out.put(format_args!(
        " sec_pagetables:{} bounce:0\n kernel_misc_reclaimable:{}\n",
        n(NodeCounter::SecPageTablePages),
        n(NodeCounter::KernelMiscReclaimable)
    ));
    out.put(format_args!(
        " free:{} free_pcp:{free_pcp} free_cma:{}\n",
        t.zone(ZoneCounter::FreePages),
        t.zone(ZoneCounter::FreeCma)
    ));
}

fn in_pagesets(src: &dyn Source, zone: &ZoneView) -> usize {
    let mut pages = 0usize;
    src.for_each_pageset(zone.node, zone.kind, &mut |set| {
        pages = pages.saturating_add(set.count);
    });
    pages
}

fn node_line(node: &NodeView, out: &mut Sink<'_>) {
    out.put(format_args!("Node {}", node.node.0));
    for (label, which) in [
        ("active_anon:", NodeCounter::ActiveAnon),
        ("inactive_anon:", NodeCounter::InactiveAnon),
        ("active_file:", NodeCounter::ActiveFile),
        ("inactive_file:", NodeCounter::InactiveFile),
        ("unevictable:", NodeCounter::Unevictable),
        ("isolated(anon):", NodeCounter::IsolatedAnon),
        ("isolated(file):", NodeCounter::IsolatedFile),
        ("mapped:", NodeCounter::Mapped),
        ("dirty:", NodeCounter::Dirty),
        ("writeback:", NodeCounter::Writeback),
        ("shmem:", NodeCounter::Shmem),
    ] {
        out.put(format_args!(" {label}{}kB", kib(node.counter(which))));
    }
    for (label, which) in [
        ("shmem_thp:", NodeCounter::ShmemHugepages),
        ("shmem_pmdmapped:", NodeCounter::ShmemPmdmapped),
        ("anon_thp:", NodeCounter::AnonThps),
    ] {
        let pages = node.counter(which).saturating_mul(PAGES_PER_THP);
        out.put(format_args!(" {label}{}kB", kib(pages)));
    }
    out.put(format_args!(
        " writeback_tmp:0kB kernel_stack:{}kB pagetables:{}kB sec_pagetables:{}kB \
         all_unreclaimable? {}\n",
        node.counter(NodeCounter::KernelStackKib),
        kib(node.counter(NodeCounter::PageTablePages)),
        kib(node.counter(NodeCounter::SecPageTablePages)),
        if node.unreclaimable { "yes" } else { "no" }
    ));
}

fn zone_line(src: &dyn Source, machine: &MachineView, zone: &ZoneView, out: &mut Sink<'_>) {
    let mut local_pcp = 0;
    src.for_each_pageset(zone.node, zone.kind, &mut |set| {
        if set.cpu == machine.this_cpu {
            local_pcp = set.count;
        }
    });
    out.put(format_args!("Node {} {}", zone.node.0, zone.kind.name()));
    for (label, pages) in [
        ("free:", zone.free()),
        ("boost:", zone.boost),
        ("min:", zone.min.saturating_add(zone.boost)),
        ("low:", zone.low.saturating_add(zone.boost)),
        ("high:", zone.high.saturating_add(zone.boost)),
    ] {
        out.put(format_args!(" {label}{}kB", kib(pages)));
    }
    // Capital K, here and nowhere else.
    out.put(format_args!(
        " reserved_highatomic:{}KB free_highatomic:{}KB",
        kib(zone.reserved_highatomic),
        kib(zone.free_highatomic)
    ));
    for (label, pages) in [
        ("active_anon:", zone.counter(ZoneCounter::ActiveAnon)),
        ("inactive_anon:", zone.counter(ZoneCounter::InactiveAnon)),
        ("active_file:", zone.counter(ZoneCounter::ActiveFile)),
        ("inactive_file:", zone.counter(ZoneCounter::InactiveFile)),
        ("unevictable:", zone.counter(ZoneCounter::Unevictable)),
        ("writepending:", zone.counter(ZoneCounter::WritePending)),
        ("present:", zone.present),
        ("managed:", zone.managed),
        ("mlocked:", zone.counter(ZoneCounter::Mlock)),
        ("bounce:", 0),
        ("free_pcp:", in_pagesets(src, zone)),
        ("local_pcp:", local_pcp),
        ("free_cma:", zone.counter(ZoneCounter::FreeCma)),
    ] {
        out.put(format_args!(" {label}{}kB", kib(pages)));
    }
    out.put(format_args!("\nlowmem_reserve[]:"));
    for kind in ZoneKind::ALL {
        if src.has_zone(kind) {
            out.put(format_args!(" {}", zone.protection[kind.index()]));
        }
    }
    out.put(format_args!("\n"));
}

/// Free blocks by order, with the letters of the mobility types that have some.
fn free_line(zone: &ZoneView, out: &mut Sink<'_>) {
    out.put(format_args!("Node {} {}: ", zone.node.0, zone.kind.name()));
    let mut total = 0usize;
    for order in 0..NR_ORDERS {
        let blocks = zone.blocks_of_order(order);
        total = total.saturating_add(blocks.saturating_mul(kib(1 << order)));
        out.put(format_args!("{blocks}*{}kB ", kib(1 << order)));
        if blocks > 0 {
            out.put(format_args!("("));
            for kind in MigrateType::ALL {
                if zone.nr_free[order][kind.index()] > 0 {
                    out.put(format_args!("{}", kind.letter()));
                }
            }
            out.put(format_args!(") "));
        }
    }
    out.put(format_args!("= {total}kB\n"));
}

fn huge_line(node: NodeId, machine: &MachineView, out: &mut Sink<'_>) {
    // The pool is not kept by node: all of it shows on node 0.
    let pool = &machine.hugetlb;
    let share = |pages: usize| if node.0 == 0 { pages } else { 0 };
    out.put(format_args!(
        "Node {} hugepages_total={} hugepages_free={} hugepages_surp={} hugepages_size={}kB\n",
        node.0,
        share(pool.total),
        share(pool.free),
        share(pool.surplus),
        pool.size_kib
    ));
}

/// What follows the zones.
fn rest(t: &Totals, machine: &MachineView, out: &mut Sink<'_>) {
    for (pages, of) in [
        (t.node(NodeCounter::FilePages), "total pagecache pages"),
        (t.node(NodeCounter::Swapcached), "pages in swap cache"),
    ] {
        out.put(format_args!("{pages} {of}\n"));
    }
    out.put(format_args!("Free swap  = {}kB\n", kib(machine.free_swap)));
    out.put(format_args!("Total swap = {}kB\n", kib(machine.total_swap)));
    for (pages, of) in [
        (t.present, "pages RAM"),
        (t.present_high_movable, "pages HighMem/MovableOnly"),
        (t.present.saturating_sub(t.managed), "pages reserved"),
        (t.cma, "pages cma reserved"),
        (machine.hwpoisoned, "pages hwpoisoned"),
    ] {
        out.put(format_args!("{pages} {of}\n"));
    }
}

fn kib(pages: usize) -> usize {
    pages.saturating_mul(KIB_PER_PAGE)
}

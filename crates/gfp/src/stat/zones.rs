//! `/proc/buddyinfo` (P610), `/proc/pagetypeinfo` (P611) and `/proc/zoneinfo` (P612).

use super::source::Sink;
use super::{NodeCounter, NodeView, NumaEvent, Source, ZoneCounter, ZoneView};
use crate::flags::{MigrateType, ZoneKind};
use crate::frame::{NR_ORDERS, NodeId, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES};
use core::fmt;

/// Writes `/proc/buddyinfo`: free blocks of each populated zone by order (P610).
///
/// # Errors
/// Those of `w`.
pub fn buddyinfo(src: &dyn Source, w: &mut dyn fmt::Write) -> fmt::Result {
    let mut out = Sink::new(w);
    src.for_each_node(&mut |node| {
        for_each_populated(src, node.node, &mut |zone| {
            out.put(format_args!(
                "Node {}, zone {:>8} ",
                zone.node.0,
                zone.kind.name()
            ));
            for order in 0..NR_ORDERS {
                out.put(format_args!("{:>6} ", zone.blocks_of_order(order)));
            }
            out.put(format_args!("\n"));
        });
    });
    out.finish()
}

/// Where `/proc/pagetypeinfo` stops counting (P611).
const COUNT_LIMIT: usize = 100_000;

/// Writes `/proc/pagetypeinfo`: free blocks of each populated zone by mobility type and order, and
/// pageblocks by mobility type (P611). The part about mixed blocks needs page owners and is not
/// there.
///
/// # Errors
/// Those of `w`.
pub fn pagetypeinfo(src: &dyn Source, w: &mut dyn fmt::Write) -> fmt::Result {
    let mut out = Sink::new(w);
    src.for_each_node(&mut |node| {
        let mut has_memory = false;
        for_each_populated(src, node.node, &mut |_| has_memory = true);
        if !has_memory {
            return;
        }
        out.put(format_args!("Page block order: {PAGEBLOCK_ORDER}\n"));
        out.put(format_args!("Pages per block:  {PAGEBLOCK_PAGES}\n\n"));
        free_by_type(src, node.node, &mut out);
        blocks_by_type(src, node.node, &mut out);
    });
    out.finish()
}

fn free_by_type(src: &dyn Source, node: NodeId, out: &mut Sink<'_>) {
    out.put(format_args!(
        "{:<43} ",
        "Free pages count per migrate type at order"
    ));
    for order in 0..NR_ORDERS {
        out.put(format_args!("{order:>6} "));
    }
    out.put(format_args!("\n"));
    for_each_populated(src, node, &mut |zone| {
        for kind in MigrateType::ALL {
            out.put(format_args!(
                "Node {:>4}, zone {:>8}, type {:>12} ",
                zone.node.0,
                zone.kind.name(),
                kind.name()
            ));
            for row in &zone.nr_free {
                let blocks = row[kind.index()];
                let stopped = if blocks >= COUNT_LIMIT { ">" } else { "" };
                out.put(format_args!("{stopped}{:>6} ", blocks.min(COUNT_LIMIT)));
            }
            out.put(format_args!("\n"));
        }
    });
}

fn blocks_by_type(src: &dyn Source, node: NodeId, out: &mut Sink<'_>) {
    out.put(format_args!("\n{:<23}", "Number of blocks type "));
    for kind in MigrateType::ALL {
        out.put(format_args!("{:>12} ", kind.name()));
    }
    out.put(format_args!("\n"));
    for_each_populated(src, node, &mut |zone| {
        out.put(format_args!(
            "Node {}, zone {:>8} ",
            zone.node.0,
            zone.kind.name()
        ));
        for blocks in zone.blocks_by_type {
            out.put(format_args!("{blocks:>12} "));
        }
        out.put(format_args!("\n"));
    });
}

/// Writes `/proc/zoneinfo`: each zone of each node, empty ones too (P612).
///
/// Beside Linux 6.18 it has the counters `nr_unaccepted` and `nr_vmalloc` and the closing lines
/// `reserved_highatomic` and `free_highatomic`.
///
/// # Errors
/// Those of `w`.
pub fn zoneinfo(src: &dyn Source, w: &mut dyn fmt::Write) -> fmt::Result {
    let mut out = Sink::new(w);
    src.for_each_node(&mut |node| {
        let mut node_stats_due = true;
        for_each_built(src, node.node, &mut |zone| {
            out.put(format_args!(
                "Node {}, zone {:>8}\n",
                zone.node.0,
                zone.kind.name()
            ));
            if zone.populated() && node_stats_due {
                node_stats_due = false;
                node_stats(node, &mut out);
            }
            sizes(src, zone, &mut out);
            if zone.populated() {
                zone_stats(zone, &mut out);
                pagesets(src, zone, &mut out);
                closing(node, zone, &mut out);
            }
        });
    });
    out.finish()
}

fn node_stats(node: &NodeView, out: &mut Sink<'_>) {
    out.put(format_args!("  per-node stats\n"));
    for which in NodeCounter::ALL {
        out.put(format_args!(
            "      {:<12} {}\n",
            which.name(),
            node.counter(which)
        ));
    }
}

/// The lines that every zone has. Watermarks contain the boost (P215, P612).
fn sizes(src: &dyn Source, zone: &ZoneView, out: &mut Sink<'_>) {
    out.put(format_args!("  pages free     {}\n", zone.free()));
    for (label, pages) in [
        ("boost", zone.boost),
        ("min", zone.min.saturating_add(zone.boost)),
        ("low", zone.low.saturating_add(zone.boost)),
        ("high", zone.high.saturating_add(zone.boost)),
        ("promo", zone.promo.saturating_add(zone.boost)),
        ("spanned", zone.spanned),
        ("present", zone.present),
        ("managed", zone.managed),
        ("cma", zone.cma),
    ] {
        out.put(format_args!("        {label:<8} {pages}\n"));
    }
    out.put(format_args!("        protection: ("));
    let mut separator = "";
    for kind in ZoneKind::ALL {
        if src.has_zone(kind) {
            out.put(format_args!("{separator}{}", zone.protection[kind.index()]));
            separator = ", ";
        }
    }
    out.put(format_args!(")\n"));
}

fn zone_stats(zone: &ZoneView, out: &mut Sink<'_>) {
    for which in ZoneCounter::ALL {
        out.put(format_args!(
            "      {:<12} {}\n",
            which.name(),
            zone.counter(which)
        ));
    }
    for which in NumaEvent::ALL {
        out.put(format_args!(
            "      {:<12} {}\n",
            which.name(),
            zone.numa.get(which)
        ));
    }
}

fn pagesets(src: &dyn Source, zone: &ZoneView, out: &mut Sink<'_>) {
    out.put(format_args!("  pagesets\n"));
    src.for_each_pageset(zone.node, zone.kind, &mut |set| {
        out.put(format_args!("    cpu: {}\n", set.cpu.0));
        for (label, value) in [
            ("count:", set.count),
            ("high:", set.high),
            ("batch:", set.batch),
            ("high_min:", set.high_min),
            ("high_max:", set.high_max),
        ] {
            out.put(format_args!("              {label:<9} {value}\n"));
        }
        out.put(format_args!(
            "  vm stats threshold: {}\n",
            set.stat_threshold
        ));
    });
}

fn closing(node: &NodeView, zone: &ZoneView, out: &mut Sink<'_>) {
    for (label, value) in [
        ("node_unreclaimable:", usize::from(node.unreclaimable)),
        ("start_pfn:", zone.start_pfn),
        ("reserved_highatomic:", zone.reserved_highatomic),
        ("free_highatomic:", zone.free_highatomic),
    ] {
        out.put(format_args!("  {label:<20} {value}\n"));
    }
}

/// Shows the zones of a node that have memory.
pub(super) fn for_each_populated(src: &dyn Source, node: NodeId, visit: &mut dyn FnMut(&ZoneView)) {
    src.for_each_zone(node, &mut |zone| {
        if zone.populated() {
            visit(zone);
        }
    });
}

/// Shows all zones of a node that the machine is built with, in order: an empty one for each kind
/// that the source does not show. A zone that the source does show is never left out.
fn for_each_built(src: &dyn Source, node: NodeId, visit: &mut dyn FnMut(&ZoneView)) {
    let mut next = 0;
    let fill = |from: usize, to: usize, visit: &mut dyn FnMut(&ZoneView)| {
        for kind in ZoneKind::ALL.into_iter().take(to).skip(from) {
            if src.has_zone(kind) {
                visit(&ZoneView::empty(node, kind));
            }
        }
    };
    src.for_each_zone(node, &mut |zone| {
        debug_assert!(next <= zone.kind.index(), "zones must ascend");
        fill(next, zone.kind.index(), visit);
        visit(zone);
        next = zone.kind.index() + 1;
    });
    fill(next, ZoneKind::COUNT, visit);
}

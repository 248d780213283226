//! `/proc/slabinfo` (D13) and `/proc/vmallocinfo` (V28).

use super::source::Sink;
use super::{AreaFlags, AreaState, AreaView, Source};
use core::fmt;

/// Writes `/proc/slabinfo`, version 2.1 (D13). Objects in per-CPU caches count as active, as in
/// Linux (W9); tunables and shared counts do not exist and print as 0.
///
/// # Errors
/// Those of `w`.
pub fn slabinfo(src: &dyn Source, w: &mut dyn fmt::Write) -> fmt::Result {
    let mut out = Sink::new(w);
    out.put(format_args!("slabinfo - version: 2.1\n"));
    out.put(format_args!(
        "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> \
         : tunables <limit> <batchcount> <sharedfactor> \
         : slabdata <active_slabs> <num_slabs> <sharedavail>\n"
    ));
    src.for_each_cache(&mut |c| {
        out.put(format_args!(
            "{:<17} {:>6} {:>6} {:>6} {:>4} {:>4}",
            c.name, c.active_objs, c.num_objs, c.stride, c.objs_per_slab, c.pages_per_slab
        ));
        out.put(format_args!(" : tunables {:>4} {:>4} {:>4}", 0, 0, 0));
        out.put(format_args!(
            " : slabdata {:>6} {:>6} {:>6}\n",
            c.num_slabs, c.num_slabs, 0
        ));
    });
    out.finish()
}

/// Hexadecimal digits of an address.
const ADDR_DIGITS: usize = 2 * size_of::<usize>();

/// Writes `/proc/vmallocinfo` (V28). Addresses are printed as they are, not hashed.
///
/// # Errors
/// Those of `w`.
pub fn vmallocinfo(src: &dyn Source, w: &mut dyn fmt::Write) -> fmt::Result {
    let mut out = Sink::new(w);
    src.for_each_area(&mut |area| {
        let end = area.start.saturating_add(area.size);
        out.put(format_args!(
            "0x{:0width$x}-0x{:0width$x} {:>7}",
            area.start,
            end,
            area.size,
            width = ADDR_DIGITS
        ));
        match area.state {
            AreaState::Busy => busy(area, &mut out),
            AreaState::MapRam => out.put(format_args!(" vm_map_ram")),
            AreaState::Unpurged => out.put(format_args!(" unpurged vm_area")),
        }
        out.put(format_args!("\n"));
    });
    out.finish()
}

/// The optional fields of a busy area, each with its leading blank.
fn busy(area: &AreaView<'_>, out: &mut Sink<'_>) {
    if let Some(caller) = area.caller {
        out.put(format_args!(" {caller}"));
    }
    if area.nr_pages > 0 {
        out.put(format_args!(" pages={}", area.nr_pages));
    }
    if let Some(phys) = area.phys {
        out.put(format_args!(" phys=0x{:016x}", phys.0));
    }
    for (flag, word) in AreaFlags::WORDS {
        if area.flags.contains(flag) {
            out.put(format_args!(" {word}"));
        }
    }
    for (node, pages) in area.node_pages.iter().enumerate() {
        if *pages > 0 {
            out.put(format_args!(" N{node}={pages}"));
        }
    }
}

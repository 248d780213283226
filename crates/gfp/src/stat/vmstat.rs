//! `/proc/vmstat` (P613).

use super::source::Sink;
use super::{NodeCounter, NumaEvent, Source, Totals, VmEvent, ZoneCounter};
use core::fmt;

/// Writes `/proc/vmstat`: one `name value` a line (P613).
///
/// Beside Linux 6.18 it has `nr_unaccepted`, `nr_vmalloc` and `cma_alloc_*` (P614, P616, P617), and
/// it does not have the x86 lines `direct_map_*`.
///
/// # Errors
/// Those of `w`.
pub fn vmstat(src: &dyn Source, w: &mut dyn fmt::Write) -> fmt::Result {
    let totals = Totals::of(src);
    let machine = src.machine();
    let events = src.vm_events();
    let mut out = Sink::new(w);
    for which in ZoneCounter::ALL {
        out.put(format_args!("{} {}\n", which.name(), totals.zone(which)));
    }
    for which in NumaEvent::ALL {
        out.put(format_args!(
            "{} {}\n",
            which.name(),
            totals.numa.get(which)
        ));
    }
    for which in NodeCounter::ALL {
        out.put(format_args!("{} {}\n", which.name(), totals.node(which)));
    }
    for (name, value) in [
        ("nr_dirty_threshold", machine.dirty_threshold),
        (
            "nr_dirty_background_threshold",
            machine.dirty_background_threshold,
        ),
        ("nr_memmap_pages", machine.memmap),
        ("nr_memmap_boot_pages", machine.memmap_boot),
    ] {
        out.put(format_args!("{name} {value}\n"));
    }
    for which in VmEvent::ALL {
        if which.zone().is_none_or(|kind| src.has_zone(kind)) {
            out.put(format_args!("{} {}\n", which.name(), events.get(which)));
        }
    }
    out.put(format_args!("nr_unstable 0\n"));
    out.finish()
}

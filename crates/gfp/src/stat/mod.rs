//! Statistics: what the machine's memory looks like, as text that existing tools can read.
//!
//! 1. **Concepts.** A *view* is a plain copy of the numbers of one thing (a zone, a node, a cache,
//!    an area) at about one moment. A [`Source`] shows its views to visitors. A *writer* turns
//!    views into one of Linux's `/proc` files; [`View`] names the files, so that a loop can write
//!    all of them.
//! 2. **Structure.** `counters` holds the named counters in printing order, `view` the views,
//!    `source` the trait, `totals` sums over zones and nodes; `zones`, `extfrag`, `vmstat`,
//!    `meminfo`, `objects`, `pressure` and `show_mem` hold the writers, one for each format.
//!    Nothing here allocates; text goes to any [`core::fmt::Write`].
//! 3. **Formats.** Pages.md P610..P623, P680 and objects.md D13, V28 are the contract, byte for
//!    byte; the golden files in `golden/` hold it. Where the spec lists fields that a Linux of this
//!    age does not print, or the other way round, the spec wins; those fields are named at their
//!    writers.
//! 4. **Which lines there are.** Lines for machinery that this library does not have (swap cache,
//!    huge pages of programs) are printed with 0, because tools look for them. Lines that Linux
//!    prints only in some builds (in brackets in P620) are left out unless the machine has the
//!    thing. Zone kinds are the same: [`Source::has_zone`] says which kinds the machine is built
//!    with. There is no zone `Device`: no memory of that kind is ever managed here; its events
//!    print as 0.
//! 5. **Locking.** None here. A source takes what locks it needs to fill one view and drops them
//!    before it shows the view; numbers of different views, and of different columns of one view,
//!    need not belong to the same moment (P610, P611).
//! 6. **Failure.** The only error is that of the sink; writing stops at its first one. Numbers that
//!    make no sense (more blocks than fit a word, negative counters) print as something, and never
//!    panic.
//! 7. **What it does not do.** It counts nothing: counters live with what they count. It does not
//!    know files or directories; modes and names are data of [`View`].

mod counters;
mod extfrag;
mod meminfo;
mod objects;
mod pressure;
mod show_mem;
mod source;
#[cfg(test)]
mod tests;
mod totals;
mod view;
mod vmstat;
mod zones;

pub use counters::{
    NodeCounter, NodeCounters, NumaEvent, NumaEvents, VmEvent, VmEvents, ZoneCounter, ZoneCounters,
};
pub use extfrag::{extfrag_index, unusable_index};
pub use meminfo::{MemInfo, meminfo};
pub use objects::{slabinfo, vmallocinfo};
pub use pressure::pressure;
pub use show_mem::{MemFilter, show_mem};
pub use source::Source;
pub use totals::Totals;
pub use view::{
    AreaFlags, AreaState, AreaView, CacheView, HugetlbView, MachineView, NodeView, PagesetView,
    ZoneView,
};
pub use vmstat::vmstat;
pub use zones::{buddyinfo, pagetypeinfo, zoneinfo};

use core::fmt;

/// A text view: one file of Linux's `/proc` or debugfs.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum View {
    /// Free blocks by zone and order (P610).
    Buddyinfo,
    /// Free blocks by zone, mobility type and order (P611).
    Pagetypeinfo,
    /// All there is to know about each zone (P612).
    Zoneinfo,
    /// Counters of the machine (P613).
    Vmstat,
    /// Memory in KiB by use (P620).
    Meminfo,
    /// Slab caches (D13).
    Slabinfo,
    /// Areas of vmalloc space (V28).
    Vmallocinfo,
    /// The time lost to memory (P680).
    Pressure,
    /// The part of free memory that is in too small pieces, by order (P623).
    UnusableIndex,
    /// Why a request of an order would fail (P623).
    ExtfragIndex,
}

impl View {
    /// All views.
    pub const ALL: [View; 10] = [
        View::Buddyinfo,
        View::Pagetypeinfo,
        View::Zoneinfo,
        View::Vmstat,
        View::Meminfo,
        View::Slabinfo,
        View::Vmallocinfo,
        View::Pressure,
        View::UnusableIndex,
        View::ExtfragIndex,
    ];

    /// The file's name in `/proc`; [`View::Pressure`] is in a directory there, and the two indexes
    /// of fragmentation are in one of debugfs.
    pub const fn file_name(self) -> &'static str {
        match self {
            View::Buddyinfo => "buddyinfo",
            View::Pagetypeinfo => "pagetypeinfo",
            View::Zoneinfo => "zoneinfo",
            View::Vmstat => "vmstat",
            View::Meminfo => "meminfo",
            View::Slabinfo => "slabinfo",
            View::Vmallocinfo => "vmallocinfo",
            View::Pressure => "pressure/memory",
            View::UnusableIndex => "extfrag/unusable_index",
            View::ExtfragIndex => "extfrag/extfrag_index",
        }
    }

    /// The view of this file name.
    pub fn from_file_name(name: &str) -> Option<View> {
        View::ALL.into_iter().find(|view| view.file_name() == name)
    }

    /// Permission bits of the file: what tells about addresses or single objects is for its owner
    /// only (P611, D13, V28).
    pub const fn mode(self) -> u32 {
        match self {
            View::Pagetypeinfo | View::Slabinfo | View::Vmallocinfo => 0o400,
            _ => 0o444,
        }
    }

    /// Writes the file's text.
    ///
    /// # Errors
    /// Those of `w`.
    pub fn write(self, src: &dyn Source, w: &mut dyn fmt::Write) -> fmt::Result {
        match self {
            View::Buddyinfo => buddyinfo(src, w),
            View::Pagetypeinfo => pagetypeinfo(src, w),
            View::Zoneinfo => zoneinfo(src, w),
            View::Vmstat => vmstat(src, w),
            View::Meminfo => meminfo(src, w),
            View::Slabinfo => slabinfo(src, w),
            View::Vmallocinfo => vmallocinfo(src, w),
            View::Pressure => pressure(src, w),
            View::UnusableIndex => unusable_index(src, w),
            View::ExtfragIndex => extfrag_index(src, w),
        }
    }
}

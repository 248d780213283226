//! Where the numbers come from.

use super::{AreaView, CacheView, MachineView, NodeView, PagesetView, VmEvents, ZoneView};
use crate::flags::ZoneKind;
use crate::frame::NodeId;
use crate::policy::stall::StallLine;
use core::fmt;

/// Shows the views of one machine to visitors.
///
/// A visitor may call any method of the same source, and writes text to a sink that may allocate or
/// sleep: hold no lock, and be in no section that forbids either, while it runs. The exceptions are
/// [`Source::for_each_cache`] and [`Source::for_each_area`], whose visitors never call back into
/// the source; a source that holds a lock over them must be written to a sink that does not
/// allocate.
///
/// Every visitor is shown everything once, in the order given at the method; nothing may change the
/// set of nodes and zones in between.
///
/// ```
/// use gfp::flags::{MigrateType, ZoneKind};
/// use gfp::frame::NodeId;
/// use gfp::stat::*;
///
/// /// A machine with one free block of 4 MiB.
/// struct Tiny;
///
/// impl Source for Tiny {
///     fn for_each_node(&self, visit: &mut dyn FnMut(&NodeView)) {
///         visit(&NodeView::new(NodeId(0)));
///     }
///     fn for_each_zone(&self, node: NodeId, visit: &mut dyn FnMut(&ZoneView)) {
///         let mut zone = ZoneView::empty(node, ZoneKind::Normal);
///         (zone.present, zone.managed) = (1024, 1024);
///         zone.nr_free[10][MigrateType::Movable.index()] = 1;
///         zone.counters.set(ZoneCounter::FreePages, 1024);
///         visit(&zone);
///     }
///     fn for_each_pageset(&self, _: NodeId, _: ZoneKind, _: &mut dyn FnMut(&PagesetView)) {}
///     fn for_each_cache(&self, _: &mut dyn FnMut(&CacheView<'_>)) {}
///     fn for_each_area(&self, _: &mut dyn FnMut(&AreaView<'_>)) {}
///     fn vm_events(&self) -> VmEvents {
///         VmEvents::ZERO
///     }
///     fn machine(&self) -> MachineView {
///         MachineView::ZERO
///     }
/// }
///
/// let mut text = String::new();
/// View::Buddyinfo.write(&Tiny, &mut text).unwrap();
/// assert!(text.starts_with("Node 0, zone   Normal      0      0 "));
/// assert!(text.ends_with("      1 \n"));
/// ```
pub trait Source {
    /// True if the machine is built with zones of this kind. Kinds without are left out of
    /// `zoneinfo`, of protection vectors, and of the events that are kept by zone.
    ///
    /// The default is a 64-bit machine: all but [`ZoneKind::HighMem`].
    fn has_zone(&self, kind: ZoneKind) -> bool {
        kind != ZoneKind::HighMem
    }

    /// Shows each online node, in ascending order.
    fn for_each_node(&self, visit: &mut dyn FnMut(&NodeView));

    /// Shows the zones of a node, in ascending order of kind, each kind at most once. A zone that
    /// is not shown is taken to be empty ([`ZoneView::empty`]).
    fn for_each_zone(&self, node: NodeId, visit: &mut dyn FnMut(&ZoneView));

    /// Shows the per-CPU cache of each online CPU for a zone, in ascending order of CPU.
    fn for_each_pageset(&self, node: NodeId, zone: ZoneKind, visit: &mut dyn FnMut(&PagesetView));

    /// Shows each slab cache, the newest first (D13).
    fn for_each_cache(&self, visit: &mut dyn FnMut(&CacheView<'_>));

    /// Shows each vmalloc area: busy ones in address order, then those freed but not yet unmapped
    /// (V28).
    fn for_each_area(&self, visit: &mut dyn FnMut(&AreaView<'_>));

    /// The machine's events so far, all CPUs summed (P617, P619).
    fn vm_events(&self) -> VmEvents;

    /// What is known for the whole machine only.
    fn machine(&self) -> MachineView;

    /// The time lost to memory, by [`StallKind`](crate::policy::stall::StallKind) (P680). The
    /// default is a machine that does not measure it.
    fn memory_stalls(&self) -> [StallLine; 2] {
        [StallLine::default(); 2]
    }
}

/// Carries a sink's first error through visitors, which cannot return one.
pub(super) struct Sink<'w> {
    w: &'w mut dyn fmt::Write,
    result: fmt::Result,
}

impl<'w> Sink<'w> {
    pub(super) fn new(w: &'w mut dyn fmt::Write) -> Sink<'w> {
        Sink { w, result: Ok(()) }
    }

    /// Writes unless an earlier write failed.
    pub(super) fn put(&mut self, text: fmt::Arguments<'_>) {
        if self.result.is_ok() {
            self.result = self.w.write_fmt(text);
        }
    }

    pub(super) fn finish(self) -> fmt::Result {
        self.result
    }
}

//! Requests that ended without memory, and why (P600, P601, P606).

use crate::flags::{Gfp, ZoneKind};
use crate::frame::NodeId;
use crate::policy::oom::Shortage;
use core::fmt;

/// What is asked of a machine's zones.
pub(crate) trait Reasons {
    /// Shows each zone that the request could have used.
    fn for_each(&self, visit: &mut dyn FnMut(NodeId, ZoneKind, Shortage));
}

/// The zones that a request could have used, each with the reason why it did not serve it, as they
/// are when they are looked at.
#[derive(Copy, Clone)]
pub struct Shortages<'a> {
    reasons: &'a dyn Reasons,
    highest: ZoneKind,
}

impl<'a> Shortages<'a> {
    pub(crate) fn new(reasons: &'a dyn Reasons, highest: ZoneKind) -> Shortages<'a> {
        Shortages { reasons, highest }
    }

    /// Shows each zone.
    pub fn for_each(&self, visit: &mut dyn FnMut(NodeId, ZoneKind, Shortage)) {
        self.reasons.for_each(visit);
    }

    /// The highest kind of zone that the request could have used: what the memory report should
    /// show (P601).
    pub fn highest(&self) -> ZoneKind {
        self.highest
    }
}

impl fmt::Debug for Shortages<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        self.for_each(&mut |node, kind, why| {
            map.entry(&(node, kind), &why);
        });
        map.finish()
    }
}

impl fmt::Display for Shortages<'_> {
    /// A line for each zone, each with a newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut result = Ok(());
        self.for_each(&mut |node, kind, why| {
            if result.is_ok() {
                result = writeln!(f, "Node {} {}: {}", node.0, kind.name(), Words(why));
            }
        });
        result
    }
}

/// A request that ended without memory, and why (P600).
///
/// As text ([`AllocFailure::by`]) it has the first line of P601 and, for each zone that the request
/// could have used, the reason why it did not serve it. The memory report (P606) is
/// [`stat::show_mem`](crate::stat::show_mem), for zones up to [`Shortages::highest`].
#[derive(Copy, Clone, Debug)]
pub struct AllocFailure<'a> {
    /// The flags of the request, with scopes.
    pub gfp: Gfp,
    /// Its order.
    pub order: u32,
    /// Failures since the last report that were to be reported, and were not (P600).
    pub suppressed: u32,
    /// Why no zone served it.
    pub shortages: Shortages<'a>,
}

impl<'a> AllocFailure<'a> {
    /// The text, for a task of this name.
    pub fn by(&self, comm: &'a str) -> impl fmt::Display + 'a {
        Text(*self, comm)
    }
}

struct Text<'a>(AllocFailure<'a>, &'a str);

impl fmt::Display for Text<'_> {
    /// Lines, each with a newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Text(failure, comm) = self;
        let (order, gfp) = (failure.order, failure.gfp);
        writeln!(
            f,
            "{comm}: page allocation failure: order:{order}, mode:0x{:x}({gfp}), nodemask=(null)",
            gfp.bits()
        )?;
        if failure.suppressed != 0 {
            writeln!(f, "{} more were not reported", failure.suppressed)?;
        }
        write!(f, "{}", failure.shortages)
    }
}

/// A reason in words.
struct Words(Shortage);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Shortage::None => "has enough now",
            Shortage::Empty => "has no pages",
            Shortage::BelowMark { missing } => {
                return write!(f, "is below its watermark: {missing} pages are missing");
            }
            Shortage::Boost => "has enough, but its watermark is boosted",
            Shortage::LowmemReserve => "has enough, but keeps it for requests with no other zone",
            Shortage::Highatomic => "has enough, but in the reserve for urgent requests",
            Shortage::Cma => "has enough, but in areas for contiguous memory",
            Shortage::Fragmented => "has enough pages, but no block of this order",
        })
    }
}

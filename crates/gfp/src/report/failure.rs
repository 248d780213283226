//! Requests that ended without memory, and why (P600, P601, P606).

use crate::flags::{Gfp, ZoneKind};
use crate::frame::{Listed, NodeId, NodeMask};
use crate::platform::Snapshot;
use crate::policy::effort::Scopes;
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
    /// The nodes that it was limited to, if it was.
    pub nodemask: Option<NodeMask>,
    /// Failures since the last report that were to be reported, and were not (P600).
    pub suppressed: u32,
    /// The scopes that took bits from it or gave it rights, and why they are open.
    pub scopes: Snapshot,
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
            "{comm}: page allocation failure: order:{order}, mode:0x{:x}({gfp}), nodemask={}",
            gfp.bits(),
            Listed(failure.nodemask)
        )?;
        write!(f, "{}", InScopes(failure.scopes))?;
        if failure.suppressed != 0 {
            writeln!(f, "{} more were not reported", failure.suppressed)?;
        }
        write!(f, "{}", failure.shortages)
    }
}

/// A request that has tried for more than 10 s and goes on (P117).
#[derive(Copy, Clone, Debug)]
pub struct AllocStall {
    /// The flags of the request, with scopes.
    pub gfp: Gfp,
    /// Its order.
    pub order: u32,
    /// The nodes that it was limited to, if it was.
    pub nodemask: Option<NodeMask>,
    /// For how long it has tried.
    pub seconds: u64,
    /// Stalls since the last report that were not reported.
    pub suppressed: u32,
    /// The scopes of the task, and why they are open.
    pub scopes: Snapshot,
}

impl AllocStall {
    /// The text, for a task of this name: the line of P117, and one for open scopes.
    pub fn by<'a>(&self, comm: &'a str) -> impl fmt::Display + 'a {
        StallText(*self, comm)
    }
}

struct StallText<'a>(AllocStall, &'a str);

impl fmt::Display for StallText<'_> {
    /// Lines, each with a newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StallText(stall, comm) = self;
        let (seconds, order, gfp) = (stall.seconds, stall.order, stall.gfp);
        writeln!(
            f,
            "{comm}: page allocation stall for {seconds} secs: order:{order}, \
             mode:0x{:x}({gfp}), nodemask={}",
            gfp.bits(),
            Listed(stall.nodemask)
        )?;
        write!(f, "{}", InScopes(stall.scopes))
    }
}

/// A line that says which scopes are open, if any is.
struct InScopes(Snapshot);

impl fmt::Display for InScopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scopes = self.0.scopes();
        if scopes == Scopes::NONE {
            return Ok(());
        }
        match self.0.reason() {
            Some(reason) => writeln!(f, "in scope {scopes:?}: {reason}"),
            None => writeln!(f, "in scope {scopes:?}"),
        }
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

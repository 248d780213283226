//! Why somebody was killed, or nobody (P435a, P606).

use super::source::{OomId, OomSource};
use crate::flags::Gfp;
use crate::frame::NodeMask;
use crate::policy::oom::{
    Candidate, Constrained, Constraint, Invocation, KilledBy, TABLE_HEADER, TaskRow, VictimLine,
};
use crate::report::Shortages;
use core::fmt;
use core::ops::ControlFlow;

/// How the killer ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum OomEnd {
    /// This one was killed.
    Killed {
        /// Who.
        who: OomId,
        /// What it had.
        candidate: Candidate,
    },
    /// P434: nobody may be killed.
    Nobody,
    /// P432: the settings want a panic rather than a kill.
    PanicWanted,
}

/// The table of candidates (P435a), as the source shows and describes them while it is printed.
#[derive(Copy, Clone)]
pub struct OomTasks<'a>(pub(super) &'a dyn OomSource);

/// Candidates that are asked for at once.
const AT_ONCE: usize = 64;

impl OomTasks<'_> {
    /// The candidates after the first so many, as many as fit. Returns how many.
    fn some(&self, after: usize, ids: &mut [OomId; AT_ONCE]) -> usize {
        let (mut seen, mut found) = (0, 0);
        self.0.for_each(&mut |who, _| {
            if seen >= after && found < AT_ONCE {
                ids[found] = who;
                found += 1;
            }
            seen += 1;
            match found {
                AT_ONCE => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        });
        found
    }
}

impl fmt::Display for OomTasks<'_> {
    /// Lines, without a newline at the end of the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(TABLE_HEADER)?;
        let mut ids = [OomId(0); AT_ONCE];
        let mut shown = 0;
        loop {
            // Described apart: the source may hold a lock of its own while it shows them.
            let found = self.some(shown, &mut ids);
            for who in &ids[..found] {
                write!(f, "\n{}", self.0.describe(*who))?;
            }
            shown += found;
            if found < AT_ONCE {
                return Ok(());
            }
        }
    }
}

/// Why somebody was killed, or nobody: as a structure, and as text ([`fmt::Display`]).
///
/// The text has the lines of P435a and, for each zone that the request could have used, the reason
/// why it did not serve it. The whole memory report (P606) is
/// [`stat::show_mem`](crate::stat::show_mem), for zones up to [`Shortages::highest`]: who is told
/// this report may write it, if it has the machine.
#[derive(Copy, Clone)]
pub struct OomReport<'a> {
    /// The flags of the request, with scopes.
    pub gfp: Gfp,
    /// Its order.
    pub order: u32,
    /// Who asked, as the source describes it.
    pub caller: TaskRow<'a>,
    /// How it ended.
    pub end: OomEnd,
    /// The victim as the source describes it.
    pub victim: TaskRow<'a>,
    /// All candidates; `None` if the settings do not want them in the report (`oom_dump_tasks`).
    pub tasks: Option<OomTasks<'a>>,
    /// What limits where the memory may come from.
    pub constraint: Constraint,
    /// The nodes that the request was limited to, if it was.
    pub nodemask: Option<NodeMask>,
    /// Pages that the machine manages.
    pub managed: usize,
    /// Pages that are free.
    pub free: usize,
    /// Why no zone served the request.
    pub shortages: Shortages<'a>,
}

impl fmt::Display for OomReport<'_> {
    /// Lines, without a newline at the end of the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let invocation = Invocation {
            comm: self.caller.comm,
            gfp: self.gfp,
            order: self.order,
            adj: self.caller.adj,
        };
        writeln!(f, "{invocation}")?;
        write!(f, "{}", self.shortages)?;
        writeln!(f, "{} of {} pages are free", self.free, self.managed)?;
        if let Some(tasks) = self.tasks {
            writeln!(f, "{tasks}")?;
        }
        let constraint = self.constraint;
        match self.end {
            OomEnd::Killed { .. } => {
                let killed = KilledBy {
                    constraint,
                    nodemask: self.nodemask,
                    cpuset: "/",
                    mems_allowed: "",
                    scope: Constrained::Global,
                    task_memcg: "/",
                    task: self.victim.comm,
                    pid: self.victim.pid,
                    uid: self.victim.uid,
                };
                let task = self.victim;
                write!(f, "{killed}\n{}", VictimLine { constraint, task })
            }
            OomEnd::Nobody => f.write_str("System is deadlocked on memory"),
            OomEnd::PanicWanted => f.write_str("Out of memory: panic_on_oom is set"),
        }
    }
}

//! Whether somebody is killed (P430-P432, P434, P435).

use super::Constraint;
use crate::flags::Gfp;

/// Why the killer was called.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A request found nothing.
    Request,
    /// A person asked for it.
    Sysrq,
}

/// P432, P717: the sysctl `panic_on_oom`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum PanicOnOom {
    /// 0: kill.
    #[default]
    Never,
    /// 1: panic if the whole machine is out of memory.
    IfUnconstrained,
    /// 2: panic whatever is short.
    Always,
}

/// What the decision before the scan depends on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ScanFacts {
    /// Why the killer was called.
    pub trigger: Trigger,
    /// The flags of the request, with scopes.
    pub gfp: Gfp,
    /// What is short.
    pub constraint: Constraint,
    /// Pages that the notifiers said they freed; 0 if they were not asked.
    pub notifiers_freed: usize,
    /// The caller is dying or exiting.
    pub current_is_dying: bool,
    /// P432.
    pub panic_on_oom: PanicOnOom,
    /// P435: the sysctl `oom_kill_allocating_task`, and the caller may be killed
    /// ([`super::score`]).
    pub kills_current: bool,
}

/// P430: whether the notifier chain is asked first: not for a group's shortage.
pub const fn runs_notifiers(trigger: Trigger, constraint: Constraint) -> bool {
    constraint.is_global() && matches!(trigger, Trigger::Request)
}

/// What happens before anybody is looked at.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Before {
    /// The notifiers freed memory: report progress.
    Retry,
    /// The caller is dying: it becomes a victim and gets its reserves. Progress.
    MarkCurrent,
    /// No `FS`: kill nobody, but report progress (P129).
    PretendProgress,
    /// Stop the machine.
    Panic,
    /// The caller is the victim.
    KillCurrent,
    /// Look at all candidates.
    Scan,
}

/// P430-P432, P435: in the order of the rules. A person who asks for a kill is not refused, and
/// gets no panic.
pub const fn before_scan(facts: &ScanFacts) -> Before {
    if matches!(facts.trigger, Trigger::Sysrq) {
        return Before::Scan;
    }
    if facts.notifiers_freed > 0 && facts.constraint.is_global() {
        return Before::Retry;
    }
    if facts.current_is_dying {
        return Before::MarkCurrent;
    }
    if !facts.gfp.contains(Gfp::FS) && facts.constraint.is_global() {
        return Before::PretendProgress;
    }
    match (facts.panic_on_oom, facts.constraint) {
        (PanicOnOom::Always, _) | (PanicOnOom::IfUnconstrained, Constraint::None) => Before::Panic,
        _ if facts.kills_current => Before::KillCurrent,
        _ => Before::Scan,
    }
}

/// P433: what a scan found.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Verdict<T> {
    /// Somebody was chosen before and still has memory: wait.
    SomebodyIsDying,
    /// This one.
    Victim {
        /// Who.
        who: T,
        /// With which score.
        score: i64,
    },
    /// Nobody may be killed.
    Nobody,
}

/// P434: what happens after the scan.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// Kill, mark as victim, wake the reaper. Progress.
    Kill(T),
    /// Progress: the memory of the one who dies is on its way.
    Wait,
    /// "System is deadlocked on memory".
    Panic,
    /// No progress: the request of the group fails.
    Fail,
    /// Nothing but a line in the log: a person asked, and there is nobody.
    Message,
}

impl<T> Outcome<T> {
    /// P127: the request tries again.
    pub const fn is_progress(&self) -> bool {
        matches!(self, Outcome::Kill(_) | Outcome::Wait)
    }
}

/// P434.
pub fn after_scan<T>(verdict: Verdict<T>, trigger: Trigger, constraint: Constraint) -> Outcome<T> {
    match verdict {
        Verdict::Victim { who, .. } => Outcome::Kill(who),
        Verdict::SomebodyIsDying => Outcome::Wait,
        Verdict::Nobody => match trigger {
            Trigger::Sysrq => Outcome::Message,
            Trigger::Request if constraint.is_global() => Outcome::Panic,
            Trigger::Request => Outcome::Fail,
        },
    }
}

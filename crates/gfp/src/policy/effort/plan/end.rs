//! Out of memory: the OOM step, and how a request ends (P111, P127-P132).

use super::{At, Before, Plan};
use crate::flags::Gfp;
use crate::policy::effort::retry::Progress;
use crate::policy::effort::step::{Question, Step};
use crate::policy::effort::terms::{Backoff, NoKill, OomRule, Warn};
use crate::policy::watermark::{AllocFlags, WatermarkLevel};

impl Plan {
    /// P136: before the OOM step NOFRAGMENT is dropped. P111: a change since the beginning is seen.
    pub(super) fn last_resort(&mut self) -> Step {
        if self.nofragment {
            self.nofragment = false;
            return self.next_turn();
        }
        match self.effort.oom {
            OomRule::Never(NoKill::NoKiller) => self.give_up(),
            _ => self.look_around(Before::Oom),
        }
    }

    /// Free blocks on their way to the platform only seem to be in use.
    pub(super) fn look_around(&mut self, before: Before) -> Step {
        if self.effort.awaits_reported {
            return self.to(At::Reported(before), Step::AwaitReported);
        }
        self.ask_changed(before)
    }

    pub(super) fn ask_changed(&mut self, before: Before) -> Step {
        let step = Step::Ask(Question::HaveZonesChanged);
        self.to(At::Changed(before), step)
    }

    /// P128: somebody else is at it: that is progress. Or one look at HIGH, which catches what was
    /// freed meanwhile.
    pub(super) fn after_oom_lock(&mut self, held: bool) -> Step {
        if !held {
            self.retry.after_oom_progress();
            return self.again(Backoff::Tick);
        }
        let rights = AllocFlags::CPUSET.at(WatermarkLevel::High);
        let reach = self.reach;
        self.to(At::OomPass, Step::Pass { rights, reach })
    }

    /// P129. The killer is called without `FS` too: it kills nobody then, but it asks notifiers and
    /// sees to victims (P430, P435), and says when there is nobody left to wait for.
    pub(super) fn after_oom_pass(&mut self) -> Step {
        match self.effort.oom {
            OomRule::Kill | OomRule::WaitForOthers => self.to(At::OomKill, Step::OomKill),
            OomRule::Never(_) => {
                self.oom_progress = Progress::None;
                self.to(At::OomUnlock, Step::OomUnlock)
            }
        }
    }

    /// P130.
    pub(super) fn after_kill(&mut self, progress: bool) -> Step {
        self.oom_progress = if progress {
            Progress::Some
        } else {
            Progress::None
        };
        if self.effort.may_fail {
            return self.to(At::OomUnlock, Step::OomUnlock);
        }
        let rights = self.base_rights().with(AllocFlags::NO_WATERMARKS);
        let reach = self.reach;
        self.to(At::OomKillPass, Step::Pass { rights, reach })
    }

    /// P127, P131.
    pub(super) fn after_oom(&mut self) -> Step {
        let used_up =
            self.rights().contains(AllocFlags::OOM) || self.effort.gfp.contains(Gfp::NOMEMALLOC);
        // Who was chosen just now gets a turn with its reserves first.
        if self.now.oom_victim && used_up {
            return self.give_up();
        }
        match self.oom_progress {
            Progress::Some => {
                self.retry.after_oom_progress();
                self.again(self.effort.backoff)
            }
            Progress::None => self.give_up(),
        }
    }

    /// P111: a false failure must not come from a change of zonelists.
    pub(super) fn give_up(&mut self) -> Step {
        self.look_around(Before::End)
    }

    /// P132.
    pub(super) fn end(&mut self) -> Step {
        if self.effort.may_fail {
            return self.fail();
        }
        let rights = self.base_rights().with(AllocFlags::MIN_RESERVE);
        let rights = rights.with(AllocFlags::CPUSET);
        let reach = self.reach;
        self.to(At::NofailInside, Step::Pass { rights, reach })
    }

    pub(super) fn after_nofail_inside(&mut self) -> Step {
        if !self.effort.cpusets {
            return self.again(self.effort.backoff);
        }
        let rights = self.base_rights().with(AllocFlags::MIN_RESERVE);
        let rights = rights.without(AllocFlags::CPUSET);
        let reach = self.reach;
        self.to(At::NofailOutside, Step::Pass { rights, reach })
    }

    pub(super) const fn fail(&mut self) -> Step {
        let report = matches!(self.effort.warn, Warn::Report);
        self.to(At::Failed, Step::Fail { report })
    }
}

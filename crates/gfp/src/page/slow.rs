//! When the first pass finds nothing: the plan of the request is executed.
//!
//! What a request may do, and in which order, is decided by `policy::effort`; here it is done. What
//! this room cannot do itself is asked of the rooms above ([`Relief`]).

use super::relief::{Compacted, Need, Relief, WakeUp};
use super::zone::Zone;
use super::{PageAllocator, PageRequest};
use crate::error::AllocError;
use crate::flags::ZoneKind;
use crate::frame::{CpuId, NodeId, Order, Pfn};
use crate::platform::Platform;
use crate::policy::effort::{Effort, Event, Plan, Question, Reach, Rounds, Step, Warn};
use crate::policy::highatomic;
use crate::policy::watermark::{AllocFlags, WatermarkLevel};
use crate::sync::Local;

/// One request on its way through the slow path.
struct Run<'r, P: Platform, R: Relief<P> + ?Sized> {
    pages: &'r PageAllocator<P>,
    need: Need<'r>,
    relief: &'r R,
    /// P111: the state of the zonelists when we looked last.
    seen: usize,
    /// When it began, if it reports stalls.
    since_ns: u64,
    turns: u32,
    /// P121: [`Reclaimed::left`](super::Reclaimed::left) of the last round.
    left: usize,
    /// P128: we hold the machine's OOM lock.
    oom_locked: bool,
}

impl<P: Platform, R: Relief<P> + ?Sized> Drop for Run<'_, P, R> {
    /// Memory may be found while the OOM lock is held.
    fn drop(&mut self) {
        if self.oom_locked {
            self.relief.oom_unlock(self.pages);
        }
    }
}

/// Where memory came from.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Source {
    /// What a request of its rights leaves to others was looked at.
    Free,
    /// No watermark was looked at (P266).
    Reserve,
}

/// How a step ended.
enum Outcome {
    /// Memory was found.
    Found(Pfn, Source),
    /// Go on with this.
    Next(Event),
}

impl<P: Platform> PageAllocator<P> {
    /// The slow path: does what the plan says, step by step (P109-P134), and hands out the block.
    #[cold]
    #[inline(never)]
    pub(super) fn alloc_slow<R>(&self, request: &PageRequest, relief: &R) -> Result<Pfn, AllocError>
    where
        R: Relief<P> + ?Sized,
    {
        let seen = self.changes.now();
        let (caller, machine) = (relief.caller(self), relief.machine(self));
        let effort = Effort::of(request.gfp, request.order.get().into(), &caller, &machine);
        let mut run = Run {
            pages: self,
            need: Need {
                request,
                effort: &effort,
            },
            relief,
            seen,
            since_ns: 0,
            turns: 0,
            left: 0,
            oom_locked: false,
        };
        while self.candidates(request).next().is_none() {
            if run.have_zones_changed() {
                continue; // perhaps there is one now
            }
            // No zone of the machine may serve it: not even NOFAIL can wait for that.
            self.count_failure(request.order);
            return Err(AllocError::NoSuchNode);
        }
        if let Some(pfn) = self.look_again(request)? {
            self.hand_out(pfn, request);
            return Ok(pfn);
        }
        self.tell_boost(relief);
        if run.is_refused() {
            return Err(run.fail(effort.warn == Warn::Report));
        }
        self.look_again_for(request);
        self.fade_for(request);
        self.put_mail_for(request);
        if self.zone_reclaim_mode().is_on()
            && let Some(pfn) = self.pass_near(&run.need, relief)?
        {
            self.hand_out(pfn, request);
            return Ok(pfn);
        }
        let mut plan = Plan::new(effort);
        let mut event = Event::Enter;
        loop {
            let step = plan.next(event, relief.now(self));
            if let Step::Fail { report } = step {
                return Err(run.fail(report));
            }
            match run.execute(step)? {
                Outcome::Found(pfn, source) => {
                    self.hand_out(pfn, request);
                    if source == Source::Reserve {
                        self.frames.set(pfn, self.frames.get(pfn).from_reserve());
                    }
                    return Ok(pfn);
                }
                Outcome::Next(next) => event = next,
            }
        }
    }

    /// Waits until no block is on its way to the platform: each is memory that only seems to be in
    /// use. False if there was none. Who hides a block waits for nobody, so this ends.
    fn wait_for_reporting(&self) -> bool {
        let mut spins = 0;
        while self.zones.iter().any(|zone| zone.hidden() != 0) {
            self.platform.relax(spins);
            spins = spins.saturating_add(1);
        }
        spins != 0
    }

    fn pass<R>(
        &self,
        req: &PageRequest,
        flags: AllocFlags,
        relief: &R,
    ) -> Result<Option<Pfn>, AllocError>
    where
        R: Relief<P> + ?Sized,
    {
        let local = Local::enter(&self.platform)?;
        let found = self
            .take_reserved(&local, req, flags)
            .or_else(|| self.alloc_local(&local, req, flags))
            .or_else(|| self.take_last(&local, req, flags));
        drop(local);
        if let Some(pfn) = found
            && req.order > Order::ZERO
            && flags.contains(AllocFlags::HIGHATOMIC)
        {
            self.note_near_miss(pfn, req.order);
        }
        self.tell_boost(relief);
        Ok(found)
    }

    /// Gives back what all CPUs have cached. Returns the pages that came back.
    ///
    /// Context: task, outside of any section; waits for other CPUs to leave theirs.
    pub fn drain_all(&self) -> usize {
        let mut pages = 0;
        if let Ok(local) = Local::enter(&self.platform) {
            self.take_deferred(&local);
            pages += self.put_mail_of_all(&local);
        }
        for cpu in 0..self.cpus.len() {
            let cpu = CpuId(cpu as u32);
            if self.cached_pages(cpu) == 0 {
                continue;
            }
            if let Some(local) = self.enter_any(cpu) {
                pages += self.drain(&local);
            }
        }
        pages
    }

    /// Pages that a CPU has cached.
    pub fn cached_pages(&self, cpu: CpuId) -> usize {
        let caches = self.caches_of(cpu).unwrap_or(&[]);
        caches.iter().map(|c| c.count()).sum()
    }

    /// Gives back what the section's CPU has cached. Returns the pages that came back.
    pub fn drain(&self, local: &Local<'_, P>) -> usize {
        self.take_deferred(local);
        let caches = self.caches_of(local.cpu()).unwrap_or(&[]);
        let zones = self.zones.iter().zip(caches);
        let pages = zones
            .map(|(zone, cache)| self.empty_cache(local, zone, cache))
            .sum();
        self.put_mail_of_all(local);
        pages
    }

    /// Gives all free memory that the platform could use back to it, now. Returns the pages.
    ///
    /// Context: as [`PageAllocator::drain_all`].
    pub fn trim(&self) -> usize {
        self.drain_all();
        let Ok(local) = Local::enter(&self.platform) else {
            return 0;
        };
        let report = |zone: &Zone| self.report_free(&local, zone, 0, usize::MAX);
        let blocks: usize = self.zones.iter().map(report).sum();
        blocks * crate::frame::PAGEBLOCK_PAGES
    }
}

impl<P: Platform, R: Relief<P> + ?Sized> Run<'_, P, R> {
    /// Does all that the plan would say, if it has just one look in it and that would find nothing.
    /// True if so: then the request fails. What the background frees comes later.
    fn is_refused(&mut self) -> bool {
        let (pages, effort, request) = (self.pages, self.need.effort, self.need.request);
        if !effort.is_one_look() || pages.zone_reclaim_mode().is_on() {
            return false;
        }
        if !pages.has_nothing_for(request) {
            return false;
        }
        if effort.wake_background {
            self.wake_background(effort.goal_order, effort.highest);
        }
        !self.have_zones_changed()
    }

    /// Counts and reports the failure.
    fn fail(&self, report: bool) -> AllocError {
        let (pages, need) = (self.pages, &self.need);
        let (request, effort) = (need.request, need.effort);
        pages.count_failure(request.order);
        pages.note_failure(request, effort.slow.unwrap_or(effort.fast));
        if report {
            self.relief.report_failure(pages, need);
        }
        AllocError::NoMemory {
            order: request.order,
            gfp: request.gfp,
        }
    }

    /// Does one step of the plan.
    fn execute(&mut self, step: Step) -> Result<Outcome, AllocError> {
        let (pages, need, relief) = (self.pages, &self.need, self.relief);
        let yes_or_no = |yes| match yes {
            true => Event::Yes,
            false => Event::No,
        };
        let event = match step {
            Step::Begin => {
                if need.effort.reports_stall {
                    self.since_ns = pages.platform.now_ns();
                }
                Event::Done
            }
            Step::WakeBackground { order, highest } => {
                self.wake_background(order, highest);
                Event::Done
            }
            Step::Pass { rights, reach } => match self.pass(rights, reach)? {
                Some(pfn) if rights.contains(AllocFlags::NO_WATERMARKS) => {
                    return Ok(Outcome::Found(pfn, Source::Reserve));
                }
                Some(pfn) => return Ok(Outcome::Found(pfn, Source::Free)),
                None => Event::Missed,
            },
            Step::CheckStall => {
                relief.check_stall(pages, need, self.since_ns);
                Event::Done
            }
            Step::DirectReclaim { order } => {
                let reclaimed = relief.reclaim(pages, need, order);
                self.left = reclaimed.left;
                Event::Reclaimed(reclaimed.pages)
            }
            Step::TakeBack => match self.take_back()? {
                Some(pfn) => return Ok(Outcome::Found(pfn, Source::Free)),
                None => Event::Done,
            },
            Step::Compact { order, priority } => {
                match relief.compact(pages, need, order, priority) {
                    Compacted::Captured(pfn) => return Ok(Outcome::Found(pfn, Source::Free)),
                    Compacted::Ended(outcome) => Event::Compacted(outcome),
                }
            }
            Step::Ask(question) => yes_or_no(self.answer(question)),
            Step::UnreserveHighatomic => yes_or_no(self.give_up_reserves()),
            Step::AwaitReported => yes_or_no(pages.wait_for_reporting()),
            Step::OomLock => {
                self.oom_locked = relief.oom_lock(pages);
                yes_or_no(self.oom_locked)
            }
            Step::OomKill => yes_or_no(self.oom_locked && relief.oom_kill(pages, need)),
            Step::OomUnlock => {
                if core::mem::take(&mut self.oom_locked) {
                    relief.oom_unlock(pages);
                }
                Event::Done
            }
            Step::Backoff(how) => {
                relief.back_off(pages, how, self.turns);
                self.turns = self.turns.saturating_add(1);
                Event::Done
            }
            // The loop ends before.
            Step::Fail { .. } => Event::Done,
        };
        Ok(Outcome::Next(event))
    }

    /// A pass, and what CPUs have cached if a mark would be passed with it (P821).
    fn pass(&self, rights: AllocFlags, reach: Reach) -> Result<Option<Pfn>, AllocError> {
        let (pages, request) = (self.pages, self.need.request.within(reach));
        let mut pass = || pages.pass(&request, rights, self.relief);
        match pass()? {
            None if self.need.effort.take_back.may_steal() => {
                pages.take_cached(&request, rights, &mut pass)
            }
            found => Ok(found),
        }
    }

    /// P118: what others have that the request could use: a block that fits, or one block of the
    /// reserve, what the rooms above keep, and what CPUs have cached.
    fn take_back(&self) -> Result<Option<Pfn>, AllocError> {
        let (pages, need) = (self.pages, &self.need);
        let rights = need.effort.slow.unwrap_or(need.effort.fast);
        if let Some(pfn) = pages.steal_cached(need.request, rights) {
            return Ok(Some(pfn));
        }
        if !matches!(need.effort.rounds, Rounds::None(_)) {
            pages.unreserve_one(need.request);
        }
        self.relief.take_back(pages, need);
        let mut pass = || pages.pass(need.request, rights, self.relief);
        pages.empty_caches_for(need.request, &mut pass)
    }

    /// Pages of a zone that are cached where the request may take them from.
    fn cached_in(&self, zone: &Zone) -> usize {
        match self.need.effort.take_back.may_steal() {
            true => self.pages.cached_in(zone),
            false => 0,
        }
    }

    /// P123, and beyond it: what withholds memory is given up before a request ends or kills. True
    /// if that is worth another round. Marks that fall are, only if the request gets below them:
    /// urgent ones that fail meanwhile raise them again each time.
    fn give_up_reserves(&self) -> bool {
        let (mut block, mut marks) = (false, false);
        for zone in self.pages.candidates(self.need.request) {
            marks |= self.pages.give_up_boost(zone);
            marks |= self.pages.give_up_single(zone);
            block |= self
                .pages
                .unreserve(zone, highatomic::Need::BeforeOom, self.need.request);
        }
        block || marks && self.would_pass(self.need.request.order, |_| 0)
    }

    /// Whether some zone passes MIN at this order, if so many pages more of it were free.
    fn would_pass(&self, order: Order, more: impl Fn(&Zone) -> usize) -> bool {
        let highest = self.pages.highest(self.need.request.gfp);
        let min = AllocFlags::CPUSET.at(WatermarkLevel::Min);
        let mut zones = self.pages.candidates(self.need.request);
        zones.any(|zone| zone.watermark_ok_with(more(zone), order, highest, min))
    }

    /// P112: every node with a zone that may serve the request.
    fn wake_background(&self, order: u32, highest: ZoneKind) {
        let call = WakeUp {
            order,
            highest,
            direct_reclaim: self.need.effort.may_sleep(),
        };
        let zones = self.pages.candidates(self.need.request);
        let mut nodes = zones.fold(0u64, |nodes, zone| nodes | 1 << zone.node.0);
        while nodes != 0 {
            let node = NodeId(nodes.trailing_zeros() as u8);
            self.relief.wake_background(self.pages, node, &call);
            nodes &= nodes - 1;
        }
    }

    fn answer(&mut self, question: Question) -> bool {
        let (pages, need) = (self.pages, &self.need);
        match question {
            Question::HaveZonesChanged => self.have_zones_changed(),
            Question::WouldReclaimSuffice => self.would_pass(need.request.order, |zone| {
                let lists = self.relief.reclaimable(pages, zone.id.into());
                lists
                    .saturating_add(self.left)
                    .saturating_add(self.cached_in(zone))
            }),
            Question::IsOnePageLeft => self.would_pass(Order::ZERO, |zone| self.cached_in(zone)),
            Question::WouldCompactionBeSuitable => self.relief.could_suit_compaction(pages, need),
        }
    }

    /// P111: true once for each change of the zonelists since the beginning.
    fn have_zones_changed(&mut self) -> bool {
        let pages = self.pages;
        let wait = |spins| pages.platform.relax(spins);
        let spins = self.need.request.gfp.allows_spinning();
        let changed = spins && pages.changes.since(self.seen, wait);
        self.seen = pages.changes.now();
        changed
    }
}

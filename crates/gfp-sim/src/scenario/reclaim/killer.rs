//! Who may be killed, and how they die.
//!
//! A task that is killed gives all that it holds back when it next looks, and goes on as another:
//! with a new name, as a process that was started again.

use super::super::{Block, Lab};
use gfp::flags::{GFP_NOWAIT, Gfp};
use gfp::frame::PAGE_SIZE;
use gfp::platform::{Fact, Platform, TaskWord};
use gfp::policy::oom::{Candidate, Standing};
use gfp::reclaim::oom::{OomCaller, OomId, OomNotifier, OomNotifierId, OomSource, OomSourceId};
use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::ptr::NonNull;
use std::rc::{Rc, Weak};

/// What the notifier keeps for bad times, in pages.
const RESERVE_PAGES: usize = 4;

/// How many pages it may keep in all. To give is progress, so a notifier that takes what it gave
/// back again and again keeps a request that finds no block for ever.
const KEPT_MAX: usize = 200;

/// One of the tasks.
#[derive(Default)]
struct Life {
    /// Its number in the run.
    task: Cell<usize>,
    /// The word that says whether it is a victim; of the run, as long as that is there.
    word: Cell<Option<NonNull<TaskWord>>>,
    /// How often it died.
    deaths: Cell<u64>,
    /// It works.
    lives: Cell<bool>,
    killed: Cell<bool>,
    /// It was a victim since its last death.
    victim: Cell<bool>,
    held: RefCell<Vec<Block>>,
}

/// The killer of a run.
pub(in crate::scenario) struct Killer {
    lab: Weak<Lab>,
    lives: Vec<Life>,
    /// Somebody is in a call: they come one at a time.
    inside: Cell<bool>,
    reserve: RefCell<Vec<Block>>,
    /// How many pages it ever kept.
    kept: Cell<usize>,
    /// How often it resigned.
    resigned: Cell<u64>,
    source: RefCell<Option<OomSourceId>>,
    notifier: RefCell<Option<OomNotifierId>>,
}

// SAFETY: [INV-SIM-1] of one thread, as the machine that calls it.
unsafe impl Sync for Killer {}

impl Killer {
    pub(in crate::scenario) fn new(lab: &Rc<Lab>, tasks: usize) -> Killer {
        Killer {
            lab: Rc::downgrade(lab),
            lives: (0..tasks).map(|_| Life::default()).collect(),
            inside: Cell::new(false),
            reserve: RefCell::default(),
            kept: Cell::new(0),
            resigned: Cell::new(0),
            source: RefCell::default(),
            notifier: RefCell::default(),
        }
    }

    fn name(&self, number: usize) -> OomId {
        OomId(number as u64 | self.lives[number].deaths.get() << 8)
    }

    /// Who bears this name now.
    fn bearer(&self, who: OomId) -> Option<&Life> {
        let number = (who.0 & 0xff) as usize;
        (self.name(number) == who).then(|| &self.lives[number])
    }

    /// The running task is one of those who may be killed.
    pub(in crate::scenario) fn begin(&self, lab: &Lab, number: usize, task: usize) {
        let word = lab.mm().platform().this_task().expect("it has a word");
        let life = &self.lives[number];
        // SAFETY: [INV-TASK-1] words of a run stay as long as the run, whose machine calls us.
        life.word.set(Some(NonNull::from(unsafe { word.word() })));
        life.task.set(task);
        life.lives.set(true);
    }

    /// It is not any more, and gives everything back.
    pub(in crate::scenario) fn end(&self, lab: &Lab, number: usize) {
        self.lives[number].lives.set(false);
        self.die(lab, number);
    }

    /// What it holds is given back; it bears another name then.
    fn die(&self, lab: &Lab, number: usize) {
        let life = &self.lives[number];
        while self.give(lab, number) {}
        let task = lab.mm().platform().this_task().expect("it has a word");
        task.forget(Fact::OomVictim);
        task.forget(Fact::FatalSignal);
        life.killed.set(false);
        life.victim.set(false);
        life.deaths.set(life.deaths.get() + 1);
    }

    /// Dies, if it was killed.
    pub(in crate::scenario) fn obey(&self, lab: &Lab, number: usize) {
        if self.lives[number].killed.get() {
            self.die(lab, number);
        }
    }

    pub(in crate::scenario) fn is_victim(&self, number: usize) -> bool {
        self.lives[number].victim.get()
    }

    pub(in crate::scenario) fn hold(&self, number: usize, block: Block) {
        self.lives[number].held.borrow_mut().push(block);
    }

    pub(in crate::scenario) fn held(&self, number: usize) -> usize {
        self.lives[number].held.borrow().len()
    }

    /// Gives back what it has had longest; false if it has nothing.
    pub(in crate::scenario) fn give(&self, lab: &Lab, number: usize) -> bool {
        let mut held = self.lives[number].held.borrow_mut();
        let oldest = (!held.is_empty()).then(|| held.remove(0));
        drop(held);
        oldest.map(|block| lab.free(block)).is_some()
    }

    /// Registers source and notifier, as far as they are not.
    pub(in crate::scenario) fn register(&self, lab: &Lab) {
        if self.source.borrow().is_none() {
            let source: NonNull<dyn OomSource> = NonNull::from(self as &dyn OomSource);
            // SAFETY: whoever runs the scenario keeps it until it is unregistered, or the run ends
            // for good.
            let id = unsafe { lab.mm().slabs().reclaim().register_oom_source_for(source) };
            *self.source.borrow_mut() = Some(id.expect("the only source"));
        }
        if self.notifier.borrow().is_none() {
            let notifier: NonNull<dyn OomNotifier> = NonNull::from(self as &dyn OomNotifier);
            // SAFETY: as above.
            let id = unsafe {
                lab.mm()
                    .slabs()
                    .reclaim()
                    .register_oom_notifier_for(notifier)
            };
            *self.notifier.borrow_mut() = Some(id.expect("the only notifier"));
        }
    }

    /// `Some` while it is registered: the same number as long as it stays so.
    pub(in crate::scenario) fn term(&self) -> Option<u64> {
        self.source.borrow().as_ref().map(|_| self.resigned.get())
    }

    /// Nobody is killed until [`Killer::register`].
    pub(in crate::scenario) fn resign(&self, lab: &Lab) {
        self.resigned.set(self.resigned.get() + 1);
        let id = self.source.borrow_mut().take();
        id.into_iter()
            .for_each(|id| lab.mm().unregister_oom_source(id));
    }

    /// Keeps a little for the notifier, as far as that needs no effort.
    pub(in crate::scenario) fn keep(&self, lab: &Lab) {
        while self.kept.get() < KEPT_MAX
            && self.reserve.borrow().len() < RESERVE_PAGES
            && let Ok(pfn) = lab.mm().alloc_pages(GFP_NOWAIT & !Gfp::RECLAIM, 0)
        {
            let ptr = lab.mm().page_address(pfn).as_ptr();
            lab.own(ptr, PAGE_SIZE, "page of the notifier");
            self.reserve.borrow_mut().push(Block::Pages(pfn, 0));
            self.kept.set(self.kept.get() + 1);
        }
    }

    /// The notifier is not asked until [`Killer::register`]; what it kept is given back.
    pub(in crate::scenario) fn forget_notifier(&self, lab: &Lab) {
        let id = self.notifier.borrow_mut().take();
        id.into_iter()
            .for_each(|id| lab.mm().unregister_oom_notifier(id));
        let reserve = std::mem::take(&mut *self.reserve.borrow_mut());
        reserve.into_iter().for_each(|block| lab.free(block));
    }

    /// P128: in a call, alone. It allocates too, as far as it may.
    fn alone<R>(&self, work: impl FnOnce(&Lab) -> R) -> R {
        let lab = self.lab.upgrade().expect("the run goes on");
        assert!(!self.inside.replace(true), "two are in the killer");
        if let Ok(ptr) = lab.mm().kmalloc(100, GFP_NOWAIT) {
            // SAFETY: ours.
            unsafe { lab.mm().kfree(ptr.as_ptr()) };
        }
        let result = work(&lab);
        self.inside.set(false);
        result
    }
}

impl OomSource for Killer {
    fn for_each(&self, visit: &mut dyn FnMut(OomId, &Candidate) -> ControlFlow<()>) {
        self.alone(|_| {
            let lives = |number: &usize| self.lives[*number].lives.get();
            for number in (0..self.lives.len()).filter(lives) {
                let candidate = Candidate {
                    rss: self.held(number),
                    // Its machine has forgotten that, if this was registered anew.
                    standing: match self.lives[number].killed.get() {
                        true => Standing::DyingVictim,
                        false => Standing::Ordinary,
                    },
                    ..Candidate::default()
                };
                if visit(self.name(number), &candidate).is_break() {
                    return;
                }
            }
        });
    }

    fn caller(&self) -> OomCaller {
        self.alone(|lab| {
            let running = lab.sim().running();
            let is_it = |number: &usize| {
                let life = &self.lives[*number];
                life.lives.get() && Some(life.task.get()) == running
            };
            let number = (0..self.lives.len()).find(is_it);
            OomCaller {
                id: number.map(|number| self.name(number)),
                is_dying: number.is_some_and(|number| self.lives[number].killed.get()),
            }
        })
    }

    fn mark(&self, who: OomId) {
        self.alone(|_| {
            let Some(life) = self.bearer(who) else { return };
            life.victim.set(true);
            if let Some(word) = life.word.get() {
                // SAFETY: [INV-TASK-1] as in `begin`.
                unsafe { word.as_ref() }.note(Fact::OomVictim);
            }
        });
    }

    fn kill(&self, who: OomId) {
        self.alone(|lab| {
            lab.mark("killed", 1);
            let Some(life) = self.bearer(who) else { return };
            assert!(!life.killed.replace(true), "killed twice");
            if let Some(word) = life.word.get() {
                // SAFETY: [INV-TASK-1] as in `begin`.
                unsafe { word.as_ref() }.note(Fact::FatalSignal);
            }
        });
    }

    fn has_ended(&self, who: OomId) -> bool {
        self.alone(|_| self.bearer(who).is_none())
    }

    /// Takes what it holds, for whom it may wait.
    fn reap(&self, who: OomId) -> bool {
        self.alone(|lab| {
            let number = (who.0 & 0xff) as usize;
            let reaped = self.bearer(who).is_some() && self.give(lab, number);
            lab.mark("reaped", reaped.into());
            reaped
        })
    }
}

impl OomNotifier for Killer {
    /// Gives what it kept back.
    fn free_pages(&self) -> usize {
        self.alone(|lab| {
            let reserve = std::mem::take(&mut *self.reserve.borrow_mut());
            let freed = reserve.len();
            lab.mark("notified", 1);
            reserve.into_iter().for_each(|block| lab.free(block));
            freed
        })
    }
}

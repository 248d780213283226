//! Those who were killed and have not ended.

use super::source::{OomId, OomSource};
use crate::policy::oom::{Reap, Reaper};

/// Victims that can be told apart at a time.
pub const VICTIMS_MAX: usize = 16;

const NS_PER_MS: u64 = 1_000_000;

/// How a victim stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Others wait for it.
    Dying,
    /// Nobody waits for it, and it is not chosen again.
    Reaped,
}

#[derive(Copy, Clone, Debug)]
struct Victim {
    who: OomId,
    state: State,
    reaper: Reaper,
    /// When the next attempt to take its memory is due.
    due_ns: u64,
}

/// A victim stays here until it has ended; so it is killed once.
#[derive(Debug)]
pub(super) struct Victims([Option<Victim>; VICTIMS_MAX]);

impl Victims {
    pub(super) const fn new() -> Victims {
        Victims([None; VICTIMS_MAX])
    }

    /// True if one more has room.
    pub(super) fn has_room(&self) -> bool {
        self.0.iter().any(Option::is_none)
    }

    /// `who` was killed now.
    pub(super) fn add(&mut self, who: OomId, now_ns: u64) {
        let reaper = Reaper::default();
        if let Some(room) = self.0.iter_mut().find(|slot| slot.is_none()) {
            *room = Some(Victim {
                who,
                state: State::Dying,
                due_ns: now_ns.saturating_add(u64::from(Reaper::FIRST_MS) * NS_PER_MS),
                reaper,
            });
        }
    }

    /// How `who` stands, if it is a victim.
    pub(super) fn state(&self, who: OomId) -> Option<State> {
        let mut all = self.0.iter().flatten();
        all.find(|victim| victim.who == who).map(|v| v.state)
    }

    /// P433: somebody has been killed, and its memory is on its way.
    pub(super) fn is_anybody_dying(&self) -> bool {
        let mut all = self.0.iter().flatten();
        all.any(|victim| victim.state == State::Dying)
    }

    /// Forgets who has ended, and makes the attempts to take memory that are due (P435). True if
    /// memory came back.
    pub(super) fn advance(&mut self, source: &dyn OomSource, now_ns: u64) -> bool {
        let mut came_back = false;
        for slot in &mut self.0 {
            let Some(victim) = slot else { continue };
            if source.has_ended(victim.who) {
                *slot = None;
                came_back = true;
            } else {
                came_back |= victim.advance(source, now_ns);
            }
        }
        came_back
    }
}

impl Victim {
    /// True if its memory was taken.
    fn advance(&mut self, source: &dyn OomSource, now_ns: u64) -> bool {
        while self.state == State::Dying && now_ns >= self.due_ns {
            if source.reap(self.who) {
                self.state = State::Reaped;
                return true;
            }
            self.reaper.failed();
            match self.reaper.next() {
                Reap::After { ms } => {
                    let wait_ns = u64::from(ms) * NS_PER_MS;
                    self.due_ns = self.due_ns.saturating_add(wait_ns);
                }
                Reap::GiveUp => self.state = State::Reaped,
            }
        }
        false
    }
}

//! Who goes on.

use super::{Event, State, World};
use crate::config::Strategy;

/// What the scheduler does next.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// This task goes on.
    Run(usize),
    /// All tasks have ended.
    Done,
    /// Nobody ever will: `World::end`, or all sleep.
    Stuck,
}

impl World {
    /// Chooses who goes on, and puts it on its CPU.
    pub(crate) fn choose(&mut self) -> Next {
        self.running = None;
        if self.end.is_some() {
            return Next::Stuck;
        }
        loop {
            self.wake_by_time();
            self.find_candidates();
            if !self.candidates.is_empty() {
                let (cpu, task) = self.pick();
                self.dispatch(cpu, task);
                return Next::Run(task);
            }
            let awake = |state: &State| *state == State::Runnable;
            if self.tasks.iter().all(|task| task.state == State::Done) {
                return Next::Done;
            }
            if self.tasks.iter().any(|task| awake(&task.state)) {
                // They wait for slow CPUs.
                self.cpus.iter_mut().for_each(|cpu| cpu.slow_until = 0);
                continue;
            }
            if self.next_deadline_ns == u64::MAX {
                return Next::Stuck;
            }
            self.now_ns = self.now_ns.max(self.next_deadline_ns);
        }
    }

    /// Those whose time has come can run.
    fn wake_by_time(&mut self) {
        if self.now_ns < self.next_deadline_ns {
            return;
        }
        let mut next = u64::MAX;
        for id in 0..self.tasks.len() {
            let State::Sleeping {
                deadline_ns: Some(deadline),
                ..
            } = self.tasks[id].state
            else {
                continue;
            };
            if deadline <= self.now_ns {
                self.tasks[id].state = State::Runnable;
                self.note(Event::Timer, id as u64);
            } else {
                next = next.min(deadline);
            }
        }
        self.next_deadline_ns = next;
    }

    fn find_candidates(&mut self) {
        let mut found = std::mem::take(&mut self.candidates);
        found.clear();
        let has_nmis = self.config.rates.nmi != 0;
        for (number, cpu) in self.cpus.iter_mut().enumerate() {
            if let Some(task) = cpu.current
                && self.tasks[task].state != State::Runnable
            {
                cpu.current = None; // it went to sleep
            }
            if cpu.slow_until > self.outcome.steps {
                continue;
            }
            if cpu.taken {
                // Somebody else has a section, so there are others; an NMI may come here.
                let nmi = has_nmis && self.rng.one_in(8);
                found.extend(cpu.current.filter(|_| nmi).map(|t| (number as u32, t)));
            } else if let Some(task) = cpu.current
                && !cpu.preemptible()
            {
                found.push((number as u32, task));
            } else {
                let tasks = self.tasks.iter().enumerate();
                let here = tasks.filter(|(_, task)| task.cpu == number as u32);
                let runnable = here.filter(|(_, task)| task.state == State::Runnable);
                found.extend(runnable.map(|(id, _)| (number as u32, id)));
            }
        }
        self.candidates = found;
    }

    fn pick(&mut self) -> (u32, usize) {
        let candidates = &self.candidates;
        match self.config.strategy {
            Strategy::Random(_) => candidates[self.rng.below(candidates.len())],
            Strategy::RoundRobin(_) => {
                let cpu_after =
                    |cpu: u32| (cpu + self.config.cpus - self.here - 1) % self.config.cpus;
                let last = self.cpus.iter().map(|cpu| cpu.current);
                let last: Vec<usize> = last.map(|task| task.unwrap_or(0)).collect();
                let tasks = self.tasks.len();
                let task_after =
                    |(cpu, task): (u32, usize)| (task + tasks - last[cpu as usize] - 1) % tasks;
                let key = |c: &(u32, usize)| (cpu_after(c.0), task_after(*c));
                *candidates.iter().min_by_key(|c| key(c)).expect("not empty")
            }
            Strategy::Priorities { .. } => {
                let priority = |c: &&(u32, usize)| self.tasks[c.1].priority;
                *candidates.iter().max_by_key(priority).expect("not empty")
            }
        }
    }

    fn dispatch(&mut self, cpu: u32, task: usize) {
        let before = self.cpus[cpu as usize].current.replace(task);
        if let Some(old) = before.filter(|old| *old != task)
            && self.chance(self.config.rates.migrate)
        {
            self.tasks[old].cpu = self.rng.below(self.cpus.len()) as u32;
        }
        if self.here != cpu || before != Some(task) {
            self.outcome.switches += 1;
            self.note(Event::Switch, u64::from(cpu) << 32 | task as u64);
        }
        self.here = cpu;
        self.running = Some(task);
    }
}

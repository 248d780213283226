//! What a failure tells.

use super::{Inside, State, Task, World};

impl World {
    /// The tasks that did not end, and what they wait for.
    pub(crate) fn unfinished(&self) -> Vec<String> {
        let unfinished = self.tasks.iter().enumerate();
        unfinished
            .filter(|(_, task)| task.state != State::Done)
            .map(|(id, task)| self.describe(id, task))
            .collect()
    }

    fn describe(&self, id: usize, task: &Task) -> String {
        let name = &task.name;
        let cpu = self.cpus.iter().position(|cpu| cpu.current == Some(id));
        match (&task.state, cpu) {
            (State::Sleeping { word, deadline_ns }, _) => match (word, deadline_ns) {
                (0, until) => format!("task {name} sleeps until {until:?} ns"),
                (word, None) => format!("task {name} waits on the word at {word:#x}"),
                (word, Some(until)) => {
                    format!("task {name} waits on the word at {word:#x} until {until} ns")
                }
            },
            (State::Runnable, Some(cpu)) => {
                let on = &self.cpus[cpu];
                let inside = if on.inside == Inside::Inside {
                    ", inside"
                } else {
                    ""
                };
                let taken = if on.taken { ", its place taken" } else { "" };
                let handler = match (on.softirq_depth, on.irq_depth, on.nmi_depth) {
                    (0, 0, 0) => "",
                    (_, 0, 0) => ", in a softirq",
                    (_, _, 0) => ", in an interrupt",
                    _ => ", in an NMI",
                };
                format!("task {name} runs on CPU {cpu}{inside}{taken}{handler}")
            }
            (State::Runnable, None) => format!("task {name} could run on CPU {}", task.cpu),
            (State::Done, _) => format!("task {name} is over"),
        }
    }

    /// The last events.
    pub(crate) fn last_events(&self) -> Vec<String> {
        let name = |task: usize| self.tasks.get(task).map_or("-", |task| task.name.as_str());
        self.trace
            .last()
            .map(|entry| entry.show(name(entry.task)))
            .collect()
    }
}

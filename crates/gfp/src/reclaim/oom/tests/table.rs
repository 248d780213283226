//! The table of candidates in the report.

use super::script::{QUIET, Script, boot, one};
use crate::policy::oom::{Candidate, TABLE_HEADER, TaskRow};
use crate::reclaim::oom::{OomId, OomSettings, OomSource, OomTasks};
use std::format;
use std::ops::ControlFlow;
use std::string::ToString;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

#[test]
fn the_table_of_candidates_is_left_out_if_the_settings_say_so() {
    // P435a, P717
    let mm = boot();
    for dumps_tasks in [true, false] {
        let mut script = Script::new(&mm, &[(1, 100, 0), (2, 2000, 0), (3, 200, 0)]);
        script.settings.dumps_tasks = dumps_tasks;
        assert!(script.run(|| one(&mm, QUIET)));
        assert_eq!(script.killed(), [2]);
        let reports = script.reports.lock().unwrap();
        let table = format!("\n{TABLE_HEADER}\n[      1] ");
        assert_eq!(reports[0].contains(&table), dumps_tasks, "{}", reports[0]);
        let rows = reports[0]
            .lines()
            .filter(|line| line.starts_with("[      "));
        assert_eq!(rows.count(), if dumps_tasks { 3 } else { 0 });
    }
    assert!(OomSettings::default().dumps_tasks);
}

/// So many candidates. It is not to be asked about one while it shows them.
struct Crowd(u64, AtomicUsize);

impl OomSource for Crowd {
    fn for_each(&self, visit: &mut dyn FnMut(OomId, &Candidate) -> ControlFlow<()>) {
        self.1.store(1, Relaxed);
        for id in 0..self.0 {
            if visit(OomId(id), &Candidate::default()).is_break() {
                break;
            }
        }
        self.1.store(0, Relaxed);
    }
    fn mark(&self, _: OomId) {}
    fn kill(&self, _: OomId) {}
    fn has_ended(&self, _: OomId) -> bool {
        false
    }
    fn describe(&self, who: OomId) -> TaskRow<'_> {
        assert_eq!(self.1.load(Relaxed), 0);
        TaskRow {
            pid: who.0 as u32,
            ..TaskRow::default()
        }
    }
}

#[test]
fn the_table_has_a_row_for_each_candidate_however_many() {
    // P435a
    for n in [0, 1, 63, 64, 65, 128, 150] {
        let crowd = Crowd(n, AtomicUsize::new(0));
        let text = OomTasks(&crowd).to_string();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some(TABLE_HEADER));
        for id in 0..n {
            let row = lines.next().unwrap();
            assert!(row.starts_with(&format!("[{id:7}] ")), "{row}");
        }
        assert_eq!(lines.next(), None);
    }
}

//! The lines of the report (P435a), as structures that print themselves.
//!
//! The executor writes, in this order: [`Invocation`], the caller's stack, the memory report
//! (P606), [`TABLE_HEADER`] and a [`TaskRow`] for each candidate (unless `oom_dump_tasks` is 0),
//! [`KilledBy`], [`VictimLine`]. No line ends with a newline.

use core::fmt;

use super::Constraint;
use crate::flags::Gfp;
use crate::frame::{Listed, NodeMask};
use crate::policy::order::PAGE_SIZE;

/// KiB in a page.
const KIB: usize = PAGE_SIZE / 1024;

/// The first line: who could not get what.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Invocation<'a> {
    /// The name of the task that asked.
    pub comm: &'a str,
    /// Its flags.
    pub gfp: Gfp,
    /// Its order.
    pub order: u32,
    /// Its `oom_score_adj`.
    pub adj: i16,
}

impl fmt::Display for Invocation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} invoked oom-killer: gfp_mask=0x{:x}({}), order={}, oom_score_adj={}",
            self.comm,
            self.gfp.bits(),
            self.gfp,
            self.order,
            self.adj
        )
    }
}

/// The header of the table of candidates.
pub const TABLE_HEADER: &str = "[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file \
rss_shmem pgtables_bytes swapents oom_score_adj name";

/// One row of the table. Sizes in pages unless the name says otherwise.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskRow<'a> {
    /// The task.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Its thread group.
    pub tgid: u32,
    /// Its address space.
    pub total_vm: usize,
    /// What is in memory, of all three sorts.
    pub rss: usize,
    /// Anonymous.
    pub rss_anon: usize,
    /// Of files.
    pub rss_file: usize,
    /// Shared.
    pub rss_shmem: usize,
    /// Its page tables, in bytes.
    pub pgtables_bytes: usize,
    /// Stored elsewhere.
    pub swapents: usize,
    /// Its `oom_score_adj`.
    pub adj: i16,
    /// Its name.
    pub comm: &'a str,
}

impl fmt::Display for TaskRow<'_> {
    /// Columns end where those of [`TABLE_HEADER`] end; the widths are not in the rule.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "[{:7}] {:5} {:5} {:8} {:8} {:8} {:8} {:9} {:14} {:8} {:13} {}",
            self.pid,
            self.uid,
            self.tgid,
            self.total_vm,
            self.rss,
            self.rss_anon,
            self.rss_file,
            self.rss_shmem,
            self.pgtables_bytes,
            self.swapents,
            self.adj,
            self.comm
        )
    }
}

/// Where the kill was limited to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Constrained<'a> {
    /// The whole machine, or a set of its nodes.
    Global,
    /// This group.
    Group(&'a str),
}

/// The line of names and values: under which constraint who was killed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct KilledBy<'a> {
    /// The constraint.
    pub constraint: Constraint,
    /// The nodes that the request was limited to; `None` prints `(null)`.
    pub nodemask: Option<NodeMask>,
    /// The caller's cpuset.
    pub cpuset: &'a str,
    /// The nodes that it allows.
    pub mems_allowed: &'a str,
    /// Where the kill was limited to.
    pub scope: Constrained<'a>,
    /// The victim's group.
    pub task_memcg: &'a str,
    /// The victim.
    pub task: &'a str,
    /// The victim.
    pub pid: u32,
    /// The victim's user.
    pub uid: u32,
}

impl fmt::Display for KilledBy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "oom-kill:constraint=CONSTRAINT_{},nodemask={},cpuset={},mems_allowed={},",
            self.constraint.name(),
            Listed(self.nodemask),
            self.cpuset,
            self.mems_allowed
        )?;
        match self.scope {
            Constrained::Global => f.write_str("global_oom")?,
            Constrained::Group(group) => write!(f, "oom_memcg={group}")?,
        }
        write!(
            f,
            ",task_memcg={},task={},pid={},uid={}",
            self.task_memcg, self.task, self.pid, self.uid
        )
    }
}

/// The last line: the victim and what it had. Sizes in pages.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct VictimLine<'a> {
    /// What was out of memory; a group's line says so.
    pub constraint: Constraint,
    /// The victim, as in the table.
    pub task: TaskRow<'a>,
}

impl fmt::Display for VictimLine<'_> {
    /// P435a leaves the order of the fields unverified; it is that of the rule.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.constraint {
            Constraint::Memcg => "Memory cgroup out of memory",
            _ => "Out of memory",
        };
        let TaskRow {
            pid,
            comm,
            uid,
            adj,
            ..
        } = self.task;
        let kb = |pages: usize| pages.saturating_mul(KIB);
        write!(
            f,
            "{what}: Killed process {pid} ({comm}) total-vm:{}kB, anon-rss:{}kB, file-rss:{}kB, \
             shmem-rss:{}kB, UID:{uid} pgtables:{}kB oom_score_adj:{adj}",
            kb(self.task.total_vm),
            kb(self.task.rss_anon),
            kb(self.task.rss_file),
            kb(self.task.rss_shmem),
            self.task.pgtables_bytes / 1024
        )
    }
}

//! A fork while somebody is being killed: the child has the lock of the killer, and not its holder.
//!
//! Seen to fail, by a child that hangs, with: a lock that is not given up in the child.
#![cfg(not(loom))]

use gfp::flags::{GFP_KERNEL, GFP_NOFS, GFP_NOWAIT, Gfp};
use gfp::policy::oom::Candidate;
use gfp::reclaim::oom::{OomId, OomRegisterError, OomSource};
use gfp_host::{Buffer, Host, HostConfig};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread;

#[path = "common/child.rs"]
mod child;
#[path = "common/shared.rs"]
mod shared;
use child::in_child;
use shared::Shared;

const PAGE: usize = 4096;

/// One job that has all memory. It takes its time to end.
#[derive(Default)]
struct Job {
    memory: Shared<Vec<Buffer>>,
    dies: AtomicBool,
    may_end: AtomicBool,
}

impl OomSource for Job {
    fn for_each(&self, visit: &mut dyn FnMut(OomId, &Candidate) -> ControlFlow<()>) {
        let rss = self.memory.with(|memory| memory.len());
        let candidate = Candidate {
            rss,
            ..Candidate::default()
        };
        let _ = visit(OomId(1), &candidate);
    }

    fn mark(&self, _: OomId) {}

    fn kill(&self, _: OomId) {
        self.dies.store(true, Release);
        while !self.may_end.load(Acquire) {
            thread::yield_now();
        }
        drop(self.memory.with(std::mem::take));
    }

    fn has_ended(&self, _: OomId) -> bool {
        true
    }
}

#[test]
fn a_child_of_a_fork_amid_a_kill_waits_for_nobody_and_kills_nobody() {
    // P128, P129
    let host = Host::boot(&HostConfig::new(16 << 20)).unwrap();
    let job = Arc::new(Job::default());
    let mut memory = Vec::new();
    while let Ok(page) = host.buffer(PAGE, GFP_NOWAIT & !Gfp::RECLAIM) {
        memory.push(page);
    }
    job.memory.with(|mine| mine.extend(memory));
    let guard = host.register_oom_source(job.clone()).unwrap();
    let mut of_child = Some(guard);
    let peaceful = in_child(|| {
        drop(of_child.take());
        match host.register_oom_source(job.clone()) {
            Ok(_) => 0,
            Err(_) => 1, // its place is not free
        }
    });
    assert_eq!(peaceful, 0);
    thread::scope(|scope| {
        let request = scope.spawn(|| host.buffer(PAGE, GFP_KERNEL).is_ok());
        while !job.dies.load(Acquire) {
            thread::yield_now();
        }
        let answer = in_child(|| {
            for gfp in [GFP_KERNEL, GFP_NOFS] {
                // What this CPU has cached may serve some.
                while host.kmalloc(PAGE, gfp).is_ok() {}
            }
            let again = host.register_oom_source(job.clone());
            if !matches!(again, Err(OomRegisterError::Lost)) {
                return 1;
            }
            drop(of_child.take());
            0
        });
        job.may_end.store(true, Release);
        assert_eq!(answer, 0);
        assert!(request.join().unwrap(), "the parent's killer goes on");
    });
    drop(of_child);
    host.verify().unwrap();
}

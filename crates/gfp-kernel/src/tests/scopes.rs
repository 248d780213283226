//! Scopes belong to tasks: they move with them, and handlers have none.

use super::threads;
use crate::arch::traps;
use crate::memory::mm;
use crate::sched::{self, Affinity};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use gfp::frame::CpuId;
use gfp::platform::{ScopeError, Snapshot};
use gfp::policy::effort::Scopes;

super::tests! { "scopes":
    a_scope_moves_with_its_task_and_handlers_have_none,
}

/// Handlers that looked, and that saw or could open a scope.
static LOOKED: AtomicU32 = AtomicU32::new(0);
static SAW: AtomicU32 = AtomicU32::new(0);

fn look(_: &mut traps::Frame) {
    let opened = mm().scope_noio(&"a handler").map(drop);
    let none = mm().scopes() == Snapshot::default();
    if !none || opened != Err(ScopeError::NoTask) {
        SAW.fetch_add(1, Relaxed);
    }
    LOOKED.fetch_add(1, Relaxed);
}

// P150, P152
fn a_scope_moves_with_its_task_and_handlers_have_none() {
    const ROUNDS: u32 = 200;
    LOOKED.store(0, Relaxed);
    SAW.store(0, Relaxed);
    traps::ON_TIMER.set(Some(look));
    traps::ON_NMI.set(Some(look));
    let scopes = [Scopes::NOIO, Scopes::NOFS, Scopes::PIN];
    threads::on_all_cpus(move |cpu| {
        let own = scopes[cpu as usize % scopes.len()];
        let guard = mm().scope(own, &"a task").expect("tasks have words");
        let cpus = crate::arch::smp::count();
        for round in 0..ROUNDS {
            assert_eq!(mm().scopes().scopes(), own);
            sched::set_affinity(Affinity::One(CpuId((cpu + round) % cpus)));
            sched::yield_now();
        }
        assert_eq!(mm().scopes().reason(), Some(&"a task"));
        drop(guard);
        assert_eq!(mm().scopes(), Snapshot::default());
    });
    while LOOKED.load(Relaxed) < 100 {
        sched::yield_now();
    }
    assert_eq!(SAW.load(Relaxed), 0, "handlers that saw a task's scope");
}

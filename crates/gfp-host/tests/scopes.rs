//! What each thread of a process has of its own: scopes and rights.
#![cfg(not(loom))]

use gfp::page::BootConfig;
use gfp::platform::{Fact, Platform, Snapshot};
use gfp::policy::effort::Scopes;
use gfp_host::{HostConfig, HostPlatform, slots};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

type Mm = gfp::Mm<HostPlatform>;

fn machine() -> Mm {
    let platform = HostPlatform::new(&HostConfig::new(16 << 20)).unwrap();
    let map = platform.memory_map();
    Mm::boot(platform, &map, &BootConfig::default()).unwrap()
}

#[test]
fn each_thread_has_scopes_of_its_own_on_all_machines() {
    // P150
    let (mm, other) = (machine(), machine());
    let both_open = Barrier::new(2);
    let work = |scope: Scopes| {
        assert_eq!(mm.scopes(), Snapshot::default(), "a new thread has none");
        let guard = mm.scope(scope, &"a thread").unwrap();
        both_open.wait();
        assert_eq!(
            (mm.scopes().scopes(), other.scopes().scopes()),
            (scope, scope)
        );
        both_open.wait();
        drop(guard);
    };
    thread::scope(|s| {
        s.spawn(|| work(Scopes::NOIO));
        s.spawn(|| work(Scopes::PIN));
    });
    assert_eq!(mm.scopes(), Snapshot::default());
}

static SEEN: AtomicU32 = AtomicU32::new(0);

extern "C" fn look(_: i32) {
    let task = slots::this_task();
    let has = u32::from(task.has(Fact::Realtime));
    SEEN.store(
        has << 8 | u32::from(task.scopes().bits()),
        Ordering::Relaxed,
    );
}

#[test]
fn a_signal_handler_finds_the_word_of_its_thread() {
    let mm = machine();
    // SAFETY: the handler is async-signal-safe.
    let old = unsafe { libc::signal(libc::SIGUSR1, look as extern "C" fn(i32) as usize) };
    assert_ne!(old, libc::SIG_ERR);
    let task = mm.platform().this_task().unwrap();
    task.note(Fact::Realtime);
    let _scope = mm.scope_nofs(&"interrupted").unwrap();
    // SAFETY: the handler is async-signal-safe.
    assert_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0);
    let seen = SEEN.load(Ordering::Relaxed);
    assert_eq!(seen, 1 << 8 | u32::from(Scopes::NOFS.bits()));
    task.forget(Fact::Realtime);
}

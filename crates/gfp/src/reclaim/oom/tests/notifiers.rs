//! Who can free memory before anybody is killed, and requests that may kill nobody themselves.

extern crate std;

use super::Nothing;
use super::script::{NEVER, QUIET, Script, TestMm, boot, one, take};
use crate::flags::{GFP_NOFS, Gfp};
use crate::reclaim::oom::{NOTIFIERS_MAX, OomNotifier, OomRegisterError};
use core::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::vec::Vec;

struct Reserve<'m> {
    mm: &'m TestMm,
    pages: Mutex<Vec<NonNull<u8>>>,
    calls: AtomicUsize,
}

// SAFETY: the pages are its own.
unsafe impl Sync for Reserve<'_> {}

impl<'m> Reserve<'m> {
    fn new(mm: &'m TestMm, pages: usize) -> Reserve<'m> {
        Reserve {
            mm,
            pages: Mutex::new(take(mm, pages)),
            calls: AtomicUsize::new(0),
        }
    }

    fn as_notifier(&self) -> NonNull<dyn OomNotifier> {
        let notifier = NonNull::from(self as &dyn OomNotifier);
        // SAFETY: lifetimes only; who registers it unregisters it while `self` lives.
        unsafe {
            core::mem::transmute::<NonNull<dyn OomNotifier + '_>, NonNull<dyn OomNotifier>>(
                notifier,
            )
        }
    }
}

impl OomNotifier for Reserve<'_> {
    fn free_pages(&self) -> usize {
        self.calls.fetch_add(1, Relaxed);
        let pages = core::mem::take(&mut *self.pages.lock().unwrap());
        // SAFETY: its own, freed once.
        pages
            .iter()
            .for_each(|p| unsafe { self.mm.kfree(p.as_ptr()) });
        pages.len()
    }
}

#[test]
fn a_notifier_that_frees_enough_saves_everybody_once() {
    // P430
    let mm = boot();
    let reserve = Reserve::new(&mm, 600);
    let script = Script::new(&mm, &[(1, 2000, 0)]);
    let reclaim = mm.slabs().reclaim();
    let notifier = reserve.as_notifier();
    // SAFETY: it is unregistered below.
    let register = || unsafe { reclaim.register_oom_notifier_for(notifier) };
    let id = register().unwrap();
    script.run(|| {
        assert!(one(&mm, QUIET));
        assert_eq!(
            (script.killed(), reserve.calls.load(Relaxed)),
            (Vec::new(), 1)
        );
        let mine = take(&mm, usize::MAX);
        assert!(one(&mm, QUIET));
        assert_eq!(
            (script.killed(), reserve.calls.load(Relaxed)),
            (std::vec![1], 2)
        );
        // SAFETY: ours, freed once.
        mine.iter().for_each(|p| unsafe { mm.kfree(p.as_ptr()) });
    });
    reclaim.unregister_oom_notifier(id);
    let ids: Vec<_> = (0..NOTIFIERS_MAX).map(|_| register().unwrap()).collect();
    assert_eq!(register(), Err(OomRegisterError::Full));
    ids.into_iter()
        .for_each(|id| reclaim.unregister_oom_notifier(id));
}

#[test]
fn a_request_without_fs_ends_when_nobody_can_be_killed_any_more() {
    // P431: it would wait for ever for somebody who kills.
    let mm = boot();
    let script = Script::new(&mm, &[(1, 2000, 0)]);
    let raw = core::ptr::from_ref(&mm).expose_provenance();
    let source = mm.register_oom_source(&Nothing).unwrap();
    let meanwhile = std::boxed::Box::new(move || {
        // SAFETY: the request that runs this is one of `mm`.
        let mm = unsafe { &*core::ptr::with_exposed_provenance::<TestMm>(raw) };
        mm.unregister_oom_source(source);
    });
    *mm.platform().on_relax.lock().unwrap() = Some(meanwhile);
    assert!(!one(&mm, GFP_NOFS | Gfp::NOWARN));
    assert!(mm.platform().on_relax.lock().unwrap().is_none());
    assert_eq!(script.killed(), []);
}

#[test]
fn a_request_without_fs_sees_to_victims_and_asks_notifiers() {
    // P430, P435: nobody else may come for whom it would be done.
    let mm = boot();
    let mut script = Script::new(&mm, &[(1, 500, 0), (2, 2000, NEVER)]);
    script.reaps = true;
    script.run(|| {
        // The victim's memory is not there yet when the other request gives up.
        assert!(one(&mm, QUIET | Gfp::NOFAIL));
        assert_eq!(script.killed(), [2]);
        assert_eq!(script.reap_attempts.load(Relaxed), 0);
        mm.pages().drain_all();
        assert!(one(&mm, GFP_NOFS | Gfp::NOWARN));
    });
    assert_eq!(script.reap_attempts.load(Relaxed), 1);
    assert_eq!(script.killed(), [2]);

    let mm = boot();
    let reserve = Reserve::new(&mm, 600);
    let script = Script::new(&mm, &[(1, 2000, 0)]);
    let notifier = reserve.as_notifier();
    // SAFETY: it is unregistered below.
    let id = unsafe { mm.slabs().reclaim().register_oom_notifier_for(notifier) };
    assert!(script.run(|| one(&mm, GFP_NOFS | Gfp::NOWARN)));
    assert_eq!(reserve.calls.load(Relaxed), 1);
    mm.slabs().reclaim().unregister_oom_notifier(id.unwrap());
    assert_eq!(script.killed(), []);
}

//! P150-P152, P950.

use super::*;

#[test]
fn nested_scopes_leave_the_outer_one_intact() {
    // P151: noio{ nofs{ noio{} } } is still noio after the inner two.
    let mut scopes = Scopes::NONE;
    let outer = scopes.save(Scopes::NOIO);
    let nofs = scopes.save(Scopes::NOFS);
    let inner = scopes.save(Scopes::NOIO);
    scopes.restore(inner);
    assert_eq!(scopes, Scopes::NOIO.with(Scopes::NOFS));
    scopes.restore(nofs);
    assert_eq!(scopes, Scopes::NOIO);
    scopes.restore(outer);
    assert_eq!(scopes, Scopes::NONE);
}

#[test]
fn every_nesting_of_three_restores_exactly() {
    // P151
    let sets = || {
        (0u8..16).map(|bits| {
            let named = Scopes::NAMED.into_iter().enumerate();
            let open = named.filter(|(i, _)| bits >> i & 1 != 0);
            open.fold(Scopes::NONE, |all, (_, (_, scope))| all.with(scope))
        })
    };
    for (a, b) in sets().flat_map(|a| sets().map(move |b| (a, b))) {
        for c in sets() {
            let mut scopes = a;
            let first = scopes.save(b);
            let before = scopes;
            let second = scopes.save(c);
            assert_eq!(scopes, a.with(b).with(c));
            scopes.restore(second);
            assert_eq!(scopes, before);
            scopes.restore(first);
            assert_eq!(scopes, a);
        }
    }
}

#[test]
fn what_scopes_take_away() {
    // P150
    let table = [
        (Scopes::NOIO, GFP_KERNEL, GFP_NOIO),
        (Scopes::NOFS, GFP_KERNEL, GFP_NOFS),
        (Scopes::NOIO.with(Scopes::NOFS), GFP_KERNEL, GFP_NOIO),
        (Scopes::NORECLAIM, GFP_KERNEL, GFP_KERNEL),
        (Scopes::PIN, GFP_HIGHUSER_MOVABLE, GFP_HIGHUSER),
        (Scopes::NONE, GFP_TRANSHUGE, GFP_TRANSHUGE),
    ];
    for (scopes, gfp, expected) in table {
        assert_eq!(scopes.apply(gfp), expected, "{scopes:?} {gfp}");
    }
    let all = Scopes::NOIO.with(Scopes::NOFS).with(Scopes::PIN);
    assert_eq!(format!("{all:?} {:?}", Scopes::NONE), "noio|nofs|pin none");
}

#[test]
fn a_snapshot_travels() {
    // P152: work done for a task in its scope stays in it, and leaves the worker's own alone.
    let mut task = Scopes::NONE;
    let saved = task.save(Scopes::NOFS);
    let snapshot = task;
    task.restore(saved);
    let mut worker = Scopes::PIN;
    let work = worker.save(snapshot);
    assert_eq!(worker.apply(GFP_HIGHUSER_MOVABLE), GFP_HIGHUSER & !Gfp::FS);
    worker.restore(work);
    assert_eq!(worker, Scopes::PIN);
}

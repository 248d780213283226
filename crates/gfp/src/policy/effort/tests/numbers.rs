//! The rest of the table: words, rights, warnings, charges (P29, P49-P61, P150-P156, P262, P441,
//! P600).

use super::*;
use crate::policy::watermark::AllocFlags;

#[test]
fn retry_counts() {
    // P121, P122
    let mut retry = Retry::default();
    for round in 1..=16 {
        retry.after_reclaim(Progress::None, OrderClass::Small);
        assert_eq!(retry.no_progress, round);
        assert!(retry.may_reclaim_again());
    }
    let mut costly = retry;
    retry.after_reclaim(Progress::Some, OrderClass::Small);
    assert_eq!(retry.no_progress, 0);
    costly.after_reclaim(Progress::Some, OrderClass::Costly);
    assert!(!costly.may_reclaim_again());
}

#[test]
fn compaction_retries() {
    // P125: 16 or 4 successes without a page at each priority.
    for (class, order, per_priority, levels) in [
        (OrderClass::Small, CompactPriority::SyncFull, 16, 3),
        (OrderClass::Costly, CompactPriority::SyncLight, 4, 2),
    ] {
        let mut retry = Retry::default();
        let mut retries = 0;
        while retry.after_compaction(CompactOutcome::Success, class, order) == CompactRetry::Retry {
            retries += 1;
        }
        assert_eq!(retries, (per_priority + 1) * levels - 1, "{class:?}");
        assert_eq!(retry.priority, order);
    }
    let mut retry = Retry::default();
    let skipped = CompactOutcome::Skipped;
    let top = CompactPriority::SyncFull;
    let said = retry.after_compaction(skipped, OrderClass::Small, top);
    assert_eq!(said, CompactRetry::IfSuitable);
}

#[test]
fn boot_and_suspend_take_bits_away() {
    // P29: in the boot phase GFP_KERNEL is level 1.
    let allowed = GFP_BOOT_MASK;
    let boot = Machine {
        allowed,
        ..Machine::LINUX
    };
    let effort = Effort::of(GFP_KERNEL, 0, &Caller::default(), &boot);
    assert_eq!((effort.level, effort.gfp), (Level::NoReclaim, Gfp::NONE));
    let allowed = GFP_SUSPEND_MASK;
    let suspend = Machine {
        allowed,
        ..Machine::LINUX
    };
    let effort = Effort::of(GFP_KERNEL, 1, &Caller::default(), &suspend);
    assert_eq!(effort.compaction, Compaction::None(NoCompaction::NoIo));
    assert_eq!(effort.oom, OomRule::WaitForOthers);
}

#[test]
fn a_context_that_may_not_sleep_makes_no_request_wait() {
    // P154
    for context in [
        Context::Atomic,
        Context::SoftIrq,
        Context::HardIrq,
        Context::Nmi,
    ] {
        let caller = Caller::in_context(context);
        let effort = Effort::of(GFP_KERNEL | Gfp::NOFAIL, 0, &caller, &Machine::LINUX);
        assert_eq!(effort.rounds, Rounds::None(NoReclaim::Context));
        assert!(effort.may_fail && run(&effort, &BARREN).failed);
        let complaints: Vec<_> = effort.complaints().collect();
        assert_eq!(complaints, [Complaint::MaySleep { context }]);
        assert_eq!(effort.wake_background, context != Context::Nmi);
        let atomic = Effort::of(GFP_ATOMIC, 0, &caller, &Machine::LINUX);
        assert_eq!(atomic.complaints().count(), 0);
    }
    // P154: who reclaims is not asked, since it will not sleep for memory.
    let reclaiming = Caller {
        scopes: Scopes::NORECLAIM,
        ..Caller::in_context(Context::Atomic)
    };
    let effort = Effort::of(GFP_KERNEL, 0, &reclaiming, &Machine::LINUX);
    assert_eq!(effort.complaints().count(), 0);
}

#[test]
fn complaints_name_what_is_wrong() {
    // P47-P52
    let first = |gfp, order| effort(gfp, order).complaints().next();
    let flags = |error| Some(Complaint::Flags(error));
    assert_eq!(first(GFP_KERNEL, 0), None);
    assert_eq!(
        first(GFP_NOWAIT | Gfp::NOFAIL, 0),
        flags(GfpError::NofailWithoutReclaim)
    );
    let order = 2;
    assert_eq!(
        first(GFP_KERNEL | Gfp::NOFAIL, order),
        flags(GfpError::NofailHighOrder { order })
    );
    let reclaiming = Caller {
        scopes: Scopes::NORECLAIM,
        ..Caller::default()
    };
    let nested = Effort::of(GFP_KERNEL | Gfp::NOFAIL, 0, &reclaiming, &Machine::LINUX);
    assert_eq!(nested.complaints().next(), flags(GfpError::NofailInReclaim));
    // P50: it loops, and looks without watermarks each time.
    let run = run(&nested, &BARREN);
    assert!(!run.failed && run.reclaims() == 0 && run.passes() > 100);
}

#[test]
fn an_order_beyond_the_largest_is_refused_at_once() {
    // P52, also with NOFAIL
    for (gfp, word) in [
        (GFP_KERNEL | Gfp::NOFAIL, "fail+report"),
        (GFP_KERNEL | Gfp::NOWARN, "fail"),
    ] {
        assert_eq!(run(&effort(gfp, MAX_PAGE_ORDER + 1), &BARREN).words(), word);
        assert!(effort(gfp, MAX_PAGE_ORDER + 1).may_fail);
    }
}

#[test]
fn warnings() {
    // P14, P600, P603
    let no_dma = Machine {
        dma_has_pages: false,
        ..Machine::LINUX
    };
    let warn = |gfp, machine| Effort::of(gfp, 0, &Caller::default(), &machine).warn;
    assert_eq!(warn(GFP_ATOMIC, Machine::LINUX), Warn::Report);
    assert_eq!(warn(GFP_NOWAIT, Machine::LINUX), Warn::Nowarn);
    assert_eq!(warn(GFP_KERNEL | GFP_DMA, Machine::LINUX), Warn::Report);
    assert_eq!(warn(GFP_KERNEL | GFP_DMA, no_dma), Warn::NoDmaPages);
}

#[test]
fn zones_that_the_machine_lacks() {
    // P47, P2, P206
    let only_normal = Machine {
        zones: Zones::NONE.with(ZoneKind::Normal),
        ..Machine::LINUX
    };
    let highest = |gfp, machine| Effort::of(gfp, 0, &Caller::default(), &machine).highest;
    for gfp in [
        GFP_KERNEL | GFP_DMA,
        GFP_KERNEL | GFP_DMA32,
        GFP_HIGHUSER_MOVABLE,
    ] {
        assert_eq!(highest(gfp, only_normal), ZoneKind::Normal, "{gfp}");
    }
    assert_eq!(highest(GFP_HIGHUSER, Machine::LINUX), ZoneKind::Normal);
    assert_eq!(
        highest(GFP_HIGHUSER_MOVABLE, Machine::LINUX),
        ZoneKind::Movable
    );
    let pinning = Caller {
        scopes: Scopes::PIN,
        ..Caller::default()
    };
    let pinned = Effort::of(GFP_HIGHUSER_MOVABLE, 0, &pinning, &Machine::LINUX);
    assert_eq!(pinned.highest, ZoneKind::Normal);
    assert_eq!(pinned.mobility, MigrateType::Unmovable);
}

#[test]
fn rights_are_those_of_the_watermark_module() {
    // P261-P265: the table adds nothing of its own but cpusets and defrag mode.
    let caller = Caller {
        realtime: true,
        ..Caller::default()
    };
    let effort = Effort::of(GFP_KERNEL, 1, &caller, &Machine::LINUX);
    assert_eq!(effort.fast, AllocFlags::fast(GFP_KERNEL));
    assert_eq!(
        effort.slow,
        Some(AllocFlags::slow(GFP_KERNEL, 1, &caller.rights()))
    );
    assert!(effort.slow.unwrap().contains(AllocFlags::MIN_RESERVE));
    // P152: a hard interrupt does not inherit the noreclaim scope of the task below.
    let irq = Caller {
        scopes: Scopes::NORECLAIM,
        ..Caller::in_context(Context::HardIrq)
    };
    assert_eq!(
        Effort::of(GFP_ATOMIC, 0, &irq, &Machine::LINUX).reserves,
        None
    );
    let kernel = Effort::of(GFP_KERNEL, 0, &irq, &Machine::LINUX);
    let context = Context::HardIrq;
    assert_eq!(
        kernel.complaints().next(),
        Some(Complaint::MaySleep { context })
    );
    assert!(!Charge::of(&kernel).forced);
    let softirq = Caller {
        context: Context::SoftIrq,
        ..irq
    };
    let reserves = Effort::of(GFP_ATOMIC, 0, &softirq, &Machine::LINUX).reserves;
    assert!(reserves.unwrap().contains(AllocFlags::NO_WATERMARKS));
}

#[test]
fn charges() {
    // P441, P442
    let of = |gfp, order| Charge::of(&effort(gfp, order));
    let charge = |may_reclaim, may_retry, may_kill, forced| Charge {
        may_reclaim,
        may_retry,
        may_kill,
        forced,
    };
    assert_eq!(of(GFP_KERNEL, 0), charge(true, true, true, false));
    assert_eq!(of(GFP_KERNEL, 4), charge(true, true, false, false));
    assert_eq!(of(GFP_NOWAIT, 0), charge(false, false, false, false));
    assert_eq!(of(GFP_ATOMIC, 0), charge(false, false, false, true));
    assert_eq!(
        of(GFP_KERNEL | Gfp::NORETRY, 0),
        charge(true, false, false, false)
    );
    assert_eq!(
        of(GFP_KERNEL | Gfp::RETRY_MAYFAIL, 0),
        charge(true, true, false, false)
    );
    assert_eq!(
        of(GFP_KERNEL | Gfp::NOFAIL, 0),
        charge(true, true, true, true)
    );
    let caller = Caller {
        scopes: Scopes::NORECLAIM,
        ..Caller::default()
    };
    let reclaiming = Effort::of(GFP_KERNEL, 0, &caller, &Machine::LINUX);
    assert_eq!(Charge::of(&reclaiming), charge(false, false, false, true));
}

#[test]
fn words_of_numa_policies_and_waits() {
    // P138, P139
    let first = prefer_many_first(GFP_KERNEL | Gfp::NOFAIL);
    assert_eq!(first, Gfp::KSWAPD_RECLAIM | Gfp::IO | Gfp::FS | Gfp::NOWARN);
    let huge = local_huge_first(GFP_TRANSHUGE);
    assert_eq!(huge, GFP_TRANSHUGE | Gfp::THISNODE | Gfp::NORETRY);
    // P156
    assert_eq!(caller_wait(GFP_KERNEL, Context::Task), CallerWait::Tick);
    let noretry = GFP_KERNEL | Gfp::NORETRY;
    assert_eq!(
        caller_wait(noretry, Context::Task),
        CallerWait::Milliseconds20
    );
    assert_eq!(
        caller_wait(GFP_NOWAIT, Context::Task),
        CallerWait::Milliseconds20
    );
    assert_eq!(
        caller_wait(GFP_KERNEL, Context::SoftIrq),
        CallerWait::NotHere
    );
    // P155
    assert!(effort(GFP_KERNEL, 0).enters_fs_reclaim());
    assert!(!effort(GFP_NOFS, 0).enters_fs_reclaim());
    assert!(!effort(GFP_KERNEL | Gfp::NOLOCKDEP, 0).enters_fs_reclaim());
}

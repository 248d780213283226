//! Who may go below a watermark (P260-P272).

use super::*;
use crate::flags::*;
use crate::policy::context::Context;
use std::format;

#[test]
fn fast_rights() {
    // P261
    let table = [
        (GFP_KERNEL, "LOW|KSWAPD"),
        (GFP_ATOMIC, "LOW|KSWAPD"),
        (GFP_KERNEL & !Gfp::RECLAIM, "LOW"),
        (GFP_HIGHUSER_MOVABLE, "LOW|CMA|KSWAPD"),
        (GFP_TRANSHUGE, "LOW|CMA"),
        (GFP_KERNEL | Gfp::RECLAIMABLE, "LOW|KSWAPD"),
        (GFP_KERNEL | Gfp::MEMALLOC, "LOW|KSWAPD"), // no rights before the slow path
    ];
    for (gfp, flags) in table {
        assert_eq!(format!("{:?}", AllocFlags::fast(gfp)), flags, "{gfp}");
    }
    assert_eq!(format!("{:?}", AllocFlags::nolock()), "MIN|NOLOCK");
}

#[test]
fn slow_rights() {
    // P262-P264
    let task = TaskRights::default();
    let rt = TaskRights {
        realtime: true,
        ..task
    };
    let rt_irq = TaskRights {
        context: Context::HardIrq,
        ..rt
    };
    let nomemalloc = GFP_ATOMIC | Gfp::NOMEMALLOC;
    let table = [
        (GFP_KERNEL, 0, task, "MIN|CPUSET|KSWAPD"),
        (
            GFP_KERNEL | Gfp::HIGH,
            1,
            task,
            "MIN|MIN_RESERVE|CPUSET|KSWAPD",
        ),
        (GFP_ATOMIC, 0, task, "MIN|NON_BLOCK|MIN_RESERVE|KSWAPD"),
        (
            GFP_ATOMIC,
            1,
            task,
            "MIN|NON_BLOCK|MIN_RESERVE|HIGHATOMIC|KSWAPD",
        ),
        (GFP_NOWAIT, 1, task, "MIN|NON_BLOCK|CPUSET|KSWAPD"), // P264
        (nomemalloc, 1, task, "MIN|MIN_RESERVE|KSWAPD"),      // P263
        (GFP_KERNEL, 0, rt, "MIN|MIN_RESERVE|CPUSET|KSWAPD"),
        (GFP_KERNEL, 0, rt_irq, "MIN|CPUSET|KSWAPD"),
        (GFP_NOWAIT, 0, rt, "MIN|NON_BLOCK|CPUSET|KSWAPD"),
        (GFP_HIGHUSER_MOVABLE, 0, task, "MIN|CPUSET|CMA|KSWAPD"),
        (GFP_KERNEL & !Gfp::RECLAIM, 0, task, "MIN|NON_BLOCK|CPUSET"),
    ];
    for (gfp, order, rights, flags) in table {
        assert_eq!(
            format!("{:?}", AllocFlags::slow(gfp, order, &rights)),
            flags,
            "{gfp}"
        );
    }
}

#[test]
fn reserve_entitlement() {
    // P265, P53
    use Context::*;
    let rights = |context, memalloc, oom_victim| TaskRights {
        context,
        memalloc,
        oom_victim,
        realtime: false,
    };
    let memalloc = GFP_KERNEL | Gfp::MEMALLOC;
    let none = memalloc | Gfp::NOMEMALLOC;
    let table = [
        (GFP_KERNEL, rights(Task, false, false), None),
        (
            GFP_KERNEL,
            rights(Task, true, false),
            Some("MIN|NO_WATERMARKS|KSWAPD"),
        ),
        (
            GFP_KERNEL,
            rights(Task, true, true),
            Some("MIN|NO_WATERMARKS|KSWAPD"),
        ),
        (
            GFP_KERNEL,
            rights(Task, false, true),
            Some("MIN|OOM|NON_BLOCK|MIN_RESERVE|KSWAPD"),
        ),
        (
            GFP_ATOMIC,
            rights(SoftIrq, true, true),
            Some("MIN|NO_WATERMARKS|KSWAPD"),
        ),
        (GFP_ATOMIC, rights(SoftIrq, false, true), None),
        (GFP_ATOMIC, rights(HardIrq, true, true), None),
        (
            memalloc,
            rights(HardIrq, false, false),
            Some("MIN|NO_WATERMARKS|KSWAPD"),
        ),
        (none, rights(Task, true, true), None),
    ];
    for (gfp, task, expected) in table {
        let found = AllocFlags::reserves(gfp, &task).map(|flags| format!("{flags:?}"));
        assert_eq!(found.as_deref(), expected, "{gfp} {task:?}");
    }
}

#[test]
fn levels_and_rights_do_not_disturb_each_other() {
    // P260
    let flags = AllocFlags::fast(GFP_HIGHUSER_MOVABLE);
    let high = flags.at(WatermarkLevel::High);
    assert_eq!(
        (high.level(), flags.level()),
        (WatermarkLevel::High, WatermarkLevel::Low)
    );
    assert_eq!(high.at(WatermarkLevel::Low), flags);
    assert!(high.contains(AllocFlags::CMA | AllocFlags::KSWAPD));
    assert!(!high.contains(AllocFlags::CMA | AllocFlags::OOM));
    assert!(high.intersects(AllocFlags::CMA | AllocFlags::OOM));
    let mut less = high.without(AllocFlags::CMA);
    assert_eq!(
        (less.level(), less.intersects(AllocFlags::CMA)),
        (WatermarkLevel::High, false)
    );
    less |= AllocFlags::CMA;
    assert_eq!(less, high);
    assert_eq!(AllocFlags::default(), AllocFlags::MIN);
    assert_eq!(
        AllocFlags::MIN.at(WatermarkLevel::Promo).level(),
        WatermarkLevel::Promo
    );
}

#[test]
fn what_is_taken_for_others_is_taken_without_rights_to_reserves() {
    // P270
    let victim = TaskRights {
        oom_victim: true,
        ..TaskRights::default()
    };
    let rights = [
        AllocFlags::fast(GFP_ATOMIC),
        AllocFlags::slow(GFP_ATOMIC, 1, &TaskRights::default()),
        AllocFlags::reserves(GFP_KERNEL, &victim).unwrap(),
    ];
    let ordinary = rights.map(|rights| format!("{:?}", rights.ordinary()));
    assert_eq!(ordinary, ["LOW|KSWAPD", "MIN|KSWAPD", "MIN|KSWAPD"]);
    assert!(
        rights
            .iter()
            .all(|rights| refused_at(rights.ordinary()) == 800)
    );
}

#[test]
fn an_oom_victim_goes_where_nobody_urgent_can() {
    // P265 and ADR 0012: no flag word without MEMALLOC lets others down to where a victim stops.
    let victim = TaskRights {
        oom_victim: true,
        ..TaskRights::default()
    };
    let floor = refused_at(AllocFlags::reserves(GFP_ATOMIC, &victim).unwrap());
    assert_eq!(floor, 150);
    for realtime in [false, true] {
        let task = TaskRights {
            realtime,
            ..TaskRights::default()
        };
        // Of the word, what rights depend on; in all combinations.
        let some = [
            Gfp::HIGH,
            Gfp::DIRECT_RECLAIM,
            Gfp::NOMEMALLOC,
            Gfp::MOVABLE,
        ];
        for bits in 0..1 << some.len() {
            let chosen = (0..some.len()).filter(|bit| bits >> bit & 1 != 0);
            let gfp = chosen.fold(Gfp::KSWAPD_RECLAIM, |gfp, bit| gfp | some[bit]);
            for order in [0, 1] {
                assert!(refused_at(AllocFlags::slow(gfp, order, &task)) >= 2 * floor);
            }
        }
    }
}

/// The largest free count at which one page is refused for a min watermark of 800.
fn refused_at(flags: AllocFlags) -> usize {
    let ok = |free| {
        let state = FreeState {
            free,
            ..FreeState::default()
        };
        zone_watermark_ok(0, 800, 0, flags, &state, |_, _| {
            unreachable!("order 0 needs no list")
        })
    };
    let refused = (0..2000).rev().find(|&free| !ok(free)).unwrap();
    assert!((0..=refused).all(|free| !ok(free)), "monotonous");
    refused
}

#[test]
fn reserves_of_a_min_of_800() {
    // P268, P270, P951: equality fails, one page more is enough.
    let task = TaskRights::default();
    let rt = TaskRights {
        realtime: true,
        ..task
    };
    assert_eq!(refused_at(AllocFlags::slow(GFP_KERNEL, 0, &task)), 800);
    assert_eq!(refused_at(AllocFlags::slow(GFP_NOWAIT, 0, &task)), 800); // P264
    assert_eq!(
        refused_at(AllocFlags::slow(GFP_KERNEL | Gfp::HIGH, 0, &task)),
        400
    );
    assert_eq!(refused_at(AllocFlags::slow(GFP_ATOMIC, 0, &task)), 300);
    assert_eq!(
        refused_at(AllocFlags::slow(GFP_ATOMIC | Gfp::NOMEMALLOC, 0, &task)),
        400
    ); // P263
    assert_eq!(refused_at(AllocFlags::slow(GFP_KERNEL, 0, &rt)), 400);
    assert_eq!(
        refused_at(AllocFlags::MIN | AllocFlags::OOM),
        400,
        "the right alone"
    );
    // Integer division, in that order: 7 -> 4 -> 3 -> 2.
    let all = AllocFlags::MIN_RESERVE | AllocFlags::NON_BLOCK | AllocFlags::OOM;
    let state = |free| FreeState {
        free,
        ..FreeState::default()
    };
    assert!(!zone_watermark_ok(0, 7, 0, all, &state(2), |_, _| false));
    assert!(zone_watermark_ok(0, 7, 0, all, &state(3), |_, _| false));
}

#[test]
fn lowmem_reserve_is_added_after_the_rights() {
    // P269: not halved.
    let flags = AllocFlags::slow(GFP_ATOMIC, 0, &TaskRights::default());
    let ok = |free| {
        let state = FreeState {
            free,
            ..FreeState::default()
        };
        zone_watermark_ok(0, 800, 1000, flags, &state, |_, _| false)
    };
    assert!(!ok(1300) && ok(1301));
}

#[test]
fn reserved_pages_count_only_for_their_users() {
    // P267, P334
    let state = FreeState {
        free: 2000,
        free_highatomic: 600,
        free_cma: 700,
    };
    let ok = |flags, mark| zone_watermark_ok(0, mark, 0, flags, &state, |_, _| false);
    let cases = [
        (AllocFlags::MIN, 700),
        (AllocFlags::CMA, 1400),
        (AllocFlags::NON_BLOCK, 1300),
        (AllocFlags::HIGHATOMIC, 1300),
        (AllocFlags::HIGHATOMIC | AllocFlags::CMA, 2000),
    ];
    for (flags, usable) in cases {
        assert!(!ok(flags, usable) && ok(flags, usable - 1), "{flags:?}");
    }
    // MIN_RESERVE and OOM count the reserve and halve the mark.
    for flags in [AllocFlags::MIN_RESERVE, AllocFlags::OOM] {
        assert!(!ok(flags, 2600) && ok(flags, 2598), "{flags:?}");
    }
    // P336
    assert!(AllocFlags::OOM.may_drain_highatomic() && AllocFlags::NON_BLOCK.may_drain_highatomic());
    assert!(!AllocFlags::MIN_RESERVE.may_drain_highatomic());
    // More reserved than free, while counters are being updated: refused, no overflow.
    let odd = FreeState {
        free: 10,
        free_highatomic: 600,
        free_cma: 700,
    };
    assert!(!zone_watermark_ok(
        0,
        0,
        0,
        AllocFlags::MIN,
        &odd,
        |_, _| true
    ));
    assert!(!zone_watermark_ok(
        10,
        0,
        0,
        AllocFlags::MIN,
        &odd,
        |_, _| true
    ));
}

#[test]
fn high_orders_need_a_block() {
    // P271, P952: 10 000 free pages, no block of order 3.
    let state = FreeState {
        free: 10_000,
        ..FreeState::default()
    };
    let ok = |order, flags, block: Option<(u32, MigrateType)>| {
        zone_watermark_ok(order, 800, 0, flags, &state, |order, mt| {
            Some((order, mt)) == block
        })
    };
    assert!(ok(0, AllocFlags::MIN, None) && !ok(3, AllocFlags::MIN, None));
    for mt in [
        MigrateType::Unmovable,
        MigrateType::Movable,
        MigrateType::Reclaimable,
    ] {
        assert!(!ok(3, AllocFlags::MIN, Some((2, mt))));
        for order in 3..=10 {
            assert!(ok(3, AllocFlags::MIN, Some((order, mt))), "{order} {mt:?}");
        }
    }
    let cma = Some((5, MigrateType::Cma));
    assert!(!ok(3, AllocFlags::MIN, cma) && ok(3, AllocFlags::CMA, cma));
    let highatomic = Some((5, MigrateType::HighAtomic));
    for flags in [
        AllocFlags::MIN,
        AllocFlags::MIN_RESERVE,
        AllocFlags::NON_BLOCK,
    ] {
        assert!(!ok(3, flags, highatomic), "{flags:?}");
    }
    assert!(ok(3, AllocFlags::HIGHATOMIC, highatomic) && ok(3, AllocFlags::OOM, highatomic));
    for flags in [AllocFlags::MIN, AllocFlags::CMA, AllocFlags::HIGHATOMIC] {
        assert!(!ok(3, flags, Some((5, MigrateType::Isolate))));
    }
    assert!(!ok(11, AllocFlags::MIN, Some((10, MigrateType::Movable))));
    assert!(!ok(
        u32::MAX,
        AllocFlags::MIN,
        Some((10, MigrateType::Movable))
    ));
}

#[test]
fn an_order_takes_all_but_one_of_its_pages_off() {
    // P267: free - (2^order - 1)
    for order in 0..=10 {
        let ok = |free| {
            let state = FreeState {
                free,
                ..FreeState::default()
            };
            zone_watermark_ok(order, 800, 0, AllocFlags::MIN, &state, |_, _| true)
        };
        let last_refused = 800 + (1 << order) - 1;
        assert!(!ok(last_refused) && ok(last_refused + 1), "{order}");
    }
}

#[test]
fn the_boost_does_not_fail_urgent_requests() {
    // P272
    let task = TaskRights::default();
    let state = |free| FreeState {
        free,
        ..FreeState::default()
    };
    let atomic = AllocFlags::slow(GFP_ATOMIC, 0, &task);
    let kernel = AllocFlags::slow(GFP_KERNEL, 0, &task);
    let nowait = AllocFlags::slow(GFP_NOWAIT, 0, &task);
    for (flags, boost, refused) in [
        (kernel, 0, 800),
        (kernel, 400, 1200),
        (nowait, 400, 1200),
        (atomic, 0, 300),
        (atomic, 400, 300),
        (atomic.at(WatermarkLevel::Low), 400, 450), // 1200 * 3/8: not in the slow path
    ] {
        assert!(
            !order0_watermark_ok(800, boost, 0, flags, &state(refused)),
            "{flags:?}"
        );
        assert!(
            order0_watermark_ok(800, boost, 0, flags, &state(refused + 1)),
            "{flags:?}"
        );
    }
    // Without boost it is the general check.
    for free in 0..2000 {
        let general = zone_watermark_ok(0, 800, 7, atomic, &state(free), |_, _| false);
        assert_eq!(
            order0_watermark_ok(800, 0, 7, atomic, &state(free)),
            general
        );
    }
}

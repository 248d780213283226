//! The vectors of requests in need (P412, P961-P963) in the simulator.

#[path = "../../gfp/vectors/mod.rs"]
mod vectors;

use gfp::flags::{GFP_ATOMIC, GFP_KERNEL, GFP_NOWAIT, Gfp};
use gfp::platform::{Context, Fact, Platform};
use gfp_sim::{Config, Rates, Sim, SimPlatform, Strategy};
use std::cell::{Cell, RefCell};
use std::mem::transmute;
use std::rc::Rc;
use vectors::Ran;

/// Fails rather than loops.
const KERNEL_ONCE: Gfp = GFP_KERNEL.with(Gfp::NORETRY);

/// Runs `check` in a task of a machine with so many nodes, interrupted at any point.
fn in_a_task(nodes: u8, check: fn(&gfp::Mm<gfp_sim::SimPlatform>, &(dyn Fn() -> bool + Sync))) {
    for strategy in [Strategy::Random(1 << 12), Strategy::RoundRobin(3)] {
        let rates = Rates {
            interrupt: 300,
            nmi: 300,
            migrate: 2000,
            ..Rates::default()
        };
        let sim = Sim::new(Config::new(1).rates(rates).strategy(strategy));
        let mm = Rc::new(sim.boot_nodes(16 << 20, nodes));
        sim.on_interrupt(|| ());
        sim.on_nmi(|| ());
        // Others run, and take the CPUs' places from each other.
        for name in ["one", "two"] {
            let mm = Rc::clone(&mm);
            sim.spawn(name, move |task| {
                for _ in 0..20 {
                    task.sleep_ns(50_000);
                    mm.pages().drain_all();
                }
            });
        }
        let of_task = Rc::clone(&mm);
        sim.spawn("script", move |task| {
            let me = task.id();
            let platform = of_task.platform();
            let mine = || platform.sim().running() == Some(me);
            vectors::touch(&of_task);
            let free = || {
                of_task.slabs().shrink_all();
                of_task.pages().drain_all();
                of_task.pages().free_page_count()
            };
            let before = free();
            check(&of_task, &mine);
            assert_eq!(free(), before);
        });
        let outcome = sim.run();
        assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
        mm.verify().unwrap();
    }
}

#[test]
fn each_level_asks_for_what_the_rules_say() {
    // P961, P121, P122, P129, P405, P412
    for nodes in [1, 2] {
        in_a_task(nodes, |mm, mine| {
            vectors::levels(mm, mine).check();
        });
    }
}

#[test]
fn each_level_asks_for_what_the_rules_say_for_blocks() {
    // P961, P103-P106, P108, P120-P126, P129
    for nodes in [1, 2] {
        in_a_task(nodes, |mm, mine| {
            vectors::orders(mm, mine)
                .iter()
                .for_each(|rows| rows.check());
        });
    }
}

#[test]
fn blocks_that_somebody_else_takes_are_made_again_as_often_as_the_rules_say() {
    // P961, P114, P120, P125
    for nodes in [1, 2] {
        in_a_task(nodes, |mm, _| {
            for (expected, seen) in vectors::retries(mm) {
                assert_eq!(seen, expected);
            }
        });
    }
}

#[test]
fn scopes_take_their_bits_and_give_their_rights() {
    // P961, P150, P152, P129, P116, P265, P416
    for nodes in [1, 2] {
        in_a_task(nodes, |mm, mine| vectors::scopes(mm, mine).check());
    }
}

#[test]
fn who_may_not_sleep_asks_nobody() {
    // P961, P154, P152, P270, P49
    for nodes in [1, 2] {
        in_contexts(nodes);
    }
}

/// What handlers do for the script's task, and where.
type Job = Rc<Cell<Option<(Context, *mut dyn FnMut())>>>;

/// Does the job, if this is where it is wanted: on top of the script's task, and not inside a
/// section.
fn do_job(job: &Job, mm: &gfp::Mm<SimPlatform>, task: usize) {
    let Some((context, work)) = job.get() else {
        return;
    };
    let platform = mm.platform();
    let here = platform.sim().running() == Some(task) && platform.context() == context;
    if here && platform.enter().is_ok() {
        job.set(None);
        // SAFETY: the task that owns it waits until the job is taken, and is below us.
        unsafe { (*work)() }
    }
}

/// The vectors in every context that may not sleep.
fn in_contexts(nodes: u8) {
    let rates = Rates {
        interrupt: 2000,
        softirq: 2000,
        nmi: 2000,
        migrate: 2000,
        ..Rates::default()
    };
    let sim = Sim::new(Config::new(1).rates(rates));
    let mm = Rc::new(sim.boot_nodes(16 << 20, nodes));
    let job: Job = Rc::default();
    let handler = || {
        let (job, mm) = (Rc::clone(&job), Rc::clone(&mm));
        move || do_job(&job, &mm, 0)
    };
    sim.on_interrupt(handler());
    sim.on_softirq(handler());
    sim.on_nmi(handler());
    let (of_task, wanted) = (Rc::clone(&mm), Rc::clone(&job));
    sim.spawn("script", move |task| {
        assert_eq!(task.id(), 0);
        let platform = of_task.platform();
        vectors::touch(&of_task);
        let within = |context, work: &mut dyn FnMut()| {
            if context == Context::Atomic {
                task.atomic(work);
                return Ran::Yes;
            }
            // SAFETY: the lifetime only; we wait until the handler has taken and done it.
            let work = unsafe { transmute::<*mut dyn FnMut(), *mut (dyn FnMut() + 'static)>(work) };
            wanted.set(Some((context, work)));
            while wanted.get().is_some() {
                task.pause();
            }
            Ran::Yes
        };
        let mine = || platform.sim().running() == Some(0);
        vectors::contexts(&of_task, &mine, &within).check();
    });
    let outcome = sim.run();
    assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    mm.verify().unwrap();
}

#[test]
fn a_shrinker_that_allocates_lives_on_the_reserve_and_is_not_entered_again() {
    // P962, P133
    for nodes in [1, 2] {
        in_a_task(nodes, |mm, mine| {
            assert_eq!(vectors::recursion(mm, mine), Some(true));
        });
    }
}

#[test]
fn a_shrinker_that_stops_is_left_alone_for_the_rest_of_the_pass() {
    // P963, P411
    in_a_task(1, |mm, mine| {
        assert_eq!(vectors::stops(mm, mine), Some(5));
    });
}

#[test]
fn each_kind_of_request_takes_exactly_its_part_of_the_reserve() {
    // P268-P270, P263, P265, ADR 0012
    // The zone of such a machine has a min watermark of 127 pages: of that 64, 48, and 24 are left.
    in_a_task(1, |mm, _| {
        let seen = vectors::reserves(mm);
        seen.check();
        assert_eq!(seen.beyond(), (127, 127 - 48, 48 - 24));
    });
    in_a_task(2, |mm, _| vectors::reserves(mm).check());
}

#[test]
fn interrupts_that_take_all_they_can_leave_a_victim_what_it_needs_to_end() {
    // P270, ADR 0012. Seen to fail with: a CPU that keeps more pages for its next requests than an
    // ordinary one would find; a victim without the rights of the urgent.
    for seed in 0..10 {
        let rates = Rates {
            interrupt: 3000,
            migrate: 2000,
            ..Rates::default()
        };
        let sim = Sim::new(Config::new(seed).rates(rates));
        let mm = Rc::new(sim.boot(256 << 20));
        let held = Rc::new(RefCell::new(Vec::new()));
        let (of_interrupts, theirs) = (Rc::clone(&mm), Rc::clone(&held));
        let urgent_too = Rc::new(Cell::new(false));
        let begun = Rc::clone(&urgent_too);
        sim.on_interrupt(move || {
            while begun.get()
                && let Ok(pfn) = of_interrupts.alloc_pages(GFP_ATOMIC | Gfp::NOWARN, 0)
            {
                theirs.borrow_mut().push(pfn);
            }
        });
        let (of_task, mine) = (Rc::clone(&mm), Rc::clone(&held));
        sim.spawn("victim", move |_| {
            let get = |gfp, order| of_task.alloc_pages(gfp | Gfp::NOWARN, order).ok();
            let blocks: Vec<_> = std::iter::from_fn(|| get(GFP_NOWAIT, 9)).collect();
            let pages: Vec<_> = std::iter::from_fn(|| get(GFP_NOWAIT, 0)).collect();
            let zone = of_task.pages().zone_stats().next().unwrap();
            let min = zone.watermarks.min;
            assert_eq!(zone.free.free, min);
            of_task
                .platform()
                .this_task()
                .unwrap()
                .note(Fact::OomVictim);
            urgent_too.set(true);
            let victims: Vec<_> = std::iter::from_fn(|| get(KERNEL_ONCE, 0)).collect();
            let half = min - min / 2;
            let urgent = half - half / 4;
            assert!(
                victims.len() >= urgent - urgent.div_ceil(2),
                "{}",
                victims.len()
            );
            let left = of_task.pages().zone_stats().next().unwrap().free.free;
            assert_eq!(left, urgent.div_ceil(2));
            urgent_too.set(false);
            mine.borrow_mut().extend(pages.into_iter().chain(victims));
            for block in blocks {
                // SAFETY: allocated above, freed once.
                unsafe { of_task.free_frames(block, 9) };
            }
        });
        let outcome = sim.run();
        assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
        for pfn in held.take() {
            // SAFETY: allocated above, freed once.
            unsafe { mm.free_frames(pfn, 0) };
        }
        mm.verify().unwrap();
    }
}

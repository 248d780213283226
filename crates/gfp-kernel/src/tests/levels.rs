//! The vectors of requests in need (P412, P961-P963), as in the simulator and in a process.

#[path = "../../../gfp/vectors/mod.rs"]
mod vectors;

use super::context::{in_interrupt, in_nmi};
use super::disturb;
use super::fixture::{Ledger, machine_has};
use crate::arch::percpu;
use crate::memory::mm;
use crate::sched;
use core::mem::transmute;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};
use gfp::frame::PAGE_SIZE;
use gfp::platform::Context;
use vectors::Ran;

super::tests! { "levels":
    each_level_asks_for_what_the_rules_say,
    each_level_asks_for_what_the_rules_say_for_blocks,
    blocks_that_somebody_else_takes_are_made_again_as_often_as_the_rules_say,
    scopes_take_their_bits_and_give_their_rights,
    who_may_not_sleep_asks_nobody,
    a_shrinker_that_allocates_lives_on_the_reserve_and_is_not_entered_again,
    a_shrinker_that_stops_is_left_alone_for_the_rest_of_the_pass,
    each_kind_of_request_takes_exactly_its_part_of_the_reserve,
}

/// Runs `work` while handlers of interrupts and NMIs hold nothing and ask for nothing: what they
/// give back in the middle of a request would serve it. It is given who tells whether it runs in
/// this task.
fn undisturbed<R>(work: impl FnOnce(&(dyn Fn() -> bool + Sync)) -> R) -> Option<R> {
    let bytes = mm().pages().managed_pages() * PAGE_SIZE;
    if !machine_has("less than 2 GiB of memory", bytes < 2 << 30) {
        return None;
    }
    let me = sched::current().id();
    vectors::touch(mm());
    let books = Ledger::open();
    let quiet = disturb::quiet();
    let result = work(&|| sched::current().id() == me);
    drop(quiet);
    books.close();
    Some(result)
}

fn each_level_asks_for_what_the_rules_say() {
    // P961, P121, P122, P129, P405, P412
    if let Some(seen) = undisturbed(|mine| vectors::levels(mm(), mine)) {
        seen.check();
    }
}

fn each_level_asks_for_what_the_rules_say_for_blocks() {
    // P961, P103-P106, P108, P120-P126, P129
    let seen = undisturbed(|mine| vectors::orders(mm(), mine));
    seen.iter().flatten().for_each(|rows| rows.check());
}

fn blocks_that_somebody_else_takes_are_made_again_as_often_as_the_rules_say() {
    // P961, P114, P120, P125
    let tried = undisturbed(|_| vectors::retries(mm()));
    for (expected, seen) in tried.into_iter().flatten() {
        assert_eq!(seen, expected);
    }
}

fn scopes_take_their_bits_and_give_their_rights() {
    // P961, P150, P152, P129, P116, P265, P416
    if let Some(seen) = undisturbed(|mine| vectors::scopes(mm(), mine)) {
        seen.check();
    }
}

/// What a handler does for the test: the address of a `&mut dyn FnMut()`, or null.
static JOB: AtomicPtr<&mut dyn FnMut()> = AtomicPtr::new(null_mut());

fn do_job() {
    let job = JOB.swap(null_mut(), Relaxed);
    // SAFETY: null, or set by `within`, which waits for us; on its own CPU.
    if let Some(job) = unsafe { job.as_mut() } {
        job();
    }
}

fn within(context: Context, mut work: &mut dyn FnMut()) -> Ran {
    // SAFETY: the lifetime only; the handler has taken and done it when we return.
    let job = unsafe {
        transmute::<*mut &mut dyn FnMut(), *mut &'static mut (dyn FnMut() + 'static)>(&mut work)
    };
    match context {
        Context::HardIrq => {
            JOB.store(job, Relaxed);
            in_interrupt(do_job);
        }
        Context::Nmi => {
            JOB.store(job, Relaxed);
            in_nmi(do_job);
        }
        Context::Atomic => {
            let _stay = percpu::preempt_off();
            work();
        }
        // The kernel has no softirqs.
        _ => return Ran::No,
    }
    Ran::Yes
}

fn who_may_not_sleep_asks_nobody() {
    // P961, P154, P152, P270, P49
    if let Some(seen) = undisturbed(|mine| vectors::contexts(mm(), mine, &within)) {
        seen.check();
    }
}

fn a_shrinker_that_allocates_lives_on_the_reserve_and_is_not_entered_again() {
    // P962, P133
    let holds = undisturbed(|mine| vectors::recursion(mm(), mine));
    assert!(holds.is_none_or(|holds| holds == Some(true)), "{holds:?}");
}

fn a_shrinker_that_stops_is_left_alone_for_the_rest_of_the_pass() {
    // P963, P411
    let batches = undisturbed(|mine| vectors::stops(mm(), mine));
    assert!(
        batches.is_none_or(|batches| batches == Some(5)),
        "{batches:?}"
    );
}

fn each_kind_of_request_takes_exactly_its_part_of_the_reserve() {
    // P268-P270, P263, P265, ADR 0012
    if let Some(seen) = undisturbed(|_| vectors::reserves(mm())) {
        seen.check();
        let (min, atomic, victim) = seen.beyond();
        assert!(
            atomic > min / 2 && victim > min / 6,
            "{min} {atomic} {victim}"
        );
    }
}

//! Tasks: sleeping and waking, preemption, death.

use super::fixture::Ledger;
use super::threads;
use crate::arch::cpu::IrqOff;
use crate::arch::{percpu, smp, time, traps};
use crate::memory::mm;
use crate::sched::{self, Affinity, Barrier, Builder, Completion, IrqLock, Mutex, spawn};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use gfp::frame::CpuId;
use gfp::platform::{Context, Platform};

super::tests! { "sched":
    a_task_returns_its_value,
    contexts_are_told_apart,
    a_spin_gives_way_to_who_it_waits_for,
    sleepers_wake_in_the_order_of_their_deadlines,
    a_deadline_ends_a_wait_and_not_before,
    a_spinning_task_is_preempted,
    no_task_waits_while_a_cpu_is_idle,
    a_task_goes_where_its_affinity_says,
    a_mutex_lets_one_in,
    a_barrier_lets_nobody_ahead,
    a_thousand_tasks_leave_every_frame_behind,
    floating_point_registers_survive_preemption,
    control_words_belong_to_a_task,
    the_red_zone_survives_interrupts,
}

const MS: u64 = 1_000_000;

fn last_cpu() -> Affinity {
    Affinity::One(CpuId(smp::count() - 1))
}

fn a_task_returns_its_value() {
    let task = spawn("value", || sched::current().name().len());
    assert_eq!(task.join().map_err(|_| ()), Ok(5));
}

fn contexts_are_told_apart() {
    static SEEN: [AtomicU32; 2] = [const { AtomicU32::new(u32::MAX) }; 2];
    fn context() -> Context {
        mm().platform().context()
    }
    SEEN.iter().for_each(|seen| seen.store(u32::MAX, Relaxed));
    traps::ON_TIMER.set(Some(|_| SEEN[0].store(context() as u32, Relaxed)));
    traps::ON_NMI.set(Some(|_| SEEN[1].store(context() as u32, Relaxed)));
    while SEEN.iter().any(|seen| seen.load(Relaxed) == u32::MAX) {
        assert_eq!(context(), Context::Task);
        let off = IrqOff::new();
        assert_eq!(context(), Context::Atomic);
        drop(off);
        let stay = percpu::preempt_off();
        assert_eq!(context(), Context::Atomic);
        drop(stay);
        sched::yield_now();
        let lock = IrqLock::new(());
        let guard = lock.lock();
        let context = context();
        drop(guard);
        assert_eq!(context, Context::Atomic);
    }
    assert_eq!(SEEN[0].load(Relaxed), Context::HardIrq as u32);
    assert_eq!(SEEN[1].load(Relaxed), Context::Nmi as u32);
}

fn a_spin_gives_way_to_who_it_waits_for() {
    const MOST_SPINS: u32 = 1_000_000;
    sched::set_affinity(last_cpu());
    time::timer_hz(0); // no tick here makes it give way
    for _ in 0..200 {
        let done = Arc::new(AtomicBool::new(false));
        let other = done.clone();
        let task = Builder::new("waited for").affinity(last_cpu());
        let task = task.spawn(move || other.store(true, Relaxed));
        let mut spins = 0;
        while !done.load(Relaxed) {
            mm().platform().relax(spins);
            spins += 1;
            assert!(spins < MOST_SPINS, "the spin keeps its CPU");
        }
        task.expect("memory").join().expect("it ends");
    }
}

fn sleepers_wake_in_the_order_of_their_deadlines() {
    // Who was woken first may be preempted before it says so, or be late for its own sleep. A
    // scheduler that has the order wrong is wrong each time.
    const TRIES: u32 = 50;
    let in_order = || order_of_sleepers([3, 1, 5, 0, 4, 2]) == [0, 1, 2, 3, 4, 5];
    assert!((0..TRIES).any(|_| in_order()));
}

/// Has a task for each number sleep that many times 3 ms; the numbers as they woke.
fn order_of_sleepers(numbers: [u64; 6]) -> Vec<u64> {
    let woken = Arc::new(IrqLock::new(Vec::with_capacity(numbers.len())));
    let base_ns = time::now_ns() + 20 * MS;
    let tasks = numbers.map(|n| {
        let woken = woken.clone();
        let sleeper = move || {
            let deadline_ns = base_ns + 3 * n * MS;
            assert!(!sched::park_until_ns(deadline_ns), "nobody unparks");
            assert!(time::now_ns() >= deadline_ns, "it woke too early");
            woken.lock().push(n);
        };
        // On one CPU the first to be woken is the first to run.
        Builder::new("sleeper").affinity(last_cpu()).spawn(sleeper)
    });
    for task in tasks {
        task.expect("memory").join().expect("it does not die");
    }
    woken.lock().clone()
}

fn a_deadline_ends_a_wait_and_not_before() {
    let never = Completion::new();
    let deadline_ns = time::now_ns() + 5 * MS;
    assert!(!never.wait_until_ns(deadline_ns));
    assert!(time::now_ns() >= deadline_ns);
    let soon = Arc::new(Completion::new());
    let other = soon.clone();
    let task = spawn("completes", move || other.complete());
    assert!(soon.wait_until_ns(u64::MAX));
    task.join().expect("it does not die");
    assert!(
        soon.wait_until_ns(0),
        "what happened is found after the deadline too"
    );
}

fn a_spinning_task_is_preempted() {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = stop.clone();
    let spins = move || {
        while !seen.load(Relaxed) {
            core::hint::spin_loop();
        }
    };
    let spinner = Builder::new("spins").affinity(last_cpu()).spawn(spins);
    let stopper = Builder::new("stops").affinity(last_cpu());
    let stopper = stopper.spawn(move || stop.store(true, Relaxed));
    spinner.expect("memory").join().expect("it ends");
    stopper.expect("memory").join().expect("it ends");
}

fn no_task_waits_while_a_cpu_is_idle() {
    for _ in 0..50 {
        let here = Arc::new(AtomicU32::new(0));
        let all = smp::count() - 1; // this task has a CPU of its own
        let tasks: Vec<_> = (0..all)
            .map(|_| {
                let here = here.clone();
                spawn("meets", move || {
                    let _stay = percpu::preempt_off();
                    here.fetch_add(1, Relaxed);
                    while here.load(Relaxed) < all {
                        core::hint::spin_loop();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.join().expect("it ends");
        }
    }
}

fn a_task_goes_where_its_affinity_says() {
    for n in 0..200 {
        let cpu = CpuId(n % smp::count());
        sched::set_affinity(Affinity::One(cpu));
        assert_eq!(percpu::cpu(), cpu.0);
        sched::yield_now();
        assert_eq!(percpu::cpu(), cpu.0);
    }
}

fn a_mutex_lets_one_in() {
    const ROUNDS: u32 = 300;
    let count = Mutex::new(0u32);
    threads::on_all_cpus(|_| {
        for _ in 0..ROUNDS {
            let mut count = count.lock();
            let before = *count;
            sched::yield_now();
            *count = before + 1;
        }
    });
    assert_eq!(*count.lock(), ROUNDS * smp::count());
}

fn a_barrier_lets_nobody_ahead() {
    const ROUNDS: u32 = 200;
    let all = smp::count();
    let barrier = Barrier::new(all);
    let arrived = AtomicU32::new(0);
    let last = AtomicU32::new(0);
    threads::on_all_cpus(|_| {
        for round in 1..=ROUNDS {
            arrived.fetch_add(1, Relaxed);
            if barrier.wait() {
                last.fetch_add(1, Relaxed);
            }
            assert!(arrived.load(Relaxed) >= round * all);
        }
    });
    assert_eq!(last.load(Relaxed), ROUNDS);
}

fn a_thousand_tasks_leave_every_frame_behind() {
    let round = || {
        let ran = Arc::new(AtomicU32::new(0));
        let mut tasks = Vec::new();
        for n in 0..1000 {
            let ran = ran.clone();
            tasks.push(spawn("one of 1000", move || {
                ran.fetch_add(1, Relaxed);
                if n % 3 == 0 {
                    sched::sleep_ns(MS);
                }
            }));
        }
        for task in tasks {
            task.join().expect("it does not die");
        }
        assert_eq!(ran.load(Relaxed), 1000);
    };
    round();
    let books = Ledger::open();
    round();
    books.close();
}

/// Keeps a pattern in all XMM registers while others run on the same CPU.
fn floating_point_registers_survive_preemption() {
    let barrier = Arc::new(Barrier::new(2));
    let tasks = [0x1111_u64, 0x2222].map(|pattern| {
        let barrier = barrier.clone();
        let keeper = move || {
            barrier.wait();
            (0..200).for_each(|_| keep_in_registers(pattern));
        };
        Builder::new("keeper").affinity(last_cpu()).spawn(keeper)
    });
    for task in tasks {
        task.expect("memory")
            .join()
            .expect("it keeps its registers");
    }
}

fn keep_in_registers(pattern: u64) {
    const SPINS: u64 = 100_000;
    let changed: u64;
    // SAFETY: touches the registers that it names.
    unsafe {
        core::arch::asm!(
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
            "movq xmm\\n, {pattern}",
            ".endr",
            "2: dec {spins}",
            "jnz 2b",
            "xor {changed:e}, {changed:e}",
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
            "movq {word}, xmm\\n",
            "xor {word}, {pattern}",
            "or {changed}, {word}",
            ".endr",
            pattern = in(reg) pattern, spins = inout(reg) SPINS => _,
            word = out(reg) _, changed = out(reg) changed,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
            out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            options(nomem, nostack),
        );
    }
    assert_eq!(changed, 0, "bits of registers");
}

fn control_words_belong_to_a_task() {
    const ROUND_DOWN: u32 = 0x1f80 | 1 << 13;
    let tasks = [0x1f80, ROUND_DOWN].map(|word| {
        let task = Builder::new("rounds").affinity(last_cpu());
        task.spawn(move || {
            // SAFETY: the rounding of this task's own arithmetic; it does none.
            unsafe { core::arch::asm!("ldmxcsr [{}]", in(reg) &word, options(nostack)) }
            // In front of each other, and of interrupts.
            let ticks = || percpu::this().timer_ticks.load(Relaxed);
            let (mut rounds, end) = (0, ticks() + 50);
            while rounds < 1000 || ticks() < end {
                rounds += 1;
                sched::yield_now();
                let mut now = 0u32;
                // SAFETY: writes one word.
                unsafe { core::arch::asm!("stmxcsr [{}]", in(reg) &mut now, options(nostack)) }
                assert_eq!(now, word);
            }
        })
    });
    for task in tasks {
        task.expect("memory").join().expect("it keeps its rounding");
    }
}

fn the_red_zone_survives_interrupts() {
    let corrupted = AtomicU32::new(0);
    threads::on_all_cpus(|_| {
        for _ in 0..300 {
            corrupted.fetch_add(red_zone_changed().into(), Relaxed);
        }
    });
    assert_eq!(corrupted.load(Relaxed), 0);
}

/// Keeps 16 words below the stack pointer for a while; true if one of them changed.
fn red_zone_changed() -> bool {
    const SPINS: u64 = 30_000;
    let changed: u64;
    // SAFETY: below the stack pointer nothing of the compiler's is live: the asm is not `nostack`,
    // so the compiler keeps its own red zone out of the way.
    unsafe {
        core::arch::asm!(
            "mov {n}, -128",
            "2: mov [rsp + {n}], {pattern}",
            "add {n}, 8",
            "jnz 2b",
            "3: dec {spins}",
            "jnz 3b",
            "xor {changed:e}, {changed:e}",
            "mov {n}, -128",
            "4: mov {word}, [rsp + {n}]",
            "xor {word}, {pattern}",
            "or {changed}, {word}",
            "add {n}, 8",
            "jnz 4b",
            n = out(reg) _, word = out(reg) _, spins = inout(reg) SPINS => _,
            pattern = in(reg) 0x5a5a_1234_5678_a5a5_u64, changed = out(reg) changed,
        );
    }
    changed != 0
}

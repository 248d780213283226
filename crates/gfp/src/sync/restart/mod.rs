//! Restartable sequences: a few instructions on one CPU's data that begin anew when they are
//! interrupted.
//!
//! 1. **Sequence.** A short run of instructions that reads which CPU it is on, works on data of
//!    that CPU with plain loads and stores, and ends with the one store that makes its work seen
//!    (it *commits*). Whatever comes in between, an interrupt, an NMI, a signal, a switch to
//!    another task or CPU, makes it begin anew. So it sees nobody in the middle of anything,
//!    without a lock, a locked instruction or masked interrupts.
//! 2. **Area and descriptor.** Each task has an [`Area`]; before its first instruction a sequence
//!    writes the address of its [`Descriptor`] there: it is *armed*. The layouts are those of
//!    Linux's `struct rseq` and `struct rseq_cs`, so the same instructions run in a process, where
//!    the Linux kernel restarts them, and on bare metal, where the kernel's own interrupt entry
//!    does:
//!
//!    ```text
//!          lea  d, [descriptor]
//!          mov  [area.sequence], d   arm; the next instruction is inside
//!    start ...                       load id, find the header, look, work
//!          mov  [header.len], n      commit: the last instruction inside
//!    end   ...                       done; the area may stay armed, nothing inside is left
//!          (signature 0x53053053)
//!    abort jmp  to the lea           elsewhere; the inputs are untouched
//!    ```
//! 3. **What an interrupt path owes** (bare metal; Linux does it in a process). Every entry, of
//!    interrupts, exceptions and NMIs alike, looks at the area of the interrupted task before
//!    anything else uses a stack or switches tasks:
//!    * interrupts and exceptions: the frame's `rip` becomes what `area.interrupted(rip)` names,
//!      if it names something;
//!    * NMIs (and whatever else can come before an interrupt's own look):
//!      `let before = area.suspend(frame.rip)`, rewrite `frame.rip` if `before.restart_at()` says
//!      so, handle, `area.resume(before)`. An NMI may come between an interrupt and its look; if it
//!      left the area disarmed or armed with a sequence of its own, the interrupt would not see
//!      that it must restart what it interrupted;
//!    * the scheduler writes the CPU ([`Area::set_cpu`]) before the task's area is the one that
//!      entries look at, and no entry looks at it any more before the task may run elsewhere.
//! 4. **Stacks.** [`Stacks`] keeps one array of words for each CPU; [`Stacks::push`] and
//!    [`Stacks::pop`] are sequences. `len` is the one word that publishes.
//! 5. **Claims.** [`Claims`] keeps one word for each CPU that says who has it, and one that bars
//!    it. To claim a CPU is a sequence; to give it back is one store, from wherever the owner runs
//!    then. So it is a lock which is taken without a locked instruction, for work that no one store
//!    publishes. Who finds it taken takes another way: the owner may not even run.
//! 6. **Closing.** Setting a stack's `limit` to 0 keeps sequences out: they answer `Closed`. Both
//!    operations compare with `limit` anyway, so this costs them nothing. Who closed a stack, and
//!    made sure that sequences under way have been restarted, owns it ([`Closed`]): to drain it, or
//!    to change its size. Nobody waits: who finds a stack closed takes another way.
//! 7. **Who may call what from where.**
//!
//!    | caller | push, pop | [`Stacks::close_here`] | [`Stacks::close`] + [`Closing::stopped`] |
//!    |---|---|---|---|
//!    | task, preemptible | yes | no: it may move to another CPU | yes |
//!    | task, interrupts masked | yes | yes, until they are unmasked | yes |
//!    | interrupt handler | yes, on the task's area | yes | if it may wait for an IPI |
//!    | NMI handler | yes, between `suspend` and `resume` | yes | no: it cannot wait for an IPI |
//!    | thread of a process | yes | no: nothing keeps it on a CPU | yes, `membarrier` |
//!    | signal handler | yes: Linux restarts what it interrupted | no | yes |
//!    | a context that interrupted the owner of a [`Closed`] | answers `Closed` | `None` | `None` |
//! 8. **Failure.** None but `Empty`, `Full` and `Closed`, or a CPU that is claimed. A sequence of
//!    10 instructions that is restarted by each of a storm of interrupts advances between any two
//!    that are further apart. Under a debugger that stops at each instruction it never ends.
//! 9. **What it does not do.** Only work that one store can publish fits: no linked lists, no two
//!    counters; more takes a claim. Model checkers cannot model it: the restart happens between
//!    instructions, not between atomics; so loom does not see this module (nor does Miri run the
//!    instructions), and the tests stop at every single instruction instead. On other architectures
//!    than x86-64 the module is absent.
//!
//! | instructions | inside | with arming | with the test of the answer |
//! |---|---|---|---|
//! | [`Stacks::pop`] | 10 | 12 | 14 |
//! | [`Stacks::push`] | 9 | 11 | 13 |
//! | [`Claims::claim`] | 8 | 10 | 12 |

mod area;
mod claims;
mod closed;
mod stack;
#[cfg(test)]
mod tests;
mod x86_64;

pub use area::{Area, Current, Descriptor, SIGNATURE, Suspended};
pub use claims::{Claim, Claims};
pub use closed::{Closed, Closing};
pub use stack::{ByCid, ByCpu, Cover, Covered, Exposed, Numbering};
pub use stack::{PopError, PushError, Shape, Stacks};

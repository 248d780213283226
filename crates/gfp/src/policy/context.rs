//! In which context a caller runs: what decides whether it may wait, and for what.

/// In which context the caller runs (P152, P154, P265).
///
/// | context | may sleep | may wait for another CPU | its task's rights count |
/// |---|---|---|---|
/// | [`Context::Task`] | yes | yes | yes |
/// | [`Context::Atomic`] | no | yes | yes |
/// | [`Context::SoftIrq`] | no | no | those the softirq was given |
/// | [`Context::HardIrq`] | no | no | no |
/// | [`Context::Nmi`] | no | no | no |
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Hash)]
pub enum Context {
    /// A task that may sleep.
    #[default]
    Task,
    /// A task that must not sleep: a spin lock is held, preemption or interrupts are off.
    Atomic,
    /// A deferred interrupt (bottom half, tasklet). It interrupts tasks, never a hard interrupt.
    SoftIrq,
    /// A hardware interrupt.
    HardIrq,
    /// An interrupt that can come at any instruction; in a process a signal handler.
    Nmi,
}

impl Context {
    /// Every context.
    pub const ALL: [Context; 5] = [
        Context::Task,
        Context::Atomic,
        Context::SoftIrq,
        Context::HardIrq,
        Context::Nmi,
    ];

    /// P154: the caller may be put to sleep, so it may reclaim.
    #[inline]
    pub const fn may_sleep(self) -> bool {
        matches!(self, Context::Task)
    }

    /// A task, whether or not it may sleep: it interrupts nobody, so it may wait for another CPU to
    /// leave a section.
    #[inline]
    pub const fn is_task(self) -> bool {
        matches!(self, Context::Task | Context::Atomic)
    }

    /// The name in messages: `task`, `atomic`, `softirq`, `irq`, `nmi`.
    pub const fn name(self) -> &'static str {
        match self {
            Context::Task => "task",
            Context::Atomic => "atomic",
            Context::SoftIrq => "softirq",
            Context::HardIrq => "irq",
            Context::Nmi => "nmi",
        }
    }
}

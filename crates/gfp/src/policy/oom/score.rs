//! Who is chosen (P433).

/// P433: the `oom_score_adj` of who is never killed.
pub const ADJ_NEVER: i16 = -1000;
/// P433: the range of `oom_score_adj` is plus and minus this.
pub const ADJ_MAX: i16 = 1000;

/// What a candidate is, as far as it decides whether it may be chosen.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// An ordinary one.
    #[default]
    Ordinary,
    /// A task of the kernel.
    KernelTask,
    /// The first task: everything ends with it.
    Init,
    /// It shares the memory of a parent that waits for it: its death frees nothing.
    VforkChild,
    /// It was chosen before and still has memory.
    DyingVictim,
    /// It was chosen before, and what could be taken of its memory is taken.
    Reaped,
    /// It uses no node that is short of memory.
    OtherNodes,
}

/// P433: one that may be killed. Sizes in pages.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// Pages in memory.
    pub rss: usize,
    /// Pages stored elsewhere that its death frees as well.
    pub swap_entries: usize,
    /// Pages of its page tables.
    pub page_tables: usize,
    /// What its owner says: -1000 (never) to 1000. Values outside count as the nearest.
    pub adj: i16,
    /// What it is.
    pub standing: Standing,
}

/// P433: why a candidate is left out.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Ineligible {
    /// It must not be killed, or its death would free nothing here.
    Standing(Standing),
    /// Its owner says never.
    Adj,
}

/// P433: the score: pages that a kill frees, and a thousandth of `total` for each point of
/// `oom_score_adj`; higher dies first. It may be negative.
///
/// `total`: the pages that the request could have used at all.
pub const fn score(candidate: &Candidate, total: usize) -> Result<i64, Ineligible> {
    match candidate.standing {
        Standing::Ordinary | Standing::DyingVictim => {}
        other => return Err(Ineligible::Standing(other)),
    }
    if candidate.adj <= ADJ_NEVER {
        return Err(Ineligible::Adj);
    }
    let adj = if candidate.adj < ADJ_MAX {
        candidate.adj
    } else {
        ADJ_MAX
    };
    let pages = candidate.rss as i128
        + candidate.swap_entries as i128
        + candidate.page_tables as i128
        + adj as i128 * total as i128 / 1000;
    Ok(if pages > i64::MAX as i128 {
        i64::MAX
    } else if pages < i64::MIN as i128 {
        i64::MIN
    } else {
        pages as i64
    })
}

/// What to do after a candidate was looked at.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Considered {
    /// On to the next.
    Next,
    /// The scan is over: somebody is dying already.
    Abort,
}

/// P433: the scan over all candidates.
///
/// `T`: the platform's name for a candidate. The first of those with the highest score is chosen.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Selection<T> {
    total: usize,
    best: Option<(T, i64)>,
    dying: bool,
    waits: bool,
}

impl<T: Copy> Selection<T> {
    /// A scan. `total` as in [`score`].
    pub const fn new(total: usize) -> Selection<T> {
        Selection {
            total,
            best: None,
            dying: false,
            waits: true,
        }
    }

    /// A scan that a person asked for: one who is dying is left out rather than waited for.
    pub const fn by_hand(total: usize) -> Selection<T> {
        Selection {
            total,
            best: None,
            dying: false,
            waits: false,
        }
    }

    /// Looks at one.
    pub const fn consider(&mut self, who: T, candidate: &Candidate) -> Considered {
        if matches!(candidate.standing, Standing::DyingVictim) {
            if self.waits {
                self.dying = true;
                return Considered::Abort;
            }
            return Considered::Next;
        }
        if let Ok(score) = score(candidate, self.total) {
            match self.best {
                Some((_, best)) if best >= score => {}
                _ => self.best = Some((who, score)),
            }
        }
        Considered::Next
    }

    /// What came of the scan.
    pub const fn verdict(&self) -> super::Verdict<T> {
        match self.best {
            _ if self.dying => super::Verdict::SomebodyIsDying,
            Some((who, score)) => super::Verdict::Victim { who, score },
            None => super::Verdict::Nobody,
        }
    }
}

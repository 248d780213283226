//! Blocks that their owner can move: the states of their word.
//!
//! ```text
//!   payload of a `Movable` word:
//!   47        16 15   10 9    8   7    6 5      0
//!  +------------+-------+------+---+----+--------+
//!  | tag        |   0   | state| 0 |comp| owner  |
//!  +------------+-------+------+---+----+--------+
//! ```
//!
//! | state | whose memory it is | next |
//! |---|---|---|
//! | `Idle` | its owner's | `Held` by anybody; `Page` by its owner: freed, or not movable now |
//! | `Held` | its owner's; a holder may ask him | `Idle`, `Page` by the holder; `HeldFreed` |
//! | `HeldFreed` | nobody's: its owner freed it | `Page` by the holder, who frees it |
//!
//! So a free always succeeds at once, and the memory of a held block is given to nobody else
//! meanwhile: what the holder asks about it is never answered about another use of the frame.
//!
//! Orders: every change is an exchange with `AcqRel`. Each pairs with the one before it on the same
//! word: whoever gets the memory sees what all before it did with it.

use super::{FrameKind, FrameTable, FrameWord, Order, Pfn};

/// Owners that a word can name.
pub(crate) const OWNERS: usize = 1 << 6;

const OWNER: u64 = OWNERS as u64 - 1;
const COMPOUND: u64 = 1 << 6;
const STATE: u64 = 0b11 << 8;
const HELD: u64 = 0b01 << 8;
const HELD_FREED: u64 = 0b11 << 8;
/// The part of the payload that goes with the page: 32 bits.
const TAG_SHIFT: u32 = 16;
/// Of the tag: the block is where another is being moved to, and the tag still that of the other.
pub(crate) const TAG_ARRIVING: u32 = 1 << 1;

/// Why a block cannot get an owner, or lose it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// Not the first frame of an allocated block of pages.
    NotPages,
    /// Somebody else has a reference.
    Shared,
    /// It has an owner already.
    HasOwner,
    /// It has none.
    NoOwner,
    /// It is held.
    Held,
}

/// What a free of a movable block came to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Freed {
    /// The block is an ordinary one with one reference now, to be freed by who asked.
    Now { owner: u8 },
    /// The holder frees it.
    ByHolder { owner: u8 },
    /// It is no movable block of this order, or was freed already.
    Misuse,
}

/// What a holder has left when it let go.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum LetGo {
    /// Nothing: the owner goes on with the block.
    Kept,
    /// An ordinary block with one reference, to be freed: its owner freed it meanwhile.
    Freed,
}

/// A movable block, as its word describes it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct MovableBlock {
    pub(crate) order: Order,
    pub(crate) owner: u8,
}

impl FrameWord {
    /// The block, if this is the word of a movable one.
    pub(crate) fn movable(self) -> Option<MovableBlock> {
        let block = MovableBlock {
            order: self.order(),
            owner: self.owner(),
        };
        self.is(FrameKind::Movable).then_some(block)
    }

    fn owner(self) -> u8 {
        (self.payload() & OWNER) as u8
    }

    fn with_state(self, state: u64) -> FrameWord {
        let payload = self.payload() & !STATE | state;
        FrameWord::new(FrameKind::Movable, self.order(), payload)
    }

    /// The word of the block without its owner.
    fn ordinary(self) -> FrameWord {
        let kind = match self.payload() & COMPOUND {
            0 => FrameKind::Page,
            _ => FrameKind::Compound,
        };
        FrameWord::new(kind, self.order(), 1)
    }
}

impl FrameTable {
    /// Changes a word by `next` until that succeeds or `next` gives up.
    fn step<E>(
        &self,
        pfn: Pfn,
        next: impl Fn(FrameWord) -> Result<FrameWord, E>,
    ) -> Result<FrameWord, E> {
        loop {
            let old = self.get_acquire(pfn);
            if self.replace(pfn, old, next(old)?) {
                return Ok(old);
            }
        }
    }

    /// Gives an allocated block to `owner`: from now on it is movable.
    pub(crate) fn give_owner(&self, pfn: Pfn, owner: u8) -> Result<(), Unfit> {
        debug_assert!(usize::from(owner) < OWNERS);
        let next = |old: FrameWord| {
            let compound = match old.kind() {
                FrameKind::Page => 0,
                FrameKind::Compound => COMPOUND,
                FrameKind::Movable => return Err(Unfit::HasOwner),
                _ => return Err(Unfit::NotPages),
            };
            if old.payload() != 1 {
                return Err(Unfit::Shared);
            }
            let payload = u64::from(owner) | compound;
            Ok(FrameWord::new(FrameKind::Movable, old.order(), payload))
        };
        self.step(pfn, next).map(|_| ())
    }

    /// Takes the owner of a block away: it is an ordinary one with one reference again. Returns the
    /// owner.
    pub(crate) fn take_owner(&self, pfn: Pfn) -> Result<u8, Unfit> {
        let next = |old: FrameWord| match old.kind() {
            FrameKind::Movable if old.payload() & STATE == 0 => Ok(old.ordinary()),
            FrameKind::Movable if old.payload() & STATE == HELD => Err(Unfit::Held),
            FrameKind::Page | FrameKind::Compound => Err(Unfit::NoOwner),
            _ => Err(Unfit::NotPages),
        };
        self.step(pfn, next).map(|old| old.owner())
    }

    /// Holds a movable block, if nobody does.
    pub(crate) fn hold(&self, pfn: Pfn) -> Option<MovableBlock> {
        let next = |old: FrameWord| {
            let idle = old.is(FrameKind::Movable) && old.payload() & STATE == 0;
            idle.then(|| old.with_state(HELD)).ok_or(())
        };
        self.step(pfn, next).ok()?.movable()
    }

    /// Makes an ordinary block that the caller owns a held one that is like `like`, which the
    /// caller holds: where that is moved to. Its tag says so until [`FrameTable::arrived`].
    pub(crate) fn hold_as(&self, pfn: Pfn, like: Pfn) {
        let word = self.get(like);
        debug_assert!(word.is(FrameKind::Movable) && word.payload() & HELD != 0);
        // AcqRel by `replace`, though nobody else changes it: who frees it reads it by an exchange.
        let arriving = u64::from(TAG_ARRIVING) << TAG_SHIFT;
        let twin = FrameWord::new(word.kind(), word.order(), word.payload() | arriving);
        let changed = self.replace(pfn, self.get(pfn), twin.with_state(HELD));
        debug_assert!(changed, "the block is the caller's");
    }

    /// The move to a block that the caller holds is over.
    pub(crate) fn arrived(&self, pfn: Pfn) {
        self.change_movable_tag(pfn, |tag| tag & !TAG_ARRIVING);
    }

    /// True if the owner has freed a block that the caller holds.
    pub(crate) fn is_held_freed(&self, pfn: Pfn) -> bool {
        let word = self.get_acquire(pfn);
        word.is(FrameKind::Movable) && word.payload() & STATE == HELD_FREED
    }

    /// Lets a block go that the caller holds.
    pub(crate) fn let_go(&self, pfn: Pfn) -> LetGo {
        let next = |old: FrameWord| -> Result<_, core::convert::Infallible> {
            debug_assert!(old.is(FrameKind::Movable) && old.payload() & HELD != 0);
            Ok(match old.payload() & STATE {
                HELD_FREED => old.ordinary(),
                _ => old.with_state(0),
            })
        };
        match self.step(pfn, next) {
            Ok(old) if old.payload() & STATE == HELD_FREED => LetGo::Freed,
            _ => LetGo::Kept,
        }
    }

    /// Makes a block that the caller holds an ordinary one with one reference, the caller's: its
    /// owner does not use it any more. [`LetGo::Freed`] if the owner had freed it as well.
    pub(crate) fn retire(&self, pfn: Pfn) -> LetGo {
        let next = |old: FrameWord| -> Result<_, core::convert::Infallible> {
            debug_assert!(old.is(FrameKind::Movable) && old.payload() & HELD != 0);
            Ok(old.ordinary())
        };
        match self.step(pfn, next) {
            Ok(old) if old.payload() & STATE == HELD_FREED => LetGo::Freed,
            _ => LetGo::Kept,
        }
    }

    /// The owner frees a movable block of this order.
    pub(crate) fn free_movable(&self, pfn: Pfn, order: Order) -> Freed {
        let next = |old: FrameWord| {
            if !old.is_block(FrameKind::Movable, order) {
                return Err(());
            }
            match old.payload() & STATE {
                0 => Ok(old.ordinary()),
                HELD => Ok(old.with_state(HELD_FREED)),
                _ => Err(()),
            }
        };
        match self.step(pfn, next) {
            Ok(old) if old.payload() & STATE == 0 => Freed::Now { owner: old.owner() },
            Ok(old) => Freed::ByHolder { owner: old.owner() },
            Err(()) => Freed::Misuse,
        }
    }

    /// 32 bits that go with a movable block; 0 when it gets its owner, and 0 for anything else. Bit
    /// 0 says that the block is on the lists of reclaim, bit 1 that it is being moved here; the
    /// others mean nothing here.
    pub fn movable_tag(&self, pfn: Pfn) -> u32 {
        let word = self.get(pfn);
        match word.is(FrameKind::Movable) {
            true => (word.payload() >> TAG_SHIFT) as u32,
            false => 0,
        }
    }

    /// Changes the tag of a movable block, whatever its state; `change` may be called again. The
    /// old one; `None`, and nothing done, of anything else.
    pub fn change_movable_tag(&self, pfn: Pfn, change: impl Fn(u32) -> u32) -> Option<u32> {
        self.change_tag(pfn, |_| true, change)
    }

    /// [`FrameTable::change_movable_tag`] of a block that is a single page at that very moment.
    pub(crate) fn change_page_tag(&self, pfn: Pfn, change: impl Fn(u32) -> u32) -> Option<u32> {
        self.change_tag(pfn, |block| block.order() == Order::ZERO, change)
    }

    fn change_tag(
        &self,
        pfn: Pfn,
        fits: impl Fn(FrameWord) -> bool,
        change: impl Fn(u32) -> u32,
    ) -> Option<u32> {
        let next = |old: FrameWord| match old.is(FrameKind::Movable) && fits(old) {
            true => {
                let rest = old.payload() & ((1 << TAG_SHIFT) - 1);
                let tag = change((old.payload() >> TAG_SHIFT) as u32);
                let payload = rest | u64::from(tag) << TAG_SHIFT;
                Ok(FrameWord::new(FrameKind::Movable, old.order(), payload))
            }
            false => Err(()),
        };
        let old = self.step(pfn, next).ok()?;
        Some((old.payload() >> TAG_SHIFT) as u32)
    }
}

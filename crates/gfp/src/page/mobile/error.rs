//! What can be wrong with a page or its owner.

use crate::error::AllocError;
use crate::frame::Unfit;
use core::fmt;

/// Why an owner could not be registered or unregistered, or a page not be given to it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageOwnerError {
    /// There are [`OWNERS_MAX`](super::OWNERS_MAX) owners.
    TooMany,
    /// The owner is not registered, or not any more.
    NoSuchOwner,
    /// The owner has pages: free them, or take them away from it, first.
    HasPages {
        /// How many blocks.
        blocks: usize,
    },
    /// The frame is not the first of an allocated block of pages: free, inside a block, or of a
    /// slab, an area, a device.
    NotPages,
    /// The block has more than one reference: who has the others would not learn that it moved.
    Shared,
    /// The block has an owner already.
    HasOwner,
    /// The block has no owner.
    NoOwner,
    /// Somebody is asking the owner about the block: try again.
    Busy,
}

impl fmt::Display for PageOwnerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PageOwnerError::TooMany => "too many owners of pages: unregister one",
            PageOwnerError::NoSuchOwner => "the owner is not registered",
            PageOwnerError::HasPages { blocks } => {
                return write!(f, "the owner has {blocks} blocks of pages: free them first");
            }
            PageOwnerError::NotPages => "not the first frame of an allocated block of pages",
            PageOwnerError::Shared => "the block has more than one reference",
            PageOwnerError::HasOwner => "the block has an owner already",
            PageOwnerError::NoOwner => "the block has no owner",
            PageOwnerError::Busy => "the block is being looked at: try again",
        })
    }
}

impl core::error::Error for PageOwnerError {}

/// Why a block stays where it is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MigrateError {
    /// It is no block of this order that has an owner, or somebody else is asking about it.
    NotMovable,
    /// There is no memory to move it to.
    Alloc(AllocError),
    /// Its owner needs it where it is now.
    Busy,
    /// Its owner cannot move it.
    Refused,
}

impl fmt::Display for MigrateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MigrateError::NotMovable => f.write_str("no movable block, or it is held"),
            MigrateError::Alloc(error) => write!(f, "nowhere to move it: {error}"),
            MigrateError::Busy => f.write_str("its owner needs it where it is now: try again"),
            MigrateError::Refused => f.write_str("its owner cannot move it"),
        }
    }
}

impl core::error::Error for MigrateError {}

impl From<Unfit> for PageOwnerError {
    fn from(unfit: Unfit) -> PageOwnerError {
        match unfit {
            Unfit::NotPages => PageOwnerError::NotPages,
            Unfit::Shared => PageOwnerError::Shared,
            Unfit::HasOwner => PageOwnerError::HasOwner,
            Unfit::NoOwner => PageOwnerError::NoOwner,
            Unfit::Held => PageOwnerError::Busy,
        }
    }
}

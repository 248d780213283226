//! Tests of the page allocator.

mod boost;
mod boot;
mod buddy;
mod bulk;
mod claim;
mod edges;
mod folio;
mod growth;
mod isolate;
mod mail;
mod maps;
mod mempolicy;
mod model;
mod nolock;
mod placement;
mod plug;
mod quick;
mod refuse;
mod reporting;
mod rest;
mod rules;
mod scopes;
mod shards;
mod sizing;
mod stand;
mod steal;
mod stretches;
mod support;
pub(crate) mod tenant;
mod urgent;
mod whole;
mod zero;

use super::PageAllocator;
use crate::flags::MigrateType;
use crate::frame::Pfn;
use crate::testing::TestPlatform;

/// True if the pageblock of a page is one of what can be moved.
pub(crate) fn is_movable(machine: &PageAllocator<TestPlatform>, pfn: Pfn) -> bool {
    machine.blocks.kind_of(pfn) == MigrateType::Movable
}

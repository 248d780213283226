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
mod maps;
mod mempolicy;
mod model;
mod nolock;
mod plug;
mod quick;
mod rules;
mod scopes;
mod shards;
mod sizing;
mod stand;
pub(crate) mod tenant;
mod urgent;
mod zero;

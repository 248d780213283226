//! Tests of the page allocator.

mod boot;
mod edges;
mod model;
mod rules;

//! Tests of the page allocator.

mod boot;
mod model;
mod rules;

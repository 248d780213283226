//! What is shown about vmalloc, rule by rule.

mod contexts;
mod kv;
mod machine;
mod model;
mod realloc;
mod rules;
mod space;
mod uses;

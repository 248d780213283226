//! Lock-free protocols of the parts that are not built under a model checker as a whole: their one
//! file is. It tries every interleaving and every value that a relaxed load may see:
//! `RUSTFLAGS="--cfg loom" cargo test -p gfp --release --lib interleavings::`
//!
//! Signal handlers and interrupts are threads here.

mod balloon;
mod border;
mod deferred;
mod descriptor;
mod epochs;
mod isolation;
mod known;
mod link;
mod lock_class;
mod marks;
mod movable;
mod oom_lock;
mod post;
mod postponed;
mod presence;
mod steal;
mod wait;

//! x
/// y
#[unsafe(no_mangle)]
pub extern "C" fn gfp_malloc_probe() -> i32 {
    7
}

//! The capability to say when readers have ended: grace periods that a machine has anyway.

/// Grace periods of the machine's own (S35). A kernel with RCU answers with it in
/// [`Platform::grace`](super::Platform::grace); without, the library counts readers itself, which
/// needs nothing of the machine.
///
/// 1. **Readers** run between [`Grace::read_begin`] and [`Grace::read_end`]. They may nest, and run
///    in every context of the machine.
/// 2. **Cookies** name a moment. [`Grace::poll`] is true when each reader that ran at that moment
///    has ended. Cookie 0 names a moment before all readers.
/// 3. **Nobody is called back.** The library keeps what waits, and asks; so `poll` is where the
///    machine makes progress.
/// 4. **Order.** A reader that `poll` of a cookie does not wait for sees what was done before the
///    cookie was taken: `read_begin` and `cookie` each contain a fence that is `SeqCst`, or do as
///    if. What a reader did is over for who sees `poll` answer true.
///
/// # Safety
/// Memory is freed, and given out anew, when `poll` says so: the implementor promises 1, 2 and 4.
pub unsafe trait Grace: Sync {
    /// A reader begins; what is answered goes to [`Grace::read_end`].
    ///
    /// Context: any.
    fn read_begin(&self) -> u64;

    /// A reader ends, on the thread or in the interrupt that began it.
    ///
    /// Context: as [`Grace::read_begin`].
    fn read_end(&self, begun: u64);

    /// Names this moment.
    ///
    /// Context: any.
    fn cookie(&self) -> u64;

    /// True if each reader that ran when the cookie was taken has ended. Does not wait; brings that
    /// nearer, if it can. Must not allocate.
    ///
    /// Context: any, with no lock of the library held.
    fn poll(&self, cookie: u64) -> bool;
}

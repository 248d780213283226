//! GFP flags.

//! The C ABI of synlock.

//! The core of synlock: stores and locks.

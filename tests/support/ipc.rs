//! Semaphore sets outlive whoever made them.

/// Gives this process and its children System V objects of their own, which vanish with the last of them.
/// Without the right to do so they stay with everybody else's, under names that no other run has.
pub fn set_apart() {
    // SAFETY: no pointers involved.
    unsafe { libc::unshare(libc::CLONE_NEWIPC) };
}

//! What the suites share: services, random names, child processes.

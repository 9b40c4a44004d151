//! The least that each store must claim, and that it refuses what it does not.

use super::support::{Case, List, code, ms};
use synlock_core::{Code, Fence, LockOptions, Mode, Require};

pub fn tests(list: &mut List) {
    list.add("claims_no_less_than_the_matrix", claims);
    list.add("refuses_what_it_does_not_claim", refuses);
    list.add("refuses_what_is_required_and_it_lacks", requires);
    list.add("has_a_fingerprint_of_its_own", fingerprint);
}

fn claims(case: &Case) {
    let can = &case.can;
    // shared, promote, permits, ttl, frees on death, fence class, wakes, fair, export, list, break
    let claimed = (
        (
            can.shared,
            can.promote,
            can.permits,
            can.ttl,
            can.frees_on_death,
        ),
        can.fence.class(),
        (can.wakes, can.fair, can.export, can.list, can.break_lock),
    );
    let least = match can.store {
        "memory" => (
            (true, true, true, true, true),
            "E",
            (true, true, false, true, true),
        ),
        "shm" => (
            (true, true, true, true, true),
            "H",
            (true, true, true, true, true),
        ),
        // Fencing is opt-in.
        "flock" => (
            (true, true, false, false, true),
            "none",
            (true, true, false, true, true),
        ),
        "redis" => (
            (true, true, true, true, false),
            "H",
            (true, true, true, true, true),
        ),
        "postgres+advisory" => (
            (true, true, false, false, true),
            "D",
            (true, true, false, true, false),
        ),
        "mysql+advisory" => (
            (false, false, false, false, true),
            "D",
            (true, true, false, true, false),
        ),
        // Fencing is opt-in: the database is a peer's.
        "postgres+advisory-symfony" | "postgres+advisory-distributedlock" => (
            (true, true, false, false, true),
            "none",
            (true, true, false, true, false),
        ),
        "mysql+advisory-symfony" => (
            (false, false, false, false, true),
            "none",
            (true, true, false, true, false),
        ),
        // What the callbacks of `custom.rs` can do.
        "custom" => (
            (true, true, true, true, true),
            "E",
            (false, false, false, true, true),
        ),
        // Fencing and order are among synlock's own.
        "redis-symfony" => (
            (true, true, false, true, false),
            "H",
            (true, true, true, true, true),
        ),
        "redis-plain" | "redis-python-redis-lock" | "redis-redis-semaphore" | "redis-redisson" => (
            (false, false, false, true, false),
            "H",
            (true, true, true, true, true),
        ),
        "postgres" => (
            (true, true, true, true, false),
            "D",
            (true, true, true, true, true),
        ),
        "sqlite-symfony" | "postgres-symfony" | "mysql-symfony" => (
            (false, false, false, true, false),
            "none",
            // Its rows show hashes in place of names.
            (false, false, true, false, true),
        ),
        "sqlite-drupal" | "postgres-drupal" | "mysql-drupal" | "sqlite-laravel"
        | "postgres-laravel" | "mysql-laravel" => (
            (false, false, false, true, false),
            "none",
            (false, false, true, true, true),
        ),
        "sqlite" | "mysql" => (
            (true, true, true, true, false),
            "D",
            (false, false, true, true, true),
        ),
        // A peer may have the file that a break would replace; Symfony's files do not say the name.
        "flock-symfony" => (
            (true, true, false, false, true),
            "none",
            (true, true, false, false, false),
        ),
        "flock-file" => (
            (true, true, false, false, true),
            "none",
            (true, true, false, true, false),
        ),
        // Fair is the kernel's word.
        "sysv" => (
            (false, false, true, false, true),
            "H",
            (true, true, false, true, true),
        ),
        // A key does not say its name.
        "sysv-php" | "sysv-symfony" => (
            (false, false, false, false, true),
            "none",
            (true, true, false, false, true),
        ),
        "memcached" | "memcached-symfony" => (
            (false, false, false, true, false),
            "E",
            (false, false, true, false, true),
        ),
        // Names with a slash cannot be read back, and nobody stands in line.
        "zookeeper-symfony" => (
            (false, false, false, false, true),
            "D",
            (true, false, false, false, true),
        ),
        "zookeeper-curator" => (
            (false, false, false, false, true),
            "D",
            (true, true, false, true, true),
        ),
        "zookeeper-kazoo" | "zookeeper-curator-rw" => (
            (true, false, false, false, true),
            "D",
            (true, true, false, true, true),
        ),
        "zookeeper" => (
            (true, false, true, false, true),
            "D",
            (true, true, false, true, true),
        ),
        "etcd" => (
            (true, false, true, true, false),
            "D",
            (true, true, true, true, true),
        ),
        // As its remote store; a death is seen at once on its own host alone.
        "tiered" => (
            (false, false, false, true, false),
            "E",
            (true, true, false, true, true),
        ),
        // As its members.
        "quorum" if case.url.contains("redis") => (
            (true, false, false, true, false),
            "none",
            (true, false, true, false, true),
        ),
        "quorum" if case.url.contains("flock") => (
            (true, false, false, false, true),
            "none",
            (true, false, false, false, true),
        ),
        "quorum" => (
            (true, false, false, true, true),
            if case.url.contains("fencing=1") {
                "E"
            } else {
                "none"
            },
            (true, false, false, false, true),
        ),
        other => panic!("the matrix has no row for {other}"),
    };
    assert_eq!(claimed, least);
}

fn refuses(case: &Case) {
    let refused = |change: fn(&mut LockOptions)| {
        let mut options = LockOptions::default();
        change(&mut options);
        code(case.store.lock_with(&case.name, options)) == Code::Unsupported
    };
    assert_eq!(
        refused(|options| options.mode = Mode::Shared),
        !case.can.shared
    );
    assert_eq!(
        refused(|options| options.mode = Mode::Permits { take: 1, of: 2 }),
        !case.can.permits
    );
    assert_eq!(
        refused(|options| options.ttl = Some(ms(60_000))),
        !case.can.ttl
    );
    let lock = case.lock();
    lock.acquire(synlock_core::Wait::No, None).unwrap();
    if !case.can.export {
        assert_eq!(code(lock.export()), Code::Unsupported);
    }
    if !case.can.ttl {
        assert_eq!(code(lock.refresh(Some(ms(1000)))), Code::Unsupported);
    }
}

fn requires(case: &Case) {
    for (words, has) in [
        ("", true),
        ("fence", case.can.fence != Fence::None),
        ("fence_durable", case.can.fence == Fence::Durable),
        ("crash_release", case.can.frees_on_death),
        ("quorum", case.can.store == "quorum"),
        (
            "fence, crash_release",
            case.can.fence != Fence::None && case.can.frees_on_death,
        ),
    ] {
        let mut options = case.store.defaults().clone();
        options.require = Require::read(words).unwrap();
        let made = case.store.lock_with(&case.name, options);
        let wanted = if has { Code::Ok } else { Code::Unsupported };
        assert_eq!(code(made), wanted, "{words}");
    }
    assert_eq!(code(Require::read("fence,fast")), Code::InvalidArgument);
}

fn fingerprint(case: &Case) {
    let again = case.open_again();
    assert_eq!(again.fingerprint(), case.store.fingerprint());
    assert!(!again.fingerprint().is_empty());
}

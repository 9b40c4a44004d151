//! Builds of neighbouring releases share semaphore sets: this one, and one whose layout number is one higher
//! (`next-layout`); and a set as the first release makes it.

use sha2::{Digest, Sha256};
use synlock_core::store::sysv::{LAYOUT, clean_up};
use synlock_core::{Code, Store, Wait};
use synlock_tests::names::unique;
use synlock_tests::taker::{Taker, next_release};

const THIS: &str = env!("CARGO_BIN_EXE_flock-taker");

/// A set made as `core/FORMATS.md` says, for the name at the first of its keys.
fn make(space: &str, name: &[u8], values: &[u16]) -> i32 {
    let text = [b"synlock sysv\0", space.as_bytes(), b"\0\0\0", name].concat();
    let hash = Sha256::digest(text);
    let key = i32::from_ne_bytes([hash[0], hash[1], hash[2], hash[3]]);
    let flags = libc::IPC_CREAT | libc::IPC_EXCL | 0o600;
    // SAFETY: no pointers involved; the array has one value for each semaphore of the new set.
    unsafe {
        let id = libc::semget(key, values.len() as i32, flags);
        assert!(id >= 0, "{}", std::io::Error::last_os_error());
        assert_eq!(libc::semctl(id, 0, libc::SETALL, values.as_ptr()), 0);
        id
    }
}

fn remove(id: i32) {
    // SAFETY: no pointers involved.
    unsafe { libc::semctl(id, 0, libc::IPC_RMID) };
}

/// The values of a set of the name `invoice 42` in the space `vector`, whose counter stands at 41.
fn vector() -> Vec<u16> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/sysv-layout-1.txt");
    let text = std::fs::read_to_string(path).unwrap();
    let numbers = text.lines().filter(|line| !line.starts_with('#'));
    numbers
        .flat_map(str::split_ascii_whitespace)
        .map(|number| number.parse().unwrap())
        .collect()
}

#[test]
fn a_set_of_the_first_release_is_used_on() {
    let id = make("vector", b"invoice 42", &vector());
    let store = Store::open("sysv:vector").unwrap();
    let lock = store.lock("invoice 42").unwrap();
    lock.acquire(Wait::No, None).unwrap();
    assert_eq!(lock.fencing_token(), Some(42));
    let page = store.list(b"inv", None, 10).unwrap();
    assert_eq!(page.locks[0].name, b"invoice 42");
    lock.release().unwrap();
    // As it was, but for the counter.
    let mut values = vec![0u16; vector().len()];
    // SAFETY: one value for each semaphore of the set.
    unsafe { libc::semctl(id, 0, libc::GETALL, values.as_mut_ptr()) };
    let mut expected = vector();
    expected[7] += 1;
    assert_eq!(values, expected);
    remove(id);
}

#[test]
fn a_layout_from_the_future_is_refused_in_words() {
    let space = unique("future");
    let mut values = vector();
    // Another space has other words in 70 and 71.
    let text = [b"synlock sysv\0", space.as_bytes(), b"\0space"].concat();
    let hash = Sha256::digest(text);
    let word = u32::from_ne_bytes([hash[0], hash[1], hash[2], hash[3]]);
    (values[70], values[71]) = ((word >> 15) as u16 & 0x7fff, word as u16 & 0x7fff);
    values[2] = LAYOUT + 1;
    let id = make(&space, b"invoice 42", &values);
    let store = Store::open(&format!("sysv:{space}")).unwrap();
    let error = store
        .lock("invoice 42")
        .unwrap()
        .acquire(Wait::No, None)
        .unwrap_err();
    assert_eq!(error.code(), Code::Protocol);
    assert!(error.message().contains("layout 2"), "{error}");
    remove(id);
}

#[test]
fn neighbours_take_turns() {
    let space = format!("sysv:{}", unique("layouts"));
    let mut takers = [
        Taker::start(THIS, &space),
        Taker::start(next_release(THIS), &space),
    ];
    for name in ["plain", "odd%20one"] {
        let mut last = 0;
        for taker in &mut takers {
            taker.ok(&format!("lock x {name} label=turn"));
        }
        for turn in 0..20 {
            let [one, two] = &mut takers;
            let (first, second) = if turn % 2 == 0 {
                (one, two)
            } else {
                (two, one)
            };
            let fence: u64 = first.ok("acquire x 0").parse().unwrap();
            assert!(fence > last, "{name}: {fence} after {last}");
            last = fence;
            assert_eq!(second.code("acquire x 0"), "BUSY");
            assert!(!second.ok("list").is_empty());
            if turn % 5 == 4 && name == "plain" {
                assert_eq!(second.ok("break plain"), "true");
                assert_eq!(first.code("check x"), "LOST");
            } else {
                first.ok("release x");
            }
        }
    }
    drop(takers);
    assert_eq!(clean_up(&space).unwrap(), 2);
}

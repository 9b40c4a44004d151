//! Several users of one name of `shm:` in a sticky directory.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use synlock_tests::scene::{NOBODY, STRANGER};
use synlock_tests::taker::Taker;
use synlock_tests::torture::Verdict;

/// A taker as this user, under the umask that leaves others nothing.
fn user(url: &str, uid: u32, gid: u32) -> Taker {
    let mut taker = Taker::start(env!("CARGO_BIN_EXE_flock-taker"), url);
    taker.ok("umask 077");
    if (uid, gid) != (0, 0) {
        taker.ok(&format!("user {uid} {gid}"));
    }
    taker.ok("lock h x");
    taker
}

/// They meet in one segment of the name, or not at all.
pub(crate) fn meet(base: &Path, verdict: &mut Verdict) {
    const TEAM: u32 = 4_242;
    let mut number = 0;
    let mut place = || {
        number += 1;
        let place = base.join(format!("users-{number}"));
        fs::create_dir(&place).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(0o1777)).unwrap();
        (
            place.clone(),
            format!("shm:{}/segment?slots=16", place.display()),
        )
    };
    let files = |place: &Path| {
        let entries = fs::read_dir(place).unwrap();
        let state = |entry: fs::DirEntry| {
            let data = entry.metadata().unwrap();
            (data.uid(), data.gid(), data.permissions().mode() & 0o7777)
        };
        entries
            .map(|entry| state(entry.unwrap()))
            .collect::<Vec<_>>()
    };

    let (folder, url) = place();
    let (mut first, mut second) = (user(&url, NOBODY, NOBODY), user(&url, STRANGER, STRANGER));
    let before = first.code("acquire h 0");
    let refused = [
        "acquire h 0",
        "acquire h 50",
        "inspect x",
        "list",
        "break x",
    ]
    .map(|command| second.ask(command));
    let in_words = |answer: &String| {
        ["PERMISSION ", "another user", "`mode=`", "`group=`"]
            .iter()
            .all(|word| answer.contains(word))
    };
    verdict.claim(
        before == "OK" && refused.iter().all(in_words),
        "what the second user is told",
        &refused[0],
    );
    let kept = [
        first.code("check h"),
        first.code("release h"),
        first.code("acquire h 0"),
    ];
    verdict.claim(
        kept == ["OK", "OK", "OK"] && files(&folder) == [(NOBODY, NOBODY, 0o600)],
        "the first user's segment stays the only one",
        format!("{kept:?} {:?}", files(&folder)),
    );

    for (query, maker, expected) in [
        ("&group=4242", NOBODY, ["OK", "BUSY", "OK", "OK"]),
        ("&group=4242", 0, ["OK", "BUSY", "OK", "OK"]),
        // Everybody trusts root; another user's file takes `group=`.
        ("&mode=0660", 0, ["OK", "BUSY", "OK", "OK"]),
        (
            "&mode=0660",
            NOBODY,
            ["OK", "PERMISSION", "OK", "PERMISSION"],
        ),
    ] {
        let (folder, url) = place();
        let url = url + query;
        let (mut first, mut second) = (user(&url, maker, TEAM), user(&url, STRANGER, TEAM));
        let mut third = user(&url, STRANGER + 1, STRANGER);
        let answers = [
            first.code("acquire h 0"),
            second.code("acquire h 0"),
            first.code("release h"),
            second.code("acquire h 0"),
        ];
        let outside = third.code("acquire h 0");
        verdict.claim(
            answers == expected
                && outside == "PERMISSION"
                && files(&folder) == [(maker, TEAM, 0o660)],
            &format!("{query}, made by {maker}, used by its group and by another user"),
            format!("{answers:?} {outside} {:?}", files(&folder)),
        );
    }

    let (folder, url) = place();
    let answer = user(&(url + "&group=4242"), NOBODY, NOBODY).ask("acquire h 0");
    verdict.claim(
        answer.starts_with("PERMISSION ") && files(&folder).is_empty(),
        "a group that one is not in",
        answer,
    );
}

//! The scripts, and their digests.

use std::sync::LazyLock;

/// A script as `EVAL` and `EVALSHA` want it.
#[derive(Debug)]
pub(super) struct Script {
    pub text: &'static str,
    pub sha: String,
}

macro_rules! scripts {
    ($($name:ident = $file:literal $(, at once $fast:literal)?;)*) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            let text = concat!(
                include_str!("scripts/begin.lua"),
                $(include_str!(concat!("scripts/", $fast, ".lua")),)?
                include_str!("scripts/common.lua"),
                include_str!(concat!("scripts/", $file, ".lua")),
            );
            #[cfg(any(
                canary = "always_fits",
                canary = "flat_fence",
                canary = "forgetful_fence"
            ))]
            let text = broken(text);
            Script { text, sha: redis::Script::new(text).get_hash().to_owned() }
        });)*
    };
}

scripts! {
    ACQUIRE = "acquire", at once "acquire_fast";
    RELEASE = "release", at once "release_fast";
    EXTEND = "extend", at once "extend_fast";
    CANCEL = "cancel";
    CHANGE_MODE = "change_mode";
    ADOPT = "adopt";
    BREAK = "break";
    INSPECT = "inspect";
    WATCH = "watch";
}

/// Broken on purpose, to show that the tests would notice.
#[cfg(any(
    canary = "always_fits",
    canary = "flat_fence",
    canary = "forgetful_fence"
))]
fn broken(text: &str) -> &'static str {
    let (sound, wrong) = if cfg!(canary = "always_fits") {
        ("if mode == 'x' then return false end", "do return true end")
    } else if cfg!(canary = "forgetful_fence") {
        // As a plain counter: after a flush it starts again.
        ("if value == block then", "if false then")
    } else {
        ("value - block + 1", "1")
    };
    Box::leak(text.replacen(sound, wrong, 1).into_boxed_str())
}

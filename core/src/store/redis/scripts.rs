//! The scripts, and their digests.

use std::sync::LazyLock;

/// A script as `EVAL` and `EVALSHA` want it.
#[derive(Debug)]
pub(super) struct Script {
    pub text: &'static str,
    pub sha: String,
}

macro_rules! scripts {
    ($($name:ident = $file:literal;)*) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            let text = concat!(include_str!("scripts/common.lua"), include_str!(concat!("scripts/", $file, ".lua")));
            Script { text, sha: redis::Script::new(text).get_hash().to_owned() }
        });)*
    };
}

scripts! {
    ACQUIRE = "acquire";
    RELEASE = "release";
    EXTEND = "extend";
    CANCEL = "cancel";
    CHANGE_MODE = "change_mode";
    ADOPT = "adopt";
    BREAK = "break";
    INSPECT = "inspect";
}

//! The scripts, and their digests. Each is put together from pieces: how the keys look, who holds, who
//! waits, and the verb.

use super::config::Dialect;
use crate::owner::OwnerToken;
use once_cell::race::OnceBox;

/// A script as `EVAL` and `EVALSHA` want it.
#[derive(Debug)]
pub(super) struct Script {
    pub text: String,
    pub sha: String,
}

/// What a script does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verb {
    Acquire,
    Release,
    Extend,
    Cancel,
    ChangeMode,
    Adopt,
    Break,
    Inspect,
    Watch,
}

impl Verb {
    /// Whether its answer tells of others' holds as they are at this moment. Whoever queues hears of their end.
    pub fn looks(self, words: usize) -> bool {
        match self {
            Verb::Acquire => words <= 5,
            Verb::ChangeMode | Verb::Break | Verb::Inspect | Verb::Watch => true,
            Verb::Release | Verb::Extend | Verb::Cancel | Verb::Adopt => false,
        }
    }

    /// For whom it is asked, if all that it does is undone by a release of that token.
    pub fn token(self, args: &[&[u8]]) -> Option<OwnerToken> {
        match self {
            Verb::Acquire | Verb::ChangeMode | Verb::Release | Verb::Extend | Verb::Cancel => {
                OwnerToken::from_hex(args.first()?.get(..32)?)
            }
            Verb::Adopt => OwnerToken::from_hex(args.get(1)?),
            Verb::Break | Verb::Inspect | Verb::Watch => None,
        }
    }

    /// Whether a hold may begin or last longer by it.
    pub fn grants(self) -> bool {
        matches!(
            self,
            Verb::Acquire | Verb::Extend | Verb::Cancel | Verb::ChangeMode | Verb::Adopt
        )
    }
}

/// What it finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Form {
    pub dialect: Dialect,
    /// Without keys of our own beside the peer's.
    pub bare: bool,
    /// On a Cluster.
    pub cluster: bool,
}

const VERBS: usize = 9;
const FORMS: usize = 4 * Dialect::ALL.len();

static SCRIPTS: [[OnceBox<Script>; VERBS]; FORMS] =
    [const { [const { OnceBox::new() }; VERBS] }; FORMS];

/// The script, the same for as long as the process lives.
pub(super) fn script(form: Form, verb: Verb) -> &'static Script {
    let number = form.dialect as usize * 4 + usize::from(form.bare) * 2 + usize::from(form.cluster);
    SCRIPTS[number][verb as usize].get_or_init(|| {
        let text = compose(form, verb);
        let text = broken(text);
        let sha = redis::Script::new(&text).get_hash().to_owned();
        Box::new(Script { text, sha })
    })
}

macro_rules! piece {
    ($name:literal) => {
        include_str!(concat!("scripts/", $name, ".lua"))
    };
}

fn compose(form: Form, verb: Verb) -> String {
    let own = form.dialect == Dialect::Native;
    let begin = match (own, form.bare) {
        (true, _) => piece!("begin"),
        (false, false) => piece!("begin_dialect"),
        (false, true) => piece!("begin_bare"),
    };
    let at_once = match verb {
        Verb::Acquire if own => piece!("acquire_fast"),
        Verb::Release if own => piece!("release_fast"),
        Verb::Extend if own => piece!("extend_fast"),
        _ => "",
    };
    let notes = if own { "" } else { piece!("notes") };
    let let_go = match form.dialect {
        Dialect::Native | Dialect::Symfony => "",
        Dialect::Plain | Dialect::RedisSemaphore => piece!("let_go"),
        Dialect::PythonRedisLock => piece!("let_go_list"),
        Dialect::Redisson => piece!("let_go_channel"),
    };
    let layout = match form.dialect {
        Dialect::Native => piece!("layout_native"),
        Dialect::Symfony => piece!("layout_symfony"),
        Dialect::Redisson => piece!("layout_redisson"),
        Dialect::Plain | Dialect::RedisSemaphore | Dialect::PythonRedisLock => {
            piece!("layout_text")
        }
    };
    let queue = if form.bare {
        piece!("no_queue")
    } else {
        piece!("queue")
    };
    let broadcast = if form.cluster {
        "local BROADCAST = true\n"
    } else {
        "local BROADCAST = false\n"
    };
    let verb = match verb {
        Verb::Acquire => piece!("acquire"),
        Verb::Release => piece!("release"),
        Verb::Extend => piece!("extend"),
        Verb::Cancel => piece!("cancel"),
        Verb::ChangeMode => piece!("change_mode"),
        Verb::Adopt => piece!("adopt"),
        Verb::Break => piece!("break"),
        Verb::Inspect => piece!("inspect"),
        Verb::Watch => piece!("watch"),
    };
    [
        begin,
        at_once,
        piece!("clock"),
        broadcast,
        notes,
        let_go,
        layout,
        piece!("hold"),
        queue,
        verb,
    ]
    .concat()
}

/// Broken on purpose, to show that the tests would notice.
fn broken(text: String) -> String {
    let (sound, wrong) = if cfg!(canary = "always_fits") {
        ("if mode == 'x' then return false end", "do return true end")
    } else if cfg!(canary = "forgetful_fence") {
        // As a plain counter: after a flush it starts again.
        ("if value == tonumber(block) then", "if false then")
    } else if cfg!(canary = "flat_fence") {
        return text
            .replacen("value - block + 1", "1", 1)
            .replacen("last - block + 1", "1", 1);
    } else {
        return text;
    };
    text.replacen(sound, wrong, 1)
}

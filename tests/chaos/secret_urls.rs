//! URLs with a secret in them: well formed, and with the mistakes that people make.

use synlock_tests::torture::Random;

/// Letters in a row that give a secret away.
const TELLING: usize = 6;

/// The secret, and how to recognise a part of it.
pub(crate) struct Canary {
    text: String,
    parts: Vec<String>,
}

impl Canary {
    /// Letters and digits that stand nowhere else, new for every run.
    pub(crate) fn new() -> Self {
        const LETTERS: &[u8] = b"qzxvkjwQZXVKJW0123456789";
        let drawn = synlock_core::OwnerToken::draw().expect("random bytes");
        let text = drawn
            .as_bytes()
            .iter()
            .map(|byte| char::from(LETTERS[*byte as usize % LETTERS.len()]));
        Self::of(text.collect())
    }

    /// What the parent has drawn.
    pub(crate) fn from_env() -> Self {
        Self::of(std::env::var("SYNLOCK_SECRET").expect("the parent's secret"))
    }

    fn of(text: String) -> Self {
        let lower = text.to_ascii_lowercase();
        let parts = (0..=lower.len() - TELLING).map(|at| lower[at..at + TELLING].to_owned());
        Canary {
            parts: parts.collect(),
            text,
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the text has a telling part of it, in whatever case.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        let text = text.to_ascii_lowercase();
        self.parts.iter().any(|part| text.contains(part))
    }

    /// The text without it, to say where it was.
    pub(crate) fn mask(&self, text: &str) -> String {
        let mut masked = text.to_ascii_lowercase();
        for part in &self.parts {
            masked = masked.replace(part, "SECRET");
        }
        if self.is_in(text) {
            masked
        } else {
            text.to_owned()
        }
    }
}

/// What is given to `open`.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) url: String,
    pub(crate) options: Vec<(String, String)>,
}

fn pick<'a>(random: &mut Random, from: &[&'a str]) -> &'a str {
    from[random.below(from.len())]
}

/// A secret with what a person forgot to escape in the middle of it, or in lower case as a word.
fn spoil(random: &mut Random, secret: &str, specials: &[&str]) -> String {
    let secret = match random.below(4) {
        0 => secret
            .bytes()
            .map(|byte| char::from(b'a' + byte % 26))
            .collect(),
        _ => secret.to_owned(),
    };
    // A part that is too short tells nothing.
    let at = random.below(secret.len() + 1);
    let (first, rest) = secret.split_at(at);
    match random.below(4) {
        0 => format!("12{}{secret}", pick(random, specials)),
        1 => format!("{first}{}{rest}", pick(random, specials)),
        2 => format!("{secret}{}", pick(random, specials)),
        _ => secret,
    }
}

const SPECIALS: &[&str] = &[
    "/", "?", "&", "=", "@", ":", "%", "%zz", "%40", "#", " ", "[", "]", ",", ";", "+", "é", "\n",
    "\\", "//", "'", "%00", "%ff",
];

/// One URL, perhaps with options, that has the secret in it.
pub(crate) fn generate(random: &mut Random, canary: &Canary, file: &str) -> Case {
    let scheme = pick(
        random,
        &[
            "redis",
            "redis",
            "rediss",
            "valkey",
            "valkeys",
            "unix",
            "redis+unix",
            "flock",
            "memory",
            "memcached",
            "postgres",
            "pgsql+advisory",
            "mysql",
            "mariadb+advisory",
            "zookeeper",
            "etcd",
            "etcds",
            "sqlite",
            "REDIS",
            "rdis",
            "http",
            "",
        ],
    );
    let host = pick(
        random,
        &[
            "127.0.0.1",
            "localhost",
            "[::1]",
            "[::1",
            "h,i:1",
            "a b",
            "",
            "%",
            "h.example",
        ],
    );
    let port = pick(random, &[":1", ":6379", ":0", ":99999", ":x", ""]);
    let path = pick(
        random,
        &[
            "",
            "/",
            "/0",
            "/x",
            "/99999999999",
            "/tmp/x.sock",
            "/a@b",
            "//",
        ],
    );
    let server = pick(
        random,
        &[
            "redis",
            "rediss",
            "valkey",
            "redis+unix",
            "memcached",
            "postgres",
            "postgres+advisory",
            "mysql",
            "zookeeper",
            "etcd",
        ],
    );
    let mut options = Vec::new();
    let mut query: Vec<String> = Vec::new();
    let secret = spoil(random, canary.text(), SPECIALS);
    let authority = format!("{host}{port}{path}");
    let mut url = match random.below(16) {
        0 => format!("{scheme}://:{secret}@{authority}"),
        1 => format!("{scheme}://user:{secret}@{authority}"),
        // A token in the user's place; a `/` or `?` in it would make the host of what precedes it.
        2 => format!(
            "{scheme}://{}@{authority}",
            spoil(random, canary.text(), &["@", "%", "&", "="])
        ),
        3 => {
            query.push(format!("password={secret}"));
            format!("{scheme}://{authority}")
        }
        4 => {
            options.push(("password".to_owned(), secret));
            format!("{scheme}://{authority}")
        }
        5 => {
            query.push(format!("password_file={file}"));
            format!("{scheme}://{authority}")
        }
        6 => {
            query.push("password_env=SYNLOCK_SECRET".to_owned());
            format!("{scheme}://{authority}")
        }
        // A secret where the name of a file or a variable is meant.
        7 => {
            query.push(format!(
                "{}={secret}",
                pick(
                    random,
                    &["password_file", "password_env", "passwd", "password"]
                )
            ));
            format!("{scheme}://{authority}")
        }
        8 => {
            query.push(format!("password={secret}"));
            options.push(("password".to_owned(), canary.text().to_owned()));
            format!("{scheme}://u:{secret}@{authority}")
        }
        // Without `//`, without `@host`, without a scheme, or nothing but the secret.
        9 => format!(
            "{server}:{}{secret}@{authority}",
            pick(random, &["", "u:", "/u:", ":"])
        ),
        10 => format!(
            "{server}://{}:{}{}",
            pick(random, &["", "u"]),
            canary.text(),
            pick(random, &["", ":6379", "/0"])
        ),
        11 => format!("{}:{secret}@{authority}", pick(random, &["", "u", "user"])),
        // As a member of a store of several, well formed or not.
        12 => format!(
            "quorum:({scheme}://u:{secret}@{authority},{server}://{authority}{}",
            pick(random, &[",memory:)", ")", ""])
        ),
        13 => format!("tiered:(memory:,{scheme}://u:{secret}@{authority})"),
        14 => format!("quorum:?member={scheme}%3A%2F%2Fu%3A{secret}%40{host}&member=memory%3A"),
        _ => canary.text().to_owned(),
    };
    for _ in 0..random.below(4) {
        query.push(
            pick(
                random,
                &[
                    "ttl=5000",
                    "ttl=0",
                    "ttl=x",
                    "db=3",
                    "db=-1",
                    "prefix={",
                    "fair=2",
                    "tll=1",
                    "tls=1",
                    "db=3",
                    "insecure=1",
                    "ca_file=/nowhere",
                    "io_timeout=x",
                    "reentry=x",
                    "reentry",
                    "",
                    "=",
                    "%zz",
                    "label=x@y",
                    "a&a",
                ],
            )
            .to_owned(),
        );
    }
    let places = query.len();
    if places > 1 {
        query.swap(0, random.below(places));
    }
    if !query.is_empty() {
        url = format!("{url}?{}", query.join("&"));
    }
    Case { url, options }
}

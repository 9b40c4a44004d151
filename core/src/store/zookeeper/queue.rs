//! Who stands where in the queue of a lock, by the names of the nodes alone. Knows no server.

use super::config::Dialect;
use crate::mode::Mode;
use crate::owner::{Brand, OwnerToken};
pub(super) use crate::store::line::{Contender, Standing, holders, newcomer, standing};

/// Beginning of the name of a new node; the server puts its number after it.
pub(super) fn stem(dialect: Dialect, token: OwnerToken, mode: Mode) -> String {
    let hex = token.to_hex();
    match dialect {
        Dialect::Native => match mode {
            Mode::Exclusive => format!("{hex}.x."),
            Mode::Shared => format!("{hex}.s."),
            Mode::Permits { take, of } => format!("{hex}.p{take}of{of}."),
        },
        Dialect::Kazoo => match mode {
            Mode::Shared => format!("{hex}__rlock__"),
            _ => format!("{hex}__lock__"),
        },
        Dialect::Curator => format!("_c_{}-lock-", dashed(&hex)),
        Dialect::CuratorReadWrite => match mode {
            Mode::Shared => format!("_c_{}-__READ__", dashed(&hex)),
            _ => format!("_c_{}-__WRIT__", dashed(&hex)),
        },
        Dialect::Symfony => String::new(),
    }
}

/// As UUIDs are written.
fn dashed(hex: &str) -> String {
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| hex.get(part).unwrap_or(""));
    parts.join("-")
}

/// Whether this node was made for that claim.
pub(super) fn is_of(node: &str, stem: &str) -> bool {
    node.strip_prefix(stem)
        .is_some_and(|rest| number(rest).is_some())
}

/// Of which quorum the token is from which a node was named.
pub(super) fn brand(node: &str) -> Option<Brand> {
    let (random, digits) = match node.strip_prefix("_c_") {
        Some(random) => (random, 36),
        None => (node, 32),
    };
    OwnerToken::brand_of(random.get(..digits)?)
}

/// What people are shown of whose node it is: 8 digits of a random number.
pub(super) fn owner(node: &str) -> String {
    let random = node.strip_prefix("_c_").unwrap_or(node);
    random.chars().take(8).collect()
}

/// The server's number, after two thousand million a negative one: ten characters, the sign among them, or as many
/// as it takes.
fn number(text: &str) -> Option<i32> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_long = digits.len() == 10 || (text.len() == 10 && digits.len() == 9);
    if !is_long || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// The name before its number, and the number.
fn cut(node: &str) -> Option<(&str, i32)> {
    // A negative one first: its last ten characters may be a number too.
    [11, 10].into_iter().find_map(|length| {
        let (head, tail) = node.split_at_checked(node.len().checked_sub(length)?)?;
        Some((head, number(tail)?))
    })
}

/// The queue, in its order.
pub(super) fn line(dialect: Dialect, nodes: &[String]) -> Vec<Contender> {
    match dialect {
        Dialect::Native => native(nodes),
        Dialect::Kazoo => kazoo(nodes),
        Dialect::Curator => {
            let mut sorted: Vec<&String> = nodes.iter().collect();
            sorted.sort_by_key(|node| after(node, &["lock-"]));
            let one = |node: &String| Contender {
                node: node.clone(),
                mode: Mode::Exclusive,
            };
            sorted.into_iter().map(one).collect()
        }
        Dialect::CuratorReadWrite => {
            let mut sorted: Vec<&String> = nodes.iter().collect();
            sorted.sort_by_key(|node| after(node, &["__READ__", "__WRIT__"]));
            let one = |node: &String| Contender {
                node: node.clone(),
                mode: if node.contains("__READ__") {
                    Mode::Shared
                } else {
                    Mode::Exclusive
                },
            };
            sorted.into_iter().map(one).collect()
        }
        Dialect::Symfony => Vec::new(),
    }
}

/// The line without nodes that are nobody's claim. Curator waits for such nodes too where they come first,
/// so that a claim's own standing is judged by `line`.
pub(super) fn contenders(dialect: Dialect, nodes: &[String]) -> Vec<Contender> {
    let marks: &[&str] = match dialect {
        Dialect::Curator => &["lock-"],
        Dialect::CuratorReadWrite => &["__READ__", "__WRIT__"],
        _ => return line(dialect, nodes),
    };
    let mut found = line(dialect, nodes);
    found.retain(|one| marks.iter().any(|mark| one.node.contains(mark)));
    found
}

/// Curator's key: what stands after the last mark, the whole name without one.
fn after<'a>(node: &'a str, marks: &[&str]) -> &'a str {
    let ends = marks
        .iter()
        .filter_map(|mark| node.rfind(mark).map(|at| at + mark.len()));
    ends.max().map_or(node, |end| &node[end..])
}

fn native(nodes: &[String]) -> Vec<Contender> {
    let mut found: Vec<(i32, Contender)> = nodes
        .iter()
        .filter_map(|node| {
            let (head, number) = cut(node)?;
            let mode = match head.strip_suffix('.')?.rsplit_once('.')?.1 {
                "x" => Mode::Exclusive,
                "s" => Mode::Shared,
                permits => {
                    let (take, of) = permits.strip_prefix('p')?.split_once("of")?;
                    let (take, of) = (take.parse().ok()?, of.parse().ok()?);
                    Mode::Permits { take, of }.check().ok()?
                }
            };
            let node = node.clone();
            Some((number, Contender { node, mode }))
        })
        .collect();
    // The numbers wrap around; a queue is short against their range.
    let base = found.first().map_or(0, |(number, _)| *number);
    found.sort_by_key(|(number, _)| number.wrapping_sub(base));
    found.into_iter().map(|(_, one)| one).collect()
}

fn kazoo(nodes: &[String]) -> Vec<Contender> {
    let mut found: Vec<(i32, Contender)> = nodes
        .iter()
        .filter_map(|node| {
            let (head, number) = cut(node)?;
            // Its pattern is of ten digits, whatever the sign.
            if node.len() - head.len() == 10 && number < 0 {
                return None;
            }
            let mode = if head.ends_with("__lock__") {
                Mode::Exclusive
            } else if head.ends_with("__rlock__") {
                Mode::Shared
            } else {
                return None;
            };
            let node = node.clone();
            Some((number, Contender { node, mode }))
        })
        .collect();
    found.sort_by_key(|(number, _)| *number);
    found.into_iter().map(|(_, one)| one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn stands(dialect: Dialect, names: &[&str], own: &str) -> Standing {
        standing(&line(dialect, &nodes(names)), own)
    }

    #[test]
    fn the_native_line_waits_for_what_stands_before() {
        let queue = [
            "b.s.0000000002",
            "a.s.0000000001",
            "c.x.0000000003",
            "d.s.0000000004",
            "junk",
        ];
        let stand = |own| stands(Dialect::Native, &queue, own);
        assert_eq!(stand("a.s.0000000001"), Standing::Holds);
        assert_eq!(stand("b.s.0000000002"), Standing::Holds);
        assert_eq!(
            stand("c.x.0000000003"),
            Standing::Behind("b.s.0000000002".into())
        );
        assert_eq!(
            stand("d.s.0000000004"),
            Standing::Behind("c.x.0000000003".into())
        );
        assert_eq!(stand("e.x.0000000005"), Standing::Missing);
        assert_eq!(holders(&line(Dialect::Native, &nodes(&queue))), 2);
    }

    #[test]
    fn numbers_wrap_around() {
        let queue = ["b.x.-2147483648", "a.x.2147483647"];
        assert_eq!(
            stands(Dialect::Native, &queue, "b.x.-2147483648"),
            Standing::Behind("a.x.2147483647".into())
        );
        assert_eq!(
            stands(Dialect::Native, &queue, "a.x.2147483647"),
            Standing::Holds
        );
        // Ten characters, the sign among them, unless it takes more.
        let queue = ["b.x.-999999999", "a.x.-1000000000", "c.x.-000000001"];
        assert_eq!(
            stands(Dialect::Native, &queue, "c.x.-000000001"),
            Standing::Behind("b.x.-999999999".into())
        );
        assert_eq!(
            stands(Dialect::Native, &queue, "b.x.-999999999"),
            Standing::Behind("a.x.-1000000000".into())
        );
        assert!(is_of("a.x.-000000001", "a.x."));
    }

    #[test]
    fn permits_are_counted_in_order() {
        let queue = [
            "a.p2of3.0000000001",
            "b.p2of3.0000000002",
            "c.p1of3.0000000003",
        ];
        let stand = |own| stands(Dialect::Native, &queue, own);
        assert_eq!(stand("a.p2of3.0000000001"), Standing::Holds);
        assert_eq!(stand("b.p2of3.0000000002"), Standing::Next);
        assert_eq!(
            stand("c.p1of3.0000000003"),
            Standing::Follows("b.p2of3.0000000002".into())
        );
        let found = line(Dialect::Native, &nodes(&queue));
        let four = Mode::Permits { take: 1, of: 4 };
        assert_eq!(newcomer(&found, four), Standing::Disagrees(3));
        assert_eq!(
            newcomer(&found, Mode::Shared),
            Standing::Behind("c.p1of3.0000000003".into())
        );
    }

    #[test]
    fn a_claim_knows_its_node() {
        let token = OwnerToken::from_bytes([0xab; 16]);
        for (dialect, mode, node) in [
            (
                Dialect::Native,
                Mode::Exclusive,
                "abababababababababababababababab.x.0000000001",
            ),
            (
                Dialect::Native,
                Mode::Permits { take: 2, of: 9 },
                "abababababababababababababababab.p2of9.0000000001",
            ),
            (
                Dialect::Kazoo,
                Mode::Exclusive,
                "abababababababababababababababab__lock__0000000001",
            ),
            (
                Dialect::Kazoo,
                Mode::Shared,
                "abababababababababababababababab__rlock__0000000001",
            ),
            (
                Dialect::Curator,
                Mode::Exclusive,
                "_c_abababab-abab-abab-abab-abababababab-lock-0000000001",
            ),
            (
                Dialect::CuratorReadWrite,
                Mode::Shared,
                "_c_abababab-abab-abab-abab-abababababab-__READ__0000000001",
            ),
        ] {
            assert!(is_of(node, &stem(dialect, token, mode)), "{node}");
            assert_eq!(owner(node), "abababab");
            let found = line(dialect, &[node.to_owned()]);
            assert_eq!(found[0].mode, mode);
        }
    }

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa__lock__0000000003";

    /// What kazoo 2.11's own classes say of these names.
    #[test]
    fn kazoo_s_contenders_are_read_as_it_reads_them() {
        let sequence = |node: &str| {
            let found = line(Dialect::Kazoo, &[node.to_owned()]);
            found.first().map(|one| one.mode)
        };
        for (node, mode) in [
            (
                "0123456789abcdef0123456789abcdef__lock__0000000012",
                Some(Mode::Exclusive),
            ),
            (
                "ffffffffffffffffffffffffffffffff__rlock__0000000003",
                Some(Mode::Shared),
            ),
            ("__lock__0000000006", Some(Mode::Exclusive)),
            ("x__lock__-2147483648", Some(Mode::Exclusive)),
            ("p-__lock__0000000013", Some(Mode::Exclusive)),
            ("lock-0000000004", None),
            ("x__lock__-000000001", None),
            ("x__lock__000000007", None),
            ("x__lock__00000000080", None),
            ("x__lock__0000000009x", None),
            ("__lock__", None),
            ("__LOCK__0000000015", None),
            ("x__lock__+000000016", None),
            ("", None),
        ] {
            assert_eq!(sequence(node), mode, "{node}");
        }
        let (b, c) = (
            "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb__lock__0000000001",
            "cccccccccccccccccccccccccccccccc__rlock__0000000002",
        );
        let d = "dddddddddddddddddddddddddddddddd__rlock__0000000003";
        assert_eq!(
            stands(Dialect::Kazoo, &[A, b, c, "junk"], A),
            Standing::Behind(c.into())
        );
        assert_eq!(
            stands(Dialect::Kazoo, &[d, b, c, "junk"], d),
            Standing::Behind(b.into())
        );
        assert_eq!(
            stands(Dialect::Kazoo, &[A, "q__lock__-2147483648"], A),
            Standing::Behind("q__lock__-2147483648".into())
        );
    }

    /// By the sorting rule of Curator 5.9.
    #[test]
    fn curator_s_children_are_sorted_as_it_sorts_them() {
        let own = "_c_9d1c2a34-1111-4222-8333-abcdefabcdef-lock-0000000003";
        let stand = |others: &[&str]| stands(Dialect::Curator, &[&[own], others].concat(), own);
        let two = "_c_ffffffff-1111-4222-8333-abcdefabcdef-lock-0000000002";
        let one = "_c_00000000-1111-4222-8333-abcdefabcdef-lock-0000000001";
        assert_eq!(stand(&[one, two]), Standing::Behind(two.into()));
        assert_eq!(
            stand(&["0123456789abcdef0123456789abcdef__lock__0000000001"]),
            Standing::Holds
        );
        assert_eq!(
            stand(&["lock-0000000002", "zlock-lock-0000000001"]),
            Standing::Behind("lock-0000000002".into())
        );
        let negative = "_c_9d1c2a34-1111-4222-8333-abcdefabcde0-lock--2147483648";
        assert_eq!(stand(&[negative]), Standing::Behind(negative.into()));
        let (read, write, late) = (
            "_c_9d1c2a34-1111-4222-8333-abcdefabcdef-__READ__0000000004",
            "_c_0d1c2a34-1111-4222-8333-abcdefabcdef-__WRIT__0000000005",
            "_c_1d1c2a34-1111-4222-8333-abcdefabcdef-__READ__0000000006",
        );
        let stand = |own| stands(Dialect::CuratorReadWrite, &[late, read, write], own);
        assert_eq!(stand(read), Standing::Holds);
        assert_eq!(stand(write), Standing::Behind(read.into()));
        assert_eq!(stand(late), Standing::Behind(write.into()));
    }
}

//! A server, as it is seen from here.

use std::net::SocketAddr;

/// Words about a host name that stands for several servers, perhaps: locks of one are not on another.
pub fn of_addresses(host: &str, addresses: &[SocketAddr]) -> Option<String> {
    let several = |is_family: fn(&SocketAddr) -> bool| {
        let mut found: Vec<_> = addresses.iter().filter(|one| is_family(one)).collect();
        found.sort();
        found.dedup();
        found.len() > 1
    };
    // One of each family is one machine, as a rule.
    (several(SocketAddr::is_ipv4) || several(SocketAddr::is_ipv6)).then(|| {
        format!(
            "{host} has several addresses: if they are several servers, each has locks of its own; name one, or make a `quorum:` of all"
        )
    })
}

/// Clocks that are kept by NTP differ by less, in µs.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
const APART: i64 = 1_000_000;

/// Words about this host's clock, where each host ends holds by its own: the server's was `theirs` at some
/// moment between `before` and `after` of ours, all in µs.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub fn of_clocks(before: i64, theirs: i64, after: i64) -> Option<String> {
    let (behind, ahead) = (theirs.saturating_sub(after), before.saturating_sub(theirs));
    let (apart, side) = if behind > ahead {
        (behind, "behind")
    } else {
        (ahead, "ahead of")
    };
    (apart > APART).then(|| {
        format!(
            "this host's clock is {} s {side} the database server's: in this table holds end by the clock of whoever looks, so a host that is ahead takes locks that are still held",
            apart / 1_000_000
        )
    })
}

/// Words about named locks of a server whose neighbours have others: how many they are, `0` if it has none.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub fn of_galera(size: &str) -> Option<String> {
    let size: u32 = size.parse().ok()?;
    (size > 0).then(|| {
        format!(
            "this server is one of a Galera cluster ({size} at the moment), and its named locks are its own: whoever is connected to another server gets the same lock as well; let all connect to one, or use `mysql:`"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    #[test]
    fn clocks_that_differ_by_more_than_the_way_takes_are_told() {
        let second = 1_000_000;
        assert_eq!(of_clocks(0, second, second * 5), None);
        assert_eq!(of_clocks(0, second * 6, second * 5), None);
        let says = |theirs| of_clocks(0, theirs, second * 5).unwrap();
        assert!(says(second * 7 + 1).contains("2 s behind"));
        assert!(says(-second * 3).contains("3 s ahead of"));
    }

    #[cfg(any(feature = "postgres", feature = "mysql"))]
    #[test]
    fn a_server_with_neighbours_is_told() {
        assert!(of_galera("3").is_some_and(|words| words.contains("(3 at")));
        assert_eq!([of_galera("0"), of_galera("")], [None, None]);
    }

    #[test]
    fn several_addresses_of_a_family_are_told() {
        let says = |addresses: &[&str]| {
            let parsed: Vec<SocketAddr> =
                addresses.iter().map(|one| one.parse().unwrap()).collect();
            of_addresses("db", &parsed).is_some()
        };
        assert!(!says(&["10.0.0.1:1"]));
        assert!(!says(&["127.0.0.1:1", "[::1]:1"]));
        assert!(!says(&["10.0.0.1:1", "10.0.0.1:1"]));
        assert!(says(&["10.0.0.1:1", "10.0.0.2:1"]));
        assert!(says(&["[fd00::1]:1", "[fd00::2]:1", "10.0.0.1:1"]));
    }
}

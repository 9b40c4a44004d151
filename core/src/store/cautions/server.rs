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

#[cfg(test)]
mod tests {
    use super::*;

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

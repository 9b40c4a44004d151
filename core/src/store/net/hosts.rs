//! The list of servers in a URL.

use super::Address;
use crate::codes::Code;
use crate::url::Url;
use crate::{Error, Result};

/// `a:1,b,c:2`; `port` for whoever has none.
pub(in crate::store) fn hosts(url: &Url, port: u16) -> Result<Vec<Address>> {
    let bad = |words: &str| Error::new(Code::InvalidUrl, words);
    let mut list: Vec<&str> = url.host.split(',').collect();
    let last = list.pop().unwrap_or_default();
    let mut found = Vec::new();
    for one in list {
        let (host, port) = match one.split_once(':') {
            Some((host, number)) => (
                host,
                number
                    .parse()
                    .map_err(|_| bad("the port of a server is not a number from 1 to 65535"))?,
            ),
            None => (one, port),
        };
        found.push((host, port));
    }
    found.push((last, url.port.unwrap_or(port)));
    found
        .into_iter()
        .map(|(host, port)| match host {
            "" => Err(bad("the URL has an empty name in its list of servers")),
            host => Ok(Address::Tcp {
                host: host.to_owned(),
                port,
            }),
        })
        .collect()
}

//! Servers of one's own, from Debian's packages: on free ports of 127.0.0.1 and unix sockets, data in a
//! temporary folder, killed when dropped. A server program that is missing is a failure, never a skip.

use std::net::TcpListener;

pub mod redis;

/// A port that nobody listens on at this moment.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its number").port()
}

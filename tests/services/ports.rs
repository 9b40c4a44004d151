//! Ports for servers of one's own, each handed out once. They lie outside the range from which the kernel gives
//! numbers to connections: one of those could come before the server listens, or while it starts anew. A process
//! reserves them in blocks against the others of the tests, by the name of a socket that the kernel frees at its
//! end. `support/ports.py` has the same for other languages.

use std::net::TcpListener;
use std::ops::Range;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Mutex, PoisonError};

const FIRST: u32 = 10_000;
const END: u32 = 65_536;
const BLOCK: u32 = 32;

/// A port that nobody listens on, and that no other test is given.
pub fn free_port() -> u16 {
    static PORTS: Mutex<Ports> = Mutex::new(Ports::new());
    let mut ports = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    ports.hand_out()
}

/// What a process has of them.
#[derive(Debug)]
struct Ports {
    owner: u32,
    left: Range<u32>,
    reserved: Vec<UnixListener>,
}

impl Ports {
    const fn new() -> Self {
        Self {
            owner: 0,
            left: 0..0,
            reserved: Vec::new(),
        }
    }

    fn hand_out(&mut self) -> u16 {
        // What a forked child finds here is its parent's.
        if self.owner != std::process::id() {
            *self = Self::new();
            self.owner = std::process::id();
        }
        loop {
            match self.left.next().map(port) {
                Some(port) if is_free(port) => return port,
                Some(_) => {}
                None => self.reserve(),
            }
        }
    }

    fn reserve(&mut self) {
        let range = outside(&ephemeral());
        let count = (range.end - range.start) / BLOCK;
        // Not all begin their search at the same one.
        let mut firsts =
            (0..count).map(|n| range.start + (self.owner.wrapping_add(n) % count) * BLOCK);
        let (first, socket) = firsts
            .find_map(|first| Some((first, name(first)?)))
            .expect("a block of ports that no test has");
        self.left = first..first + BLOCK;
        self.reserved.push(socket);
    }
}

/// Takes the name of a block, unless another process has it.
fn name(first: u32) -> Option<UnixListener> {
    let name = format!("synlock-test-ports-{first}");
    let address = SocketAddr::from_abstract_name(name).expect("a name");
    match UnixListener::bind_addr(&address) {
        Ok(socket) => Some(socket),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => None,
        Err(error) => panic!("a socket with a name: {error}"),
    }
}

fn port(number: u32) -> u16 {
    number.try_into().expect("a port")
}

/// Also when no process of the tests listens there.
fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// Where the kernel takes the ports of connections from.
fn ephemeral() -> Range<u32> {
    let file = "/proc/sys/net/ipv4/ip_local_port_range";
    let text = std::fs::read_to_string(file).expect(file);
    let mut ends = text.split_whitespace().map(|end| end.parse().expect(file));
    let (first, last): (u32, u32) = (ends.next().expect(file), ends.next().expect(file));
    first..last + 1
}

/// The longer of what is before and behind it; if it leaves no block, all.
fn outside(ephemeral: &Range<u32>) -> Range<u32> {
    let sides = [FIRST..ephemeral.start, ephemeral.end.max(FIRST)..END];
    let length = |side: &Range<u32>| side.end.saturating_sub(side.start);
    let longest = sides.into_iter().max_by_key(length).expect("two");
    if length(&longest) >= BLOCK {
        longest
    } else {
        FIRST..END
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};

    #[test]
    fn the_kernels_range_is_left_out() {
        assert_eq!(outside(&(32_768..61_000)), 10_000..32_768);
        assert_eq!(outside(&(1024..40_000)), 40_000..65_536);
        assert_eq!(outside(&(1024..9000)), 10_000..65_536);
        assert_eq!(outside(&(1024..65_530)), 10_000..65_536);
    }

    /// More of them than a block has.
    const MANY: usize = BLOCK as usize + 1;

    /// Two processes of another language ask as well.
    #[test]
    fn threads_and_processes_get_ports_of_their_own() {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/support/ports.py");
        let pipes = || {
            let mut command = Command::new(program);
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            command.spawn().expect("python3")
        };
        let mut others = [pipes(), pipes()];
        for other in &mut others {
            let asked = "\n".repeat(MANY);
            let input = other.stdin.as_mut().expect("a pipe");
            input.write_all(asked.as_bytes()).expect("a pipe");
        }
        let threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(|| (0..MANY).map(|_| free_port()).collect::<Vec<_>>()))
            .collect();
        let mut ports: Vec<u16> = threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("no panic"))
            .collect();
        for other in &mut others {
            let mut said = vec![0; MANY * 6];
            let output = other.stdout.as_mut().expect("a pipe");
            output.read_exact(&mut said).expect("ports of five digits");
            let said = String::from_utf8(said).expect("text");
            ports.extend(said.lines().map(|line| line.parse::<u16>().expect(line)));
        }
        // None ends before all have theirs: those of the dead are free.
        for mut other in others {
            drop(other.stdin.take());
            assert!(other.wait().expect("its end").success());
        }
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 6 * MANY);
        let kernels = ephemeral();
        assert!(ports.iter().all(|port| !kernels.contains(&(*port).into())));
    }

    #[test]
    fn a_forked_child_takes_a_block_of_its_own() {
        let mut parent = Ports::new();
        parent.hand_out();
        let mut child = Ports {
            owner: parent.owner + 1,
            left: parent.left.clone(),
            reserved: Vec::new(),
        };
        let port = u32::from(child.hand_out());
        assert!(port < parent.left.start || parent.left.end <= port);
    }

    #[test]
    fn a_port_with_a_listener_is_not_handed_out() {
        let mut ports = Ports::new();
        let first = ports.hand_out();
        let _listener = TcpListener::bind(("127.0.0.1", first + 1)).expect("a free port");
        assert_ne!(ports.hand_out(), first + 1);
    }
}

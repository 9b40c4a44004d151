//! For programs that feed the reader of packets with noise.

use super::answer::{Answer, said};
use super::login::Greeting;
use super::packets::{CHUNK, Inbox};

/// Reads packets as a session does; how many there were before the first that is none.
pub fn read_noise(bytes: &[u8]) -> usize {
    let (mut inbox, mut answer, mut packets) = (Inbox::default(), Answer::default(), 0);
    for chunk in bytes.chunks(CHUNK) {
        inbox.take_in(chunk);
        loop {
            let packet = match inbox.packet() {
                Ok(Some((_, packet))) => packet,
                Ok(None) => break,
                Err(_) => return packets,
            };
            packets += 1;
            // Those that begin a session are short.
            if packet.len() < 4096 {
                let _ = Greeting::read(&packet);
                let _ = said(&packet, true);
            }
            match answer.take_in(&packet, &mut inbox.weight) {
                Ok(None) => {}
                Ok(Some(_)) => {
                    answer = Answer::default();
                    inbox.weight = Default::default();
                }
                Err(fault) if fault.usable => answer = Answer::default(),
                Err(_) => return packets,
            }
        }
    }
    packets
}

//! For programs that feed the readers of replies with noise.

use super::config::Dialect;
use super::wire::{self, In};
use super::{names, queue, record};

/// Reads frames as the store does; how many there were before the first that is none.
pub fn read_noise(bytes: &[u8]) -> usize {
    let mut arrived = bytes.to_vec();
    let mut frames = 0;
    while let Ok(Some(frame)) = wire::take_frame(&mut arrived) {
        frames += 1;
        let _ = wire::welcome(&frame);
        let _ = In(&frame).stat();
        let _ = In(&frame).text().map(names::unescape);
        let _ = In(&frame).bytes().map(record::read);
        for dialect in [Dialect::Native, Dialect::Kazoo, Dialect::CuratorReadWrite] {
            if let Some(nodes) = In(&frame).names() {
                let _ = queue::holders(&queue::line(dialect, &nodes));
            }
        }
    }
    frames
}

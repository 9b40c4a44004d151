//! For programs that feed the reader of messages with noise.

use super::answer::Answer;
use super::login::rounds;
use super::wire::Inbox;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::Message;

/// Reads messages as a session does; how many there were before the first that is none.
pub fn read_noise(bytes: &[u8]) -> usize {
    let (mut inbox, mut answer, mut messages) = (Inbox::default(), Answer::default(), 0);
    let mut notices = Vec::new();
    for chunk in bytes.chunks(4096) {
        inbox.take_in(chunk);
        loop {
            let message = match inbox.message() {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(_) => return messages,
            };
            messages += 1;
            match &message {
                Message::AuthenticationSaslContinue(body) => {
                    let _ = rounds(body.data());
                    continue;
                }
                Message::AuthenticationSasl(body) => {
                    let _ = body.mechanisms().count();
                    continue;
                }
                Message::AuthenticationOk | Message::BackendKeyData(_) => continue,
                _ => {}
            }
            match answer.take_in(message, &mut inbox.weight, &mut notices) {
                Ok(false) => {}
                Ok(true) => {
                    answer = Answer::default();
                    inbox.weight = Default::default();
                }
                Err(_) => return messages,
            }
        }
    }
    messages
}

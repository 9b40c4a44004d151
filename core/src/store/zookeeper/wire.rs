//! ZooKeeper's encoding, requests and replies: big-endian numbers, texts and buffers with their length
//! before them, each frame with its own.

/// No frame is longer: the server's own limit is 1 MiB unless raised, and none allocates before it came.
const LONGEST: usize = 4 * 1024 * 1024;

pub(super) const NO_NODE: i32 = -101;
pub(super) const NO_AUTH: i32 = -102;
pub(super) const NODE_EXISTS: i32 = -110;
pub(super) const SESSION_EXPIRED: i32 = -112;
pub(super) const AUTH_FAILED: i32 = -115;
pub(super) const SESSION_MOVED: i32 = -118;
const UNIMPLEMENTED: i32 = -6;
const BAD_ARGUMENTS: i32 = -8;
const QUOTA_EXCEEDED: i32 = -125;
const THROTTLED: i32 = -127;

/// Numbers of frames that answer no request.
pub(super) const EVENT: i32 = -1;
pub(super) const AUTH: i32 = -4;

/// What an error number of the server means for a caller.
pub(super) fn meaning(number: i32) -> (crate::codes::Code, &'static str) {
    use crate::codes::Code;
    match number {
        NO_AUTH => (Code::Permission, "the node's access list refuses it"),
        AUTH_FAILED => (Code::Permission, "the server refuses the credentials"),
        QUOTA_EXCEEDED => (Code::Exhausted, "the quota is used up"),
        THROTTLED => (Code::Unavailable, "the server is overwhelmed"),
        SESSION_EXPIRED | SESSION_MOVED => (Code::Unavailable, "the session has ended"),
        UNIMPLEMENTED => (Code::Storage, "the server is too old (3.5 is the least)"),
        BAD_ARGUMENTS => (Code::InvalidArgument, "the server refuses the node's name"),
        _ => (
            Code::Storage,
            "the server answered with an error of its own",
        ),
    }
}

/// A frame that is being written.
#[derive(Debug)]
pub(super) struct Out(Vec<u8>);

impl Out {
    pub fn new() -> Self {
        Out(vec![0; 4])
    }

    /// A request's frame; its number is put in when it is sent.
    fn request(kind: i32) -> Self {
        let mut out = Out::new();
        out.int(0).int(kind);
        out
    }

    pub fn int(&mut self, number: i32) -> &mut Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub fn long(&mut self, number: i64) -> &mut Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub fn flag(&mut self, on: bool) -> &mut Self {
        self.0.push(on.into());
        self
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        // Names and labels have bounds far below.
        self.int(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
        self.0.extend(bytes);
        self
    }

    /// The frame, with its length.
    pub fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len() - 4).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0
    }
}

/// Puts a request's number into its frame.
pub(super) fn put_number(frame: &mut [u8], number: i32) {
    if let Some(place) = frame.get_mut(4..8) {
        place.copy_from_slice(&number.to_be_bytes());
    }
}

/// What is left to read of a frame. Everything may be missing.
#[derive(Clone, Copy, Debug)]
pub(super) struct In<'a>(pub &'a [u8]);

impl<'a> In<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub fn int(&mut self) -> Option<i32> {
        self.take().map(i32::from_be_bytes)
    }

    pub fn long(&mut self) -> Option<i64> {
        self.take().map(i64::from_be_bytes)
    }

    /// A buffer; one of length -1 is empty.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.int()?.max(0)).ok()?;
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    pub fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// A list of names.
    pub fn names(&mut self) -> Option<Vec<String>> {
        let count = usize::try_from(self.int()?.max(0)).ok()?;
        // Each has at least its length.
        if count > self.0.len() / 4 {
            return None;
        }
        (0..count).map(|_| self.text().map(str::to_owned)).collect()
    }

    pub fn stat(&mut self) -> Option<Stat> {
        let created_by = self.long()?;
        let _ = self.long()?;
        let created = self.long()?;
        let _ = self.long()?;
        for _ in 0..3 {
            self.int()?;
        }
        let owner = self.long()?;
        for _ in 0..2 {
            self.int()?;
        }
        self.long()?;
        Some(Stat {
            created_by,
            created,
            owner,
        })
    }
}

/// What is kept of a node's record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stat {
    /// Number of the change that made it (czxid), which grows over all nodes.
    pub created_by: i64,
    /// When, by the server's clock in ms.
    pub created: i64,
    /// Session that it ends with, 0 for none.
    pub owner: i64,
}

/// Takes a whole frame's content off the front of what has arrived; `Err` if none can follow.
pub(super) fn take_frame(buffer: &mut Vec<u8>) -> Result<Option<Vec<u8>>, ()> {
    let Some(head) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes(*head)).map_err(drop)?;
    if length > LONGEST {
        return Err(());
    }
    if buffer.len() < 4 + length && !cfg!(canary = "no_bounds") {
        return Ok(None);
    }
    let rest = buffer.split_off(4 + length);
    let mut frame = std::mem::replace(buffer, rest);
    frame.drain(..4);
    Ok(Some(frame))
}

/// How a node lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Until somebody deletes it.
    Persistent,
    /// Until some time after its last child has gone.
    Container,
    /// As long as the session.
    Ephemeral,
    /// As long as the session, with a number after its name.
    Numbered,
}

/// Who may use a new node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Access {
    Everybody,
    /// Who has the credentials of this session.
    Owner,
}

pub(super) fn create(path: &str, data: &[u8], kind: Kind, access: Access) -> Vec<u8> {
    let (request, flags) = match kind {
        Kind::Persistent => (15, 0),
        Kind::Container => (19, 4),
        Kind::Ephemeral => (15, 1),
        Kind::Numbered => (15, 3),
    };
    let (scheme, id) = match access {
        Access::Everybody => ("world", "anyone"),
        Access::Owner => ("auth", ""),
    };
    let mut out = Out::request(request);
    out.bytes(path.as_bytes()).bytes(data).int(1).int(31);
    out.bytes(scheme.as_bytes()).bytes(id.as_bytes()).int(flags);
    out.finish()
}

pub(super) fn delete(path: &str) -> Vec<u8> {
    let mut out = Out::request(2);
    out.bytes(path.as_bytes()).int(-1);
    out.finish()
}

pub(super) fn exists(path: &str, watch: bool) -> Vec<u8> {
    look(3, path, watch)
}

pub(super) fn get(path: &str, watch: bool) -> Vec<u8> {
    look(4, path, watch)
}

pub(super) fn children(path: &str, watch: bool) -> Vec<u8> {
    look(8, path, watch)
}

fn look(request: i32, path: &str, watch: bool) -> Vec<u8> {
    let mut out = Out::request(request);
    out.bytes(path.as_bytes()).flag(watch);
    out.finish()
}

pub(super) fn set(path: &str, data: &[u8]) -> Vec<u8> {
    let mut out = Out::request(5);
    out.bytes(path.as_bytes()).bytes(data).int(-1);
    out.finish()
}

/// Lets the server that is asked catch up with its leader.
pub(super) fn sync(path: &str) -> Vec<u8> {
    let mut out = Out::request(9);
    out.bytes(path.as_bytes());
    out.finish()
}

pub(super) fn close() -> Vec<u8> {
    Out::request(-11).finish()
}

pub(super) fn authenticate(credentials: &str) -> Vec<u8> {
    let mut out = Out::new();
    out.int(AUTH).int(100).int(0);
    out.bytes(b"digest").bytes(credentials.as_bytes());
    out.finish()
}

/// The first frame of a connection: a new session if `id` is 0.
pub(super) fn connect(seen: i64, timeout_ms: i32, id: i64, password: &[u8]) -> Vec<u8> {
    let mut out = Out::new();
    out.int(0).long(seen).int(timeout_ms).long(id);
    out.bytes(password).flag(false);
    out.finish()
}

/// The server's answer to it; a session of 0 has ended.
#[derive(Debug)]
pub(super) struct Welcome {
    pub timeout_ms: i32,
    pub id: i64,
    pub password: Vec<u8>,
}

pub(super) fn welcome(frame: &[u8]) -> Option<Welcome> {
    let mut read = In(frame);
    read.int()?;
    Some(Welcome {
        timeout_ms: read.int()?,
        id: read.long()?,
        password: read.bytes()?.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_pinned() {
        let mut frame = children("/a", true);
        put_number(&mut frame, 7);
        assert_eq!(
            frame,
            [
                0, 0, 0, 15, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0, 2, b'/', b'a', 1
            ]
        );
    }

    #[test]
    fn frames_are_taken_whole_and_never_trusted() {
        let mut buffer = vec![0, 0, 0, 2, 9, 8, 0, 0];
        assert_eq!(take_frame(&mut buffer), Ok(Some(vec![9, 8])));
        assert_eq!(take_frame(&mut buffer), Ok(None));
        assert_eq!(take_frame(&mut vec![0xff; 4]), Err(()));
        // More names, or a longer text, than the frame has room for.
        assert!(In(&[0, 0, 0xff, 0xff, 0, 0, 0, 0]).names().is_none());
        assert!(In(&[0, 0, 0, 9, b'x']).text().is_none());
        assert_eq!(In(&[0xff, 0xff, 0xff, 0xff]).bytes(), Some(&b""[..]));
    }
}

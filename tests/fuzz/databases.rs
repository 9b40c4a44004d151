//! What servers of MySQL and PostgreSQL say.

pub const PACKET_WORDS: &[&[u8]] = &[
    b"\x00\x00\x00\x01",
    b"\x01\x00\x00\x01",
    b"\xff\xff\xff\x01",
    b"\xfe\x00\x00\x02\x00",
    b"\xfb",
    b"\xfc\xff\xff",
    b"\xfd\xff\xff\xff",
    b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xff\x15\x04#28000",
    b"\xff\x52\x04",
    b"mysql_native_password\0",
    b"caching_sha2_password\0",
    b"5.5.5-10.11.6-MariaDB\0",
    b"\0",
];
pub const MESSAGE_WORDS: &[&[u8]] = &[
    b"\0\0\0\x04",
    b"\0\0\0\x05",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff",
    b"\0\0\xff\xff",
    b"D\0\0\0\x0b\0\x01\xff\xff\xff\xff",
    b"Z\0\0\0\x05I",
    b"T\0\0\0\x06\0\0",
    b"S42P01\0",
    b"SFATAL\0",
    b"r=,s=,i=4096",
    b"\\x",
    b"SCRAM-SHA-256\0\0",
    b"UPDATE 18446744073709551616\0",
    b"\0",
];

/// Packets of one answer, numbered.
fn packed(bodies: &[Vec<u8>]) -> Vec<u8> {
    let framed = bodies.iter().enumerate().map(|(number, body)| {
        let length = (body.len() as u32).to_le_bytes();
        [&length[..3], &[(number + 1) as u8], body].concat()
    });
    framed.collect::<Vec<_>>().concat()
}

/// A greeting, an OK, errors, rows.
pub fn packets() -> Vec<Vec<u8>> {
    let greeting = [
        b"\x0a5.5.5-10.11.6-MariaDB\0\x07\0\0\0abcdefgh\0\xfe\xf7\x2d\x02\0\xff\x81\x15",
        &[0; 10][..],
        b"ijklmnopqrst\0mysql_native_password\0",
    ];
    let column = b"\x03def\0\0\0\x01a\0\x0c\x2d\0\xff\xff\0\0\xfd\0\0\0\0\0".to_vec();
    let end = b"\xfe\0\0\x02\0".to_vec();
    let row = b"\x0242\xfb\x03abc".to_vec();
    let columns = [vec![3], column.clone(), column.clone(), column, end.clone()];
    vec![
        packed(&[greeting.concat()]),
        packed(&[b"\0\x01\x07\x02\0\0\0".to_vec()]),
        packed(&[b"\xff\xbd\x04#40001Deadlock found".to_vec()]),
        packed(&[b"\xff\x10\x04Too many connections".to_vec()]),
        packed(&[&columns[..], &[row.clone(), row, end]].concat()),
        packed(&[b"\xfemysql_native_password\0abcdefghijklmnopqrst\0".to_vec()]),
    ]
}

/// As many rows and fields as fit into what a server may send.
pub fn long_packets() -> Vec<Vec<u8>> {
    let end = b"\xfe\0\0\x02\0".to_vec();
    let rows = |width: usize, row: Vec<u8>, count: usize| {
        let head = if width < 0xfb {
            vec![width as u8]
        } else {
            vec![0xfc, width as u8, (width >> 8) as u8]
        };
        let head = [vec![head], vec![vec![0]; width], vec![end.clone()]].concat();
        [
            packed(&head),
            packed(&[row]).repeat(count),
            packed(&[end.clone()]),
        ]
        .concat()
    };
    let longest = (1 << 24) - 8;
    let text = |size: usize| {
        [
            &[0xfd],
            &(size as u32).to_le_bytes()[..3],
            &vec![b'x'; size],
        ]
        .concat()
    };
    vec![
        rows(1, vec![0xfb], 4 << 20),
        rows(1, vec![0], 4 << 20),
        rows(4095, vec![0xfb; 4095], 4 << 10),
        rows(1, text(longest - 4), 3),
        packed(&[vec![0; longest]]),
        packed(&[[vec![0xff], vec![b'x'; longest - 1]].concat()]),
        // Columns without an end.
        [
            packed(&[b"\xfc\xff\x0f".to_vec()]),
            packed(&[vec![0; 1 << 20]]).repeat(40),
        ]
        .concat(),
    ]
}

/// Makes the length of the first packet right again.
pub fn mend_packet(bytes: &mut Vec<u8>, coin: bool) {
    if coin && bytes.len() > 4 {
        let length = ((bytes.len() - 4) as u32).to_le_bytes();
        bytes[..3].copy_from_slice(&length[..3]);
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = (4 + body.len() as u32).to_be_bytes();
    [&[tag], &length[..], body].concat()
}

fn data(fields: &[Option<&[u8]>]) -> Vec<u8> {
    let fields = fields.iter().map(|field| match field {
        None => vec![0xff; 4],
        Some(text) => [&(text.len() as u32).to_be_bytes()[..], text].concat(),
    });
    let fields: Vec<_> = fields.collect();
    let count = (fields.len() as u16).to_be_bytes();
    message(b'D', &[&count[..], &fields.concat()].concat())
}

/// The description of columns of this type.
fn columns(kind: u32, count: u16) -> Vec<u8> {
    let one = [b"a\0\0\0\0\0\0\0", &kind.to_be_bytes()[..], &[0; 8]].concat();
    let body = [&count.to_be_bytes()[..], &one.repeat(usize::from(count))].concat();
    message(b'T', &body)
}

/// A login, rows, errors, notices.
pub fn messages() -> Vec<Vec<u8>> {
    let ready = message(b'Z', b"I");
    let error = message(
        b'E',
        b"SERROR\0VERROR\0C42P01\0Mrelation does not exist\0\0",
    );
    let answer = [
        message(b'1', b""),
        message(b't', b"\0\x01\0\0\0\x11"),
        columns(17, 2),
        message(b'2', b""),
        data(&[Some(b"\\x0a0b"), None]),
        data(&[Some(b"\\x"), Some(b"\\xff")]),
        message(b'C', b"SELECT 2\0"),
        ready.clone(),
    ];
    vec![
        [
            message(b'R', &[&[0, 0, 0, 10][..], b"SCRAM-SHA-256\0\0"].concat()),
            message(
                b'R',
                &[&[0, 0, 0, 11][..], b"r=abc,s=c2FsdA==,i=4096"].concat(),
            ),
            message(b'R', &[0; 4]),
            message(b'S', b"server_version\016.4\0"),
            message(b'K', &[7; 8]),
            ready.clone(),
        ]
        .concat(),
        answer.concat(),
        [error, ready.clone()].concat(),
        [message(b'A', b"\0\0\0\x07synlock_x\00123\0"), ready].concat(),
        message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mterminating\0\0"),
        message(b'N', b"SNOTICE\0C00000\0Mfine\0\0"),
    ]
}

/// As many rows, fields and notices as fit into what a server may send.
pub fn long_messages() -> Vec<Vec<u8>> {
    let ready = message(b'Z', b"I");
    let hex = [b"\\x", &b"0a".repeat((1 << 23) - 32)[..]].concat();
    let notice = message(
        b'A',
        &[b"\0\0\0\x07channel\0", &vec![b'x'; 1 << 20][..], b"\0"].concat(),
    );
    vec![
        [data(&[]).repeat(4 << 20), ready.clone()].concat(),
        [data(&[None]).repeat(3 << 20), ready.clone()].concat(),
        [data(&vec![None; 65_535]).repeat(120), ready.clone()].concat(),
        [
            data(&vec![Some(b"".as_slice()); 65_535]).repeat(120),
            ready.clone(),
        ]
        .concat(),
        [columns(17, 1), data(&[Some(&hex)]), ready.clone()].concat(),
        [columns(25, 1), data(&[Some(&hex)]).repeat(2), ready].concat(),
        notice.repeat(30),
        message(b'N', b"SNOTICE\0\0").repeat(4 << 20),
        columns(17, u16::MAX).repeat(30),
        message(b'E', &[b"M", &vec![b'x'; 15 << 20][..], b"\0\0"].concat()),
    ]
}

/// Makes the length of the first message right again.
pub fn mend_message(bytes: &mut Vec<u8>, coin: bool) {
    if coin && bytes.len() > 5 {
        let length = (bytes.len() as u32 - 1).to_be_bytes();
        bytes[1..5].copy_from_slice(&length);
    }
}

//! TLS to a server, and to what only looks like one.

use crate::{ms, try_code};
use std::time::{Duration, Instant};
use synlock_core::Code;
use synlock_tests::load::most;
use synlock_tests::redis::{Options, RedisServer, openssl};
use synlock_tests::services::redis_fake::{Act, Fake};

const TIMEOUT: Duration = Duration::from_millis(500);

/// What a try comes to, within the timeout and what the bar lets a call take beyond.
fn in_time(url: &str) -> Code {
    let start = Instant::now();
    let code = try_code(url);
    let (took, bound) = (start.elapsed(), most(TIMEOUT * 11 / 10 + ms(50)));
    assert!(took <= bound, "{url}: {took:?} of {bound:?}");
    code
}

#[test]
fn tls_fails_closed() {
    let server = RedisServer::start_with(Options {
        password: Some("secret".into()),
        tls: true,
        ..Options::default()
    });
    let ca = server.file("ca.crt").display().to_string();
    let tls = |host: &str, query: &str| {
        format!(
            "rediss://:secret@{host}:{}?io_timeout={}{query}",
            server.tls_port(),
            TIMEOUT.as_millis()
        )
    };
    let trusted = format!("&ca_file={ca}");
    assert_eq!(try_code(&tls("localhost", &trusted)), Code::Ok);
    assert_eq!(try_code(&tls("127.0.0.1", "&insecure=1")), Code::Ok);
    // Signed by nobody we know.
    assert_eq!(in_time(&tls("localhost", "")), Code::Permission);
    // For another host: 127.0.0.2 is the same server, and not in its certificate.
    server.command(&["CONFIG", "SET", "bind", "127.0.0.1 127.0.0.2"]);
    assert_eq!(in_time(&tls("127.0.0.2", &trusted)), Code::Permission);
    // Expired.
    let folder = server.file("");
    openssl(
        &folder,
        &[
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-out",
            "old.crt",
            "-days",
            "-1",
            "-extfile",
            "ext",
        ],
    );
    let old = server.file("old.crt").display().to_string();
    assert_eq!(
        server.command(&["CONFIG", "SET", "tls-cert-file", &old]),
        "OK"
    );
    // Another store, since the first has a connection from before.
    let apart = format!("{trusted}&prefix=apart:");
    assert_eq!(in_time(&tls("localhost", &apart)), Code::Permission);
    // Servers that speak no TLS, stall or hang up in the handshake hear no password.
    for act in [
        Act::Say(b"-ERR unknown command\r\n".to_vec()),
        Act::SayAndClose(vec![0x15, 3, 3, 0, 2, 2, 40]),
        Act::SayAndClose(Vec::new()),
        Act::Mute,
        Act::Say(vec![0x16, 3, 3]),
    ] {
        let fake = Fake::start(act.clone());
        let url = fake.url("rediss").replace("127.0.0.1", ":secret@localhost");
        let timeout = TIMEOUT.as_millis();
        let found = in_time(&format!("{url}?io_timeout={timeout}&insecure=1"));
        assert!(
            matches!(found, Code::Unavailable | Code::Protocol),
            "{act:?}: {found:?}"
        );
        let heard = fake.heard();
        assert!(!heard.is_empty() && !heard.windows(6).any(|word| word == b"secret"));
        assert_eq!(heard[0], 0x16, "a TLS handshake and nothing else");
    }
}

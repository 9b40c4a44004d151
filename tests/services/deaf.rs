//! What passes everything on to a server but requests that have a word in them: those it counts.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// Its port, and how many requests it has kept. It ends with the test program.
pub fn deaf_to(word: &'static [u8], server: u16) -> (u16, &'static AtomicU32) {
    let heard: &AtomicU32 = Box::leak(Box::default());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let port = listener.local_addr().expect("a socket").port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(("127.0.0.1", server)).expect("the server");
            let copies = (client.try_clone(), server.try_clone());
            let (Ok(to_client), Ok(to_server)) = copies else {
                continue;
            };
            for (mut from, mut to) in [(client, to_server), (server, to_client)] {
                std::thread::spawn(move || {
                    let mut chunk = [0; 4096];
                    while let Ok(got @ 1..) = from.read(&mut chunk) {
                        if chunk[..got].windows(word.len()).any(|part| part == word) {
                            heard.fetch_add(1, SeqCst);
                        } else if to.write_all(&chunk[..got]).is_err() {
                            break;
                        }
                    }
                });
            }
        }
    });
    (port, heard)
}

//! `/metrics` and `/healthz`: just enough of HTTP for those who scrape.
//!
//! One thread, one connection at a time, each with a deadline: a slow or silent client delays the next one and nothing else.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::exit::Failure;

/// How long a client may take, all in all.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest request that is read.
const REQUEST: usize = 8 << 10;

/// An answer: status line, kind of content, body.
pub(super) struct Answer {
    pub(super) status: &'static str,
    pub(super) kind: &'static str,
    pub(super) body: String,
}

/// Listens at an address and answers by path, on a thread of its own, until the process ends. Says where it listens.
pub(super) fn serve(
    address: SocketAddr,
    answer: impl Fn(&str) -> Option<Answer> + Send + 'static,
) -> Result<SocketAddr, Failure> {
    let refused = |error: io::Error| {
        Failure::Refused(format!("listen at {address}: {error}; choose another address by --listen [RW-CTL-LISTEN]"))
    };
    let listener = TcpListener::bind(address).map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    std::thread::Builder::new()
        .name("ringward-http".into())
        .spawn(move || {
            for client in listener.incoming() {
                match client {
                    Ok(client) => drop(converse(&client, &answer)),
                    // Out of descriptors: others may give some back.
                    Err(_) => std::thread::sleep(Duration::from_millis(100)),
                }
            }
        })
        .map_err(|error| Failure::system("start a thread", error))?;
    Ok(bound)
}

fn converse(mut client: &TcpStream, answer: &impl Fn(&str) -> Option<Answer>) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let left = || Some(deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() >= REQUEST || Instant::now() >= deadline {
            return write(
                client,
                deadline,
                "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            );
        }
        client.set_read_timeout(left())?;
        let mut part = [0; 1024];
        let got = client.read(&mut part)?;
        if got == 0 {
            return Ok(());
        }
        request.extend(&part[..got]);
    }
    let line = String::from_utf8_lossy(request.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned();
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = path.split('?').next().unwrap_or_default();
    let Answer { status, kind, body } = match method {
        "GET" | "HEAD" => answer(path).unwrap_or_else(|| plain("404 Not Found", "there are /metrics and /healthz\n")),
        _ => plain("405 Method Not Allowed", "only GET and HEAD\n"),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    write(client, deadline, &(head + if method == "HEAD" { "" } else { &body }))
}

fn plain(status: &'static str, body: &str) -> Answer {
    Answer { status, kind: "text/plain; charset=utf-8", body: body.to_owned() }
}

fn write(mut client: &TcpStream, deadline: Instant, text: &str) -> io::Result<()> {
    let mut bytes = text.as_bytes();
    while !bytes.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        client.set_write_timeout(Some(left))?;
        let wrote = client.write(bytes)?;
        bytes = &bytes[wrote..];
    }
    Ok(())
}

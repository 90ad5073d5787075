//! A program for the guest: connects to a Unix socket, sends its input, then
//! listens to the end. (The image's shell has nothing that does.)

use std::io::{copy, stdin, stdout};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

fn main() {
    let path = std::env::args().nth(1).expect("a path");
    let mut socket = UnixStream::connect(path).expect("connect");
    let mut other = socket.try_clone().expect("clone");
    std::thread::spawn(move || {
        let _ = copy(&mut stdin(), &mut other);
        let _ = other.shutdown(Shutdown::Write);
    });
    let _ = copy(&mut socket, &mut stdout());
}

//! Connecting from many addresses of the loopback network, so that ports do not run out.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

/// Connections from one address before the next one is used.
const PER_SOURCE: usize = 10_000;

/// A connection from 127.0.0.2, 127.0.0.3 … by its number; blocking, without delay.
pub fn connect_from(number: usize, target: SocketAddrV4) -> io::Result<TcpStream> {
    let last = u8::try_from(2 + number / PER_SOURCE % 250).unwrap_or(2);
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, last), 0))?;
    connect(&socket, &target)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

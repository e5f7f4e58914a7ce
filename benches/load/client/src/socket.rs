//! Connecting from many addresses of the loopback network, so that ports do not run out.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

/// Ports of one address before the next one is used.
const PORTS: usize = 20_000;
const FIRST_PORT: usize = 10_000;

/// A connection from an address and port that follow from its number and from this process; blocking, without delay.
///
/// To let the kernel choose the port takes it milliseconds, once some thousands are in use.
pub fn connect_from(number: usize, target: SocketAddrV4) -> io::Result<TcpStream> {
    let octet = |value: usize| u8::try_from(1 + value % 250).unwrap_or(1);
    let source = Ipv4Addr::new(127, octet(std::process::id() as usize), octet(number / PORTS), 2);
    let port = u16::try_from(FIRST_PORT + number % PORTS).unwrap_or(0);
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddrV4::new(source, port))?;
    connect(&socket, &target)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

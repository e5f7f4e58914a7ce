//! Connections that have had one answer each and then only stay open, until this program's input ends.

use std::io::{Read, Write, stdin, stdout};
use std::net::SocketAddrV4;

use crate::response::{Progress, ResponseReader};
use crate::{Options, Outcome, socket};

pub fn run(target: SocketAddrV4, options: &Options) -> Outcome {
    let count: usize = options.number("count")?;
    let requests = options.requests(target)?;
    let mut scratch = vec![0; 1 << 16];
    let mut streams = Vec::with_capacity(count);
    for number in 0..count {
        let mut stream = socket::connect_from(number, target)?;
        stream.write_all(&requests[number % requests.len()])?;
        match ResponseReader::default().read(&mut stream, &mut scratch)? {
            Progress::Done(200) => streams.push(stream),
            Progress::Done(status) => return Err(format!("connection {number} was answered {status}").into()),
            Progress::Waiting | Progress::Closed => {
                return Err(format!("connection {number} was not answered").into());
            }
        }
    }
    println!(r#"{{"open":{count}}}"#);
    stdout().flush()?;
    stdin().read_to_end(&mut Vec::new())?;
    let mut closed = 0;
    for mut stream in streams {
        stream.set_nonblocking(true)?;
        closed += usize::from(stream.read(&mut scratch).is_ok());
    }
    println!(r#"{{"closed":{closed}}}"#);
    Ok(())
}

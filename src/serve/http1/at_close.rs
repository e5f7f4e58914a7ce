//! What a client's connection looks like to it when it is closed. Where nothing but its end says that a response is whole, an end
//! must not come before: then closing resets the connection, whoever closes it and why, a process that dies included.
//!
//! What must not live here: when a connection is closed.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What closing a connection tells the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtClose {
    /// That all has been sent.
    End,
    /// That something is missing: what the client's system has not taken by then is lost.
    Reset,
}

/// A connection that can be closed in either way.
pub trait Closable {
    /// What closing it tells the client from now on. Transports that cannot tell go on as they are.
    fn at_close(&self, told: AtClose);
}

impl Closable for TcpStream {
    fn at_close(&self, told: AtClose) {
        let linger = match told {
            AtClose::End => None,
            AtClose::Reset => Some(Duration::ZERO),
        };
        if let Err(error) = socket2::SockRef::from(self).set_linger(linger) {
            tracing::debug!(error = %error, "a connection takes no other way of being closed");
        }
    }
}

impl<S: Closable> Closable for TlsStream<S> {
    /// Dropped, it does not say goodbye either (`close_notify`).
    fn at_close(&self, told: AtClose) {
        self.get_ref().0.at_close(told);
    }
}

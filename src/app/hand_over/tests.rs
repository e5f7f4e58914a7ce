//! Both sides of a hand-over over a real pair of sockets, and programs that do not play their part.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::time::Duration;

use super::channel::{self, Channel};
use super::{HandOverError, Message, Passed, Predecessor, Program, prepare};
use crate::config::ListenAddress;
use crate::listen::inherited::Purpose;

/// Never reached.
const AGES: Duration = Duration::from_secs(600);

fn passed() -> (Vec<Passed>, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let of = |purpose| Passed { purpose, owns_file: false, descriptor: listener.try_clone().unwrap().into() };
    (vec![of(Purpose::Listener("main".into())), of(Purpose::Ops)], listener)
}

/// Starts a script in place of a new process.
async fn start(script: &str, patience: Duration) -> HandOverError {
    let program = Program::script(script);
    prepare(program, passed().0, patience).await.expect_err("it does not become ready")
}

#[tokio::test]
async fn sockets_arrive_with_what_they_are_for_and_accept_what_waits() {
    let (ours, theirs) = channel::pair().unwrap();
    let (passed, listener) = passed();
    let address = listener.local_addr().unwrap();
    // Somebody has connected before, and is accepted by whoever takes over.
    let _client = TcpStream::connect(address).unwrap();
    for Passed { purpose, owns_file, descriptor } in &passed {
        let message = Message::Socket { purpose: purpose.clone(), owns_file: *owns_file };
        channel::send(ours.as_fd(), &message, Some(descriptor.as_fd())).unwrap();
    }
    channel::send(ours.as_fd(), &Message::Begin { process_id: 7 }, None).unwrap();
    drop((passed, listener));

    let (predecessor, mut inherited) = Predecessor::over(theirs).unwrap();
    assert_eq!(predecessor.process_id, 7);
    let taken = inherited.take(&Purpose::Listener("main".into()), &ListenAddress::Ip(address));
    let [crate::listen::Socket::Tcp(socket)] = &taken.sockets[..] else { panic!("{taken:?}") };
    socket.accept().unwrap();

    let old = Channel::new(ours).unwrap();
    let took = [Purpose::Ops];
    let (taken_over, ()) = tokio::join!(predecessor.take_over(&took), async {
        let ready = old.receive().await.unwrap().unwrap();
        assert!(matches!(&ready, Message::Ready { took, .. } if *took == [Purpose::Ops]), "{ready:?}");
        old.send(&Message::TakeOver { reload: true }, None).await.unwrap();
    });
    assert!(taken_over.unwrap().reload);
}

#[tokio::test]
async fn whoever_is_ready_follows_one_that_crashes() {
    let (ours, theirs) = channel::pair().unwrap();
    channel::send(ours.as_fd(), &Message::Begin { process_id: 7 }, None).unwrap();
    let (predecessor, _) = Predecessor::over(theirs).unwrap();
    drop(ours);
    assert!(predecessor.take_over(&[]).await.unwrap().reload, "it has to look for itself");
}

#[test]
fn one_that_crashes_amid_its_sockets_is_not_followed() {
    let (ours, theirs) = channel::pair().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let message = Message::Socket { purpose: Purpose::Ops, owns_file: false };
    channel::send(ours.as_fd(), &message, Some(listener.as_fd())).unwrap();
    drop(ours);
    assert!(Predecessor::over(theirs).is_err());
}

#[test]
fn what_is_not_understood_is_refused() {
    let cases: [&[u8]; 4] =
        [b"", b"{}", b"{\"surprise\":1}", b"{\"socket\":{\"purpose\":\"ops\",\"owns_file\":false}}"];
    for text in cases {
        let (ours, theirs) = channel::pair().unwrap();
        rustix::net::send(&ours, text, rustix::net::SendFlags::NOSIGNAL).unwrap();
        drop(ours);
        assert!(Predecessor::over(theirs).is_err(), "{}", String::from_utf8_lossy(text));
    }
}

#[tokio::test]
async fn a_program_that_ends_is_told_by_how_it_ended() {
    let error = start("exit 64", AGES).await;
    assert!(error.to_string().contains("exit status: 64"), "{error}");
    let error = start("kill -9 $$", AGES).await;
    assert!(error.to_string().contains("signal: 9"), "{error}");
}

#[tokio::test]
async fn a_program_that_takes_too_long_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("process");
    let script = format!(
        "echo $$ > {}.new; mv {}.new {}; exec sleep 600",
        file.display(),
        file.display(),
        file.display()
    );
    let mut preparing = Box::pin(prepare(Program::script(&script), passed().0, AGES));
    let process_id = loop {
        tokio::select! {
            ended = &mut preparing => panic!("{ended:?}"),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
        if let Ok(text) = std::fs::read_to_string(&file) {
            break text.trim().parse::<i32>().unwrap();
        }
    };
    // Giving up, for whatever reason, ends it.
    drop(preparing);
    let process = rustix::process::Pid::from_raw(process_id).unwrap();
    assert!(rustix::process::test_kill_process(process).is_err(), "it is gone");

    let error = start("exec sleep 600", Duration::from_millis(50)).await;
    assert!(matches!(error, HandOverError::TooLate(_)), "{error}");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let error = prepare(Program::at("/nonexistent/postern"), passed().0, AGES).await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/postern"), "{error}");
}

#[tokio::test]
async fn a_program_that_says_something_else_is_ended() {
    // Bash would be needed to write to a socket by its number; a copy of what comes is as wrong.
    let error = start("exec cat >&0", AGES).await;
    assert!(matches!(error, HandOverError::Misunderstood), "{error}");
}

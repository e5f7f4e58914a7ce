//! Frames are told of however they are cut, what costs nothing never ends a connection, and what does ends it at its price.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;
use crate::telemetry::metrics::Metrics;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags, 0, 0, 0, 1]);
    frame.extend_from_slice(payload);
    frame
}

/// Kind, length and value of each frame that is told of when the bytes come in pieces of this size.
fn scanned(bytes: &[u8], piece: usize) -> Vec<(Kind, u32, u32)> {
    let mut scan = Scan::behind_preface();
    let mut frames = Vec::new();
    for mut piece in bytes.chunks(piece) {
        while let Some(frame) = scan.next(&mut piece) {
            frames.push((frame.kind, frame.length, frame.value));
        }
        assert!(piece.is_empty());
    }
    assert!(scan.is_between());
    frames
}

#[test]
fn frames_are_told_of_however_they_are_cut() {
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(4, 0, &[]));
    bytes.extend(frame(8, 0, &[0, 0, 1, 2]));
    bytes.extend(frame(0, 0, &[6; 300]));
    bytes.extend(frame(6, 1, &[6; 8]));
    bytes.extend(frame(8, 0, &[]));
    bytes.extend(frame(7, 0, &[0, 0, 0, 9, 0, 0, 0, 11, b'c', b'a', b'l', b'm']));
    bytes.extend(frame(7, 0, &[0, 0, 0, 9]));
    bytes.extend(frame(3, 0, &[0, 0, 0, 8]));
    let expected = [
        (Kind::SETTINGS, 0, 0),
        (Kind::WINDOW_UPDATE, 4, 0x102),
        (Kind::DATA, 300, 0),
        (Kind::PING, 8, 0),
        (Kind::WINDOW_UPDATE, 0, 0),
        (Kind::GO_AWAY, 12, CALM),
        (Kind::GO_AWAY, 4, 0),
        (Kind::RST_STREAM, 4, 0),
    ];
    for piece in 1..=bytes.len() {
        assert_eq!(scanned(&bytes, piece), expected, "in pieces of {piece}");
    }
}

/// What is read of a connection on which these bytes come in pieces of this size.
async fn read(bytes: &[u8], piece: usize) -> Vec<u8> {
    let (mut client, server) = duplex(piece);
    let mut counted = Counted::new(server, Metrics::new(1).listener("main"), 0);
    let sending = async {
        // Whoever is told to go away is not read any more.
        let _ended = client.write_all(bytes).await;
        drop(client);
    };
    let reading = async {
        let mut read = Vec::new();
        counted.read_to_end(&mut read).await.unwrap();
        drop(counted);
        read
    };
    tokio::join!(sending, reading).1
}

#[tokio::test(flavor = "current_thread")]
async fn what_costs_nothing_never_ends() {
    let mut bytes = PREFACE.to_vec();
    for _ in 0..5_000 {
        bytes.extend(frame(1, 4, b"head"));
        bytes.extend(frame(0, 1, b"data"));
    }
    assert_eq!(read(&bytes, 1_000).await, bytes);
}

#[tokio::test(flavor = "current_thread")]
async fn a_frame_of_each_kind_costs_what_it_is_worth() {
    for (name, kind, flags, payload, about) in [
        ("PING", 6, 0, &[0; 8][..], 2_000),
        ("answers to no PING", 6, 1, &[0; 8], 20),
        ("SETTINGS", 4, 0, &[], 2_000),
        ("SETTINGS that say something", 4, 0, &[0; 6], 100),
        ("large SETTINGS", 4, 0, &[0; 1_200], 52),
        ("WINDOW_UPDATE", 8, 0, &[0, 1, 0, 0], 666),
        ("WINDOW_UPDATE by one", 8, 0, &[0, 0, 0, 1], 200),
        ("RST_STREAM", 3, 0, &[0, 0, 0, 8], 500),
        ("PRIORITY", 2, 0, &[0; 5], 666),
        ("frames of no known kind", 77, 0, &[0; 1_000], 111),
        ("GOAWAY", 7, 0, &[0; 8], 666),
    ] {
        for piece in [1, 7, 10_000] {
            let one = frame(kind, flags, payload);
            let mut bytes = PREFACE.to_vec();
            (0..10_000).for_each(|_| bytes.extend_from_slice(&one));
            let read = read(&bytes, piece).await;
            let passed = read.iter().zip(&bytes).take_while(|(read, sent)| read == sent).count();
            let frames = (passed - PREFACE.len()) / one.len();
            // Time adds a little meanwhile.
            assert!((about..about * 3 / 2).contains(&frames), "{name} in pieces of {piece}: {frames}");
            // Whole frames, then what h2 says goodbye to.
            let rest = &read[PREFACE.len() + frames * one.len()..];
            assert!(rest.starts_with(&ENDLESS.concat()), "{name} in pieces of {piece}");
            assert!(rest.len() > 1_000, "{name} in pieces of {piece}: {}", rest.len());
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn what_is_sent_pays_for_what_it_makes_the_client_send() {
    let (mut client, server) = duplex(100);
    let mut counted = Counted::new(server, Metrics::new(1).listener("main"), 0);
    client.write_all(PREFACE).await.unwrap();
    let mut read = [0; 24];
    counted.read_exact(&mut read).await.unwrap();
    for _ in 0..5_000 {
        let answer = frame(0, 0, b"some data");
        counted.write_all(&answer).await.unwrap();
        let mut answered = vec![0; answer.len()];
        client.read_exact(&mut answered).await.unwrap();
        let mut returned = frame(8, 0, &[0, 0, 0, 9]);
        returned.extend(frame(8, 0, &[0, 0, 0, 9]));
        returned.extend(frame(6, 0, &[0; 8]));
        client.write_all(&returned).await.unwrap();
        let mut read = vec![0; returned.len()];
        counted.read_exact(&mut read).await.unwrap();
        assert_eq!(read, returned);
    }
}

/// As Go's net/http does: both windows are opened again whenever 4 KiB were read, in frames of their own.
#[tokio::test(flavor = "current_thread")]
async fn a_download_pays_for_windows_that_are_opened_by_a_page() {
    let (mut client, server) = duplex(20_000);
    let mut counted = Counted::new(server, Metrics::new(1).listener("main"), 0);
    client.write_all(PREFACE).await.unwrap();
    let mut read = [0; 24];
    counted.read_exact(&mut read).await.unwrap();
    let answer = frame(0, 0, &[b'x'; 16 * 1024]);
    let returned = frame(8, 0, &4_096_u32.to_be_bytes()).repeat(8);
    for _ in 0..2_000 {
        counted.write_all(&answer).await.unwrap();
        let mut answered = vec![0; answer.len()];
        client.read_exact(&mut answered).await.unwrap();
        client.write_all(&returned).await.unwrap();
        let mut read = vec![0; returned.len()];
        counted.read_exact(&mut read).await.unwrap();
        assert_eq!(read, returned);
    }
}

#[test]
fn time_fills_the_allowance_up() {
    let mut allowance = Allowance { left: 0, since: Instant::now() };
    allowance.add_time(Duration::from_millis(999));
    assert_eq!(allowance.left, 399);
    allowance.add_time(Duration::from_secs(1_000));
    assert_eq!(allowance.left, ALLOWANCE);
}

#[tokio::test(flavor = "current_thread")]
async fn goodbyes_are_counted_by_what_they_are_for() {
    let metrics = Metrics::new(1);
    let (_client, server) = duplex(1_000);
    let mut counted = Counted::new(server, metrics.listener("main"), 0);
    for code in [NO_ERROR, CALM, CALM, 1] {
        let mut payload = [0; 8];
        payload[4..].copy_from_slice(&code.to_be_bytes());
        counted.write_all(&frame(7, 0, &payload)).await.unwrap();
    }
    let text = metrics.encode().unwrap();
    for (reason, count) in [("flood", 2), ("error", 1)] {
        let line = format!("postern_http2_go_aways_total{{listener=\"main\",reason=\"{reason}\"}} {count}\n");
        assert!(text.contains(&line), "{text}");
    }
}

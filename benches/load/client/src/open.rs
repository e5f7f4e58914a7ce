//! Requests at a fixed rate, whatever the answers do: an open loop. Each latency counts from the moment at which the
//! request was due, so a stall is in the figures of all the requests that it delayed (no coordinated omission).

use std::collections::VecDeque;
use std::io::Write;
use std::net::{SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::response::{Progress, ResponseReader};
use crate::{Options, Outcome, latency, socket};

/// The timer's number among the events; connections have their index.
const TIMER: u64 = u64::MAX;
/// How long answers are waited for after the last request.
const PATIENCE: Duration = Duration::from_secs(5);

struct Client {
    stream: TcpStream,
    reader: ResponseReader,
    /// When the request that it carries was due; none carried otherwise.
    due: Option<Duration>,
}

pub fn run(target: SocketAddrV4, options: &Options) -> Outcome {
    let rate: f64 = options.number("rate")?;
    let seconds: f64 = options.number("seconds")?;
    let warm_up: f64 = options.number("warm-up")?;
    let expect: u16 = options.number("expect")?;
    let requests = options.requests(target)?;
    let total = ((warm_up + seconds) * rate) as usize;
    let first_counted = (warm_up * rate) as usize;
    let mut clients = (0..options.number("connections")?)
        .map(|number| connect(number, target))
        .collect::<Outcome<Vec<_>>>()?;

    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    epoll::add(&poll, &timer, EventData::new_u64(TIMER), EventFlags::IN)?;
    for (index, client) in clients.iter().enumerate() {
        epoll::add(&poll, &client.stream, EventData::new_u64(index as u64), EventFlags::IN)?;
    }

    let due_at = |index: usize| Duration::from_secs_f64(index as f64 / rate);
    let mut free: VecDeque<usize> = (0..clients.len()).collect();
    let mut latencies = Vec::with_capacity(total - first_counted);
    let mut lateness = Vec::with_capacity(total - first_counted);
    let (mut sent, mut answered, mut wrong, mut reconnected, mut waited) = (0, 0, 0_usize, 0_usize, 0_usize);
    // A connection that is made anew must not need the port of the one before it.
    let mut next_number = clients.len()..;
    let mut reconnect = |client: &mut Client, index: usize| -> Outcome {
        *client = connect(next_number.next().unwrap_or_default(), target)?;
        epoll::add(&poll, &client.stream, EventData::new_u64(index as u64), EventFlags::IN)?;
        Ok(())
    };
    let mut scratch = vec![0; 1 << 16];
    let mut events = Vec::with_capacity(1024);
    let started = Instant::now();
    while answered < total {
        // Whatever is due goes out, as long as a connection is free.
        while sent < total && due_at(sent) <= started.elapsed() {
            let Some(index) = free.pop_front() else { break };
            let due = due_at(sent);
            if sent >= first_counted {
                lateness.push(started.elapsed().saturating_sub(due));
            }
            let request = &requests[sent % requests.len()];
            let client = &mut clients[index];
            if client.stream.write(request).ok() != Some(request.len()) {
                reconnect(client, index)?;
                reconnected += 1;
                client.stream.write_all(request)?;
            }
            client.due = Some(due);
            sent += 1;
        }
        if sent < total {
            // With no connection free, an answer is what to wait for; the timer would only wake up in vain.
            if free.is_empty() {
                waited += 1
            } else {
                set_timer(&timer, due_at(sent).saturating_sub(started.elapsed()))?
            }
        }
        if started.elapsed() > due_at(total) + PATIENCE {
            break;
        }
        events.clear();
        let limit = Timespec { tv_sec: 1, tv_nsec: 0 };
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&limit))?;
        for Event { data, .. } in events.drain(..) {
            let Ok(index) = usize::try_from(data.u64()) else { continue };
            let Some(client) = clients.get_mut(index) else { continue };
            match client.reader.read(&mut client.stream, &mut scratch) {
                Ok(Progress::Waiting) => {}
                Ok(Progress::Done(status)) => {
                    let now = started.elapsed();
                    let due = client.due.take().ok_or("an answer that nobody asked for")?;
                    answered += 1;
                    wrong += usize::from(status != expect);
                    if due >= due_at(first_counted) {
                        latencies.push(now - due);
                    }
                    free.push_back(index);
                }
                Ok(Progress::Closed) if client.due.is_none() => {
                    free.retain(|&other| other != index);
                    reconnect(client, index)?;
                    reconnected += 1;
                    free.push_back(index);
                }
                Ok(Progress::Closed) => return Err("a connection closed instead of an answer".into()),
                Err(error) => return Err(format!("reading an answer: {error}").into()),
            }
        }
    }
    let took = started.elapsed().as_secs_f64();
    latencies.sort_unstable();
    lateness.sort_unstable();
    println!(
        r#"{{"requests":{answered},"unanswered":{},"wrong":{wrong},"reconnected":{reconnected},"waited_for_connection":{waited},"seconds":{took:.3},"counted":{},{},"sent_late_p99_us":{:.1}}}"#,
        total - answered,
        latencies.len(),
        latency::percentiles(&latencies),
        latency::at(&lateness, 0.99),
    );
    Ok(())
}

fn connect(number: usize, target: SocketAddrV4) -> Outcome<Client> {
    let stream = socket::connect_from(number, target)?;
    stream.set_nonblocking(true)?;
    Ok(Client { stream, reader: ResponseReader::default(), due: None })
}

/// Rings once, after this long; a timer of its own, as an epoll timeout may be late by the thread's slack.
fn set_timer(timer: &impl std::os::fd::AsFd, after: Duration) -> rustix::io::Result<()> {
    let value = Timespec { tv_sec: after.as_secs() as i64, tv_nsec: i64::from(after.subsec_nanos().max(1)) };
    let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &once).map(drop)
}

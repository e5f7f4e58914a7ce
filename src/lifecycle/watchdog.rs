//! Watching whether everything gets on: the log hears when something does not, and the service manager's watchdog is fed only while
//! everything does.
//!
//! What must not live here: the judgement itself ([`super::progress`]), and the protocol ([`super::notify`]).

use std::env;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;

use super::notify::{State, notify};
use super::progress::{Progress, Stuck};

/// How often it is looked, at the least.
const LOOK: Duration = Duration::from_secs(5);

/// How often the service manager's watchdog is fed in the time that it waits.
const FEEDS: u32 = 3;

/// Watches for as long as it is polled; to be run where the control work is done, so that it shows as well whether that goes on.
pub async fn watch(progress: Arc<Progress>) {
    let wanted = wanted_by_manager();
    let pause = wanted.map_or(LOOK, |interval| (interval / FEEDS).min(LOOK));
    let mut looks = tokio::time::interval(pause);
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut watch = Watch { feeds: wanted.is_some(), is_told: false };
    loop {
        looks.tick().await;
        if let Some(state) = watch.look(&progress.stuck(Instant::now())) {
            notify(&state);
        }
    }
}

/// What is remembered from look to look.
#[derive(Debug)]
struct Watch {
    /// Whether the service manager has a watchdog.
    feeds: bool,
    /// Whether the log knows that something is stuck.
    is_told: bool,
}

impl Watch {
    /// What the service manager is to be told.
    fn look(&mut self, stuck: &[Stuck]) -> Option<State> {
        if stuck.is_empty() {
            let recovered = std::mem::replace(&mut self.is_told, false);
            if recovered {
                tracing::warn!("everything gets on again");
            }
            return self.feeds.then_some(if recovered { State::Recovered } else { State::Alive });
        }
        let text = stuck.iter().map(Stuck::to_string).collect::<Vec<_>>().join(", ");
        let is_new = !std::mem::replace(&mut self.is_told, true);
        if is_new {
            tracing::error!(stuck = %text, "not everything gets on (this is a defect of Postern, unless the machine stood still)");
        }
        (is_new && self.feeds).then_some(State::Stuck(text))
    }
}

/// The time in which the service manager expects to hear of this process; `None`: it does not.
fn wanted_by_manager() -> Option<Duration> {
    let variable = |name| env::var(name).ok();
    interval(variable("WATCHDOG_USEC").as_deref(), variable("WATCHDOG_PID").as_deref(), std::process::id())
}

fn interval(microseconds: Option<&str>, process: Option<&str>, own: u32) -> Option<Duration> {
    // Without a number any process of the service is meant.
    let is_meant = process.is_none_or(|process| process.parse() == Ok(own));
    let microseconds = microseconds?.parse().ok().filter(|microseconds| *microseconds > 0)?;
    is_meant.then(|| Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    //! What the service manager asks for, and what it is told.

    use super::*;
    use crate::lifecycle::progress::Runner;

    #[test]
    fn whom_the_manager_means() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let cases = [
            (Some("30000000"), None, seconds(30)),
            (Some("30000000"), Some("7"), seconds(30)),
            (Some("30000000"), Some("8"), None),
            (Some("30000000"), Some("x"), None),
            (Some("0"), None, None),
            (Some("-1"), None, None),
            (Some("soon"), None, None),
            (Some(""), None, None),
            (None, Some("7"), None),
            (None, None, None),
        ];
        for (microseconds, process, expected) in cases {
            assert_eq!(interval(microseconds, process, 7), expected, "{microseconds:?} {process:?}");
        }
    }

    #[test]
    fn it_is_fed_only_while_everything_gets_on() {
        let stuck = [Stuck { runner: Runner::Worker(3), silent: Duration::from_secs(11) }];
        let mut watch = Watch { feeds: true, is_told: false };
        assert_eq!(watch.look(&[]), Some(State::Alive));
        assert_eq!(watch.look(&stuck), Some(State::Stuck("worker 3 has not got on for 11 s".into())));
        assert_eq!(watch.look(&stuck), None, "said once, and not fed");
        assert_eq!(watch.look(&[]), Some(State::Recovered));
        assert_eq!(watch.look(&[]), Some(State::Alive));
        assert_eq!(watch.look(&stuck), Some(State::Stuck("worker 3 has not got on for 11 s".into())));
    }

    #[test]
    fn a_manager_without_a_watchdog_is_told_nothing() {
        let mut watch = Watch { feeds: false, is_told: false };
        let stuck = [Stuck { runner: Runner::Keeper, silent: Duration::from_secs(61) }];
        assert_eq!([watch.look(&[]), watch.look(&stuck), watch.look(&[])], [None, None, None]);
    }
}

//! Several clients at once on one thread, until a time has come; and what they have seen, together.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::{Outcome, latency};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one client has done.
#[derive(Default)]
pub struct Seen {
    /// What the costs are counted for: messages, tunnels or calls.
    pub done: usize,
    /// From asking to the whole answer.
    pub latencies: Vec<Duration>,
}

impl Seen {
    pub fn note(&mut self, done: usize, asked: Instant) {
        self.done += done;
        self.latencies.push(asked.elapsed());
    }
}

/// Runs a future, and the tasks it makes, on this thread.
pub fn block_on<T>(future: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

/// An answer, or an error when it does not come.
pub async fn answered<T, E>(answer: impl Future<Output = Result<T, E>>, what: &str) -> Outcome<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answer) => answer.map_err(|error| format!("{what}: {error}").into()),
        Err(_) => Err(format!("{what}: nothing for {} seconds", PATIENCE.as_secs()).into()),
    }
}

/// Runs all clients to their ends and prints what they have seen; the first error ends everything.
pub async fn together<F: Future<Output = Outcome<Seen>> + Send + 'static>(
    clients: impl Iterator<Item = F>,
) -> Outcome {
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for client in clients {
        tasks.spawn(client);
    }
    let mut all = Seen::default();
    while let Some(ended) = tasks.join_next().await {
        let seen = ended??;
        all.done += seen.done;
        all.latencies.extend(seen.latencies);
    }
    let seconds = started.elapsed().as_secs_f64();
    all.latencies.sort_unstable();
    println!(
        r#"{{"requests":{},"seconds":{seconds:.3},{}}}"#,
        all.done,
        latency::percentiles(&all.latencies)
    );
    Ok(())
}

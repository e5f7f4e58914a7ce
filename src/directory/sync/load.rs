//! Start-up: the store is read on one thread while another builds the view from what was read.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::state::State;
use crate::directory::error::StoreError;
use crate::directory::store::{DirectorySnapshot, SnapshotReceiver, Store, TokenRow};

/// Batches on their way: enough to keep both threads busy.
const BATCHES_ON_THE_WAY: usize = 4;

/// Fills an empty state with all that the store has.
pub(super) fn load(store: &dyn Store, state: State) -> Result<State, StoreError> {
    let (sender, receiver) = sync_channel(BATCHES_ON_THE_WAY);
    thread::scope(|scope| {
        let builder = scope.spawn(move || build(state, &receiver));
        let read = store.snapshot(&mut Sender(sender));
        let state = builder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        read.map(|()| state)
    })
}

enum Part {
    Directory(Box<DirectorySnapshot>),
    Tokens(Vec<TokenRow>),
}

struct Sender(SyncSender<Part>);

impl SnapshotReceiver for Sender {
    fn receive_directory(&mut self, directory: DirectorySnapshot) {
        self.send(Part::Directory(Box::new(directory)));
    }

    fn receive_tokens(&mut self, tokens: Vec<TokenRow>) {
        self.send(Part::Tokens(tokens));
    }
}

impl Sender {
    fn send(&self, part: Part) {
        self.0.send(part).expect("the builder receives until the sender is gone");
    }
}

fn build(mut state: State, parts: &Receiver<Part>) -> State {
    for part in parts {
        match part {
            Part::Directory(directory) => state.load_directory(*directory),
            Part::Tokens(tokens) => tokens.into_iter().for_each(|row| state.put_token(row)),
        }
    }
    state
}

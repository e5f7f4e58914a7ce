//! How many may talk to providers through us at one time, in all and from one address: who keeps sending us made-up
//! answers must neither keep others out nor have us hammer a provider.

use std::collections::HashMap;
use std::net::IpAddr;

use parking_lot::Mutex;

/// At one time in all.
const TOTAL: usize = 128;

/// At one time from one address, or from one network of IPv6.
const FROM_ONE: usize = 8;

/// Who is talking to providers.
#[derive(Debug, Default)]
pub(super) struct Slots(Mutex<HashMap<IpAddr, usize>>);

/// A place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Slot<'a> {
    slots: &'a Slots,
    source: IpAddr,
}

impl Slots {
    /// A place, if there is one.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Slot<'_>> {
        let source = source(address);
        let mut taken = self.0.lock();
        if taken.values().sum::<usize>() >= TOTAL {
            return None;
        }
        let mine = taken.entry(source).or_default();
        if *mine >= FROM_ONE {
            return None;
        }
        *mine += 1;
        Some(Slot { slots: self, source })
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut taken = self.slots.0.lock();
        if let Some(count) = taken.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.source);
            }
        }
    }
}

/// One customer of a network has a whole /64 of IPv6.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => {
            let [a, b, c, d, ..] = six.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        four => four,
    }
}

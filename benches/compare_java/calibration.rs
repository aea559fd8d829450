//! How fast the machine is at this moment, in the unit that a Java client's answer costs: shared machines change.

use std::time::Duration;

use nix::time::ClockId;
use prometheus_rsocket_wire::envelope::{Hold, version1};
use prometheus_rsocket_wire::key::{KeyPair, PublicKey};

use crate::Result;

const ROUNDS: u32 = 1000;

/// The CPU time of one private RSA operation: what it takes to open an envelope with nothing in it.
pub(crate) fn private_rsa_operation() -> Result<Duration> {
    let pair = KeyPair::generate()?;
    let public = PublicKey::from_spki_der(&pair.spki_der())?;
    let empty = version1::seal(b"", &public)?;
    let before = cpu_of_this_thread()?;
    for _ in 0..ROUNDS {
        let block = version1::open(&empty.metadata, empty.data.clone(), [&pair])?;
        block.text(0, Hold::Scrape)?;
    }
    Ok((cpu_of_this_thread()? - before) / ROUNDS)
}

fn cpu_of_this_thread() -> Result<Duration> {
    Ok(ClockId::CLOCK_THREAD_CPUTIME_ID.now()?.into())
}

//! Whatever stands in a file that an operator gives: it is read, or there is one line that says why not.
//!
//! The first byte chooses what it is to be: a web configuration, identities, targets or jobs of
//! an agent, or a cluster's secrets.

#![no_main]

use libfuzzer_sys::fuzz_target;
use prometheus_rsocket_agent as agent;
use prometheus_rsocket_proxy::{access, cluster, identity};

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, text)) = bytes.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    match choice % 4 {
        0 => drop(access::fuzzing::reads(text)),
        1 => drop(identity::fuzzing::table(text)),
        2 => {
            agent::fuzzing::targets(text);
            agent::fuzzing::jobs(text);
        }
        _ => drop(cluster::fuzzing::secrets(text)),
    }
});

//! Evens connections out between the nodes of a cluster.
//!
//! Applications connect through a balancer, and stay where they are: a node that joins later gets none of them. So a node
//! that has more than its share closes some of its connections, and the applications come back through the balancer.
//! Nobody is in charge: each node decides for itself, from what gossip says.
//!
//! - Only active nodes count, at least two, and only once their membership and states have stayed the same for a while.
//! - A node begins above the mean by a factor and by a number, and goes on until it is near the mean, in rounds: it closes
//!   a part of its surplus, waits until gossip and connections that come back have shown what came of it, and looks again.
//! - What it closes is idle, has just been scraped, is not young, and is otherwise taken at random.
//! - Where connections come back to it, it yields: see `guard`.
//!
//! [`Task`] is the loop. [`Plan`] decides, [`Overview`] is what it decides by, [`Membership`] says whether it may: plain data, no socket, no
//! clock. `examples/rebalancing` runs a thousand of them; `docs/rebalancing.md` shows what comes of it.

mod guard;
mod membership;
mod metrics;
mod overview;
mod plan;
mod settings;
mod task;
mod victims;

pub use membership::Membership;
pub use metrics::Metrics;
pub use overview::Overview;
pub use plan::{Phase, Plan, Step, Tally, Turn, View};
pub use settings::Settings;
pub use task::{Report, Task};

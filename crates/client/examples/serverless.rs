//! A handler that one process is invoked with several times, and that is frozen in between: nobody can pull it, so each
//! invocation pushes at its end. Between two, the connection may have died unseen; the push then takes the next one.
//!
//! With the feature `signal`, what the last invocation left is pushed when the platform ends the process.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_rsocket_client::Client;

struct Function {
    invocations: Arc<AtomicU64>,
    client: Client,
}

impl Function {
    /// Once in a process, when the platform starts it.
    fn start() -> Result<Self, Box<dyn Error>> {
        let invocations = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&invocations);
        // The process is one of many, and in a container its process id may be that of all others.
        let instance = format!("{:016x}", fastrand::u64(..));
        let builder = Client::from_env(move || {
            let count = counted.load(Ordering::Relaxed);
            format!(
                "# TYPE invocations_total counter\ninvocations_total{{instance=\"{instance}\"}} {count}\n"
            )
        })?;
        #[cfg(feature = "signal")]
        let builder = builder.push_on_sigterm(prometheus_rsocket_client::AfterSigterm::EndProcess);
        let client = builder
            .backoff(Duration::from_millis(100), Duration::from_secs(5))
            .timeout(Duration::from_secs(1))
            .own_thread()
            .connect();
        Ok(Self {
            invocations,
            client,
        })
    }

    /// Metrics are worth a second of waiting, and no failed invocation.
    fn invoke(&self, event: &str) -> String {
        self.invocations.fetch_add(1, Ordering::Relaxed);
        let answer = event.to_uppercase();
        if let Err(error) = self.client.push_blocking() {
            tracing::warn!(%error, "metrics not pushed");
        }
        answer
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let function = Function::start()?;
    for event in ["first", "second", "third"] {
        function.invoke(event);
    }
    Ok(())
}

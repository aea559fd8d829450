//! `--proxy`: where the subcommands that talk to a proxy find one.

use clap::Args;
use prometheus_rsocket_client::{Address, Builder};

#[derive(Debug, Args)]
pub(super) struct ProxyArgs {
    /// A proxy: tcp://HOST:PORT, tls://, ws:// or wss://; repeated: tried in turn
    #[arg(
        long = "proxy",
        env = "PROXY_PROXY",
        value_name = "ADDRESS",
        value_delimiter = ',',
        default_value = "tcp://localhost:7001"
    )]
    proxies: Vec<Address>,
}

impl ProxyArgs {
    /// A client's builder that knows these proxies.
    pub(super) fn apply(&self, builder: Builder) -> Builder {
        builder.proxies(self.proxies.iter().cloned())
    }
}

//! The program: see [`prometheus_rsocket_proxy`].

use std::process::ExitCode;

fn main() -> ExitCode {
    prometheus_rsocket_proxy::cli::run(std::env::args_os())
}

//! Times as JSON says them.

use std::time::SystemTime;

use serde::Serializer;

/// As times are in JSON.
pub(super) fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*time))
}

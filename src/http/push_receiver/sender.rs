//! Who pushes: what a request shows, against the identities.

use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use prometheus_rsocket_wire::Credentials;

use crate::access;
use crate::identity::{Identity, Shown, Table, Unknown};

/// Whose push it is. Credentials that cannot be read are wrong ones, and never none.
pub(super) async fn identify(table: &Table, headers: &HeaderMap) -> Result<Arc<Identity>, Unknown> {
    let credentials = match headers.get(AUTHORIZATION) {
        // Where nobody is asked, it was the web configuration that wanted them.
        Some(_) if table.asks() => Some(read(headers).ok_or(Unknown::Wrong)?),
        _ => None,
    };
    let shown = Shown {
        credentials,
        certificate: Vec::new(),
    };
    let proof = table.identify(shown).await?;
    table.identity(&proof).cloned().ok_or(Unknown::Wrong)
}

fn read(headers: &HeaderMap) -> Option<Credentials> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        let token = token.trim().as_bytes().to_vec();
        return Some(Credentials::Bearer(token.into()));
    }
    let (name, password) = access::credentials(headers)?;
    Some(Credentials::Simple { name, password })
}

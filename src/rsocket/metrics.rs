//! What is counted of the applications' side.

use prometheus::{IntCounterVec, IntGauge};

use super::described::Refused;
use super::{Cause, Transport};
use crate::metrics::{Distribution, OwnMetrics, labels};

labels! {
    /// Why a connection failed, or is kept waiting: the label `exception`.
    pub(super) enum ConnectionFault {
        AddressConnections = "address_connections",
        ClientCertificate = "client_certificate",
        Credentials = "credentials",
        CredentialsUnverified = "credentials_unverified",
        Crowded = "crowded",
        Handshake = "handshake",
        IdentityConnections = "identity_connections",
        KeepaliveTimeout = "keepalive_timeout",
        NoCredentials = "no_credentials",
        Origin = "origin",
        PeerError = "peer_error",
        ProtocolViolation = "protocol_violation",
        ProxyProtocol = "proxy_protocol",
        SetupTimeout = "setup_timeout",
        Tls = "tls",
        Transport = "transport",
        Unfinished = "unfinished",
    }
}

labels! {
    /// Why what an application says it is does not hold: the label `reason`.
    pub(super) enum DescriptionRefusal {
        Instance = "instance",
        Invalid = "invalid",
        Memory = "memory",
    }
}

impl From<Refused> for DescriptionRefusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Invalid(_) => Self::Invalid,
            Refused::Memory => Self::Memory,
        }
    }
}

labels! {
    /// Why a push is refused: the label `reason`.
    pub(crate) enum PushRefusal {
        Aborted = "aborted",
        Backlog = "backlog",
        Busy = "busy",
        Credentials = "credentials",
        Disk = "disk",
        Encoding = "encoding",
        Envelope = "envelope",
        Exposition = "exposition",
        Full = "full",
        Limit = "limit",
        Memory = "memory",
        Origin = "origin",
        Payload = "payload",
        Rate = "rate",
        Revoked = "revoked",
        Share = "share",
        Timestamp = "timestamp",
    }
}

/// What is counted of the applications' side.
pub struct Metrics {
    pub(crate) active_connections: IntGauge,
    /// Label `transport`.
    pub(super) connections_opened: IntCounterVec,
    /// Labels `exception`, `transport`.
    connection_errors: IntCounterVec,
    /// Label `cause`.
    pub(super) connections_retired: IntCounterVec,
    /// Label `reason`.
    pub(super) descriptions_refused: IntCounterVec,
    /// Label `signal_type`.
    pub(super) request_response_seconds: Distribution<1>,
    /// Set when it is asked for.
    pub(crate) unfinished_bytes: IntGauge,
    /// Label `version`.
    pub(crate) envelopes: IntCounterVec,
    /// Label `reason`.
    pub(crate) pushes_refused: IntCounterVec,
}

impl Metrics {
    /// Registers them.
    pub fn register(own: &OwnMetrics) -> prometheus::Result<Self> {
        let transports = [Transport::Tcp, Transport::WebSocket].map(Transport::label);
        let connection_errors = own.counters(
            "prometheus_proxy_connection_error_total",
            "Total number of application connections that failed.",
            &["exception", "transport"],
        )?;
        for transport in transports {
            for exception in ConnectionFault::LABELS {
                connection_errors.with_label_values(&[exception, transport]);
            }
        }
        Ok(Self {
            active_connections: own.gauge(
                "prometheus_proxy_scrape_active_connections",
                "Current number of application connections.",
            )?,
            connections_opened: own.counters_of(
                "prometheus_proxy_connections_opened_total",
                "Total number of application connections that passed SETUP.",
                "transport",
                transports,
            )?,
            connection_errors,
            connections_retired: own.counters_of(
                "prometheus_proxy_connections_retired_total",
                "Total number of working connections that this node closed so that the application reconnects.",
                "cause",
                Cause::ALL.map(Cause::label),
            )?,
            descriptions_refused: own.counters_of(
                "prometheus_proxy_application_descriptions_refused_total",
                "Total number of descriptions of applications that are not believed, or not all of whose targets are.",
                "reason",
                DescriptionRefusal::LABELS.iter().copied(),
            )?,
            request_response_seconds: own.distribution(
                "rsocket_request_response_seconds",
                "Duration of RSocket requests to applications in seconds.",
                ["signal_type"],
                &[["ON_COMPLETE"], ["ON_ERROR"], ["CANCEL"]],
            )?,
            unfinished_bytes: own.gauge(
                "prometheus_proxy_unfinished_bytes",
                "Current size of payloads partly received or not opened yet in bytes.",
            )?,
            envelopes: own.counters(
                "prometheus_proxy_envelopes_opened_total",
                "Total number of answers and pushes opened, by envelope version.",
                &["version"],
            )?,
            pushes_refused: own.counters_of(
                "prometheus_proxy_pushes_refused_total",
                "Total number of pushes refused.",
                "reason",
                PushRefusal::LABELS.iter().copied(),
            )?,
        })
    }

    /// Counts connections that failed.
    pub(super) fn failed(
        &self,
        exception: ConnectionFault,
        transport: Transport,
        connections: usize,
    ) {
        let labels = [exception.label(), transport.label()];
        let errors = self.connection_errors.with_label_values(&labels);
        errors.inc_by(connections as u64);
    }
}

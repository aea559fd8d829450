//! How the other parts of a client reach the task of a connection.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::errors::PushError;

/// Orders that wait for the connection's task.
const ORDERS: usize = 4;

/// How one push over one connection went; where the connection ends first, there is no answer.
pub(crate) type Outcome = Result<(), PushError>;

/// What a connection is asked to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Push the text and tell how it went, which is awaited for so long.
    Push(Bytes, oneshot::Sender<Outcome>, Duration),
    /// Push the text without waiting for the proxy: the outcome is that all of it has been sent.
    Tell(Bytes, oneshot::Sender<Outcome>),
    /// Finish what is under way, then end.
    Retire,
    /// End.
    End,
}

/// The way to a connection's task.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    id: u64,
    orders: mpsc::Sender<Order>,
}

impl Link {
    /// A new one, and where its orders arrive.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Order>) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (orders, arriving) = mpsc::channel(ORDERS);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        (Self { id, orders }, arriving)
    }

    /// Tells connections apart.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Fails when the connection is over.
    pub(crate) async fn order(&self, order: Order) -> Result<(), ConnectionOver> {
        self.orders.send(order).await.map_err(|_| ConnectionOver)
    }

    /// Waits until the connection is over: all that was to be sent has left.
    pub(crate) async fn ended(&self) {
        self.orders.closed().await;
    }
}

/// The connection's task has ended.
#[derive(Debug)]
pub(crate) struct ConnectionOver;

//! A [`Session`] on a [`Transport`]: moves frames, keeps time.
//!
//! A connection does nothing by itself: it lives in the calls of [`Connection::next`], so the
//! task that owns it decides when. Everything else goes through [`Connection::session`]; what
//! that queues leaves with the next call of `next`.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until, timeout};

#[cfg(doc)]
use crate::session::Violation;
use crate::{
    Event, Session,
    memory::{Memory, Share},
    session::CloseReason,
    transport::{ReceiveError, Received, Transport},
};

/// For sending what waits when a connection is over, the ERROR last.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// For the peer to end its side, and what it may still send, so that a reset of the connection
/// does not overtake the ERROR.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 << 10;
/// For reading what had come before sending failed.
const READ_OUT_TIMEOUT: Duration = Duration::from_secs(5);

/// An RSocket connection.
#[derive(Debug)]
pub struct Connection<T> {
    session: Session,
    transport: T,
    timer: Option<Pin<Box<Sleep>>>,
    bytes_sent: u64,
    /// Whether all that the session had to send was written to the stream when it was last tried.
    flushed: bool,
    /// When sending failed: from then on only what had come before is read.
    send_failed: Option<Instant>,
    receive_ended: bool,
    share: Option<Box<Share>>,
}

impl<T: Transport> Connection<T> {
    /// Joins the two. Neither has been used before.
    pub fn new(session: Session, transport: T) -> Self {
        Self {
            session,
            transport,
            timer: None,
            bytes_sent: 0,
            flushed: false,
            send_failed: None,
            receive_ended: false,
            share: None,
        }
    }

    /// Holds what is unfinished in memory shared with others. Where it has to go for them, or takes
    /// too long, the connection ends with [`Violation::Unfinished`].
    #[must_use]
    pub fn sharing(mut self, memory: Arc<Memory>) -> Self {
        self.share = Some(Box::new(Share::new(memory)));
        self
    }

    /// The session, for making and answering requests. What it queues leaves with the next call
    /// of [`Self::next`].
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// The transport below.
    pub fn transport(&self) -> &T {
        &self.transport
    }

    /// Whether everything that was queued has been written to the stream, requests that wait for a
    /// LEASE included. To be asked right after [`Self::poll_next`] had no event: that is what sends.
    pub fn is_flushed(&self) -> bool {
        let usage = self.session.usage();
        self.flushed && usage.queued_frames == 0 && usage.pending_lease == 0
    }

    /// Sends what waits, and waits for the next event. Once it has been [`Event::Closed`], it is
    /// so without end; then call [`Self::finish`].
    ///
    /// Cancel safe: dropping the future loses nothing, so it may stand in a `select!`. While it
    /// is not polled, nothing is sent or received and no time passes for the peer: do not hold a
    /// connection for long without it.
    pub async fn next(&mut self) -> Event {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Self::next`], for use in another `poll` function.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            self.send(cx);
            if let Some(event) = self.session.poll_event() {
                return Poll::Ready(event);
            }
            if let Some(reason) = self.session.close_reason() {
                return Poll::Ready(Event::Closed(reason.clone()));
            }
            let rung = self.poll_timer(cx).is_ready();
            // Before a peer is judged by the clock, what it sent while nobody looked is read.
            let received = self.poll_receive(cx);
            let pending = received.is_pending() && !rung;
            if let Poll::Ready(received) = received {
                self.received(received);
            }
            if rung {
                self.handle_timeout();
            }
            self.account(cx);
            if pending && self.session.close_reason().is_none() {
                return Poll::Pending;
            }
        }
    }

    /// Counts what is unfinished, and ends the connection where it may not hold it any longer.
    fn account(&mut self, cx: &mut Context<'_>) {
        let Some(share) = &mut self.share else {
            return;
        };
        let bytes = self.transport.unfinished() + self.session.unfinished();
        if !share.hold(bytes, cx.waker(), Instant::now().into_std()) {
            self.session.give_up();
        }
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, ReceiveError>> {
        if self.session.is_congested() && self.send_failed.is_none() {
            // Sending will wake us.
            return Poll::Pending;
        }
        self.transport.poll_receive(cx)
    }

    /// Sends what waits, or as much as the transport takes.
    fn send(&mut self, cx: &mut Context<'_>) {
        let sent = match self.send_failed {
            None => self.poll_send(cx),
            Some(_) => {
                self.flushed = false;
                while self.session.poll_frame().is_some() {}
                return;
            }
        };
        self.flushed = matches!(sent, Poll::Ready(Ok(())));
        let now = Instant::now().into_std();
        let progressed = self.bytes_sent != self.transport.bytes_sent();
        self.bytes_sent = self.transport.bytes_sent();
        self.session.sending(sent.is_pending(), progressed, now);
        if let Poll::Ready(Err(_)) = sent {
            // The reason shows when reading ends.
            self.send_failed = Some(Instant::now());
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.transport.poll_ready(cx))?;
            match self.session.poll_frame() {
                Some(frame) => self.transport.start_send(frame)?,
                None => return self.transport.poll_flush(cx),
            }
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        let session = self.session.next_timeout().map(Instant::from_std);
        let read_out = self.send_failed.map(|failed| failed + READ_OUT_TIMEOUT);
        let share = self.share.as_ref().and_then(|share| share.deadline());
        let share = share.map(Instant::from_std);
        [session, read_out, share].into_iter().flatten().min()
    }

    /// Ready when [`Self::handle_timeout`] is to be called, perhaps too early: a timer that need
    /// only move to later is left to ring, which is cheaper than moving it at every frame.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(next) = self.next_timeout() else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(next)));
        if next < timer.deadline() {
            timer.as_mut().reset(next);
        }
        timer.as_mut().poll(cx)
    }

    fn handle_timeout(&mut self) {
        let now = Instant::now();
        self.session.handle_timeout(now.into_std());
        if self
            .send_failed
            .is_some_and(|failed| now >= failed + READ_OUT_TIMEOUT)
        {
            self.session.transport_failed(io::ErrorKind::TimedOut);
        }
        match (self.next_timeout(), &mut self.timer) {
            (Some(next), Some(timer)) => timer.as_mut().reset(next),
            _ => self.timer = None,
        }
    }

    fn received(&mut self, received: Result<Received, ReceiveError>) {
        let now = Instant::now().into_std();
        match received {
            Ok(Received::Frame(frame)) => self.session.receive(frame, now),
            Ok(Received::Partial) => self.session.received_bytes(now),
            Ok(Received::End) => {
                self.receive_ended = true;
                self.session.end_of_stream();
            }
            Err(ReceiveError::Io(error)) => {
                self.receive_ended = true;
                self.session.transport_failed(error.kind());
            }
            Err(ReceiveError::Malformed(malformed)) => self.session.receive_malformed(malformed),
        }
    }

    /// Ends the connection in good order, after [`Event::Closed`]: sends what waits, the ERROR
    /// last, then the end of the stream, and waits a moment for the peer's. Takes 6 s at most,
    /// with a peer that reads a few milliseconds, and nothing where the peer has gone or was silent.
    pub async fn finish(&mut self) {
        if self.session.close_reason().is_none() {
            self.session.end();
        }
        let silent = matches!(
            self.session.close_reason(),
            Some(CloseReason::KeepaliveTimeout)
        );
        let (flush, linger) = if silent {
            (Duration::ZERO, Duration::ZERO)
        } else {
            (FLUSH_TIMEOUT, LINGER_TIMEOUT)
        };
        if self.send_failed.is_none() {
            let flushed = poll_fn(|cx| {
                ready!(self.poll_send(cx))?;
                self.transport.poll_shutdown(cx)
            });
            if !matches!(timeout(flush, flushed).await, Ok(Ok(()))) {
                return;
            }
        }
        let _ = timeout(linger, self.linger()).await;
    }

    /// Reads and drops until the peer's end of the stream.
    async fn linger(&mut self) {
        let mut budget = LINGER_BYTES;
        while !self.receive_ended && budget > 0 {
            match poll_fn(|cx| self.transport.poll_discard(cx)).await {
                Ok(0) | Err(_) => self.receive_ended = true,
                Ok(count) => budget = budget.saturating_sub(count),
            }
        }
    }
}

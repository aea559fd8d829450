//! Receives a body within bounds of length, time and memory.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use prometheus_rsocket_wire::memory::{Memory, Share};
use tokio::time::timeout;

/// Why a body was not received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreceived {
    /// Longer than it may be.
    TooLong,
    /// No byte of it came for too long, or it was not over in time.
    Late,
    /// Others need the memory, and it was unfinished for longest.
    Memory,
    /// It broke off.
    Broken,
}

/// At most `max` bytes, of which some come within each `io_timeout`, and all within two.
pub(super) async fn receive(
    mut body: Body,
    max: usize,
    memory: &Arc<Memory>,
    io_timeout: Duration,
) -> Result<Bytes, Unreceived> {
    if body.size_hint().lower() > max as u64 {
        return Err(Unreceived::TooLong);
    }
    let mut share = Share::new(Arc::clone(memory));
    let whole = async {
        let mut text = Vec::new();
        loop {
            let next = next(&mut body, &mut share, text.capacity());
            let piece = timeout(io_timeout, next).await;
            let Some(piece) = piece.map_err(|_| Unreceived::Late)?? else {
                return Ok(text.into());
            };
            if piece.len() > max - text.len() {
                return Err(Unreceived::TooLong);
            }
            text.extend_from_slice(&piece);
        }
    };
    let whole = timeout(io_timeout.saturating_mul(2), whole).await;
    whole.map_err(|_| Unreceived::Late)?
}

/// The next piece of a body of which so many bytes are held; `None` at its end.
async fn next(
    body: &mut Body,
    share: &mut Share,
    held: usize,
) -> Result<Option<Bytes>, Unreceived> {
    poll_fn(|context| {
        if !share.hold(held, context.waker(), Instant::now()) {
            return Poll::Ready(Err(Unreceived::Memory));
        }
        Pin::new(&mut *body)
            .poll_frame(context)
            .map(|frame| match frame {
                None => Ok(None),
                // Of trailers nothing is wanted.
                Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
                Some(Err(_)) => Err(Unreceived::Broken),
            })
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{FutureExt, StreamExt, stream};
    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn memory(max: usize) -> Arc<Memory> {
        Memory::new(max, 60 * SECOND)
    }

    /// So many pieces of this length, one in a second.
    fn slow(pieces: usize, bytes: usize) -> Body {
        let piece = Bytes::from(vec![b'#'; bytes]);
        let pieces = stream::unfold(pieces, move |left| {
            let piece = piece.clone();
            async move {
                let left = left.checked_sub(1)?;
                sleep(SECOND).await;
                Some((Ok::<_, Infallible>(piece), left))
            }
        });
        Body::from_stream(pieces)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_received_within_its_bounds() {
        let memory = memory(1 << 20);
        let text = receive(slow(3, 10_000), 30_000, &memory, 2 * SECOND).await;
        assert_eq!(text.map(|text| text.len()), Ok(30_000));
        for (body, max, unreceived) in [
            (slow(3, 10_000), 29_999, Unreceived::TooLong),
            (Body::from("long"), 3, Unreceived::TooLong),
            (slow(5, 1), 10, Unreceived::Late),
            (
                Body::from_stream(stream::pending::<Result<Bytes, Infallible>>()),
                10,
                Unreceived::Late,
            ),
            (
                Body::from_stream(stream::iter([Err::<Bytes, _>("reset")])),
                10,
                Unreceived::Broken,
            ),
        ] {
            assert_eq!(
                receive(body, max, &memory, 2 * SECOND).await,
                Err(unreceived)
            );
        }
        assert_eq!(memory.bytes(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_unfinished_makes_room_for_others() {
        let memory = memory(100_000);
        let pieces = stream::iter([Ok::<_, Infallible>(Bytes::from(vec![0; 60_000]))]);
        let body = Body::from_stream(pieces.chain(stream::pending()));
        let mut first = Box::pin(receive(body, 80_000, &memory, SECOND));
        assert!((&mut first).now_or_never().is_none());
        assert!(memory.bytes() >= 60_000);
        let whole = memory.reserve(60_000);
        assert!(whole.is_some());
        // It is woken, and does not wait for its time.
        tokio::select! {
            biased;
            received = &mut first => assert_eq!(received, Err(Unreceived::Memory)),
            () = sleep(SECOND / 2) => unreachable!("it holds its memory"),
        }
    }
}

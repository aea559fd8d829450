//! Putting a payload together from its fragments (section "Fragmentation And Reassembly").

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::Payload;

/// Why fragments cannot become a payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unassembled {
    TooLarge,
    /// Metadata after data.
    OutOfOrder,
}

/// The fragments of one payload, so far.
///
/// They are copied into one growing buffer each for metadata and data rather than kept as a list:
/// a list of one-byte fragments would cost a hundred times the bytes received.
#[derive(Debug)]
pub(super) struct Assembly {
    metadata: Option<BytesMut>,
    data: BytesMut,
    /// When the last fragment came.
    pub(super) touched: Instant,
}

impl Assembly {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            metadata: None,
            data: BytesMut::new(),
            touched: now,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.metadata.as_ref().map_or(0, BytesMut::len) + self.data.len()
    }

    /// Bytes that it takes up.
    pub(super) fn capacity(&self) -> usize {
        self.metadata.as_ref().map_or(0, BytesMut::capacity) + self.data.capacity()
    }

    /// Adds a fragment. After an error the assembly cannot be used.
    pub(super) fn push(
        &mut self,
        fragment: &Payload,
        max_payload: usize,
        now: Instant,
    ) -> Result<(), Unassembled> {
        if self.len() + fragment.len() > max_payload {
            return Err(Unassembled::TooLarge);
        }
        if let Some(metadata) = &fragment.metadata {
            if !self.data.is_empty() {
                return Err(Unassembled::OutOfOrder);
            }
            let whole = self.metadata.get_or_insert_default();
            whole.extend_from_slice(metadata);
        }
        self.data.extend_from_slice(&fragment.data);
        self.touched = now;
        Ok(())
    }

    pub(super) fn finish(self) -> Payload {
        Payload {
            metadata: self.metadata.map(BytesMut::freeze),
            data: self.data.freeze(),
        }
    }
}

/// Adds `payload` to what came before it on its stream. `Ok(Some(_))`: the payload is whole.
///
/// `assembly` is left empty when there is nothing to wait for any more.
pub(super) fn collect(
    assembly: &mut Option<Assembly>,
    payload: Payload,
    follows: bool,
    max_payload: usize,
    now: Instant,
) -> Result<Option<Payload>, Unassembled> {
    if !follows && assembly.is_none() {
        return match payload.len() > max_payload {
            true => Err(Unassembled::TooLarge),
            false => Ok(Some(payload)),
        };
    }
    let mut whole = assembly.take().unwrap_or_else(|| Assembly::new(now));
    whole.push(&payload, max_payload, now)?;
    if follows {
        *assembly = Some(whole);
        return Ok(None);
    }
    Ok(Some(whole.finish()))
}

/// Takes up to `room` bytes off the front of `rest`.
pub(super) fn take_front(rest: &mut Bytes, room: usize) -> Bytes {
    rest.split_to(room.min(rest.len()))
}

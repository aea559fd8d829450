//! Writes a merged exposition in chunks.

use std::sync::Arc;

use bytes::Bytes;

use crate::exposition::Exposition;
use crate::metadata::Kind;
use crate::span::Piece;

/// What will be written.
#[derive(Default)]
pub(crate) struct Output {
    /// The HELP and TYPE lines.
    pub(crate) heads: Vec<u8>,
    pub(crate) pieces: Vec<Piece>,
    /// Where among the pieces the lines of those families are which several parts have.
    pub(crate) shared: Vec<(u32, u32)>,
    pub(crate) families: usize,
    pub(crate) last_kind: Option<Kind>,
    /// The first of those parts whose samples stand before those of the parts before them.
    pub(crate) in_front: u32,
}

/// One valid exposition made of many, ready to be written.
///
/// It holds its parts' texts and where to find each piece in them, no second copy.
#[derive(Debug)]
pub struct Merged {
    parts: Vec<Arc<Exposition>>,
    heads: Vec<u8>,
    pieces: Vec<Piece>,
    shared: Vec<(u32, u32)>,
    length: usize,
    families: usize,
    samples: usize,
    type_conflicts: usize,
}

impl Merged {
    pub(crate) fn new(parts: Vec<Arc<Exposition>>, output: Output, type_conflicts: usize) -> Self {
        Self {
            length: output.pieces.iter().map(|piece| piece.len()).sum(),
            samples: parts.iter().map(|part| part.samples()).sum(),
            parts,
            heads: output.heads,
            pieces: output.pieces,
            shared: output.shared,
            families: output.families,
            type_conflicts,
        }
    }

    /// The sample lines of each family which several parts have: of which part they are, and the lines, those of
    /// one part together.
    pub(crate) fn shared_families(
        &self,
    ) -> impl ExactSizeIterator<Item = impl Iterator<Item = (usize, &[u8])>> {
        self.shared.iter().map(|&(from, to)| {
            let pieces = self.pieces.get(from as usize..to as usize);
            let lines = |piece: &Piece| match *piece {
                Piece::Head { .. } => None,
                Piece::Lines { part, span } => {
                    let exposition = self.parts.get(part as usize)?;
                    Some((part as usize, exposition.bytes(span)))
                }
            };
            pieces.unwrap_or_default().iter().filter_map(lines)
        })
    }

    /// How many families are declared with more than one type, or have samples which do not fit their type.
    #[must_use]
    pub fn type_conflicts(&self) -> usize {
        self.type_conflicts
    }

    /// How many families will be written.
    #[must_use]
    pub fn families(&self) -> usize {
        self.families
    }

    /// How many samples will be written: all that the parts have.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// How many bytes will be written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing will be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The text, in chunks of `target_size` bytes; the last may be shorter. A size of zero is
    /// taken for one.
    ///
    /// The text of each part is released as soon as its last line has been copied.
    #[must_use]
    pub fn into_chunks(self, target_size: usize) -> Chunks {
        let mut remaining = vec![0; self.parts.len()];
        for part in self.pieces.iter().filter_map(Piece::part) {
            if let Some(remaining) = remaining.get_mut(part as usize) {
                *remaining += 1;
            }
        }
        let used = |(part, &remaining)| (remaining > 0).then_some(part);
        Chunks {
            parts: self.parts.into_iter().zip(&remaining).map(used).collect(),
            remaining,
            heads: self.heads,
            head_at: 0,
            pieces: self.pieces.into_iter(),
            current: None,
            target: target_size.max(1),
            left: self.length,
        }
    }
}

/// The chunks of a merged exposition. Made by [`Merged::into_chunks`].
#[derive(Debug)]
pub struct Chunks {
    /// The parts of which lines are still to come.
    parts: Vec<Option<Arc<Exposition>>>,
    /// How many pieces of each part are still to come.
    remaining: Vec<u32>,
    heads: Vec<u8>,
    head_at: usize,
    pieces: std::vec::IntoIter<Piece>,
    /// A piece of which this many bytes have been copied.
    current: Option<(Piece, usize)>,
    target: usize,
    left: usize,
}

impl Chunks {
    /// How many bytes are still to come.
    #[must_use]
    pub fn bytes_left(&self) -> usize {
        self.left
    }

    fn bytes(&self, piece: Piece) -> &[u8] {
        match piece {
            Piece::Head { length } => self.heads.get(self.head_at..self.head_at + length),
            Piece::Lines { part, span } => self
                .parts
                .get(part as usize)
                .and_then(Option::as_deref)
                .map(|part| part.bytes(span)),
        }
        .unwrap_or_default()
    }

    /// Notes that a piece has been copied.
    fn finish(&mut self, piece: Piece) {
        match piece {
            Piece::Head { length } => self.head_at += length,
            Piece::Lines { part, .. } => {
                if let Some(remaining) = self.remaining.get_mut(part as usize) {
                    *remaining -= 1;
                    if *remaining == 0
                        && let Some(part) = self.parts.get_mut(part as usize)
                    {
                        *part = None;
                    }
                }
            }
        }
    }
}

impl Iterator for Chunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let size = self.target.min(self.left);
        let mut chunk = Vec::with_capacity(size);
        while chunk.len() < size {
            let (piece, copied) = self
                .current
                .take()
                .or_else(|| Some((self.pieces.next()?, 0)))?;
            let rest = self.bytes(piece).get(copied..).unwrap_or_default();
            match rest
                .get(..size - chunk.len())
                .filter(|room| room.len() < rest.len())
            {
                Some(fitting) => {
                    chunk.extend_from_slice(fitting);
                    self.current = Some((piece, copied + fitting.len()));
                }
                None => {
                    chunk.extend_from_slice(rest);
                    self.finish(piece);
                }
            }
        }
        self.left -= chunk.len();
        (!chunk.is_empty()).then(|| Bytes::from(chunk))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let chunks = self.left.div_ceil(self.target);
        (chunks, Some(chunks))
    }
}

impl ExactSizeIterator for Chunks {}

impl std::iter::FusedIterator for Chunks {}

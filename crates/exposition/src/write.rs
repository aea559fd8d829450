//! Writes a merged exposition in chunks.

use std::sync::Arc;

use bytes::Bytes;

use crate::convert::{convert, without_last_comma};
use crate::encoding::{Conversion, Encoding};
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
    pub(crate) type_conflicts: usize,
    pub(crate) name_conflicts: usize,
    pub(crate) last_kind: Option<Kind>,
    /// The first of those parts whose samples stand before those of the parts before them.
    pub(crate) in_front: u32,
}

impl Output {
    /// Adds what `write` appends.
    pub(crate) fn head(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.heads.len();
        write(&mut self.heads);
        if self.heads.len() > start {
            self.pieces.push(Piece::Head {
                length: self.heads.len() - start,
            });
        }
    }

    /// Adds lines, to the last piece where they follow it.
    pub(crate) fn lines(&mut self, piece: Piece) {
        let follows = |last: &mut Piece| last.extend(piece);
        if !self.pieces.last_mut().is_some_and(follows) {
            self.pieces.push(piece);
        }
    }

    /// Notes the family of which these are the pieces from `from` on, if several parts have it.
    pub(crate) fn note_shared(&mut self, from: usize) {
        let pieces = self.pieces.get(from..).unwrap_or_default();
        let first = pieces.iter().find_map(Piece::part);
        if first != pieces.last().and_then(Piece::part) {
            self.shared.push((from as u32, self.pieces.len() as u32));
        }
    }
}

/// One valid exposition made of many, ready to be written.
///
/// It holds its parts' texts and where to find each piece in them, no second copy.
#[derive(Debug)]
pub struct Merged {
    encoding: Encoding,
    parts: Vec<Arc<Exposition>>,
    heads: Vec<u8>,
    pieces: Vec<Piece>,
    shared: Vec<(u32, u32)>,
    length: usize,
    families: usize,
    samples: usize,
    type_conflicts: usize,
    name_conflicts: usize,
}

impl Merged {
    pub(crate) fn new(parts: Vec<Arc<Exposition>>, encoding: Encoding, output: Output) -> Self {
        Self {
            encoding,
            length: output.pieces.iter().map(|piece| piece.len()).sum(),
            samples: parts.iter().map(|part| part.samples()).sum(),
            parts,
            heads: output.heads,
            pieces: output.pieces,
            shared: output.shared,
            families: output.families,
            type_conflicts: output.type_conflicts,
            name_conflicts: output.name_conflicts,
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
                Piece::Lines { part, span, .. } => {
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

    /// How many families have a name under which there are others that are called differently before they are escaped.
    #[must_use]
    pub fn name_conflicts(&self) -> usize {
        self.name_conflicts
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

    /// How many bytes will be written, but for what becomes longer or shorter in this encoding.
    #[must_use]
    pub fn about_len(&self) -> usize {
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
            encoding: self.encoding,
            parts: self.parts.into_iter().zip(&remaining).map(used).collect(),
            remaining,
            heads: self.heads,
            head_at: 0,
            pieces: self.pieces.into_iter(),
            current: None,
            line: Vec::new(),
            line_at: 0,
            target: target_size.max(1),
            about_left: self.length,
        }
    }
}

/// The chunks of a merged exposition. Made by [`Merged::into_chunks`].
#[derive(Debug)]
pub struct Chunks {
    encoding: Encoding,
    /// The parts of which lines are still to come.
    parts: Vec<Option<Arc<Exposition>>>,
    /// How many pieces of each part are still to come.
    remaining: Vec<u32>,
    heads: Vec<u8>,
    head_at: usize,
    pieces: std::vec::IntoIter<Piece>,
    /// A piece of which this many bytes have been copied.
    current: Option<(Piece, usize)>,
    /// A line in another form than it came, of which this many bytes have been copied.
    line: Vec<u8>,
    line_at: usize,
    target: usize,
    about_left: usize,
}

impl Chunks {
    fn bytes(&self, piece: Piece) -> &[u8] {
        match piece {
            Piece::Head { length } => self.heads.get(self.head_at..self.head_at + length),
            Piece::Lines { part, span, .. } => {
                let part = self.parts.get(part as usize).and_then(Option::as_deref);
                part.map(|part| part.bytes(span))
            }
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

    /// Copies what is left of a line that was converted, as far as there is room.
    fn copy_line(&mut self, chunk: &mut Vec<u8>) {
        let rest = self.line.get(self.line_at..).unwrap_or_default();
        let room = self.target.saturating_sub(chunk.len()).min(rest.len());
        chunk.extend_from_slice(rest.get(..room).unwrap_or_default());
        self.line_at += room;
    }

    /// Copies what there is room for of a piece, from `copied` on; returns up to where.
    fn copy(&self, piece: Piece, copied: usize, chunk: &mut Vec<u8>) -> usize {
        let rest = self.bytes(piece).get(copied..).unwrap_or_default();
        let room = self.target.saturating_sub(chunk.len()).min(rest.len());
        chunk.extend_from_slice(rest.get(..room).unwrap_or_default());
        copied + room
    }

    /// Converts lines of a piece from `copied` on, until there is no more room; returns up to where.
    fn convert(&mut self, piece: Piece, mut copied: usize, chunk: &mut Vec<u8>) -> usize {
        let Piece::Lines {
            part,
            span,
            conversion,
        } = piece
        else {
            return copied;
        };
        let Some(part) = self.parts.get(part as usize).and_then(Clone::clone) else {
            return copied;
        };
        let lines = part.bytes(span);
        while chunk.len() < self.target
            && let Some(rest) = lines.get(copied..)
            && let Some(length) = memchr::memchr(b'\n', rest)
        {
            self.line.clear();
            self.line_at = 0;
            let line = rest.get(..length).unwrap_or_default();
            match conversion {
                Conversion::LastComma => without_last_comma(&mut self.line, line),
                _ => convert(&mut self.line, line, part.format(), self.encoding),
            }
            self.copy_line(chunk);
            copied += length + 1;
        }
        copied
    }
}

impl Iterator for Chunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut chunk = Vec::with_capacity(self.target.min(self.about_left));
        self.copy_line(&mut chunk);
        while chunk.len() < self.target {
            let Some((piece, copied)) = self
                .current
                .take()
                .or_else(|| Some((self.pieces.next()?, 0)))
            else {
                break;
            };
            let to = match piece {
                Piece::Head { .. }
                | Piece::Lines {
                    conversion: Conversion::None,
                    ..
                } => self.copy(piece, copied, &mut chunk),
                Piece::Lines { .. } => self.convert(piece, copied, &mut chunk),
            };
            if to < piece.len() {
                self.current = Some((piece, to));
            } else {
                self.finish(piece);
            }
        }
        self.about_left = self.about_left.saturating_sub(chunk.len());
        (!chunk.is_empty()).then(|| Bytes::from(chunk))
    }
}

impl std::iter::FusedIterator for Chunks {}

//! What has passed of a request's body, kept for as long as it may have to be sent again.

use std::mem;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

/// Largest part that is handed on at once, in bytes; up to this size parts are copied together on their way.
const PIECE: usize = 16 * 1024;

/// The beginning of a body. A body of one part is kept as it is; the parts of others are put together, so that one that
/// comes byte by byte takes no more room than another.
#[derive(Debug, Default)]
pub struct Kept {
    /// The only part so far.
    part: Bytes,
    /// All parts, once there are several.
    parts: Vec<u8>,
    trailers: Option<Box<HeaderMap>>,
    limit: usize,
    /// Whether all that has passed is here, and what passes is added.
    keeping: bool,
    /// How much is to be handed on again, counted from the end; the trailers come after it.
    again: usize,
    trailers_again: bool,
}

impl Kept {
    /// Keeps up to `limit` bytes of a body that may have announced its length.
    pub fn new(limit: usize, announced: Option<u64>) -> Self {
        let keeping = announced.is_none_or(|length| length <= limit as u64);
        Self {
            limit,
            keeping,
            ..Self::default()
        }
    }

    /// Whether all that has passed is here.
    pub fn is_whole(&self) -> bool {
        self.keeping
    }

    /// Takes in a part that passes.
    pub fn add(&mut self, data: &Bytes) {
        if !self.keeping {
            return;
        }
        let before = self.content().len();
        if before + data.len() > self.limit {
            self.forget();
        } else if before == 0 {
            self.part = data.clone();
        } else {
            let first = mem::take(&mut self.part);
            self.parts.extend_from_slice(&first);
            self.parts.extend_from_slice(data);
        }
    }

    fn content(&self) -> &[u8] {
        match self.parts.is_empty() {
            true => &self.part,
            false => &self.parts,
        }
    }

    /// Takes in the trailers that pass.
    pub fn add_trailers(&mut self, trailers: &HeaderMap) {
        if self.keeping {
            self.trailers = Some(Box::new(trailers.clone()));
        }
    }

    /// Keeps nothing any more, but for what is being handed on again.
    pub fn forget(&mut self) {
        self.keeping = false;
        self.release();
    }

    /// Has all of it handed on again.
    pub fn rewind(&mut self) {
        self.again = self.content().len();
        self.trailers_again = self.trailers.is_some();
    }

    /// Whether there is more to be handed on again.
    pub fn has_next(&self) -> bool {
        self.again > 0 || self.trailers_again
    }

    /// The next part of what is to be handed on again.
    pub fn take_next(&mut self) -> Option<Frame<Bytes>> {
        if self.again > 0 {
            let start = self.content().len() - self.again;
            let range = start..start + self.again.min(PIECE);
            let piece = match self.parts.is_empty() {
                true => self.part.slice(range),
                false => Bytes::copy_from_slice(&self.parts[range]),
            };
            self.again -= piece.len();
            self.release();
            return Some(Frame::data(piece));
        }
        if mem::take(&mut self.trailers_again) {
            let trailers = self.trailers.clone();
            self.release();
            return trailers.map(|trailers| Frame::trailers(*trailers));
        }
        None
    }

    /// A copy of all that is here, to be handed on from its start.
    pub fn copy(&self) -> Self {
        let mut copy = Self {
            part: self.part.clone(),
            parts: self.parts.clone(),
            trailers: self.trailers.clone(),
            // The copy may have to be sent again as well. Nothing more passes.
            limit: usize::MAX,
            keeping: true,
            ..Self::default()
        };
        copy.rewind();
        copy
    }

    /// Lets go of what nobody needs.
    fn release(&mut self) {
        if !self.keeping && !self.has_next() {
            self.part = Bytes::new();
            self.parts = Vec::new();
            self.trailers = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(kept: &mut Kept) -> (Vec<u8>, usize) {
        let (mut bytes, mut trailers) = (Vec::new(), 0);
        while let Some(frame) = kept.take_next() {
            match frame.into_data() {
                Ok(data) => bytes.extend_from_slice(&data),
                Err(frame) => trailers += frame.into_trailers().unwrap().len(),
            }
        }
        (bytes, trailers)
    }

    fn trailers() -> HeaderMap {
        HeaderMap::from_iter([(http::header::ETAG, http::HeaderValue::from_static("x"))])
    }

    #[test]
    fn what_has_passed_is_handed_on_again_as_often_as_needed() {
        let mut kept = Kept::new(100_000, None);
        let long = vec![7; 2 * PIECE];
        kept.add(&Bytes::from_static(b"begin"));
        kept.rewind();
        assert_eq!(rest(&mut kept), (b"begin".to_vec(), 0));
        kept.add(&long.clone().into());
        assert!(!kept.has_next());
        for _ in 0..2 {
            kept.rewind();
            assert_eq!(rest(&mut kept), ([b"begin", &*long].concat(), 0));
        }
        kept.rewind();
        kept.take_next();
        kept.add(&Bytes::from_static(b"end"));
        kept.add_trailers(&trailers());
        kept.rewind();
        assert_eq!(rest(&mut kept), ([b"begin", &*long, b"end"].concat(), 1));
        let mut copy = kept.copy();
        for _ in 0..2 {
            assert_eq!(rest(&mut copy).0.len(), 2 * PIECE + 8);
            assert!(copy.is_whole());
            copy.rewind();
        }
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        let mut kept = Kept::new(4, None);
        kept.add(&Bytes::from_static(b"12"));
        kept.add(&Bytes::from_static(b"34"));
        assert!(kept.is_whole());
        kept.add(&Bytes::from_static(b"5"));
        assert!(!kept.is_whole());
        assert_eq!(kept.parts.capacity(), 0);
        kept.add(&Bytes::from_static(b"6"));
        kept.rewind();
        assert_eq!(rest(&mut kept), (Vec::new(), 0));
        assert!(!Kept::new(4, Some(5)).is_whole());
        assert!(Kept::new(4, Some(4)).is_whole());
    }

    #[test]
    fn what_is_forgotten_on_its_way_is_handed_on_to_its_end() {
        let mut kept = Kept::new(100_000, None);
        kept.add(&vec![1; 2 * PIECE].into());
        kept.add_trailers(&trailers());
        kept.rewind();
        kept.take_next();
        kept.forget();
        assert!(!kept.is_whole());
        assert_eq!(rest(&mut kept), (vec![1; PIECE], 1));
        assert_eq!(kept.parts.capacity(), 0);
        assert!(kept.trailers.is_none());
    }
}

//! One file to chunks: read, cut, compared with what is known, predicted, coded, checked,
//! appended; and the manifest that puts the file together again.
//!
//! May use: tiers 0 to 4. Memory is bounded by the pool's budget and by what may wait for models,
//! whatever the file's size.
//! Holds: the same file over the same base gives the same records on any number of threads;
//! every coded chunk was decoded and compared before it is appended.
//!
//! The file is read once, in order. Only a tensor that gets a model of its own is looked at
//! twice: its chunks are *surveyed* as they come, and coded once all of them were seen. Those of a
//! tensor that is too large to wait in memory are read again.

use std::collections::VecDeque;
use std::sync::Arc;

use store_format::ids::FileId;
use store_format::manifest::{Manifest, Region, Role};
use store_format::record::Kind;

use crate::bytes::{FileBytes, ReadAt};
use crate::error::Result;
use crate::flow::approach::Approach;
use crate::flow::code::{Done, Job, Record, Source, Writer, Written};
use crate::flow::survey::{Awaited, Survey};
use crate::layout::{self, Parsed, RegionKind, cut};
use crate::par::Budget;

/// Bytes of jobs in flight; a job states three times its plain bytes: they, their prediction,
/// and what is made of them.
const IN_FLIGHT: Budget = Budget {
    bytes_max: 160 << 20,
    count_max: 256,
};

/// Bytes of surveyed chunks that wait for their tensor's model: they keep all threads busy while
/// the last survey of a tensor ends, and so many wait in memory.
const WAITING_BYTES: u64 = 64 << 20;

/// Writes the chunks of a file and gives its manifest.
///
/// # Errors
/// `Conflict` where the file changed while it was read; failures of the disk.
pub fn file(
    writer: &Writer<'_>,
    file: &FileBytes,
    parsed: &Parsed,
    approaches: &[Approach],
) -> Result<(Manifest, Written)> {
    let mut hasher = blake3::Hasher::new();
    let mut chunks = Vec::new();
    let mut written = Written::default();
    let source = Source {
        writer,
        file,
        parsed,
        approaches,
    };
    writer.pool.ordered(
        Jobs {
            source: &source,
            pieces: cut::cut(parsed, file).enumerate(),
            hasher: &mut hasher,
            open: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            kept_bytes: 0,
        },
        IN_FLIGHT,
        |job| source.run(job),
        |done| {
            if let Some(done) = done {
                let at = done.index;
                if chunks.len() <= at {
                    chunks.resize(at + 1, None);
                }
                chunks[at] = Some(done.chunk);
                append(writer, done, &mut written)?;
                // What stops here goes on from there when it is repeated.
                if writer.keeps {
                    writer.txn.keep_full_packs()?;
                }
            }
            writer.progress.check()
        },
    )?;
    let region = |region: &layout::Region| {
        let role = match region.kind {
            RegionKind::Header => Role::Header,
            RegionKind::Tensor(_) => Role::Tensor,
            RegionKind::Gap => Role::Gap,
            RegionKind::Raw => Role::Raw,
        };
        Region {
            role,
            bytes: region.bytes,
        }
    };
    let manifest = Manifest {
        bytes: file.len(),
        file: FileId::from_bytes(*hasher.finalize().as_bytes()),
        layout: parsed.layout,
        regions: parsed.regions.iter().map(region).collect(),
        tensors: parsed.tensors.clone(),
        chunks: chunks.into_iter().flatten().collect(),
        note: parsed.note.clone(),
    };
    Ok((manifest, written))
}

/// Appends what a job made, unless an equal chunk came before it.
fn append(writer: &Writer<'_>, done: Done, written: &mut Written) -> Result<()> {
    let bytes = done.chunk.bytes;
    let Some(record) = done.record else {
        written.known_chunks += 1;
        writer.progress.advance(bytes, 0);
        return Ok(());
    };
    if writer.txn.contains(&done.chunk.id.into()) {
        writer.progress.advance(bytes, 0);
        return Ok(());
    }
    let mut coded = 0;
    let sides = record.sides.into_iter().map(|side| (side, true));
    for (record, is_side) in sides.chain([(record.chunk, false)]) {
        let is_there = match is_side {
            true => writer.txn.contains_side(&record.id.into()),
            false => writer.txn.contains(&record.id.into()),
        };
        if !is_there {
            let Record {
                id,
                recipe,
                plain_bytes,
                bytes,
            } = record;
            writer
                .txn
                .append(Kind::Chunk, id.into(), recipe, plain_bytes, &bytes)?;
            coded += bytes.len() as u64;
        }
    }
    written.new_chunks += 1;
    written.coded_bytes += coded;
    written.predicted_bytes += if record.predicted { bytes } else { 0 };
    writer.progress.advance(bytes, coded);
    Ok(())
}

/// The jobs of a file in the order of its bytes, each survey before what depends on it.
struct Jobs<'a, 'f> {
    source: &'a Source<'f>,
    pieces: std::iter::Enumerate<cut::Pieces<'a, FileBytes>>,
    hasher: &'a mut blake3::Hasher,
    /// The tensor whose chunks are being surveyed, and how many there were.
    open: Option<(usize, Arc<Survey>, usize)>,
    /// Surveyed chunks that wait for their model.
    waiting: VecDeque<Waiting>,
    waiting_bytes: u64,
    /// Of those, what waits in memory.
    kept_bytes: u64,
}

/// A surveyed chunk that waits for its model.
struct Waiting {
    survey: Arc<Survey>,
    slot: usize,
    index: usize,
    span: cut::Span,
    kept: bool,
}

impl Iterator for Jobs<'_, '_> {
    type Item = Result<(usize, Job)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.waiting_bytes > WAITING_BYTES
            && let Some(job) = self.modelled()
        {
            return Some(Ok(job));
        }
        match self.pieces.next() {
            Some((index, piece)) => Some(piece.and_then(|piece| self.read(index, piece))),
            None => {
                self.close();
                self.modelled().map(Ok)
            }
        }
    }
}

impl Jobs<'_, '_> {
    fn read(&mut self, index: usize, piece: cut::Piece) -> Result<(usize, Job)> {
        let span = piece.span;
        let plain = piece.bytes.map_or_else(|| self.source.read(&span), Ok)?;
        self.hasher.update(&plain);
        let cut::View::Elements { tensor, .. } = span.view else {
            self.close();
            return Ok((in_flight(&span), Job::Plain { index, span, plain }));
        };
        let Some(shape) = self.source.shape(tensor) else {
            self.close();
            return Ok((in_flight(&span), Job::Plain { index, span, plain }));
        };
        if self.open.as_ref().is_none_or(|(open, ..)| *open != tensor) {
            self.close();
            self.open = Some((tensor, Arc::new(Survey::new(shape)), 0));
        }
        let Some((_, survey, slots)) = &mut self.open else {
            return Ok((in_flight(&span), Job::Plain { index, span, plain }));
        };
        let (survey, slot) = (Arc::clone(survey), *slots);
        *slots += 1;
        let keep = self.kept_bytes + span.bytes <= WAITING_BYTES;
        self.waiting.push_back(Waiting {
            survey: Arc::clone(&survey),
            slot,
            index,
            span,
            kept: keep,
        });
        self.waiting_bytes += span.bytes;
        self.kept_bytes += if keep { span.bytes } else { 0 };
        Ok((
            in_flight(&span),
            Job::Survey {
                chunk: Awaited::new(survey, slot),
                span,
                plain,
                keep,
            },
        ))
    }

    /// No chunk of the tensor that was surveyed last follows.
    fn close(&mut self) {
        if let Some((_, survey, slots)) = self.open.take() {
            survey.close(slots);
        }
    }

    /// The next chunk whose survey will end without any further job.
    fn modelled(&mut self) -> Option<(usize, Job)> {
        let open = self.open.as_ref().map(|(_, survey, _)| survey);
        let front = self.waiting.front()?;
        if open.is_some_and(|open| Arc::ptr_eq(open, &front.survey)) {
            return None;
        }
        let Waiting {
            survey,
            slot,
            index,
            span,
            kept,
        } = self.waiting.pop_front()?;
        self.waiting_bytes -= span.bytes;
        self.kept_bytes -= if kept { span.bytes } else { 0 };
        Some((
            in_flight(&span),
            Job::Modelled {
                survey,
                slot,
                index,
                span,
            },
        ))
    }
}

fn in_flight(span: &cut::Span) -> usize {
    usize::try_from(span.bytes).map_or(usize::MAX, |bytes| bytes.saturating_mul(3))
}

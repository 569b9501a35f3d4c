//! Records: the stored form of a chunk or an object, as it lies in a pack.
//!
//! A record says how its bytes are rebuilt: a predictor makes a prediction from sources (ranges
//! of other chunks), a coding corrects it. The header can be read without the pack's table.

use alloc::vec::Vec;

use crate::FormatError;
use crate::closed::closed;
use crate::cursor::{Reader, put_u32, u64_of, usize_of};
use crate::ids::{ChunkId, RecordId};
use crate::limits;

/// The first bytes of every record.
pub const RECORD_MAGIC: [u8; 4] = *b"SPRC";

closed! {
    /// What a record holds. The discriminant is the number stored.
    Kind, "record kind";
    /// Plain bytes of part of a file, or side information.
    Chunk = 1, "chunk";
    /// How one file is put together from chunks.
    Manifest = 2, "manifest";
    /// A directory.
    Tree = 3, "tree";
    /// A version: a tree, its parents, what it was derived from.
    Commit = 4, "commit";
    /// Typed JSON about a commit.
    Attachment = 5, "attachment";
}

closed! {
    /// How a prediction is made from sources. The discriminant is the number stored.
    Predictor, "predictor";
    /// No prediction; there are no sources.
    None = 0, "none";
    /// The source's bytes themselves.
    Base = 1, "base";
    /// The source plus a product of two small matrices.
    LowRank = 2, "low-rank";
    /// The source plus an adapter's product.
    Adapter = 3, "adapter";
    /// Rows or columns of one or several sources.
    Gather = 4, "gather";
    /// The source in another element type.
    Cast = 5, "cast";
    /// A weighted sum of several sources.
    Linear = 6, "linear";
    /// The source in a block-quantised or integer type.
    Quantise = 7, "quantise";
    /// Rows of earlier tables.
    Rows = 8, "rows";
    /// The source in codes of 4 bits with a scale for each block, or these scales.
    Blockwise = 9, "blockwise";
}

closed! {
    /// How bytes are coded, given their prediction. The discriminant is the number stored.
    Coding, "coding";
    /// The bytes as they are.
    Stored = 0, "stored";
    /// One zstd frame.
    Zstd = 1, "zstd";
    /// Bytes split by their place in the element, each plane coded on its own.
    Planes = 2, "planes";
    /// The difference from the prediction, element by element, then as `Planes`.
    Difference = 3, "difference";
    /// The prediction is exact; there are no coded bytes.
    Exact = 4, "exact";
    /// The residual in the context of the prediction, entropy-coded.
    Residual = 5, "residual";
    /// Weights without a prediction, entropy-coded.
    Weights = 6, "weights";
}

impl Coding {
    /// Whether it corrects a prediction.
    #[must_use]
    pub const fn corrects(self) -> bool {
        match self {
            Self::Difference | Self::Exact | Self::Residual => true,
            Self::Stored | Self::Zstd | Self::Planes | Self::Weights => false,
        }
    }

    /// Whether it needs the model of a tensor.
    #[must_use]
    pub const fn is_modelled(self) -> bool {
        match self {
            Self::Residual | Self::Weights => true,
            Self::Stored | Self::Zstd | Self::Planes | Self::Difference | Self::Exact => false,
        }
    }
}

/// A range of a chunk's plain bytes, one part of a [`View`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The chunk; all zero bytes stand for a run of zeros without a chunk.
    pub chunk: ChunkId,
    /// The first byte within the chunk.
    pub start: u64,
    /// Bytes taken.
    pub bytes: u64,
}

impl Part {
    /// A run of zeros, for elements of a view that have no source.
    #[must_use]
    pub const fn zeros(bytes: u64) -> Self {
        Self {
            chunk: ChunkId::ZEROS,
            start: 0,
            bytes,
        }
    }

    /// Whether this part stands for zeros.
    #[must_use]
    pub fn is_zeros(&self) -> bool {
        self.chunk.is_zeros()
    }
}

/// Ranges of chunks that read as one run of bytes: how a predictor names a source, without
/// knowing where it was cut.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct View {
    /// The ranges, in order.
    pub parts: Vec<Part>,
}

impl View {
    /// Appends a range; one that goes on where the last one ends makes that one longer, so that
    /// what lies in one run is one part however many steps it was asked for in.
    pub fn push(&mut self, part: Part) {
        if let Some(last) = self.parts.last_mut()
            && last.chunk == part.chunk
            && (part.is_zeros() || last.start.checked_add(last.bytes) == Some(part.start))
            && let Some(bytes) = last.bytes.checked_add(part.bytes)
            && last.start.saturating_add(bytes) <= limits::CHUNK_BYTES_MAX
        {
            last.bytes = bytes;
            return;
        }
        self.parts.push(part);
    }

    /// Bytes of all parts together, or `None` beyond what a number can hold.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        self.parts
            .iter()
            .try_fold(0_u64, |sum, part| sum.checked_add(part.bytes))
    }
}

/// How a record's bytes are rebuilt: everything but the coded bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// How the prediction is made.
    pub predictor: Predictor,
    /// Parameters of the predictor; their bytes are the predictor's business.
    pub predictor_parameters: Vec<u8>,
    /// What the predictor reads.
    pub sources: Vec<View>,
    /// Chunks that all records of one tensor share: factors, scales, tables, index lists.
    pub side: Vec<ChunkId>,
    /// How the prediction is corrected.
    pub coding: Coding,
    /// Parameters of the coding; their bytes are the coding's business.
    pub coding_parameters: Vec<u8>,
    /// 0 without sources, else one more than the deepest source. Side information counts 0.
    pub depth: u8,
}

impl Recipe {
    /// A recipe that needs nothing but the coded bytes.
    #[must_use]
    pub const fn plain(coding: Coding, coding_parameters: Vec<u8>) -> Self {
        Self {
            predictor: Predictor::None,
            predictor_parameters: Vec::new(),
            sources: Vec::new(),
            side: Vec::new(),
            coding,
            coding_parameters,
            depth: 0,
        }
    }

    /// Every chunk that must be there to rebuild the bytes: sources and side information,
    /// ascending, each once.
    #[must_use]
    pub fn needs(&self) -> Vec<ChunkId> {
        let parts = self.sources.iter().flat_map(|view| &view.parts);
        let mut needs: Vec<_> = parts
            .filter(|part| !part.is_zeros())
            .map(|part| part.chunk)
            .collect();
        needs.extend_from_slice(&self.side);
        needs.sort_unstable();
        needs.dedup();
        needs
    }

    fn check(&self) -> Result<(), FormatError> {
        const DEPTH: FormatError = FormatError::Invalid {
            rule: "a record without sources has depth 0, any other more",
        };
        let predicted = self.predictor != Predictor::None;
        if predicted == self.sources.is_empty() || (self.depth > 0) != predicted {
            return Err(DEPTH);
        }
        if self.depth > limits::DEPTH_MAX {
            let max = limits::DEPTH_MAX.into();
            return Err(FormatError::TooLarge {
                field: "depth",
                value: self.depth.into(),
                max,
            });
        }
        if self.coding.corrects() != predicted {
            return Err(FormatError::Invalid {
                rule: "a coding that corrects a prediction stands with a predictor, any other without",
            });
        }
        let plain = matches!(self.predictor, Predictor::None | Predictor::Base);
        if plain && !self.predictor_parameters.is_empty() {
            return Err(FormatError::Invalid {
                rule: "predictors 'none' and 'base' have no parameters",
            });
        }
        if self.side.iter().any(ChunkId::is_zeros) {
            return Err(FormatError::Invalid {
                rule: "side information is a chunk",
            });
        }
        self.check_sources()
    }

    fn check_sources(&self) -> Result<(), FormatError> {
        let counts = [
            ("side chunks", self.side.len(), limits::SIDE_MAX),
            ("sources", self.sources.len(), limits::SOURCES_MAX),
        ];
        for (field, count, max) in counts {
            let (value, max) = (u64_of(count), u64::from(max));
            if value > max {
                return Err(FormatError::TooLarge { field, value, max });
            }
        }
        let max = limits::SOURCE_BYTES_MAX;
        let mut left = max;
        for part in self.sources.iter().flat_map(|view| &view.parts) {
            let end = part.start.saturating_add(part.bytes);
            if part.bytes == 0 || (part.is_zeros() && part.start != 0) {
                return Err(FormatError::Invalid {
                    rule: "a part of a view has bytes, and one of zeros starts at 0",
                });
            }
            left = left
                .checked_sub(part.bytes)
                .filter(|_| end <= limits::CHUNK_BYTES_MAX)
                .ok_or(FormatError::TooLarge {
                    field: "source bytes of a record",
                    value: end,
                    max,
                })?;
        }
        Ok(())
    }
}

/// The header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// What the record holds.
    pub kind: Kind,
    /// Names what it holds.
    pub id: RecordId,
    /// How the bytes are rebuilt.
    pub recipe: Recipe,
    /// Bytes once rebuilt.
    pub plain_bytes: u64,
    /// Coded bytes that follow the header.
    pub stored_bytes: u64,
    /// The first eight bytes of the BLAKE3 of the coded bytes.
    pub stored_check: [u8; 8],
}

/// The first eight bytes of the BLAKE3 of `bytes`: finds damage without decoding.
#[must_use]
pub fn check_of(bytes: &[u8]) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(bytes).as_bytes();
    [a, b, c, d, e, f, g, h]
}

impl RecordHeader {
    /// Bytes before the header's variable part.
    pub const FIXED_BYTES: usize = 72;

    /// Bytes of the shortest header: four counts of nothing, then the check.
    pub const LEAST_BYTES: u32 = 96;

    /// Appends the encoded header.
    ///
    /// # Errors
    /// [`FormatError`] where the header breaks a rule or a limit of the format.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FormatError> {
        self.check()?;
        let mut body = Vec::new();
        put_u32(&mut body, self.recipe.predictor_parameters.len());
        body.extend_from_slice(&self.recipe.predictor_parameters);
        put_u32(&mut body, self.recipe.coding_parameters.len());
        body.extend_from_slice(&self.recipe.coding_parameters);
        put_u32(&mut body, self.recipe.side.len());
        for side in &self.recipe.side {
            body.extend_from_slice(side.as_bytes());
        }
        put_u32(&mut body, self.recipe.sources.len());
        for view in &self.recipe.sources {
            put_u32(&mut body, view.parts.len());
            for part in &view.parts {
                body.extend_from_slice(part.chunk.as_bytes());
                body.extend_from_slice(&part.start.to_le_bytes());
                body.extend_from_slice(&part.bytes.to_le_bytes());
            }
        }
        let header_bytes = Self::FIXED_BYTES
            .saturating_add(body.len())
            .saturating_add(8);
        if u64_of(header_bytes) > limits::RECORD_HEADER_BYTES_MAX.into() {
            return Err(FormatError::TooLarge {
                field: "record header",
                value: u64_of(header_bytes),
                max: limits::RECORD_HEADER_BYTES_MAX.into(),
            });
        }
        let mut header = Vec::with_capacity(header_bytes);
        header.extend_from_slice(&RECORD_MAGIC);
        put_u32(&mut header, header_bytes);
        header.extend_from_slice(&[
            self.kind.number(),
            self.recipe.predictor.number(),
            self.recipe.coding.number(),
            self.recipe.depth,
            0,
            0,
            0,
            0,
        ]);
        header.extend_from_slice(self.id.as_bytes());
        header.extend_from_slice(&self.plain_bytes.to_le_bytes());
        header.extend_from_slice(&self.stored_bytes.to_le_bytes());
        header.extend_from_slice(&self.stored_check);
        header.extend_from_slice(&body);
        let check = check_of(&header);
        out.extend_from_slice(&header);
        out.extend_from_slice(&check);
        Ok(())
    }

    /// The length of a header whose first eight bytes are at hand.
    ///
    /// # Errors
    /// [`FormatError`] where no record starts here or the length is beyond the limit.
    pub fn length(start: &[u8]) -> Result<usize, FormatError> {
        let mut reader = Reader::new(start, "record header");
        if reader.array::<4>()? != RECORD_MAGIC {
            return Err(FormatError::Invalid {
                rule: "a record starts with its magic",
            });
        }
        let bytes = reader.u32()?;
        if bytes > limits::RECORD_HEADER_BYTES_MAX {
            let max = limits::RECORD_HEADER_BYTES_MAX.into();
            return Err(FormatError::TooLarge {
                field: "record header",
                value: bytes.into(),
                max,
            });
        }
        if bytes < Self::LEAST_BYTES {
            return Err(FormatError::Truncated {
                what: "record header",
            });
        }
        usize_of(bytes.into())
    }

    /// Reads a header from exactly its bytes.
    ///
    /// # Errors
    /// [`FormatError`] where the bytes are damaged or break a rule or limit.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        if Self::length(bytes)? != bytes.len() {
            return Err(FormatError::Truncated {
                what: "record header",
            });
        }
        let (covered, check) = bytes
            .split_last_chunk::<8>()
            .ok_or(FormatError::Truncated {
                what: "record header",
            })?;
        if check_of(covered) != *check {
            return Err(FormatError::Checksum {
                what: "record header",
            });
        }
        let mut reader = Reader::new(covered, "record header");
        reader.take(8)?;
        let kind = Kind::from_number(reader.u8()?)?;
        let predictor = Predictor::from_number(reader.u8()?)?;
        let coding = Coding::from_number(reader.u8()?)?;
        let depth = reader.u8()?;
        if reader.array::<4>()? != [0; 4] {
            return Err(FormatError::Invalid {
                rule: "reserved bytes of a record are zero",
            });
        }
        let id = RecordId::from_bytes(reader.array()?);
        let plain_bytes = reader.u64()?;
        let stored_bytes = reader.u64()?;
        let stored_check = reader.array()?;
        let recipe = Recipe {
            predictor,
            predictor_parameters: reader
                .bytes("predictor parameters", limits::RECORD_HEADER_BYTES_MAX)?
                .to_vec(),
            coding,
            coding_parameters: reader
                .bytes("coding parameters", limits::RECORD_HEADER_BYTES_MAX)?
                .to_vec(),
            side: read_side(&mut reader)?,
            sources: read_sources(&mut reader)?,
            depth,
        };
        reader.finish()?;
        let header = Self {
            kind,
            id,
            recipe,
            plain_bytes,
            stored_bytes,
            stored_check,
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), FormatError> {
        let sizes = [
            (
                "plain bytes of a record",
                self.plain_bytes,
                limits::CHUNK_BYTES_MAX,
            ),
            (
                "stored bytes of a record",
                self.stored_bytes,
                limits::STORED_BYTES_MAX,
            ),
        ];
        for (field, value, max) in sizes {
            if value > max {
                return Err(FormatError::TooLarge { field, value, max });
            }
        }
        let stored = match self.recipe.coding {
            Coding::Stored => self.stored_bytes == self.plain_bytes,
            Coding::Exact => self.stored_bytes == 0,
            Coding::Zstd
            | Coding::Planes
            | Coding::Difference
            | Coding::Residual
            | Coding::Weights => true,
        };
        if self.plain_bytes == 0 || !stored {
            return Err(FormatError::Invalid {
                rule: "a record has plain bytes, and as many stored ones as its coding says",
            });
        }
        if self
            .recipe
            .needs()
            .iter()
            .any(|need| *need.as_bytes() == *self.id.as_bytes())
        {
            return Err(FormatError::Invalid {
                rule: "a record does not need itself",
            });
        }
        if self.kind != Kind::Chunk && self.recipe.predictor != Predictor::None {
            return Err(FormatError::Invalid {
                rule: "only chunks are predicted",
            });
        }
        self.recipe.check()
    }
}

fn read_side(reader: &mut Reader<'_>) -> Result<Vec<ChunkId>, FormatError> {
    let count = reader.u32()?;
    if count > limits::SIDE_MAX {
        let max = limits::SIDE_MAX.into();
        return Err(FormatError::TooLarge {
            field: "side chunks",
            value: count.into(),
            max,
        });
    }
    (0..count)
        .map(|_| reader.array().map(ChunkId::from_bytes))
        .collect()
}

fn read_sources(reader: &mut Reader<'_>) -> Result<Vec<View>, FormatError> {
    let count = reader.u32()?;
    if count > limits::SOURCES_MAX {
        let max = limits::SOURCES_MAX.into();
        return Err(FormatError::TooLarge {
            field: "sources",
            value: count.into(),
            max,
        });
    }
    let mut views = Vec::new();
    for _ in 0..count {
        let parts = reader.u32()?;
        // A part takes 48 bytes, so what is left bounds the count before anything is allocated.
        if usize_of(parts.into())? > reader.left() / 48 {
            return Err(FormatError::Truncated {
                what: "record header",
            });
        }
        let mut view = View::default();
        for _ in 0..parts {
            view.parts.push(Part {
                chunk: ChunkId::from_bytes(reader.array()?),
                start: reader.u64()?,
                bytes: reader.u64()?,
            });
        }
        views.push(view);
    }
    Ok(views)
}

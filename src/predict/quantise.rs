//! Quantise: few bits an element with a scale, by the rules of the common tools.
//!
//! May use: `store_format`. Must never fuse a multiplication with an addition.

mod blocks;
mod k_quants;
mod lanes;

use store_format::FormatError;
use store_format::dtype::DType;

use super::wire::{Reader, unknown};
use super::{BLOCK, Shape, SourceRange, float, invalid, widen_at};

/// How a quotient becomes a whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest, of two to the even one (torch, numpy, ONNX).
    HalfEven,
    /// To the nearest, of two to the one farther from 0 (C's `roundf`, Rust's `round`).
    HalfAway,
}

/// How an element meets its scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// `w / scale`.
    Divide,
    /// `w * (1 / scale)`, the reciprocal rounded first.
    Reciprocal,
}

/// Where the scale of an 8-bit element comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// `largest magnitude of the row / 127`.
    OfRow,
    /// One for the whole tensor.
    Whole(f32),
    /// Element `row` of one more source, an F32 vector.
    ByRow,
    /// Element `column` of one more source, an F32 vector.
    ByColumn,
}

/// How elements lose their bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quantise {
    /// As ggml's reference code fills the blocks of the target's type.
    Ggml,
    /// `clamp(round(w / scale), -127, 127)` as I8.
    Int8 {
        /// How the quotient is rounded.
        rounding: Rounding,
        /// How it is formed.
        meeting: Meeting,
        /// What it is divided by.
        scale: Scale,
    },
}

impl Quantise {
    /// The rules that may have made a tensor of this type, the likeliest first; an encoder tries
    /// each on one block of rows.
    #[must_use]
    pub fn candidates(target: DType) -> Vec<Self> {
        if blocks::filler(target).is_some() {
            return vec![Self::Ggml];
        }
        if target != DType::I8 {
            return Vec::new();
        }
        let mut all = Vec::new();
        for meeting in [Meeting::Divide, Meeting::Reciprocal] {
            for rounding in [Rounding::HalfEven, Rounding::HalfAway] {
                all.push(Self::Int8 {
                    rounding,
                    meeting,
                    scale: Scale::OfRow,
                });
            }
        }
        all
    }

    /// Whether a range needs the whole rows that it touches.
    pub(super) fn needs_rows(&self) -> bool {
        matches!(
            self,
            Self::Int8 {
                scale: Scale::OfRow,
                ..
            }
        )
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ggml => out.push(0),
            Self::Int8 {
                rounding,
                meeting,
                scale,
            } => {
                let rounding = match rounding {
                    Rounding::HalfEven => 0,
                    Rounding::HalfAway => 1,
                };
                let meeting = match meeting {
                    Meeting::Divide => 0,
                    Meeting::Reciprocal => 1,
                };
                let number = match scale {
                    Scale::OfRow => 0,
                    Scale::Whole(_) => 1,
                    Scale::ByRow => 2,
                    Scale::ByColumn => 3,
                };
                out.extend([1, rounding, meeting, number]);
                if let Scale::Whole(scale) = scale {
                    out.extend(scale.to_le_bytes());
                }
            }
        }
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, FormatError> {
        match reader.byte()? {
            0 => return Ok(Self::Ggml),
            1 => {}
            value => return unknown("rule of a quantisation", value),
        }
        let rounding = match reader.byte()? {
            0 => Rounding::HalfEven,
            1 => Rounding::HalfAway,
            value => return unknown("rounding", value),
        };
        let meeting = match reader.byte()? {
            0 => Meeting::Divide,
            1 => Meeting::Reciprocal,
            value => return unknown("use of a scale", value),
        };
        let scale = match reader.byte()? {
            0 => Scale::OfRow,
            1 => Scale::Whole(reader.f32()?),
            2 => Scale::ByRow,
            3 => Scale::ByColumn,
            value => return unknown("source of a scale", value),
        };
        Ok(Self::Int8 {
            rounding,
            meeting,
            scale,
        })
    }

    pub(super) fn check(
        &self,
        base: &Shape,
        target: &Shape,
        extra: &[Shape],
    ) -> Result<(), FormatError> {
        if !float::is_computable(base.dtype) {
            return invalid("what is quantised are float elements");
        }
        let wanted = match self {
            Self::Ggml if blocks::filler(target.dtype).is_none() => {
                return invalid("the target is of a block type that is defined here");
            }
            Self::Int8 { .. } if target.dtype != DType::I8 => {
                return invalid("elements of 8 bits are of type I8");
            }
            Self::Int8 {
                scale: Scale::Whole(scale),
                ..
            } if !scale.is_finite() => {
                return invalid("a parameter of a predictor is finite");
            }
            Self::Int8 {
                scale: Scale::ByRow,
                ..
            } => Some(target.rows),
            Self::Int8 {
                scale: Scale::ByColumn,
                ..
            } => Some(target.cols),
            Self::Ggml | Self::Int8 { .. } => None,
        };
        let fits = match (wanted, extra) {
            (None, []) => true,
            (Some(elements), [scales]) => {
                scales.dtype == DType::F32 && scales.elements() == elements
            }
            _ => false,
        };
        if fits {
            Ok(())
        } else {
            invalid("the scales are one F32 vector along the target")
        }
    }

    pub(super) fn ranges(
        &self,
        target: &Shape,
        extra: &[Shape],
        at: usize,
        first: u64,
        count: u64,
    ) -> Result<Option<SourceRange>, FormatError> {
        let Self::Int8 { scale, .. } = self else {
            return Ok(None);
        };
        let (from, until) = match scale {
            Scale::OfRow | Scale::Whole(_) => return Ok(None),
            Scale::ByRow if count > 0 => {
                (first / target.cols, (first + count - 1) / target.cols + 1)
            }
            Scale::ByColumn if count > 0 => (0, target.cols),
            Scale::ByRow | Scale::ByColumn => (0, 0),
        };
        let (start, bytes) = extra[0].span(from, until - from)?;
        Ok(Some(SourceRange {
            source: at,
            start,
            bytes,
        }))
    }

    /// Fills `out`; its elements begin `skipped` elements after those of `base`, and at element
    /// `first` of the tensor.
    #[expect(
        clippy::too_many_arguments,
        reason = "the range, its base and its scales"
    )]
    pub(super) fn fill(
        &self,
        base: &Shape,
        target: DType,
        skipped: u64,
        first: u64,
        bytes: &[u8],
        extra: &[&[u8]],
        out: &mut [u8],
    ) -> Result<(), FormatError> {
        match self {
            Self::Ggml => blocks::fill(base.dtype, target, bytes, out),
            Self::Int8 {
                rounding,
                meeting,
                scale,
            } => {
                let rule = Rule {
                    rounding: *rounding,
                    meeting: *meeting,
                };
                let cols = base.cols as usize;
                let mut scales = Vec::new();
                if let &[part] = extra {
                    scales.resize(part.len() / 4, 0.0);
                    widen_at(DType::F32, part, 0, &mut scales)?;
                }
                let mut values = [0.0; BLOCK];
                let (mut done, skipped) = (0, skipped as usize);
                let column = (first % base.cols.max(1)) as usize;
                let mut row_scale = (usize::MAX, 0.0);
                while done < out.len() {
                    let (row, col) = ((column + done) / cols, (column + done) % cols);
                    let n = BLOCK.min(cols - col).min(out.len() - done);
                    let values = &mut values[..n];
                    widen_at(base.dtype, bytes, skipped + done, values)?;
                    let out = &mut out[done..done + n];
                    match scale {
                        Scale::OfRow => {
                            if row_scale.0 != row {
                                row_scale =
                                    (row, scale_of_row(base.dtype, bytes, row * cols, cols)?);
                            }
                            rule.one(values, row_scale.1, out);
                        }
                        Scale::Whole(scale) => rule.one(values, *scale, out),
                        Scale::ByRow => rule.one(values, scales[row], out),
                        Scale::ByColumn => rule.each(values, &scales[col..col + n], out),
                    }
                    done += n;
                }
                Ok(())
            }
        }
    }
}

/// The largest magnitude of a row, divided by 127. NaNs count as 0.
fn scale_of_row(dtype: DType, bytes: &[u8], first: usize, cols: usize) -> Result<f32, FormatError> {
    let mut largest = 0.0f32;
    let mut values = [0.0; BLOCK];
    for at in (0..cols).step_by(BLOCK) {
        let values = &mut values[..BLOCK.min(cols - at)];
        widen_at(dtype, bytes, first + at, values)?;
        for value in &*values {
            let magnitude = value.abs();
            if magnitude > largest {
                largest = magnitude;
            }
        }
    }
    Ok(largest / 127.0)
}

#[derive(Clone, Copy)]
struct Rule {
    rounding: Rounding,
    meeting: Meeting,
}

impl Rule {
    fn one(self, values: &[f32], scale: f32, out: &mut [u8]) {
        for (to, &value) in out.iter_mut().zip(values) {
            *to = self.element(value, scale, 1.0 / scale);
        }
    }

    fn each(self, values: &[f32], scales: &[f32], out: &mut [u8]) {
        for ((to, &value), &scale) in out.iter_mut().zip(values).zip(scales) {
            *to = self.element(value, scale, 1.0 / scale);
        }
    }

    /// The byte of an element; what is not a number becomes 0.
    fn element(self, value: f32, scale: f32, reciprocal: f32) -> u8 {
        let quotient = match self.meeting {
            Meeting::Divide => value / scale,
            Meeting::Reciprocal => value * reciprocal,
        };
        let rounded = match self.rounding {
            Rounding::HalfEven => round_half_even(quotient),
            Rounding::HalfAway => round_half_away(quotient),
        };
        (rounded.clamp(-127, 127) as i8).cast_unsigned()
    }
}

/// Between -256 and 256; NaN is 0.
fn held(x: f32) -> f32 {
    if x.is_nan() {
        0.0
    } else {
        x.clamp(-256.0, 256.0)
    }
}

/// Of two nearest whole numbers the one farther from 0. Without the library's `round`, which is
/// a call on some machines.
#[inline]
fn round_half_away(x: f32) -> i32 {
    let x = held(x);
    let whole = x as i32;
    // Exact: both have the same exponent or the difference is small.
    let rest = x - whole as f32;
    whole + i32::from(rest >= 0.5) - i32::from(rest <= -0.5)
}

/// Of two nearest whole numbers the even one.
#[inline]
fn round_half_even(x: f32) -> i32 {
    ((held(x) + 12_582_912.0) - 12_582_912.0) as i32
}

#[cfg(test)]
mod tests {
    use super::super::{Recipe, Step};
    use super::*;

    fn shape(dtype: DType, rows: u64, cols: u64) -> Shape {
        Shape { dtype, rows, cols }
    }

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn predict(recipe: &Recipe, sources: &[Vec<u8>], first: u64, count: u64) -> Vec<i8> {
        assert_eq!(Recipe::parse(&recipe.to_bytes()).as_ref(), Ok(recipe));
        let ranges = recipe.sources(first, count).unwrap();
        let parts: Vec<&[u8]> = ranges
            .iter()
            .map(|r| &sources[r.source][r.start as usize..][..r.bytes as usize])
            .collect();
        let mut out = vec![0; count as usize];
        recipe.predict(first, &parts, &mut out).unwrap();
        out.into_iter().map(u8::cast_signed).collect()
    }

    fn int8(rounding: Rounding, scale: Scale) -> Step {
        Step::Quantise(Quantise::Int8 {
            rounding,
            meeting: Meeting::Divide,
            scale,
        })
    }

    #[test]
    fn a_row_is_scaled_by_its_largest_magnitude_in_any_range() {
        let base = [
            127.0,
            0.5,
            1.5,
            2.5,
            -0.5,
            -1.5,
            254.0,
            1.0,
            3.0,
            -254.0,
            -3.0,
            f32::NAN,
        ];
        let new = |rounding| {
            let (target, source) = (shape(DType::I8, 2, 6), shape(DType::F32, 2, 6));
            Recipe::new(target, vec![source], None, int8(rounding, Scale::OfRow)).unwrap()
        };
        let away = [127, 1, 2, 3, -1, -2, 127, 1, 2, -127, -2, 0];
        let even = [127, 0, 2, 2, 0, -2, 127, 0, 2, -127, -2, 0];
        for (rounding, want) in [(Rounding::HalfAway, away), (Rounding::HalfEven, even)] {
            for first in 0..12 {
                for end in first..=12 {
                    let got = predict(
                        &new(rounding),
                        &[bytes(&base)],
                        first as u64,
                        (end - first) as u64,
                    );
                    assert_eq!(got, want[first..end]);
                }
            }
        }
    }

    #[test]
    fn scales_may_be_given() {
        let base = bytes(&[1.0, 2.0, 3.0, 400.0, -400.0, 6.0]);
        let (target, source) = (shape(DType::I8, 2, 3), shape(DType::F32, 2, 3));
        let new = |scale, extra: &[Shape]| {
            let mut sources = vec![source];
            sources.extend(extra);
            Recipe::new(target, sources, None, int8(Rounding::HalfEven, scale))
        };
        let whole = new(Scale::Whole(1.0), &[]).unwrap();
        assert_eq!(
            predict(&whole, std::slice::from_ref(&base), 1, 5),
            [2, 3, 127, -127, 6]
        );
        let rows = new(Scale::ByRow, &[shape(DType::F32, 1, 2)]).unwrap();
        let sources = [base.clone(), bytes(&[1.0, 100.0])];
        assert_eq!(predict(&rows, &sources, 0, 6), [1, 2, 3, 4, -4, 0]);
        assert_eq!(predict(&rows, &sources, 4, 1), [-4]);
        let columns = new(Scale::ByColumn, &[shape(DType::F32, 3, 1)]).unwrap();
        let sources = [base, bytes(&[1.0, 0.0, 2.0])];
        assert_eq!(predict(&columns, &sources, 2, 4), [2, 127, -127, 3]);
        assert!(new(Scale::ByRow, &[shape(DType::F32, 1, 3)]).is_err());
        assert!(new(Scale::ByRow, &[]).is_err());
        assert!(new(Scale::Whole(f32::NAN), &[]).is_err());
        assert!(new(Scale::OfRow, &[source]).is_err());
    }

    #[test]
    fn a_row_of_zeros_is_a_row_of_zeros() {
        let (target, source) = (shape(DType::I8, 1, 2), shape(DType::F32, 1, 2));
        let recipe = Recipe::new(
            target,
            vec![source],
            None,
            int8(Rounding::HalfEven, Scale::OfRow),
        )
        .unwrap();
        assert_eq!(predict(&recipe, &[bytes(&[0.0, -0.0])], 0, 2), [0, 0]);
    }

    #[test]
    fn rounding_by_hand_is_rounding_by_library() {
        for i in -300_000i32..300_000 {
            let x = i as f32 / 1024.0;
            assert_eq!(round_half_away(x), x.clamp(-256.0, 256.0).round() as i32);
            assert_eq!(
                round_half_even(x),
                x.clamp(-256.0, 256.0).round_ties_even() as i32
            );
        }
        assert_eq!(round_half_away(0.499_999_97), 0);
        assert_eq!(
            (round_half_away(f32::NAN), round_half_even(f32::NAN)),
            (0, 0)
        );
    }

    #[test]
    fn every_type_has_its_rules() {
        assert_eq!(Quantise::candidates(DType::I8).len(), 4);
        assert_eq!(Quantise::candidates(DType::Q4K), [Quantise::Ggml]);
        assert_eq!(Quantise::candidates(DType::Iq1S), []);
    }
}

//! The product of a row of the left factor with columns of the right one, in whole numbers.
//!
//! May use: nothing. Must never give another sum than the scalar form.
#![allow(
    unsafe_code,
    reason = "vector loads and stores; each slice is checked against its use before"
)]
#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(
        dead_code,
        reason = "arranged for vector code that other machines lack"
    )
)]

/// The right factor, arranged for the machine.
pub(super) struct Right<'a> {
    b: &'a [i8],
    cols: usize,
    /// For machines with AVX2: four components of a column together.
    packed: Option<Packed>,
}

impl<'a> Right<'a> {
    /// `b` holds `rank` rows of `cols` entries between -63 and 63.
    pub(super) fn new(b: &'a [i8], rank: usize, cols: usize) -> Self {
        let packed = avx2::usable().then(|| Packed::new(b, rank, cols));
        Self { b, cols, packed }
    }

    /// The sums over k of `row[k] * b(k, col + j)` for every j of `out`.
    pub(super) fn dots(&self, row: &[i8], col: usize, out: &mut [i32]) {
        match &self.packed {
            Some(packed) => avx2::dots(packed, row, col, out),
            None => scalar(row, self.b, self.cols, col, out),
        }
    }
}

/// The sums one component after another: the meaning of the fast form.
fn scalar(row: &[i8], b: &[i8], cols: usize, col: usize, out: &mut [i32]) {
    out.fill(0);
    for (k, &entry) in row.iter().enumerate() {
        let factor = i32::from(entry);
        for (sum, &x) in out.iter_mut().zip(&b[k * cols + col..]) {
            *sum += factor * i32::from(x);
        }
    }
}

/// Entries of the right factor in words of four components, 0 where there are no more; and what
/// a sum begins with, so that the left entries may be counted from -64.
struct Packed {
    /// `groups` rows of a word for each column; an even number of them.
    words: Vec<[i8; 4]>,
    begin: Vec<i32>,
    groups: usize,
    cols: usize,
}

impl Packed {
    fn new(b: &[i8], rank: usize, cols: usize) -> Self {
        let groups = rank.div_ceil(8) * 2;
        let mut words = vec![[0; 4]; groups * cols];
        let mut begin = vec![0; cols];
        for (k, row) in b.chunks_exact(cols.max(1)).enumerate() {
            let words = &mut words[k / 4 * cols..][..cols];
            for ((word, begin), &entry) in words.iter_mut().zip(&mut begin).zip(row) {
                word[k % 4] = entry;
                *begin -= 64 * i32::from(entry);
            }
        }
        Self {
            words,
            begin,
            groups,
            cols,
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::Packed;
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi16, _mm256_add_epi32, _mm256_loadu_si256, _mm256_madd_epi16,
        _mm256_maddubs_epi16, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_storeu_si256,
    };

    pub(super) fn usable() -> bool {
        std::is_x86_feature_detected!("avx2")
    }

    pub(super) fn dots(packed: &Packed, row: &[i8], col: usize, out: &mut [i32]) {
        // Left entries plus 64, in words of four; those beyond the rank meet zeros.
        let mut left = [64u8; 64];
        for (to, &entry) in left.iter_mut().zip(row) {
            *to = entry.wrapping_add(64).cast_unsigned();
        }
        let mut words = [0i32; 16];
        for (word, &bytes) in words.iter_mut().zip(left.as_chunks::<4>().0) {
            *word = i32::from_le_bytes(bytes);
        }
        let done = if usable() {
            // SAFETY: the processor has AVX2.
            unsafe { whole_vectors(packed, &words, col, out) }
        } else {
            0
        };
        for (j, sum) in out.iter_mut().enumerate().skip(done) {
            let at = col + j;
            *sum = packed.begin[at];
            for (group, word) in left
                .as_chunks::<4>()
                .0
                .iter()
                .take(packed.groups)
                .enumerate()
            {
                let right = packed.words[group * packed.cols + at];
                for (&a, b) in word.iter().zip(right) {
                    *sum += i32::from(a) * i32::from(b);
                }
            }
        }
    }

    /// Fills whole vectors of eight sums from the front of `out`; says how many sums that is.
    ///
    /// Two products of at most 127 * 63 and their neighbours' stay below 2^15: 4 * 127 * 63 =
    /// 32,004, so nothing saturates.
    #[target_feature(enable = "avx2")]
    fn whole_vectors(packed: &Packed, left: &[i32; 16], col: usize, out: &mut [i32]) -> usize {
        let ones = _mm256_set1_epi16(1);
        let begin = &packed.begin[col..][..out.len()];
        let rows: [&[[i8; 4]]; 16] = std::array::from_fn(|group| match group < packed.groups {
            true => &packed.words[group * packed.cols + col..][..out.len()],
            false => &[][..],
        });
        let vectors = out.len() / 8;
        for v in 0..vectors {
            let at = v * 8;
            // SAFETY: `begin`, `out` and the first `groups` rows have at least `at + 8`
            // elements of four bytes.
            unsafe {
                let mut sum = _mm256_loadu_si256(begin.as_ptr().add(at).cast::<__m256i>());
                for group in (0..packed.groups).step_by(2) {
                    let first = _mm256_loadu_si256(rows[group].as_ptr().add(at).cast());
                    let second = _mm256_loadu_si256(rows[group + 1].as_ptr().add(at).cast());
                    let first = _mm256_maddubs_epi16(_mm256_set1_epi32(left[group]), first);
                    let second = _mm256_maddubs_epi16(_mm256_set1_epi32(left[group + 1]), second);
                    let both = _mm256_madd_epi16(_mm256_add_epi16(first, second), ones);
                    sum = _mm256_add_epi32(sum, both);
                }
                _mm256_storeu_si256(out.as_mut_ptr().add(at).cast::<__m256i>(), sum);
            }
        }
        vectors * 8
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod avx2 {
    use super::Packed;

    pub(super) fn usable() -> bool {
        false
    }

    pub(super) fn dots(_: &Packed, _: &[i8], _: usize, _: &mut [i32]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_sums_are_the_plain_sums() {
        let mut state = 3u32;
        let mut entry = |extreme: bool| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            match (extreme, state >> 31) {
                (true, 0) => -63,
                (true, _) => 63,
                (false, _) => ((state >> 16) % 127) as i8 - 63,
            }
        };
        for rank in 1..=64 {
            for extreme in [false, true] {
                let cols = 37;
                let b: Vec<i8> = (0..rank * cols).map(|_| entry(extreme)).collect();
                let row: Vec<i8> = (0..rank).map(|_| entry(extreme)).collect();
                let right = Right::new(&b, rank, cols);
                for (col, n) in [(0, 37), (5, 32), (30, 7), (37, 0)] {
                    let (mut fast, mut plain) = (vec![1; n], vec![2; n]);
                    right.dots(&row, col, &mut fast);
                    scalar(&row, &b, cols, col, &mut plain);
                    assert_eq!(fast, plain, "rank {rank}");
                }
            }
        }
        let all = vec![63; 64 * 16];
        let mut sums = [0; 16];
        Right::new(&all, 64, 16).dots(&[63; 64], 0, &mut sums);
        assert_eq!(sums, [64 * 63 * 63; 16]);
        Right::new(&all, 64, 16).dots(&[-63; 64], 0, &mut sums);
        assert_eq!(sums, [-64 * 63 * 63; 16]);
    }
}

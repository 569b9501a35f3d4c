//! The products of rows of the left factor with columns of the right one, in whole numbers.
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

/// Rows that are best worked on together: what is loaded of the right factor serves them all.
pub(super) const TOGETHER: usize = 4;

/// The right factor, arranged for the machine.
pub(super) struct Right<'a> {
    b: &'a [i8],
    rank: usize,
    cols: usize,
    /// For machines with AVX2: four components of a column together.
    packed: Option<Packed>,
}

impl<'a> Right<'a> {
    /// `b` holds `rank` rows of `cols` entries between -63 and 63.
    pub(super) fn new(b: &'a [i8], rank: usize, cols: usize) -> Self {
        let packed = avx2::usable().then(|| Packed::new(b, rank, cols));
        Self {
            b,
            rank,
            cols,
            packed,
        }
    }

    /// For each of `rows`, of a rank's entries each, the sums over k of `row[k] * b(k, col + j)`
    /// for every j of its part of `out`.
    pub(super) fn dots(&self, rows: &[i8], col: usize, out: &mut [i32]) {
        let n = out.len() * self.rank / rows.len().max(1);
        let some = TOGETHER * self.rank;
        for (rows, out) in rows.chunks(some).zip(out.chunks_mut((TOGETHER * n).max(1))) {
            match &self.packed {
                Some(packed) if rows.len() == some => {
                    avx2::dots::<TOGETHER>(packed, rows, col, out);
                }
                packed => {
                    let rows = rows.chunks_exact(self.rank);
                    for (row, out) in rows.zip(out.chunks_exact_mut(n.max(1))) {
                        match packed {
                            Some(packed) => avx2::dots::<1>(packed, row, col, out),
                            None => scalar(row, self.b, self.cols, col, out),
                        }
                    }
                }
            }
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

    /// The sums of `N` rows.
    pub(super) fn dots<const N: usize>(packed: &Packed, rows: &[i8], col: usize, out: &mut [i32]) {
        let n = out.len() / N;
        // Left entries plus 64, in words of four; those beyond the rank meet zeros.
        let mut left = [[64u8; 64]; N];
        let mut words = [[0i32; 16]; N];
        for ((left, words), row) in left
            .iter_mut()
            .zip(&mut words)
            .zip(rows.chunks_exact(rows.len() / N))
        {
            for (to, &entry) in left.iter_mut().zip(row) {
                *to = entry.wrapping_add(64).cast_unsigned();
            }
            for (word, &bytes) in words.iter_mut().zip(left.as_chunks::<4>().0) {
                *word = i32::from_le_bytes(bytes);
            }
        }
        let done = if usable() {
            // SAFETY: the processor has AVX2.
            unsafe { whole_vectors(packed, &words, col, n, out) }
        } else {
            0
        };
        for (left, out) in left.iter().zip(out.chunks_exact_mut(n.max(1))) {
            for (j, sum) in out.iter_mut().enumerate().skip(done) {
                *sum = one(packed, left, col + j);
            }
        }
    }

    /// The sum of one row and column.
    fn one(packed: &Packed, left: &[u8; 64], at: usize) -> i32 {
        let words = left.as_chunks::<4>().0.iter().take(packed.groups);
        let products = words.enumerate().flat_map(|(group, word)| {
            let right = packed.words[group * packed.cols + at];
            word.iter()
                .zip(right)
                .map(|(&a, b)| i32::from(a) * i32::from(b))
        });
        packed.begin[at] + products.sum::<i32>()
    }

    /// Fills whole vectors of eight sums from the front of each of `N` rows of `n`; says how many
    /// sums of a row that is.
    ///
    /// Two products of at most 127 * 63 and their neighbours' stay below 2^15: 4 * 127 * 63 =
    /// 32,004, so nothing saturates.
    #[target_feature(enable = "avx2")]
    fn whole_vectors<const N: usize>(
        packed: &Packed,
        left: &[[i32; 16]; N],
        col: usize,
        n: usize,
        out: &mut [i32],
    ) -> usize {
        let ones = _mm256_set1_epi16(1);
        let out = &mut out[..N * n];
        let begin = &packed.begin[col..][..n];
        let rows: [&[[i8; 4]]; 16] = std::array::from_fn(|group| match group < packed.groups {
            true => &packed.words[group * packed.cols + col..][..n],
            false => &[][..],
        });
        let vectors = n / 8;
        for v in 0..vectors {
            let at = v * 8;
            // SAFETY: `begin`, the first `groups` rows and each of the `N` parts of `out` have at
            // least `at + 8` elements of four bytes.
            unsafe {
                let begin = _mm256_loadu_si256(begin.as_ptr().add(at).cast::<__m256i>());
                let mut sums = [begin; N];
                for group in (0..packed.groups).step_by(2) {
                    let first = _mm256_loadu_si256(rows[group].as_ptr().add(at).cast());
                    let second = _mm256_loadu_si256(rows[group + 1].as_ptr().add(at).cast());
                    for (sum, left) in sums.iter_mut().zip(left) {
                        let first = _mm256_maddubs_epi16(_mm256_set1_epi32(left[group]), first);
                        let second =
                            _mm256_maddubs_epi16(_mm256_set1_epi32(left[group + 1]), second);
                        let both = _mm256_madd_epi16(_mm256_add_epi16(first, second), ones);
                        *sum = _mm256_add_epi32(*sum, both);
                    }
                }
                for (row, sum) in sums.iter().enumerate() {
                    let place = out.as_mut_ptr().add(row * n + at);
                    _mm256_storeu_si256(place.cast::<__m256i>(), *sum);
                }
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

    pub(super) fn dots<const N: usize>(_: &Packed, _: &[i8], _: usize, _: &mut [i32]) {}
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
                let right = Right::new(&b, rank, cols);
                for count in [1, 3, 4, 9] {
                    let rows: Vec<i8> = (0..count * rank).map(|_| entry(extreme)).collect();
                    for (col, n) in [(0, 37), (5, 32), (30, 7), (37, 0)] {
                        let (mut fast, mut plain) = (vec![1; count * n], vec![2; count * n]);
                        right.dots(&rows, col, &mut fast);
                        let parts = plain.chunks_exact_mut(n.max(1));
                        for (row, part) in rows.chunks_exact(rank).zip(parts) {
                            scalar(row, &b, cols, col, part);
                        }
                        assert_eq!(fast, plain, "rank {rank}");
                    }
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

//! Files without structure: text or not.
//!
//! May use: `bytes`, `error`. Must never look further than the first window.

use crate::bytes::ReadAt;
use crate::error::Result;

/// The kind of a file is decided on this many first bytes.
const WINDOW_BYTES: u64 = 64 << 10;

/// The first bytes of a file.
pub(super) fn window(file: &dyn ReadAt) -> Result<Vec<u8>> {
    let bytes = file.len().min(WINDOW_BYTES);
    file.read_vec(0, usize::try_from(bytes).unwrap_or(0))
}

/// Whether a file begins as UTF-8 text. A NUL byte is never text, and a letter may be cut off at
/// the end of the window.
pub(super) fn is_text(window: &[u8], file_bytes: u64) -> bool {
    if window.is_empty() || window.contains(&0) {
        return false;
    }
    match std::str::from_utf8(window) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none() && (window.len() as u64) < file_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_cut_off_by_the_window_is_text_and_one_cut_off_by_the_file_is_not() {
        let text = "aé".as_bytes();
        assert!(is_text(text, 3));
        assert!(is_text(&text[..2], 3));
        assert!(!is_text(&text[..2], 2));
        assert!(!is_text(b"\xff", 9));
        assert!(!is_text(b"a\0", 2));
        assert!(!is_text(b"", 0));
    }
}

//! The door of zstd: frames with a known size, and nothing else.
//!
//! May use: `store_format`. Must never decode more bytes than the caller expects.

use store_format::FormatError;

/// Largest window a frame may ask for: bounds the memory of a decoder that keeps one.
const WINDOW_BYTES_MAX: u64 = 1 << 27;

/// One frame that holds `plain`, its size in the frame's header.
#[must_use]
pub fn encode(plain: &[u8], level: i32) -> Vec<u8> {
    let mut out = Vec::with_capacity(zstd::zstd_safe::compress_bound(plain.len()));
    match zstd::zstd_safe::compress(&mut out, plain, level) {
        Ok(_) => out,
        // Only a buffer below the bound or a failed allocation can end here; `plain` in raw
        // blocks is a valid frame too, but none is made by hand: the caller compares sizes, so
        // a result longer than anything loses.
        Err(_) => vec![0; plain.len() + plain.len() / 2 + 1024],
    }
}

/// The `plain_bytes` bytes of one frame.
///
/// # Errors
/// [`FormatError`] where the frame is damaged or holds another number of bytes.
pub fn decode(frame: &[u8], plain_bytes: usize) -> Result<Vec<u8>, FormatError> {
    const RULE: FormatError = FormatError::Invalid {
        rule: "a zstd frame holds the bytes that its record says",
    };
    let size = zstd::zstd_safe::get_frame_content_size(frame).map_err(|_| RULE)?;
    let whole = zstd::zstd_safe::find_frame_compressed_size(frame).map_err(|_| RULE)?;
    if size != u64::try_from(plain_bytes).ok() || whole != frame.len() {
        return Err(RULE);
    }
    if window_bytes(frame).is_some_and(|bytes| bytes > WINDOW_BYTES_MAX) {
        return Err(FormatError::Invalid {
            rule: "a zstd frame's window is at most 2^27 bytes",
        });
    }
    let mut plain = Vec::with_capacity(plain_bytes);
    zstd::zstd_safe::decompress(&mut plain, frame).map_err(|_| RULE)?;
    if plain.len() != plain_bytes {
        return Err(RULE);
    }
    Ok(plain)
}

/// The window that a frame's header asks for; none where the content itself is the window (RFC
/// 8878, 3.1.1.1). The library heeds a limit only where it decodes a stream.
fn window_bytes(frame: &[u8]) -> Option<u64> {
    const SINGLE_SEGMENT: u8 = 1 << 5;
    // The magic, the descriptor of the header, the descriptor of the window.
    let &[_, _, _, _, header, window, ..] = frame else {
        return None;
    };
    if header & SINGLE_SEGMENT != 0 {
        return None;
    }
    let base = 1u64 << (10 + (window >> 3));
    Some(base + base / 8 * u64::from(window & 7))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_beyond_the_limit_is_refused() {
        let plain = vec![7; 100_000];
        let frame = encode(&plain, 3);
        assert_eq!(decode(&frame, plain.len()).unwrap(), plain);
        // The same frame with a window of its own: flags without "single segment".
        let size = frame.iter().take(4 + 1 + 4).skip(5);
        let with = |window: u8| {
            let mut other = frame[..4].to_vec();
            other.push(frame[4] & !(1 << 5));
            other.push(window);
            other.extend(size.clone());
            other.extend_from_slice(&frame[9..]);
            other
        };
        assert_eq!(frame[4] >> 5, 0b101, "a size of 4 bytes, and no window");
        for (window, holds) in [(17 << 3, true), (17 << 3 | 1, false), (21 << 3, false)] {
            assert_eq!(decode(&with(window), plain.len()).is_ok(), holds);
        }
    }
}

//! The door of zstd: frames with a known size, and nothing else.
//!
//! May use: `store_format`. Must never decode more bytes than the caller expects.

use store_format::FormatError;

/// Largest window a frame may ask for: bounds the memory of a decoder.
const WINDOW_LOG_MAX: u32 = 27;

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
    let mut context = zstd::zstd_safe::DCtx::create();
    context
        .set_parameter(zstd::zstd_safe::DParameter::WindowLogMax(WINDOW_LOG_MAX))
        .map_err(|_| RULE)?;
    let mut plain = Vec::with_capacity(plain_bytes);
    context.decompress(&mut plain, frame).map_err(|_| RULE)?;
    if plain.len() != plain_bytes {
        return Err(RULE);
    }
    Ok(plain)
}

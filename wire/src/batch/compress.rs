//! Compression of a body: lz4 blocks and zstd frames, both into buffers of a size known before.

use super::BatchError;
use super::header::decompressed_bytes_allowed;

/// zstd's own default: whoever picks zstd over lz4 wants the ratio.
const ZSTD_LEVEL: i32 = 3;

/// How a batch's body is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all: records are read in place.
    #[default]
    None,
    /// One lz4 block, without a length before it and without a frame.
    Lz4,
    /// zstd.
    Zstd,
}

impl Compression {
    /// As it stands in the header.
    #[must_use]
    pub fn to_byte(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Lz4 => 1,
            Self::Zstd => 2,
        }
    }

    /// From the header.
    ///
    /// # Errors
    /// [`BatchError::CompressionUnsupported`] when the byte is none we know.
    pub fn from_byte(byte: u8) -> Result<Self, BatchError> {
        match byte {
            0 => Ok(Self::None),
            1 => Ok(Self::Lz4),
            2 => Ok(Self::Zstd),
            unknown => Err(BatchError::CompressionUnsupported(unknown)),
        }
    }
}

/// Compresses bodies into a buffer that it keeps.
#[derive(Default)]
pub(super) struct Compressor {
    buffer: Vec<u8>,
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl Compressor {
    /// The compressed body and how it in fact is compressed, or `None` when it is better left as it is: it would not
    /// shrink, or it would shrink further than a reader accepts.
    pub(super) fn compress(
        &mut self,
        body: &[u8],
        compression: Compression,
    ) -> Option<(Compression, &[u8])> {
        let (compression, bytes) = match compression {
            Compression::None => return None,
            Compression::Lz4 => (Compression::Lz4, self.lz4(body)?),
            Compression::Zstd => match self.zstd(body)? {
                bytes if readers_accept(body, bytes) => (Compression::Zstd, bytes),
                // zstd went beyond the ratio that readers accept. lz4 cannot, and does well on such a body.
                _ => (Compression::Lz4, self.lz4(body)?),
            },
        };
        let compressed = self.buffer.get(..bytes)?;
        (readers_accept(body, bytes) && bytes < body.len()).then_some((compression, compressed))
    }

    fn lz4(&mut self, body: &[u8]) -> Option<usize> {
        let bytes_max = lz4_flex::block::get_maximum_output_size(body.len());
        let buffer = grown(&mut self.buffer, bytes_max)?;
        lz4_flex::block::compress_into(body, buffer).ok()
    }

    fn zstd(&mut self, body: &[u8]) -> Option<usize> {
        let bytes_max = zstd::zstd_safe::compress_bound(body.len());
        let buffer = grown(&mut self.buffer, bytes_max)?;
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => none.insert(zstd::bulk::Compressor::new(ZSTD_LEVEL).ok()?),
        };
        zstd.compress_to_buffer(body, buffer).ok()
    }
}

fn readers_accept(body: &[u8], compressed_bytes: usize) -> bool {
    body.len() as u64 <= decompressed_bytes_allowed(compressed_bytes)
}

/// Decompresses bodies; holds zstd's context once one was needed.
#[derive(Default)]
pub(super) struct Decompressor {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl Decompressor {
    /// Fills the whole of `body`, or refuses.
    pub(super) fn decompress(
        &mut self,
        stored: &[u8],
        compression: Compression,
        body: &mut [u8],
    ) -> Result<(), BatchError> {
        const DAMAGED: BatchError = BatchError::Malformed("the compressed body is damaged");
        let filled = match compression {
            Compression::None => return Err(BatchError::Malformed("the body is not compressed")),
            Compression::Lz4 => {
                lz4_flex::block::decompress_into(stored, body).map_err(|_| DAMAGED)?
            }
            Compression::Zstd => {
                let zstd = match &mut self.zstd {
                    Some(zstd) => zstd,
                    // Fails only when memory does; the batch cannot be read then.
                    none => none.insert(zstd::bulk::Decompressor::new().map_err(|_| DAMAGED)?),
                };
                zstd.decompress_to_buffer(stored, body)
                    .map_err(|_| DAMAGED)?
            }
        };
        if filled != body.len() {
            return Err(BatchError::Malformed(
                "the body decompresses to another length than stated",
            ));
        }
        Ok(())
    }
}

/// The first `bytes` of `buffer`, grown when it was shorter. Never shrinks, so that nothing is zeroed twice.
pub(super) fn grown(buffer: &mut Vec<u8>, bytes: usize) -> Option<&mut [u8]> {
    if buffer.len() < bytes {
        // What was there is of no use: do not copy it over.
        if buffer.capacity() < bytes {
            *buffer = Vec::with_capacity(bytes);
        }
        buffer.resize(bytes, 0);
    }
    buffer.get_mut(..bytes)
}

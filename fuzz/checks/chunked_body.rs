//! Chunked bodies: no split changes the result, a walk with httparse finds the same
//! body, and what we write we read.

use procring::wire::http::chunked::{CHUNK_END, ChunkDecoder, ChunkError, LAST_CHUNK, chunk_head};

use super::split_point;

/// Small, so that the limit is reached.
const BODY_BYTES_MAX: u64 = 300;

/// Checks one input, as the bytes of a chunked body and as a body to send.
pub fn chunked_body(data: &[u8]) {
    let whole = feed(&[data]);
    let (front, back) = data.split_at(split_point(data));
    assert_eq!(feed(&[front, back]), whole);
    assert_eq!(feed(&data.chunks(1).collect::<Vec<_>>()), whole);
    if let Ok(Some((body, used))) = &whole {
        assert!(body.len() as u64 <= BODY_BYTES_MAX);
        assert_eq!(walk(data), Some((body.clone(), *used)));
    }

    let mut sent = Vec::new();
    let chunk_len = 1 + split_point(data);
    for chunk in data.chunks(chunk_len) {
        let mut head = [0; 18];
        let len = chunk_head(chunk.len(), &mut head);
        sent.extend_from_slice(&head[..len]);
        sent.extend_from_slice(chunk);
        sent.extend_from_slice(CHUNK_END);
    }
    sent.extend_from_slice(LAST_CHUNK);
    let mut body = Vec::new();
    let progress = ChunkDecoder::new(data.len() as u64).decode(&sent, &mut body);
    assert!(progress.is_ok_and(|progress| progress.done && progress.used == sent.len()));
    assert_eq!(body, data);
}

/// The body and the bytes used; `None` where it never ends.
fn feed(parts: &[&[u8]]) -> Result<Option<(Vec<u8>, usize)>, ChunkError> {
    let mut decoder = ChunkDecoder::new(BODY_BYTES_MAX);
    let mut body = Vec::new();
    let mut used = 0;
    for part in parts {
        let progress = decoder.decode(part, &mut body)?;
        used += progress.used;
        if progress.done {
            return Ok(Some((body, used)));
        }
        assert_eq!(progress.used, part.len());
    }
    Ok(None)
}

/// The same with the size and trailer parsers of httparse.
fn walk(data: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut body = Vec::new();
    let mut rest = data;
    loop {
        let Ok(httparse::Status::Complete((start, size))) = httparse::parse_chunk_size(rest) else {
            return None;
        };
        rest = &rest[start..];
        if size == 0 {
            break;
        }
        let size = usize::try_from(size).ok()?;
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
    let mut storage = [httparse::EMPTY_HEADER; 4096];
    match httparse::parse_headers(rest, &mut storage) {
        Ok(httparse::Status::Complete((len, _))) => Some((body, data.len() - rest.len() + len)),
        _ => None,
    }
}

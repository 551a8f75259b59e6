//! Where reading begins: `earliest`, `latest`, an offset, or a time.

use gannet_wire::frame::Start;
use gannet_wire::{Offset, Timestamp};

/// Reads a place as it is written on the command line.
pub(super) fn parse(text: &str) -> Result<Start, String> {
    match text {
        "earliest" => return Ok(Start::Earliest),
        "latest" => return Ok(Start::Latest),
        _ => {}
    }
    if let Some(time) = text.strip_prefix('@') {
        let time: jiff::Timestamp = time.parse().map_err(|_| {
            format!(
                "`{time}` is not a time: write it as RFC 3339 does, such as @2026-05-01T12:00:00Z"
            )
        })?;
        // No record is older than 1970, so an earlier time asks for all of them.
        return Ok(Start::Timestamp(Timestamp(time.as_millisecond().max(0))));
    }
    text.parse().map(|offset| Start::Offset(Offset(offset))).map_err(|_| {
        format!(
            "`{text}` is not a place to begin: write earliest, latest, an offset, or @ and a time such as @2026-05-01T12:00:00Z"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_word_an_offset_or_a_time() {
        assert_eq!(parse("earliest"), Ok(Start::Earliest));
        assert_eq!(parse("latest"), Ok(Start::Latest));
        assert_eq!(parse("42"), Ok(Start::Offset(Offset(42))));
        assert_eq!(
            parse("@1970-01-01T00:00:01.5Z"),
            Ok(Start::Timestamp(Timestamp(1_500)))
        );
        assert_eq!(
            parse("@1970-01-01T02:00:01+02:00"),
            Ok(Start::Timestamp(Timestamp(1_000)))
        );
    }

    #[test]
    fn a_time_before_1970_asks_for_everything() {
        assert_eq!(
            parse("@1969-12-31T23:59:59Z"),
            Ok(Start::Timestamp(Timestamp(0)))
        );
    }

    #[test]
    fn anything_else_is_refused_with_what_can_be_written() {
        for text in ["", "-1", "newest", "@yesterday", "@"] {
            let sentence = parse(text).expect_err(text);
            assert!(sentence.contains("2026-05-01T12:00:00Z"), "{sentence}");
        }
    }
}

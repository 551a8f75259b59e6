//! Records from lines, byte for byte.

use std::io::{self, BufRead, Read};

/// Cuts an input into lines. A line is what stands before a newline, whatever bytes it has; what follows the last newline is one
/// too unless it is empty.
pub(super) struct Lines<R> {
    input: R,
    /// A longer line is refused before more of it is held.
    line_bytes_max: usize,
    line: Vec<u8>,
    /// Lines given so far.
    count: u64,
}

/// Why a line was not given.
#[derive(Debug)]
pub(super) enum LineError {
    Input(io::Error),
    TooLong { line: u64, line_bytes_max: usize },
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R, line_bytes_max: usize) -> Self {
        Self {
            input,
            line_bytes_max,
            line: Vec::new(),
            count: 0,
        }
    }

    /// The next line without its newline; `None` at the end of the input.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, LineError> {
        self.line.clear();
        // One more than the longest line: its newline, or the proof that it is too long.
        let bytes_max = self.line_bytes_max as u64 + 1;
        let read = Read::take(&mut self.input, bytes_max)
            .read_until(b'\n', &mut self.line)
            .map_err(LineError::Input)?;
        if read == 0 {
            return Ok(None);
        }
        self.count += 1;
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        } else if self.line.len() > self.line_bytes_max {
            return Err(LineError::TooLong {
                line: self.count,
                line_bytes_max: self.line_bytes_max,
            });
        }
        Ok(Some(&self.line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Lines::new(input, 8);
        let mut all = Vec::new();
        while let Some(line) = lines.next().expect("short lines") {
            all.push(line.to_vec());
        }
        all
    }

    #[test]
    fn every_line_is_a_record_without_its_newline_and_nothing_else_is_changed() {
        assert_eq!(
            lines(b"a\r\n \xff\x00\n"),
            [b"a\r".to_vec(), b" \xff\x00".to_vec()]
        );
    }

    #[test]
    fn an_empty_line_is_an_empty_record() {
        assert_eq!(
            lines(b"\n\nb\n"),
            [b"".to_vec(), b"".to_vec(), b"b".to_vec()]
        );
    }

    #[test]
    fn a_last_line_without_a_newline_is_kept() {
        assert_eq!(lines(b"a\nb"), [b"a".to_vec(), b"b".to_vec()]);
    }

    #[test]
    fn an_empty_input_has_no_records() {
        assert_eq!(lines(b""), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn a_line_of_just_the_limit_is_taken_and_one_byte_more_is_refused() {
        assert_eq!(
            lines(b"12345678\n1234567"),
            [b"12345678".to_vec(), b"1234567".to_vec()]
        );
        assert_eq!(lines(b"12345678"), [b"12345678".to_vec()]);
        let mut long = Lines::new(&b"ok\n123456789\n"[..], 8);
        assert!(long.next().expect("first").is_some());
        assert!(matches!(
            long.next(),
            Err(LineError::TooLong {
                line: 2,
                line_bytes_max: 8
            })
        ));
    }
}

//! Tables and quantities for a terminal.

use std::io::{self, Write};

use crate::limits::{GIB, KIB, MIB, TIB};

/// How the cells of a column stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows under headings, each column as wide as its widest cell.
pub(super) struct Table<const COLUMNS: usize> {
    headings: [(&'static str, Align); COLUMNS],
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub(super) fn new(headings: [(&'static str, Align); COLUMNS]) -> Self {
        Self {
            headings,
            rows: Vec::new(),
        }
    }

    pub(super) fn row(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells);
    }

    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let headings = self.headings.map(|(heading, _)| heading.to_owned());
        let mut widths = headings.each_ref().map(|cell| cell.chars().count());
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, width), (_, align)) in row.iter().zip(widths).zip(self.headings) {
                let cell = match align {
                    Align::Left => format!("{cell:<width$}"),
                    Align::Right => format!("{cell:>width$}"),
                };
                if !line.is_empty() {
                    line.push_str("  ");
                }
                line.push_str(&cell);
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// `1536` as `1.5 KiB`; three digits at most before the unit changes.
pub(super) fn bytes_text(bytes: u64) -> String {
    for (unit, name) in [(TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")] {
        if bytes >= unit {
            return format!("{:.1} {name}", bytes as f64 / unit as f64);
        }
    }
    format!("{bytes} B")
}

/// `604800000` as `7 days`: the largest unit that says it exactly.
pub(super) fn milliseconds_text(milliseconds: u64) -> String {
    for (unit, one, many) in [
        (86_400_000, "day", "days"),
        (3_600_000, "hour", "hours"),
        (60_000, "minute", "minutes"),
        (1_000, "second", "seconds"),
    ] {
        if milliseconds >= unit && milliseconds.is_multiple_of(unit) {
            let count = milliseconds / unit;
            return format!("{count} {}", if count == 1 { one } else { many });
        }
    }
    format!("{milliseconds} ms")
}

/// `1 entry`, `2 entries`.
pub(super) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_have_no_trailing_blanks() {
        let mut table = Table::new([
            ("NAME", Align::Left),
            ("BYTES", Align::Right),
            ("NOTE", Align::Left),
        ]);
        table.row(["a".to_owned(), "1".to_owned(), String::new()]);
        table.row(["longer".to_owned(), "123456".to_owned(), "x".to_owned()]);
        let mut out = Vec::new();
        table.write(&mut out).expect("memory");
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "NAME     BYTES  NOTE\na            1\nlonger  123456  x\n"
        );
    }

    #[test]
    fn sizes_change_their_unit_at_1024() {
        assert_eq!(bytes_text(0), "0 B");
        assert_eq!(bytes_text(1023), "1023 B");
        assert_eq!(bytes_text(1536), "1.5 KiB");
        assert_eq!(bytes_text(3 << 40), "3.0 TiB");
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!(counted(1, "entry", "entries"), "1 entry");
        assert_eq!(counted(0, "entry", "entries"), "0 entries");
    }

    #[test]
    fn durations_are_written_exactly() {
        assert_eq!(milliseconds_text(604_800_000), "7 days");
        assert_eq!(milliseconds_text(86_400_000), "1 day");
        assert_eq!(milliseconds_text(90_000), "90 seconds");
        assert_eq!(milliseconds_text(1_500), "1500 ms");
        assert_eq!(milliseconds_text(0), "0 ms");
    }
}

//! A report for people.

use std::fmt::{self, Write};

use gannet_loadgen::units::micros;

use super::report::Report;
use super::row::{Bar, Row};
use super::tools::ToolRun;

/// The whole report.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    write_report(&mut text, report).expect("writing to a string does not fail");
    text
}

fn write_report(text: &mut String, report: &Report) -> fmt::Result {
    let seconds = report.scale.row().as_secs_f64();
    writeln!(text, "\n{}; {seconds:.1} s a figure", report.machine)?;
    write_limits(text, report)?;
    let width = report
        .rows
        .iter()
        .map(|row| row.what.chars().count())
        .max()
        .unwrap_or(0);
    writeln!(
        text,
        "\n{:<width$}  {:>13}  {:>13}",
        "what", "bar", "measured"
    )?;
    for row in &report.rows {
        write_row(text, row, width)?;
    }
    for (kind, sentences) in [("note", &report.notes), ("FAILED", &report.failures)] {
        if !sentences.is_empty() {
            writeln!(text)?;
        }
        for sentence in sentences {
            writeln!(text, "{kind}: {sentence}")?;
        }
    }
    Ok(())
}

fn write_limits(text: &mut String, report: &Report) -> fmt::Result {
    let limits = &report.limits;
    writeln!(
        text,
        "TCP ping-pong {} p50; 4 KiB O_DSYNC write {} p50; disk {:.0} MB/s writing, {} synced, {:.0} MB/s reading",
        micros(limits.ping_pong_us.p50),
        micros(limits.sync_write_us.p50),
        limits.write_mb_per_s,
        mb_per_s(limits.synced_write_mb_per_s),
        limits.read_mb_per_s,
    )?;
    let fio = told(&limits.fio, |fio| {
        format!(
            "{:.0} MB/s writing, {} synced, {:.0} MB/s reading, 4 KiB O_DSYNC write {} p50",
            fio.write_mb_per_s,
            mb_per_s(fio.synced_write_mb_per_s),
            fio.read_mb_per_s,
            micros(fio.sync_write_p50_us)
        )
    });
    let iperf3 = told(&limits.iperf3, |iperf3| {
        format!("{:.0} MB/s over the loopback", iperf3.mb_per_s)
    });
    writeln!(text, "to compare: fio {fio}; iperf3 {iperf3}")
}

fn mb_per_s(measured: Option<f64>) -> String {
    measured.map_or_else(
        || "not measured".to_owned(),
        |measured| format!("{measured:.0} MB/s"),
    )
}

fn told<T>(run: &ToolRun<T>, tell: impl FnOnce(&T) -> String) -> String {
    match run {
        ToolRun::Absent => "is not in PATH".to_owned(),
        ToolRun::Failed(sentence) => format!("failed ({sentence})"),
        ToolRun::Measured(measured) => tell(measured),
    }
}

fn write_row(text: &mut String, row: &Row, width: usize) -> fmt::Result {
    let bar = match row.bar {
        Bar::AtMost(bar) => format!("<= {}", quantity(bar, row.unit)),
        Bar::Below(bar) => format!("< {}", quantity(bar, row.unit)),
        Bar::AtLeast(bar) => format!(">= {}", quantity(bar, row.unit)),
        Bar::Reported => String::new(),
    };
    let reached = match row.reached {
        Some(true) => "  reached",
        Some(false) => "  NOT REACHED",
        None => "",
    };
    writeln!(
        text,
        "{:<width$}  {bar:>13}  {:>13}{reached}",
        row.what,
        quantity(row.measured, row.unit)
    )
}

/// With as many digits as say something.
fn quantity(number: f64, unit: &str) -> String {
    if number.abs() >= 100.0 || number.fract() == 0.0 {
        format!("{number:.0} {unit}")
    } else if number.abs() < 0.01 {
        format!("{number:.5} {unit}")
    } else {
        format!("{number:.2} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(measured: f64, unit: &'static str, bar: Bar) -> String {
        let row = Row::new("what", (measured, unit), bar, []).unwrap();
        let mut text = String::new();
        write_row(&mut text, &row, 4).unwrap();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_row_says_whether_its_bar_is_reached() {
        assert_eq!(
            line(1.254, "x", Bar::AtMost(1.3)),
            "what <= 1.30 x 1.25 x reached"
        );
        assert_eq!(
            line(0.0, "x", Bar::Below(0.001)),
            "what < 0.00100 x 0 x reached"
        );
        assert_eq!(
            line(0.31, "x", Bar::AtLeast(0.5)),
            "what >= 0.50 x 0.31 x NOT REACHED"
        );
        assert_eq!(line(512.3, "us", Bar::Reported), "what 512 us");
    }
}

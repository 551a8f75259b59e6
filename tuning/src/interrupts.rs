//! Which cores the devices' interrupts go to.

use std::fs;

/// One device's interrupt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// Its number.
    pub number: u32,
    /// Whose it is, as the kernel calls it.
    pub name: String,
    /// How often each core has handled it since the machine started; in the order of [`Interrupts::cores`].
    pub counts: Vec<u64>,
    /// The cores it may go to, as the kernel writes it. `None` when that cannot be read.
    pub allowed: Option<String>,
}

/// All devices' interrupts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interrupts {
    /// The cores, as numbered by the kernel.
    pub cores: Vec<u16>,
    /// The interrupts that were ever handled.
    pub interrupts: Vec<Interrupt>,
}

impl Interrupts {
    /// Of this machine. `None` when the kernel does not say.
    #[must_use]
    pub fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/interrupts").ok()?;
        parse(&text, |number| {
            let allowed = fs::read_to_string(format!("/proc/irq/{number}/smp_affinity_list"));
            Some(allowed.ok()?.trim().to_owned())
        })
    }

    /// How many of them each core has handled, in the order of `cores`.
    #[must_use]
    pub fn by_core(&self) -> Vec<u64> {
        let mut sums = vec![0; self.cores.len()];
        for interrupt in &self.interrupts {
            for (sum, count) in sums.iter_mut().zip(&interrupt.counts) {
                *sum += count;
            }
        }
        sums
    }

    /// The core that has handled most, and the share of all that is. `None` when there were none, or only one core could.
    #[must_use]
    pub fn busiest_core(&self) -> Option<(u16, f64)> {
        let sums = self.by_core();
        let all: u64 = sums.iter().sum();
        let (core, most) = self.cores.iter().zip(&sums).max_by_key(|(_, sum)| **sum)?;
        (all > 0 && sums.len() > 1).then(|| (*core, *most as f64 / all as f64))
    }

    /// Those that were handled most, the busiest first.
    #[must_use]
    pub fn busiest(&self, most: usize) -> Vec<&Interrupt> {
        let mut all: Vec<_> = self.interrupts.iter().collect();
        all.sort_by_key(|interrupt| std::cmp::Reverse(interrupt.total()));
        all.truncate(most);
        all
    }
}

impl Interrupt {
    /// How often it was handled.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// Reads `/proc/interrupts`: a line of cores, then for each interrupt its number, a count for each core, and what it is. Those without a number are the kernel's own, such as timers.
fn parse(text: &str, allowed: impl Fn(u32) -> Option<String>) -> Option<Interrupts> {
    let mut lines = text.lines();
    let cores: Option<Vec<u16>> = lines
        .next()?
        .split_whitespace()
        .map(|name| name.strip_prefix("CPU")?.parse().ok())
        .collect();
    let cores = cores.filter(|cores| !cores.is_empty())?;
    let interrupts = lines
        .filter_map(|line| {
            let (number, rest) = line.split_once(':')?;
            let number = number.trim().parse().ok()?;
            let mut fields = rest.split_whitespace();
            let counts: Option<Vec<u64>> =
                cores.iter().map(|_| fields.next()?.parse().ok()).collect();
            let words: Vec<_> = fields.collect();
            Some(Interrupt {
                number,
                name: words.last().copied().unwrap_or("unnamed").to_owned(),
                counts: counts?,
                allowed: allowed(number),
            })
        })
        .filter(|interrupt| interrupt.total() > 0)
        .collect();
    Some(Interrupts { cores, interrupts })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "           CPU0       CPU2
 24:          1          0  IO-APIC   5-edge      ACPI:Ged
 28:          0          0 PCI-MSIX-0000:00:01.0   0-edge      virtio0-config
 36:          5    4270503 PCI-MSIX-0000:00:02.0   1-edge      virtio1-req.0
LOC:   10376004   10313119   Local timer interrupts
ERR:          0
";

    fn interrupts() -> Interrupts {
        parse(TEXT, |number| (number == 36).then(|| "2".to_owned())).unwrap()
    }

    #[test]
    fn devices_are_read_and_what_never_came_and_the_kernels_own_is_left_out() {
        let interrupts = interrupts();
        assert_eq!(interrupts.cores, [0, 2]);
        let names: Vec<_> = interrupts
            .interrupts
            .iter()
            .map(|of| of.name.as_str())
            .collect();
        assert_eq!(names, ["ACPI:Ged", "virtio1-req.0"]);
        assert_eq!(interrupts.interrupts[1].counts, [5, 4_270_503]);
        assert_eq!(interrupts.interrupts[1].allowed.as_deref(), Some("2"));
        assert_eq!(interrupts.interrupts[0].allowed, None);
    }

    #[test]
    fn the_busiest_core_and_interrupt_are_known() {
        let interrupts = interrupts();
        let (core, share) = interrupts.busiest_core().unwrap();
        assert!(core == 2 && share > 0.999, "{core} {share}");
        assert_eq!(interrupts.busiest(1)[0].number, 36);
    }

    #[test]
    fn an_unknown_form_is_unknown_and_not_none() {
        assert_eq!(parse("", |_| None), None);
        assert_eq!(parse("nothing of the kind\n", |_| None), None);
    }
}

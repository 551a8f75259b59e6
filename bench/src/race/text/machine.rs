//! The machine: what it is, alone or with its limits.

use gannet_loadgen::units::bytes;

use crate::race::document::{Block, Section};
use crate::race::machine::MachineInfo;
use crate::race::session::Setting;

use super::limits::{limits_table, measured_when, row};

/// Where nothing was raced on it.
pub(super) fn machine_alone(info: &MachineInfo) -> Section {
    Section::new("The machine").table(&["what", ""], machine(info))
}

pub(super) fn machine_and_limits(setting: &Setting) -> Section {
    Section::new("The machine and its limits")
        .table(&["what", ""], machine(&setting.machine))
        .text(measured_when(setting))
        .block(Block::Table(limits_table(setting)))
}

fn machine(machine: &MachineInfo) -> Vec<Vec<String>> {
    vec![
        row(
            "processor",
            format!("{} core(s), {}", machine.cores, machine.processor),
        ),
        row("memory", bytes(machine.memory_bytes)),
        row("kernel", machine.kernel.clone()),
        row(
            "disk",
            format!("{} on {}", machine.filesystem, machine.mounted),
        ),
    ]
}

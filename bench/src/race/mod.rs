//! `gannet-race`: Gannet beside Kafka, RabbitMQ and NATS on this machine, and how Gannet's figures change with scale.
//!
//! What is decided is pure: the [`turns`] and their order, what a tool is told and says ([`tool`]), the [`standing`] of the brokers, the [`bars`], the text. The
//! rim starts brokers and programs, one at a time, and keeps what each turn gave as soon as it is known.

pub mod bars;
mod broker;
mod command;
pub mod curves;
mod document;
pub mod entrant;
mod generator;
pub mod html;
mod machine;
mod options;
pub mod outcome;
mod process_tree;
pub mod scale;
mod script;
mod session;
pub mod spread;
pub mod standing;
pub mod text;
pub mod tool;
pub mod turns;
mod workload;

pub use generator::BrokerUse;
pub use machine::MachineInfo;
pub use options::{Command, CommandLine, Options, Place, ScaleOptions};
pub use session::{BrokerSetting, LimitsBefore, RaceError, Setting, render, session};

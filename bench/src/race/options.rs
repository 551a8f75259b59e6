//! The command line.

use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use gannet_loadgen::options::HostOptions;
use gannet_loadgen::units::parse_duration;

use super::entrant::Peer;

/// Races Gannet against Kafka, RabbitMQ and NATS on this machine: the same scenarios, by the same generator, on the same cores, one broker at a time.
///
/// Every broker runs with and without a sync before its acknowledgement, in several rounds that are interleaved, and each peer's own load generator runs beside ours. Writes RACE.md and
/// race.html, and keeps each single result as JSON. A peer that cannot be installed or fails is reported as missing. Nothing else should run on the machine meanwhile.
///
/// The exit status is 0 when every turn gave figures, 1 when one of Gannet's did not, 2 when there was no race, 3 when only turns of other brokers gave none, 130 when interrupted.
#[derive(Debug, Parser)]
#[command(name = "gannet-race", version, max_term_width = 110)]
pub struct CommandLine {
    /// What to do other than to race.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The race.
    #[command(flatten)]
    pub options: Options,
}

/// What this program does other than to race.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Writes RACE.md and race.html again from the results that were kept.
    Render(Place),
    /// Measures how Gannet's figures change with the number of partitions, subscribers, producers, and the size of records; and what idle partitions and connections cost. Writes RACE.md and
    /// race.html, with the race whose results are kept in the same place, if any are.
    Scale(ScaleOptions),
    /// Hosts a broker until the parent ends it or dies.
    #[command(hide = true, name = gannet_loadgen::broker::HOST_COMMAND)]
    HostBroker(HostOptions),
}

/// Where things are.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// Where each result is kept as JSON. Without: the folder `race` in the build's folder.
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    /// Where RACE.md and race.html go; the results' folder without.
    #[arg(long, value_name = "DIR")]
    pub write_to: Option<PathBuf>,
}

/// The options of a race.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// About how long all of it takes; loads are shortened to fit, never below 2 s. What rests on loads of less than 30 s is not judged. The default suffices for all brokers and
    /// scenarios in three rounds; a quick look is `--budget 1h` (not judged), or `--scenario NAME --budget 30m`, which is.
    #[arg(long, value_name = "TIME", default_value = "10800s", value_parser = parse_duration)]
    pub budget: Duration,
    /// How often every broker runs every scenario.
    #[arg(long, default_value = "3")]
    pub rounds: NonZeroU32,
    /// Only this scenario, by its name; may be given several times. Without: all.
    #[arg(long, value_name = "NAME")]
    pub scenario: Vec<String>,
    /// Only this broker; may be given several times. Without: all.
    #[arg(long, value_enum, value_name = "NAME")]
    pub peer: Vec<Peer>,
    /// The folder with the scenarios.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios"), hide_default_value = true)]
    pub scenarios: PathBuf,
    /// The folder with the peers' scripts.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/peers"), hide_default_value = true)]
    pub peers: PathBuf,
    /// Where the peers are, or will be, installed. Without: the folder `peers` in `target`.
    #[arg(long, value_name = "DIR")]
    pub installed_in: Option<PathBuf>,
    /// Use only peers that are installed.
    #[arg(long)]
    pub no_install: bool,
    /// Leave out the peers' own load generators.
    #[arg(long)]
    pub no_tools: bool,
    /// Go on with a race that was interrupted, or add to one: turns that gave figures are not run again. Where another --budget, --rounds, --scenario or --peer makes the loads others than they
    /// were, those of 30 s or more are kept as long as the new ones are at most twice as long; the others are measured again. Figures are never given up for a turn without.
    #[arg(long)]
    pub resume: bool,
    /// The load generator. Without: the one beside this program.
    #[arg(long, value_name = "PROGRAM")]
    pub generator: Option<PathBuf>,
    /// Where the brokers keep their data, one at a time: in a new directory in here, removed afterwards. Without: $TMPDIR, /var/tmp or beside this program, whichever is on a real disk.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Shards (cores) of Gannet; its own default without.
    #[arg(long)]
    pub shards: Option<NonZeroU16>,
    /// All of it in a few seconds, to see that it works: the figures mean nothing. One round, without the peers' own tools; Gannet alone unless peers are named.
    #[arg(long)]
    pub tiny: bool,
    /// Where the results go.
    #[command(flatten)]
    pub place: Place,
}

/// The options of the scale.
#[derive(Clone, Debug, Args)]
pub struct ScaleOptions {
    /// How long each figure is measured.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub seconds: Duration,
    /// Only these: partitions, idle, neighbours, fan-out, record-size, producers. Without: all.
    #[arg(long, value_enum, value_name = "NAME")]
    pub only: Vec<super::scale::Axis>,
    /// Go on with one that was interrupted, or in which points failed: those that gave figures are not measured again.
    #[arg(long)]
    pub resume: bool,
    /// The load generator. Without: the one beside this program.
    #[arg(long, value_name = "PROGRAM")]
    pub generator: Option<PathBuf>,
    /// Where the brokers keep their data, as with the race.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Shards (cores) of Gannet; its own default without.
    #[arg(long)]
    pub shards: Option<NonZeroU16>,
    /// All of it in a few seconds, with few partitions and connections: the figures mean nothing.
    #[arg(long)]
    pub tiny: bool,
    /// Where the results go: beside those of a race, whose page then shows both.
    #[command(flatten)]
    pub place: Place,
}

impl Place {
    /// Where results are kept.
    #[must_use]
    pub fn results(&self) -> PathBuf {
        self.results.clone().unwrap_or_else(|| {
            let program = std::env::current_exe().unwrap_or_default();
            // target/<profile>/gannet-race
            let build = program.ancestors().nth(2).unwrap_or(&program);
            build.join("race")
        })
    }

    /// Where the texts go.
    #[must_use]
    pub fn texts(&self) -> PathBuf {
        self.write_to.clone().unwrap_or_else(|| self.results())
    }
}

impl Options {
    /// Who takes part.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        let mut peers = match (self.peer.is_empty(), self.tiny) {
            (true, true) => vec![Peer::Gannet],
            (true, false) => Peer::ALL.to_vec(),
            (false, _) => self.peer.clone(),
        };
        peers.sort_unstable();
        peers.dedup();
        peers
    }
}

#[cfg(test)]
mod tests {
    use super::super::bars::{JUDGED_LOAD_MS_MIN, ROUNDS_JUDGED_MIN};
    use super::super::entrant::Entrant;
    use super::super::turns::{Course, turns};
    use super::*;

    fn peers(arguments: &[&str]) -> Vec<Peer> {
        let line = CommandLine::try_parse_from([&["gannet-race"], arguments].concat()).unwrap();
        line.options.peers()
    }

    #[test]
    fn everybody_takes_part_unless_some_are_named() {
        assert_eq!(peers(&[]), Peer::ALL);
        assert_eq!(
            peers(&["--peer", "rabbitmq", "--peer", "gannet", "--peer", "gannet"]),
            [Peer::Gannet, Peer::RabbitMq]
        );
    }

    #[test]
    fn by_default_every_load_is_long_enough_to_be_judged() {
        let line = CommandLine::try_parse_from(["gannet-race"]).unwrap();
        let courses: Vec<_> = (super::super::text::SCENARIOS.iter())
            .map(|name| Course {
                scenario: (*name).to_owned(),
                load_max: Duration::from_secs(60),
            })
            .collect();
        let entrants = Entrant::of(&line.options.peers());
        let rounds = line.options.rounds.get();
        let turns = turns(&courses, &entrants, rounds, line.options.budget);
        assert!(rounds as usize >= ROUNDS_JUDGED_MIN);
        assert!(turns.iter().all(|turn| turn.load_ms >= JUDGED_LOAD_MS_MIN));
        assert_eq!(turns.len(), courses.len() * entrants.len() * 3);
    }

    #[test]
    fn a_tiny_race_is_gannets_alone_unless_peers_are_named() {
        assert_eq!(peers(&["--tiny"]), [Peer::Gannet]);
        assert_eq!(peers(&["--tiny", "--peer", "nats"]), [Peer::Nats]);
    }
}

//! End-to-end tests of Gannet: a harness that starts the real program and takes it down in every way there is, and the simulated [`world`].

pub mod bits;
mod command;
mod commit;
mod contents;
mod disk_activity;
pub mod load;
mod loop_disk;
mod machine;
mod network;
pub mod ordeal;
mod peer;
mod program;
mod server;
pub mod world;

pub use command::RunningCommand;
pub use commit::commit;
pub use contents::{Contents, connect, numbers, one_record, publish_numbers, read_all, read_kept};
pub use disk_activity::{DiskActivity, DiskCounters};
pub use loop_disk::LoopDisk;
pub use machine::{TestUser, another_real_disk, as_root, real_text_file, skipped, skipped_peer};
pub use network::Cable;
pub use peer::RawPeer;
pub use program::{
    builds_kafka_driver, client, data_dir, ends, ends_within, gannet, load_generator,
    load_generator_for_peers, numbers_program, peer_script, prints, race_program, tuner,
};
pub use server::{Server, serve};

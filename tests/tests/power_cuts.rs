//! What is acknowledged as durable survives that the power is taken away; what is only accepted does not, which shows that these tests can fail.

use gannet_tests::ordeal::{ClerkTotals, Cuts};
use gannet_tests::{LoopDisk, RawPeer, Server, connect, one_record};
use gannet_wire::frame::{Durability, Message, OffsetToCommit, OffsetsCommit, TopicSettings};
use gannet_wire::{ErrorCode, Offset, PartitionIndex, TopicId};

/// A group's offsets and the making and deleting of topics, which are durable whatever the records are, are judged along with them.
#[test]
fn no_durable_record_is_lost_doubled_or_reordered_when_the_power_is_cut_under_load() {
    let cuts = Cuts {
        cuts: 4,
        durability: Durability::Durable,
        seed: 1,
    };
    let Some(report) = cuts.run(|_| {}) else {
        return;
    };
    assert_eq!(report.lost, 0);
    assert!(report.delivered > 0, "{report:?}");
    let ClerkTotals {
        offsets,
        created,
        deleted,
    } = report.clerk;
    assert!(offsets > 0 && created > 0 && deleted > 0, "{report:?}");
}

#[test]
fn records_that_are_only_accepted_are_lost_when_the_power_is_cut_under_load() {
    let cuts = Cuts {
        cuts: 4,
        durability: Durability::Accepted,
        seed: 2,
    };
    let Some(report) = cuts.run(|_| {}) else {
        return;
    };
    assert!(report.lost > 0, "no cut took anything: {report:?}");
}

#[test]
fn what_waits_for_the_disk_when_the_power_goes_is_answered_before_the_broker_ends_with_a_sentence()
{
    let Some(disk) = LoopDisk::new(256) else {
        return;
    };
    let settings = [
        "storage.disk_reserve_bytes=16MiB",
        "journal.file_bytes=8MiB",
    ];
    let mut server = Server::run(disk.serve(&settings));
    server.expect_error("storage failed");
    let topic = connect(server.address())
        .create_topic("waiting", 1, &TopicSettings::default())
        .expect("new")
        .topic;
    let mut peer = RawPeer::greeted(server.address());
    let stored = peer.ask(&one_record(topic, b"value", None));
    assert!(
        matches!(stored, Some(Message::PublishAcks(_))),
        "{stored:?}"
    );
    if !disk.cut_power(server.pid()) {
        return;
    }
    let waiting = [
        one_record(topic, b"value", None),
        one_record(topic, b"value", None),
        commit(topic),
        one_record(topic, b"value", None),
    ];
    let mut asked: Vec<_> = waiting.iter().map(|message| peer.send(message)).collect();
    while let Some(frame) = peer.receive() {
        let error = match &frame.message {
            Message::Error(error) => error,
            // Behind all answers.
            Message::Goodbye(_) => break,
            _ => panic!("{frame:?}"),
        };
        assert_eq!(error.code, ErrorCode::StorageFailed, "{error:?}");
        asked.retain(|correlation| *correlation != frame.correlation);
    }
    assert!(asked.is_empty(), "nobody answered {asked:?}");
    assert_eq!(server.ended().code(), Some(STORAGE_FAILED));
    let said = server.log_with("see to the disk, then start again");
    assert_eq!(said.len(), 1, "{:#?}", server.log());
}

/// A write or a sync failed while serving.
const STORAGE_FAILED: i32 = 30;

fn commit(topic: TopicId) -> Message {
    Message::OffsetsCommit(OffsetsCommit {
        group: "group".to_owned(),
        topic,
        offsets: vec![OffsetToCommit {
            partition: PartitionIndex(0),
            offset: Offset(1),
            metadata: String::new(),
        }],
    })
}

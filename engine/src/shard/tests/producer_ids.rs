//! Ids for producers.

use gannet_wire::ProducerId;
use gannet_wire::frame::Message;

use super::forwarding::shard_with;
use super::*;
use crate::control::catalogue::Catalogue;

#[test]
fn a_shard_that_has_given_out_all_its_ids_goes_on_in_another_incarnation() {
    let world = World::new(1);
    let dir = world.data.root().join("catalogue");
    let opened = Catalogue::open(&world.disk, &dir, 1);
    let catalogue = world.executor.block_on(opened).unwrap();
    let (shard, _) = shard_with(&world, 1, Some(catalogue));
    let mut last = ProducerId(0);
    while let Some(id) = shard.producer_ids.next_id() {
        assert!(id > last);
        last = id;
    }
    for _ in 0..3 {
        let reply = world
            .executor
            .block_on(shard.request(Message::ProducerInit));
        let Message::ProducerReply(reply) = reply else {
            panic!("{reply:?}")
        };
        assert!(reply.producer > last, "{reply:?}");
        last = reply.producer;
    }
    // And the next life does not give them out again.
    let opened = Catalogue::open(&world.disk, &dir, 1);
    let next = world.executor.block_on(opened).unwrap();
    assert!(u64::from(next.state().incarnation) > last.0 >> 32);
}

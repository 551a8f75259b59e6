use super::*;

#[test]
fn a_start_that_fails_says_what_the_disk_did_though_a_shard_that_waited_is_heard_first() {
    let (events, heard) = flume::unbounded();
    let failed = StorageError::Damaged {
        path: "catalogue".to_owned(),
        what: "a test says so".into(),
    };
    for event in [ShardEvent::Ended(Ok(())), ShardEvent::Ended(Err(failed))] {
        assert!(events.send(event).is_ok());
    }
    let ready = all_ready(&heard, 2);
    assert!(matches!(ready, Err(StartError::Storage(_))), "{ready:?}");
}

#[test]
fn a_shard_that_ends_for_no_reason_during_the_start_is_lost() {
    let (events, heard) = flume::unbounded();
    let ready = ShardReady {
        shared_segments: Vec::new(),
    };
    for event in [ShardEvent::Ended(Ok(())), ShardEvent::Ready(ready)] {
        assert!(events.send(event).is_ok());
    }
    let ready = all_ready(&heard, 2);
    assert!(matches!(ready, Err(StartError::ShardLost)), "{ready:?}");
}

/// What the supervisor makes of an acceptor that ends like this.
fn deaf_after(
    accepting: impl Future<Output = io::Result<()>> + Send + 'static,
) -> Option<EngineError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    why_deaf(runtime.block_on(async { tokio::spawn(accepting).await }))
}

#[test]
fn a_broker_that_accepts_no_more_ends_and_says_why() {
    let failed = deaf_after(async { Err(io::ErrorKind::InvalidInput.into()) });
    assert!(matches!(failed, Some(EngineError::Accept(_))), "{failed:?}");
    let panicked = deaf_after(async { panic!("as a bug would") });
    assert!(
        matches!(panicked, Some(EngineError::ThreadLost)),
        "{panicked:?}"
    );
    let asked_to = deaf_after(async { Ok(()) });
    assert!(asked_to.is_none(), "{asked_to:?}");
}

//! Changes of the catalogue, which one shard owns: durable first, then known to every shard, then answered.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::join_all;
use gannet_wire::frame::{PARTITIONS_DEFAULT, TopicCreate};
use gannet_wire::{ErrorBody, ErrorCode, ShardIndex, TopicId};

use super::mail::Ask;
use super::requests::Shard;
use super::topic_table::no_topic;
use crate::control::catalogue::{Catalogue, Topic};
use crate::io::local::Semaphore;
use crate::io::{Clock, Disk, Spawn};
use crate::storage::StorageError;

/// The shard that owns the catalogue.
pub(super) const CATALOGUE_OWNER: ShardIndex = ShardIndex(0);

/// The catalogue on its owner, nothing elsewhere. A change holds its turn from its durability to the last shard's answer.
pub(super) struct OwnedCatalogue<D: Disk> {
    /// Taken out while it is changed, and for good once a change has failed.
    catalogue: RefCell<Option<Catalogue<D>>>,
    turn: Semaphore,
}

impl<D: Disk> OwnedCatalogue<D> {
    /// `None` where it is not owned.
    pub(super) fn new(catalogue: Option<Catalogue<D>>) -> Self {
        Self {
            catalogue: RefCell::new(catalogue),
            turn: Semaphore::new(1),
        }
    }
}

impl<D: Disk, C: Clock, S: Spawn> Shard<D, C, S> {
    pub(super) async fn create_topic(
        self: &Rc<Self>,
        create: TopicCreate,
    ) -> Result<Arc<Topic>, ErrorBody> {
        crate::control::names::check_topic_name(&create.name)
            .map_err(|sentence| ErrorBody::new(ErrorCode::TopicNameInvalid, sentence))?;
        let partitions = match create.partitions {
            PARTITIONS_DEFAULT => self.bounds.partitions_default,
            partitions => partitions,
        };
        if partitions > self.bounds.partitions_max {
            return Err(ErrorBody::new(
                ErrorCode::TopicSettingsInvalid,
                format!(
                    "a topic has 1 to {} partitions, not {}",
                    self.bounds.partitions_max, partitions
                ),
            ));
        }
        let settings = create.options.resolve(&self.bounds.topic_defaults);
        self.change_catalogue(async |catalogue| {
            if catalogue.state().names.contains_key(&create.name) {
                return Ok(Err(ErrorBody::new(
                    ErrorCode::TopicExists,
                    format!("there is a topic {} already", create.name),
                )));
            }
            let topic = Arc::new(
                catalogue
                    .create(create.name.clone(), partitions, settings)
                    .await?,
            );
            // Known everywhere before its maker hears of it.
            self.tell_all(|| Ask::AddTopic(topic.clone())).await;
            Ok(Ok(topic))
        })
        .await
    }

    pub(super) async fn delete_topic(self: &Rc<Self>, name: &str) -> Result<(), ErrorBody> {
        self.change_catalogue(async |catalogue| {
            let Some(topic) = catalogue.delete(name).await? else {
                return Ok(Err(no_topic(name)));
            };
            self.tell_all(|| Ask::DropTopic(topic.id)).await;
            // Behind the answer: the tombstone is durable, so that a start would finish it.
            let shard = self.clone();
            self.spawn()
                .spawn(async move { shard.remove_topic_files(topic.id).await });
            Ok(Ok(()))
        })
        .await
    }

    /// An incarnation of the broker that nobody else has.
    pub(super) async fn new_incarnation(self: &Rc<Self>) -> Result<u32, ErrorBody> {
        self.change_catalogue(
            async |catalogue| match catalogue.renew_incarnation().await {
                Err(error) if error.is_disk_full() => {
                    Ok(Err(ErrorBody::new(ErrorCode::DiskFull, error.to_string())))
                }
                renewed => renewed.map(Ok),
            },
        )
        .await
    }

    /// Once no shard needs them any more, the files of a deleted topic go.
    async fn remove_topic_files(self: Rc<Self>, topic: TopicId) {
        self.tell_all(|| Ask::ReleaseTopic(topic)).await;
        match self.log.remove_topic(topic).await {
            Ok(removed) => {
                tracing::info!(topic = %topic, removed, "the files of a deleted topic are gone")
            }
            Err(error) => self.fail(error),
        }
    }

    /// One change of the catalogue at a time. A failed write is final for the broker.
    async fn change_catalogue<T>(
        &self,
        change: impl AsyncFnOnce(&mut Catalogue<D>) -> Result<Result<T, ErrorBody>, StorageError>,
    ) -> Result<T, ErrorBody> {
        self.catalogue.turn.acquire(1).await;
        let taken = self.catalogue.catalogue.borrow_mut().take();
        let result = match taken {
            Some(mut catalogue) => {
                let result = match catalogue.reserve().await {
                    Err(error) if error.is_disk_full() => {
                        Ok(Err(ErrorBody::new(ErrorCode::DiskFull, error.to_string())))
                    }
                    Err(error) => Err(error),
                    Ok(()) => change(&mut catalogue).await,
                };
                if result.is_ok() {
                    *self.catalogue.catalogue.borrow_mut() = Some(catalogue);
                }
                result
            }
            None => Ok(Err(ErrorBody::new(
                ErrorCode::StorageFailed,
                "the catalogue cannot be changed any more: its disk failed",
            ))),
        };
        self.catalogue.turn.release(1);
        result.unwrap_or_else(|error| {
            let body = ErrorBody::new(ErrorCode::StorageFailed, error.to_string());
            self.fail(error);
            Err(body)
        })
    }

    async fn tell_all(self: &Rc<Self>, ask: impl Fn() -> Ask) {
        let shards = (0..self.shards()).map(ShardIndex);
        for answer in join_all(shards.map(|shard| self.ask(shard, ask()))).await {
            if let Err(error) = answer {
                tracing::error!(%error, "a shard could not take a change of the catalogue");
            }
        }
    }
}

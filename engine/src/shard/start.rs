//! A broker's start and a shard's tasks, the same for every disk: the engine calls this on the real one, the simulated world on its own.

use std::cell::Cell;
use std::collections::HashSet;
use std::path::Path;
use std::rc::Rc;

use gannet_wire::ShardIndex;

use super::log::{LogConfig, ShardLog};
use super::recover::{ShardIdentity, lay_out};
use super::sweep::{list, remove};
use crate::control::catalogue::{Catalogue, Layout};
use crate::io::local::Signal;
use crate::io::{Clock, Disk, Spawn};
use crate::storage::StorageError;
use crate::storage::layout::{DataDir, JOURNAL_DIR, JOURNAL_KEPT_SUFFIX, JOURNAL_SUFFIX};

/// Opens the catalogue and, when the number of shards has changed, moves every partition to its new owner before anything is served.
pub async fn open_catalogue<D: Disk, C: Clock>(
    disk: &D,
    clock: &C,
    data: &DataDir,
    shards: u16,
    config: &LogConfig,
    broker_id: u64,
) -> Result<Catalogue<D>, StorageError> {
    let known = Catalogue::load(disk, &data.catalogue()).await?;
    if known.is_none() {
        refuse_data_without_catalogue(disk, data).await?;
    }
    let mut catalogue = Catalogue::open(disk, &data.catalogue(), broker_id).await?;
    let (former, incarnation) = (catalogue.state().layout, catalogue.state().incarnation);
    if former.shards != shards {
        let mut drained = Vec::new();
        for shard in (0..former.shards).map(ShardIndex) {
            let identity = ShardIdentity {
                shard,
                layout: former,
                incarnation,
            };
            let (log, _) = ShardLog::recover(
                disk.clone(),
                clock.clone(),
                data.clone(),
                config.clone(),
                &identity,
                catalogue.state(),
            )
            .await?;
            drained.push(log.drain().await?);
        }
        // The move's own segments hold partitions of all shards: the layout begins with a life of its own, behind this one,
        // whose segment ids do not meet theirs.
        let layout = Layout {
            number: former.number + 1,
            shards,
            incarnation: incarnation + 1,
        };
        lay_out(disk, data, drained, layout).await?;
        // The switch. Before it a crash begins the move again, after it the former layout is only rubbish.
        catalogue.lay_out(layout).await?;
        catalogue = Catalogue::open(disk, &data.catalogue(), broker_id).await?;
        if former.shards > 0 {
            tracing::info!(
                from = former.shards,
                to = shards,
                "partitions were moved to another number of shards"
            );
        }
    }
    remove_former_layouts(disk, data, catalogue.state().layout.number).await?;
    Ok(catalogue)
}

/// The tasks of one log that a stop waits for.
#[derive(Debug)]
pub struct LogTasks {
    running: Cell<usize>,
    changed: Signal,
}

impl LogTasks {
    /// Waits until commits and flushes have ended without an error, as they do after [`ShardLog::stop`].
    pub async fn ended(&self) {
        loop {
            let seen = self.changed.version();
            if self.running.get() == 0 {
                return;
            }
            self.changed.changed_since(seen).await;
        }
    }

    fn one_ended(&self) {
        self.running.set(self.running.get() - 1);
        self.changed.notify_all();
    }
}

/// Starts the tasks of a log. `failed` hears of every error; each is final for the broker.
pub fn start_log<D: Disk, C: Clock, S: Spawn>(
    log: &Rc<ShardLog<D, C>>,
    spawn: &S,
    failed: impl Fn(StorageError) + Clone + 'static,
) -> Rc<LogTasks> {
    let tasks = Rc::new(LogTasks {
        running: Cell::new(2),
        changed: Signal::new(),
    });
    spawn.spawn({
        let (log, tasks, failed) = (log.clone(), tasks.clone(), failed.clone());
        async move {
            match log.run_commits().await {
                Ok(()) => tasks.one_ended(),
                Err(error) => failed(error),
            }
        }
    });
    spawn.spawn({
        let (log, tasks, failed) = (log.clone(), tasks.clone(), failed.clone());
        async move {
            match log.run_flushes().await {
                Ok(()) => tasks.one_ended(),
                Err(error) => failed(error),
            }
        }
    });
    spawn.spawn({
        let (log, failed) = (log.clone(), failed.clone());
        async move {
            if let Err(error) = log.run_spares().await {
                failed(error);
            }
        }
    });
    spawn.spawn({
        let (log, failed) = (log.clone(), failed.clone());
        async move {
            if let Err(error) = log.run_merges().await {
                failed(error);
            }
        }
    });
    spawn.spawn({
        let log = log.clone();
        async move { log.run_marks().await }
    });
    spawn.spawn({
        let log = log.clone();
        async move { log.run_housekeeping().await }
    });
    tasks
}

/// Without a catalogue nothing else makes sense: whatever else is there belongs to one that was lost.
async fn refuse_data_without_catalogue<D: Disk>(
    disk: &D,
    data: &DataDir,
) -> Result<(), StorageError> {
    let entries = disk
        .list(data.root())
        .await
        .map_err(StorageError::io("list", data.root()))?;
    let orphan = entries.iter().find(|entry| {
        DataDir::layout_of_name(&entry.name).is_some()
            || entry.name == "topics"
            || entry.name == "shared"
    });
    orphan.map_or(Ok(()), |entry| {
        Err(StorageError::Damaged {
            path: data.catalogue().display().to_string(),
            what: format!(
                "there is no catalogue, but there is {}",
                data.root().join(&entry.name).display()
            ),
        })
    })
}

async fn remove_former_layouts<D: Disk>(
    disk: &D,
    data: &DataDir,
    present: u64,
) -> Result<(), StorageError> {
    for entry in list(disk, data.root()).await? {
        let former = DataDir::layout_of_name(&entry.name).filter(|number| *number != present);
        if let Some(number) = former {
            remove_layout(disk, data, number).await?;
        }
    }
    Ok(())
}

/// Removes a layout, but for the journal files that are damaged: what they hold may be all that is left of something.
async fn remove_layout<D: Disk>(disk: &D, data: &DataDir, number: u64) -> Result<(), StorageError> {
    let layout = data.layout(number);
    let mut is_empty = true;
    let entries = list(disk, &layout).await?;
    for shard in entries.iter().filter(|entry| entry.is_dir) {
        let dir = layout.join(&shard.name);
        let journal = dir.join(JOURNAL_DIR);
        let kept = kept_files(disk, &journal).await?;
        if kept.is_empty() {
            remove_dir(disk, &dir).await?;
            continue;
        }
        is_empty = false;
        for entry in list(disk, &dir).await? {
            if !entry.is_dir {
                remove(disk, &dir.join(&entry.name)).await?;
            }
        }
        for entry in list(disk, &journal).await? {
            if !kept.contains(&entry.name) {
                remove(disk, &journal.join(&entry.name)).await?;
            }
        }
    }
    match is_empty {
        true => remove_dir(disk, &layout).await,
        false => Ok(()),
    }
}

/// The names of damaged journal files and of the notes beside them.
async fn kept_files<D: Disk>(disk: &D, journal: &Path) -> Result<HashSet<String>, StorageError> {
    let mut kept = HashSet::new();
    for entry in list(disk, journal).await? {
        if let Some(slot) = entry.name.strip_suffix(JOURNAL_KEPT_SUFFIX) {
            kept.insert(format!("{slot}{JOURNAL_SUFFIX}"));
            kept.insert(entry.name);
        }
    }
    Ok(kept)
}

async fn remove_dir<D: Disk>(disk: &D, dir: &Path) -> Result<(), StorageError> {
    let removed = disk.remove_dir_all(dir).await;
    removed.map_err(StorageError::io("remove", dir))
}

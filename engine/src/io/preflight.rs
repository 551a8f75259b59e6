//! Checks before anything starts: each refusal is a sentence that says what to change.
//!
//! They run before the first executor is made, since a ring that cannot be made says so with a bare errno, and before the first write, since a file system without direct I/O fails only at the first open.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use super::uring::create_dirs;
use super::{BLOCK_BYTES, DiskBufferMut};

#[cfg(test)]
mod tests;

/// What the machine must offer.
#[derive(Clone, Copy, Debug)]
pub struct Requirements {
    /// Free space that must be there to start.
    pub available_bytes_min: u64,
    /// File descriptors that the process must be allowed.
    pub descriptors_min: u64,
}

/// What was found, for the log.
#[derive(Clone, Debug)]
pub struct PreflightReport {
    /// The kernel's release, such as `6.18.0`.
    pub kernel_release: String,
    /// The file system that holds the data, by name where it is a known one.
    pub file_system: String,
    /// Bytes that can still be written to it.
    pub available_bytes: u64,
    /// File descriptors allowed, after raising the limit as far as it goes.
    pub descriptors: u64,
    /// Bytes of memory that may be locked; `None` without a limit.
    pub locked_memory_bytes: Option<u64>,
}

/// Why the broker does not start.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the sentences say it")]
pub enum PreflightError {
    #[error(
        "the kernel, {release}, is too old: Gannet needs Linux {}.{} or newer",
        KERNEL_MIN.0, KERNEL_MIN.1
    )]
    KernelTooOld { release: String },
    #[error(
        "io_uring is not there (kernel {release}): the kernel was built without it, or a sandbox such as gVisor stands in for \
         the kernel. Run Gannet on a Linux kernel {}.{} or newer with CONFIG_IO_URING",
        KERNEL_MIN.0, KERNEL_MIN.1
    )]
    UringMissing { release: String },
    #[error(
        "io_uring is switched off by the system setting kernel.io_uring_disabled = {value}. Allow it with \
         `sysctl -w kernel.io_uring_disabled=0`{}",
        if *value == 1 { ", or add the user to the group in kernel.io_uring_group" } else { "" }
    )]
    UringDisabled { value: u32 },
    #[error(
        "io_uring is forbidden to this process although the system allows it: most likely by the seccomp profile of a \
         container. Start the container with a profile that permits io_uring_setup, io_uring_enter and io_uring_register, \
         for instance `--security-opt seccomp=unconfined`; under systemd, add `SystemCallFilter=@aio`"
    )]
    UringForbidden,
    #[error("io_uring cannot be set up: {source}")]
    UringFailed { source: io::Error },
    #[error(
        "only {limit} bytes of memory may be locked, and io_uring needs {needed}. Raise it with `ulimit -l 8192`, \
         `LimitMEMLOCK=8M` under systemd, or `--ulimit memlock=8388608` for a container"
    )]
    LockedMemory { limit: u64, needed: u64 },
    #[error(
        "only {limit} file descriptors are allowed, and {needed} are needed. Raise it with `ulimit -n {needed}`, or \
         `LimitNOFILE={needed}` under systemd"
    )]
    Descriptors { limit: u64, needed: u64 },
    #[error("the data directory {} cannot be used: {doing}: {source}", path.display())]
    DataDir {
        path: PathBuf,
        doing: &'static str,
        source: io::Error,
    },
    #[error(
        "the data directory {} is in use by another process{}. Stop that one first, or give this one a directory of its own",
        path.display(),
        pid.map(|pid| format!(", {pid}")).unwrap_or_default()
    )]
    DataDirLocked { path: PathBuf, pid: Option<u32> },
    #[error(
        "the data directory {} lies on {file_system}, {why}. Use a directory on a disk (ext4 or XFS){}",
        path.display(),
        if *file_system == "overlay" { "; in a container, mount a volume there" } else { "" }
    )]
    FileSystem {
        path: PathBuf,
        file_system: &'static str,
        why: &'static str,
    },
    #[error(
        "the file system of the data directory {} refuses direct I/O (O_DIRECT in blocks of 4096 bytes): {source}. Use a \
         directory on a local disk with ext4 or XFS",
        path.display()
    )]
    DirectIo { path: PathBuf, source: io::Error },
    #[error(
        "only {available} bytes are free for the data directory {}, and {needed} are needed to start. Free some space, or \
         use a larger disk",
        path.display()
    )]
    Space {
        path: PathBuf,
        available: u64,
        needed: u64,
    },
    #[error(
        "{address} is taken by another process; perhaps another broker runs. Stop it, or listen on another port (`ss -ltnp` \
         shows who it is)"
    )]
    AddressTaken { address: SocketAddr },
    #[error(
        "this user may not listen on {address}. Use a port from 1024 up, or grant CAP_NET_BIND_SERVICE"
    )]
    AddressForbidden { address: SocketAddr },
    #[error("cannot listen on {address}: {source}. Is it an address of this machine?")]
    Address {
        address: SocketAddr,
        source: io::Error,
    },
}

/// Checks everything but the address, makes the data directory if need be, and locks it.
///
/// # Errors
/// The first thing that is not as it must be.
pub fn preflight(
    data_dir: &Path,
    requirements: &Requirements,
) -> Result<(PreflightReport, DataDirLock), PreflightError> {
    let kernel_release = check_kernel()?;
    let locked_memory_bytes = check_locked_memory()?;
    check_uring()?;
    let descriptors = raise_descriptors(requirements.descriptors_min)?;
    // Its name must be durable before anything in it is.
    create_dirs(data_dir).map_err(data_dir_error(data_dir, "making it"))?;
    let file_system = check_file_system(data_dir)?;
    let lock = DataDirLock::acquire(data_dir)?;
    check_direct_io(data_dir)?;
    let available_bytes = check_space(data_dir, requirements.available_bytes_min)?;
    let report = PreflightReport {
        kernel_release,
        file_system,
        available_bytes,
        descriptors,
        locked_memory_bytes,
    };
    Ok((report, lock))
}

/// Holds a data directory for this process alone. The kernel lets go of it when the process ends, however that happens.
#[derive(Debug)]
pub struct DataDirLock {
    _file: File,
}

impl DataDirLock {
    /// Takes the lock, and writes the process id into the file `LOCK` for whoever comes second.
    ///
    /// # Errors
    /// [`PreflightError::DataDirLocked`] when another process holds it.
    pub fn acquire(data_dir: &Path) -> Result<Self, PreflightError> {
        let error = |doing| data_dir_error(data_dir, doing);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o640)
            .open(data_dir.join("LOCK"))
            .map_err(error("opening the file LOCK"))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let pid = match file.read_to_string(&mut holder) {
                    Ok(_) => holder.trim().parse().ok(),
                    Err(_) => None,
                };
                return Err(PreflightError::DataDirLocked {
                    path: data_dir.to_owned(),
                    pid,
                });
            }
            Err(errno) => return Err(error("locking the file LOCK")(errno.into())),
        }
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| writeln!(file, "{}", std::process::id()))
            .map_err(error("writing the file LOCK"))?;
        Ok(Self { _file: file })
    }
}

/// Listens on an address that nobody else listens on, now or later: without SO_REUSEPORT, with which two brokers would
/// share the clients between them. SO_REUSEADDR only allows a restart while old connections time out.
///
/// # Errors
/// When the address cannot be had, with a sentence.
pub fn bind_exclusive(address: SocketAddr) -> Result<TcpListener, PreflightError> {
    let bind = || {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(LISTEN_BACKLOG)?;
        Ok(TcpListener::from(socket))
    };
    bind().map_err(|source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => PreflightError::AddressTaken { address },
        io::ErrorKind::PermissionDenied => PreflightError::AddressForbidden { address },
        _ => PreflightError::Address { address, source },
    })
}

/// Asks the kernel for its release, and refuses one whose io_uring lacks what the executors need.
///
/// # Errors
/// [`PreflightError::KernelTooOld`].
pub fn check_kernel() -> Result<String, PreflightError> {
    let release = kernel_release();
    match version_of(&release) {
        Some(version) if version < KERNEL_MIN => Err(PreflightError::KernelTooOld { release }),
        // One that cannot be read is left to the next check.
        _ => Ok(release),
    }
}

/// Sets up a ring and drops it again.
///
/// # Errors
/// Why this process cannot have one.
pub fn check_uring() -> Result<(), PreflightError> {
    let Err(source) = set_up_ring() else {
        return Ok(());
    };
    Err(match source.raw_os_error() {
        Some(libc::ENOSYS) => PreflightError::UringMissing {
            release: kernel_release(),
        },
        Some(libc::EPERM | libc::EACCES) => match uring_disabled() {
            0 => PreflightError::UringForbidden,
            value => PreflightError::UringDisabled { value },
        },
        Some(libc::ENOMEM) => match getrlimit(Resource::Memlock).current {
            Some(limit) => PreflightError::LockedMemory {
                limit,
                needed: LOCKED_MEMORY_WANTED_BYTES,
            },
            None => PreflightError::UringFailed { source },
        },
        _ => PreflightError::UringFailed { source },
    })
}

/// Raises the limit of locked memory as far as it goes, and returns it.
///
/// # Errors
/// When it is below what the rings may take.
pub fn check_locked_memory() -> Result<Option<u64>, PreflightError> {
    let limit = raise(Resource::Memlock);
    match limit {
        Some(limit) if limit < LOCKED_MEMORY_MIN_BYTES => Err(PreflightError::LockedMemory {
            limit,
            needed: LOCKED_MEMORY_MIN_BYTES,
        }),
        _ => Ok(limit),
    }
}

/// Raises the limit of file descriptors as far as it goes, and returns it.
///
/// # Errors
/// When that is below `needed`.
pub fn raise_descriptors(needed: u64) -> Result<u64, PreflightError> {
    let limit = raise(Resource::Nofile).unwrap_or(u64::MAX);
    if limit < needed {
        return Err(PreflightError::Descriptors { limit, needed });
    }
    Ok(limit)
}

/// Names the file system of a directory, and refuses those that do not keep what is synced to them.
///
/// # Errors
/// [`PreflightError::FileSystem`].
pub fn check_file_system(data_dir: &Path) -> Result<String, PreflightError> {
    let stat = rustix::fs::statfs(data_dir)
        .map_err(|errno| data_dir_error(data_dir, "asking for its file system")(errno.into()))?;
    let magic = stat.f_type as u64 & 0xFFFF_FFFF;
    match refused_file_system(magic) {
        Some((file_system, why)) => Err(PreflightError::FileSystem {
            path: data_dir.to_owned(),
            file_system,
            why,
        }),
        None => Ok(file_system_name(magic)),
    }
}

/// Writes a block by direct I/O to a file that it removes again.
///
/// # Errors
/// [`PreflightError::DirectIo`] when the file system does not take it.
pub fn check_direct_io(data_dir: &Path) -> Result<(), PreflightError> {
    let path = data_dir.join(format!(".direct-{}", std::process::id()));
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o640)
            .custom_flags(libc::O_DIRECT)
            .open(&path)?;
        std::fs::remove_file(&path)?;
        file.write_all(&DiskBufferMut::heap(BLOCK_BYTES))?;
        file.sync_data()
    };
    write().map_err(|source: io::Error| match source.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported => {
            // An open that is refused for its flags may have made the file all the same.
            let _ = std::fs::remove_file(&path);
            PreflightError::DirectIo {
                path: data_dir.to_owned(),
                source,
            }
        }
        _ => data_dir_error(data_dir, "writing a block to it")(source),
    })
}

/// Bytes that this user can still write.
///
/// # Errors
/// [`PreflightError::Space`] when they are less than `needed`.
pub fn check_space(data_dir: &Path, needed: u64) -> Result<u64, PreflightError> {
    let stat = rustix::fs::statvfs(data_dir)
        .map_err(|errno| data_dir_error(data_dir, "asking for its free space")(errno.into()))?;
    let available = stat.f_bavail.saturating_mul(stat.f_frsize);
    if available < needed {
        return Err(PreflightError::Space {
            path: data_dir.to_owned(),
            available,
            needed,
        });
    }
    Ok(available)
}

fn data_dir_error(path: &Path, doing: &'static str) -> impl Fn(io::Error) -> PreflightError {
    let path = path.to_owned();
    move |source| PreflightError::DataDir {
        path: path.clone(),
        doing,
        source,
    }
}

fn kernel_release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The setting exists since Linux 6.6; where it does not, nothing is switched off.
fn uring_disabled() -> u32 {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
        .ok()
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or(0)
}

#[allow(unsafe_code, reason = "io_uring_setup has no wrapper in std or libc")]
fn set_up_ring() -> io::Result<()> {
    use std::os::fd::{FromRawFd, OwnedFd};
    /// `sizeof(struct io_uring_params)`, all of it zero for a plain ring.
    const PARAMS_BYTES: usize = 120;
    let mut params = [0_u64; PARAMS_BYTES / size_of::<u64>()];
    // SAFETY: the kernel reads and writes `PARAMS_BYTES` at the pointer, which is aligned, and keeps no reference to them.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, 8_u32, params.as_mut_ptr()) };
    let Ok(descriptor) = i32::try_from(result) else {
        return Err(io::Error::other("io_uring_setup returned no descriptor"));
    };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that the kernel just made, and that nobody else has.
    drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
    Ok(())
}

/// Raises a soft limit to the hard one and returns what it is then; `None` without a limit.
fn raise(resource: Resource) -> Option<u64> {
    let before = getrlimit(resource);
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    // Refused in some sandboxes: what is there is what counts.
    let _ = setrlimit(resource, raised);
    getrlimit(resource).current
}

fn refused_file_system(magic: u64) -> Option<(&'static str, &'static str)> {
    match magic {
        0x0102_1994 => Some(("tmpfs", "which is memory: nothing survives a restart")),
        0x8584_58F6 => Some(("ramfs", "which is memory: nothing survives a restart")),
        0x794C_7630 => Some((
            "overlay",
            "the layer of a container, which goes away with it",
        )),
        _ => None,
    }
}

fn file_system_name(magic: u64) -> String {
    match magic {
        0xEF53 => "ext4".to_owned(),
        0x5846_5342 => "xfs".to_owned(),
        0x9123_683E => "btrfs".to_owned(),
        0xF2F5_2010 => "f2fs".to_owned(),
        0x2FC1_2FC1 => "zfs".to_owned(),
        0x6969 => "nfs".to_owned(),
        other => format!("{other:#x}"),
    }
}

/// The first whose io_uring waits with a time limit.
const KERNEL_MIN: (u32, u32) = (5, 11);
/// Kernels before 5.12 count the rings as locked memory; this is what a few of them take.
const LOCKED_MEMORY_MIN_BYTES: u64 = 512 * 1024;
/// What is asked for when there was too little.
const LOCKED_MEMORY_WANTED_BYTES: u64 = 8 * 1024 * 1024;
const LISTEN_BACKLOG: i32 = 1024;

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

/// Beside the test's binary, since the system's temporary directory may be a tmpfs.
fn temp_dir() -> tempfile::TempDir {
    let binary = std::env::current_exe().unwrap();
    tempfile::tempdir_in(binary.parent().unwrap()).unwrap()
}

fn requirements() -> Requirements {
    Requirements {
        available_bytes_min: 1,
        descriptors_min: 16,
    }
}

#[test]
fn a_good_machine_passes_and_the_directory_is_made() {
    let dir = temp_dir();
    let data_dir = dir.path().join("new/data");
    let (report, _lock) = preflight(&data_dir, &requirements()).unwrap();
    assert!(report.available_bytes > 0 && report.descriptors >= 16);
    assert!(version_of(&report.kernel_release).unwrap() >= KERNEL_MIN);
    let left: Vec<_> = std::fs::read_dir(&data_dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["LOCK"], "the probes leave nothing behind");
}

#[test]
fn a_second_broker_on_the_same_directory_is_refused_and_told_who_has_it() {
    let dir = temp_dir();
    let lock = DataDirLock::acquire(dir.path()).unwrap();
    let error = DataDirLock::acquire(dir.path()).unwrap_err();
    let own = std::process::id();
    assert!(matches!(&error, PreflightError::DataDirLocked { pid, .. } if *pid == Some(own)));
    assert!(error.to_string().contains(&own.to_string()));
    drop(lock);
    DataDirLock::acquire(dir.path()).unwrap();
}

#[test]
fn a_lock_file_of_a_dead_process_is_no_lock() {
    let dir = temp_dir();
    std::fs::write(dir.path().join("LOCK"), "4294967294, and much more text\n").unwrap();
    let _lock = DataDirLock::acquire(dir.path()).unwrap();
    let holder = std::fs::read_to_string(dir.path().join("LOCK")).unwrap();
    assert_eq!(holder, format!("{}\n", std::process::id()));
}

#[test]
fn file_systems_that_forget_are_refused_with_a_sentence() {
    for (magic, name) in [
        (0x0102_1994, "tmpfs"),
        (0x8584_58F6, "ramfs"),
        (0x794C_7630, "overlay"),
    ] {
        let (file_system, why) = refused_file_system(magic).unwrap();
        let error = PreflightError::FileSystem {
            path: PathBuf::from("/data"),
            file_system,
            why,
        };
        assert!(error.to_string().contains(name), "{error}");
    }
    assert_eq!(refused_file_system(0xEF53), None);
}

#[test]
fn a_real_tmpfs_is_refused() {
    // POSIX shared memory is a tmpfs on every Linux.
    assert!(matches!(
        check_file_system(Path::new("/dev/shm")),
        Err(PreflightError::FileSystem {
            file_system: "tmpfs",
            ..
        })
    ));
}

#[test]
fn too_little_space_is_refused_with_both_figures() {
    let dir = temp_dir();
    let error = check_space(dir.path(), u64::MAX).unwrap_err();
    assert!(error.to_string().contains(&u64::MAX.to_string()), "{error}");
}

#[test]
fn too_few_descriptors_are_refused() {
    let error = raise_descriptors(u64::MAX).unwrap_err();
    assert!(matches!(
        error,
        PreflightError::Descriptors {
            needed: u64::MAX,
            ..
        }
    ));
}

#[test]
fn a_data_directory_below_a_file_is_refused() {
    let dir = temp_dir();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = preflight(&file.join("data"), &requirements()).unwrap_err();
    assert!(matches!(error, PreflightError::DataDir { .. }), "{error}");
}

#[test]
fn two_brokers_cannot_listen_on_one_port() {
    let first = bind_exclusive("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = first.local_addr().unwrap();
    let error = bind_exclusive(address).unwrap_err();
    assert!(matches!(error, PreflightError::AddressTaken { address: taken } if taken == address));
    let everywhere = SocketAddr::from(([0, 0, 0, 0], address.port()));
    assert!(bind_exclusive(everywhere).is_err());
    drop(first);
    bind_exclusive(address).unwrap();
}

#[test]
fn an_address_of_another_machine_is_refused() {
    // TEST-NET-1 of RFC 5737: nobody's.
    let error = bind_exclusive("192.0.2.1:0".parse().unwrap()).unwrap_err();
    assert!(matches!(error, PreflightError::Address { .. }), "{error}");
}

#[test]
fn releases_are_read_whatever_follows_the_numbers() {
    for (release, version) in [
        ("6.18.0", Some((6, 18))),
        ("5.4.0-150-generic", Some((5, 4))),
        ("6.1-rc3", Some((6, 1))),
        ("5.8", Some((5, 8))),
        ("unknown", None),
        ("", None),
    ] {
        assert_eq!(version_of(release), version, "{release}");
    }
}

#[test]
fn each_refusal_of_io_uring_says_what_to_change() {
    let disabled = PreflightError::UringDisabled { value: 1 }.to_string();
    assert!(disabled.contains("kernel.io_uring_disabled=0") && disabled.contains("io_uring_group"));
    let disabled = PreflightError::UringDisabled { value: 2 }.to_string();
    assert!(!disabled.contains("io_uring_group"));
    assert!(
        PreflightError::UringForbidden
            .to_string()
            .contains("seccomp")
    );
    let (limit, needed) = (65_536, LOCKED_MEMORY_MIN_BYTES);
    let memory = PreflightError::LockedMemory { limit, needed }.to_string();
    assert!(memory.contains("65536") && memory.contains("ulimit -l"));
}

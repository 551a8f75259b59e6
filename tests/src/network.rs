//! Two machines' worth of network on one: a broker's and its clients', with a cable between them that can be cut without a word.

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::machine::{as_root, skipped};

/// Two network namespaces and a pair of interfaces between them. All of it goes with this value, and with its process.
pub struct Cable {
    broker: Namespace,
    clients: Namespace,
}

impl Cable {
    /// Where the broker is to listen.
    pub const BROKER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));

    /// `None`, said with its reason, where it cannot be made.
    #[must_use]
    pub fn new() -> Option<Self> {
        if !as_root() {
            skipped("only root makes network namespaces");
            return None;
        }
        let (Some(broker), Some(clients)) = (Namespace::new(), Namespace::new()) else {
            skipped("network namespaces cannot be made here");
            return None;
        };
        let peer = clients.holder.id().to_string();
        let laid = broker.ip(&[
            "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", &peer,
        ]) && broker.ip(&["addr", "add", "10.77.0.1/24", "dev", "cable"])
            && clients.ip(&["addr", "add", "10.77.0.2/24", "dev", "cable"])
            && broker.ip(&["link", "set", "cable", "up"])
            && clients.ip(&["link", "set", "cable", "up"]);
        if !laid {
            skipped("there are no veth interfaces here");
            return None;
        }
        Some(Self { broker, clients })
    }

    /// Runs a command where the broker is.
    #[must_use]
    pub fn at_broker(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside
            .args([
                "--target",
                &self.broker.holder.id().to_string(),
                "--net",
                "--",
            ])
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                inside.env(name, value);
            }
        }
        inside
    }

    /// Does something as a client at the other end; its sockets stay there.
    ///
    /// # Panics
    /// When it does.
    pub fn as_client<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        self.clients.inside(what)
    }

    /// Does something as a client on the broker's machine, which the cable does not concern.
    ///
    /// # Panics
    /// When it does.
    pub fn as_neighbour<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        self.broker.inside(what)
    }

    /// From now on nothing that clients send arrives: no data, no acknowledgement, no end of a connection.
    ///
    /// # Panics
    /// When the route cannot be set.
    pub fn cut(&self) {
        let broker = Self::BROKER.to_string();
        assert!(
            self.clients.ip(&["route", "add", "blackhole", &broker]),
            "a route can be set"
        );
    }

    /// Connections with clients that the broker's kernel still keeps, whether a process has them or not.
    ///
    /// # Panics
    /// When the kernel does not say.
    #[must_use]
    pub fn kernel_connections(&self) -> usize {
        let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", self.broker.holder.id()))
            .expect("the kernel lists its connections");
        // 10.77.0.2 as the kernel writes it.
        table
            .lines()
            .filter(|line| line.contains(" 02004D0A:"))
            .count()
    }
}

/// A network namespace, and the process that keeps it.
struct Namespace {
    holder: Child,
}

impl Namespace {
    fn new() -> Option<Self> {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-ec", "ip link set lo up; echo up; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        let said = holder.stdout.take().map(BufReader::new);
        let _ = said?.read_line(&mut line);
        let namespace = Self { holder };
        (line == "up\n").then_some(namespace)
    }

    fn ip(&self, arguments: &[&str]) -> bool {
        Command::new("nsenter")
            .args([
                "--target",
                &self.holder.id().to_string(),
                "--net",
                "--",
                "ip",
            ])
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    /// On a thread of its own, since a thread stays where it went.
    fn inside<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        let namespace = std::fs::File::open(format!("/proc/{}/ns/net", self.holder.id()))
            .expect("a running process has a network");
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("root goes anywhere");
                what()
            });
            match inside.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

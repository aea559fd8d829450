//! Hosts of their own for nodes: network namespaces on one switch, as containers are.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Output;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::process::Command;

use crate::peers::Scratch;

/// What a host looks up; every host has it for the addresses that [`Network::name_resolves_to`] says.
pub(crate) const NAME: &str = "proxy.test";

/// Addresses of one network.
const ADDRESSES: u32 = 32;
/// Networks in 198.18.0.0/15, which is for tests of networks (RFC 2544).
const NETWORKS: u32 = (1 << 17) / ADDRESSES;

/// Becomes a program on a host: with its name, and the file that its names are looked up in.
const BECOME: &str = r#"hostname "$0"; mount --bind "$1" /etc/hosts; shift; exec "$@""#;

/// Some hosts that reach each other and that this one reaches. All of it goes with the test.
pub(crate) struct Network {
    name: String,
    /// The first address, of which there is a network.
    base: u32,
    hosts: Vec<Ipv4Addr>,
    next: u32,
    scratch: Scratch,
}

impl Network {
    pub(crate) fn of(hosts: usize) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        // Tests that run at the same time have different ones.
        let network = process.wrapping_mul(8).wrapping_add(number) % NETWORKS;
        let mut network = Self {
            name: format!("proxy{process}-{number}"),
            base: u32::from(Ipv4Addr::new(198, 18, 0, 0)) + network * ADDRESSES,
            hosts: Vec::new(),
            next: 1,
            scratch: Scratch::new(),
        };
        network.add_switch(&format!("px{process}n{number}"));
        for _ in 0..hosts {
            network.add_host();
        }
        let addresses = network.hosts.clone();
        network.name_resolves_to(&addresses);
        network
    }

    pub(crate) fn address(&self, host: usize) -> IpAddr {
        self.hosts[host].into()
    }

    pub(crate) fn addresses(&self) -> &[Ipv4Addr] {
        &self.hosts
    }

    /// A program on a host.
    pub(crate) fn command(&self, host: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace(host)])
            .args(["unshare", "--uts", "--mount", "sh", "-ec", BECOME])
            .arg(format!("host-{host}"))
            .args([&self.path("hosts"), program]);
        command
    }

    /// Writes a file that every host has.
    pub(crate) fn file(&self, name: &str, text: &str) {
        self.scratch.file(name, text);
    }

    pub(crate) fn path(&self, file: &str) -> String {
        self.scratch.path(file)
    }

    /// Lets [`NAME`] stand for these, at once and on every host.
    pub(crate) fn name_resolves_to(&self, addresses: &[Ipv4Addr]) {
        let mut lines = "127.0.0.1 localhost\n".to_owned();
        for address in addresses {
            writeln!(lines, "{address} {NAME}").expect("a string");
        }
        // Written in place: what is bound over `/etc/hosts` is this file and not its name.
        self.file("hosts", &lines);
    }

    /// Drops all packets between this host and these: they go silent, and on this one sending fails.
    pub(crate) fn cut(&self, host: usize, others: &[usize]) {
        for other in others {
            let other = self.address(*other);
            self.iptables(host, &format!("-A INPUT -s {other} -j DROP"));
            self.iptables(host, &format!("-A OUTPUT -d {other} -j DROP"));
        }
    }

    /// Lets all packets of a host through again.
    pub(crate) fn heal(&self, host: usize) {
        self.iptables(host, "-F");
    }

    /// Takes a host's address from it, and gives it one that none had before.
    pub(crate) fn move_host(&mut self, host: usize) {
        let address = self.next_address();
        self.hosts[host] = address;
        self.on(host, "addr flush dev eth0");
        self.on(host, &format!("addr add {address}/27 dev eth0"));
    }

    fn add_switch(&mut self, uplink: &str) {
        let (name, address) = (self.name.clone(), self.next_address());
        // In a namespace of its own, what this host's firewall says about bridges does not matter.
        run(&format!("ip netns add {name}"));
        run(&format!("ip -n {name} link add switch type bridge"));
        run(&format!("ip -n {name} link set switch up"));
        run(&format!(
            "ip link add {uplink} type veth peer name uplink netns {name}"
        ));
        run(&format!("ip -n {name} link set uplink master switch up"));
        run(&format!("ip addr add {address}/27 dev {uplink}"));
        run(&format!("ip link set {uplink} up"));
    }

    fn add_host(&mut self) {
        let (host, address) = (self.hosts.len(), self.next_address());
        self.hosts.push(address);
        let (switch, name) = (&self.name, self.namespace(host));
        run(&format!("ip netns add {name}"));
        self.on(
            host,
            &format!("link add eth0 type veth peer name host-{host} netns {switch}"),
        );
        run(&format!(
            "ip -n {switch} link set host-{host} master switch up"
        ));
        self.on(host, &format!("addr add {address}/27 dev eth0"));
        self.on(host, "link set eth0 up");
        self.on(host, "link set lo up");
    }

    fn namespace(&self, host: usize) -> String {
        format!("{}-{host}", self.name)
    }

    fn next_address(&mut self) -> Ipv4Addr {
        let address = self.base + self.next;
        assert!(self.next < ADDRESSES - 1, "no address left");
        self.next += 1;
        address.into()
    }

    fn on(&self, host: usize, what: &str) {
        run(&format!("ip -n {} {what}", self.namespace(host)));
    }

    fn iptables(&self, host: usize, what: &str) {
        let namespace = self.namespace(host);
        run(&format!("ip netns exec {namespace} iptables {what}"));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let hosts = (0..self.hosts.len()).map(|host| self.namespace(host));
        for name in hosts.chain([self.name.clone()]) {
            // One that was not made cannot be deleted.
            let _ = output(&format!("ip netns del {name}"));
        }
    }
}

/// Whether this process may make networks, and has what that takes.
pub(crate) fn may_be_made() -> bool {
    static MAY: OnceLock<bool> = OnceLock::new();
    *MAY.get_or_init(|| {
        let tried = output("unshare --net --uts --mount iptables -A INPUT -j DROP");
        tried.is_ok_and(|output| output.status.success())
    })
}

fn output(command: &str) -> std::io::Result<Output> {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    std::process::Command::new(program).args(words).output()
}

fn run(command: &str) {
    let output = output(command).expect("the program");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {said}");
}

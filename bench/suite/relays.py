"""Who takes part: the relays by name, each opened fresh, with what a part of the suite wishes."""
import os
import signal
import subprocess
import tempfile

from account import Account
from common import ROOT, Smtpd, free_port, listens, wait_for
from peers.exim import Exim
from peers.haraka import Haraka, HarakaAlone
from peers.opensmtpd import OpenSMTPD
from peers.postfix import Postfix
from suite.measure import find_program

PEERS = {peer.name: peer for peer in (Postfix, Haraka, Exim, OpenSMTPD)}
NAMES = ("smtpd", *PEERS)
PEERS["haraka1"] = HarakaAlone  # comes along with haraka, in some parts
TITLES = dict({name: peer.title for name, peer in PEERS.items()}, smtpd="smtpd",
              tools="tools alone", bare="bare loop", library="TLS library alone")
SETTINGS = (
    "its defaults, with more connections allowed; relay listener for 127.0.0.0/8, one route to the next hop by "
    "address with 100 connections, log into a file",
    "two syncs for each commit, which all messages share that arrive together",
    "log-ins by argon2id; a good log-in is remembered, so that its hash is computed once")


class Ours(Smtpd):
    """smtpd, with the listener that a part wishes for."""

    def __init__(self, binary, wishes):
        self.wishes = wishes
        self.submission = free_port()
        most = max(1000, wishes.connections + 1000)
        extra = ""
        if wishes.certificate:
            extra = f"""
[tls]
certificate = "{wishes.certificate[0]}"
key = "{wishes.certificate[1]}"
[auth]
users_file = "{{folder}}/users"
[[listen]]
address = "127.0.0.1:{self.submission}"
"""
        super().__init__(binary, wishes.next_hop, extra=extra,
                         limits=f"connections = {most}\nconnections_per_address = {most}\n"
                                "handshakes_per_address = 1000\n")
        if wishes.certificate:
            self.plain_port, self.port = self.port, self.submission

    def prepare(self):
        if not self.wishes.certificate:
            return
        # The users file is written by a command, which wants a configuration that names it.
        config = os.path.join(self.folder, "users.toml")
        with open(config, "w") as file:
            file.write(f'[server]\nhostname = "relay.bench.test"\ndata_dir = "{self.folder}/d"\n'
                       f'[auth]\nusers_file = "{self.folder}/users"\n'
                       'allow_clear_on_loopback = true\n'
                       '[[listen]]\naddress = "127.0.0.1:9"\ntls = "none"\n')
        subprocess.run([self.binary, "user", "add", self.wishes.user, "--config", config],
                       input=self.wishes.password.encode() + b"\n", check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Bare:
    """The bare loop: receive, one shared durable write, send; no parsing, no queue."""
    name = "bare"

    def __init__(self, program, wishes, file_bytes):
        self.port = free_port()
        self.account = Account("bare")
        descriptor, self.file = tempfile.mkstemp(prefix="bench-bare-", dir=os.path.join(ROOT, "build"))
        os.close(descriptor)
        self.process = subprocess.Popen(
            [program, "--listen", str(self.port), "--to", str(wishes.next_hop), "--file", self.file,
             "--file-bytes", str(file_bytes)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, preexec_fn=self.account.enter)
        self.account.pid = self.process.pid
        try:
            wait_for(lambda: listens(self.port), 10)
        except BaseException:  # also where somebody ends us meanwhile
            self.close()
            raise

    def close(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.account.close()
        os.unlink(self.file)


class Hall:
    """Opens relays by name."""

    def __init__(self, options):
        self.options = options

    def open(self, name, wishes):
        if name == "smtpd":
            return Ours(self.options.binary, wishes)
        if name == "bare":
            return Bare(find_program(self.options.tools, "bare"), wishes,
                        (16 if self.options.quick else 256) * 1000 * 1000)
        return PEERS[name](wishes)

    def version(self, name):
        if name == "smtpd":
            done = subprocess.run([self.options.binary, "--version"], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True)
            return done.stdout.split("\n")[0].strip()
        return PEERS[name].version()

"""Haraka, from npm, with a worker for each core."""
import json
import os
import shutil
import subprocess

from peers import FOLDER, Missing, Peer

PACKAGE = os.path.join(FOLDER, "haraka", "node_modules", "haraka")
# Relaying for all who may connect, and one next hop: what its relay plugin and a fixed route do.
PLUGIN = """'use strict';
exports.register = function () {
    this.register_hook('rcpt', 'take');
    this.register_hook('get_mx', 'route');
};
exports.take = function (next, connection) {
    connection.relaying = true;
    next(OK);
};
exports.route = function (next) {
    next(OK, {exchange: '127.0.0.1', port: %d, priority: 0});
};
"""


class Haraka(Peer):
    name = "haraka"
    title = "Haraka"
    nodes = "cpus"
    # Its fsyncs are calls in the thread pool: with 4 threads, node's own choice, it relays a quarter less.
    environment = dict(UV_THREADPOOL_SIZE="32")
    settings = (
        "nodes=cpus: a worker for each core; beside it, at 10 and 1 KB, a single process",
        "32 threads for node's file calls (UV_THREADPOOL_SIZE); log level notice",
        "one plugin of ours: relaying for all, one next hop by address; outbound concurrency_max 100",
        "its queue is on disk: one fsync a message (seen with strace)",
        "log-ins by auth/flat_file with PLAIN (passwords in clear)")

    @classmethod
    def version(cls):
        with open(os.path.join(PACKAGE, "package.json")) as file:
            found = json.load(file)["version"]
        node = subprocess.run(["node", "--version"], stdout=subprocess.PIPE, text=True).stdout
        return f"{found}, node {node.strip().lstrip('v')}"

    def prepare(self):
        if not shutil.which("node"):
            raise Missing("node is not there")
        plugins = ["bench_relay"]
        self.write("haraka/plugins/bench_relay.js", PLUGIN % self.wishes.next_hop)
        if self.wishes.certificate:
            plugins[:0] = ["tls", "auth/flat_file"]
            self.write("haraka/config/tls.ini", f"key={self.wishes.certificate[1]}\n"
                                                f"cert={self.wishes.certificate[0]}\n"
                                                "[outbound]\n")
            self.write("haraka/config/auth_flat_file.ini",
                       "[core]\nmethods=PLAIN\nconstrain_sender=false\n[users]\n"
                       f"{self.wishes.user}={self.wishes.password}\n")
        with open(os.path.join(PACKAGE, "config", "connection.ini")) as file:
            connection = file.read()  # without its [message] section it does not work
        for name, text in (
                ("connection.ini", connection),
                ("smtp.ini", f"listen=127.0.0.1:{self.port}\nnodes={self.nodes}\n"
                             "inactivity_timeout=300\n"),
                ("outbound.ini", "concurrency_max=100\nenable_tls=false\n"),
                ("log.ini", "[main]\nlevel=notice\nformat=default\n"), ("plugins", "\n".join(plugins) + "\n"),
                ("me", "haraka.bench.test\n")):
            self.write("haraka/config/" + name, text)
        os.makedirs(self.path("haraka", "queue"))
        return [], f"node {PACKAGE}/bin/haraka -c {self.folder}/haraka"

    def waiting(self):
        return self.files_below("haraka/queue")


class HarakaAlone(Haraka):
    """One process: a lower rate, and less CPU for each message."""
    title = "Haraka, one process"
    nodes = 0

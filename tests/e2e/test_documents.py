"""The commands of README.md and of every page in docs/ run as they are written, block after block.

A command is a line of a ```sh block, or of a block indented by four blanks. It runs with namespaces
of its own: /etc/smtpd and /var/lib/smtpd are the test's, and there is no network but loopback. What is
not run stands in NOT_RUN, with the reason. A ```toml block, put into the configuration, passes
`smtpd check`. A new page takes part by being there."""
import fcntl
import glob
import json
import os
import re
import shutil
import signal
import smtplib
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import tomllib
import unittest

import world
from world import BINARY, PASSWORD, PATIENCE, make_certificate, message, wait_for

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
INSIDE = "SMTPD_INSIDE_NAMESPACES"

NOT_RUN = [
    (r"third_party/bootstrap\.sh (demo|test)\b", "installs packages and runs all tests: .ci/run does it"),
    (r"bench/run\b", "measures for twenty minutes: test_bench.py does a quick one"),
    (r"bench/flight\b", "measures for minutes, over ways that are as long as the sea is wide"),
    (r"bench/scale\b", "fills gigabytes of disk and measures for a quarter of an hour"),
    (r"docker (build|push|run|exec|logs|stop)\b", "needs an engine: tests/container/test_image.py"),
    (r"kubectl\b", "needs a cluster; but Secrets are made, and printed, where kubectl is there"),
]
ELSEWHERE = {"docs/signing.md": "test_signing_page.py runs it, with a DNS that learns its records",
             "docs/repair.md": "test_repair.py runs it: no server may run",
             "docs/moving.md": "test_moving.py runs it, with two relays"}
# Pages that begin with nothing: they say how to come to a relay.
FROM_NOTHING = {"README.md", "docs/kubernetes/README.md"}
BASE = """
[server]
hostname = "relay.example.com"
[tls]
certificate = "/etc/smtpd/relay.crt"
key = "/etc/smtpd/relay.key"
[auth]
users_file = "/etc/smtpd/users"
[queue]
min_free_space = "1MiB"
allow_network_filesystem = true
[dns]
servers = ["127.0.0.1:9"]
timeout = "1s"
[admin]
listen = ["127.0.0.1:8587"]
[[listen]]
address = ["127.0.0.1:587"]
[[route]]
match = ["*"]
host = "127.0.0.1"
port = 9
"""


def pages():
    found = ["README.md"] + sorted(os.path.relpath(path, ROOT) for path in
                                   glob.glob(os.path.join(ROOT, "docs", "**", "*.md"), recursive=True))
    return [page for page in found if page not in ELSEWHERE]


def blocks(text):
    """(kind, lines) in order; kind is what stands behind ```, or "sh" where lines are indented."""
    found, fence, indented = [], None, None
    previous = ""
    for line in text.splitlines():
        if fence is not None:
            if line.startswith("```"):
                fence = None
            else:
                found[-1][1].append(line)
        elif line.startswith("```"):
            fence = line[3:].strip()
            found.append((fence, []))
            indented = None
        elif line.startswith("    ") and (indented is not None or not previous.strip()):
            if indented is None:
                indented = []
                found.append(("sh", indented))
            indented.append(line[4:])
        else:
            indented = None
        previous = line
    return found


def commands(lines):
    """One string each: lines that end in a backslash go on, comments are none."""
    text = "\n".join(lines).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def variants(command):
    """`show ID [--headers|--message]` is three commands."""
    part = re.search(r" \[([^\]|]+(?:\|[^\]|]+)*)\]", command)
    if not part:
        return [command]
    return [command[:part.start()] + word + command[part.end():]
            for word in ["", *(" " + w for w in part.group(1).split("|"))]]


def reason_not_to_run(command):
    return next((why for pattern, why in NOT_RUN if re.match(pattern, command)), None)


def without_cluster(command):
    """What of a kubectl command needs no cluster: it reads the files and prints the object."""
    first = command.split(" | ")[0]
    return first if "--dry-run=client" in first else first + " --dry-run=client -o yaml"


def all_commands():
    for page in pages():
        with open(os.path.join(ROOT, page)) as file:
            for kind, lines in blocks(file.read()):
                if kind == "sh":
                    yield from ((page, command) for command in commands(lines))


def merge(into, other):
    for name, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            merge(into[name], value)
        else:
            into[name] = value
    return into


def toml(table):
    """Sections of plain values, and arrays of such: all that smtpd.toml has."""
    def value(v):
        return json.dumps(v, ensure_ascii=False)
    text = ""
    for name, part in table.items():
        for head, one in [(f"[{name}]", part)] if isinstance(part, dict) else \
                [(f"[[{name}]]", p) for p in part]:
            text += head + "\n" + "".join(f"{k} = {value(v)}\n" for k, v in one.items())
    return text


class Sandbox:
    def __init__(self, case, page):
        self.case, self.page = case, page
        self.work = tempfile.mkdtemp(prefix="smtpd-documents-")
        case.addCleanup(shutil.rmtree, self.work, ignore_errors=True)
        for folder in ("/etc/smtpd", "/var/lib/smtpd"):
            shutil.rmtree(folder, ignore_errors=True)
            os.makedirs(folder, 0o700)
        certificate = make_certificate(self.work, "relay", host="relay.example.com")
        for path in certificate:
            shutil.move(path, "/etc/smtpd/")
        os.makedirs(os.path.join(self.work, "build", "release"))
        os.mkdir(os.path.join(self.work, "bin"))
        os.symlink(BINARY, os.path.join(self.work, "build", "release", "smtpd"))
        os.symlink(BINARY, os.path.join(self.work, "bin", "smtpd"))
        for name in ("docs", "third_party"):
            os.symlink(os.path.join(ROOT, name), os.path.join(self.work, name))
        self.relay = None
        case.addCleanup(self.kill)

    # ---- the relay ----

    def run_in_background(self, words):
        self.log = os.path.join(self.work, "log")
        with open(self.log, "wb") as log:
            self.relay = subprocess.Popen(words, cwd=self.work, stdin=subprocess.DEVNULL, stdout=log,
                                          stderr=log)
        wait_for(lambda: self.relay.poll() is not None or "server.started" in self.said(), "the start")
        self.case.assertIsNone(self.relay.poll(), self.said())

    def said(self):
        with open(self.log, errors="replace") as file:
            return file.read()

    def kill(self):
        if self.relay:
            self.relay.kill()
            self.relay.wait()

    def end(self):
        """SIGTERM, as the pages say; and nobody's memory was hurt meanwhile."""
        if self.relay:
            relay, self.relay = self.relay, None
            relay.send_signal(signal.SIGTERM)
            self.case.assertEqual(relay.wait(PATIENCE), 0, self.said())
            self.case.assertNotRegex(self.said(), "Sanitizer|runtime error")

    def prepare(self):
        """A relay with users and with mail that waits."""
        with open("/etc/smtpd/smtpd.toml", "w") as file:
            file.write(BASE)
        self.add_users()
        self.run_in_background([BINARY, "run"])
        client = smtplib.SMTP("127.0.0.1", 587, timeout=PATIENCE, local_hostname="client.test")
        context = ssl.create_default_context(cafile="/etc/smtpd/relay.crt")
        context.check_hostname = False
        client.starttls(context=context)
        client.login("app", PASSWORD)
        for sender in ("news@example.com", "app@example.com", "news@example.com"):
            client.sendmail(sender, ["someone@example.com", "other@example.net"], message(sender=sender))
        client.quit()
        waiting = subprocess.run([BINARY, "queue", "list", "--json"], text=True, check=True,
                                 stdout=subprocess.PIPE).stdout
        self.id = json.loads(waiting.splitlines()[0])["id"]

    def add_users(self):
        there = ""
        if os.path.exists("/etc/smtpd/users"):
            with open("/etc/smtpd/users") as file:
                there = file.read()
        for name in ("app", "newsletter"):
            if f"{name}:" not in there:
                subprocess.run([BINARY, "user", "add", name], input=PASSWORD + "\n", text=True,
                               check=True, stdout=subprocess.DEVNULL)

    # ---- the blocks ----

    def command(self, command):
        if re.match(r"(build/release/)?smtpd run\b", command):
            self.run_in_background(["sh", "-c", "exec " + command])
            return
        if self.page not in FROM_NOTHING:
            command = re.sub(r"\bID\b", self.id, command)
        done = subprocess.run(["sh", "-uc", "umask 077\n" + command], cwd=self.work, text=True,
                              input=PASSWORD + "\n", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=PATIENCE * 2, env=dict(
                                  os.environ, PATH=f"{self.work}/bin:{os.environ['PATH']}"))
        self.case.assertEqual(done.returncode, 0, f"{self.page}: {command}\n{done.stdout}")
        self.case.assertNotRegex(done.stdout, "Sanitizer|runtime error")

    def shell(self, lines):
        if self.page not in FROM_NOTHING:
            self.add_users()
        for command in commands(lines):
            if " create secret " in command and shutil.which("kubectl"):
                self.command(without_cluster(command))
            if not reason_not_to_run(command):
                for one in variants(command):
                    self.command(one)
                    self.edit(one)

    def edit(self, command):
        """README.md says: "then edit it"; what it makes of it is its own smallest file."""
        if re.match(r"\S*smtpd document example > /etc/smtpd/smtpd.toml", command):
            with open(os.path.join(ROOT, self.page)) as file:
                smallest = next(lines for kind, lines in blocks(file.read()) if kind == "toml")
            with open("/etc/smtpd/smtpd.toml", "w") as file:
                file.write("\n".join(smallest) + "\n")
            if not self.is_a_disk("/var/lib/smtpd"):
                with open("/etc/smtpd/smtpd.toml", "a") as file:
                    file.write("[queue]\nallow_network_filesystem = true\n")

    @staticmethod
    def is_a_disk(folder):
        kind = subprocess.run(["stat", "-f", "-c", "%T", folder], text=True, check=True,
                              stdout=subprocess.PIPE).stdout
        return not re.match("overlay|nfs|fuse|9p|v9fs", kind)

    def configuration(self, lines):
        text = "\n".join(lines) + "\n"
        path = os.path.join(self.work, "smtpd.toml")
        with open(path, "w") as file:
            file.write(toml(merge(tomllib.loads(BASE), tomllib.loads(text))))
        open("/etc/smtpd/users", "a").close()
        done = subprocess.run([BINARY, "check", path], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=PATIENCE)
        self.case.assertEqual(done.returncode, 0, f"{self.page}:\n{text}\n{done.stdout}")


class Documents(unittest.TestCase):
    maxDiff = None

    def test_commands_and_configurations_of_every_page(self):
        if not os.environ.get(INSIDE):
            self.skipTest("needs namespaces of its own (root, or user namespaces)")
        for page in pages():
            with open(os.path.join(ROOT, page)) as file:
                found = [(kind, lines) for kind, lines in blocks(file.read()) if kind in ("sh", "toml")]
            if not found:
                continue
            with self.subTest(page=page):
                sandbox = Sandbox(self, page)
                try:
                    if page not in FROM_NOTHING:
                        sandbox.prepare()
                    for kind, lines in found:
                        if kind == "sh":
                            sandbox.shell(lines)
                        else:
                            sandbox.configuration(lines)
                    sandbox.end()
                finally:
                    sandbox.kill()

    def test_what_is_not_run_is_there_and_the_rest_is_more(self):
        """A reason that fits no command any more would hide the next one."""
        found = [command for _, command in all_commands()]
        for pattern, why in NOT_RUN:
            self.assertTrue([c for c in found if re.match(pattern, c)], why)
        self.assertGreater(len([c for c in found if not reason_not_to_run(c)]), 20)
        for page in ELSEWHERE:
            self.assertTrue(os.path.exists(os.path.join(ROOT, page)))

    def test_links_between_the_pages_lead_somewhere(self):
        for page in [*pages(), *ELSEWHERE]:
            with open(os.path.join(ROOT, page)) as file:
                text = re.sub(r"```.*?```", "", file.read(), flags=re.S)
            for target in re.findall(r"\]\(([^)\s]+)\)", text):
                if re.match(r"https?:|#", target):
                    continue
                path = os.path.join(ROOT, os.path.dirname(page), target.split("#")[0])
                self.assertTrue(os.path.exists(path), f"{page}: {target}")

    def test_the_table_of_documents_is_complete(self):
        with open(os.path.join(ROOT, "README.md")) as file:
            text = file.read()
        for page in [*pages(), *ELSEWHERE]:
            if page != "README.md" and not page.startswith("docs/decisions/"):
                self.assertIn(f"]({page})", text)


def with_loopback_and_folders_of_its_own():
    """Inside of the namespaces: lo is up, /etc is a copy, /var/lib has nothing but us."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14s", b"lo", 0x1 | 0x40, b"")  # IFF_UP, IFF_RUNNING
        fcntl.ioctl(any_socket, 0x8914, request)                  # SIOCSIFFLAGS
    folder = tempfile.mkdtemp(prefix="smtpd-documents-")
    subprocess.run(["cp", "-a", "/etc", folder], stderr=subprocess.DEVNULL)  # but what is not ours to read
    os.mkdir(os.path.join(folder, "lib"))
    for source, target in (("etc", "/etc"), ("lib", "/var/lib")):
        subprocess.run(["mount", "--bind", os.path.join(folder, source), target], check=True)
    return folder


def main():
    if os.environ.get(INSIDE):
        folder = with_loopback_and_folders_of_its_own()
        try:
            world.main()
        finally:
            for target in ("/etc", "/var/lib"):
                subprocess.run(["umount", "-l", target])
            shutil.rmtree(folder, ignore_errors=True)
    from test_container import namespace
    words = namespace("mount", "net")
    if words:
        os.environ[INSIDE] = "yes"
        os.execvp(words[0], [*words, sys.executable, *sys.argv])
    world.main()


if __name__ == "__main__":
    main()

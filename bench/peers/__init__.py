"""The relays beside ours: unpacked, never installed, each in namespaces of its own.

A peer runs in a mount namespace whose /etc is a folder of its own (users, names, its configuration)
and in a process namespace: whatever it starts ends with it, and its dead are counted. That needs
root. It listens on loopback and hands everything to one next hop on loopback. Each is set up for
volume, with its queue on disk; what was chosen stands in `settings`, word for word in its file."""
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import tempfile

from account import Account
from common import ROOT, TOOLS, free_port, greets, wait_for

FOLDER = os.path.join(ROOT, "build", "peers")
# What programs look up in /etc and that is the same for all of them.
FROM_ETC = ("group", "host.conf", "hosts", "ld.so.cache", "ld.so.conf", "localtime", "nsswitch.conf",
            "passwd", "protocols", "services", "shadow", "ssl/openssl.cnf")


class Missing(Exception):
    """This peer cannot be measured here, and why."""


@dataclasses.dataclass
class Wishes:
    """What a part of the suite asks of a relay."""
    next_hop: int  # port on 127.0.0.1
    connections: int = 0  # to be held idle at once; 0: the usual 100 sessions
    certificate: tuple = ()  # (certificate, key): offers STARTTLS, and under it AUTH PLAIN
    user: str = "bench"
    password: str = "bench-password-1"


class Peer:
    """One running peer. Subclasses say how: prepare() writes its files and returns the command."""
    name = title = ""
    settings = ()  # for the page: what was chosen, a line each
    users = ()  # (user, group number) that it wants in /etc/passwd and /etc/group
    environment = {}

    def __init__(self, wishes):
        if os.getuid() != 0:
            raise Missing("needs root, for namespaces of its own")
        self.check()
        self.wishes = wishes
        self.port = free_port()
        os.makedirs(os.path.join(ROOT, "build"), exist_ok=True)
        self.folder = tempfile.mkdtemp(prefix=f"bench-{self.name}-",
                                       dir=os.path.join(ROOT, "build"))
        os.chmod(self.folder, 0o755)
        self.account = Account(self.name)
        self.process = None
        try:
            self.make_etc()
            self.start()
        except BaseException as error:  # also where somebody ends us meanwhile
            log = self.log_tail()
            self.close()
            if isinstance(error, (OSError, RuntimeError, subprocess.SubprocessError)):
                raise Missing(f"does not start: {error} {log}".strip()) from error
            raise

    @classmethod
    def check(cls):
        """Raises Missing where it was not unpacked."""
        folder = os.path.join(FOLDER, cls.name)
        if os.path.exists(os.path.join(folder, "failed")):
            with open(os.path.join(folder, "failed")) as file:
                raise Missing("could not be fetched: " + file.read().strip())
        if not os.path.exists(os.path.join(folder, ".unpacked")):
            raise Missing("was not fetched")

    @classmethod
    def version(cls):
        with open(os.path.join(FOLDER, cls.name, "versions")) as file:
            return next(line.split()[1] for line in file if line.startswith(cls.name))

    def path(self, *words):
        return os.path.join(self.folder, *words)

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w") as file:
            file.write(text)

    def make_etc(self):
        for name in FROM_ETC:
            if os.path.exists("/etc/" + name):
                os.makedirs(os.path.dirname(self.path("etc", name)), exist_ok=True)
                shutil.copy("/etc/" + name, self.path("etc", name))
        self.write("etc/resolv.conf", "nameserver 127.0.0.1\nlookup file\noptions attempts:1 timeout:1\n")
        for name, line in (("passwd", "{0}:x:{1}:{1}::/:/bin/false\n"), ("group", "{0}:x:{1}:\n")):
            with open(self.path("etc", name)) as file:
                lines = [x for x in file if x.split(":")[0] not in dict(self.users)]
            lines += [line.format(user, number) for user, number in self.users]
            self.write("etc/" + name, "".join(lines))

    def prepare(self):
        """Writes the configuration; returns (lines of shell before it, the command)."""
        raise NotImplementedError

    def start(self):
        before, command = self.prepare()
        # The shell stays as the first process of the namespace: it reaps orphans.
        script = "\n".join(["set -e", f"mount --bind {self.folder}/etc /etc", *before, command,
                            "exit $?"])
        # On a busy machine a Postfix was seen to hang at the first connection behind its start.
        for _ in range(3):
            self.spawn(script)
            try:
                wait_for(lambda: self.process.poll() is not None or greets(self.port), 20)
                break
            except RuntimeError:
                self.end()
        else:
            raise RuntimeError("it greets nobody, at three starts")
        if self.process.poll() is not None:
            raise RuntimeError(f"it ended with {self.process.returncode}")

    def spawn(self, script):
        with open(self.path("err"), "w") as err:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh",
                 "-c", script], env=dict(PATH=os.environ["PATH"], HOME=self.folder, **self.environment), stdin=subprocess.DEVNULL,
                stdout=err, stderr=err, preexec_fn=self.account.enter, cwd="/")
        self.account.pid = self.process.pid

    def log_tail(self):
        text = ""
        for name in ("err", "log"):
            try:
                with open(self.path(name), errors="replace") as file:
                    text += file.read()[-600:]
            except OSError:
                continue
        return re.sub(r"\s+", " ", text.replace(self.folder, "")).strip()[-600:]

    def waiting(self):
        """Messages that are in its queue."""
        raise NotImplementedError

    def files_below(self, *folders, ends=""):
        count = 0
        for folder in folders:
            for _, _, files in os.walk(self.path(folder)):
                count += sum(name.endswith(ends) for name in files)
        return count

    def end(self):
        for child in self.account.pids() - {self.process.pid}:
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.kill()
        self.process.wait()

    def close(self):
        """At once: what it has is thrown away. The first process takes all others along."""
        if self.process:
            self.end()
        self.account.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def tools_root():
    return os.path.join(TOOLS, "root")

"""What the machine runs out of, under load: room on the disk (ext4, tmpfs), a file system that turns
read-only, descriptors, memory. While it lasts clients hear 4xx; nothing is lost; when the cause is
gone the relay goes on by itself (a read-only file system ends the process: then its supervisor
starts it until it stays). And the kernel's own killer, who must not make us lose anything."""
import contextlib
import ctypes
import os
import resource
import subprocess
import time

import load as loads
from ledger import Books, Ledger, world
from test_pressure import Group, Receivers, counted, gauge

CLONE_NEWNS = 0x20000


class Skipped(Exception):
    """The reason why a scene cannot be played here."""


class Scene:
    """A relay under load whose data folder may be a file system of its own."""

    def __init__(self, case, options, name, mount=None, **relay):
        self.case, self.options, self.name = case, options, name
        self.ledger = Ledger()
        self.hop = loads.NextHop(case, self.ledger)
        self.relay = loads.make_relay(case, self.hop.port, start=False, **relay)
        os.mkdir(self.relay.data, 0o700)
        if mount:
            mount(self.relay)
        self.load = loads.Load(self.relay, self.ledger, options.seed, most_open=10 ** 9)
        self.relay.start()
        self.load.begin()
        self.grows("accepted", 30)

    def count(self, what):
        return self.ledger.counts.get(what, 0)

    def grows(self, what, by=10):
        """It happens so often from now on."""
        wanted = self.count(what) + by
        world.wait_for(lambda: self.count(what) >= wanted, f"{self.name}: {what} again", 2 * world.PATIENCE)

    def is_refused(self, by=10):
        wanted = self.refusals() + by
        world.wait_for(lambda: self.refusals() >= wanted, f"{self.name}: 4xx", 2 * world.PATIENCE)

    def refusals(self):
        with self.load.lock:
            return sum(n for reply, n in self.load.replies.items() if reply.startswith(b"4"))

    def stays(self):
        if self.relay.process.poll() is not None:
            raise AssertionError(f"{self.name}: it ended with {self.relay.process.returncode}\n"
                                 f"{self.relay.errors()[-2000:]}{self.relay.log_tail(5)}")

    def check(self):
        """Of a process that was killed just now."""
        books = Books.of(self.relay.data)
        loads.demand(self.ledger.check(books) + self.load.problems, self.name)
        self.ledger.close_what_is_gone(books)

    def close(self):
        """Killed, checked, started, emptied."""
        self.stays()
        self.relay.kill()
        self.check()
        self.relay.start()
        self.load.end()
        loads.drain(self.relay, self.load, self.ledger, self.hop)
        replies = ", ".join(f"{n} {r.decode()}" for r, n in sorted(self.load.replies.items()))
        self.options.say(f"{self.name}: {replies}; {self.count('taken')} delivered; 0 lost")


# ---- file systems ----

def own_mounts():
    """Mounts that only this process and its children see, and that go with it."""
    if os.getuid() != 0:
        raise Skipped("mounting needs root")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        raise Skipped(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
    if subprocess.run(["mount", "--make-rprivate", "/"], check=False).returncode:
        raise Skipped("the namespace cannot be made private")


def mount(case, *words):
    done = subprocess.run(["mount", *words], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise Skipped(f"mount {' '.join(words)}: {done.stderr.strip()}")
    case.addCleanup(lambda: subprocess.run(["umount", "-l", words[-1]], check=False,
                                           stderr=subprocess.DEVNULL))


def mount_tmpfs(case):
    return lambda relay: mount(case, "-t", "tmpfs", "-o", "size=160m,mode=700", "none", relay.data)


def mount_ext4(case):
    def make(relay):
        relay.image = os.path.join(relay.folder, "image")
        with open(relay.image, "wb") as file:
            file.truncate(160 << 20)
        done = subprocess.run(["mkfs.ext4", "-q", "-m", "0", relay.image], stderr=subprocess.PIPE,
                              text=True, check=False)
        if done.returncode:
            raise Skipped(f"mkfs.ext4: {done.stderr.strip()}")
        mount(case, "-o", "loop", relay.image, relay.data)
    return make


def fill(folder):
    """Takes all that is left, as another program would; the name of what took it."""
    path = os.path.join(folder, "ballast")
    with open(path, "ab", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 20, 4096):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\1" * size)
    return path


def disk_full(case, options, make_mount, name):
    scene = Scene(case, options, name, make_mount(case))
    for _ in range(10 if options.full else 2):
        ballast = fill(scene.relay.data)
        scene.is_refused(20)
        fill(scene.relay.data)
        scene.grows("taken", 5)  # what is queued still goes out
        scene.is_refused(20)
        scene.stays()
        os.unlink(ballast)
        scene.grows("accepted", 20)  # by itself
    scene.close()


def read_only(case, options):
    """The file system stops writing, as ext4 does at an error of its disk."""
    scene = Scene(case, options, "read-only ext4", mount_ext4(case))
    relay = scene.relay
    for _ in range(5 if options.full else 1):
        subprocess.run(["mount", "-o", "remount,abort", relay.data], check=True)
        code = relay.wait_exit(2 * world.PATIENCE)
        if code != 1 or not relay.event("queue.store_failed"):
            raise AssertionError(f"read-only: exit {code} {relay.log_tail(5)}")
        for _ in range(3):  # the supervisor
            done = subprocess.run([relay.binary, "run", "--config", relay.config_path], text=True,
                                  stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                  stdout=subprocess.DEVNULL, timeout=world.PATIENCE, check=False)
            if done.returncode != 1 or "smtpd: " not in done.stderr:
                raise AssertionError(f"a start on it: {done.returncode} {done.stderr}")
        subprocess.run(["umount", relay.data], check=True)
        subprocess.run(["e2fsck", "-fy", relay.image], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, check=False)  # 1: it has repaired something
        mount(case, "-o", "loop", relay.image, relay.data)
        scene.check()
        relay.start()
        scene.grows("accepted", 20)
    scene.close()


# ---- descriptors ----

def no_descriptors(case, options):
    scene = Scene(case, options, "no descriptors")
    pid = scene.relay.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    for spare in (-6, 0, 1, 3) * (10 if options.full else 1):
        highest = max(map(int, os.listdir(f"/proc/{pid}/fd")))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (max(highest + 1 + spare, 8), before[1]))
        # Neither clients nor next hops get in. Below its own descriptors the relay cannot even say
        # 421: then they wait.
        said = []
        for _ in range(6):
            with contextlib.suppress(OSError, AssertionError), \
                    scene.relay.raw(timeout=0.2) as raw:
                said.append(raw.greeting[:3])
        if any(code not in (b"220", b"421", b"") for code in said):
            raise AssertionError(f"without descriptors: {said}")
        scene.stays()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        scene.grows("accepted", 20)
        scene.grows("taken", 5)
    if not scene.relay.events("net.no_descriptors"):
        raise AssertionError("it never came to be short of descriptors")
    scene.close()


# ---- memory ----

def sheds_before_the_limit(case, options):
    """With the limit of a real cgroup: refused in time, so that the kernel kills nobody."""
    group = Group(case)
    if not group.folder:
        raise Skipped("no memory cgroup can be made here")
    group.set(1 << 30)
    scene = Scene(case, options, "memory", wrapper=group.wrapper())
    # The relay minds 70 % of the limit: that is 32 MiB above what it uses under this load.
    # Messages that are being received may take 64 MiB.
    first = counted(scene.relay)
    world.wait_for(lambda: counted(scene.relay) != first, "a look at it under load")
    limit = (counted(scene.relay) + (32 << 20)) * 10 // 7
    scene.relay.kill()
    scene.check()
    group.set(limit)
    scene.relay.start()
    scene.grows("accepted")
    receivers = None
    for _ in range(5 if options.full else 1):
        receivers = Receivers(case, scene.relay, 0)
        deadline = time.monotonic() + 4 * world.PATIENCE

        def is_short():
            event = scene.relay.event("policy.memory_pressure")
            return event and event["refused"] != "nothing"
        scene.load.end()  # what fills the memory comes quickly then
        while not is_short() and time.monotonic() < deadline:
            with contextlib.suppress(OSError, AssertionError):
                raw = scene.relay.raw()
                if not raw.greeting.startswith(b"220"):
                    raw.close()
                    continue
                raw.say("EHLO c.test")
                receivers.raws.append(raw)
                receivers.free.append(raw)
                receivers.begin_one()
                time.sleep(0.02)  # the relay looks again before 30 % of so small a limit are filled
        if not is_short():
            raise AssertionError(
                f"the memory was never short: {len(receivers.begun)} are being received, "
                f"{gauge(scene.relay, 'memory_counted_bytes')} of "
                f"{gauge(scene.relay, 'memory_limit_bytes')} bytes")
        scene.load.begin()
        scene.is_refused()
        scene.stays()
        receivers.close()
        if world.SANITIZER != "none":
            break  # its allocator gives nothing back
        scene.grows("accepted", 20)
    scene.close()


def killed_by_the_kernel(case, options):
    group = Group(case)
    if not group.folder:
        raise Skipped("no memory cgroup can be made here")
    group.set(1 << 40)
    scene = Scene(case, options, "killed by the kernel", wrapper=group.wrapper(),
                  limits='memory = "1024GiB"\n')
    rounds = 50 if options.full else 2
    for _ in range(rounds):
        group.set(group.usage() + (8 << 20))
        receivers = Receivers(case, scene.relay, 0)
        deadline = time.monotonic() + 2 * world.PATIENCE
        while scene.relay.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError, AssertionError):
                raw = scene.relay.raw(timeout=5)
                raw.say("EHLO c.test")
                receivers.raws.append(raw)
                receivers.free.append(raw)
                receivers.begin_one()
        code = scene.relay.process.wait(world.PATIENCE)
        if code != -9:
            raise AssertionError(f"the kernel was to kill it: {code}")
        receivers.close()
        group.set(1 << 40)
        scene.relay.kill()
        scene.check()
        scene.relay.start()
        scene.grows("accepted", 20)
    scene.close()
    return f"{rounds} times"


SCENES = {
    "full-ext4": lambda c, o: disk_full(c, o, mount_ext4, "full ext4"),
    "full-tmpfs": lambda c, o: disk_full(c, o, mount_tmpfs, "full tmpfs"),
    "read-only": read_only,
    "descriptors": no_descriptors,
    "memory": sheds_before_the_limit,
    "killer": killed_by_the_kernel,
}


def run(options, case):
    results = []
    try:
        own_mounts()
        why = None
    except Skipped as reason:
        why = reason
    for name, scene in SCENES.items():
        if options.only and options.only not in name:
            continue
        began = time.monotonic()
        try:
            if why and name in ("full-ext4", "full-tmpfs", "read-only"):
                raise why
            with loads.World() as case_of_scene:
                scene(case_of_scene, options)
            results.append(f"{name} well in {time.monotonic() - began:.0f} s")
        except Skipped as reason:
            options.say(f"{name} skipped: {reason}")
            results.append(f"{name} skipped")
    return ", ".join(results)

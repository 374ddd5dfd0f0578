"""'Shedding under memory pressure ...: 421 for new connections, then 452 for new messages; if the
kernel kills the process all the same, the restart loses nothing.' The memory is really used, by
messages that are being received; the cgroup is a real one where the machine lets us make it."""
import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import threading
import time
import unittest

import world
from world import Hop, Raw, Relay, message

PIECE = b"x" * 990 + b"\r\n"
MEMORY_ROOTS = ("/sys/fs/cgroup/memory", "/sys/fs/cgroup")


def gauge(relay, name):
    return next(family["samples"][0]["value"] for family in relay.status()["metrics"]
                if family["name"] == f"smtpd_{name}")


def counted(relay):
    return world.wait_for(lambda: gauge(relay, "memory_counted_bytes"), "the first look")


def own_network(case):
    """A network namespace for this thread and what it starts, as a container has one: the buffers
    of other programs' sockets are not counted then. Nothing happens without the right to it."""
    libc, before = ctypes.CDLL(None, use_errno=True), os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    case.addCleanup(os.close, before)
    if libc.unshare(0x40000000) != 0:  # CLONE_NEWNET
        return
    case.addCleanup(libc.setns, before, 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0x1)  # IFF_UP
        fcntl.ioctl(any_socket, 0x8914, request)  # SIOCSIFFLAGS


class Group:
    """A memory cgroup of our own, v1 or v2; None of it when the machine does not let us."""

    def __init__(self, case):
        self.folder = None
        for root in MEMORY_ROOTS:
            for name in ("memory.limit_in_bytes", "memory.max"):
                folder = os.path.join(root, f"smtpd-test-{os.getpid()}")
                with contextlib.suppress(OSError):
                    os.mkdir(folder)
                    if os.access(os.path.join(folder, name), os.W_OK):
                        self.folder, self.limit = folder, os.path.join(folder, name)
                        case.addCleanup(self.close)
                        return
                    os.rmdir(folder)

    def close(self):
        world.wait_for(self._is_gone, "the cgroup to be empty")

    def _is_gone(self):
        try:
            os.rmdir(self.folder)
            return True
        except OSError:
            return False

    def wrapper(self):
        return ["sh", "-c", f'echo $$ > {self.folder}/cgroup.procs; exec "$@"', "sh"]

    def set(self, size):
        with open(self.limit, "w") as file:
            file.write(str(size))

    def get(self):
        with open(self.limit) as file:
            return int(file.read())

    def usage(self):
        name = "memory.usage_in_bytes" if self.limit.endswith("limit_in_bytes") \
            else "memory.current"
        with open(os.path.join(self.folder, name)) as file:
            return int(file.read())


class Receivers:
    """Sessions in the middle of a message: each holds up to 240 KB of the relay's memory."""

    def __init__(self, case, relay, count):
        self.raws = [Raw(relay.relay_port) for _ in range(count)]
        case.addCleanup(self.close)
        for raw in self.raws:
            assert raw.say("EHLO c.test").startswith(b"250")
        self.free = list(self.raws)
        self.begun = []

    def begin_one(self):
        raw = self.free.pop()
        if raw.say("MAIL FROM:<a@b.test>").startswith(b"452"):
            return  # the relay looked a moment before us
        for line, code in (("RCPT TO:<alice@local.test>", b"250"), ("DATA", b"354")):
            reply = raw.say(line)
            assert reply.startswith(code), reply
        raw.send(b"Subject: big\r\n\r\n" + PIECE * 240)
        self.begun.append(raw)

    def close(self):
        for raw in self.raws:
            raw.close()


class Pressure(unittest.TestCase):
    def begin_until(self, relay, receivers, refused):
        """Near the marks a session begins only after the relay has seen the one before. One that took memory
        which was free already changes nothing to be seen: the relay has looked in two seconds."""
        def is_there():
            event = relay.event("policy.memory_pressure")
            if event and event["refused"] == refused:
                return event
            counted_now = gauge(relay, "memory_counted_bytes")
            if receivers.free and (counted_now != self.counted_before or time.monotonic() > self.begun_at + 2):
                self.counted_before = counted_now if counted_now > self.limit * 6 // 10 else 0
                self.begun_at = time.monotonic()
                receivers.begin_one()
            return None
        # Each turn starts a program, and that is the pace: the relay looks every half second.
        return world.wait_for(is_there, f"memory to refuse {refused}")

    def test_connections_then_messages_are_refused_and_taken_again(self):
        """'421 for new connections, then 452 for new messages'; what is being received ends well."""
        own_network(self)
        relay = Relay(self)
        receivers = Receivers(self, relay, 230)
        self.limit = limit = max(counted(relay) * 2, 64 << 20)
        self.counted_before = self.begun_at = 0
        relay.write_config(limits=f'memory = "{limit // 1024}KiB"\n')
        relay.signal(signal.SIGHUP)
        world.wait_for(lambda: gauge(relay, "memory_limit_bytes") == limit // 1024 * 1024,
                       "the limit to be in effect")
        self.assertIsNone(relay.event("policy.memory_pressure"))
        idle = Raw(relay.relay_port)
        self.addCleanup(idle.close)
        self.assertTrue(idle.say("EHLO c.test").startswith(b"250"))

        event = self.begin_until(relay, receivers, "connections")
        self.assertEqual(event["level"], "warning")
        self.assertGreaterEqual(event["used"], event["limit"] * 69 // 100)
        with Raw(relay.relay_port) as raw:
            self.assertEqual(raw.greeting, b"421 4.3.2 Short of memory: try again later")
        world.wait_for(lambda: relay.event("receive.refused"), "the line of the log")
        self.assertEqual(relay.event("receive.refused")["rule"], "memory")
        self.assertTrue(idle.say("MAIL FROM:<a@b.test>").startswith(b"250"))
        idle.say("RSET")

        self.begin_until(relay, receivers, "messages")
        self.assertEqual(idle.say("MAIL FROM:<a@b.test>"),
                         b"452 4.3.1 Short of memory: try again later")
        world.wait_for(lambda: relay.event("receive.rejected"), "the line of the log")
        self.assertEqual(relay.event("receive.rejected")["rule"], "memory")
        self.assertEqual(gauge(relay, "memory_pressure"), 2)
        last = receivers.begun[-1]
        last.send(b".\r\n")
        self.assertTrue(last.reply().startswith(b"250"))

        receivers.close()
        if world.SANITIZER != "none":  # its allocator gives nothing back
            relay.write_config(limits=f'memory = "{limit * 4 // 1024}KiB"\n')
            relay.signal(signal.SIGHUP)
        event = world.wait_for(lambda: relay.event("policy.memory_pressure")["refused"] == "nothing"
                               and relay.event("policy.memory_pressure"), "the end of pressure")
        self.assertEqual(event["level"], "notice")
        self.assertTrue(idle.say("MAIL FROM:<a@b.test>").startswith(b"250"))
        with Raw(relay.relay_port) as raw:
            self.assertTrue(raw.greeting.startswith(b"220"))

    def test_the_limit_of_the_cgroup_is_found(self):
        """'against the cgroup limit (v1 and v2)': of a real one; both are in the unit test."""
        group = Group(self)
        if not group.folder:
            self.skipTest("no cgroup can be made here; unit/policy/test_pressure.c has both kinds")
        group.set(3 << 29)
        relay = Relay(self, wrapper=group.wrapper())
        counted(relay)
        self.assertEqual(gauge(relay, "memory_limit_bytes"), group.get())

    def test_a_kill_by_the_kernel_loses_nothing(self):
        """'if the kernel kills the process all the same, the restart loses nothing': shedding is
        switched off by a limit that is never reached, the cgroup's is. Without cgroups: kill -9."""
        group = Group(self)
        hop = Hop(self)
        relay = Relay(self, hop=hop.port, limits='memory = "1024GiB"\n', log_level="notice",
                      queue='retry = ["1s"]\n', wrapper=group.wrapper() if group.folder else ())
        receivers = Receivers(self, relay, 230)
        accepted, lock = [], threading.Lock()

        def submit(number):
            with contextlib.suppress(OSError, AssertionError), Raw(relay.relay_port) as raw:
                raw.say("EHLO c.test")
                for count in range(100000):
                    subject = f"s{number}-{count}"
                    for line in ("MAIL FROM:<a@b.test>", f"RCPT TO:<{subject}@x.test>", "DATA"):
                        raw.say(line)
                    raw.send(message(subject=subject) + ".\r\n")
                    if not raw.reply().startswith(b"250"):
                        return
                    with lock:
                        accepted.append(subject)
        threads = [threading.Thread(target=submit, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        world.wait_for(lambda: len(accepted) > 200, "the load")
        if group.folder:
            group.set(group.usage() + (8 << 20))
        with contextlib.suppress(OSError, AssertionError):
            while receivers.free:
                receivers.begin_one()
        if group.folder:
            code = relay.process.wait(world.PATIENCE)
            self.assertEqual(code, -signal.SIGKILL)
            group.set(1 << 40)
        relay.kill()
        for thread in threads:
            thread.join()
        relay.start()
        relay.wait_empty()
        got = {r.split("@")[0] for r in hop.delivered()}
        self.assertEqual(set(accepted) - got, set())


if __name__ == "__main__":
    world.main()

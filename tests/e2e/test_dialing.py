"""Issue 5, point 9: IPv6 and IPv4 side by side, families that fail, dead addresses, dead mail
exchangers. In a network namespace of its own, where the loopback has more IPv6 addresses than ::1."""
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import unittest

import world
from test_deliver import send
from world import Dns, Hop, Relay

ALL = [f"fd00::{i}" for i in range(1, 9)]
GUARD = "SMTPD_TEST_NAMESPACE"


def enter_namespace():
    """Starts this file again inside of a namespace; without unshare what needs one is skipped."""
    if GUARD in os.environ or not shutil.which("unshare") or \
            subprocess.run(["unshare", "-rn", "true"], stderr=subprocess.DEVNULL).returncode != 0:
        return
    setup = "ip link set lo up" + "".join(f" && ip addr add {a}/128 dev lo nodad" for a in ALL)
    os.execvpe("unshare", ["unshare", "-rn", "sh", "-c", setup + ' && exec "$@"', "sh",
                           sys.executable, os.path.abspath(__file__), *sys.argv[1:]],
               dict(os.environ, **{GUARD: "1"}))


def has(address):
    with socket.socket(socket.AF_INET6) as one:
        try:
            one.bind((address, 0))
            return True
        except OSError:
            return False


class Hole:
    """An address that answers no SYN: a listener whose queue is full. It sees who knocks."""

    def __init__(self, case, host, port):
        self.family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.socket(self.family)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((host, port))
        self.listener.listen(0)
        self.fillers = []
        for _ in range(4):
            filler = socket.socket(self.family)
            filler.setblocking(False)
            filler.connect_ex((host, port))
            self.fillers.append(filler)
        self.own = {filler.getsockname()[1] for filler in self.fillers}
        self.remote = self._hex(host) + ":%04X" % port
        self.knocks = set()     # local ports of connections that wait for an answer
        self.is_open = True
        threading.Thread(target=self._look, daemon=True).start()
        case.addCleanup(self.close)

    def _hex(self, host):
        packed = socket.inet_pton(self.family, host)
        return "".join(packed[i:i + 4][::-1].hex().upper() for i in range(0, len(packed), 4))

    def _look(self):
        path = "/proc/net/tcp6" if self.family == socket.AF_INET6 else "/proc/net/tcp"
        while self.is_open:
            with open(path) as file:
                for line in file.readlines()[1:]:
                    _, local, remote, state = line.split()[:4]
                    port = int(local.rsplit(":", 1)[1], 16)
                    if remote == self.remote and state == "02" and port not in self.own:
                        self.knocks.add(port)
            time.sleep(0.01)

    def close(self):
        self.is_open = False
        for one in [self.listener, *self.fillers]:
            one.close()


class Base(unittest.TestCase):
    def relay(self, zone, port, delivery="", **more):
        return Relay(self, dns=Dns(self, {"test": zone}), delivery=f"port = {port}\n" + delivery, **more)

    def delivered(self, relay, count):
        return world.wait_for(lambda: len(found := relay.events("deliver.delivered")) >= count and found,
                              "deliveries")

    def clock(self):
        preload, folder = world.preload(self, "clock.c")
        path = os.path.join(folder, "step")
        return {"LD_PRELOAD": preload, "CLOCK_FILE": path}, path

    def pass_time(self, relay, path, seconds):
        """So many have passed since the start, by every clock."""
        with open(path + ".new", "w") as file:
            file.write(f"0 {seconds}")
        os.rename(path + ".new", path)
        for _ in range(2):  # the loop looks at the clock when something wakes it
            relay.status()


class Addresses(Base):
    def test_an_ipv6_address_that_is_silent_costs_a_stagger_and_only_once(self):
        port = world.free_port()
        hole = Hole(self, "::1", port)
        hop = Hop(self, host="127.0.0.61", port=port)
        relay = self.relay("both MX 10 mx.both\nmx.both AAAA ::1\nmx.both A 127.0.0.61\n", port,
                           'attempt_delay = "2s"\nidle_timeout = "0ms"\n')
        send(relay, ["one@both.test"])
        first = self.delivered(relay, 1)[0]
        self.assertGreaterEqual(first["delays"]["connect"], 1.99)
        self.assertLess(first["delays"]["connect"], 4)
        for i in range(3):
            send(relay, [f"{i}@both.test"])
            self.delivered(relay, i + 2)
        for event in self.delivered(relay, 4)[1:]:
            self.assertLess(event["delays"]["connect"], 1.99)
        self.assertEqual(len(hole.knocks), 1)
        self.assertEqual(hop.connections, 4)
        [event] = relay.events("deliver.address_failed")  # it comes before that of the delivery
        self.assertEqual((event["peer"], event["host"]), (f"[::1]:{port}", "mx.both.test"))

    def test_an_ipv6_address_that_refuses_costs_nothing(self):
        port = world.free_port()
        Hop(self, host="127.0.0.62", port=port)
        relay = self.relay("both MX 10 mx.both\nmx.both AAAA ::1\nmx.both A 127.0.0.62\n", port,
                           'attempt_delay = "2s"\n')
        send(relay, ["one@both.test"])
        self.assertLess(self.delivered(relay, 1)[0]["delays"]["connect"], 1)

    def test_ipv6_goes_first_where_both_work(self):
        port = world.free_port()
        new = Hop(self, host="::1", port=port)
        old = Hop(self, host="127.0.0.63", port=port)
        relay = self.relay("both MX 10 mx.both\nmx.both AAAA ::1\nmx.both A 127.0.0.63\n", port)
        send(relay, ["one@both.test"])
        self.delivered(relay, 1)
        self.assertEqual((new.connections, old.connections), (1, 0))

    def test_an_address_that_hangs_up_before_it_takes_mail_comes_last(self):
        port = world.free_port()
        bad = Hop(self, host="127.0.0.64", port=port,
                  answer=lambda stage, *_: "421 4.3.2 busy" if stage == "connect" else None)
        good = Hop(self, host="127.0.0.65", port=port)
        relay = self.relay("two MX 10 mx.two\nmx.two A 127.0.0.64\nmx.two A 127.0.0.65\n", port,
                           'idle_timeout = "0ms"\n')
        send(relay, ["one@two.test"])
        world.wait_for(lambda: relay.event("deliver.destination_backoff") or good.messages, "an end")
        if bad.connections:     # the server may have named the good one first
            relay.command("queue", "retry", "--all")
        self.delivered(relay, 1)
        self.assertLessEqual(bad.connections, 1)
        self.assertEqual(good.connections, 1)


@unittest.skipUnless(has("fd00::1"), "needs a network namespace (unshare)")
class Families(Base):
    def test_a_family_that_fails_everywhere_stands_behind_until_a_probe_works(self):
        """Each address is another one: nothing but the family is known of the last."""
        port = world.free_port()
        env, path = self.clock()
        zone = "".join(f"d{i} MX 10 mx{i}\nmx{i} AAAA {ALL[i]}\nmx{i} A 127.0.1.{i + 1}\n" for i in range(8))
        holes = [Hole(self, ALL[i], port) for i in range(6)]
        hops = [Hop(self, host=f"127.0.1.{i + 1}", port=port) for i in range(8)]
        new = [Hop(self, host=ALL[i], port=port) for i in (6, 7)]
        # Long enough for a knock to be seen.
        relay = self.relay(zone, port, 'idle_timeout = "0ms"\nattempt_delay = "1s"\n', env=env)
        for i in range(5):
            send(relay, [f"x@d{i}.test"])
            self.delivered(relay, i + 1)
        event = relay.wait_event("deliver.family_demoted")
        self.assertEqual((event["family"], event.get("host")), ("ipv6", None))
        self.assertEqual(event["wait"], 600)
        send(relay, ["x@d5.test"])
        self.delivered(relay, 6)
        send(relay, ["x@d6.test"])
        self.delivered(relay, 7)
        self.assertEqual(len(holes[5].knocks), 0)
        self.assertEqual(new[0].connections, 0)
        self.assertEqual(relay.events("deliver.family_restored"), [])
        # Ten minutes later: the first is the probe. It fails, and the next still goes by IPv4.
        self.pass_time(relay, path, 660)
        send(relay, ["x@d5.test"])
        self.delivered(relay, 8)
        self.assertEqual([e["peer"] for e in relay.events("deliver.address_failed")].count(f"[{ALL[5]}]:{port}"), 1)
        self.assertEqual(len(holes[5].knocks), 1)
        send(relay, ["x@d7.test"])
        self.delivered(relay, 9)
        self.assertEqual(new[1].connections, 0)
        # Ten minutes later again: it works, and all go by IPv6 from then on.
        self.pass_time(relay, path, 1320)
        for i in (7, 6):
            send(relay, [f"x@d{i}.test"])
            self.delivered(relay, 17 - i)
        self.assertEqual([hop.connections for hop in new], [1, 1])
        self.assertEqual(relay.wait_event("deliver.family_restored")["family"], "ipv6")
        self.assertEqual(len(relay.events("deliver.family_demoted")), 1)
        self.assertEqual([hop.connections for hop in hops], [1, 1, 1, 1, 1, 2, 1, 1])


class DeadExchangers(Base):
    ZONE = "dead MX 10 a.dead\ndead MX 20 b.dead\na.dead A 127.0.0.71\nb.dead A 127.0.0.72\n"

    def flood(self, relay, count, name):
        """From ten clients that share commits: faster than a back-off ends, on a slow disk too."""
        def some_of_it(first):
            with relay.relay_client() as client:
                for i in range(first, count, 10):
                    client.sendmail("app@sender.test", [f"{name}{i}@dead.test"], world.message())
        clients = [threading.Thread(target=some_of_it, args=(first,)) for first in range(10)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()

    def test_a_silent_one_costs_two_attempts_for_each_back_off(self):
        port = world.free_port()
        hole = Hole(self, "127.0.0.71", port)
        live = Hop(self, host="127.0.0.72", port=port)
        env, path = self.clock()
        relay = self.relay(self.ZONE, port, 'connect_timeout = "2s"\nconnections = 20\n'
                           'idle_timeout = "0ms"\n', env=env, log_level="info")
        self.flood(relay, 200, "a")
        world.wait_for(lambda: len(live.messages) == 200, "200 messages", 60)
        self.assertIn(len(hole.knocks), (1, 2))
        before = len(hole.knocks)
        self.flood(relay, 20, "b")      # it backs off
        world.wait_for(lambda: len(live.messages) == 220, "20 more", 60)
        self.assertEqual(len(hole.knocks), before)
        self.pass_time(relay, path, 120)     # the back-off is over
        self.flood(relay, 200, "c")
        world.wait_for(lambda: len(live.messages) == 420, "200 more", 60)
        self.assertIn(len(hole.knocks) - before, (1, 2))
        self.assertEqual(max(live.delivered().values()), 1)
        self.assertEqual(relay.events("deliver.destination_backoff"), [])

    def test_a_rate_slower_than_its_back_off_does_not_spend_each_connection_on_it(self):
        """Scaled: the clock goes on by an hour between two connections that the rate allows, so that whatever
        back-off the first exchanger has is over."""
        port = world.free_port()
        dead = Hop(self, host="127.0.0.71", port=port,
                   answer=lambda stage, *_: "DROP" if stage == "connect" else None)
        live = Hop(self, host="127.0.0.72", port=port)
        env, path = self.clock()
        relay = self.relay(self.ZONE, port, 'connection_rate = "1/12s"\n', env=env, log_level="info")
        send(relay, ["a@dead.test"])
        world.wait_for(lambda: json.loads(relay.command("explain", "a@dead.test", "--json"))
                       ["hosts"][0]["backs_off_until_ms"], "the first connection", 60)
        self.pass_time(relay, path, 3600)
        world.wait_for(lambda: len(live.messages) == 1, "the message", 60)
        self.assertEqual(dead.connections, 1)

    def test_one_that_never_greets_is_asked_twice(self):
        port = world.free_port()
        hung = Hop(self, host="127.0.0.71", port=port,
                   answer=lambda stage, *_: "HANG" if stage == "connect" else None)
        live = Hop(self, host="127.0.0.72", port=port)
        relay = self.relay(self.ZONE, port, 'greeting_timeout = "2s"\nconnections = 20\n',
                           log_level="info")
        self.flood(relay, 200, "a")
        world.wait_for(lambda: len(live.messages) == 200, "200 messages", 60)
        self.assertIn(hung.connections, (1, 2))


if __name__ == "__main__":
    enter_namespace()
    world.main()

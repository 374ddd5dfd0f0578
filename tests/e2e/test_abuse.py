"""'Keeping abuse out on port 25 and everywhere': each control with its log field, and each off for
who logged in or stands in trusted_networks. Clients are raw sockets, swaks and smtp-source."""
import subprocess
import unittest

import world
from world import Raw, Relay, tool

NOBODY = '["192.0.2.0/24"]'  # trusted_networks without loopback: every client is a stranger


class Abuse(unittest.TestCase):
    def raw(self, port, **more):
        raw = Raw(port, **more)
        self.addCleanup(raw.close)
        return raw

    def wait(self, relay, name, count=1, **fields):
        """The last event of that name with these fields, once there are so many of them."""
        def found():
            events = [e for e in relay.events(name)
                      if all(e.get(key) == value for key, value in fields.items())]
            return events if len(events) >= count else None
        return world.wait_for(found, f"{name} {fields}")[-1]

    def metric(self, relay, name, **labels):
        """A counter, as `smtpd status` shows it."""
        return next(sample["value"] for family in relay.status()["metrics"]
                    if family["name"] == f"smtpd_{name}_total"
                    for sample in family["samples"] if sample["labels"] == labels)


class Connections(Abuse):
    """'connections and rates per network'"""

    def test_connections_of_a_network(self):
        """A /24 has its limit, whatever the addresses in it; another /24 has its own."""
        relay = Relay(self, trusted=NOBODY, limits="connections_per_network = 3\n")
        for host in (1, 2, 3):
            self.assertEqual(self.raw(relay.relay_port, source=f"127.0.5.{host}").greeting[:3],
                             b"220")
        refused = self.raw(relay.relay_port, source="127.0.5.4")
        self.assertEqual(refused.greeting, b"421 4.7.0 Too many connections from your network")
        self.assertEqual(refused.reply(), b"")
        event = self.wait(relay, "receive.refused")
        self.assertEqual((event["peer"], event["rule"], event["reply"]["enhanced"]),
                         ("127.0.5.4", "connections_per_network", "4.7.0"))
        self.assertEqual(self.raw(relay.relay_port, source="127.0.6.1").greeting[:3], b"220")

    def test_who_logs_in_gives_the_place_back(self):
        """'off for authenticated users': a log-in frees the place in the network, and the rate."""
        relay = Relay(self, trusted=NOBODY, limits=(
            'connections_per_network = 1\nconnection_rate = ["1/h"]\n'))
        for _ in range(3):
            client = relay.client()
            self.addCleanup(client.close)
        self.assertEqual(self.raw(relay.relay_port).greeting[:3], b"220")
        self.assertEqual(self.raw(relay.relay_port).greeting[:3], b"421")

    def test_trusted_networks_are_spared(self):
        relay = Relay(self, limits='connections_per_network = 1\nconnection_rate = ["1/h"]\n')
        for _ in range(4):
            self.assertEqual(self.raw(relay.relay_port).greeting[:3], b"220")

    def test_new_connections_in_a_time(self):
        """smtp-source makes ten, one after the other; five may come."""
        relay = Relay(self, trusted=NOBODY, limits='connection_rate = ["5/h", "100/d"]\n')
        subprocess.run([tool("smtp-source"), "-s", "1", "-m", "10", "-f", "a@b.test", "-t",
                        "alice@local.test", f"inet:127.0.0.1:{relay.relay_port}"],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=world.PATIENCE)
        self.wait(relay, "receive.refused")
        for _ in range(5):  # the refused ones spend nothing, and are all refused
            raw = self.raw(relay.relay_port)
            self.assertEqual(raw.greeting, b"421 4.7.0 Too many new connections from your address:"
                             b" try again later")
            raw.close()
        self.wait(relay, "receive.refused", count=6)
        self.assertEqual(len(relay.events("receive.connected")), 5)
        self.assertEqual({e["rule"] for e in relay.events("receive.refused")}, {"connection_rate"})
        self.assertEqual(self.metric(relay, "limits_reached", limit="connection_rate"),
                         len(relay.events("receive.refused")))
        self.assertEqual(self.raw(relay.relay_port, source="127.0.0.2").greeting[:3], b"220")


if __name__ == "__main__":
    world.main()

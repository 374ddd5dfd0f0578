"""The TCP listeners of [admin]: probes for everybody, and nothing else; asked with curl."""
import json
import os
import signal
import socket
import subprocess
import threading
import time
import unittest

import world
from world import Hop, Relay, free_port, message


def curl(port, path, *options, host="127.0.0.1"):
    """(status, body); 0: no connection."""
    done = subprocess.run(["curl", "-s", "--globoff", "-m", str(world.PATIENCE), *options,
                           "-w", "\n%{http_code}", f"http://{host}:{port}{path}"],
                          stdout=subprocess.PIPE, text=True, check=False)
    body, _, status = done.stdout.rpartition("\n")
    return int(status or 0), body


def admin(*ports, host="127.0.0.1"):
    return "[admin]\nlisten = [" + ", ".join(f'"{host}:{port}"' for port in ports) + "]\n"


class Probes(unittest.TestCase):
    def setUp(self):
        self.port = free_port()

    def test_alive_ready_and_started(self):
        relay = Relay(self, extra=admin(self.port))
        for path in ("/livez", "/readyz", "/startupz"):
            self.assertEqual(curl(self.port, path), (200, "ok\n"))
            status, body = curl(self.port, path, "-I")
            self.assertEqual(status, 200)
            self.assertNotIn("ok\n", body)
        self.assertEqual(relay.command("health"), "ok\n")
        self.assertEqual(relay.command("health", "--ready"), "ok\n")
        self.assertEqual(json.loads(relay.command("health", "--json")),
                         {"healthy": True, "text": "ok"})

    def test_no_command_can_be_reached(self):
        relay = Relay(self, extra=admin(self.port))
        for path in ("/v1/status", "/v1/queue", "/v1/summary", "/", "/livez/", "/metricsx",
                     "/v1/queue/change", "/../v1/status", "//livez"):
            self.assertEqual(curl(self.port, path, "--path-as-is")[0], 404, path)
        self.assertEqual(curl(self.port, "/v1/queue/change", "-d", "{}")[0], 404)
        self.assertEqual(curl(self.port, "/livez", "-X", "DELETE")[0], 405)
        # A large body is not read to its end.
        self.assertNotEqual(curl(self.port, "/livez", "-d", "x" * 100000)[0], 200)
        self.assertEqual(curl(self.port, "/livez")[0], 200)
        self.assertIn("queue", relay.status())

    def test_there_is_none_by_default(self):
        relay = Relay(self)
        sockets = subprocess.run(["ls", "-l", f"/proc/{relay.process.pid}/fd"], check=True,
                                 stdout=subprocess.PIPE, text=True).stdout
        with open(f"/proc/{relay.process.pid}/net/tcp") as file:
            listening = [line.split() for line in file if line.split()[3] == "0A"]
        ours = {int(line[1].split(":")[1], 16) for line in listening
                if f"socket:[{line[9]}]" in sockets}
        self.assertEqual(ours, {relay.submission, relay.smtps, relay.relay_port})

    def test_not_ready_while_leaving(self):
        at_dot, go_on = threading.Event(), threading.Event()

        def slow(stage, argument, session):
            if stage == "dot":
                at_dot.set()
                go_on.wait(world.PATIENCE)
            return None
        hop = Hop(self, slow)
        relay = Relay(self, hop=hop.port, extra=admin(self.port), start=False)
        with open(relay.config_path) as file:
            text = file.read()
        with open(relay.config_path, "w") as file:  # the answer ends it, and no clock
            file.write(text.replace('grace_period = "6s"', 'grace_period = "1h"'))
        relay.start()
        with relay.relay_client() as client:
            client.sendmail("a@b.test", ["c@x.test"], message())
        self.assertTrue(at_dot.wait(world.PATIENCE))
        relay.signal(signal.SIGTERM)
        world.wait_for(lambda: relay.event("server.draining"), "the drain")
        self.assertEqual(curl(self.port, "/readyz"), (503, "not ready: the server is leaving\n"))
        self.assertEqual(curl(self.port, "/livez"), (200, "ok\n"))
        self.assertEqual(curl(self.port, "/startupz"), (200, "ok\n"))
        self.assertIn("leaving", relay.command("health", "--ready", code=1))
        self.assertEqual(relay.command("health"), "ok\n")
        go_on.set()
        self.assertEqual(relay.wait_exit(), 0)
        self.assertEqual(curl(self.port, "/livez")[0], 0)
        self.assertIn("no server answers", relay.command("health", code=1))

    def test_not_ready_below_min_free_space_and_ready_again(self):
        relay = Relay(self, extra=admin(self.port))
        with open(relay.config_path) as file:
            text = file.read()
        for room, status in (("1024GiB", 503), ("1MiB", 200)):
            with open(relay.config_path, "w") as file:
                file.write(text.replace('min_free_space = "1MiB"', f'min_free_space = "{room}"'))
            mark = relay.log_mark()
            relay.signal(signal.SIGHUP)
            world.wait_for(lambda: relay.event("server.reloaded", mark), "the reload")
            answer = curl(self.port, "/readyz")
            self.assertEqual(answer[0], status)
            if status == 503:
                self.assertIn("queue.min_free_space", answer[1])
                self.assertIn("min_free_space", relay.command("health", "--ready", code=1))

    def test_not_ready_while_a_commit_does_not_end(self):
        preload, folder = world.preload(self, "shim.c")
        plan = os.path.join(folder, "plan")

        def set_delay(ms):
            with open(plan, "w") as file:
                file.write(f"{ms} 0")
        set_delay(0)
        relay = Relay(self, extra=admin(self.port),
                      env={"LD_PRELOAD": preload, "SHIM_FILE": plan, "SHIM_LOG": plan + ".log"})
        self.assertEqual(curl(self.port, "/readyz")[0], 200)
        set_delay(14000)
        with relay.raw() as raw:
            for line in ("EHLO c.test", "MAIL FROM:<a@b.test>", "RCPT TO:<alice@local.test>",
                         "DATA"):
                raw.say(line)
            raw.send("Subject: s\r\n\r\nx\r\n.\r\n")
            body = world.wait_for(lambda: (lambda a: a[0] == 503 and a[1])
                                  (curl(self.port, "/readyz")), "not being ready")
            self.assertIn("a commit does not end", body)
            self.assertEqual(curl(self.port, "/livez")[0], 200)
            set_delay(0)
            self.assertTrue(raw.reply().startswith(b"250"))
        world.wait_for(lambda: curl(self.port, "/readyz")[0] == 200, "being ready again")


class Listeners(unittest.TestCase):
    def reload(self, relay, extra, event="server.reloaded"):
        relay.write_config(extra=extra)
        mark = relay.log_mark()
        relay.signal(signal.SIGHUP)
        return world.wait_for(lambda: relay.event(event, mark), event)

    def test_they_follow_a_reload(self):
        one, two = free_port(), free_port()
        relay = Relay(self, extra=admin(one))
        self.reload(relay, admin(one, two))
        self.assertEqual([curl(port, "/livez")[0] for port in (one, two)], [200, 200])
        self.reload(relay, admin(two))
        self.assertEqual([curl(port, "/livez")[0] for port in (one, two)], [0, 200])
        self.reload(relay, "")
        self.assertEqual(curl(two, "/livez")[0], 0)
        relay.raw().close()

    def test_a_reload_that_cannot_bind_changes_nothing(self):
        one, two = free_port(), free_port()
        relay = Relay(self, extra=admin(one))
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen(1)
            port = taken.getsockname()[1]
            event = self.reload(relay, admin(two, port), "server.reload_failed")
            self.assertIn(str(port), event["message"])
        self.assertEqual([curl(p, "/livez")[0] for p in (one, two)], [200, 0])
        with socket.socket() as taken:  # an SMTP address fails: the new probes go too
            taken.bind(("127.0.0.1", 0))
            taken.listen(1)
            port = taken.getsockname()[1]
            self.reload(relay, admin(two) + '[[listen]]\nmode = "relay"\n'
                        f'address = "127.0.0.1:{port}"\n', "server.reload_failed")
        self.assertEqual([curl(p, "/livez")[0] for p in (one, two)], [200, 0])

    def test_an_address_in_use_is_an_error_at_the_start(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen(1)
            port = taken.getsockname()[1]
            relay = Relay(self, extra=admin(port), start=False)
            done = subprocess.run([world.BINARY, "run", "--config", relay.config_path], text=True,
                                  stderr=subprocess.PIPE, timeout=world.PATIENCE, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"127.0.0.1:{port}", done.stderr)
        self.assertNotIn("Sanitizer", done.stderr)

    def test_ipv6_and_ipv4_are_bound_apart(self):
        port = free_port()
        Relay(self, extra=f'[admin]\nlisten = ["127.0.0.1:{port}", "[::1]:{port}"]\n')
        self.assertEqual(curl(port, "/livez")[0], 200)
        self.assertEqual(curl(port, "/livez", host="[::1]")[0], 200)

    def test_seventeen_addresses_are_too_many(self):
        relay = Relay(self, start=False)
        relay.write_config(extra=admin(*(free_port() for _ in range(17))))
        self.assertIn("at most 16 addresses", relay.command("check", code=1))


class Bounds(unittest.TestCase):
    def test_whoever_drips_bytes_is_cut_off_and_the_others_are_answered(self):
        port = free_port()
        Relay(self, extra=admin(port))
        drips = [socket.create_connection(("127.0.0.1", port), world.PATIENCE) for _ in range(20)]
        began = time.monotonic()
        for drip in drips:
            drip.setblocking(False)
        open_ones = set(drips)
        text = b"GET /livez HTTP/1.1\r\nX-Drip: " + b"x" * 100000

        def all_are_cut():
            at = int((time.monotonic() - began) * 10)
            for drip in list(open_ones):
                try:
                    drip.send(text[at:at + 1])
                    if drip.recv(100) == b"":
                        open_ones.discard(drip)
                except BlockingIOError:
                    pass
                except OSError:
                    open_ones.discard(drip)
            self.assertEqual(curl(port, "/livez"), (200, "ok\n"))
            time.sleep(0.2)
            return not open_ones
        world.wait_for(all_are_cut, "the end of the dripping connections")
        for drip in drips:
            drip.close()

    def test_one_address_gets_no_more_than_its_share_and_each_connection_one_answer(self):
        port = free_port()
        Relay(self, extra=admin(port))
        held = [socket.create_connection(("127.0.0.1", port), world.PATIENCE) for _ in range(32)]
        # Beyond its share a connection is closed without a word.
        self.assertEqual(curl(port, "/livez")[0], 0)
        self.assertEqual(curl(port, "/livez", "--interface", "127.0.0.2")[0], 200)
        for connection in held:
            connection.close()
        world.wait_for(lambda: curl(port, "/livez")[0] == 200, "an answer again")
        with socket.create_connection(("127.0.0.1", port), world.PATIENCE) as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
            text = b""
            while True:
                piece = connection.recv(4096)
                if not piece:
                    break
                text += piece
        self.assertEqual(text.count(b"HTTP/1.1 200"), 1)
        self.assertIn(b"connection: close", text.lower())


if __name__ == "__main__":
    world.main()

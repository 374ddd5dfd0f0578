"""'smtpd check --diff shows it beforehand against the running server. smtpd check also says which
files the service user cannot read, whether key and certificate match, and what is about to
expire.'"""
import json
import os
import signal
import subprocess
import unittest

import world
from world import Relay


class Compare(unittest.TestCase):
    def test_the_differences_are_those_that_a_reload_makes(self):
        """'check --diff shows it beforehand': the same options with the same values as SIGHUP."""
        relay = Relay(self)
        self.assertIn("would change nothing", relay.command("check", "--diff"))
        self.assertEqual(json.loads(relay.command("check", "--diff", "--json")), [])
        relay.write_config(limits='message_size = "70KiB"\n', queue='expire = "3d"\n',
                           extra='[[route]]\nmatch = "a.test"\nhost = "h.test"\ntls = "required"\n'
                                 'user = "u"\npassword = "a-secret-word"\n')
        with open(relay.config_path) as file:
            text = file.read().replace(f'data_dir = "{relay.data}"', f'data_dir = "{relay.data}2"')
        with open(relay.config_path, "w") as file:
            file.write(text)
        socket = ("--socket", os.path.join(relay.data, "control.sock"))
        differences = json.loads(relay.command("check", "--diff", "--json", *socket))
        options = {d["option"]: d for d in differences}
        self.assertEqual(set(options), {"limits.message_size", "queue.expire", "route",
                                        "server.data_dir"})
        self.assertEqual(options["queue.expire"]["before"], '"4d"')
        self.assertEqual(options["queue.expire"]["after"], '"3d"')
        self.assertEqual([o for o, d in options.items() if d["needs_restart"]], ["server.data_dir"])
        words = relay.command("check", "--diff", *socket)
        self.assertIn("needs a restart", words)
        self.assertNotIn("a-secret-word", words)
        self.assertEqual(relay.events("server.option_changed"), [])  # nothing was changed
        relay.signal(signal.SIGHUP)
        world.wait_for(lambda: relay.event("server.reloaded"), "the reload")
        told = {e["option"]: e for e in relay.events("server.option_changed")}
        self.assertEqual({o: (e["before"], e["after"], e["needs_restart"]) for o, e in told.items()},
                         {o: (d["before"], d["after"], d["needs_restart"])
                          for o, d in options.items()})

    def test_a_port_that_our_own_socket_holds_needs_a_restart(self):
        """The port of one address and that of all cannot be bound beside each other: --diff says it
        beforehand, and the reload says why it was refused."""
        relay = Relay(self)
        with open(relay.config_path) as file:
            text = file.read()
        one, every = f"127.0.0.1:{relay.smtps}", f"0.0.0.0:{relay.smtps}"
        for old, new in ((one, every), (every, one)):
            with open(relay.config_path, "w") as file:
                file.write(text.replace(f'"{one}"', f'"{new}"'))
            difference, = json.loads(relay.command("check", "--diff", "--json"))
            self.assertEqual((difference["option"], difference["needs_restart"]), ("listen", True))
            self.assertIn("our own socket holds the port", relay.command("check", "--diff"))
            mark = relay.log_mark()
            relay.signal(signal.SIGHUP)
            said = relay.wait_event("server.reload_failed", mark)["message"]
            self.assertIn(f"cannot listen on {new}", said)
            self.assertIn(f"our own socket for {old} holds the port", said)
            self.assertIn("restart", said)
            relay.stop()
            relay.start()
            self.assertIn("would change nothing", relay.command("check", "--diff"))
        with relay.raw(port=relay.relay_port) as raw:
            self.assertTrue(raw.greeting.startswith(b"220"))

    def test_another_secret_is_told_and_not_shown(self):
        """'option by option': a changed password is a difference, though secrets print alike."""
        route = ('[[route]]\nmatch = "a.test"\nhost = "h.test"\ntls = "required"\nuser = "u"\n'
                 'password = "{}"\n')
        relay = Relay(self, extra=route.format("word-one"))
        relay.write_config(extra=route.format("word-two"))
        difference, = json.loads(relay.command("check", "--diff", "--json"))
        self.assertEqual(difference["option"], "route")
        self.assertIn("another password", difference["after"])
        self.assertNotRegex(json.dumps(difference), "word-(one|two)")

    def test_a_file_with_errors_and_a_server_that_is_not_there(self):
        """Errors come first, with their places; without a server the exit code is 3."""
        relay = Relay(self)
        relay.write_config(limits='message_size = "70 parsecs"\n')
        text = relay.command("check", "--diff", code=1)
        self.assertRegex(text, r"smtpd\.toml:\d+:\d+: limits\.message_size")
        relay.write_config(limits="")
        relay.stop()
        relay.command("check", "--diff", code=3)

    def test_every_pair_is_looked_at_and_expiry_is_a_warning(self):
        """'whether key and certificate match, and what is about to expire': each file is named."""
        relay = Relay(self, start=False)
        soon = world.make_certificate(relay.folder, "soon", days=3)
        other = world.make_certificate(relay.folder, "other")
        with open(relay.config_path) as file:
            text = file.read()

        def use(*pairs):
            certificates = ", ".join(f'"{c}"' for c, _ in pairs)
            keys = ", ".join(f'"{k}"' for _, k in pairs)
            with open(relay.config_path, "w") as file:
                file.write(text.replace(f'certificate = "{relay.certificate}"',
                                        f"certificate = [{certificates}]")
                           .replace(f'key = "{relay.key}"', f"key = [{keys}]"))
        use((relay.certificate, relay.key), soon)
        done = subprocess.run([world.BINARY, "check", "--config", relay.config_path], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stderr, r"warning: \S+/soon\.crt expires on \w{3}, ")
        problem, = json.loads(relay.command("check", "--json"))
        self.assertTrue(problem["warning"])
        use((relay.certificate, other[1]), (soon[0], relay.key), other)
        text_of_check = relay.command("check", code=1)
        self.assertIn("other.key", text_of_check)
        self.assertIn("relay.key", text_of_check)
        self.assertNotIn("other.crt", text_of_check)


if __name__ == "__main__":
    world.main()

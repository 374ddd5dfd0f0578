"""Issue sentence: 'Configuration. One TOML file ...': checking, effective values, secrets."""
import json
import os
import re
import subprocess
import tempfile
import unittest

import world


class Check(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="smtpd-config-")
        self.addCleanup(subprocess.run, ["rm", "-rf", self.folder])
        self.path = os.path.join(self.folder, "smtpd.toml")
        self.users = os.path.join(self.folder, "users")
        open(self.users, "w").close()

    def check(self, text, *words, env=None):
        with open(self.path, "w") as file:
            file.write(text)
        done = subprocess.run([world.BINARY, "check", self.path, *words], text=True, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=dict(os.environ, **(env or {})))
        return done.returncode, done.stdout, done.stderr

    def good(self, more=""):
        return (f'[server]\nhostname = "relay.test"\n[auth]\nusers_file = "{self.users}"\n'
                f'allow_clear_on_loopback = true\n{more}\n'
                '[[listen]]\naddress = "127.0.0.1:2587"\ntls = "none"\n')

    def test_a_good_file_has_no_errors(self):
        code, out, err = self.check(self.good())
        self.assertEqual((code, err), (0, ""))
        self.assertIn("no errors", out)

    def test_every_error_is_said_at_once_with_line_column_and_what_would_be_right(self):
        text = ('[server]\nhostname = "relay.test"\ngrace_period = "25x"\n'
                '[limits]\nmessage_size = "2KiB"\nidle_tiemout = "5m"\n'
                '[queue]\nretry = ["1m", "soon"]\n'
                '[[listen]]\naddress = "127.0.0.1"\nmode = "submision"\n')
        code, _, err = self.check(text)
        self.assertEqual(code, 1)
        lines = err.splitlines()
        for line, words in ((3, ["25x", "duration", '"5m"']), (5, ["too small", "64KiB"]),
                            (6, ["idle_tiemout", "idle_timeout"]), (8, ["soon"]),
                            (10, ["127.0.0.1", "port"]), (11, ["submision", "submission|relay"])):
            found = [text for text in lines if text.startswith(f"{self.path}:{line}:")]
            self.assertTrue(found, f"nothing about line {line} in {err}")
            for word in words:
                self.assertIn(word, found[0])
        # The columns are real: the value of grace_period stands in column 16.
        self.assertTrue(any(text.startswith(f"{self.path}:3:16:") for text in lines), err)

    def test_an_unknown_key_or_section_names_the_nearest(self):
        _, _, err = self.check(self.good("[limts]\nconnections = 3\n"))
        self.assertIn('"limts"', err)
        self.assertIn('"limits"', err)

    def test_a_syntax_error_has_its_place(self):
        code, _, err = self.check('[server]\nhostname = "relay.test\n')
        self.assertEqual(code, 1)
        self.assertRegex(err, r":2:\d+: not TOML 1\.0")

    def test_a_missing_users_file_is_named_with_the_command_that_makes_it(self):
        os.remove(self.users)
        code, out, errors = self.check(self.good())
        self.assertEqual(code, 1)
        self.assertIn(self.users, errors + out)
        self.assertIn("smtpd user add NAME", errors + out)

    def test_an_address_is_listened_on_once_and_has_a_port(self):
        again = '[[listen]]\naddress = ["127.0.0.1:2588", "127.0.0.1:2587"]\ntls = "none"\n'
        code, _, err = self.check(self.good() + again)
        self.assertEqual(code, 1)
        self.assertIn("smtpd.toml:11:1: listen.address: ", err)
        self.assertIn("twice", err)
        code, _, err = self.check(self.good().replace(":2587", ":0"))
        self.assertEqual(code, 1)
        self.assertIn("smtpd.toml:8:11: listen.address: ", err)

    def test_errors_as_json(self):
        code, out, _ = self.check('[server]\nhostnam = "relay.test"\n', "--json")
        self.assertEqual(code, 1)
        problems = json.loads(out)
        self.assertEqual((problems[0]["line"], problems[0]["column"]), (2, 1))

    def test_rules_between_options(self):
        _, _, err = self.check('[server]\nhostname = "relay.test"\n'
                               '[[listen]]\naddress = "127.0.0.1:2525"\nmode = "relay"\n')
        self.assertIn("postmaster", err)
        self.assertIn("tls.certificate", err)

    def test_effective_says_where_each_value_comes_from_and_masks_secrets(self):
        secret = "hunter2-and-more"
        text = self.good() + ('[[route]]\nmatch = "*"\nhost = "127.0.0.1"\nuser = "u"\n'
                              f'password = "{secret}"\n')
        code, out, err = self.check(text, "--effective")
        self.assertEqual((code, err), (0, ""))
        self.assertNotIn(secret, out)
        self.assertRegex(out, r'hostname = "relay\.test" +# .*smtpd\.toml:2')
        self.assertRegex(out, r'message_size = "50MiB" +# default')
        self.assertRegex(out, r'\[\[destination\]\]  # shipped\nname = "google" +# destinations\.toml:\d+')
        # What it prints is TOML again, and gives the same values. Blocks that are shipped are short.
        out = out[:out.index("\n[[destination]]")].replace("shipped_destinations = true", "shipped_destinations = false")
        again = out.replace('"********"', f'"{secret}"').replace('password_file = ""\n', "")
        again = "\n".join(line for line in again.splitlines() if ' = ""' not in line)
        code, second, err = self.check(again, "--effective")
        self.assertEqual((code, err), (0, ""))

        def strip(page):
            return [line.split("  #")[0].rstrip() for line in page.splitlines()]
        self.assertEqual(strip(second), strip(out))

    def test_secrets_come_from_a_file_or_the_environment(self):
        route = '[[route]]\nmatch = "*"\nhost = "127.0.0.1"\nuser = "u"\n'
        secret = os.path.join(self.folder, "secret")
        with open(secret, "w") as file:
            file.write("from-a-file\n")
        self.assertEqual(self.check(self.good() + route + f'password_file = "{secret}"\n')[0], 0)
        code, _, err = self.check(self.good() + route + 'password_file = "/nowhere/at/all"\n')
        self.assertEqual(code, 1)
        self.assertIn("/nowhere/at/all", err)
        by_env = self.good() + route + 'password_env = "SMARTHOST_SECRET"\n'
        self.assertEqual(self.check(by_env, env={"SMARTHOST_SECRET": "x"})[0], 0)
        code, _, err = self.check(by_env)
        self.assertIn("SMARTHOST_SECRET", err)

    def test_a_key_that_does_not_fit_its_certificate_is_found(self):
        first = world.make_certificate(self.folder, "a")
        second = world.make_certificate(self.folder, "b")
        code, _, err = self.check(self.good(f'[tls]\ncertificate = "{first[0]}"\n'
                                            f'key = "{second[1]}"\n'))
        self.assertEqual(code, 1)
        self.assertIn(second[1], err)

    def test_the_generated_example_gives_exactly_the_defaults(self):
        example = subprocess.run([world.BINARY, "document", "example"], text=True, check=True,
                                 stdout=subprocess.PIPE).stdout
        sections = example.split("# A group of listening addresses")[0]
        lines = []
        for line in sections.splitlines():
            found = re.match(r"^# ([a-z_]+ = .+)$", line)
            if found and not found[1].endswith(('= ""', "= []")):
                lines.append(found[1])
            elif line.startswith("["):
                lines.append(line)
                if line == "[server]":
                    lines.append('hostname = "relay.test"')
                if line == "[auth]":
                    lines.append(f'users_file = "{self.users}"')
        self.assertGreater(len(lines), 30)
        text = "\n".join(lines).replace("allow_clear_on_loopback = false",
                                        "allow_clear_on_loopback = true")
        code, given, err = self.check(text + '\n[[listen]]\naddress = "127.0.0.1:2587"\n'
                                      'tls = "none"\n', "--effective")
        self.assertEqual((code, err), (0, ""))
        _, defaults, _ = self.check(self.good(), "--effective")

        def values(page):
            return [line.split("  #")[0].rstrip() for line in page.splitlines()]
        self.assertEqual(values(given), values(defaults))


class Usage(unittest.TestCase):
    def run_words(self, *words):
        return subprocess.run([world.BINARY, *words], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=60)

    def test_help_and_exit_codes(self):
        self.assertEqual(self.run_words("--help").returncode, 0)
        self.assertIn("queue", self.run_words("help").stdout)
        self.assertEqual(self.run_words("frobnicate").returncode, 2)
        self.assertEqual(self.run_words().returncode, 2)
        self.assertEqual(self.run_words("queue", "--help").returncode, 0)
        for words in (["run"], ["check"], ["user"], ["user", "add"], ["queue", "list"], ["status"],
                      ["document"], ["help"], ["version"]):
            for flag in ("--help", "-h"):
                done = self.run_words(*words, flag, "--config", "/nowhere/smtpd.toml")
                self.assertEqual((done.returncode, done.stderr), (0, ""), words)
                self.assertIn("usage: smtpd " + (words[0] if words[0] != "help" else ""),
                              done.stdout)
        self.assertIn("SELECTION", self.run_words("queue").stderr)
        # 3: the server does not run.
        self.assertEqual(self.run_words("status", "--socket", "/nowhere/sock").returncode, 3)


if __name__ == "__main__":
    world.main()

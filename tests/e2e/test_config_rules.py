"""Issue section 2 'Configuration', sentence by sentence: what test_config.py leaves open."""
import json
import os
import re
import subprocess
import tempfile
import unittest

import world
from test_deliver import send
from world import Hop, Relay

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))


def read(*names):
    with open(os.path.join(ROOT, *names), encoding="utf-8") as file:
        return file.read()


def document(page):
    return subprocess.run([world.BINARY, "document", page], text=True, check=True, timeout=60,
                          stdout=subprocess.PIPE).stdout


def manual_options():
    """What docs/configuration.md says: (section, option) in its order."""
    section, options = None, []
    for line in document("manual").splitlines():
        if line.startswith("## "):
            found = re.match(r"## \[+([a-z_]+)\]+$", line)
            section = found[1] if found else None
        elif line.startswith("### ") and section:
            options.append((section, line[4:].strip("`")))
    return options


class Check(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="smtpd-config-")
        self.addCleanup(subprocess.run, ["rm", "-rf", self.folder])
        self.path = os.path.join(self.folder, "smtpd.toml")
        self.users = os.path.join(self.folder, "users")
        open(self.users, "w").close()

    def check(self, text, *words, env=None):
        """Exit code, standard output, standard error of `smtpd check`."""
        with open(self.path, "w") as file:
            file.write(text)
        done = subprocess.run([world.BINARY, "check", self.path, *words], text=True, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=dict(os.environ, **(env or {})))
        return done.returncode, done.stdout, done.stderr

    def good(self, more="", server=""):
        return (f'[server]\nhostname = "relay.test"\n{server}\n[auth]\n'
                f'users_file = "{self.users}"\nallow_clear_on_loopback = true\n{more}\n'
                '[[listen]]\naddress = "127.0.0.1:2587"\ntls = "none"\n')

    def effective(self, text, env=None):
        """Value texts by option name, of the tables that stand once."""
        code, out, err = self.check(text, "--effective", env=env)
        self.assertEqual((code, err), (0, ""))
        values, section = {}, ""
        for line in out.splitlines():
            line = line.split("  #")[0].rstrip()
            if line.startswith("["):
                section = line.strip("[]")
            elif " = " in line and not line.startswith("#"):
                name, value = line.split(" = ", 1)
                values[f"{section}.{name}"] = value.strip()
        return values

    def test_toml_1_0(self):
        """'TOML 1.0 through a well-kept library': every way of writing that 1.0 has is taken."""
        text = (f'server = {{ hostname = "relay.test" }}  # an inline table\n'
                f"auth.users_file = '{self.users}'\nauth.allow_clear_on_loopback = true\n"
                'limits.connections = 1_000\nlimits."recipients_per_message" = 0x80\n'
                'queue.retry = [\n  "1m",  # first\n  """5m""",\n]\n'
                '\n[[listen]]\naddress = "\\u0031\\u00327.0.0.1:2587"\ntls = "none"\n')
        values = self.effective(text)
        self.assertEqual(values["limits.connections"], "1000")
        self.assertEqual(values["limits.recipients_per_message"], "128")
        self.assertEqual(values["queue.retry"], '["1m", "5m"]')
        self.assertEqual(values["listen.address"], '["127.0.0.1:2587"]')

    def test_what_is_not_toml_1_0_is_refused(self):
        """'TOML 1.0': what other languages allow is an error with its place."""
        for bad in ("connections = 010", "connections = 1__0", "connections: 10",
                    "connections = 5\nconnections = 6", "connections = 'a\nb'"):
            code, _, err = self.check(self.good(f"[limits]\n{bad}\n"))
            self.assertEqual(code, 1, bad)
            self.assertRegex(err, rf"^{re.escape(self.path)}:[89]:\d+: ", bad)

    def test_a_value_of_the_wrong_type(self):
        """'what is wrong and what would be right', where the type is not the option's."""
        for section, line, words in (("limits", 'connections = "ten"', ["whole number"]),
                                     ("limits", "idle_timeout = 5", ["duration"]),
                                     ("limits", "message_size = 1.5", ["size"]),
                                     ("submission", 'remove_bcc = "yes"', ["true", "false"]),
                                     ("queue", "retry = [1]", ["duration"]),
                                     ("log", "level = 3", ["error|warning|notice|info|debug"])):
            code, _, err = self.check(self.good(f"[{section}]\n{line}\n"))
            self.assertEqual(code, 1, line)
            found = [one for one in err.splitlines() if one.startswith(f"{self.path}:8:")]
            self.assertTrue(found, f"{line}: {err}")
            for word in words:
                self.assertIn(word, found[0])

    def test_durations_and_sizes_as_people_write_them(self):
        """'Durations and sizes read as people write them ("5m", "25MiB")': every unit."""
        seen = {}
        for text in ("1500ms", "90s", "120m", "2h", "4d"):
            seen[text] = self.effective(self.good(f'[queue]\nexpire = "4d"\nretry = ["{text}"]'))
        self.assertEqual({text: v["queue.retry"] for text, v in seen.items()},
                         {"1500ms": '["1s500ms"]', "90s": '["1m30s"]', "120m": '["2h"]',
                          "2h": '["2h"]', "4d": '["4d"]'})
        for text, same in (("65536", None), ("64KiB", "64KiB"), ("1024KiB", "1MiB"),
                           ("25MiB", "25MiB"), ("1GiB", "1GiB")):
            code, out, _ = self.check(self.good(f'[limits]\nmessage_size = "{text}"'),
                                      "--effective")
            if same:
                self.assertEqual(code, 0, text)
                self.assertRegex(out, rf'(?m)^message_size = "{same}"')
        for option, text in (("idle_timeout", "5 minutes ago"), ("idle_timeout", "-5m"),
                             ("idle_timeout", "5"), ("idle_timeout", "99999999999999d"),
                             ("message_size", "25 parsecs"), ("message_size", "MiB"),
                             ("message_size", "99999999999GiB")):
            code, _, err = self.check(self.good(f'[limits]\n{option} = "{text}"\n'))
            self.assertEqual(code, 1, text)
            self.assertRegex(err, rf"(?m)^{re.escape(self.path)}:8:\d+: ", text)

    def test_effective_prints_every_value_with_the_line_it_comes_from(self):
        """'--effective prints every value with the line it comes from': each option there is."""
        key = os.path.join(self.folder, "d.test", "s.key")
        subprocess.run([world.BINARY, "dkim", "keygen", "d.test", "s", "--type", "ed25519",
                        "--directory", self.folder], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        text = self.good('[[route]]\nmatch = "a.test"\nhost = "127.0.0.1"\n'
                         '[[destination]]\nmatch = "b.test"\n'
                         '[[local]]\ndomain = "c.test"\nmaildir = "/m/{user}"\nusers = ["u"]\n'
                         '[[header_rule]]\nremove = "X-A"\n'
                         '[[dnsbl]]\nzone = "bl.test"\n'
                         '[[reaction]]\ncode = "421"\naction = "slow"\n'
                         '[[tenant]]\nname = "shop"\nweight = 3\n'
                         '[[source]]\nname = "a"\naddress = "192.0.2.1"\n'
                         '[[pool]]\nname = "p"\nsources = ["a"]\n'
                         '[[class]]\nclass = "rate"\ntext = "slow down"\n'
                         f'[[dkim]]\ndomain = "d.test"\nselector = "s"\nkey = "{key}"\n',
                         'postmaster = "u@c.test"')
        code, out, err = self.check(text, "--effective")
        self.assertEqual((code, err), (0, ""))
        lines, section = {}, ""
        for line in out.splitlines():
            if line.startswith("["):
                section = line.strip("[]")
            elif " = " in line:
                # What nobody set and has no default stands there as a comment.
                lines[section, line.split(" = ")[0].removeprefix("# ")] = line
        options = manual_options()
        self.assertGreater(len(options), 60)
        for option in options:
            self.assertIn(option, lines)
            self.assertRegex(lines[option], r"# (default|.*smtpd\.toml:\d+|as .+)", option)
        for number, line in enumerate(text.splitlines(), 1):
            if " = " in line:
                name = line.split(" = ")[0]
                self.assertTrue(any(re.search(rf"^{name} = .*# .*smtpd\.toml:{number}\b", one)
                                    for one in out.splitlines()), f"{number}: {line}\n{out}")

    def test_effective_masks_every_secret(self):
        """'secrets masked': not the one in the file, nor one from a file or the environment."""
        secret = os.path.join(self.folder, "secret")
        with open(secret, "w") as file:
            file.write("from-the-file\n")
        route = '[[route]]\nname = "{0}"\nmatch = "{0}.test"\nhost = "127.0.0.1"\nuser = "u"\n'
        text = (self.good() + route.format("a") + 'password = "from-the-toml"\n' +
                route.format("b") + f'password_file = "{secret}"\n' +
                route.format("c") + 'password_env = "E2E_SECRET"\n')
        for words in (["--effective"], ["--effective", "--json"], ["--json"], []):
            code, out, err = self.check(text, *words, env={"E2E_SECRET": "from-the-environment"})
            self.assertEqual(code, 0, err)
            self.assertNotRegex(out + err, "from-the-(file|toml|environment)")
        # Nor in a complaint about another line, or about the secret's own.
        for broken in (text.replace('password = "from-the-toml"',
                                    'password = "from-the-toml"\npassword_env = "E2E_SECRET"'),
                       text.replace('"from-the-toml"', '["from-the-toml"]'),
                       text.replace('"from-the-toml"', '"from-the-toml\\u0007"'),
                       text.replace("[auth]", "[auht]")):
            for words in ([], ["--json"], ["--effective"]):
                code, out, err = self.check(broken, *words,
                                            env={"E2E_SECRET": "from-the-environment"})
                self.assertEqual(code, 1)
                self.assertNotRegex(out + err, "from-the-(file|toml|environment)")

    def test_every_unknown_key_is_an_error_in_every_section(self):
        """'an unknown key is an error with the nearest known name': in each table there is."""
        tables = {}
        for section, option in manual_options():
            tables.setdefault(section, []).append(option)
        single = set(re.findall(r"(?m)^## \[([a-z_]+)\]$", document("manual")))
        self.assertLess({"server", "tls", "auth", "limits", "queue", "delivery", "log"}, single)
        self.assertLess(single, set(tables))
        text, expected = "", []
        for section, options in tables.items():
            head = f"[{section}]" if section in single else f"[[{section}]]"
            near = max(options, key=len)
            text += f"{head}\n{near[:-1]}_ = 1\n"
            expected.append((text.count("\n"), near))
        code, _, err = self.check(text)
        self.assertEqual(code, 1)
        for line, near in expected:
            found = [one for one in err.splitlines()
                     if one.startswith(f"{self.path}:{line}:1:") and near in one]
            self.assertTrue(found, f"line {line}, nearest {near}: {err}")

    def test_every_rule_between_options_is_checked(self):
        """'every error in the file at once': what must fit together, as the manual lists it."""
        cases = (('[server]\nhostname = "relay"\n', "hostname"),
                 ('[server]\nhostname = "relay.test"\n', "listens"),
                 (self.good('[tls]\ncertificate = ["/a", "/b"]\nkey = "/a"\n'), "same number"),
                 (self.good("[queue]\nretry = []\n"), "between 1 and 32"),
                 (self.good('[dns]\nservers = ["192.0.2.1", "192.0.2.2", "192.0.2.3", '
                            '"192.0.2.4", "192.0.2.5", "192.0.2.6", "192.0.2.7"]\n'), "at most 6"),
                 (self.good().replace('tls = "none"', ""), "certificate"),
                 (self.good().replace(f'users_file = "{self.users}"', ""), "users_file"),
                 (self.good().replace("allow_clear_on_loopback = true", ""),
                  "allow_clear_on_loopback"),
                 (self.good() + 'mode = "relay"\n', "postmaster"),
                 (self.good() + '[[local]]\ndomain = "c.test"\nmaildir = "/m/{user}"\n'
                  'users = ["u"]\n', "postmaster"),
                 (self.good(server='postmaster = "x@c.test"') + '[[local]]\ndomain = "c.test"\n'
                  'maildir = "/m/{user}"\nusers = ["u"]\n', "one of its users"),
                 (self.good(server='postmaster = "u@c.test"') + '[[local]]\ndomain = "c.test"\n'
                  'maildir = "/m/one"\nusers = ["u"]\n', "{user}"),
                 (self.good(server='postmaster = "u@c.test"') + '[[local]]\ndomain = "c.test"\n'
                  'maildir = "/m/{user}"\nusers = ["u", "../x"]\n', "local part"),
                 (self.good(server='postmaster = "u@c.test"') + 2 * (
                     '[[local]]\ndomain = "c.test"\nmaildir = "/m/{user}"\nusers = ["u"]\n'),
                  "already"),
                 (self.good() + '[[route]]\nmatch = "*"\nhost = "127.0.0.1"\nuser = "u"\n',
                  "exactly one"),
                 (self.good() + '[[route]]\nmatch = "*"\nhost = "h.test"\nuser = "u"\n'
                  'password = "p"\n', "required"),
                 (self.good() + '[[header_rule]]\nlistener = "127.0.0.1:9"\nremove = "X-A"\n',
                  "no [[listen]] table"),
                 (self.good('[tls_report]\norganization = "O"\n'), "needs tls_report.contact"),
                 (self.good('[tls_report]\ncontact = "a@b.test"\n'), "needs tls_report.organization"),
                 (self.good() + "[[header_rule]]\n", "at most 32"),
                 (self.good() + '[[header_rule]]\nremove = "Received"\n', "may be changed"),
                 (self.good() + '[[header_rule]]\nadd = "X-A: b\\r\\nX-B: c"\n', "one line"),
                 (self.good() + '[[header_rule]]\nadd = "X-A"\n', "is not a header field"),
                 (self.good() + 2 * '[[route]]\nname = "n"\nmatch = "*"\nhost = "h.test"\n',
                  "its own name"))
        for text, word in cases:
            code, _, err = self.check(text)
            self.assertEqual(code, 1, text)
            self.assertIn(word, err, text)

    def test_json_has_every_problem_and_none(self):
        """'smtpd check says file, line, column ...': the same with --json, for programs."""
        code, out, _ = self.check(self.good(), "--json")
        self.assertEqual((code, json.loads(out)), (0, []))
        text = self.good('[limits]\nconnections = "x"\nidle_tiemout = "5m"\n"a\\"b" = 1\n')
        _, _, err = self.check(text)
        code, out, _ = self.check(text, "--json")
        self.assertEqual(code, 1)
        problems = json.loads(out)
        self.assertEqual(len(problems), len(err.splitlines()))
        for problem in problems:
            self.assertEqual(problem["file"], self.path)
            self.assertIn(f":{problem['line']}:{problem['column']}: ", err)

    def test_a_file_that_is_not_there(self):
        """'smtpd check says file ...': also when there is none, and `run` does not start."""
        for word in ("check", "run", "status"):
            done = subprocess.run([world.BINARY, word, "--config", self.path + ".not"], text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
            self.assertEqual(done.returncode, 1, word)
            self.assertIn(self.path + ".not", done.stderr)

    def test_run_refuses_a_broken_file_as_check_does(self):
        """'for every error in the file at once': `run` says the same and ends with 1."""
        text = self.good('[limits]\nconnections = "x"\nidle_timeout = "z"\n')
        _, _, err = self.check(text)
        done = subprocess.run([world.BINARY, "run", "--config", self.path], text=True, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual((done.returncode, done.stderr), (1, err))


class Pages(unittest.TestCase):
    """'One declarative table ... from which parsing, checking, smtpd.toml.example and
    docs/configuration.md all come; CI fails when they differ.'"""

    def test_the_pages_in_the_tree_are_those_of_the_binary(self):
        """'CI fails when they differ': the files are what the program prints."""
        for page, path in (("example", "smtpd.toml.example"), ("manual", "docs/configuration.md"),
                           ("verbs", "docs/verbs.md")):
            self.assertEqual(document(page), read(path), path)

    def test_ci_fails_when_they_differ(self):
        """'CI fails when they differ': the check itself, with a program that prints otherwise."""
        with tempfile.TemporaryDirectory(prefix="smtpd-pages-") as folder:
            other = os.path.join(folder, "smtpd")
            with open(other, "w") as file:
                file.write(f'#!/bin/sh\n"{world.BINARY}" "$@" | sed "s/message_size/size/"\n')
            os.chmod(other, 0o755)
            script = os.path.join(ROOT, "tests", "house", "check_generated.sh")
            for binary, code in ((world.BINARY, 0), (other, 1)):
                done = subprocess.run(["sh", script], env=dict(os.environ, SMTPD_BINARY=binary),
                                      text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                      timeout=60)
                self.assertEqual(done.returncode, code, done.stdout)

    def test_every_option_has_its_sentence_type_and_default(self):
        """'options (name, type, unit, default, range, flags, one-line doc)': all are said."""
        page = document("manual").split("## What must fit together")[0]
        blocks = re.split(r"(?m)^### ", page)[1:]
        self.assertEqual(len(blocks), len(manual_options()))
        for block in blocks:
            name, rest = block.split("\n\n", 1)
            self.assertRegex(rest, r"\A[\"A-Z[].*\.\n", name)
            self.assertRegex(rest, r"(?m)^- (?!default)", name)
            self.assertRegex(rest, r"(?m)^- default: |^- secret", name)

    def test_the_example_names_every_option(self):
        """'smtpd.toml.example ... come from one table': nothing is missing there.

        Tables that may stand several times are shown by an example of each instead.
        """
        parts = re.split(r"(?m)^(?:# )?\[+([a-z_]+)\]+$", document("example"))
        pages = dict(zip(parts[1::2], parts[2::2]))
        several = set(re.findall(r"(?m)^(?:# )?\[\[([a-z_]+)\]\]$", document("example")))
        self.assertLess({"listen", "destination", "route", "local"}, several)
        for section, option in manual_options():
            if section not in several:
                self.assertRegex(pages[section], rf"(?m)^# {option} = ", f"{section}.{option}")


class Secrets(unittest.TestCase):
    def test_a_secret_from_the_environment_is_used(self):
        """'Secrets can come from a file (password_file) or the environment': in a delivery."""
        folder = tempfile.mkdtemp(prefix="smtpd-secret-")
        self.addCleanup(subprocess.run, ["rm", "-rf", folder])
        tls = world.make_certificate(folder, "hop", "hop.test")
        hop = Hop(self, tls=tls, capabilities=("PIPELINING", "AUTH LOGIN"))
        heard = []

        def answer(stage, argument, session):
            if stage != "auth":
                return None
            for ask in (b"334 VXNlcm5hbWU6\r\n", b"334 UGFzc3dvcmQ6\r\n"):
                if len(argument.split()) > 2 and ask.endswith(b"mU6\r\n"):
                    continue
                session.connection.sendall(ask)
                heard.append(session.file.readline().strip())
            return "235 2.7.0 in"
        hop.answer = answer
        # The tools read the file too: they live in the same environment as the server.
        os.environ["E2E_SECRET"] = "out of the environment"
        self.addCleanup(os.environ.pop, "E2E_SECRET")
        relay = Relay(self, delivery='tls = "off"\n',
                      start=False, extra=f'[[route]]\nmatch = "*"\nhost = "127.0.0.1"\n'
                      f'port = {hop.port}\ntls = "required"\nuser = "relay"\n'
                      'password_env = "E2E_SECRET"\n')
        relay.start()
        send(relay, ["s@x.test"])
        relay.wait_empty()
        self.assertEqual(hop.delivered(), {"s@x.test": 1})
        self.assertTrue(hop.messages[0]["secure"])
        import base64
        said = [line.split()[-1].encode() for _, line in hop.commands if line.startswith("AUTH")]
        self.assertIn(b"out of the environment", [base64.b64decode(one) for one in heard])
        with open(relay.log_path) as file:
            log = file.read()
        for secret in ["out of the environment"] + [one.decode() for one in heard[-1:] + said
                                                    if one != b"LOGIN"]:
            self.assertNotIn(secret, log)


if __name__ == "__main__":
    world.main()

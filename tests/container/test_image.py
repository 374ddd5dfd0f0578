#!/usr/bin/python3
"""test_image.py IMAGE   the image that the Dockerfile makes, run as a pod runs it. By hand: it needs an
engine. With docker or podman:

    docker build -t smtpd . && tests/container/test_image.py smtpd

Where there is only buildah (as root), its root file system is mounted read-only and entered in new
namespaces, as the image's user, without any capability and without new privileges.

Shown here: it serves mail and health, writes nowhere but to its volume, leaves on SIGTERM with exit code 0
within its grace period, keeps its queue over a restart on the same volume, and says what is missing."""
import json
import os
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import unittest

UID = 10001
GRACE = 10
CONFIGURATION = """
[server]
hostname = "relay.example.com"
grace_period = "8s"
[tls]
certificate = "/etc/smtpd/tls.crt"
key = "/etc/smtpd/tls.key"
[auth]
users_file = "/etc/smtpd/users"
[dns]
servers = ["127.0.0.1:9"]
timeout = "1s"
[admin]
listen = ["0.0.0.0:8587"]
[[listen]]
address = "0.0.0.0:2587"
[[route]]
match = ["*"]
host = "127.0.0.1"
port = 9
"""


def run(*words, **more):
    return subprocess.run(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
                          **more)


def must(*words, **more):
    done = run(*words, **more)
    assert done.returncode == 0, f"{words}\n{done.stdout}"
    return done.stdout.strip()


class Engine:
    """docker or podman: the same words."""

    def __init__(self, name, image):
        self.name, self.image = name, image

    def inspect(self):
        found = json.loads(must(self.name, "image", "inspect", self.image))[0]
        return found.get("Config") or found["config"]

    def words(self, folder, *command):
        return [self.name, "run", "--rm", "--interactive", "--read-only", "--cap-drop", "ALL", "--security-opt",
                "no-new-privileges", "--network", "host", "-v", f"{folder}/etc:/etc/smtpd:ro", "-v",
                f"{folder}/data:/var/lib/smtpd", "--name", self.container(folder), self.image, *command]

    @staticmethod
    def container(folder):
        return os.path.basename(folder)

    def execute(self, folder, process, *command):
        return run(self.name, "exec", self.container(folder), *command)

    def terminate(self, folder, process):
        must(self.name, "kill", "--signal", "TERM", self.container(folder))

    def without_volume(self, folder):
        # For /var/lib/smtpd an engine makes a volume of its own; /tmp is the container's.
        return run(self.name, "run", "--rm", "-v", f"{folder}/etc:/etc/smtpd:ro", self.image, "run",
                   "--config", "/etc/smtpd/elsewhere.toml")

    def close(self):
        pass


class Buildah:
    """No engine: what a container runtime does, by unshare, mount, chroot and setpriv."""

    SCRIPT = r"""
set -eu
root=$1 folder=$2 read_only=$3
shift 3
mount --bind "$root" "$root"
mount --make-private "$root"
mount -t proc proc "$root/proc"
[ -e "$root/dev/null" ] || mount --rbind /dev "$root/dev"
mount --bind "$folder/etc" "$root/etc/smtpd"
mount -o remount,bind,ro "$root/etc/smtpd"
[ "$read_only" = no ] || mount --bind "$folder/data" "$root/var/lib/smtpd"
[ "$read_only" = no ] || mount -o remount,bind,ro "$root"
exec chroot "$root" /usr/bin/setpriv --reuid=10001 --regid=10001 --clear-groups --inh-caps=-all \
    --bounding-set=-all --no-new-privs "$@"
"""

    def __init__(self, image):
        self.image = image
        self.made = must("buildah", "from", "--pull-never", image)
        self.root = must("buildah", "mount", self.made)

    def inspect(self):
        text = must("buildah", "inspect", "--type", "image", self.image)
        return json.loads(text)["OCIv1"]["config"]

    def words(self, folder, *command, read_only="yes"):
        config = self.inspect()
        assert config["User"] == f"{UID}:{UID}", config
        path = next(v for v in config["Env"] if v.startswith("PATH="))
        # From the outside only PATH comes along, as the image says it.
        return ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "unshare", "--mount", "--pid", "--fork",
                "--kill-child", "sh", "-c", self.SCRIPT, "sh", self.root, folder, read_only, "/usr/bin/env",
                "-i", path, *config["Entrypoint"], *(command or config["Cmd"])]

    @staticmethod
    def first_process(process):
        with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
            return int(file.read().split()[0])

    def execute(self, folder, process, *command):
        pid = self.first_process(process)
        return run("nsenter", f"--target={pid}", "--mount", "--pid", f"--root=/proc/{pid}/root",
                   "/usr/bin/setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups",
                   "--bounding-set=-all", "--no-new-privs", "/usr/bin/env", "-i",
                   "PATH=/usr/local/bin:/usr/bin:/bin", *command)

    def terminate(self, folder, process):
        os.kill(self.first_process(process), signal.SIGTERM)

    def without_volume(self, folder):
        return run(*self.words(folder, "run", "--config", "/etc/smtpd/elsewhere.toml", read_only="no"))

    def close(self):
        run("buildah", "umount", self.made)
        run("buildah", "rm", self.made)


def choose(image):
    for name in ("docker", "podman"):
        if shutil.which(name) and run(name, "image", "inspect", image).returncode == 0:
            return Engine(name, image)
    return Buildah(image)


def wait_for(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for: {what}"
        time.sleep(0.05)


class Image(unittest.TestCase):
    engine = None

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="smtpd-image-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        os.chmod(self.folder, 0o755)
        for name in ("etc", "data"):
            os.mkdir(os.path.join(self.folder, name))
        os.chown(os.path.join(self.folder, "data"), UID, UID)
        self.process = None
        self.addCleanup(self.end)

    def path(self, name):
        return os.path.join(self.folder, "etc", name)

    def configure(self):
        with open(self.path("smtpd.toml"), "w") as file:
            file.write(CONFIGURATION)
        must("openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-days", "2", "-subj", "/CN=relay.example.com", "-keyout", self.path("tls.key"), "-out",
             self.path("tls.crt"))
        # The image's own program makes the user; it needs to write there for that.
        os.chown(self.path(""), UID, UID)
        os.chown(self.path("tls.key"), 0, UID)
        os.chmod(self.path("tls.key"), 0o640)
        words = [w.replace("/etc/smtpd:ro", "/etc/smtpd") for w in
                 self.engine.words(self.folder, "user", "add", "app")]
        words = [w.replace('mount -o remount,bind,ro "$root/etc/smtpd"\n', "") for w in words]
        must(*words, input="secret\n")

    def start(self):
        self.log = os.path.join(self.folder, "log")
        with open(self.log, "ab") as log:
            mark = log.tell()
            self.process = subprocess.Popen(self.engine.words(self.folder), stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)
        wait_for(lambda: self.process.poll() is not None or "server.started" in self.said()[mark:],
                 "the start")
        self.assertIsNone(self.process.poll(), self.said())

    def said(self):
        with open(self.log, errors="replace") as file:
            return file.read()

    def end(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def leave(self):
        began = time.monotonic()
        self.engine.terminate(self.folder, self.process)
        self.assertEqual(self.process.wait(60), 0, self.said())
        self.assertLess(time.monotonic() - began, GRACE)

    def inside(self, *command):
        return self.engine.execute(self.folder, self.process, *command)

    def waiting(self):
        return self.inside("smtpd", "queue", "list", "--json").stdout.splitlines()

    def test_what_the_image_says_of_itself(self):
        config = self.engine.inspect()
        self.assertEqual(config["User"], f"{UID}:{UID}")
        self.assertEqual((config["Entrypoint"], config["Cmd"]), (["smtpd"], ["run"]))
        self.assertEqual(set(config["ExposedPorts"]), {"2587/tcp", "2465/tcp", "8587/tcp"})
        self.assertEqual(list(config["Volumes"]), ["/var/lib/smtpd"])

    def test_confined_it_serves_leaves_and_keeps_its_queue(self):
        self.configure()
        self.start()
        for line in self.said().splitlines():
            self.assertIn("event", json.loads(line))  # the log: JSON, on standard output
        with open(f"/proc/{self.pid()}/status") as file:
            status = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
        self.assertEqual({status[f"Cap{s}"] for s in ("Inh", "Prm", "Eff", "Bnd")}, {"0" * 16})
        self.assertEqual((status["NoNewPrivs"], status["Uid"].split()[0], status["NSpid"].split()[-1]),
                         ("1", str(UID), "1"))
        for folder in ("/", "/tmp", "/etc/smtpd", "/usr/local/bin"):
            self.assertNotEqual(self.inside("touch", f"{folder}/x").returncode, 0, folder)
        for words in (("smtpd", "health"), ("smtpd", "health", "--ready")):
            done = self.inside(*words)
            self.assertEqual(done.returncode, 0, done.stdout)
        context = ssl.create_default_context(cafile=self.path("tls.crt"))
        context.check_hostname = False
        client = smtplib.SMTP("127.0.0.1", 2587, timeout=60, local_hostname="client.test")
        client.starttls(context=context)
        client.login("app", "secret")
        client.sendmail("a@example.com", ["b@example.net"], "Subject: kept\r\n\r\ntext\r\n")
        before = [json.loads(line)["id"] for line in self.waiting()]
        self.assertEqual(len(before), 1)
        self.leave()  # with a client that is idle: it hears 421
        self.assertEqual(client.docmd("NOOP")[0], 421)
        client.close()
        self.start()
        self.assertEqual([json.loads(line)["id"] for line in self.waiting()], before)
        self.leave()

    def pid(self):
        if isinstance(self.engine, Buildah):
            return Buildah.first_process(self.process)
        return must(self.engine.name, "inspect", "--format", "{{.State.Pid}}",
                    self.engine.container(self.folder))

    def test_without_a_configuration_it_says_what_is_missing(self):
        done = run(*self.engine.words(self.folder))
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("/etc/smtpd/smtpd.toml", done.stdout)
        self.assertIn("mounted", done.stdout)

    def test_without_a_volume_it_says_that_one_must_be_mounted(self):
        self.configure()
        with open(self.path("elsewhere.toml"), "w") as file:
            file.write(CONFIGURATION.replace("[server]\n", '[server]\ndata_dir = "/tmp/queue"\n'))
        done = self.engine.without_volume(self.folder)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("mount a volume there", done.stdout)


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: test_image.py IMAGE [TEST...]")
    for port in (2587, 8587):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    Image.engine = choose(sys.argv.pop(1))
    try:
        unittest.main(verbosity=2, exit=False)
    finally:
        Image.engine.close()

"""Postfix, from the packages that third_party/tools.sh unpacks for the tests."""
import glob
import os
import subprocess

import peers
from peers import FOLDER, Peer, tools_root

SERVICES = (
    "pickup unix n - n 60 1 pickup", "cleanup unix n - n - 0 cleanup", "qmgr unix n - n 300 1 qmgr",
    "tlsmgr unix - - n 1000? 1 tlsmgr", "rewrite unix - - n - - trivial-rewrite",
    "bounce unix - - n - 0 bounce", "defer unix - - n - 0 bounce", "trace unix - - n - 0 bounce",
    "verify unix - - n - 1 verify", "flush unix n - n 1000? 0 flush", "smtp unix - - n - - smtp",
    "relay unix - - n - - smtp", "error unix - - n - - error", "retry unix - - n - - error",
    "discard unix - - n - - discard", "anvil unix - - n - 1 anvil", "scache unix - - n - 1 scache",
    "proxymap unix - - n - - proxymap", "postlog unix-dgram n - n - 1 postlogd")
QUEUES = "active bounce corrupt defer deferred flush hold incoming private saved trace"


class Postfix(Peer):
    name = "postfix"
    title = "Postfix"
    users = (("postfix", 4095), ("postdrop", 4096))
    settings = (
        "relayhost by address, no DNS, no name of the client, no anvil limits",
        "default_process_limit 300, max_use 1000, qmgr_message_active_limit 50000",
        "destination concurrency 20 from the start, connections to the next hop kept, in_flow_delay 0",
        "log by postlogd into a file; no chroot; log-ins by Cyrus SASL from a sasldb (passwords in clear)",
        "one fsync a message (seen with strace)")

    @classmethod
    def check(cls):
        if not os.path.exists(os.path.join(tools_root(), "usr", "lib", "postfix")):
            raise peers.Missing("third_party/tools.sh has not unpacked it")

    @classmethod
    def version(cls):
        done = subprocess.run([os.path.join(peers.TOOLS, "bin", "postconf"), "-d", "-h",
                               "mail_version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True)
        return done.stdout.strip() or "?"

    def main_cf(self):
        root, lib = tools_root(), os.path.join(tools_root(), "usr", "lib", "postfix")
        text = f"""
compatibility_level = 3.6
queue_directory = {self.folder}/spool
data_directory = {self.folder}/data
daemon_directory = {lib}/sbin
command_directory = {root}/usr/sbin
shlib_directory = {lib}
meta_directory = /etc/postfix
sendmail_path = /bin/true
newaliases_path = /bin/true
mailq_path = /bin/true
mail_owner = postfix
setgid_group = postdrop
import_environment = LD_LIBRARY_PATH MAIL_CONFIG PATH SASL_PATH
export_environment = LD_LIBRARY_PATH PATH SASL_PATH
myhostname = postfix.bench.test
mydestination =
alias_maps =
local_recipient_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:{self.wishes.next_hop}
smtp_dns_support_level = disabled
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_recipient_restrictions = permit_mynetworks, permit_sasl_authenticated, reject
smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, reject
default_process_limit = {max(300, self.wishes.connections + 200)}
max_use = 1000
qmgr_message_active_limit = 50000
default_destination_concurrency_limit = 20
initial_destination_concurrency = 20
smtp_connection_cache_destinations = 127.0.0.1
in_flow_delay = 0
maillog_file = {self.folder}/log
maillog_file_prefixes = {self.folder}
"""
        if self.wishes.certificate:
            text += f"""
smtpd_tls_security_level = may
smtpd_tls_cert_file = {self.wishes.certificate[0]}
smtpd_tls_key_file = {self.wishes.certificate[1]}
smtpd_tls_loglevel = 0
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_path = smtpd
cyrus_sasl_config_path = /etc/postfix/sasl
smtpd_sasl_local_domain = bench.test
"""
        return text

    def prepare(self):
        lib = os.path.join(tools_root(), "usr", "lib", "postfix")
        self.write("etc/postfix/main.cf", self.main_cf())
        self.write("etc/postfix/master.cf", "\n".join(
            [f"127.0.0.1:{self.port} inet n - n - - smtpd", *SERVICES]) + "\n")
        for name in ("postfix-files", "dynamicmaps.cf"):
            self.write("etc/postfix/" + name, "")
        libraries = [lib, *glob.glob(f"{tools_root()}/usr/lib/*-linux-gnu*"),
                     *glob.glob(f"{tools_root()}/lib/*-linux-gnu*")]
        self.environment = dict(MAIL_CONFIG="/etc/postfix", LD_LIBRARY_PATH=":".join(libraries))
        os.makedirs(self.path("data"))
        os.chown(self.path("data"), 4095, 4095)
        spool = self.path("spool")
        before = [f"for d in {QUEUES}; do mkdir -p {spool}/$d; chown 4095 {spool}/$d; "
                  f"chmod 700 {spool}/$d; done",
                  f"mkdir -p {spool}/maildrop {spool}/public {spool}/pid",
                  f"chown 4095:4096 {spool}/maildrop {spool}/public",
                  f"chmod 730 {spool}/maildrop", f"chmod 710 {spool}/public"]
        if self.wishes.certificate:
            before += self.sasl()
        return before, f"{lib}/sbin/master -d"

    def sasl(self):
        """A user in a database of Cyrus SASL; its plugins are in the packages of peers.sh."""
        root = os.path.join(FOLDER, "sasl", "root")
        plugins = glob.glob(f"{root}/usr/lib/*-linux-gnu*/sasl2")
        if not plugins:
            raise RuntimeError("the packages of Cyrus SASL could not be fetched")
        self.write("etc/postfix/sasl/smtpd.conf",
                   "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN\n"
                   f"sasldb_path: {self.folder}/sasldb2\n")
        self.environment["SASL_PATH"] = plugins[0]
        self.environment["LD_LIBRARY_PATH"] += ":" + os.path.dirname(plugins[0])
        self.write("password", self.wishes.password)
        return [f"{root}/usr/sbin/saslpasswd2 -p -c -f {self.folder}/sasldb2 -u bench.test "
                f"{self.wishes.user} <{self.folder}/password",
                f"chown 4095 {self.folder}/sasldb2"]

    def waiting(self):
        return self.files_below("spool/maildrop", "spool/incoming", "spool/active",
                                "spool/deferred")

/* Every maximum of the house that is not an option. A loop over outside input, a list, a
 * map, a retry or a line without a name here (or an option) is a bug. */
#ifndef SMTPD_BASE_LIMITS_H
#define SMTPD_BASE_LIMITS_H

enum house_limits {
    /* SMTP, RFC 5321 4.5.3.1 */
    LIMIT_COMMAND_LINE = 2048, /* a command with its CRLF; RFC 512, plus extensions */
    LIMIT_AUTH_LINE = 12288,   /* RFC 4954 4: base64 of a SASL message */
    LIMIT_REPLY_LINE = 4096,   /* a reply line of a remote server */
    LIMIT_REPLY_LINES = 128,   /* lines of one reply */
    LIMIT_REPLY_TEXT = 1024,   /* what we keep of a reply's text */
    LIMIT_DATA_LINE = 1000, /* text line with CRLF: longer ones are carried and counted */
    LIMIT_LOCAL_PART = 64,
    LIMIT_DOMAIN = 255,
    LIMIT_ADDRESS = 320, /* local part, @, domain */
    LIMIT_ENVID = 100,   /* RFC 3461 4.4 */
    LIMIT_ORCPT = 500,   /* RFC 3461 4.2 */
    LIMIT_USER_NAME = 128,
    LIMIT_POOL_NAME = 64,
    LIMIT_PASSWORD = 1024,
    LIMIT_BAD_COMMANDS = 20,      /* then 421 and close */
    LIMIT_SESSION_INPUT = 65536,  /* unprocessed input of one session */
    LIMIT_SESSION_OUTPUT = 65536, /* unsent replies of one session: reading stops above */
    LIMIT_TRANSACTION_ARENA = 1 << 20,

    /* messages */
    LIMIT_HEADER_SECTION = 262144, /* then 552 5.3.4 */
    LIMIT_HEADER_RULES = 100,      /* tables; the fields of each: */
    LIMIT_HEADER_RULE_REMOVED = 32,
    LIMIT_HEADER_RULE_ADDED = 8,
    LIMIT_RECIPIENTS = 100000, /* most that the option may allow */

    /* queue */
    LIMIT_GROUP_RECIPIENTS = 100,
    LIMIT_GROUP_BYTES = 2000,
    LIMIT_CHUNK_BYTES = 4080,    /* page size - 16 on 4 KiB pages */
    LIMIT_PIECE_BYTES = 65536,   /* a body is read in pieces of this */
    LIMIT_BATCH_BYTES = 8388608, /* body bytes added plus deleted in one commit */
    LIMIT_DRAFT_MEMORY = 262144, /* per session; above it a message becomes a draft */
    LIMIT_RECEIVING_BYTES = 67108864,
    LIMIT_PENDING_BYTES = 67108864,
    LIMIT_DOMAIN_QUEUES = 1000000,
    LIMIT_LEASED_GROUPS = 1000000,
    LIMIT_FRESH_BYTES = 67108864, /* cache of bodies that were just accepted */
    LIMIT_FRESH_MESSAGES = 100000,
    LIMIT_CHANGE_TARGETS = 1000,  /* groups of one commit that an operator changes */
    LIMIT_SCAN_ENVELOPES = 1000,  /* in one read transaction */
    LIMIT_PINNED_BYTES = 1 << 30, /* growth of the file while a reader stands */

    /* deliver */
    LIMIT_READY_GROUPS = 200,        /* of a destination, read ahead of their turn */
    LIMIT_READ_AHEAD_GROUPS = 20000, /* of all destinations: some 3 KB each */
    LIMIT_READY_TURNS = 32,          /* that are read because the turn came, at once */
    LIMIT_SETTLING_GROUPS =
        5000, /* outcomes that wait for their commit: then no new attempt */
    LIMIT_OUTBOUND_WINDOW_BYTES = 134217728,
    LIMIT_IDLE_CONNECTIONS = 5000, /* to next hops, all that rest between two messages */
    LIMIT_MX_HOSTS = 20,
    LIMIT_HOST_ADDRESSES = 10,
    LIMIT_DEAD_ADDRESSES = 20000, /* remembered */
    LIMIT_DESTINATIONS = 100000,
    LIMIT_STS_POLICIES = 10000, /* MTA-STS, in memory and on disk */
    LIMIT_STS_FAILURES = 10000, /* domains whose policy could not be had */
    LIMIT_STS_FETCHES =
        100, /* at once; whose turn does not come in a minute waits with its mail */
    LIMIT_STS_REFRESHES = 10,         /* of them in the background */
    LIMIT_TLS_REPORT_DOMAINS = 10000, /* counted for reports of TLS */
    LIMIT_TLS_REPORT_BYTES = 4194304, /* of their texts */
    LIMIT_TLS_REPORTS = 10,           /* being sent at once */

    /* DNS */
    LIMIT_DNS_CACHE = 200000,
    LIMIT_DNS_IN_FLIGHT = 200,
    LIMIT_DNS_WAITING = 20000,
    LIMIT_DNS_ASKING_KNOWN = 150,   /* lanes that ask for their way at once */
    LIMIT_DNS_ASKING_NEW = 100,     /* above this only those whose way was known */
    LIMIT_DNS_ASKING_FAILED = 50,   /* above this none whose look-up failed the last time */
    LIMIT_DNS_SERVERS = 6,          /* what udns holds */
    LIMIT_DNS_ANSWER_RECORDS = 256, /* records of an answer that are looked at */
    LIMIT_DNS_ANSWER_MX = 100,
    LIMIT_DNS_ANSWER_TXT = 16,
    LIMIT_DNS_TXT_BYTES = 16384, /* of all texts (or certificates) of an answer */
    LIMIT_DNS_ANSWER_TLSA = 32,
    LIMIT_DNS_CNAMES = 8,      /* aliases followed inside one answer */
    LIMIT_DNS_NAME_JUMPS = 64, /* compression pointers within one name */

    /* net */
    LIMIT_TLS_SESSIONS = 5000,  /* of next hops, to be resumed */
    LIMIT_PROXY_WAITING = 1024, /* connections of one listener without PROXY header yet */

    /* server */
    LIMIT_EXPIRY_WARNING_DAYS = 14, /* before a certificate expires */

    /* machine */
    LIMIT_MACHINE_STEPS = 64 /* moves without waiting */
};

#endif

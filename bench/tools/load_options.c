/* What is wanted of the load client. */
#include "load.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: load --port P [--host 127.0.0.1] [--sessions 1] [--messages M] [--seconds S]\n"
    "            [--size 1k|10k|100k|BYTES|mix] [--rate R] [--per-connection K] "
    "[--pipelining]\n"
    "            [--tls none|starttls|implicit] [--user U --password-file F] [--resume]\n"
    "            [--from A] [--to A] [--sources K] [--tls-version 1.2|1.3] [--groups "
    "LIST]\n"
    "            [--json]\n"
    "       load --idle N ...       opens N sessions, prints how many, holds them until "
    "stdin ends\n"
    "       load --log-ins --seconds S ...   sessions of EHLO, STARTTLS, EHLO, AUTH PLAIN, "
    "QUIT\n"
    "\n"
    "Without --rate each session sends as fast as it can; with it, R messages a second in "
    "sum\n"
    "come on schedule, whether the one before is through or not, and the latency counts "
    "from\n"
    "the moment that the schedule gave. Kept connections are made before the clock "
    "starts.\n";

void die(const char *format, ...)
{
    va_list arguments;

    (void)fprintf(stderr, "load: ");
    va_start(arguments, format);
    (void)vfprintf(stderr, format, arguments);
    va_end(arguments);
    (void)fprintf(stderr, "\n");
    exit(2);
}

static double number(const char *text, const char *name, double least, double most)
{
    char *end = NULL;
    double value = strtod(text, &end);

    if (end == text || *end || !(value >= least && value <= most))
        die("--%s is a number from %g to %g, and not %s", name, least, most, text);
    return value;
}

static size_t size(const char *text)
{
    static const struct {
        const char *name;
        size_t bytes;
    } names[] = {{"1k", 1000}, {"10k", 10000}, {"100k", 100000}, {"mix", 0}};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i].name, text) == 0)
            return names[i].bytes;
    return (size_t)number(text, "size", 1, 200e6);
}

static enum load_tls tls(const char *text)
{
    static const char *const names[] = {"none", "starttls", "implicit"};

    for (unsigned i = 0; i < 3; i++)
        if (strcmp(names[i], text) == 0)
            return (enum load_tls)i;
    die("--tls is none, starttls or implicit, and not %s", text);
}

static int tls_version(const char *text)
{
    if (strcmp(text, "1.2") == 0)
        return TLS1_2_VERSION;
    if (strcmp(text, "1.3") == 0)
        return TLS1_3_VERSION;
    die("--tls-version is 1.2 or 1.3, and not %s", text);
}

static const char *first_line(const char *path)
{
    static char line[512];
    FILE *file = fopen(path, "r");

    if (!file || !fgets(line, sizeof line, file))
        die("cannot read %s", path);
    (void)fclose(file);
    line[strcspn(line, "\r\n")] = '\0';
    return line;
}

enum which {
    OPTION_HOST = 256,
    OPTION_PORT,
    OPTION_SESSIONS,
    OPTION_MESSAGES,
    OPTION_SECONDS,
    OPTION_RATE,
    OPTION_SIZE,
    OPTION_PER_CONNECTION,
    OPTION_TLS,
    OPTION_TLS_VERSION,
    OPTION_GROUPS,
    OPTION_USER,
    OPTION_PASSWORD_FILE,
    OPTION_FROM,
    OPTION_TO,
    OPTION_IDLE,
    OPTION_SOURCES,
    OPTION_LOG_INS,
    OPTION_RESUME,
    OPTION_PIPELINING,
    OPTION_JSON
};

static const struct option table[] = {
    {"host", required_argument, NULL, OPTION_HOST},
    {"port", required_argument, NULL, OPTION_PORT},
    {"sessions", required_argument, NULL, OPTION_SESSIONS},
    {"messages", required_argument, NULL, OPTION_MESSAGES},
    {"seconds", required_argument, NULL, OPTION_SECONDS},
    {"rate", required_argument, NULL, OPTION_RATE},
    {"size", required_argument, NULL, OPTION_SIZE},
    {"per-connection", required_argument, NULL, OPTION_PER_CONNECTION},
    {"tls", required_argument, NULL, OPTION_TLS},
    {"tls-version", required_argument, NULL, OPTION_TLS_VERSION},
    {"groups", required_argument, NULL, OPTION_GROUPS},
    {"user", required_argument, NULL, OPTION_USER},
    {"password-file", required_argument, NULL, OPTION_PASSWORD_FILE},
    {"from", required_argument, NULL, OPTION_FROM},
    {"to", required_argument, NULL, OPTION_TO},
    {"idle", required_argument, NULL, OPTION_IDLE},
    {"sources", required_argument, NULL, OPTION_SOURCES},
    {"log-ins", no_argument, NULL, OPTION_LOG_INS},
    {"resume", no_argument, NULL, OPTION_RESUME},
    {"pipelining", no_argument, NULL, OPTION_PIPELINING},
    {"json", no_argument, NULL, OPTION_JSON},
    {NULL, 0, NULL, 0}};

static void take_flag(struct options *options, int which)
{
    switch (which) {
    case OPTION_LOG_INS:
        options->mode = MODE_LOG_INS;
        break;
    case OPTION_RESUME:
        options->resumes = true;
        break;
    case OPTION_PIPELINING:
        options->pipelines = true;
        break;
    case OPTION_JSON:
        options->is_json = true;
        break;
    default:
        (void)fputs(usage, stderr);
        exit(2);
    }
}

static void take_text(struct options *options, int which, const char *text)
{
    switch (which) {
    case OPTION_HOST:
        options->host = text;
        break;
    case OPTION_GROUPS:
        options->groups = text;
        break;
    case OPTION_USER:
        options->user = text;
        break;
    case OPTION_PASSWORD_FILE:
        options->password = first_line(text);
        break;
    case OPTION_FROM:
        options->from = text;
        break;
    case OPTION_TO:
        options->to = text;
        break;
    case OPTION_TLS:
        options->tls = tls(text);
        break;
    case OPTION_TLS_VERSION:
        options->tls_version = tls_version(text);
        break;
    case OPTION_SIZE:
        options->size = size(text);
        break;
    default:
        take_flag(options, which);
    }
}

static void take(struct options *options, int which, const char *text)
{
    switch (which) {
    case OPTION_PORT:
        options->port = (unsigned)number(text, "port", 1, 65535);
        break;
    case OPTION_SESSIONS:
        options->sessions = (unsigned)number(text, "sessions", 1, 1e6);
        break;
    case OPTION_MESSAGES:
        options->messages = (uint64_t)number(text, "messages", 1, 1e9);
        break;
    case OPTION_SECONDS:
        options->seconds = number(text, "seconds", 0.01, 1e6);
        break;
    case OPTION_RATE:
        options->rate = number(text, "rate", 0.001, 1e7);
        break;
    case OPTION_PER_CONNECTION:
        options->per_connection = (uint64_t)number(text, "per-connection", 1, 1e9);
        break;
    case OPTION_IDLE:
        options->mode = MODE_IDLE;
        options->idle = (unsigned)number(text, "idle", 1, 1e6);
        break;
    case OPTION_SOURCES:
        options->sources = (unsigned)number(text, "sources", 1, 60000);
        break;
    default:
        take_text(options, which, text);
    }
}

static void check(const struct options *options)
{
    if (options->port == 0)
        die("--port is missing");
    if (!options->user != !options->password)
        die("--user and --password-file go together");
    if (options->mode == MODE_MESSAGES && options->messages == 0 && options->seconds <= 0)
        die("--messages or --seconds is missing");
    if (options->mode == MODE_LOG_INS && options->seconds <= 0)
        die("--log-ins wants --seconds");
    if (options->resumes && options->tls == LOAD_CLEAR)
        die("--resume wants --tls");
}

void options_read(struct options *options, int count, char **words)
{
    int which;

    *options = (struct options){.host = "127.0.0.1",
                                .size = 1000,
                                .groups = "X25519:P-256",
                                .from = "sender@bench.test",
                                .to = "recipient@bench.test"};
    while ((which = getopt_long(count, words, "", table, NULL)) != -1)
        take(options, which, optarg);
    if (optind < count)
        die("what is %s?", words[optind]);
    if (options->sessions == 0)
        options->sessions = options->mode == MODE_IDLE ? 64 : 1;
    check(options);
}

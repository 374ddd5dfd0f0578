/* The only module that knows CR and LF: bytes <-> lines <-> dot-stuffed data.
 *
 * Promises  strict: only CR LF ends a line, only CR LF . CR LF ends data (RFC 5321 2.3.8,
 *           4.1.1.4). A CR without LF or an LF without CR never ends anything: in a
 *           command line it makes the line bad, in data it is remembered in the facts,
 *           inbound and outbound. Any split of the same bytes gives the same events.
 * Ignores   what lines mean.
 *
 * Pull style. The reader takes bytes off the front of *input and says what it found:
 *
 *   while ((event = framing_next(&framing, &input, &out)) != FRAMING_MORE) ...
 *
 * In line mode an incomplete line stays in *input: the caller keeps it and offers it again
 * with more bytes behind it. In data and chunk mode everything is taken.
 */
#ifndef SMTPD_SMTP_FRAMING_H
#define SMTPD_SMTP_FRAMING_H

#include "smtpd/base/bytes.h"

enum framing_event {
    FRAMING_MORE,     /* nothing complete in *input */
    FRAMING_LINE,     /* `out`: the line without CR LF */
    FRAMING_LINE_BAD, /* a complete line with a bare CR, bare LF or NUL in it: `out` is it
                       */
    FRAMING_LINE_TOO_LONG, /* a line above the maximum was skipped up to its CR LF */
    FRAMING_DATA,    /* `out`: a piece of unstuffed data (CR LF inside), never empty */
    FRAMING_DATA_END /* the final dot, or the last byte of the chunk, was read */
};

/* Facts about the data read since framing_start_message(). */
struct framing_facts {
    uint64_t bytes;        /* of unstuffed data */
    uint32_t longest_line; /* with its CR LF */
    bool has_8bit;
    bool has_nul;
    bool has_bare_cr_or_lf;
    bool has_dot_line;   /* a line that begins with a dot (after unstuffing) */
    bool ends_with_crlf; /* also true when there is no data */
    bool ends_with_cr;   /* bare, if nothing comes behind it any more */
};

struct framing {
    uint8_t mode;
    uint8_t state;
    bool is_skipping; /* the rest of a too long line */
    size_t scanned;   /* of *input already searched for CR LF (line mode) */
    size_t line_max;  /* with CR LF */
    uint64_t chunk_left;
    uint32_t line_bytes; /* of the current data line */
    struct framing_facts facts;
};

void framing_init(struct framing *framing, size_t line_max); /* line mode */
void framing_set_line_max(struct framing *framing, size_t line_max);
void framing_start_message(struct framing *framing); /* facts from zero */
void framing_read_data(struct framing *framing);     /* DATA, until the final dot */
void framing_read_chunk(struct framing *framing,
                        uint64_t bytes);          /* BDAT: so many, unstuffed */
void framing_read_lines(struct framing *framing); /* back to lines (also drops a scan) */
enum framing_event framing_next(struct framing *framing, struct slice *input,
                                struct slice *out);

/* Outbound: adds `data` (a piece of stored message) with leading dots doubled.
 * `at_line_start` carries over pieces; true before the first. A bare CR or LF passes as it
 * is and never counts as a line end. */
struct framing_stuffing {
    bool at_line_start;
    bool after_cr;
};
void framing_stuffing_init(struct framing_stuffing *stuffing);
enum result MUST_CHECK framing_stuff(struct framing_stuffing *stuffing, struct slice data,
                                     struct bytes *into);
/* ".\r\n", with a CR LF before it when the data did not end with one. */
struct slice framing_data_end(bool data_ended_with_crlf);
/* Adds one line and its CR LF. RESULT_INVALID if it holds CR, LF or NUL: nothing is added.
 */
enum result MUST_CHECK framing_add_line(struct bytes *into, struct slice line);

#endif

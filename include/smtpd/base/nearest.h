/* The known name that a mistyped one most looks like: fewest letters changed.
 *
 *   struct nearest nearest = {.wanted = "sizze"};
 *   for (each name) nearest_offer(&nearest, name);
 *   ... nearest.name
 */
#ifndef SMTPD_BASE_NEAREST_H
#define SMTPD_BASE_NEAREST_H

struct nearest {
    const char *wanted;
    const char *name; /* NULL: none was offered */
    unsigned distance;
};

void nearest_offer(struct nearest *nearest, const char *name);

#endif

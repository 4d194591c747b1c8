/* SPDX-License-Identifier: Apache-2.0 */
/* json_pull.h - JSON taken from a text piece by piece, without a tree of it.
 *
 * For the parts of a file that hold hundreds of thousands of strings and numbers: a json_t of each
 * costs ten times what the strings do.  What these functions accept is JSON as io/json.h accepts it;
 * on false the text is malformed at p->at, and the caller lets io/json.h say what is wrong. */
#ifndef MIL_TEXT_JSON_PULL_H
#define MIL_TEXT_JSON_PULL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/str.h"

struct json_pull {
    const char *text; /* valid UTF-8; borrowed */
    size_t n, at;
};
struct json_string {
    const char *data; /* n bytes, no NUL among them; not terminated */
    size_t n;
};

/* The next byte that is no white space, which is not taken; -1 at the end. */
int pull_peek(struct json_pull *p);
/* Take the byte c if it is the next one. */
bool pull_byte(struct json_pull *p, char c);
/* A string: borrowed from the text, or from spare if it holds escapes (or spare has failed). */
bool pull_string(struct json_pull *p, struct str *spare, struct json_string *out);
/* An integer of 64 bits; a fraction or a larger number is false. */
bool pull_integer(struct json_pull *p, int64_t *out);
/* Pass over a value of any kind: strings and brackets are seen, the rest is not checked. */
bool pull_skip(struct json_pull *p);

#endif

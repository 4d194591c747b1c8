/* SPDX-License-Identifier: Apache-2.0 */
/* added.h - added tokens: texts that become one token wherever they stand, before anything else
 * looks at them.  The longest match at the leftmost place wins. */
#ifndef MIL_TEXT_ADDED_H
#define MIL_TEXT_ADDED_H

#include "core/error.h"
#include "core/str.h"

#define ADDED_MAX_LENGTH 4096

struct added_token {
    size_t at; /* content: bytes [at, at + n) of added.bytes */
    uint32_t n;
    int32_t id;
    bool special;        /* matched only where special tokens are asked for */
    bool single_word;    /* no word character next to it */
    bool lstrip, rstrip; /* white space on that side belongs to it */
};

struct added {
    struct str bytes;
    struct added_token *tokens;
    size_t n, cap;
    int32_t *slots; /* open addressing by content, indexes or -1 */
    size_t n_slots;
    bool first[256];                           /* some token begins with this byte */
    uint8_t lengths[ADDED_MAX_LENGTH / 8 + 1]; /* bit set: some token has this length */
    uint32_t longest;
};
void added_release(struct added *a);
/* Content is copied; flags of token are taken, its place and length are filled in.  Empty or over
 * long content is MIL_INPUT. */
enum mil_status added_put(struct added *a, struct added_token token, const char *content, size_t n,
                          struct mil_error *err);
/* Once after the last put.  Of equal contents the first wins. */
enum mil_status added_index(struct added *a, struct mil_error *err);
/* Token of exactly this content, or NULL. */
const struct added_token *added_find(const struct added *a, const char *content, size_t n);

/* Where to look, and what a caller allows: match_allowed says whether a special token may stand at
 * text[begin, end). */
struct added_search {
    const struct added *added;
    const char *text;
    size_t n;
    size_t at; /* search from here; moves behind the match, its stripped space included */
    bool (*allows_special)(const void *ctx, size_t begin, size_t end);
    const void *ctx;
};
/* Next match, text[*begin, *end) with the white space that it takes; NULL at the end. */
const struct added_token *added_next(struct added_search *s, size_t *begin, size_t *end);

#endif

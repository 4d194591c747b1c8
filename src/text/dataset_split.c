/* SPDX-License-Identifier: Apache-2.0 */
/* dataset_split.c - see dataset_split.h.  A row ends where its brackets close; inside a string,
 * brackets and quotes that a backslash precedes do not count.  In text most bytes are inside
 * strings, where memchr finds the next quote. */
#include "text/dataset_split.h"

#include <string.h>

#define ROW_MAX_BYTES ((size_t)1 << 28) /* io/records.c refuses longer rows */

/* The byte after the string whose opening quote is at p; NULL: it does not end before `end`. */
static const unsigned char *string_end(const unsigned char *p, const unsigned char *end) {
    const unsigned char *text = p + 1;
    for (p = text; (p = memchr(p, '"', (size_t)(end - p))) != NULL; p++) {
        const unsigned char *slash = p;
        while (slash > text && slash[-1] == '\\') slash--;
        if ((p - slash) % 2 == 0) return p + 1;
    }
    return NULL;
}

/* The byte after the object that begins at p; NULL: it does not end before `end`. */
static const unsigned char *object_end(const unsigned char *p, const unsigned char *end) {
    size_t depth = 0;
    while (p < end) {
        unsigned char c = *p;
        if (c == '"') {
            p = string_end(p, end);
            if (!p) return NULL;
            continue;
        }
        p++;
        if (c == '{' || c == '[') depth++;
        if ((c == '}' || c == ']') && --depth == 0) return p;
    }
    return NULL;
}

static size_t skip_space(const struct records *r, size_t at) {
    while (at < r->file.size && strchr(" \t\n\r", r->file.data[at]) && r->file.data[at]) at++;
    return at;
}

/* Where the row after r->at begins; false: something else comes. */
static bool find_begin(const struct records *r, size_t *begin) {
    size_t at = skip_space(r, r->at);
    if (r->array && r->row > 0) {
        if (at >= r->file.size || r->file.data[at] != ',') return false;
        at = skip_space(r, at + 1);
    }
    *begin = at;
    return at < r->file.size && r->file.data[at] == '{';
}

/* Behind a row of JSON Lines its line must end; *at moves to the next one. */
static bool end_line(const struct records *r, size_t *at) {
    while (*at < r->file.size) {
        unsigned char c = r->file.data[(*at)++];
        if (c == '\n') return true;
        if (c != ' ' && c != '\t' && c != '\r') return false;
    }
    return true;
}

static bool next_slice(const struct records *r, struct row_slice *out, size_t *after) {
    size_t begin;
    if (!find_begin(r, &begin)) return false;
    size_t left = r->file.size - begin;
    if (left > ROW_MAX_BYTES) left = ROW_MAX_BYTES;
    const unsigned char *text = r->file.data + begin, *end = object_end(text, text + left);
    if (!end) return false;
    *out = (struct row_slice){r->at, begin, (size_t)(end - text), r->row};
    *after = begin + out->n;
    return r->array || end_line(r, after);
}

size_t records_split(struct records *r, struct row_slice *out, size_t cap, size_t max_bytes) {
    size_t n = 0, first = r->at;
    while (n < cap && r->at - first < max_bytes) {
        size_t after;
        if (!next_slice(r, &out[n], &after)) break;
        r->at = after;
        r->row++;
        n++;
    }
    return n;
}

void records_rewind(struct records *r, const struct row_slice *slice) {
    r->at = slice->from;
    r->row = slice->row;
}

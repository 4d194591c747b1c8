/* SPDX-License-Identifier: Apache-2.0 */
/* str.h - growing byte string, and small helpers on C strings.
 *
 * Invariant: data is NULL-safe to read through str_c; once non-empty, data[len] == 0.  A failed
 * growth sets `failed` and keeps what was there, so a chain of appends needs one check at its end.
 */
#ifndef MIL_CORE_STR_H
#define MIL_CORE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

struct str {
    char *data;
    size_t len, cap;
    bool failed;
};

void str_release(struct str *s);
/* Keep the capacity, drop the content and the failure. */
void str_reset(struct str *s);
void str_add(struct str *s, const char *text);
void str_addn(struct str *s, const void *bytes, size_t n);
void str_addc(struct str *s, char c);
void str_addf(struct str *s, const char *fmt, ...) MIL_PRINTF(2, 3);
/* Append a Unicode scalar value as UTF-8. */
void str_add_utf8(struct str *s, uint32_t codepoint);
static inline const char *str_c(const struct str *s) {
    return s->data ? s->data : "";
}
/* MIL_NOMEM if any append failed. */
enum mil_status str_status(const struct str *s, struct mil_error *err);
/* Hand the buffer over (caller frees with mem_free); s becomes empty.  NULL if failed or no memory.
 */
char *str_take(struct str *s);

bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);
/* Edit distance (insert, delete, replace, swap of neighbours), for "did you mean". */
size_t str_distance(const char *a, const char *b);
/* The nearest of n names, or NULL when none is near enough to be a likely misspelling. */
const char *str_nearest(const char *name, const char *const *names, size_t n);
/* Length of the valid UTF-8 prefix of s[0..n) (n when all of it is valid; overlong forms,
 * surrogates and values past U+10FFFF are invalid). */
size_t utf8_valid_prefix(const char *s, size_t n);
/* Decode one scalar at s (n > 0 bytes left); returns its length, or 0 if invalid there. */
size_t utf8_decode(const char *s, size_t n, uint32_t *codepoint);
/* "1.5 GiB", "12 KiB" into buf; "1h 02m", "3m 05s", "12.3 s" into buf.  Return buf. */
const char *format_bytes(char buf[32], uint64_t bytes);
const char *format_seconds(char buf[32], double seconds);

#endif

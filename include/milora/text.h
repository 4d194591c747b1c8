/* SPDX-License-Identifier: Apache-2.0 */
/* text.h - byte strings and lists of ids that calls fill, whole-file reading and writing, and the
 * small helpers that programs on top of the library share.
 *
 * Both containers are plain structs: zero-initialise, reuse (capacity is kept), release.  A failed
 * call leaves what was there. */
#ifndef MILORA_TEXT_H
#define MILORA_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "milora/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* data is NUL-terminated once anything was added, NULL before; bytes may hold NULs. */
struct mil_text {
    char *data;
    size_t len, cap;
};
/* Append n bytes.  MIL_NOMEM. */
enum mil_status mil_text_add(struct mil_text *t, const void *bytes, size_t n,
                             struct mil_error *err);
/* len = 0, capacity kept. */
void mil_text_reset(struct mil_text *t);
void mil_text_release(struct mil_text *t);
/* Append the whole content of a file, "-" being standard input.  MIL_INPUT past limit bytes. */
enum mil_status mil_text_read(struct mil_text *t, const char *path, size_t limit,
                              struct mil_error *err);
/* Write n bytes to path: under a temporary name, fsynced, renamed.  Replaces what was there. */
enum mil_status mil_file_write(const char *path, const void *bytes, size_t n,
                               struct mil_error *err);

struct mil_ids {
    int32_t *ids;
    size_t n, cap;
};
enum mil_status mil_ids_add(struct mil_ids *list, int32_t id, struct mil_error *err);
/* Append the decimal numbers of a text, separated by white space, commas or brackets.  MIL_USAGE
 * names the first word that is no token id. */
enum mil_status mil_ids_parse(struct mil_ids *list, const char *text, struct mil_error *err);
void mil_ids_release(struct mil_ids *list);

/* n * size zeroed bytes, NULL when there is no memory (or the product overflows); for programs that
 * want the library's accounting.  mil_free takes NULL. */
void *mil_alloc(size_t n, size_t size);
void mil_free(void *p);

/* Names of the prompt and chat templates, NULL-terminated; static storage. */
const char *const *mil_template_names(void);
/* The nearest of n names, or NULL when none is near enough to be a likely misspelling. */
const char *mil_nearest(const char *name, const char *const *names, size_t n);
/* "1.5 GiB", "12 KiB"; "1h 02m", "3m 05s", "12.3 s"; into buf, which is returned. */
const char *mil_format_bytes(char buf[32], uint64_t bytes);
const char *mil_format_seconds(char buf[32], double seconds);
/* Monotonic clock in seconds. */
double mil_clock(void);

#ifdef __cplusplus
}
#endif
#endif

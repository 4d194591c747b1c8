/* SPDX-License-Identifier: Apache-2.0 */
/* mem.h - the only door to the heap, and arithmetic on sizes that come from files.
 *
 * Every block is aligned to MEM_ALIGN bytes (a cache line, and the widest vector).  Each call names
 * a category, so that peak use can be reported per category.  Thread-safe.  Failure is NULL, never
 * an abort; mem_fail_after makes the n-th request fail, for tests of every clean-up path. */
#ifndef MIL_CORE_MEM_H
#define MIL_CORE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEM_ALIGN 64

/* X(enumerator, name in reports) */
#define MEM_CATEGORY_MAP(X)                                                                        \
    X(MEM_WEIGHTS, "weights")                                                                      \
    X(MEM_ADAPTER, "adapter and optimiser")                                                        \
    X(MEM_STEP, "activations")                                                                     \
    X(MEM_SCRATCH, "scratch")                                                                      \
    X(MEM_TEXT, "text and data")                                                                   \
    X(MEM_IO, "files")                                                                             \
    X(MEM_OTHER, "other")

enum mem_category {
#define MEM_ENUM(name, text) name,
    MEM_CATEGORY_MAP(MEM_ENUM)
#undef MEM_ENUM
        MEM_CATEGORIES
};

/* n * size bytes (checked), uninitialised / zeroed.  n * size == 0 gives a valid, freeable block.
 */
void *mem_alloc(enum mem_category category, size_t n, size_t size);
void *mem_calloc(enum mem_category category, size_t n, size_t size);
/* Grow or shrink to n * size bytes.  p may be NULL.  On failure NULL, and p stays valid. */
void *mem_realloc(enum mem_category category, void *p, size_t n, size_t size);
/* NULL is fine. */
void mem_free(void *p);
/* Copy of a string, or of its first n bytes plus a NUL. */
char *mem_strdup(enum mem_category category, const char *s);
char *mem_strndup(enum mem_category category, const char *s, size_t n);

struct mem_stats {
    size_t now, peak; /* bytes */
};
struct mem_stats mem_stats(enum mem_category category);
const char *mem_category_name(enum mem_category category);
/* From now on keep up to `bytes` of freed blocks of 1 MiB and more for the next requests instead of
 * giving them back to the system; 0, as at the start: keep none, and give back what is kept.  For
 * work that takes and gives back the same large blocks over and over.  What is kept counts in no
 * category. */
void mem_keep(size_t bytes);
/* Let n more requests succeed, then fail every one; n < 0 turns it off.  For tests. */
void mem_fail_after(long n);

/* Peak resident set of this process in bytes (0 where the system does not say), and its resident
 * set now; machine memory in bytes: total, and what can be had without swapping. */
size_t mem_peak_rss(void);
size_t mem_current_rss(void);
size_t mem_machine_total(void);
size_t mem_machine_available(void);

/* false on overflow; *out is written only on success. */
static inline bool checked_mul(size_t a, size_t b, size_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool checked_add(size_t a, size_t b, size_t *out) {
    return !__builtin_add_overflow(a, b, out);
}
static inline bool checked_mul_i64(int64_t a, int64_t b, int64_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}
/* off + len lies within size, without overflow. */
static inline bool range_within(uint64_t off, uint64_t len, uint64_t size) {
    return off <= size && len <= size - off;
}
/* x rounded up to a multiple of a (a power of two); the caller knows x is far from SIZE_MAX. */
static inline size_t align_up(size_t x, size_t a) {
    return (x + (a - 1)) & ~(a - 1);
}

#endif

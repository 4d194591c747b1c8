/* SPDX-License-Identifier: Apache-2.0 */
/* mem.c - heap blocks with a small header in front, so that use can be accounted per category.
 *
 *     base                    base + MEM_ALIGN
 *     | sizes, category | pad | the caller's bytes ...
 */
#include "core/mem.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/blocks.h"

struct header {
    size_t bytes, capacity; /* the caller's; the block's */
    enum mem_category category;
};

static _Atomic size_t now_[MEM_CATEGORIES], peak_[MEM_CATEGORIES];
static _Atomic long fail_after_ = -1;

void mem_fail_after(long n) {
    atomic_store(&fail_after_, n);
}

static bool must_fail(void) {
    long left = atomic_load(&fail_after_);
    if (left < 0) return false;
    if (left == 0) return true;
    atomic_fetch_sub(&fail_after_, 1);
    return false;
}

static void account(enum mem_category c, size_t add, size_t sub) {
    size_t now = atomic_fetch_add(&now_[c], add) + add;
    now = atomic_fetch_sub(&now_[c], sub) - sub;
    size_t peak = atomic_load(&peak_[c]);
    while (now > peak && !atomic_compare_exchange_weak(&peak_[c], &peak, now)) {
    }
}

void *mem_alloc(enum mem_category category, size_t n, size_t size) {
    size_t bytes, total;
    if (must_fail() || !checked_mul(n, size, &bytes)) return NULL;
    if (!checked_add(bytes, 2 * MEM_ALIGN - 1, &total)) return NULL;
    size_t capacity;
    struct header *h = block_new(total & ~(size_t)(MEM_ALIGN - 1), MEM_ALIGN, &capacity);
    if (!h) return NULL;
    h->bytes = bytes;
    h->capacity = capacity;
    h->category = category;
    account(category, bytes, 0);
    return (unsigned char *)h + MEM_ALIGN;
}

void *mem_calloc(enum mem_category category, size_t n, size_t size) {
    void *p = mem_alloc(category, n, size);
    if (p) memset(p, 0, n * size);
    return p;
}

static struct header *header_of(void *p) {
    return (struct header *)((unsigned char *)p - MEM_ALIGN);
}

void *mem_realloc(enum mem_category category, void *p, size_t n, size_t size) {
    void *q = mem_alloc(category, n, size);
    if (!q || !p) return q;
    size_t old = header_of(p)->bytes, new = n *size;
    memcpy(q, p, old < new ? old : new);
    mem_free(p);
    return q;
}

void mem_free(void *p) {
    if (!p) return;
    struct header *h = header_of(p);
    account(h->category, 0, h->bytes);
    block_free(h, h->capacity);
}

void mem_keep(size_t bytes) {
    block_keep(bytes);
}

char *mem_strndup(enum mem_category category, const char *s, size_t n) {
    size_t bytes;
    if (!checked_add(n, 1, &bytes)) return NULL;
    char *p = mem_alloc(category, bytes, 1);
    if (!p) return NULL;
    memcpy(p, s, n);
    p[n] = 0;
    return p;
}

char *mem_strdup(enum mem_category category, const char *s) {
    return mem_strndup(category, s, strlen(s));
}

struct mem_stats mem_stats(enum mem_category category) {
    return (struct mem_stats){atomic_load(&now_[category]), atomic_load(&peak_[category])};
}

const char *mem_category_name(enum mem_category category) {
    static const char *const names[] = {
#define MEM_NAME(name, text) text,
        MEM_CATEGORY_MAP(MEM_NAME)
#undef MEM_NAME
    };
    return category < MEM_CATEGORIES ? names[category] : "?";
}

size_t mem_peak_rss(void) {
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) != 0) return 0;
    return (size_t)u.ru_maxrss * 1024;
}

size_t mem_current_rss(void) {
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f) return 0;
    unsigned long size, resident;
    int got = fscanf(f, "%lu %lu", &size, &resident);
    fclose(f);
    return got == 2 ? resident * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

/* One "Key:  N kB" line of /proc/meminfo, in bytes. */
static size_t meminfo(const char *key) {
    FILE *f = fopen("/proc/meminfo", "r");
    if (!f) return 0;
    char line[128];
    size_t kib = 0, n = strlen(key);
    while (fgets(line, sizeof line, f))
        if (strncmp(line, key, n) == 0 && line[n] == ':') {
            kib = strtoull(line + n + 1, NULL, 10);
            break;
        }
    fclose(f);
    return kib * 1024;
}

size_t mem_machine_total(void) {
    return meminfo("MemTotal");
}

size_t mem_machine_available(void) {
    return meminfo("MemAvailable");
}

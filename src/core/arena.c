/* SPDX-License-Identifier: Apache-2.0 */
/* arena.c - see arena.h.  Every take is rounded up to MEM_ALIGN, so that offsets computed in sizing
 * mode are the offsets of the run. */
#include "core/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void plan_addv(struct plan *plan, enum plan_lifetime lifetime, size_t bytes, const char *fmt,
                      va_list args) {
    if (plan->n == plan->cap) {
        size_t cap = plan->cap ? 2 * plan->cap : 64;
        struct plan_entry *grown = mem_realloc(MEM_OTHER, plan->entries, cap, sizeof *grown);
        if (!grown) {
            plan->status = MIL_NOMEM;
            return;
        }
        plan->entries = grown;
        plan->cap = cap;
    }
    struct plan_entry *e = &plan->entries[plan->n++];
    vsnprintf(e->name, sizeof e->name, fmt, args);
    e->lifetime = lifetime;
    e->bytes = bytes;
}

void plan_add(struct plan *plan, enum plan_lifetime lifetime, size_t bytes, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    plan_addv(plan, lifetime, bytes, fmt, args);
    va_end(args);
}

size_t plan_bytes(const struct plan *plan, enum plan_lifetime lifetime) {
    size_t sum = 0;
    for (size_t i = 0; i < plan->n; i++)
        if (plan->entries[i].lifetime == lifetime) sum += plan->entries[i].bytes;
    return sum;
}

void plan_release(struct plan *plan) {
    mem_free(plan->entries);
    memset(plan, 0, sizeof *plan);
}

const char *plan_lifetime_name(enum plan_lifetime lifetime) {
    static const char *const names[] = {"session", "step", "call"};
    return names[lifetime];
}

void arena_init_sizing(struct arena *a, struct plan *plan, enum plan_lifetime lifetime) {
    memset(a, 0, sizeof *a);
    a->plan = plan;
    a->lifetime = lifetime;
}

enum mil_status arena_init(struct arena *a, enum mem_category category, size_t cap,
                           struct mil_error *err) {
    memset(a, 0, sizeof *a);
    a->base = mem_alloc(category, cap, 1);
    if (!a->base) return error_nomem(err, cap);
    a->cap = cap;
    return MIL_OK;
}

void arena_release(struct arena *a) {
    mem_free(a->base);
    memset(a, 0, sizeof *a);
}

void *arena_take(struct arena *a, size_t bytes, const char *fmt, ...) {
    size_t step;
    REQUIRE(checked_add(bytes, MEM_ALIGN - 1, &step));
    step &= ~(size_t)(MEM_ALIGN - 1);
    size_t at = a->used;
    REQUIRE(checked_add(at, step, &a->used));
    if (a->used > a->peak) a->peak = a->used;
    if (!a->base) {
        if (a->plan) {
            va_list args;
            va_start(args, fmt);
            plan_addv(a->plan, a->lifetime, step, fmt, args);
            va_end(args);
        }
        return NULL;
    }
    REQUIRE(a->used <= a->cap);
    return a->base + at;
}

void arena_reset(struct arena *a) {
    a->used = 0;
}

void arena_rewind(struct arena *a, size_t mark) {
    REQUIRE(mark <= a->used);
    a->used = mark;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* arena.h - bump allocator for one lifetime, with a sizing mode that books what would be taken.
 *
 * Plan, then run (docs/ARCHITECTURE.md): the same layout function is called twice, first on an
 * arena in sizing mode (base == NULL; every take returns NULL but advances, and is written into the
 * plan if there is one), then on an arena of exactly that size.  Memory comes back through
 * arena_reset, arena_rewind or arena_release only.  One arena, one thread. */
#ifndef MIL_CORE_ARENA_H
#define MIL_CORE_ARENA_H

#include <stddef.h>

#include "core/error.h"
#include "core/mem.h"

/* How long a buffer lives: the whole session, one optimiser step, or one call. */
enum plan_lifetime { PLAN_SESSION, PLAN_STEP, PLAN_CALL };

struct plan_entry {
    char name[56];
    enum plan_lifetime lifetime;
    size_t bytes;
};
/* The list of booked buffers.  Zero-initialise; plan_release frees. */
struct plan {
    struct plan_entry *entries;
    size_t n, cap;
    enum mil_status status; /* MIL_NOMEM once an entry could not be recorded */
};
void plan_add(struct plan *plan, enum plan_lifetime lifetime, size_t bytes, const char *fmt, ...)
    MIL_PRINTF(4, 5);
/* Sum of the bytes of one lifetime. */
size_t plan_bytes(const struct plan *plan, enum plan_lifetime lifetime);
void plan_release(struct plan *plan);
const char *plan_lifetime_name(enum plan_lifetime lifetime);

/* used <= cap unless sizing; peak >= used.  base == NULL: sizing mode. */
struct arena {
    unsigned char *base;
    size_t used, cap, peak;
    struct plan *plan; /* borrowed, may be NULL; only written in sizing mode */
    enum plan_lifetime lifetime;
};

/* Sizing mode: nothing is reserved, takes return NULL, and go into plan unless that is NULL. */
void arena_init_sizing(struct arena *a, struct plan *plan, enum plan_lifetime lifetime);
/* Reserve cap bytes.  On failure *a is zeroed and arena_release is still safe.  MIL_NOMEM. */
enum mil_status arena_init(struct arena *a, enum mem_category category, size_t cap,
                           struct mil_error *err);
void arena_release(struct arena *a);
/* bytes aligned to MEM_ALIGN, uninitialised, borrowed until reset or rewind.  Taking more than the
 * plan said is a broken contract (REQUIRE).  fmt names the buffer in the plan. */
void *arena_take(struct arena *a, size_t bytes, const char *fmt, ...) MIL_PRINTF(3, 4);
void arena_reset(struct arena *a);
static inline size_t arena_mark(const struct arena *a) {
    return a->used;
}
void arena_rewind(struct arena *a, size_t mark);

#endif

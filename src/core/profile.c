/* SPDX-License-Identifier: Apache-2.0 */
/* profile.c - see profile.h.
 *
 * A product's kind is seen from its shape.  The tokens' side is m, or with A transposed k; the other
 * two are the weight's.  x W^T (only B transposed) is a forward product, dy W (none) a backward one,
 * dy^T x (A) a gradient.  A side as short as an adapter's (r, or 2 r where both pairs lie side by
 * side) is taken for an adapter's, so a model that is narrower than that has no weight products. */
#include "core/profile.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct cell {
    int64_t calls, ns;
    double work;
};

_Thread_local bool profile_recording_;

static struct {
    struct cell cells[PROFILE_PHASES][PROFILE_OPS];
    enum profile_phase phase;
    int64_t vocab, rank;
} table = {.phase = PROFILE_OTHER};

const char *profile_phase_name(enum profile_phase phase) {
    static const char *const names[] = {
#define PROFILE_NAME(name, text) text,
        PROFILE_PHASE_MAP(PROFILE_NAME)
#undef PROFILE_NAME
    };
    return names[phase];
}

static const struct {
    const char *name;
    enum profile_unit unit;
} ops[] = {
#define PROFILE_ENTRY(name, text, unit) {text, unit},
    PROFILE_OP_MAP(PROFILE_ENTRY)
#undef PROFILE_ENTRY
};

const char *profile_op_name(enum profile_op op) {
    return ops[op].name;
}
enum profile_unit profile_op_unit(enum profile_op op) {
    return ops[op].unit;
}

void profile_reset(int64_t vocab, int64_t rank) {
    memset(&table, 0, sizeof table);
    table.phase = PROFILE_OTHER;
    table.vocab = vocab;
    table.rank = rank;
}

void profile_record(bool on) {
    profile_recording_ = on;
}

enum profile_phase profile_enter(enum profile_phase phase) {
    enum profile_phase before = table.phase;
    table.phase = phase;
    return before;
}

int64_t profile_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec + 1;
}

void profile_end(int64_t begun, enum profile_op op, double work) {
    if (begun == 0 || !profile_recording_) return;
    struct cell *c = &table.cells[table.phase][op];
    c->calls++;
    c->ns += profile_clock() - begun;
    c->work += work;
}

static enum profile_op product_kind(bool ta, bool tb, int64_t m, int64_t n, int64_t k) {
    int64_t a = ta ? m : k, short_side = a < n ? a : n;
    if (table.vocab > 0 && (a == table.vocab || n == table.vocab)) return PROFILE_PRODUCT_HEAD;
    if (short_side <= 2 * table.rank) return PROFILE_PRODUCT_ADAPTER;
    if (ta) return PROFILE_PRODUCT_GRADIENT;
    return tb ? PROFILE_PRODUCT_FORWARD : PROFILE_PRODUCT_BACKWARD;
}

void profile_product(int64_t begun, bool ta, bool tb, int64_t m, int64_t n, int64_t k) {
    if (begun == 0 || !profile_recording_) return;
    enum profile_op op = product_kind(ta, tb, m, n, k);
    if (table.phase == PROFILE_FORWARD && op == PROFILE_PRODUCT_HEAD)
        table.phase = PROFILE_HEAD;
    else if (table.phase == PROFILE_HEAD && op != PROFILE_PRODUCT_HEAD)
        table.phase = PROFILE_BACKWARD;
    profile_end(begun, op, 2.0 * (double)m * (double)n * (double)k);
}

static int by_time(const void *x, const void *y) {
    const struct profile_row *a = x, *b = y;
    if (a->phase != b->phase) return a->phase < b->phase ? -1 : 1;
    return a->ns < b->ns ? 1 : a->ns > b->ns ? -1 : (a->op > b->op) - (a->op < b->op);
}

size_t profile_rows(struct profile_row out[PROFILE_ROWS_MOST]) {
    size_t n = 0;
    for (int p = 0; p < PROFILE_PHASES; p++)
        for (int o = 0; o < PROFILE_OPS; o++) {
            const struct cell *c = &table.cells[p][o];
            if (c->calls == 0) continue;
            out[n++] = (struct profile_row){(enum profile_phase)p, (enum profile_op)o, c->calls,
                                            c->ns, c->work};
        }
    qsort(out, n, sizeof *out, by_time);
    return n;
}

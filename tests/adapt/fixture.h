/* SPDX-License-Identifier: Apache-2.0 */
/* fixture.h - the tiny base model of tests/adapt/data, and adapters of it with random changes. */
#ifndef MIL_TESTS_ADAPT_FIXTURE_H
#define MIL_TESTS_ADAPT_FIXTURE_H

#include "check.h"

#include <math.h>

#include "adapt/adapter.h"
#include "core/mem.h"
#include "core/rng.h"
#include "io/file.h"

static struct mil_error err;

static inline double normal(uint32_t stream, int64_t i) {
    return rng_normal(5, rng_stream(RNG_TEST, stream), 0, (uint64_t)i);
}

static inline struct checkpoint *open_base(void) {
    struct checkpoint *c;
    assert_ok(checkpoint_open(TEST_DATA "/base", CHECKPOINT_WEIGHTS, &c, &err));
    return c;
}

static const char *const default_targets[] = {"q_proj", "k_proj", "v_proj", "up_proj", "down_proj"};

static inline struct adapter_options options_of(const char *method, int64_t r) {
    return (struct adapter_options){
        .method = method, .r = r, .targets = default_targets, .n_targets = 5, .seed = 42};
}

/* Give every delta a change of about `size`, as some optimiser steps would. */
static inline void perturb(struct adapter *a, double size) {
    for (size_t i = 0; i < a->n; i++) {
        struct delta *d = &a->deltas[i];
        for (int64_t j = 0; j < d->r * d->n; j++)
            d->da[j] = (float)(size * normal((uint32_t)(2 * i), j));
        for (int64_t j = 0; d->db && j < d->m * d->r; j++)
            d->db[j] = (float)(size * normal((uint32_t)(2 * i + 1), j));
    }
}

static inline struct adapter *make_adapter(const struct checkpoint *base,
                                           const struct adapter_options *o, double size) {
    struct adapter *a;
    assert_ok(adapter_init(base, o, NULL, NULL, &a, &err));
    perturb(a, size);
    return a;
}

/* s (B A - B0 A0) of one delta in f64, [m, n] (mem_free). */
static inline double *exact_change(const struct delta *d) {
    double *w = mem_calloc(MEM_OTHER, (size_t)(d->m * d->n), sizeof *w);
    double s = d->alpha / (double)d->r;
    for (int64_t i = 0; i < d->m; i++)
        for (int64_t t = 0; t < d->r; t++) {
            double db = d->db ? d->db[i * d->r + t] : 0, b0 = d->b0 ? d->b0[i * d->r + t] : 0;
            for (int64_t j = 0; j < d->n; j++) {
                double a0 = d->a0 ? d->a0[t * d->n + j] : 0, da = d->da[t * d->n + j];
                w[i * d->n + j] += s * ((b0 + db) * (a0 + da) - b0 * a0);
            }
        }
    return w;
}

/* Two files hold the same bytes. */
static inline void assert_same_file(const char *dir_a, const char *dir_b, const char *name) {
    char pa[PATH_CAP], pb[PATH_CAP];
    struct str a = {0}, b = {0};
    assert_ok(path_join(pa, dir_a, name, &err));
    assert_ok(path_join(pb, dir_b, name, &err));
    assert_ok(file_read(pa, 1 << 26, &a, &err));
    assert_ok(file_read(pb, 1 << 26, &b, &err));
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    str_release(&a);
    str_release(&b);
}

#endif

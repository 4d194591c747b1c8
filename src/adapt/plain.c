/* SPDX-License-Identifier: Apache-2.0 */
/* plain.c - any adapter without a magnitude as a plain LoRA, for consumers that know nothing else: the factors as they
 * are saved (a pair is one of rank 2r, AdaLoRA's Lambda goes into B), pruned triplets of an AdaLoRA dropped, modules
 * without rank left out. */
#include <string.h>

#include "adapt/files.h"
#include "core/mem.h"

/* A triplet whose Lambda is zero does not count. */
static bool counts(const struct delta *d, int64_t t) {
    return d->form != DELTA_SCALED || d->e[t] != 0;
}

static int64_t plain_rank(const struct delta *d) {
    int64_t n = 0, k = delta_saved_rank(d);
    for (int64_t t = 0; t < k; t++) n += counts(d, t);
    return n;
}

/* a [k, n], b [m, k]: the factors of `from` as saved; the columns that count into `to`. */
static void pick(const struct delta *from, const float *a, const float *b, struct delta *to) {
    int64_t k = delta_saved_rank(from), at = 0;
    for (int64_t t = 0; t < k; t++) {
        if (!counts(from, t)) continue;
        memcpy(to->a0 + at * to->n, a + t * to->n, (size_t)to->n * sizeof *a);
        for (int64_t i = 0; i < to->m; i++) to->db[i * to->r + at] = b[i * k + t];
        at++;
    }
}

static enum mil_status convert(const struct delta *from, struct delta *to, struct mil_error *err) {
    int64_t k = delta_saved_rank(from);
    *to = (struct delta){.layer = from->layer,
                         .module = from->module,
                         .m = from->m,
                         .n = from->n,
                         .r = plain_rank(from),
                         .form = DELTA_LORA};
    to->alpha = delta_saved_alpha(from);
    if (to->r != k) to->alpha = delta_scale(from) * (double)to->r; /* the same scale */
    TRY(delta_alloc(to, err));
    float *a = mem_alloc(MEM_IO, (size_t)(k * to->n), sizeof *a);
    float *b = mem_alloc(MEM_IO, (size_t)(to->m * k), sizeof *b);
    enum mil_status st =
        a && b ? MIL_OK : error_nomem(err, (uint64_t)(k * (to->m + to->n)) * sizeof *a);
    if (st == MIL_OK) {
        delta_saved_a(from, a);
        delta_saved_b(from, b);
        pick(from, a, b, to);
    }
    mem_free(b);
    mem_free(a);
    return st;
}

static enum mil_status copy_wholes(const struct adapter *from, struct adapter *to,
                                   struct mil_error *err) {
    to->wholes = mem_calloc(MEM_ADAPTER, from->n_wholes, sizeof *to->wholes);
    if (!to->wholes) return error_nomem(err, from->n_wholes * sizeof *to->wholes);
    for (size_t i = 0; i < from->n_wholes; i++) {
        struct whole w = from->wholes[i];
        size_t n = (size_t)(w.rows * w.cols);
        const float *values = w.value;
        w.value = mem_alloc(MEM_ADAPTER, n, sizeof *w.value);
        if (!w.value) return error_nomem(err, n * sizeof *w.value);
        memcpy(w.value, values, n * sizeof *values);
        to->wholes[to->n_wholes++] = w;
    }
    return MIL_OK;
}

static enum mil_status check(const struct adapter *a, size_t *n, struct mil_error *err) {
    *n = 0;
    if (adapter_has_dora(a))
        return error_set(err, MIL_UNSUPPORTED,
                         "a magnitude (DoRA) scales rows of the whole weight, which no plain LoRA "
                         "can: merge it, or export it as peft");
    for (size_t i = 0; i < a->n; i++) *n += plain_rank(&a->deltas[i]) > 0;
    if (*n > 0) return MIL_OK;
    return error_set(err, MIL_UNSUPPORTED,
                     "AdaLoRA's Lambda is zero everywhere: nothing is left of it as a plain LoRA");
}

enum mil_status adapter_as_lora(const struct adapter *a, struct adapter **out,
                                struct mil_error *err) {
    struct adapter *to = NULL;
    size_t n, at = 0;
    enum mil_status st;
    *out = NULL;
    TRY(check(a, &n, err));
    TRY_GOTO(adapter_new(&a->options, n, &to, err));
    to->layers = a->layers;
    memcpy(to->base_path, a->base_path, sizeof to->base_path);
    memcpy(to->base_fingerprint, a->base_fingerprint, sizeof to->base_fingerprint);
    for (size_t i = 0; i < a->n; i++)
        if (plain_rank(&a->deltas[i]) > 0) TRY_GOTO(convert(&a->deltas[i], &to->deltas[at++], err));
    TRY_GOTO(copy_wholes(a, to, err));
    *out = to;
    to = NULL;
fail:
    adapter_free(&to);
    return st;
}

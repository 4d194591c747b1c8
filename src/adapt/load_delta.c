/* SPDX-License-Identifier: Apache-2.0 */
/* load_delta.c - the factors of one module out of adapter_model.safetensors.
 *
 * Ours of rank 2r is split back: A = A'[0:r], dA = A'[r:2r], dB = B'[:, 0:r], B0 = B'[:, r:2r],
 * A0 = A - dA.  A was rounded when it was summed, so A0 is chosen among the floats next to A - dA
 * such that A0 + dA gives A again: loading and saving repeats the file's bytes, and the adapter
 * computes with exactly the stored factors.  (The A0 of the training run itself is in the
 * checkpoint's adapter state.)  A plain LoRA has A0 = A, dA = 0; of MiCA, B is B0 and A is dA.
 *
 * AdaLoRA's file holds the kept triplets alone.  They are put back to their places among init_r, the others are zero
 * and masked: a run goes on with the shapes that it had. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "adapt/files.h"
#include "core/mem.h"

/* Zeros put in the place of pruned triplets: so many elements for each of the file, and at least SPREAD_LEAST.  A mask
 * of a few bytes must not ask for any memory it likes. */
enum { SPREAD_FACTOR = 256, SPREAD_LEAST = 1 << 24 };

/* ---- one tensor ---- */

/* "lora_A" of a LoRA lies under "lora_A.weight", of an AdaLoRA under "lora_A". */
static enum mil_status find_part(struct loading *l, const struct delta *d, const char *part,
                                 const struct st_tensor **out, struct mil_error *err) {
    char key[PEFT_KEY_CAP], module[MODULE_NAME_CAP], full[32];
    bool weight = l->config.kind == PEFT_LORA;
    snprintf(full, sizeof full, "%s%s", part, weight ? ".weight" : "");
    peft_key(key, d->layer, d->module, full);
    *out = loading_find(l, key);
    if (*out) return MIL_OK;
    module_name(module, d->layer, d->module);
    return error_set(err, MIL_INPUT,
                     "adapter_model.safetensors: %s is adapted (target_modules), but its %s is "
                     "missing",
                     module, full);
}

static enum mil_status read_part(struct loading *l, const struct delta *d, const char *part,
                                 struct wanted_shape want, float **out, struct mil_error *err) {
    const struct st_tensor *t;
    TRY(find_part(l, d, part, &t, err));
    return tensor_read(t, want, out, err);
}

/* The magnitude under PEFT's key, or the one of a running model's state, which ends in .weight. */
static enum mil_status read_magnitude(struct loading *l, struct delta *d, struct mil_error *err) {
    char key[PEFT_KEY_CAP], longer[PEFT_KEY_CAP], module[MODULE_NAME_CAP];
    if (!d->dora) return MIL_OK;
    peft_key(key, d->layer, d->module, "lora_magnitude_vector");
    peft_key(longer, d->layer, d->module, "lora_magnitude_vector.weight");
    const struct st_tensor *a = loading_find(l, key), *b = loading_find(l, longer);
    module_name(module, d->layer, d->module);
    if (a && b)
        return error_set(err, MIL_INPUT,
                         "adapter_model.safetensors: %s has two lora_magnitude_vector, with and "
                         "without .weight",
                         module);
    if (!a && !b)
        return error_set(err, MIL_INPUT,
                         "adapter_model.safetensors: use_dora is set, but the "
                         "lora_magnitude_vector of %s is missing",
                         module);
    int64_t m = d->m;
    float *values = NULL;
    enum mil_status st =
        tensor_read(a ? a : b, (struct wanted_shape){.cols = &m, .vector = true}, &values, err);
    if (st == MIL_OK) memcpy(d->magnitude, values, (size_t)m * sizeof *values);
    mem_free(values);
    return st;
}

/* ---- LoRA's file: LORA, PAIR, FIXED_B ---- */

/* A float x next to a - d with x + d == a in f32, or the nearest to a - d where there is none. */
static float split_sum(float a, float d) {
    float near = a - d, x = near;
    if (near + d == a) return near;
    for (int i = 0; i < 2; i++)
        if ((x = nextafterf(x, INFINITY)) + d == a) return x;
    x = near;
    for (int i = 0; i < 2; i++)
        if ((x = nextafterf(x, -INFINITY)) + d == a) return x;
    return near;
}

static void split_pair(struct delta *d, const float *a, const float *b) {
    int64_t rn = d->r * d->n, r = d->r;
    memcpy(d->da, a + rn, (size_t)rn * sizeof *a);
    for (int64_t i = 0; i < rn; i++) d->a0[i] = split_sum(a[i], d->da[i]);
    for (int64_t i = 0; i < d->m; i++) {
        memcpy(d->db + i * r, b + i * 2 * r, (size_t)r * sizeof *b);
        memcpy(d->b0 + i * r, b + i * 2 * r + r, (size_t)r * sizeof *b);
    }
}

/* Distribute the saved factors over d's arrays. */
static void split_factors(struct delta *d, const float *a, const float *b) {
    if (d->form == DELTA_PAIR) {
        split_pair(d, a, b);
        return;
    }
    bool fixed = d->form == DELTA_FIXED_B;
    memcpy(fixed ? d->da : d->a0, a, (size_t)(d->r * d->n) * sizeof *a);
    memcpy(fixed ? d->b0 : d->db, b, (size_t)(d->m * d->r) * sizeof *b);
}

/* Form, rank and alpha of d; *saved: the rank on disk. */
static enum mil_status take_shape(const struct loading *l, struct delta *d, const char *module,
                                  int64_t *saved, struct mil_error *err) {
    const struct side_file *s = &l->side;
    d->form = s->method ? s->method->form : l->config.mica ? DELTA_FIXED_B : DELTA_LORA;
    TRY(peft_config_rank(&l->config, module, saved, &d->alpha, err));
    d->r = *saved;
    if (!s->method) return MIL_OK;
    double alpha;
    TRY(options_rank(&s->options, module, &d->r, &alpha, err));
    int64_t want = delta_saved_rank(d);
    if (d->form == DELTA_PAIR) d->alpha /= 2;
    if (*saved == want) return MIL_OK;
    return error_set(err, MIL_INPUT,
                     "%s: r is %lld in milora.json, so adapter_config.json must say %lld, but says "
                     "%lld",
                     module, (long long)d->r, (long long)want, (long long)*saved);
}

static enum mil_status load_lora(struct loading *l, struct delta *d, struct mil_error *err) {
    char module[MODULE_NAME_CAP];
    float *a = NULL, *b = NULL;
    int64_t rank = 0;
    enum mil_status st;
    module_name(module, d->layer, d->module);
    TRY(take_shape(l, d, module, &rank, err));
    TRY_GOTO(read_part(l, d, "lora_A", (struct wanted_shape){&rank, &d->n, false, false}, &a, err));
    TRY_GOTO(read_part(l, d, "lora_B", (struct wanted_shape){&d->m, &rank, false, false}, &b, err));
    d->dora = l->config.options.dora;
    TRY_GOTO(delta_alloc(d, err));
    TRY_GOTO(read_magnitude(l, d, err));
    split_factors(d, a, b);
    for (int64_t i = 0; d->a0 && i < d->r * d->n; i++)
        if (!isfinite(d->a0[i])) { /* A and dA near the largest float, of opposite signs */
            st = error_set(err, MIL_INPUT, "%s: A - dA overflows in lora_A.weight", module);
            goto fail;
        }
fail:
    mem_free(b);
    mem_free(a);
    return st;
}

/* ---- AdaLoRA's file ---- */

/* The tensors of the kept triplets. */
struct triplets {
    bool *flags;
    int64_t kept, n, m;
    float *a, *b, *e;
};

static void triplets_release(struct triplets *t) {
    mem_free(t->flags);
    mem_free(t->a);
    mem_free(t->b);
    mem_free(t->e);
}

/* The length that a matrix has even where the other one is 0. */
static int64_t length_of(const struct st_tensor *t, int axis) {
    return t->ndim == 2 ? t->shape[axis] : 0;
}

static enum mil_status read_triplets(struct loading *l, const struct delta *d, const char *module,
                                     struct triplets *t, struct mil_error *err) {
    bool named;
    int64_t one = 1;
    const struct st_tensor *a, *b, *e;
    t->flags = mem_calloc(MEM_OTHER, (size_t)l->config.options.r, sizeof *t->flags);
    if (!t->flags) return error_nomem(err, (size_t)l->config.options.r);
    TRY(peft_config_mask(&l->config, module, t->flags, &t->kept, &named, err));
    l->masks += named;
    TRY(find_part(l, d, "lora_A", &a, err));
    TRY(find_part(l, d, "lora_B", &b, err));
    TRY(find_part(l, d, "lora_E", &e, err));
    t->n = length_of(a, 1);
    t->m = length_of(b, 0);
    if (t->n < 1 || t->m < 1)
        return error_set(err, MIL_INPUT, "%s: not a matrix of at least one %s",
                         t->n < 1 ? a->name : b->name, t->n < 1 ? "column" : "row");
    TRY(tensor_read(a, (struct wanted_shape){&t->kept, &t->n, false, true}, &t->a, err));
    TRY(tensor_read(b, (struct wanted_shape){&t->m, &t->kept, false, true}, &t->b, err));
    return tensor_read(e, (struct wanted_shape){&t->kept, &one, false, true}, &t->e, err);
}

/* Triplet `from` of the file to place `to` of d, Lambda times fold. */
static void put_triplet(struct delta *d, int64_t to, const struct triplets *t, int64_t from,
                        double fold) {
    memcpy(d->a0 + to * d->n, t->a + from * d->n, (size_t)d->n * sizeof *t->a);
    for (int64_t i = 0; i < d->m; i++) d->db[i * d->r + to] = t->b[i * t->kept + from];
    d->e[to] = (float)(fold * (double)t->e[from]);
}

/* Rank and alpha of d, and the number that Lambda was folded by when it was saved. */
static enum mil_status take_scale(struct loading *l, struct delta *d, const char *module,
                                  const struct triplets *t, double *fold, struct mil_error *err) {
    const struct adapter_options *o = &l->config.options;
    double scale = o->alpha / ((double)o->r + 1e-5), alpha;
    *fold = 1;
    d->r = o->r;
    d->alpha = o->alpha * (double)d->r / ((double)d->r + 1e-5);
    if (!l->side.method) return MIL_OK;
    TRY(options_rank(&l->side.options, module, &d->r, &alpha, err));
    if (d->r > o->r)
        return error_set(err, MIL_INPUT,
                         "%s: r is %lld in milora.json, but init_r of adapter_config.json is %lld",
                         module, (long long)d->r, (long long)o->r);
    for (int64_t i = d->r; i < o->r; i++)
        if (t->flags[i])
            return error_set(err, MIL_INPUT,
                             "%s: rank_pattern keeps triplet %lld, but milora.json gives it r = "
                             "%lld",
                             module, (long long)i, (long long)d->r);
    d->alpha = alpha * (double)d->r / ((double)d->r + 1e-5);
    *fold = scale / delta_scale(d);
    if (fabs(*fold - 1) < 1e-12) *fold = 1;
    return MIL_OK;
}

static enum mil_status check_spread(struct loading *l, const struct delta *d, int64_t kept,
                                    struct mil_error *err) {
    int64_t size = 0;
    l->spread += (d->r - kept) * (d->m + d->n);
    for (size_t i = 0; i < st_count(l->file); i++) size += (int64_t)st_at(l->file, i)->bytes;
    if (l->spread <= SPREAD_LEAST || l->spread / SPREAD_FACTOR <= size) return MIL_OK;
    return error_set(err, MIL_INPUT, "rank_pattern leaves out %lld times what the file holds",
                     (long long)(l->spread / (size > 0 ? size : 1)));
}

static enum mil_status place_triplets(struct loading *l, struct delta *d, const char *module,
                                      const struct triplets *t, struct mil_error *err) {
    double fold;
    int64_t from = 0;
    d->form = DELTA_SCALED;
    TRY(take_scale(l, d, module, t, &fold, err));
    d->m = t->m;
    d->n = t->n;
    TRY(check_spread(l, d, t->kept, err));
    TRY(delta_alloc(d, err));
    for (int64_t i = 0; i < d->r; i++) d->pruned[i] = t->flags[i] ? 0 : 1;
    for (int64_t i = 0; i < l->config.options.r; i++)
        if (t->flags[i]) {
            put_triplet(d, i, t, from, fold);
            from++;
        }
    for (int64_t i = 0; i < d->r; i++)
        if (!isfinite(d->e[i])) /* by a scale of its own that is far from lora_alpha / init_r */
            return error_set(err, MIL_INPUT, "%s: Lambda overflows in lora_E", module);
    return MIL_OK;
}

static enum mil_status load_adalora(struct loading *l, struct delta *d, struct mil_error *err) {
    struct triplets t = {0};
    char module[MODULE_NAME_CAP];
    module_name(module, d->layer, d->module);
    enum mil_status st = read_triplets(l, d, module, &t, err);
    if (st == MIL_OK && l->base &&
        (t.m != module_rows(l->base, d->module) || t.n != module_cols(l->base, d->module)))
        st = error_set(err, MIL_MISMATCH,
                       "%s is %lld x %lld in the adapter, %lld x %lld in the model", module,
                       (long long)t.m, (long long)t.n, (long long)module_rows(l->base, d->module),
                       (long long)module_cols(l->base, d->module));
    if (st == MIL_OK) st = place_triplets(l, d, module, &t, err);
    triplets_release(&t);
    return st;
}

enum mil_status delta_load(struct loading *l, struct delta *d, struct mil_error *err) {
    return l->config.kind == PEFT_ADALORA ? load_adalora(l, d, err) : load_lora(l, d, err);
}

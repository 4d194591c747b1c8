/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_lora.c - a LoRA as llama.cpp reads it: one GGUF file, tensors blk.N.<name>.weight.lora_a
 * [r, n] and .lora_b [m, r] in F32 (docs/formats/adapter.md).
 *
 * llama.cpp scales each module by adapter.lora.alpha / rank with one alpha for the file: a module
 * with another alpha gets the quotient folded into its B.  Its llama architecture rotates pairs of
 * neighbours where Hugging Face rotates halves, so the rows of q and k are stored interleaved:
 * within a head of D rows, row 2 j + t of the file is row t D / 2 + j here. */
#include <stdio.h>
#include <string.h>

#include "adapt/files.h"
#include "core/mem.h"
#include "io/gguf.h"

struct family {
    const char *ours, *architecture;
    bool interleaved; /* q and k rows */
};
static const struct family families[] = {
    {"llama", "llama", true}, {"mistral", "llama", true}, {"qwen2", "qwen2", false}};

static const char *const names[MODULES] = {
    [MODULE_Q] = "attn_q",      [MODULE_K] = "attn_k",      [MODULE_V] = "attn_v",
    [MODULE_O] = "attn_output", [MODULE_GATE] = "ffn_gate", [MODULE_UP] = "ffn_up",
    [MODULE_DOWN] = "ffn_down"};

static const struct family *find_family(const char *ours) {
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (strcmp(families[i].ours, ours) == 0) return &families[i];
    return NULL;
}

/* Where row `to` of the file comes from. */
static int64_t source_row(int64_t to, int64_t head_dim) {
    int64_t head = to / head_dim, in = to % head_dim;
    return head * head_dim + (in % 2) * (head_dim / 2) + in / 2;
}

/* B in file order, times fold; through the unsorted copy `b`. */
static void lay_b(const struct delta *d, const struct model_config *c, bool interleaved,
                  double fold, const float *b, float *out) {
    int64_t k = delta_saved_rank(d);
    bool moved = interleaved && (d->module == MODULE_Q || d->module == MODULE_K);
    for (int64_t i = 0; i < d->m; i++) {
        const float *from = b + (moved ? source_row(i, c->head_dim) : i) * k;
        for (int64_t t = 0; t < k; t++) out[i * k + t] = (float)(fold * (double)from[t]);
    }
}

/* Elements of all saved factors. */
static size_t saved_elements(const struct adapter *a) {
    size_t sum = 0;
    for (size_t i = 0; i < a->n; i++)
        sum += (size_t)(delta_saved_rank(&a->deltas[i]) * (a->deltas[i].m + a->deltas[i].n));
    return sum;
}

/* All factors as they lie in the file, module after module, A before B. */
static enum mil_status fill(const struct adapter *a, const struct model_config *c,
                            const struct family *f, double alpha, float *store,
                            struct mil_error *err) {
    for (size_t i = 0; i < a->n; i++) {
        const struct delta *d = &a->deltas[i];
        int64_t k = delta_saved_rank(d);
        float *b = mem_alloc(MEM_IO, (size_t)(d->m * k), sizeof *b);
        if (!b) return error_nomem(err, (uint64_t)(d->m * k) * sizeof *b);
        delta_saved_a(d, store);
        delta_saved_b(d, b);
        lay_b(d, c, f->interleaved, delta_saved_alpha(d) / alpha, b, store + k * d->n);
        mem_free(b);
        store += k * (d->m + d->n);
    }
    return MIL_OK;
}

static void put_all(struct gguf_writer *w, const struct adapter *a, const float *store) {
    for (size_t i = 0; i < a->n; i++) {
        const struct delta *d = &a->deltas[i];
        int64_t k = delta_saved_rank(d), ne_a[2] = {d->n, k}, ne_b[2] = {k, d->m};
        char name[64];
        snprintf(name, sizeof name, "blk.%lld.%s.weight.lora_a", (long long)d->layer,
                 names[d->module]);
        gguf_put_tensor(w, name, DT_F32, 2, ne_a, store);
        name[strlen(name) - 1] = 'b';
        gguf_put_tensor(w, name, DT_F32, 2, ne_b, store + k * d->n);
        store += k * (d->m + d->n);
    }
}

enum mil_status gguf_lora_write(const struct adapter *a, const char *name,
                                const struct model_config *c, const char *path,
                                struct mil_error *err) {
    const struct family *f = find_family(c->family);
    if (!f)
        return error_set(err, MIL_UNSUPPORTED,
                         "a GGUF adapter for the family '%s' is not supported", c->family);
    TRY(adapter_check_base(a, c, err));
    /* one alpha for the file, as its f32 holds it; 1 where the first module's would be no divisor
     */
    double alpha = a->n ? (double)(float)delta_saved_alpha(a->deltas) : 1;
    if (alpha == 0) alpha = 1;
    float *store = mem_alloc(MEM_IO, saved_elements(a), sizeof *store);
    if (!store) return error_nomem(err, saved_elements(a) * sizeof *store);
    struct gguf_writer *w = NULL;
    enum mil_status st;
    TRY_GOTO(fill(a, c, f, alpha, store, err));
    TRY_GOTO(gguf_writer_new(path, &w, err));
    gguf_put_str(w, "general.type", "adapter");
    gguf_put_str(w, "general.architecture", f->architecture);
    gguf_put_str(w, "general.name", name);
    gguf_put_str(w, "adapter.type", "lora");
    gguf_put_f32(w, "adapter.lora.alpha", (float)alpha);
    put_all(w, a, store);
    st = gguf_writer_commit(&w, err);
fail:
    mem_free(store);
    return st;
}

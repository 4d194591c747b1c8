/* SPDX-License-Identifier: Apache-2.0 */
/* adapter.h - a set of low-rank adapters over the modules of a model: made, saved, loaded,
 * attached, merged.
 *
 * Each adapted module holds frozen A0 [r, n], B0 [m, r] and trained dA, dB (all f32, host order
 * row-major).  The function added to W x is (docs/methods/delta-form.md)
 *     s ( dB (A x') + B0 (dA x' + A0 (x' - x)) ),   A = A0 + dA,   s = alpha / r
 * with x' the input after dropout.  On disk it is a plain PEFT LoRA (docs/formats/adapter.md), of rank 2r:
 *     A' = [A ; dA],  B' = [dB , B0],  alpha' = 2 alpha      (plain LoRA: A' = A, B' = dB, alpha) */
#ifndef MIL_ADAPT_ADAPTER_H
#define MIL_ADAPT_ADAPTER_H

#include "adapt/method.h"
#include "model/model.h"

struct adapter_options {
    const char *method;
    int64_t r;
    double alpha; /* <= 0: the method's default */
    double dropout;
    /* What to adapt: suffixes or full paths; "all-linear"; regex: one pattern matched against the
     * whole path
     * ("model.layers.0.self_attn.q_proj"), PEFT's meaning of a string. */
    const char *const *targets;
    size_t n_targets;
    bool targets_regex;
    uint64_t seed;
};

/* One adapted module. */
struct delta {
    int64_t layer;
    enum module module;
    int64_t m, n, r;
    double alpha; /* s = alpha / r */
    float *a0, *b0, *da,
        *db; /* host; b0 NULL for plain LoRA (then a0 is A's start and is kept too) */
};
struct adapter {
    const struct method *method;    /* NULL: a foreign PEFT LoRA, loaded as plain LoRA */
    struct adapter_options options; /* strings owned by the adapter */
    char base_path[4096], base_fingerprint[HASH_HEX]; /* "": not known */
    int64_t layers;       /* of the base; 0: not known (foreign adapter loaded without its base) */
    struct delta *deltas; /* canonical order: by layer, then module */
    size_t n;
};

/* Rows of the table that `init` prints, as modules are finished, one call at a time but from any
 * thread. */
struct adapter_init_event {
    size_t index, total; /* index counts the finished ones, from 0 */
    size_t position;     /* of the module in canonical order, deltas[position] */
    const struct delta *delta;
    const struct method_init *init;
    double seconds;
    double left; /* seconds until all are done, by what was measured so far; < 0: not known yet */
};
typedef void (*adapter_init_fn)(void *ctx, const struct adapter_init_event *e);
/* All may be NULL. */
struct adapter_init_hooks {
    adapter_init_fn progress;
    bool (*stop)(void *ctx); /* asked before each module: true ends with MIL_INTERRUPTED when those
                                in flight are done */
    void *ctx;
    struct svd_cache *cache;
};

/* Which modules the options name; each pattern must match at least one (MIL_USAGE names the pattern
 * and the nearest module name). selected: layers * MODULES flags. Needs the configuration only. */
enum mil_status adapter_select(const struct model_config *c, const struct adapter_options *o,
                               bool *selected, struct mil_error *err);
/* Adapter at step 0.  r > min(m, n): MIL_USAGE naming module and limit.  NaN in a weight:
 * MIL_INPUT. */
enum mil_status adapter_init(const struct checkpoint *base, const struct adapter_options *o,
                             adapter_init_fn progress, void *ctx, struct adapter **out,
                             struct mil_error *err);
/* The same with a cache of decompositions and a way to stop; init_run.c has the schedule. */
enum mil_status adapter_init_with(const struct checkpoint *base, const struct adapter_options *o,
                                  const struct adapter_init_hooks *hooks, struct adapter **out,
                                  struct mil_error *err);
void adapter_free(struct adapter **a);
/* Trainable elements: sum of r (m + n). */
int64_t adapter_elements(const struct adapter *a);

/* Write adapter_model.safetensors, adapter_config.json and milora.json (and README.md) into dir,
 * which exists; each file atomically. */
enum mil_status adapter_save(const struct adapter *a, const char *dir, struct mil_error *err);
/* Read a directory written by adapter_save or by PEFT (plain LoRA; rsLoRA, rank_pattern and
 * alpha_pattern understood; DoRA and others MIL_UNSUPPORTED by name).  The key set must equal what
 * the config says. base NULL: no check against it; else shapes must fit (MIL_MISMATCH) and the
 * recorded fingerprint must agree (MIL_MISMATCH with the remedy). */
enum mil_status adapter_load(const char *dir, const struct checkpoint *base, struct adapter **out,
                             struct mil_error *err);

/* What bit-exact resume needs: a0, b0, da, db raw in f32, one safetensors file (atomic).  Loading
 * goes into an adapter of the same modules and ranks (MIL_MISMATCH otherwise): A0 cannot be had
 * from the saved A = A0 + dA without rounding. */
enum mil_status adapter_state_save(const struct adapter *a, const char *path,
                                   struct mil_error *err);
enum mil_status adapter_state_load(struct adapter *a, const char *path, struct mil_error *err);

/* An adapter living on a backend, attached to a model; adapter and model must outlive it. */
struct adapter_runtime;
enum mil_status adapter_attach(struct adapter *a, struct model *m, bool trainable,
                               struct adapter_runtime **out, struct mil_error *err);
/* Attach shapes without data to a skeleton (model.h), so that step_plan and infer_plan count what
 * an adapter takes; nothing can be run.  Needs no weights. */
enum mil_status adapter_attach_skeleton(const struct adapter_options *o, struct model *m,
                                        struct adapter_runtime **out, struct mil_error *err);
/* Detaches and frees.  Trained values are copied back to the host adapter by adapter_pull. */
void adapter_detach(struct adapter_runtime **rt);
enum mil_status adapter_pull(struct adapter_runtime *rt, struct mil_error *err);
/* Host values changed (resume): renew the backend's. */
enum mil_status adapter_push(struct adapter_runtime *rt, struct mil_error *err);
/* Params in canonical order, "model.layers.0.self_attn.q_proj.delta_A" then ".delta_B". */
struct trainable *adapter_trainable(struct adapter_runtime *rt);
/* Session bytes of attaching, from the configuration alone. */
enum mil_status adapter_plan(const struct model_config *c, const struct adapter_options *o,
                             bool trainable, enum dtype act, struct plan *plan,
                             struct mil_error *err);

/* W += s (dB A + B0 dA) for row-major f32 w [m, n]; the sum in f64, rounded once to f32.
 * MIL_NOMEM. */
enum mil_status delta_add_to(const struct delta *d, float *w, struct mil_error *err);
/* Merged HF directory: weights W + delta rounded once to `dtype` (DT_F32, DT_F16, DT_BF16; DTYPES:
 * each as it is stored, blocks of a GGUF as F16), sharded as the input, other files of the model
 * carried over.  Whole or absent; out must not exist or be an empty directory (MIL_ACCESS).
 * Memory: one weight.  A merged value outside F16's range is MIL_NUMERIC. */
enum mil_status adapter_merge(const struct checkpoint *base, const struct adapter *a,
                              const char *out, enum dtype dtype, struct mil_error *err);

enum export_format { EXPORT_PEFT, EXPORT_RESIDUAL, EXPORT_GGUF };
/* peft: the directory of adapter_save without milora.json; base may be NULL.  residual: OUT/ is the
 * model with W - s B0 A0 (dtype as in adapter_merge), OUT/adapter the rank-r LoRA (A, B), the
 * paper's layout; needs base; what 16 bits lose of B0 A0 is logged.  gguf: a LoRA GGUF file for
 * llama.cpp (scaling folded as it expects, q and k rows permuted for its llama architecture); needs
 * base's configuration.  Whole or absent, as adapter_merge. */
enum mil_status adapter_export(const struct adapter *a, const struct checkpoint *base,
                               enum export_format format, enum dtype dtype, const char *out,
                               struct mil_error *err);

#endif

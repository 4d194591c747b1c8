/* SPDX-License-Identifier: Apache-2.0 */
/* adapter.h - a set of low-rank adapters over the modules of a model: made, saved, loaded,
 * attached, merged.
 *
 * Each adapted module holds frozen A0 [r, n], B0 [m, r] and trained dA, dB (all f32, host order
 * row-major), as far as its form has them (method.h).  The function added to W x of the pair form is
 * (docs/methods/delta-form.md)
 *     s ( dB (A x') + B0 (dA x' + A0 (x' - x)) ),   A = A0 + dA,   s = alpha / r
 * with x' the input after dropout.  On disk it is a plain PEFT LoRA (docs/formats/adapter.md), of rank 2r:
 *     A' = [A ; dA],  B' = [dB , B0],  alpha' = 2 alpha      (plain LoRA: A' = A, B' = dB, alpha)
 * With a magnitude (DoRA) the module's output is f * (W x + what is added), f = magnitude / ||W + s B' A'|| by rows. */
#ifndef MIL_ADAPT_ADAPTER_H
#define MIL_ADAPT_ADAPTER_H

#include "adapt/method.h"
#include "model/model.h"

/* Rank or alpha of the modules that a pattern names (PEFT's rank_pattern, alpha_pattern): the first pattern that
 * matches the module's path, or its end after a dot, counts. */
struct adapter_pattern {
    const char *pattern;
    double value;
};
/* As tfinal: the last phase alone, in which ranks stay as they are. */
#define ADALORA_FINAL (((int64_t)1 << 53) - 1)
/* AdaLoRA's schedule and importance, PEFT's names.  Ranks and betas of 0 and a weight below 0 stand for what
 * adapter_resolve chooses; steps below 0 (delta_t: 0) for parts of the run's length, which adalora_schedule_of knows. */
struct adalora_options {
    int64_t target_r, init_r, tinit, tfinal, delta_t;
    double beta1, beta2, orth_reg_weight;
};
enum lora_ga_direction { LORA_GA_AR_B2R, LORA_GA_A2R_BR, LORA_GA_AR_BR, LORA_GA_RANDOM };
enum lora_ga_scale {
    LORA_GA_PAPER,  /* the paper's stable scale */
    LORA_GA_STABLE, /* from here on as PEFT has them */
    LORA_GA_WEIGHT_SVD,
    LORA_GA_GD,
    LORA_GA_UNIT
};
struct lora_ga_options {
    int64_t batches; /* optimiser steps' worth of samples for the gradient */
    enum lora_ga_direction direction;
    enum lora_ga_scale scale;
    double stable_gamma;
};
/* Which biases of the model train beside the factors, as PEFT's `bias`. */
enum adapter_bias { BIAS_NONE, BIAS_ALL, BIAS_LORA_ONLY };

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
    /* Of those not: exclude_modules, with the same meaning; none: all stay.  layers_to_transform; none: all. */
    const char *const *excluded;
    size_t n_excluded;
    bool excluded_regex;
    const int64_t *layers;
    size_t n_layers;
    const struct adapter_pattern *ranks, *alphas;
    size_t n_ranks, n_alphas;
    const char *const *saved_modules; /* modules_to_save: "embed_tokens", "lm_head" */
    size_t n_saved_modules;
    enum adapter_bias bias;
    bool rslora, dora;
    double lr_ratio; /* learning rate of B over that of A; 0: the method's */
    struct adalora_options adalora;
    struct lora_ga_options lora_ga;
    uint64_t seed;
};
/* The options with everything chosen that they leave open, and their method: *out borrows from o.  MIL_USAGE with
 * the reason for combinations that mean nothing, and for values out of range. */
enum mil_status adapter_resolve(const struct adapter_options *o, struct adapter_options *out,
                                const struct method **method, struct mil_error *err);

/* One adapted module. */
struct delta {
    int64_t layer;
    enum module module;
    int64_t m, n, r;
    double alpha; /* s = alpha / r, with use_rslora alpha is the given one times sqrt(r) */
    enum delta_form form;
    bool dora; /* it has a magnitude */
    float *a0, *b0, *da,
        *db;          /* host; NULL where the form has none (method.h); LORA's a0 is A's start */
    float *e;         /* [r], SCALED only, as */
    float *pruned;    /* [r]: 1 where AdaLoRA's mask keeps e at 0, else 0 */
    float *magnitude; /* [m], with dora only */
};
/* A trained whole tensor of the model beside the factors: modules_to_save and bias (whole.c). */
struct whole;
struct adapter {
    const struct method *method;    /* NULL: PEFT's own; the deltas say what it is */
    struct adapter_options options; /* resolved; strings owned by the adapter */
    char base_path[4096], base_fingerprint[HASH_HEX]; /* "": not known */
    int64_t layers;       /* of the base; 0: not known (foreign adapter loaded without its base) */
    struct delta *deltas; /* canonical order: by layer, then module */
    size_t n;
    struct whole *wholes; /* in the order of whole.h */
    size_t n_wholes;
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
    /* Methods that start from gradients: add that of the loss with regard to the stored weight of deltas[i] to g[i],
     * f32 [m, n] row-major, zeroed; NULL: there is no data, such methods are MIL_USAGE. */
    enum mil_status (*gradients)(void *ctx, const struct delta *deltas, size_t n, float *const *g,
                                 struct mil_error *err);
    size_t gradient_bytes; /* of gradients held at once; 0: adapter_gradient_budget() */
    void *ctx;
    struct svd_cache *cache;
};
/* A quarter of the memory at hand. */
size_t adapter_gradient_budget(void);
/* Bytes of gradients that adapter_init_with will hold at once with that budget (0: chosen); 0 for methods that start
 * without. */
enum mil_status adapter_gradient_bytes(const struct model_config *c,
                                       const struct adapter_options *o, size_t budget,
                                       size_t *bytes, struct mil_error *err);

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
/* Its method's name; of PEFT's own, which have no method, that of what they are: lora, dora, adalora, mica. */
const char *adapter_method_name(const struct adapter *a);
/* Trainable elements: the sum of r (m + n) in most methods. */
int64_t adapter_elements(const struct adapter *a);

/* Write adapter_model.safetensors, adapter_config.json and milora.json (and README.md) into dir,
 * which exists; each file atomically. */
enum mil_status adapter_save(const struct adapter *a, const char *dir, struct mil_error *err);
/* Read a directory written by adapter_save or by PEFT (LoRA, DoRA, AdaLoRA, MiCA with their patterns, modules_to_save
 * of embeddings and head, bias; others MIL_UNSUPPORTED by name with the remedy).  The key set must equal what
 * the config says. base NULL: no check against it; else shapes must fit (MIL_MISMATCH) and the
 * recorded fingerprint must agree (MIL_MISMATCH with the remedy). */
enum mil_status adapter_load(const char *dir, const struct checkpoint *base, struct adapter **out,
                             struct mil_error *err);

/* A loaded adapter goes on training with these options (method and shapes must be its own: MIL_USAGE); the base is
 * named where it was not. */
enum mil_status adapter_continue(struct adapter *a, const struct checkpoint *base,
                                 const struct adapter_options *o, struct mil_error *err);

/* The arrays of an adapter one by one, what bit-exact resume needs (A0 cannot be had from the saved A = A0 + dA
 * without rounding): per module as far as it has them A0, B0, delta_A, delta_B, lambda, pruned, magnitude, then whole
 * tensors. */
struct adapter_tensor {
    char name[128]; /* "model.layers.0.self_attn.q_proj.delta_A" */
    float *data;
    int64_t rows, cols;
};
size_t adapter_tensor_count(const struct adapter *a);
void adapter_tensor_at(const struct adapter *a, size_t i, struct adapter_tensor *out);

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
/* Params in canonical order, named as adapter_tensor_at has it, frozen ones left out. */
struct trainable *adapter_trainable(struct adapter_runtime *rt);
/* The method's own part of an optimiser step (struct method_step); nothing for most methods. */
enum mil_status adapter_gradients(struct adapter_runtime *rt, double *penalty,
                                  struct mil_error *err);
enum mil_status adapter_updated(struct adapter_runtime *rt, const struct adapter_update *u,
                                struct mil_error *err);
/* What the method keeps from step to step beside the adapter's arrays (AdaLoRA's averages), for checkpoints: tensors
 * of the backend, adapter_state_count of them. */
struct adapter_state {
    char name[128]; /* "model.layers.0.self_attn.q_proj.delta_A.importance" */
    struct tensor tensor;
};
size_t adapter_state_count(const struct adapter_runtime *rt);
void adapter_state_at(const struct adapter_runtime *rt, size_t i, struct adapter_state *out);
/* Methods that reduce ranks while they train.  Does the schedule fit into so many steps (MIL_USAGE with the remedy)?
 * How many entries of Lambda the budget leaves after a step, and whether masks are chosen then; 0, false for other
 * methods.  The rank of a module: entries that are not masked; r in other methods. */
enum mil_status adapter_check_schedule(const struct adapter_options *o, int64_t total_steps,
                                       struct mil_error *err);
int64_t adapter_budget(const struct adapter *a, int64_t step, int64_t total_steps, bool *due);
int64_t adapter_module_rank(const struct adapter *a, size_t i);
/* How many optimiser params and elements the options' adapter has. */
enum mil_status adapter_count(const struct model_config *c, const struct adapter_options *o,
                              size_t *modules, size_t *params, int64_t *elements,
                              struct mil_error *err);
/* Least and largest rank, scaling s and layer of what the options adapt. */
struct adapter_ranges {
    int64_t rank[2], layer[2];
    double scale[2];
};
enum mil_status adapter_ranges(const struct model_config *c, const struct adapter_options *o,
                               struct adapter_ranges *out, struct mil_error *err);
/* Session bytes of attaching, from the configuration alone. */
enum mil_status adapter_plan(const struct model_config *c, const struct adapter_options *o,
                             bool trainable, enum dtype act, struct plan *plan,
                             struct mil_error *err);

/* W becomes W + s (dB A + B0 dA), its rows scaled to the magnitude where there is one, for row-major f32 w [m, n]; the
 * sum in f64, rounded once to f32.  MIL_NOMEM; MIL_NUMERIC: a row of zeros under a magnitude that is not 0. */
enum mil_status delta_add_to(const struct delta *d, float *w, struct mil_error *err);
/* Merged HF directory: weights W + delta rounded once to `dtype` (DT_F32, DT_F16, DT_BF16; DTYPES:
 * each as it is stored, blocks of a GGUF as F16), whole tensors in their places (a tied head becomes one of its
 * own where it and the embeddings differ), sharded as the input, other files of the model carried over.  Whole or
 * absent; out must not exist or be an empty directory (MIL_ACCESS).
 * Memory: one weight.  A merged value outside the range of `dtype` is MIL_NUMERIC. */
enum mil_status adapter_merge(const struct checkpoint *base, const struct adapter *a,
                              const char *out, enum dtype dtype, struct mil_error *err);

/* The same of several adapters: each weight W + sum of weight_i (W'_i - W), W'_i under adapter i alone. */
struct adapter_part {
    const struct adapter *adapter;
    double weight;
};
enum mil_status adapter_merge_parts(const struct checkpoint *base, const struct adapter_part *parts,
                                    size_t n, const char *out, enum dtype dtype,
                                    struct mil_error *err);

enum export_format { EXPORT_PEFT, EXPORT_LORA, EXPORT_RESIDUAL, EXPORT_GGUF };
/* peft: the directory of adapter_save without milora.json; base may be NULL.  lora: the same as a plain LoRA, for
 * consumers that know nothing else (MIL_UNSUPPORTED with the remedy: DoRA).  residual: OUT/ is the
 * model with W - s B0 A0 (dtype as in adapter_merge), OUT/adapter the rank-r LoRA (A, B), the
 * paper's layout, of methods that start from a part of W (MIL_USAGE: others); needs base; what 16 bits lose of
 * B0 A0 is logged.  gguf: a LoRA GGUF file for llama.cpp (scaling folded as it expects, q and k rows permuted for its
 * llama architecture; MIL_UNSUPPORTED: DoRA, whole tensors); needs base's configuration.  Whole or absent, as
 * adapter_merge. */
enum mil_status adapter_export(const struct adapter *a, const struct checkpoint *base,
                               enum export_format format, enum dtype dtype, const char *out,
                               struct mil_error *err);

#endif

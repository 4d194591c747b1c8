/* SPDX-License-Identifier: Apache-2.0 */
/* adapter.h - adapters as files: made from a model, merged into it, exported for others.
 *
 * An ADAPTER is a directory in PEFT's LoRA format with milora.json beside it
 * (docs/formats/adapter.md). Whatever is written appears whole or not at all, and an output that
 * exists already is refused (MIL_ACCESS).  Option structs may be zeroed: a zero or NULL is the
 * default that its comment names. */
#ifndef MILORA_ADAPTER_H
#define MILORA_ADAPTER_H

#include <stddef.h>
#include <stdint.h>

#include "milora/train.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- methods ---- */

struct mil_method_info {
    const char *name, *summary, *reference;
    int adapter; /* 0: full fine-tuning, there is nothing to initialise */
};
/* Row i of the table of methods into *out; 0 past its end. */
int mil_method(size_t i, struct mil_method_info *out);
/* Their names, NULL-terminated; static storage. */
const char *const *mil_method_names(void);

/* ---- an adapter at step 0 ---- */

/* Rank or alpha of the modules that a pattern names: a regular expression for the module's path or for its end after a
 * dot; of several the first that matches counts (PEFT's rank_pattern, alpha_pattern). */
struct mil_pattern {
    const char *pattern;
    double value;
};

struct mil_adapter_options {
    const char *model, *out;    /* MODEL, and the directory to make */
    const char *method;         /* NULL: "milora" */
    int64_t rank;               /* 0: 32 */
    double alpha;               /* 0: the method's default (rank; LoRA: 2 rank) */
    double dropout;             /* recorded in the adapter's configuration */
    const char *const *targets; /* module names; NULL: q_proj, k_proj, v_proj, up_proj, down_proj */
    size_t n_targets;
    const char *const *excluded; /* of those not; NULL: all stay */
    size_t n_excluded;
    const int64_t *layers; /* layers_to_transform; NULL: all */
    size_t n_layers;
    const struct mil_pattern *ranks, *alphas;
    size_t n_ranks, n_alphas;
    int use_rslora; /* 1: scaling alpha / sqrt(rank) */
    int use_dora;   /* 1: with a magnitude */
    uint64_t seed;
    /* NULL, or a directory that keeps every decomposition by the content of its weight: what is
     * there already is not computed again, also for another model, method (of the same end of the
     * spectrum) or a smaller rank; docs/formats/svd-cache.md.  Without it a run that takes longer
     * keeps them in OUT.partial until it is done, so that a killed or stopped run goes on. */
    const char *svd_cache;
    uint64_t svd_cache_limit; /* bytes that svd_cache may grow to; 0: 32 GiB */
    double keep_after; /* OUT.partial is made after so many seconds of decomposing (all threads
                          together); 0: 10; < 0: from the first module on */
    /* Methods that start from the gradient of the loss (lora_ga), and only these: a data set (a file, or a
     * directory with train.jsonl), read with this template (NULL: "alpaca"); the first `batches` times 16 samples
     * (0: 8) of at most max_length tokens (0: 2048), in the order that training with this seed has.
     * compute_dtype: NULL: "bf16". */
    const char *dataset, *template_name, *compute_dtype;
    int64_t batches, max_length;
};
/* fn is called after each module (struct mil_init_row: milora/train.h), in the order in which they
 * are finished, from one thread at a time but not always the same one. */
typedef void (*mil_init_fn)(void *ctx, const struct mil_init_row *row);
struct mil_adapter_result {
    size_t modules;
    int64_t rank;
    double alpha;                  /* lora_alpha, before alpha_pattern */
    int64_t trainable, parameters; /* elements: of the adapter, and of the base model */
    uint64_t bytes;                /* of adapter_model.safetensors */
    double seconds, largest_residual;
    size_t cached; /* modules whose decomposition was taken from svd_cache or OUT.partial */
    struct {
        const char *name; /* a method of decomposition, or "cache" */
        size_t modules;
    } served[8];
    size_t n_served;
    uint64_t peak_rss_bytes; /* of the process, the mapped weights included */
    uint64_t scratch_bytes;  /* the most that decompositions took at once */
};
/* MIL_INTERRUPTED after mil_request_stop (milora/train.h): the modules in flight were finished, the
 * message says what was kept. */
enum mil_status mil_adapter_init(const struct mil_adapter_options *options, mil_init_fn fn,
                                 void *ctx, struct mil_adapter_result *result,
                                 struct mil_error *err);

/* ---- what each method starts from ---- */

/* One module of one method, or (module NULL) the mean over its modules.  -1: the method starts that factor at zero, it
 * spans nothing.  docs/methods/README.md explains the numbers. */
struct mil_compare_row {
    const char *method, *module;
    /* NULL, or why the method has no numbers (it needs data, an option does not go with it). */
    const char *reason;
    size_t index, total; /* of the methods */
    size_t modules;      /* of the method; in a module's row: its index */
    int64_t rows, cols, rank;
    double alpha, scale, learning_rate;
    /* Of making the factors, summed over the modules as if each had one thread and no cache; of a module: 0. */
    double seconds;
    size_t cached;         /* decompositions that came from the cache */
    double part;           /* ||s B0 A0||_F / ||W||_F */
    double norm_a, norm_b; /* ||A0||_F, ||B0||_F */
    /* Shares of W's energy (sum of sigma^2) in B0's columns and in A0's rows. */
    double energy_left, energy_right;
    /* Mean squared cosines of B0's columns and A0's rows to W's r first and last singular vectors. */
    double left_top, left_bottom, right_top, right_bottom;
    double first_step; /* size of the change of W in Adam's first update, relative to W */
};
typedef void (*mil_compare_fn)(void *ctx, const struct mil_compare_row *row);
/* All methods that have an adapter, with these options (method is ignored, alpha 0 is each method's own).  out NULL:
 * nothing is written; else each adapter as out/<method>.  fn gets the modules of a method and then their mean, or
 * one row with a reason.  Decompositions are shared by svd_cache, or by a temporary directory. */
enum mil_status mil_adapter_compare(const struct mil_adapter_options *options, mil_compare_fn fn,
                                    void *ctx, struct mil_error *err);

/* ---- merging ---- */

struct mil_merge_options {
    const char *model, *adapter, *out;
    /* Several adapters instead of `adapter`, or one with a weight: W + sum of weight_i (W'_i - W).  weights NULL: 1
     * each. */
    const char *const *adapters;
    const double *weights;
    size_t n_adapters;
    const char *dtype; /* NULL: as the base is stored (quantised: bf16); "bf16", "f16", "f32" */
    const char *probe_text; /* NULL: a built-in English text */
    int no_probe;           /* 1: skip the comparison */
};
struct mil_merge_result {
    const char *dtype; /* of the written weights */
    double seconds;
    size_t probe_tokens; /* 0: not probed */
    /* max |logit(base + adapter) - logit(merged)| on the probe, in f32; of several adapters or a weight against the
     * base alone (against_base 1): how far the merge moves it. */
    double largest_change;
    int against_base;
    double largest_logit;  /* max |logit| there, to compare with */
    size_t argmax_changed; /* positions whose most likely token differs */
};
/* HF directory with the adapted weights: summed in f64, rounded once. */
enum mil_status mil_merge(const struct mil_merge_options *options, struct mil_merge_result *result,
                          struct mil_error *err);

/* ---- exporting ---- */

struct mil_export_options {
    const char *adapter, *out;
    const char *format; /* "peft", "lora", "residual", "gguf" */
    const char *model;  /* NULL: the base that the adapter names, where the format needs one */
    const char *dtype;  /* residual: type of the weights; gguf: of the factors; NULL: f32 */
};
enum mil_status mil_export(const struct mil_export_options *options, struct mil_error *err);

#ifdef __cplusplus
}
#endif
#endif

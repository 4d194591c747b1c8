/* SPDX-License-Identifier: Apache-2.0 */
/* analyze.h - analyses: the singular values of a model's linear modules, and the numbers made from them; how much
 * of the base's behaviour an adapter changes (forgetting).
 *
 * docs/analysis.md has the equations, docs/formats/spectrum.md the files.  Option structs may be
 * zeroed: a zero or NULL is the default that its comment names. */
#ifndef MILORA_ANALYZE_H
#define MILORA_ANALYZE_H

#include <stddef.h>
#include <stdint.h>

#include "milora/eval.h"
#include "milora/model.h"
#include "milora/text.h"

#ifdef __cplusplus
extern "C" {
#endif

/* X(member, 1 where it counts something).  Of one matrix with the singular values s_1 >= ... >=
 * s_k, k = min(rows, cols), and the rank r of an adapter. */
#define MIL_SPECTRUM_MAP(X)                                                                        \
    X(sigma_max, 0)             /* s_1 */                                                          \
    X(sigma_top, 0)             /* s_r, the smallest of the top r */                               \
    X(sigma_bottom, 0)          /* s_(k-r+1), the largest of the bottom r */                       \
    X(sigma_min, 0)             /* s_k */                                                          \
    X(frobenius, 0)             /* ||W||_F, from the entries */                                    \
    X(condition, 0)             /* s_1 / s_k; infinite where numerical_rank < k */                 \
    X(stable_rank, 0)           /* ||W||_F^2 / s_1^2 */                                            \
    X(effective_rank, 0)        /* exp of the entropy of s_i / sum s (Roy and Vetterli 2007) */    \
    X(effective_rank_energy, 0) /* the same of s_i^2 / sum s^2 */                                  \
    X(rank_90, 1)               /* how many of the largest hold 90 % of sum s^2 */                 \
    X(rank_99, 1)               /* 99 % */                                                         \
    X(numerical_rank, 1)        /* values above 1e-9 s_1 */                                        \
    X(energy_top, 0)            /* share of sum s^2 in the r largest */                            \
    X(energy_bottom, 0)         /* in the r smallest */                                            \
    X(energy_error, 0)          /* |sum s^2 / ||W||_F^2 - 1|: how well the values fit the entries */

struct mil_spectrum_measures {
#define MIL_SPECTRUM_MEMBER(name, count) double name;
    MIL_SPECTRUM_MAP(MIL_SPECTRUM_MEMBER)
#undef MIL_SPECTRUM_MEMBER
};

struct mil_spectrum_row {
    size_t index, total;       /* of the analysed modules, in canonical order */
    char module[64], type[16]; /* "model.layers.0.self_attn.q_proj", "q_proj" */
    const char *dtype;         /* as stored: "BF16", "Q4_K" */
    int64_t layer, rows, cols;
    struct mil_spectrum_measures measures;
    const double *sigma; /* n_sigma = min(rows, cols) values, descending */
    size_t n_sigma;
    double seconds;
    double done; /* share of the whole work that is behind after this row, in (0, 1] */
};
/* All modules of one type: means over the layers (condition: geometric). */
struct mil_spectrum_type {
    char type[16];
    size_t modules;
    int64_t rows, cols;
    struct mil_spectrum_measures mean;
};

struct mil_spectrum_options {
    const char *model;          /* MODEL */
    int64_t rank;               /* 0: 32, or the shortest side where that is less */
    const char *const *targets; /* module names; NULL: all seven linear modules */
    size_t n_targets;
    const char *layers; /* "0-3,8": NULL: all of them */
    const char *out;    /* directory to make with spectrum.json and spectrum.svg, or NULL */
};
/* Called after each module, in order; the row is borrowed for the call. */
typedef void (*mil_spectrum_fn)(void *ctx, const struct mil_spectrum_row *row);

typedef struct mil_spectrum mil_spectrum;
/* Memory: the values of all modules, and the work on one large matrix or on a small one a thread.
 * Wrong layers, targets or rank: MIL_USAGE; `out` exists: MIL_ACCESS; a weight that is not finite:
 * MIL_INPUT with module and entry.  *result is freed by mil_spectrum_free, which takes NULL
 * content. */
enum mil_status mil_spectrum_run(const struct mil_spectrum_options *options, mil_spectrum_fn fn,
                                 void *ctx, mil_spectrum **result, struct mil_error *err);
void mil_spectrum_free(mil_spectrum **s);
size_t mil_spectrum_rows(const mil_spectrum *s);
const struct mil_spectrum_row *mil_spectrum_row(const mil_spectrum *s, size_t i);
size_t mil_spectrum_types(const mil_spectrum *s);
const struct mil_spectrum_type *mil_spectrum_type(const mil_spectrum *s, size_t i);
int64_t mil_spectrum_rank(const mil_spectrum *s);
double mil_spectrum_seconds(const mil_spectrum *s);
/* The document of docs/formats/spectrum.md appended to text; values: with every singular value. */
enum mil_status mil_spectrum_json(const mil_spectrum *s, int values, struct mil_text *text,
                                  struct mil_error *err);

/* ---- forgetting */

struct mil_forgetting_options {
    const char *model; /* MODEL, the base */
    /* What is compared with it: adapters of it, or models with its vocabulary (merged, fully fine-tuned). */
    const char *const *adapters;
    size_t n_adapters;  /* 1 or more */
    const char *data;   /* a text file; .json, .jsonl: rows with `text`, each a text */
    int64_t max_length; /* tokens of a window; 0: 1024, or the model's positions where less */
    int64_t max_tokens; /* the first so many tokens of the data, or as many as it has; 0: all */
    enum mil_compute compute; /* type of product operands */
};
/* Means over the tokens t of the text, in nats, p_t the base's distribution of what follows t, q_t the other's. */
struct mil_forgetting {
    double forgetting_loss; /* - sum_v p_t(v) log q_t(v) */
    double base_entropy;    /* - sum_v p_t(v) log p_t(v): the loss where nothing has changed */
    double
        divergence; /* forgetting_loss - base_entropy, >= 0: Kullback and Leibler's, of q from p */
    int64_t tokens, window; /* as used */
};
/* results: n_adapters of them, the caller's, filled in order.  progress (may be NULL) counts tokens; its value is the
 * first one's loss so far.  The base runs once for all.  Memory: the base, the adapters, models in full, and for each
 * of them the keys and values of one window.  MIL_USAGE: nothing to compare, a window beyond the model's positions;
 * MIL_INPUT: data without text; MIL_MISMATCH: an adapter of another base, a model with another vocabulary;
 * MIL_NUMERIC: logits that are not finite; MIL_INTERRUPTED: progress asked to stop. */
enum mil_status mil_forgetting_run(const struct mil_forgetting_options *options,
                                   mil_eval_progress_fn progress, void *ctx,
                                   struct mil_forgetting *results, struct mil_error *err);

#ifdef __cplusplus
}
#endif
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* method.h - the table of fine-tuning methods.  A method is one file (src/adapt/methods/<name>.c)
 * and one row.
 *
 * A method is a form of trained object (enum delta_form), started from factors of its own, perhaps with a magnitude
 * vector on top (DoRA), with steps of its own (AdaLoRA).  `full` has no adapter. */
#ifndef MIL_ADAPT_METHOD_H
#define MIL_ADAPT_METHOD_H

#include <stdbool.h>
#include <stdint.h>

#include "adapt/svd_cache.h"
#include "core/error.h"
#include "linalg/svd.h"

/* What trains in a module, and what is added to W x (delta.h has the equations):
 *   LORA     dA, dB          s dB (A0 + dA) x'
 *   PAIR     dA, dB          s (dB A x' + B0 (dA x' + A0 (x' - x))),  A = A0 + dA
 *   FIXED_B  dA              s B0 dA x'
 *   SCALED   dA, dB, e       s dB diag(e) (A0 + dA) x'                 (AdaLoRA's P, Lambda, Q) */
enum delta_form { DELTA_LORA, DELTA_PAIR, DELTA_FIXED_B, DELTA_SCALED };

/* What an initialiser gets and gives for one module.  w: the stored weight, exactly (data NULL
 * without needs_weight).  g: the gradient of the loss with regard to it, f32 [m, n] row-major (NULL without
 * needs_gradient).  The arrays that the form has, zeroed before: a0, da: f32 [r, n]; b0, db: f32 [m, r]; e: f32 [r].
 * Initialisers run on several threads at once, each on its own module. */
struct adapter_options;
struct method_init {
    struct svd_matrix w;
    const float *g;
    int64_t m, n, r;
    double scale; /* s of this module */
    uint64_t seed;
    uint32_t stream;                       /* number of the module in canonical order */
    const struct adapter_options *options; /* resolved */
    struct svd_cache *cache; /* where decompositions are looked up and kept; NULL: nowhere */
    float *a0, *b0, *da, *db, *e;
    /* for the table that `init` prints; 0 where it means nothing */
    double residual, orthogonality, cut, sigma_first, sigma_last, sigma_max;
    bool cached;           /* the decomposition came from the cache */
    double cached_seconds; /* what it took when it was made */
    const char *served_by; /* "cache", or the method of the decomposition */
};

/* What a method does in every optimiser step beyond the parameters' updates (adalora.c).  All may be NULL. */
struct adapter_runtime;
struct adapter_state;
struct delta_runtime;
struct adapter_update {
    int64_t step, total_steps; /* of the update: from 1 */
    double grad_scale;         /* what the update multiplied gradients by (clipping) */
};
struct method_step {
    /* Made when the adapter is attached to train, and freed. */
    enum mil_status (*open)(struct adapter_runtime *rt, struct mil_error *err);
    void (*close)(struct adapter_runtime *rt);
    /* Bytes of what open makes, by the shapes of n modules. */
    size_t (*bytes)(const struct delta_runtime *d, size_t n);
    /* How many tensors it keeps from step to step (adapter_state); the i-th of them, unless out is NULL. */
    size_t (*state)(const struct adapter_runtime *rt, size_t i, struct adapter_state *out);
    /* All micro-batches are done: complete the gradients; adds what the method adds to the loss to *penalty. */
    enum mil_status (*gradients)(struct adapter_runtime *rt, double *penalty,
                                 struct mil_error *err);
    /* The parameters were updated; gradients still stand. */
    enum mil_status (*updated)(struct adapter_runtime *rt, const struct adapter_update *u,
                               struct mil_error *err);
};

struct method {
    const char *name, *summary;
    const char *reference; /* paper */
    bool adapter;          /* false: full */
    bool needs_weight;     /* init reads w */
    bool needs_gradient;   /* init reads g: data is needed */
    enum svd_end end;      /* which triplets it asks for, where it decomposes (method_decomposes) */
    /* Bytes that init takes for one module beside w and the factors, of methods that ask for no triplets; NULL: those
     * of the decomposition where needs_weight, nothing where not. */
    size_t (*scratch)(int64_t m, int64_t n, int64_t r);
    enum delta_form form;
    /* Defaults: lora_alpha is alpha, or alpha_over_r r where alpha is 0; lr_ratio: rate of B over that of A, 0
     * counts as 1. */
    double alpha_over_r, alpha, learning_rate, lr_ratio;
    bool rslora, dora; /* the name implies use_rslora, use_dora */
    /* Why it does not go with use_dora, use_rslora, loraplus_lr_ratio; NULL: it does. */
    const char *no_dora, *no_rslora, *no_ratio;
    enum mil_status (*init)(struct method_init *io, struct mil_error *err);
    const struct method_step *step;
};
/* init asks for singular triplets of w (svd_cached). */
static inline bool method_decomposes(const struct method *m) {
    return m->needs_weight && !m->scratch;
}
/* NULL-terminated table in presentation order. */
const struct method *const *method_table(void);
/* MIL_USAGE with the nearest known name. */
enum mil_status method_find(const char *name, const struct method **out, struct mil_error *err);

#endif

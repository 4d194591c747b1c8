/* SPDX-License-Identifier: Apache-2.0 */
/* method.h - the table of fine-tuning methods.  A method is one file (src/adapt/methods/<name>.c)
 * and one row.
 *
 * Every SVD-initialised method is the same trained object (delta.h) started from other factors: its
 * row gives the initialiser.  `full` has no adapter. */
#ifndef MIL_ADAPT_METHOD_H
#define MIL_ADAPT_METHOD_H

#include <stdbool.h>
#include <stdint.h>

#include "adapt/svd_cache.h"
#include "core/error.h"
#include "linalg/svd.h"

/* What an initialiser gets and gives for one module.  w: the stored weight, exactly (data NULL
 * without needs_weight).  a0: f32 [r, n]; b0: f32 [m, r] (NULL where b0_is_zero); both zeroed
 * before.  Initialisers run on several threads at once, each on its own module. */
struct method_init {
    struct svd_matrix w;
    int64_t m, n, r;
    double scale; /* s = alpha / r of this module */
    uint64_t seed;
    uint32_t stream;         /* number of the module in canonical order */
    struct svd_cache *cache; /* where decompositions are looked up and kept; NULL: nowhere */
    float *a0, *b0;
    /* for the table that `init` prints; 0 where it means nothing */
    double residual, orthogonality, cut, sigma_first, sigma_last, sigma_max;
    bool cached;           /* the decomposition came from the cache */
    const char *served_by; /* "cache", or the method of the decomposition */
};
struct method {
    const char *name, *summary;
    const char *reference; /* paper */
    bool adapter;          /* false: full */
    bool needs_weight;     /* init reads w */
    enum svd_end end;      /* which triplets it asks for, where needs_weight */
    double alpha_over_r;   /* default lora_alpha / r: 1, LoRA 2 */
    bool b0_is_zero;       /* plain LoRA: only dB's term exists */
    enum mil_status (*init)(struct method_init *io, struct mil_error *err);
};
/* NULL-terminated table in presentation order. */
const struct method *const *method_table(void);
/* MIL_USAGE with the nearest known name. */
enum mil_status method_find(const char *name, const struct method **out, struct mil_error *err);

#endif

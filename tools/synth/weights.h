/* SPDX-License-Identifier: Apache-2.0 */
/* weights.h - made-up weights with the spectra of trained ones, for benches and tests.
 *
 * A matrix of any shape, bf16, whose singular values look like those of a trained decoder's module
 * of that kind: a bulk with unequal input and output gains, a power-law head above it, a few weak
 * channels below it, and for q, k, o values that fall towards zero.  weights.c has the model and
 * how closely it follows SmolLM2.  The same bits for any number of threads; one machine and build.
 *
 * Shapes of the models that the benches speak of stand here, too. */
#ifndef MIL_TOOLS_SYNTH_WEIGHTS_H
#define MIL_TOOLS_SYNTH_WEIGHTS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/dtype.h"
#include "core/error.h"

enum synth_kind {
    SYNTH_Q,
    SYNTH_K,
    SYNTH_V,
    SYNTH_O,
    SYNTH_GATE,
    SYNTH_UP,
    SYNTH_DOWN,
    SYNTH_KINDS
};

struct synth_spec {
    enum synth_kind kind;
    int64_t m, n; /* out features, in features; both at least 1 */
    int layer;    /* 0: attention has the heaviest head, as trained models have */
    uint64_t seed;
};
/* out [m, n], row-major.  Uses all threads; inside parallel_for, the calling one.  Scratch: about
 * 128 (m + n) floats.  MIL_NOMEM. */
enum mil_status synth_weight(const struct synth_spec *spec, bf16 *out, struct mil_error *err);

/* "q", "k", "v", "o", "gate", "up", "down". */
const char *synth_kind_name(enum synth_kind kind);
bool synth_kind_from_name(const char *name, enum synth_kind *out);
/* The set, as bits 1 << kind, of a list such as "q,k,up"; MIL_USAGE names what is unknown. */
enum mil_status synth_kinds_parse(const char *list, unsigned *set, struct mil_error *err);
/* A kind for a bare shape: that of the module which has this proportion. */
enum synth_kind synth_kind_of_shape(int64_t m, int64_t n);

struct synth_model {
    const char *name; /* "llama2-7b" */
    int64_t width, ffn, layers, heads, kv_heads, vocab, positions;
    double rope_theta, norm_eps;
    int bos, eos;
    bool tied; /* no lm_head */
};
/* The table's entries, the last one with name == NULL. */
extern const struct synth_model synth_models[];
/* MIL_USAGE lists the known names. */
enum mil_status synth_model_find(const char *name, const struct synth_model **out,
                                 struct mil_error *err);
void synth_module_shape(const struct synth_model *model, enum synth_kind kind, int64_t *m,
                        int64_t *n);

#endif

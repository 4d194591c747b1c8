/* SPDX-License-Identifier: Apache-2.0 */
/* internal.h - what the files of src/adapt share among themselves. */
#ifndef MIL_ADAPT_INTERNAL_H
#define MIL_ADAPT_INTERNAL_H

#include "adapt/adapter.h"

/* ---- names ---- */

/* Index of flag (layer, module) in a selection, and the module's number in every random stream. */
static inline int64_t module_number(int64_t layer, enum module m) {
    return layer * MODULES + (int64_t)m;
}

/* ---- patterns (pattern.c) ---- */

/* A regular expression that must match the whole subject, as Python's re.fullmatch. */
struct pattern;
/* where: what names the pattern in messages ("target_modules"). MIL_USAGE with the compiler's
 * reason. */
enum mil_status pattern_new(const char *where, const char *text, struct pattern **out,
                            struct mil_error *err);
void pattern_free(struct pattern **p);
/* MIL_USAGE when the match exceeds its step limit (a pattern made to blow up). */
enum mil_status pattern_matches(const struct pattern *p, const char *subject, bool *out,
                                struct mil_error *err);
/* A key of rank_pattern or alpha_pattern: a pattern for the module's name, or for its end after a dot. */
enum mil_status pattern_new_key(const char *where, const char *text, struct pattern **out,
                                struct mil_error *err);
/* The same at once: does key `text` match the module's name? */
enum mil_status pattern_names(const char *where, const char *text, const char *module, bool *out,
                              struct mil_error *err);

/* ---- selection (select.c) ---- */

/* Set selected[module_number] for what target_modules, layers_to_transform and exclude_modules of the options leave of
 * the modules of `layers` layers, clear the rest.  strict: every name must match something (MIL_USAGE with the nearest
 * name). */
enum mil_status select_options(int64_t layers, const struct adapter_options *o, bool strict,
                               bool *selected, struct mil_error *err);

/* "<where>: 'target' matches no module; did you mean 'x'?" MIL_USAGE. */
enum mil_status select_no_match(const char *where, const char *target, bool regex, int64_t layers,
                                struct mil_error *err);

/* ---- options (options.c), shapes (shapes.c) ---- */

/* *out gets strings of its own; options_release frees them. */
enum mil_status options_copy(const struct adapter_options *o, struct adapter_options *out,
                             struct mil_error *err);
void options_release(struct adapter_options *o);
/* What resolved options adapt: *n deltas without arrays, in canonical order (mem_free).  MIL_USAGE: r above
 * min(m, n), naming module and limit; a pattern that matches nothing. */
enum mil_status adapter_shapes(const struct model_config *c, const struct adapter_options *o,
                               const struct method *method, struct delta **out, size_t *n,
                               struct mil_error *err);

/* Book what the options' whole tensors take (whole.h). */
enum mil_status adapter_plan_wholes(const struct model_config *c, const struct adapter_options *o,
                                    bool trainable, enum dtype act, struct plan *plan,
                                    struct mil_error *err);

/* ---- storage (adapter.c) ---- */

/* An adapter with copied options (their strings may be NULL) and n zeroed deltas. */
enum mil_status adapter_new(const struct adapter_options *o, size_t n, struct adapter **out,
                            struct mil_error *err);
/* The arrays of a delta of this form, [rows, cols] each; those the form lacks are left out. */
enum { DELTA_PARTS = 6 };
struct delta_part {
    const char *name; /* "A0", "B0", "delta_A", "delta_B", "lambda", "pruned", "magnitude" */
    size_t offset;    /* of its float * in struct delta */
    int64_t rows, cols;
    bool trained;
};
size_t delta_parts(const struct delta *d, struct delta_part out[DELTA_PARTS]);
static inline float **delta_part_data(struct delta *d, const struct delta_part *p) {
    return (float **)((char *)d + p->offset);
}
/* Give d its zeroed arrays; m, n, r, form and dora are set. */
enum mil_status delta_alloc(struct delta *d, struct mil_error *err);
static inline double delta_scale(const struct delta *d) {
    return d->alpha / (double)d->r;
}
/* Rank and alpha on disk: doubled in the pair form. */
static inline int64_t delta_saved_rank(const struct delta *d) {
    return d->form == DELTA_PAIR ? 2 * d->r : d->r;
}
static inline double delta_saved_alpha(const struct delta *d) {
    return d->form == DELTA_PAIR ? 2 * d->alpha : d->alpha;
}
/* The factors as they are saved: a [saved rank, n] = [A ; dA], b [m, saved rank] = [dB , B0]; SCALED:
 * b = dB diag(e). */
void delta_saved_a(const struct delta *d, float *a);
void delta_saved_b(const struct delta *d, float *b);

/* The shape of every delta and whole is that of base's module (MIL_MISMATCH). */
enum mil_status adapter_check_base(const struct adapter *a, const struct model_config *c,
                                   struct mil_error *err);

/* ---- magnitudes (dora.c) ---- */

/* d->magnitude at step 0: the norms of the rows of base's weight. */
enum mil_status dora_start(struct delta *d, const struct checkpoint *base, struct mil_error *err);

/* ---- low-rank sums (low_rank.c) ---- */

/* w [m, n] += scale * left [m, k] right [k, n], product and sum in f64, rounded once to f32. */
enum mil_status low_rank_add(float *w, int64_t m, int64_t n, int64_t k, double scale,
                             const float *left, const float *right, struct mil_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* bench_svd.h - what the parts of bench_svd share: options, one measured row, the peers. */
#ifndef MIL_BENCH_SVD_H
#define MIL_BENCH_SVD_H

#include <jansson.h>

#include "linalg/svd.h"
#include "synth/weights.h"

enum { MAX_SHAPES = 32, MAX_RANKS = 16, MAX_REPEAT = 32, ENDS = 3 };

struct options {
    struct shape {
        int64_t m, n;
    } shapes[MAX_SHAPES];
    size_t n_shapes;
    bool ends[ENDS]; /* by enum svd_end */
    int64_t ranks[MAX_RANKS];
    size_t n_ranks;
    const char *method, *torch, *model; /* NULL: not given */
    int kind;                           /* -1: by the shape */
    unsigned modules;                   /* of the model */
    int64_t layer, layers, seed, repeat, threads;
    bool reference, side_by_side, alone, json, help;
};
/* argv into o. MIL_USAGE. */
enum mil_status options_parse(int argc, char **argv, struct options *o, struct mil_error *err);
extern const char options_usage[];
const char *end_name(enum svd_end end);

/* The certificate of one or several decompositions: the worst of each. */
struct certificate {
    double residual, orthogonality, cut;
    const char *served_by; /* "several" where they differ */
    int64_t n;
};
void certificate_add(struct certificate *c, const struct svd_result *r);

/* ---- peers (peers.c): the same matrix by other means, timed in the same run ---- */

struct peers {
    double torch_seconds;   /* torch.linalg.svd of the f32 matrix, thin; 0: not asked */
    double torch_sigma_max; /* to see that it was the same matrix */
    double gesdd_seconds;   /* LAPACK's full decomposition in f64; 0: not asked */
    struct svd_result all;  /* of it: the asked triplets and their neighbours */
    int64_t *index;         /* [all.rank], ascending */
};
enum mil_status peers_run(const struct options *o, const struct svd_matrix *w, struct peers *p,
                          struct mil_error *err);
void peers_release(struct peers *p);
/* r against the reference: largest error of a singular value and the smallest gap to a value that
 * is not in r, relative to sigma_max (gap 0: there is none outside); sine of the angle between the
 * spaces (Frobenius norm, the worse of both sides). */
struct difference {
    double sigma, sine, gap;
};
enum mil_status peers_compare(const struct peers *p, const struct svd_request *q,
                              const struct svd_result *r, struct difference *d,
                              struct mil_error *err);

/* ---- a whole model (model.c) ---- */

/* All matrices of o->model, made and decomposed; prints. */
enum mil_status model_run(const struct options *o, json_t *rows, struct mil_error *err);

/* ---- measuring (svd.c) ---- */

struct batch {
    struct svd_matrix w[256];
    struct svd_result r[256];
    struct mil_error err[256];
    enum mil_status status[256];
    struct svd_request q;
    int64_t n;
    double seconds, cpu; /* wall clock and processor seconds of the whole batch */
};
/* Make n matrices of consecutive layers from spec->layer on. */
enum mil_status batch_make(struct batch *b, const struct synth_spec *spec, int64_t n,
                           struct mil_error *err);
/* Decompose them: one alone with all threads, several one a thread.  The first failure. */
enum mil_status batch_decompose(struct batch *b, struct mil_error *err);
void batch_release_results(struct batch *b);
void batch_release(struct batch *b);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* ops.h - what a backend implements; private to src/backend.
 *
 * The operations mirror backend.h, with shapes and types already checked and empty tensors already
 * sifted out.  A backend's own struct begins with struct backend, its stream with struct stream. */
#ifndef MIL_BACKEND_OPS_H
#define MIL_BACKEND_OPS_H

#include "backend/backend.h"

struct backend_ops {
    void (*close)(struct backend *b);
    const char *(*describe)(const struct backend *b);
    void *(*alloc)(struct backend *b, enum mem_category category, size_t bytes);
    void (*release)(struct backend *b, void *p);
    void (*upload)(struct backend *b, void *dst, const void *host, size_t bytes);
    void (*download)(struct backend *b, void *host, const void *src, size_t bytes);
    void (*sync)(struct stream *s);

    void (*zero)(struct stream *s, struct tensor t);
    /* y = [y +] scale x, converting: be_copy, be_scale_copy, be_axpy. */
    void (*map)(struct stream *s, struct tensor y, double scale, struct tensor x, bool accumulate);
    /* y[t, :] += x[0, :]. */
    void (*add_row)(struct stream *s, struct tensor y, struct tensor x);
    void (*gather_rows)(struct stream *s, struct tensor dst, struct tensor src,
                        const int32_t *index);
    void (*scatter_rows)(struct stream *s, struct tensor dst, struct tensor src,
                         const int32_t *index, bool accumulate);
    /* At least one sum, none empty; terms without an inner dimension are sifted out; d and e without data: none. */
    void (*products)(struct stream *s, const struct product_sum *sums, int n);
    void (*rmsnorm_fwd)(struct stream *s, struct tensor y, struct tensor rstd, struct tensor x,
                        struct tensor w, double eps);
    void (*rmsnorm_bwd)(struct stream *s, struct tensor dx, struct tensor dw, struct tensor dy,
                        struct tensor x, struct tensor w, struct tensor rstd);
    void (*rope)(struct stream *s, struct tensor x, struct tensor table, const int32_t *position,
                 int64_t head_dim, bool inverse);
    void (*attention_fwd)(struct stream *s, struct tensor o, struct tensor lse, struct tensor q,
                          struct tensor k, struct tensor v, const struct attn_seq *seqs,
                          int64_t n_seqs, const struct attn_shape *shape);
    void (*attention_bwd)(struct stream *s, struct tensor dq, struct tensor dk, struct tensor dv,
                          struct tensor d_o, struct tensor o, struct tensor lse, struct tensor q,
                          struct tensor k, struct tensor v, const struct attn_seq *seqs,
                          int64_t n_seqs, const struct attn_shape *shape);
    void (*swiglu_fwd)(struct stream *s, struct tensor h, struct tensor g, struct tensor u);
    void (*swiglu_bwd)(struct stream *s, struct tensor dg, struct tensor du, struct tensor dh,
                       struct tensor g, struct tensor u);
    void (*bias_grad)(struct stream *s, struct tensor db, struct tensor dy);
    void (*scale_cols)(struct stream *s, struct tensor dst, struct tensor src, struct tensor f);
    void (*col_dots)(struct stream *s, struct tensor out, double scale, struct tensor a,
                     struct tensor b);
    void (*factor_bwd)(struct stream *s, const struct factor_grad *g);
    void (*norm_factor)(struct stream *s, const struct norm_factor *n);
    void (*cross_entropy)(struct stream *s, struct tensor loss, struct tensor dlogits,
                          struct tensor logits, const int32_t *label, double scale);
    void (*dropout_mask)(struct stream *s, struct tensor mask, int64_t cols,
                         const struct dropout_key *key, const uint64_t *row_key);
    void (*dropout_apply)(struct stream *s, struct tensor kept, struct tensor change,
                          struct tensor x, struct tensor mask, double p);
    void (*adamw)(struct stream *s, struct tensor p, struct tensor m, struct tensor v,
                  struct tensor g, struct tensor base, struct tensor copy,
                  const struct adamw *hyper);
    void (*importance)(struct stream *s, struct tensor mean, struct tensor spread, struct tensor p,
                       struct tensor base, struct tensor g, const struct importance *hyper);
    double (*sum_squares)(struct stream *s, struct tensor t);
};

/* What was queued since the last sync and failed first: status and text. */
struct stream {
    struct backend *backend;
    enum mil_status status;
    struct mil_error err;
};

struct backend {
    const struct backend_ops *ops;
    const char *name;
    enum dtype act, real;
    bool shares_host;
    bool (*takes_blocks)(enum dtype t); /* NULL: none */
    struct stream *stream;
};

/* Record the first failure of a stream; err holds its text. */
void stream_fail(struct stream *s, enum mil_status status, const struct mil_error *err);

/* The implementations that backend_open knows, in open.c. */
enum mil_status backend_cpu_open(enum dtype compute, struct backend **out, struct mil_error *err);
enum mil_status backend_cuda_open(enum dtype compute, struct backend **out, struct mil_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* backend.h - the operation set that model code is written in: tensors in a device's memory, and
 * operations queued on a stream.
 *
 * A backend is a table of functions (struct backend_ops); cpu.c is the first, a device backend is
 * one more file, an absent one a stub whose backend_open returns MIL_UNSUPPORTED.  Two element
 * types occur in a computation: `act`, the type of product operands (the compute_dtype: BF16 or
 * F32), and `real`, the type of everything summed up (norms, softmax, loss, residual stream,
 * adapters, optimiser: F32).  F64 as both is the exact instance that tests take finite differences
 * in.
 *
 * Operations return nothing: shapes and types are checked here at the boundary (REQUIRE: our own
 * code is wrong if they do not fit), and a failing vendor call sticks to the stream until
 * stream_sync reports it. Outputs never alias inputs unless the operation says so.  Notation:
 * docs/notation.md. */
#ifndef MIL_BACKEND_BACKEND_H
#define MIL_BACKEND_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/dtype.h"
#include "core/error.h"

/* A row-major matrix [rows, cols] with ld elements from row to row, in memory of the backend.  data
 * may be NULL in sizing mode.  Passed by value; owns nothing. */
struct tensor {
    void *data;
    enum dtype dtype;
    int64_t rows, cols, ld;
};
static inline struct tensor tensor_of(void *data, enum dtype dtype, int64_t rows, int64_t cols) {
    return (struct tensor){data, dtype, rows, cols, cols};
}
/* Rows [begin, begin + n) / columns [begin, begin + n) of t, as a view. */
struct tensor tensor_rows(struct tensor t, int64_t begin, int64_t n);
struct tensor tensor_cols(struct tensor t, int64_t begin, int64_t n);
static inline bool tensor_present(struct tensor t) {
    return t.data != NULL;
}

/* ---- backend, memory, streams ---- */

struct backend;
struct stream;
/* name: "cpu" (others: MIL_UNSUPPORTED naming what is missing).  compute: DT_BF16, DT_F32, DT_F64.
 */
enum mil_status backend_open(const char *name, enum dtype compute, struct backend **out,
                             struct mil_error *err);
void backend_free(struct backend **b);
const char *backend_name(const struct backend *b);
enum dtype backend_act(const struct backend *b);  /* the compute dtype */
enum dtype backend_real(const struct backend *b); /* F32, or F64 where compute is F64 */
/* One line for the user: instruction set found and used, product library, threads. Static storage.
 */
const char *backend_describe(const struct backend *b);

/* Memory of the device.  On the CPU this is mem_alloc, and mapped weights may be used in place. */
void *backend_alloc(struct backend *b, enum mem_category category, size_t bytes);
void backend_release(struct backend *b, void *p);
/* true if host pointers can be operands (the CPU): then weights are not copied. */
bool backend_shares_host(const struct backend *b);
/* true if a matrix of this block type can be the second operand of a product, and a source of be_gather_rows: its
 * elements count as rounded to act.  Such a tensor has whole blocks a row, no gaps, and no views. */
bool backend_takes_blocks(const struct backend *b, enum dtype t);
void backend_upload(struct backend *b, void *dst, const void *host, size_t bytes);
void backend_download(struct backend *b, void *host, const void *src, size_t bytes);

struct stream *backend_stream(struct backend *b); /* the default stream, owned by the backend */
/* Wait for all that was queued; the first failure since the last sync, if any (MIL_DEVICE). */
enum mil_status stream_sync(struct stream *s, struct mil_error *err);

/* A [rows, cols] tensor taken from an arena of this backend's memory. */
struct tensor tensor_take(struct arena *a, enum dtype dtype, int64_t rows, int64_t cols,
                          const char *fmt, ...) MIL_PRINTF(5, 6);

/* ---- movement ---- */

void be_zero(struct stream *s, struct tensor t);
/* dst = src, converting between plain float types (round to nearest even). Same shape. */
void be_copy(struct stream *s, struct tensor dst, struct tensor src);
/* dst = scale * src, converting. */
void be_scale_copy(struct stream *s, struct tensor dst, struct tensor src, double scale);
/* y += scale * x, converting x. */
void be_axpy(struct stream *s, struct tensor y, double scale, struct tensor x);
/* dst = src with column j times f[j]; src: act or real; dst: act or real, may be src; f: real [1, cols]. */
void be_scale_cols(struct stream *s, struct tensor dst, struct tensor src, struct tensor f);
/* out[j] += scale * sum over rows of a[i, j] b[i, j], in a fixed order; a, b: act or real; out: real [1, cols]. */
void be_col_dots(struct stream *s, struct tensor out, double scale, struct tensor a,
                 struct tensor b);
/* Back through y = f * u + d + e, f [1, cols] a factor for each column: magnitude's gradient dm += w * sum over rows of dy
 * (y - d - e), unless dm has no data, and dy *= f in place.  dm, f, w: real [1, cols]; dy: act; y, and d and e unless
 * they have no data: act or real. */
struct factor_grad {
    struct tensor dm, dy, y, d, e, f, w;
};
void be_factor_bwd(struct stream *s, const struct factor_grad *g);
/* f[j] = magnitude[j] / sqrt(squares[j] + 2 sum over i of v[i, j] b[j, i]), 1 where the root is 0, and w[j] = 1 /
 * magnitude[j] (0 where that is 0).  v: real [k, cols]; b: act [cols, k]; the others real [1, cols]. */
struct norm_factor {
    struct tensor f, w, magnitude, squares, v, b;
};
void be_norm_factor(struct stream *s, const struct norm_factor *n);
/* dst[i, :] = src[index[i], :], converting (src may be in blocks); index: dst.rows host integers in
 * [0, src.rows). */
void be_gather_rows(struct stream *s, struct tensor dst, struct tensor src, const int32_t *index);
/* dst[index[i], :] = src[i, :], converting; indices are distinct. */
void be_scatter_rows(struct stream *s, struct tensor dst, struct tensor src, const int32_t *index);
/* dst[index[i], :] += src[i, :] in order of i, converting; indices may repeat. dst is real. */
void be_scatter_add_rows(struct stream *s, struct tensor dst, struct tensor src,
                         const int32_t *index);

/* ---- products ---- */

enum { MATMUL_TRANS_A = 1, MATMUL_TRANS_B = 2 };
/* op(A) op(B) as a term of a sum.  A, B: act.  With a mask (be_dropout_mask's, for the elements of the result) the
 * term's elements are multiplied by m / (1 - p), with `change` by m / (1 - p) - 1. */
struct product_term {
    unsigned flags;
    struct tensor a, b;
    struct tensor mask; /* U8, or no data */
    double p;
    bool change;
};
enum { PRODUCT_TERMS = 12 };
struct product_terms {
    struct product_term t[PRODUCT_TERMS];
    int n;
};
/* Append op(A) op(B); returns the term for a mask to be set. */
struct product_term *product_add(struct product_terms *terms, unsigned flags, struct tensor a,
                                 struct tensor b);
/* C = f * alpha (sum of the terms) + beta D + e, summed in f32 (f64) and rounded once.  C: act or real; D: act or
 * real, of C's shape, may be C itself, or no data; e: act or real [1, cols], or no data; f: real [1, cols], a factor
 * for each column, or no data; no terms: the sum is 0. */
struct product_sum {
    struct tensor c;
    double alpha, beta;
    struct product_terms terms;
    struct tensor d, e, f;
};
enum { PRODUCT_SUMS = 3 };
/* n <= PRODUCT_SUMS sums side by side; none reads what another writes.  The same row of C has the same bits whatever the
 * number of rows, wherever the library allows it; docs/numerics.md says where it does not. */
void be_products(struct stream *s, const struct product_sum *sums, int n);
/* One sum. */
void be_product(struct stream *s, struct tensor c, double alpha, const struct product_terms *terms,
                double beta, struct tensor d, struct tensor e);
/* C = alpha op(A) op(B) + beta C, by be_product. */
void be_matmul(struct stream *s, unsigned flags, double alpha, struct tensor a, struct tensor b,
               double beta, struct tensor c);

/* ---- decoder operations ---- */

/* y = x * rstd * w, rstd = 1 / sqrt(mean(x^2) + eps), per row.  x: real [T, C]; w: real [1, C]; y:
 * act; rstd: real [T, 1]. */
void be_rmsnorm_fwd(struct stream *s, struct tensor y, struct tensor rstd, struct tensor x,
                    struct tensor w, double eps);
/* dx += d loss / d x; dw += d loss / d w unless dw has no data.  dy: act or real; dx: real; dw:
 * real [1, C]. */
void be_rmsnorm_bwd(struct stream *s, struct tensor dx, struct tensor dw, struct tensor dy,
                    struct tensor x, struct tensor w, struct tensor rstd);

/* Rotary embedding in place on x: act [T, H * D], halves layout (x_i pairs with x_{i + D/2}).
 * table: real [positions, D]: cos in the first half of a row, sin in the second.  position: host,
 * one a row. inverse: rotate back (the backward pass). */
void be_rope(struct stream *s, struct tensor x, struct tensor table, const int32_t *position,
             int64_t head_dim, bool inverse);

/* One sequence of an attention call: queries are rows [q_row, q_row + n_q) of q, keys and values
 * rows [k_row, k_row + n_kv) of k and v.  The i-th query sees keys j <= n_kv - n_q + i (causal),
 * and of these the last `window` where window > 0. */
struct attn_seq {
    int64_t q_row, n_q, k_row, n_kv;
};
enum { ATTN_MAX_HEAD_DIM = 256 };
struct attn_shape {
    int64_t heads, kv_heads, head_dim, window; /* head_dim <= ATTN_MAX_HEAD_DIM */
    double scale;                              /* of the scores, 1 / sqrt(D) */
};
/* o = softmax(scale q k^T) v per head, grouped queries.  q, o: act [T, H D]; k, v: act [*, Hkv D];
 * lse: real [T, H], the log of the softmax's denominator, for the backward pass (no data: not
 * wanted). */
void be_attention_fwd(struct stream *s, struct tensor o, struct tensor lse, struct tensor q,
                      struct tensor k, struct tensor v, const struct attn_seq *seqs, int64_t n_seqs,
                      const struct attn_shape *shape);
/* dq, dk, dv are written (not summed into).  d_o is the gradient of o. Types: act. */
void be_attention_bwd(struct stream *s, struct tensor dq, struct tensor dk, struct tensor dv,
                      struct tensor d_o, struct tensor o, struct tensor lse, struct tensor q,
                      struct tensor k, struct tensor v, const struct attn_seq *seqs, int64_t n_seqs,
                      const struct attn_shape *shape);
/* Bytes of scratch that attention takes from the backend's own call arena for these sizes are kept
 * inside the backend and counted in MEM_SCRATCH. */

/* h = silu(g) * u, all act [T, F].  Backward writes dg and du; they may be g and u, du also dh. */
void be_swiglu_fwd(struct stream *s, struct tensor h, struct tensor g, struct tensor u);
void be_swiglu_bwd(struct stream *s, struct tensor dg, struct tensor du, struct tensor dh,
                   struct tensor g, struct tensor u);

/* y[t, :] += b; b: act or real [1, n].  db += sum over rows of dy; db: real. */
void be_add_bias(struct stream *s, struct tensor y, struct tensor b);
void be_bias_grad(struct stream *s, struct tensor db, struct tensor dy);

/* Per row: loss = logsumexp(logits) - logits[label]; dlogits = scale * (softmax(logits) -
 * onehot(label)). logits: real [n, V]; loss: real [n, 1]; dlogits: act [n, V], or no data when only
 * the loss is wanted. label: host, n integers in [0, V). */
void be_cross_entropy(struct stream *s, struct tensor loss, struct tensor dlogits,
                      struct tensor logits, const int32_t *label, double scale);

/* Inverted dropout with recomputable masks.  Element e = row_key[t] * cols + c, (t, c) of a tensor, is dropped
 * where word e % 4 of rng_words(seed, stream, step, e / 4) is below ceil(p 2^24) in its upper 24 bits.  row_key:
 * host, one a row: it identifies the token independently of how micro-batches are cut. */
struct dropout_key {
    uint64_t seed;
    uint32_t stream, step;
    double p;
};
/* Bit c of row t is set where element (t, c) is kept.  mask: U8 [T, dropout_mask_bytes(cols)], the lowest bit of
 * a byte first; bits past cols are 0. */
static inline int64_t dropout_mask_bytes(int64_t cols) {
    return (cols + 63) / 64 * 8;
}
void be_dropout_mask(struct stream *s, struct tensor mask, int64_t cols,
                     const struct dropout_key *key, const uint64_t *row_key);
/* kept = x m / (1 - p) and, unless it has no data, change = kept - x (before it is rounded), from one
 * read of x.  All act or real; kept or change may be x.  A dropped infinity is 0. */
void be_dropout_apply(struct stream *s, struct tensor kept, struct tensor change, struct tensor x,
                      struct tensor mask, double p);

/* ---- optimiser ---- */

/* AdamW with decoupled decay: g' = grad_scale * g; m, v updated with g'; then
 *   p -= lr * ( (m / bias1) / (sqrt(v / bias2) + eps) + weight_decay * (p + base) )
 * where base (may lack data) is a frozen part of the parameter: the parameter proper is base + p.
 * All real, same shape; bias1 = 1 - beta1^t, bias2 = 1 - beta2^t.  copy (may lack data): act, becomes
 * the new p rounded. */
struct adamw {
    double lr, beta1, beta2, eps, weight_decay, bias1, bias2, grad_scale;
};
void be_adamw(struct stream *s, struct tensor p, struct tensor m, struct tensor v, struct tensor g,
              struct tensor base, struct tensor copy, const struct adamw *hyper);
/* AdaLoRA's importance of each element of a parameter base + p (base may lack data) with gradient g, smoothed:
 *   i = |(base + p) grad_scale g|,  mean = beta1 mean + (1 - beta1) i,  spread = beta2 spread + (1 - beta2) |i - mean|
 * with the new mean.  All real, same shape. */
struct importance {
    double beta1, beta2, grad_scale;
};
void be_importance(struct stream *s, struct tensor mean, struct tensor spread, struct tensor p,
                   struct tensor base, struct tensor g, const struct importance *hyper);
/* Sum of squares in double, in a fixed order; waits for the stream. NaN and infinity propagate. */
double be_sum_squares(struct stream *s, struct tensor t);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.h - the CPU backend's own state, shared by the cpu*.c files and nobody else.
 *
 * The stream is synchronous: an operation is done when its call returns. Loops are cut by
 * core/threads.h into chunks that depend on shapes only, so every result here has the same bits on
 * any number of threads. */
#ifndef MIL_BACKEND_CPU_H
#define MIL_BACKEND_CPU_H

#include "backend/ops.h"
#include "backend/product.h"
#include "kern/kern.h"

struct cpu_backend {
    struct backend base;
    struct stream stream;
    struct kern kern;
    struct product product;
    bool by_library; /* products by oneDNN; else by our kernels */
    /* Call scratch: grows to the largest need seen, freed with the backend. */
    void *scratch;
    size_t scratch_bytes;
    char text[320]; /* backend_describe */
};

static inline struct cpu_backend *cpu_of(struct stream *s) {
    return (struct cpu_backend *)s->backend;
}
/* Address of element (row, col). */
static inline void *tensor_at(struct tensor t, int64_t row, int64_t col) {
    return (char *)t.data + (row * t.ld + col) * (int64_t)dtype_size(t.dtype);
}

/* bytes of call scratch, contents undefined, until the next call; NULL marks the stream failed. */
void *cpu_scratch(struct stream *s, size_t bytes);

/* Items to a chunk of a loop over `items` of `elements` each.  Waking a thread takes some 8 us where waiting
 * threads sleep: below as many elements as take twice that (by what an element costs: LIGHT 0.1 ns and more,
 * HEAVY 0.4 ns) one chunk is all, and the loop runs on the caller; above, an eighth of it is a chunk.  By
 * shapes alone. */
enum cpu_work { CPU_LIGHT = 131072, CPU_HEAVY = 32768 };
static inline int64_t cpu_grain(int64_t items, int64_t elements, enum cpu_work work) {
    if (items * elements < (int64_t)work) return items;
    return elements < work / 8 ? work / 8 / elements : 1;
}

/* cpu_elementwise.c */
void cpu_zero(struct stream *s, struct tensor t);
void cpu_map(struct stream *s, struct tensor y, double scale, struct tensor x, bool accumulate);
void cpu_add_row(struct stream *s, struct tensor y, struct tensor x);
void cpu_swiglu_fwd(struct stream *s, struct tensor h, struct tensor g, struct tensor u);
void cpu_swiglu_bwd(struct stream *s, struct tensor dg, struct tensor du, struct tensor dh,
                    struct tensor g, struct tensor u);
void cpu_dropout_mask(struct stream *s, struct tensor mask, int64_t cols,
                      const struct dropout_key *key, const uint64_t *row_key);
void cpu_dropout_apply(struct stream *s, struct tensor kept, struct tensor change, struct tensor x,
                       struct tensor mask, double p);
void cpu_importance(struct stream *s, struct tensor mean, struct tensor spread, struct tensor p,
                    struct tensor base, struct tensor g, const struct importance *hyper);
void cpu_adamw(struct stream *s, struct tensor p, struct tensor m, struct tensor v, struct tensor g,
               struct tensor base, struct tensor copy, const struct adamw *hyper);
double cpu_sum_squares(struct stream *s, struct tensor t);

/* cpu_blocks.c */
void cpu_gather_blocks(struct stream *s, struct tensor dst, struct tensor src,
                       const int32_t *index);

/* cpu_rows.c */
void cpu_gather_rows(struct stream *s, struct tensor dst, struct tensor src, const int32_t *index);
void cpu_scatter_rows(struct stream *s, struct tensor dst, struct tensor src, const int32_t *index,
                      bool accumulate);
void cpu_rmsnorm_fwd(struct stream *s, struct tensor y, struct tensor rstd, struct tensor x,
                     struct tensor w, double eps);
void cpu_rmsnorm_bwd(struct stream *s, struct tensor dx, struct tensor dw, struct tensor dy,
                     struct tensor x, struct tensor w, struct tensor rstd);
void cpu_rope(struct stream *s, struct tensor x, struct tensor table, const int32_t *position,
              int64_t head_dim, bool inverse);
void cpu_bias_grad(struct stream *s, struct tensor db, struct tensor dy);
void cpu_scale_cols(struct stream *s, struct tensor dst, struct tensor src, struct tensor f);
void cpu_col_dots(struct stream *s, struct tensor out, double scale, struct tensor a,
                  struct tensor b);
void cpu_factor_bwd(struct stream *s, const struct factor_grad *g);
void cpu_norm_factor(struct stream *s, const struct norm_factor *n);
void cpu_cross_entropy(struct stream *s, struct tensor loss, struct tensor dlogits,
                       struct tensor logits, const int32_t *label, double scale);

/* cpu_attention.c */
void cpu_attention_fwd(struct stream *s, struct tensor o, struct tensor lse, struct tensor q,
                       struct tensor k, struct tensor v, const struct attn_seq *seqs,
                       int64_t n_seqs, const struct attn_shape *shape);
void cpu_attention_bwd(struct stream *s, struct tensor dq, struct tensor dk, struct tensor dv,
                       struct tensor d_o, struct tensor o, struct tensor lse, struct tensor q,
                       struct tensor k, struct tensor v, const struct attn_seq *seqs,
                       int64_t n_seqs, const struct attn_shape *shape);

/* cpu_product.c */
void cpu_products(struct stream *s, const struct product_sum *sums, int n);
/* The same by our own kernels, and (cpu_library.c) by oneDNN. */
void cpu_sums_own(struct stream *s, const struct product_sum *sums, int n);
void cpu_sum_by_library(struct stream *s, const struct product_sum *sum);

#endif

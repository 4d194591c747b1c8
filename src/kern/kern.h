/* SPDX-License-Identifier: Apache-2.0 */
/* kern.h - computation on raw pointers: one table of kernels per compute type.
 *
 * A kernel trusts its arguments (shapes, types and aliasing were checked by whoever calls), returns
 * nothing, allocates nothing and starts no threads.  Each takes its arguments and a range [begin,
 * end) of the axis that its comment names (rows, elements, columns, queries, keys): a caller cuts
 * that axis into chunks as it likes and runs them on any threads; except where a comment says
 * otherwise, an output element has the same bits whatever the cut.
 *
 * kern_table_init fills the table with the reference kernels (kern/ref: plain C that reads like the
 * equations, and defines the meaning), then lets each instruction set up to the level in use
 * overwrite what it does better (kern/x86).  `act` is the type of activations (F32, BF16, F64),
 * `real` the type of sums (F32, or F64 where act is F64); a void pointer whose comment says act or
 * real points to that.  Equations and error bounds: docs/numerics.md. */
#ifndef MIL_KERN_KERN_H
#define MIL_KERN_KERN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/cpu.h"
#include "core/dtype.h"

/* Elements: y[i] = (accumulate ? y[i] : 0) + scale * x[i], computed in real; any plain float types.
 * Without accumulate and with scale 1 it is a conversion with one rounding. x == y is allowed where
 * the types are equal. */
struct kern_map {
    void *y;
    const void *x;
    enum dtype y_type, x_type;
    double scale;
    bool accumulate;
};

/* Bits of one row of dropout's mask, groups of 64 columns: bit c (lowest of a byte first) is set, and element
 * e = first + c is kept, where word e % 4 of rng_words(seed, stream, step, e / 4) is >= threshold in its upper 24
 * bits; bits from cols to the end of the last group are 0. */
struct kern_dropout_mask {
    uint8_t *mask; /* 8 bytes a group */
    int64_t cols;
    uint64_t seed, first;
    uint32_t stream, step, threshold;
};

/* Elements of one row: v = bit ? x * inv_keep : 0; kept = v, change = v - x unless it is NULL.  The
 * range begins on a multiple of 64.  x, kept, change: act or real; kept or change may be x where the
 * types are equal. */
struct kern_dropout_apply {
    void *kept, *change;
    const void *x;
    const uint8_t *mask; /* that of element 0 */
    enum dtype kept_type, change_type, x_type;
    double inv_keep;
};

/* Rows of x real [T, C].  Forward: rstd = 1 / sqrt(mean(x^2) + eps), y = x * rstd * w.  Backward:
 *   dx += rstd * (w dy - x rstd^2 mean(w dy x)).
 * Columns (rmsnorm_bwd_w): dw[c] += sum over rows of dy x rstd. */
struct kern_rmsnorm {
    const void *x, *w; /* real */
    void *y;           /* act */
    void *rstd;        /* real, ld_rstd from row to row; the backward passes read it */
    const void *dy;    /* dy_type: act or real */
    void *dx, *dw;     /* real */
    enum dtype dy_type;
    int64_t rows, cols, ldx, ldy, ld_rstd, ld_dy, ld_dx;
    double eps;
};

/* Rows of x act [T, heads * head_dim], in place: (x_i, x_{i + D/2}) turned by the angle whose
 * cosine and sine stand in table[position[t]][i] and table[position[t]][D/2 + i]; backwards with
 * `inverse`. */
struct kern_rope {
    void *x;           /* act */
    const void *table; /* real */
    const int32_t *position;
    int64_t ldx, ld_table, heads, head_dim;
    bool inverse;
};

/* One key head of one sequence and the `group` query heads that share it.  Query i (0 .. n_q - 1)
 * sits at position p = n_kv - n_q + i and sees keys max(0, p - window + 1) .. p (all up to p where
 * window == 0).  Pointers are those of the sequence's first row and of the first head's first
 * column; the heads of the group lie side by side.  scale > 0, head_dim <= KERN_MAX_HEAD_DIM.
 *
 * attention_fwd, queries:    o_i = sum_j P_ij v_j, P_ij = exp(scale q_i k_j - lse_i); lse may be
 *                            NULL.  Keys are summed in segments of KERN_ATTENTION_SEGMENT, each
 *                            with a maximum of its own, which are then joined in order:
 * attention_part, segments:  what a segment gives to every query of all kv_heads key heads, which lie
 *                            side by side, into `parts`: real [segment][n_q][kv_heads * group]
 *                            [kern_attention_part_row];  n_q * group <= KERN_ATTENTION_FEW;
 * attention_join, queries:   o and lse of all heads from `parts`, with the bits that attention_fwd
 *                            gives.
 *
 * attention_bwd, parts of part_queries queries:
 *                            dq_i = scale sum_j dS_ij k_j, dS_ij = P_ij (d_o_i . v_j - d_o_i . o_i);
 *                            sum_i dS_ij q_i and sum_i P_ij d_o_i over the part's queries of all
 *                            heads of the group into `parts`: real [part]
 *                            [kern_attention_sums], for the keys that these queries see
 * attention_bwd_kv, keys:    dk_j = scale times the first, dv_j = the second sum, parts added in
 *                            order
 * The variants compute in bf16 where act is bf16 and the processor multiplies it: P and dS are then
 * rounded to bf16 where they enter a product (not in the sums of P). */
struct kern_attention {
    const void *q, *k, *v, *d_o; /* act */
    void *o, *dq, *dk, *dv;      /* act */
    void *lse;                   /* real */
    void *parts;                 /* real, aligned to 64 bytes */
    int64_t ldq, ldk, ldv, ldo, ld_do, ld_lse, ld_dq, ld_dk, ld_dv;
    int64_t n_q, n_kv, head_dim, window, group, kv_heads, part_queries;
    double scale;
};
enum {
    KERN_MAX_HEAD_DIM = 256,
    KERN_ATTENTION_SEGMENT = 256, /* keys */
    KERN_ATTENTION_FEW = 96,      /* rows of queries that attention_part takes */
    KERN_ATTENTION_LANES = 64,    /* of a tile: keys, or columns of a head */
    KERN_ATTENTION_STATE = 16     /* at the head of a row of attention_part: maximum, sum, unused */
};
static inline int64_t kern_attention_lanes(int64_t n) {
    return (n + KERN_ATTENTION_LANES - 1) / KERN_ATTENTION_LANES * KERN_ATTENTION_LANES;
}
static inline int64_t kern_attention_part_row(int64_t head_dim) {
    return KERN_ATTENTION_STATE + kern_attention_lanes(head_dim);
}
/* The sums of a part: [dk, dv][64 columns of the head, next 64 ..][n_kv, up to 64][64]. */
static inline int64_t kern_attention_sums(int64_t n_kv, int64_t head_dim) {
    return 2 * kern_attention_lanes(n_kv) * kern_attention_lanes(head_dim);
}
/* The keys that queries [begin, end) see between them: [*first, *past). */
static inline void kern_attention_seen(const struct kern_attention *a, int64_t begin, int64_t end,
                                       int64_t *first, int64_t *past) {
    int64_t offset = a->n_kv - a->n_q, low = offset + begin + 1 - a->window;
    *past = offset + end;
    *first = a->window > 0 && low > 0 ? low : 0;
}
/* How many queries a call of attention_fwd takes at its best: more keep keys and values packed for longer. */
static inline int64_t kern_attention_queries(int64_t group) {
    int64_t n = 648 / group / 24 * 24;
    return n > 24 ? n : 24;
}

/* Elements: h = silu(g) u; dg = dh u silu'(g), du = dh silu(g).  dg may be g, du may be u or
 * dh.  All act. */
struct kern_swiglu {
    void *h, *dg, *du;
    const void *g, *u, *dh;
};

/* Columns: db[c] += sum over rows of dy[t, c].  db: real; dy_type: act or real. */
struct kern_bias_grad {
    void *db;
    const void *dy;
    enum dtype dy_type;
    int64_t rows, ld_dy;
};

/* Elements of one row: y = x f.  y, x: act or real; y may be x where the types are equal; f: real. */
struct kern_times {
    void *y;
    const void *x, *f;
    enum dtype y_type, x_type;
};
/* Columns: out[c] += scale sum over rows of a[t, c] b[t, c].  out: real; a, b: act or real. */
struct kern_col_dots {
    void *out;
    const void *a, *b;
    enum dtype a_type, b_type;
    int64_t rows, ld_a, ld_b;
    double scale;
};

/* Columns: out[c] += w[c] sum over rows of g[t, c] (y[t, c] - d[t, c] - e[c]), unless out is NULL; then g[t, c] *= f[c].
 * out, w, f: real; g: act; y, and d and e unless they are NULL: act or real. */
struct kern_factor_bwd {
    void *out, *g;
    const void *y, *d, *e, *f, *w;
    enum dtype y_type, d_type, e_type;
    int64_t rows, ld_g, ld_y, ld_d;
};
/* Columns j: f[j] = magnitude[j] / sqrt(squares[j] + 2 sum over i < k of v[i, j] b[j, i]), 1 where the root is 0; w[j] =
 * 1 / magnitude[j], 0 where that is 0.  v: real [k, n], b: act [n, k], the others real. */
struct kern_norm_factor {
    void *f, *w;
    const void *magnitude, *squares, *v, *b;
    int64_t k, ld_v, ld_b;
};

/* Rows: loss = logsumexp(logits) - logits[label]; dlogits = scale (softmax - onehot), unless
 * NULL. */
struct kern_cross_entropy {
    const void *logits; /* real */
    void *loss;         /* real */
    void *dlogits;      /* act */
    const int32_t *label;
    int64_t cols, ld_logits, ld_loss, ld_dlogits;
    double scale;
};

/* Elements: see be_adamw.  real; base may be NULL, as may copy: the new p rounded to act. */
struct kern_adamw {
    void *p, *m, *v;
    void *copy; /* act */
    const void *g, *base;
    double lr, beta1, beta2, eps, weight_decay, bias1, bias2, grad_scale;
};

/* Elements: see be_importance.  real; base may be NULL. */
struct kern_importance {
    void *mean, *spread;
    const void *p, *base, *g;
    double beta1, beta2, grad_scale;
};

/* Elements: *sum = sum of squares of x[begin, end) in double.  The order of summation depends on
 * end - begin only: cut at fixed places to get fixed bits. */
struct kern_sum_squares {
    const void *x;
    enum dtype x_type; /* any plain float */
    double *sum;
};

/* One product of a sum of products: op(A) [m, k] times op(B) [k, n]; op transposes.  With a mask (a bit
 * for each element of C, rows ld_mask bytes apart, the lowest bit of a byte first) the product's elements are
 * multiplied by `kept` where the bit is set and by `dropped` elsewhere (an exact 0 where that is 0).  B in blocks
 * stands for its elements rounded to act. */
struct kern_term {
    const void *a, *b; /* act, or b in blocks */
    bool trans_a, trans_b;
    enum dtype b_type;   /* one that kern_takes_blocks accepts: rows of whole blocks; else act */
    int64_t k, lda, ldb; /* in elements */
    const uint8_t *mask;
    int64_t ld_mask;
    double kept, dropped;
};
static inline bool kern_takes_blocks(enum dtype t) {
    return t == DT_Q4_0 || t == DT_Q4_1 || t == DT_Q5_0 || t == DT_Q5_1 || t == DT_Q8_0 ||
           t == DT_Q4_K || t == DT_Q5_K || t == DT_Q6_K;
}
/* Items (see kern_product_cut): C = factor alpha sum over terms + beta addend + bias, C [m, n], summed in real and
 * rounded once.  A term's k's are taken in runs of KERN_PRODUCT_CHAIN, counted from its own k = 0: a run is one chain of
 * multiply-adds from zero, over k in order, and the runs' sums are added to the element's sum in order, term after
 * term (a masked term has a sum of its own, added as a whole): whatever the shape and the cut.  The variants fuse each
 * multiply-add; avx512_bf16, act BF16, takes k in pairs, all of them in one chain, and treats subnormal operands as 0. */
struct kern_product {
    const struct kern_term *terms;
    int64_t n_terms;
    void *c;
    const void *addend; /* [m, n], may be c itself; NULL: none (beta is not used) */
    const void *bias;   /* [n] or NULL */
    const void *factor; /* real [n], of each column's sum, or NULL */
    enum dtype c_type, addend_type, bias_type; /* act or real */
    int64_t m, n, ldc, ld_addend;
    double alpha, beta;
    int64_t item_rows, item_cols; /* by kern_product_cut, */
    int64_t item_step;            /* and from an item to its thread's next, a guess for fetching */
};
enum {
    KERN_PRODUCT_ROWS = 384,
    KERN_PRODUCT_COLS = 64,
    KERN_PRODUCT_STEP = 6,
    KERN_PRODUCT_CHAIN = 128
};
/* Choose the items for so many threads; item t covers columns from (t % column items) * item_cols and rows from
 * (t / column items) * item_rows.  Returns how many there are. */
int64_t kern_product_cut(struct kern_product *a, int64_t threads);
static inline int64_t kern_product_col_items(const struct kern_product *a) {
    return (a->n + a->item_cols - 1) / a->item_cols;
}

/* Substitution in a triangular system L L^T x = b with many right-hand sides, one panel of 16 rows I
 * at a time; range: strips of 16 of the `width` right-hand sides.  x: real [rows][width].  panel:
 * real, tiles J = 0 .. index of [16 columns][16 rows], tile J < index holding -L_IJ and the last one the
 * inverse D of the diagonal block L_II.
 *   triangle_fwd (panels ascending):   x_I <- D (x_I + sum over J of tile_J x_J)
 *   triangle_bwd (panels descending):  x_I <- D^T x_I;  x_J += tile_J^T x_I for every J < I */
struct kern_triangle {
    const void *panel;
    void *x;
    int64_t index, width;
};
enum { KERN_TRIANGLE_ROWS = 16, KERN_TRIANGLE_TILE = 256, KERN_TRIANGLE_LANES = 16 };

/* A stored matrix times a block of vectors, in f64: w [rows][cols], row-major with ld, of a plain
 * float type, widened exactly on the way; in and out f64 with `width` numbers a row, a multiple of
 * KERN_WEIGH_LANES.
 *   weigh:    out [rows][width] = w in [cols][width];      range: groups of KERN_WEIGH_GROUP rows
 *   weigh_t:  out [cols][width] = w^T in [rows][width];    range: groups of that many columns
 * Each element of out is one chain over the inner axis in order. */
struct kern_weigh {
    const void *w;
    enum dtype type;
    int64_t rows, cols, ld, width;
    const double *in;
    double *out;
};
enum { KERN_WEIGH_GROUP = 96, KERN_WEIGH_LANES = 8 };

/* X(member, argument struct) */
#define KERN_OP_MAP(X)                                                                             \
    X(map, kern_map)                                                                               \
    X(dropout_mask, kern_dropout_mask)                                                             \
    X(dropout_apply, kern_dropout_apply)                                                           \
    X(rmsnorm_fwd, kern_rmsnorm)                                                                   \
    X(rmsnorm_bwd, kern_rmsnorm)                                                                   \
    X(rmsnorm_bwd_w, kern_rmsnorm)                                                                 \
    X(rope, kern_rope)                                                                             \
    X(product, kern_product)                                                                       \
    X(attention_fwd, kern_attention)                                                               \
    X(attention_part, kern_attention)                                                              \
    X(attention_join, kern_attention)                                                              \
    X(attention_bwd, kern_attention)                                                               \
    X(attention_bwd_kv, kern_attention)                                                            \
    X(swiglu_fwd, kern_swiglu)                                                                     \
    X(swiglu_bwd, kern_swiglu)                                                                     \
    X(bias_grad, kern_bias_grad)                                                                   \
    X(times, kern_times)                                                                           \
    X(col_dots, kern_col_dots)                                                                     \
    X(factor_bwd, kern_factor_bwd)                                                                 \
    X(norm_factor, kern_norm_factor)                                                               \
    X(cross_entropy, kern_cross_entropy)                                                           \
    X(adamw, kern_adamw)                                                                           \
    X(importance, kern_importance)                                                                 \
    X(sum_squares, kern_sum_squares)                                                               \
    X(triangle_fwd, kern_triangle)                                                                 \
    X(triangle_bwd, kern_triangle)                                                                 \
    X(weigh, kern_weigh)                                                                           \
    X(weigh_t, kern_weigh)

struct kern {
    enum dtype act, real;
    enum isa level; /* the level asked for */
#define KERN_MEMBER(op, args) void (*op)(const struct args *a, int64_t begin, int64_t end);
    KERN_OP_MAP(KERN_MEMBER)
#undef KERN_MEMBER
    /* Which level each entry comes from, for reports and tests. */
    struct {
#define KERN_LEVEL(op, args) enum isa op;
        KERN_OP_MAP(KERN_LEVEL)
#undef KERN_LEVEL
    } from;
};

/* Fill the table for an act type (F32, BF16, F64) and a level (usually cpu_isa_used()). */
void kern_table_init(struct kern *k, enum dtype act, enum isa level);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* ops.c - the operations of backend.h: contract checks, empty tensors sifted out, then the call
 * into the backend's table.  A broken shape or type here is a mistake of our own code, hence
 * REQUIRE. */
#include "backend/ops.h"

#include "core/profile.h"

static bool same_shape(struct tensor a, struct tensor b) {
    return a.rows == b.rows && a.cols == b.cols;
}
static bool is_plain_float(struct tensor t) {
    return t.dtype == DT_F32 || t.dtype == DT_BF16 || t.dtype == DT_F16 || t.dtype == DT_F64;
}
static bool is_sound(struct tensor t) {
    bool sized = t.rows >= 0 && t.cols >= 0 && (t.ld >= t.cols || t.rows <= 1);
    return sized && (t.data || t.rows == 0 || t.cols == 0);
}
static bool is_empty(struct tensor t) {
    return t.rows == 0 || t.cols == 0;
}
static bool is_act(const struct stream *s, struct tensor t) {
    return t.dtype == s->backend->act && is_sound(t);
}
static bool is_real(const struct stream *s, struct tensor t) {
    return t.dtype == s->backend->real && is_sound(t);
}
/* What a product multiplies with: act, or blocks that the backend reads itself. */
static bool is_operand(const struct stream *s, struct tensor t) {
    if (!backend_takes_blocks(s->backend, t.dtype)) return is_act(s, t);
    return is_sound(t) && t.ld == t.cols && t.cols % (int64_t)dtype_block_elems(t.dtype) == 0;
}
static bool is_either(const struct stream *s, struct tensor t) {
    return is_act(s, t) || is_real(s, t);
}
static bool indexes_fit(const int32_t *index, int64_t n, int64_t limit) {
    for (int64_t i = 0; i < n; i++)
        if (index[i] < 0 || index[i] >= limit) return false;
    return true;
}

/* ---- what --profile counts: reading and writing each operand once ---- */

/* Make the call; while recording, it counts as one of `op`. */
#define TIMED(op, work, call)                                                                      \
    do {                                                                                           \
        int64_t begun_ = profile_begin();                                                          \
        call;                                                                                      \
        if (begun_) profile_end(begun_, op, work);                                                 \
    } while (0)

static double bytes_of(struct tensor t) {
    return (double)(t.rows * t.cols) * (double)dtype_size(t.dtype);
}
/* Products of one pass over the scores of a causal attention: 2 D a pair of positions and head. */
static double attention_work(const struct attn_seq *seqs, int64_t n_seqs,
                             const struct attn_shape *shape) {
    int64_t pairs = 0;
    for (int64_t i = 0; i < n_seqs; i++)
        for (int64_t q = 0; q < seqs[i].n_q; q++) {
            int64_t seen = seqs[i].n_kv - seqs[i].n_q + q + 1;
            pairs += shape->window > 0 && seen > shape->window ? shape->window : seen;
        }
    return 2.0 * (double)pairs * (double)(shape->heads * shape->head_dim);
}

/* ---- movement ---- */

void be_zero(struct stream *s, struct tensor t) {
    REQUIRE(is_sound(t));
    if (!is_empty(t)) TIMED(PROFILE_ZERO, bytes_of(t), s->backend->ops->zero(s, t));
}

static void map(struct stream *s, struct tensor y, double scale, struct tensor x, bool accumulate) {
    REQUIRE(is_sound(y) && is_sound(x) && is_plain_float(y) && is_plain_float(x));
    REQUIRE(same_shape(y, x));
    if (is_empty(y)) return;
    TIMED(PROFILE_COPY, bytes_of(x) + bytes_of(y) * (accumulate ? 2 : 1),
          s->backend->ops->map(s, y, scale, x, accumulate));
}
void be_copy(struct stream *s, struct tensor dst, struct tensor src) {
    map(s, dst, 1.0, src, false);
}
void be_scale_copy(struct stream *s, struct tensor dst, struct tensor src, double scale) {
    map(s, dst, scale, src, false);
}
void be_axpy(struct stream *s, struct tensor y, double scale, struct tensor x) {
    map(s, y, scale, x, true);
}

void be_gather_rows(struct stream *s, struct tensor dst, struct tensor src, const int32_t *index) {
    REQUIRE(is_sound(dst) && is_plain_float(dst));
    REQUIRE((is_sound(src) && is_plain_float(src)) || is_operand(s, src));
    REQUIRE(dst.cols == src.cols && indexes_fit(index, dst.rows, src.rows));
    if (is_empty(dst)) return;
    TIMED(PROFILE_ROWS, 2 * bytes_of(dst), s->backend->ops->gather_rows(s, dst, src, index));
}
static void scatter(struct stream *s, struct tensor dst, struct tensor src, const int32_t *index,
                    bool accumulate) {
    REQUIRE(is_sound(dst) && is_sound(src) && is_plain_float(dst) && is_plain_float(src));
    REQUIRE(dst.cols == src.cols && indexes_fit(index, src.rows, dst.rows));
    if (is_empty(src)) return;
    TIMED(PROFILE_ROWS, bytes_of(src) * (accumulate ? 3 : 2),
          s->backend->ops->scatter_rows(s, dst, src, index, accumulate));
}
void be_scatter_rows(struct stream *s, struct tensor dst, struct tensor src, const int32_t *index) {
    scatter(s, dst, src, index, false);
}
void be_scatter_add_rows(struct stream *s, struct tensor dst, struct tensor src,
                         const int32_t *index) {
    REQUIRE(is_real(s, dst));
    scatter(s, dst, src, index, true);
}

/* ---- products ---- */

struct product_term *product_add(struct product_terms *terms, unsigned flags, struct tensor a,
                                 struct tensor b) {
    REQUIRE(terms->n < PRODUCT_TERMS);
    struct product_term *t = &terms->t[terms->n++];
    *t = (struct product_term){.flags = flags, .a = a, .b = b};
    return t;
}

/* The inner dimension of a term of C; its shapes and types fit. */
static int64_t term_depth(const struct stream *s, const struct product_term *t, struct tensor c) {
    bool ta = t->flags & MATMUL_TRANS_A, tb = t->flags & MATMUL_TRANS_B;
    int64_t k = ta ? t->a.rows : t->a.cols;
    REQUIRE(!(t->flags & ~(unsigned)(MATMUL_TRANS_A | MATMUL_TRANS_B)));
    REQUIRE(is_act(s, t->a) && is_operand(s, t->b));
    REQUIRE((ta ? t->a.cols : t->a.rows) == c.rows && (tb ? t->b.rows : t->b.cols) == c.cols);
    REQUIRE((tb ? t->b.cols : t->b.rows) == k);
    REQUIRE(!t->mask.data || (t->mask.dtype == DT_U8 && t->mask.rows == c.rows && t->p >= 0 &&
                              t->p < 1 && t->mask.cols * 8 >= c.cols));
    return k;
}

/* The sum as the backend gets it. */
static struct product_sum sift(const struct stream *s, const struct product_sum *sum) {
    struct product_sum used = *sum;
    REQUIRE(is_either(s, sum->c));
    REQUIRE(!sum->d.data || (is_either(s, sum->d) && same_shape(sum->d, sum->c)));
    REQUIRE(!sum->e.data ||
            (is_either(s, sum->e) && sum->e.rows == 1 && sum->e.cols == sum->c.cols));
    REQUIRE(!sum->f.data || (is_real(s, sum->f) && sum->f.rows == 1 && sum->f.cols == sum->c.cols));
    used.terms.n = 0;
    for (int i = 0; i < sum->terms.n; i++)
        if (term_depth(s, &sum->terms.t[i], sum->c) > 0 && sum->alpha != 0.0)
            used.terms.t[used.terms.n++] = sum->terms.t[i];
    if (sum->beta == 0.0) used.d.data = NULL;
    return used;
}

/* What is recorded of several sums: the first one's kind, the work of all as columns of it. */
static void record(const struct stream *s, int64_t begun, const struct product_sum *sums, int n) {
    const struct product_sum *first = &sums[0];
    int64_t depth = 0, cols = 0;
    if (first->terms.n == 0) return;
    for (int i = 0; i < first->terms.n; i++) depth += term_depth(s, &first->terms.t[i], first->c);
    for (int i = 0; i < n; i++) cols += sums[i].c.cols;
    unsigned flags = first->terms.t[0].flags;
    profile_product(begun, flags & MATMUL_TRANS_A, flags & MATMUL_TRANS_B, first->c.rows, cols,
                    depth);
}

void be_products(struct stream *s, const struct product_sum *sums, int n) {
    struct product_sum used[PRODUCT_SUMS];
    int n_used = 0;
    REQUIRE(n <= PRODUCT_SUMS);
    for (int i = 0; i < n; i++) {
        used[n_used] = sift(s, &sums[i]);
        if (!is_empty(sums[i].c)) n_used++;
    }
    if (n_used == 0) return;
    int64_t begun = profile_begin();
    s->backend->ops->products(s, used, n_used);
    if (begun) record(s, begun, used, n_used);
}

void be_product(struct stream *s, struct tensor c, double alpha, const struct product_terms *terms,
                double beta, struct tensor d, struct tensor e) {
    struct product_sum sum = {
        .c = c, .alpha = alpha, .beta = beta, .terms = *terms, .d = d, .e = e};
    be_products(s, &sum, 1);
}

void be_matmul(struct stream *s, unsigned flags, double alpha, struct tensor a, struct tensor b,
               double beta, struct tensor c) {
    struct product_terms terms = {.n = 0};
    struct tensor none = {0};
    product_add(&terms, flags, a, b);
    be_product(s, c, alpha, &terms, beta, c, none);
}

/* ---- decoder operations ---- */

static bool is_row_vector(struct tensor t, int64_t cols) {
    return t.rows == 1 && t.cols == cols;
}
static bool is_column(struct tensor t, int64_t rows) {
    return t.rows == rows && t.cols == 1;
}

void be_rmsnorm_fwd(struct stream *s, struct tensor y, struct tensor rstd, struct tensor x,
                    struct tensor w, double eps) {
    REQUIRE(is_act(s, y) && is_real(s, x) && is_real(s, w) && is_real(s, rstd));
    REQUIRE(same_shape(y, x) && is_row_vector(w, x.cols) && is_column(rstd, x.rows));
    if (is_empty(x)) return;
    TIMED(PROFILE_NORM_FORWARD, bytes_of(x) + bytes_of(y),
          s->backend->ops->rmsnorm_fwd(s, y, rstd, x, w, eps));
}
void be_rmsnorm_bwd(struct stream *s, struct tensor dx, struct tensor dw, struct tensor dy,
                    struct tensor x, struct tensor w, struct tensor rstd) {
    REQUIRE(is_real(s, dx) && is_either(s, dy) && is_real(s, x) && is_real(s, w));
    REQUIRE(is_real(s, rstd) && same_shape(dx, x) && same_shape(dy, x));
    REQUIRE(is_row_vector(w, x.cols) && is_column(rstd, x.rows));
    REQUIRE(!dw.data || (is_real(s, dw) && is_row_vector(dw, x.cols)));
    if (is_empty(x)) return;
    TIMED(PROFILE_NORM_BACKWARD, 2 * bytes_of(dx) + bytes_of(dy) + bytes_of(x),
          s->backend->ops->rmsnorm_bwd(s, dx, dw, dy, x, w, rstd));
}

void be_rope(struct stream *s, struct tensor x, struct tensor table, const int32_t *position,
             int64_t head_dim, bool inverse) {
    REQUIRE(is_act(s, x) && is_real(s, table) && head_dim > 0 && head_dim % 2 == 0);
    REQUIRE(x.cols % head_dim == 0 && table.cols == head_dim);
    REQUIRE(indexes_fit(position, x.rows, table.rows));
    if (is_empty(x)) return;
    TIMED(PROFILE_ROPE, 2 * bytes_of(x),
          s->backend->ops->rope(s, x, table, position, head_dim, inverse));
}

/* The tensors of an attention call fit each other, and the sequences lie within them. */
static bool attention_fits(struct tensor q, struct tensor k, struct tensor v,
                           const struct attn_seq *seqs, int64_t n_seqs,
                           const struct attn_shape *shape) {
    int64_t heads = shape->heads, kv = shape->kv_heads, dim = shape->head_dim;
    if (dim < 1 || dim > ATTN_MAX_HEAD_DIM) return false;
    if (kv < 1 || heads < 1 || heads % kv != 0 || shape->window < 0) return false;
    if (q.cols != heads * dim || k.cols != kv * dim || !same_shape(k, v)) return false;
    for (int64_t i = 0; i < n_seqs; i++) {
        const struct attn_seq *a = &seqs[i];
        if (a->q_row < 0 || a->n_q < 0 || a->q_row > q.rows || a->n_q > q.rows - a->q_row)
            return false;
        if (a->k_row < 0 || a->n_kv < a->n_q || a->k_row > k.rows || a->n_kv > k.rows - a->k_row)
            return false;
    }
    return true;
}

void be_attention_fwd(struct stream *s, struct tensor o, struct tensor lse, struct tensor q,
                      struct tensor k, struct tensor v, const struct attn_seq *seqs, int64_t n_seqs,
                      const struct attn_shape *shape) {
    REQUIRE(is_act(s, o) && is_act(s, q) && is_act(s, k) && is_act(s, v) && same_shape(o, q));
    REQUIRE(attention_fits(q, k, v, seqs, n_seqs, shape));
    REQUIRE(!lse.data || (is_real(s, lse) && lse.rows == q.rows && lse.cols == shape->heads));
    if (n_seqs == 0 || is_empty(q)) return;
    TIMED(PROFILE_ATTENTION_FORWARD, 2 * attention_work(seqs, n_seqs, shape),
          s->backend->ops->attention_fwd(s, o, lse, q, k, v, seqs, n_seqs, shape));
}
void be_attention_bwd(struct stream *s, struct tensor dq, struct tensor dk, struct tensor dv,
                      struct tensor d_o, struct tensor o, struct tensor lse, struct tensor q,
                      struct tensor k, struct tensor v, const struct attn_seq *seqs, int64_t n_seqs,
                      const struct attn_shape *shape) {
    REQUIRE(is_act(s, dq) && is_act(s, dk) && is_act(s, dv) && is_act(s, d_o) && is_act(s, o));
    REQUIRE(is_act(s, q) && is_act(s, k) && is_act(s, v) && is_real(s, lse));
    REQUIRE(same_shape(dq, q) && same_shape(dk, k) && same_shape(dv, v));
    REQUIRE(same_shape(d_o, q) && same_shape(o, q));
    REQUIRE(lse.rows == q.rows && lse.cols == shape->heads);
    REQUIRE(attention_fits(q, k, v, seqs, n_seqs, shape));
    if (n_seqs == 0 || is_empty(q)) return;
    TIMED(PROFILE_ATTENTION_BACKWARD, 5 * attention_work(seqs, n_seqs, shape),
          s->backend->ops->attention_bwd(s, dq, dk, dv, d_o, o, lse, q, k, v, seqs, n_seqs, shape));
}

void be_swiglu_fwd(struct stream *s, struct tensor h, struct tensor g, struct tensor u) {
    REQUIRE(is_act(s, h) && is_act(s, g) && is_act(s, u) && same_shape(h, g) && same_shape(u, g));
    if (is_empty(h)) return;
    TIMED(PROFILE_SWIGLU_FORWARD, 3 * bytes_of(h), s->backend->ops->swiglu_fwd(s, h, g, u));
}
void be_swiglu_bwd(struct stream *s, struct tensor dg, struct tensor du, struct tensor dh,
                   struct tensor g, struct tensor u) {
    REQUIRE(is_act(s, dg) && is_act(s, du) && is_act(s, dh) && is_act(s, g) && is_act(s, u));
    REQUIRE(same_shape(dg, g) && same_shape(du, g) && same_shape(dh, g) && same_shape(u, g));
    if (is_empty(dh)) return;
    TIMED(PROFILE_SWIGLU_BACKWARD, 5 * bytes_of(dh),
          s->backend->ops->swiglu_bwd(s, dg, du, dh, g, u));
}

void be_add_bias(struct stream *s, struct tensor y, struct tensor b) {
    REQUIRE(is_either(s, y) && is_either(s, b) && is_row_vector(b, y.cols));
    if (is_empty(y)) return;
    TIMED(PROFILE_BIAS, 2 * bytes_of(y), s->backend->ops->add_row(s, y, b));
}
void be_bias_grad(struct stream *s, struct tensor db, struct tensor dy) {
    REQUIRE(is_real(s, db) && is_either(s, dy) && is_row_vector(db, dy.cols));
    if (is_empty(dy)) return;
    TIMED(PROFILE_BIAS, bytes_of(dy), s->backend->ops->bias_grad(s, db, dy));
}

void be_scale_cols(struct stream *s, struct tensor dst, struct tensor src, struct tensor f) {
    REQUIRE(is_either(s, dst) && is_either(s, src) && same_shape(dst, src));
    REQUIRE(is_real(s, f) && is_row_vector(f, src.cols));
    if (is_empty(dst)) return;
    TIMED(PROFILE_COPY, bytes_of(dst) + bytes_of(src), s->backend->ops->scale_cols(s, dst, src, f));
}
void be_col_dots(struct stream *s, struct tensor out, double scale, struct tensor a,
                 struct tensor b) {
    REQUIRE(is_real(s, out) && is_either(s, a) && is_either(s, b) && same_shape(a, b));
    REQUIRE(is_row_vector(out, a.cols));
    if (is_empty(a)) return;
    TIMED(PROFILE_BIAS, bytes_of(a) + bytes_of(b), s->backend->ops->col_dots(s, out, scale, a, b));
}

void be_factor_bwd(struct stream *s, const struct factor_grad *g) {
    struct tensor dy = g->dy;
    REQUIRE(is_act(s, dy) && is_real(s, g->f) && is_row_vector(g->f, dy.cols));
    REQUIRE(!g->dm.data || (is_real(s, g->dm) && is_row_vector(g->dm, dy.cols)));
    REQUIRE(!g->dm.data || (is_real(s, g->w) && is_row_vector(g->w, dy.cols)));
    REQUIRE(!g->dm.data || (is_either(s, g->y) && same_shape(g->y, dy)));
    REQUIRE(!g->d.data || (is_either(s, g->d) && same_shape(g->d, dy)));
    REQUIRE(!g->e.data || (is_either(s, g->e) && is_row_vector(g->e, dy.cols)));
    if (is_empty(dy)) return;
    double read = g->dm.data ? bytes_of(g->y) + (g->d.data ? bytes_of(g->d) : 0) : 0;
    TIMED(PROFILE_FACTOR, 2 * bytes_of(dy) + read, s->backend->ops->factor_bwd(s, g));
}
void be_norm_factor(struct stream *s, const struct norm_factor *n) {
    int64_t cols = n->f.cols;
    REQUIRE(is_real(s, n->f) && is_real(s, n->w) && is_real(s, n->magnitude) &&
            is_real(s, n->squares) && is_real(s, n->v) && is_act(s, n->b));
    REQUIRE(n->f.rows == 1 && is_row_vector(n->w, cols) && is_row_vector(n->magnitude, cols) &&
            is_row_vector(n->squares, cols));
    REQUIRE(n->v.cols == cols && n->b.rows == cols && n->b.cols == n->v.rows);
    if (cols == 0) return;
    TIMED(PROFILE_FACTOR, bytes_of(n->v) + bytes_of(n->b), s->backend->ops->norm_factor(s, n));
}

void be_cross_entropy(struct stream *s, struct tensor loss, struct tensor dlogits,
                      struct tensor logits, const int32_t *label, double scale) {
    REQUIRE(is_real(s, logits) && is_real(s, loss) && is_column(loss, logits.rows));
    REQUIRE(!dlogits.data || (is_act(s, dlogits) && same_shape(dlogits, logits)));
    REQUIRE(indexes_fit(label, logits.rows, logits.cols));
    if (is_empty(logits)) return;
    TIMED(PROFILE_CROSS_ENTROPY, bytes_of(logits) + (dlogits.data ? bytes_of(dlogits) : 0),
          s->backend->ops->cross_entropy(s, loss, dlogits, logits, label, scale));
}

static bool is_mask(struct tensor mask, int64_t rows, int64_t cols) {
    return mask.dtype == DT_U8 && is_sound(mask) && mask.rows == rows &&
           mask.cols == dropout_mask_bytes(cols);
}

void be_dropout_mask(struct stream *s, struct tensor mask, int64_t cols,
                     const struct dropout_key *key, const uint64_t *row_key) {
    REQUIRE(is_mask(mask, mask.rows, cols) && key->p >= 0.0 && key->p < 1.0);
    if (!is_empty(mask))
        TIMED(PROFILE_DROPOUT, bytes_of(mask),
              s->backend->ops->dropout_mask(s, mask, cols, key, row_key));
}
void be_dropout_apply(struct stream *s, struct tensor kept, struct tensor change, struct tensor x,
                      struct tensor mask, double p) {
    REQUIRE(is_either(s, kept) && is_either(s, x) && same_shape(kept, x));
    REQUIRE(!change.data || (is_either(s, change) && same_shape(change, x)));
    REQUIRE(is_mask(mask, x.rows, x.cols) && p >= 0.0 && p < 1.0);
    if (is_empty(x)) return;
    TIMED(PROFILE_DROPOUT,
          bytes_of(x) + bytes_of(mask) + bytes_of(kept) + (change.data ? bytes_of(change) : 0),
          s->backend->ops->dropout_apply(s, kept, change, x, mask, p));
}

/* ---- optimiser ---- */

void be_adamw(struct stream *s, struct tensor p, struct tensor m, struct tensor v, struct tensor g,
              struct tensor base, struct tensor copy, const struct adamw *hyper) {
    REQUIRE(is_real(s, p) && is_real(s, m) && is_real(s, v) && is_real(s, g));
    REQUIRE(same_shape(m, p) && same_shape(v, p) && same_shape(g, p));
    REQUIRE(!base.data || (is_real(s, base) && same_shape(base, p)));
    REQUIRE(!copy.data || (is_act(s, copy) && same_shape(copy, p)));
    if (is_empty(p)) return;
    TIMED(PROFILE_ADAMW, (base.data ? 8 : 7) * bytes_of(p) + (copy.data ? bytes_of(copy) : 0),
          s->backend->ops->adamw(s, p, m, v, g, base, copy, hyper));
}
void be_importance(struct stream *s, struct tensor mean, struct tensor spread, struct tensor p,
                   struct tensor base, struct tensor g, const struct importance *hyper) {
    REQUIRE(is_real(s, p) && is_real(s, mean) && is_real(s, spread) && is_real(s, g));
    REQUIRE(same_shape(mean, p) && same_shape(spread, p) && same_shape(g, p));
    REQUIRE(!base.data || (is_real(s, base) && same_shape(base, p)));
    if (is_empty(p)) return;
    TIMED(PROFILE_IMPORTANCE, (base.data ? 7 : 6) * bytes_of(p),
          s->backend->ops->importance(s, mean, spread, p, base, g, hyper));
}
double be_sum_squares(struct stream *s, struct tensor t) {
    REQUIRE(is_sound(t) && is_plain_float(t));
    double sum = 0.0;
    if (!is_empty(t))
        TIMED(PROFILE_NORM_OF_GRADIENT, bytes_of(t), sum = s->backend->ops->sum_squares(s, t));
    return sum;
}

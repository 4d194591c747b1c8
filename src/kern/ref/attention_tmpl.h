/* SPDX-License-Identifier: Apache-2.0 */
/* attention_tmpl.h - causal scaled dot-product attention, forward.
 *
 *   s_ij = scale q_i . k_j,  lse_i = log sum_j exp(s_ij),  o_i = sum_j exp(s_ij - lse_i) v_j
 *
 * over the keys that query i sees.  Within a segment S of keys, with m = max_{j in S} s_ij, l = sum_{j in S}
 * exp(s_ij - m) and a = sum_{j in S} exp(s_ij - m) v_j; two segments (m, l, a) and (m', l', a') join, with
 * n = max(m, m'), to (n, l e^(m - n) + l' e^(m' - n), a e^(m - n) + a' e^(m' - n));  o = a / l in the end. */
#ifndef KERN_REF_FILL
#error "included by table_tmpl.h"
#endif

/* The keys that query i sees: [*first, *end). */
static inline void keys_seen(const struct kern_attention *a, int64_t i, int64_t *first,
                             int64_t *end) {
    kern_attention_seen(a, i, i + 1, first, end);
}

static inline real dot(const act *x, const act *y, int64_t n) {
    real sum = 0;
    for (int64_t i = 0; i < n; i++) sum += act_load(x[i]) * act_load(y[i]);
    return sum;
}

/* Row i of head h of x. */
static inline const act *head_row(const struct kern_attention *a, const void *x, int64_t ld,
                                  int64_t h, int64_t i) {
    return (const act *)x + i * ld + h * a->head_dim;
}

static inline real score(const struct kern_attention *a, int64_t h, int64_t i, int64_t j) {
    return (real)a->scale *
           dot(head_row(a, a->q, a->ldq, h, i), head_row(a, a->k, a->ldk, 0, j), a->head_dim);
}

/* (m, l, a) of a segment; l = 0 where the query sees none of it. */
struct attention_state {
    real top, sum, row[KERN_MAX_HEAD_DIM];
};

static void segment_state(const struct kern_attention *a, int64_t h, int64_t i, int64_t segment,
                          struct attention_state *out) {
    int64_t first, past, begin = segment * KERN_ATTENTION_SEGMENT;
    keys_seen(a, i, &first, &past);
    if (first < begin) first = begin;
    if (past > begin + KERN_ATTENTION_SEGMENT) past = begin + KERN_ATTENTION_SEGMENT;
    memset(out, 0, sizeof *out);
    if (first >= past) return;
    out->top = score(a, h, i, first);
    for (int64_t j = first + 1; j < past; j++) {
        real s = score(a, h, i, j);
        if (s > out->top) out->top = s;
    }
    for (int64_t j = first; j < past; j++) {
        const act *v = head_row(a, a->v, a->ldv, 0, j);
        real p = real_exp(score(a, h, i, j) - out->top);
        out->sum += p;
        for (int64_t c = 0; c < a->head_dim; c++) out->row[c] += p * act_load(v[c]);
    }
}

static void state_join(const struct kern_attention *a, struct attention_state *x,
                       const struct attention_state *y) {
    if (y->sum == 0) return;
    if (x->sum == 0) {
        *x = *y;
        return;
    }
    real top = x->top > y->top ? x->top : y->top;
    real old = real_exp(x->top - top), add = real_exp(y->top - top);
    x->top = top;
    x->sum = x->sum * old + y->sum * add;
    for (int64_t c = 0; c < a->head_dim; c++) x->row[c] = x->row[c] * old + y->row[c] * add;
}

static void state_finish(const struct kern_attention *a, int64_t h, int64_t i,
                         const struct attention_state *x) {
    act *o = (act *)a->o + i * a->ldo + h * a->head_dim;
    for (int64_t c = 0; c < a->head_dim; c++) o[c] = act_store(x->row[c] / x->sum);
    if (a->lse) ((real *)a->lse)[i * a->ld_lse + h] = x->top + real_log(x->sum);
}

static int64_t attention_segments(const struct kern_attention *a) {
    return (a->n_kv + KERN_ATTENTION_SEGMENT - 1) / KERN_ATTENTION_SEGMENT;
}

static void attention_fwd(const struct kern_attention *a, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++)
        for (int64_t h = 0; h < a->group; h++) {
            struct attention_state all = {0}, one;
            for (int64_t n = 0; n < attention_segments(a); n++) {
                segment_state(a, h, i, n, &one);
                state_join(a, &all, &one);
            }
            state_finish(a, h, i, &all);
        }
}

/* ---- by segments: all heads of the sequence ---- */

/* The arguments of one key head's group. */
static struct kern_attention head_group(const struct kern_attention *a, int64_t head) {
    struct kern_attention b = *a;
    b.q = (const act *)a->q + head * a->group * a->head_dim;
    b.o = (act *)a->o + head * a->group * a->head_dim;
    b.k = (const act *)a->k + head * a->head_dim;
    b.v = (const act *)a->v + head * a->head_dim;
    b.lse = a->lse ? (real *)a->lse + head * a->group : NULL;
    return b;
}

/* State n of query i and query head h in a->parts: top, sum, the row behind KERN_ATTENTION_STATE. */
static real *part_state(const struct kern_attention *a, int64_t n, int64_t i, int64_t h) {
    return (real *)a->parts +
           ((n * a->n_q + i) * a->kv_heads * a->group + h) * kern_attention_part_row(a->head_dim);
}

static void attention_part(const struct kern_attention *a, int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++)
        for (int64_t h = 0; h < a->kv_heads * a->group; h++) {
            struct kern_attention group = head_group(a, h / a->group);
            for (int64_t i = 0; i < a->n_q; i++) {
                struct attention_state one;
                real *out = part_state(a, n, i, h);
                segment_state(&group, h % a->group, i, n, &one);
                out[0] = one.top;
                out[1] = one.sum;
                memcpy(out + KERN_ATTENTION_STATE, one.row, (size_t)a->head_dim * sizeof *out);
            }
        }
}

static void attention_join(const struct kern_attention *a, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++)
        for (int64_t h = 0; h < a->kv_heads * a->group; h++) {
            struct attention_state all = {0}, one;
            for (int64_t n = 0; n < attention_segments(a); n++) {
                const real *in = part_state(a, n, i, h);
                one.top = in[0];
                one.sum = in[1];
                memcpy(one.row, in + KERN_ATTENTION_STATE, (size_t)a->head_dim * sizeof *in);
                state_join(a, &all, &one);
            }
            state_finish(a, h, i, &all);
        }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* attention_tmpl.h - causal scaled dot-product attention of one head, forward.
 *
 *   s_ij = scale q_i . k_j,  lse_i = log sum_j exp(s_ij),  o_i = sum_j exp(s_ij - lse_i) v_j
 *
 * over the keys that query i sees.  The scores are computed anew in each of three passes, so that
 * nothing of the size of a row of scores is stored. */
#ifndef KERN_REF_FILL
#error "included by table_tmpl.h"
#endif

/* The keys that query i sees: [*first, *end). */
static inline void keys_seen(const struct kern_attention *a, int64_t i, int64_t *first,
                             int64_t *end) {
    int64_t position = a->n_kv - a->n_q + i;
    *end = position + 1;
    *first = a->window > 0 && position + 1 > a->window ? position + 1 - a->window : 0;
}

static inline real dot(const act *x, const act *y, int64_t n) {
    real sum = 0;
    for (int64_t i = 0; i < n; i++) sum += act_load(x[i]) * act_load(y[i]);
    return sum;
}

static inline real score(const struct kern_attention *a, const act *q, int64_t j) {
    return (real)a->scale * dot(q, (const act *)a->k + j * a->ldk, a->head_dim);
}

static void attention_fwd(const struct kern_attention *a, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
        const act *q = (const act *)a->q + i * a->ldq;
        act *o = (act *)a->o + i * a->ldo;
        int64_t first, past;
        keys_seen(a, i, &first, &past);
        real top = score(a, q, first), sum = 0, row[KERN_MAX_HEAD_DIM] = {0};
        for (int64_t j = first + 1; j < past; j++) {
            real s = score(a, q, j);
            if (s > top) top = s;
        }
        for (int64_t j = first; j < past; j++) {
            const act *v = (const act *)a->v + j * a->ldv;
            real p = real_exp(score(a, q, j) - top);
            sum += p;
            for (int64_t c = 0; c < a->head_dim; c++) row[c] += p * act_load(v[c]);
        }
        for (int64_t c = 0; c < a->head_dim; c++) o[c] = act_store(row[c] / sum);
        if (a->lse) ((real *)a->lse)[i * a->ld_lse] = top + real_log(sum);
    }
}

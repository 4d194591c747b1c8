/* SPDX-License-Identifier: Apache-2.0 */
/* attention_bwd_tmpl.h - the backward pass of attention, in two sweeps that each write what they
 * own: queries (dq) and keys (dk, dv).  P_ij is computed anew from lse in both (Dao et al. 2022).
 *
 *   P_ij = exp(s_ij - lse_i),  delta_i = d_o_i . o_i,  dS_ij = P_ij (d_o_i . v_j - delta_i)
 *   dq_i = scale sum_j dS_ij k_j,  dk_j = scale sum_i dS_ij q_i,  dv_j = sum_i P_ij d_o_i */
#ifndef KERN_REF_FILL
#error "included by table_tmpl.h"
#endif

static void attention_delta(const struct kern_attention *a, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++)
        ((real *)a->delta)[i * a->ld_delta] =
            dot((const act *)a->d_o + i * a->ld_do, (const act *)a->o + i * a->ldo, a->head_dim);
}

static void attention_bwd_q(const struct kern_attention *a, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
        const act *q = (const act *)a->q + i * a->ldq, *d_o = (const act *)a->d_o + i * a->ld_do;
        real lse = ((const real *)a->lse)[i * a->ld_lse];
        real delta = ((const real *)a->delta)[i * a->ld_delta], dq[KERN_MAX_HEAD_DIM] = {0};
        int64_t first, past;
        keys_seen(a, i, &first, &past);
        for (int64_t j = first; j < past; j++) {
            const act *k = (const act *)a->k + j * a->ldk, *v = (const act *)a->v + j * a->ldv;
            real p = real_exp(score(a, q, j) - lse);
            real ds = p * (dot(d_o, v, a->head_dim) - delta);
            for (int64_t c = 0; c < a->head_dim; c++) dq[c] += ds * act_load(k[c]);
        }
        act *out = (act *)a->dq + i * a->ld_dq;
        for (int64_t c = 0; c < a->head_dim; c++) out[c] = act_store((real)a->scale * dq[c]);
    }
}

/* What the queries of head h of the group send back to key j. */
static void key_gradient(const struct kern_attention *a, int64_t h, int64_t j, real *dk, real *dv) {
    const act *v = (const act *)a->v + j * a->ldv;
    int64_t i = j - (a->n_kv - a->n_q) > 0 ? j - (a->n_kv - a->n_q) : 0; /* the first that sees j */
    for (; i < a->n_q; i++) {
        int64_t first, past;
        keys_seen(a, i, &first, &past);
        if (j < first) break;
        const act *q = (const act *)a->q + i * a->ldq + h * a->head_dim;
        const act *d_o = (const act *)a->d_o + i * a->ld_do + h * a->head_dim;
        real p = real_exp(score(a, q, j) - ((const real *)a->lse)[i * a->ld_lse + h]);
        real delta = ((const real *)a->delta)[i * a->ld_delta + h];
        real ds = p * (dot(d_o, v, a->head_dim) - delta);
        for (int64_t c = 0; c < a->head_dim; c++) dk[c] += ds * act_load(q[c]);
        for (int64_t c = 0; c < a->head_dim; c++) dv[c] += p * act_load(d_o[c]);
    }
}

static void attention_bwd_kv(const struct kern_attention *a, int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; j++) {
        real dk[KERN_MAX_HEAD_DIM] = {0}, dv[KERN_MAX_HEAD_DIM] = {0};
        for (int64_t h = 0; h < a->group; h++) key_gradient(a, h, j, dk, dv);
        act *out_k = (act *)a->dk + j * a->ld_dk, *out_v = (act *)a->dv + j * a->ld_dv;
        for (int64_t c = 0; c < a->head_dim; c++) out_k[c] = act_store((real)a->scale * dk[c]);
        for (int64_t c = 0; c < a->head_dim; c++) out_v[c] = act_store(dv[c]);
    }
}

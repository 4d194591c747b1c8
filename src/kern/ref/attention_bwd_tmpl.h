/* SPDX-License-Identifier: Apache-2.0 */
/* attention_bwd_tmpl.h - the backward pass of attention.  P_ij is computed anew from lse (Dao et al. 2022).
 *
 *   P_ij = exp(s_ij - lse_i),  delta_i = d_o_i . o_i,  dS_ij = P_ij (d_o_i . v_j - delta_i)
 *   dq_i = scale sum_j dS_ij k_j,  dk_j = scale sum_i dS_ij q_i,  dv_j = sum_i P_ij d_o_i
 *
 * The sums over i are those of a part of the queries, in a->parts; attention_bwd_kv adds the parts up. */
#ifndef KERN_REF_FILL
#error "included by table_tmpl.h"
#endif

/* Queries of a part, and the keys they see. */
struct part_range {
    int64_t begin, end, first, past;
};
static struct part_range part_range(const struct kern_attention *a, int64_t part) {
    struct part_range r = {.begin = part * a->part_queries};
    r.end = r.begin + a->part_queries < a->n_q ? r.begin + a->part_queries : a->n_q;
    kern_attention_seen(a, r.begin, r.end, &r.first, &r.past);
    return r;
}

/* Row j of the sums of dk (0) or dv (1), its columns from multiple c of KERN_ATTENTION_LANES on. */
static real *part_sum(const struct kern_attention *a, int64_t part, int which, int64_t j,
                      int64_t c) {
    int64_t rows = kern_attention_lanes(a->n_kv), size = kern_attention_sums(a->n_kv, a->head_dim);
    return (real *)a->parts + part * size + which * (size / 2) + c * rows +
           j * KERN_ATTENTION_LANES;
}

/* sum row += w x */
static void part_add(const struct kern_attention *a, int64_t part, int which, int64_t j, real w,
                     const act *x) {
    for (int64_t c = 0; c < a->head_dim; c++)
        part_sum(a, part, which, j,
                 c / KERN_ATTENTION_LANES * KERN_ATTENTION_LANES)[c % KERN_ATTENTION_LANES] +=
            w * act_load(x[c]);
}

/* Query i of head h. */
static void query_gradient(const struct kern_attention *a, int64_t part, int64_t h, int64_t i) {
    const act *q = head_row(a, a->q, a->ldq, h, i), *d_o = head_row(a, a->d_o, a->ld_do, h, i);
    real lse = ((const real *)a->lse)[i * a->ld_lse + h], dq[KERN_MAX_HEAD_DIM] = {0};
    real delta = dot(d_o, head_row(a, a->o, a->ldo, h, i), a->head_dim);
    int64_t first, past;
    keys_seen(a, i, &first, &past);
    for (int64_t j = first; j < past; j++) {
        const act *k = head_row(a, a->k, a->ldk, 0, j), *v = head_row(a, a->v, a->ldv, 0, j);
        real p = real_exp(score(a, h, i, j) - lse), ds = p * (dot(d_o, v, a->head_dim) - delta);
        for (int64_t c = 0; c < a->head_dim; c++) dq[c] += ds * act_load(k[c]);
        part_add(a, part, 0, j, ds, q);
        part_add(a, part, 1, j, p, d_o);
    }
    act *out = (act *)a->dq + i * a->ld_dq + h * a->head_dim;
    for (int64_t c = 0; c < a->head_dim; c++) out[c] = act_store((real)a->scale * dq[c]);
}

static void attention_bwd(const struct kern_attention *a, int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; part++) {
        struct part_range r = part_range(a, part);
        for (int64_t c = 0; c < a->head_dim; c += KERN_ATTENTION_LANES)
            for (int which = 0; which < 2; which++)
                memset(part_sum(a, part, which, r.first, c), 0,
                       (size_t)((r.past - r.first) * KERN_ATTENTION_LANES) * sizeof(real));
        for (int64_t i = r.begin; i < r.end; i++)
            for (int64_t h = 0; h < a->group; h++) query_gradient(a, part, h, i);
    }
}

/* Row j of dk (0) or dv (1). */
static void key_sum(const struct kern_attention *a, int which, int64_t j, real scale, act *out) {
    int64_t parts = (a->n_q + a->part_queries - 1) / a->part_queries;
    for (int64_t c = 0; c < a->head_dim; c++) {
        int64_t chunk = c / KERN_ATTENTION_LANES * KERN_ATTENTION_LANES;
        real sum = 0;
        for (int64_t p = 0; p < parts; p++) {
            struct part_range r = part_range(a, p);
            if (j >= r.first && j < r.past) sum += part_sum(a, p, which, j, chunk)[c - chunk];
        }
        out[c] = act_store(scale * sum);
    }
}

static void attention_bwd_kv(const struct kern_attention *a, int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; j++) {
        key_sum(a, 0, j, (real)a->scale, (act *)a->dk + j * a->ld_dk);
        key_sum(a, 1, j, 1, (act *)a->dv + j * a->ld_dv);
    }
}

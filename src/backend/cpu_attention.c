/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_attention.c - attention cut into pieces: (sequence, head, block of queries) for what queries
 * own, (sequence, key head, block of keys) for what keys own.
 *
 * Sequences are independent, and within one a row's result does not depend on how rows are cut, so
 * a batch gives each sequence the bits that it has alone.  The index of a piece counts as if every
 * sequence were as long as the longest; pieces past a sequence's end are skipped. */
#include "backend/cpu.h"
#include "core/threads.h"

_Static_assert((int)ATTN_MAX_HEAD_DIM <= (int)KERN_MAX_HEAD_DIM, "the kernels' row buffers");

struct attention_call {
    const struct kern *kern;
    void (*op)(const struct kern_attention *a, int64_t begin, int64_t end);
    struct tensor q, k, v, o, d_o, dq, dk, dv, lse, delta; /* some without data */
    const struct attn_seq *seqs;
    const struct attn_shape *shape;
    int64_t blocks; /* of the longest sequence */
    bool by_key;
};

static void *from(struct tensor t, int64_t row, int64_t col) {
    return t.data ? tensor_at(t, row, col) : NULL;
}

/* The kernel's arguments for one query head, or for the query heads of one key head. */
static struct kern_attention head_args(const struct attention_call *c, const struct attn_seq *seq,
                                       int64_t q_head, int64_t kv_head) {
    int64_t dim = c->shape->head_dim, qc = q_head * dim, kc = kv_head * dim;
    int64_t qr = seq->q_row, kr = seq->k_row;
    return (struct kern_attention){.q = from(c->q, qr, qc),
                                   .k = from(c->k, kr, kc),
                                   .v = from(c->v, kr, kc),
                                   .d_o = from(c->d_o, qr, qc),
                                   .o = from(c->o, qr, qc),
                                   .dq = from(c->dq, qr, qc),
                                   .dk = from(c->dk, kr, kc),
                                   .dv = from(c->dv, kr, kc),
                                   .lse = from(c->lse, qr, q_head),
                                   .delta = from(c->delta, qr, q_head),
                                   .ldq = c->q.ld,
                                   .ldk = c->k.ld,
                                   .ldv = c->v.ld,
                                   .ldo = c->o.ld,
                                   .ld_do = c->d_o.ld,
                                   .ld_lse = c->lse.ld,
                                   .ld_delta = c->delta.ld,
                                   .ld_dq = c->dq.ld,
                                   .ld_dk = c->dk.ld,
                                   .ld_dv = c->dv.ld,
                                   .n_q = seq->n_q,
                                   .n_kv = seq->n_kv,
                                   .head_dim = dim,
                                   .window = c->shape->window,
                                   .group = c->shape->heads / c->shape->kv_heads,
                                   .scale = c->shape->scale};
}

static void run_piece(const struct attention_call *c, int64_t piece) {
    int64_t heads = c->by_key ? c->shape->kv_heads : c->shape->heads;
    int64_t size = c->by_key ? KERN_ATTENTION_KEYS : KERN_ATTENTION_QUERIES;
    /* The last block of queries sees the most keys: start the longest work first. */
    int64_t block = piece % c->blocks;
    if (!c->by_key) block = c->blocks - 1 - block;
    int64_t head = piece / c->blocks % heads;
    const struct attn_seq *seq = &c->seqs[piece / c->blocks / heads];
    int64_t n = c->by_key ? seq->n_kv : seq->n_q, begin = block * size;
    if (begin >= n) return;
    int64_t group = c->shape->heads / c->shape->kv_heads;
    struct kern_attention a =
        c->by_key ? head_args(c, seq, head * group, head) : head_args(c, seq, head, head / group);
    c->op(&a, begin, begin + size < n ? begin + size : n);
}

static void run_pieces(void *ctx, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) run_piece(ctx, i);
}

static void for_pieces(struct attention_call *c, int64_t n_seqs, bool by_key,
                       void (*op)(const struct kern_attention *a, int64_t begin, int64_t end)) {
    int64_t longest = 0, size = by_key ? KERN_ATTENTION_KEYS : KERN_ATTENTION_QUERIES;
    for (int64_t i = 0; i < n_seqs; i++) {
        int64_t n = by_key ? c->seqs[i].n_kv : c->seqs[i].n_q;
        if (n > longest) longest = n;
    }
    c->op = op;
    c->by_key = by_key;
    c->blocks = (longest + size - 1) / size;
    int64_t heads = by_key ? c->shape->kv_heads : c->shape->heads;
    parallel_for(n_seqs * heads * c->blocks, 1, run_pieces, c);
}

void cpu_attention_fwd(struct stream *s, struct tensor o, struct tensor lse, struct tensor q,
                       struct tensor k, struct tensor v, const struct attn_seq *seqs,
                       int64_t n_seqs, const struct attn_shape *shape) {
    struct attention_call c = {
        .q = q, .k = k, .v = v, .o = o, .lse = lse, .seqs = seqs, .shape = shape};
    for_pieces(&c, n_seqs, false, cpu_of(s)->kern.attention_fwd);
}

void cpu_attention_bwd(struct stream *s, struct tensor dq, struct tensor dk, struct tensor dv,
                       struct tensor d_o, struct tensor o, struct tensor lse, struct tensor q,
                       struct tensor k, struct tensor v, const struct attn_seq *seqs,
                       int64_t n_seqs, const struct attn_shape *shape) {
    const struct kern *kern = &cpu_of(s)->kern;
    enum dtype real = s->backend->real;
    size_t n = (size_t)q.rows * (size_t)shape->heads;
    void *memory = cpu_scratch(s, n * dtype_size(real));
    if (!memory) return;
    struct attention_call c = {.q = q,
                               .k = k,
                               .v = v,
                               .o = o,
                               .d_o = d_o,
                               .dq = dq,
                               .dk = dk,
                               .dv = dv,
                               .lse = lse,
                               .delta = tensor_of(memory, real, q.rows, shape->heads),
                               .seqs = seqs,
                               .shape = shape};
    for_pieces(&c, n_seqs, false, kern->attention_delta);
    for_pieces(&c, n_seqs, false, kern->attention_bwd_q);
    for_pieces(&c, n_seqs, true, kern->attention_bwd_kv);
}

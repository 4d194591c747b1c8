/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_attention.c - attention cut into pieces for threads.  A pair is a sequence and one of its key heads, with
 * the query heads that share it.
 *
 * Forward, a piece is a pair and a block of queries.  Where all sequences have few queries (decoding) it is a
 * sequence and a segment of its keys instead, all heads of them, so that memory is read in order; what the
 * segments give is then joined.  The kernels promise the same bits either way.
 *
 * Backward, a piece is a pair and a part of its queries, with sums of dk and dv of its own, which are then
 * added up.  How many parts there are depends on the sequence alone.  Pairs go through in waves whose sums
 * fit WAVE_BYTES.
 *
 * Sequences are independent, so a batch gives each the bits that it has alone.  The index of a piece counts as
 * if every sequence were as long as the longest; pieces past a sequence's end are skipped. */
#include "backend/cpu.h"
#include "core/threads.h"

_Static_assert((int)ATTN_MAX_HEAD_DIM <= (int)KERN_MAX_HEAD_DIM, "the kernels' row buffers");

enum {
    PIECES_A_THREAD = 4, /* even out their ends */
    LEAST_QUERIES = 48,
    FEW_QUERIES = 8,    /* of a sequence: its keys are split */
    PART_QUERIES = 216, /* of a part at the most, unless there were more than MOST_PARTS */
    PART_STEP = 24,
    MOST_PARTS = 4,
    KEY_ROWS = 64, /* of dk and dv that are added up at once */
    WAVE_BYTES = 16 << 20
};

struct attention_call {
    const struct kern *kern;
    struct tensor q, k, v, o, d_o, dq, dk, dv, lse; /* some without data */
    const struct attn_seq *seqs;
    const struct attn_shape *shape;
    unsigned char *memory; /* parts: of a pair, pair_bytes after those of the one before */
    size_t pair_bytes;
    int64_t first_pair, pairs; /* in memory */
    int64_t blocks;            /* pieces of a pair, at most */
    int64_t block_queries;     /* forward */
};

static int64_t count(int64_t n, int64_t size) {
    return (n + size - 1) / size;
}
static void *from(struct tensor t, int64_t row, int64_t col) {
    return t.data ? tensor_at(t, row, col) : NULL;
}
static int64_t group_of(const struct attn_shape *shape) {
    return shape->heads / shape->kv_heads;
}

/* Queries of a part. */
static int64_t part_queries(int64_t n_q) {
    int64_t parts = count(n_q, PART_QUERIES);
    if (parts > MOST_PARTS) parts = MOST_PARTS;
    return parts > 0 ? count(count(n_q, parts), PART_STEP) * PART_STEP : PART_STEP;
}

/* The kernel's arguments for a pair. */
static struct kern_attention pair_args(const struct attention_call *c, int64_t pair) {
    const struct attn_seq *seq = &c->seqs[pair / c->shape->kv_heads];
    int64_t head = pair % c->shape->kv_heads, group = group_of(c->shape), dim = c->shape->head_dim;
    int64_t qc = head * group * dim, kc = head * dim, qr = seq->q_row, kr = seq->k_row;
    size_t at = (size_t)(pair - c->first_pair) * c->pair_bytes;
    return (struct kern_attention){.q = from(c->q, qr, qc),
                                   .k = from(c->k, kr, kc),
                                   .v = from(c->v, kr, kc),
                                   .d_o = from(c->d_o, qr, qc),
                                   .o = from(c->o, qr, qc),
                                   .dq = from(c->dq, qr, qc),
                                   .dk = from(c->dk, kr, kc),
                                   .dv = from(c->dv, kr, kc),
                                   .lse = from(c->lse, qr, head * group),
                                   .parts = c->memory ? c->memory + at : NULL,
                                   .ldq = c->q.ld,
                                   .ldk = c->k.ld,
                                   .ldv = c->v.ld,
                                   .ldo = c->o.ld,
                                   .ld_do = c->d_o.ld,
                                   .ld_lse = c->lse.ld,
                                   .ld_dq = c->dq.ld,
                                   .ld_dk = c->dk.ld,
                                   .ld_dv = c->dv.ld,
                                   .n_q = seq->n_q,
                                   .n_kv = seq->n_kv,
                                   .head_dim = dim,
                                   .window = c->shape->window,
                                   .group = group,
                                   .kv_heads = c->shape->kv_heads,
                                   .part_queries = part_queries(seq->n_q),
                                   .scale = c->shape->scale};
}

/* Pair and block of a piece: the last blocks of all pairs come first, since they see the most keys. */
static struct kern_attention piece_args(const struct attention_call *c, int64_t piece,
                                        int64_t *block) {
    *block = c->blocks - 1 - piece / c->pairs;
    return pair_args(c, c->first_pair + piece % c->pairs);
}

static int64_t longest(const struct attn_seq *seqs, int64_t n_seqs, bool keys) {
    int64_t most = 0;
    for (int64_t i = 0; i < n_seqs; i++) {
        int64_t n = keys ? seqs[i].n_kv : seqs[i].n_q;
        if (n > most) most = n;
    }
    return most;
}

/* ---- forward ---- */

/* Queries of a block: fewer than the kernel would like where that leaves threads without work. */
static int64_t block_queries(int64_t queries, int64_t group, int64_t pairs) {
    int64_t most = kern_attention_queries(group), threads = threads_count();
    int64_t wanted = threads > 1 ? count(PIECES_A_THREAD * threads, pairs) : 1;
    int64_t size = count(queries, wanted);
    if (size < LEAST_QUERIES) size = LEAST_QUERIES;
    return size < most ? size : most;
}

static void query_blocks(void *ctx, int64_t begin, int64_t end) {
    const struct attention_call *c = ctx;
    for (int64_t i = begin; i < end; i++) {
        int64_t block;
        struct kern_attention a = piece_args(c, i, &block);
        if (a.n_q == 0) continue;
        int64_t size = count(a.n_q, count(a.n_q, c->block_queries));
        int64_t first = block * size, past = first + size;
        if (first >= a.n_q) continue;
        c->kern->attention_fwd(&a, first, past < a.n_q ? past : a.n_q);
    }
}
/* Pairs are whole sequences here. */
static struct kern_attention sequence_args(const struct attention_call *c, int64_t seq) {
    struct kern_attention a = pair_args(c, seq * c->shape->kv_heads);
    a.parts = c->memory + (size_t)seq * c->pair_bytes;
    return a;
}
static void key_segments(void *ctx, int64_t begin, int64_t end) {
    const struct attention_call *c = ctx;
    for (int64_t i = begin; i < end; i++) {
        int64_t segment = i % c->blocks;
        struct kern_attention a = sequence_args(c, i / c->blocks);
        if (a.n_q > 0 && segment < count(a.n_kv, KERN_ATTENTION_SEGMENT))
            c->kern->attention_part(&a, segment, segment + 1);
    }
}
static void joins(void *ctx, int64_t begin, int64_t end) {
    const struct attention_call *c = ctx;
    for (int64_t i = begin; i < end; i++) {
        struct kern_attention a = sequence_args(c, i);
        c->kern->attention_join(&a, 0, a.n_q);
    }
}

void cpu_attention_fwd(struct stream *s, struct tensor o, struct tensor lse, struct tensor q,
                       struct tensor k, struct tensor v, const struct attn_seq *seqs,
                       int64_t n_seqs, const struct attn_shape *shape) {
    struct attention_call c = {.kern = &cpu_of(s)->kern,
                               .q = q,
                               .k = k,
                               .v = v,
                               .o = o,
                               .lse = lse,
                               .seqs = seqs,
                               .shape = shape,
                               .pairs = n_seqs * shape->kv_heads};
    int64_t queries = longest(seqs, n_seqs, false), group = group_of(shape);
    if (queries > FEW_QUERIES || queries * group > KERN_ATTENTION_FEW) {
        c.block_queries = block_queries(queries, group, c.pairs);
        c.blocks = count(queries, c.block_queries);
        parallel_for(c.pairs * c.blocks, 1, query_blocks, &c);
        return;
    }
    c.blocks = count(longest(seqs, n_seqs, true), KERN_ATTENTION_SEGMENT);
    int64_t rows = c.blocks * queries * shape->heads;
    c.pair_bytes =
        (size_t)(rows * kern_attention_part_row(shape->head_dim)) * dtype_size(s->backend->real);
    c.memory = cpu_scratch(s, c.pair_bytes * (size_t)n_seqs);
    if (!c.memory) return;
    parallel_for(n_seqs * c.blocks, 1, key_segments, &c);
    parallel_for(n_seqs, 1, joins, &c);
}

/* ---- backward ---- */

static void query_parts(void *ctx, int64_t begin, int64_t end) {
    const struct attention_call *c = ctx;
    for (int64_t i = begin; i < end; i++) {
        int64_t part;
        struct kern_attention a = piece_args(c, i, &part);
        if (part < count(a.n_q, a.part_queries)) c->kern->attention_bwd(&a, part, part + 1);
    }
}
static void key_rows(void *ctx, int64_t begin, int64_t end) {
    const struct attention_call *c = ctx;
    for (int64_t i = begin; i < end; i++) {
        int64_t block;
        struct kern_attention a = piece_args(c, i, &block);
        int64_t first = block * KEY_ROWS, past = first + KEY_ROWS;
        if (first < a.n_kv) c->kern->attention_bwd_kv(&a, first, past < a.n_kv ? past : a.n_kv);
    }
}

void cpu_attention_bwd(struct stream *s, struct tensor dq, struct tensor dk, struct tensor dv,
                       struct tensor d_o, struct tensor o, struct tensor lse, struct tensor q,
                       struct tensor k, struct tensor v, const struct attn_seq *seqs,
                       int64_t n_seqs, const struct attn_shape *shape) {
    struct attention_call c = {.kern = &cpu_of(s)->kern,
                               .q = q,
                               .k = k,
                               .v = v,
                               .o = o,
                               .d_o = d_o,
                               .dq = dq,
                               .dk = dk,
                               .dv = dv,
                               .lse = lse,
                               .seqs = seqs,
                               .shape = shape};
    int64_t queries = longest(seqs, n_seqs, false), keys = longest(seqs, n_seqs, true);
    int64_t parts = count(queries, part_queries(queries)), pairs = n_seqs * shape->kv_heads;
    c.pair_bytes =
        (size_t)(parts * kern_attention_sums(keys, shape->head_dim)) * dtype_size(s->backend->real);
    int64_t wave = c.pair_bytes ? (int64_t)(WAVE_BYTES / c.pair_bytes) : pairs;
    if (wave < 1) wave = 1;
    if (wave > pairs) wave = pairs;
    c.memory = cpu_scratch(s, c.pair_bytes * (size_t)wave);
    if (!c.memory && c.pair_bytes > 0) return;
    for (; c.first_pair < pairs; c.first_pair += wave) {
        c.pairs = pairs - c.first_pair < wave ? pairs - c.first_pair : wave;
        c.blocks = parts;
        parallel_for(c.pairs * c.blocks, 1, query_parts, &c);
        c.blocks = count(keys, KEY_ROWS);
        parallel_for(c.pairs * c.blocks, 1, key_rows, &c);
    }
}

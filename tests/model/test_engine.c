/* SPDX-License-Identifier: Apache-2.0 */
/* test_engine.c - attention and a whole model must not show how their work was cut: sequences, pieces of a
 * prefill, tokens one by one, other slots, threads - bit for bit at every level; and attention's gradients
 * are those of the f64 instance. */
#include "model/support.h"

#include "core/cpu.h"

static uint64_t state_ = 88172645463325252u;
static int64_t below(int64_t n) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return (int64_t)((state_ >> 11) % (uint64_t)n);
}

static enum isa found;
/* Cases take turns at the variants' levels. */
static enum isa level_of(int n) {
    return found <= ISA_AVX2 ? found : (enum isa)(ISA_AVX2 + n % (int)(found - ISA_AVX2 + 1));
}
static struct backend *open_at(enum dtype act, enum isa level) {
    struct mil_error err = {0};
    struct backend *b = NULL;
    cpu_isa_limit(level);
    assert_ok(backend_open("cpu", act, &b, &err));
    cpu_isa_limit(found);
    return b;
}

static int cases(int n) {
    const char *more = getenv("MILORA_SLOW");
#ifndef NDEBUG
    n = n / 8 + 1;
#endif
    return more && *more ? 10 * n : n;
}

/* Numbers in [-2, 2) that bf16 holds exactly. */
static struct tensor numbers(enum dtype t, int64_t rows, int64_t cols) {
    struct tensor x = tensor_of(mem_alloc(MEM_OTHER, (size_t)(rows * cols), 8), t, rows, cols);
    for (int64_t i = 0; i < rows * cols; i++) {
        float v = (float)(below(256) - 128) / 64;
        if (t == DT_BF16)
            ((bf16 *)x.data)[i] = bf16_from_f32(v);
        else
            set_element_of(x, i, (double)v);
    }
    return x;
}
static bool same_rows(struct tensor a, int64_t ra, struct tensor b, int64_t rb, int64_t n) {
    return memcmp(tensor_rows(a, ra, n).data, tensor_rows(b, rb, n).data,
                  (size_t)(n * a.cols) * dtype_size(a.dtype)) == 0;
}

/* ---- attention ---- */

struct attention {
    struct backend *b;
    struct tensor q, k, v, o, lse, o2, lse2;
    struct attn_shape shape;
    struct attn_seq seqs[80];
    int64_t n_seqs, tokens;
};

static struct attention attention_new(struct backend *b, struct attn_shape shape, int n_seqs,
                                      int64_t least, int64_t most) {
    struct attention a = {.b = b, .shape = shape, .n_seqs = n_seqs};
    enum dtype act = backend_act(b), real = backend_real(b);
    for (int i = 0; i < n_seqs; i++) {
        int64_t n = least + below(most - least + 1);
        a.seqs[i] = (struct attn_seq){a.tokens, n, a.tokens, n};
        a.tokens += n;
    }
    int64_t wide = shape.heads * shape.head_dim, narrow = shape.kv_heads * shape.head_dim;
    a.q = numbers(act, a.tokens, wide), a.o = numbers(act, a.tokens, wide);
    a.o2 = numbers(act, a.tokens, wide);
    a.k = numbers(act, a.tokens, narrow), a.v = numbers(act, a.tokens, narrow);
    a.lse = numbers(real, a.tokens, shape.heads), a.lse2 = numbers(real, a.tokens, shape.heads);
    return a;
}
static void attention_free(struct attention *a) {
    struct tensor *t[] = {&a->q, &a->k, &a->v, &a->o, &a->o2, &a->lse, &a->lse2};
    for (int i = 0; i < 7; i++) mem_free(t[i]->data);
}

static void attend(struct attention *a, const struct attn_seq *seqs, int64_t n) {
    be_attention_fwd(backend_stream(a->b), a->o2, a->lse2, a->q, a->k, a->v, seqs, n, &a->shape);
    for (int64_t i = 0; i < n; i++)
        if (!same_rows(a->o, seqs[i].q_row, a->o2, seqs[i].q_row, seqs[i].n_q) ||
            !same_rows(a->lse, seqs[i].q_row, a->lse2, seqs[i].q_row, seqs[i].n_q))
            fail_msg(
                "%s: heads %ld/%ld dim %ld window %ld: queries [%ld, +%ld) of %ld keys, one of "
                "%ld sequences: other bits",
                backend_describe(a->b), (long)a->shape.heads, (long)a->shape.kv_heads,
                (long)a->shape.head_dim, (long)a->shape.window, (long)(seqs[i].n_kv - seqs[i].n_q),
                (long)seqs[i].n_q, (long)seqs[i].n_kv, (long)n);
}

/* All sequences again, in pieces of up to `most` queries; at most `calls` calls. */
static void in_pieces(struct attention *a, int64_t most, int calls) {
    int64_t done[80] = {0};
    for (int c = 0; c < calls; c++) {
        struct attn_seq part[80];
        int64_t n = 0;
        for (int64_t i = 0; i < a->n_seqs; i++) {
            struct attn_seq s = a->seqs[i];
            int64_t piece = 1 + below(most), left = s.n_q - done[i];
            if (piece > left) piece = left;
            if (piece == 0 && below(4)) continue;
            part[n++] = (struct attn_seq){s.q_row + done[i], piece, s.k_row, done[i] + piece};
            done[i] += piece;
        }
        if (n == 0) return;
        threads_set(1 + (int)below(4));
        attend(a, part, n);
    }
}

static struct attn_shape shape_random(int n) {
    static const int64_t dims[] = {64, 8, 30, 80, 128, 256, 96};
    static const int64_t windows[] = {0, 1, 64, 300};
    int64_t group = 1 + below(8), kv = 1 + below(3), dim = dims[n % 7];
    return (struct attn_shape){group * kv, kv, dim, windows[below(4)], 0.5 / sqrt((double)dim)};
}

static void prefill_case(struct backend *b, int n) {
    bool large = n % 5 == 0;
    struct attention a = large ? attention_new(b, shape_random(n), 2, 257, n % 10 ? 1100 : 520)
                               : attention_new(b, shape_random(n), n % 5 == 1 ? 60 : 3, 1, 70);
    threads_set(1);
    be_attention_fwd(backend_stream(b), a.o, a.lse, a.q, a.k, a.v, a.seqs, a.n_seqs, &a.shape);
    in_pieces(&a, large ? 400 : 20, 1000);
    in_pieces(&a, large ? 90 : 8, 20);
    in_pieces(&a, 1, 70);
    for (int i = 0; large && i < 20; i++) { /* a few queries against any length */
        struct attn_seq s = a.seqs[i % 2];
        int64_t end = 1 + below(s.n_q), few = 1 + below(end < 9 ? end : 9);
        struct attn_seq one = {s.q_row + end - few, few, s.k_row, end};
        attend(&a, &one, 1);
    }
    attention_free(&a);
}

static void prefill_is_pieces_is_tokens(void **state) {
    (void)state;
    for (int n = 0; n < cases(42); n++) {
        struct backend *b = open_at(n / 7 % 2 ? DT_F32 : DT_BF16, level_of(n));
        prefill_case(b, n);
        backend_free(&b);
    }
    threads_set(0);
}

struct gradients {
    struct tensor dq, dk, dv;
};
static struct gradients gradients_of(struct attention *a, struct tensor d_o) {
    struct stream *s = backend_stream(a->b);
    enum dtype act = backend_act(a->b);
    struct gradients g = {numbers(act, a->tokens, a->q.cols), numbers(act, a->tokens, a->k.cols),
                          numbers(act, a->tokens, a->k.cols)};
    be_attention_fwd(s, a->o, a->lse, a->q, a->k, a->v, a->seqs, a->n_seqs, &a->shape);
    be_attention_bwd(s, g.dq, g.dk, g.dv, d_o, a->o, a->lse, a->q, a->k, a->v, a->seqs, a->n_seqs,
                     &a->shape);
    return g;
}
static void gradients_free(struct gradients *g) {
    mem_free(g->dq.data);
    mem_free(g->dk.data);
    mem_free(g->dv.data);
}
static struct tensor widened(struct tensor t) {
    struct tensor x = numbers(DT_F64, t.rows, t.cols);
    for (int64_t i = 0; i < t.rows * t.cols; i++) set_element_of(x, i, element_of(t, i));
    return x;
}

static double largest(struct tensor t) {
    double most = 0;
    for (int64_t i = 0; i < t.rows * t.cols; i++) most = fmax(most, fabs(element_of(t, i)));
    return most;
}
static void assert_near(const char *what, struct tensor a, struct tensor b, double bound) {
    for (int64_t i = 0; i < a.rows * a.cols; i++)
        if (!(fabs(element_of(a, i) - element_of(b, i)) <= bound))
            fail_msg("%s[%ld, %ld] = %.9g, want %.9g within %.2g", what, (long)(i / a.cols),
                     (long)(i % a.cols), element_of(a, i), element_of(b, i), bound);
}

/* The largest error over the largest entry.  f32: chains of at most 1,100 + 256 steps, roundings 2^-24 each,
 * random in sign: below 50 of them, times the 8 by which sums of magnitudes exceed the largest entry.
 * bf16: o, P and dS are rounded to 2^-9, and the difference d_o v - d_o o to that of its parts. */
static void gradients_case(struct backend *b, struct backend *f64, int n) {
    struct attention a = n % 4 ? attention_new(b, shape_random(n), n % 4 == 1 ? 40 : 3, 1, 70)
                               : attention_new(b, shape_random(n), 1, 200, n % 8 ? 700 : 330);
    struct tensor d_o = numbers(backend_act(b), a.tokens, a.q.cols), d_o64 = widened(d_o);
    struct attention e = a;
    e.b = f64;
    e.q = widened(a.q), e.k = widened(a.k), e.v = widened(a.v), e.o = widened(a.o);
    e.lse = widened(a.lse), e.o2 = widened(a.o), e.lse2 = widened(a.lse);
    threads_set(1);
    struct gradients want = gradients_of(&e, d_o64), got = gradients_of(&a, d_o);
    double bound = backend_act(b) == DT_F32 ? 400 * 0x1p-24 : 0.04;
    double scale = largest(want.dv); /* with one key to see, dq and dk are 0 */
    assert_near("dq", got.dq, want.dq, bound * fmax(scale, largest(want.dq)));
    assert_near("dk", got.dk, want.dk, bound * fmax(scale, largest(want.dk)));
    assert_near("dv", got.dv, want.dv, bound * scale);
    for (int threads = 2; threads <= 4; threads++) {
        threads_set(threads);
        struct gradients again = gradients_of(&a, d_o);
        if (!same_rows(got.dq, 0, again.dq, 0, a.tokens) ||
            !same_rows(got.dk, 0, again.dk, 0, a.tokens) ||
            !same_rows(got.dv, 0, again.dv, 0, a.tokens))
            fail_msg("%s, case %d: gradients differ with %d threads", backend_describe(b), n,
                     threads);
        gradients_free(&again);
    }
    gradients_free(&want);
    gradients_free(&got);
    mem_free(d_o.data);
    mem_free(d_o64.data);
    attention_free(&e);
    attention_free(&a);
}

static void gradients_are_the_exact_ones(void **state) {
    (void)state;
    struct backend *f64 = open_at(DT_F64, found);
    for (int n = 0; n < cases(24); n++) {
        struct backend *b = open_at(n / 4 % 3 ? DT_F32 : DT_BF16, level_of(n));
        gradients_case(b, f64, n);
        backend_free(&b);
    }
    backend_free(&f64);
    threads_set(0);
}

/* ---- a model ---- */

enum { LENGTH = 300, SLOTS = 5, VOCAB = 130 };

static struct model_config engine_config(int n) {
    struct model_config c = n % 2 ? wide_config() : tied_config();
    c.vocab = VOCAB;
    c.width = 96;
    c.heads = 6;
    c.kv_heads = n % 2 ? 2 : 3;
    c.head_dim = n % 2 ? 64 : 24;
    c.ffn = n % 2 ? 160 : 100;
    c.max_positions = LENGTH;
    if (c.window) c.window = 70;
    return c;
}

static struct opened model_at(int n, enum dtype compute, enum isa level) {
    struct mil_error err = {0};
    struct opened o = {.b = open_at(compute, level)};
    struct model_config c = engine_config(n);
    assert_ok(model_new_fresh(&c, o.b, LENGTH, TEST_SEED, &o.m, &err));
    assert_ok(full_new(o.m, &o.full, &err));
    return o;
}

/* Run every sequence to its end in random pieces of at most `most`, other slots beside it. */
static void infer_pieces(struct infer *s, const int32_t *ids, const int64_t *length, int64_t most,
                         float *out) {
    struct mil_error err = {0};
    int64_t past[SLOTS] = {0};
    float *logits = mem_alloc(MEM_OTHER, SLOTS * LENGTH * VOCAB, sizeof *logits);
    for (;;) {
        int32_t slot[SLOTS], call_ids[SLOTS * LENGTH];
        int64_t before[SLOTS], n[SLOTS], n_seqs = 0, tokens = 0, at = 0;
        for (int i = 0; i < SLOTS; i++) {
            int64_t left = length[i] - past[i], piece = 1 + below(most);
            if (left == 0 || (most > 1 && below(3) == 0 && past[0] + 1 < length[0])) continue;
            if (piece > left) piece = left;
            memcpy(call_ids + tokens, ids + i * LENGTH + past[i], (size_t)piece * sizeof *ids);
            slot[n_seqs] = (int32_t)i, before[n_seqs] = past[i], n[n_seqs++] = piece;
            tokens += piece;
        }
        bool left = false;
        for (int i = 0; i < SLOTS; i++) left = left || past[i] < length[i];
        if (!left) break;
        if (n_seqs == 0) continue;
        struct infer_call call = {call_ids, slot, before, n, n_seqs, true, logits};
        threads_set(1 + (int)below(4));
        assert_ok(infer_run(s, &call, &err));
        for (int64_t i = 0; i < n_seqs; i++, at += n[i - 1]) {
            memcpy(out + (slot[i] * LENGTH + before[i]) * VOCAB, logits + at * VOCAB,
                   (size_t)(n[i] * VOCAB) * sizeof *out);
            past[slot[i]] += n[i];
        }
    }
    mem_free(logits);
}

static void logits_do_not_show_the_cut(void **state) {
    (void)state;
    static const int64_t length[SLOTS] = {LENGTH, 1, 70, 129, 33};
    static int32_t ids[SLOTS * LENGTH];
    size_t size = SLOTS * LENGTH * VOCAB;
    float *want = mem_calloc(MEM_OTHER, size, sizeof *want),
          *got = mem_calloc(MEM_OTHER, size, sizeof *got);
    random_ids(ids, SLOTS * LENGTH, VOCAB, 77);
    for (int n = 0; n < cases(4); n++)
        for (int i = 0; i < 3; i++) {
            struct mil_error err = {0};
            struct opened o =
                model_at(n, n / 2 % 2 ? DT_F32 : DT_BF16, i == 0 ? found : level_of(i - 1));
            struct infer_options options = {SLOTS, LENGTH, SLOTS * LENGTH, SLOTS * LENGTH};
            static const int64_t most[] = {LENGTH, 90, 20, 7, 1};
            struct infer *s = NULL;
            assert_ok(infer_new(o.m, &options, &s, &err));
            infer_pieces(s, ids, length, LENGTH, want);
            for (int k = 0; k < (i == 0 ? 5 : 3); k++) {
                infer_pieces(s, ids, length, most[k], got);
                if (memcmp(want, got, size * sizeof *got) != 0)
                    fail_msg("%s, model %d: pieces of up to %ld give other logits",
                             backend_describe(o.b), n, (long)most[k]);
            }
            infer_free(&s);
            opened_close(&o);
        }
    threads_set(0);
    mem_free(want);
    mem_free(got);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prefill_is_pieces_is_tokens),
        cmocka_unit_test(gradients_are_the_exact_ones),
        cmocka_unit_test(logits_do_not_show_the_cut),
    };
    found = cpu_isa_used();
    struct backend *first = open_at(DT_F32, found); /* oneDNN's level is that of its first use */
    backend_free(&first);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

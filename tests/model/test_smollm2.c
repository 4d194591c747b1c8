/* SPDX-License-Identifier: Apache-2.0 */
/* test_smollm2.c - SmolLM2-135M-Instruct against transformers (tools/golden/record_logits.py), and
 * bf16 against f32.
 *
 * The model is read from $MILORA_SMOLLM2 (a .gguf file or a Hugging Face directory) or from
 * build/models/SmolLM2-135M-Instruct.gguf; without it the tests are skipped.
 *
 * Bounds: 2e-3 on any logit in f32 and a mean KL(f32 || bf16) of 2e-3 are what the product
 * promises.  Logits are of size 20: 2e-3 is 1e-4 of it, where f32 sums of 576 and 1,536 terms
 * through 60 blocks, done in two different orders, leave some 1e-5. */
#include "model/support.h"

#include "io/file.h"
#include "io/safetensors.h"

enum { PIECE = 250, SAMPLED = 8, POSITIONS = 1500 };

static const char *model_path(void) {
    static char beside[600];
    const char *path = getenv("MILORA_SMOLLM2");
    if (path && *path) return path;
    snprintf(beside, sizeof beside, "%s/build/models/SmolLM2-135M-Instruct.gguf", TEST_ROOT);
    return path_exists(beside) ? beside : NULL;
}

struct recording {
    struct st_file *f;
    const int32_t *ids, *lengths, *full_rows;
    const float *lse, *next, *sampled, *full;
    size_t n_texts, n_full;
};

static const void *recorded(const struct recording *r, const char *name, size_t *n) {
    const struct st_tensor *t = st_find(r->f, name);
    assert_non_null(t);
    if (n) *n = (size_t)t->shape[0];
    return t->data;
}

static void recording_open(struct recording *r) {
    struct mil_error err = {0};
    memset(r, 0, sizeof *r);
    assert_ok(st_open(TEST_DATA "/smollm2.safetensors", &r->f, &err));
    r->ids = recorded(r, "ids", NULL);
    r->lengths = recorded(r, "lengths", &r->n_texts);
    r->full_rows = recorded(r, "full_rows", &r->n_full);
    r->lse = recorded(r, "lse", NULL);
    r->next = recorded(r, "next", NULL);
    r->sampled = recorded(r, "sampled", NULL);
    r->full = recorded(r, "full", NULL);
}

struct runner {
    struct backend *b;
    struct model *m;
    struct infer *s;
    float *logits; /* PIECE rows */
};

static void runner_open(struct runner *r, const struct checkpoint *c, enum dtype compute) {
    struct mil_error err = {0};
    struct infer_options o = {1, POSITIONS, PIECE, PIECE};
    assert_ok(backend_open("cpu", compute, &r->b, &err));
    assert_ok(model_new(c, r->b, POSITIONS, &r->m, &err));
    assert_ok(infer_new(r->m, &o, &r->s, &err));
    r->logits = mem_alloc(MEM_OTHER, (size_t)(PIECE * c->config.vocab), sizeof *r->logits);
    assert_non_null(r->logits);
}

static void runner_close(struct runner *r) {
    mem_free(r->logits);
    infer_free(&r->s);
    model_free(&r->m);
    backend_free(&r->b);
}

/* Logits of tokens [past, past + n) of a text whose earlier tokens were run before. */
static void runner_run(struct runner *r, const int32_t *ids, int64_t past, int64_t n) {
    struct mil_error err = {0};
    int32_t slot = 0;
    struct infer_call call = {ids, &slot, &past, &n, 1, true, r->logits};
    assert_ok(infer_run(r->s, &call, &err));
}

static double log_sum_exp(const float *z, int64_t n) {
    double top = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) top = fmax(top, (double)z[i]);
    for (int64_t i = 0; i < n; i++) sum += exp((double)z[i] - top);
    return top + log(sum);
}

/* KL(p || q) of the softmaxes of two rows. */
static double divergence(const float *p, const float *q, int64_t n) {
    double lp = log_sum_exp(p, n), lq = log_sum_exp(q, n), sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += exp((double)p[i] - lp) * (((double)p[i] - lp) - ((double)q[i] - lq));
    return sum;
}

/* Largest difference of what was recorded of row t; follow: the next token, -1 at a text's end. */
static double row_error(const struct recording *r, int64_t t, int32_t follow, const float *z,
                        int64_t vocab) {
    double worst = fabs(log_sum_exp(z, vocab) - (double)r->lse[t]);
    if (follow >= 0) worst = fmax(worst, fabs((double)z[follow] - (double)r->next[t]));
    for (int64_t j = 0; j < SAMPLED; j++)
        worst = fmax(worst, fabs((double)z[(7919 * t + 104729 * j + 12345) % vocab] -
                                 (double)r->sampled[t * SAMPLED + j]));
    for (size_t k = 0; k < r->n_full; k++)
        for (int64_t i = 0; r->full_rows[k] == t && i < vocab; i++)
            worst = fmax(worst, fabs((double)z[i] - (double)r->full[(int64_t)k * vocab + i]));
    return worst;
}

static void test_logits(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct checkpoint *c = NULL;
    struct recording r;
    struct runner f32, bf;
    double worst = 0, kl = 0;
    int64_t rows = 0;
    if (!model_path()) {
        fprintf(stderr,
                "SKIP: no $MILORA_SMOLLM2 and no build/models/SmolLM2-135M-Instruct.gguf\n");
        skip();
    }
    recording_open(&r);
    assert_ok(checkpoint_open(model_path(), CHECKPOINT_WEIGHTS, &c, &err));
    runner_open(&f32, c, DT_F32);
    runner_open(&bf, c, DT_BF16);
    int64_t vocab = c->config.vocab;
    for (size_t text = 0; text < r.n_texts; text++) {
        int64_t length = r.lengths[text], begin = rows;
        for (int64_t past = 0; past < length; past += PIECE) {
            int64_t n = length - past < PIECE ? length - past : PIECE;
            const int32_t *ids = r.ids + begin + past;
            runner_run(&f32, ids, past, n);
            runner_run(&bf, ids, past, n);
            for (int64_t i = 0; i < n; i++, rows++) {
                const float *z = f32.logits + i * vocab;
                int32_t follow = past + i + 1 < length ? ids[i + 1] : -1;
                worst = fmax(worst, row_error(&r, rows, follow, z, vocab));
                if (rows % 4 == 0) kl += divergence(z, bf.logits + i * vocab, vocab);
            }
        }
    }
    kl /= (double)((rows + 3) / 4);
    print_message("%lld positions: f32 logits within %.2g, mean KL of bf16 %.2g\n", (long long)rows,
                  worst, kl);
    assert_true(worst < 2e-3);
    assert_true(kl < 2e-3);
    runner_close(&f32);
    runner_close(&bf);
    checkpoint_free(&c);
    st_free(&r.f);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_logits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

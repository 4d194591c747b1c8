/* SPDX-License-Identifier: Apache-2.0 */
/* Beam search against an exhaustive search (with as many beams as there are sequences it must find
 * the best one), against greedy, and against a plain transcription of its definition. */
#include "check.h"

#include <math.h>

#include "eval/beam.h"
#include "eval/sampler.h"
#include "fake.h"

#define K_MAX 4

static void logprobs(const struct fake *f, const int32_t *ids, int64_t n, double *out) {
    float row[FAKE_VOCAB];
    double sum = 0;
    fake_logits(f, ids, n, row);
    for (int v = 0; v < FAKE_VOCAB; v++) sum += exp((double)row[v]);
    for (int v = 0; v < FAKE_VOCAB; v++) out[v] = row[v] - log(sum);
}

/* Drive beams over the fake's function for one prompt. */
static void search(const struct fake *f, const int32_t *prompt, int64_t n, int64_t k,
                   int64_t max_new, const int32_t **best, int64_t *n_best, struct beams *b) {
    struct mil_error err;
    const int32_t stop = FAKE_END;
    bool over = false;
    int32_t parent[K_MAX], token[K_MAX];
    float logits[K_MAX * FAKE_VOCAB];
    assert_ok(beams_init(b, k, max_new, FAKE_VOCAB, 1, &err));
    while (!over) {
        for (int64_t j = 0; j < b->live; j++) {
            int32_t seq[FAKE_LENGTH];
            memcpy(seq, prompt, (size_t)n * sizeof *seq);
            memcpy(seq + n, b->ids + j * b->pitch, (size_t)b->made * sizeof *seq);
            fake_logits(f, seq, n + b->made, logits + j * FAKE_VOCAB);
        }
        assert_ok(beams_step(b, logits, FAKE_VOCAB, &stop, parent, token, &over, &err));
    }
    beams_best(b, best, n_best);
}

/* The definition again, as slowly as it reads: all candidates in a list, sorted by selection. */
struct hyp {
    int32_t ids[FAKE_LENGTH];
    int64_t n;
    double sum;
};
struct cand {
    struct hyp h;
    bool ends;
};
static int by_sum(const void *a, const void *b) {
    double x = ((const struct cand *)a)->h.sum, y = ((const struct cand *)b)->h.sum;
    return (x < y) - (x > y);
}

static struct hyp definition(const struct fake *f, const int32_t *prompt, int64_t n, int64_t k,
                             int64_t max_new) {
    static struct cand cands[K_MAX * FAKE_VOCAB];
    struct hyp live[K_MAX], done[K_MAX + 1];
    int64_t n_live = 1, n_done = 0;
    memcpy(live[0].ids, prompt, (size_t)n * sizeof *prompt);
    live[0].n = n;
    live[0].sum = 0;
    for (int64_t made = 1; made <= max_new; made++) {
        int64_t n_cands = 0;
        for (int64_t j = 0; j < n_live; j++) {
            double lp[FAKE_VOCAB];
            logprobs(f, live[j].ids, live[j].n, lp);
            for (int32_t v = 0; v < FAKE_VOCAB; v++) {
                struct cand *c = &cands[n_cands++];
                c->h = live[j];
                c->h.ids[c->h.n++] = v;
                c->h.sum += lp[v];
                c->ends = v == FAKE_END || made == max_new;
            }
        }
        qsort(cands, (size_t)n_cands, sizeof *cands, by_sum);
        n_live = 0;
        for (int64_t i = 0; i < n_cands; i++) {
            if (!cands[i].ends && n_live < k) live[n_live++] = cands[i].h;
            if (!cands[i].ends || i >= k) continue;
            int64_t at = n_done; /* sorted by normalised score, best k kept */
            while (at > 0 &&
                   done[at - 1].sum / (double)(done[at - 1].n - n) < cands[i].h.sum / (double)made)
                at--;
            memmove(done + at + 1, done + at, (size_t)(n_done - at) * sizeof *done);
            done[at] = cands[i].h;
            if (n_done < k) n_done++;
        }
        if (n_done == k &&
            live[0].sum / (double)made <= done[k - 1].sum / (double)(done[k - 1].n - n))
            break;
    }
    return done[0];
}

static void follows_the_definition(void **state) {
    (void)state;
    int ended = 0, limited = 0;
    for (int trial = 0; trial < 120; trial++) {
        struct fake f = {.sharpness = 0.5 + 0.02 * trial, .end_bias = (trial % 7) - 2.0};
        int32_t prompt[3] = {trial % FAKE_VOCAB, 5, 7};
        int64_t k = 1 + trial % K_MAX, max_new = 1 + trial % 11, n;
        const int32_t *ids;
        struct beams b;
        search(&f, prompt, 3, k, max_new, &ids, &n, &b);
        struct hyp want = definition(&f, prompt, 3, k, max_new);
        assert_int_equal(n, want.n - 3);
        assert_memory_equal(ids, want.ids + 3, (size_t)n * sizeof *ids);
        if (ids[n - 1] == FAKE_END)
            ended++;
        else
            limited++;
        beams_release(&b);
    }
    /* Both ways of ending occur, or the test shows nothing about one of them. */
    assert_true(ended > 20 && limited > 20);
}

static void one_beam_is_greedy(void **state) {
    (void)state;
    struct fake f = {.sharpness = 2, .end_bias = -50};
    struct mil_error err;
    int32_t seq[FAKE_LENGTH] = {1, 2};
    const int32_t *ids;
    int64_t n, len = 2;
    struct beams b;
    search(&f, seq, 2, 1, 10, &ids, &n, &b);
    for (int i = 0; i < 10; i++) {
        float row[FAKE_VOCAB];
        fake_logits(&f, seq, len, row);
        assert_ok(sample_greedy(row, FAKE_VOCAB, &seq[len++], &err));
    }
    assert_int_equal(n, 10);
    assert_memory_equal(ids, seq + 2, 10 * sizeof *ids);
    beams_release(&b);
}

/* Two steps, no stop: with K_MAX = 4 beams the best pair is found whenever its first token is among
 * the four best; a sharp second step makes it differ from greedy often.  Against all 17^2 pairs. */
static void brute_force(void **state) {
    (void)state;
    int differs = 0, checked = 0;
    for (int trial = 0; trial < 60; trial++) {
        struct fake f = {.sharpness = 1.5, .end_bias = -60};
        int32_t seq[3] = {trial % FAKE_VOCAB, 0, 0}, best[2] = {0, 0};
        double top = -INFINITY, first[FAKE_VOCAB], second[FAKE_VOCAB];
        logprobs(&f, seq, 1, first);
        int rank = 0, greedy = 0;
        for (int32_t a = 0; a < FAKE_VOCAB; a++) {
            if (first[a] > first[greedy]) greedy = a;
            seq[1] = a;
            logprobs(&f, seq, 2, second);
            for (int32_t c = 0; c < FAKE_VOCAB; c++) {
                if (first[a] + second[c] <= top) continue;
                top = first[a] + second[c];
                best[0] = a;
                best[1] = c;
            }
        }
        for (int a = 0; a < FAKE_VOCAB; a++) rank += first[a] > first[best[0]];
        if (rank >= K_MAX) continue;
        const int32_t *ids;
        int64_t n;
        struct beams b;
        search(&f, seq, 1, K_MAX, 2, &ids, &n, &b);
        assert_int_equal(n, 2);
        assert_memory_equal(ids, best, sizeof best);
        differs += best[0] != greedy;
        checked++;
        beams_release(&b);
    }
    assert_true(checked > 10 && differs > 3);
}

static void too_many_beams(void **state) {
    (void)state;
    struct mil_error err;
    struct beams b;
    assert_fails(beams_init(&b, 9, 4, FAKE_VOCAB, 1, &err), MIL_USAGE, "at most 8 beams");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(follows_the_definition), cmocka_unit_test(one_beam_is_greedy),
        cmocka_unit_test(brute_force), cmocka_unit_test(too_many_beams)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

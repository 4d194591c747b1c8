/* SPDX-License-Identifier: Apache-2.0 */
/* generate.c - tokens per second of generation: prompts in (prefill), tokens out (decoding).
 *
 *     bench_generate MODEL [bf16|f32] [prompt tokens] [new tokens] [batch]
 *
 * Runs batches of 1, 4, 16 (or the one given) random prompts, greedy, and prints for each: milliseconds until every
 * prompt has its first token, prompt tokens per second, and new tokens per second after that.  A
 * stop token ends a prompt early; the rate counts what was made. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/threads.h"
#include "milora/generate.h"

enum { MAX_BATCH = 16, MAX_PROMPT = 4096 };

struct clock {
    size_t first_left, tokens;
    bool seen[MAX_BATCH];
    double start, first;
};

static int on_piece(void *ctx, size_t prompt, const char *piece, size_t n, int32_t id) {
    struct clock *c = ctx;
    (void)piece;
    (void)n;
    (void)id;
    c->tokens++;
    if (!c->seen[prompt] && --c->first_left == 0) c->first = clock_seconds();
    c->seen[prompt] = true;
    return 1;
}

static enum mil_status measure(mil_model *m, size_t batch, size_t length, int64_t made,
                               struct mil_error *err) {
    static int32_t ids[MAX_BATCH][MAX_PROMPT];
    struct mil_prompt prompts[MAX_BATCH] = {{0}};
    struct mil_completion out[MAX_BATCH];
    uint32_t x = 12345;
    for (size_t i = 0; i < batch; i++) {
        for (size_t t = 0; t < length; t++) {
            x = x * 1664525u + 1013904223u;
            ids[i][t] = (int32_t)((x >> 8) % (uint32_t)mil_model_vocab(m));
        }
        prompts[i].ids = ids[i];
        prompts[i].n_ids = length;
    }
    struct mil_generate_options o = {.max_new_tokens = made, .batch_size = (int64_t)batch};
    struct clock c = {.first_left = batch, .start = clock_seconds()};
    enum mil_status st = mil_generate(m, prompts, batch, &o, on_piece, &c, out, err);
    if (st != MIL_OK) return st;
    double end = clock_seconds(), later = (double)(c.tokens - batch);
    printf("%5zu %12.1f %14.1f %14.1f\n", batch, 1e3 * (c.first - c.start),
           (double)(batch * length) / (c.first - c.start), later / (end - c.first));
    mil_completions_release(out, batch);
    return MIL_OK;
}

int main(int argc, char **argv) {
    struct mil_error err;
    struct mil_model_options o = {.path = argc > 1 ? argv[1] : NULL};
    size_t length = argc > 3 ? strtoul(argv[3], NULL, 10) : 128;
    long long made = argc > 4 ? strtoll(argv[4], NULL, 10) : 32;
    size_t only = argc > 5 ? strtoul(argv[5], NULL, 10) : 0;
    mil_model *m = NULL;
    if (!getenv("OMP_WAIT_POLICY") && setenv("OMP_WAIT_POLICY", "passive", 1) == 0)
        execv("/proc/self/exe", argv); /* the OpenMP runtime reads this when it is loaded */
    if (!o.path || length < 1 || length > MAX_PROMPT || made < 2 || only > MAX_BATCH) {
        fprintf(stderr, "usage: %s MODEL [bf16|f32] [prompt tokens] [new tokens >= 2] [batch]\n",
                argv[0]);
        return 2;
    }
    o.compute = argc > 2 && strcmp(argv[2], "f32") == 0 ? MIL_F32 : MIL_BF16;
    enum mil_status st = mil_init(0, &err);
    if (st == MIL_OK) st = mil_model_open(&o, &m, &err);
    if (st == MIL_OK) {
        printf("%s\nprompts of %zu tokens, %lld new\n", mil_model_backend(m), length, made);
        printf("%5s %12s %14s %14s\n", "batch", "first ms", "prompt tok/s", "new tok/s");
    }
    if (st == MIL_OK && only > 0) st = measure(m, only, length, made, &err);
    for (size_t batch = 1; only == 0 && st == MIL_OK && batch <= MAX_BATCH; batch *= 4)
        st = measure(m, batch, length, made, &err);
    mil_model_free(&m);
    if (st == MIL_OK) return 0;
    fprintf(stderr, "%s: %s\n", mil_status_name(st), err.message);
    return mil_status_exit_code(st);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* d2.c - table of what survives bf16 of an adapter's contribution, per method, module and training
 * progress: tests/adapt/d2.h says how it is computed.
 *
 *     bench_d2 MODEL [RANK]
 */
#include <stdio.h>
#include <stdlib.h>

#include "../tests/adapt/d2.h"

static const struct {
    int64_t layer;
    enum module module;
} cases[] = {{0, MODULE_Q}, {15, MODULE_V}, {15, MODULE_UP}, {29, MODULE_DOWN}};
static const int steps[] = {1, 30, 1000};

static enum mil_status measure(const struct weight_view *v, const char *method, int64_t rank,
                               struct mil_error *err) {
    struct d2 t;
    float *w = mem_alloc(MEM_OTHER, (size_t)(v->rows * v->cols), sizeof *w);
    if (!w) return error_nomem(err, 0);
    weight_to_f32(v, w);
    TRY(d2_init(&t, w, v->rows, v->cols, rank, method, err));
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        d2_move(&t, 3e-4 * sqrt(steps[i]));
        struct d2_errors e = d2_measure(&t);
        printf("| %s | %s | %d | %.3g | %.3g | %.3g |\n", v->name, method, steps[i], e.residual,
               e.naive, e.delta);
    }
    d2_release(&t);
    mem_free(w);
    return MIL_OK;
}

int main(int argc, char **argv) {
    static const char *const methods[] = {"milora", "mid", "pissa"};
    struct mil_error err;
    struct checkpoint *c;
    if (argc < 2) {
        fprintf(stderr, "usage: bench_d2 MODEL [RANK]\n");
        return 2;
    }
    enum mil_status st = checkpoint_open(argv[1], CHECKPOINT_WEIGHTS, &c, &err);
    if (st == MIL_OK)
        printf(
            "| weight | method | steps | residual | naive | delta |\n|---|---|---|---|---|---|\n");
    for (size_t m = 0; m < 3 && st == MIL_OK; m++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases && st == MIL_OK; i++)
            if (cases[i].layer < c->config.layers)
                st = measure(checkpoint_module(c, cases[i].layer, cases[i].module), methods[m],
                             argc > 2 ? atoi(argv[2]) : 32, &err);
    if (st != MIL_OK) fprintf(stderr, "bench_d2: %s\n", err.message);
    if (st == MIL_OK) checkpoint_free(&c);
    return mil_status_exit_code(st);
}

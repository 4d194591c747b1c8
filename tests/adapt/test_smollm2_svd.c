/* SPDX-License-Identifier: Apache-2.0 */
/* test_smollm2_svd.c - the partial SVD on real weights: bottom, top and middle 32 of SmolLM2-135M's
 * matrices against LAPACK's full decomposition, judged by ../linalg/judge.h (sigma within 1e-10
 * sigma_max, residual and orthogonality 1e-12, sines within the bound that the gaps give).
 *
 * Five matrices, one of each shape and kind, by default; with MILORA_SLOW=1 all 210, and the five by
 * each method that is not LAPACK's.  The worst figures are printed.
 *
 *     test_adapt_smollm2_svd [layer module [method]]      one matrix, by one method of the chain */
#include "check.h"

#include "core/threads.h"
#include "linalg/judge.h"
#include "model/checkpoint.h"

static struct mil_error err;
static const char *only_layer, *only_module, *only_method;

enum { RANK = 32, METHODS_MAX = 16 };

/* What one matrix gave; tallied in order afterwards. */
struct job {
    int64_t layer;
    enum module module;
    char text[600]; /* "": all is true */
    struct figures worst;
    double seconds[3];
    int served[METHODS_MAX][3];
};
struct jobs {
    const struct checkpoint *base;
    struct job *job;
    const char *method; /* NULL: the chain */
};

static int method_number(const char *name) {
    int i = 0;
    while (svd_methods()[i] && strcmp(svd_methods()[i], name) != 0) i++;
    return i;
}

static void judge_end(struct job *j, const struct svd_matrix *w, const struct reference *f, int end,
                      const char *method) {
    static const char *const ends[] = {"bottom", "top", "middle"};
    struct svd_request q = {.end = (enum svd_end)end, .rank = RANK, .only = method};
    struct svd_result r;
    struct mil_error why = {0};
    int64_t index[RANK];
    char text[512];
    REQUIRE(svd_indices(&q, w->m, w->n, index, NULL) == MIL_OK);
    enum mil_status st = svd_compute(w, &q, &r, &why);
    if (st == MIL_NUMERIC && method) return;
    if (st != MIL_OK) {
        snprintf(j->text, sizeof j->text, "%s: %s", ends[end], why.message);
        return;
    }
    if (judge_result(f, index, &r, &j->worst, text, sizeof text))
        snprintf(j->text, sizeof j->text, "%s by %s: %s", ends[end], r.served_by, text);
    j->seconds[end] = r.seconds;
    j->served[method_number(r.served_by)][end]++;
    svd_release(&r);
}

static void run_jobs(void *ctx, int64_t begin, int64_t end) {
    const struct jobs *all = ctx;
    for (int64_t i = begin; i < end; i++) {
        struct job *j = &all->job[i];
        const struct weight_view *v = checkpoint_module(all->base, j->layer, j->module);
        float *values = mem_alloc(MEM_OTHER, (size_t)(v->rows * v->cols), sizeof *values);
        struct svd_matrix w = {values, DT_F32, v->rows, v->cols};
        struct reference f;
        REQUIRE(values);
        weight_to_f32(v, values);
        reference_init(&f, &w);
        j->worst.smallest = INFINITY;
        for (int e = SVD_BOTTOM; e <= SVD_MIDDLE; e++) judge_end(j, &w, &f, e, all->method);
        reference_release(&f);
        mem_free(values);
    }
}

static void add_figures(struct figures *sum, const struct figures *f) {
    sum->sigma = fmax(sum->sigma, f->sigma);
    sum->residual = fmax(sum->residual, f->residual);
    sum->orthogonality = fmax(sum->orthogonality, f->orthogonality);
    sum->cut = fmax(sum->cut, f->cut);
    sum->sine = fmax(sum->sine, f->sine);
    sum->of_bound = fmax(sum->of_bound, f->of_bound);
    sum->smallest = fmin(sum->smallest, f->smallest);
}

static void print_report(const struct job *job, int64_t n, const char *method) {
    struct figures sum = {.smallest = INFINITY};
    double seconds[3] = {0};
    int served[METHODS_MAX][3] = {{0}};
    for (int64_t i = 0; i < n; i++) {
        add_figures(&sum, &job[i].worst);
        for (int e = 0; e < 3; e++) seconds[e] += job[i].seconds[e];
        for (int k = 0; k < METHODS_MAX; k++)
            for (int e = 0; e < 3; e++) served[k][e] += job[i].served[k][e];
    }
    printf("%s, %lld matrices, r = %d: sigma %.2g, residual %.2g, orthogonality %.2g, cut %.2g "
           "(sigma_max), sine of the spaces %.2g (%.2g of its bound; smallest gap %.2g)\n",
           method ? method : "chain", (long long)n, RANK, sum.sigma, sum.residual,
           sum.orthogonality, sum.cut, sum.sine, sum.of_bound, sum.smallest);
    printf("  seconds, one thread a matrix: bottom %.2f, top %.2f, middle %.2f; served", seconds[0],
           seconds[1], seconds[2]);
    for (int k = 0; svd_methods()[k] && k < METHODS_MAX; k++)
        if (served[k][0] + served[k][1] + served[k][2])
            printf(" %s %d/%d/%d", svd_methods()[k], served[k][0], served[k][1], served[k][2]);
    printf("\n");
}

/* All jobs side by side; failures are printed, the first is not the last word. */
static void judge_all(const struct checkpoint *base, struct job *job, int64_t n,
                      const char *method) {
    struct jobs all = {base, job, method};
    int failures = 0;
    parallel_for(n, 1, run_jobs, &all);
    for (int64_t i = 0; i < n; i++) {
        if (!*job[i].text) continue;
        fprintf(stderr, "FAIL layer %lld %s, %s: %s\n", (long long)job[i].layer,
                module_suffix(job[i].module), method ? method : "chain", job[i].text);
        failures++;
    }
    print_report(job, n, method);
    if (failures) fail_msg("%d of %lld matrices", failures, (long long)n);
}

static bool wanted(int64_t layer, enum module module) {
    return !only_layer || (layer == atoi(only_layer) &&
                           (!only_module || strcmp(module_suffix(module), only_module) == 0));
}

static struct job *jobs_of(const struct checkpoint *base, bool everything, int64_t *n) {
    static const struct {
        int64_t layer;
        enum module module;
    } few[] = {{0, MODULE_Q}, {9, MODULE_K}, {15, MODULE_V}, {20, MODULE_UP}, {29, MODULE_DOWN}};
    int64_t layers = base->config.layers;
    struct job *job = mem_calloc(MEM_OTHER, (size_t)(layers * MODULES), sizeof *job);
    *n = 0;
    for (int64_t i = 0; i < layers * MODULES; i++) {
        bool take = everything || only_layer;
        for (size_t k = 0; k < sizeof few / sizeof *few; k++)
            take |= i == few[k].layer * MODULES + few[k].module;
        if (!take || !wanted(i / MODULES, (enum module)(i % MODULES))) continue;
        job[*n].layer = i / MODULES;
        job[(*n)++].module = (enum module)(i % MODULES);
    }
    return job;
}

static void judge_model(bool everything, const char *method) {
    struct checkpoint *base;
    int64_t n;
    assert_ok(checkpoint_open(test_smollm2_path(), CHECKPOINT_WEIGHTS, &base, &err));
    struct job *job = jobs_of(base, everything, &n);
    judge_all(base, job, n, method);
    mem_free(job);
    checkpoint_free(&base);
}

static void test_chain(void **state) {
    (void)state;
    skip_without_smollm2();
    if (only_method) skip();
    judge_model(getenv("MILORA_SLOW") != NULL, NULL);
}

/* The methods that are not LAPACK's, each by itself. */
static void test_methods(void **state) {
    (void)state;
    skip_without_smollm2();
    if (!getenv("MILORA_SLOW") && !only_method) {
        fprintf(stderr, "SKIP %s: each by itself needs MILORA_SLOW=1\n", __func__);
        skip();
    }
    for (const char *const *name = svd_methods(); *name; name++)
        if (only_method ? strcmp(*name, only_method) == 0 : strncmp(*name, "dge", 3) != 0)
            judge_model(false, *name);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_methods),
    };
    only_layer = argc > 1 ? argv[1] : NULL;
    only_module = argc > 2 ? argv[2] : NULL;
    only_method = argc > 3 ? argv[3] : NULL;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

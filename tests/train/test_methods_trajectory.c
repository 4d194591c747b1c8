/* SPDX-License-Identifier: Apache-2.0 */
/* Every adapter method and the combinations against PEFT (tools/golden/record_methods.py): where it
 * starts, the logits before the first step, loss and gradient norm of every step, the weights and
 * logits after the last; with dropout too, by the same masks; AdaLoRA's penalty and ranks.
 *
 * Bounds.  The recording is in f64.  A product of length k <= 48 in f32 errs by about sqrt(k) 2^-24 = 4e-7 of
 * its terms' sizes, some ten follow one another, and a loss is a mean over 80 tokens whose errors have
 * either sign: 3e-7 relative (measured: 5e-8).  A gradient norm is one more pass and no mean: 5e-6 (1e-6).
 * Starts are rounded once from f64: 2^-24 an entry, at most 2^-24 |x| = 3e-7 of |A| in A x: 5e-7 (1e-8);
 * LoRA-GA's come from a gradient in f32, whose singular vectors turn by its error, 1e-6, over the relative
 * gap of neighbours, 0.1 here: 1e-5 (6e-7).  Adam divides by a gradient's size, so a change of a weight has
 * its gradient's relative error, 1e-5 of the change's norm (3e-7), and four times that along a vector
 * (1e-6).  Logits, of order 4: 1e-5 before the steps (2e-6), 5e-5 after (4e-6).
 *     SmolLM2 has lengths up to 1536, 30 layers and outlying activations (a logit errs by 3e-5 before any
 * step), and Adam's first steps go either way where a gradient is within rounding of zero, so its row has
 * ten times what was measured: loss 2e-6, norm 5e-6, change 6e-6 (along a vector 2e-5: AdaLoRA's change
 * is so small that the rounding of W + change to f32 shows), logits 4e-5. */
#include "fixture.h"

#include <math.h>

enum { PROBED = 8, IDS = 8 };

struct bounds {
    double loss, norm;         /* relative, every step */
    double start, start_ga;    /* relative, factors; those from gradients */
    double end;                /* of a change, relative to its norm */
    double logits, logits_end; /* absolute */
};

static struct mil_error err;

/* ---- reading the recording ---- */

static double number(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);
    if (!json_is_number(v)) fail_msg("the recording lacks '%s'", key);
    return json_number_value(v);
}
static double number_at(const json_t *o, const char *key, size_t i) {
    return json_number_value(json_array_get(json_object_get(o, key), i));
}

static void near(const char *name, const char *what, double have, double want, double bound) {
    if (!(fabs(have - want) <= bound))
        fail_msg("%s: %s is %.9g, recorded %.9g (bound %.1e)", name, what, have, want, bound);
}

/* The settings every case has, those of the scale, those that stand in the recording. */
static void configure(struct config *c, const json_t *golden, const json_t *want,
                      const char *const *settings) {
    struct str text = {0};
    size_t i;
    const json_t *item;
    const char *model = json_string_value(json_object_get(want, "model"));
    tiny_config(c, test_tmp_dir(), settings);
    str_addf(&text, "r=%d", (int)number(golden, "r"));
    assert_ok(config_assign(c, str_c(&text), &err));
    str_reset(&text);
    str_addf(&text, "target_modules=[");
    json_array_foreach(json_object_get(golden, "targets"), i, item)
        str_addf(&text, "%s%s", i ? ", " : "", json_string_value(item));
    str_addf(&text, "]");
    assert_ok(config_assign(c, str_c(&text), &err));
    if (model && strcmp(model, "tiny") != 0) { /* a sibling of the tiny model */
        str_reset(&text);
        str_addf(&text, "model_name_or_path=%s/%s", TEST_DATA, model);
        assert_ok(config_assign(c, str_c(&text), &err));
    }
    json_array_foreach(json_object_get(want, "settings"), i, item)
        assert_ok(config_assign(c, json_string_value(item), &err));
    str_release(&text);
}

/* ---- factors ---- */

static double probe(int64_t j, double shift) {
    return cos(0.7 * (double)j + shift);
}
static double entry(const float *a, const float *b, int64_t i) {
    return (a ? (double)a[i] : 0) + (b ? (double)b[i] : 0);
}

/* Norms of A and B, |A x|, |B^T y| and the first entries of s B A x: nothing of them depends on signs or
 * rotations within the factors. */
struct summary {
    double a_norm, b_norm, ax, bty, bax[PROBED];
};

static void summarise(const struct delta *d, struct summary *s) {
    double *ax = calloc((size_t)d->r, sizeof *ax);
    assert_non_null(ax);
    *s = (struct summary){0};
    for (int64_t t = 0; t < d->r; t++) {
        double bty = 0;
        for (int64_t j = 0; j < d->n; j++) {
            double a = entry(d->a0, d->da, t * d->n + j);
            ax[t] += a * probe(j, 0.3);
            s->a_norm += a * a;
        }
        for (int64_t i = 0; i < d->m; i++) {
            double b = entry(d->b0, d->db, i * d->r + t);
            bty += b * probe(i, 0.5);
            s->b_norm += b * b;
            if (i < PROBED) s->bax[i] += d->alpha / (double)d->r * b * ax[t];
        }
        s->ax += ax[t] * ax[t];
        s->bty += bty * bty;
    }
    s->a_norm = sqrt(s->a_norm);
    s->b_norm = sqrt(s->b_norm);
    s->ax = sqrt(s->ax);
    s->bty = sqrt(s->bty);
    free(ax);
}

static const struct delta *delta_named(const struct adapter *a, const char *name) {
    for (size_t i = 0; i < a->n; i++) {
        char path[128];
        const struct delta *d = &a->deltas[i];
        snprintf(path, sizeof path, "model.layers.%lld.%s", (long long)d->layer,
                 module_path(d->module));
        if (!strcmp(path, name)) return d;
    }
    fail_msg("no module %s", name);
    return NULL;
}

static void check_start(const char *name, const struct adapter *a, const json_t *want,
                        double bound) {
    const char *module;
    json_t *w;
    json_object_foreach(json_object_get(want, "start"), module, w) {
        struct summary s;
        summarise(delta_named(a, module), &s);
        /* A and B by their products with a vector: entries of a size shared by all */
        near(name, "|A|", s.a_norm, number(w, "a_norm"), bound * number(w, "a_norm"));
        near(name, "|B|", s.b_norm, number(w, "b_norm"), bound * number(w, "b_norm"));
        near(name, "|A x|", s.ax, number(w, "ax"), bound * (number(w, "a_norm") + s.ax));
        near(name, "|B^T y|", s.bty, number(w, "bty"), bound * (number(w, "b_norm") + s.bty));
        for (size_t i = 0; json_object_get(w, "bax") && i < PROBED; i++)
            near(name, "s B A x", s.bax[i], number_at(w, "bax", i),
                 10 * bound * (s.b_norm * s.ax + 1e-9));
    }
}

/* W after the steps, less W. */
static void check_end(const char *name, const struct run *r, const json_t *want, double bound) {
    const char *module;
    json_t *w;
    json_object_foreach(json_object_get(want, "end"), module, w) {
        const struct delta *d = delta_named(r->adapter, module);
        const struct weight_view *v = checkpoint_module(r->session.base, d->layer, d->module);
        size_t bytes = (size_t)(d->m * d->n) * sizeof(float);
        float *before = malloc(bytes), *after = malloc(bytes);
        double norm = 0, size = number(w, "norm"), worst = 0;
        assert_true(before && after);
        weight_to_f32(v, before);
        memcpy(after, before, bytes);
        assert_ok(delta_add_to(d, after, &err));
        for (int64_t i = 0; i < d->m; i++) {
            double along = 0;
            for (int64_t j = 0; j < d->n; j++) {
                double change = (double)after[i * d->n + j] - before[i * d->n + j];
                along += change * probe(j, 0.3);
                norm += change * change;
            }
            if (i < PROBED) worst = fmax(worst, fabs(along - number_at(w, "change", (size_t)i)));
        }
        print_message("%-16s %s: |change| %.6g (%+.1e), along a vector to %.1e of it\n", name,
                      module, sqrt(norm), sqrt(norm) / size - 1, worst / size);
        near(name, "the norm of a weight's change", sqrt(norm), size, bound * size);
        near(name, "a weight's change along a vector", worst, 0, 4 * bound * size);
        free(before);
        free(after);
    }
}

/* ---- logits ---- */

/* Largest difference from the recording, which has every `columns`-th of each token's. */
static double logits_off(struct run *r, const json_t *golden, const json_t *want) {
    int32_t ids[IDS], slot = 0;
    int64_t past = 0, n = IDS, vocab = r->session.base->config.vocab,
            columns = (int64_t)number(golden, "columns");
    float *logits = malloc((size_t)(IDS * vocab) * sizeof(float));
    struct infer *s;
    struct infer_options o = {.slots = 1, .length = IDS, .max_tokens = IDS, .max_rows = IDS};
    struct infer_call call = {.ids = ids,
                              .slot = &slot,
                              .past = &past,
                              .n = &n,
                              .n_seqs = 1,
                              .all_rows = true,
                              .logits = logits};
    double worst = 0;
    assert_non_null(logits);
    for (size_t i = 0; i < IDS; i++) ids[i] = (int32_t)number_at(golden, "ids", i);
    assert_ok(infer_new(r->model, &o, &s, &err));
    assert_ok(infer_run(s, &call, &err));
    infer_free(&s);
    for (int64_t t = 0; t < IDS; t++)
        for (int64_t c = 0; c * columns < vocab; c++) {
            const json_t *row = json_array_get(want, (size_t)t),
                         *v = json_array_get(row, (size_t)c);
            if (!json_is_number(v)) fail_msg("the recording lacks logits");
            worst =
                fmax(worst, fabs((double)logits[t * vocab + c * columns] - json_number_value(v)));
        }
    free(logits);
    return worst;
}

/* ---- AdaLoRA ---- */

/* After step i: the penalty, the budget, and how many entries of each module's Lambda are not masked. */
static void check_adalora(const char *name, struct run *r, const struct mil_train_step *row,
                          const json_t *want, size_t i, double bound) {
    const json_t *ranks = json_array_get(json_object_get(want, "ranks"), i);
    if (!ranks) return;
    double penalty = number_at(want, "penalty", i);
    near(name, "the penalty", row->regularizer, penalty, bound * penalty);
    near(name, "the budget", (double)row->adalora_budget, number_at(want, "budget", i), 0);
    assert_ok(adapter_pull(r->runtime, &err));
    assert_int_equal(json_array_size(ranks), r->adapter->n);
    for (size_t k = 0; k < r->adapter->n; k++) {
        const struct delta *d = &r->adapter->deltas[k];
        double rank = json_number_value(json_array_get(ranks, k));
        int64_t left = 0;
        for (int64_t t = 0; t < d->r; t++) left += d->e[t] != 0;
        near(name, "a module's entries of Lambda", (double)left, rank, 0);
        near(name, "a module's rank", (double)adapter_module_rank(r->adapter, k), rank, 0);
    }
}

/* ---- a case ---- */

static void compare(const struct config *c, const json_t *golden, const char *name,
                    const json_t *want, const struct bounds *bounds) {
    struct run *r = calloc(1, sizeof *r);
    size_t steps = json_array_size(json_object_get(want, "loss"));
    bool from_gradients = strstr(name, "lora_ga") != NULL;
    const json_t *logits0 = json_object_get(want, "logits0"); /* of a model of its own */
    if (!logits0) logits0 = json_object_get(golden, "logits0");
    assert_non_null(r);
    assert_ok(run_open(r, c, NULL, NULL, &err));
    assert_int_equal(r->session.total_steps, steps);
    check_start(name, r->adapter, want, from_gradients ? bounds->start_ga : bounds->start);
    double off = logits_off(r, golden, logits0);
    print_message("%-16s logits before the steps: %.1e\n", name, off);
    near(name, "the largest difference of a logit at step 0", off, 0, bounds->logits);
    for (size_t i = 0; i < steps; i++) {
        struct mil_train_step row;
        double loss = number_at(want, "loss", i), norm = number_at(want, "grad_norm", i);
        assert_ok(run_update(r, &row, &err));
        print_message("%-16s step %zu  loss %.9g (%+.1e)  grad_norm %.9g (%+.1e)\n", name, i + 1,
                      row.loss, row.loss / loss - 1, row.grad_norm, row.grad_norm / norm - 1);
        near(name, "a loss", row.loss, loss, bounds->loss * loss);
        near(name, "a grad_norm", row.grad_norm, norm, bounds->norm * norm);
        check_adalora(name, r, &row, want, i, bounds->loss);
    }
    assert_ok(adapter_pull(r->runtime, &err));
    check_end(name, r, want, bounds->end);
    off = logits_off(r, golden, json_object_get(want, "logits"));
    print_message("%-16s logits after the steps: %.1e\n", name, off);
    near(name, "the largest difference of a logit after the steps", off, 0, bounds->logits_end);
    run_release(r);
    free(r);
}

/* ---- one test a case and scale ---- */

struct scale {
    const char *name, *recording, *settings[4];
    const char *only; /* names between blanks; NULL: all */
    bool slow;
    struct bounds bounds;
};
struct scenario {
    const struct scale *scale;
    const char *name;
    const json_t *golden, *want;
    char title[96];
};

#define TINY                                                                                       \
    { 3e-7, 5e-6, 5e-7, 1e-5, 1e-5, 1e-5, 5e-5 }
static const struct scale scales[] = {
    {"tiny", "methods_tiny.json", {NULL}, NULL, false, TINY},
    {"tiny, recomputed in small pieces",
     "methods_tiny.json",
     {"activation_recompute=true", "tokens_per_micro_batch=100"},
     " lora milora dora adalora lora_ga milora_dora_drop adalora_drop mica_drop milora_both "
     "dora_bias_all ",
     false,
     TINY},
    {"smollm2",
     "methods_smollm2.json",
     {NULL},
     NULL,
     true,
     {2e-5, 5e-5, 1e-6, 1e-4, 1e-4, 2e-4, 5e-4}},
};
enum { SCALES = sizeof scales / sizeof *scales, MOST = 256 };

static void run_scenario(void **state) {
    const struct scenario *s = *state;
    const char *settings[8] = {NULL};
    char model[PATH_CAP];
    struct config c;
    size_t n = 0;
    for (; s->scale->settings[n]; n++) settings[n] = s->scale->settings[n];
    if (s->scale->slow) {
        skip_without_smollm2();
        if (!getenv("MILORA_SLOW")) skip(); /* takes minutes */
        snprintf(model, sizeof model, "model_name_or_path=%s", test_smollm2_path());
        settings[n] = model;
    }
    configure(&c, s->golden, s->want, settings);
    compare(&c, s->golden, s->name, s->want, &s->scale->bounds);
    config_release(&c);
}

int main(int argc, char **argv) {
    static struct scenario scenarios[MOST];
    static struct CMUnitTest tests[MOST];
    json_t *golden[SCALES] = {NULL};
    size_t n = 0;
    for (size_t i = 0; i < SCALES; i++) {
        char path[PATH_CAP];
        const char *name;
        json_t *want;
        snprintf(path, sizeof path, "%s/%s", TEST_DATA, scales[i].recording);
        if (json_read_file(path, &golden[i], &err) != MIL_OK) {
            fprintf(stderr, "%s\n", err.message);
            return 1;
        }
        json_object_foreach(json_object_get(golden[i], "cases"), name, want) {
            char blank[80];
            snprintf(blank, sizeof blank, " %s ", name);
            if (scales[i].only && !strstr(scales[i].only, blank)) continue;
            if (n == MOST) return 1;
            struct scenario *s = &scenarios[n];
            *s = (struct scenario){&scales[i], name, golden[i], want, ""};
            snprintf(s->title, sizeof s->title, "%s (%s)", name, scales[i].name);
            tests[n++] = (struct CMUnitTest){s->title, run_scenario, NULL, NULL, s};
        }
    }
    if (argc > 1) cmocka_set_test_filter(argv[1]); /* "milora*" */
    int failed = _cmocka_run_group_tests("methods", tests, n, NULL, NULL);
    for (size_t i = 0; i < SCALES; i++) json_decref(golden[i]);
    return failed;
}

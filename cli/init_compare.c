/* SPDX-License-Identifier: Apache-2.0 */
/* init_compare.c - init --method all: one row a method, means over its modules; JSON has the modules too. */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "init_options.h"

struct table {
    bool json, headed;
    json_t *methods, *modules;
    size_t reasons;
    struct {
        char method[32], text[512];
    } reason[32]; /* told below the table */
};

static void print_head(void) {
    printf("%-10s %7s %6s %8s %7s %7s %7s %7s %7s %7s %7s %7s %7s %8s\n", "", "seconds", "scale",
           "part", "|A0|", "|B0|", "energy", "energy", "B0 top", "B0 bot", "A0 top", "A0 bot",
           "rate", "first");
    printf("%-10s %7s %6s %8s %7s %7s %7s %7s %7s %7s %7s %7s %7s %8s\n", "method", "", "s", "of W",
           "", "", "of B0", "of A0", "cos^2", "cos^2", "cos^2", "cos^2", "", "step");
}

/* -1: the factor spans nothing. */
static void print_share(double v) {
    if (v < 0)
        printf(" %7s", "-");
    else
        printf(" %7.4f", v);
}

static void print_row(const struct mil_compare_row *r) {
    const double shares[] = {r->energy_left, r->energy_right, r->left_top,
                             r->left_bottom, r->right_top,    r->right_bottom};
    printf("%-10s %7.2f %6.3g %8.5f %7.3g %7.3g", r->method, r->seconds, r->scale, r->part,
           r->norm_a, r->norm_b);
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) print_share(shares[i]);
    printf(" %7.1e %8.2g\n", r->learning_rate, r->first_step);
    fflush(stdout);
}

static json_t *share(double v) {
    return v < 0 ? json_null() : json_real(v);
}

static json_t *json_of(const struct mil_compare_row *r) {
    json_t *o =
        json_pack("{ss sI sf sf sf sf sf sf sf}", "method", r->method, "rank", (json_int_t)r->rank,
                  "alpha", r->alpha, "scale", r->scale, "learning_rate", r->learning_rate, "part",
                  r->part, "norm_a", r->norm_a, "norm_b", r->norm_b, "first_step", r->first_step);
    json_object_set_new(o, "energy_left", share(r->energy_left));
    json_object_set_new(o, "energy_right", share(r->energy_right));
    json_object_set_new(o, "left_top", share(r->left_top));
    json_object_set_new(o, "left_bottom", share(r->left_bottom));
    json_object_set_new(o, "right_top", share(r->right_top));
    json_object_set_new(o, "right_bottom", share(r->right_bottom));
    return o;
}

static void keep_json(struct table *t, const struct mil_compare_row *r) {
    if (r->reason) {
        json_array_append_new(t->methods,
                              json_pack("{ss ss}", "method", r->method, "reason", r->reason));
        return;
    }
    json_t *o = json_of(r);
    if (r->module) {
        json_object_set_new(o, "module", json_string(r->module));
        json_object_set_new(o, "rows", json_integer((json_int_t)r->rows));
        json_object_set_new(o, "cols", json_integer((json_int_t)r->cols));
        json_array_append_new(t->modules, o);
        return;
    }
    json_object_set_new(o, "seconds", json_real(r->seconds));
    json_object_set_new(o, "cached", json_integer((json_int_t)r->cached));
    json_object_set_new(o, "modules", t->modules);
    json_array_append_new(t->methods, o);
    t->modules = json_array();
}

static void keep_reason(struct table *t, const struct mil_compare_row *r) {
    printf("%-10s %7s\n", r->method, "-");
    if (t->reasons == sizeof t->reason / sizeof *t->reason) return;
    snprintf(t->reason[t->reasons].method, sizeof t->reason->method, "%s", r->method);
    snprintf(t->reason[t->reasons++].text, sizeof t->reason->text, "%s", r->reason);
}

static void on_row(void *ctx, const struct mil_compare_row *r) {
    struct table *t = ctx;
    screen_clear();
    if (!t->json && !t->headed) print_head();
    t->headed = true;
    if (t->json)
        keep_json(t, r);
    else if (r->reason)
        keep_reason(t, r);
    else if (!r->module)
        print_row(r);
    if (r->index + 1 < r->total && (r->reason || !r->module))
        screen_progress("method %zu of %zu", r->index + 2, r->total);
}

static void print_end(const struct table *t, const char *out) {
    for (size_t i = 0; i < t->reasons; i++)
        printf("%s: %s\n", t->reason[i].method, t->reason[i].text);
    puts("means over the modules; '-': the factor starts at zero; seconds: of one thread, as "
         "without\n"
         "a cache of decompositions");
    if (out) printf("%s/<method>: the adapters\n", out);
}

enum mil_status init_compare(const struct mil_adapter_options *options, bool json,
                             struct mil_error *err) {
    struct table t = {.json = json};
    if (json) t.methods = json_array();
    if (json) t.modules = json_array();
    screen_progress("reading %s", options->model);
    enum mil_status st = mil_adapter_compare(options, on_row, &t, err);
    screen_clear();
    json_decref(t.modules);
    if (st != MIL_OK || !json) {
        json_decref(t.methods);
        if (st == MIL_OK) print_end(&t, options->out);
        return st;
    }
    return cli_print_json(json_pack("{ss sI so}", "model", options->model, "rank",
                                    (json_int_t)options->rank, "methods", t.methods),
                          err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* plan_cells.c - methods x setups x points of the grid x seeds, each as a checked configuration.
 *
 * Groups stand setup by setup, point by point (the first key of the grid varies slowest), methods
 * innermost, so that what is compared stands together.  A group's name is made from the names it
 * consists of; it becomes a folder. */
#include <string.h>

#include "adapt/method.h"
#include "compare/plan.h"
#include "core/mem.h"

/* ---- methods and setups */

/* The entry's `method`, its name where there is none. */
static enum mil_status find_method(const struct compare_plan *p, const char *dotted,
                                   struct compare_entry *entry, struct mil_error *err) {
    const struct method *method;
    struct mil_error why = {0};
    if (!json_object_get(entry->keys, "method") &&
        json_object_set_new(entry->keys, "method", json_string(entry->name)) != 0)
        return error_nomem(err, 0);
    const char *name = json_string_value(json_object_get(entry->keys, "method"));
    if (method_find(name, &method, &why) == MIL_OK) return MIL_OK;
    return plan_bad(p, dotted, err, "%s", why.message);
}

/* One element of a list: its name, and keys without it. */
static enum mil_status read_entry(const struct compare_plan *p, const char *list, size_t i,
                                  const json_t *item, struct compare_entry *out,
                                  struct mil_error *err) {
    static const char *const not_method[] = {"seed", "model_name_or_path", NULL};
    static const char *const not_setup[] = {"seed", "model_name_or_path", "method", NULL};
    bool methods = strcmp(list, "methods") == 0;
    char dotted[64], slug[COMPARE_SLUG];
    snprintf(dotted, sizeof dotted, "%s.%zu", list, i);
    out->index = i;
    out->keys = json_is_object(item) ? json_deep_copy(item) : json_object();
    if (!out->keys) return error_nomem(err, 0);
    const json_t *name = json_is_object(item) ? json_object_get(item, "name") : item;
    if (!name && methods) name = json_object_get(item, "method");
    if (!json_is_string(name) || (!methods && !json_is_object(item)))
        return plan_bad(p, dotted, err, "must be %s",
                        methods ? "a method's name, or a map with name, method and other keys"
                                : "a map with name and the keys that it sets");
    out->name = json_string_value(name);
    TRY(plan_name(p, out->name, dotted, slug, err));
    json_object_del(out->keys, "name");
    TRY(plan_check_keys(p, out->keys, dotted, methods ? not_method : not_setup, err));
    return methods ? find_method(p, dotted, out, err) : MIL_OK;
}

static enum mil_status read_entries(const struct compare_plan *p, const char *list, size_t *n,
                                    struct compare_entry **out, struct mil_error *err) {
    const json_t *items = json_object_get(p->doc.root, list);
    *n = 0;
    if (!items || json_is_null(items)) return MIL_OK;
    if (!json_is_array(items) || json_array_size(items) == 0)
        return plan_bad(p, list, err, "must be a list with at least one entry");
    size_t count = json_array_size(items);
    *out = mem_calloc(MEM_OTHER, count, sizeof **out);
    if (!*out) return error_nomem(err, count * sizeof **out);
    *n = count;
    for (size_t i = 0; i < count; i++)
        TRY(read_entry(p, list, i, json_array_get(items, i), &(*out)[i], err));
    return MIL_OK;
}

/* ---- seeds */

static enum mil_status check_seed(const struct compare_plan *p, const json_t *seed,
                                  struct mil_error *err) {
    json_int_t value = json_integer_value(seed);
    if (json_is_integer(seed) && value >= 0 && value <= 9007199254740991) return MIL_OK;
    return plan_bad(p, "seeds", err, "must be whole numbers from 0 to 2^53 - 1");
}

static enum mil_status read_seeds(struct compare_plan *p, struct mil_error *err) {
    json_t *seeds = json_object_get(p->doc.root, "seeds");
    const json_t *common = json_object_get(p->common, "seed");
    if (!seeds || json_is_null(seeds)) seeds = NULL;
    size_t n = json_is_array(seeds) ? json_array_size(seeds) : 1;
    if (n == 0 || n > COMPARE_CELLS)
        return plan_bad(p, "seeds", err, "must be a list of 1 to %d numbers", COMPARE_CELLS);
    p->seeds.items = mem_calloc(MEM_OTHER, n, sizeof *p->seeds.items);
    if (!p->seeds.items) return error_nomem(err, n * sizeof *p->seeds.items);
    p->seeds.n = n;
    p->seeds.items[0] = common ? json_integer_value(common) : 42;
    for (size_t i = 0; seeds && i < n; i++) {
        const json_t *seed = json_is_array(seeds) ? json_array_get(seeds, i) : seeds;
        TRY(check_seed(p, seed, err));
        p->seeds.items[i] = json_integer_value(seed);
        for (size_t j = 0; j < i; j++)
            if (p->seeds.items[j] == p->seeds.items[i])
                return plan_bad(p, "seeds", err, "%lld stands twice", (long long)p->seeds.items[i]);
    }
    return MIL_OK;
}

/* ---- the grid */

/* Every value of every key is taken; *points: how many combinations. */
static enum mil_status check_grid(const struct compare_plan *p, const json_t *grid, size_t *points,
                                  struct mil_error *err) {
    static const char *const never[] = {"seed", "model_name_or_path", "method", NULL};
    const char *key;
    json_t *values;
    *points = 1;
    if (!grid) return MIL_OK;
    if (!json_is_object(grid)) return plan_bad(p, "grid", err, "must be a map of keys to lists");
    json_object_foreach((json_t *)grid, key, values) {
        char dotted[160];
        size_t n = json_array_size(values);
        snprintf(dotted, sizeof dotted, "grid.%.100s", key);
        if (n == 0) return plan_bad(p, dotted, err, "must be a list of values");
        for (size_t i = 0; i < n; i++) {
            json_t *one = json_object();
            enum mil_status st = one ? MIL_OK : error_nomem(err, 0);
            if (one && json_object_set(one, key, json_array_get(values, i)) != 0)
                st = error_nomem(err, 0);
            if (st == MIL_OK) st = plan_check_keys(p, one, "grid", never, err);
            json_decref(one);
            TRY(st);
        }
        if (!checked_mul(*points, n, points) || *points > COMPARE_CELLS)
            return plan_bad(p, "grid", err, "has more than %d points", COMPARE_CELLS);
    }
    return MIL_OK;
}

/* The point's number in mixed radix, the last key lowest. */
static enum mil_status grid_point(const json_t *grid, size_t points, size_t point, json_t **out,
                                  struct mil_error *err) {
    const char *key;
    json_t *values;
    *out = grid && !json_is_null(grid) ? json_object() : NULL;
    if (!*out) return grid && !json_is_null(grid) ? error_nomem(err, 0) : MIL_OK;
    json_object_foreach((json_t *)grid, key, values) {
        size_t n = json_array_size(values);
        points /= n;
        if (json_object_set(*out, key, json_array_get(values, point / points % n)) != 0)
            return error_nomem(err, 0);
    }
    return MIL_OK;
}

/* ---- groups */

static enum mil_status name_group(const struct compare_plan *p, struct compare_group *g,
                                  struct mil_error *err) {
    struct str text = {0};
    const char *key;
    json_t *value;
    str_add(&text, p->methods[g->method].name);
    if (p->n_setups) str_addf(&text, "-%s", p->setups[g->setup].name);
    json_object_foreach(g->grid, key, value) {
        str_addf(&text, "-%s-", key);
        plan_value_text(value, &text);
    }
    enum mil_status st = str_status(&text, err);
    if (st == MIL_OK && !plan_slug(str_c(&text), g->id, sizeof g->id))
        st = plan_bad(p, "methods", err,
                      "the name of a group, %.100s..., is longer than %d bytes: "
                      "choose shorter names",
                      str_c(&text), COMPARE_ID - 1);
    str_release(&text);
    return st;
}

static enum mil_status merge_group(const struct compare_plan *p, struct compare_group *g,
                                   struct mil_error *err) {
    g->set = json_object();
    g->keys = json_deep_copy(p->common);
    if (!g->set || !g->keys) return error_nomem(err, 0);
    int failed = json_object_update(g->set, p->methods[g->method].keys);
    if (p->n_setups) failed |= json_object_update(g->set, p->setups[g->setup].keys);
    if (g->grid) failed |= json_object_update(g->set, g->grid);
    json_t *own = json_deep_copy(g->set);
    failed |= !own || json_object_update(g->keys, own);
    json_decref(own);
    if (failed) return error_nomem(err, 0);
    json_object_del(g->keys, "seed");
    return plan_resolve_keys(p, g->keys, err);
}

/* All cells of a group differ in the seed alone: checking one checks them. */
static enum mil_status check_group(const struct compare_plan *p, struct compare_group *g,
                                   struct mil_error *err) {
    struct config c;
    enum mil_status st = plan_cell_config(p, g->first, &c, err);
    if (st == MIL_OK) st = config_check(&c, err);
    if (st == MIL_OK) {
        const struct method *method;
        st = method_find(c.method, &method, err);
        if (st == MIL_OK) g->method_name = method->name;
        g->rank = st == MIL_OK && method->adapter ? c.r : 0;
        g->alpha = g->rank ? config_alpha(&c) : 0;
        g->learning_rate = config_learning_rate(&c);
    }
    if (st != MIL_OK) {
        error_prefix(err, "%s: group %s: ", p->path, g->id);
        if (st == MIL_USAGE) st = err ? (err->status = MIL_INPUT) : MIL_INPUT;
    }
    config_release(&c);
    return st;
}

static enum mil_status make_group(struct compare_plan *p, size_t i, size_t points,
                                  struct mil_error *err) {
    struct compare_group *g = &p->groups[i];
    g->method = i % p->n_methods;
    g->point = i / p->n_methods % points;
    g->setup = i / p->n_methods / points;
    g->baseline = NO_GROUP;
    g->first = i * p->seeds.n;
    TRY(grid_point(json_object_get(p->doc.root, "grid"), points, g->point, &g->grid, err));
    TRY(name_group(p, g, err));
    for (size_t j = 0; j < i; j++)
        if (strcmp(p->groups[j].id, g->id) == 0)
            return plan_bad(p, "methods", err,
                            "two groups would be called %.120s: give their entries names that "
                            "differ",
                            g->id);
    TRY(merge_group(p, g, err));
    return check_group(p, g, err);
}

/* The method that others are compared with: the named one, else the first that is LoRA. */
static enum mil_status find_baseline(struct compare_plan *p, size_t *out, struct mil_error *err) {
    const char *names[256];
    size_t n = 0;
    *out = NO_GROUP;
    for (size_t i = 0; i < p->n_methods; i++) {
        const char *name = p->methods[i].name;
        const char *method = json_string_value(json_object_get(p->methods[i].keys, "method"));
        bool is = p->baseline ? strcmp(name, p->baseline) == 0 : strcmp(method, "lora") == 0;
        if (is && *out == NO_GROUP) *out = i;
        if (n < 256) names[n++] = name;
    }
    if (*out == NO_GROUP && p->baseline) {
        const char *near = str_nearest(p->baseline, names, n);
        return plan_bad(p, "baseline", err, "'%.100s' is none of the methods%s%.100s%s",
                        p->baseline, near ? "; did you mean '" : "", near ? near : "",
                        near ? "'?" : "");
    }
    if (*out != NO_GROUP) p->baseline = p->methods[*out].name;
    return MIL_OK;
}

enum mil_status plan_read_cells(struct compare_plan *p, struct mil_error *err) {
    size_t points, baseline, n;
    const json_t *grid = json_object_get(p->doc.root, "grid");
    TRY(read_entries(p, "methods", &p->n_methods, &p->methods, err));
    if (p->n_methods == 0) return plan_bad(p, "", err, "the key 'methods' is missing");
    TRY(read_entries(p, "setups", &p->n_setups, &p->setups, err));
    TRY(read_seeds(p, err));
    TRY(check_grid(p, json_is_null(grid) ? NULL : grid, &points, err));
    TRY(find_baseline(p, &baseline, err));
    if (!checked_mul(p->n_methods, points, &n) ||
        !checked_mul(n, p->n_setups ? p->n_setups : 1, &n) || n > COMPARE_GROUPS)
        return plan_bad(p, "methods", err, "methods x setups x grid are more than %d groups",
                        COMPARE_GROUPS);
    if (!checked_mul(n, p->seeds.n, &p->n_cells) || p->n_cells > COMPARE_CELLS)
        return plan_bad(p, "methods", err, "methods x setups x grid x seeds are more than %d cells",
                        COMPARE_CELLS);
    p->groups = mem_calloc(MEM_OTHER, n, sizeof *p->groups);
    if (!p->groups) return error_nomem(err, n * sizeof *p->groups);
    for (size_t i = 0; i < n; i++) {
        p->n_groups = i + 1;
        TRY(make_group(p, i, points, err));
        if (baseline != NO_GROUP && p->groups[i].method != baseline)
            p->groups[i].baseline = i - p->groups[i].method + baseline;
    }
    return MIL_OK;
}

/* ---- a cell's configuration */

static enum mil_status set_default(struct config *c, const struct compare_group *g, const char *key,
                                   json_t *value, struct mil_error *err) {
    enum mil_status st = value ? MIL_OK : error_nomem(err, 0);
    if (st == MIL_OK && config_key_find(key) && !json_object_get(g->keys, key))
        st = config_set(c, key, value, "", MIL_INPUT, err);
    json_decref(value);
    return st;
}

/* load_best_model_at_end wants a multiple of eval_steps. */
static json_int_t save_steps(const struct compare_group *g) {
    json_int_t every = json_integer_value(json_object_get(g->keys, "eval_steps"));
    if (every < 1 || !json_is_true(json_object_get(g->keys, "load_best_model_at_end")))
        return COMPARE_SAVE_STEPS;
    return every < COMPARE_SAVE_STEPS ? COMPARE_SAVE_STEPS / every * every : every;
}

/* What a comparison wants of a run where the plan does not say otherwise: checkpoints close enough
 * that a kill costs little, one of them, and one store of decompositions for all cells. */
static enum mil_status set_defaults(const struct compare_plan *p, size_t cell, struct config *c,
                                    struct mil_error *err) {
    const struct compare_group *g = plan_group_of(p, cell);
    char id[COMPARE_ID + 32], path[PATH_CAP], tail[COMPARE_ID + 64];
    plan_cell_id(p, cell, id);
    snprintf(tail, sizeof tail, "cells/%s/train", id);
    TRY(path_join(path, p->output_dir, tail, err));
    TRY(set_default(c, g, "output_dir", json_string(path), err));
    TRY(set_default(c, g, "seed", json_integer(plan_seed_of(p, cell)), err));
    TRY(set_default(c, g, "save_steps", json_integer(save_steps(g)), err));
    TRY(set_default(c, g, "save_total_limit", json_integer(1), err));
    TRY(path_join(path, p->output_dir, "svd-cache", err));
    return set_default(c, g, "svd_cache", json_string(path), err);
}

enum mil_status plan_cell_config(const struct compare_plan *p, size_t cell, struct config *out,
                                 struct mil_error *err) {
    const char *key;
    json_t *value;
    char place[PATH_CAP + 8];
    snprintf(place, sizeof place, "%s: ", p->path);
    enum mil_status st = config_init(out, err);
    json_object_foreach(plan_group_of(p, cell)->keys, key, value) {
        if (st != MIL_OK) break;
        st = config_set(out, key, value, place, MIL_INPUT, err);
    }
    if (st == MIL_OK) st = set_defaults(p, cell, out, err);
    return st;
}

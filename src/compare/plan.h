/* SPDX-License-Identifier: Apache-2.0 */
/* plan.h - a comparison's plan: PLAN.yaml, changed by assignments, as groups, cells and steps.
 *
 * docs/formats/compare.md describes the file.  A plan is read strictly: every key is known, every
 * cell's configuration passes the checks of train/config.h, before anything runs.  Strings are
 * borrowed from the plan's trees.  Rank-mates: folder.h (where a cell's files lie), steps.h (what a
 * cell does), results.h. */
#ifndef MIL_COMPARE_PLAN_H
#define MIL_COMPARE_PLAN_H

#include "io/file.h"
#include "io/json.h"
#include "io/yaml.h"
#include "model/config.h"
#include "train/config.h"

#define COMPARE_CELLS 10000 /* most of them */
#define COMPARE_GROUPS 512
#define COMPARE_TASKS 64
enum { COMPARE_ID = 200, COMPARE_SLUG = 64, COMPARE_SAVE_STEPS = 100 };
#define NO_GROUP SIZE_MAX

struct compare_task {
    const char *name, *task;
    char slug[COMPARE_SLUG]; /* in file names */
    json_t *options;         /* of `milora eval`, with _ for -; `data` is resolved */
    bool share;              /* the metric lies in [0, 1] */
    bool averaged;           /* counts in the average */
    bool higher_is_better;
};
enum compare_analysis {
    COMPARE_FORGETTING,
    COMPARE_INTERFERENCE,
    COMPARE_SUBSPACE,
    COMPARE_ANALYSES
};
extern const char *const compare_analysis_names[COMPARE_ANALYSES];

/* A method's or a setup's entry. */
struct compare_entry {
    const char *name;
    json_t *keys; /* of a configuration; owned */
    size_t index; /* in its list */
};
/* Cells that differ in the seed alone: cells [first, first + n_seeds). */
struct compare_group {
    char id[COMPARE_ID];
    size_t method, setup, point; /* indices; 0 where there is no setup, no grid */
    const char *method_name;     /* as the configuration resolves it: "milora" */
    json_t *keys;                /* of all its sources but the seed, paths resolved; owned */
    json_t *set;                 /* of method, setup and point alone; owned */
    json_t *grid;                /* the point, or NULL; owned */
    int64_t rank, trainable;     /* trainable: 0 before plan_count */
    double learning_rate, alpha;
    size_t baseline; /* NO_GROUP: none, or it is one itself */
    size_t first;
};
enum compare_keep { KEEP_ADAPTERS, KEEP_NONE, KEEP_ALL };
struct compare_plan {
    char path[PATH_CAP], dir[PATH_CAP]; /* of the plan; dir "" for the working directory */
    char output_dir[PATH_CAP], model[PATH_CAP], recipe_path[PATH_CAP];
    struct yaml_doc doc; /* after the assignments */
    json_t *identity;    /* as plan.yaml keeps it: the recipe's keys inside, paths as written */
    json_t *common;      /* keys of recipe and train, as written */
    const char *title, *baseline;
    struct compare_entry *methods, *setups;
    size_t n_methods, n_setups; /* n_setups 0: none given */
    struct config_numbers seeds;
    struct compare_task *tasks;
    size_t n_tasks;
    json_t *analyses[COMPARE_ANALYSES]; /* options, or NULL; owned */
    bool base;
    enum compare_keep keep;
    struct compare_group *groups;
    size_t n_groups, n_cells;
};

/* Reads and checks everything but the data and the model.  plan_release also after failure. */
enum mil_status plan_read(const char *path, const char *const *assignments, size_t n,
                          struct compare_plan *out, struct mil_error *err);
void plan_release_all(struct compare_plan *p);
/* The model's config.json: trainable parameters of each group; modules that match nothing, and
 * options of analyses that the model cannot have. */
enum mil_status plan_count(struct compare_plan *p, struct mil_error *err);
/* Files of tasks and analyses are there. */
enum mil_status plan_check_data(const struct compare_plan *p, struct mil_error *err);
/* The configuration of a cell; config_release also after failure. */
enum mil_status plan_cell_config(const struct compare_plan *p, size_t cell, struct config *out,
                                 struct mil_error *err);
static inline const struct compare_group *plan_group_of(const struct compare_plan *p, size_t cell) {
    return &p->groups[cell / p->seeds.n];
}
static inline int64_t plan_seed_of(const struct compare_plan *p, size_t cell) {
    return p->seeds.items[cell % p->seeds.n];
}
/* "<group>/seed-<seed>" */
void plan_cell_id(const struct compare_plan *p, size_t cell, char out[COMPARE_ID + 32]);
/* The type of products in `common`: "bf16" unless a key says otherwise. */
const char *plan_compute_type(const json_t *keys);

/* ---- parts of plan_read */

/* MIL_INPUT "FILE:LINE: <dotted>: <message>"; the line is that of dotted, or of what holds it. */
enum mil_status plan_bad(const struct compare_plan *p, const char *dotted, struct mil_error *err,
                         const char *fmt, ...) MIL_PRINTF(4, 5);
/* "FILE:LINE: " of a dotted path, or "the command line: " where an assignment made it. */
void plan_place(const struct compare_plan *p, const char *dotted, char out[400]);
/* Members of an object are among `known` (NULL-terminated). */
enum mil_status plan_known(const struct compare_plan *p, const json_t *object, const char *dotted,
                           const char *const *known, struct mil_error *err);
/* Lower-case letters, digits, . _ - ("plus" for +); "x" where nothing is left, never begins with
 * a dot.  false: too long. */
bool plan_slug(const char *text, char *out, size_t cap);
/* A name as the plan may give one, and its slug. */
enum mil_status plan_name(const struct compare_plan *p, const char *name, const char *dotted,
                          char slug[COMPARE_SLUG], struct mil_error *err);
/* A value as text: strings bare, lists with commas, numbers as JSON has them.  Appended. */
void plan_value_text(const json_t *value, struct str *out);
/* plan_change.c: "a.b=value" on the document. MIL_USAGE. */
enum mil_status plan_change(struct compare_plan *p, const char *assignment, struct mil_error *err);
/* plan_keys.c */
/* Every member is a key that a configuration takes with that value; none of `forbidden`. */
enum mil_status plan_check_keys(const struct compare_plan *p, const json_t *keys,
                                const char *dotted, const char *const *forbidden,
                                struct mil_error *err);
/* recipe and train: fills common, identity. */
enum mil_status plan_read_common(struct compare_plan *p, struct mil_error *err);
/* A path as the plan means it. */
enum mil_status plan_path(const struct compare_plan *p, const char *path, char out[PATH_CAP],
                          struct mil_error *err);
/* The paths among the keys of a configuration, in place. */
enum mil_status plan_resolve_keys(const struct compare_plan *p, json_t *keys,
                                  struct mil_error *err);
/* plan_cells.c: methods, setups, grid, seeds -> groups. */
enum mil_status plan_read_cells(struct compare_plan *p, struct mil_error *err);
/* plan_tasks.c */
enum mil_status plan_read_tasks(struct compare_plan *p, struct mil_error *err);

/* plan_analyses.c: layers, modules, ranks, lengths that the model does not have. */
enum mil_status plan_check_analyses(const struct compare_plan *p, const struct model_config *model,
                                    struct mil_error *err);

#endif

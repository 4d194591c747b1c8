/* SPDX-License-Identifier: Apache-2.0 */
/* steps.c - a cell's steps as commands of our own program.
 *
 * A step is done when its file is there: each is written whole or not at all.  Training leaves
 * several files, so usage.json says that its process ended well.  What was begun and can be gone on
 * with (checkpoints, graded rows) is passed on by --resume. */
#include "compare/steps.h"

#include <string.h>

#include "eval/resume.h"

static void add(struct compare_step *step, enum step_kind kind, size_t index, const char *prefix,
                const char *name) {
    step->kind = kind;
    step->index = index;
    snprintf(step->name, sizeof step->name, "%s%s", prefix, name);
}

size_t steps_list(const struct compare_plan *p, size_t cell,
                  struct compare_step out[COMPARE_STEPS]) {
    size_t n = 0;
    if (cell != BASE_CELL) add(&out[n++], STEP_TRAIN, 0, "", "train");
    for (size_t i = 0; i < p->n_tasks; i++) add(&out[n++], STEP_EVAL, i, "eval-", p->tasks[i].slug);
    if (cell == BASE_CELL) return n;
    for (int i = 0; i < COMPARE_ANALYSES; i++)
        if (p->analyses[i]) add(&out[n++], STEP_ANALYSIS, (size_t)i, "", compare_analysis_names[i]);
    return n;
}

enum mil_status step_is_done(const struct compare_plan *p, size_t cell,
                             const struct compare_step *step, const json_t *usage, bool *done,
                             struct mil_error *err) {
    char name[COMPARE_SLUG + 16], path[PATH_CAP];
    if (step->kind == STEP_TRAIN) {
        *done = json_is_true(json_object_get(json_object_get(usage, step->name), "done"));
        return MIL_OK;
    }
    snprintf(name, sizeof name, "%s.json", step->name);
    TRY(folder_path(p, cell, name, path, err));
    *done = path_exists(path);
    return MIL_OK;
}

/* ---- before */

static enum mil_status write_config(const struct compare_plan *p, size_t cell,
                                    struct mil_error *err) {
    struct config c;
    struct str text = {0};
    char path[PATH_CAP];
    enum mil_status st = plan_cell_config(p, cell, &c, err);
    if (st == MIL_OK) st = config_write(&c, &text, err);
    if (st == MIL_OK) st = str_status(&text, err);
    if (st == MIL_OK) st = folder_path(p, cell, "config.yaml", path, err);
    if (st == MIL_OK) st = file_write(path, text.data, text.len, err);
    str_release(&text);
    config_release(&c);
    return st;
}

static enum mil_status has_checkpoint(const char *train, bool *out, struct mil_error *err) {
    char **names;
    size_t n;
    *out = false;
    if (!path_is_dir(train)) return MIL_OK;
    TRY(dir_list(train, &names, &n, err));
    for (size_t i = 0; i < n; i++) *out = *out || str_starts(names[i], "checkpoint-");
    dir_list_free(names, n);
    return MIL_OK;
}

enum mil_status step_prepare(const struct compare_plan *p, size_t cell,
                             const struct compare_step *step, struct mil_error *err) {
    char path[PATH_CAP];
    bool resumes;
    TRY(folder_path(p, cell, "", path, err));
    TRY(dir_make(path, err));
    if (step->kind != STEP_TRAIN) return MIL_OK;
    TRY(write_config(p, cell, err));
    TRY(folder_path(p, cell, "train", path, err));
    TRY(has_checkpoint(path, &resumes, err));
    return resumes ? MIL_OK : dir_remove(path, err);
}

/* ---- commands */

struct builder {
    const struct compare_plan *plan;
    size_t cell;
    const struct compare_step *step;
    struct process_words *words;
};

/* A file of the cell as the next word. */
static enum mil_status add_path(struct builder *b, const char *name, char path[PATH_CAP],
                                struct mil_error *err) {
    TRY(folder_path(b->plan, b->cell, name, path, err));
    words_add(b->words, path);
    return MIL_OK;
}

/* "max_tokens: 20" as "--max-tokens 20". */
static enum mil_status add_option(struct builder *b, const char *key, const json_t *value,
                                  struct mil_error *err) {
    struct str word = {0}, text = {0};
    if (json_is_null(value) || json_is_false(value)) return MIL_OK;
    str_addf(&word, "--%s", key);
    for (char *s = word.data; s && *s; s++)
        if (*s == '_') *s = '-';
    if (!json_is_true(value)) plan_value_text(value, &text);
    enum mil_status st = str_status(&word, err);
    if (st == MIL_OK) st = str_status(&text, err);
    if (st == MIL_OK) words_add(b->words, str_c(&word));
    if (st == MIL_OK && !json_is_true(value)) words_add(b->words, str_c(&text));
    str_release(&word);
    str_release(&text);
    return st;
}

static enum mil_status add_options(struct builder *b, const json_t *options, bool dtype,
                                   struct mil_error *err) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)options, key, value) {
        if (strcmp(key, "name") == 0 || strcmp(key, "average") == 0) continue;
        TRY(add_option(b, key, value, err));
    }
    if (!dtype || json_object_get(options, "dtype")) return MIL_OK;
    const json_t *keys =
        b->cell == BASE_CELL ? b->plan->common : plan_group_of(b->plan, b->cell)->keys;
    words_add(b->words, "--dtype");
    words_add(b->words, plan_compute_type(keys));
    return MIL_OK;
}

/* A full fine-tune leaves a model; everything else an adapter of ours. */
static enum mil_status add_model(struct builder *b, bool option, struct mil_error *err) {
    char path[PATH_CAP];
    bool base = b->cell == BASE_CELL, full = !base && plan_group_of(b->plan, b->cell)->rank == 0;
    if (option && full) return add_path(b, "train", path, err);
    words_add(b->words, b->plan->model);
    if (base) return MIL_OK;
    if (option) words_add(b->words, "--adapter");
    return add_path(b, "train", path, err);
}

static enum mil_status train_words(struct builder *b, struct mil_error *err) {
    char path[PATH_CAP];
    words_add(b->words, "train");
    TRY(add_path(b, "config.yaml", path, err));
    TRY(folder_path(b->plan, b->cell, "train", path, err));
    if (path_is_dir(path)) words_add(b->words, "--resume=last");
    return MIL_OK;
}

/* The judge's file, under a name that tells the cells apart. */
static enum mil_status judge_words(struct builder *b, const struct compare_task *task,
                                   struct mil_error *err) {
    char path[PATH_CAP], name[COMPARE_SLUG + 32], id[COMPARE_ID + 64];
    words_add(b->words, "--outputs");
    snprintf(name, sizeof name, "model_outputs-%s.json", task->slug);
    TRY(add_path(b, name, path, err));
    if (json_object_get(task->options, "generator")) return MIL_OK;
    folder_relative(b->plan, b->cell, id);
    words_add(b->words, "--generator");
    words_add(b->words, b->cell == BASE_CELL ? id : id + strlen("cells/"));
    return MIL_OK;
}

static enum mil_status eval_words(struct builder *b, struct mil_error *err) {
    const struct compare_task *task = &b->plan->tasks[b->step->index];
    char path[PATH_CAP], name[COMPARE_SLUG + 32];
    words_add(b->words, "eval");
    TRY(add_model(b, true, err));
    TRY(add_options(b, task->options, true, err));
    if (strcmp(task->task, "alpaca_eval") == 0) TRY(judge_words(b, task, err));
    words_add(b->words, "--out");
    snprintf(name, sizeof name, "%s.json", b->step->name);
    TRY(add_path(b, name, path, err));
    words_add(b->words, "--samples");
    snprintf(name, sizeof name, "samples-%s.jsonl", task->slug);
    TRY(add_path(b, name, path, err));
    /* Rows that another version graded are graded anew: one value, one program. */
    if (resume_by_this_program(path)) words_add(b->words, "--resume");
    return MIL_OK;
}

/* Analyses of single weights decompose the base's: once for all cells, where the training's are. */
static enum mil_status cache_words(struct builder *b, struct mil_error *err) {
    const json_t *given = json_object_get(plan_group_of(b->plan, b->cell)->keys, "svd_cache");
    char path[PATH_CAP];
    if (given && !json_is_string(given)) return MIL_OK;
    TRY(path_join(path, b->plan->output_dir, "svd-cache", err));
    words_add(b->words, "--svd-cache");
    words_add(b->words, given ? json_string_value(given) : path);
    return MIL_OK;
}

static enum mil_status analysis_words(struct builder *b, struct mil_error *err) {
    bool forgetting = b->step->index == COMPARE_FORGETTING;
    words_add(b->words, "analyze");
    words_add(b->words, b->step->name);
    TRY(add_model(b, false, err));
    TRY(add_options(b, b->plan->analyses[b->step->index], forgetting, err));
    if (!forgetting) TRY(cache_words(b, err));
    words_add(b->words, "--json");
    return MIL_OK;
}

enum mil_status step_command(const struct compare_plan *p, size_t cell,
                             const struct compare_step *step, const char *program, int64_t threads,
                             struct step_command *out, struct mil_error *err) {
    struct builder b = {p, cell, step, &out->words};
    char name[COMPARE_SLUG + 32];
    memset(out, 0, sizeof *out);
    words_add(b.words, program);
    if (step->kind == STEP_TRAIN) TRY(train_words(&b, err));
    if (step->kind == STEP_EVAL) TRY(eval_words(&b, err));
    if (step->kind == STEP_ANALYSIS) {
        TRY(analysis_words(&b, err));
        snprintf(name, sizeof name, "%s.json", step->name);
        TRY(folder_path(p, cell, name, out->final, err));
        snprintf(name, sizeof name, "%s.json.part", step->name);
        TRY(folder_path(p, cell, name, out->out, err));
    }
    words_add(b.words, "--quiet");
    if (threads > 0) {
        snprintf(name, sizeof name, "%lld", (long long)threads);
        words_add(b.words, "--threads");
        words_add(b.words, name);
    }
    return words_status(b.words, err);
}

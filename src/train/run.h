/* SPDX-License-Identifier: Apache-2.0 */
/* run.h - a training run: everything it holds while it works, and its parts (internal to src/train,
 * except train_run and the stop request, which the public API wraps). */
#ifndef MIL_TRAIN_RUN_H
#define MIL_TRAIN_RUN_H

#include "adapt/adapter.h"
#include "milora/train.h"
#include "train/loader.h"
#include "train/log.h"
#include "train/optimizer.h"
#include "train/session.h"

/* What a checkpoint of step `step` continues from. */
struct progress {
    int64_t step, total_tokens;
    double elapsed;       /* seconds of training, earlier runs included */
    int64_t first_update; /* first step with a learning rate above 0; 0: none yet */
};
/* The state with the lowest eval_loss so far (load_best_model_at_end); the earlier one of equals. */
struct best_state {
    int64_t step;  /* 0: none yet */
    int64_t since; /* patience counts from here: its step, or where the search began */
    double loss;
    char path[PATH_CAP]; /* its checkpoint */
};
/* Of the steps that are profiled. */
struct run_profile {
    int64_t steps, tokens;
    double seconds, product_rate;
    char product[64];
};
struct run {
    struct config config; /* own copy, with what was resolved */
    struct mil_train_callbacks on;
    struct session session;
    struct backend *backend;
    struct model *model;
    struct adapter *adapter; /* NULL for method full, as is runtime */
    struct adapter_runtime *runtime;
    struct full *full;
    struct trainable *trainable;
    struct optimizer optimizer;
    struct loader loader;
    struct micro_batch micro;
    struct step *step;
    struct train_log log;
    struct progress progress;
    struct best_state best;
    struct run_profile profile;
    char data_hash[HASH_HEX], base_hash[HASH_HEX];
    char eval_hash[HASH_HEX];       /* "" without eval_dataset */
    char resume_path[PATH_CAP];     /* "" for a fresh run */
    char checkpoint_path[PATH_CAP]; /* the newest one, "" if none */
    int64_t saved_step;             /* of that one, 0 if none */
};

/* train.c: the whole run. */
enum mil_status train_run(const struct config *config, const char *resume,
                          const struct mil_train_callbacks *on, struct mil_train_result *out,
                          struct mil_error *err);
void train_request_stop(void);
void train_clear_stop(void);
bool train_stop_requested(void);

/* One optimiser step, number progress.step + 1; *row lacks the times.  MIL_NUMERIC: not finite, the
 * state before it is saved. */
enum mil_status run_update(struct run *r, struct mil_train_step *row, struct mil_error *err);

/* setup.c: from configuration to a run that can make its next step; teardown in reverse. */
enum mil_status run_open(struct run *r, const struct config *config, const char *resume,
                         const struct mil_train_callbacks *on, struct mil_error *err);
void run_release(struct run *r);
/* micro_steps.c: forward and backward of the samples of one optimiser step; gradients are summed.
 */
struct step_sums {
    double loss; /* sum over the supervised tokens */
    int64_t tokens, rows;
    const int64_t *bad; /* bad_n samples of the first micro-batch whose loss is not finite */
    int64_t bad_n;
};
enum mil_status run_gradients(struct run *r, const int64_t *samples, int64_t n, int64_t step,
                              struct step_sums *sums, struct mil_error *err);
/* Mean loss over the evaluation data. */
enum mil_status run_evaluate(struct run *r, struct mil_eval_row *out, struct mil_error *err);

/* profile_report.c: only where on.on_profile asks for it.  Before the first step: measures the
 * machine's products.  After each: a step of the profile took so long.  At the end: tells the caller
 * and writes profile.json. */
enum mil_status run_profile_start(struct run *r, struct mil_error *err);
void run_profile_step(struct run *r, int64_t tokens, double seconds);
enum mil_status run_profile_finish(struct run *r, struct mil_error *err);

/* output_dir.c: what lies in an output directory. */
/* MIL_ACCESS when anything is in dir and overwrite is not set, or names that a run uses are there
 * without the train_config.yaml that every run leaves; changes nothing. */
enum mil_status output_check(const char *dir, bool overwrite, struct mil_error *err);
/* Ready for a fresh run: made if absent, emptied of an earlier run's files (of a directory with
 * train_config.yaml). MIL_ACCESS when
 * nothing can be written there. */
enum mil_status output_prepare(const char *dir, struct mil_error *err);
/* Remove what a killed run left half-made. */
void output_sweep(const char *dir);
/* Newest "checkpoint-N" in dir into path; MIL_ACCESS when there is none. */
enum mil_status output_last_checkpoint(const char *dir, char path[PATH_CAP], struct mil_error *err);
/* Remove all but the newest `keep` checkpoints, never those of steps `written` and `best`, which count
 * among them; keep 0: all stay. */
enum mil_status output_rotate(const char *dir, int64_t keep, int64_t written, int64_t best,
                              struct mil_error *err);

/* state_save.c: checkpoint-<step> in the output directory; the result beside it. */
enum mil_status state_save(struct run *r, struct mil_error *err);
enum mil_status result_save(struct run *r, struct mil_error *err);
/* state_check.c: does the checkpoint belong to this configuration, base and data?  Takes what the
 * run resolves from it (micro-batch size, history, progress).  MIL_MISMATCH naming the key. */
enum mil_status state_check(struct run *r, struct mil_error *err);
/* What state_check compares: the configuration's keys that matter, and the hashes. */
json_t *state_identity(const struct run *r);
/* state_load.c: values and moments of every param, from a checkpoint's directory. */
enum mil_status state_load(struct run *r, const char *dir, struct mil_error *err);
/* best.c: which state was the best.  An evaluation that was made of the state at hand: is it the best so far? Then
 * r->best says so, and its checkpoint is still to be saved. */
bool best_consider(struct run *r, struct mil_eval_row *row);
/* On resuming, from trainer_state.json.  MIL_ACCESS: its checkpoint is gone. */
enum mil_status best_resume(struct run *r, const json_t *root, const json_t *own, const char *where,
                            struct mil_error *err);
/* early_stopping_patience is used up. */
bool best_is_stale(const struct run *r);
/* At the end: the run holds the best state. */
enum mil_status best_restore(struct run *r, struct mil_error *err);

/* state_tensors.c: the tensors of optimizer.safetensors, in order. */
struct state_tensor {
    char name[160];
    struct tensor device; /* on the backend, or */
    float *host;          /* on the host (A0, B0, dA, dB) */
    int64_t rows, cols;
};
/* How many, and the i-th. */
size_t state_tensor_count(const struct run *r);
void state_tensor_at(const struct run *r, size_t i, struct state_tensor *out);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* log.h - what a run tells of its steps: rows of trainer_log.jsonl, scalars for TensorBoard, and
 * the same rows kept as the log_history of checkpoints.  docs/formats/logs.md */
#ifndef MIL_TRAIN_LOG_H
#define MIL_TRAIN_LOG_H

#include "milora/train.h"
#include "train/config.h"
#include "train/tfevents.h"

struct train_log {
    struct str history; /* the rows so far, one line each */
    FILE *f;            /* trainer_log.jsonl, or NULL */
    char path[PATH_CAP];
    bool tensorboard;
    struct tfevents events;
};
/* history holds the rows up to from_step (empty for a fresh run); trainer_log.jsonl becomes just
 * these, so that the log of a resumed run has neither gap nor double. */
enum mil_status train_log_open(struct train_log *log, const struct config *c, int64_t from_step,
                               struct mil_error *err);
/* One row.  step NULL: only the evaluation; eval NULL: none was due. */
enum mil_status train_log_row(struct train_log *log, const struct mil_train_step *step,
                              const struct mil_eval_row *eval, struct mil_error *err);
/* Closes files; history is freed too.  Safe on a zeroed object. */
void train_log_release(struct train_log *log);

#endif

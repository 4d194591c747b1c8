/* SPDX-License-Identifier: Apache-2.0 */
/* internal.h - what the files of src/model share about a struct model. */
#ifndef MIL_MODEL_INTERNAL_H
#define MIL_MODEL_INTERNAL_H

#include "model/model.h"
#include "model/weight_list.h"

/* The tensor and the gradient that a slot stands for. */
struct tensor *model_tensor(struct model *m, const struct weight_slot *s);
struct tensor *model_gradient(struct model *m, const struct weight_slot *s);
/* Type in which a weight takes part in the computation: act for matrices, real for vectors. */
enum dtype model_weight_dtype(const struct backend *b, const struct weight_slot *s);
/* The view behind a slot of a checkpoint with weights. */
const struct weight_view *checkpoint_slot(const struct checkpoint *c, const struct weight_slot *s);
/* Stored values into host memory as t. NaN or infinity is MIL_INPUT naming tensor and element. */
enum mil_status weight_load(const struct checkpoint *c, const struct weight_view *v, enum dtype t,
                            void *dst, struct mil_error *err);
/* A model with shapes and the rope table, without weights. */
enum mil_status model_frame(const struct model_config *c, struct backend *b, int64_t positions,
                            bool with_rope, struct model **out, struct mil_error *err);
/* Copy of a host block into backend memory where the two differ; src == dst is nothing to do. */
void upload_if_apart(struct backend *b, void *dst, const void *src, size_t bytes);

/* An arena of exactly `bytes` in the backend's memory. */
enum mil_status backend_arena_init(struct arena *a, struct backend *b, enum mem_category category,
                                   size_t bytes, struct mil_error *err);
void backend_arena_release(struct arena *a, struct backend *b);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint_bind.h - the two sources of weights behind a checkpoint (internal to src/model). */
#ifndef MIL_MODEL_CHECKPOINT_BIND_H
#define MIL_MODEL_CHECKPOINT_BIND_H

#include "model/checkpoint.h"
#include "model/weight_list.h"

/* The view that a slot fills. c->layers is there. */
struct weight_view *checkpoint_view(struct checkpoint *c, const struct weight_slot *s);
/* Name and shape of v from s; data stays NULL. */
void view_describe(struct weight_view *v, const struct weight_slot *s);
/* Bind every slot from c->safetensors / c->gguf; no tensor may be left over. */
enum mil_status checkpoint_bind_hf(struct checkpoint *c, struct mil_error *err);
enum mil_status checkpoint_bind_gguf(struct checkpoint *c, struct mil_error *err);

/* A sorted list of names, to find what a file holds beyond what a model needs. */
struct name_set {
    char (*names)[WEIGHT_NAME_CAP];
    size_t n;
};
/* Names of all slots by `name_of`. */
enum mil_status name_set_init(struct name_set *s, const struct model_config *c,
                              void (*name_of)(const struct weight_slot *, char *),
                              struct mil_error *err);
bool name_set_has(const struct name_set *s, const char *name, size_t n);
void name_set_release(struct name_set *s);

#endif

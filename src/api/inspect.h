/* SPDX-License-Identifier: Apache-2.0 */
/* inspect.h - what inspect.c (tensors) and inspect_facts.c (configuration) share. */
#ifndef MIL_API_INSPECT_H
#define MIL_API_INSPECT_H

#include "core/error.h"
#include "io/gguf.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "milora/inspect.h"

/* Key and value of every item are owned. */
struct facts {
    struct mil_fact *items;
    size_t n, cap;
};
struct mil_inspection {
    enum mil_inspect_kind kind;
    const char *format;
    struct mil_tensor_info *tensors;
    size_t n, cap;
    struct facts facts, metadata;
    uint64_t elements, bytes;
    struct st_file *st;
    struct gguf_file *gguf;
};

enum mil_status facts_add(struct facts *f, const char *key, size_t key_n, const char *value,
                          size_t n, bool literal, struct mil_error *err);
enum mil_status facts_text(struct facts *f, const char *key, const char *value,
                           struct mil_error *err);
/* A formatted literal: a number, true, false, an array. */
enum mil_status facts_number(struct facts *f, const char *key, struct mil_error *err,
                             const char *fmt, ...) MIL_PRINTF(4, 5);
enum mil_status facts_json(struct facts *f, const char *key, const json_t *value,
                           struct mil_error *err);
/* Every member of an object. */
enum mil_status facts_object(struct facts *f, const json_t *object, struct mil_error *err);

enum mil_status inspect_model_facts(struct mil_inspection *in, const char *dir,
                                    struct mil_error *err);
enum mil_status inspect_adapter_facts(struct mil_inspection *in, const char *dir,
                                      struct mil_error *err);
enum mil_status inspect_gguf_facts(struct mil_inspection *in, const char *path,
                                   struct mil_error *err);

#endif

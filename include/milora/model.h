/* SPDX-License-Identifier: Apache-2.0 */
/* model.h - a model opened for use: weights, tokenizer, and optionally an adapter on top.
 *
 * Library-wide settings come first: threads, instruction set, where notices go.  Handles are
 * opaque; one handle, one thread at a time. Strings in option structs are borrowed for the duration
 * of the call. */
#ifndef MILORA_MODEL_H
#define MILORA_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "milora/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Call once before anything else: reads MILORA_ISA, sets the number of threads (0: all available),
 * routes allocation of the libraries.  MIL_USAGE for a wrong MILORA_ISA. */
enum mil_status mil_init(int threads, struct mil_error *err);

enum mil_notice { MIL_NOTICE_DEBUG, MIL_NOTICE_INFO, MIL_NOTICE_WARNING };
/* Notices (what was chosen, dropped, cut) go to fn; NULL drops them.  One receiver a process. */
void mil_set_notice(void (*fn)(void *ctx, enum mil_notice level, const char *line), void *ctx);

enum mil_compute { MIL_BF16, MIL_F32 };

struct mil_model_options {
    const char *path;         /* Hugging Face directory or .gguf file */
    const char *adapter;      /* adapter directory, or NULL */
    enum mil_compute compute; /* type of product operands */
    int64_t max_positions; /* longest sequence that will be run; 0: the model's own limit, at most
                              8192 */
};
typedef struct mil_model mil_model;
/* Opens, checks, binds and attaches.  *out is freed by mil_model_free, which takes NULL content. */
enum mil_status mil_model_open(const struct mil_model_options *options, mil_model **out,
                               struct mil_error *err);
void mil_model_free(mil_model **model);
int32_t mil_model_vocab(const mil_model *model);
int64_t mil_model_positions(const mil_model *model);
/* One line: instruction set, product library, threads, compute type.  Static storage. */
const char *mil_model_backend(const mil_model *model);

/* Logits of n tokens of one sequence: f32 [n, vocab], row-major, into out. */
enum mil_status mil_logits(mil_model *model, const int32_t *ids, size_t n, float *out,
                           struct mil_error *err);
/* The same into a NumPy file, float32 [n, vocab]. */
enum mil_status mil_logits_save(mil_model *model, const int32_t *ids, size_t n, const char *path,
                                struct mil_error *err);

#ifdef __cplusplus
}
#endif
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* inspect.h - what is in a model directory, an adapter directory, or a single tensor file.
 *
 * Only headers are read; tensors stay on disk. A model whose family this program does not run is
 * still listed, with the reason among its facts.  Everything that accessors return is borrowed from
 * the inspection. */
#ifndef MILORA_INSPECT_H
#define MILORA_INSPECT_H

#include "milora/text.h"

#ifdef __cplusplus
extern "C" {
#endif

enum mil_inspect_kind { MIL_INSPECT_MODEL, MIL_INSPECT_ADAPTER, MIL_INSPECT_FILE };

struct mil_tensor_info {
    const char *name, *dtype; /* dtype: "BF16", "Q4_K", ... */
    int ndim;
    int64_t shape[8]; /* row-major: the last one is contiguous (also for GGUF) */
    uint64_t elements, bytes;
    const char *file; /* shard it lies in, without directory */
};
/* A named fact.  literal: value is JSON as it stands (a number, true, an array); otherwise text. */
struct mil_fact {
    const char *key, *value;
    int literal;
};

typedef struct mil_inspection mil_inspection;
/* path: a directory with config.json or adapter_config.json, a .safetensors or a .gguf file.
 * Broken files are MIL_INPUT.  *out is freed by mil_inspect_free, which takes NULL content. */
enum mil_status mil_inspect(const char *path, mil_inspection **out, struct mil_error *err);
void mil_inspect_free(mil_inspection **inspection);

enum mil_inspect_kind mil_inspect_kind(const mil_inspection *inspection);
const char *
mil_inspect_format(const mil_inspection *inspection); /* "Hugging Face directory", ... */
size_t mil_inspect_tensors(const mil_inspection *inspection);
const struct mil_tensor_info *mil_inspect_tensor(const mil_inspection *inspection, size_t i);
/* Facts of the architecture or of the adapter, and the file's own metadata, in order. */
size_t mil_inspect_facts(const mil_inspection *inspection);
const struct mil_fact *mil_inspect_fact(const mil_inspection *inspection, size_t i);
size_t mil_inspect_metadata_count(const mil_inspection *inspection);
const struct mil_fact *mil_inspect_metadata(const mil_inspection *inspection, size_t i);
/* Sums over the tensors. */
uint64_t mil_inspect_elements(const mil_inspection *inspection);
uint64_t mil_inspect_bytes(const mil_inspection *inspection);

#ifdef __cplusplus
}
#endif
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* whole.h - tensors of the model that train as a whole beside the factors: the copies that PEFT's modules_to_save
 * keeps of embeddings and head, and biases; private to src/adapt.
 *
 * The base is not changed: a whole holds the trained values themselves, in f32, and takes the model's tensor's place while
 * the adapter is attached. */
#ifndef MIL_ADAPT_WHOLE_H
#define MIL_ADAPT_WHOLE_H

#include "adapt/adapter.h"

enum whole_kind { WHOLE_EMBED, WHOLE_HEAD, WHOLE_BIAS };
struct whole {
    enum whole_kind kind;
    int64_t layer; /* WHOLE_BIAS */
    enum module module;
    int64_t rows, cols;
    float *value; /* host */
};
void wholes_free(struct adapter *a);
int64_t wholes_elements(const struct adapter *a);
void whole_tensor_at(const struct adapter *a, size_t i, struct adapter_tensor *out);

#endif

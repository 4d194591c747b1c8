/* SPDX-License-Identifier: Apache-2.0 */
/* init_data.h - the data that making an adapter takes where its method starts from gradients: a model on a backend
 * and the first samples of a data set, in the order that training with the same seed has. */
#ifndef MIL_API_INIT_DATA_H
#define MIL_API_INIT_DATA_H

#include "milora/adapter.h"
#include "train/gradients.h"

struct init_data {
    struct config config;
    struct session session;
    struct backend *backend;
    struct model *model;
    struct gradients gradients;
};
/* options->dataset is named.  init_data_release also after failure, and for zeroed content. */
enum mil_status init_data_open(struct init_data *d, const struct mil_adapter_options *options,
                               struct mil_error *err);
void init_data_release(struct init_data *d);

#endif

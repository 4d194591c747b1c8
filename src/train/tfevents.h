/* SPDX-License-Identifier: Apache-2.0 */
/* tfevents.h - scalars in an event file that TensorBoard reads.
 *
 * An event file is a row of records, each
 *     u64 length | u32 masked crc32c of it | the message | u32 masked crc32c of the message
 * (little endian) with a protobuf message Event (share/proto/event.proto). It only grows; a reader
 * stops at a record that is not whole.  docs/formats/logs.md */
#ifndef MIL_TRAIN_TFEVENTS_H
#define MIL_TRAIN_TFEVENTS_H

#include <stdint.h>
#include <stdio.h>

#include "core/error.h"
#include "core/str.h"
#include "io/file.h"

struct tfevents {
    FILE *f; /* NULL: closed */
    char path[PATH_CAP];
    struct str record;
};
/* A new file "events.out.tfevents.<seconds>.<host>.<pid>" in dir (made if absent).  from_step > 0:
 * the run goes on after that step; TensorBoard then forgets later scalars of earlier files. */
enum mil_status tfevents_open(struct tfevents *t, const char *dir, int64_t from_step,
                              struct mil_error *err);
/* One scalar; handed to the system at once. */
enum mil_status tfevents_scalar(struct tfevents *t, int64_t step, const char *tag, double value,
                                struct mil_error *err);
/* Safe on zeroed and closed objects. */
void tfevents_close(struct tfevents *t);
/* CRC-32C (Castagnoli), as the format needs it. */
uint32_t crc32c(const void *bytes, size_t n);

#endif

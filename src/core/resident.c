/* SPDX-License-Identifier: Apache-2.0 */
/* resident.c - see resident.h.  Linux: /proc/self/statm counts pages; glibc: malloc_trim. */
#include "core/resident.h"

#include <stdio.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

void resident_trim(void) {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

size_t resident_anonymous(void) {
    unsigned long total, resident, shared;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f) return 0;
    int n = fscanf(f, "%lu %lu %lu", &total, &resident, &shared);
    fclose(f);
    if (n != 3 || resident < shared) return 0;
    return (size_t)(resident - shared) * (size_t)sysconf(_SC_PAGESIZE);
}

#ifndef CHECK_H
#define CHECK_H
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* A test program ends at the first thing that is not as it should be. */
#define CHECK(what)                                                              \
    do {                                                                         \
        if (!(what)) {                                                           \
            dprintf(2, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);        \
            _exit(1);                                                            \
        }                                                                        \
    } while (0)

static inline int aligned(const void *p, size_t to) { return ((uintptr_t)p & (to - 1)) == 0; }
#endif

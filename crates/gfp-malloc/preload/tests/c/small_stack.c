/* A thread with the least stack that may be asked for: every size, a fork, a report, `_exit`. */
#include "check.h"
#include <limits.h>

static void sizes(void) {
    for (size_t size = 1; size < 8 << 20; size = size * 3 / 2 + 1) {
        char *p = malloc(size), *q = calloc(1, size);
        CHECK(p && q);
        p[size - 1] = q[size - 1];
        p = realloc(p, 2 * size + 1);
        CHECK(p);
        free(p);
        free(q);
    }
}

static void child(void) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        free(malloc(100));
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

static void *run(void *arg) {
    sizes();
    child();
    CHECK(malloc((size_t)1 << 40) == NULL);
    CHECK(write(1, "ok\n", 3) == 3);
    _exit(0);
    return arg;
}

int main(void) {
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    CHECK(pthread_attr_setstacksize(&attr, STACK) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, &attr, run, NULL) == 0);
    pthread_join(thread, NULL);
    return 1;
}

/* Trap "fork": in a program whose other threads are in malloc all the time. */
#include "check.h"

static volatile int stop;

static void *hammer(void *arg) {
    unsigned seed = (unsigned)(uintptr_t)arg;
    void *keep[64] = {0};
    while (!stop) {
        seed = seed * 1103515245 + 12345;
        unsigned at = seed >> 16 & 63;
        free(keep[at]);
        keep[at] = malloc(seed >> 8 & (seed & 0x80 ? 0xffff : 0x3ff));
        if (keep[at])
            *(char *)keep[at] = 1;
    }
    for (int i = 0; i < 64; i++)
        free(keep[i]);
    return NULL;
}

static void in_child(char *before) {
    alarm(30); /* a lock that stayed held is a deadlock: die of it */
    void *p[100];
    for (int i = 0; i < 1000; i++) {
        size_t size = i % 10 ? (size_t)i * 3 + 1 : 30000 + (size_t)i * 100;
        p[i % 100] = malloc(size);
        CHECK(p[i % 100]);
        memset(p[i % 100], i, size);
        if (i % 100 == 99)
            for (int k = 0; k < 100; k++)
                free(p[k]);
    }
    CHECK(before[0] == 42 && before[99999] == 42); /* our copy of it */
    free(before);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, hammer, (void *)99) == 0);
    usleep(1000);
    stop = 1;
    pthread_join(thread, NULL);
    _exit(0);
}

int main(void) {
    pthread_t thread[4];
    for (uintptr_t i = 0; i < 4; i++)
        CHECK(pthread_create(&thread[i], NULL, hammer, (void *)(i + 1)) == 0);
    for (int round = 0; round < 60; round++) {
        char *before = malloc(100000);
        memset(before, 42, 100000);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0)
            in_child(before);
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(status == 0);
        CHECK(before[0] == 42);
        free(before);
    }
    pid_t child = vfork(); /* no handlers run; its memory is ours */
    if (child == 0)
        _exit(malloc(10) ? 5 : 6);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 5);
    stop = 1;
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    puts("ok");
}

/* What a process leaves behind: its record and its views. */
#include "check.h"

static void *last(void *arg) {
    usleep(300000);
    free(malloc(100));
    return arg;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    static char *keep[2000];
    for (int i = 0; i < 2000; i++)
        memset(keep[i] = malloc(4000), 1, 4000);
    free(malloc(6 << 20));
    if (!strcmp(argv[1], "fails")) { /* three requests that cannot be served, one free too many */
        for (int i = 0; i < 3; i++)
            CHECK(malloc(1 << 30) == NULL);
        free(keep[0]);
        free(keep[0]);
        return 3;
    }
    if (!strcmp(argv[1], "killed")) {
        for (int i = 0; i < (20 << 20) / 64; i++)
            CHECK(malloc(64));
        raise(SIGKILL);
    }
    if (!strcmp(argv[1], "forks")) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            CHECK(malloc(1 << 30) == NULL);
            _exit(4);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 4);
        child = vfork();
        if (child == 0)
            _exit(5); /* must not end our own record */
        CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 5);
        raise(SIGKILL);
    }
    if (!strcmp(argv[1], "pthread_exit")) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, last, NULL) == 0);
        pthread_exit(NULL); /* the process ends with its last thread */
    }
    if (!strcmp(argv[1], "waits")) {
        puts("ready");
        fflush(stdout);
        char c;
        CHECK(read(0, &c, 1) == 0);
    }
    return 0;
}

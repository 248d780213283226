/* `ulimit -v`: a smaller machine, and addresses left for the program itself. */
#include "check.h"
#include <sys/mman.h>
#include <sys/resource.h>

static void *run(void *arg) {
    free(malloc(100));
    return arg;
}

int main(int argc, char **argv) {
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_AS, &limit) == 0);
    if (argc == 2) { /* the limit is for the next image */
        limit.rlim_cur = strtoul(argv[1], NULL, 10);
        CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
        execl("/proc/self/exe", argv[0], (char *)NULL);
        return 1;
    }
    size_t got = 0;
    void *first = NULL, *p;
    while ((p = malloc(4 << 20))) { /* a list of them */
        *(void **)p = first;
        first = p;
        got += 4 << 20;
    }
    CHECK(errno == ENOMEM && got >= limit.rlim_cur / 4);
    p = mmap(NULL, limit.rlim_cur / 8, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run, NULL) == 0);
    pthread_join(thread, NULL);
    for (; first; first = p) {
        p = *(void **)first;
        free(first);
    }
    puts("ok");
}

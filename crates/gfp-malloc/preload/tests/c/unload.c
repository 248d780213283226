/* Trap "unloading": opened late and closed, the code must stay, since thread exits call it. */
#include "check.h"

static void *(*theirs)(size_t);
static void (*their_free)(void *);

static void *run(void *arg) {
    void *p = theirs(100);
    CHECK(p);
    memset(p, 1, 100);
    their_free(p);
    return arg;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL); /* needs static TLS of a late library */
    if (!library)
        dprintf(2, "%s\n", dlerror());
    CHECK(library);
    *(void **)&theirs = dlsym(library, "malloc");
    *(void **)&their_free = dlsym(library, "free");
    CHECK(theirs && (void *)theirs != (void *)malloc);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run, NULL) == 0 && pthread_join(thread, NULL) == 0);
    void *p = theirs(5000);
    CHECK(dlclose(library) == 0);
    CHECK(dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD) != NULL);
    CHECK(pthread_create(&thread, NULL, run, NULL) == 0 && pthread_join(thread, NULL) == 0);
    their_free(p);
    puts("ok");
}

/* Trap "RTLD_DEEPBIND": memory crosses the border both ways. The library is found through this
   program's run path, which `dlopen` only looks at if it sees who called it. */
#include "check.h"

int main(void) {
    /* The first call looks the real one up, later ones do not. */
    void *library = dlopen("libdeepbind_library.so", RTLD_NOW | RTLD_DEEPBIND);
    CHECK(library && dlclose(library) == 0);
    library = dlopen("libdeepbind_library.so", RTLD_NOW | RTLD_DEEPBIND);
    if (!library)
        dprintf(2, "%s\n", dlerror());
    CHECK(library);
    void *(*give)(size_t), (*take)(void *);
    size_t (*usable)(void *);
    char *(*text)(void);
    *(void **)&give = dlsym(library, "give");
    *(void **)&take = dlsym(library, "take");
    *(void **)&usable = dlsym(library, "usable");
    *(void **)&text = dlsym(library, "text");
    for (size_t size = 1; size < 1 << 20; size *= 3) {
        void *p = give(size);
        CHECK(p && malloc_usable_size(p) >= size);
        free(p);
        p = malloc(size);
        CHECK(usable(p) == malloc_usable_size(p));
        take(p);
    }
    char *s = text(); /* the C library's own malloc call */
    CHECK(strcmp(s, "from the library") == 0);
    free(s);
    puts("ok");
}
